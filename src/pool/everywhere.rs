//! Whether a paused tenant has a transaction under way, in any cluster: a tenant that has moved may have
//! clients, and a long transaction, where it lived before.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tracing::info;

use super::Pools;
use crate::tenant::TenantId;

/// All clusters there are, those among them that the configuration has no more.
#[derive(Default)]
pub struct Everywhere(Mutex<Vec<Weak<Pools>>>);

impl Everywhere {
    pub(super) fn add(&self, pools: &Arc<Pools>) {
        let mut all = self.0.lock();
        all.retain(|pools| pools.strong_count() > 0);
        all.push(Arc::downgrade(pools));
    }

    /// A paused tenant may have ended its last transaction: the operator is told if it has.
    pub fn note_quiet(&self, tenant: &TenantId) {
        let all: Vec<_> = self.0.lock().iter().filter_map(Weak::upgrade).collect();
        if all.iter().all(|pools| pools.desk.0.lock().is_quiet(tenant)) {
            info!(%tenant, "the tenant is paused, and none of its transactions is under way");
        }
    }
}
