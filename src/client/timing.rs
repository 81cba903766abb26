//! What a session counts: its transactions, its queries, its waits, and how long they took.
//!
//! A transaction is timed while it holds a server: from the moment it got one, or, where the session keeps
//! its server, from its first message; so the sum of them is how long the tenant kept servers busy. The
//! clock is the worker's, read once a turn of its loop.

use tracing::{Level, debug, enabled};

use super::session::Session;
use crate::engine::{Tick, tick};
use crate::pool::{Checkout, Waiting};
use crate::stats::Tally;
use crate::wire::backend::TransactionStatus;

/// When what began.
pub(super) struct Timing {
    /// The transaction.
    pub(super) began: Tick,
    /// The query.
    pub(super) asked: Tick,
}

impl Timing {
    pub(super) const fn new(now: Tick) -> Self {
        Self { began: now, asked: now }
    }

    /// PostgreSQL is ready for the next query: one has ended, and perhaps the transaction.
    pub(super) fn ready(&mut self, status: TransactionStatus, tally: &Tally) {
        let now = tick();
        let took = now.micros_since(self.asked);
        tally.queries.add(1);
        tally.query_micros.add(took);
        if status == TransactionStatus::Idle {
            // Most transactions are one query.
            let alone = self.began == self.asked;
            tally.transactions.add(if alone { took } else { now.micros_since(self.began) });
            self.began = now;
        }
        self.asked = now;
    }
}

impl Default for Timing {
    fn default() -> Self {
        Self::new(tick())
    }
}

impl Session {
    /// It begins to wait for a server.
    pub(super) fn begin_wait(&mut self, waiting: Waiting) {
        self.registration.slot.queue();
        self.link.timing = Timing::new(tick());
        self.tally.waited.add(1);
        if enabled!(Level::DEBUG) {
            self.span().in_scope(|| debug!("client waits for a server"));
        }
        self.waiting = Some(waiting);
    }

    /// It had not to wait.
    pub(super) fn link_at_once(&mut self, checkout: Checkout) {
        self.tally.waits.add_nothing();
        self.link_to(checkout);
    }

    /// It waits no longer, with or without one.
    pub(super) fn end_wait(&self) {
        self.tally.waits.add(tick().micros_since(self.link.timing.asked));
    }

    /// More of the client's may be there, while it holds a server.
    #[inline]
    pub(super) fn note_more(&mut self) {
        if self.exchange.is_busy() || self.inbound.len() == self.units.scanned {
            return;
        }
        self.link.timing.asked = tick();
        if self.exchange.is_at_rest() {
            self.link.timing.began = self.link.timing.asked;
        }
    }

    /// PostgreSQL has confirmed the switch that went in front of the transaction.
    pub(super) fn note_switch(&self) {
        self.tally.switches.add(tick().micros_since(self.link.timing.began));
    }
}
