//! Counters of what the pooler did. Added to from anywhere, read as a whole.
//!
//! Promises: an increment is one relaxed atomic addition, and nothing waits or allocates; only what is
//! rare is counted by its reason, under a lock that nobody holds for long.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tracing::info;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn add_one(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// The number now.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Numbers that only grow, each with a reason that is known beforehand. For what is rare.
#[derive(Debug, Default)]
pub struct ByReason(Mutex<BTreeMap<&'static str, u64>>);

impl ByReason {
    /// Adds one; how many there are now of that reason.
    pub fn add_one(&self, reason: &'static str) -> u64 {
        let mut counts = self.0.lock();
        let count = counts.entry(reason).or_default();
        *count += 1;
        *count
    }

    /// All of them.
    #[must_use]
    pub fn get(&self) -> BTreeMap<&'static str, u64> {
        self.0.lock().clone()
    }
}

impl Stats {
    /// Something exceeds a quota of a tenant that is only audited: counted and logged.
    pub fn audit_quota(&self, tenant: &str, quota: &'static str) {
        let count = self.quota_audited.add_one(quota);
        info!(tenant, quota, count, "quota exceeded; this would have been refused");
    }
}

/// What happened since the pooler started.
#[derive(Debug, Default)]
pub struct Stats {
    /// Checkouts: a server was lent to a client.
    pub checkouts: Counter,
    /// Checkouts that had to wait for a server.
    pub waits: Counter,
    /// Servers put into another session state.
    pub switches: Counter,
    /// Scrubs: in front of a switch, or behind a session that left something.
    pub scrubs: Counter,
    /// Switches to a tenant that the server had served before.
    pub warm: Counter,
    /// Switches to a tenant that was new to the server.
    pub cold: Counter,
    /// Switches that cost a round trip: the client's first message did not fit into the buffer.
    pub switch_round_trips: Counter,
    /// Switches that PostgreSQL refused.
    pub switch_failures: Counter,
    /// Servers dialled.
    pub dials: Counter,
    /// Sessions pinned to their server, by the statement or the thing they were pinned for.
    pub pins: ByReason,
    /// `SET`s that were answered without a server.
    pub absorbed: Counter,
    /// Statements that the guard, or `on_session_state`, has refused or counted.
    pub guarded: Counter,
    /// What quotas have refused, by the quota.
    pub quota_refusals: ByReason,
    /// What they would have refused, had they not been audited only.
    pub quota_audited: ByReason,
    /// Cancel requests passed on.
    pub cancels: Counter,
}
