//! Buffers lent by the thread to whoever is active. An idle client holds none.

use std::cell::RefCell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use super::stream::Stream;

/// Bytes of one buffer: one for each direction of an active client.
pub const BUFFER_LEN: usize = 16 * 1024;

/// Free buffers a thread keeps; more are given back to the allocator.
const FREE_MAX: usize = 256;

thread_local! {
    static FREE: RefCell<Vec<Block>> = const { RefCell::new(Vec::new()) };
}

/// Bytes that buffers which have grown may have together; who finds none left does not grow.
const GROWN_MAX: usize = 64 * 1024 * 1024;

/// Bytes that they have.
static GROWN: AtomicUsize = AtomicUsize::new(0);

type Block = Box<[u8]>;

fn new_block() -> Block {
    vec![0; BUFFER_LEN].into_boxed_slice()
}

fn give_back(block: Block) {
    if block.len() > BUFFER_LEN {
        GROWN.fetch_sub(block.len(), Ordering::Relaxed);
        return;
    }
    FREE.with_borrow_mut(|free| {
        if free.len() < FREE_MAX {
            free.push(block);
        }
    });
}

/// Bytes on their way: `start..end` of a lent block, or nothing at all. Small: an idle client has
/// two of them.
#[derive(Debug, Default)]
pub struct Buffer {
    block: Option<Block>,
    start: u32,
    end: u32,
}

/// As many bytes as fit into a block.
#[expect(clippy::cast_possible_truncation, reason = "a block is shorter")]
const fn small(len: usize) -> u32 {
    debug_assert!(len <= GROWN_MAX);
    len as u32
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
            let mut block = new_block();
            block[..len].copy_from_slice(&bytes[..len]);
            buffer = Self { block: Some(block), start: 0, end: small(len) };
        }
        buffer
    }

    /// The bytes that wait.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.block.as_ref().map_or(&[], |block| &block[self.start as usize..self.end as usize])
    }

    /// Number of bytes that wait.
    #[must_use]
    pub const fn len(&self) -> usize {
        (self.end - self.start) as usize
    }

    /// Whether no byte waits.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Whether nothing more can be read before something was consumed.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.len() == self.block.as_ref().map_or(BUFFER_LEN, |block| block.len())
    }

    /// Makes room for so many bytes, those that wait among them; `false` if buffers have grown enough. It is as long
    /// as others again once it is empty.
    #[must_use]
    pub fn grow(&mut self, len: usize) -> bool {
        if self.block.as_ref().is_some_and(|block| block.len() >= len) {
            return true;
        }
        if GROWN.fetch_add(len, Ordering::Relaxed) + len > GROWN_MAX {
            GROWN.fetch_sub(len, Ordering::Relaxed);
            return false;
        }
        let mut block = vec![0; len].into_boxed_slice();
        let count = self.len();
        block[..count].copy_from_slice(self.bytes());
        let before = self.block.replace(block);
        (self.start, self.end) = (0, small(count));
        if let Some(before) = before {
            give_back(before);
        }
        true
    }

    /// Drops `count` bytes from the front.
    pub fn consume(&mut self, count: usize) {
        debug_assert!(count <= self.len());
        self.start += small(count.min(self.len()));
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
        let from = self.start as usize + at;
        block.copy_within(from + count..self.end as usize, from);
        self.end -= small(count);
    }

    /// Puts other bytes in the place of `count` bytes, `at` bytes behind the front; `false` if there is
    /// no room for them.
    #[must_use]
    pub fn replace(&mut self, at: usize, count: usize, bytes: &[u8]) -> bool {
        let behind: Box<[u8]> = self.bytes()[at + count..].into();
        let kept = self.end;
        self.end = self.start + small(at);
        let room = self.block.as_ref().map_or(BUFFER_LEN, |block| block.len());
        if at + bytes.len() + behind.len() > room {
            self.end = kept;
            return false;
        }
        if self.start as usize + at + bytes.len() + behind.len() > room
            && let Some(block) = &mut self.block
        {
            block.copy_within(self.start as usize..self.end as usize, 0);
            (self.start, self.end) = (0, small(at));
        }
        self.append(bytes) && self.append(&behind)
    }

    /// Writes over bytes that wait, `at` of them behind the first.
    ///
    /// # Panics
    /// If so many do not wait.
    pub fn overwrite(&mut self, at: usize, bytes: &[u8]) {
        let from = self.start as usize + at;
        let block = self.block.as_mut().expect("bytes wait");
        block[from..from + bytes.len()].copy_from_slice(bytes);
    }

    /// Gives the block back if no byte waits.
    pub fn release(&mut self) {
        if self.is_empty()
            && let Some(block) = self.block.take()
        {
            give_back(block);
        }
    }

    /// Puts bytes behind those that wait; `false` if there is no room for all of them.
    #[must_use]
    pub fn append(&mut self, bytes: &[u8]) -> bool {
        let Some(room) = self.room().get_mut(..bytes.len()) else { return false };
        room.copy_from_slice(bytes);
        self.end += small(bytes.len());
        true
    }

    /// Reads once into the free room behind the bytes: the number of bytes read, 0 at the end.
    ///
    /// # Errors
    /// The stream's own. A full buffer is not read into: check [`Buffer::is_full`] first.
    #[inline]
    pub fn poll_fill(
        &mut self,
        stream: &mut Stream,
        cx: &mut Context<'_>,
    ) -> Poll<std::io::Result<usize>> {
        // Whoever has nothing to read needs no block.
        ready!(stream.poll_news(cx));
        self.fill(stream, cx)
    }

    fn fill(&mut self, stream: &mut Stream, cx: &mut Context<'_>) -> Poll<std::io::Result<usize>> {
        let count = ready!(stream.poll_read_into(cx, self.room()))?;
        self.end += small(count);
        Poll::Ready(Ok(count))
    }

    /// The free room behind the bytes; a block is taken if there is none.
    fn room(&mut self) -> &mut [u8] {
        let block = self.block.get_or_insert_with(|| {
            let free = FREE.with_borrow_mut(Vec::pop);
            free.unwrap_or_else(new_block)
        });
        if self.end as usize == block.len() && self.start > 0 {
            block.copy_within(self.start as usize.., 0);
            self.end -= self.start;
            self.start = 0;
        }
        &mut block[self.end as usize..]
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

    fn filled(bytes: &[u8]) -> Buffer {
        let mut buffer = Buffer::empty();
        assert!(buffer.append(bytes));
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
        assert!(buffer.append(b"xy"));
        assert!(!buffer.append(&[0; BUFFER_LEN]));
        assert_eq!(buffer.bytes(), b"\x01\x01xy");
    }

    #[test]
    fn bytes_in_the_middle_are_replaced_if_there_is_room() {
        let mut buffer = filled(b"abcdef");
        buffer.consume(1);
        assert!(buffer.replace(1, 2, b"longer") && buffer.replace(0, 1, b""));
        assert_eq!(buffer.bytes(), b"longeref");
        let mut full = filled(&[1; BUFFER_LEN]);
        assert!(!full.replace(2, 1, b"xx") && full.is_full());
        full.consume(3);
        assert!(full.replace(BUFFER_LEN - 4, 1, b"xyz"));
        assert!(full.bytes().ends_with(b"\x01xyz"));
    }

    #[test]
    fn a_buffer_grows_and_is_as_long_as_others_once_it_is_empty() {
        let mut buffer = filled(b"abc");
        buffer.consume(1);
        assert!(buffer.grow(3 * BUFFER_LEN) && buffer.grow(BUFFER_LEN));
        assert!(buffer.append(&vec![7; 2 * BUFFER_LEN]) && !buffer.is_full());
        assert!(buffer.bytes().starts_with(b"bc\x07") && buffer.len() == 2 + 2 * BUFFER_LEN);
        assert!(!buffer.grow(GROWN_MAX + 1), "more than all may have");
        buffer.consume(2 + 2 * BUFFER_LEN);
        buffer.release();
        assert!(buffer.append(&[1; BUFFER_LEN]) && buffer.is_full());
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
