//! Messages about named statements, on their way to a server: names are the pooler's own there, and
//! what the server lacks is parsed in front.
//!
//! They are written when the server is known, so a unit that holds any is scanned twice: once to find
//! its end, and again for the server it gets ([`Session::scan_again`]). Everything else passes
//! untouched; what must keep its place behind a rewritten message is copied after it.

use smallvec::SmallVec;

use super::deallocate::Drops;
use super::described::{Look, LooksAt, statement_of};
use super::restore::RESETS;
use super::session::Session;
use super::units::Step;
use crate::config::PoolMode;
use crate::sql::{Flag, Flags};
use crate::wire::build::FLUSH;
use crate::wire::frame::{HEADER_LEN, Header};
use crate::wire::frontend::{Names as Said, statement_named, tag};

/// Whether a statement of the session's takes prepared statements away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deallocates {
    /// None since it has its server.
    No,
    /// One in the unit that is being sent.
    InThisUnit,
    /// One in a unit that was sent, and may be answered by now.
    InEarlierUnit,
}

/// Flags of texts that give or use names of statements in SQL.
pub(super) const SAYS_NAMES: Flags = Flags::one(Flag::Prepare).union(Flags::one(Flag::Execute));

/// Most bytes that are rewritten before they have to be sent.
const REWRITTEN_LEN_MAX: usize = 64 * 1024;

impl Session {
    /// Whether a message has to be written anew for the server it goes to.
    #[inline]
    pub(super) fn is_rewritten(&self, message: u8, said: Said, flags: Flags) -> bool {
        if !flags.is_empty() && self.refuses() && !self.exchange.skips_to_sync() {
            return true;
        }
        if self.may_reset(message, flags) && !self.exchange.skips_to_sync() {
            return true;
        }
        match (message, said) {
            (_, Said::Statement) => self.has_virtual_names(),
            (tag::DESCRIBE | tag::BIND, Said::Unnamed) if self.is_unnamed_unsettled() => true,
            (tag::DESCRIBE, Said::Unnamed) => self.has_virtual_names() || self.lacks_unnamed(),
            (tag::DESCRIBE, Said::Other) => {
                self.link.describes_portal_of.is_some() && self.has_virtual_names()
            }
            // It waits for what the statement returns, which the server has by now.
            (tag::BIND, Said::Unnamed) if self.link.looks_at == Some(LooksAt::Unnamed) => true,
            (tag::BIND, Said::Unnamed) if self.unnamed_drops() && self.has_virtual_names() => true,
            (tag::BIND, Said::Unnamed) => self.lacks_unnamed(),
            // It says PREPARE, and may be the first to do so.
            (tag::QUERY | tag::PARSE, _) if flags.intersects(SAYS_NAMES) => {
                self.has_virtual_names()
            }
            (tag::QUERY | tag::PARSE, _) => {
                flags.contains(Flag::Deallocate) && self.has_virtual_names()
            }
            _ => false,
        }
    }

    /// The client has an unnamed statement, and this server does not have it: another one has, or what the pooler asked
    /// has dropped it, in any mode.
    fn lacks_unnamed(&self) -> bool {
        !self.exchange.parsed_unnamed_statement()
            && !self.exchange.skips_to_sync()
            && !self.exchange.is_unsure()
            && !self.exchange.copies_in()
            && self.keeps_unnamed()
    }

    /// So much was rewritten that it has to be sent before more is read.
    pub(super) fn has_rewritten_enough(&self) -> bool {
        self.link.rewritten.len() > REWRITTEN_LEN_MAX
    }

    fn has_disguised(&self) -> bool {
        self.names.as_ref().is_some_and(|names| names.is_disguised())
    }

    pub(super) fn has_virtual_names(&self) -> bool {
        self.mode == PoolMode::Transaction
            && !self.has_own_names
            && self.shared.general.max_prepared_statements > 0
            && !self.exchange.skips_to_sync()
            && !self.exchange.is_unsure()
            && !self.exchange.copies_in()
    }

    /// The unit is read once more from its beginning, for the server that is now known.
    pub(super) fn scan_again(&mut self) {
        self.deallocates = Deallocates::No;
        self.exchange.rewind();
        self.units.rewind();
        self.rewind_resets();
        if let Some(names) = &mut self.names {
            names.rewind();
        }
    }

    /// A message about a statement; `count` bytes of it are there, `whole` or not.
    ///
    /// `Some`: it has to wait. The message is then not yet scanned.
    pub(super) fn rewrite(&mut self, message: u8, whole: bool, flags: Flags) -> Option<Step> {
        // What a COPY that fails has swallowed is found out first.
        // Not whether anything is owed: this unit's own messages are not answered before its Sync.
        if self.deallocates == Deallocates::InEarlierUnit && !self.exchange.owes_ready() {
            self.deallocates = Deallocates::No;
        }
        // What these do depends on where the transaction stands.
        let drops = self.drops(message);
        let sql =
            flags.contains(Flag::Deallocate) || flags.intersects(SAYS_NAMES) || drops != Drops::No;
        // What has been parsed or bound has not run yet, and these two ask for no name.
        let asks_names = message != tag::EXECUTE && !self.binds_unnamed(message);
        let resets = message == tag::QUERY && flags.intersects(RESETS);
        let makes = (flags.intersects(SAYS_NAMES) || drops == Drops::Sometime || resets)
            && self.exchange.is_in_pipeline();
        let waits = self.exchange.ends_copy()
            || makes
            || (sql && self.exchange.owes_ready())
            // It may be the one that runs what is waited for.
            || (self.has_disguised() && message != tag::EXECUTE)
            || (asks_names && self.may_deallocate())
            || self.names.as_ref().is_some_and(|names| names.must_wait())
            || (self.uses_unnamed(message) && self.is_unnamed_unsettled());
        if waits {
            self.ask(makes);
        }
        if waits || (self.link.confirmed && self.has_rewritten_enough()) {
            return Some(Step::NeedsMore);
        }
        let Some(look) = self.look_first(message) else { return Some(Step::NeedsMore) };
        if look == Look::Changed && !whole {
            // In the middle of a message nothing else can be said.
            return Some(Step::Broken("the result of a prepared statement has changed".into()));
        }
        self.link.asked = false;
        self.rewrite_what_is_before();
        if whole {
            self.keep_what_is_unnamed(message, flags);
        }
        // Taken out, because what is in it is read while the session changes.
        let inbound = std::mem::take(&mut self.inbound);
        let bytes = &inbound.bytes()[self.units.scanned..];
        let frame_len = Header::read(bytes).ok().flatten().map_or(0, Header::frame_len);
        let frame = &bytes[..frame_len.min(bytes.len())];
        if drops == Drops::Sometime {
            self.drop_by_itself(frame);
        }
        let rewritten = if look == Look::Changed {
            self.refuse_changed();
            Some(frame.len())
        } else {
            self.rewrite_frame(message, frame, whole, flags, bytes.get(frame_len).copied())
        };
        let used = rewritten.unwrap_or_else(|| {
            let body = frame.get(HEADER_LEN..).unwrap_or_default();
            let said = statement_named(message, body).unwrap_or(Said::Other);
            self.exchange.on_client(message, said);
            if whole { frame.len() } else { HEADER_LEN }
        });
        self.inbound = inbound;
        self.units.scanned += used;
        if rewritten.is_some() {
            self.link.sent = self.units.scanned;
            self.consume_sent();
        }
        if !whole {
            self.units.took(used - HEADER_LEN);
        }
        None
    }

    /// Whether names may be taken away by what is still to be answered. All of a unit may be answered before it has run what
    /// it has bound.
    fn may_deallocate(&self) -> bool {
        match self.deallocates {
            Deallocates::No => false,
            Deallocates::InThisUnit => self.exchange.is_busy(),
            Deallocates::InEarlierUnit => true,
        }
    }

    /// Not before the message goes: behind an error it would be skipped.
    fn keep_what_is_unnamed(&mut self, message: u8, flags: Flags) {
        let bytes = &self.inbound.bytes()[self.units.scanned..];
        let frame_len = Header::read(bytes).ok().flatten().map_or(0, Header::frame_len);
        let body = bytes.get(HEADER_LEN..frame_len).unwrap_or_default();
        let said = statement_named(message, body).unwrap_or(Said::Other);
        self.keep_if_unnamed(message, said, frame_len, flags);
    }

    /// Whether a unit that is still to be answered has changed the unnamed statement, or was to.
    fn is_unnamed_unsettled(&self) -> bool {
        let names = self.names.as_ref().filter(|_| self.mode == PoolMode::Transaction);
        names.is_some_and(|names| !names.has_changed_unnamed())
            && !self.exchange.skips_to_sync()
            && self.exchange.owes_ready()
    }

    /// Whether the next message needs the unnamed statement.
    fn uses_unnamed(&self, message: u8) -> bool {
        let bytes = &self.inbound.bytes()[self.units.scanned..];
        match message {
            tag::BIND => self.binds_unnamed(message),
            tag::DESCRIBE => bytes.get(HEADER_LEN..).is_some_and(|body| body.starts_with(b"S\0")),
            _ => false,
        }
    }

    fn binds_unnamed(&self, message: u8) -> bool {
        let bytes = &self.inbound.bytes()[self.units.scanned..];
        message == tag::BIND && statement_of(bytes).is_some_and(<[u8]>::is_empty)
    }

    /// Whether the next message may go; `None`: it has to wait for what its statement returns.
    fn look_first(&mut self, message: u8) -> Option<Look> {
        let tells = self.names.as_ref().is_some_and(|names| names.tells());
        if message != tag::BIND || !tells || !self.has_virtual_names() {
            return Some(Look::Go);
        }
        let bytes = &self.inbound.bytes()[self.units.scanned..];
        let frame_len = Header::read(bytes).ok().flatten().map_or(0, Header::frame_len);
        let next = bytes.get(frame_len).copied();
        let Some(name) = statement_of(&bytes[..frame_len.min(bytes.len())]) else {
            return Some(Look::Go);
        };
        let name: SmallVec<[u8; 64]> = name.into();
        let look = self.look(&name, next);
        (look != Look::Wait).then_some(look)
    }

    /// What was scanned goes out before what is written from now on.
    pub(super) fn rewrite_what_is_before(&mut self) {
        let before = &self.inbound.bytes()[self.link.sent..self.units.scanned];
        self.link.rewritten.extend_from_slice(before);
        self.link.sent = self.units.scanned;
    }

    /// The server keeps its answers to itself until a `Sync`, which may stand behind what waits for them:
    /// the end of a COPY, or a DEALLOCATE in the same unit; or all of the unit before what `makes`
    /// statements, which is not to be skipped.
    fn ask(&mut self, makes: bool) {
        let deallocates = self.deallocates == Deallocates::InThisUnit || self.has_disguised();
        let in_unit = self.exchange.ends_copy() || deallocates || makes;
        if in_unit && !std::mem::replace(&mut self.link.asked, true) {
            self.rewrite_what_is_before();
            self.link.rewritten.extend_from_slice(FLUSH);
        }
    }

    /// Bytes of the message that were used: what they say goes out in other words.
    fn rewrite_frame(
        &mut self,
        message: u8,
        frame: &[u8],
        whole: bool,
        flags: Flags,
        next: Option<u8>,
    ) -> Option<usize> {
        let body = frame.get(HEADER_LEN..)?;
        if !flags.is_empty() {
            let text = super::units::text(message, body);
            if let Some(refusal) = self.refusal_here(message, flags, text) {
                self.refuse_message(message, &refusal);
                return Some(frame.len());
            }
        }
        if whole
            && self.may_reset(message, flags)
            && let Some(used) = self.rewrite_reset(message, frame, flags)
        {
            return Some(used);
        }
        let says = SAYS_NAMES.union(Flags::one(Flag::Deallocate));
        let uses = flags.intersects(says) && !flags.contains(Flag::Prepare);
        if uses
            && self.has_virtual_names()
            && self.refuse_if_own_name(message, super::units::text(message, body)?)
        {
            self.forget_unnamed();
            return Some(frame.len());
        }
        if message == tag::PARSE && flags.intersects(SAYS_NAMES) && self.has_virtual_names() {
            self.make_all_if_used(super::units::text(message, body)?, flags);
        }
        if !self.has_virtual_names() {
            let said = statement_named(message, body);
            let uses = matches!(message, tag::BIND | tag::DESCRIBE) && said == Some(Said::Unnamed);
            if uses && self.lacks_unnamed() {
                self.provide_unnamed();
                if let Some(statement) = self.unnamed().filter(|_| message == tag::BIND) {
                    self.note_bind(&statement, whole.then_some(body));
                }
            }
            let said = said?;
            self.note(flags, super::units::text(message, body));
            self.pin_if_named(message, said);
            self.note_own_name(message, said, flags);
            return None;
        }
        match message {
            tag::PARSE => self.rewrite_parse(body, flags),
            tag::BIND => self.rewrite_bind(frame, whole, next),
            tag::DESCRIBE => self.rewrite_describe(frame),
            tag::CLOSE => self.note_close(body),
            tag::QUERY => self.rewrite_query(body, flags),
            _ => {
                self.note(flags, None);
                None
            }
        }
    }

    /// What was sent will not be answered: the unit is sent again, or the session is over.
    pub(super) fn undo_names(&mut self) {
        if let Some(names) = &mut self.names {
            // The server that lacks them is gone, or forgets by itself.
            drop(names.skipped(usize::MAX));
        }
    }

    /// A unit ends.
    #[inline]
    pub(super) fn seal_unit(&mut self) {
        if let Some(names) = &mut self.names {
            names.seal();
        }
        if self.deallocates == Deallocates::InThisUnit {
            self.deallocates = Deallocates::InEarlierUnit;
        }
        self.seal_resets();
        self.link.asked = false;
        self.end_describes();
    }
}
