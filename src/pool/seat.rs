//! A client's place in its tenant, and its way to a server.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tokio::sync::oneshot;

use super::Pools;
use super::account::{Limits, TicketId};
use super::error::{CheckoutError, SeatError};
use super::loan::{Checkout, Loan};
use super::sched::{Effects, Lent, Ticket};
use super::turns::QueueFull;
use crate::config::Tenant;
use crate::server::{Endpoint, Target};

/// A client of a tenant, counted until the last clone is gone. A loan keeps one.
pub struct Seat {
    pub(super) pools: Arc<Pools>,
    pub(super) place: usize,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut effects = Effects::default();
        self.pools.sched.lock().leave(self.place, &mut effects);
        self.pools.carry_out(effects);
    }
}

/// What asking for a server gives.
pub enum Acquired {
    /// A server, at once.
    Now(Checkout),
    /// A place in the queue.
    Later(Waiting),
}

impl Seat {
    /// Takes a seat.
    ///
    /// # Errors
    /// [`SeatError`]: at `max_client_connections`, or when something newer than `version` holds here.
    pub fn take(
        pools: &Arc<Pools>,
        endpoint: &Endpoint,
        tenant: &Tenant,
        version: u64,
    ) -> Result<Arc<Self>, SeatError> {
        let limits = Limits::of(tenant);
        let place = {
            let mut sched = pools.sched.lock();
            if version < sched.version {
                return Err(SeatError::Outdated);
            }
            let pool = sched.pool(endpoint);
            sched.turns.enter(&tenant.id, limits, pool)?
        };
        Ok(Arc::new(Self { pools: Arc::clone(pools), place }))
    }

    /// Whether its tenant has more clients than it may, which is only audited.
    #[must_use]
    pub fn is_beyond_limit(&self) -> bool {
        self.pools.sched.lock().turns.is_beyond_limit(self.place)
    }

    /// Whether it is in this cluster.
    #[must_use]
    pub fn is_at(&self, pools: &Arc<Pools>) -> bool {
        Arc::ptr_eq(&self.pools, pools)
    }

    /// Asks for a server: at once if one is idle and nobody is overtaken, else a place in the queue.
    ///
    /// # Errors
    /// [`CheckoutError`] when there is no point in waiting.
    pub fn acquire(self: &Arc<Self>, target: &Arc<Target>) -> Result<Acquired, CheckoutError> {
        self.acquire_by(None, target)
    }

    /// The same, for who has waited before: his patience ends when it would have ended.
    fn acquire_by(
        self: &Arc<Self>,
        deadline: Option<Instant>,
        target: &Arc<Target>,
    ) -> Result<Acquired, CheckoutError> {
        self.pools.stats.checkouts.add_one();
        loop {
            let mut sched = self.pools.sched.lock();
            if sched.is_stopping() {
                return Err(CheckoutError::Stopping);
            }
            let Some(lent) = sched.take_idle(self.place, target) else {
                drop(sched);
                return self.queue(deadline, target);
            };
            drop(sched);
            let mut checkout = self.checkout(lent);
            if checkout.is_usable() {
                return Ok(Acquired::Now(checkout));
            }
            checkout.close();
        }
    }

    fn checkout(self: &Arc<Self>, lent: Lent) -> Checkout {
        Checkout::new(Loan::new(Arc::clone(self), lent))
    }

    fn queue(
        self: &Arc<Self>,
        deadline: Option<Instant>,
        target: &Arc<Target>,
    ) -> Result<Acquired, CheckoutError> {
        let (reply, answer) = oneshot::channel();
        let now = Instant::now();
        let mut effects = Effects::default();
        let (id, deadline) = {
            let mut sched = self.pools.sched.lock();
            if sched.is_stopping() {
                return Err(CheckoutError::Stopping);
            }
            if let Some(error) = sched.is_hopeless(self.place, now) {
                return Err(CheckoutError::Login(error));
            }
            let (place, patience) = (self.place, sched.turns.patience(self.place));
            let deadline = deadline.unwrap_or(now + patience);
            let target = Arc::clone(target);
            let ticket = Ticket { place, patience, deadline: Some(deadline), target, reply };
            let queued = sched.wait(ticket, now, &mut effects);
            let full = |full: QueueFull| CheckoutError::QueueFull { limit: full.limit };
            (queued.map_err(full)?, deadline)
        };
        self.pools.carry_out(effects);
        self.pools.stats.waits.add_one();
        Ok(Acquired::Later(Waiting {
            seat: Arc::clone(self),
            target: Arc::clone(target),
            id,
            answer,
            deadline,
            answered: false,
        }))
    }
}

/// A place in the queue; dropped, it is given up, and a server that just came goes to the next.
pub struct Waiting {
    seat: Arc<Seat>,
    target: Arc<Target>,
    id: TicketId,
    answer: oneshot::Receiver<Result<Lent, CheckoutError>>,
    deadline: Instant,
    /// The answer has come: there is no place to give up any more.
    answered: bool,
}

impl Waiting {
    /// A server, or why there is none.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Checkout, CheckoutError>> {
        let answer = ready!(Pin::new(&mut self.answer).poll(cx));
        self.answered = true;
        match answer {
            Ok(Ok(lent)) => {
                let mut checkout = self.seat.checkout(lent);
                if checkout.is_usable() {
                    return Poll::Ready(Ok(checkout));
                }
                // It died just now. The wait begins anew, with the time that is left.
                checkout.close();
                match self.seat.acquire_by(Some(self.deadline), &self.target) {
                    Ok(Acquired::Now(checkout)) => Poll::Ready(Ok(checkout)),
                    Ok(Acquired::Later(again)) => {
                        *self = again;
                        self.poll(cx)
                    }
                    Err(error) => Poll::Ready(Err(error)),
                }
            }
            Ok(Err(error)) => Poll::Ready(Err(error)),
            Err(_) => Poll::Ready(Err(CheckoutError::Stopping)),
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.answered {
            return;
        }
        {
            let mut sched = self.seat.pools.sched.lock();
            let now = sched.clock;
            sched.turns.forget(self.seat.place, self.id, now);
        }
        self.answer.close();
        if let Ok(Ok(lent)) = self.answer.try_recv() {
            // Nothing was sent on it: as it was when it came.
            drop(self.seat.checkout(lent));
        }
    }
}
