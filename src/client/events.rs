//! What the poll of a session leaves to be done at leisure: second attempts, refusals, last
//! words.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;
use tracing::{debug, error, info};

use super::changes::Pinned;
use super::link::{Link, LinkEnd};
use super::prepared::Deallocates;
use super::refusal::{Refusal, Severity};
use super::session::{Session, Stage};
use super::welcome::may_be_clients_fault;
use crate::config::PoolMode;
use crate::engine::tick;
use crate::flow::Refusal as UnitRefusal;
use crate::net::Phase;
use crate::pool::{CheckoutError, Linked, Taint};
use crate::wire::backend::TransactionStatus;
use crate::wire::build;

/// Longest a server may take to say what it owes.
const SETTLE_TIME_MAX: Duration = Duration::from_secs(5);
/// Longest a client may take to read its last error.
const FAREWELL_TIME_MAX: Duration = Duration::from_secs(5);

/// What the poll of a session cannot do itself.
pub(super) enum Event {
    /// The unit gets no server.
    Unserved(Unserved),
    /// The link has ended, or has to pause.
    Link(LinkEnd),
    /// The search_path may name another tenant.
    Path,
    /// Its tenant may be another by now, or live elsewhere.
    Outdated,
    /// Another worker is to serve it.
    Elsewhere,
    /// Its transaction is watched: a timer is to be set.
    Arm,
    /// The timer has ended.
    Clock,
    /// It has kept its server for `max_pin_time`.
    PinnedTooLong,
    /// An operator wants it gone.
    Killed,
    /// It goes round in circles.
    Stuck,
    /// The client is gone.
    Over,
    /// The client gets a last word.
    Farewell(Refusal),
}

/// What comes after an event.
pub(super) enum Next {
    /// The session goes on.
    Go,
    /// Nothing; the client is gone or was told.
    Over,
    /// A last word.
    Farewell(Refusal),
}

/// Why no server was got.
pub(super) enum Unserved {
    /// The client is told, and stays.
    Refused(Refusal),
    /// The client left.
    Left,
    /// The client is told, and goes.
    Farewell(Refusal),
    /// The tenant lives elsewhere by now: a server is asked for there.
    Moved,
}

impl Session {
    /// Does what an event asks for, unless the pooler stops: a client that does not read what it is
    /// told holds up nobody.
    pub(super) async fn on_event(&mut self, event: Event) -> Next {
        let shared = Arc::clone(&self.shared);
        tokio::select! {
            biased;
            next = self.react(event) => next,
            () = shared.shutdown.reached(Phase::Stopping) => Next::Over,
        }
    }

    async fn react(&mut self, event: Event) -> Next {
        match event {
            Event::Unserved(unserved) => self.on_unserved(unserved).await,
            Event::Link(LinkEnd::Observe) => self.observe().await,
            Event::Link(LinkEnd::Restore) => self.restore().await,
            Event::Link(LinkEnd::Chained) => self.verify_inside().await,
            Event::Link(LinkEnd::Unsure) => self.settle().await,
            Event::Link(LinkEnd::Outdated) => self.refresh_kept(),
            Event::Link(end) => {
                let cancelled = self.part_from_server(&end);
                self.on_link_end(end, cancelled).await
            }
            Event::Path => self.follow_path().await,
            Event::Outdated => self.refresh().await,
            Event::Elsewhere => self.go_there().await,
            Event::Arm => Next::Go,
            Event::Clock if self.is_hold_due() => self.look_at_hold(),
            Event::Clock => self.look_at_clock().await,
            Event::PinnedTooLong => self.end_pin(),
            Event::Killed => {
                // What runs is cancelled; in the middle of a message nothing can be said.
                let end = self.last_word(Refusal::Killed);
                let cancelled = self.part_from_server(&end);
                self.on_link_end(end, cancelled).await
            }
            Event::Stuck => self.end_stuck().await,
            Event::Over => Next::Over,
            Event::Farewell(refusal) => Next::Farewell(refusal),
        }
    }

    /// It makes no progress, and never will: its server is closed, and what is known of how it came to that goes
    /// into the log.
    async fn end_stuck(&mut self) -> Next {
        self.shared.stats.stuck_sessions.add_one();
        let (stage, exchange) = (self.stage, &self.exchange);
        let (inbound, scanned) = (self.inbound.len(), self.units.scanned);
        let (outbound, passed) = (self.link.outbound.len(), self.link.passed);
        let pin = self.pin.map(Pinned::reason);
        self.span().in_scope(|| {
            error!(
                ?stage, ?exchange, inbound, scanned, outbound, passed, pin,
                "session ended: it made no progress; this is a fault of the pooler's, please report it"
            );
        });
        let end = self.last_word(Refusal::Stuck);
        let cancelled = self.part_from_server(&end);
        self.on_link_end(end, cancelled).await
    }

    async fn on_unserved(&mut self, unserved: Unserved) -> Next {
        self.stage = Stage::Idle;
        match unserved {
            Unserved::Moved => {
                self.stage = Stage::Asking { again: false };
                Next::Go
            }
            Unserved::Left => Next::Over,
            Unserved::Refused(refusal) => self.refuse_unit(&refusal).await,
            Unserved::Farewell(refusal) => Next::Farewell(refusal),
        }
    }

    /// What a link's end means for the unit, whose server is gone.
    pub(super) async fn on_link_end(&mut self, end: LinkEnd, cancelled: bool) -> Next {
        let last_attempt = self.stage == Stage::Linked { again: true };
        self.stage = Stage::Asking { again: true };
        match end {
            LinkEnd::ClientLeft
            | LinkEnd::Over
            | LinkEnd::Released
            | LinkEnd::Observe
            | LinkEnd::Restore
            | LinkEnd::Chained
            | LinkEnd::Outdated
            | LinkEnd::Unsure => Next::Over,
            LinkEnd::Farewell(refusal) => Next::Farewell(*refusal),
            LinkEnd::SwitchFailed(error, server) => {
                self.tally.switch_failures.add(1);
                // The cancel met the switch. Nothing has run: the client gets what it asked for.
                if cancelled && error.sqlstate() == "57014" {
                    return self.refuse_unit(&Refusal::Cancelled).await;
                }
                self.span()
                    .in_scope(|| info!(server, %error, retried = !last_attempt, "switch refused"));
                if !last_attempt {
                    return Next::Go;
                }
                let own = self.target.session.beyond(&self.home.session);
                let is_own = may_be_clients_fault(&own, error.sqlstate());
                let (tenant, error) = (self.tenant().to_owned(), error.to_string());
                if is_own {
                    // It would be refused for ever: a RESET needs a server too.
                    return Next::Farewell(Refusal::StateGone { tenant, error });
                }
                self.refuse_unit(&Refusal::Switch { tenant, error }).await
            }
            LinkEnd::NotSent(problem) => {
                self.span().in_scope(|| debug!(problem, "server lost before anything was sent"));
                if last_attempt {
                    return Next::Farewell(Refusal::ServerLost { problem });
                }
                Next::Go
            }
        }
    }

    /// The server, out of reach of the client's cancel requests: what comes now is not the client's.
    pub(super) async fn undisturbed(&mut self) -> Option<&mut Linked> {
        self.registration.slot.unlink();
        let linked = self.link.linked.as_mut()?;
        Arc::clone(&linked.server().cancel_key).settle().await;
        Some(linked)
    }

    /// Nobody can tell how many answers are still to come: finds out, and passes them on.
    async fn settle(&mut self) -> Next {
        let Some(linked) = self.undisturbed().await else { return Next::Over };
        let problem = match timeout(SETTLE_TIME_MAX, linked.server().settle()).await {
            Ok(Ok((owed, status))) => {
                self.exchange.settle(status);
                return self.tell(owed).await;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the server did not answer in time".to_owned(),
        };
        self.link = Link::default();
        Next::Farewell(Refusal::ServerLost { problem })
    }

    /// Passes on what is the client's, and what the server reports and the client has not heard.
    pub(super) async fn tell(&mut self, mut out: BytesMut) -> Next {
        self.name_sender(&mut out);
        let Some(linked) = &mut self.link.linked else { return Next::Over };
        self.registration.slot.link(Arc::clone(&linked.server().cancel_key), tick());
        if let Some(reports) = self.untold() {
            out.unsplit(reports);
        }
        if self.link.outbound.append(&out) {
            // It goes out with whatever comes next: a client that does not read holds no server.
            self.link.passed += out.len();
        } else {
            // A client that is gone is noticed by the next read.
            let _ = self.client.write_all(&out).await;
            let _ = self.client.flush().await;
        }
        Next::Go
    }

    pub(super) fn unserved(&self, error: CheckoutError) -> Unserved {
        match error {
            // The cluster is gone, not the pooler.
            CheckoutError::Stopping if self.shared.is_newer(self.version) => Unserved::Moved,
            CheckoutError::Stopping => Unserved::Farewell(Refusal::ShuttingDown),
            CheckoutError::Moved => Unserved::Moved,
            error => {
                let error = self.shared.cancels.with_oldest(error);
                Unserved::Refused(Refusal::Checkout { tenant: self.tenant().to_owned(), error })
            }
        }
    }

    /// The unit will not run. The client is told as PostgreSQL would, and the session goes on.
    pub(super) async fn refuse_unit(&mut self, refusal: &Refusal) -> Next {
        let (sqlstate, message) = refusal.summary();
        self.shared.count_refusal(refusal, Some(&self.tally));
        self.span().in_scope(|| info!(sqlstate, told = message, "statement refused"));
        let mut out = BytesMut::new();
        refusal.write(Severity::Error, &mut out);
        if self.exchange.refuse() == UnitRefusal::Ready {
            build::ready_for_query(TransactionStatus::Idle, &mut out);
        }
        if self.units.scanned > 0 {
            // One unit less, and an answer more.
            self.fuel.fill();
        }
        self.forget_unit();
        // Nothing of it has run: it ties the session to nothing.
        (self.pin, self.taint, self.changes) = (None, Taint::None, None);
        if self.mode != PoolMode::Session {
            self.registration.slot.pin(None);
        }
        self.deallocates = Deallocates::No;
        let reported = self.reported();
        self.pin_if_unreadable(&reported);
        if self.client.write_all(&out).await.is_err() || self.client.flush().await.is_err() {
            return Next::Over;
        }
        self.stage = Stage::Idle;
        Next::Go
    }

    pub(super) async fn farewell(self: Box<Self>, refusal: &Refusal) {
        let (sqlstate, message) = refusal.summary();
        self.shared.count_refusal(refusal, Some(&self.tally));
        self.span().in_scope(|| info!(sqlstate, told = message, "session ended"));
        let mut out = BytesMut::new();
        refusal.write(Severity::Fatal, &mut out);
        self.hang_up(&out).await;
    }

    /// What the client has not been sent yet, a last word, and an end that it can tell from a lost connection: closed
    /// without that, a socket with something unread resets the connection, and the client may lose what was said.
    pub(super) async fn hang_up(mut self: Box<Self>, word: &[u8]) {
        let shared = Arc::clone(&self.shared);
        let unsaid = std::mem::take(&mut self.link.aside);
        // Whether it arrives makes no difference to anybody else.
        let end = timeout(FAREWELL_TIME_MAX, async {
            let _ = self.client.write_all(&unsaid).await;
            let _ = self.client.write_all(word).await;
            let _ = self.client.shutdown().await;
        });
        tokio::select! {
            biased;
            _ = end => {}
            () = shared.shutdown.reached(Phase::Stopping) => {}
        }
    }
}
