//! Listening sockets, TCP and unix.

use std::fs::Permissions;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use mio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use socket2::{Domain, SockRef, Socket, TcpKeepalive, Type};

use super::stream::Stream;
use crate::config::ListenAddress;
use crate::engine;

/// Connections the kernel keeps until they are accepted.
const BACKLOG: i32 = 1024;

/// One socket that is bound and listens.
#[derive(Debug)]
pub enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// A unix socket; its file is removed when the listener goes.
    Unix(UnixListener, SocketFile),
}

/// A socket's file, removed on drop by whoever made it.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    of: Maker,
}

/// Who made a socket's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Maker {
    This,
    Another,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.of == Maker::This {
            // It may have been removed by hand; nothing is left to do then.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// An accepted connection before it belongs to a worker.
#[derive(Debug)]
pub enum Incoming {
    /// TCP.
    Tcp(TcpStream),
    /// A unix socket.
    Unix(UnixStream),
}

impl Incoming {
    /// Makes it a stream of the current worker.
    ///
    /// # Errors
    /// When the socket cannot be registered; the connection is dropped.
    pub fn into_stream(self) -> io::Result<Stream> {
        match self {
            Self::Tcp(tcp) => engine::Socket::accepted_tcp(tcp).map(Stream::Tcp),
            Self::Unix(unix) => engine::Socket::accepted_unix(unix).map(Stream::Unix),
        }
    }
}

/// No delay, and keepalives that notice a lost peer within two minutes.
pub(super) fn tune(socket: &SockRef<'_>) -> io::Result<()> {
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_mins(1))
        .with_interval(Duration::from_secs(15))
        .with_retries(4);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&keepalive)
}

impl Listener {
    /// Binds an address. A socket file that nobody listens on any more is replaced. `beside`: what is bound, too;
    /// `[::]` beside `0.0.0.0` leaves that its own. `unix_mode`: rights of a
    /// unix socket's file.
    ///
    /// # Errors
    /// The system's own, such as an address in use.
    pub fn bind(
        address: &ListenAddress,
        beside: &[&ListenAddress],
        unix_mode: u32,
    ) -> io::Result<Self> {
        match address {
            ListenAddress::Tcp(address) => {
                let is_v4 = |other: &&ListenAddress| matches!(other, ListenAddress::Tcp(v4) if v4.is_ipv4() && v4.port() == address.port());
                let socket = bind_tcp(*address, beside.iter().any(is_v4))?;
                Ok(Self::Tcp(TcpListener::from_std(socket)))
            }
            ListenAddress::Unix(path) => {
                remove_stale(path)?;
                let listener = UnixListener::bind(path)?;
                let file = SocketFile { path: path.clone(), of: Maker::This };
                std::fs::set_permissions(path, Permissions::from_mode(unix_mode))?;
                Ok(Self::Unix(listener, file))
            }
        }
    }

    /// Where it listens, with the port the system chose if it was 0.
    ///
    /// # Errors
    /// The system's own.
    pub fn local_address(&self) -> io::Result<ListenAddress> {
        match self {
            Self::Tcp(tcp) => tcp.local_addr().map(ListenAddress::Tcp),
            Self::Unix(_, file) => Ok(ListenAddress::Unix(file.path.clone())),
        }
    }

    /// The same socket once more: whoever accepts takes a connection from the same queue.
    ///
    /// # Errors
    /// The system's own.
    pub fn try_clone(&self) -> io::Result<Self> {
        match self {
            Self::Tcp(tcp) => {
                let same = std::net::TcpListener::from(tcp.as_fd().try_clone_to_owned()?);
                Ok(Self::Tcp(TcpListener::from_std(same)))
            }
            Self::Unix(unix, file) => {
                let same =
                    std::os::unix::net::UnixListener::from(unix.as_fd().try_clone_to_owned()?);
                let file = SocketFile { path: file.path.clone(), of: Maker::Another };
                Ok(Self::Unix(UnixListener::from_std(same), file))
            }
        }
    }

    /// Makes it a socket of the current worker.
    ///
    /// # Errors
    /// When it cannot be registered.
    pub fn open(self) -> io::Result<Doors> {
        match self {
            Self::Tcp(tcp) => engine::Socket::listening(tcp).map(Doors::Tcp),
            Self::Unix(unix, file) => {
                engine::Socket::listening(unix).map(|unix| Doors::Unix(unix, file))
            }
        }
    }
}

/// A listener that a worker waits for.
#[derive(Debug)]
pub enum Doors {
    /// TCP.
    Tcp(engine::Socket<TcpListener>),
    /// A unix socket; its file is removed when the listener goes.
    Unix(engine::Socket<UnixListener>, SocketFile),
}

impl Doors {
    /// The next connection.
    ///
    /// # Errors
    /// The system's own; most pass, such as a lack of file descriptors.
    ///
    /// # Cancel safety
    /// Nothing is lost: a connection is accepted only when it is returned.
    pub async fn accept(&self) -> io::Result<Incoming> {
        match self {
            Self::Tcp(tcp) => tcp.accept().await.map(Incoming::Tcp),
            Self::Unix(unix, _) => unix.accept().await.map(Incoming::Unix),
        }
    }
}

/// Binds a TCP address; `only_v6`: of `[::]` not what is IPv4's. The socket does not block.
///
/// # Errors
/// The system's own, such as an address in use.
pub fn bind_tcp(address: SocketAddr, only_v6: bool) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() && only_v6 {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    // What is accepted has them too, from the first connection on.
    tune(&SockRef::from(&socket))?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn remove_stale(path: &Path) -> io::Result<()> {
    let Ok(metadata) = std::fs::symlink_metadata(path) else { return Ok(()) };
    if !metadata.file_type().is_socket() {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "a file that is no socket is there",
        ));
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => Err(io::Error::new(io::ErrorKind::AddrInUse, "somebody listens there")),
        Err(_) => std::fs::remove_file(path),
    }
}
