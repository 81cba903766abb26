//! Whole messages, one at a time: for logins, where nothing is hot and everything is small.

use std::io;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::stream::Stream;
use crate::wire::frame::{HEADER_LEN, Header};

/// Bytes read at once.
const READ_LEN: usize = 2048;

/// A stream read message by message, each at most `message_len_max` bytes long.
#[derive(Debug)]
pub struct Conversation {
    /// The connection.
    pub stream: Stream,
    buffer: BytesMut,
    /// Goes out with what is sent next.
    held: BytesMut,
    message_len_max: usize,
}

impl Conversation {
    /// Begins one.
    #[must_use]
    pub fn new(stream: Stream, message_len_max: usize) -> Self {
        Self { stream, buffer: BytesMut::new(), held: BytesMut::new(), message_len_max }
    }

    /// What was read and not yet used.
    #[must_use]
    pub fn unread(&self) -> &[u8] {
        &self.buffer
    }

    /// Writes everything, what was held first.
    ///
    /// # Errors
    /// The stream's own.
    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.held.is_empty() {
            self.stream.write_all(bytes).await?;
        } else {
            self.held.extend_from_slice(bytes);
            let all = std::mem::take(&mut self.held);
            self.stream.write_all(&all).await?;
        }
        self.stream.flush().await
    }

    /// Writes the last of it. The peer sees an end: closed without one, a socket with something unread resets the
    /// connection, and the peer may lose what was said.
    ///
    /// # Errors
    /// The stream's own.
    pub async fn send_last(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.send(bytes).await?;
        self.stream.shutdown().await
    }

    /// Keeps bytes until something else is sent: the peer does not answer them, and one write does for both.
    pub fn hold(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
    }

    /// The next message: tag and body.
    ///
    /// # Errors
    /// `InvalidData` for a length that is impossible or too large, `UnexpectedEof` at the end.
    ///
    /// # Cancel safety
    /// Nothing is lost: what was read stays in the buffer.
    pub async fn receive(&mut self) -> io::Result<(u8, BytesMut)> {
        loop {
            if let Some(header) = Header::read(&self.buffer).map_err(invalid)? {
                if header.frame_len() > self.message_len_max {
                    return Err(invalid("message too long"));
                }
                if self.buffer.len() >= header.frame_len() {
                    let mut frame = self.buffer.split_to(header.frame_len());
                    frame.advance(HEADER_LEN);
                    return Ok((header.tag, frame));
                }
            }
            self.read_more().await?;
        }
    }

    /// The first `len(&unread)` bytes once they are there; `len` says `None` while it cannot tell.
    ///
    /// # Errors
    /// What `len` says, or the stream's own; `UnexpectedEof` at the end.
    pub async fn receive_untagged<E: From<io::Error>>(
        &mut self,
        len: impl Fn(&[u8]) -> Result<Option<usize>, E>,
    ) -> Result<BytesMut, E> {
        loop {
            match len(&self.buffer)? {
                Some(len) if self.buffer.len() >= len => return Ok(self.buffer.split_to(len)),
                _ => self.read_more().await?,
            }
        }
    }

    /// Returns when the peer is gone. What it says meanwhile is kept, as much as a message may hold.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn closed(&mut self) {
        while self.buffer.len() < self.message_len_max {
            if self.read_more().await.is_err() {
                return;
            }
        }
        std::future::pending::<()>().await;
    }

    async fn read_more(&mut self) -> io::Result<()> {
        self.buffer.reserve(READ_LEN);
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// The stream, and what was read of it beyond the last message.
    #[must_use]
    pub fn into_parts(self) -> (Stream, BytesMut) {
        (self.stream, self.buffer)
    }
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
