//! What a tenant's clients may not do to their sessions: `guard` and `on_session_state`.
//!
//! A refused statement is sent to the server as one that cannot succeed, so that the transaction it
//! stands in fails and the order of answers holds; the client is told why in our words. What hides
//! from the text (in a function) is found when the server is asked, and taken back.

use std::time::{Duration, Instant};

use bytes::BytesMut;
use tracing::info;

use super::chained::Verified;
use super::changes::{Pinned, unreadable_setting};
use super::events::Next;
use super::link::LinkEnd;
use super::refusal::{Refusal, Severity};
use super::restore::beside_resets;
use super::session::Session;
use super::to_server::may_stand_in_copy;
use crate::config::{Guard, OnSessionState};
use crate::flow::Reply;
use crate::prepared::Op;
use crate::sql::{
    AUTHORIZATION, Assignment, Beside, COMPUTED, Flag, Flags, PG_SETTINGS, Said, Settings,
};
use crate::tenant::{GucName, Observed, SessionState, names_in};
use crate::wire::build;
use crate::wire::frontend::tag;

/// How long a session that is busy when its pin is over is left alone.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// Statements that set something, for the session or the transaction.
const SETS: Flags =
    Flags::SETTINGS.union(Flags::one(Flag::SetLocal)).union(Flags::one(Flag::PgSettings));

/// Flags of statements that may set anything, where nobody can read it.
const HIDES: Flags = Flags::one(Flag::UnicodeIdentifier)
    .union(Flags::one(Flag::RunsText))
    .union(Flags::one(Flag::FunctionCall))
    .union(Flags::one(Flag::LongDollarTag));

/// A setting behind which texts could not be read any more, unless it is plainly set to what they are
/// read by.
fn blinds(settings: &Settings) -> Option<String> {
    let blinding = settings.assignments.iter().find(|it| match &it.value {
        Said::Items(items) => match items.as_slice() {
            [value] => blinds_with(&it.name, value.as_bytes()),
            _ => is_read_by(&it.name),
        },
        Said::Text(value) => blinds_with(&it.name, value.as_bytes()),
        Said::Default | Said::DefaultInside => false,
        Said::Unknown => is_read_by(&it.name),
    });
    blinding.map(|it| it.name.to_string())
}

/// Whether it decides how texts are read, or may be a setting that does.
fn is_read_by(name: &str) -> bool {
    matches!(name, STRINGS | ENCODING | PG_SETTINGS)
}

pub(super) const STRINGS: &str = "standard_conforming_strings";
pub(super) const ENCODING: &str = "client_encoding";

/// Encodings in which a byte of ASCII may be half of something else, by all their names.
///
/// <https://www.postgresql.org/docs/current/multibyte.html>
const UNREADABLE: [&str; 17] = [
    "big5",
    "gb18030",
    "gbk",
    "johab",
    "mskanji",
    "shiftjis",
    "shiftjis2004",
    "sjis",
    "uhc",
    "win932",
    "win936",
    "win949",
    "win950",
    "windows932",
    "windows936",
    "windows949",
    "windows950",
];

/// Whether texts could not be read any more with that value of a setting.
pub(super) fn blinds_with(name: &str, value: &[u8]) -> bool {
    // As PostgreSQL compares the names of encodings.
    let letters = value.iter().filter(|byte| byte.is_ascii_alphanumeric());
    let plain: Vec<u8> = letters.map(u8::to_ascii_lowercase).collect();
    match name {
        STRINGS => !matches!(&*plain, b"on" | b"true" | b"yes" | b"1"),
        ENCODING => UNREADABLE.iter().any(|known| known.as_bytes() == plain),
        _ => false,
    }
}

/// A path of home's own schemas. PostgreSQL's comes first in it, said or not: behind another schema, that one's functions
/// would be found under the names of PostgreSQL's.
fn leads_nowhere_else(home: &SessionState, names: &[String]) -> bool {
    let own = home.search_path();
    let mut behind = names.iter().skip(1).filter(|name| *name == "pg_catalog");
    home.has_in_path(names) && behind.all(|name| own.contains(name))
}

impl Session {
    /// Whether some statements of the tenant's are refused.
    #[inline]
    pub(super) fn refuses(&self) -> bool {
        self.policy.guard == Guard::Reject || self.policy.on_session_state == OnSessionState::Reject
    }

    /// Why a flagged statement is refused, if it is.
    pub(super) fn refusal_of(&self, flags: Flags, text: Option<&[u8]>) -> Option<Refusal> {
        if flags.is_empty() || !self.refuses() {
            return None;
        }
        let settings = text.map(|text| Settings::of(text, flags));
        let runs_reset = || text.is_some_and(|text| self.executes_reset(text, flags));
        if self.policy.guard == Guard::Reject && runs_reset() {
            let name = "(reset by a prepared statement)".into();
            return Some(Refusal::Guarded { name });
        }
        if self.policy.guard == Guard::Reject && flags.intersects(HIDES) {
            let name = "(hidden from view)".into();
            return Some(Refusal::Guarded { name });
        }
        if self.policy.guard == Guard::Reject && flags.intersects(SETS) {
            let Some(settings) = &settings else {
                return Some(Refusal::Guarded {
                    name: "(in a statement too long to be read)".into(),
                });
            };
            let name = match text.map_or(Beside::Nothing, |text| beside_resets(flags, text)) {
                Beside::Nothing => None,
                Beside::Behind => Some("(reset in front of other statements)"),
                Beside::Before => Some("(reset behind other statements)"),
            };
            if let Some(name) = name {
                return Some(Refusal::Guarded { name: name.into() });
            }
            if let Some(name) = self.guarded(settings).or_else(|| blinds(settings)) {
                return Some(Refusal::Guarded { name });
            }
        }
        if self.policy.on_session_state == OnSessionState::Reject {
            let unknown = match settings {
                Some(settings) => settings.unknown,
                None => unreadable_setting(flags),
            };
            let what = flags.iter().find(|flag| flag.ties_session()).map(Flag::name).or(unknown);
            return what.map(|what| Refusal::Ties { what, tenant: self.tenant().to_owned() });
        }
        None
    }

    /// The same for a message in its place.
    pub(super) fn refusal_here(
        &self,
        message: u8,
        flags: Flags,
        text: Option<&[u8]>,
    ) -> Option<Refusal> {
        self.refusal_of(flags, text).or_else(|| {
            let guarded = self.policy.guard == Guard::Reject;
            let resets = guarded && self.resets_in_pipeline(message, flags, text);
            let name = "(reset behind other statements)".into();
            resets.then_some(Refusal::Guarded { name })
        })
    }

    /// A guarded setting that the text may change to something that is not the tenant's.
    fn guarded(&self, settings: &Settings) -> Option<String> {
        let is_guarded = |name: &str| {
            matches!(name, AUTHORIZATION | PG_SETTINGS)
                || self.policy.guarded.iter().any(|guarded| guarded.as_str() == name)
        };
        let leads_away = |it: &&Assignment| is_guarded(&it.name) && !self.leads_home(it);
        if let Some(away) = settings.assignments.iter().find(leads_away) {
            return Some(away.name.to_string());
        }
        // What was named and not read.
        let is_read = |name: &str| settings.assignments.iter().any(|it| *it.name == *name);
        let mut named = settings.names.iter().chain(&settings.local).map(|name| &**name);
        let unread = named.find(|name| is_guarded(name) && !is_read(name)).map(str::to_owned);
        let computed = settings.local.iter().any(|name| &**name == COMPUTED)
            || !settings.parameters.is_empty()
            || settings.casts
            || settings.unknown.is_some();
        unread.or_else(|| computed.then(|| "(a computed name)".to_owned()))
    }

    /// Whether a guarded setting is set to what it has to be anyway: its default, behind which the tenant's own comes
    /// back at once; the tenant's value; or less than its path.
    fn leads_home(&self, it: &Assignment) -> bool {
        let home = &self.home.session;
        match (&*it.name, &it.value) {
            // What stands behind it in the same statement would run before anything comes back.
            (_, Said::Unknown | Said::DefaultInside) | (AUTHORIZATION | PG_SETTINGS, _) => false,
            // Nothing comes back before the transaction ends.
            (_, Said::Default) => !it.is_local,
            ("role", Said::Items(items)) => match items.as_slice() {
                [role] => home.role().unwrap_or("none") == role,
                _ => false,
            },
            ("role", Said::Text(role)) => home.role().unwrap_or("none") == role,
            ("search_path", Said::Items(names)) => leads_nowhere_else(home, names),
            ("search_path", Said::Text(text)) => {
                names_in(text).is_some_and(|names| leads_nowhere_else(home, &names))
            }
            (name, Said::Items(items)) => match items.as_slice() {
                [value] => home.shows(name.as_bytes(), value.as_bytes()),
                _ => false,
            },
            (name, Said::Text(value)) => home.shows(name.as_bytes(), value.as_bytes()),
        }
    }

    /// A text that may change how the next one is to be read: from now on the session is nobody else's, because what it
    /// does cannot be followed.
    pub(super) fn pin_if_blinding(&mut self, settings: &Settings) {
        if blinds(settings).is_some() {
            self.pin_to_server(Pinned::Lasting("setting by which texts are read"));
        }
    }

    /// `guard = "audit"`: counts what `reject` would refuse.
    pub(super) fn audit(&self, settings: &Settings) {
        if self.policy.guard == Guard::Audit
            && let Some(name) = self.guarded(settings)
        {
            self.shared.stats.guarded.add_one();
            self.span()
                .in_scope(|| info!(name, "guard: a statement sets what belongs to the tenant"));
        }
    }

    /// Sends what fails in the place of a message, and keeps what the client will be told.
    pub(super) fn refuse_message(&mut self, message: u8, refusal: &Refusal) {
        let (sqlstate, why) = refusal.summary();
        self.shared.stats.guarded.add_one();
        self.span().in_scope(|| info!(sqlstate, why, "statement refused"));
        let mut told = BytesMut::new();
        refusal.write(Severity::Error, &mut told);
        if message == tag::PARSE {
            self.forget_unnamed();
            build::failing_parse(&mut self.link.rewritten);
            self.exchange.owe(Reply::Refused);
        } else {
            build::query(build::NO_STATEMENT, &mut self.link.rewritten);
            self.exchange.owe_refused_query();
        }
        self.names.get_or_insert_default().push(Op::Refused(told.freeze()));
    }

    /// A transaction is over in which anything may have run: whatever its texts say, the server is asked whether the
    /// session is still its tenant's. What functions, triggers and views do inside, no text shows.
    #[inline]
    pub(super) fn verify_if_guarded(&mut self) {
        let asks = std::mem::replace(&mut self.verified, Verified::Yes) != Verified::Yes;
        if self.policy.guard == Guard::Reject && asks {
            let guarded = self.policy.guarded.clone();
            self.changes.get_or_insert_default().question.names.extend(guarded);
        }
    }

    /// Whether the next unit may not go yet: where the guard is on, what ran before is over first, and outside a block
    /// the session is known to be its tenant's.
    #[inline]
    pub(super) fn waits_to_be_verified(&self) -> bool {
        self.policy.guard == Guard::Reject
            && self.units.at_boundary()
            && !self.exchange.is_unsynced()
            && !self.goes_into_copy()
            && (self.exchange.is_busy() || self.has_to_be_verified())
    }

    /// The next message is a COPY's. Behind data that PostgreSQL has refused another one would run in a transaction of its own,
    /// before anybody has heard that the COPY is over.
    fn goes_into_copy(&self) -> bool {
        let copies = self.exchange.copies_in()
            || self.exchange.ends_copy_unsynced()
            || self.exchange.waits_for_sync();
        let next = self.inbound.bytes().get(self.units.scanned);
        copies && next.is_none_or(|message| may_stand_in_copy(*message))
    }

    /// What the session has left its tenant by, if the guard is on and it has: `server` is the state that it is in.
    pub(super) fn left_by(&self, server: &SessionState, observed: &Observed) -> Option<Refusal> {
        if self.policy.guard != Guard::Reject {
            return None;
        }
        let home = self.without_guarded(server.clone());
        let name = if observed.is_too_long {
            "(values too long to be read)"
        } else if self.reads_by_other_rules() {
            // A function has set it, and from now on no text means what it says.
            STRINGS
        } else if home.role() != server.role() {
            "role"
        } else {
            let differs = |name: &&GucName| home.get(name.as_str()) != server.get(name.as_str());
            self.policy.guarded.iter().find(differs)?.as_str()
        };
        self.shared.stats.guarded.add_one();
        let tenant = self.tenant().to_owned();
        Some(Refusal::LeftTenant { name: name.to_owned(), tenant })
    }

    /// Strings end elsewhere than the pooler thinks.
    fn reads_by_other_rules(&self) -> bool {
        self.reported().get(STRINGS) == Some(b"off")
    }

    /// The state as it may be where the guard is on.
    pub(super) fn without_guarded(&self, session: SessionState) -> SessionState {
        if self.policy.guard != Guard::Reject {
            return session;
        }
        let home = &self.home.session;
        let role = home.role().map(str::to_owned);
        self.policy.guarded.iter().fold(session.with_role(role), |state, name| {
            if name.as_str() == "search_path" && home.has_in_path(&state.search_path()) {
                return state;
            }
            match home.get(name.as_str()) {
                Some(value) => state.with(name.clone(), value.clone()),
                None => state.without(name),
            }
        })
    }

    /// When the session must have given its server back; later, once it is idle.
    pub(super) fn pin_ends(&self) -> Option<Instant> {
        self.pinned_since.zip(self.policy.max_pin_time).map(|(since, max)| since + max)
    }

    /// It has kept its server for too long: it ends, unless it is in the middle of something.
    pub(super) fn end_pin(&mut self) -> Next {
        let busy = !self.exchange.is_at_rest() || !self.link.outbound.is_empty();
        match (self.pin, self.policy.max_pin_time) {
            (Some(pin), Some(limit)) if !busy => {
                let refusal = Refusal::PinnedTooLong { what: pin.reason(), limit };
                let end = LinkEnd::Farewell(Box::new(Refusal::ShuttingDown));
                self.part_from_server(&end);
                Next::Farewell(refusal)
            }
            (Some(_), Some(limit)) => {
                // Looked at again in a while: a transaction is not cut short.
                self.pinned_since = (Instant::now() + LOOK_AGAIN).checked_sub(limit);
                Next::Go
            }
            _ => {
                self.pinned_since = None;
                Next::Go
            }
        }
    }
}
