//! A first look: whether a text holds anything that could be flagged at all.
//!
//! Most statements hold no such letters anywhere, and the lexer need not read them. Every word of
//! [`super::words`] that can flag something contains one of these; a test holds the two together.

use std::sync::OnceLock;

use aho_corasick::{AhoCorasick, AhoCorasickKind};

/// Letters without which nothing is flagged, in any case.
pub(super) const ALARMS: [&str; 12] = [
    "set", "discard", "prepare", "listen", "hold", "temp", "load", "do", "call", "advisory",
    "dblink", "u&",
];

/// Whether a whole text is surely plain: none of the letters is in it.
pub fn is_plain(text: &[u8]) -> bool {
    static AUTOMATON: OnceLock<AhoCorasick> = OnceLock::new();
    let automaton = AUTOMATON.get_or_init(|| {
        AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .kind(Some(AhoCorasickKind::DFA))
            .build(ALARMS)
            .expect("a dozen short words make a small automaton")
    });
    // A tag of a dollar quote that is too long is flagged too.
    !automaton.is_match(text) && !memchr::memchr(b'$', text).is_some_and(|at| text.len() - at > 64)
}
