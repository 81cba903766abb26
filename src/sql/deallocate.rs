//! `DEALLOCATE name`, alone: some drivers close so what they prepared by the protocol.

use super::tokens::{Token, tokens};

/// The name, if the text is nothing but the DEALLOCATE of one.
#[must_use]
pub fn deallocated(text: &[u8]) -> Option<Vec<u8>> {
    let mut tokens = tokens(text)?;
    if tokens.last() == Some(&Token::Punct(b';')) {
        tokens.pop();
    }
    let name = match tokens.as_slice() {
        [first, name] if first.is("deallocate") => name,
        [first, second, name] if first.is("deallocate") && second.is("prepare") => name,
        _ => return None,
    };
    match name {
        Token::Word(word) if !name.is("all") => Some(word.to_ascii_lowercase()),
        Token::Quoted(quoted) => Some(quoted.to_vec()),
        _ => None,
    }
}
