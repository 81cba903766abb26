//! Messages about named statements, on their way to a server: names are the pooler's own there, and
//! what the server lacks is parsed in front.
//!
//! They are written when the server is known, so a unit that holds any is scanned twice: once to find
//! its end, and again for the server it gets ([`Session::scan_again`]). Everything else passes
//! untouched; what must keep its place behind a rewritten message is copied after it.

use std::io::Write;
use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use tracing::debug;

use super::changes::Pinned;
use super::session::Session;
use super::units::Step;
use crate::config::PoolMode;
use crate::flow::Reply;
use crate::prepared::{Key, Op, PREFIX, Statement, UNNAMED_LEN_MAX};
use crate::sql::{Flag, Flags, deallocated};
use crate::wire::build::{self, FLUSH};
use crate::wire::frame::{HEADER_LEN, Header};
use crate::wire::frontend::{Names as Said, statement_named, tag};
use crate::wire::split_cstr;

use super::refusal::{Refusal, Severity};

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
/// Longest name of the pooler's own: the prefix and a number.
const NAME_LEN_MAX: usize = PREFIX.len() + 10;
/// Runs instead of a DEALLOCATE of a name that only the pooler knows. It does nothing.
const NOTHING: &[u8] = b"UNLISTEN tenantry_none";

/// A number's name.
pub(super) struct OwnName([u8; NAME_LEN_MAX], usize);

impl OwnName {
    const UNNAMED: Self = Self([0; NAME_LEN_MAX], 0);

    pub(super) fn new(number: u32) -> Self {
        let mut bytes = [0; NAME_LEN_MAX];
        let mut room = &mut bytes[..];
        room.write_all(PREFIX).and_then(|()| write!(room, "{number}")).expect("it has that length");
        let len = NAME_LEN_MAX - room.len();
        Self(bytes, len)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0[..self.1]
    }
}

impl Session {
    /// Whether a message has to be written anew for the server it goes to.
    #[inline]
    pub(super) fn is_rewritten(&self, message: u8, said: Said, flags: Flags) -> bool {
        if !flags.is_empty() && self.refuses() && !self.exchange.skips_to_sync() {
            return true;
        }
        match (message, said) {
            (_, Said::Statement) => self.has_virtual_names(),
            (tag::BIND | tag::DESCRIBE, Said::Unnamed) => {
                !self.exchange.parsed_unnamed_statement()
                    && !self.exchange.skips_to_sync()
                    && self.keeps_unnamed()
            }
            // It says PREPARE, and may be the first to do so.
            (tag::QUERY | tag::PARSE, _) if flags.intersects(SAYS_NAMES) => {
                self.has_virtual_names()
            }
            (tag::QUERY | tag::PARSE, _) => {
                flags.contains(Flag::Deallocate) && self.has_virtual_names() && self.names.is_some()
            }
            _ => false,
        }
    }

    /// So much was rewritten that it has to be sent before more is read.
    pub(super) fn has_rewritten_enough(&self) -> bool {
        self.link.rewritten.len() > REWRITTEN_LEN_MAX
    }

    fn has_disguised(&self) -> bool {
        self.names.as_ref().is_some_and(|names| names.is_disguised())
    }

    fn has_virtual_names(&self) -> bool {
        self.mode == PoolMode::Transaction
            && !self.has_own_names
            && self.shared.config.general.max_prepared_statements > 0
            && !self.exchange.skips_to_sync()
            && !self.exchange.is_unsure()
            && !self.exchange.copies_in()
    }

    /// The unit is read once more from its beginning, for the server that is now known.
    pub(super) fn scan_again(&mut self) {
        self.deallocates = Deallocates::No;
        self.exchange.rewind();
        self.units.rewind();
    }

    /// A message about a statement; `count` bytes of it are there, `whole` or not.
    ///
    /// `Some`: it has to wait. The message is then not yet scanned.
    pub(super) fn rewrite(&mut self, message: u8, whole: bool, flags: Flags) -> Option<Step> {
        // What a COPY that fails has swallowed is found out first.
        // Not whether anything is owed: this unit's own messages are not answered before its Sync.
        if !self.exchange.owes_ready() && self.deallocates == Deallocates::InEarlierUnit {
            self.deallocates = Deallocates::No;
        }
        // What these do depends on where the transaction stands.
        let sql = flags.contains(Flag::Deallocate) || flags.intersects(SAYS_NAMES);
        if self.deallocates == Deallocates::InThisUnit && !self.exchange.is_busy() {
            self.deallocates = Deallocates::No;
        }
        let waits = self.exchange.ends_copy()
            || (sql && self.exchange.owes_ready())
            || self.has_disguised()
            || self.deallocates != Deallocates::No
            || self.names.as_ref().is_some_and(|names| names.must_wait());
        if waits {
            self.ask();
        }
        if waits || (self.link.confirmed && self.has_rewritten_enough()) {
            return Some(Step::NeedsMore);
        }
        self.link.asked = false;
        self.rewrite_what_is_before();
        // Taken out, because what is in it is read while the session changes.
        let inbound = std::mem::take(&mut self.inbound);
        let bytes = &inbound.bytes()[self.units.scanned..];
        let frame_len = Header::read(bytes).ok().flatten().map_or(0, Header::frame_len);
        let frame = &bytes[..frame_len.min(bytes.len())];
        let rewritten = self.rewrite_frame(message, frame, whole, flags);
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

    /// What was scanned goes out before what is written from now on.
    fn rewrite_what_is_before(&mut self) {
        let before = &self.inbound.bytes()[self.link.sent..self.units.scanned];
        self.link.rewritten.extend_from_slice(before);
        self.link.sent = self.units.scanned;
    }

    /// The server keeps its answers to itself until a `Sync`, which may stand behind what waits for them:
    /// the end of a COPY, or a DEALLOCATE in the same unit.
    fn ask(&mut self) {
        let deallocates = self.deallocates == Deallocates::InThisUnit || self.has_disguised();
        let in_unit = self.exchange.ends_copy() || deallocates;
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
    ) -> Option<usize> {
        let body = frame.get(HEADER_LEN..)?;
        if !flags.is_empty() {
            let text = super::units::text(message, body);
            if let Some(refusal) = self.refusal_of(flags, text) {
                self.refuse_message(message, &refusal);
                return Some(frame.len());
            }
        }
        if message == tag::PARSE && flags.intersects(SAYS_NAMES) && self.has_virtual_names() {
            self.make_all_if_used(super::units::text(message, body)?, flags);
        }
        if !self.has_virtual_names() {
            self.note(flags, super::units::text(message, body));
            self.note_own_name(message, statement_named(message, body)?, flags);
            return None;
        }
        match message {
            tag::PARSE => self.rewrite_parse(body, flags),
            tag::BIND => self.rewrite_bind(frame, whole),
            tag::DESCRIBE => self.rewrite_describe(frame),
            tag::CLOSE => self.note_close(body),
            tag::QUERY => self.rewrite_query(body, flags),
            _ => {
                self.note(flags, None);
                None
            }
        }
    }

    pub(super) fn key(&self, statement: &Statement) -> Key {
        Key { statement: statement.id, class: self.target.class.id() }
    }

    /// A place on the server for a statement; `true`: it has to be parsed there.
    pub(super) fn place(&mut self, statement: &Statement) -> (OwnName, bool) {
        let key = self.key(statement);
        let max = self.shared.config.general.max_prepared_statements;
        let Some(linked) = &mut self.link.linked else { return (OwnName::new(0), false) };
        let (slot, evicted) = linked.server().held.take(key, max);
        self.link.reuses |= !slot.is_new;
        if let Some(evicted) = evicted {
            build::close_statement(OwnName::new(evicted.0).bytes(), &mut self.link.rewritten);
            self.owe(Reply::ClosedUnasked, Op::Other);
        }
        (OwnName::new(slot.number), slot.is_new)
    }

    pub(super) fn owe(&mut self, reply: Reply, op: Op) {
        self.exchange.owe(reply);
        self.names.get_or_insert_default().push(op);
    }

    fn rewrite_parse(&mut self, body: &[u8], flags: Flags) -> Option<usize> {
        let used = HEADER_LEN + body.len();
        let (name, tail) = split_cstr(body)?;
        if name.is_empty() {
            return self.rewrite_text(tag::PARSE, split_cstr(tail)?, flags).then_some(used);
        }
        let names = self.names.get_or_insert_default();
        if names.get(name).is_some() {
            let name = String::from_utf8_lossy(name).into_owned();
            let mut told = BytesMut::new();
            Refusal::DuplicateStatement { name }.write(Severity::Error, &mut told);
            // What is wrong with the text comes first.
            self.parse_for_nobody(tail);
            self.owe(Reply::ParsedUnasked, Op::Other);
            build::failing_execute(&mut self.link.rewritten);
            self.owe(Reply::Refused, Op::Refused(told.freeze()));
            return Some(used);
        }
        let text = split_cstr(tail)?.0;
        let statement = self.shared.statements.get(tail, flags).filter(|_| names.has_room());
        let Some(statement) = statement else {
            self.pin_to_server(Pinned::Lasting("more prepared statements than are kept"));
            self.note(flags, Some(text));
            return None;
        };
        let (own, is_new) = self.place(&statement);
        if is_new {
            build::parse(own.bytes(), tail, &mut self.link.rewritten);
            self.exchange.owe(Reply::Parsed);
        } else if self.exchange.in_block() || self.exchange.owes_ready() {
            // The transaction may have failed, and then so has this: PostgreSQL is to say so.
            self.parse_for_nobody(tail);
            self.exchange.owe(Reply::Parsed);
        } else {
            // The server has it: an answer in its turn is all that is needed.
            build::close_statement(b"tenantry_none", &mut self.link.rewritten);
            self.exchange.owe(Reply::Known);
        }
        let parses = is_new.then(|| self.key(&statement));
        self.names.get_or_insert_default().insert(name, statement, parses);
        Some(used)
    }

    /// For what PostgreSQL says of it: the statement goes with the next one that is new.
    fn parse_for_nobody(&mut self, tail: &[u8]) {
        if let Some(linked) = &mut self.link.linked {
            let number = linked.server().held.take_dead();
            build::parse(OwnName::new(number).bytes(), tail, &mut self.link.rewritten);
        }
    }

    /// A name that the client never gave, and that may be one of the pooler's own on the server.
    fn refuse_own_name(&mut self, name: &[u8], used: usize) -> Option<usize> {
        if !name.starts_with(PREFIX) {
            return None;
        }
        let name = String::from_utf8_lossy(name).into_owned();
        let mut told = BytesMut::new();
        Refusal::UnknownStatement { name }.write(Severity::Error, &mut told);
        build::failing_execute(&mut self.link.rewritten);
        self.owe(Reply::Refused, Op::Refused(told.freeze()));
        Some(used)
    }

    /// Puts a statement on the server if it lacks it; its name there.
    pub(super) fn provide(&mut self, statement: &Arc<Statement>) -> OwnName {
        let (own, is_new) = self.place(statement);
        if is_new {
            debug!("statement prepared again on another server");
            self.make(statement, own.bytes(), Some(self.key(statement)));
        }
        own
    }

    /// The unnamed statement once more, if the client is about to use it on another server.
    fn provide_unnamed(&mut self) {
        if let Some(statement) = self.unnamed() {
            build::parse(b"", &statement.tail, &mut self.link.rewritten);
            self.owe(Reply::ParsedUnasked, Op::Other);
            self.exchange.parsed_again();
        }
    }

    /// Of a message that is not whole, only the names are rewritten; the rest follows as it comes.
    fn rewrite_bind(&mut self, frame: &[u8], whole: bool) -> Option<usize> {
        let body = &frame[HEADER_LEN..];
        let (portal, behind) = split_cstr(body)?;
        let (name, rest) = split_cstr(behind)?;
        let statement = match name {
            [] => {
                self.provide_unnamed();
                self.unnamed()
            }
            _ => self.names.as_ref().and_then(|names| names.get(name).cloned()),
        };
        let Some(statement) = statement else {
            return if whole { self.refuse_own_name(name, frame.len()) } else { None };
        };
        self.note_bind(&statement, whole.then_some(body));
        let own = match name {
            [] => OwnName::UNNAMED,
            _ => self.provide(&statement),
        };
        let body_len = u32::from_be_bytes([frame[1], frame[2], frame[3], frame[4]]) as usize - 4;
        let len = 4 + body_len - name.len() + own.bytes().len();
        let out = &mut self.link.rewritten;
        out.put_u8(tag::BIND);
        out.put_u32(u32::try_from(len).ok()?);
        for part in [portal, b"\0", own.bytes(), b"\0"] {
            out.put_slice(part);
        }
        let used = if whole {
            out.put_slice(rest);
            frame.len()
        } else {
            frame.len() - rest.len()
        };
        self.exchange.on_client(tag::BIND, Said::Statement);
        Some(used)
    }

    /// What a statement does, it does when it runs.
    pub(super) fn note_bind(&mut self, statement: &Statement, body: Option<&[u8]>) {
        if !statement.flags.is_empty() {
            self.note(statement.flags, Some(statement.text()));
            self.note_bound(body);
        }
    }

    fn rewrite_describe(&mut self, frame: &[u8]) -> Option<usize> {
        let (name, _) = split_cstr(frame.get(HEADER_LEN + 1..)?)?;
        if name.is_empty() {
            self.provide_unnamed();
            self.link.rewritten.put_slice(frame);
        } else {
            let Some(statement) = self.names.as_ref().and_then(|names| names.get(name).cloned())
            else {
                return self.refuse_own_name(name, frame.len());
            };
            let own = self.provide(&statement);
            let len = 4 + 1 + own.bytes().len() + 1;
            let out = &mut self.link.rewritten;
            out.put_u8(tag::DESCRIBE);
            out.put_u32(u32::try_from(len).ok()?);
            for part in [b"S", own.bytes(), b"\0"] {
                out.put_slice(part);
            }
        }
        self.exchange.on_client(tag::DESCRIBE, Said::Statement);
        Some(frame.len())
    }

    /// Servers keep the statement: it is somebody else's too. They know no such name, which is no error.
    fn note_close(&mut self, body: &[u8]) -> Option<usize> {
        let (name, _) = split_cstr(body.get(1..)?)?;
        let names = self.names.get_or_insert_default();
        if names.get(name).is_none() && !name.starts_with(PREFIX) {
            return None;
        }
        names.remove(name);
        self.exchange.owe(Reply::Closed);
        build::close_statement(b"tenantry_none", &mut self.link.rewritten);
        Some(HEADER_LEN + body.len())
    }

    fn rewrite_query(&mut self, body: &[u8], flags: Flags) -> Option<usize> {
        let text = split_cstr(body)?;
        let rewritten = match text {
            (text, []) if flags.intersects(SAYS_NAMES) && self.rewrite_sql(text, flags) => true,
            _ => self.rewrite_text(tag::QUERY, text, flags),
        };
        rewritten.then_some(HEADER_LEN + body.len())
    }

    /// `DEALLOCATE name`, of a name that only the pooler knows.
    fn rewrite_text(&mut self, message: u8, (text, behind): (&[u8], &[u8]), flags: Flags) -> bool {
        let known = deallocated(text)
            .filter(|name| self.names.as_ref().is_some_and(|names| names.get(name).is_some()));
        let (Some(name), Some(names)) = (known, self.names.as_mut()) else {
            let says = SAYS_NAMES.union(Flags::one(Flag::Deallocate));
            if flags.intersects(says) && message == tag::QUERY && self.has_virtual_names() {
                self.make_all_if_used(text, flags);
            }
            self.note(flags, Some(text));
            return false;
        };
        names.deallocate(&name);
        let unnamed = if message == tag::PARSE { &b"\0"[..] } else { b"" };
        let len = 4 + unnamed.len() + NOTHING.len() + 1 + behind.len();
        let out = &mut self.link.rewritten;
        out.put_u8(message);
        out.put_u32(u32::try_from(len).expect("the client's message was in a buffer"));
        for part in [unnamed, NOTHING, b"\0", behind] {
            out.put_slice(part);
        }
        self.exchange.on_client(message, Said::Unnamed);
        true
    }

    /// The unnamed statement passes by: it may be bound in a later transaction.
    pub(super) fn keep_unnamed(&mut self, count: usize, flags: Flags) {
        let end = self.units.scanned + count;
        let is_bound_next = self.inbound.bytes().get(end) == Some(&tag::BIND);
        let body = &self.inbound.bytes()[self.units.scanned + HEADER_LEN..end];
        let Some((_, tail)) = split_cstr(body) else { return self.forget_unnamed() };
        if is_bound_next && flags.is_empty() && tail.len() <= UNNAMED_LEN_MAX {
            return self.names.get_or_insert_default().use_unnamed(tail);
        }
        match self.shared.statements.get(tail, flags) {
            None => self.forget_unnamed(),
            kept => self.names.get_or_insert_default().keep_unnamed(kept),
        }
    }

    fn unnamed(&mut self) -> Option<Arc<Statement>> {
        self.names.as_mut()?.unnamed(&self.shared.statements)
    }

    /// The unnamed statement is gone, as far as the client may rely on it.
    pub(super) fn forget_unnamed(&mut self) {
        if let Some(names) = &mut self.names {
            names.keep_unnamed(None);
        }
    }

    /// Whether the unnamed statement can be had on another server.
    pub(super) fn keeps_unnamed(&self) -> bool {
        self.names.as_ref().is_some_and(|names| names.has_unnamed())
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
    }
}
