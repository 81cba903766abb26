//! What an operator can say, PgBouncer's words where PgBouncer has the thing.

use super::show::Show;
use crate::wire::build::ColumnType;

/// A command of the console.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Command {
    /// Nothing between two semicolons.
    Empty,
    /// `RELOAD`: the configuration is read again, and the registry asked.
    Reload,
    /// `RECONNECT [database]`: servers, of all databases or of one, are closed when their clients let go.
    Reconnect {
        /// The one.
        database: Option<String>,
    },
    /// `SHOW ...`.
    Show(Show),
}

/// For `SHOW HELP` and for hints.
pub(super) const KNOWN: &str = "RELOAD, RECONNECT [database], SHOW VERSION, SHOW HELP, SHOW STATE, SHOW LISTS, SHOW POOLS, SHOW DATABASES, SHOW TENANTS";

impl Command {
    /// Reads one command. Words may be in any case, a database's name in double quotes.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let is =
            |at: usize, word: &str| words.get(at).is_some_and(|w| w.eq_ignore_ascii_case(word));
        match words.len() {
            0 => Some(Self::Empty),
            1 if is(0, "reload") => Some(Self::Reload),
            1 if is(0, "reconnect") => Some(Self::Reconnect { database: None }),
            2 if is(0, "reconnect") => Some(Self::Reconnect { database: Some(name(words[1])?) }),
            2 if is(0, "show") => Show::parse(words[1]).map(Self::Show),
            _ => None,
        }
    }
}

impl Command {
    /// The columns of what it gives, if it gives rows.
    pub(super) fn columns(&self) -> Option<&'static [(&'static str, ColumnType)]> {
        match self {
            Self::Show(show) => Some(show.columns()),
            Self::Empty | Self::Reload | Self::Reconnect { .. } => None,
        }
    }
}

/// An identifier by PostgreSQL's rules: folded to lower case unless it is quoted.
fn name(word: &str) -> Option<String> {
    match word.strip_prefix('"') {
        Some(rest) => Some(rest.strip_suffix('"')?.replace("\"\"", "\"")),
        None => Some(word.to_ascii_lowercase()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_in_any_case_and_nothing_is_guessed() {
        let reconnect = |name: &str| Some(Command::Reconnect { database: Some(name.to_owned()) });
        for (text, command) in [
            (" \n", Some(Command::Empty)),
            ("Reload", Some(Command::Reload)),
            ("reload now", None),
            ("RECONNECT", Some(Command::Reconnect { database: None })),
            ("reconnect Sales", reconnect("sales")),
            ("reconnect \"Sa\"\"les\"", reconnect("Sa\"les")),
            ("reconnect \"sales", None),
            ("SHOW  version", Some(Command::Show(Show::Version))),
            ("show Tenants", Some(Command::Show(Show::Tenants))),
            ("show tables", None),
            ("select 1", None),
        ] {
            assert_eq!(Command::parse(text), command, "{text:?}");
        }
    }
}
