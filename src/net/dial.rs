//! Connecting to PostgreSQL: TCP or unix socket, and TLS as `tls.server` wants it.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tracing::warn;

use super::listener::tune;
use super::stream::Stream;
use super::tls::{Connector, TlsError};
use crate::config::TlsMode;
use crate::engine::Socket;
use crate::wire::build::SSL_REQUEST;

/// Why no connection came about.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// Nobody answered, or the connection broke.
    #[error("could not connect to {host}:{port}")]
    Io {
        /// As configured.
        host: String,
        /// As configured.
        port: u16,
        /// The system's words.
        #[source]
        source: io::Error,
    },
    /// `tls.server.mode` asks for TLS and the server has none.
    #[error("the server does not support TLS, but tls.server.mode requires it")]
    NoTls,
    /// The handshake failed, or the certificate is not the right one.
    #[error("TLS to the server failed: {0}")]
    Tls(#[source] TlsError),
}

/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 16;

/// One place where a host may be.
#[derive(Debug, Clone)]
pub struct Address {
    /// As configured: a certificate is checked against it.
    host: String,
    port: u16,
    at: At,
}

#[derive(Debug, Clone)]
enum At {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl Address {
    /// As configured.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// An error of the system's, there.
    #[must_use]
    pub fn failed(&self, source: io::Error) -> DialError {
        DialError::Io { host: self.host.clone(), port: self.port, source }
    }
}

/// Where a host is now. Names are looked up each time: they may lead elsewhere by then.
///
/// # Errors
/// [`DialError::Io`] for a name that nobody knows.
pub async fn resolve(host: &str, port: u16) -> Result<Vec<Address>, DialError> {
    let address = |at| Address { host: host.to_owned(), port, at };
    if host.starts_with('/') {
        return Ok(vec![address(At::Unix(format!("{host}/.s.PGSQL.{port}").into()))]);
    }
    let failed = |source| DialError::Io { host: host.to_owned(), port, source };
    let found = lookup_host((host, port)).await.map_err(failed)?;
    Ok(found.take(ADDRESSES_MAX).map(|at| address(At::Tcp(at))).collect())
}

/// Connects; the stream is ready for a start-up packet.
///
/// # Errors
/// [`DialError`]. With `prefer`, a server that refuses TLS is talked to in the clear, and so is one whose handshake
/// fails, as libpq does.
pub async fn dial(address: &Address, connector: &Connector) -> Result<Stream, DialError> {
    let at = match &address.at {
        At::Tcp(at) => *at,
        At::Unix(path) => {
            let unix = UnixStream::connect(path).await.and_then(UnixStream::into_std);
            let unix = unix.and_then(Socket::unix).map(Stream::Unix);
            return unix.map_err(|source| address.failed(source));
        }
    };
    let tcp = connect(address, at).await?;
    if connector.mode() == TlsMode::Disable {
        return Ok(Stream::Tcp(tcp));
    }
    match agree_on_tls(address, tcp, connector).await {
        Err(DialError::Tls(error)) if connector.mode() == TlsMode::Prefer => {
            let (host, port) = (&address.host, address.port);
            warn!(host, port, %error, "TLS to the server failed; tls.server.mode is \"prefer\": going on in the clear");
            connect(address, at).await.map(Stream::Tcp)
        }
        agreed => agreed,
    }
}

async fn connect(
    address: &Address,
    at: SocketAddr,
) -> Result<Socket<mio::net::TcpStream>, DialError> {
    let failed = |source| address.failed(source);
    let tcp = TcpStream::connect(at).await.map_err(failed)?;
    tune(&SockRef::from(&tcp)).map_err(failed)?;
    tcp.into_std().and_then(Socket::tcp).map_err(failed)
}

async fn agree_on_tls(
    address: &Address,
    mut tcp: Socket<mio::net::TcpStream>,
    connector: &Connector,
) -> Result<Stream, DialError> {
    let failed = |source| address.failed(source);
    tcp.write_all(SSL_REQUEST).await.map_err(failed)?;
    // Exactly one byte is read: anything behind it would be unprotected (CVE-2021-23222).
    match tcp.read_u8().await.map_err(failed)? {
        b'S' => connector.connect(&address.host, tcp).await.map_err(DialError::Tls),
        b'N' if connector.mode() == TlsMode::Prefer => Ok(Stream::Tcp(tcp)),
        b'N' => Err(DialError::NoTls),
        _ => Err(failed(io::Error::new(io::ErrorKind::InvalidData, "not a PostgreSQL server"))),
    }
}
