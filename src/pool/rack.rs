//! The servers of one pool that rest, which of them fits a client best, and how its logins go.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::server::switch::Fit;
use crate::server::{Endpoint, LoginError, Server, Target};

/// First wait after a failed login; it doubles up to [`RETRY_DELAY_MAX`].
const RETRY_DELAY: Duration = Duration::from_millis(100);
/// Longest wait between two logins: a third of PgBouncer's `server_login_retry`, for one at a time costs little.
const RETRY_DELAY_MAX: Duration = Duration::from_secs(5);

/// The last login failed.
#[derive(Clone)]
pub(super) struct Failure {
    pub(super) error: LoginError,
    /// When the next one may be tried.
    pub(super) retry_at: Instant,
    delay: Duration,
}

/// Servers that are interchangeable: same database and login role.
pub(super) struct Rack {
    pub(super) endpoint: Arc<Endpoint>,
    /// The one used last is at the back.
    idle: VecDeque<Box<Server>>,
    pub(super) failure: Option<Failure>,
    /// Servers of an older one are not lent again.
    pub(super) generation: u64,
}

impl Rack {
    pub(super) fn new(endpoint: Endpoint) -> Self {
        let endpoint = Arc::new(endpoint);
        Self { endpoint, idle: VecDeque::new(), failure: None, generation: 0 }
    }

    /// The server that fits best: the same state; the same tenant; one that has served the tenant before;
    /// the one that has served the fewest. What a backend has once read of a schema it keeps in memory.
    pub(super) fn take(&mut self, target: &Arc<Target>) -> Option<Box<Server>> {
        if self.idle.back()?.known.fit(target) == Fit::SameState {
            return self.idle.pop_back();
        }
        let mut best = None;
        for (at, server) in self.idle.iter().enumerate().rev() {
            let fit = server.known.fit(target);
            if fit == Fit::SameState {
                return self.idle.remove(at);
            }
            let rank = (fit, server.tenants.has(&target.tenant), usize::MAX - server.tenants.len());
            if best.is_none_or(|(known, _)| rank > known) {
                best = Some((rank, at));
            }
        }
        best.and_then(|(_, at)| self.idle.remove(at))
    }

    /// A server that somebody has used.
    pub(super) fn put(&mut self, server: Box<Server>) {
        self.idle.push_back(server);
    }

    /// A new one: it fits nobody better than one that was used before.
    pub(super) fn put_new(&mut self, server: Box<Server>) {
        self.idle.push_front(server);
    }

    /// When the server rested that has rested longest of those opened before `opened_by`.
    pub(super) fn rests_since(&self, opened_by: Instant) -> Option<Instant> {
        let old = self.idle.iter().filter(|server| server.opened <= opened_by);
        old.map(|server| server.idle_since).min()
    }

    /// When the oldest of those that rest was opened.
    pub(super) fn opened_first(&self) -> Option<Instant> {
        self.idle.iter().map(|server| server.opened).min()
    }

    /// Takes the one out that has rested since then.
    pub(super) fn take_resting(&mut self, since: Instant) -> Option<Box<Server>> {
        let at = self.idle.iter().position(|server| server.idle_since == since)?;
        self.idle.remove(at)
    }

    /// Takes out those that are `stale`.
    #[expect(clippy::vec_box, reason = "they are moved as they are held, as pointers")]
    pub(super) fn take_stale(
        &mut self,
        mut stale: impl FnMut(&mut Server) -> bool,
    ) -> Vec<Box<Server>> {
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
