//! Which worker serves which client: looks how busy they are, and sends clients from one to another.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::time::sleep;
use tracing::{debug, info};

use super::packing::{Change, Packing};
use crate::client::Shared;
use crate::engine::Worker;
use crate::net::Phase;

/// How often it looks. The kernel counts hundredths of a second, so less would be seen too coarsely.
const PERIOD: Duration = Duration::from_millis(250);

/// How many workers serve at first: one, or all of them where nobody can tell how busy they are.
pub(super) fn serving_first(workers: &[Worker]) -> usize {
    let known = workers.iter().all(|worker| worker.cpu_time().is_some());
    if known { 1 } else { workers.len() }
}

/// Runs until the pooler stops.
pub(super) async fn place(shared: Arc<Shared>) {
    tokio::select! {
        () = shared.shutdown.reached(Phase::Stopping) => {}
        () = place_on(&shared) => {}
    }
}

async fn place_on(shared: &Shared) {
    let workers = shared.shutdown.workers();
    let mut packing = Packing::new(workers.len());
    let (mut then, mut before) = (Instant::now(), times(workers));
    loop {
        sleep(PERIOD).await;
        let (now, used) = (Instant::now(), times(workers));
        let (Some(known), Some(until)) = (&before, &used) else { return };
        let length = now.saturating_duration_since(then);
        let busy: Vec<u32> =
            known.iter().zip(until).map(|(a, b)| part(b.saturating_sub(*a), length)).collect();
        (then, before) = (now, used);
        let Some(change) = packing.look(&busy) else { continue };
        match change {
            Change::More { serving: now } | Change::Less { serving: now } => {
                shared.serving.store(now, Ordering::Relaxed);
                info!(
                    serving = now,
                    of = workers.len(),
                    ?busy,
                    "as many workers serve clients now"
                );
            }
            Change::Even { .. } => debug!(?change, ?busy, "clients go to another worker"),
        }
        let mut number = 0;
        shared.cancels.place(|at| {
            number += 1;
            change.place(number, at)
        });
    }
}

/// What each worker has used.
fn times(workers: &[Worker]) -> Option<Vec<Duration>> {
    workers.iter().map(Worker::cpu_time).collect()
}

/// A time in thousandths of another, no more than all of it.
fn part(time: Duration, of: Duration) -> u32 {
    let thousandths = time.as_micros() * 1000 / of.as_micros().max(1);
    u32::try_from(thousandths).unwrap_or(u32::MAX).min(1000)
}
