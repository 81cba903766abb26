//! Counters of what the pooler did. Added to from anywhere, read as a whole.
//!
//! Promises: an increment waits for nobody, allocates nothing and shares no cache line with another worker;
//! only what is rare is counted by its reason, under a lock that nobody holds for long. What clients of a
//! tenant do is counted in a [`Tally`] of their worker's own; tallies are added up when somebody looks.
//!
//! | file | what it is for |
//! |------|----------------|
//! | `counter` | numbers that only grow |
//! | `histogram` | how often something took how long |
//! | `tally` | what clients of a tenant did, on one worker |
//! | `tallies` | all of them |
//! | `period` | what they did lately |
//! | `ranking` | which tenants have metrics of their own |

mod counter;
mod histogram;
mod period;
mod ranking;
mod tallies;
mod tally;

use std::sync::atomic::{AtomicBool, Ordering};

use tracing::info;

pub use counter::{ByReason, Count, Counter};
pub use histogram::{BOUNDS, Histogram, Spread};
pub use period::Period;
pub use ranking::{Ranking, Shares};
pub use tallies::{Key, Sums, Tallies};
pub use tally::{Tally, Totals};

/// What happened since the pooler started.
#[derive(Debug, Default)]
pub struct Stats {
    /// What clients did, by their tenants and databases.
    pub tallies: Tallies,
    /// The last minute of it.
    pub period: Period,
    /// Servers put into another session state, for clients and for the pooler's own questions.
    pub switches: Counter,
    /// Scrubs: in front of a switch, or behind a session that left something.
    pub scrubs: Counter,
    /// Switches to a tenant that the server had served before.
    pub warm: Counter,
    /// Switches to a tenant that was new to the server.
    pub cold: Counter,
    /// Switches that cost a round trip: the client's first message did not fit into the buffer.
    pub switch_round_trips: Counter,
    /// Servers dialled.
    pub dials: Counter,
    /// Servers that were closed for what a client did or left, or that PostgreSQL has ended while a client had them.
    pub lost: ByReason<&'static str>,
    /// Logins to servers that failed.
    pub login_failures: Counter,
    /// Sessions pinned to their server, by the statement or the thing they were pinned for.
    pub pins: ByReason<&'static str>,
    /// `SET`s that were answered without a server.
    pub absorbed: Counter,
    /// Statements that the guard, or `on_session_state`, has refused or counted.
    pub guarded: Counter,
    /// What clients were refused for: the reason, and the SQLSTATE they were told.
    pub refusals: ByReason<(&'static str, String)>,
    /// What quotas would have refused, had they not been audited only.
    pub quota_audited: ByReason<&'static str>,
    /// Sessions that made no progress, and were ended for it.
    pub stuck_sessions: Counter,
    /// Times that a worker did not turn.
    pub stuck_workers: Counter,
    /// Cancel requests passed on.
    pub cancels: Counter,
    /// Reloads that were taken over.
    pub reloads: Counter,
    /// Those that were not.
    pub failed_reloads: Counter,
    /// The last one was not.
    pub reload_has_failed: AtomicBool,
}

impl Stats {
    /// The configuration was read again, with that outcome.
    pub fn count_reload(&self, worked: bool) {
        if worked { &self.reloads } else { &self.failed_reloads }.add_one();
        self.reload_has_failed.store(!worked, Ordering::Relaxed);
    }

    /// Something exceeds a quota of a tenant that is only audited: counted and logged.
    pub fn audit_quota(&self, tenant: &str, quota: &'static str) {
        let count = self.quota_audited.add_one(quota);
        info!(tenant, quota, count, "quota exceeded; this would have been refused");
    }
}
