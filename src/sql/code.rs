//! The settings that a `DO` changes: PL/pgSQL, and what its `EXECUTE`s run.

use super::Settings;
use super::settings::{arguments, name};
use super::tokens::{Token, tokens};

/// Longest `DO` inside a `DO`, or text in an `EXECUTE`, that is followed.
const DEPTH_MAX: u8 = 4;

impl Settings {
    /// Behind `DO`.
    pub(super) fn block(&mut self, tokens: &[Token<'_>], depth: u8) {
        let language = tokens.iter().position(|token| token.is("language"));
        if language.is_some_and(|at| !tokens.get(at + 1).is_some_and(|l| l.names("plpgsql"))) {
            self.give_up("DO in another language");
        }
        let bodies: Vec<&[u8]> = tokens
            .iter()
            .filter_map(|token| if let Token::Text(body) = token { Some(&**body) } else { None })
            .collect();
        match bodies.as_slice() {
            [body] => self.code(body, depth),
            _ => self.give_up("DO"),
        }
    }

    /// PL/pgSQL, where a `SET` may stand anywhere and an `UPDATE ... SET` does no harm.
    fn code(&mut self, body: &[u8], depth: u8) {
        let outside = !std::mem::replace(&mut self.inside, true);
        self.code_inside(body, depth);
        self.inside = !outside;
    }

    fn code_inside(&mut self, body: &[u8], depth: u8) {
        let tokens = match tokens(body) {
            Some(tokens) if depth < DEPTH_MAX => tokens,
            _ => return self.give_up("DO"),
        };
        self.anywhere(&tokens);
        let lasting = |token: &Token<'_>| {
            let name = match token {
                Token::Word(word) => word,
                Token::Quoted(quoted) => &**quoted,
                _ => return false,
            };
            let name = name.to_ascii_lowercase();
            matches!(&*name, b"setseed" | b"load") || name.starts_with(b"dblink")
        };
        if tokens.iter().any(lasting) {
            self.lasts = true;
            self.give_up("DO that leaves something behind");
        }
        if !self.parameters.is_empty() {
            // `EXECUTE ... USING`: not what the client binds.
            self.give_up("EXECUTE in a DO block");
        }
        for (at, token) in tokens.iter().enumerate() {
            let rest = &tokens[at + 1..];
            let end = rest.iter().position(|t| *t == Token::Punct(b';')).unwrap_or(rest.len());
            let statement = &rest[..end];
            if token.is("set") {
                self.set(statement);
            } else if token.is("reset") {
                self.reset(statement);
            } else if token.is("do") && statement.iter().any(|t| matches!(t, Token::Text(_))) {
                self.block(statement, depth + 1);
            } else if token.is("execute") {
                self.execute(rest, depth);
            }
        }
    }

    /// Behind `EXECUTE`: a text, perhaps with pieces put in. Its beginning says what it is.
    fn execute(&mut self, tokens: &[Token<'_>], depth: u8) {
        // Of a trigger.
        if tokens.first().is_some_and(|word| word.is("function") || word.is("procedure")) {
            return;
        }
        if !text_of(tokens).is_some_and(|text| self.runs(&text, depth)) {
            self.give_up("EXECUTE in a DO block");
        }
    }

    /// Follows what `EXECUTE` runs, a text with `%I` and `%L` in it. `false`: it cannot be read.
    fn runs(&mut self, text: &[u8], depth: u8) -> bool {
        let Some(inner) = tokens(text) else { return false };
        let can_be_read = |statement: &[Token<'_>]| match statement {
            [word, rest @ ..] if word.is("set") || word.is("reset") => !is_computed(rest),
            [Token::Word(_), ..] | [] => true,
            _ => false,
        };
        let read = inner.split(|token| *token == Token::Punct(b';')).all(can_be_read);
        self.code(text, depth + 1);
        read
    }
}

/// The text of an `EXECUTE`: a literal, a `format` of one, or literals and quoted pieces, joined.
fn text_of(mut tokens: &[Token<'_>]) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    loop {
        tokens = match tokens {
            [Token::Text(piece), rest @ ..] => {
                text.extend_from_slice(piece);
                rest
            }
            [function, Token::Punct(b'('), rest @ ..] => {
                text.extend_from_slice(match rest {
                    [Token::Text(piece), ..] if function.is("format") && !puts_in_code(piece) => {
                        piece
                    }
                    _ if function.is("quote_ident") => b"%I",
                    _ if function.is("quote_literal") || function.is("quote_nullable") => b"%L",
                    _ => return None,
                });
                let len: usize = arguments(rest)?.iter().map(|part| part.len() + 1).sum();
                rest.get(len..)?
            }
            _ => return None,
        };
        let bar = Token::Punct(b'|');
        tokens = match tokens {
            [a, b, rest @ ..] if *a == bar && *b == bar => rest,
            [] | [Token::Punct(b';'), ..] => return Some(text),
            [word, ..] if word.is("into") || word.is("using") => return Some(text),
            _ => return None,
        };
    }
}

/// Behind `SET` or `RESET` in a text with pieces put in: whether the setting's name is one, or may be
/// part of one.
fn is_computed(tokens: &[Token<'_>]) -> bool {
    let is_scope = |word: &Token<'_>| word.is("session") || word.is("local");
    let tokens = match tokens {
        [scope, rest @ ..] if is_scope(scope) && rest.first() != Some(&Token::Punct(b'.')) => rest,
        _ => tokens,
    };
    name(tokens).is_none_or(|(_, rest)| rest.first() == Some(&Token::Punct(b'%')))
}
/// Whether a `format` puts in what is not quoted.
fn puts_in_code(text: &[u8]) -> bool {
    let mut at = text.iter();
    while at.any(|byte| *byte == b'%') {
        // `%1$I` takes the first argument.
        if !matches!(at.find(|b| !b.is_ascii_digit() && **b != b'$'), Some(b'%' | b'I' | b'L')) {
            return true;
        }
    }
    false
}
