//! `tenantry health`: asks the pooler that runs here.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// Longest it may take. Probes give up after a second or a few.
const TIME_MAX: Duration = Duration::from_secs(3);
/// Longest answer that is read.
const ANSWER_LEN_MAX: u64 = 64 * 1024;

/// What it said.
#[derive(Debug)]
pub struct Asked {
    /// Whether it said yes.
    pub ok: bool,
    /// Its words.
    pub body: String,
}

/// Asks for a path at an address of `http.listen`; at a wildcard, on loopback.
///
/// # Errors
/// The system's own; an answer that is none.
pub fn ask(address: SocketAddr, path: &str) -> io::Result<Asked> {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let mut stream = TcpStream::connect_timeout(&SocketAddr::new(ip, address.port()), TIME_MAX)?;
    stream.set_read_timeout(Some(TIME_MAX))?;
    stream.set_write_timeout(Some(TIME_MAX))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(ANSWER_LEN_MAX).read_to_string(&mut answer)?;
    let invalid = || io::Error::new(io::ErrorKind::InvalidData, "that is no HTTP answer");
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(invalid)?;
    let status = head.strip_prefix("HTTP/1.1 ").ok_or_else(invalid)?;
    Ok(Asked { ok: status.starts_with("200"), body: body.to_owned() })
}
