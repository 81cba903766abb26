//! States that clients are in, each prepared once: clients in the same state share it, and a server
//! that is in it is known to be so by a look at the pointer.

use std::hash::Hash;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;

use crate::server::{Class, Parameters, Target};
use crate::tenant::{SessionState, TenantId};

type Key = (TenantId, SessionState);

/// Targets in use, by tenant and state; and the classes of states in which a statement's text means
/// the same.
#[derive(Default)]
pub struct Targets {
    targets: Interned<Key, Target>,
    classes: Interned<Key, Class>,
    reports: Interned<Parameters, Parameters>,
}

impl Targets {
    /// The one value for what a server has reported, whoever has it.
    #[must_use]
    pub fn report(&self, parameters: &Arc<Parameters>) -> Arc<Parameters> {
        match self.reports.known(parameters) {
            Some(known) => known,
            None => self.reports.get((**parameters).clone(), Parameters::clone),
        }
    }

    /// The target for a tenant's session in `state`.
    #[must_use]
    pub fn get(&self, tenant: &TenantId, state: SessionState) -> Arc<Target> {
        self.targets.get((tenant.clone(), state), |(tenant, state)| {
            let class = self.classes.get((tenant.clone(), state.for_plans()), |_| Class::new());
            Target::new(tenant.clone(), state.clone(), class)
        })
    }
}

/// Values that are made once and shared as long as anybody has them.
pub(super) struct Interned<K, V> {
    entries: DashMap<K, Weak<V>>,
    sweep_at: AtomicUsize,
}

/// Entries from which on dead ones are looked for.
const SWEEP_LEN: usize = 4096;

impl<K: Eq + Hash, V> Default for Interned<K, V> {
    fn default() -> Self {
        Self { entries: DashMap::new(), sweep_at: AtomicUsize::new(SWEEP_LEN) }
    }
}

impl<K: Eq + Hash, V> Interned<K, V> {
    pub(super) fn known(&self, key: &K) -> Option<Arc<V>> {
        self.entries.get(key).and_then(|known| known.upgrade())
    }

    pub(super) fn get(&self, key: K, make: impl FnOnce(&K) -> V) -> Arc<V> {
        if let Some(known) = self.known(&key) {
            return known;
        }
        if self.entries.len() >= self.sweep_at.load(Ordering::Relaxed) {
            self.entries.retain(|_, value| value.strong_count() > 0);
            self.sweep_at.store(SWEEP_LEN.max(2 * self.entries.len()), Ordering::Relaxed);
        }
        let value = Arc::new(make(&key));
        match self.entries.entry(key) {
            Entry::Occupied(mut entry) => entry.get().upgrade().unwrap_or_else(|| {
                entry.insert(Arc::downgrade(&value));
                value
            }),
            Entry::Vacant(entry) => {
                entry.insert(Arc::downgrade(&value));
                value
            }
        }
    }
}
