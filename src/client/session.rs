//! A logged-in client: waits for a message holding nothing, then for a server, then relays.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout_at;
use tracing::{Span, info_span};

use super::Shared;
use super::by_path::ByPath;
use super::chained::Verified;
use super::changes::{Changes, Pinned};
use super::clock::Watch;
use super::events::{Event, Next, Unserved};
use super::fuel::Fuel;
use super::greet::Peer;
use super::kept::Hold;
use super::link::{Link, LinkEnd};
use super::prepared::Deallocates;
use super::refusal::Refusal;
use super::restore::Resets;
use super::units::{Step, Units};
use crate::config::{Policy, PoolMode, Tenant};
use crate::flow::Exchange;
use crate::net::{Buffer, Phase, Stream};
use crate::pool::{Acquired, Checkout, Linked, Registration, Seat, Taint, Waiting};
use crate::prepared::{Description, Names};
use crate::server::{Parameters, Target};
use crate::sql::Flags;
use crate::stats::Tally;

/// What a login yields.
pub(super) struct Parts {
    pub(super) client: Stream,
    pub(super) inbound: Buffer,
    pub(super) seat: Arc<Seat>,
    pub(super) target: Arc<Target>,
    pub(super) told: Arc<Parameters>,
    pub(super) mode: PoolMode,
    pub(super) policy: Arc<Policy>,
    pub(super) of: Arc<Tenant>,
    pub(super) version: u64,
    pub(super) registration: Registration,
    pub(super) permit: OwnedSemaphorePermit,
    pub(super) user: Box<str>,
    pub(super) by_path: Option<Box<ByPath>>,
    pub(super) tally: Arc<Tally>,
    pub(super) shared: Arc<Shared>,
}

/// A client's session. While it is idle it holds no server and no buffer.
pub struct Session {
    pub(super) client: Stream,
    /// It has waited for the client once: the client's socket wakes it from now on.
    pub(super) client_wakes: bool,
    /// The number of its worker.
    pub(super) worker: usize,
    /// What the client sent; the first [`Units::scanned`] bytes of it were scanned.
    pub(super) inbound: Buffer,
    pub(super) units: Units,
    pub(super) exchange: Exchange,
    pub(super) link: Link,
    /// What the client was told of its parameters.
    pub(super) told: Arc<Parameters>,
    pub(super) mode: PoolMode,
    /// Why the session keeps its server between transactions, if it does.
    pub(super) pin: Option<Pinned>,
    /// Since when it keeps its server, if that is limited.
    pub(super) pinned_since: Option<Instant>,
    /// The clock for that runs.
    pub(super) is_pin_timed: bool,
    /// What it may do to itself.
    pub(super) policy: Arc<Policy>,
    /// Its tenant, and of which version of what holds that is.
    pub(super) of: Arc<Tenant>,
    pub(super) version: u64,
    /// The version in which it was last seen that the session may stay.
    pub(super) looked: u64,
    /// What its transaction is doing, if that is limited.
    pub(super) watch: Option<Box<Watch>>,
    /// It keeps its server, and its tenant is paused.
    pub(super) hold: Option<Box<Hold>>,
    /// Its prepared statements, if it has any.
    pub(super) names: Option<Box<Names>>,
    /// Whether it takes prepared statements away.
    pub(super) deallocates: Deallocates,
    /// Its server has its statements under their own names, until it is pinned no more.
    pub(super) has_own_names: bool,
    /// `SET SESSION AUTHORIZATION`: whether what leads home may be set any more, nobody can tell.
    pub(super) is_other_user: bool,
    /// What statements under their own names may do when they are bound.
    pub(super) own_flags: Flags,
    /// The statement that the client describes in the unit.
    pub(super) describes: Option<Box<[u8]>>,
    /// What the unnamed statement returns on the server, if that was looked at.
    pub(super) unnamed_returns: Option<Description>,
    /// Whether it is known to be its tenant's, where the guard is on.
    pub(super) verified: Verified,
    /// What of it resets settings when it runs.
    pub(super) resets: Option<Box<Resets>>,
    /// What it did to the server it holds.
    pub(super) taint: Taint,
    /// What the server is to be asked when the transaction is over.
    pub(super) changes: Option<Box<Changes>>,
    pub(super) registration: Registration,
    pub(super) shared: Arc<Shared>,
    pub(super) user: Box<str>,
    /// The state RESET leads to: the tenant's, and what the start-up packet said.
    pub(super) home: Arc<Target>,
    /// The state the session is in.
    pub(super) target: Arc<Target>,
    pub(super) stage: Stage,
    pub(super) fuel: Fuel,
    pub(super) waiting: Option<Waiting>,
    pub(super) seat: Arc<Seat>,
    /// What it does is counted here.
    pub(super) tally: Arc<Tally>,
    /// Its tenant is whom its search_path names.
    pub(super) by_path: Option<Box<ByPath>>,
    _permit: OwnedSemaphorePermit,
}

/// Where a session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Between two units; it holds nothing.
    Idle,
    /// A unit waits for a server; `again`: for its second one, the first refused the switch.
    Asking { again: bool },
    /// It has a place in the queue: `waiting`. `again` as above.
    Queued { again: bool },
    /// It holds a server, or still has to read what one has sent. `again` as above.
    Linked { again: bool },
}

impl Session {
    pub(super) fn new(parts: Parts) -> Box<Self> {
        let mut session = Box::new(Self {
            client: parts.client,
            client_wakes: false,
            worker: parts.shared.this_worker(),
            inbound: parts.inbound,
            units: Units::default(),
            exchange: Exchange::default(),
            link: Link::default(),
            told: parts.told,
            mode: parts.mode,
            pin: None,
            pinned_since: None,
            is_pin_timed: false,
            policy: parts.policy,
            of: parts.of,
            version: parts.version,
            looked: parts.version,
            watch: None,
            hold: None,
            names: None,
            deallocates: Deallocates::No,
            has_own_names: false,
            is_other_user: false,
            own_flags: Flags::NONE,
            verified: Verified::Yes,
            describes: None,
            unnamed_returns: None,
            resets: None,
            taint: Taint::None,
            changes: None,
            registration: parts.registration,
            shared: parts.shared,
            home: Arc::clone(&parts.target),
            target: parts.target,
            user: parts.user,
            stage: Stage::Idle,
            fuel: Fuel::new(),
            waiting: None,
            seat: parts.seat,
            tally: parts.tally,
            by_path: parts.by_path,
            _permit: parts.permit,
        });
        let told = Arc::clone(&session.told);
        session.pin_if_unreadable(&told);
        session
    }

    /// Texts of a client in such a session cannot be read.
    pub(super) fn pin_if_unreadable(&mut self, reported: &Parameters) {
        if let Some(reason) = super::units::unreadable(reported) {
            self.pin_to_server(Pinned::Lasting(reason));
        }
        if self.target.session.seeds() {
            self.pin_to_server(Pinned::Lasting("setseed"));
            self.taint(Taint::Close);
        }
        if self.target.session.names_temporary_schema() {
            self.pin_to_server(Pinned::Lasting("search_path with pg_temp"));
        }
    }

    /// Made for a log line only: kept, it would be the largest part of an idle client.
    pub(super) fn span(&self) -> Span {
        let peer = Peer(self.registration.slot.facts().peer);
        info_span!(
            "client",
            id = self.registration.pid,
            user = &*self.user,
            tenant = self.tenant(),
            client = %peer,
            server = self.server_pid(),
        )
    }

    /// The process id of the server it holds.
    pub(super) fn server_pid(&self) -> Option<i32> {
        self.link.linked.as_ref().map(Linked::pid)
    }

    pub(super) fn tenant(&self) -> &str {
        self.target.tenant.as_str()
    }

    /// Serves the client until it leaves or is told to.
    pub async fn run(mut self: Box<Self>) {
        loop {
            // Most transactions come and go in here; what is left is rare, and boxed, because an
            // idle client should be small.
            let (pin_ends, watch_ends) = (self.pin_ends(), self.watch_ends());
            let event = match pin_ends.into_iter().chain(watch_ends).chain(self.hold_ends()).min() {
                None => poll_fn(|cx| self.poll(cx)).await,
                Some(end) => {
                    let poll = Box::pin(timeout_at(end.into(), poll_fn(|cx| self.poll(cx))));
                    poll.await.unwrap_or(if pin_ends == Some(end) {
                        Event::PinnedTooLong
                    } else {
                        Event::Clock
                    })
                }
            };
            match Box::pin(self.on_event(event)).await {
                Next::Go => {}
                Next::Over => return Box::pin(self.hang_up(&[])).await,
                Next::Farewell(refusal) => return Box::pin(self.farewell(&refusal)).await,
            }
        }
    }

    /// Units, servers and answers; a session that goes round in circles is noticed.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        if self.registration.slot.is_killed() {
            return Poll::Ready(Event::Killed);
        }
        let poll = self.poll_stages(cx);
        if self.fuel.is_empty() { Poll::Ready(Event::Stuck) } else { poll }
    }

    /// The same, as long as nobody has to wait for anything but a socket.
    fn poll_stages(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        while self.fuel.burn() {
            self.stage = match self.stage {
                Stage::Idle if self.shared.is_newer(self.looked) => {
                    return Poll::Ready(Event::Outdated);
                }
                Stage::Asking { .. } if self.shared.is_newer(self.version) => {
                    return Poll::Ready(Event::Outdated);
                }
                Stage::Idle if self.is_elsewhere() => return Poll::Ready(Event::Elsewhere),
                Stage::Idle => match ready!(self.poll_unit(cx)) {
                    Step::Terminate => return Poll::Ready(Event::Over),
                    Step::Stop => return Poll::Ready(Event::Farewell(Refusal::ShuttingDown)),
                    Step::Broken(problem) => {
                        return Poll::Ready(Event::Farewell(Refusal::Protocol { problem }));
                    }
                    Step::UnitEnds if self.changes.is_some() && self.absorb() => Stage::Idle,
                    step @ (Step::Progress | Step::UnitEnds | Step::NeedsMore) => {
                        self.units.whole = step == Step::UnitEnds;
                        Stage::Asking { again: false }
                    }
                },
                Stage::Asking { .. } if self.may_change_tenant() => {
                    return Poll::Ready(Event::Path);
                }
                Stage::Asking { again } => match self.seat.acquire(&self.target) {
                    Ok(Acquired::Now(checkout)) => {
                        self.link_at_once(checkout);
                        Stage::Linked { again }
                    }
                    Ok(Acquired::Later(waiting)) => {
                        self.begin_wait(waiting);
                        Stage::Queued { again }
                    }
                    Err(error) => return Poll::Ready(Event::Unserved(self.unserved(error))),
                },
                Stage::Queued { again } => {
                    let result = ready!(self.poll_wait(cx));
                    self.end_wait();
                    // The place in the queue goes first: who is slow to read holds nobody up.
                    self.waiting = None;
                    let cancelled = self.registration.slot.unlink();
                    match result {
                        // The request came while the client still waited: nothing has run.
                        Ok(checkout) if cancelled => {
                            drop(checkout);
                            let refused = Unserved::Refused(Refusal::Cancelled);
                            return Poll::Ready(Event::Unserved(refused));
                        }
                        Ok(checkout) => {
                            self.link_to(checkout);
                            Stage::Linked { again }
                        }
                        Err(unserved) => return Poll::Ready(Event::Unserved(unserved)),
                    }
                }
                Stage::Linked { .. } if self.has_to_be_armed() => return Poll::Ready(Event::Arm),
                Stage::Linked { .. } => match ready!(self.poll_link(cx)) {
                    LinkEnd::Released => {
                        self.exchange.reset();
                        Stage::Idle
                    }
                    end => return Poll::Ready(Event::Link(end)),
                },
            };
        }
        Poll::Pending
    }

    /// Waits for a unit that needs a server: whole, or as much of it as a buffer holds.
    fn poll_unit(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        while self.fuel.burn() {
            if self.units.owes_client() {
                match self.poll_answers(cx) {
                    Poll::Ready(Ok(())) => continue,
                    Poll::Ready(Err(_)) => return Poll::Ready(Step::Terminate),
                    Poll::Pending if self.shared.shutdown.phase() == Phase::Running => {
                        return Poll::Pending;
                    }
                    // Who does not read cannot be told anything either.
                    Poll::Pending => return Poll::Ready(Step::Terminate),
                }
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
            match self.poll_client(cx) {
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(_) => return Poll::Ready(Step::Terminate),
                Poll::Pending => {
                    self.inbound.release();
                    return Poll::Pending;
                }
            }
        }
        Poll::Pending
    }

    /// Reads from the client. To wait once more for what it has waited for already costs a look.
    #[inline]
    pub(super) fn poll_client(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<usize>> {
        if self.client_wakes && !self.client.may_have_news() {
            return Poll::Pending;
        }
        self.read_client(cx)
    }

    fn read_client(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<usize>> {
        let poll = self.inbound.poll_fill(&mut self.client, cx);
        if let Poll::Ready(Ok(count)) = poll {
            self.tally.received.add(count as u64);
            self.fuel.fill();
        }
        // Not where it only had to let others run: then it is not waiting for the client.
        self.client_wakes |= poll.is_pending() && !self.client.may_have_news();
        poll
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
            match ready!(self.poll_client(cx)) {
                Ok(1..) => {}
                Ok(0) | Err(_) => return Poll::Ready(Err(Unserved::Left)),
            }
        }
        self.client.poll_closed(cx).map(|()| Err(Unserved::Left))
    }
}
