//! From the server to the client: read, scan, swallow what answers the switch, write. And the
//! moment at which the server goes back.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::AsyncWrite;

use super::chained::ends_transaction;
use super::changes::Pinned;
use super::link::LinkEnd;
use super::prepared::Deallocates;
use super::refusal::{Refusal, Severity};
use super::session::Session;
use super::units::{NO_WAY_BACK, Rewriting};
use crate::config::{Guard, PoolMode};
use crate::flow::ServerVerdict;
use crate::net::Phase;
use crate::pool::Taint;
use crate::server::Parameters;
use crate::sql::AUTHORIZATION;
use crate::wire::backend::{ServerError, TransactionStatus, parameter_status, tag};
use crate::wire::split_cstr;

impl Session {
    pub(super) fn feed_client(&mut self, cx: &mut Context<'_>) -> Result<(), LinkEnd> {
        while self.fuel.burn() {
            // Mostly that is why it is looked at: the server has an answer, and nothing of it was read.
            let nothing_yet =
                self.link.outbound.is_empty() && self.exchange.is_busy() && !self.link.flush_client;
            if !nothing_yet {
                self.scan_outbound()?;
                self.release_if_done(cx);
                match self.write_client(cx) {
                    Poll::Pending => return Ok(()),
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(_)) => return Err(LinkEnd::ClientLeft),
                }
            }
            let Some(linked) = &mut self.link.linked else { return Err(LinkEnd::Released) };
            match self.link.outbound.poll_fill(linked.server().stream(), cx) {
                Poll::Pending => {
                    self.last_word_if_due()?;
                    return self.rest();
                }
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(Ok(0)) => return Err(self.server_lost("the stream ended")),
                Poll::Ready(Err(error)) => return Err(self.server_lost(error)),
            }
        }
        Ok(())
    }

    /// The server has nothing more for now.
    fn rest(&mut self) -> Result<(), LinkEnd> {
        if self.exchange.is_in_doubt() && self.is_quiet() {
            if self.exchange.can_be_settled() {
                return Err(LinkEnd::Unsure);
            }
            self.pin_to_server(Pinned::Lasting("COPY that failed in a pipeline"));
        }
        let below = self.changes.as_ref().is_some_and(|changes| changes.is_below_home);
        let guarded = self.policy.guard == Guard::Reject;
        let in_doubt = self.exchange.is_in_doubt() && !self.exchange.can_be_settled();
        // What the client has sent waits for what does not come.
        let stands = self.exchange.waits_for_sync()
            && !self.inbound.is_empty()
            && self.waits_to_be_verified();
        if ((below || guarded) && in_doubt || guarded && stands) && self.is_quiet() {
            return Err(self.server_lost(NO_WAY_BACK));
        }
        let can_ask = self.exchange.in_sound_block()
            && !self.exchange.is_busy()
            && !self.exchange.is_unsynced();
        if below && can_ask && !self.is_other_user && self.is_quiet() {
            return Err(LinkEnd::Restore);
        }
        if self.is_chained() && !self.exchange.is_busy() && self.is_quiet() {
            return Err(LinkEnd::Chained);
        }
        let at_rest =
            self.link.confirmed && self.exchange.is_at_rest() && self.link.outbound.is_empty();
        if at_rest {
            self.observe_if_due()?;
            if self.shared.shutdown.phase() > Phase::Running {
                return Err(LinkEnd::Farewell(Box::new(Refusal::ShuttingDown)));
            }
            if self.shared.is_newer(self.looked) {
                return Err(LinkEnd::Outdated);
            }
            // Nobody is active: a pinned client that thinks holds no buffers.
            self.link.outbound.release();
            self.inbound.release();
        }
        Ok(())
    }

    /// Nothing of the client's is on its way, and nothing for it.
    fn is_quiet(&self) -> bool {
        self.link.is_sound()
            && self.link.outbound.is_empty()
            && self.units.scanned == 0
            && self.units.at_boundary()
    }

    /// Whether a unit has reset settings and the next one must not run before they are back at home.
    pub(super) fn is_below_home(&self) -> bool {
        let below = self.changes.as_ref().is_some_and(|changes| changes.is_below_home);
        let unit_has_ended = self.units.at_boundary() && !self.exchange.is_unsynced();
        // In a block that has failed nothing can be put back, and nothing runs either; but what ends it is to be seen
        // before anything behind it goes.
        let can_be_put_back =
            !self.exchange.in_block() || self.exchange.in_sound_block() || self.exchange.is_busy();
        let waits = self.exchange.unnamed_statement_waits() && !self.keeps_unnamed();
        // What a COPY reads belongs to the unit that runs.
        let copies = self.exchange.copies_in();
        below && unit_has_ended && can_be_put_back && !waits && !copies && !self.is_other_user
    }

    /// Not while the unnamed statement is to be used again: the question would drop it.
    fn observe_if_due(&mut self) -> Result<(), LinkEnd> {
        let guarded = self.policy.guard == Guard::Reject;
        self.verify_if_guarded();
        let waits = self.exchange.unnamed_statement_waits() && !self.keeps_unnamed() && !guarded;
        let tied = matches!(self.pin, Some(Pinned::Tied(_))) && !guarded;
        let due = self.changes.as_ref().is_some_and(|changes| !(tied && changes.can_wait()));
        // A pin that is new: it is left to the session's loop to watch the clock.
        let untimed = self.pinned_since.is_some() && !self.is_pin_timed;
        let due = (due || untimed) && !waits;
        if due && self.is_quiet() { Err(LinkEnd::Observe) } else { Ok(()) }
    }

    fn scan_outbound(&mut self) -> Result<(), LinkEnd> {
        while self.fuel.burn() {
            if self.link.passed == self.link.outbound.len() || !self.link.aside.is_empty() {
                return Ok(());
            }
            let bytes = &self.link.outbound.bytes()[self.link.passed..];
            let skipped = self.link.scan.skip_body(bytes);
            if skipped > 0 {
                self.pass(skipped);
                continue;
            }
            if self.exchange.switching() {
                let swallowed = self.exchange.swallow_run(bytes);
                if swallowed > 0 {
                    self.link.outbound.cut(self.link.passed, swallowed);
                    continue;
                }
            }
            let passed = self.exchange.pass_run(bytes, self.looks_at());
            if passed > 0 {
                self.link.swallowing = false;
                self.pass(passed);
            }
            // What the run has stopped at.
            let bytes = &self.link.outbound.bytes()[self.link.passed..];
            let message = match self.link.scan.next(bytes) {
                Ok(Some(message)) => message,
                Ok(None) => return Ok(()),
                Err(error) => return Err(self.server_lost(error)),
            };
            let (tag, count) = (message.tag, message.consumed);
            if tag == tag::COMMAND_COMPLETE && ends_transaction(message.body) {
                self.verified.on_end();
            }
            let verdict = match self.exchange.on_server(tag, message.body) {
                Ok(ServerVerdict::Forward) if tag != tag::ERROR && !self.is_told_otherwise(tag) => {
                    self.link.swallowing = false;
                    self.pass(count);
                    continue;
                }
                Ok(verdict) => verdict,
                Err(unexpected) => return Err(self.server_lost(unexpected)),
            };
            let error = message.body.filter(|_| tag == tag::ERROR).map(ServerError::read);
            if let ServerVerdict::Ready(status) = verdict {
                if !self.link.sends_again {
                    self.link.timing.ready(status, &self.tally);
                }
                if let Some(watch) = &mut self.watch {
                    watch.ready(status);
                }
                self.settle_resets(status);
            }
            if matches!(verdict, ServerVerdict::Ready(_))
                && !self.link.sends_again
                && !self.has_told_all()
            {
                self.on_ready(count, verdict)?;
                continue;
            }
            if let ServerVerdict::Ready(TransactionStatus::Idle) = verdict
                && !self.link.sends_again
                && !self.exchange.is_unsure()
            {
                self.link.swallowing = false;
                self.pass(count);
                continue;
            }
            self.on_message(tag, count, verdict, error)?;
        }
        Ok(())
    }

    /// Messages that are not to be passed on without a look.
    fn looks_at(&self) -> Option<u8> {
        let guarded = self.policy.guard == Guard::Reject;
        (guarded || self.is_told_otherwise(tag::COMMAND_COMPLETE)).then_some(tag::COMMAND_COMPLETE)
    }

    /// A `ReadyForQuery` in front of which the client has to be told something.
    fn on_ready(&mut self, count: usize, verdict: ServerVerdict) -> Result<(), LinkEnd> {
        self.link.swallowing = false;
        self.pass_behind_reports(count);
        if matches!(verdict, ServerVerdict::Ready(status) if status != TransactionStatus::Idle) {
            self.note_doubt();
        }
        self.check_doubt()
    }

    /// A message that is more than passed on; `count` bytes of it are there.
    fn on_message(
        &mut self,
        tag: u8,
        count: usize,
        verdict: ServerVerdict,
        error: Option<ServerError>,
    ) -> Result<(), LinkEnd> {
        self.check_own_names(tag, verdict)?;
        let told = match verdict {
            ServerVerdict::Forward if error.is_some() => {
                self.undo_skipped(0);
                let limit = error.as_ref().and_then(|error| self.named_limit(error));
                limit
                    .or_else(|| self.in_own_words(count))
                    .or_else(|| self.completed(error.as_ref()))
            }
            // What ran in front of it may be rolled back, behind answers that say that it has run.
            ServerVerdict::NotRestored if !self.exchange.in_failed_block() => {
                let error = error.as_ref().map(ToString::to_string).unwrap_or_default();
                let mut told = BytesMut::new();
                let refusal = Refusal::Switch { tenant: self.tenant().to_owned(), error };
                refusal.write(Severity::Error, &mut told);
                Some(told.to_vec())
            }
            _ => None,
        };
        self.link.swallowing = match verdict {
            ServerVerdict::SwitchFailed => {
                let server = self.server_pid();
                self.link.outbound.cut(self.link.passed, count);
                return Err(LinkEnd::SwitchFailed(Box::new(error.unwrap_or_default()), server));
            }
            ServerVerdict::Named(reply) => {
                self.on_named(reply, count);
                return Ok(());
            }
            ServerVerdict::Forward if tag == tag::ERROR => self.on_error(error),
            ServerVerdict::Foretold => {
                self.foretell(count, error);
                true
            }
            ServerVerdict::Forward => {
                self.on_told_otherwise(tag, count);
                return Ok(());
            }
            ServerVerdict::Ready(_) => self.link.sends_again,
            // A block that the client's own statement has failed: it knows that already.
            ServerVerdict::NotRestored => {
                self.undo_unit(0);
                self.exchange.in_failed_block()
            }
            ServerVerdict::Swallow | ServerVerdict::SwitchDone => true,
            ServerVerdict::Parameter => {
                let is_news = self.is_news(count);
                self.end_if_blinded()?;
                !is_news
            }
        };
        match told {
            Some(told) if !self.link.swallowing => self.tell_instead(count, &told),
            _ => self.pass(count),
        }
        match verdict {
            ServerVerdict::SwitchDone => self.confirm(),
            ServerVerdict::Ready(_) if self.link.sends_again => self.send_again(),
            ServerVerdict::Ready(TransactionStatus::InBlock | TransactionStatus::Failed) => {
                self.note_doubt();
            }
            ServerVerdict::Forward
            | ServerVerdict::Swallow
            | ServerVerdict::SwitchFailed
            | ServerVerdict::Foretold
            | ServerVerdict::NotRestored
            | ServerVerdict::Parameter
            | ServerVerdict::Ready(TransactionStatus::Idle)
            | ServerVerdict::Named(_) => {}
        }
        self.check_doubt()
    }

    /// Which of its statements are there under their own names, nobody can tell behind such an error.
    fn check_own_names(&mut self, tag: u8, verdict: ServerVerdict) -> Result<(), LinkEnd> {
        let unasked_failed = tag == tag::ERROR && self.exchange.take_unasked_failed()
            || verdict == ServerVerdict::Foretold;
        if unasked_failed && self.has_own_names {
            return Err(self.server_lost("its statements could not be prepared once more"));
        }
        Ok(())
    }

    fn check_doubt(&mut self) -> Result<(), LinkEnd> {
        if !self.exchange.is_unsure() {
            return Ok(());
        }
        if self.names.as_ref().is_some_and(|n| !n.is_settled()) {
            return Err(self.server_lost("a COPY failed among prepared statements"));
        }
        if self.exchange.owes_own() {
            return Err(self.server_lost(NO_WAY_BACK));
        }
        Ok(())
    }

    /// `true`: the client does not hear of it, because the unit is sent once more.
    fn on_error(&mut self, error: Option<ServerError>) -> bool {
        self.undo_unit(0);
        let Some(error) = error else { return false };
        self.link.fatal |= matches!(error.field(b'V'), "FATAL" | "PANIC");
        self.link.sends_again = self.heal(&error)
            && self.link.keeps_unit
            && !self.link.inside
            && !self.link.must_not_change;
        self.link.sends_again
    }

    /// A function has changed how the next text is to be read, and where the guard is on, it has to be read.
    fn end_if_blinded(&self) -> Result<(), LinkEnd> {
        let guarded = self.policy.guard == Guard::Reject && !self.exchange.switching();
        let linked = self.link.linked.as_ref().filter(|_| guarded);
        let Some(name) = linked.and_then(|linked| super::units::unreadable(linked.reported()))
        else {
            return Ok(());
        };
        let tenant = self.tenant().to_owned();
        Err(self.last_word(Refusal::LeftTenant { name: name.to_owned(), tenant }))
    }

    /// Records the `ParameterStatus` that was scanned, `count` bytes of it; `true` if it goes to the client at once.
    fn is_news(&mut self, count: usize) -> bool {
        let link = &mut self.link;
        let frame = &link.outbound.bytes()[link.passed..link.passed + count];
        let body = &frame[crate::wire::frame::HEADER_LEN..];
        let Ok((name, value)) = parameter_status(body) else { return self.is_long_news(count) };
        let Some(linked) = &mut link.linked else { return true };
        Parameters::note(&mut linked.server().parameters, name, value);
        if self.exchange.switching() || self.told.knows(name, value) {
            return false;
        }
        // What a `ReadyForQuery` is to come behind is told in front of that.
        let at_once = !self.exchange.is_busy();
        let reported = Arc::clone(linked.reported());
        let (name, value): (Box<[u8]>, Box<[u8]>) = (name.into(), value.into());
        if at_once {
            Arc::make_mut(&mut self.told).set(&name, &value);
        }
        if super::units::unreadable(&reported).is_some() {
            // Whatever has changed it: from now on texts cannot be read.
            self.pin_if_unreadable(&reported);
        } else if *name == *AUTHORIZATION.as_bytes() {
            self.note_user(&value);
        } else if self.changes.is_none() && !self.target.session.shows(&name, &value) {
            self.note_report(&name);
        }
        at_once
    }

    /// A report that is longer than is looked into. It is passed on; and nobody else may have the server before
    /// that is undone, because what it says cannot be kept.
    #[cold]
    fn is_long_news(&mut self, count: usize) -> bool {
        let link = &mut self.link;
        let frame = &link.outbound.bytes()[link.passed..link.passed + count];
        let name = split_cstr(&frame[crate::wire::frame::HEADER_LEN..]).map(|(name, _)| name);
        if let (Some(name), Some(linked)) = (name, &mut link.linked) {
            Arc::make_mut(&mut linked.server().parameters).forget(name);
            Arc::make_mut(&mut self.told).forget(name);
        }
        if self.exchange.switching() {
            return false;
        }
        self.pin_to_server(Pinned::Lasting("reported setting too long to be followed"));
        true
    }

    #[inline]
    pub(super) fn pass(&mut self, count: usize) {
        if self.link.swallowing {
            self.link.outbound.cut(self.link.passed, count);
        } else {
            // What comes between a stale statement's error and `ReadyForQuery` is no answer to it.
            if self.link.keeps_unit && !self.link.sends_again {
                self.forget_kept_unit();
            }
            self.link.passed += count;
            self.link.inside = !self.link.scan.at_boundary();
        }
    }

    /// The server goes back as soon as it is at rest, before a slow client has read its answer.
    fn release_if_done(&mut self, cx: &mut Context<'_>) {
        let done = self.exchange.is_at_rest()
            && self.mode == PoolMode::Transaction
            && self.link.is_sound()
            && self.link.passed == self.link.outbound.len()
            && self.units.scanned == 0
            && self.units.at_boundary();
        if !done {
            return;
        }
        if self.exchange.unnamed_statement_waits() && !self.keeps_unnamed() {
            self.pin_to_server(Pinned::Lasting("unnamed prepared statement"));
        }
        self.verify_if_guarded();
        let followed = self.changes.is_none() || self.follow_reports();
        if !followed || self.pin.is_some() {
            return;
        }
        let unnamed = self.unnamed_of();
        let Some(mut linked) = self.link.linked.take() else { return };
        // Not a byte of a later message may be left in TLS.
        if self.link.flush_server && !Pin::new(linked.server().stream()).poll_flush(cx).is_ready() {
            self.link.linked = Some(linked);
            return;
        }
        if self.exchange.parsed_unnamed_statement() {
            linked.server().unnamed_left = Some(unnamed);
        }
        self.deallocates = Deallocates::No;
        self.units.rewriting = Rewriting::No;
        self.registration.slot.unlink();
        // What it did to this server, the next one has not.
        self.taint = Taint::None;
        linked.check_in();
    }

    fn write_client(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let link = &mut self.link;
        while link.passed > 0 {
            let bytes = &link.outbound.bytes()[..link.passed];
            let count = ready!(Pin::new(&mut self.client).poll_write(cx, bytes))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.tally.sent.add(count as u64);
            self.fuel.fill();
            link.outbound.consume(count);
            link.passed -= count;
            link.flush_client = self.client.buffers_writes();
        }
        while !link.aside.is_empty() {
            let count = ready!(Pin::new(&mut self.client).poll_write(cx, &link.aside))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.tally.sent.add(count as u64);
            self.fuel.fill();
            link.aside.advance(count);
            link.flush_client = self.client.buffers_writes();
        }
        if link.flush_client {
            ready!(Pin::new(&mut self.client).poll_flush(cx))?;
            link.flush_client = false;
        }
        Poll::Ready(Ok(()))
    }
}
