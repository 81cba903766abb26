//! One cluster's servers and waiters, under one lock.
//!
//! What takes time (dialling, closing) is not done here: it is returned as [`Effects`].

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::error::CheckoutError;
use super::turns::{QueueFull, TicketId, Turns};
use crate::server::switch::Fit;
use crate::server::{Endpoint, LoginError, Server, Target};

/// First wait after a failed login; it doubles up to [`RETRY_DELAY_MAX`].
const RETRY_DELAY: Duration = Duration::from_millis(100);
/// Longest wait between two logins, PgBouncer's `server_login_retry`.
const RETRY_DELAY_MAX: Duration = Duration::from_secs(15);
/// Logins under way at once in a pool: each costs PostgreSQL a fork and some milliseconds.
const OPENING_MAX: usize = 8;

/// How long a server rests before it makes room for a pool that has others, and how long somebody of
/// that pool waits before even one that was busy a moment ago has to go.
const STAY_MIN: Duration = Duration::from_millis(500);

/// A waiter, and what it waits for.
pub(super) struct Ticket {
    pub(super) place: usize,
    pub(super) pool: usize,
    /// When the wait began.
    pub(super) since: Instant,
    /// `query_wait_timeout`, and when it ends.
    pub(super) patience: Duration,
    pub(super) deadline: Instant,
    pub(super) target: Arc<Target>,
    pub(super) reply: oneshot::Sender<Result<Box<Server>, CheckoutError>>,
}

/// Servers that are interchangeable: same database and login role.
struct Pool {
    endpoint: Arc<Endpoint>,
    /// The one used last is at the back.
    idle: VecDeque<Box<Server>>,
    /// Servers that exist.
    open: usize,
    /// Logins under way.
    opening: usize,
    failure: Option<Failure>,
}

#[derive(Clone)]
struct Failure {
    error: LoginError,
    retry_at: Instant,
    delay: Duration,
}

/// What a look at the waiters, in their turns, found.
struct Look {
    /// Pools that want a dial, and since when.
    wanted: Vec<(usize, Instant)>,
    /// The first tenant that can be served: place and pool.
    found: Option<(usize, usize)>,
}

/// What is to be done once the lock is free.
#[derive(Default)]
pub(super) struct Effects {
    #[expect(clippy::vec_box, reason = "they are moved as they are held, as pointers")]
    pub(super) closed: Vec<Box<Server>>,
    pub(super) dials: Vec<(usize, Arc<Endpoint>)>,
    pub(super) retry_after: Option<Duration>,
}

pub(super) struct Sched {
    /// What time it was a moment ago: to read the clock twice a transaction costs more than the
    /// rest of giving a server back, and servers rest for seconds.
    pub(super) clock: Instant,
    /// When the next waiter may lose patience: for all of them there is one timer.
    alarm: Option<Instant>,
    pub(super) turns: Turns<Ticket>,
    pools: Vec<Pool>,
    /// Servers that exist or are being dialled.
    open: usize,
    max_open: usize,
    stopping: bool,
}

impl Sched {
    pub(super) fn new(max_open: usize) -> Self {
        Self {
            clock: Instant::now(),
            alarm: None,
            turns: Turns::new(),
            pools: Vec::new(),
            open: 0,
            max_open,
            stopping: false,
        }
    }

    pub(super) const fn open(&self) -> usize {
        self.open
    }

    pub(super) const fn is_stopping(&self) -> bool {
        self.stopping
    }

    /// Queues a ticket; `true`: its patience ends before the alarm that is set.
    pub(super) fn wait(&mut self, ticket: Ticket) -> Result<(TicketId, bool), QueueFull> {
        let deadline = ticket.deadline;
        let id = self.turns.wait(ticket.place, ticket)?;
        let sooner = self.alarm.is_none_or(|alarm| deadline < alarm);
        if sooner {
            self.alarm = Some(deadline);
        }
        Ok((id, sooner))
    }

    /// Tells those whose patience has ended, and sets the alarm for the next.
    pub(super) fn expire(&mut self, now: Instant) -> Option<Instant> {
        for ticket in self.turns.drain(|ticket| ticket.deadline <= now) {
            let failure = self.pools[ticket.pool].failure.as_ref();
            let timed_out = CheckoutError::TimedOut {
                waited: ticket.patience,
                tenant: self.turns.usage(ticket.place),
                cluster: (self.open, self.max_open),
                login: failure.map(|failure| failure.error.clone()),
            };
            // A waiter that is gone needs no answer.
            let _ = ticket.reply.send(Err(timed_out));
        }
        self.alarm = self.turns.tickets().map(|ticket| ticket.deadline).min();
        self.alarm
    }

    pub(super) fn pool(&mut self, endpoint: &Endpoint) -> usize {
        let same =
            |p: &Pool| p.endpoint.database == endpoint.database && p.endpoint.user == endpoint.user;
        if let Some(at) = self.pools.iter().position(same) {
            if self.pools[at].endpoint.password != endpoint.password {
                self.pools[at].endpoint = Arc::new(endpoint.clone());
                self.forget_failure(at);
            }
            return at;
        }
        let (endpoint, idle) = (Arc::new(endpoint.clone()), VecDeque::new());
        self.pools.push(Pool { endpoint, idle, open: 0, opening: 0, failure: None });
        self.pools.len() - 1
    }

    pub(super) fn forget_failure(&mut self, pool: usize) {
        self.pools[pool].failure = None;
    }

    /// The idle server that fits best: same state, same tenant, least recently used.
    pub(super) fn take_idle(&mut self, pool: usize, target: &Arc<Target>) -> Option<Box<Server>> {
        let idle = &mut self.pools[pool].idle;
        if idle.back()?.known.fit(target) == Fit::SameState {
            return idle.pop_back();
        }
        let mut best = (Fit::OtherTenant, 0);
        for (at, server) in idle.iter().enumerate().rev() {
            match server.known.fit(target) {
                Fit::SameState => return idle.remove(at),
                fit if fit > best.0 => best = (fit, at),
                _ => {}
            }
        }
        idle.remove(best.1)
    }

    /// A server comes back to its pool, if it may still be lent. Whoever is next gets it, wherever
    /// he belongs; `None`: nobody waits.
    pub(super) fn put_idle(&mut self, pool: usize, mut server: Box<Server>) -> Option<Effects> {
        let now = self.clock;
        if self.stopping || now >= server.retire_at {
            let mut effects = Effects { closed: vec![server], ..Effects::default() };
            self.closed(pool);
            self.dispatch(now, &mut effects);
            return Some(effects);
        }
        server.idle_since = now;
        self.pools[pool].idle.push_back(server);
        if self.turns.nobody_waits() {
            return None;
        }
        let mut effects = Effects::default();
        self.dispatch(now, &mut effects);
        Some(effects)
    }

    /// A server is gone.
    pub(super) fn closed(&mut self, pool: usize) {
        self.open -= 1;
        self.pools[pool].open -= 1;
    }

    /// Serves waiters in their turns, with idle servers, then with dials, while there are any.
    pub(super) fn dispatch(&mut self, now: Instant, effects: &mut Effects) {
        let spent = || self.open >= self.max_open && self.pools.iter().all(|p| p.idle.is_empty());
        if self.turns.nobody_waits() || self.stopping || spent() {
            return;
        }
        while let Some((place, pool)) = self.next_with_idle(now, effects) {
            let Some(ticket) = self.turns.serve(place) else { break };
            let Some(server) = self.take_idle(pool, &ticket.target) else { break };
            // The client may have left meanwhile: the server goes to the next one.
            if let Err(Ok(server)) = ticket.reply.send(Ok(server)) {
                self.turns.give_back(place);
                self.pools[pool].idle.push_back(server);
            }
        }
    }

    /// The first in turn whose pool has an idle server. Those before him get a dial, if the
    /// budget allows, or if an idle server of another pool can make room.
    fn next_with_idle(&mut self, now: Instant, effects: &mut Effects) -> Option<(usize, usize)> {
        loop {
            // Mostly the first in turn is served, by the server that has just come back.
            if let Some((place, ticket, _)) = self.turns.in_turn().next()
                && !self.pools[ticket.pool].idle.is_empty()
            {
                return Some((place, ticket.pool));
            }
            let Look { wanted, found } = self.look_around();
            for (pool, since) in wanted {
                self.dial(pool, since, now, effects);
            }
            // A dial may have closed the very server that was found; then it is now expected, and
            // the next look passes by whoever wanted it.
            match found {
                Some((_, pool)) if self.pools[pool].idle.is_empty() => {}
                found => return found,
            }
        }
    }

    fn look_around(&self) -> Look {
        let mut expected: Vec<usize> = self.pools.iter().map(|pool| pool.opening).collect();
        let mut wanted = Vec::new();
        for (place, ticket, room) in self.turns.in_turn() {
            if !self.pools[ticket.pool].idle.is_empty() {
                return Look { wanted, found: Some((place, ticket.pool)) };
            }
            let covered = room.min(expected[ticket.pool]);
            expected[ticket.pool] -= covered;
            wanted.extend(std::iter::repeat_n((ticket.pool, ticket.since), room - covered));
        }
        Look { wanted, found: None }
    }

    fn dial(&mut self, pool: usize, since: Instant, now: Instant, effects: &mut Effects) {
        let wanted = &self.pools[pool];
        let backs_off = wanted.failure.as_ref().is_some_and(|failure| failure.retry_at > now);
        if backs_off || wanted.opening >= OPENING_MAX {
            return;
        }
        if self.open >= self.max_open {
            let Some(server) = self.evict_for(pool, since, now) else { return };
            effects.closed.push(server);
        }
        let pool_entry = &mut self.pools[pool];
        pool_entry.opening += 1;
        pool_entry.open += 1;
        self.open += 1;
        effects.dials.push((pool, Arc::clone(&self.pools[pool].endpoint)));
    }

    /// The idle server of another pool that nobody has used for longest. A pool that has servers
    /// waits for them for a while rather than close one that was busy a moment ago: two pools would
    /// otherwise spend their time logging in.
    fn evict_for(&mut self, pool: usize, since: Instant, now: Instant) -> Option<Box<Server>> {
        let others = self.pools.iter().enumerate().filter(|(at, _)| *at != pool);
        let oldest = others.filter_map(|(at, p)| Some((p.idle.front()?.idle_since, at))).min();
        let (idle_since, victim) = oldest?;
        let rested = now.duration_since(idle_since) >= STAY_MIN;
        let waited = now.duration_since(since) >= STAY_MIN;
        if !rested && !waited && self.pools[pool].open > 0 {
            return None;
        }
        self.closed(victim);
        self.pools[victim].idle.pop_front()
    }

    /// A login succeeded; `true` if the one before had failed.
    pub(super) fn dialled(
        &mut self,
        pool: usize,
        server: Box<Server>,
        now: Instant,
        effects: &mut Effects,
    ) -> bool {
        self.pools[pool].opening -= 1;
        let recovered = self.pools[pool].failure.take().is_some();
        if self.stopping {
            self.closed(pool);
            effects.closed.push(server);
        } else {
            // At the front: it fits nobody better than a server that was used before.
            self.pools[pool].idle.push_front(server);
            self.dispatch(now, effects);
        }
        recovered
    }

    /// A login was given up because the pooler stops.
    pub(super) fn dial_given_up(&mut self, pool: usize) {
        self.pools[pool].opening -= 1;
        self.closed(pool);
    }

    /// A login failed. Waiters learn it at once if waiting cannot help: the failure will not pass
    /// by itself, and the pool has no other server that could come free.
    pub(super) fn dial_failed(
        &mut self,
        pool: usize,
        error: LoginError,
        now: Instant,
        effects: &mut Effects,
    ) {
        self.dial_given_up(pool);
        let entry = &mut self.pools[pool];
        let delay =
            entry.failure.as_ref().map_or(RETRY_DELAY, |f| (f.delay * 2).min(RETRY_DELAY_MAX));
        entry.failure = Some(Failure { error: error.clone(), retry_at: now + delay, delay });
        if !error.may_pass() && entry.open == 0 {
            for ticket in self.turns.drain(|ticket| ticket.pool == pool) {
                // A waiter that is gone needs no answer.
                let _ = ticket.reply.send(Err(CheckoutError::Login(error.clone())));
            }
        }
        effects.retry_after = Some(delay);
        self.dispatch(now, effects);
    }

    /// Why a client need not even queue: the last login failed for good, and nothing else is open.
    pub(super) fn is_hopeless(&self, pool: usize, now: Instant) -> Option<LoginError> {
        let pool = &self.pools[pool];
        let failure = pool.failure.as_ref()?;
        let hopeless = pool.open == 0 && failure.retry_at > now && !failure.error.may_pass();
        hopeless.then(|| failure.error.clone())
    }

    /// Closes the idle servers that are `stale`.
    pub(super) fn close_idle(
        &mut self,
        mut stale: impl FnMut(&mut Server) -> bool,
        now: Instant,
        effects: &mut Effects,
    ) {
        for pool in 0..self.pools.len() {
            let idle = std::mem::take(&mut self.pools[pool].idle);
            for mut server in idle {
                if stale(&mut server) {
                    self.closed(pool);
                    effects.closed.push(server);
                } else {
                    self.pools[pool].idle.push_back(server);
                }
            }
        }
        self.dispatch(now, effects);
    }

    pub(super) fn stop(&mut self, effects: &mut Effects) {
        self.stopping = true;
        self.close_idle(|_| true, Instant::now(), effects);
        for ticket in self.turns.drain(|_| true) {
            // A waiter that is gone needs no answer.
            let _ = ticket.reply.send(Err(CheckoutError::Stopping));
        }
    }
}
