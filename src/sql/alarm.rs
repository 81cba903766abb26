//! A first look: whether a text holds any word that could be flagged at all.
//!
//! It takes words wherever they stand, in strings and comments too, so it needs no state and is
//! several times cheaper than the lexer. Most statements hold no such word, and the lexer need not
//! read them. It asks the lexer's own table of words; a property test holds the two together.

use super::lexer::{is_word, is_word_start};
use super::words::is_alarming;

/// Shortest text that can hold a dollar-quote tag too long to be followed.
const LONG_TAG_LEN: usize = 65;

/// Whether a whole text is surely plain: no word in it could be flagged.
#[must_use]
pub fn is_plain(text: &[u8]) -> bool {
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        if !is_word_start(byte) {
            rest = after;
            continue;
        }
        let len = rest.iter().position(|b| !is_word(*b)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(len);
        if is_alarming(word) || (len == 1 && after.first() == Some(&b'&')) {
            return false;
        }
        rest = after;
    }
    text.len() < LONG_TAG_LEN || memchr::memchr(b'$', text).is_none()
}
