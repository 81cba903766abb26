//! Sockets that listen, in a worker's own loop: whom it serves itself needs no other thread to come in.

use std::future::poll_fn;
use std::io;

use mio::event;
use mio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use super::socket::Socket;
use super::source::Direction;

/// A socket that listens.
pub trait Listens: event::Source {
    /// What comes of it.
    type Connection;

    /// Takes a connection that waits, if there is one.
    ///
    /// # Errors
    /// The system's own.
    fn accept_one(&self) -> io::Result<Self::Connection>;
}

impl Listens for TcpListener {
    type Connection = TcpStream;

    fn accept_one(&self) -> io::Result<TcpStream> {
        self.accept().map(|(stream, _)| stream)
    }
}

impl Listens for UnixListener {
    type Connection = UnixStream;

    fn accept_one(&self) -> io::Result<UnixStream> {
        self.accept().map(|(stream, _)| stream)
    }
}

impl<S: Listens> Socket<S> {
    /// Takes over a socket that listens and does not block.
    ///
    /// # Errors
    /// When it cannot be registered, or when this is not a worker's thread.
    pub fn listening(listener: S) -> io::Result<Self> {
        Self::register(listener)
    }

    /// The next connection, which may go to any worker.
    ///
    /// # Errors
    /// The system's own; most pass, such as a lack of file descriptors.
    ///
    /// # Cancel safety
    /// Nothing is lost: a connection is accepted only when it is returned.
    pub async fn accept(&self) -> io::Result<S::Connection> {
        poll_fn(|cx| self.attempt(Direction::Read, cx, || self.io.accept_one()).map_ok(|(c, _)| c))
            .await
    }
}
