//! A logged-in client: waits for a message holding nothing, then for a server, then relays.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::AsyncWriteExt;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;
use tracing::{Level, Span, debug, enabled, info, info_span};

use super::Shared;
use super::link::{Link, LinkEnd};
use super::refusal::{Refusal, Severity};
use super::units::{Step, Units};
use crate::config::PoolMode;
use crate::flow::{Exchange, Refusal as UnitRefusal};
use crate::net::{Buffer, Phase, Stream};
use crate::pool::{Acquired, Checkout, CheckoutError, Registration, Seat, Taint, Waiting};
use crate::server::{Parameters, Target};
use crate::wire::backend::TransactionStatus;
use crate::wire::build;

/// Longest a server may take to put a session's state back after a RESET.
const STATE_AGAIN_TIME_MAX: Duration = Duration::from_secs(5);

/// What a login yields.
pub(super) struct Parts {
    pub(super) client: Stream,
    pub(super) inbound: Buffer,
    pub(super) seat: Arc<Seat>,
    pub(super) target: Arc<Target>,
    pub(super) told: Arc<Parameters>,
    pub(super) mode: PoolMode,
    pub(super) registration: Registration,
    pub(super) permit: OwnedSemaphorePermit,
    pub(super) user: Box<str>,
    pub(super) shared: Arc<Shared>,
}

/// A client's session. While it is idle it holds no server and no buffer.
pub struct Session {
    pub(super) client: Stream,
    /// What the client sent; the first [`Units::scanned`] bytes of it were scanned.
    pub(super) inbound: Buffer,
    pub(super) units: Units,
    pub(super) exchange: Exchange,
    pub(super) link: Link,
    /// What the client was told of its parameters.
    pub(super) told: Arc<Parameters>,
    pub(super) mode: PoolMode,
    /// Why the session keeps its server between transactions, if it does.
    pub(super) pin: Option<&'static str>,
    /// What it did to the server it holds.
    pub(super) taint: Taint,
    /// It has reset settings to those of the server, below its tenant's.
    pub(super) was_reset: bool,
    pub(super) registration: Registration,
    pub(super) shared: Arc<Shared>,
    user: Box<str>,
    pub(super) target: Arc<Target>,
    stage: Stage,
    waiting: Option<Box<Waiting>>,
    seat: Arc<Seat>,
    _permit: OwnedSemaphorePermit,
}

/// Where a session stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Between two units; it holds nothing.
    Idle,
    /// A unit waits for a server; `again`: for its second one, the first refused the switch.
    Asking { again: bool },
    /// It has a place in the queue: `waiting`. `again` as above.
    Queued { again: bool },
    /// It holds a server, or still has to read what one has sent. `again` as above.
    Linked { again: bool },
}

/// What the poll of a session cannot do itself.
enum Event {
    /// The unit gets no server.
    Unserved(Unserved),
    /// The link has ended, or has to pause.
    Link(LinkEnd),
    /// The client is gone.
    Over,
    /// The client gets a last word.
    Farewell(Refusal),
}

/// What comes after an event.
enum Next {
    /// The session goes on.
    Go,
    /// Nothing; the client is gone or was told.
    Over,
    /// A last word.
    Farewell(Refusal),
}

/// Why no server was got.
enum Unserved {
    /// The client is told, and stays.
    Refused(Refusal),
    /// The client left.
    Left,
    /// The client is told, and goes.
    Farewell(Refusal),
}

impl Session {
    pub(super) fn new(parts: Parts) -> Box<Self> {
        let mut session = Box::new(Self {
            client: parts.client,
            inbound: parts.inbound,
            units: Units::default(),
            exchange: Exchange::default(),
            link: Link::default(),
            told: parts.told,
            mode: parts.mode,
            pin: None,
            taint: Taint::None,
            was_reset: false,
            registration: parts.registration,
            shared: parts.shared,
            target: parts.target,
            user: parts.user,
            stage: Stage::Idle,
            waiting: None,
            seat: parts.seat,
            _permit: parts.permit,
        });
        session.pin_if_unreadable();
        session
    }

    fn pin_if_unreadable(&mut self) {
        if let Some(reason) = super::units::unreadable(&self.told) {
            self.pin_to_server(reason, Taint::Scrub);
        }
    }

    /// Made for a log line only: kept, it would be the largest part of an idle client.
    pub(super) fn span(&self) -> Span {
        info_span!("client", id = self.registration.pid, user = &*self.user, tenant = self.tenant())
    }

    fn tenant(&self) -> &str {
        self.target.tenant.as_str()
    }

    /// Serves the client until it leaves or is told to.
    pub async fn run(mut self: Box<Self>) {
        loop {
            // Most transactions come and go in here; what is left is rare, and boxed, because an
            // idle client should be small.
            let event = poll_fn(|cx| self.poll(cx)).await;
            match Box::pin(self.on_event(event)).await {
                Next::Go => {}
                Next::Over => return,
                Next::Farewell(refusal) => return Box::pin(self.farewell(&refusal)).await,
            }
        }
    }

    /// Units, servers and answers, as long as nobody has to wait for anything but a socket.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        loop {
            self.stage = match self.stage {
                Stage::Idle => match ready!(self.poll_unit(cx)) {
                    Step::Terminate => return Poll::Ready(Event::Over),
                    Step::Stop => return Poll::Ready(Event::Farewell(Refusal::ShuttingDown)),
                    Step::Broken(problem) => {
                        return Poll::Ready(Event::Farewell(Refusal::Protocol { problem }));
                    }
                    step @ (Step::Progress | Step::UnitEnds | Step::NeedsMore) => {
                        self.units.whole = step == Step::UnitEnds;
                        Stage::Asking { again: false }
                    }
                },
                Stage::Asking { again } => match self.seat.acquire(&self.target) {
                    Ok(Acquired::Now(checkout)) => {
                        self.link_to(checkout);
                        Stage::Linked { again }
                    }
                    Ok(Acquired::Later(waiting)) => {
                        self.registration.slot.queue();
                        if enabled!(Level::DEBUG) {
                            self.span().in_scope(|| debug!("client waits for a server"));
                        }
                        self.waiting = Some(Box::new(waiting));
                        Stage::Queued { again }
                    }
                    Err(error) => return Poll::Ready(Event::Unserved(self.unserved(error))),
                },
                Stage::Queued { again } => {
                    let result = ready!(self.poll_wait(cx));
                    // The place in the queue goes first: who is slow to read holds nobody up.
                    self.waiting = None;
                    self.registration.slot.unlink();
                    match result {
                        Ok(checkout) => {
                            self.link_to(checkout);
                            Stage::Linked { again }
                        }
                        Err(unserved) => return Poll::Ready(Event::Unserved(unserved)),
                    }
                }
                Stage::Linked { .. } => match ready!(self.poll_link(cx)) {
                    LinkEnd::Released => {
                        self.exchange.reset();
                        Stage::Idle
                    }
                    end => return Poll::Ready(Event::Link(end)),
                },
            };
        }
    }

    async fn on_event(&mut self, event: Event) -> Next {
        match event {
            Event::Unserved(unserved) => self.on_unserved(unserved).await,
            Event::Link(LinkEnd::Reset) => self.state_again().await,
            Event::Link(end) => {
                let cancelled = self.part_from_server(&end);
                self.on_link_end(end, cancelled).await
            }
            Event::Over => Next::Over,
            Event::Farewell(refusal) => Next::Farewell(refusal),
        }
    }

    async fn on_unserved(&mut self, unserved: Unserved) -> Next {
        self.stage = Stage::Idle;
        match unserved {
            Unserved::Left => Next::Over,
            Unserved::Refused(refusal) => self.refuse_unit(&refusal).await,
            Unserved::Farewell(refusal) => Next::Farewell(refusal),
        }
    }

    /// Waits for a unit that needs a server: whole, or as much of it as a buffer holds.
    fn poll_unit(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        loop {
            if self.units.local_ready > 0 {
                if ready!(self.poll_local_ready(cx)).is_err() {
                    return Poll::Ready(Step::Terminate);
                }
                continue;
            }
            match self.scan(false) {
                Step::NeedsMore => {}
                Step::Progress => continue,
                other => return Poll::Ready(other),
            }
            if self.inbound.is_full() {
                return Poll::Ready(Step::NeedsMore);
            }
            let quiet = self.inbound.is_empty() && self.units.at_boundary();
            match self.shared.shutdown.phase() {
                Phase::Running => {}
                Phase::Draining if !quiet => {}
                Phase::Draining | Phase::Stopping => return Poll::Ready(Step::Stop),
            }
            match self.inbound.poll_fill(&mut self.client, cx) {
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(_) => return Poll::Ready(Step::Terminate),
                Poll::Pending => {
                    self.inbound.release();
                    return Poll::Pending;
                }
            }
        }
    }

    /// What a link's end means for the unit, whose server is gone.
    async fn on_link_end(&mut self, end: LinkEnd, cancelled: bool) -> Next {
        let last_attempt = self.stage == Stage::Linked { again: true };
        self.stage = Stage::Asking { again: true };
        match end {
            LinkEnd::ClientLeft | LinkEnd::Over | LinkEnd::Released | LinkEnd::Reset => Next::Over,
            LinkEnd::Farewell(refusal) => Next::Farewell(refusal),
            LinkEnd::SwitchFailed(error) => {
                self.shared.stats.switch_failures.add_one();
                // The cancel met the switch. Nothing has run: the client gets what it asked for.
                if cancelled && error.sqlstate() == "57014" {
                    return self.refuse_unit(&Refusal::Cancelled).await;
                }
                self.span().in_scope(|| info!(%error, retried = !last_attempt, "switch refused"));
                if !last_attempt {
                    return Next::Go;
                }
                let (tenant, error) = (self.tenant().to_owned(), error.to_string());
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

    /// RESET has gone below the tenant's baseline: puts the session's state back over it.
    async fn state_again(&mut self) -> Next {
        self.resume();
        let Some(linked) = &mut self.link.linked else { return Next::Over };
        let frames = self.target.again();
        let asked = timeout(STATE_AGAIN_TIME_MAX, linked.server().ask(Some(&frames), "")).await;
        let problem = match asked {
            Ok(Ok(_)) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("the server did not answer in time".to_owned()),
        };
        if let Some(error) = problem {
            self.registration.slot.unlink();
            self.link = Link::default();
            let tenant = self.tenant().to_owned();
            return Next::Farewell(Refusal::Switch { tenant, error });
        }
        linked.server().unnamed_left = None;
        // What the client was told is now what the server reports.
        let mut news = BytesMut::new();
        for (name, value) in linked.server().parameters.iter() {
            if !self.told.knows(name.as_bytes(), value) {
                build::parameter_status(name, value, &mut news);
            }
        }
        self.told = Arc::new(linked.server().parameters.clone());
        // A client that is gone is noticed by the next read.
        let _ = self.client.write_all(&news).await;
        let _ = self.client.flush().await;
        Next::Go
    }

    fn unserved(&self, error: CheckoutError) -> Unserved {
        match error {
            CheckoutError::Stopping => Unserved::Farewell(Refusal::ShuttingDown),
            error => {
                Unserved::Refused(Refusal::Checkout { tenant: self.tenant().to_owned(), error })
            }
        }
    }

    /// In the queue: a server, the end of patience, a cancel, the client's end, or ours.
    fn poll_wait(&mut self, cx: &mut Context<'_>) -> Poll<Result<Checkout, Unserved>> {
        let Some(waiting) = &mut self.waiting else { return Poll::Ready(Err(Unserved::Left)) };
        if let Poll::Ready(result) = waiting.poll(cx) {
            return Poll::Ready(result.map_err(|error| self.unserved(error)));
        }
        if self.registration.slot.is_wait_cancelled(cx.waker()) {
            return Poll::Ready(Err(Unserved::Refused(Refusal::Cancelled)));
        }
        if self.shared.shutdown.phase() > Phase::Running {
            return Poll::Ready(Err(Unserved::Farewell(Refusal::ShuttingDown)));
        }
        while !self.inbound.is_full() {
            match ready!(self.inbound.poll_fill(&mut self.client, cx)) {
                Ok(1..) => {}
                Ok(0) | Err(_) => return Poll::Ready(Err(Unserved::Left)),
            }
        }
        Poll::Pending
    }

    /// The unit will not run. The client is told as PostgreSQL would, and the session goes on.
    async fn refuse_unit(&mut self, refusal: &Refusal) -> Next {
        let (sqlstate, message) = refusal.summary();
        self.span().in_scope(|| info!(sqlstate, message, "statement refused"));
        let mut out = BytesMut::new();
        refusal.write(Severity::Error, &mut out);
        if self.exchange.refuse() == UnitRefusal::Ready {
            build::ready_for_query(TransactionStatus::Idle, &mut out);
        }
        self.forget_unit();
        // Nothing of it has run: it ties the session to nothing.
        (self.pin, self.taint) = (None, Taint::None);
        self.pin_if_unreadable();
        if self.client.write_all(&out).await.is_err() || self.client.flush().await.is_err() {
            return Next::Over;
        }
        self.stage = Stage::Idle;
        Next::Go
    }

    async fn farewell(mut self: Box<Self>, refusal: &Refusal) {
        let (sqlstate, message) = refusal.summary();
        self.span().in_scope(|| info!(sqlstate, message, "session ended"));
        let mut out = BytesMut::new();
        refusal.write(Severity::Fatal, &mut out);
        // The last word; whether it arrives makes no difference to anybody else.
        let _ = timeout(super::units::FAREWELL_TIME_MAX, async {
            let _ = self.client.write_all(&out).await;
            let _ = self.client.shutdown().await;
        })
        .await;
    }
}
