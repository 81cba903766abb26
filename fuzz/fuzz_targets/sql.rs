//! Any text: the first look, the lexer and the reader of settings agree, however the text is cut.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tenantry::sql::{Flag, Lexer, Settings, deallocated, is_plain, lone_set, lone_set_path};

fuzz_target!(|text: &[u8]| {
    let flags = |pieces: &[&[u8]]| {
        let mut lexer = Lexer::new();
        pieces.iter().for_each(|piece| lexer.feed(piece));
        lexer.finish()
    };
    let whole = flags(&[text]);
    let (a, b) = text.split_at(text.len() / 2);
    assert_eq!(flags(&[a, b]), whole, "it does not matter where a text is cut");
    assert!(!is_plain(text) || whole.is_empty(), "a plain text is never flagged");
    let settings = Settings::of(text, whole);
    if whole.contains(Flag::Set) || whole.contains(Flag::Reset) {
        let named = !settings.names.is_empty() || !settings.local.is_empty();
        let told = named || settings.all || settings.resets || settings.unknown.is_some();
        assert!(told, "what is flagged is named, or said to be unknown");
    }
    if let Some(set) = lone_set(text) {
        let named = settings.names.iter().any(|name| **name == *set.name);
        assert!(named && settings.names.len() == 1 && settings.unknown.is_none(), "{set:?} {settings:?}");
    }
    if lone_set_path(text).is_some() {
        assert_eq!(settings.names.iter().map(|name| &**name).collect::<Vec<_>>(), ["search_path"]);
    }
    let _ = deallocated(text);
});
