//! Buffers lent by the thread to whoever is active. An idle client holds none.

use std::cell::RefCell;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

/// Bytes of one buffer: one for each direction of an active client.
pub const BUFFER_LEN: usize = 16 * 1024;

/// Free buffers a thread keeps; more are given back to the allocator.
const FREE_MAX: usize = 256;

thread_local! {
    static FREE: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

/// Bytes on their way: `start..end` of a lent block, or nothing at all.
#[derive(Debug, Default)]
pub struct Buffer {
    block: Option<Box<[u8]>>,
    start: usize,
    end: usize,
}

impl Buffer {
    /// No bytes and no block.
    #[must_use]
    pub const fn empty() -> Self {
        Self { block: None, start: 0, end: 0 }
    }

    /// Takes bytes that were read before; as many as fit, which is all of a login's.
    #[must_use]
    pub fn holding(bytes: &[u8]) -> Self {
        let mut buffer = Self::empty();
        let len = bytes.len().min(BUFFER_LEN);
        if len > 0 {
            let mut block = vec![0; BUFFER_LEN].into_boxed_slice();
            block[..len].copy_from_slice(&bytes[..len]);
            buffer = Self { block: Some(block), start: 0, end: len };
        }
        buffer
    }

    /// The bytes that wait.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.block.as_ref().map_or(&[], |block| &block[self.start..self.end])
    }

    /// Number of bytes that wait.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.end - self.start
    }

    /// Whether no byte waits.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Whether nothing more can be read before something was consumed.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.len() == BUFFER_LEN
    }

    /// Drops `count` bytes from the front.
    pub fn consume(&mut self, count: usize) {
        debug_assert!(count <= self.len());
        self.start += count.min(self.len());
        if self.is_empty() {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Cuts `count` bytes out, `at` bytes behind the front.
    pub fn cut(&mut self, at: usize, count: usize) {
        if at == 0 {
            return self.consume(count);
        }
        let Some(block) = &mut self.block else { return };
        let from = self.start + at;
        block.copy_within(from + count..self.end, from);
        self.end -= count;
    }

    /// Gives the block back if no byte waits.
    pub fn release(&mut self) {
        if self.is_empty()
            && let Some(block) = self.block.take()
        {
            FREE.with_borrow_mut(|free| {
                if free.len() < FREE_MAX {
                    free.push(block);
                }
            });
        }
    }

    /// Reads once into the free room behind the bytes: the number of bytes read, 0 at the end.
    ///
    /// # Errors
    /// The stream's own. A full buffer is not read into: check [`Buffer::is_full`] first.
    pub fn poll_fill<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<std::io::Result<usize>> {
        let block = self.block.get_or_insert_with(|| {
            let free = FREE.with_borrow_mut(Vec::pop);
            free.unwrap_or_else(|| vec![0; BUFFER_LEN].into_boxed_slice())
        });
        if self.end == BUFFER_LEN && self.start > 0 {
            block.copy_within(self.start.., 0);
            self.end -= self.start;
            self.start = 0;
        }
        let mut room = ReadBuf::new(&mut block[self.end..]);
        ready!(Pin::new(stream).poll_read(cx, &mut room))?;
        let count = room.filled().len();
        self.end += count;
        Poll::Ready(Ok(count))
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        (self.start, self.end) = (0, 0);
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(mut bytes: &[u8]) -> Buffer {
        let mut buffer = Buffer::empty();
        let waker = std::task::Waker::noop();
        while !bytes.is_empty() {
            let poll = buffer.poll_fill(&mut bytes, &mut Context::from_waker(waker));
            assert!(matches!(poll, Poll::Ready(Ok(1..))));
        }
        buffer
    }

    #[test]
    fn bytes_leave_from_the_front_and_from_the_middle() {
        let mut buffer = filled(b"abcdef");
        buffer.consume(1);
        buffer.cut(1, 2);
        assert_eq!(buffer.bytes(), b"bef");
        buffer.cut(0, 3);
        assert!(buffer.is_empty());
    }

    #[test]
    fn room_at_the_front_is_used_again() {
        let mut buffer = filled(&[1; BUFFER_LEN]);
        assert!(buffer.is_full());
        buffer.consume(BUFFER_LEN - 2);
        let mut more = &b"xy"[..];
        let waker = std::task::Waker::noop();
        let poll = buffer.poll_fill(&mut more, &mut Context::from_waker(waker));
        assert!(matches!(poll, Poll::Ready(Ok(2))));
        assert_eq!(buffer.bytes(), b"\x01\x01xy");
    }

    #[test]
    fn an_empty_buffer_holds_no_block() {
        let mut buffer = filled(b"a");
        buffer.release();
        assert!(buffer.block.is_some());
        buffer.consume(1);
        buffer.release();
        assert!(buffer.block.is_none());
    }
}
