//! Finds the messages in a server's byte stream, wherever it is cut.

use crate::wire::Malformed;
use crate::wire::backend::tag;
use crate::wire::frame::{HEADER_LEN, Header};

/// Longest body that is looked into, in bytes; of a longer one, its beginning is. PostgreSQL puts what matters first:
/// an error's severity, SQLSTATE and text, a parameter's name.
const BODY_SEEN_MAX: usize = 4096;

/// A message at the front of the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerMessage<'a> {
    /// Its type.
    pub tag: u8,
    /// Its body, if it is one that is looked into: `Z`, `S`, `E`, `C`, `T` and `A`; or the beginning of that, if it is long.
    pub body: Option<&'a [u8]>,
    /// All of the message is there. Of one whose body is looked into, it is only missing if that is long.
    pub is_whole: bool,
    /// Bytes of it that were consumed now: all of it, or as much of it as is there.
    pub consumed: usize,
}

/// Where a server's stream stands. Feed it every byte once, in order.
#[derive(Debug, Clone, Default)]
pub struct ServerScan {
    body_left: u32,
}

/// Whether a message's body is looked into.
#[inline]
const fn is_seen(tag: u8) -> bool {
    matches!(
        tag,
        tag::READY_FOR_QUERY
            | tag::PARAMETER_STATUS
            | tag::ERROR
            | tag::COMMAND_COMPLETE
            | tag::ROW_DESCRIPTION
            | tag::NOTIFICATION
    )
}

impl ServerScan {
    /// Whether the stream stands between two messages.
    #[must_use]
    #[inline]
    pub const fn at_boundary(&self) -> bool {
        self.body_left == 0
    }

    /// Bytes of a body that are still to come.
    #[must_use]
    pub const fn body_left(&self) -> usize {
        self.body_left as usize
    }

    /// Consumes what is left of a body that is not looked into; returns the bytes consumed.
    pub fn skip_body(&mut self, bytes: &[u8]) -> usize {
        if self.body_left == 0 {
            return 0;
        }
        let len = bytes.len().min(self.body_left as usize);
        self.body_left -= u32::try_from(len).expect("not more than what is left");
        len
    }

    /// The next message, once [`ServerScan::skip_body`] has nothing left to skip.
    ///
    /// `None` until enough of it is there.
    ///
    /// # Errors
    /// [`Malformed`] for an impossible length.
    pub fn next<'a>(&mut self, bytes: &'a [u8]) -> Result<Option<ServerMessage<'a>>, Malformed> {
        let Some(header) = Header::read(bytes)? else { return Ok(None) };
        let frame_len = header.frame_len();
        let consumed = frame_len.min(bytes.len());
        let is_whole = consumed == frame_len;
        let mut body = None;
        if is_seen(header.tag) {
            let Some(seen) = bytes.get(HEADER_LEN..frame_len.min(HEADER_LEN + BODY_SEEN_MAX))
            else {
                return Ok(None);
            };
            body = Some(seen);
        }
        if !is_whole {
            self.body_left = u32::try_from(frame_len - consumed).expect("of a body");
        }
        Ok(Some(ServerMessage { tag: header.tag, body, is_whole, consumed }))
    }
}
