//! The servers of one pool that rest, which of them fits a client best, and how its logins go.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::server::switch::Fit;
use crate::server::{Endpoint, Life, LoginError, Server, Target};

/// First wait after a failed login; it doubles up to [`RETRY_DELAY_MAX`].
const RETRY_DELAY: Duration = Duration::from_millis(100);
/// Longest wait between two logins: a third of PgBouncer's `server_login_retry`, for one at a time costs little.
const RETRY_DELAY_MAX: Duration = Duration::from_secs(5);

/// A server as its pool sees it. The model of the pool has its own.
pub(super) trait Pooled {
    /// How well the state it is in fits.
    fn fit(&self, target: &Arc<Target>) -> Fit;
    /// Whether it has served the tenant.
    fn has_served(&self, target: &Target) -> bool;
    /// How many tenants it has served.
    fn served(&self) -> usize;
    /// Says goodbye and closes. It counts until then, so it waits for nothing.
    fn close(self);
    /// Its times.
    fn life(&self) -> &Life;
    /// Its times, to be changed.
    fn life_mut(&mut self) -> &mut Life;
}

impl Pooled for Box<Server> {
    fn fit(&self, target: &Arc<Target>) -> Fit {
        self.known.fit(target)
    }

    fn has_served(&self, target: &Target) -> bool {
        self.tenants.has(&target.tenant)
    }

    fn served(&self) -> usize {
        self.tenants.len()
    }

    fn close(self) {
        self.terminate();
    }

    fn life(&self) -> &Life {
        &self.life
    }

    fn life_mut(&mut self) -> &mut Life {
        &mut self.life
    }
}

/// The last login failed.
#[derive(Clone)]
pub(super) struct Failure {
    pub(super) error: LoginError,
    /// When the next one may be tried.
    pub(super) retry_at: Instant,
    delay: Duration,
}

/// Servers that are interchangeable: same database and login role.
pub(super) struct Rack<S> {
    pub(super) endpoint: Arc<Endpoint>,
    /// The one used last is at the back.
    idle: VecDeque<S>,
    pub(super) failure: Option<Failure>,
    /// Servers of an older one are not lent again.
    pub(super) generation: u64,
}

impl<S: Pooled> Rack<S> {
    pub(super) fn new(endpoint: Endpoint) -> Self {
        let endpoint = Arc::new(endpoint);
        Self { endpoint, idle: VecDeque::new(), failure: None, generation: 0 }
    }

    /// The server that fits best: the same state; the same tenant; one that has served the tenant before;
    /// the one that has served the fewest. What a backend has once read of a schema it keeps in memory.
    pub(super) fn take(&mut self, target: &Arc<Target>) -> Option<S> {
        if self.idle.back()?.fit(target) == Fit::SameState {
            return self.idle.pop_back();
        }
        let mut best = None;
        for (at, server) in self.idle.iter().enumerate().rev() {
            let fit = server.fit(target);
            if fit == Fit::SameState {
                return self.idle.remove(at);
            }
            let rank = (fit, server.has_served(target), Reverse(server.served()));
            if best.is_none_or(|(known, _)| rank > known) {
                best = Some((rank, at));
            }
        }
        best.and_then(|(_, at)| self.idle.remove(at))
    }

    /// A server that somebody has used.
    pub(super) fn put(&mut self, server: S) {
        self.idle.push_back(server);
    }

    /// A new one: it fits nobody better than one that was used before.
    pub(super) fn put_new(&mut self, server: S) {
        self.idle.push_front(server);
    }

    /// When the server rested that has rested longest of those opened before `opened_by`.
    pub(super) fn rests_since(&self, opened_by: Instant) -> Option<Instant> {
        let old = self.idle.iter().filter(|server| server.life().opened <= opened_by);
        old.map(|server| server.life().idle_since).min()
    }

    /// The lives of those that rest.
    pub(super) fn resting(&self) -> impl Iterator<Item = &Life> {
        self.idle.iter().map(S::life)
    }

    /// When the oldest of those that rest was opened.
    pub(super) fn opened_first(&self) -> Option<Instant> {
        self.idle.iter().map(|server| server.life().opened).min()
    }

    /// Takes the one out that has rested since then.
    pub(super) fn take_resting(&mut self, since: Instant) -> Option<S> {
        let at = self.idle.iter().position(|server| server.life().idle_since == since)?;
        self.idle.remove(at)
    }

    /// Takes out those that are `stale`.
    pub(super) fn take_stale(&mut self, mut stale: impl FnMut(&mut S) -> bool) -> Vec<S> {
        let mut taken = Vec::new();
        for mut server in std::mem::take(&mut self.idle) {
            if stale(&mut server) {
                taken.push(server);
            } else {
                self.idle.push_back(server);
            }
        }
        taken
    }

    /// A login failed; when the next may be tried.
    pub(super) fn fails(&mut self, error: LoginError, now: Instant) -> Instant {
        let doubled = |failure: &Failure| (failure.delay * 2).min(RETRY_DELAY_MAX);
        let delay = self.failure.as_ref().map_or(RETRY_DELAY, doubled);
        let retry_at = now + delay;
        self.failure = Some(Failure { error, retry_at, delay });
        retry_at
    }

    /// Another pool of the cluster has logged in: what did not let this one may have passed.
    pub(super) fn try_now(&mut self, now: Instant) -> bool {
        match &mut self.failure {
            Some(failure) if failure.error.may_pass() => {
                (failure.retry_at, failure.delay) = (now, RETRY_DELAY);
                true
            }
            Some(_) | None => false,
        }
    }

    /// What the last login failed by, if no new one may be tried yet.
    pub(super) fn failing(&self, now: Instant) -> Option<&LoginError> {
        self.failure.as_ref().filter(|failure| failure.retry_at > now).map(|failure| &failure.error)
    }
}
