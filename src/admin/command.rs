//! What an operator can say, PgBouncer's words where PgBouncer has the thing.

use super::Change;
use super::show::Show;
use super::tokens::{Token, commands};
use crate::config::Right;
use crate::wire::build::ColumnType;

/// A command of the console.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Command {
    /// `RELOAD`: the configuration is read again, and the registry asked.
    Reload,
    /// `RECONNECT [database]`: servers, of all databases or of one, are closed when their clients let go.
    Reconnect {
        /// The one.
        database: Option<String>,
    },
    /// `KILL TENANT x`: its clients are disconnected now.
    KillTenant(String),
    /// `KILL_CLIENT id`: that client is.
    KillClient(i32),
    /// `PAUSE TENANT x` and the like, `SET TENANT x key = value`.
    Tenant {
        /// The tenant's name.
        name: String,
        /// What is to hold for it.
        change: Change,
    },
    /// `SHOW ...`.
    Show(Show),
}

/// For `SHOW HELP` and for hints.
pub(super) const KNOWN: &str = "RELOAD, RECONNECT [database], PAUSE | RESUME | SUSPEND | DRAIN TENANT x, SET TENANT x key = value, RESET TENANT x, KILL TENANT x, KILL_CLIENT id, SHOW VERSION | HELP | STATE | LISTS | POOLS | DATABASES | TENANTS | CLIENTS | OVERRIDES";

impl Command {
    /// The command in a text that holds no more than one.
    pub(super) fn only(text: &str) -> Option<Self> {
        match &*commands(text)? {
            [words] => Self::parse(words),
            _ => None,
        }
    }

    /// Reads one command from its words. Keywords may be in any case.
    pub(super) fn parse(words: &[Token]) -> Option<Self> {
        let [first, rest @ ..] = words else { return None };
        match (keyword(first)?.as_str(), rest) {
            ("reload", []) => Some(Self::Reload),
            ("reconnect", []) => Some(Self::Reconnect { database: None }),
            ("reconnect", [database]) => Some(Self::Reconnect { database: Some(name(database)?) }),
            ("kill_client", [Token::Word(id)]) => Some(Self::KillClient(id.parse().ok()?)),
            ("kill", [tenant, whom]) if keyword(tenant)? == "tenant" => {
                Some(Self::KillTenant(name(whom)?))
            }
            ("show", [what]) => Show::parse(&keyword(what)?).map(Self::Show),
            (verb, [tenant, whom, rest @ ..]) if keyword(tenant)? == "tenant" => {
                Some(Self::Tenant { name: name(whom)?, change: change(verb, rest)? })
            }
            _ => None,
        }
    }

    /// The right it needs.
    pub(super) const fn right(&self) -> Right {
        match self {
            Self::Show(_) => Right::Show,
            Self::Reload
            | Self::Reconnect { .. }
            | Self::KillTenant(_)
            | Self::KillClient(_)
            | Self::Tenant { .. } => Right::All,
        }
    }

    /// The columns of what it gives, if it gives rows.
    pub(super) fn columns(&self) -> Option<&'static [(&'static str, ColumnType)]> {
        match self {
            Self::Show(show) => Some(show.columns()),
            Self::Reload
            | Self::Reconnect { .. }
            | Self::KillTenant(_)
            | Self::KillClient(_)
            | Self::Tenant { .. } => None,
        }
    }
}

fn change(verb: &str, rest: &[Token]) -> Option<Change> {
    let state = |state: &str| Change::Set { key: "state".to_owned(), value: state.into() };
    match (verb, rest) {
        ("pause", []) => Some(state("paused")),
        ("suspend", []) => Some(state("suspended")),
        ("drain", []) => Some(state("draining")),
        ("resume", []) => Some(Change::Resume),
        ("reset", []) => Some(Change::Reset),
        ("set", [key, Token::Equals, value]) => {
            Some(Change::Set { key: name(key)?, value: self::value(value)? })
        }
        _ => None,
    }
}

fn keyword(token: &Token) -> Option<String> {
    match token {
        Token::Word(word) => Some(word.to_ascii_lowercase()),
        Token::Name(_) | Token::Text(_) | Token::Equals => None,
    }
}

/// An identifier by PostgreSQL's rules: folded to lower case unless it is quoted.
fn name(token: &Token) -> Option<String> {
    match token {
        Token::Word(word) => Some(word.to_ascii_lowercase()),
        Token::Name(name) => Some(name.clone()),
        Token::Text(_) | Token::Equals => None,
    }
}

/// A number or a truth value as such, everything else as a text.
fn value(token: &Token) -> Option<toml::Value> {
    match token {
        Token::Word(word) => Some(match (word.parse::<i64>(), word.parse::<bool>()) {
            (Ok(number), _) => number.into(),
            (_, Ok(truth)) => truth.into(),
            _ => word.as_str().into(),
        }),
        Token::Text(text) => Some(text.as_str().into()),
        Token::Name(_) | Token::Equals => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<Vec<Option<Command>>> {
        Some(commands(text)?.iter().map(|words| Command::parse(words)).collect())
    }

    #[test]
    fn every_command_is_on_its_page() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/console.md");
        let page = std::fs::read_to_string(page).unwrap();
        let words = KNOWN.split(|c: char| !(c.is_ascii_uppercase() || c == '_'));
        for word in words.filter(|word| word.len() > 1) {
            assert!(page.contains(word), "{word} is missing from docs/console.md");
        }
    }

    #[test]
    fn words_are_read_in_any_case_and_nothing_is_guessed() {
        let reconnect = |name: &str| Some(Command::Reconnect { database: Some(name.to_owned()) });
        let tenant = |name: &str, change| Some(Command::Tenant { name: name.to_owned(), change });
        let set = |key: &str, value: toml::Value| Change::Set { key: key.to_owned(), value };
        for (text, command) in [
            ("Reload", Some(Command::Reload)),
            ("reload now", None),
            ("RECONNECT", Some(Command::Reconnect { database: None })),
            ("reconnect Sales", reconnect("sales")),
            ("reconnect \"Sa\"\"les\"", reconnect("Sa\"les")),
            ("reconnect 'sales'", None),
            ("SHOW  version", Some(Command::Show(Show::Version))),
            ("show Tenants", Some(Command::Show(Show::Tenants))),
            ("kill tenant acme", Some(Command::KillTenant("acme".to_owned()))),
            ("KILL_CLIENT 17", Some(Command::KillClient(17))),
            ("kill_client acme", None),
            ("kill acme", None),
            ("show tables", None),
            ("select 1", None),
            ("= =", None),
            ("pause tenant Acme", tenant("acme", set("state", "paused".into()))),
            ("pause tenant", None),
            ("pause tenant acme now", None),
            ("resume tenant \"b;c\"", tenant("b;c", Change::Resume)),
            ("reset tenant acme", tenant("acme", Change::Reset)),
            ("set tenant acme weight=5", tenant("acme", set("weight", 5.into()))),
            (
                "set tenant acme message = 'it''s; late'",
                tenant("acme", set("message", "it's; late".into())),
            ),
            ("set tenant acme weight", None),
            ("set tenant acme weight = 5 6", None),
            ("set acme weight = 5", None),
        ] {
            assert_eq!(read(text), Some(vec![command]), "{text:?}");
        }
        assert_eq!(read(" ;\n; "), Some(vec![]));
        assert_eq!(read("reload;; show help;").unwrap().len(), 2);
        assert_eq!(read("reconnect \"sales"), None);
        assert_eq!(read("set tenant acme message = 'open"), None);
    }
}
