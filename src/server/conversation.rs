//! Whole messages, one at a time: for login, where nothing is hot and everything is small.

use std::io;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::net::Stream;
use crate::wire::frame::{HEADER_LEN, Header};

/// Longest message of a login, in bytes: a parameter or an error, never data.
const MESSAGE_LEN_MAX: usize = 64 * 1024;

/// A stream read message by message.
pub(super) struct Conversation {
    pub(super) stream: Stream,
    buffer: BytesMut,
}

impl Conversation {
    pub(super) fn new(stream: Stream) -> Self {
        Self { stream, buffer: BytesMut::new() }
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// The next message: tag and body.
    pub(super) async fn receive(&mut self) -> io::Result<(u8, BytesMut)> {
        loop {
            if let Some(header) = Header::read(&self.buffer).map_err(invalid)? {
                if header.frame_len() > MESSAGE_LEN_MAX {
                    return Err(invalid("message too long for a login"));
                }
                if self.buffer.len() >= header.frame_len() {
                    let mut frame = self.buffer.split_to(header.frame_len());
                    frame.advance(HEADER_LEN);
                    return Ok((header.tag, frame));
                }
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// The stream, if nothing was read beyond the last message.
    pub(super) fn into_stream(self) -> Option<Stream> {
        self.buffer.is_empty().then_some(self.stream)
    }
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
