//! Connecting to PostgreSQL: TCP or unix socket, and TLS as `tls.server` wants it.

use std::io;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

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
    #[error("TLS to the server failed")]
    Tls(#[source] TlsError),
}

/// Connects; the stream is ready for a start-up packet.
///
/// # Errors
/// [`DialError`]. With `prefer`, a server that refuses TLS is talked to in the clear, one whose
/// handshake fails is not.
pub async fn dial(host: &str, port: u16, connector: &Connector) -> Result<Stream, DialError> {
    let failed = |source| DialError::Io { host: host.to_owned(), port, source };
    if host.starts_with('/') {
        let path = format!("{host}/.s.PGSQL.{port}");
        let unix = UnixStream::connect(path).await.and_then(UnixStream::into_std);
        return unix.and_then(Socket::unix).map(Stream::Unix).map_err(failed);
    }
    let tcp = TcpStream::connect((host, port)).await.map_err(failed)?;
    tune(&SockRef::from(&tcp)).map_err(failed)?;
    let mut tcp = tcp.into_std().and_then(Socket::tcp).map_err(failed)?;
    if connector.mode() == TlsMode::Disable {
        return Ok(Stream::Tcp(tcp));
    }
    tcp.write_all(SSL_REQUEST).await.map_err(failed)?;
    // Exactly one byte is read: anything behind it would be unprotected (CVE-2021-23222).
    match tcp.read_u8().await.map_err(failed)? {
        b'S' => connector.connect(host, tcp).await.map_err(DialError::Tls),
        b'N' if connector.mode() == TlsMode::Prefer => Ok(Stream::Tcp(tcp)),
        b'N' => Err(DialError::NoTls),
        _ => Err(failed(io::Error::new(io::ErrorKind::InvalidData, "not a PostgreSQL server"))),
    }
}
