//! Which settings may a flagged text have changed? The server is asked for exactly these.
//!
//! Promises: a setting that the text changes is named, or `all` says that any of PostgreSQL's own
//! may have changed, or `unknown` says that nobody can tell. Naming too many does no harm. What a
//! function does inside is seen by nobody.

use super::tokens::{Token, tokens};
use super::{Flag, Flags};

/// The settings a text may have changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// Their names, in lower case. Some may be no settings at all.
    pub names: Vec<Box<str>>,
    /// Names of those it sets for the transaction only.
    pub local: Vec<Box<str>>,
    /// Parameters (`$1` is 1) whose values are names: `set_config($1, ...)`.
    pub parameters: Vec<u16>,
    /// Any of those that PostgreSQL lists may have changed.
    pub all: bool,
    /// Some may have gone back to the server's default.
    pub resets: bool,
    /// All of them did, before those of `names` that are not in `reset` were set.
    pub resets_all: bool,
    /// The role has gone back to the login role's own.
    pub resets_role: bool,
    /// It may begin a COPY.
    pub copies: bool,
    /// Those of `names` whose last word is a RESET.
    pub reset: Vec<Box<str>>,
    /// Tables may have been made in the schema of temporary ones.
    pub temporary: bool,
    /// Why nobody can tell.
    pub unknown: Option<&'static str>,
}

/// The setting behind `SET SESSION AUTHORIZATION`: it takes the role with it.
pub const AUTHORIZATION: &str = "session_authorization";

/// Stands for a name that is not in the text; no setting has it.
pub const COMPUTED: &str = "(computed)";

/// Longest identifier, in bytes: `NAMEDATALEN` less its end.
const NAME_LEN_MAX: usize = 63;

impl Settings {
    /// Reads a whole text for which the lexer has raised `flags`.
    #[must_use]
    pub fn of(text: &[u8], flags: Flags) -> Self {
        let mut settings = Self {
            all: [Flag::Do, Flag::Call, Flag::PgSettings].iter().any(|f| flags.contains(*f)),
            ..Self::default()
        };
        if flags.intersects(Flags::SETTINGS.union(Flags::one(Flag::SetLocal))) {
            settings.text(text);
        }
        settings
    }

    fn text(&mut self, text: &[u8]) {
        let Some(tokens) = tokens(text) else { return self.give_up("unterminated quote") };
        self.temporary |= tokens.iter().any(may_say_temporary);
        self.copies |= tokens.iter().any(|token| token.is("copy"));
        for statement in tokens.split(|token| *token == Token::Punct(b';')) {
            self.statement(statement);
        }
        self.anywhere(&tokens);
    }

    fn statement(&mut self, tokens: &[Token<'_>]) {
        let Some((first, rest)) = tokens.split_first() else { return };
        if first.is("set") {
            if !self.set(rest) {
                self.give_up("SET");
            }
        } else if first.is("reset") {
            if !self.reset(rest) {
                self.give_up("RESET");
            }
        } else if first.is("discard") {
            if rest.first().is_none_or(|what| what.is("all")) {
                self.reset_all();
            }
        } else if first.is("do") {
            self.block(rest, 0);
        }
    }

    pub(super) fn give_up(&mut self, why: &'static str) {
        self.unknown.get_or_insert(why);
    }

    /// `name` is set to something.
    fn name(&mut self, name: &str) -> bool {
        if name == AUTHORIZATION {
            self.authorizes();
        } else if !is_followed(name) {
            self.give_up("setting with such a name");
        } else if !self.names.iter().any(|known| **known == *name) {
            self.names.push(name.into());
        }
        self.reset.retain(|reset| **reset != *name);
        true
    }

    /// `name` goes back to its default.
    fn name_reset(&mut self, name: &str) -> bool {
        self.resets = true;
        self.name(name);
        self.reset.push(name.into());
        self.resets_role |= name == "role";
        true
    }

    /// The session user is the login role again, and so is the role.
    fn authorization_reset(&mut self) -> bool {
        (self.resets, self.resets_role) = (true, true);
        self.name("role")
    }

    fn reset_all(&mut self) {
        (self.all, self.resets, self.resets_all) = (true, true, true);
        self.reset.clone_from(&self.names);
    }

    /// Behind `SET`. `false`: it cannot be read.
    pub(super) fn set(&mut self, tokens: &[Token<'_>]) -> bool {
        let qualified = tokens.get(1) == Some(&Token::Punct(b'.'));
        match tokens {
            [scope, ..]
                if !qualified
                    && ["local", "transaction", "constraints"].iter().any(|w| scope.is(w)) =>
            {
                match &tokens[1..] {
                    [a, b, ..] if a.is("session") && b.is("authorization") => {
                        self.local.push(AUTHORIZATION.into());
                    }
                    rest => self.local.extend(name(rest).map(|(name, _)| name.into())),
                }
                // Anything else is a syntax error, or not what it looks like.
                matches!(tokens.get(1), Some(Token::Word(_) | Token::Quoted(_)))
            }
            [scope, rest @ ..] if !qualified && scope.is("session") => match rest {
                [word, ..] if word.is("characteristics") => {
                    ["isolation", "read_only", "deferrable"]
                        .iter()
                        .all(|what| self.name(&format!("default_transaction_{what}")))
                }
                [word, ..] if word.is("authorization") => self.authorization(&rest[1..]),
                _ => self.one(rest),
            },
            _ => self.one(tokens),
        }
    }

    fn authorization(&mut self, tokens: &[Token<'_>]) -> bool {
        if tokens.first().is_some_and(|word| word.is("default")) {
            return self.authorization_reset();
        }
        self.authorizes();
        true
    }

    /// Another session user: its role is gone too, and only `DISCARD ALL` leads back for sure.
    fn authorizes(&mut self) {
        self.give_up("SET SESSION AUTHORIZATION");
        self.names.push(AUTHORIZATION.into());
    }

    /// A setting and its value.
    fn one(&mut self, tokens: &[Token<'_>]) -> bool {
        match tokens {
            [a, b, rest, ..]
                if a.is("time") && b.is("zone") && (rest.is("default") || rest.is("local")) =>
            {
                self.name_reset("timezone")
            }
            [a, b, ..] if a.is("time") && b.is("zone") => self.name("timezone"),
            [a, b, ..] if a.is("xml") && b.is("option") => self.name("xmloption"),
            [a, rest @ ..] if a.is("names") && !is_assignment(rest) => match rest.first() {
                Some(word) if !word.is("default") => self.name("client_encoding"),
                _ => self.name_reset("client_encoding"),
            },
            [a, Token::Text(_), ..] if a.is("schema") => self.name("search_path"),
            [a, ..] if a.is("seed") => {
                self.give_up("SET SEED");
                true
            }
            [a, rest @ ..] if a.is("role") && !is_assignment(rest) => self.name("role"),
            _ => match name(tokens) {
                Some((name, rest)) if rest.get(1).is_some_and(|word| word.is("default")) => {
                    self.name_reset(&name)
                }
                Some((name, _)) => self.name(&name),
                None => false,
            },
        }
    }

    /// Behind `RESET`. `false`: it cannot be read.
    pub(super) fn reset(&mut self, tokens: &[Token<'_>]) -> bool {
        self.resets = true;
        match tokens {
            [word] if word.is("all") => {
                self.reset_all();
                true
            }
            [a, b, ..] if a.is("session") && b.is("authorization") => self.authorization_reset(),
            [a, b, ..] if a.is("time") && b.is("zone") => self.name_reset("timezone"),
            [a, b, ..] if a.is("transaction") && b.is("isolation") => true,
            _ => match name(tokens) {
                Some((name, _)) => self.name_reset(&name),
                None => false,
            },
        }
    }

    /// What may stand in any statement.
    pub(super) fn anywhere(&mut self, tokens: &[Token<'_>]) {
        for (at, token) in tokens.iter().enumerate() {
            for name in ["client_encoding", "standard_conforming_strings"] {
                if token.names(name) {
                    self.name(name);
                }
            }
            if token.names("set_config") && tokens.get(at + 1) == Some(&Token::Punct(b'(')) {
                self.set_config(&tokens[at + 2..]);
            }
        }
    }

    /// Behind `set_config(`.
    fn set_config(&mut self, tokens: &[Token<'_>]) {
        let Some(arguments) = arguments(tokens) else { return self.give_up("set_config") };
        // A computed value may be the path to anywhere.
        self.temporary |=
            !matches!(arguments.get(1), Some([Token::Text(_), cast @ ..]) if is_cast(cast));
        let is_true = |token: &Token<'_>| {
            token.is("true") || matches!(token, Token::Text(t) if matches!(&**t, b"t" | b"true"))
        };
        match arguments.as_slice() {
            // For the transaction only.
            [[Token::Text(name), cast @ ..], _, [local]] if is_true(local) && is_cast(cast) => {
                let name = String::from_utf8_lossy(name).to_ascii_lowercase();
                self.local.push(name.into());
            }
            [_, _, [local]] if is_true(local) => self.local.push(COMPUTED.into()),
            [[Token::Text(name), cast @ ..], _, _] if is_cast(cast) => {
                match std::str::from_utf8(name) {
                    Ok(name) => drop(self.name(&name.to_ascii_lowercase())),
                    Err(_) => self.give_up("set_config"),
                }
            }
            [[Token::Parameter(number), cast @ ..], _, _] if is_cast(cast) => {
                self.parameters.push(*number);
            }
            _ => self.give_up("set_config of a computed name"),
        }
    }
}

/// Whether a name can be asked for and set again. PostgreSQL folds and cuts others as the database's
/// encoding wants it.
fn is_followed(name: &str) -> bool {
    name.is_ascii() && name.len() <= 127 && name.split('.').all(|part| part.len() <= NAME_LEN_MAX)
}

/// `TO` or `=`: what stands before is the name of a setting.
fn is_assignment(tokens: &[Token<'_>]) -> bool {
    tokens.first().is_some_and(|token| token.is("to") || *token == Token::Punct(b'='))
}

/// A dotted name in lower case, and what is behind it.
pub(super) fn name<'t, 'a>(mut tokens: &'t [Token<'a>]) -> Option<(String, &'t [Token<'a>])> {
    let mut name = String::new();
    loop {
        let part = match tokens.first()? {
            Token::Word(word) => word,
            Token::Quoted(quoted) => &**quoted,
            _ => return None,
        };
        let part = std::str::from_utf8(part).ok()?.to_ascii_lowercase();
        // PostgreSQL cuts what is longer, and says so.
        name.push_str(part.get(..NAME_LEN_MAX).filter(|_| part.is_ascii()).unwrap_or(&part));
        tokens = &tokens[1..];
        match tokens.split_first() {
            Some((Token::Punct(b'.'), rest)) => {
                name.push('.');
                tokens = rest;
            }
            _ => return Some((name, tokens)),
        }
    }
}

/// The arguments up to the closing bracket.
pub(super) fn arguments<'t, 'a>(tokens: &'t [Token<'a>]) -> Option<Vec<&'t [Token<'a>]>> {
    let (mut arguments, mut start, mut depth) = (Vec::new(), 0, 0_usize);
    for (at, token) in tokens.iter().enumerate() {
        match token {
            Token::Punct(b'(' | b'[') => depth += 1,
            Token::Punct(b')') if depth == 0 => {
                arguments.push(&tokens[start..at]);
                return Some(arguments);
            }
            Token::Punct(b')' | b']') => depth = depth.checked_sub(1)?,
            Token::Punct(b',') if depth == 0 => {
                arguments.push(&tokens[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    None
}

/// Whether a text holds the name of the schema of temporary objects, or may.
fn may_say_temporary(token: &Token<'_>) -> bool {
    let says = |text: &[u8]| {
        let name = b"pg_temp";
        text.windows(name.len()).any(|part| part.eq_ignore_ascii_case(name))
    };
    match token {
        Token::Word(text) => says(text),
        Token::Quoted(text) | Token::Text(text) => says(text),
        Token::Opaque => true,
        Token::Number(_) | Token::Parameter(_) | Token::Punct(_) => false,
    }
}

/// Nothing, or `::type`.
fn is_cast(tokens: &[Token<'_>]) -> bool {
    let colon = Token::Punct(b':');
    match tokens {
        [] => true,
        [a, b, Token::Word(_)] => *a == colon && *b == colon,
        _ => false,
    }
}

/// Whether a text of several statements has one that resets a setting and others behind it.
#[must_use]
pub fn resets_inside(text: &[u8]) -> bool {
    let Some(tokens) = tokens(text) else { return true };
    let statements: Vec<&[Token<'_>]> =
        tokens.split(|token| *token == Token::Punct(b';')).filter(|s| !s.is_empty()).collect();
    let [before @ .., _last] = statements.as_slice() else { return false };
    before.iter().any(|statement| {
        let mut settings = Settings::default();
        settings.statement(statement);
        settings.anywhere(statement);
        settings.resets
    })
}
