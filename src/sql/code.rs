//! The settings that a `DO` changes: PL/pgSQL, and what its `EXECUTE`s run.

use super::computed::{Computed, IDENTIFIER, LITERAL};
use super::settings::{PG_SETTINGS, Said};
use super::tokens::{Token, tokens};
use super::{Flag, Flags, Lexer, Settings};

/// Longest `DO` inside a `DO`, or text in an `EXECUTE`, that is followed.
const DEPTH_MAX: u8 = 4;

/// What may set anything, by a name or in a text that nobody can read.
const HIDES: Flags = Flags::one(Flag::UnicodeIdentifier)
    .union(Flags::one(Flag::RunsText))
    .union(Flags::one(Flag::LongDollarTag));

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
        if tokens.contains(&Token::Opaque) {
            // `U&'...' UESCAPE '!'`
            self.give_up("DO with escapes");
        }
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
        let mut lexer = Lexer::new();
        lexer.feed(body);
        if lexer.finish().intersects(HIDES) {
            self.give_up("DO that hides what it runs");
        }
        for statement in tokens.split(|token| *token == Token::Punct(b';')) {
            self.updates_settings(statement);
        }
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
                if !is_of_update(&tokens[..at]) && !moves(&tokens[..at], statement) {
                    self.set(statement);
                }
            } else if token.is("reset") {
                self.reset(statement);
            } else if token.is("do") && is_block(statement) {
                self.block(statement, depth + 1);
            } else if token.is("execute") && !is_no_statement(&tokens[..at], rest) {
                let is_loop = at > 0 && tokens[at - 1].is("in");
                self.execute(
                    rest,
                    if is_loop { &["using", "loop"] } else { &["using", "into"] },
                    depth,
                );
            }
        }
    }

    /// Behind `EXECUTE`: a text, perhaps with pieces put in, up to one of these words.
    fn execute(&mut self, tokens: &[Token<'_>], ends: &[&str], depth: u8) {
        let text = Computed::of(tokens, ends).filter(Computed::can_be_read);
        match text {
            Some(computed) => {
                if computed.may_update_settings() {
                    self.assigned(PG_SETTINGS, Said::Unknown, false);
                }
                self.code(&computed.text, depth + 1);
            }
            None => self.give_up("EXECUTE in a DO block"),
        }
    }
}

/// Whether this follows the `DO` of a block, and not that of `ON CONFLICT` or of a rule.
fn is_block(tokens: &[Token<'_>]) -> bool {
    match tokens {
        [Token::Text(_) | Token::Opaque, ..] => true,
        [word, ..] => word.is("language"),
        [] => false,
    }
}

/// Whether an `EXECUTE` is the privilege, `GRANT EXECUTE ON`, or a trigger's, `FOR EACH ROW EXECUTE FUNCTION f()`: a variable
/// of PL/pgSQL may be called `function`, but its `EXECUTE` never stands behind these words.
fn is_no_statement(before: &[Token<'_>], behind: &[Token<'_>]) -> bool {
    let first_is = |words: &[&str]| {
        behind.first().is_some_and(|first| words.iter().any(|word| first.is(word)))
    };
    let each = before
        .last()
        .is_some_and(|last| last.is("row") || last.is("statement") || *last == Token::Punct(b')'));
    first_is(&["on"]) || (each && first_is(&["function", "procedure"]))
}

/// Whether a `SET` is that of `ALTER TABLE [IF EXISTS] name SET SCHEMA name`, or another of such an object's. Words that end the head of
/// a statement of PL/pgSQL's are none of its names.
fn moves(before: &[Token<'_>], behind: &[Token<'_>]) -> bool {
    const KINDS: [&str; 7] =
        ["table", "view", "sequence", "type", "domain", "materialized", "foreign"];
    let Some(alter) = before.iter().rposition(|token| token.is("alter")) else { return false };
    let [kind, names @ ..] = &before[alter + 1..] else { return false };
    KINDS.iter().any(|it| kind.is(it))
        && names.iter().all(is_name)
        && behind.first().is_some_and(|word| word.is("schema"))
        && !behind.iter().skip(1).any(|token| matches!(token, Token::Text(_)))
}

/// Whether it may be a name, or a part of one, in the head of a statement.
fn is_name(token: &Token<'_>) -> bool {
    const NO_ALIAS: [&str; 6] = ["then", "loop", "else", "begin", "exception", "when"];
    match token {
        Token::Word(_) => !NO_ALIAS.iter().any(|word| token.is(word)),
        Token::Quoted(_) | Token::Punct(b'.' | b'*') => true,
        Token::Punct(byte) => [IDENTIFIER, LITERAL].contains(byte),
        _ => false,
    }
}

/// Whether a `SET`, with what stands before it, is an `UPDATE`'s: `UPDATE [ONLY] name [*] [[AS] alias] SET`.
fn is_of_update(before: &[Token<'_>]) -> bool {
    let update = before.iter().rposition(|token| token.is("update"));
    update.is_some_and(|at| before[at + 1..].iter().all(is_name))
}
