//! A first look: whether a text holds any word that could be flagged at all.
//!
//! It takes words wherever they stand, in strings and comments too, so it needs no state and is
//! many times cheaper than the lexer. Most statements hold no such word, and the lexer need not
//! read them. It asks the lexer's own table of words; a property test holds the two together.
//!
//! Every byte of every statement passes here, so it looks at eight of them at once: the letters of
//! up to 64 bytes become the bits of one number, and a word is a run of ones. A digit or a `$` ends
//! a run although it would not end a word: `temp1` alarms for nothing, and no word is missed.

use super::words::is_alarming;

/// Shortest text that can hold a dollar-quote tag too long to be followed.
const LONG_TAG_LEN: usize = 65;

/// Bytes looked at together, a bit each.
const BLOCK_LEN: usize = 64;

/// Whether a whole text is surely plain: no word in it could be flagged.
#[must_use]
pub fn is_plain(text: &[u8]) -> bool {
    let mut rest = text;
    while !rest.is_empty() {
        let block = &rest[..rest.len().min(BLOCK_LEN)];
        let mut ones = letters(block);
        let mut next = block.len();
        let last_run = ones.leading_ones() as usize;
        if last_run > 0 && last_run < BLOCK_LEN {
            // It may go on in the next block, which is to begin with it.
            next -= last_run;
            ones &= u64::MAX >> last_run;
        }
        while ones != 0 {
            let start = ones.trailing_zeros() as usize;
            let end = start + (ones >> start).trailing_ones() as usize;
            let word = &block[start..end];
            if is_alarming(word) || (word.len() == 1 && rest.get(end) == Some(&b'&')) {
                return false;
            }
            // A carry runs through the lowest run and clears it.
            ones &= ones.wrapping_add(1 << start);
        }
        rest = &rest[next..];
    }
    text.len() < LONG_TAG_LEN || memchr::memchr(b'$', text).is_none()
}

/// Which bytes of a block, which is not empty, are part of a word: letters, `_`, and all that is not
/// ASCII.
fn letters(block: &[u8]) -> u64 {
    let (groups, tail) = block.as_chunks::<8>();
    // Shifted in from the top, one behind the other: the compiler would make vectors of anything
    // that could be done side by side, and multiply them in six steps.
    let mut ones = 0;
    for group in groups {
        ones = ones >> 8 | letters_of_eight(*group) << 56;
    }
    if tail.is_empty() {
        return ones >> (BLOCK_LEN - block.len());
    }
    // The last eight bytes: those of the last group come once more, and are shifted out.
    let last = block.last_chunk::<8>().copied().unwrap_or_else(|| {
        let mut last = [0; 8];
        last[8 - tail.len()..].copy_from_slice(tail);
        last
    });
    ones = ones >> tail.len() | letters_of_eight(last) >> (8 - tail.len()) << (64 - tail.len());
    ones >> (BLOCK_LEN - block.len())
}

/// The same for eight bytes, each in a lane of one number: whether a lane is at least `a` or
/// beyond `z` shows in its top bit after an addition that cannot carry into the next lane.
#[inline]
fn letters_of_eight(group: [u8; 8]) -> u64 {
    const fn lanes(byte: u8) -> u64 {
        u64::from_ne_bytes([byte; 8])
    }
    let bytes = u64::from_le_bytes(group);
    let ascii = bytes & lanes(0x7f);
    let lower = ascii | lanes(0x20);
    let letter = (lower + lanes(0x80 - b'a')) & !(lower + lanes(0x80 - b'z' - 1));
    let underscore = !((ascii ^ lanes(b'_')) + lanes(0x7f));
    let top_bits = (letter | underscore | bytes) & lanes(0x80);
    // Moves the eight top bits side by side: no two of the products share a bit.
    (top_bits >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bit_is_a_letter() {
        for byte in 0..=u8::MAX {
            let is_letter = byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80;
            for at in 0..8 {
                let mut group = [b' '; 8];
                group[at] = byte;
                assert_eq!(letters_of_eight(group), u64::from(is_letter) << at, "{byte} at {at}");
                group = [b'x'; 8];
                group[at] = byte;
                let others = 0xff & !(1 << at);
                assert_eq!(letters_of_eight(group), others | u64::from(is_letter) << at, "{byte}");
            }
        }
    }

    #[test]
    fn a_word_is_found_wherever_the_blocks_are_cut() {
        for before in 0..200 {
            for (word, plain) in [("set", false), ("U&", false), ("offset", true), ("u", true)] {
                let text = format!("{}{word} {}", "1 ".repeat(before), "x ".repeat(40));
                assert_eq!(is_plain(text.as_bytes()), plain, "{before} {word}");
                let text = format!("{} {word}", "a".repeat(before));
                assert_eq!(is_plain(text.as_bytes()), plain, "{before} {word}");
            }
        }
    }
}
