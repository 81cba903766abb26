//! States that clients are in, each prepared once: clients in the same state share it, and a server
//! that is in it is known to be so by a look at the pointer.

use std::sync::{Arc, Weak};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;

use crate::server::Target;
use crate::tenant::{SessionState, TenantId};

/// Entries after which those that nobody uses any more are dropped.
const SWEEP_LEN: usize = 4096;

/// Targets in use, by tenant and state.
#[derive(Default)]
pub struct Targets(DashMap<(TenantId, SessionState), Weak<Target>>);

impl Targets {
    /// The target for a tenant's session in `state`.
    #[must_use]
    pub fn get(&self, tenant: &TenantId, state: SessionState) -> Arc<Target> {
        if self.0.len() >= SWEEP_LEN {
            self.0.retain(|_, target| target.strong_count() > 0);
        }
        match self.0.entry((tenant.clone(), state)) {
            Entry::Occupied(mut entry) => entry.get().upgrade().unwrap_or_else(|| {
                let (tenant, state) = entry.key().clone();
                let target = Arc::new(Target::new(tenant, state));
                entry.insert(Arc::downgrade(&target));
                target
            }),
            Entry::Vacant(entry) => {
                let (tenant, state) = entry.key().clone();
                let target = Arc::new(Target::new(tenant, state));
                entry.insert(Arc::downgrade(&target));
                target
            }
        }
    }
}
