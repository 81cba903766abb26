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
    /// Those of `local` whose last word is DEFAULT.
    pub local_reset: Vec<Box<str>>,
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
    /// Those of `names` whose last word is a RESET, or may be one.
    pub reset: Vec<Box<str>>,
    /// Those of `reset` that are set to a computed or bound value, which may be NULL.
    pub may_reset: Vec<Box<str>>,
    /// Tables may have been made in the schema of temporary ones.
    pub temporary: bool,
    /// Each setting, and what it is set to, as far as that can be read; those for the transaction only, too.
    pub assignments: Vec<Assignment>,
    /// It seeds random(), loads a library or opens a connection inside the server, which nothing undoes.
    pub lasts: bool,
    /// A name or a value is cast to a type whose name may be the client's own: a `pg_temp.text` is found before
    /// PostgreSQL's, and may cut it.
    pub casts: bool,
    /// Why nobody can tell.
    pub unknown: Option<&'static str>,
    /// What is being read stands in the body of a DO.
    pub(super) inside: bool,
}

/// A setting that a text sets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// Its name, in lower case.
    pub name: Box<str>,
    /// To what.
    pub value: Said,
    /// For the transaction only.
    pub is_local: bool,
}

/// What a setting is set to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// A list of values or names, most often one.
    Items(Vec<String>),
    /// One text, which is read as a start-up packet's would be: `set_config`.
    Text(String),
    /// Its default.
    Default,
    /// Its default, in the middle of a statement that goes on: `set_config` of NULL, a RESET in a DO.
    DefaultInside,
    /// Nobody can tell from the text.
    Unknown,
}

/// The setting behind `SET SESSION AUTHORIZATION`: it takes the role with it.
pub const AUTHORIZATION: &str = "session_authorization";

/// Stands for a name that is not in the text; no setting has it.
pub const COMPUTED: &str = "(computed)";

/// Stands for any setting: the view `pg_settings` is updated.
pub const PG_SETTINGS: &str = "(pg_settings)";

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
        let readable =
            Flags::SETTINGS.union(Flags::one(Flag::SetLocal)).union(Flags::one(Flag::PgSettings));
        if flags.intersects(readable) {
            settings.text(text);
        }
        settings
    }

    /// Of a text that cannot be read.
    #[must_use]
    pub fn unread(why: Option<&'static str>) -> Self {
        Self { unknown: why, ..Self::default() }
    }

    /// Whether the text only reads.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self { copies: self.copies, ..Self::default() }
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

    pub(super) fn statement(&mut self, tokens: &[Token<'_>]) {
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
        } else {
            self.updates_settings(tokens);
        }
    }

    /// An `UPDATE` of the view `pg_settings`, or a view or rule by which that may be done under another name.
    pub(super) fn updates_settings(&mut self, tokens: &[Token<'_>]) {
        let says = |word: &str| tokens.iter().any(|token| token.is(word));
        let lends_name = || says("alter") || (says("create") && (says("view") || says("rule")));
        if !tokens.iter().any(|token| token.names("pg_settings")) {
            return;
        }
        if says("update") {
            // Which one, its WHERE says.
            let name = named_in_where(tokens).unwrap_or_else(|| PG_SETTINGS.to_owned());
            self.assigned(&name, Said::Unknown, false);
        } else if lends_name() {
            self.assigned(PG_SETTINGS, Said::Unknown, false);
        }
    }

    pub(super) fn give_up(&mut self, why: &'static str) {
        self.unknown.get_or_insert(why);
    }

    /// `name` is set to something.
    pub(super) fn name(&mut self, name: &str) -> bool {
        if name == AUTHORIZATION {
            self.authorizes();
        } else if !is_followed(name) {
            self.give_up("setting with such a name");
        } else if !self.names.iter().any(|known| **known == *name) {
            self.names.push(name.into());
        }
        for reset in [&mut self.reset, &mut self.may_reset, &mut self.local_reset] {
            reset.retain(|reset| **reset != *name);
        }
        true
    }

    /// `name` goes back to its default.
    pub(super) fn name_reset(&mut self, name: &str) -> bool {
        self.resets = true;
        self.name(name);
        self.reset.push(name.into());
        self.resets_role |= name == "role";
        true
    }

    /// The session user is the login role again, and so is the role.
    pub(super) fn authorization_reset(&mut self) -> bool {
        (self.resets, self.resets_role) = (true, true);
        self.name("role")
    }

    pub(super) fn reset_all(&mut self) {
        (self.all, self.resets, self.resets_all) = (true, true, true);
        self.reset.clone_from(&self.names);
        if self.inside {
            self.assigned(PG_SETTINGS, Said::DefaultInside, false);
        }
    }

    /// Another session user: its role is gone too, and only `DISCARD ALL` leads back for sure.
    pub(super) fn authorizes(&mut self) {
        self.give_up("SET SESSION AUTHORIZATION");
        self.names.push(AUTHORIZATION.into());
    }

    /// What may stand in any statement.
    pub(super) fn anywhere(&mut self, tokens: &[Token<'_>]) {
        for (at, token) in tokens.iter().enumerate() {
            if !token.names("set_config") {
                continue;
            }
            if tokens.get(at + 1) == Some(&Token::Punct(b'(')) {
                self.set_config(&tokens[at + 2..], is_first_of_select(&tokens[..at]));
            } else {
                // An aggregate, say, is made that calls it.
                self.give_up("set_config under another name");
            }
        }
    }

    /// Behind `set_config(`.
    fn set_config(&mut self, tokens: &[Token<'_>], is_first: bool) {
        let Some(arguments) = arguments(tokens) else { return self.give_up("set_config") };
        // A computed value may be the path to anywhere.
        self.temporary |=
            !matches!(arguments.get(1), Some([Token::Text(_), cast @ ..]) if is_cast(cast));
        let is_true = |token: &Token<'_>| {
            token.is("true") || matches!(token, Token::Text(t) if matches!(&**t, b"t" | b"true"))
        };
        let [name, value, local] = arguments.as_slice() else { return self.give_up("set_config") };
        self.casts |= [name, value]
            .iter()
            .any(|argument| argument.contains(&Token::Punct(b':')) && !is_cast_to_text(argument));
        let is_local = matches!(local, [token] if is_true(token));
        match name {
            [Token::Text(name), cast @ ..] if is_cast(cast) => match std::str::from_utf8(name) {
                Ok(name) => self.called(&name.to_ascii_lowercase(), value, is_local),
                Err(_) => self.give_up("set_config"),
            },
            [column]
                if column.is("name")
                    && is_first
                    && matches!(value, [Token::Text(_)])
                    && let Some(name) = named_behind(tokens) =>
            {
                self.called(&name, value, is_local);
            }
            _ if is_local => self.local.push(COMPUTED.into()),
            [Token::Parameter(number), cast @ ..] if is_cast(cast) => {
                self.parameters.push(*number);
                self.resets |= !is_text(value);
            }
            _ => {
                // Whatever it is, it may go back to its default.
                (self.all, self.resets) = (true, true);
                self.give_up("set_config of a computed name");
            }
        }
    }

    /// `set_config` of that name. NULL is its default; a bound value may be NULL.
    fn called(&mut self, name: &str, value: &[Token<'_>], is_local: bool) {
        let said = match value {
            [Token::Text(text), cast @ ..] if is_cast(cast) => {
                std::str::from_utf8(text).map_or(Said::Unknown, |text| Said::Text(text.to_owned()))
            }
            [word] if word.is("null") => Said::DefaultInside,
            _ => Said::Unknown,
        };
        if is_local {
            self.local.push(name.into());
            if said == Said::DefaultInside {
                self.local_reset.push(name.into());
            }
        } else if is_text(value) {
            self.name(name);
        } else {
            self.name_reset(name);
            if said != Said::DefaultInside {
                self.may_reset.push(name.into());
            }
        }
        self.assigned(name, said, is_local);
    }

    /// Notes what a setting is set to.
    pub(super) fn assigned(&mut self, name: &str, value: Said, is_local: bool) {
        self.lasts |= name == "seed";
        if name == "seed" {
            self.give_up("SET SEED");
        }
        let value = match value {
            Said::Default if self.inside => Said::DefaultInside,
            value => value,
        };
        self.assignments.push(Assignment { name: name.into(), value, is_local });
    }
}

/// Whether it is a text that stands there, and not NULL or something that may be.
fn is_text(value: &[Token<'_>]) -> bool {
    matches!(value, [Token::Text(_) | Token::Opaque, cast @ ..] if is_cast(cast))
}

/// Whether a name can be asked for and set again. PostgreSQL folds and cuts others as the database's
/// encoding wants it.
fn is_followed(name: &str) -> bool {
    name.is_ascii() && name.len() <= 127 && name.split('.').all(|part| part.len() <= NAME_LEN_MAX)
}

/// `TO` or `=`: what stands before is the name of a setting.
pub(super) fn is_assignment(tokens: &[Token<'_>]) -> bool {
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
        [a, b, Token::Word(_)] | [a, b, Token::Word(_), Token::Punct(b'.'), Token::Word(_)] => {
            *a == colon && *b == colon
        }
        _ => false,
    }
}

/// Something cast to PostgreSQL's own `text`, said so that no other is meant.
fn is_cast_to_text(argument: &[Token<'_>]) -> bool {
    let [.., a, b, schema, Token::Punct(b'.'), text] = argument else { return false };
    let colons = argument.iter().filter(|token| **token == Token::Punct(b':')).count();
    colons == 2
        && *a == Token::Punct(b':')
        && *b == Token::Punct(b':')
        && schema.is("pg_catalog")
        && text.is("text")
}

/// Whether this is all that stands in front of the first item of a SELECT. An item before another one may change what that
/// one reads, in a view that is called `pg_settings`.
fn is_first_of_select(before: &[Token<'_>]) -> bool {
    let statement = before.rsplit(|token| *token == Token::Punct(b';')).next();
    match statement {
        Some([select]) => select.is("select"),
        Some([select, schema, Token::Punct(b'.')]) => {
            select.is("select") && schema.is("pg_catalog")
        }
        _ => false,
    }
}

/// The setting in `set_config(name, ...) FROM pg_settings WHERE name = 'work_mem'`, with which `pg_dump` sets what not every
/// version has. `tokens`: behind the opening bracket.
fn named_behind(tokens: &[Token<'_>]) -> Option<String> {
    let statement = tokens.split(|token| *token == Token::Punct(b';')).next()?;
    let from = statement.iter().position(|token| token.is("from"))?;
    match &statement[from..] {
        [_, view, clause, ..] if view.is("pg_settings") && clause.is("where") => {
            let is_last = statement[..from].last() == Some(&Token::Punct(b')'));
            named_in_where(statement).filter(|_| is_last)
        }
        _ => None,
    }
}

/// The one setting that an `UPDATE pg_settings` may change: `WHERE name = 'work_mem'`, and nothing that widens that.
fn named_in_where(tokens: &[Token<'_>]) -> Option<String> {
    let at = tokens.iter().position(|token| token.is("where"))?;
    match &tokens[at + 1..] {
        [column, Token::Punct(b'='), Token::Text(name)] if column.is("name") => {
            String::from_utf8(name.to_ascii_lowercase()).ok()
        }
        _ => None,
    }
}
