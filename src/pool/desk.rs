//! What threads share of a cluster: its [`Sched`] under a lock, and how a client waits at it.
//!
//! Whoever asks gets a server at once or a [`Place`] in the queue; a server that is granted to a place goes to
//! exactly one: to the client, or, if the client has left, back. `desk_model` looks at all of it with threads
//! that are interleaved in every way.

use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use super::account::TicketId;
use super::answer::{Answer, Slot};
use super::effects::Effects;
use super::error::CheckoutError;
use super::lock::Mutex;
use super::rack::Pooled;
use super::sched::{Lent, Sched, Ticket};
use super::turns::QueueFull;
use crate::engine::tick;
use crate::server::Target;

/// A cluster's servers and waiters, for all threads.
pub(super) struct Desk<S>(pub(super) Mutex<Sched<S>>);

/// What a waiter is answered.
pub(super) type Grant<S> = Result<Lent<S>, CheckoutError>;

/// What asking for a server gives.
pub(super) enum Granted<S> {
    /// A server, at once.
    Now(Lent<S>),
    /// A place in the queue, and what is to be done for it.
    Later(Place<S>, Effects<S>),
}

impl<S: Pooled> Desk<S> {
    /// A server for the tenant at `place`, if one is idle and nobody is overtaken.
    pub(super) fn take_idle(&self, place: usize, target: &Arc<Target>) -> Option<Lent<S>> {
        let mut sched = self.0.lock();
        if sched.is_stopping() { None } else { sched.take_idle(place, target) }
    }

    /// A server for the tenant at `place`: at once if one is idle and nobody is overtaken; else the answer will
    /// be in the `slot`. Who has waited before names his `deadline`.
    pub(super) fn ask(
        &self,
        place: usize,
        slot: &Arc<Slot<Grant<S>>>,
        deadline: Option<Instant>,
        target: &Arc<Target>,
    ) -> Result<Granted<S>, CheckoutError> {
        let mut sched = self.0.lock();
        if sched.is_stopping() {
            return Err(CheckoutError::Stopping);
        }
        if let Some(lent) = sched.take_idle(place, target) {
            return Ok(Granted::Now(lent));
        }
        let tick = tick();
        let now = tick.instant();
        if let Some(error) = sched.is_hopeless(place, now) {
            return Err(CheckoutError::Login(error));
        }
        let (reply, answer) = Slot::open(slot);
        let patience = sched.turns.patience(place);
        let deadline = deadline.unwrap_or(now + patience);
        let target = Arc::clone(target);
        let ticket =
            Ticket { place, asked: now, patience, deadline: Some(deadline), target, reply };
        let mut effects = Effects::default();
        let full = |full: QueueFull| CheckoutError::QueueFull { limit: full.limit };
        let id = sched.wait(ticket, tick, &mut effects).map_err(full)?;
        Ok(Granted::Later(Place { place, id, answer, deadline, answered: false }, effects))
    }
}

/// A place in the queue. Who gives it up calls [`Place::withdraw`].
pub(super) struct Place<S> {
    place: usize,
    id: TicketId,
    answer: Answer<Grant<S>>,
    pub(super) deadline: Instant,
    /// The answer has come: there is no place to give up any more.
    answered: bool,
}

impl<S: Pooled> Place<S> {
    /// A server, or why there is none.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Grant<S>> {
        let answer = ready!(self.answer.poll(cx));
        self.answered = true;
        Poll::Ready(answer.unwrap_or(Err(CheckoutError::Stopping)))
    }

    /// Gives the place up. A server that was granted just now comes with it: it has to be given back.
    pub(super) fn withdraw(&mut self, desk: &Desk<S>) -> Option<Lent<S>> {
        if self.answered {
            return None;
        }
        {
            let mut sched = desk.0.lock();
            sched.turns.forget(self.place, self.id, tick());
        }
        self.answer.take()?.ok()
    }
}
