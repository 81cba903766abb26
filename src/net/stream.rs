//! One connection, whatever it is made of.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use mio::net::{TcpStream, UnixStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsStream;

use crate::engine::Socket;

/// A connection to a client or a server.
#[derive(Debug)]
pub enum Stream {
    /// TCP in the clear.
    Tcp(Socket<TcpStream>),
    /// A unix socket.
    Unix(Socket<UnixStream>),
    /// TLS over TCP. Boxed: it is large, and an idle plain client should be small.
    Tls(Box<TlsStream<Socket<TcpStream>>>),
}

impl Stream {
    /// Whether bytes are encrypted on their way.
    #[must_use]
    pub const fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// Whether what is written may stay in a buffer of the stream until it is flushed.
    #[must_use]
    pub const fn buffers_writes(&self) -> bool {
        self.is_tls()
    }

    /// Whether a read may find something: bytes, the end, or an error. `false` is certain.
    #[must_use]
    pub fn may_have_news(&self) -> bool {
        match self {
            Self::Tcp(tcp) => tcp.may_have_news(),
            Self::Unix(unix) => unix.may_have_news(),
            // rustls may hold what nobody has asked it for yet.
            Self::Tls(_) => true,
        }
    }

    /// Whether no other worker waits for it.
    #[inline]
    #[must_use]
    pub fn is_here(&self) -> bool {
        match self {
            Self::Tcp(tcp) => tcp.is_here(),
            Self::Unix(unix) => unix.is_here(),
            Self::Tls(tls) => tls.get_ref().0.is_here(),
        }
    }

    /// Has the current worker wait for it from now on.
    ///
    /// # Errors
    /// The system's own; then it has to be closed.
    pub fn move_here(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(tcp) => tcp.move_here(),
            Self::Unix(unix) => unix.move_here(),
            Self::Tls(tls) => tls.get_mut().0.move_here(),
        }
    }

    /// Waits until the peer sends nothing more, without reading what it sent before.
    pub fn poll_closed(&self, cx: &Context<'_>) -> Poll<()> {
        match self {
            Self::Tcp(tcp) => tcp.poll_closed(cx),
            Self::Unix(unix) => unix.poll_closed(cx),
            Self::Tls(tls) => tls.get_ref().0.poll_closed(cx),
        }
    }

    /// Waits until a read may find something. For TLS that is only known by reading.
    #[inline]
    pub fn poll_news(&self, cx: &Context<'_>) -> Poll<()> {
        match self {
            Self::Tcp(tcp) => tcp.poll_news(cx),
            Self::Unix(unix) => unix.poll_news(cx),
            Self::Tls(_) => Poll::Ready(()),
        }
    }

    /// Reads into `room`: the number of bytes, 0 at the end of the stream.
    #[inline]
    pub(super) fn poll_read_into(
        &mut self,
        cx: &mut Context<'_>,
        room: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(tcp) => tcp.poll_read_into(cx, room),
            Self::Unix(unix) => unix.poll_read_into(cx, room),
            Self::Tls(tls) => read_tls(tls, cx, room),
        }
    }

    /// The other side's address; a unix socket has none.
    #[must_use]
    pub fn peer_ip(&self) -> Option<IpAddr> {
        self.peer_addr().map(|address| address.ip())
    }

    /// The same with its port.
    #[must_use]
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        let peer = match self {
            Self::Unix(_) => return None,
            Self::Tcp(tcp) => tcp.peer_addr(),
            Self::Tls(tls) => tls.get_ref().0.peer_addr(),
        };
        peer.ok().map(|address| SocketAddr::new(address.ip().to_canonical(), address.port()))
    }

    /// This side's address; a unix socket has none.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        let local = match self {
            Self::Unix(_) => return None,
            Self::Tcp(tcp) => tcp.local_addr(),
            Self::Tls(tls) => tls.get_ref().0.local_addr(),
        };
        local.ok().map(|address| SocketAddr::new(address.ip().to_canonical(), address.port()))
    }

    /// Whether the bytes stay on this host: loopback or a unix socket.
    #[must_use]
    pub fn is_local(&self) -> bool {
        matches!(self, Self::Unix(_)) || self.peer_ip().is_some_and(|ip| ip.is_loopback())
    }
}

// These two are not in line: what TLS needs would cost who has none.

#[inline(never)]
fn read_tls(
    tls: &mut TlsStream<Socket<TcpStream>>,
    cx: &mut Context<'_>,
    room: &mut [u8],
) -> Poll<io::Result<usize>> {
    let mut room = ReadBuf::new(room);
    ready!(Pin::new(tls).poll_read(cx, &mut room))?;
    Poll::Ready(Ok(room.filled().len()))
}

#[inline(never)]
fn write_tls(
    tls: &mut TlsStream<Socket<TcpStream>>,
    cx: &mut Context<'_>,
    bytes: &[u8],
) -> Poll<io::Result<usize>> {
    Pin::new(tls).poll_write(cx, bytes)
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Self::Unix(unix) => Pin::new(unix).poll_read(cx, buf),
            Self::Tls(tls) => Pin::new(tls).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    #[inline]
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Self::Unix(unix) => Pin::new(unix).poll_write(cx, buf),
            Self::Tls(tls) => write_tls(tls, cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_write_vectored(cx, bufs),
            Self::Unix(unix) => Pin::new(unix).poll_write_vectored(cx, bufs),
            Self::Tls(tls) => Pin::new(tls).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_flush(cx),
            Self::Unix(unix) => Pin::new(unix).poll_flush(cx),
            Self::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Unix(unix) => Pin::new(unix).poll_shutdown(cx),
            Self::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}
