//! What a session holds while it is linked to a server, and how it parts with it.
//!
//! ```text
//! client --inbound--> scan --> [frames of the switch] unit --> server      (`to_server`)
//! client <-------------- scan, swallow the switch's replies <-- outbound -- server   (`to_client`)
//! ```
//!
//! Until the switch is confirmed only the client's first unit is sent, and kept: if PostgreSQL
//! refuses the switch, the unit has not run and can be sent to another server. Each direction
//! reads only when it has nothing left to write: that is the back-pressure.

use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};

use super::chained::Verified;
use super::clock::Left;
use super::departure;
use super::described::LooksAt;
use super::kept::SESSION_MODE;
use super::prepared::Deallocates;
use super::refusal::Refusal;
use super::session::Session;
use super::timing::Timing;
use super::units::{Rewriting, Step};
use crate::config::PoolMode;
use crate::engine::tick;
use crate::flow::ServerScan;
use crate::net::{Buffer, Phase};
use crate::pool::{Checkout, Linked, Taint};
use crate::prepared::Key;
use crate::server::{Frames, Switch};
use crate::wire::backend::ServerError;
use crate::wire::build::{FLUSH, SYNC};
use crate::wire::frame::{HEADER_LEN, Header};
use crate::wire::frontend::tag;

/// How a link ended, or why the relay stops for a moment. Small, because every transaction passes one
/// up: what is rare is boxed.
pub(super) enum LinkEnd {
    /// The server went back to its pool, and the client has all that it was sent.
    Released,
    /// The client left.
    ClientLeft,
    /// PostgreSQL refused the switch, on the server with this process id: the unit has not run.
    SwitchFailed(Box<ServerError>, Option<i32>),
    /// The server broke off before a byte was sent to it.
    NotSent(String),
    /// The client gets a last word.
    Farewell(Box<Refusal>),
    /// The client has heard the server's last word.
    Over,
    /// The client may have changed its session; the server is kept, and asked.
    Observe,
    /// The client has reset settings in a transaction that goes on; its own come back in it.
    Restore,
    /// A transaction has ended and the next one has begun in the same unit; the server is asked in that one.
    Chained,
    /// Nobody can tell what the server still owes; it is kept, and asked.
    Unsure,
    /// Between two transactions: its tenant may be another by now; the server is kept.
    Outdated,
}

/// The server, and what is under way between the two.
#[derive(Default)]
pub(super) struct Link {
    /// Gone once the server went back; then only `outbound` is left to be written.
    pub(super) linked: Option<Linked>,
    /// Frames of the switch that are still to be written.
    pub(super) prefix: Bytes,
    pub(super) confirmed: bool,
    /// What was written anew of the client's messages, and goes out before the rest of them.
    pub(super) rewritten: BytesMut,
    /// The server was asked for the answers to what was sent of the unit.
    pub(super) asked: bool,
    /// A statement that the server had before is used.
    pub(super) reuses: bool,
    /// The unit is kept until the first answer to it: such a statement may turn out to be stale, and
    /// then nothing has run.
    pub(super) keeps_unit: bool,
    /// A statement of the unit that is kept must return what the client was told: if it is stale, the client hears of
    /// it.
    pub(super) must_not_change: bool,
    /// The statement of which it was asked what it returns here.
    pub(super) looks_at: Option<LooksAt>,
    /// The statement of the portal that is described next, and that the client has not been told of.
    pub(super) describes_portal_of: Option<(Box<[u8]>, Option<Key>)>,
    /// It has turned out to be: behind the server's `ReadyForQuery` the unit is sent once more.
    pub(super) sends_again: bool,
    /// The unit did not fit into the buffer: it waits until the switch is confirmed.
    pub(super) held_back: bool,
    /// Bytes of the inbound buffer that were written and are kept until the switch is confirmed.
    pub(super) sent: usize,
    pub(super) wrote: bool,
    begun: bool,
    /// The server takes nothing any more; it may still have a last word.
    pub(super) write_error: Option<Box<str>>,
    /// The client said goodbye; what it sent before is still to be written.
    pub(super) leaving: bool,
    /// The client's stream has ended; what is in the buffer is still to be read.
    pub(super) ended: bool,
    /// Since when, if a statement runs.
    pub(super) left: Left,
    /// The client broke the protocol; what it sent before is answered first.
    pub(super) broken: Option<Box<str>>,
    /// The message by which it did that was sent in part and gets no end: it is never answered.
    pub(super) is_cut_off: bool,
    pub(super) outbound: Buffer,
    /// What goes out behind `passed`, and had no room there.
    pub(super) aside: BytesMut,
    /// Bytes at the front of `outbound` that go to the client.
    pub(super) passed: usize,
    pub(super) scan: ServerScan,
    /// The rest of the message that is being scanned is not for the client.
    pub(super) swallowing: bool,
    /// The client has the beginning of a message and not yet its end.
    pub(super) inside: bool,
    /// The server said FATAL.
    pub(super) fatal: bool,
    pub(super) flush_client: bool,
    pub(super) flush_server: bool,
    /// When what began.
    pub(super) timing: Timing,
}

impl Link {
    /// Nobody has left, nothing is broken, and the server is between two messages.
    #[inline]
    pub(super) fn is_sound(&self) -> bool {
        self.confirmed
            && self.scan.at_boundary()
            && !(self.leaving || self.ended || self.fatal)
            && self.broken.is_none()
            && self.write_error.is_none()
    }
}

impl Session {
    /// Binds the session to a server; the switch goes in front of the unit that waits.
    pub(super) fn link_to(&mut self, checkout: Checkout) {
        self.fuel.burn_for_a_server();
        let mut checkout = checkout;
        let before =
            (!Arc::ptr_eq(checkout.reported(), &self.told)).then(|| checkout.known().clone());
        let (mut linked, switch) = checkout.switch_to(&self.target);
        let now = tick();
        self.registration.slot.link(Arc::clone(&linked.server().cancel_key), now);
        if self.mode == PoolMode::Session {
            self.registration.slot.pin(Some(SESSION_MODE));
        }
        linked.taint(self.taint);
        self.watch_link();
        let frames = match switch {
            Switch::Frames { frames, .. } => Some(frames),
            Switch::None => self.stray_statement(&mut linked),
        };
        if self.deallocates != Deallocates::No {
            linked.server().held.forget_all();
        }
        self.link.linked = Some(linked);
        self.link.timing = Timing::new(now);
        self.link.confirmed = frames.is_none();
        self.exchange.begin_switch(frames.as_ref().map_or(0, |frames| frames.replies));
        (self.link.begun, self.link.wrote, self.link.swallowing) = (false, false, false);
        (self.link.must_not_change, self.link.looks_at) = (false, None);
        if let Some(before) = before {
            self.tell_defaults(&before);
        }
        if let Some(frames) = frames {
            self.put_in_front(frames);
        }
        if self.units.rewriting > Rewriting::No && !self.link.held_back {
            self.scan_anew();
            while self.units.whole && self.scan(true) == Step::Progress {}
            self.link.keeps_unit = self.link.reuses && self.unit_ends_with_sync();
        }
    }

    fn unit_ends_with_sync(&self) -> bool {
        self.inbound.bytes()[..self.units.scanned].ends_with(SYNC)
    }

    /// What was sent is not needed any more, if it is not.
    pub(super) fn consume_sent(&mut self) {
        // As long as nothing was sent, it may have to be sent to another server.
        if self.link.confirmed && self.link.wrote && !self.link.keeps_unit {
            self.inbound.consume(self.link.sent);
            self.units.scanned -= std::mem::take(&mut self.link.sent);
        }
    }

    /// The server has answered the unit: it will not be sent again.
    #[cold]
    pub(super) fn forget_kept_unit(&mut self) {
        self.link.keeps_unit = false;
        self.consume_sent();
    }

    /// The server has skipped the unit; its statements are prepared anew.
    pub(super) fn send_again(&mut self) {
        (self.link.sends_again, self.link.keeps_unit, self.link.sent) = (false, false, 0);
        self.scan_again();
        while self.scan(true) == Step::Progress {}
    }

    fn put_in_front(&mut self, frames: Frames) {
        self.link.prefix = frames.bytes;
        // Nothing but the client's own message may follow a switch that may fail.
        self.link.held_back = !self.units.whole || self.units.rewriting == Rewriting::WithSyncs;
        if self.link.held_back {
            self.shared.stats.switch_round_trips.add_one();
            let mut flushed = BytesMut::from(&self.link.prefix[..]);
            flushed.extend_from_slice(FLUSH);
            self.link.prefix = flushed.freeze();
        }
    }

    /// Nobody may find the unnamed statement of the last client.
    fn stray_statement(&mut self, linked: &mut Linked) -> Option<Frames> {
        let left = linked.server().unnamed_left?;
        if left == self.unnamed_of() {
            // Nobody has used the server since, and the client no other.
            self.exchange.parsed_again();
            return None;
        }
        // What goes in other words, or is refused, need not.
        if self.units.rewriting == Rewriting::No && drops_unnamed(self.inbound.bytes()) {
            linked.server().unnamed_left = None;
            return None;
        }
        Some(Frames::close_unnamed())
    }

    /// It goes on with a server it has used: losing that one now loses the session's state, so
    /// nothing may be tried elsewhere. If nothing keeps it, it goes back before the next unit is read.
    pub(super) fn resume(&mut self) {
        (self.link.begun, self.link.wrote) = (true, true);
    }

    /// Moves what can be moved between the client and its server.
    pub(super) fn poll_link(&mut self, cx: &mut Context<'_>) -> Poll<LinkEnd> {
        if self.shared.shutdown.phase() == Phase::Stopping {
            // In the middle of a message nothing can be said; what runs is cancelled all the same.
            return Poll::Ready(match self.last_word(Refusal::ShuttingDown) {
                LinkEnd::Over => LinkEnd::ClientLeft,
                end => end,
            });
        }
        match self.move_both(cx) {
            Ok(()) => {
                if self.watch.is_some() {
                    self.watch_turn();
                }
                Poll::Pending
            }
            Err(end) => Poll::Ready(end),
        }
    }

    /// The unit is sent first; later it is mostly the server that has something. Each direction
    /// moves all it can, so another round is needed only where one waited for the other.
    fn move_both(&mut self, cx: &mut Context<'_>) -> Result<(), LinkEnd> {
        let mut sent_now = !std::mem::replace(&mut self.link.begun, true);
        if sent_now {
            self.feed_server(cx)?;
            if self.is_unanswered(cx) {
                return Ok(());
            }
        }
        while self.fuel.burn() {
            let was_confirmed = self.link.confirmed;
            self.feed_client(cx)?;
            // What a reload or a unit that was kept has held may go on.
            let more = was_confirmed != self.link.confirmed
                || !self.link.rewritten.is_empty()
                || self.inbound.len() > self.units.scanned
                || self.shared.is_newer(self.looked);
            if sent_now && !more {
                return Ok(());
            }
            sent_now = false;
            let moved = self.feed_server(cx)?;
            if !(moved && self.exchange.is_at_rest()) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The unit has been sent and nothing has come: mostly so, and then there is nothing else to do.
    fn is_unanswered(&mut self, cx: &mut Context<'_>) -> bool {
        let waits = self.exchange.is_busy()
            && !self.exchange.is_unsure()
            && self.link.outbound.is_empty()
            && !self.link.flush_client
            && self.link.broken.is_none()
            && self.link.rewritten.is_empty()
            && !self.shared.is_newer(self.looked);
        let Some(linked) = self.link.linked.as_mut().filter(|_| waits) else { return false };
        linked.server().stream().poll_news(cx).is_pending()
    }

    /// The first unit on this server is read for it. What the reading before found has not run.
    fn scan_anew(&mut self) {
        self.scan_again();
        self.verified = Verified::Yes;
        if let Some(changes) = &mut self.changes {
            changes.is_below_home = false;
        }
    }

    /// PostgreSQL has confirmed the switch: what was kept for a second try has run.
    pub(super) fn confirm(&mut self) {
        self.link.confirmed = true;
        self.note_switch();
        let held_back = std::mem::take(&mut self.link.held_back);
        if let Some(linked) = &mut self.link.linked {
            linked.server().unnamed_left = None;
            linked.confirm();
        }
        self.consume_sent();
        if std::mem::take(&mut self.units.rewriting) > Rewriting::No && held_back {
            // It was too long to be sent with the switch; now it is read for this server. At once: nothing of it
            // is owed before, and a server that owes nothing goes back.
            self.scan_anew();
            self.scan_inbound();
        }
    }

    /// The server is lost; what that means depends on what it was sent.
    pub(super) fn server_lost(&mut self, problem: impl ToString) -> LinkEnd {
        let problem = self.link.write_error.take().map_or_else(|| problem.to_string(), Into::into);
        match (self.link.fatal, self.link.wrote) {
            (true, _) => LinkEnd::Over,
            (false, true) => self.last_word(Refusal::ServerLost { problem }),
            (false, false) => LinkEnd::NotSent(problem),
        }
    }

    /// A last word for the client, unless what it was passed ends in the middle of a message: it would be taken
    /// for a part of that.
    pub(super) fn last_word(&self, refusal: Refusal) -> LinkEnd {
        if self.link.inside { LinkEnd::Over } else { LinkEnd::Farewell(Box::new(refusal)) }
    }

    /// A client that broke the protocol is told when all it sent before is answered.
    pub(super) fn last_word_if_due(&mut self) -> Result<(), LinkEnd> {
        if self.link.broken.is_none() {
            return Ok(());
        }
        let answered =
            self.link.is_cut_off || !self.exchange.is_busy() || !self.exchange.can_drain();
        if !answered || !self.link.outbound.is_empty() {
            return Ok(());
        }
        let problem = self.link.broken.take().unwrap_or_default().into();
        Err(self.last_word(Refusal::Protocol { problem }))
    }

    /// Parts with the server, if it is still held, in the way the end calls for.
    ///
    /// `true`: a cancel request had reached it.
    pub(super) fn part_from_server(&mut self, end: &LinkEnd) -> bool {
        // First, so that no later request reaches what is no longer this client's.
        let cancelled = self.registration.slot.unlink();
        let link = std::mem::take(&mut self.link);
        if matches!(end, LinkEnd::Farewell(_) | LinkEnd::Over) {
            // Answers that it has not read yet are its own; the last word stands behind them.
            self.link.aside.extend_from_slice(&link.outbound.bytes()[..link.passed]);
            self.link.aside.extend_from_slice(&link.aside);
        }
        self.undo_names();
        // What was rewritten behind the first unit has to be so for the next server, too. How, nobody knows any more.
        if matches!(end, LinkEnd::NotSent(_)) && !link.rewritten.is_empty() {
            self.units.rewriting = Rewriting::WithSyncs;
        }
        let unnamed = self.unnamed_of();
        let Some(mut linked) = link.linked else { return cancelled };
        linked.taint(self.taint);
        linked.server().unnamed_left = Some(unnamed);
        if self.mode == PoolMode::Session {
            linked.taint(Taint::Scrub);
        }
        let whole = link.prefix.is_empty()
            && link.rewritten.is_empty()
            && !link.held_back
            && link.sent == self.units.scanned
            && !self.units.is_inside_forwarded()
            && !link.is_cut_off
            && !link.flush_server
            && link.write_error.is_none();
        // The switch went out alone.
        let unsent = link.held_back
            && link.sent == 0
            && link.prefix.is_empty()
            && !link.flush_server
            && link.write_error.is_none();
        let leaves = match end {
            LinkEnd::Farewell(refusal) => matches!(**refusal, Refusal::ShuttingDown),
            _ => true,
        };
        match end {
            LinkEnd::ClientLeft | LinkEnd::Farewell(_) if whole && leaves => {
                let rest = link.outbound.bytes()[link.passed..].into();
                let exchange = std::mem::take(&mut self.exchange);
                let shutdown = Arc::clone(&self.shared.shutdown);
                departure::part(linked, exchange, link.scan, rest, shutdown);
            }
            LinkEnd::ClientLeft | LinkEnd::Farewell(_) => {
                departure::abandon(linked, std::mem::take(&mut self.exchange).is_busy());
            }
            // After this and the next the unit is sent again: what it will be answered is still owed.
            LinkEnd::SwitchFailed(..) if (whole || unsent) && !self.target.session.seeds() => {
                let rest = link.outbound.bytes()[link.passed..].into();
                let syncs = count_syncs(&self.inbound.bytes()[..link.sent]);
                departure::roll_back(linked, link.scan, rest, syncs);
            }
            LinkEnd::SwitchFailed(..)
            | LinkEnd::NotSent(_)
            | LinkEnd::Released
            | LinkEnd::Over
            | LinkEnd::Observe
            | LinkEnd::Restore
            | LinkEnd::Chained
            | LinkEnd::Outdated
            | LinkEnd::Unsure => drop(linked),
        }
        cancelled
    }
}

/// How many `Sync` there are in whole messages.
fn count_syncs(messages: &[u8]) -> usize {
    let (mut rest, mut count) = (messages, 0);
    while let Ok(Some(header)) = Header::read(rest) {
        count += usize::from(header.tag == tag::SYNC);
        rest = rest.get(header.frame_len()..).unwrap_or_default();
    }
    count
}

/// Whether the client's first message makes PostgreSQL drop the unnamed statement: a query or a
/// `Parse` of the unnamed statement, well-formed and in ASCII, because one that is malformed or not
/// in the client's encoding fails before.
fn drops_unnamed(unit: &[u8]) -> bool {
    let Ok(Some(header)) = Header::read(unit) else { return false };
    let Some(body) = unit.get(HEADER_LEN..header.frame_len()) else { return false };
    match (header.tag, body) {
        (_, text) if !text.is_ascii() => false,
        (tag::QUERY, text) => memchr::memchr(0, text) == text.len().checked_sub(1),
        (tag::PARSE, [0, text @ ..]) => {
            let rest = memchr::memchr(0, text).map_or(&[][..], |end| &text[end + 1..]);
            matches!(rest, [high, low, oids @ ..]
                if oids.len() == 4 * usize::from(u16::from_be_bytes([*high, *low])))
        }
        _ => false,
    }
}
