//! What each tenant has of the texts that are kept. One must not have all that is kept for everybody: clients of the others
//! would have to keep their servers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::DashMap;

/// Bytes of texts that a tenant's clients were the first to prepare.
#[derive(Debug, Default)]
pub(super) struct Share(AtomicUsize);

impl Share {
    pub(super) fn add(&self, len: usize) {
        self.0.fetch_add(len, Ordering::Relaxed);
    }

    pub(super) fn take(&self, len: usize) {
        self.0.fetch_sub(len, Ordering::Relaxed);
    }

    /// Whether it has room for so many more.
    pub(super) fn has_room(&self, len: usize, max: usize) -> bool {
        self.0.load(Ordering::Relaxed) + len <= max
    }
}

/// Those of all tenants that have any.
#[derive(Debug, Default)]
pub(super) struct Shares(DashMap<Box<str>, Arc<Share>>);

impl Shares {
    pub(super) fn of(&self, tenant: &str) -> Arc<Share> {
        if let Some(share) = self.0.get(tenant) {
            return Arc::clone(&share);
        }
        Arc::clone(&self.0.entry(tenant.into()).or_default())
    }

    /// Forgets tenants that have none.
    pub(super) fn sweep(&self) {
        self.0.retain(|_, share| Arc::strong_count(share) > 1);
    }
}
