//! Answers about prepared statements: which names hold from now on, and what the client hears.

use bytes::{Bytes, BytesMut};

use super::prepared::Deallocates;
use super::session::Session;
use crate::config::PoolMode;
use crate::flow::Reply;
use crate::prepared::{Op, PREFIX, UnnamedOf};
use crate::wire::backend::{ServerError, tag};
use crate::wire::build;
use crate::wire::frame::{HEADER_LEN, Header};

/// What a DEALLOCATE that was sent as something else is answered with.
const DISGUISED: &[u8] = b"UNLISTEN\0";
/// A notification up to the process id of its sender.
const NOTIFICATION_HEAD_LEN: usize = HEADER_LEN + 4;

/// `CommandComplete` as the client expects it.
const DEALLOCATED: &[u8] = b"C\x00\x00\x00\x0fDEALLOCATE\0";

impl Session {
    /// Whether a message may have to be told in other words.
    #[inline]
    pub(super) fn is_told_otherwise(&self, message: u8) -> bool {
        match message {
            tag::COMMAND_COMPLETE => {
                self.deallocates != Deallocates::No
                    || self.names.as_ref().is_some_and(|names| names.is_disguised())
            }
            // Who listens keeps its server.
            tag::NOTIFICATION => self.pin.is_some() || self.mode == PoolMode::Session,
            _ => false,
        }
    }

    pub(super) fn on_told_otherwise(&mut self, message: u8, count: usize) {
        match message {
            tag::NOTIFICATION => self.on_notification(count),
            _ => self.on_deallocated(count),
        }
    }

    /// A notification that the session has sent itself says so: the process id in it is the one that its client was told
    /// at the login.
    fn on_notification(&mut self, count: usize) {
        self.link.swallowing = false;
        let at = self.link.passed;
        let mut head =
            self.link.outbound.bytes()[at..at + count.min(NOTIFICATION_HEAD_LEN)].to_vec();
        self.name_sender(&mut head);
        self.link.outbound.overwrite(at, &head);
        self.pass(count);
    }

    /// The same for whole messages that came while the pooler asked something.
    pub(super) fn name_sender(&self, mut messages: &mut [u8]) {
        let Some(server) = self.server_pid() else { return };
        while let Ok(Some(header)) = Header::read(messages) {
            let sender = messages.get_mut(HEADER_LEN..NOTIFICATION_HEAD_LEN);
            if header.tag == tag::NOTIFICATION
                && let Some(sender) = sender.filter(|sender| **sender == server.to_be_bytes())
            {
                sender.copy_from_slice(&self.registration.pid.to_be_bytes());
            }
            messages =
                std::mem::take(&mut messages).get_mut(header.frame_len()..).unwrap_or_default();
        }
    }

    /// The answer to a message that the pooler has a hand in; `count` bytes long.
    pub(super) fn on_named(&mut self, reply: Reply, count: usize) {
        let op = self.names.as_mut().and_then(|names| names.answered());
        self.link.swallowing = matches!(
            reply,
            Reply::ParsedUnasked
                | Reply::ClosedUnasked
                | Reply::PreparedUnasked
                | Reply::DescribedUnasked
        );
        match (reply, op) {
            (Reply::Described | Reply::DescribedUnasked, Some(Op::Described { name, of, key })) => {
                self.on_described(count, (name.as_deref(), of), key);
                self.pass(count);
            }
            (Reply::Refused, Some(Op::Refused(told))) => {
                self.undo_unit(1);
                self.tell_instead(count, &told);
            }
            _ => self.pass(count),
        }
    }

    /// The client gets another message in the place of one of which `count` bytes are there.
    pub(super) fn tell_instead(&mut self, count: usize, told: &[u8]) {
        let replaced = self.link.outbound.replace(self.link.passed, count, told);
        self.pass(if replaced { told.len() } else { count });
        if replaced && !self.link.scan.at_boundary() {
            // What is still to come of the other one is not for it.
            (self.link.swallowing, self.link.inside) = (true, false);
        }
    }

    /// The error will be told in the place of the one that it leads to; of a long one, what is known of it.
    pub(super) fn foretell(&mut self, count: usize, error: Option<ServerError>) {
        self.undo_unit(0);
        let told = if self.link.scan.at_boundary() {
            let frame = &self.link.outbound.bytes()[self.link.passed..self.link.passed + count];
            Bytes::copy_from_slice(frame)
        } else {
            let mut told = BytesMut::new();
            build::error_response(error.unwrap_or_default().fields, &mut told);
            told.freeze()
        };
        self.names.get_or_insert_default().push(Op::Refused(told));
    }

    /// An error that calls one of the client's statements by its name on the server, in the client's words.
    pub(super) fn in_own_words(&mut self, count: usize) -> Option<Vec<u8>> {
        if !self.link.scan.at_boundary() {
            // One so long is none of the kind.
            return None;
        }
        let frame = &self.link.outbound.bytes()[self.link.passed..self.link.passed + count];
        let at = memchr::memmem::find(frame, PREFIX)?;
        let (before, behind) = (&frame[HEADER_LEN..at], &frame[at + PREFIX.len()..]);
        let digits = behind.iter().position(|byte| !byte.is_ascii_digit())?;
        let number = std::str::from_utf8(&behind[..digits]).ok()?.parse().ok()?;
        let statement = self.link.linked.as_mut()?.server().held.of_number(number)?;
        let name = self.names.as_ref()?.name_of(statement)?;
        let body = [before, name, &behind[digits..]].concat();
        let len = u32::try_from(body.len() + 4).ok()?;
        Some([&[tag::ERROR], &len.to_be_bytes()[..], &body].concat())
    }

    /// An error that lacks what every error has, with that.
    pub(super) fn completed(&self, error: Option<&ServerError>) -> Option<Vec<u8>> {
        let error = error.filter(|error| !error.is_complete() && self.link.scan.at_boundary())?;
        let mut told = BytesMut::new();
        build::error_response(error.clone().completed().fields, &mut told);
        Some(told.into())
    }

    /// An error: what was to follow in the unit does not happen. `known` of the skipped messages were dealt
    /// with.
    pub(super) fn undo_unit(&mut self, known: usize) {
        self.note_doubt();
        self.note_failed_unit();
        // What was asked may have been skipped, too: it is asked again.
        self.link.looks_at = None;
        self.undo_skipped(known);
        if let Some(lost) = self.exchange.take_unnamed_lost() {
            self.lose_unnamed(lost);
        }
        if let Some(names) = &mut self.names {
            names.not_deallocated();
        }
    }

    /// The server has skipped messages after an error; `known` of them were dealt with.
    pub(super) fn undo_skipped(&mut self, known: usize) {
        let skipped = self.exchange.take_skipped().saturating_sub(known);
        if skipped == 0 {
            return;
        }
        let Some(names) = &mut self.names else { return };
        let undone = names.skipped(skipped);
        if undone.unnamed {
            self.exchange.forget_unnamed();
        }
        let Some(linked) = &mut self.link.linked else { return };
        if undone.unnamed {
            linked.server().unnamed_left = Some(UnnamedOf::NOBODY);
        }
        let held = &mut linked.server().held;
        for lacks in undone.lacks {
            held.forget(lacks);
        }
        // They were to be closed.
        held.bury(undone.stay);
    }

    /// An error that says that the server's statements are not what they are taken for: they are
    /// parsed anew when they are next bound.
    ///
    /// `true` if it says so of a statement that would be good if it were parsed anew.
    pub(super) fn heal(&mut self, error: &ServerError) -> bool {
        let own_name =
            |text: &str| text.as_bytes().windows(PREFIX.len()).any(|part| part == PREFIX);
        let stale = match error.sqlstate() {
            // Some function has deallocated it.
            "26000" => own_name(error.message()),
            // A table has changed since it was parsed.
            "0A000" => error.field(b'R') == "RevalidateCachedQuery",
            _ => false,
        };
        if let (true, Some(linked)) = (stale, &mut self.link.linked) {
            linked.server().held.forget_all();
        }
        stale
    }

    /// A statement has ended, and one that takes prepared statements away was among those sent.
    fn on_deallocated(&mut self, count: usize) {
        self.link.swallowing = false;
        let frame = &self.link.outbound.bytes()[self.link.passed..self.link.passed + count];
        let body = frame.get(HEADER_LEN..).unwrap_or_default();
        if let (b"DISCARD ALL\0", Some(changes)) = (body, &mut self.changes) {
            changes.has_discarded = true;
        }
        let Some(names) = &mut self.names else { return self.pass(count) };
        match body {
            b"DEALLOCATE ALL\0" | b"DISCARD ALL\0" => names.clear(),
            _ if body == DISGUISED && names.is_disguised() => {
                names.deallocated();
                return self.tell_instead(count, DEALLOCATED);
            }
            _ => {}
        }
        self.pass(count);
    }
}
