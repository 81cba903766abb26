//! What clients of a tenant did in a database, on one worker.

use super::counter::Count;
use super::histogram::{Histogram, Spread};

/// Added to by the worker's thread, read by others.
#[derive(Debug, Default)]
pub struct Tally {
    /// Clients that have logged in.
    pub logins: Count,
    /// Bytes that clients sent.
    pub received: Count,
    /// Bytes that clients were sent.
    pub sent: Count,
    /// What PostgreSQL has said to be ready behind: queries, and batches of the extended protocol.
    pub queries: Count,
    /// From the beginning of a query until PostgreSQL was ready behind it, in microseconds.
    pub query_micros: Count,
    /// How long a transaction held its server; in session mode, and where a session is pinned, how long it took.
    pub transactions: Histogram,
    /// How long a client waited for a server; of no time, if it got one at once.
    pub waits: Histogram,
    /// Of those, how many had to wait.
    pub waited: Count,
    /// From the first byte of a switch to a tenant's session state until PostgreSQL has confirmed it.
    pub switches: Histogram,
    /// Switches that PostgreSQL refused.
    pub switch_failures: Count,
    /// Named statements that clients have prepared.
    pub parses: Count,
    /// How often clients have bound one.
    pub binds: Count,
    /// How often one was prepared on a server.
    pub server_parses: Count,
    /// Logins, statements and sessions that were refused.
    pub refusals: Count,
}

/// Tallies at one moment, added up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the number of the same name in a `Tally`")]
pub struct Totals {
    pub logins: u64,
    pub received: u64,
    pub sent: u64,
    pub queries: u64,
    pub query_micros: u64,
    pub transactions: Spread,
    pub waits: Spread,
    pub waited: u64,
    pub switches: Spread,
    pub switch_failures: u64,
    pub parses: u64,
    pub binds: u64,
    pub server_parses: u64,
    pub refusals: u64,
}

impl Tally {
    /// How it stands now.
    #[must_use]
    pub fn get(&self) -> Totals {
        Totals {
            logins: self.logins.get(),
            received: self.received.get(),
            sent: self.sent.get(),
            queries: self.queries.get(),
            query_micros: self.query_micros.get(),
            transactions: self.transactions.get(),
            waits: self.waits.get(),
            waited: self.waited.get(),
            switches: self.switches.get(),
            switch_failures: self.switch_failures.get(),
            parses: self.parses.get(),
            binds: self.binds.get(),
            server_parses: self.server_parses.get(),
            refusals: self.refusals.get(),
        }
    }
}

impl Totals {
    /// Grows whatever is done.
    pub(super) fn size(&self) -> u64 {
        self.logins + self.queries + self.refusals + self.received
    }

    /// Adds others.
    pub fn add(&mut self, other: &Self) {
        self.combine(other, u64::wrapping_add);
    }

    /// What has come since then. A look at a moment in the middle of a count may be behind by one.
    #[must_use]
    pub fn since(&self, then: &Self) -> Self {
        let mut since = self.clone();
        since.combine(then, u64::saturating_sub);
        since
    }

    fn combine(&mut self, other: &Self, by: fn(u64, u64) -> u64) {
        for (own, others) in [
            (&mut self.logins, other.logins),
            (&mut self.received, other.received),
            (&mut self.sent, other.sent),
            (&mut self.queries, other.queries),
            (&mut self.query_micros, other.query_micros),
            (&mut self.waited, other.waited),
            (&mut self.switch_failures, other.switch_failures),
            (&mut self.parses, other.parses),
            (&mut self.binds, other.binds),
            (&mut self.server_parses, other.server_parses),
            (&mut self.refusals, other.refusals),
        ] {
            *own = by(*own, others);
        }
        self.transactions.combine(&other.transactions, by);
        self.waits.combine(&other.waits, by);
        self.switches.combine(&other.switches, by);
    }
}
