//! Finds the messages in a server's byte stream, wherever it is cut.

use crate::wire::Malformed;
use crate::wire::backend::tag;
use crate::wire::frame::{HEADER_LEN, Header};

/// Longest body that is looked into, in bytes. A longer one is passed on unseen.
const BODY_SEEN_MAX: u32 = 4096;

/// A message at the front of the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerMessage<'a> {
    /// Its type.
    pub tag: u8,
    /// Its body, if it is one that is looked into: `Z`, `S` and `E`.
    pub body: Option<&'a [u8]>,
    /// Bytes of it that were consumed now: all of it, or as much of it as is there.
    pub consumed: usize,
}

/// Where a server's stream stands. Feed it every byte once, in order.
#[derive(Debug, Clone, Default)]
pub struct ServerScan {
    body_left: u32,
}

impl ServerScan {
    /// Whether the stream stands between two messages.
    #[must_use]
    #[inline]
    pub const fn at_boundary(&self) -> bool {
        self.body_left == 0
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
        let seen = matches!(header.tag, tag::READY_FOR_QUERY | tag::PARAMETER_STATUS | tag::ERROR);
        if !seen || header.body_len > BODY_SEEN_MAX {
            let consumed = header.frame_len().min(bytes.len());
            self.body_left = u32::try_from(header.frame_len() - consumed).expect("of a body");
            return Ok(Some(ServerMessage { tag: header.tag, body: None, consumed }));
        }
        let message = bytes.get(HEADER_LEN..header.frame_len()).map(|body| ServerMessage {
            tag: header.tag,
            body: Some(body),
            consumed: header.frame_len(),
        });
        Ok(message)
    }
}
