//! All tallies: each worker has its own, so that none adds to what another one adds to.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use parking_lot::Mutex;
use thread_local::ThreadLocal;

use super::tally::{Tally, Totals};
use crate::tenant::TenantId;

/// Tallies of a worker before those are looked for whose clients are gone.
const SWEEP_LEN: usize = 4096;

/// Whose tally it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The tenant.
    pub tenant: TenantId,
    /// The database it lives in.
    pub database: Arc<str>,
}

/// Tallies by worker, tenant and database.
#[derive(Debug, Default)]
pub struct Tallies(ThreadLocal<Shard>);

/// One thread's. Locked at logins, and by those who look.
#[derive(Debug, Default)]
struct Shard(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    tallies: HashMap<Key, Arc<Tally>>,
    /// What tenants did whose tallies were given up, by database.
    gone: BTreeMap<Arc<str>, Totals>,
    /// How many there may be before the next sweep.
    sweep_at: usize,
}

/// All tallies at one moment.
#[derive(Debug, Default)]
pub struct Sums {
    /// What is known of tenants.
    pub tenants: BTreeMap<Key, Totals>,
    /// What tenants did that are not told apart any more, by database.
    pub gone: BTreeMap<Arc<str>, Totals>,
}

impl Tallies {
    /// The tally of a tenant's clients on this worker. Only its thread may add to it.
    #[must_use]
    pub fn of(&self, tenant: &TenantId, database: &str) -> Arc<Tally> {
        let key = Key { tenant: tenant.clone(), database: database.into() };
        let shard = self.0.get_or_default();
        let mut inner = shard.0.lock();
        if let Some(known) = inner.tallies.get(&key) {
            return Arc::clone(known);
        }
        if inner.tallies.len() >= inner.sweep_at.max(SWEEP_LEN) {
            // Two who sweep at once must not wait for each other.
            drop(inner);
            let present = self.tenants_with_clients();
            inner = shard.0.lock();
            inner.sweep(&present);
        }
        Arc::clone(inner.tallies.entry(key).or_default())
    }

    /// Tenants that have clients on any worker.
    fn tenants_with_clients(&self) -> HashSet<TenantId> {
        let mut tenants = HashSet::new();
        for shard in &self.0 {
            let inner = shard.0.lock();
            let used = inner.tallies.iter().filter(|(_, tally)| Arc::strong_count(tally) > 1);
            tenants.extend(used.map(|(key, _)| key.tenant.clone()));
        }
        tenants
    }

    /// All of them, added up over the workers.
    #[must_use]
    pub fn sums(&self) -> Sums {
        let mut sums = Sums::default();
        for shard in &self.0 {
            let inner = shard.0.lock();
            for (key, tally) in &inner.tallies {
                match sums.tenants.get_mut(key) {
                    Some(known) => known.add(&tally.get()),
                    None => drop(sums.tenants.insert(key.clone(), tally.get())),
                }
            }
            for (database, totals) in &inner.gone {
                sums.gone.entry(Arc::clone(database)).or_default().add(totals);
            }
        }
        sums
    }
}

impl Sums {
    /// By database, as PgBouncer counts.
    #[must_use]
    pub fn by_database(&self) -> BTreeMap<Arc<str>, Totals> {
        let mut databases = self.gone.clone();
        for (key, totals) in &self.tenants {
            databases.entry(Arc::clone(&key.database)).or_default().add(totals);
        }
        databases
    }

    /// By tenant, wherever it lives or lived, and what is left of those that are not told apart.
    #[must_use]
    pub fn by_tenant(&self) -> (BTreeMap<TenantId, Totals>, Totals) {
        let mut tenants: BTreeMap<TenantId, Totals> = BTreeMap::new();
        for (key, totals) in &self.tenants {
            tenants.entry(key.tenant.clone()).or_default().add(totals);
        }
        let mut gone = Totals::default();
        self.gone.values().for_each(|totals| gone.add(totals));
        (tenants, gone)
    }
}

impl Inner {
    /// Gives up tallies of tenants that have no clients, and keeps what they counted. A client that goes from
    /// worker to worker leaves a tally behind.
    fn sweep(&mut self, present: &HashSet<TenantId>) {
        let Self { tallies, gone, .. } = self;
        tallies.retain(|key, tally| {
            let used = Arc::strong_count(tally) > 1 || present.contains(&key.tenant);
            if !used {
                gone.entry(Arc::clone(&key.database)).or_default().add(&tally.get());
            }
            used
        });
        self.sweep_at = 2 * self.tallies.len();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;
    use crate::tenant::NamePattern;

    fn id(name: &str) -> TenantId {
        NamePattern::new(".*").unwrap().parse(name).unwrap()
    }

    #[test]
    fn workers_count_for_themselves_and_are_added_up() {
        // A thread that ends leaves its place to the next one: workers all live on.
        let (tallies, end) = (Tallies::default(), Barrier::new(4));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let tally = tallies.of(&id("acme"), "saas");
                    (0..1000).for_each(|_| tally.queries.add(1));
                    tallies.of(&id("umbra"), "saas").sent.add(7);
                    tallies.of(&id("acme"), "other").queries.add(1);
                    end.wait();
                });
            }
        });
        let sums = tallies.sums();
        let saas = &sums.by_database()["saas"];
        assert_eq!((saas.queries, saas.sent), (4000, 28));
        assert_eq!(sums.by_tenant().0[&id("acme")].queries, 4004);
    }

    #[test]
    fn what_is_given_up_is_still_counted() {
        let tallies = Tallies::default();
        let kept = tallies.of(&id("kept"), "saas");
        for number in 0..2 * SWEEP_LEN {
            tallies.of(&id(&format!("t{number}")), "saas").logins.add(1);
        }
        kept.logins.add(1);
        let sums = tallies.sums();
        assert!(sums.tenants.len() <= SWEEP_LEN + 1, "{}", sums.tenants.len());
        assert_eq!(sums.by_database()["saas"].logins, 2 * SWEEP_LEN as u64 + 1);
        assert_eq!(sums.by_tenant().0[&id("kept")].logins, 1, "whoever adds to it keeps it");
    }

    #[test]
    fn what_a_client_left_behind_on_another_worker_stays_its_tenants() {
        let (tallies, turn) = (Tallies::default(), Barrier::new(2));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                tallies.of(&id("moved"), "saas").queries.add(7);
                turn.wait();
                turn.wait();
                for number in 0..2 * SWEEP_LEN {
                    tallies.of(&id(&format!("t{number}")), "saas").logins.add(1);
                }
                turn.wait();
            });
            turn.wait();
            let there = tallies.of(&id("moved"), "saas");
            there.queries.add(1);
            turn.wait();
            turn.wait();
            assert_eq!(tallies.sums().by_tenant().0[&id("moved")].queries, 8);
            drop(there);
        });
    }
}
