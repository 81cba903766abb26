//! What a client may have changed since its server was last asked: noted as its statements pass.
//!
//! Promises: a statement that the lexer flags is followed by a question to the server before the
//! server can be anybody else's, or the session keeps its server for good.

use std::time::Instant;

use tracing::info;

use super::guard::{ENCODING, STRINGS};
use super::prepared::Deallocates;
use super::restore::RESETS;
use super::session::Session;
use crate::config::PoolMode;
use crate::pool::Taint;
use crate::server::Parameters;
use crate::sql::{AUTHORIZATION, Flag, Flags, Settings};
use crate::tenant::{GucName, Observed, Question, SessionState, Tie, Ties};
use crate::wire::frontend::{Names, bound_text, tag};

/// Most settings that are followed for one client, its own and those of its tenant.
pub(super) const SETTINGS_MAX: usize = 256;
/// Most bytes of their names and values.
pub(super) const SETTINGS_LEN_MAX: usize = 64 * 1024;

/// Why a session keeps its server between transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pinned {
    /// Something that is on that server only, and may go away.
    Tied(&'static str),
    /// What it did cannot be followed.
    Lasting(&'static str),
}

impl Pinned {
    pub(super) const fn reason(self) -> &'static str {
        match self {
            Self::Tied(reason) | Self::Lasting(reason) => reason,
        }
    }
}

/// What the server is to be asked at the end of the transaction.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) question: Question,
    /// Parameters of the last `Parse` whose values are names of settings.
    bound: Vec<u16>,
    /// What the session is tied by may have ended.
    may_untie: bool,
    /// Something was reset in a transaction that goes on, and is not yet back at home.
    pub(super) is_below_home: bool,
    /// The transaction may have taken back what it did.
    pub(super) in_doubt: bool,
    /// A DISCARD ALL was among the statements, and nothing that cannot be followed since.
    pub(super) may_prove_reset: bool,
    /// It has run.
    pub(super) has_discarded: bool,
}

/// Why a session is pinned whose text came in pieces.
const TOO_LONG: &str = "statement too long to be read";

/// What a text that is too long to be read may set, as its words say.
pub(super) fn unreadable_setting(flags: Flags) -> Option<&'static str> {
    flags.intersects(Flags::SETTINGS).then_some(TOO_LONG)
}

/// Flags of statements that can only end what ties a session to its server.
const ENDS: Flags = Flags::one(Flag::Ends).union(Flags::one(Flag::Deallocate));

/// Flags of statements after which a server may no longer have what was prepared on it.
const DEALLOCATES: Flags = Flags::one(Flag::Deallocate)
    .union(Flags::one(Flag::Discard))
    .union(Flags::one(Flag::Do))
    .union(Flags::one(Flag::Call));

/// What a flag is about, besides settings.
const fn ties(flag: Flag) -> Ties {
    match flag {
        Flag::Prepare | Flag::Deallocate => Ties::one(Tie::Prepared),
        Flag::Listen => Ties::one(Tie::Listen),
        Flag::HoldCursor => Ties::one(Tie::Cursor),
        Flag::Temporary => Ties::one(Tie::Temporary),
        Flag::AdvisoryLock => Ties::one(Tie::AdvisoryLock),
        Flag::Do | Flag::Call | Flag::Discard => Ties::ALL,
        Flag::Set
        | Flag::SetLocal
        | Flag::Reset
        | Flag::SetConfig
        | Flag::PgSettings
        | Flag::Ends
        | Flag::Execute
        | Flag::Load
        | Flag::Dblink
        | Flag::RunsText
        | Flag::Seed
        | Flag::UnicodeIdentifier
        | Flag::FunctionCall
        | Flag::LongDollarTag => Ties::NONE,
    }
}

/// Whether what the flagged statement does can be found out by nobody.
const fn is_lasting(flag: Flag) -> bool {
    match flag {
        Flag::Load
        | Flag::Dblink
        | Flag::RunsText
        | Flag::Seed
        | Flag::UnicodeIdentifier
        | Flag::FunctionCall
        | Flag::LongDollarTag => true,
        Flag::Set
        | Flag::SetLocal
        | Flag::Reset
        | Flag::Discard
        | Flag::Prepare
        | Flag::Listen
        | Flag::HoldCursor
        | Flag::Temporary
        | Flag::Do
        | Flag::Call
        | Flag::SetConfig
        | Flag::PgSettings
        | Flag::AdvisoryLock
        | Flag::Deallocate
        | Flag::Execute
        | Flag::Ends => false,
    }
}

impl Session {
    /// A message with flagged text goes to the server. `text`: all of it, if it is all there.
    pub(super) fn note(&mut self, flags: Flags, text: Option<&[u8]>) {
        self.note_executed(flags, text);
        // What a statement does was noted when it was prepared.
        let flags = flags.without(Flag::Execute);
        if flags.is_empty() || self.units.is_discarding() {
            return;
        }
        if self.refusal_of(flags, text).is_some() {
            return;
        }
        if flags.intersects(DEALLOCATES) {
            self.deallocates = Deallocates::InThisUnit;
            if let Some(linked) = &mut self.link.linked {
                linked.server().held.forget_all();
            }
        }
        if flags == Flags::one(Flag::SetLocal) {
            let Some(text) = text else {
                // What it sets may be what texts are read by until the transaction ends.
                return self.taint(Taint::Scrub);
            };
            let settings = Settings::of(text, flags);
            self.audit(&settings);
            self.pin_if_blinding(&settings);
            if settings.lasts {
                self.taint(Taint::Close);
                self.pin_to_server(Pinned::Lasting(Flag::Seed.name()));
            }
            return;
        }
        if ENDS.includes(flags) {
            // It ends something, if there is anything to end.
            if self.pin.is_some() || self.changes.is_some() {
                let changes = self.changes.get_or_insert_default();
                (changes.question.ties, changes.may_untie) = (Ties::ALL, true);
            }
            return;
        }
        let settings = match text {
            Some(text) => Settings::of(text, flags),
            None => {
                if flags.intersects(RESETS) {
                    self.note_below_home();
                }
                Settings::unread(unreadable_setting(flags))
            }
        };
        if settings.is_empty() && flags == Flags::one(Flag::Set) {
            // It says the name of a setting by which texts are read, and does not set it.
            return;
        }
        self.audit(&settings);
        self.is_other_user |= settings.names.iter().any(|name| **name == *AUTHORIZATION);
        self.pin_if_blinding(&settings);
        let can_be_scrubbed = flags.iter().all(Flag::can_be_scrubbed) && !settings.lasts;
        self.taint(if can_be_scrubbed { Taint::Scrub } else { Taint::Close });
        let lasting = flags.iter().find(|flag| is_lasting(*flag)).map(Flag::name);
        let lasting = lasting.or(settings.unknown);
        // What it sets, it sets at each EXECUTE, which looks like nothing.
        let sets_later = flags.contains(Flag::Prepare) && flags.contains(Flag::SetConfig);
        let lasting = lasting.or(sets_later.then_some("PREPARE of set_config"));
        if let Some(reason) = lasting {
            self.pin_to_server(Pinned::Lasting(reason));
        }
        // It keeps its server: all that has to be put right is what a RESET does.
        let stays = self.mode == PoolMode::Session || matches!(self.pin, Some(Pinned::Lasting(_)));
        if stays && !settings.resets {
            return;
        }
        let changes = self.changes.get_or_insert_default();
        changes.may_prove_reset |= settings.resets_all && flags.contains(Flag::Discard);
        changes.may_prove_reset &= lasting.is_none();
        changes.ask(settings, flags);
    }

    /// A SQL `EXECUTE` runs what has a name, and that may be anything.
    fn note_executed(&mut self, flags: Flags, text: Option<&[u8]>) {
        if self.units.is_discarding() {
            return;
        }
        if text.is_some_and(|text| self.executes_reset(text, flags)) {
            self.note_below_home();
        }
        if flags.contains(Flag::Execute) && !self.own_flags.iter().all(Flag::can_be_scrubbed) {
            self.taint(Taint::Close);
        }
    }

    /// A message about a statement under its own name, which is not known when it is bound.
    pub(super) fn note_own_name(&mut self, message: u8, said: Names, flags: Flags) {
        match (message, said) {
            (tag::PARSE, Names::Statement) => self.own_flags = self.own_flags.union(flags),
            (tag::BIND, Names::Statement) if self.own_flags.intersects(Flags::SETTINGS) => {
                self.note_below_home();
            }
            _ => {}
        }
    }

    /// Whatever it was, it may have reset any setting: the next unit waits until the server has been asked.
    fn note_below_home(&mut self) {
        let changes = self.changes.get_or_insert_default();
        (changes.question.all, changes.question.resets) = (true, true);
        changes.is_below_home = true;
    }

    /// A `Bind` may carry the name of a setting. `body`: all of it, if it is all there.
    pub(super) fn note_bound(&mut self, body: Option<&[u8]>) {
        let Some(changes) = &mut self.changes else { return };
        let Some(body) = body else {
            if !changes.bound.is_empty() {
                self.pin_to_server(Pinned::Lasting(TOO_LONG));
            }
            return;
        };
        let (mut unknown, mut lasts) = (false, false);
        for number in &changes.bound {
            let Some(name) = bound_text(body, *number) else { continue };
            match std::str::from_utf8(name).map(GucName::new) {
                Ok(Ok(name)) if name.as_str() == AUTHORIZATION => {
                    (unknown, self.is_other_user) = (true, true);
                }
                // By these, texts are read; that seed nothing undoes.
                Ok(Ok(name)) if matches!(name.as_str(), STRINGS | ENCODING) => unknown = true,
                Ok(Ok(name)) if name.as_str() == "seed" => (unknown, lasts) = (true, true),
                Ok(Ok(name)) => drop(changes.question.names.insert(name)),
                // PostgreSQL has no such setting.
                Ok(Err(_)) if name.is_ascii() && name.len() <= 63 => {}
                Ok(Err(_)) | Err(_) => unknown = true,
            }
        }
        if lasts {
            self.taint(Taint::Close);
        }
        if unknown {
            self.pin_to_server(Pinned::Lasting("set_config of a bound name"));
        }
    }

    /// The server reports a setting that nobody was seen to change.
    pub(super) fn note_report(&mut self, name: &[u8]) {
        let stays = self.mode == PoolMode::Session || matches!(self.pin, Some(Pinned::Lasting(_)));
        if !stays && REPORTED.iter().any(|known| known.as_bytes() == name) {
            self.taint(Taint::Scrub);
            self.changes.get_or_insert_default().question.all = true;
        }
    }

    /// The server reports another session user, whatever has made it that.
    pub(super) fn note_user(&mut self, user: &[u8]) {
        if self.of.user.as_bytes() != user {
            self.is_other_user = true;
            self.pin_to_server(Pinned::Lasting("SET SESSION AUTHORIZATION"));
        }
    }

    /// The transaction may have taken back what it did: where values come from matters too.
    pub(super) fn note_doubt(&mut self) {
        if let Some(changes) = &mut self.changes {
            changes.in_doubt = true;
        }
    }

    pub(super) fn taint(&mut self, taint: Taint) {
        self.taint = self.taint.max(taint);
    }

    /// From now on the session keeps its server: what it did there is found nowhere else.
    pub(super) fn pin_to_server(&mut self, pin: Pinned) {
        self.taint(Taint::Scrub);
        if self.mode != PoolMode::Transaction || matches!(self.pin, Some(Pinned::Lasting(_))) {
            return;
        }
        let is_news = self.pin.is_none();
        if is_news {
            self.pinned_since = self.policy.max_pin_time.map(|_| Instant::now());
        }
        self.pin = Some(pin);
        if is_news {
            let reason = pin.reason();
            self.registration.slot.pin(Some(reason));
            let times = self.shared.stats.pins.add_one(reason);
            self.span().in_scope(|| info!(reason, times, "session pinned to its server"));
        }
    }
}

/// Settings that PostgreSQL reports when they change, and that a session can change.
///
/// <https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-ASYNC>
const REPORTED: [&str; 9] = [
    "application_name",
    "client_encoding",
    "DateStyle",
    "default_transaction_read_only",
    "IntervalStyle",
    "scram_iterations",
    "search_path",
    "standard_conforming_strings",
    "TimeZone",
];

impl Changes {
    /// Whether it can wait until a session that is tied to its server is tied no more.
    pub(super) const fn can_wait(&self) -> bool {
        !self.may_untie && !self.question.resets && !self.question.all
    }

    /// What is to be asked of a server when the state was `before`.
    pub(super) fn question(&self, before: &SessionState) -> Question {
        let mut question = self.question.clone();
        // A setting that was not set before may have its default again: where its value comes from
        // is told only with all of them.
        let is_new = |name: &GucName| !name.is_custom() && before.get(name.as_str()).is_none();
        question.all |= self.in_doubt && question.names.iter().any(is_new);
        question
    }

    /// The values that the server has reported, if they are all there is to ask for.
    pub(super) fn reported(&self, before: &SessionState, by: &Parameters) -> Option<Observed> {
        let question = self.question(before);
        if question.all || question.resets || !question.ties.is_empty() || question.names.is_empty()
        {
            return None;
        }
        let mut observed = Observed::default();
        for name in &question.names {
            // Anything else comes in the client's encoding, and is wanted in the database's.
            let value = by.get_by_guc(name.as_str()).filter(|value| value.is_ascii())?;
            observed.insert(name.clone(), value);
        }
        Some(observed)
    }

    fn ask(&mut self, settings: Settings, flags: Flags) {
        let question = &mut self.question;
        if settings.resets_all {
            question.reset_all = true;
            question.reset.clear();
            question.set_again.clear();
        }
        for said in &settings.names {
            // What is not the name of a setting is refused by PostgreSQL.
            let Ok(name) = GucName::new(said) else { continue };
            question.names.insert(name.clone());
            if settings.reset.contains(said) {
                question.set_again.remove(&name);
                question.reset.insert(name);
            } else {
                question.reset.remove(&name);
                question.set_again.insert(name);
            }
        }
        question.all |= settings.all;
        question.resets |= settings.resets;
        self.is_below_home |= settings.resets;
        question.ties = flags.iter().fold(question.ties, |all, flag| all.union(ties(flag)));
        if settings.temporary {
            question.ties = question.ties.union(Ties::one(Tie::Temporary));
        }
        self.may_untie |= flags.intersects(DEALLOCATES);
        // Of any statement of the transaction: a name too many does no harm.
        self.bound.extend(settings.parameters);
    }
}
