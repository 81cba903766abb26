//! What an operator can say, PgBouncer's words where PgBouncer has the thing.

use super::columns::Column;
use super::courtesy::Courtesy;
use super::show::Show;
use super::tokens::{Token, commands};
use super::{Change, DatabaseChange, Leave};
use crate::config::{Right, State};

/// A command of the console.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Command {
    /// `RELOAD`: the configuration is read again, and the registry asked.
    Reload,
    /// `RECONNECT [database]`: servers, of all databases or of one, are closed when their clients let go.
    Reconnect(Option<String>),
    /// `WAIT_CLOSE [database]`: answers when those are closed.
    WaitClose(Option<String>),
    /// `PAUSE [database]`: transactions wait; answers when no server is left there.
    Pause(Option<String>),
    /// `KILL [database]`: the same, and its clients are disconnected now.
    Kill(Option<String>),
    /// `RESUME [database]`, `SUSPEND database` and the like.
    Database {
        /// The database; `None`: all.
        name: Option<String>,
        /// What is to hold for it.
        change: DatabaseChange,
    },
    /// `KILL TENANT x`: its clients are disconnected now.
    KillTenant(String),
    /// `RECONNECT TENANT x`: servers of the database it lives in are closed when their clients let go.
    ReconnectTenant(String),
    /// `KILL_CLIENT id`: that client is.
    KillClient(i32),
    /// `PAUSE TENANT x` and the like, `SET TENANT x key = value`.
    Tenant {
        /// The tenant's name.
        name: String,
        /// What is to hold for it.
        change: Change,
        /// The word that was said, for the answer.
        word: &'static str,
    },
    /// `SHUTDOWN`, `SHUTDOWN WAIT_FOR_SERVERS`, `SHUTDOWN WAIT_FOR_CLIENTS`.
    Shutdown(Leave),
    /// `SHOW ...`.
    Show(Show),
    /// What drivers say of themselves: it has no meaning here.
    Courtesy(Courtesy),
}

/// For `SHOW HELP` and for hints.
pub(super) const KNOWN: &[&str] = &[
    "RELOAD",
    "PAUSE | RESUME | KILL | RECONNECT | WAIT_CLOSE [database]",
    "SUSPEND | DRAIN | DISABLE | ENABLE database",
    "PAUSE | RESUME | SUSPEND | DRAIN | KILL | RECONNECT | RESET TENANT x",
    "SET TENANT x key = value",
    "KILL_CLIENT id",
    "SHUTDOWN [WAIT_FOR_SERVERS | WAIT_FOR_CLIENTS]",
    "SHOW TENANTS | PINS | OVERRIDES | TENANT x",
    "SHOW STATS | STATS_TOTALS | STATS_AVERAGES | TOTALS",
    "SHOW POOLS | DATABASES | USERS | CLIENTS | SERVERS | LISTS | CONFIG | STATE | VERSION | HELP",
];

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
        if let Some(courtesy) = Courtesy::parse(words) {
            return Some(Self::Courtesy(courtesy));
        }
        let [first, rest @ ..] = words else { return None };
        match (keyword(first)?.as_str(), rest) {
            ("reload", []) => Some(Self::Reload),
            ("wait_close", rest) => Some(Self::WaitClose(optional(rest).ok()?)),
            ("kill_client", [Token::Word(id)]) => Some(Self::KillClient(id.parse().ok()?)),
            ("shutdown", rest) => Leave::parse(rest).map(Self::Shutdown),
            ("show" | "select", [what]) => Show::parse(&keyword(what)?).map(Self::Show),
            ("show", [what, whom]) if keyword(what)? == "tenant" => {
                Some(Self::Show(Show::Tenant(name(whom)?)))
            }
            (verb, [tenant, whom, rest @ ..]) if keyword(tenant).as_deref() == Some("tenant") => {
                match (verb, rest) {
                    ("kill", []) => Some(Self::KillTenant(name(whom)?)),
                    ("reconnect", []) => Some(Self::ReconnectTenant(name(whom)?)),
                    _ => {
                        let (word, change) = change(verb, rest)?;
                        Some(Self::Tenant { name: name(whom)?, change, word })
                    }
                }
            }
            // Not a database of that name, but a tenant that was forgotten.
            (_, [tenant]) if keyword(tenant).as_deref() == Some("tenant") => None,
            ("reconnect", rest) => Some(Self::Reconnect(optional(rest).ok()?)),
            ("pause", rest) => Some(Self::Pause(optional(rest).ok()?)),
            ("kill", rest) => Some(Self::Kill(optional(rest).ok()?)),
            ("resume", rest) => {
                Some(Self::Database { name: optional(rest).ok()?, change: DatabaseChange::Resume })
            }
            (verb, [database]) => {
                let change = DatabaseChange::parse(verb)?;
                Some(Self::Database { name: Some(name(database)?), change })
            }
            _ => None,
        }
    }

    /// The database that it names.
    pub(super) const fn database(&mut self) -> Option<&mut String> {
        match self {
            Self::Reconnect(name)
            | Self::WaitClose(name)
            | Self::Pause(name)
            | Self::Kill(name)
            | Self::Database { name, .. } => name.as_mut(),
            _ => None,
        }
    }

    /// The right it needs.
    pub(super) const fn right(&self) -> Right {
        match self {
            Self::Show(_) | Self::Courtesy(_) => Right::Show,
            Self::Reload
            | Self::Reconnect(_)
            | Self::WaitClose(_)
            | Self::Pause(_)
            | Self::Kill(_)
            | Self::Database { .. }
            | Self::KillTenant(_)
            | Self::ReconnectTenant(_)
            | Self::KillClient(_)
            | Self::Tenant { .. }
            | Self::Shutdown(_) => Right::All,
        }
    }

    /// The columns of what it gives, if it gives rows.
    pub(super) fn columns(&self) -> Option<Vec<Column>> {
        match self {
            Self::Show(show) => Some(show.columns().to_vec()),
            Self::Courtesy(courtesy) => courtesy.columns(),
            Self::Reload
            | Self::Reconnect(_)
            | Self::WaitClose(_)
            | Self::Pause(_)
            | Self::Kill(_)
            | Self::Database { .. }
            | Self::KillTenant(_)
            | Self::ReconnectTenant(_)
            | Self::KillClient(_)
            | Self::Tenant { .. }
            | Self::Shutdown(_) => None,
        }
    }
}

impl Leave {
    fn parse(rest: &[Token]) -> Option<Self> {
        match rest {
            [] => Some(Self::Now),
            [how] => match keyword(how)?.as_str() {
                "wait_for_servers" => Some(Self::WhenServersAreIdle),
                "wait_for_clients" => Some(Self::WhenClientsAreGone),
                _ => None,
            },
            _ => None,
        }
    }
}

impl DatabaseChange {
    fn parse(verb: &str) -> Option<Self> {
        match verb {
            "suspend" => Some(Self::State(State::Suspended)),
            "drain" => Some(Self::State(State::Draining)),
            "disable" => Some(Self::Disable),
            "enable" => Some(Self::Enable),
            _ => None,
        }
    }
}

/// A name, or none.
fn optional(rest: &[Token]) -> Result<Option<String>, ()> {
    match rest {
        [] => Ok(None),
        [database] => name(database).map(Some).ok_or(()),
        _ => Err(()),
    }
}

fn change(verb: &str, rest: &[Token]) -> Option<(&'static str, Change)> {
    let state = |state: &str| Change::Set { key: "state".to_owned(), value: state.into() };
    match (verb, rest) {
        ("pause", []) => Some(("PAUSE", state("paused"))),
        ("suspend", []) => Some(("SUSPEND", state("suspended"))),
        ("drain", []) => Some(("DRAIN", state("draining"))),
        ("resume", []) => Some(("RESUME", Change::Resume)),
        ("reset", []) => Some(("RESET", Change::Reset)),
        ("set", [key, Token::Equals, value]) => {
            Some(("SET", Change::Set { key: name(key)?, value: self::value(value)? }))
        }
        _ => None,
    }
}

pub(super) fn keyword(token: &Token) -> Option<String> {
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
        // A list or a table, as TOML writes it.
        Token::Text(text) if text.starts_with(['[', '{']) => text.parse().ok(),
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
        for known in KNOWN {
            let words = known.split(|c: char| !(c.is_ascii_uppercase() || c == '_'));
            for word in words.filter(|word| word.len() > 1) {
                assert!(page.contains(word), "{word} is missing from docs/console.md");
            }
        }
    }

    #[test]
    fn words_are_read_in_any_case_and_nothing_is_guessed() {
        let reconnect = |name: &str| Some(Command::Reconnect(Some(name.to_owned())));
        let database = |name: Option<&str>, change| {
            Some(Command::Database { name: name.map(str::to_owned), change })
        };
        let tenant = |name: &str, word, change| {
            Some(Command::Tenant { name: name.to_owned(), change, word })
        };
        let set = |key: &str, value: toml::Value| Change::Set { key: key.to_owned(), value };
        for (text, command) in [
            ("Reload", Some(Command::Reload)),
            ("reload now", None),
            ("RECONNECT", Some(Command::Reconnect(None))),
            ("reconnect Sales", reconnect("sales")),
            ("reconnect \"Sa\"\"les\"", reconnect("Sa\"les")),
            ("reconnect 'sales'", None),
            ("SHOW  version", Some(Command::Show(Show::Version))),
            ("show Tenants", Some(Command::Show(Show::Tenants))),
            ("kill tenant acme", Some(Command::KillTenant("acme".to_owned()))),
            ("KILL_CLIENT 17", Some(Command::KillClient(17))),
            ("reconnect tenant acme", Some(Command::ReconnectTenant("acme".to_owned()))),
            ("kill_client acme", None),
            ("kill acme", Some(Command::Kill(Some("acme".to_owned())))),
            ("pause", Some(Command::Pause(None))),
            ("Resume Saas", database(Some("saas"), DatabaseChange::Resume)),
            ("disable saas", database(Some("saas"), DatabaseChange::Disable)),
            ("suspend", None),
            ("suspend saas", database(Some("saas"), DatabaseChange::State(State::Suspended))),
            ("pause a b", None),
            ("shutdown", Some(Command::Shutdown(Leave::Now))),
            ("SHUTDOWN wait_for_servers", Some(Command::Shutdown(Leave::WhenServersAreIdle))),
            ("shutdown please", None),
            ("show tenant \"Acme\"", Some(Command::Show(Show::Tenant("Acme".to_owned())))),
            ("select version", Some(Command::Show(Show::Version))),
            ("show tables", None),
            ("select 1 from x", None),
            ("set search_path = x", None),
            ("= =", None),
            ("pause tenant Acme", tenant("acme", "PAUSE", set("state", "paused".into()))),
            ("pause tenant", None),
            ("pause tenant acme now", None),
            ("resume tenant \"b;c\"", tenant("b;c", "RESUME", Change::Resume)),
            ("reset tenant acme", tenant("acme", "RESET", Change::Reset)),
            ("set tenant acme weight=5", tenant("acme", "SET", set("weight", 5.into()))),
            (
                "set tenant acme message = 'it''s; late'",
                tenant("acme", "SET", set("message", "it's; late".into())),
            ),
            (
                "set tenant acme search_path = '[\"acme\", \"public\"]'",
                tenant("acme", "SET", set("search_path", vec!["acme", "public"].into())),
            ),
            ("set tenant acme search_path = '[open'", None),
            ("set tenant acme settings = '{a = 1}\n[tenants.umbra]\nstate = \"paused\"'", None),
            ("set tenant acme search_path = '[\"a\"]\nuser = \"postgres\"'", None),
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
