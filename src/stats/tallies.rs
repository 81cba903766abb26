//! All tallies: each worker has its own, so that none adds to what another one adds to.

use std::collections::{BTreeMap, HashMap};
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
        let mut inner = self.0.get_or_default().0.lock();
        if let Some(known) = inner.tallies.get(&key) {
            return Arc::clone(known);
        }
        if inner.tallies.len() >= inner.sweep_at.max(SWEEP_LEN) {
            inner.sweep();
        }
        let tally = Arc::<Tally>::default();
        inner.tallies.insert(key, Arc::clone(&tally));
        tally
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
    /// Gives up tallies that nobody adds to, and keeps what they counted.
    fn sweep(&mut self) {
        let Self { tallies, gone, .. } = self;
        tallies.retain(|key, tally| {
            let used = Arc::strong_count(tally) > 1;
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
    use super::*;
    use crate::tenant::NamePattern;

    fn id(name: &str) -> TenantId {
        NamePattern::new(".*").unwrap().parse(name).unwrap()
    }

    #[test]
    fn workers_count_for_themselves_and_are_added_up() {
        let tallies = Tallies::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let tally = tallies.of(&id("acme"), "saas");
                    (0..1000).for_each(|_| tally.queries.add(1));
                    tallies.of(&id("umbra"), "saas").sent.add(7);
                    tallies.of(&id("acme"), "other").queries.add(1);
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
}
