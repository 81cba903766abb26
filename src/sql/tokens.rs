//! Tokens of a text that is wholly there, with their values: for the few statements that the
//! [`super::Lexer`] has flagged.
//!
//! It assumes `standard_conforming_strings = on`, as the lexer does. What it cannot spell out (an
//! escape, `U&`, a bit string) is [`Token::Opaque`]: a token, and no value.

use std::borrow::Cow;
use std::ops::Range;

use super::lexer::{is_word, is_word_start};

/// A token and what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// A bare word, as it is written.
    Word(&'a [u8]),
    /// `"..."`
    Quoted(Cow<'a, [u8]>),
    /// `'...'`, `E'...'` without escapes, or a dollar quote.
    Text(Cow<'a, [u8]>),
    /// Digits and dots.
    Number(&'a [u8]),
    /// `$1`
    Parameter(u16),
    /// Any other byte.
    Punct(u8),
    /// Something whose value is not known here.
    Opaque,
}

impl Token<'_> {
    /// Whether it is this keyword, which is given in lower case.
    pub(super) fn is(&self, keyword: &str) -> bool {
        matches!(self, Self::Word(word) if word.eq_ignore_ascii_case(keyword.as_bytes()))
    }

    /// Whether it is this name, bare or quoted.
    pub(super) fn names(&self, name: &str) -> bool {
        match self {
            Self::Quoted(quoted) => quoted.eq_ignore_ascii_case(name.as_bytes()),
            _ => self.is(name),
        }
    }
}

/// All tokens of a text. `None`: a quote or a comment does not end.
pub(super) fn tokens(text: &[u8]) -> Option<Vec<Token<'_>>> {
    let mut reader = Reader { rest: text };
    let mut tokens = Vec::new();
    while let Some(token) = reader.next()? {
        tokens.push(token);
    }
    Some(tokens)
}

/// The same, each with where it stands.
pub(super) fn spans(text: &[u8]) -> Option<Vec<(Token<'_>, Range<usize>)>> {
    let mut reader = Reader { rest: text };
    let mut spans = Vec::new();
    loop {
        reader.skip_blanks()?;
        let start = text.len() - reader.rest.len();
        let Some(token) = reader.next()? else { return Some(spans) };
        spans.push((token, start..text.len() - reader.rest.len()));
    }
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// `None`: it does not end. `Some(None)`: the end.
    #[expect(clippy::option_option, reason = "inside, beyond the end, without an end")]
    fn next(&mut self) -> Option<Option<Token<'a>>> {
        self.skip_blanks()?;
        let token = match self.rest {
            [] => return Some(None),
            [b'\'', ..] => self.string(false)?,
            [b'e' | b'E', b'\'', ..] => {
                self.take(1);
                self.string(true)?
            }
            [b'b' | b'B' | b'x' | b'X' | b'n' | b'N', b'\'', ..] => {
                self.take(1);
                self.string(false)?;
                Token::Opaque
            }
            [b'u' | b'U', b'&', b'\'', ..] => {
                self.take(2);
                self.string(false)?;
                Token::Opaque
            }
            [b'u' | b'U', b'&', b'"', ..] => {
                self.take(2);
                self.quoted()?;
                Token::Opaque
            }
            [b'"', ..] => self.quoted()?,
            [b'$', ..] => self.dollar()?,
            [byte, ..] if is_word_start(*byte) => {
                let end = self.rest.iter().position(|b| !is_word(*b));
                Token::Word(self.take(end.unwrap_or(self.rest.len())))
            }
            [b'0'..=b'9', ..] => {
                let end = self.rest.iter().position(|b| !b.is_ascii_digit() && *b != b'.');
                Token::Number(self.take(end.unwrap_or(self.rest.len())))
            }
            [byte, rest @ ..] => {
                self.rest = rest;
                Token::Punct(*byte)
            }
        };
        Some(Some(token))
    }

    /// White space and comments. `None`: a comment does not end.
    fn skip_blanks(&mut self) -> Option<()> {
        loop {
            match self.rest {
                [b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c, rest @ ..] => self.rest = rest,
                [b'-', b'-', ..] => {
                    let end = self.rest.iter().position(|b| matches!(b, b'\n' | b'\r'));
                    self.take(end.unwrap_or(self.rest.len()));
                }
                [b'/', b'*', ..] => self.block_comment()?,
                _ => return Some(()),
            }
        }
    }

    fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at(len);
        self.rest = rest;
        taken
    }

    fn block_comment(&mut self) -> Option<()> {
        let mut depth = 0_usize;
        loop {
            match self.rest {
                [b'/', b'*', rest @ ..] => (self.rest, depth) = (rest, depth + 1),
                [b'*', b'/', rest @ ..] => {
                    (self.rest, depth) = (rest, depth - 1);
                    if depth == 0 {
                        return Some(());
                    }
                }
                [_, rest @ ..] => self.rest = rest,
                [] => return None,
            }
        }
    }

    /// From its opening quote; a doubled quote is one.
    fn delimited(&mut self, quote: u8, escapes: bool) -> Option<(Cow<'a, [u8]>, bool)> {
        let body = &self.rest[1..];
        let (mut at, mut doubled, mut opaque) = (0, false, false);
        loop {
            match body.get(at..)? {
                [b'\\', _, ..] if escapes => (at, opaque) = (at + 2, true),
                [a, b, ..] if *a == quote && *b == quote => (at, doubled) = (at + 2, true),
                [a, ..] if *a == quote => break,
                [_, ..] => at += 1,
                [] => return None,
            }
        }
        self.take(at + 2);
        let mut text = Cow::Borrowed(&body[..at]);
        if doubled && !opaque {
            let bytes = text.to_mut();
            let mut last_was_quote = false;
            bytes.retain(|byte| {
                last_was_quote = *byte == quote && !last_was_quote;
                *byte != quote || last_was_quote
            });
        }
        Some((text, opaque))
    }

    fn string(&mut self, escapes: bool) -> Option<Token<'a>> {
        let (text, opaque) = self.delimited(b'\'', escapes)?;
        if !self.string_goes_on() {
            return Some(if opaque { Token::Opaque } else { Token::Text(text) });
        }
        // Another string behind a line's end is the rest of this one, by the same rules.
        self.string(escapes)?;
        Some(Token::Opaque)
    }

    /// Moves to the opening quote of a string that goes on: behind white space with a line's end,
    /// and comments up to one.
    fn string_goes_on(&mut self) -> bool {
        let (mut rest, mut line_ended) = (self.rest, false);
        loop {
            rest = match rest {
                [b'\'', ..] if line_ended => {
                    self.rest = rest;
                    return true;
                }
                [b'\n' | b'\r', after @ ..] => {
                    line_ended = true;
                    after
                }
                [b' ' | b'\t' | 0x0b | 0x0c, after @ ..] => after,
                [b'-', b'-', after @ ..] => {
                    let end = after.iter().position(|b| matches!(b, b'\n' | b'\r'));
                    &after[end.unwrap_or(after.len())..]
                }
                _ => return false,
            };
        }
    }

    fn quoted(&mut self) -> Option<Token<'a>> {
        self.delimited(b'"', false).map(|(name, _)| Token::Quoted(name))
    }

    /// A parameter, a dollar quote, or a dollar sign on its own.
    fn dollar(&mut self) -> Option<Token<'a>> {
        let after = &self.rest[1..];
        let len = after.iter().position(|b| *b == b'$' || !is_word(*b)).unwrap_or(after.len());
        let (tag, behind) = after.split_at(len);
        if tag.first().is_some_and(u8::is_ascii_digit) {
            let digits = tag.iter().position(|b| !b.is_ascii_digit()).unwrap_or(tag.len());
            self.take(1 + digits);
            let number = std::str::from_utf8(&tag[..digits]).ok().and_then(|n| n.parse().ok());
            return Some(number.map_or(Token::Opaque, Token::Parameter));
        }
        if behind.first() != Some(&b'$') {
            self.take(1);
            return Some(Token::Punct(b'$'));
        }
        let delimiter = &self.rest[..len + 2];
        let body = &self.rest[len + 2..];
        let end = memchr::memmem::find(body, delimiter)?;
        self.take(2 * delimiter.len() + end);
        Some(Token::Text(Cow::Borrowed(&body[..end])))
    }
}
