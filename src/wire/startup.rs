//! The packets before the first tagged message: start-up, SSLRequest, GSSENCRequest, CancelRequest.
//!
//! Nobody is authenticated yet, so these parsers are strict, small and our own.
//!
//! <https://www.postgresql.org/docs/current/protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-STARTUPMESSAGE>

use super::{Malformed, split_cstr, split_i32};

/// `MAX_STARTUP_PACKET_LENGTH` of PostgreSQL, in bytes, length word included.
pub const PACKET_LEN_MAX: usize = 10_000;

/// A protocol version as it stands on the wire: major and minor, 16 bits each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProtocolVersion {
    /// 3 for everything this side of PostgreSQL 7.4.
    pub major: u16,
    /// 0, or 2 since PostgreSQL 18.
    pub minor: u16,
}

impl ProtocolVersion {
    /// 3.0, spoken by every client.
    pub const V3_0: Self = Self { major: 3, minor: 0 };
    /// 3.2: cancel keys of up to 256 bytes.
    pub const V3_2: Self = Self { major: 3, minor: 2 };

    /// The 32-bit number on the wire.
    #[must_use]
    pub const fn number(self) -> i32 {
        (self.major as i32) << 16 | self.minor as i32
    }
}

/// One packet of the phase before authentication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet<'a> {
    /// `SSLRequest`.
    Ssl,
    /// `GSSENCRequest`.
    GssEnc,
    /// `CancelRequest`: process id and secret key.
    Cancel {
        /// The process id the client was told.
        pid: i32,
        /// The key the client was told, 4 to 256 bytes.
        key: &'a [u8],
    },
    /// `StartupMessage`.
    Startup {
        /// What the client speaks.
        version: ProtocolVersion,
        /// Names and values, in order.
        parameters: Vec<(&'a str, &'a [u8])>,
    },
}

/// Why a packet before authentication was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The length word is below 8 or above [`PACKET_LEN_MAX`].
    #[error("invalid length of startup packet")]
    Length,
    /// The body is not what its code asks for.
    #[error("invalid startup packet layout: expected terminator as last byte")]
    Layout,
    /// Protocol 2 or 4.
    #[error("unsupported frontend protocol {}.{}: server supports 3.0 to 3.2", .0.major, .0.minor)]
    Version(ProtocolVersion),
}

impl From<Malformed> for Refused {
    fn from(_: Malformed) -> Self {
        Self::Layout
    }
}

/// The length of the packet at the front of `bytes`; `None` while its length word is incomplete.
///
/// # Errors
/// [`Refused::Length`], before a single byte of the body is waited for.
pub fn packet_len(bytes: &[u8]) -> Result<Option<usize>, Refused> {
    let Some((len, _)) = split_i32(bytes) else { return Ok(None) };
    match usize::try_from(len) {
        Ok(len @ 8..=PACKET_LEN_MAX) => Ok(Some(len)),
        _ => Err(Refused::Length),
    }
}

const CODE_CANCEL: i32 = 80_877_102;
const CODE_SSL: i32 = 80_877_103;
const CODE_GSSENC: i32 = 80_877_104;

/// Reads one whole packet, length word included.
///
/// # Errors
/// [`Refused`]; the client is told and closed.
pub fn packet(bytes: &[u8]) -> Result<Packet<'_>, Refused> {
    let (_, body) = split_i32(bytes).ok_or(Refused::Length)?;
    let (code, rest) = split_i32(body).ok_or(Refused::Length)?;
    match (code, rest) {
        (CODE_SSL, []) => Ok(Packet::Ssl),
        (CODE_GSSENC, []) => Ok(Packet::GssEnc),
        (CODE_SSL | CODE_GSSENC, _) => Err(Refused::Length),
        (CODE_CANCEL, _) => match split_i32(rest) {
            Some((pid, key)) if (4..=256).contains(&key.len()) => Ok(Packet::Cancel { pid, key }),
            _ => Err(Refused::Length),
        },
        (number, _) => {
            let [a, b, c, d] = number.to_be_bytes();
            let major = u16::from_be_bytes([a, b]);
            let version = ProtocolVersion { major, minor: u16::from_be_bytes([c, d]) };
            if major != 3 {
                return Err(Refused::Version(version));
            }
            Ok(Packet::Startup { version, parameters: parameters(rest)? })
        }
    }
}

fn parameters(mut rest: &[u8]) -> Result<Vec<(&str, &[u8])>, Refused> {
    let mut parameters = Vec::new();
    loop {
        match rest {
            [0] => return Ok(parameters),
            [] | [0, ..] => return Err(Refused::Layout),
            _ => {
                let (name, after) = split_cstr(rest).ok_or(Refused::Layout)?;
                let (value, after) = split_cstr(after).ok_or(Refused::Layout)?;
                let name = std::str::from_utf8(name).map_err(|_| Refused::Layout)?;
                parameters.push((name, value));
                rest = after;
            }
        }
    }
}
