//! What an operator sees of a cluster: its pools and its tenants that have clients, at one moment.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::Pools;
use super::error::Stop;
use super::rack::{Pooled, Rack};
use super::sched::Sched;
use crate::config::Cluster;
use crate::server::ServerFacts;
use crate::tenant::TenantId;

/// A cluster at one moment.
pub struct Report {
    /// Its pools.
    pub pools: Vec<PoolReport>,
    /// Its tenants that have clients.
    pub tenants: Vec<TenantReport>,
}

/// One pool: servers of a database and a login role.
#[derive(Debug, Clone, Default)]
pub struct PoolReport {
    /// The database.
    pub database: String,
    /// The login role.
    pub user: String,
    /// Clients of its tenants.
    pub clients: usize,
    /// Those that wait for a server.
    pub waiting: usize,
    /// Servers that are lent.
    pub active: usize,
    /// Servers that rest.
    pub idle: usize,
    /// Logins under way, and servers that are asked whether they are there.
    pub opening: usize,
    /// How long the first of those that wait has waited.
    pub longest_wait: Duration,
    /// Its last login failed, and no other server is open.
    pub down: bool,
}

/// One tenant that has clients.
#[derive(Debug, Clone)]
pub struct TenantReport {
    /// Who it is.
    pub id: TenantId,
    /// The pool it lives in: its place in [`Report::pools`].
    pub pool: usize,
    /// Its clients.
    pub clients: usize,
    /// `max_client_connections`.
    pub max_clients: usize,
    /// Those that wait for a server.
    pub waiting: usize,
    /// Its servers.
    pub servers: usize,
    /// `max_server_connections`.
    pub max_servers: usize,
    /// Of `guaranteed_server_connections`, what is kept.
    pub guaranteed: usize,
    /// `weight`.
    pub weight: u64,
    /// How often its clients have waited since the first of them came.
    pub waits: u64,
    /// How long the first of those that wait has waited.
    pub longest_wait: Duration,
    /// What its clients wait for, whatever servers there are.
    pub stop: Option<Stop>,
}

impl Pools {
    /// What there is now, and of which cluster.
    #[must_use]
    pub fn report(&self) -> (Arc<Cluster>, Report) {
        let sched = self.desk.0.lock();
        (Arc::clone(&sched.cluster), sched.report(Instant::now()))
    }
}

impl<S: Pooled> Sched<S> {
    fn report(&self, now: Instant) -> Report {
        let (mut pools, mut places) = (Vec::<PoolReport>::new(), HashMap::new());
        let mut at = vec![None; self.racks.len()];
        for (pool, rack) in self.racks.iter().enumerate() {
            let Some(rack) = rack else { continue };
            let (open, idle, opening) = self.turns.servers_in(pool);
            let (database, user) = (&rack.endpoint.database, &rack.endpoint.user);
            // Those of single tenants are shown as one.
            let known = *places.entry((database, user)).or_insert(pools.len());
            at[pool] = Some(known);
            if known == pools.len() {
                let (database, user) = (database.clone(), user.clone());
                pools.push(PoolReport { database, user, ..PoolReport::default() });
            }
            let entry = &mut pools[known];
            entry.active += open - idle - opening;
            entry.idle += idle;
            entry.opening += opening;
            entry.down |= (rack.failure.is_some() || self.outage.is_some()) && open == opening;
        }
        let mut tenants = Vec::new();
        for account in self.turns.accounts() {
            let first = account.queue.front().map(|(_, ticket)| ticket.asked);
            let longest_wait = first.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
            let pool = at[account.pool].expect("a pool is there as long as it has tenants");
            let entry = &mut pools[pool];
            entry.clients += account.clients;
            entry.waiting += account.queue.len();
            entry.longest_wait = entry.longest_wait.max(longest_wait);
            tenants.push(TenantReport {
                id: account.id.clone(),
                pool,
                clients: account.clients,
                max_clients: account.limits.clients,
                waiting: account.queue.len(),
                servers: account.in_use,
                max_servers: account.limits.servers,
                guaranteed: account.kept,
                weight: account.limits.weight,
                waits: account.waits,
                longest_wait,
                stop: account.stop(),
            });
        }
        Report { pools, tenants }
    }
}

/// How the last login to a cluster went, and when.
#[derive(Debug, Clone, Copy)]
pub struct LastLogin {
    /// When it ended.
    pub at: Instant,
    /// PostgreSQL has answered, if only to refuse it.
    pub answered: bool,
}

/// A server at one moment.
pub struct ServerReport {
    /// What is known of it.
    pub facts: Arc<ServerFacts>,
    /// Nobody has it.
    pub idle: bool,
}

impl Pools {
    /// The servers there are, the oldest first.
    #[must_use]
    pub fn servers(&self) -> Vec<ServerReport> {
        let idle: HashSet<u64> = {
            let sched = self.desk.0.lock();
            sched.racks.iter().flatten().flat_map(Rack::resting).map(|life| life.id).collect()
        };
        let mut known = self.servers.lock();
        known.retain(|server| server.strong_count() > 0);
        let there = known.iter().filter_map(Weak::upgrade);
        there.map(|facts| ServerReport { idle: idle.contains(&facts.id), facts }).collect()
    }

    /// Servers of a database, or of all, are closed when their clients let go.
    pub(super) fn outdate_servers(&self, database: Option<&str>) {
        for server in self.servers.lock().iter().filter_map(Weak::upgrade) {
            if database.is_none_or(|name| server.database == name) {
                server.outdated.store(true, Ordering::Relaxed);
            }
        }
    }

    /// How the last login went, if there was one.
    #[must_use]
    pub fn last_login(&self) -> Option<LastLogin> {
        *self.last_login.lock()
    }

    /// A login has ended.
    pub(super) fn note_login(&self, answered: bool) {
        *self.last_login.lock() = Some(LastLogin { at: Instant::now(), answered });
    }

    /// A server has logged in.
    pub(super) fn note_server(&self, facts: &Arc<ServerFacts>) {
        let mut known = self.servers.lock();
        if known.len() == known.capacity() {
            known.retain(|server| server.strong_count() > 0);
        }
        known.push(Arc::downgrade(facts));
    }
}
