//! Behind a RESET: what leads back to the session's home goes out with it, before anything else of the client's.
//!
//! `RESET`, `DISCARD ALL` and `SET [LOCAL] ... TO DEFAULT` lead to the server's own default, which is below the tenant's state: no
//! role, no path. So in the same write, behind the message that runs one, go statements that set again what it resets
//! and the session's home has. In a pipeline they stand before the client's next message. Behind a simple query they
//! have a `Sync` of their own, and the client hears of the `ReadyForQuery` behind that. If they fail, PostgreSQL
//! discards what follows up to the `Sync`; before the next unit the session looks where it stands, in any case
//! ([`Session::is_below_home`]).
//!
//! What the text of several statements does in between ([`resets_beside`]) is not put right: where the guard is on,
//! such a text is refused.

use std::sync::Arc;

use super::ledger::{Ledger, WayHome};
use super::prepared::SAYS_NAMES;
use super::session::Session;
use super::sql_prepared::MAKER;
use super::units::NO_WAY_BACK;
use crate::prepared::Statement;
use crate::sql::{Beside, Flag, Flags, Settings, resets_beside, says_in_string, used};
use crate::wire::backend::{TransactionStatus, tag as reply};
use crate::wire::build;
use crate::wire::frontend::{Names as Said, tag};
use crate::wire::split_cstr;

/// Flags of statements that may reset something.
pub(super) const RESETS: Flags = Flags::one(Flag::Reset)
    .union(Flags::one(Flag::Discard))
    .union(Flags::one(Flag::Set))
    .union(Flags::one(Flag::SetLocal))
    .union(Flags::one(Flag::SetConfig));

/// Flags of texts that may run a prepared statement by its name, in the text or where nobody can see it.
const EXECUTES: Flags = Flags::one(Flag::Execute).union(HIDDEN);

const HIDDEN: Flags = Flags::one(Flag::Do)
    .union(Flags::one(Flag::Call))
    .union(Flags::one(Flag::RunsText))
    .union(Flags::one(Flag::UnicodeIdentifier));

/// Replies to one statement of the way home.
const REPLIES: [u8; 7] = [
    reply::CLOSE_COMPLETE,
    reply::CLOSE_COMPLETE,
    reply::PARSE_COMPLETE,
    reply::BIND_COMPLETE,
    reply::COMMAND_COMPLETE,
    reply::CLOSE_COMPLETE,
    reply::CLOSE_COMPLETE,
];

/// What of a session resets something when it runs.
#[derive(Debug, Default)]
pub(super) struct Resets {
    /// The unnamed statement, and those under the client's own names, on a server of its own.
    statements: Ledger,
    portals: Ledger,
    /// The unit has failed.
    failed: bool,
}

impl Session {
    /// Whether a message has to be written anew because of what it may reset.
    #[inline]
    pub(super) fn may_reset(&self, message: u8, flags: Flags) -> bool {
        match message {
            tag::QUERY => flags.intersects(RESETS),
            // It takes the place of another one.
            tag::PARSE => flags.intersects(RESETS) || self.resets.is_some(),
            tag::BIND => self.resets.is_some() || self.unnamed_resets(),
            tag::EXECUTE => self.resets.is_some(),
            _ => false,
        }
    }

    /// Whether a simple query resets something in a pipeline without a `Sync` in front of it: it would be skipped behind an
    /// error, and what stands behind it is not; and it ends the pipeline's transaction.
    pub(super) fn resets_in_pipeline(
        &self,
        message: u8,
        flags: Flags,
        text: Option<&[u8]>,
    ) -> bool {
        message == tag::QUERY
            && self.exchange.is_unsynced()
            && text.is_some_and(|text| self.way_home(flags, text).is_some())
    }

    /// What is to follow a text that runs; `None`: nothing that is known.
    fn way_home(&self, flags: Flags, text: &[u8]) -> Option<WayHome> {
        if !flags.intersects(RESETS) || self.is_other_user {
            return None;
        }
        let settings = Settings::of(text, flags);
        let resets = settings.resets || !settings.local_reset.is_empty();
        if !resets || settings.unknown.is_some() || settings.copies {
            return None;
        }
        let home = &self.home.session;
        let back = |name: &str| {
            if settings.may_reset.iter().any(|n| **n == *name) {
                return home.query_if_reset(name);
            }
            home.statement_of(name)
        };
        let set_again = |name: &str| {
            settings.names.iter().any(|n| **n == *name)
                && !settings.reset.iter().any(|r| **r == *name)
        };
        let mut way = Vec::new();
        if settings.resets_all {
            let names = home.settings().map(|(name, _)| name.as_str());
            way.extend(names.filter(|name| !set_again(name)).filter_map(|n| home.statement_of(n)));
        } else {
            let names = settings.reset.iter().filter(|name| ***name != *"role");
            way.extend(names.filter_map(|name| back(name)));
        }
        // RESET ALL leaves the role, DISCARD ALL does not.
        let leaves_role =
            settings.resets_role || (settings.resets_all && flags.contains(Flag::Discard));
        if leaves_role {
            way.extend(back("role"));
        }
        way.extend(settings.local_reset.iter().filter_map(|name| home.local_query_of(name)));
        // It is committed by itself, and a ROLLBACK behind it must not take the way home back.
        if flags.contains(Flag::Discard) && !way.is_empty() && !self.exchange.in_block() {
            way.insert(0, "BEGIN ISOLATION LEVEL READ COMMITTED NOT DEFERRABLE".to_owned());
            way.push("COMMIT".to_owned());
        }
        (!way.is_empty()).then(|| way.into())
    }

    /// Whether a SQL `EXECUTE` in the text runs a statement that leads below the session's home: `Parse` makes one of any
    /// text, a `RESET` too.
    pub(super) fn executes_reset(&self, text: &[u8], flags: Flags) -> bool {
        if !flags.intersects(EXECUTES) {
            return false;
        }
        let said = used(text);
        let runs = |name: &[u8]| {
            flags.intersects(HIDDEN)
                || said.iter().any(|said| **said == *name)
                || says_in_string(text, name)
        };
        let mut known = self.names.iter().flat_map(|names| names.iter());
        let mut own = self.resets.iter().flat_map(|resets| resets.statements.names());
        own.any(|name| !name.is_empty() && runs(name))
            || known
                .any(|(name, made)| self.way_home(made.flags, made.text()).is_some() && runs(name))
    }

    /// Statements are made under their own names: which of them reset something is not forgotten.
    pub(super) fn note_own_resets(&mut self, all: &[(Vec<u8>, Arc<Statement>)]) {
        for (name, made) in all {
            let way = self.way_home(made.flags, made.text());
            self.note_statement(name, way);
        }
    }

    /// A message that may reset something, `frame` with its header. `Some`: so many bytes were used.
    pub(super) fn rewrite_reset(
        &mut self,
        message: u8,
        frame: &[u8],
        flags: Flags,
    ) -> Option<usize> {
        let body = frame.get(crate::wire::frame::HEADER_LEN..)?;
        match message {
            tag::QUERY => self.query_that_resets(frame, body, flags),
            tag::PARSE => {
                let (name, tail) = split_cstr(body)?;
                let way = self.way_home(flags, split_cstr(tail)?.0);
                self.note_statement(name, way);
                None
            }
            tag::BIND => {
                let (portal, behind) = split_cstr(body)?;
                let way = self.way_of_statement(split_cstr(behind)?.0);
                self.resets_made().portals.make(portal, way);
                None
            }
            tag::EXECUTE => {
                let (portal, _) = split_cstr(body)?;
                let way = self.resets.as_ref()?.portals.way(portal)?;
                self.link.rewritten.extend_from_slice(frame);
                self.exchange.on_client(tag::EXECUTE, Said::Other);
                self.go_home(&way);
                Some(frame.len())
            }
            _ => None,
        }
    }

    fn query_that_resets(&mut self, frame: &[u8], body: &[u8], flags: Flags) -> Option<usize> {
        let says = SAYS_NAMES.union(Flags::one(Flag::Deallocate));
        let (text, rest) = split_cstr(body)?;
        if !rest.is_empty() || flags.intersects(says) {
            return None;
        }
        let way = self.way_home(flags, text)?;
        self.note(flags, Some(text));
        self.link.rewritten.extend_from_slice(frame);
        self.exchange.on_client(tag::QUERY, Said::Unnamed);
        self.forget_unnamed();
        self.go_home(&way);
        self.link.rewritten.extend_from_slice(build::SYNC);
        self.exchange.on_client(tag::SYNC, Said::Other);
        Some(frame.len())
    }

    /// The ledgers, behind all units that are still to be answered.
    fn resets_made(&mut self) -> &mut Resets {
        let exchange = &self.exchange;
        self.resets.get_or_insert_with(|| {
            let units = exchange.count_of_units();
            let behind = || Ledger::behind(units);
            Box::new(Resets { statements: behind(), portals: behind(), failed: false })
        })
    }

    /// A unit ends here.
    pub(super) fn seal_resets(&mut self) {
        if let Some(resets) = &mut self.resets {
            resets.statements.seal();
            resets.portals.seal();
        }
    }

    /// What was read is read once more.
    pub(super) fn rewind_resets(&mut self) {
        if let Some(resets) = &mut self.resets {
            resets.statements.rewind();
            resets.portals.rewind();
        }
    }

    /// A statement was parsed: what runs of it later.
    fn note_statement(&mut self, name: &[u8], way: Option<WayHome>) {
        if way.is_none() && self.resets.is_none() {
            return;
        }
        self.resets_made().statements.make(name, way);
    }

    /// Whether the unnamed statement may: it is made again where the pooler has dropped it.
    #[inline]
    fn unnamed_resets(&self) -> bool {
        self.names.as_ref().is_some_and(|names| names.unnamed_flags().intersects(RESETS))
    }

    fn way_of_statement(&self, name: &[u8]) -> Option<WayHome> {
        let names = self.names.as_ref();
        let kept = match name {
            [] => names.and_then(|names| names.kept_unnamed()),
            name => names.and_then(|names| names.get(name)),
        };
        let way = kept.and_then(|statement| self.way_home(statement.flags, statement.text()));
        if way.is_some() && !name.is_empty() {
            return way;
        }
        let noted = self.resets.as_ref().and_then(|resets| resets.statements.way(name));
        match (way, noted) {
            (Some(way), Some(noted)) if way != noted => {
                Some(noted.iter().chain(way.iter()).cloned().collect())
            }
            (way, noted) => noted.or(way),
        }
    }

    /// Runs statements beside the client's own unnamed statement and portal.
    fn go_home(&mut self, way: &WayHome) {
        if self.exchange.is_unsure() {
            // Nobody could tell which answers are the client's.
            return self.link.broken = Some(NO_WAY_BACK.into());
        }
        for sql in way.iter() {
            self.write_beside(sql.as_bytes());
            self.exchange.owe_restoring(&REPLIES);
        }
    }

    /// A text of the pooler's own, under names of its own.
    pub(super) fn write_beside(&mut self, text: &[u8]) {
        let out = &mut self.link.rewritten;
        // One that failed may have left its maker, and a client may have a cursor of that name.
        build::close_portal(MAKER, out);
        build::close_statement(MAKER, out);
        build::parse(MAKER, &[text, b"\0\0\0"].concat(), out);
        build::bind(MAKER, MAKER, out);
        build::execute(MAKER, out);
        build::close_portal(MAKER, out);
        build::close_statement(MAKER, out);
    }

    /// A `Parse` that is too long to be read takes the place of the unnamed statement, or fails.
    pub(super) fn forget_resets(&mut self) {
        if let Some(resets) = &mut self.resets {
            resets.statements.make(b"", None);
        }
    }

    /// An error: what stands behind it in the unit is skipped.
    pub(super) fn note_failed_unit(&mut self) {
        if let Some(resets) = &mut self.resets {
            resets.failed = true;
        }
    }

    /// A unit is over, and outside a block all portals are gone with it. In a block a portal may be bound in one unit and
    /// run in another.
    pub(super) fn settle_resets(&mut self, status: TransactionStatus) {
        let is_last = !self.exchange.is_busy();
        let Some(resets) = &mut self.resets else { return };
        let failed = std::mem::take(&mut resets.failed);
        for ledger in [&mut resets.statements, &mut resets.portals] {
            ledger.settle(failed);
            if is_last {
                ledger.settle_all();
            }
        }
        if status == TransactionStatus::Idle && is_last {
            resets.portals.clear();
        }
        if resets.statements.is_empty() && resets.portals.is_empty() {
            self.resets = None;
        }
    }
}

/// What stands beside the resets of a text of several statements: nothing can be put in between.
pub(super) fn beside_resets(flags: Flags, text: &[u8]) -> Beside {
    if flags.intersects(RESETS) { resets_beside(text) } else { Beside::Nothing }
}
