//! Messages about named statements in other words: what each becomes for the server it goes to.

use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use tracing::debug;

use super::changes::Pinned;
use super::described::describe_statement;
use super::prepared::SAYS_NAMES;
use super::refusal::{Refusal, Severity};
use super::session::Session;
use crate::flow::Reply;
use crate::prepared::{Evicted, Key, Op, PREFIX, Statement};
use crate::sql::{Flag, Flags, deallocated};
use crate::wire::build;
use crate::wire::frame::HEADER_LEN;
use crate::wire::frontend::{Names as Said, tag};
use crate::wire::split_cstr;

/// Longest name of the pooler's own: the prefix and a number.
const NAME_LEN_MAX: usize = PREFIX.len() + 10;
/// A statement that is closed as soon as it is parsed, or that is not there.
pub(super) const NOBODYS: &[u8] = b"tenantry_none";
/// Runs instead of a DEALLOCATE of a name that only the pooler knows. It does nothing.
pub(super) const NOTHING: &[u8] = b"UNLISTEN tenantry_none";

/// A number's name.
pub(super) struct OwnName([u8; NAME_LEN_MAX], usize);

impl OwnName {
    pub(super) const UNNAMED: Self = Self([0; NAME_LEN_MAX], 0);

    pub(super) fn new(number: u32) -> Self {
        let mut digits = itoa::Buffer::new();
        let digits = digits.format(number).as_bytes();
        let len = PREFIX.len() + digits.len();
        let mut bytes = [0; NAME_LEN_MAX];
        bytes[..PREFIX.len()].copy_from_slice(PREFIX);
        bytes[PREFIX.len()..len].copy_from_slice(digits);
        Self(bytes, len)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0[..self.1]
    }
}

impl Session {
    pub(super) fn key(&self, statement: &Statement) -> Key {
        Key { statement: statement.id, class: self.target.class.id() }
    }

    /// A place on the server for a statement; `true`: it has to be parsed there.
    pub(super) fn place(&mut self, statement: &Statement) -> (OwnName, bool) {
        let key = self.key(statement);
        let max = self.shared.general.max_prepared_statements;
        let Some(linked) = &mut self.link.linked else { return (OwnName::new(0), false) };
        let held = &mut linked.server().held;
        let (slot, evicted) = held.take(key, max);
        let dead = if slot.is_new { held.take_dead() } else { None };
        self.link.reuses |= !slot.is_new;
        for gone in evicted.into_iter().chain(dead) {
            self.close_number(gone);
        }
        (OwnName::new(slot.number), slot.is_new)
    }

    fn close_number(&mut self, gone: Evicted) {
        build::close_statement(OwnName::new(gone.number).bytes(), &mut self.link.rewritten);
        self.owe(Reply::ClosedUnasked, Op::Evicts(gone));
    }

    /// A place for a statement that a client parses itself: it gets what PostgreSQL makes of the text by
    /// now, and so does everybody else from now on.
    pub(super) fn place_anew(&mut self, statement: &Statement) -> OwnName {
        let reuses = self.link.reuses;
        let (own, is_new) = self.place(statement);
        self.link.reuses = reuses;
        let key = self.key(statement);
        let linked = self.link.linked.as_mut().filter(|_| !is_new);
        let Some(linked) = linked else { return own };
        let (old, number) = linked.server().held.renew(key);
        if let Some(old) = old {
            self.close_number(old);
        }
        OwnName::new(number)
    }

    pub(super) fn owe(&mut self, reply: Reply, op: Op) {
        self.exchange.owe(reply);
        self.names.get_or_insert_default().push(op);
    }

    pub(super) fn rewrite_parse(&mut self, body: &[u8], flags: Flags) -> Option<usize> {
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
            self.owe(Reply::ClosedUnasked, Op::Other);
            build::failing_parse(&mut self.link.rewritten);
            self.owe(Reply::Refused, Op::Refused(told.freeze()));
            return Some(used);
        }
        let text = split_cstr(tail)?.0;
        let has_room = names.has_room(tail.len());
        let kept = self.shared.statements.of(self.tenant()).read_by(self.reads_otherwise());
        let statement = kept.get(tail, flags).filter(|_| has_room);
        let Some(statement) = statement else {
            self.pin_to_server(Pinned::Lasting("more prepared statements than are kept"));
            self.note(flags, Some(text));
            return None;
        };
        let own = self.place_anew(&statement);
        build::parse(own.bytes(), tail, &mut self.link.rewritten);
        self.exchange.owe(Reply::Parsed);
        self.tally.parses.add(1);
        self.tally.server_parses.add(1);
        let parses = Some(self.key(&statement));
        self.names.get_or_insert_default().insert(name, statement, parses);
        Some(used)
    }

    /// For what PostgreSQL says of it: `ParseComplete` and `CloseComplete` are still to be owed.
    fn parse_for_nobody(&mut self, tail: &[u8]) {
        build::parse(NOBODYS, tail, &mut self.link.rewritten);
        build::close_statement(NOBODYS, &mut self.link.rewritten);
    }

    /// A name that the client never gave, and that may be one of the pooler's own on the server.
    fn refuse_own_name(&mut self, name: &[u8], used: usize) -> Option<usize> {
        if !name.starts_with(PREFIX) {
            return None;
        }
        let name = String::from_utf8_lossy(name).into_owned();
        let mut told = BytesMut::new();
        Refusal::UnknownStatement { name }.write(Severity::Error, &mut told);
        build::failing_parse(&mut self.link.rewritten);
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

    /// Of a message that is not whole, only the names are rewritten; the rest follows as it comes.
    pub(super) fn rewrite_bind(
        &mut self,
        frame: &[u8],
        whole: bool,
        next: Option<u8>,
    ) -> Option<usize> {
        let body = &frame[HEADER_LEN..];
        let (portal, behind) = split_cstr(body)?;
        let (name, rest) = split_cstr(behind)?;
        let statement = match name {
            [] if self.exchange.parsed_unnamed_statement() && !self.unnamed_drops() => {
                // It is there; what it does was noted when it was parsed.
                self.note_bound(whole.then_some(body));
                return None;
            }
            [] => self.unnamed(),
            _ => self.named(name),
        };
        let Some(statement) = statement else {
            return if whole { self.refuse_own_name(name, frame.len()) } else { None };
        };
        let instead = self.dropping(&statement);
        if instead.is_none() {
            self.note_bind(&statement, whole.then_some(body));
        }
        let own = match (name, &instead) {
            (_, Some(nothing)) => self.provide(nothing),
            ([], None) => {
                if !self.exchange.parsed_unnamed_statement() {
                    self.provide_unnamed();
                }
                OwnName::UNNAMED
            }
            (_, None) => self.provide(&statement),
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
        self.link.describes_portal_of = None;
        let is_new = self.names.as_ref().is_some_and(|names| names.told(name).is_none());
        if next == Some(tag::DESCRIBE) && !name.is_empty() && is_new && instead.is_none() {
            self.link.describes_portal_of = Some((name.into(), Some(self.key(&statement))));
        }
        self.exchange.on_client(tag::BIND, Said::Statement);
        self.tally.binds.add(u64::from(!name.is_empty()));
        Some(used)
    }

    /// What a statement does, it does when it runs.
    pub(super) fn note_bind(&mut self, statement: &Statement, body: Option<&[u8]>) {
        if !statement.flags.is_empty() {
            self.note(statement.flags, Some(statement.text()));
            self.note_bound(body);
        }
    }

    pub(super) fn rewrite_describe(&mut self, frame: &[u8]) -> Option<usize> {
        if frame.get(HEADER_LEN) != Some(&b'S') {
            return self.note_describe_of_portal(frame);
        }
        let (name, _) = split_cstr(frame.get(HEADER_LEN + 1..)?)?;
        if name.is_empty() {
            if !self.exchange.parsed_unnamed_statement() {
                self.provide_unnamed();
            }
            self.link.rewritten.put_slice(frame);
            self.note_describe(name, None);
        } else {
            let Some(statement) = self.named(name) else {
                return self.refuse_own_name(name, frame.len());
            };
            let own = self.provide(&statement);
            describe_statement(own.bytes(), &mut self.link.rewritten);
            let key = self.key(&statement);
            self.note_describe(name, Some(key));
        }
        Some(frame.len())
    }

    /// Servers keep the statement: it is somebody else's too. They know no such name, which is no error.
    pub(super) fn note_close(&mut self, body: &[u8]) -> Option<usize> {
        let (name, _) = split_cstr(body.get(1..)?)?;
        let names = self.names.get_or_insert_default();
        if names.get(name).is_none() && !name.starts_with(PREFIX) {
            return None;
        }
        names.remove(name);
        self.exchange.owe(Reply::Closed);
        build::close_statement(NOBODYS, &mut self.link.rewritten);
        Some(HEADER_LEN + body.len())
    }

    pub(super) fn rewrite_query(&mut self, body: &[u8], flags: Flags) -> Option<usize> {
        let text = split_cstr(body)?;
        let rewritten = match text {
            (text, []) if flags.intersects(SAYS_NAMES) && self.rewrite_sql(text, flags) => true,
            _ => self.rewrite_text(tag::QUERY, text, flags),
        };
        rewritten.then_some(HEADER_LEN + body.len())
    }

    /// `DEALLOCATE name`, of a name that only the pooler knows. Parsed, it takes nothing away yet.
    fn rewrite_text(&mut self, message: u8, (text, behind): (&[u8], &[u8]), flags: Flags) -> bool {
        let name = deallocated(text);
        if message == tag::PARSE && name.is_some() {
            return false;
        }
        let known =
            name.filter(|name| self.names.as_ref().is_some_and(|names| names.get(name).is_some()));
        let (Some(name), Some(names)) = (known, self.names.as_mut()) else {
            let says = SAYS_NAMES.union(Flags::one(Flag::Deallocate));
            if flags.intersects(says) && message == tag::QUERY && self.has_virtual_names() {
                self.make_all_if_used(text, flags);
            }
            self.note(flags, Some(text));
            return false;
        };
        names.deallocate(&name);
        let len = 4 + NOTHING.len() + 1 + behind.len();
        let out = &mut self.link.rewritten;
        out.put_u8(message);
        out.put_u32(u32::try_from(len).expect("the client's message was in a buffer"));
        for part in [NOTHING, b"\0", behind] {
            out.put_slice(part);
        }
        self.exchange.on_client(message, Said::Unnamed);
        true
    }
}
