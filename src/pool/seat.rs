//! A client's place in its tenant, and its way to a server.

use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use super::Pools;
use super::account::Limits;
use super::answer::Slot;
use super::desk::{Grant, Granted, Place};
use super::effects::Effects;
use super::error::{CheckoutError, SeatError};
use super::loan::{Checkout, Loan};
use super::sched::Lent;
use crate::config::Tenant;
use crate::server::{Endpoint, Server, Target};

/// A client of a tenant, counted until the last clone is gone. A loan keeps one.
pub struct Seat {
    pub(super) pools: Arc<Pools>,
    pub(super) place: usize,
    /// For the answer when its client waits.
    slot: Arc<Slot<Grant<Box<Server>>>>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut effects = Effects::default();
        self.pools.desk.0.lock().leave(self.place, &mut effects);
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
            let mut sched = pools.desk.0.lock();
            if version < sched.version {
                return Err(SeatError::Outdated);
            }
            let pool = sched.pool(endpoint);
            sched.turns.enter(&tenant.id, limits, pool)?
        };
        Ok(Arc::new(Self { pools: Arc::clone(pools), place, slot: Slot::new() }))
    }

    /// Whether its tenant has more clients than it may, which is only audited.
    #[must_use]
    pub fn is_beyond_limit(&self) -> bool {
        self.pools.desk.0.lock().turns.is_beyond_limit(self.place)
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

    /// A server, if one rests and nobody is overtaken.
    #[must_use]
    pub fn acquire_now(self: &Arc<Self>, target: &Arc<Target>) -> Option<Checkout> {
        loop {
            let lent = self.pools.desk.take_idle(self.place, target)?;
            let mut checkout = self.checkout(lent);
            if checkout.is_usable() && checkout.move_here() {
                return Some(checkout);
            }
            checkout.close();
        }
    }

    /// The same, for who has waited before: his patience ends when it would have ended.
    fn acquire_by(
        self: &Arc<Self>,
        deadline: Option<Instant>,
        target: &Arc<Target>,
    ) -> Result<Acquired, CheckoutError> {
        loop {
            match self.pools.desk.ask(self.place, &self.slot, deadline, target)? {
                Granted::Now(lent) => {
                    let mut checkout = self.checkout(lent);
                    if checkout.is_usable() && checkout.move_here() {
                        return Ok(Acquired::Now(checkout));
                    }
                    checkout.close();
                }
                Granted::Later(place, effects) => {
                    self.pools.carry_out(effects);
                    let (seat, target) = (Arc::clone(self), Arc::clone(target));
                    return Ok(Acquired::Later(Waiting { seat, target, place }));
                }
            }
        }
    }

    fn checkout(self: &Arc<Self>, lent: Lent<Box<Server>>) -> Checkout {
        Checkout::new(Loan::new(Arc::clone(self), lent))
    }
}

/// A place in the queue; dropped, it is given up, and a server that just came goes to the next.
pub struct Waiting {
    seat: Arc<Seat>,
    target: Arc<Target>,
    place: Place<Box<Server>>,
}

impl Waiting {
    /// A server, or why there is none.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Checkout, CheckoutError>> {
        match ready!(self.place.poll(cx)) {
            Ok(lent) => {
                let mut checkout = self.seat.checkout(lent);
                if checkout.is_usable() {
                    return Poll::Ready(Ok(checkout));
                }
                // It died just now. The wait begins anew, with the time that is left.
                checkout.close();
                match self.seat.acquire_by(Some(self.place.deadline), &self.target) {
                    Ok(Acquired::Now(checkout)) => Poll::Ready(Ok(checkout)),
                    Ok(Acquired::Later(again)) => {
                        *self = again;
                        self.poll(cx)
                    }
                    Err(error) => Poll::Ready(Err(error)),
                }
            }
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(lent) = self.place.withdraw(&self.seat.pools.desk) {
            // Nothing was sent on it: as it was when it came.
            drop(self.seat.checkout(lent));
        }
    }
}
