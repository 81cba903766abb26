//! What a client sent, cut into units: a unit ends with a `Query`, `Sync`, `FunctionCall` or `Flush`.
//!
//! Nothing is sent to a server before a whole unit is there (or a buffer is full): a client that
//! sends half a message holds no server.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use super::changes::Pinned;
use super::deallocate::Drops;
use super::prepared::SAYS_NAMES;
use super::session::Session;
use crate::flow::{ClientEvent, ClientScan, ClientVerdict, READ_WHOLE_MAX};
use crate::net::BUFFER_LEN;
use crate::pool::Taint;
use crate::server::Parameters;
use crate::sql::{Flag, Flags};
use crate::wire::frame::HEADER_LEN;
use crate::wire::frontend::{Names, tag};
use crate::wire::split_cstr;
use bytes::{Buf, BytesMut};
use tokio::io::AsyncWrite;

// What is waited for has to fit.
const _: () = assert!(READ_WHOLE_MAX <= BUFFER_LEN);

/// Answer to a `Sync` that needs no server.
const READY: &[u8] = b"Z\x00\x00\x00\x05I";

/// Where the scan of the inbound buffer stands.
#[derive(Default)]
pub(super) struct Units {
    scan: ClientScan,
    /// Bytes at the front of the buffer that were scanned and are to be forwarded.
    pub(super) scanned: usize,
    /// The message that is being scanned is not forwarded.
    discarding: bool,
    /// A whole unit is there, not just as much of one as a buffer holds.
    pub(super) whole: bool,
    /// Answers of the pooler's own, still to be written.
    answers: Option<Box<BytesMut>>,
    /// They, or the last of them, may still be in the stream's own buffer.
    flush: bool,
    /// Whether the unit has to be written anew for the server it goes to.
    pub(super) rewriting: Rewriting,
}

/// How a unit is written anew.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rewriting {
    /// It goes as it is.
    #[default]
    No,
    /// A message of it is.
    Yes,
    /// And a `Sync` of the pooler's own may stand in front of one of the client's. It must not go out before the switch
    /// is confirmed: PostgreSQL skips what stands behind a failed one up to the next `Sync`, and no further.
    WithSyncs,
}

impl Units {
    /// To be scanned from the beginning once more.
    pub(super) fn rewind(&mut self) {
        self.scan = ClientScan::new();
        self.scanned = 0;
    }

    /// Bytes of the message that is being scanned were used by somebody else.
    pub(super) fn took(&mut self, count: usize) {
        self.scan.took(u32::try_from(count).expect("they were in a buffer"));
    }

    /// Whether something of ours is still to be written to the client.
    #[inline]
    pub(super) const fn owes_client(&self) -> bool {
        self.answers.is_some() || self.flush
    }

    /// Answers in the server's place.
    pub(super) fn answer(&mut self, messages: &[u8]) {
        self.answers.get_or_insert_default().extend_from_slice(messages);
    }

    /// Whether the message that is being scanned goes nowhere.
    pub(super) const fn is_discarding(&self) -> bool {
        self.discarding
    }

    pub(super) const fn at_boundary(&self) -> bool {
        self.scan.at_boundary()
    }

    /// Whether part of a message was forwarded and the rest is still to come.
    pub(super) const fn is_inside_forwarded(&self) -> bool {
        !self.scan.at_boundary() && !self.discarding
    }
}

/// Why a message is refused that resets the session.
pub(super) const NO_WAY_BACK: &str =
    "RESET or DISCARD behind a COPY that failed with its Sync sent early cannot be followed";

/// Where a message meets the session.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Linked,
    Unlinked,
    /// Without a server, and it has no body.
    UnlinkedAndEmpty,
}

impl Place {
    /// Of a message of so many bytes that comes without a server.
    const fn of(frame_len: usize) -> Self {
        if frame_len == HEADER_LEN { Self::UnlinkedAndEmpty } else { Self::Unlinked }
    }
}

/// What a look at the inbound bytes found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Something; look again.
    Progress,
    /// Nothing more to find until more bytes come.
    NeedsMore,
    /// A unit is complete.
    UnitEnds,
    /// The client leaves.
    Terminate,
    /// The pooler stops.
    Stop,
    /// The client broke the protocol.
    Broken(String),
}

/// Why texts of a client with these parameters cannot be read by a lexer of ASCII bytes.
pub(super) fn unreadable(told: &Parameters) -> Option<&'static str> {
    let ends_in_ascii = |encoding: &[u8]| {
        let unsafe_for_lexers: [&[u8]; 7] =
            [b"SJIS", b"SHIFT_JIS_2004", b"BIG5", b"GBK", b"UHC", b"GB18030", b"JOHAB"];
        unsafe_for_lexers.contains(&encoding)
    };
    if told.get("standard_conforming_strings") == Some(b"off") {
        Some("standard_conforming_strings = off")
    } else if told.get("client_encoding").is_some_and(ends_in_ascii) {
        Some("client_encoding")
    } else {
        None
    }
}

/// The text in the body of a `Query` or `Parse`.
pub(super) fn text(tag: u8, body: &[u8]) -> Option<&[u8]> {
    let text = match tag {
        tag::QUERY => body,
        tag::PARSE => split_cstr(body)?.1,
        _ => return None,
    };
    split_cstr(text).map(|(text, _)| text)
}

impl Session {
    /// Scans the next piece of what the client sent. `linked`: it holds a server.
    #[inline]
    pub(super) fn scan(&mut self, linked: bool) -> Step {
        if self.units.scanned == self.inbound.len() && self.units.at_boundary() {
            return Step::NeedsMore;
        }
        self.scan_more(linked)
    }

    // Not in line: mostly there is nothing more, and to see that is all that should cost.
    #[inline(never)]
    fn scan_more(&mut self, linked: bool) -> Step {
        if !linked
            && self.units.scanned == 0
            && let Some(names) = &mut self.names
        {
            names.begin_unit();
        }
        while self.fuel.burn() {
            let bytes = &self.inbound.bytes()[self.units.scanned..];
            let Ok((count, event)) = self.units.scan.next(bytes) else {
                return Step::Broken("invalid message length".to_owned());
            };
            return match event {
                None => {
                    if !self.has_room_for_next() {
                        self.units.scan.refuse_room();
                        continue;
                    }
                    self.take(count);
                    if count == 0 { Step::NeedsMore } else { Step::Progress }
                }
                Some(ClientEvent::Whole { tag, names, flags }) => {
                    let flags = self.with_names_inside(tag, flags, count);
                    match self.pass_plain((tag, names, flags), count, linked) {
                        Some(Step::Progress) => continue,
                        Some(step) => step,
                        None => self.whole_message((tag, names, flags), count, linked),
                    }
                }
                Some(ClientEvent::Begins { tag, names }) => self.message_begins(tag, names, linked),
                Some(ClientEvent::Ends { tag, flags }) => self.message_ends(tag, flags, count),
            };
        }
        Step::NeedsMore
    }

    /// A message of which only the header and perhaps a part of its body is there.
    fn message_begins(&mut self, tag: u8, names: Names, linked: bool) -> Step {
        let place = if linked { Place::Linked } else { Place::Unlinked };
        if tag == tag::BIND && self.is_rewritten(tag, names, Flags::NONE) {
            if linked {
                let waits = self.rewrite(tag, false, Flags::NONE);
                if waits.is_some() {
                    self.units.scan = ClientScan::new();
                }
                return waits.unwrap_or(Step::Progress);
            }
            self.units.rewriting = self.units.rewriting.max(Rewriting::Yes);
        }
        if matches!(tag, tag::PARSE | tag::QUERY) && names != Names::Statement {
            self.forget_unnamed();
        }
        if (tag, names) == (tag::PARSE, Names::Statement) && self.gives_known_name() {
            // PostgreSQL would say so itself, of a name that it does not have.
            return Step::Broken("a statement this long may not take a name that is in use".into());
        }
        if tag == tag::PARSE {
            self.forget_resets();
        }
        if let Some(end) = self.begin_message(tag, names, place) {
            return end;
        }
        self.pin_if_named(tag, names);
        if tag == tag::FLUSH && !self.units.discarding {
            self.exchange.on_malformed_flush();
        }
        self.take(HEADER_LEN);
        Step::Progress
    }

    /// Whether a `Parse` whose beginning is there gives a name that a statement has.
    fn gives_known_name(&self) -> bool {
        let bytes = &self.inbound.bytes()[self.units.scanned..];
        let name = bytes.get(HEADER_LEN..).and_then(split_cstr).map(|(name, _)| name);
        let known = name.and_then(|name| self.names.as_ref()?.get(name));
        self.has_virtual_names() && known.is_some()
    }

    /// Whether the message that waits can be read as a whole. A named statement is kept and sent to other servers.
    fn has_room_for_next(&mut self) -> bool {
        let Some(len) = self.units.scan.wants() else { return true };
        self.has_virtual_names() && self.inbound.grow(self.units.scanned + len)
    }

    /// The last `count` bytes of such a message are there.
    fn message_ends(&mut self, tag: u8, flags: Flags, count: usize) -> Step {
        if !self.units.discarding && self.refusal_of(flags, None).is_some() {
            // Its end is never sent, so nothing of it runs.
            return Step::Broken("a statement this long may not change the session".into());
        }
        if self.cannot_come_back(tag, flags) {
            return Step::Broken(NO_WAY_BACK.to_owned());
        }
        self.take(count);
        if !flags.is_empty() {
            self.note(flags, None);
        }
        if tag == tag::BIND {
            self.note_bound(None);
        }
        self.note_own_name(tag, Names::Statement, flags);
        self.end_message(tag)
    }

    /// A message that is there from its header to its end, `count` bytes long.
    fn whole_message(
        &mut self,
        (tag, names, flags): (u8, Names, Flags),
        count: usize,
        linked: bool,
    ) -> Step {
        let place = if linked { Place::Linked } else { Place::of(count) };
        let rewritten = self.is_rewritten(tag, names, flags);
        if rewritten {
            if self.cannot_come_back(tag, flags) {
                return Step::Broken(NO_WAY_BACK.to_owned());
            }
            if linked {
                return self.rewrite(tag, true, flags).unwrap_or_else(|| self.end_message(tag));
            }
            let says = SAYS_NAMES.union(Flags::one(Flag::Deallocate));
            let makes = matches!(tag, tag::QUERY | tag::PARSE) && flags.intersects(says)
                || self.drops(tag) == Drops::Sometime;
            let how = if makes { Rewriting::WithSyncs } else { Rewriting::Yes };
            self.units.rewriting = self.units.rewriting.max(how);
        }
        if let Some(end) = self.begin_message(tag, names, place) {
            return end;
        }
        if tag == tag::FLUSH && count > HEADER_LEN && !self.units.discarding {
            self.exchange.on_malformed_flush();
        }
        if !rewritten && names == Names::Statement {
            self.pin_if_named(tag, names);
            self.note_own_name(tag, names, flags);
        }
        // What a named statement does, it does when it is bound.
        let is_later = rewritten
            && ((tag, names) == (tag::PARSE, Names::Statement) || flags.intersects(SAYS_NAMES));
        if (!flags.is_empty() || self.changes.is_some()) && !is_later {
            self.note_whole(tag, flags, count);
        }
        self.keep_if_unnamed(tag, names, count, flags);
        self.take(count);
        self.end_message(tag)
    }

    /// It resets the session, and nobody can put the tenant's state back: which of the answers to that are the client's,
    /// nobody could tell.
    fn cannot_come_back(&self, message: u8, flags: Flags) -> bool {
        self.exchange.is_unsure() && self.may_reset(message, flags)
    }

    /// What a message does to the unnamed statement.
    pub(super) fn keep_if_unnamed(&mut self, tag: u8, names: Names, count: usize, flags: Flags) {
        if self.exchange.skips_to_sync() {
            return;
        }
        match (tag, names) {
            (tag::PARSE, Names::Unnamed) => self.keep_unnamed(count, flags),
            (tag::QUERY, _) | (tag::CLOSE, Names::Unnamed) => self.forget_unnamed(),
            _ => {}
        }
    }

    /// A statement under its own name, on a server of the client's own: if it is too long to be kept,
    /// or none is to be.
    pub(super) fn pin_if_named(&mut self, tag: u8, names: Names) {
        let counts = !self.units.discarding && !self.exchange.skips_to_sync();
        if (tag, names) == (tag::PARSE, Names::Statement) && counts {
            self.pin_to_server(Pinned::Lasting("prepared statement"));
        }
    }

    /// A whole message, `count` bytes long, that may change the session. Rare.
    #[cold]
    fn note_whole(&mut self, tag: u8, flags: Flags, count: usize) {
        let frame = &self.inbound.bytes()[self.units.scanned..self.units.scanned + count];
        let body: Box<[u8]> = frame[HEADER_LEN..].into();
        if !flags.is_empty() {
            self.note(flags, text(tag, &body));
        }
        if tag == tag::BIND {
            self.note_bound(Some(&body));
        }
    }

    fn end_message(&mut self, tag: u8) -> Step {
        match (std::mem::take(&mut self.units.discarding), tag) {
            (true, tag::SYNC) => {
                self.units.answer(READY);
                Step::Progress
            }
            (false, tag::QUERY | tag::SYNC | tag::FUNCTION_CALL) => {
                self.seal_unit();
                Step::UnitEnds
            }
            (false, tag::FLUSH) => Step::UnitEnds,
            _ => Step::Progress,
        }
    }

    /// `Some`: there is nothing to scan behind it.
    fn begin_message(&mut self, tag: u8, names: Names, place: Place) -> Option<Step> {
        if tag == tag::QUERY && self.exchange.is_unsynced() {
            // Behind a query in the middle of a pipeline, PostgreSQL 18 fails the first statement that comes: whoever
            // has the server next is not to hear of it.
            self.taint(Taint::Scrub);
        }
        let verdict = match place {
            Place::Linked => self.exchange.on_client(tag, names),
            Place::Unlinked | Place::UnlinkedAndEmpty => self.unlinked(tag, names, place),
        };
        match verdict {
            ClientVerdict::Forward => {}
            ClientVerdict::Discard => self.units.discarding = true,
            ClientVerdict::Terminate => {
                // What came before it was forwarded whole; it is not.
                self.units.discarding = true;
                return Some(Step::Terminate);
            }
            ClientVerdict::Unknown => {
                return Some(Step::Broken(format!("invalid frontend message type {tag}")));
            }
        }
        None
    }

    /// Without a server: a lone `Sync` is answered here, a lone `Flush` has nothing to flush, and
    /// behind a refused unit everything up to the `Sync` is dropped.
    fn unlinked(&mut self, tag: u8, names: Names, place: Place) -> ClientVerdict {
        let skips = self.exchange.skips_to_sync();
        // With a body, it is PostgreSQL's to complain about.
        let lone = place == Place::UnlinkedAndEmpty
            && !self.exchange.is_busy()
            && !self.exchange.is_unsynced();
        match tag {
            tag::TERMINATE => ClientVerdict::Terminate,
            tag::SYNC if skips => {
                self.exchange.reset();
                ClientVerdict::Discard
            }
            tag::SYNC | tag::FLUSH if lone => ClientVerdict::Discard,
            _ => match self.exchange.on_client(tag, names) {
                ClientVerdict::Forward if skips => ClientVerdict::Discard,
                verdict => verdict,
            },
        }
    }

    fn take(&mut self, count: usize) {
        if self.units.discarding {
            self.inbound.cut(self.units.scanned, count);
        } else {
            self.units.scanned += count;
            // An answer to it was not asked for.
            self.link.asked = false;
        }
    }

    /// The unit is dropped; what is still to come of its last message is dropped as it comes.
    pub(super) fn forget_unit(&mut self) {
        self.inbound.consume(self.units.scanned);
        self.units.scanned = 0;
        self.units.rewriting = Rewriting::No;
        self.units.discarding = !self.units.at_boundary();
    }

    /// Writes what needed no server.
    pub(super) fn poll_answers(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(answers) = &mut self.units.answers {
            let written = ready!(Pin::new(&mut self.client).poll_write(cx, answers))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.tally.sent.add(written as u64);
            self.fuel.fill();
            answers.advance(written);
            if answers.is_empty() {
                self.units.answers = None;
            }
            self.units.flush = self.client.buffers_writes();
        }
        if self.units.flush {
            ready!(Pin::new(&mut self.client).poll_flush(cx))?;
            self.units.flush = false;
        }
        Poll::Ready(Ok(()))
    }
}
