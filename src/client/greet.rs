//! The first packets: TLS or not, cancel or start-up. The client is nobody yet.
//!
//! <https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-SSL>

use std::io;
use std::net::SocketAddr;

use bytes::BytesMut;

use super::hello::Hello;
use super::refusal::Refusal;
use crate::config::TlsMode;
use crate::net::{Acceptor, Conversation, Stream, TlsError};
use crate::wire::startup::{self, Packet, ProtocolVersion, Refused, packet_len};

/// Longest message before authentication, in bytes.
const MESSAGE_LEN_MAX: usize = 8192;

/// First byte of a TLS handshake; no length word of a start-up packet begins so.
const TLS_HANDSHAKE: u8 = 0x16;

/// What a new connection wants.
pub enum Greeting {
    /// A session.
    Startup(Box<(Conversation, Hello)>),
    /// To cancel another one.
    Cancel {
        /// The process id that one was told.
        pid: i32,
        /// The key that one was told.
        key: BytesMut,
        /// The connection: closed when the request has done its work, as the client expects.
        talk: Box<Conversation>,
    },
}

/// Why nothing came of it.
#[derive(Debug, thiserror::Error)]
pub enum GreetError {
    /// Told to the client, if it can read it.
    #[error("refused")]
    Refused(Box<(Conversation, Refusal)>),
    /// The connection broke.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The handshake failed.
    #[error("{0}")]
    Tls(#[from] TlsError),
    /// TLS without the negotiation must name the protocol (ALPN).
    #[error("direct TLS without the ALPN protocol \"postgresql\"")]
    NoAlpn,
    /// A packet nobody can make sense of.
    #[error("{0}")]
    Packet(#[from] Refused),
}

/// Greets a connection.
///
/// # Errors
/// [`GreetError`]; the connection is closed.
pub async fn greet(stream: Stream, acceptor: &Acceptor) -> Result<Greeting, GreetError> {
    let mut talk = begin(stream, acceptor).await?;
    let (mut asked_tls, mut asked_gss) = (talk.stream.is_tls(), false);
    loop {
        let packet = talk.receive_untagged::<GreetError>(|b| Ok(packet_len(b)?)).await;
        let packet = match packet {
            // Who cannot be a client yet is not spoken to, as PostgreSQL does: it has left, or waits for something else.
            Err(GreetError::Packet(Refused::Length)) => return Err(Refused::Length.into()),
            Err(GreetError::Packet(refused)) => return refuse(talk, protocol(refused)),
            other => other?,
        };
        match startup::packet(&packet) {
            Ok(Packet::Ssl) if !asked_tls => {
                asked_tls = true;
                talk = answer_tls(talk, acceptor).await?;
            }
            Ok(Packet::GssEnc) if !asked_gss => {
                asked_gss = true;
                if !talk.unread().is_empty() {
                    let problem =
                        "received unencrypted data after GSSAPI encryption request".to_owned();
                    return refuse(talk, Refusal::Protocol { problem });
                }
                talk.send(b"N").await?;
            }
            Ok(Packet::Ssl | Packet::GssEnc) => {
                let problem = "encryption was negotiated already".to_owned();
                return refuse(talk, Refusal::Protocol { problem });
            }
            Ok(Packet::Cancel { pid, key }) => {
                let key = key.into();
                return Ok(Greeting::Cancel { pid, key, talk: Box::new(talk) });
            }
            Ok(Packet::Startup { version, parameters }) => {
                let in_clear = matches!(talk.stream, Stream::Tcp(_));
                if in_clear && acceptor.mode() >= TlsMode::Require {
                    return refuse(talk, Refusal::TlsRequired);
                }
                return match Hello::read(version, &parameters) {
                    Ok(hello) => Ok(Greeting::Startup(Box::new((talk, hello)))),
                    Err(refusal) => refuse(talk, refusal),
                };
            }
            Err(Refused::Length) => return Err(Refused::Length.into()),
            Err(refused @ Refused::Version(ProtocolVersion { major: 1 | 2, .. })) => {
                // In the words of a protocol that had no fields.
                talk.send(format!("EFATAL:  {refused}\n\0").as_bytes()).await?;
                return Err(refused.into());
            }
            Err(refused) => return refuse(talk, protocol(refused)),
        }
    }
}

fn protocol(refused: Refused) -> Refusal {
    match refused {
        Refused::Version(_) => Refusal::Unsupported { what: refused.to_string() },
        Refused::Length | Refused::Layout => Refusal::Protocol { problem: refused.to_string() },
    }
}

fn refuse<T>(talk: Conversation, refusal: Refusal) -> Result<T, GreetError> {
    Err(GreetError::Refused(Box::new((talk, refusal))))
}

/// Direct TLS is known by its first byte.
async fn begin(stream: Stream, acceptor: &Acceptor) -> Result<Conversation, GreetError> {
    let stream = match stream {
        Stream::Tcp(tcp) if acceptor.is_available() => {
            let mut first = [0; 1];
            if tcp.peek(&mut first).await? == 1 && first == [TLS_HANDSHAKE] {
                let stream = acceptor.accept(tcp).await?;
                if !stream.agreed_on_alpn() {
                    return Err(GreetError::NoAlpn);
                }
                stream
            } else {
                Stream::Tcp(tcp)
            }
        }
        other => other,
    };
    Ok(Conversation::new(stream, MESSAGE_LEN_MAX))
}

/// `S` and the handshake, or `N`.
async fn answer_tls(
    mut talk: Conversation,
    acceptor: &Acceptor,
) -> Result<Conversation, GreetError> {
    // Whatever came behind the request came unprotected, and would be taken for the client's own
    // words after the handshake (CVE-2021-23214).
    let is_taken = acceptor.is_available() && matches!(talk.stream, Stream::Tcp(_));
    if !is_taken {
        talk.send(b"N").await?;
    }
    if !talk.unread().is_empty() {
        let problem = "received unencrypted data after SSL request".to_owned();
        return refuse(talk, Refusal::Protocol { problem });
    }
    if !is_taken {
        return Ok(talk);
    }
    talk.send(b"S").await?;
    match talk.into_parts().0 {
        Stream::Tcp(tcp) => Ok(Conversation::new(acceptor.accept(tcp).await?, MESSAGE_LEN_MAX)),
        other => Ok(Conversation::new(other, MESSAGE_LEN_MAX)),
    }
}

/// Tells a client why it is refused.
///
/// # Errors
/// The stream's own; nobody minds.
pub async fn tell(mut talk: Conversation, refusal: &Refusal) -> io::Result<()> {
    let mut out = BytesMut::new();
    refusal.write(super::refusal::Severity::Fatal, &mut out);
    talk.send_last(&out).await
}

/// A client's address, for a log line; a unix socket has none.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub Option<SocketAddr>);

impl std::fmt::Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(address) => address.fmt(f),
            None => f.write_str("unix"),
        }
    }
}
