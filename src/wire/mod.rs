//! The PostgreSQL protocol 3.x as bytes: headers, views over bodies, builders.
//!
//! Promises: no function here panics, whatever the bytes; nothing trusts an announced length; a
//! view borrows, it never copies. What a message *means* for the conversation is `flow`'s business.
//!
//! Pure: no sockets, no clocks, no configuration.
//!
//! <https://www.postgresql.org/docs/current/protocol-message-formats.html>

pub mod backend;
pub mod build;
pub mod frame;
pub mod frontend;
pub mod options;
pub mod startup;

#[cfg(test)]
mod tests;

/// Bytes that are not the message they claim to be. The connection that sent them is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed {message} message of {body_len} bytes")]
pub struct Malformed {
    /// The message as PostgreSQL's manual names it.
    pub message: &'static str,
    /// Length of the body in bytes, as far as it was read.
    pub body_len: usize,
}

impl Malformed {
    pub(crate) fn new(message: &'static str, body: &[u8]) -> Self {
        Self { message, body_len: body.len() }
    }
}

/// Splits a NUL-terminated string off the front: `(string, rest)`.
pub(crate) fn split_cstr(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    // Most names are empty.
    if let [0, rest @ ..] = bytes {
        return Some((&[], rest));
    }
    let end = memchr::memchr(0, bytes)?;
    Some((&bytes[..end], &bytes[end + 1..]))
}

/// Splits a big-endian `Int32` off the front: `(value, rest)`.
pub(crate) fn split_i32(bytes: &[u8]) -> Option<(i32, &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<4>()?;
    Some((i32::from_be_bytes(*head), rest))
}
