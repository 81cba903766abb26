//! What a tenant's clients may not do to their sessions: `guard` and `on_session_state`.
//!
//! A refused statement is sent to the server as one that cannot succeed, so that the transaction it
//! stands in fails and the order of answers holds; the client is told why in our words. What hides
//! from the text (in a function) is found when the server is asked, and taken back.

use std::time::{Duration, Instant};

use bytes::BytesMut;
use tracing::info;

use super::changes::unreadable_setting;
use super::events::Next;
use super::link::LinkEnd;
use super::refusal::{Refusal, Severity};
use super::restore::resets_in_the_middle;
use super::session::Session;
use crate::config::{Guard, OnSessionState};
use crate::flow::Reply;
use crate::prepared::Op;
use crate::sql::{AUTHORIZATION, COMPUTED, Flag, Flags, Settings, lone_set};
use crate::tenant::SessionState;
use crate::wire::build;
use crate::wire::frontend::tag;

/// How long a session that is busy when its pin is over is left alone.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// A text that PostgreSQL refuses before it looks at anything, in any state of a transaction.
const NO_STATEMENT: &str = "tenantry refused this statement";

/// Statements that set something, for the session or the transaction.
const SETS: Flags = Flags::SETTINGS.union(Flags::one(Flag::SetLocal));

/// Flags of statements that may set anything, where nobody can read it.
const HIDES: Flags = Flags::one(Flag::UnicodeIdentifier)
    .union(Flags::one(Flag::RunsText))
    .union(Flags::one(Flag::FunctionCall))
    .union(Flags::one(Flag::LongDollarTag));

/// A setting behind which texts could not be read any more, unless it is plainly set to what they are
/// read by.
fn blinds(text: &[u8], settings: &Settings) -> Option<String> {
    let said = lone_set(text);
    let mut named = settings.names.iter().chain(&settings.local).map(|name| &**name);
    let blinding = named.find(|name| {
        let plain = said.as_ref().filter(|said| said.name == **name);
        let value = plain.and_then(|said| said.items.as_deref());
        match value {
            Some([value]) => blinds_with(name, value.as_bytes()),
            _ => matches!(*name, STRINGS | ENCODING),
        }
    });
    blinding.map(str::to_owned)
}

const STRINGS: &str = "standard_conforming_strings";
const ENCODING: &str = "client_encoding";

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
            if text.is_some_and(|text| resets_in_the_middle(flags, text)) {
                let name = "(reset in front of other statements)".into();
                return Some(Refusal::Guarded { name });
            }
            let blinds = text.and_then(|text| blinds(text, settings));
            if let Some(name) = self.guarded(settings).or(blinds) {
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

    /// A guarded setting that the text may change.
    fn guarded(&self, settings: &Settings) -> Option<String> {
        let mut named = settings.names.iter().chain(&settings.local).map(|name| &**name);
        let guarded = &self.policy.guarded;
        let is_guarded = |name: &&str| {
            *name == AUTHORIZATION || guarded.iter().any(|guarded| guarded.as_str() == *name)
        };
        let name = named.find(is_guarded);
        let name = name.map(str::to_owned);
        let computed = settings.local.iter().any(|name| &**name == COMPUTED)
            || !settings.parameters.is_empty()
            || settings.unknown.is_some();
        name.or_else(|| computed.then(|| "(a computed name)".to_owned()))
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
            build::failing_execute(&mut self.link.rewritten);
            self.exchange.owe(Reply::Refused);
        } else {
            build::query(NO_STATEMENT, &mut self.link.rewritten);
            self.exchange.owe_refused_query();
        }
        self.names.get_or_insert_default().push(Op::Refused(told.freeze()));
    }

    /// What a function has set although it is guarded is taken back.
    pub(super) fn without_guarded(&self, session: SessionState) -> SessionState {
        if self.policy.guard != Guard::Reject {
            return session;
        }
        let home = &self.home.session;
        let role = home.role().map(str::to_owned);
        self.policy.guarded.iter().fold(session.with_role(role), |state, name| {
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
