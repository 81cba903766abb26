//! What drivers and their pools say when they connect, look whether a connection is there, or give it back. It
//! means nothing to the console, and is no reason to end.

use bytes::BytesMut;

use super::columns::Column;
use super::command::keyword;
use super::tokens::Token;
use crate::wire::build::{self, ColumnType, Format};

/// Settings that a driver gives its session.
const SETTINGS: [&str; 14] = [
    "application_name",
    "bytea_output",
    "client_encoding",
    "client_min_messages",
    "datestyle",
    "extra_float_digits",
    "idle_in_transaction_session_timeout",
    "intervalstyle",
    "lock_timeout",
    "names",
    "session",
    "standard_conforming_strings",
    "statement_timeout",
    "timezone",
];

/// Drivers look for PostgreSQL's number in it: it says which one's words are understood.
const VERSION: &str =
    concat!("Tenantry ", env!("CARGO_PKG_VERSION"), " console, spoken to as PostgreSQL 14.0");

/// What was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Courtesy {
    /// `SET application_name = 'x'`, `RESET ALL`, `DISCARD ALL` and the like: the word it is answered with.
    Done(&'static str),
    /// `BEGIN`: commands work at once all the same.
    Begin,
    /// `COMMIT`, `ROLLBACK`: the word.
    End(&'static str),
    /// `SELECT 1`.
    One,
    /// `SELECT version()`, `SHOW standard_conforming_strings`: a column and its value.
    Text(&'static str, &'static str),
    /// A question about types: there are none but PostgreSQL's own.
    Types,
}

impl Courtesy {
    pub(super) fn parse(words: &[Token]) -> Option<Self> {
        let [first, rest @ ..] = words else { return None };
        let second = rest.first().and_then(keyword);
        match (keyword(first)?.as_str(), second.as_deref()) {
            ("set", Some(name)) if SETTINGS.contains(&name) => Some(Self::Done("SET")),
            ("set", Some("time")) => Some(Self::Done("SET")),
            ("reset", Some("all")) => Some(Self::Done("RESET")),
            ("discard", Some("all")) => Some(Self::Done("DISCARD ALL")),
            ("close", Some("all")) => Some(Self::Done("CLOSE CURSOR ALL")),
            ("unlisten", Some("*")) => Some(Self::Done("UNLISTEN")),
            ("deallocate", Some("all")) => Some(Self::Done("DEALLOCATE ALL")),
            ("begin", _) | ("start", Some("transaction")) => Some(Self::Begin),
            ("commit" | "end", None) => Some(Self::End("COMMIT")),
            ("rollback" | "abort", None) => Some(Self::End("ROLLBACK")),
            ("select", Some("1")) if rest.len() == 1 => Some(Self::One),
            ("select", Some("version()" | "pg_catalog.version()")) if rest.len() == 1 => {
                Some(Self::Text("version", VERSION))
            }
            ("select", Some("current_schema()")) if rest.len() == 1 => {
                Some(Self::Text("current_schema", "public"))
            }
            ("show", Some("standard_conforming_strings")) => {
                Some(Self::Text("standard_conforming_strings", "on"))
            }
            ("show", Some("transaction")) => {
                Some(Self::Text("transaction_isolation", "read committed"))
            }
            ("select", Some("pg_advisory_unlock_all()")) => Some(Self::Types),
            ("select", _) if rest.iter().any(is_about_types) => Some(Self::Types),
            _ => None,
        }
    }

    pub(super) fn columns(self) -> Option<Vec<Column>> {
        match self {
            Self::Done(_) | Self::Begin | Self::End(_) => None,
            Self::One => Some(vec![("?column?", ColumnType::Bigint)]),
            Self::Text(name, _) => Some(vec![(name, ColumnType::Text)]),
            Self::Types => Some(Vec::new()),
        }
    }

    pub(super) fn write(self, format: Format, out: &mut BytesMut) {
        let row = |cell: &[u8], out: &mut BytesMut| {
            build::data_row([Some(cell)].into_iter(), out);
            build::command_complete("SELECT 1", out);
        };
        match (self, format) {
            (Self::Done(word) | Self::End(word), _) => build::command_complete(word, out),
            (Self::Begin, _) => build::command_complete("BEGIN", out),
            (Self::One, Format::Text) => row(b"1", out),
            (Self::One, Format::Binary) => row(&1_i64.to_be_bytes(), out),
            (Self::Text(_, value), _) => row(value.as_bytes(), out),
            (Self::Types, _) => build::command_complete("SELECT 0", out),
        }
    }
}

fn is_about_types(token: &Token) -> bool {
    let word = keyword(token).unwrap_or_default();
    matches!(word.as_str(), "pg_catalog.pg_type" | "pg_type" | "pg_catalog.pg_range" | "pg_range")
}
