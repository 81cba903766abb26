//! A first look: whether a text holds any word that could be flagged at all.
//!
//! It takes words wherever they stand, in strings and comments too, so it needs no state and is
//! many times cheaper than the lexer. Most statements hold no such word, and the lexer need not
//! read them. It asks the lexer's own table of words; a property test holds the two together.
//!
//! Every byte of every statement passes here, so it looks at 16 of them at once: the letters of
//! up to 64 bytes become the bits of one number, and a word is a run of ones. A digit or a `$` ends
//! a run although it would not end a word: `temp1` alarms for nothing, and no word is missed.

use wide::u8x16;

use super::words::{is_alarming, may_alarm};

/// Shortest text that can hold a dollar-quote tag too long to be followed.
const LONG_TAG_LEN: usize = 65;

/// Bytes looked at together, a bit each.
const BLOCK_LEN: usize = 64;

/// Bytes of one vector.
const GROUP_LEN: usize = 16;

/// Whether a whole text is surely plain: no word in it could be flagged.
#[must_use]
#[inline]
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
        if any_alarming(block, ones) || is_escape_behind(rest, ones) {
            return false;
        }
        rest = &rest[next..];
    }
    text.len() < LONG_TAG_LEN || memchr::memchr(b'$', text).is_none()
}

/// Whether one of a block's words alarms.
#[inline]
fn any_alarming(block: &[u8], ones: u64) -> bool {
    let mut first = ones & !(ones << 1);
    while first != 0 {
        let start = first.trailing_zeros() as usize;
        if may_alarm(block[start]) {
            let len = (ones >> start).trailing_ones() as usize;
            if is_alarming(&block[start..start + len]) {
                return true;
            }
        }
        // Without the lowest bit: the next word.
        first &= first - 1;
    }
    false
}

/// Whether a word of one letter is the beginning of `U&''`, in which words may be escaped.
#[inline]
fn is_escape_behind(rest: &[u8], ones: u64) -> bool {
    let mut alone = ones & !(ones << 1) & !(ones >> 1);
    while alone != 0 {
        if rest.get(alone.trailing_zeros() as usize + 1) == Some(&b'&') {
            return true;
        }
        alone &= alone - 1;
    }
    false
}

/// Which bytes of a block are part of a word: letters, `_`, and all that is not ASCII.
#[inline]
fn letters(block: &[u8]) -> u64 {
    let mut ones = 0;
    let (groups, tail) = block.as_chunks::<GROUP_LEN>();
    for (at, group) in groups.iter().enumerate() {
        ones |= letters_of_group(*group) << (at * GROUP_LEN);
    }
    if tail.is_empty() {
        return ones;
    }
    // The last bytes there are: what the groups have seen of them comes once more.
    if let Some(last) = block.last_chunk::<GROUP_LEN>() {
        return ones | letters_of_group(*last) << (block.len() - GROUP_LEN);
    }
    let mut short = [0; GROUP_LEN];
    short[..tail.len()].copy_from_slice(tail);
    letters_of_group(short)
}

/// The same for bytes that are looked at in one vector.
#[inline]
fn letters_of_group(group: [u8; GROUP_LEN]) -> u64 {
    let all = u8x16::splat;
    let bytes = u8x16::new(group);
    let from_a = (bytes | all(0x20)) - all(b'a');
    let is_letter = from_a.min(all(b'z' - b'a')).simd_eq(from_a);
    // What is not ASCII has its top bit set already.
    u64::from((is_letter | bytes.simd_eq(all(b'_')) | bytes).to_bitmask())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bit_is_a_letter() {
        for byte in 0..=u8::MAX {
            let is_letter = byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80;
            for at in 0..GROUP_LEN {
                let mut group = [b' '; GROUP_LEN];
                group[at] = byte;
                assert_eq!(letters_of_group(group), u64::from(is_letter) << at, "{byte} at {at}");
                group = [b'x'; GROUP_LEN];
                group[at] = byte;
                let others = 0xffff & !(1 << at);
                assert_eq!(letters_of_group(group), others | u64::from(is_letter) << at, "{byte}");
            }
        }
    }

    #[test]
    fn a_block_of_any_length_is_seen_to_its_end() {
        for len in 0..=BLOCK_LEN {
            let block = vec![b'x'; len];
            assert_eq!(letters(&block).count_ones() as usize, len);
            for at in 0..len {
                let mut block = block.clone();
                block[at] = b'1';
                assert_eq!(
                    letters(&block),
                    letters(&vec![b'x'; len]) & !(1 << at),
                    "{at} of {len}"
                );
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
