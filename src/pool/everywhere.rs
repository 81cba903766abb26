//! Whether a paused tenant has a transaction under way, in any cluster: a tenant that has moved may have
//! clients, and a long transaction, where it lived before.

use std::collections::HashSet;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tracing::info;

use super::Pools;
use crate::tenant::TenantId;

/// All clusters there are, those among them that the configuration has no more.
#[derive(Default)]
pub struct Everywhere {
    clusters: Mutex<Vec<Weak<Pools>>>,
    /// Tenants that are paused, and of which the operator waits to hear that they are quiet.
    awaited: Mutex<HashSet<TenantId>>,
}

impl Everywhere {
    pub(super) fn add(&self, pools: &Arc<Pools>) {
        let mut all = self.clusters.lock();
        all.retain(|pools| pools.strong_count() > 0);
        all.push(Arc::downgrade(pools));
    }

    /// These tenants are paused from now on: the operator waits to hear that they are quiet.
    pub fn pause(&self, tenants: impl IntoIterator<Item = TenantId>) {
        for tenant in tenants {
            self.awaited.lock().insert(tenant.clone());
            self.note_quiet(&tenant);
        }
    }

    /// Nobody waits for those any more that are paused no more.
    pub fn forget(&self, is_paused: impl Fn(&TenantId) -> bool) {
        self.awaited.lock().retain(is_paused);
    }

    /// A tenant may have ended its last transaction: who waits for that is told, once.
    pub(super) fn note_quiet(&self, tenant: &TenantId) {
        if !self.awaited.lock().contains(tenant) {
            return;
        }
        let all: Vec<_> = self.clusters.lock().iter().filter_map(Weak::upgrade).collect();
        let is_quiet = all.iter().all(|pools| pools.desk.0.lock().is_quiet(tenant));
        if is_quiet && self.awaited.lock().remove(tenant) {
            let tenant = tenant.as_str();
            info!(tenant, "the tenant is paused, and none of its transactions is under way");
        }
    }
}
