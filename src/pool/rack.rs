//! The servers of one pool that rest, which of them fits a client best, and how its logins go.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::failure::Failure;
use super::sched::Loss;
use crate::server::switch::Fit;
use crate::server::{Endpoint, Life, LoginError, Server, Target};
use crate::tenant::TenantId;

/// Servers looked at for one of the current worker, where others would do.
const LOOKS_MAX: usize = 16;

/// A server as its pool sees it. The model of the pool has its own.
pub(super) trait Pooled {
    /// How well the state it is in fits.
    fn fit(&self, target: &Arc<Target>) -> Fit;
    /// Whether it has served the tenant.
    fn has_served(&self, target: &Target) -> bool;
    /// Whether its socket is the current worker's.
    fn is_here(&self) -> bool;
    /// How many tenants it has served.
    fn served(&self) -> usize;
    /// Says goodbye and closes. It counts until then, so it waits for nothing.
    fn close(self);
    /// Its times.
    fn life(&self) -> &Life;
    /// Its times, to be changed.
    fn life_mut(&mut self) -> &mut Life;

    /// Whose state it is in.
    fn tenant(&self) -> Option<&TenantId> {
        None
    }
}

/// A server that ends so soon after its last tenant has let it go, ends by what that has left there: a time-out that no text
/// has shown, say.
const ENDS_BY_TENANT: Duration = Duration::from_secs(5);

/// Whose doing it is that a server is gone which rested.
pub(super) fn ended_at_rest<S: Pooled>(server: &S, now: Instant) -> Loss {
    let life = server.life();
    let soon = now.saturating_duration_since(life.idle_since) < ENDS_BY_TENANT;
    let tenant = server.tenant().filter(|_| life.ended && soon);
    tenant.map_or(Loss::Nobodys, |tenant| Loss::EndedAtRest(tenant.clone()))
}

impl Pooled for Box<Server> {
    fn fit(&self, target: &Arc<Target>) -> Fit {
        self.known.fit(target)
    }

    fn has_served(&self, target: &Target) -> bool {
        self.tenants.has(&target.tenant)
    }

    fn is_here(&self) -> bool {
        Server::is_here(self)
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

    fn tenant(&self) -> Option<&TenantId> {
        self.known.tenant()
    }
}

/// How well a server fits, the best last: its state, whether it has served the tenant, how few others.
type Rank = (Fit, bool, Reverse<usize>);

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
    /// the one that has served the fewest. What a backend has once read of a schema it keeps in memory. Of those
    /// in the same state one of the current worker, if one is near: nobody else has to wake up for it.
    pub(super) fn take(&mut self, target: &Arc<Target>) -> Option<S> {
        let last = self.idle.back()?;
        if last.fit(target) == Fit::SameState && last.is_here() {
            return self.idle.pop_back();
        }
        let mut best = None;
        for (looked, (at, server)) in self.idle.iter().enumerate().rev().enumerate() {
            let fit = server.fit(target);
            if fit == Fit::SameState && server.is_here() {
                return self.idle.remove(at);
            }
            let rank = (fit, server.has_served(target), Reverse(server.served()));
            let beats = |(known, _): (Rank, usize)| known.0 < Fit::SameState && rank > known;
            if best.is_none_or(beats) {
                best = Some((rank, at));
            }
            if looked >= LOOKS_MAX && best.is_some_and(|((fit, ..), _)| fit == Fit::SameState) {
                break;
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
        let failure = Failure::after(self.failure.as_ref(), error, now);
        self.failure.insert(failure).retry_at
    }

    /// Another pool of the cluster has logged in: what did not let this one may have passed.
    pub(super) fn try_now(&mut self, now: Instant) -> bool {
        match &mut self.failure {
            Some(failure) if failure.error.may_pass() => {
                failure.try_at(now);
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

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::Duration;

    use super::*;
    use crate::config::Config;
    use crate::net::Connector;
    use crate::server::{Class, Keychain, Known};
    use crate::tenant::{NamePattern, SessionState};

    struct Named {
        name: &'static str,
        known: Known,
        here: bool,
        life: Life,
    }

    impl Pooled for Named {
        fn fit(&self, target: &Arc<Target>) -> Fit {
            self.known.fit(target)
        }

        fn has_served(&self, _: &Target) -> bool {
            false
        }

        fn is_here(&self) -> bool {
            self.here
        }

        fn served(&self) -> usize {
            0
        }

        fn close(self) {}

        fn life(&self) -> &Life {
            &self.life
        }

        fn life_mut(&mut self) -> &mut Life {
            &mut self.life
        }
    }

    fn rack() -> Rack<Named> {
        let text = "[clusters.main]\nuser = \"app\"\n[users.app]\npassword = \"app\"\n";
        let config = Config::parse(text, PathBuf::new()).unwrap();
        let cluster = &config.clusters["main"];
        let tls = Connector::new(&cluster.tls).unwrap();
        let keychain = Arc::new(Keychain::default());
        Rack::new(Endpoint::new(cluster, tls, "app", "app", None, &keychain))
    }

    fn target(tenant: &str) -> Arc<Target> {
        let id = NamePattern::new("[a-z]+").unwrap().parse(tenant).unwrap();
        Arc::new(Target::new(id, SessionState::default(), Arc::new(Class::new())))
    }

    /// Takes servers that were put in this order: name, whether in the target's state, whether of this worker.
    fn taken(servers: &[(&'static str, bool, bool)]) -> Vec<&'static str> {
        let (mut rack, target) = (rack(), target("acme"));
        for &(name, fits, here) in servers {
            let known = if fits { Known::Exactly(Arc::clone(&target)) } else { Known::Neutral };
            let life = Life::new(Instant::now(), Duration::from_hours(1));
            rack.put(Named { name, known, here, life });
        }
        std::iter::from_fn(|| rack.take(&target)).map(|server| server.name).collect()
    }

    #[test]
    fn of_servers_in_the_same_state_one_of_this_worker_comes_first() {
        let servers =
            [("a", true, true), ("b", true, false), ("c", true, true), ("d", true, false)];
        assert_eq!(taken(&servers), ["c", "a", "d", "b"]);
    }

    #[test]
    fn the_state_counts_more_than_the_worker() {
        let servers = [("switch", false, true), ("far", true, false), ("switch too", false, true)];
        assert_eq!(taken(&servers), ["far", "switch too", "switch"]);
    }

    #[test]
    fn a_server_of_this_worker_is_not_looked_for_far_away() {
        let mut servers = [("far", true, false); LOOKS_MAX + 2];
        servers[0] = ("near", true, true);
        assert_eq!(taken(&servers)[..2], ["far", "near"]);
    }
}
