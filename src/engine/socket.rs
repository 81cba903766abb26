//! A socket that the worker waits for: tokio's `AsyncRead` and `AsyncWrite` over mio's streams.
//!
//! Bytes move by rustix, whose system calls are made in place: libc's are points of cancellation,
//! which costs a program with threads some 50 instructions each.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use mio::event;
use mio::net::{TcpStream, UnixStream};
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, recv, send, sendmsg};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::fair;
use super::place::Place;
use super::source::{Direction, Source};

/// A stream socket. The worker that registered it waits for it, whoever uses it, until it is moved.
#[derive(Debug)]
pub struct Socket<S> {
    // Closed before its place is given back: no event can come for it then.
    pub(super) io: S,
    place: Place,
}

/// What a socket can do besides reading and writing.
pub trait EndWrites {
    /// Ends the sending direction.
    ///
    /// # Errors
    /// The system's own.
    fn end_writes(&self) -> io::Result<()>;
}

impl EndWrites for TcpStream {
    fn end_writes(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

impl EndWrites for UnixStream {
    fn end_writes(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

impl<S: event::Source> Socket<S> {
    pub(super) fn register(mut io: S) -> io::Result<Self> {
        let place = Place::take(&mut io, Source::new())?;
        Ok(Self { io, place })
    }

    /// Has the current worker wait for it from now on: whoever uses it there is woken without another thread.
    ///
    /// # Errors
    /// The system's own; then nobody waits for it any more, and it has to be closed.
    pub fn move_here(&mut self) -> io::Result<()> {
        if self.is_here() { Ok(()) } else { self.place.move_here(&mut self.io) }
    }
}

impl Socket<TcpStream> {
    /// Takes over a socket that [`Socket::accept`] has returned.
    ///
    /// # Errors
    /// When it cannot be registered, or when this is not a worker's thread.
    pub fn accepted_tcp(stream: TcpStream) -> io::Result<Self> {
        Self::register(stream)
    }

    /// Takes over a connected socket.
    ///
    /// # Errors
    /// When it cannot be registered, or when this is not a worker's thread.
    pub fn tcp(stream: std::net::TcpStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Self::register(TcpStream::from_std(stream))
    }

    /// The other end.
    ///
    /// # Errors
    /// The system's own.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.io.peer_addr()
    }

    /// This end.
    ///
    /// # Errors
    /// The system's own.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.local_addr()
    }

    /// Looks at the next bytes without taking them; 0 at the end of the stream.
    ///
    /// # Errors
    /// The system's own.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn peek(&self, bytes: &mut [u8]) -> io::Result<usize> {
        poll_fn(|cx| self.attempt(Direction::Read, cx, || self.io.peek(bytes)).map_ok(|(n, _)| n))
            .await
    }
}

impl Socket<UnixStream> {
    /// Takes over a socket that [`Socket::accept`] has returned.
    ///
    /// # Errors
    /// When it cannot be registered, or when this is not a worker's thread.
    pub fn accepted_unix(stream: UnixStream) -> io::Result<Self> {
        Self::register(stream)
    }

    /// Takes over a connected socket.
    ///
    /// # Errors
    /// When it cannot be registered, or when this is not a worker's thread.
    pub fn unix(stream: std::os::unix::net::UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Self::register(UnixStream::from_std(stream))
    }
}

impl<S> Socket<S> {
    /// Whether no other worker waits for it.
    #[inline]
    #[must_use]
    pub fn is_here(&self) -> bool {
        self.place.is_here()
    }

    /// Whether a read may find something: bytes, the end, or an error. `false` is certain.
    #[inline]
    #[must_use]
    pub fn may_have_news(&self) -> bool {
        self.place.source.is_ready(Direction::Read)
    }

    /// Waits until a read may find something.
    #[inline]
    pub fn poll_news(&self, cx: &Context<'_>) -> Poll<()> {
        self.place.source.poll_ready(Direction::Read, cx).map(drop)
    }

    /// Waits until the peer sends nothing more, without reading what it sent before.
    pub fn poll_closed(&self, cx: &Context<'_>) -> Poll<()> {
        self.place.source.poll_closed(cx)
    }

    /// Tries until it succeeds, fails, or has to wait.
    #[inline]
    pub(super) fn attempt<T>(
        &self,
        direction: Direction,
        cx: &Context<'_>,
        mut operation: impl FnMut() -> io::Result<T>,
    ) -> Poll<io::Result<(T, super::source::Seen)>> {
        loop {
            let seen = ready!(self.place.source.poll_ready(direction, cx));
            if !fair::may_go_on() {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            match operation() {
                Ok(value) => return Poll::Ready(Ok((value, seen))),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.place.source.run_dry(direction, seen);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    fn poll_write_with(
        &self,
        cx: &Context<'_>,
        len: usize,
        operation: impl FnMut() -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        let (count, seen) = ready!(self.attempt(Direction::Write, cx, operation))?;
        // The kernel took less than it was given: it is full, and will say when it is not.
        if 0 < count && count < len {
            self.place.source.run_dry(Direction::Write, seen);
        }
        Poll::Ready(Ok(count))
    }
}

impl<S: AsFd> Socket<S> {
    /// Reads into `room`: the number of bytes, 0 at the end of the stream.
    ///
    /// # Errors
    /// The system's own.
    pub fn poll_read_into(&self, cx: &Context<'_>, room: &mut [u8]) -> Poll<io::Result<usize>> {
        let len = room.len();
        let (count, seen) = ready!(self.attempt(Direction::Read, cx, || Ok(
            recv(&self.io, &mut *room, RecvFlags::empty())?.0
        )))?;
        // The kernel had less than was asked for: it is empty, and will say when it is not.
        if 0 < count && count < len {
            self.place.source.run_dry(Direction::Read, seen);
        }
        Poll::Ready(Ok(count))
    }
}

impl<S: Unpin + AsFd> AsyncRead for Socket<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let count = ready!(self.poll_read_into(cx, buf.initialize_unfilled()))?;
        buf.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl<S: Unpin + AsFd + EndWrites> AsyncWrite for Socket<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_with(cx, buf.len(), || Ok(send(&self.io, buf, SendFlags::NOSIGNAL)?))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let len = bufs.iter().map(|slice| slice.len()).sum();
        self.poll_write_with(cx, len, || {
            let mut control = SendAncillaryBuffer::default();
            Ok(sendmsg(&self.io, bufs, &mut control, SendFlags::NOSIGNAL)?)
        })
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.io.end_writes())
    }
}
