//! A client and the server it is linked to: one hand-written poll for both directions.
//!
//! ```text
//! client --inbound--> scan --> [frames of the switch] unit --> server
//! client <-------------- scan, swallow the switch's replies <-- outbound -- server
//! ```
//!
//! Until the switch is confirmed only the client's first unit is sent, and kept: if PostgreSQL
//! refuses the switch, the unit has not run and can be sent to another server. Each direction
//! reads only when it has nothing left to write: that is the back-pressure.

use std::io::IoSlice;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::AsyncWrite;

use super::departure;
use super::refusal::Refusal;
use super::session::Session;
use super::units::Step;
use crate::config::PoolMode;
use crate::flow::{ServerScan, ServerVerdict};
use crate::net::{Buffer, Phase};
use crate::pool::{Linked, Taint};
use crate::server::{Frames, Switch};
use crate::wire::backend::{ServerError, parameter_status, tag};
use crate::wire::build::FLUSH;
use crate::wire::frame::{HEADER_LEN, Header};
use crate::wire::frontend;

/// How a relay ended.
pub(super) enum RelayEnd {
    /// The server went back to its pool, and the client has all that it was sent.
    Released,
    /// The client left.
    ClientLeft,
    /// PostgreSQL refused the switch: the unit has not run.
    SwitchFailed(ServerError),
    /// The server broke off before a byte was sent to it.
    NotSent(String),
    /// The client gets a last word.
    Farewell(Refusal),
    /// The client has heard the server's last word.
    Over,
    /// The client has reset its settings to the server's; it is kept, and the tenant's come next.
    Reset,
}

pub(super) struct Relay<'s> {
    session: &'s mut Session,
    /// Gone once the server went back; then only `outbound` is left to be written.
    linked: Option<Linked>,
    /// Frames of the switch that are still to be written.
    prefix: Bytes,
    confirmed: bool,
    /// The unit did not fit into the buffer: it waits until the switch is confirmed.
    held_back: bool,
    /// Bytes of the inbound buffer that were written and are kept until the switch is confirmed.
    sent: usize,
    wrote: bool,
    begun: bool,
    /// The server takes nothing any more; it may still have a last word.
    write_error: Option<String>,
    /// The client said goodbye; what it sent before is still to be written.
    leaving: bool,
    /// The client's stream has ended; what is in the buffer is still to be read.
    ended: bool,
    /// The client broke the protocol; what it sent before is answered first.
    broken: Option<String>,
    outbound: Buffer,
    /// Bytes at the front of `outbound` that go to the client.
    passed: usize,
    scan: ServerScan,
    /// The rest of the message that is being scanned is not for the client.
    swallowing: bool,
    /// The client has the beginning of a message and not yet its end.
    inside: bool,
    /// The server said FATAL.
    fatal: bool,
    flush_client: bool,
    flush_server: bool,
}

impl<'s> Relay<'s> {
    pub(super) fn new(session: &'s mut Session, mut linked: Linked, switch: Switch) -> Self {
        let key = Arc::clone(&linked.server().cancel_key);
        session.registration.slot.link(key);
        linked.taint(session.taint);
        let whole = session.units.whole;
        let (frames, stray) = match switch {
            Switch::Frames { frames, .. } => (Some(frames), false),
            // Nobody may find the unnamed statement of the last client.
            Switch::None => {
                let mine = Some(session.registration.pid);
                let left = linked.server().unnamed_left;
                let strange = left.is_some() && left != mine;
                (None, strange && !drops_unnamed(session.inbound.bytes()))
            }
        };
        let frames = if stray { Some(Frames::close_unnamed()) } else { frames };
        let confirmed = frames.is_none();
        let held_back = !confirmed && !whole;
        let mut prefix = Bytes::new();
        session.exchange.begin_switch(frames.as_ref().map_or(0, |frames| frames.replies));
        if let Some(frames) = frames {
            prefix = frames.bytes;
            if held_back {
                session.shared.stats.switch_round_trips.add_one();
                let mut flushed = BytesMut::from(&prefix[..]);
                flushed.extend_from_slice(FLUSH);
                prefix = flushed.freeze();
            }
        }
        Self {
            session,
            linked: Some(linked),
            prefix,
            confirmed,
            held_back,
            sent: 0,
            wrote: false,
            begun: false,
            write_error: None,
            leaving: false,
            ended: false,
            broken: None,
            outbound: Buffer::empty(),
            passed: 0,
            scan: ServerScan::default(),
            swallowing: false,
            inside: false,
            fatal: false,
            flush_client: false,
            flush_server: false,
        }
    }

    /// It goes on with a server the client has used: losing that one now loses the session's
    /// state, so nothing may be tried elsewhere.
    pub(super) fn resume(&mut self) {
        self.wrote = true;
    }

    /// Moves what can be moved.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<RelayEnd> {
        if self.session.bell.phase(cx) == Phase::Stopping {
            return Poll::Ready(self.farewell(Refusal::ShuttingDown));
        }
        match self.move_both(cx) {
            Ok(()) => Poll::Pending,
            Err(end) => Poll::Ready(end),
        }
    }

    /// The unit is sent first; later it is mostly the server that has something. Each direction
    /// moves all it can, so another round is needed only where one waited for the other.
    fn move_both(&mut self, cx: &mut Context<'_>) -> Result<(), RelayEnd> {
        let mut sent_now = !std::mem::replace(&mut self.begun, true);
        if sent_now {
            self.feed_server(cx)?;
        }
        loop {
            let was_confirmed = self.confirmed;
            self.feed_client(cx)?;
            if sent_now && was_confirmed == self.confirmed {
                return Ok(());
            }
            sent_now = false;
            let moved = self.feed_server(cx)?;
            if !(moved && self.session.exchange.is_at_rest()) {
                return Ok(());
            }
        }
    }

    /// `Ok(true)`: something moved.
    fn feed_server(&mut self, cx: &mut Context<'_>) -> Result<bool, RelayEnd> {
        let mut moved = false;
        while self.linked.is_some() && self.write_error.is_none() {
            if self.confirmed && !self.leaving && self.broken.is_none() {
                self.scan_inbound()?;
            }
            match self.write_server(cx) {
                Poll::Pending => return Ok(moved),
                Poll::Ready(wrote) => moved |= wrote,
            }
            // Who has left may have sent more than the unit that waits for its switch.
            let waits = !self.confirmed && self.session.inbound.len() > self.session.units.scanned;
            if self.leaving || (self.ended && !waits) {
                return Err(RelayEnd::ClientLeft);
            }
            self.last_word_if_due()?;
            if self.ended || self.broken.is_some() {
                return Ok(moved);
            }
            let session = &mut *self.session;
            if session.inbound.is_full() || !session.exchange.has_room() {
                return Ok(moved);
            }
            match session.inbound.poll_fill(&mut session.client, cx) {
                Poll::Pending => return Ok(moved),
                Poll::Ready(Ok(1..)) => moved = true,
                Poll::Ready(Ok(0)) => self.ended = true,
                Poll::Ready(Err(_)) => return Err(RelayEnd::ClientLeft),
            }
        }
        Ok(moved)
    }

    fn scan_inbound(&mut self) -> Result<(), RelayEnd> {
        loop {
            let step = self.session.scan(true);
            if let Some(linked) = &mut self.linked {
                linked.taint(self.session.taint);
            }
            match step {
                Step::Progress | Step::UnitEnds => {}
                Step::NeedsMore | Step::Stop => return Ok(()),
                Step::Terminate => {
                    self.leaving = true;
                    return Ok(());
                }
                Step::Broken(problem) => {
                    self.broken = Some(problem);
                    return Ok(());
                }
            }
        }
    }

    /// Writes the switch and what was scanned, in one write if the socket takes it.
    fn write_server(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let Some(linked) = &mut self.linked else { return Poll::Ready(false) };
        let stream = linked.server().stream();
        let mut wrote = false;
        loop {
            let units = &mut self.session.units;
            let upto = if self.held_back { self.sent } else { units.scanned };
            let unit = &self.session.inbound.bytes()[self.sent..upto];
            if self.prefix.is_empty() && unit.is_empty() {
                break;
            }
            let result = if self.prefix.is_empty() {
                Pin::new(&mut *stream).poll_write(cx, unit)
            } else {
                let slices = [IoSlice::new(&self.prefix), IoSlice::new(unit)];
                Pin::new(&mut *stream).poll_write_vectored(cx, &slices)
            };
            let count = match result {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(count @ 1..)) => count,
                Poll::Ready(Ok(0)) => return self.server_takes_nothing("nothing was written"),
                Poll::Ready(Err(error)) => return self.server_takes_nothing(error),
            };
            let of_prefix = count.min(self.prefix.len());
            self.prefix.advance(of_prefix);
            self.sent += count - of_prefix;
            (wrote, self.wrote) = (true, true);
            self.flush_server = stream.buffers_writes();
            if self.confirmed {
                self.session.inbound.consume(self.sent);
                units.scanned -= std::mem::take(&mut self.sent);
            }
        }
        if self.flush_server {
            match Pin::new(stream).poll_flush(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) => self.flush_server = false,
                Poll::Ready(Err(error)) => return self.server_takes_nothing(error),
            }
        }
        Poll::Ready(wrote)
    }

    /// It may still have a last word: reading goes on.
    fn server_takes_nothing(&mut self, error: impl ToString) -> Poll<bool> {
        self.write_error = Some(error.to_string());
        Poll::Ready(true)
    }

    fn feed_client(&mut self, cx: &mut Context<'_>) -> Result<bool, RelayEnd> {
        let mut moved = false;
        loop {
            moved |= self.scan_outbound()?;
            self.release_if_done(cx);
            match self.write_client(cx) {
                Poll::Pending => return Ok(moved),
                Poll::Ready(Ok(wrote)) => moved |= wrote,
                Poll::Ready(Err(_)) => return Err(RelayEnd::ClientLeft),
            }
            if self.linked.is_none() {
                return Err(RelayEnd::Released);
            }
            self.last_word_if_due()?;
            self.reset_if_due()?;
            let at_rest =
                self.confirmed && self.session.exchange.is_at_rest() && self.outbound.is_empty();
            if at_rest && self.session.bell.phase(cx) > Phase::Running {
                return Err(RelayEnd::Farewell(Refusal::ShuttingDown));
            }
            let Some(linked) = &mut self.linked else { return Err(RelayEnd::Released) };
            let filled = self.outbound.poll_fill(linked.server().stream(), cx);
            match filled {
                Poll::Pending => {
                    // Nobody is active: a pinned client that thinks holds no buffers.
                    if at_rest {
                        self.outbound.release();
                        self.session.inbound.release();
                    }
                    return Ok(moved);
                }
                Poll::Ready(Ok(1..)) => moved = true,
                Poll::Ready(Ok(0)) => return Err(self.server_lost("the stream ended")),
                Poll::Ready(Err(error)) => return Err(self.server_lost(error)),
            }
        }
    }

    fn server_lost(&mut self, problem: impl ToString) -> RelayEnd {
        let problem = self.write_error.take().unwrap_or_else(|| problem.to_string());
        match (self.fatal, self.wrote) {
            (true, _) => RelayEnd::Over,
            (false, true) => self.farewell(Refusal::ServerLost { problem }),
            (false, false) => RelayEnd::NotSent(problem),
        }
    }

    /// RESET returns to what the server started with; a client's own settings begin above that.
    fn reset_if_due(&mut self) -> Result<(), RelayEnd> {
        let session = &mut *self.session;
        let due = session.was_reset
            && self.confirmed
            && session.exchange.is_at_rest()
            && self.outbound.is_empty()
            && self.scan.at_boundary()
            && session.units.scanned == 0
            && session.units.at_boundary()
            && !self.leaving
            && !self.ended
            && self.broken.is_none()
            && self.write_error.is_none();
        if due {
            session.was_reset = false;
            return Err(RelayEnd::Reset);
        }
        Ok(())
    }

    /// The server, to go on with it after [`RelayEnd::Reset`].
    pub(super) fn into_linked(mut self) -> Linked {
        self.linked.take().expect("a reset keeps the server")
    }

    /// A client that broke the protocol is told when all it sent before is answered.
    fn last_word_if_due(&mut self) -> Result<(), RelayEnd> {
        let exchange = &self.session.exchange;
        let answered = !exchange.is_busy() || !exchange.can_drain();
        if !answered || !self.outbound.is_empty() {
            return Ok(());
        }
        match self.broken.take() {
            Some(problem) => Err(self.farewell(Refusal::Protocol { problem })),
            None => Ok(()),
        }
    }

    /// A last word for the client, unless it is in the middle of a message: it would be taken for
    /// a part of that.
    fn farewell(&self, refusal: Refusal) -> RelayEnd {
        if self.passed == 0 && !self.inside { RelayEnd::Farewell(refusal) } else { RelayEnd::Over }
    }

    /// `true` if anything was scanned.
    fn scan_outbound(&mut self) -> Result<bool, RelayEnd> {
        let mut scanned = false;
        loop {
            let bytes = &self.outbound.bytes()[self.passed..];
            let count = self.scan.skip_body(bytes);
            if count > 0 {
                self.pass(count);
                scanned = true;
                continue;
            }
            let message = match self.scan.next(bytes) {
                Ok(Some(message)) => message,
                Ok(None) => return Ok(scanned),
                Err(error) => return Err(self.server_lost(error)),
            };
            let (count, body) = (message.consumed, message.body);
            let session = &mut *self.session;
            let verdict = match session.exchange.on_server(message.tag, body) {
                Ok(verdict) => verdict,
                Err(unexpected) => return Err(self.server_lost(unexpected)),
            };
            if verdict == ServerVerdict::SwitchFailed {
                return Err(RelayEnd::SwitchFailed(ServerError::read(body.unwrap_or_default())));
            }
            if let (tag::ERROR, Some(body)) = (message.tag, body) {
                self.fatal |= matches!(ServerError::read(body).field(b'V'), "FATAL" | "PANIC");
            }
            self.swallowing = match verdict {
                ServerVerdict::Swallow | ServerVerdict::SwitchDone => true,
                ServerVerdict::Parameter => {
                    let linked =
                        self.linked.as_mut().expect("a server that was given back says nothing");
                    !is_news(session, linked, body)
                }
                ServerVerdict::Forward | ServerVerdict::Ready(_) | ServerVerdict::SwitchFailed => {
                    false
                }
            };
            self.pass(count);
            scanned = true;
            if verdict == ServerVerdict::SwitchDone {
                self.confirm();
            }
        }
    }

    fn pass(&mut self, count: usize) {
        if self.swallowing {
            self.outbound.cut(self.passed, count);
        } else {
            self.passed += count;
            self.inside = !self.scan.at_boundary();
        }
    }

    fn confirm(&mut self) {
        self.confirmed = true;
        self.held_back = false;
        if let Some(linked) = &mut self.linked {
            linked.server().unnamed_left = None;
            linked.confirm();
        }
        self.session.inbound.consume(self.sent);
        self.session.units.scanned -= std::mem::take(&mut self.sent);
    }

    /// The server goes back as soon as it is at rest, before a slow client has read its answer.
    fn release_if_done(&mut self, cx: &mut Context<'_>) {
        let session = &mut *self.session;
        let done = self.confirmed
            && session.mode == PoolMode::Transaction
            && session.exchange.is_at_rest()
            && self.scan.at_boundary()
            && self.passed == self.outbound.len()
            && session.units.scanned == 0
            && session.units.at_boundary()
            && !self.leaving
            && !self.ended
            && self.broken.is_none()
            && !self.fatal
            && self.write_error.is_none();
        if !done || self.linked.is_none() {
            return;
        }
        if session.exchange.unnamed_statement_waits() {
            session.pin_to_server("unnamed prepared statement", Taint::Scrub);
        }
        if session.pin.is_some() {
            return;
        }
        // Not a byte of a later message may be left in TLS.
        let flushed = !self.flush_server
            || self
                .linked
                .as_mut()
                .is_some_and(|l| Pin::new(l.server().stream()).poll_flush(cx).is_ready());
        if !flushed {
            return;
        }
        if let Some(mut linked) = self.linked.take() {
            if session.exchange.parsed_unnamed_statement() {
                linked.server().unnamed_left = Some(session.registration.pid);
            }
            session.registration.slot.unlink();
            linked.check_in();
        }
    }

    fn write_client(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<bool>> {
        let client = &mut self.session.client;
        let mut wrote = false;
        while self.passed > 0 {
            let bytes = &self.outbound.bytes()[..self.passed];
            let count = std::task::ready!(Pin::new(&mut *client).poll_write(cx, bytes))?;
            if count == 0 {
                return Poll::Ready(Err(std::io::ErrorKind::WriteZero.into()));
            }
            self.outbound.consume(count);
            self.passed -= count;
            wrote = true;
            self.flush_client = client.buffers_writes();
        }
        if self.flush_client {
            std::task::ready!(Pin::new(client).poll_flush(cx))?;
            self.flush_client = false;
        }
        Poll::Ready(Ok(wrote))
    }

    /// Parts with the server, if it is still held, in the way the end calls for.
    ///
    /// `true`: a cancel request had reached it.
    pub(super) fn part_from_server(&mut self, end: &RelayEnd) -> bool {
        // First, so that no later request reaches what is no longer this client's.
        let cancelled = self.session.registration.slot.unlink();
        let Some(mut linked) = self.linked.take() else { return cancelled };
        linked.taint(self.session.taint);
        linked.server().unnamed_left = Some(self.session.registration.pid);
        if self.session.mode == PoolMode::Session {
            linked.taint(Taint::Scrub);
        }
        let whole = self.prefix.is_empty()
            && !self.held_back
            && self.sent == self.session.units.scanned
            && !self.session.units.is_inside_forwarded()
            && !self.flush_server
            && self.write_error.is_none();
        let exchange = std::mem::take(&mut self.session.exchange);
        let outbound = std::mem::take(&mut self.outbound);
        match end {
            RelayEnd::ClientLeft | RelayEnd::Farewell(Refusal::ShuttingDown) if whole => {
                let rest = outbound.bytes()[self.passed..].into();
                departure::part(linked, exchange, self.scan.clone(), rest);
            }
            RelayEnd::ClientLeft | RelayEnd::Farewell(_) => {
                departure::abandon(linked, exchange.is_busy());
            }
            RelayEnd::SwitchFailed(_) | RelayEnd::NotSent(_) => {
                // The unit is sent again: what it will be answered is still owed.
                self.session.exchange = exchange;
                drop(linked);
            }
            RelayEnd::Released | RelayEnd::Over | RelayEnd::Reset => drop(linked),
        }
        cancelled
    }
}

/// Whether the client's first message makes PostgreSQL drop the unnamed statement: a query or a
/// `Parse` of the unnamed statement, and well-formed, because a malformed one fails before.
fn drops_unnamed(unit: &[u8]) -> bool {
    let Ok(Some(header)) = Header::read(unit) else { return false };
    let Some(body) = unit.get(HEADER_LEN..header.frame_len()) else { return false };
    match (header.tag, body) {
        (frontend::tag::QUERY, text) => memchr::memchr(0, text) == text.len().checked_sub(1),
        (frontend::tag::PARSE, [0, text @ ..]) => {
            let rest = memchr::memchr(0, text).map_or(&[][..], |end| &text[end + 1..]);
            matches!(rest, [high, low, oids @ ..]
                if oids.len() == 4 * usize::from(u16::from_be_bytes([*high, *low])))
        }
        _ => false,
    }
}

/// Records a `ParameterStatus`; `true` if the client was last told something else.
fn is_news(session: &mut Session, linked: &mut Linked, body: Option<&[u8]>) -> bool {
    // Longer than is looked into: passed on, and told again each time.
    let Some(Ok((name, value))) = body.map(parameter_status) else { return true };
    linked.server().parameters.set(name, value);
    if session.exchange.switching() || session.told.knows(name, value) {
        return false;
    }
    Arc::make_mut(&mut session.told).set(name, value)
}
