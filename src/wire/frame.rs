//! The header in front of every message after start-up: one tag byte, four length bytes.

use super::Malformed;

/// Bytes of a message header: `Byte1` tag and `Int32` length.
pub const HEADER_LEN: usize = 5;

/// Longest body PostgreSQL accepts, `PQ_LARGE_MESSAGE_LIMIT` (1 GiB less one byte, less the length word).
pub const BODY_LEN_MAX: u32 = 0x3fff_ffff - 4;

/// Who is talking and how long the body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The message type, such as `Q` or `Z`.
    pub tag: u8,
    /// Bytes that follow the header.
    pub body_len: u32,
}

impl Header {
    /// Reads a header from the front of `bytes`; `None` while fewer than five bytes are there.
    ///
    /// # Errors
    /// [`Malformed`] when the length is below 4 (it counts itself) or above PostgreSQL's own limit.
    #[inline]
    pub fn read(bytes: &[u8]) -> Result<Option<Self>, Malformed> {
        let Some(([tag, len @ ..], _)) = bytes.split_first_chunk::<HEADER_LEN>() else {
            return Ok(None);
        };
        match u32::from_be_bytes(*len).checked_sub(4) {
            Some(body_len) if body_len <= BODY_LEN_MAX => Ok(Some(Self { tag: *tag, body_len })),
            _ => Err(Malformed { message: "header", body_len: 0 }),
        }
    }

    /// Bytes of the whole message, header included.
    #[must_use]
    pub const fn frame_len(self) -> usize {
        HEADER_LEN + self.body_len as usize
    }
}
