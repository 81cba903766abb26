//! A logged-in client: waits for a message holding nothing, then for a server, then relays.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::AsyncWriteExt;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;
use tracing::{Span, debug, info};

use super::Shared;
use super::refusal::{Refusal, Severity};
use super::relay::{Relay, RelayEnd};
use super::units::{Step, Units};
use crate::config::PoolMode;
use crate::flow::{Exchange, Refusal as UnitRefusal};
use crate::net::{Bell, Buffer, Phase, Stream};
use crate::pool::{Acquired, Checkout, CheckoutError, Linked, Registration, Seat, Taint, Waiting};
use crate::server::{Parameters, Switch, Target};
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
    pub(super) span: Span,
    pub(super) shared: Arc<Shared>,
}

/// A client's session. While it is idle it holds no server and no buffer.
pub struct Session {
    pub(super) client: Stream,
    /// What the client sent; the first [`Units::scanned`] bytes of it were scanned.
    pub(super) inbound: Buffer,
    pub(super) units: Units,
    pub(super) exchange: Exchange,
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
    pub(super) bell: Bell,
    pub(super) shared: Arc<Shared>,
    /// Entered for a log line only: entering it at each poll would cost more than the relay.
    pub(super) span: Span,
    target: Arc<Target>,
    seat: Arc<Seat>,
    _permit: OwnedSemaphorePermit,
}

/// What comes after a unit.
enum Next {
    /// The next one.
    Unit,
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
    pub(super) fn new(parts: Parts) -> Self {
        let bell = Bell::new(&parts.shared.shutdown);
        let mut session = Self {
            client: parts.client,
            inbound: parts.inbound,
            units: Units::default(),
            exchange: Exchange::default(),
            told: parts.told,
            mode: parts.mode,
            pin: None,
            taint: Taint::None,
            was_reset: false,
            registration: parts.registration,
            bell,
            shared: parts.shared,
            target: parts.target,
            seat: parts.seat,
            span: parts.span,
            _permit: parts.permit,
        };
        session.pin_if_unreadable();
        session
    }

    fn pin_if_unreadable(&mut self) {
        if let Some(reason) = super::units::unreadable(&self.told) {
            self.pin_to_server(reason, Taint::Scrub);
        }
    }

    fn tenant(&self) -> &str {
        self.target.tenant.as_str()
    }

    /// Serves the client until it leaves or is told to.
    pub async fn run(mut self) {
        loop {
            let step = poll_fn(|cx| self.poll_unit(cx)).await;
            self.units.whole = step == Step::UnitEnds;
            let next = match step {
                Step::Progress | Step::UnitEnds | Step::NeedsMore => self.serve().await,
                Step::Terminate => return,
                Step::Stop => Next::Farewell(Refusal::ShuttingDown),
                Step::Broken(problem) => Next::Farewell(Refusal::Protocol { problem }),
            };
            match next {
                Next::Unit => {}
                Next::Over => return,
                Next::Farewell(refusal) => return self.farewell(&refusal).await,
            }
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
            match self.bell.phase(cx) {
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

    async fn serve(&mut self) -> Next {
        for last_attempt in [false, true] {
            let checkout = match self.checkout().await {
                Ok(checkout) => checkout,
                Err(Unserved::Left) => return Next::Over,
                Err(Unserved::Refused(refusal)) => return self.refuse_unit(&refusal).await,
                Err(Unserved::Farewell(refusal)) => return Next::Farewell(refusal),
            };
            let (mut linked, mut switch) = checkout.switch_to(&self.target);
            let mut resumes = false;
            let (end, cancelled) = loop {
                let mut relay = Relay::new(self, linked, switch);
                if std::mem::replace(&mut resumes, true) {
                    relay.resume();
                }
                match poll_fn(|cx| relay.poll(cx)).await {
                    RelayEnd::Reset => linked = relay.into_linked(),
                    end => {
                        let cancelled = relay.part_from_server(&end);
                        break (end, cancelled);
                    }
                }
                switch = Switch::None;
                if let Err(refusal) = Box::pin(self.state_again(&mut linked)).await {
                    self.registration.slot.unlink();
                    return Next::Farewell(refusal);
                }
            };
            match end {
                RelayEnd::Released => {
                    self.exchange.reset();
                    return Next::Unit;
                }
                RelayEnd::ClientLeft | RelayEnd::Over | RelayEnd::Reset => return Next::Over,
                RelayEnd::Farewell(refusal) => return Next::Farewell(refusal),
                RelayEnd::SwitchFailed(error) => {
                    self.shared.stats.switch_failures.add_one();
                    // The cancel met the switch. Nothing has run: the client gets what it asked for.
                    if cancelled && error.sqlstate() == "57014" {
                        return self.refuse_unit(&Refusal::Cancelled).await;
                    }
                    self.span.in_scope(|| info!(%error, retried = !last_attempt, "switch refused"));
                    if last_attempt {
                        let (tenant, error) = (self.tenant().to_owned(), error.to_string());
                        return self.refuse_unit(&Refusal::Switch { tenant, error }).await;
                    }
                }
                RelayEnd::NotSent(problem) => {
                    self.span.in_scope(|| debug!(problem, "server lost before anything was sent"));
                    if last_attempt {
                        return Next::Farewell(Refusal::ServerLost { problem });
                    }
                }
            }
        }
        unreachable!("the last attempt returns")
    }

    /// RESET has gone below the tenant's baseline: puts the session's state back over it.
    async fn state_again(&mut self, linked: &mut Linked) -> Result<(), Refusal> {
        let frames = self.target.again();
        let asked = timeout(STATE_AGAIN_TIME_MAX, linked.server().ask(Some(&frames), "")).await;
        let problem = match asked {
            Ok(Ok(_)) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("the server did not answer in time".to_owned()),
        };
        if let Some(error) = problem {
            return Err(Refusal::Switch { tenant: self.tenant().to_owned(), error });
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
        Ok(())
    }

    async fn checkout(&mut self) -> Result<Checkout, Unserved> {
        match self.seat.acquire(&self.target) {
            Ok(Acquired::Now(checkout)) => Ok(checkout),
            Ok(Acquired::Later(waiting)) => Box::pin(self.wait(waiting)).await,
            Err(error) => Err(self.unserved(error)),
        }
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
    async fn wait(&mut self, mut waiting: Waiting) -> Result<Checkout, Unserved> {
        self.registration.slot.queue();
        self.span.in_scope(|| debug!("client waits for a server"));
        let result = poll_fn(|cx| {
            if let Poll::Ready(result) = waiting.poll(cx) {
                return Poll::Ready(result.map_err(|error| self.unserved(error)));
            }
            if self.registration.slot.is_wait_cancelled(cx.waker()) {
                return Poll::Ready(Err(Unserved::Refused(Refusal::Cancelled)));
            }
            if self.bell.phase(cx) > Phase::Running {
                return Poll::Ready(Err(Unserved::Farewell(Refusal::ShuttingDown)));
            }
            while !self.inbound.is_full() {
                match ready!(self.inbound.poll_fill(&mut self.client, cx)) {
                    Ok(1..) => {}
                    Ok(0) | Err(_) => return Poll::Ready(Err(Unserved::Left)),
                }
            }
            Poll::Pending
        })
        .await;
        self.registration.slot.unlink();
        result
    }

    /// The unit will not run. The client is told as PostgreSQL would, and the session goes on.
    async fn refuse_unit(&mut self, refusal: &Refusal) -> Next {
        let (sqlstate, message) = refusal.summary();
        self.span.in_scope(|| info!(sqlstate, message, "statement refused"));
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
        Next::Unit
    }

    async fn farewell(mut self, refusal: &Refusal) {
        let (sqlstate, message) = refusal.summary();
        self.span.in_scope(|| info!(sqlstate, message, "session ended"));
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
