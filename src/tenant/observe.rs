//! What a session left on its server: the question to ask, and what the answer means.
//!
//! PostgreSQL is asked, not second-guessed: rollbacks, savepoints, SET LOCAL, quoting and units are
//! its business. Two things cannot be read from an answer and are known from the text: which
//! settings to ask for, and whether one of them may have been reset.
//!
//! Promises: RESET leads to the session's home (the tenant's baseline and what the client's start-up
//! packet said), never below; what the answer does not mention is as it was. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::quote;
use super::state::{GucName, SessionState, Value};

/// Things a session can have on one server only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tie {
    /// A temporary table, view, sequence, function or type.
    Temporary,
    /// `LISTEN`.
    Listen,
    /// A cursor `WITH HOLD`.
    Cursor,
    /// A session-level advisory lock.
    AdvisoryLock,
    /// A prepared statement under the client's own name.
    Prepared,
}

impl Tie {
    const ALL: [Self; 5] =
        [Self::Temporary, Self::Listen, Self::Cursor, Self::AdvisoryLock, Self::Prepared];

    /// Its name, for the log.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Temporary => "temporary object",
            Self::Listen => "LISTEN",
            Self::Cursor => "cursor WITH HOLD",
            Self::AdvisoryLock => "session advisory lock",
            Self::Prepared => "PREPARE",
        }
    }

    /// A query that returns a row if there is one. Outside a transaction of the client's, so that
    /// locks and cursors of a transaction are gone.
    ///
    /// <https://www.postgresql.org/docs/current/views.html>
    const fn query(self) -> &'static str {
        match self {
            // By the index of dependencies: pg_class may hold a million tables.
            Self::Temporary => {
                "pg_catalog.pg_depend WHERE refclassid OPERATOR(pg_catalog.=) 2615 \
                 AND refobjid OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema() LIMIT 1"
            }
            Self::Listen => "pg_catalog.pg_listening_channels() LIMIT 1",
            Self::Cursor => "pg_catalog.pg_cursors WHERE is_holdable LIMIT 1",
            Self::AdvisoryLock => {
                "pg_catalog.pg_locks WHERE locktype OPERATOR(pg_catalog.=) 'advisory' \
                 AND pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid() LIMIT 1"
            }
            // Not those that the pooler prepares, which begin so.
            Self::Prepared => {
                "pg_catalog.pg_prepared_statements WHERE \
                 pg_catalog.left(name, 9) OPERATOR(pg_catalog.<>) 'tenantry_' LIMIT 1"
            }
        }
    }
}

/// A set of [`Tie`]s.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ties(u8);

impl Ties {
    /// None.
    pub const NONE: Self = Self(0);
    /// Each of them.
    pub const ALL: Self = Self(0b1_1111);

    /// Just one.
    #[must_use]
    pub const fn one(tie: Tie) -> Self {
        Self(1 << tie as u8)
    }

    /// Those of both.
    #[must_use]
    pub const fn union(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// All of them.
    pub fn iter(self) -> impl Iterator<Item = Tie> {
        Tie::ALL.into_iter().filter(move |tie| self.0 & 1 << *tie as u8 != 0)
    }
}

/// What is to be asked at the end of a transaction.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Question {
    /// Settings that may have changed.
    pub names: BTreeSet<GucName>,
    /// Any of PostgreSQL's own may have changed.
    pub all: bool,
    /// Some may have been reset.
    pub resets: bool,
    /// All of them were, before those of `set_again` were set.
    pub reset_all: bool,
    /// Whose last word was a RESET.
    pub reset: BTreeSet<GucName>,
    /// What was set behind `reset_all`.
    pub set_again: BTreeSet<GucName>,
    /// What may be there.
    pub ties: Ties,
}

/// Values read as hex: the server sends texts in the client's encoding, and wants them in its own.
/// Of one longer than a state may be, only that it is too long.
const KIND_AND_HEX: [&str; 2] = [
    "CASE WHEN pg_catalog.octet_length(v) OPERATOR(pg_catalog.>) 65536 THEN 'l' ELSE 's' END",
    "CASE WHEN pg_catalog.octet_length(v) OPERATOR(pg_catalog.>) 65536 THEN '' \
     ELSE pg_catalog.encode(pg_catalog.convert_to(v, pg_catalog.getdatabaseencoding()), 'hex') END",
];

/// Bytes of values that are kept of an answer.
const KEPT_LEN_MAX: usize = 256 * 1024;

/// Settings of a transaction, or that no `SET` can bring back.
const NOT_REPLAYED: [&str; 6] = [
    "transaction_isolation",
    "transaction_read_only",
    "transaction_deferrable",
    "session_authorization",
    "is_superuser",
    "in_hot_standby",
];

impl Question {
    /// Whether a setting that reads as empty may be a custom one without a value.
    fn may_have_reset(&self, name: &GucName) -> bool {
        let of_all = self.reset_all && !self.set_again.contains(name);
        !name.is_listed() && (of_all || self.reset.contains(name))
    }

    /// The statements to send as one simple query. It runs in whatever state the client left: hence
    /// the qualified names, and the explicit options of BEGIN.
    ///
    /// `known`: the state as it was before; with `all`, its custom settings are asked for too.
    #[must_use]
    pub fn sql(&self, known: &SessionState) -> String {
        format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED NOT DEFERRABLE; {}; COMMIT",
            self.select(known)
        )
    }

    /// The same inside a transaction of the client's.
    #[must_use]
    pub fn select(&self, known: &SessionState) -> String {
        let [kind, hex] = KIND_AND_HEX;
        let mut parts = Vec::new();
        let sweeps = self.all || self.resets;
        let of_session = known.settings().map(|(name, _)| name);
        let names: BTreeSet<&GucName> = if sweeps {
            self.names.iter().chain(of_session).filter(|name| !name.is_listed()).collect()
        } else {
            self.names.iter().collect()
        };
        if sweeps {
            parts.push(format!(
                "SELECT {kind}, name, {hex} FROM (SELECT name, pg_catalog.current_setting(name) v \
                 FROM pg_catalog.pg_settings WHERE source OPERATOR(pg_catalog.=) 'session') l"
            ));
        }
        if !names.is_empty() || sweeps {
            let mut list = String::from("E'role'");
            for name in names.iter().filter(|name| name.as_str() != "role") {
                list.push_str(", ");
                quote::literal(name.as_str().as_bytes(), &mut list);
            }
            parts.push(format!(
                "SELECT {kind}, n, {hex} FROM (SELECT n, pg_catalog.current_setting(n, true) v \
                 FROM pg_catalog.unnest(ARRAY[{list}]) n) c"
            ));
        }
        for tie in self.ties.union(Ties::one(Tie::Temporary)).iter() {
            parts.push(format!("(SELECT 't', '{}', '' FROM {})", tie as u8, tie.query()));
        }
        parts.join(" UNION ALL ")
    }
}

/// What a server answered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    settings: BTreeMap<GucName, Option<Box<[u8]>>>,
    /// What is there of what was asked for.
    pub ties: Ties,
    /// More than a session's state may be.
    pub is_too_long: bool,
    /// Bytes of the values.
    len: usize,
}

/// A row that does not answer the question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an answer that does not fit the question")]
pub struct Strange;

impl Observed {
    /// A value that was told without being asked for.
    pub fn insert(&mut self, name: GucName, value: &[u8]) {
        self.settings.insert(name, Some(value.into()));
    }

    /// Reads one row of the answer.
    ///
    /// # Errors
    /// [`Strange`]; close the server.
    pub fn read(&mut self, row: &[Option<&[u8]>]) -> Result<(), Strange> {
        match row {
            [Some(b"s"), Some(name), value] => {
                let name = std::str::from_utf8(name).map_err(|_| Strange)?;
                // Extensions may have settings with stranger names; they are left to the scrub.
                let Ok(name) = GucName::new(name) else { return Ok(()) };
                let value = value.map(unhex).transpose()?;
                self.len += value.as_ref().map_or(0, |value| value.len());
                self.is_too_long |= self.len > KEPT_LEN_MAX;
                if self.is_too_long {
                    return Ok(());
                }
                if !NOT_REPLAYED.contains(&name.as_str()) {
                    self.settings.insert(name, value);
                }
            }
            [Some(b"l"), Some(_), _] => self.is_too_long = true,
            [Some(b"t"), Some([digit]), _] => {
                let tie = Tie::ALL.get(usize::from(digit.wrapping_sub(b'0'))).ok_or(Strange)?;
                self.ties = self.ties.union(Ties::one(*tie));
            }
            _ => return Err(Strange),
        }
        Ok(())
    }

    /// The session's state from now on, and the state the server is in: they differ where something
    /// was reset, because a server resets to less than the session's home.
    #[must_use]
    pub fn states(
        &self,
        question: &Question,
        before: &SessionState,
        home: &SessionState,
    ) -> (SessionState, SessionState) {
        let (mut session, mut server) = (before.clone(), before.clone());
        if self.is_too_long {
            return (session, server);
        }
        if question.all || question.resets {
            for (name, _) in before.settings().filter(|(name, _)| name.is_listed()) {
                if !self.settings.contains_key(name) {
                    (session, server) = (back_home(session, name, home), server.without(name));
                }
            }
        }
        for (name, value) in &self.settings {
            let was_reset = |value: &[u8]| value.is_empty() && question.may_have_reset(name);
            match value {
                Some(value) if name.as_str() == "role" => {
                    let role = String::from_utf8_lossy(value).into_owned();
                    let role = Some(role).filter(|role| role != "none");
                    session = session.with_role(role.clone().or_else(|| home.role_owned()));
                    server = server.with_role(role);
                }
                // A server that has ever heard of a custom setting reads it as empty.
                Some(value)
                    if value.is_empty()
                        && name.is_custom()
                        && before.get(name.as_str()).is_none() => {}
                Some(value) if !was_reset(value) => {
                    let same = |state: &SessionState| {
                        state.get(name.as_str()).filter(|known| known.reads(value)).cloned()
                    };
                    let value = same(home)
                        .or_else(|| same(before))
                        .unwrap_or_else(|| Value::Text(value.clone()));
                    server = server.with(name.clone(), value.clone());
                    session = session.with(name.clone(), value);
                }
                Some(_) | None => {
                    (session, server) = (back_home(session, name, home), server.without(name));
                }
            }
        }
        (session, server)
    }
}

fn back_home(state: SessionState, name: &GucName, home: &SessionState) -> SessionState {
    match home.get(name.as_str()) {
        Some(value) => state.with(name.clone(), value.clone()),
        None => state.without(name),
    }
}

fn unhex(text: &[u8]) -> Result<Box<[u8]>, Strange> {
    let (pairs, rest) = text.as_chunks::<2>();
    let digit = |byte: u8| char::from(byte).to_digit(16).ok_or(Strange);
    let byte = |[high, low]: &[u8; 2]| {
        u8::try_from(digit(*high)? << 4 | digit(*low)?).map_err(|_| Strange)
    };
    if rest.is_empty() { pairs.iter().map(byte).collect() } else { Err(Strange) }
}
