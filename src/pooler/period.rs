//! Once a minute: what clients did in it, as a line in the log, and where PgBouncer's averages begin.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::sleep;
use tracing::info;

use crate::client::Shared;
use crate::net::Phase;
use crate::stats::Totals;

/// PgBouncer's `stats_period`.
const PERIOD: Duration = Duration::from_mins(1);

/// Runs until the pooler stops.
pub(super) async fn count(shared: Arc<Shared>) {
    tokio::select! {
        () = shared.shutdown.reached(Phase::Stopping) => {}
        () = count_on(&shared) => {}
    }
}

async fn count_on(shared: &Shared) {
    let (mut then, mut before, mut refused_before) = (Instant::now(), Totals::default(), 0);
    loop {
        sleep(PERIOD).await;
        let (now, databases) = (Instant::now(), shared.stats.tallies.sums().by_database());
        let mut all = Totals::default();
        for totals in databases.values() {
            all.add(totals);
        }
        // Also of who had no tenant yet.
        let refused: u64 = shared.stats.refusals.get().values().sum();
        let length = now.saturating_duration_since(then);
        report(&all.since(&before), refused - refused_before, length);
        shared.stats.period.end(now, databases);
        (then, before, refused_before) = (now, all, refused);
    }
}

/// A minute in which nothing happened is not worth a line.
fn report(came: &Totals, refused: u64, length: Duration) {
    let (transactions, queries) = (came.transactions.count(), came.queries);
    if transactions + queries + came.logins + refused == 0 {
        return;
    }
    let each = |micros: u64, count: u64| micros.checked_div(count).unwrap_or(0);
    info!(
        seconds = length.as_secs(),
        logins = came.logins,
        transactions,
        queries,
        waited = came.waited,
        refused,
        received_bytes = came.received,
        sent_bytes = came.sent,
        transaction_us = each(came.transactions.micros, transactions),
        query_us = each(came.query_micros, queries),
        wait_us = each(came.waits.micros, came.waits.count()),
        "the last minute"
    );
}
