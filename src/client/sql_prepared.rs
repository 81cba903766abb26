//! `PREPARE` and `EXECUTE` in SQL: the same names as those of the protocol, on any server.
//!
//! A plain one, alone in a simple query, goes to the server under the statement's name there; what the
//! server lacks is prepared in front. Where a name is given or used otherwise (EXPLAIN EXECUTE, many
//! statements, the extended protocol) the session gets a server of its own, with all its statements
//! under their own names. So it is where a text may use one inside a string or a body that it runs.

use bytes::{BufMut, BytesMut};

use super::changes::Pinned;
use super::prepared::SAYS_NAMES;
use super::refusal::{Refusal, Severity};
use super::session::Session;
use super::statements::NOBODYS;
use crate::flow::Reply;
use crate::prepared::{Key, Maker, Op, PREFIX, Statement};
use crate::sql::{
    Flag, Flags, Named, deallocated, executes, leaves_block, prepares, says_in_string, used,
};
use crate::wire::backend::tag as reply;
use crate::wire::build;
use crate::wire::frame::HEADER_LEN;
use crate::wire::frontend::{Names as Said, tag};

/// Statement and portal that make a `PREPARE` of the pooler's own run.
pub(super) const MAKER: &[u8] = b"tenantry_maker";

/// Replies to `Parse`, `Bind` and `Close`.
const MADE: [u8; 3] = [reply::PARSE_COMPLETE, reply::BIND_COMPLETE, reply::CLOSE_COMPLETE];

impl Session {
    /// A simple query goes out in other words. `false`: it goes as it is.
    pub(super) fn rewrite_sql(&mut self, text: &[u8], flags: Flags) -> bool {
        let done = if flags == Flags::one(Flag::Prepare) {
            prepares(text).is_some_and(|named| self.rewrite_prepare(text, &named))
        } else if flags == Flags::one(Flag::Execute) {
            executes(text).is_some_and(|named| self.rewrite_execute(text, &named))
        } else {
            false
        };
        if done {
            self.forget_unnamed();
        }
        done
    }

    fn rewrite_prepare(&mut self, text: &[u8], named: &Named) -> bool {
        let known = self.names.get_or_insert_default();
        let exists = known.get(&named.name).is_some();
        let definition = &text[named.at.end..named.end];
        let has_room = known.has_room(definition.len()) && !named.name.is_empty();
        let kept = self.shared.statements.of(self.tenant()).read_by(self.reads_otherwise());
        let statement = kept.get_prepared(definition).filter(|_| has_room);
        let Some(statement) = statement else { return false };
        if exists {
            self.write_statement(text, named, NOBODYS);
        } else {
            let own = self.place_anew(&statement);
            self.write_statement(text, named, own.bytes());
        }
        build::execute(b"", &mut self.link.rewritten);
        self.exchange.owe_unasked(&MADE);
        if exists {
            // What is wrong with the text comes first.
            build::close_statement(NOBODYS, &mut self.link.rewritten);
            let name = String::from_utf8_lossy(&named.name).into_owned();
            self.owe(Reply::PreparedUnasked, Op::Other);
            self.owe(Reply::ClosedUnasked, Op::Other);
            self.close_unnamed_portal();
            self.refuse_statement(&Refusal::DuplicateStatement { name });
        } else {
            self.exchange.owe(Reply::Prepared);
            let parses = Some(self.key(&statement));
            self.names.get_or_insert_default().insert(&named.name, statement, parses);
            self.close_unnamed_portal();
        }
        self.end_statement();
        true
    }

    fn rewrite_execute(&mut self, text: &[u8], named: &Named) -> bool {
        let known = self.named(&named.name);
        let Some(statement) = known else {
            // In a block that has failed, PostgreSQL says that first.
            let is_sound = !self.exchange.in_block() || self.exchange.in_sound_block();
            if named.name.starts_with(PREFIX) && is_sound {
                let name = String::from_utf8_lossy(&named.name).into_owned();
                self.refuse_statement(&Refusal::UnknownStatement { name });
                self.end_statement();
                return true;
            }
            return false;
        };
        if statement.flags.contains(Flag::Deallocate) && deallocated(statement.text()).is_some() {
            // It may name another of them.
            return false;
        }
        self.note_bind(&statement, None);
        let before = self.link.rewritten.len();
        let own = self.provide(&statement);
        if self.link.rewritten.len() > before {
            self.end_making();
        }
        build::query_bytes(&renamed(text, named, own.bytes()), &mut self.link.rewritten);
        self.exchange.on_client(tag::QUERY, Said::Unnamed);
        true
    }

    /// `Parse` and `Bind` of the text with another name in it. The unnamed statement is closed again: a
    /// simple query leaves none.
    fn write_statement(&mut self, text: &[u8], named: &Named, own: &[u8]) {
        let tail = [&renamed(text, named, own)[..], b"\0\0\0"].concat();
        let out = &mut self.link.rewritten;
        build::parse(b"", &tail, out);
        build::bind(b"", b"", out);
        build::close_unnamed_statement(out);
    }

    /// A simple query leaves no portal, in a block neither.
    fn close_unnamed_portal(&mut self) {
        build::close_portal(b"", &mut self.link.rewritten);
        self.exchange.owe_unasked(&[reply::CLOSE_COMPLETE]);
    }

    fn end_statement(&mut self) {
        self.link.rewritten.put_slice(build::SYNC);
        self.exchange.on_client(tag::SYNC, Said::Other);
    }

    fn refuse_statement(&mut self, refusal: &Refusal) {
        let mut told = BytesMut::new();
        refusal.write(Severity::Error, &mut told);
        build::failing_parse(&mut self.link.rewritten);
        self.owe(Reply::Refused, Op::Refused(told.freeze()));
    }

    /// Makes a statement on the server, under a name, by what made it first.
    pub(super) fn make(&mut self, statement: &Statement, name: &[u8], key: Option<Key>) {
        let (there, back) = self.reading(statement);
        for sql in there {
            self.run_own(sql.as_bytes());
        }
        self.make_here(statement, name, key);
        for sql in back {
            self.run_own(sql.as_bytes());
        }
    }

    /// The same, by the settings that the session has.
    fn make_here(&mut self, statement: &Statement, name: &[u8], key: Option<Key>) {
        self.tally.server_parses.add(1);
        let out = &mut self.link.rewritten;
        if statement.maker == Maker::Parse {
            build::parse(name, &statement.tail, out);
            match key {
                Some(key) => self.owe(Reply::ParsedUnasked, Op::Parse(key)),
                None => self.exchange.owe_unasked(&[reply::PARSE_COMPLETE]),
            }
            return;
        }
        self.run_unasked(&[b"PREPARE ", &quoted(name)[..], &statement.tail].concat());
        match key {
            Some(key) => self.owe(Reply::PreparedUnasked, Op::Parse(key)),
            None => self.exchange.owe_unasked(&[reply::COMMAND_COMPLETE]),
        }
        self.exchange.owe_unasked(&[reply::CLOSE_COMPLETE; 2]);
    }

    /// Runs a text beside the client's own unnamed statement and portal. `CommandComplete` and two times
    /// `CloseComplete` are still to be owed.
    fn run_unasked(&mut self, text: &[u8]) {
        self.write_beside(text);
        let made = [
            reply::CLOSE_COMPLETE,
            reply::CLOSE_COMPLETE,
            reply::PARSE_COMPLETE,
            reply::BIND_COMPLETE,
        ];
        self.exchange.owe_unasked(&made);
    }

    /// The same, and nobody hears of it.
    fn run_own(&mut self, text: &[u8]) {
        self.run_unasked(text);
        let ended = [reply::COMMAND_COMPLETE, reply::CLOSE_COMPLETE, reply::CLOSE_COMPLETE];
        self.exchange.owe_unasked(&ended);
    }

    /// What follows is not to be skipped behind an error of what was put in front of it.
    fn end_making(&mut self) {
        debug_assert!(
            !self.exchange.switching(),
            "what stands behind this would run if the switch failed"
        );
        self.link.rewritten.put_slice(build::SYNC);
        self.exchange.owe_sync();
    }

    /// A text that is not plain uses a name that only the pooler gives: it is somebody else's.
    pub(super) fn refuse_if_own_name(&mut self, message: u8, text: &[u8]) -> bool {
        let known =
            |name: &[u8]| self.names.as_ref().is_some_and(|names| names.get(name).is_some());
        let strange = used(text).into_iter().find(|name| name.starts_with(PREFIX) && !known(name));
        let is_sound = !self.exchange.in_block() || self.exchange.in_sound_block();
        let Some(name) = strange.filter(|_| is_sound) else { return false };
        let name = String::from_utf8_lossy(&name).into_owned();
        self.refuse_statement(&Refusal::UnknownStatement { name });
        if message == tag::QUERY {
            self.end_statement();
        }
        true
    }

    /// A text may use the client's names inside what it runs: in a string, a body, a procedure. It counts as an
    /// `EXECUTE` that is not plain.
    #[inline]
    pub(super) fn with_names_inside(&self, message: u8, flags: Flags, count: usize) -> Flags {
        match &self.names {
            Some(names) if names.has_prepared() => self.with_prepared_names(message, flags, count),
            Some(_) | None => flags,
        }
    }

    #[cold]
    fn with_prepared_names(&self, message: u8, flags: Flags, count: usize) -> Flags {
        if flags.intersects(SAYS_NAMES) || !self.has_virtual_names() {
            return flags;
        }
        let frame = &self.inbound.bytes()[self.units.scanned..self.units.scanned + count];
        let body = frame.get(HEADER_LEN..).unwrap_or_default();
        let inside =
            super::units::text(message, body).is_some_and(|text| self.runs_names(text, flags));
        if inside { flags.union(Flags::one(Flag::Execute)) } else { flags }
    }

    fn runs_names(&self, text: &[u8], flags: Flags) -> bool {
        let hidden = [Flag::Do, Flag::Call, Flag::RunsText, Flag::UnicodeIdentifier];
        let mut prepared = self.names.iter().flat_map(|names| names.prepared());
        prepared.any(|name| {
            hidden.iter().any(|flag| flags.contains(*flag)) || says_in_string(text, name)
        })
    }

    /// A text that passes as it is gives or uses a name: the server gets all of them as they are, and the
    /// session stays there. Not where nothing can be prepared.
    pub(super) fn make_all_if_used(&mut self, text: &[u8], flags: Flags) {
        let can = !self.exchange.in_block() || self.exchange.in_sound_block();
        let names = self.names.as_ref();
        let is_known = |name: &Vec<u8>| names.is_some_and(|names| names.get(name).is_some());
        let uses = flags.contains(Flag::Prepare)
            || used(text).iter().any(is_known)
            || self.runs_names(text, flags);
        if !uses || self.has_own_names {
            return;
        }
        if can {
            self.make_all();
        } else if leaves_block(text) && !self.exchange.is_unsynced() {
            self.make_all_in_failed_block();
        }
    }

    /// In a block that has failed nothing can be made. It is rolled back in front of a text that does that itself, and another
    /// one is begun and fails: the text finds what it has left.
    fn make_all_in_failed_block(&mut self) {
        self.run_own(b"ROLLBACK");
        self.end_making();
        self.make_all_in(false);
        self.run_own(b"BEGIN");
        build::failing_parse(&mut self.link.rewritten);
        self.exchange.owe_unasked(&[reply::PARSE_COMPLETE]);
        self.link.rewritten.put_slice(build::SYNC);
        self.exchange.owe_tried_sync();
    }

    /// The same, whatever it says. Not where nothing can be prepared.
    pub(super) fn make_all(&mut self) {
        self.make_all_in(self.exchange.in_block());
    }

    fn make_all_in(&mut self, in_block: bool) {
        let in_pipeline = self.exchange.is_unsynced();
        let names = self.names.get_or_insert_default();
        let all: Vec<_> = names.iter().map(|(name, made)| (name.to_vec(), made.clone())).collect();
        names.clear();
        self.note_own_resets(&all);
        self.run_own(b"DEALLOCATE ALL");
        if let Some(linked) = &mut self.link.linked {
            linked.server().held.deallocate_all();
        }
        // What cannot be prepared again, say because its table is gone, is left out: that is not the client's failure.
        // Not in a pipeline: there is no Sync in it but the client's.
        debug_assert!(in_pipeline || !self.exchange.switching(), "see `Rewriting::WithSyncs`");
        for (name, statement) in all {
            self.own_flags = self.own_flags.union(statement.flags);
            if in_pipeline {
                self.make(&statement, &name, None);
                continue;
            }
            if in_block {
                self.run_own(b"SAVEPOINT tenantry");
            }
            self.make(&statement, &name, None);
            self.link.rewritten.put_slice(build::SYNC);
            self.exchange.owe_tried_sync();
            if in_block {
                // What failed has left its portal. No statement is taken back.
                build::close_portal(MAKER, &mut self.link.rewritten);
                self.exchange.owe_unasked(&[reply::CLOSE_COMPLETE]);
                self.run_own(b"ROLLBACK TO SAVEPOINT tenantry");
                self.run_own(b"RELEASE SAVEPOINT tenantry");
            }
        }
        if !in_pipeline {
            self.end_making();
        }
        self.has_own_names = true;
        self.pin_to_server(Pinned::Lasting("EXECUTE that is not plain"));
    }
}

fn quoted(name: &[u8]) -> Vec<u8> {
    let doubled = name.iter().flat_map(|byte| match byte {
        b'"' => &b"\"\""[..],
        _ => std::slice::from_ref(byte),
    });
    [b"\"", &*doubled.copied().collect::<Vec<_>>(), b"\""].concat()
}

/// The text with another name in it: in quotes, because what stands beside it need not be a blank.
fn renamed(text: &[u8], named: &Named, own: &[u8]) -> Vec<u8> {
    [&text[..named.at.start], &quoted(own), &text[named.at.end..]].concat()
}
