//! `SET` and `RESET`, form by form as in PostgreSQL's grammar (`VariableSetStmt`, `VariableResetStmt` in `gram.y`).
//!
//! ```text
//! SET [LOCAL | SESSION] rest     SET CONSTRAINTS ...     RESET name | ALL | TIME ZONE | TRANSACTION ISOLATION LEVEL
//! rest: TRANSACTION ...  | SESSION CHARACTERISTICS AS TRANSACTION ...          | SESSION AUTHORIZATION
//!       | name TO|= list | name TO|= DEFAULT | name FROM CURRENT | TIME ZONE value | CATALOG text | SCHEMA text
//!       | NAMES [value]  | ROLE name | SESSION AUTHORIZATION name | DEFAULT      | XML OPTION what
//! ```
//!
//! What a scope is in front of makes no difference to what may follow it. A value that cannot be spelled out (an
//! escape, a text that goes on in the next line) is a value all the same.

use super::settings::{AUTHORIZATION, Said, Settings, is_assignment, name};
use super::tokens::Token;

/// Settings that `SET SESSION CHARACTERISTICS` sets.
const CHARACTERISTICS: [&str; 3] = [
    "default_transaction_isolation",
    "default_transaction_read_only",
    "default_transaction_deferrable",
];

impl Settings {
    /// Behind `SET`. `false`: it cannot be read.
    pub(super) fn set(&mut self, tokens: &[Token<'_>]) -> bool {
        let qualified = tokens.get(1) == Some(&Token::Punct(b'.'));
        match tokens {
            [word, ..] if !qualified && word.is("constraints") => true,
            [word, next, ..]
                if word.is("session")
                    && !(next.is("characteristics") || next.is("authorization")) =>
            {
                if qualified {
                    self.rest(tokens, false)
                } else {
                    self.rest(&tokens[1..], false)
                }
            }
            [word, rest @ ..] if !qualified && word.is("local") => self.rest(rest, true),
            _ => self.rest(tokens, false),
        }
    }

    /// Behind the scope.
    fn rest(&mut self, tokens: &[Token<'_>], local: bool) -> bool {
        match tokens {
            [word, next, ..] if word.is("transaction") && !is_assignment(&tokens[1..]) => {
                // It ends with the transaction; anything else is no SET TRANSACTION.
                matches!(next, Token::Word(_))
            }
            [a, b, ..] if a.is("session") && b.is("characteristics") => {
                for name in CHARACTERISTICS {
                    self.to(name, Said::Unknown, local);
                }
                true
            }
            [a, b, rest @ ..] if a.is("session") && b.is("authorization") => {
                self.authorization(rest, local)
            }
            [a, b, rest @ ..] if a.is("time") && b.is("zone") => {
                let default = rest.first().is_some_and(|w| w.is("default") || w.is("local"));
                self.to("timezone", if default { Said::Default } else { items(rest) }, local);
                true
            }
            [a, b, ..] if a.is("xml") && b.is("option") => {
                self.to("xmloption", Said::Unknown, local);
                true
            }
            [a, rest @ ..] if a.is("names") && !is_assignment(rest) => {
                let default = rest.first().is_none_or(|word| word.is("default"));
                self.to(
                    "client_encoding",
                    if default { Said::Default } else { items(rest) },
                    local,
                );
                true
            }
            [a, value, ..] if a.is("schema") && !is_assignment(&tokens[1..]) && *value != DOT => {
                self.to("search_path", items(&tokens[1..]), local);
                true
            }
            [a, rest @ ..]
                if a.is("role") && !is_assignment(rest) && rest.first() != Some(&DOT) =>
            {
                self.to("role", items(rest), local);
                true
            }
            _ => self.generic(tokens, local),
        }
    }

    /// A name and its value. `false`: there is none.
    fn generic(&mut self, tokens: &[Token<'_>], local: bool) -> bool {
        let Some((name, rest)) = name(tokens) else { return false };
        let value = match rest {
            [_, word] if word.is("default") => Said::Default,
            [_, value @ ..] if is_assignment(rest) => items(value),
            _ => Said::Unknown,
        };
        // Behind `DEFAULT` nothing may follow; where something does, PostgreSQL refuses it.
        let default = rest.get(1).is_some_and(|word| word.is("default"));
        self.to(&name, if default { Said::Default } else { value }, local);
        true
    }

    fn to(&mut self, name: &str, value: Said, local: bool) {
        if local {
            self.local.push(name.into());
            self.local_reset.retain(|reset| **reset != *name);
            if value == Said::Default {
                self.local_reset.push(name.into());
            }
        } else if value == Said::Default {
            self.name_reset(name);
        } else {
            self.name(name);
        }
        self.assigned(name, value, local);
    }

    fn authorization(&mut self, tokens: &[Token<'_>], local: bool) -> bool {
        let default = tokens.first().is_some_and(|word| word.is("default"));
        match (default, local) {
            (true, false) => {
                self.authorization_reset();
                self.assigned("role", Said::Default, false);
            }
            (_, true) => self.local.push(AUTHORIZATION.into()),
            (false, false) => self.authorizes(),
        }
        true
    }

    /// Behind `RESET`. `false`: it cannot be read.
    pub(super) fn reset(&mut self, tokens: &[Token<'_>]) -> bool {
        self.resets = true;
        let named = match tokens {
            [word] if word.is("all") => {
                self.reset_all();
                return true;
            }
            [a, b, ..] if a.is("session") && b.is("authorization") => {
                self.authorization_reset();
                self.assigned("role", Said::Default, false);
                return true;
            }
            [a, b, ..] if a.is("time") && b.is("zone") => Some("timezone".to_owned()),
            [a, b, ..] if a.is("transaction") && b.is("isolation") => return true,
            _ => name(tokens).map(|(name, _)| name),
        };
        let Some(named) = named else { return false };
        self.name_reset(&named);
        self.assigned(&named, Said::Default, false);
        true
    }
}

const DOT: Token<'static> = Token::Punct(b'.');

/// The items of a list of values, if all of them can be read.
fn items(tokens: &[Token<'_>]) -> Said {
    let item = |tokens: &[Token<'_>]| match tokens {
        [Token::Word(word)] => Some(String::from_utf8(word.to_vec()).ok()?.to_ascii_lowercase()),
        [Token::Quoted(text) | Token::Text(text)] => String::from_utf8(text.to_vec()).ok(),
        _ => None,
    };
    let list = tokens.split(|token| *token == Token::Punct(b','));
    list.map(item).collect::<Option<Vec<_>>>().map_or(Said::Unknown, Said::Items)
}
