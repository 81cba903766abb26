//! A RESET beside other statements of the same text, which are one transaction: nothing can be put in between.

use super::Settings;
use super::tokens::{Token, tokens};

/// Statements that leave nothing to be done when their transaction ends.
const IDLE: [&str; 15] = [
    "abort",
    "begin",
    "close",
    "commit",
    "deallocate",
    "discard",
    "end",
    "listen",
    "release",
    "reset",
    "rollback",
    "savepoint",
    "set",
    "show",
    "unlisten",
];

/// What a text with a RESET does besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beside {
    /// Nothing that matters: there is no RESET, or nothing of a client's runs behind it.
    Nothing,
    /// Statements behind it.
    Behind,
    /// Statements before it, which may leave work for the end of the transaction: a cursor WITH HOLD is filled then, and
    /// deferred triggers run.
    Before,
}

/// What stands beside the resets of a text.
#[must_use]
pub fn resets_beside(text: &[u8]) -> Beside {
    let Some(tokens) = tokens(text) else { return Beside::Behind };
    let statements: Vec<&[Token<'_>]> =
        tokens.split(|token| *token == Token::Punct(b';')).filter(|s| !s.is_empty()).collect();
    let Some((last, before)) = statements.split_last() else { return Beside::Nothing };
    if before.iter().any(|statement| resets(statement)) {
        Beside::Behind
    } else if resets(last) && !before.iter().all(|statement| is_idle(statement)) {
        Beside::Before
    } else {
        Beside::Nothing
    }
}

fn resets(statement: &[Token<'_>]) -> bool {
    let mut settings = Settings::default();
    settings.statement(statement);
    settings.anywhere(statement);
    settings.resets
}

/// Whether the end of the transaction has nothing to do for a statement. asyncpg resets a session behind
/// `SELECT pg_advisory_unlock_all()`.
fn is_idle(statement: &[Token<'_>]) -> bool {
    let Some((first, rest)) = statement.split_first() else { return true };
    if first.is("select") {
        return match rest {
            [function, Token::Punct(b'('), Token::Punct(b')')] => {
                function.is("pg_advisory_unlock_all")
            }
            rest => rest.iter().all(|token| {
                matches!(token, Token::Number(_) | Token::Text(_) | Token::Punct(b','))
            }),
        };
    }
    IDLE.iter().any(|idle| first.is(idle))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_leaves_nothing_behind_may_stand_beside_a_reset() {
        for (text, beside) in [
            ("reset role", Beside::Nothing),
            ("reset role;", Beside::Nothing),
            ("select 1; select f()", Beside::Nothing),
            ("select pg_advisory_unlock_all(); close all; unlisten *; reset all;", Beside::Nothing),
            ("select 1, 'x'; reset all", Beside::Nothing),
            ("abort; reset all", Beside::Nothing),
            ("reset role; table umbra.notes", Beside::Behind),
            ("discard all; select 1", Beside::Behind),
            ("declare h cursor with hold for select f(); reset role", Beside::Before),
            ("insert into t values (1); set role to default", Beside::Before),
            ("select f(); discard all", Beside::Before),
            ("select f(1); set session authorization default", Beside::Before),
            ("select 1 union select f(); reset all", Beside::Before),
            ("with x as (select 1) select 1; reset role", Beside::Before),
            ("select 'unterminated; reset role", Beside::Behind),
        ] {
            assert_eq!(resets_beside(text.as_bytes()), beside, "{text}");
        }
    }
}
