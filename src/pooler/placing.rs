//! Which worker serves which client: looks how busy they are, and sends clients from one to another.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::time::sleep;
use tracing::{debug, info, warn};

use super::packing::{Change, Packing};
use crate::client::Shared;
use crate::engine::Worker;
use crate::net::Phase;

/// How often it looks.
const PERIOD: Duration = Duration::from_millis(250);
/// Looks in a row at which nothing could be seen, such as for lack of descriptors, after which all serve.
const BLIND_MAX: u32 = 20;

/// How many workers serve at first: one, or all of them where nobody can tell how busy they are.
pub(super) fn serving_first(workers: &[Worker]) -> usize {
    let known = workers.iter().all(|worker| worker.used().is_some());
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
    let (mut then, mut before, mut blind) = (Instant::now(), uses(workers), 0);
    loop {
        sleep(PERIOD).await;
        let (now, used) = (Instant::now(), uses(workers));
        let length = now.saturating_duration_since(then);
        let busy = busy(before.as_deref(), used.as_deref(), length);
        (then, before) = (now, used);
        blind = if busy.is_none() { blind + 1 } else { 0 };
        let change = match &busy {
            Some(busy) => packing.look(busy),
            None if blind == BLIND_MAX => Some(packing.serve_all()),
            None => None,
        };
        if let Some(change) = change {
            carry_out(change, shared, busy.as_deref().unwrap_or_default());
        }
    }
}

fn carry_out(change: Change, shared: &Shared, busy: &[u32]) {
    let of = shared.shutdown.workers().len();
    match change {
        Change::All { serving } => {
            shared.serving.store(serving, Ordering::Relaxed);
            warn!(serving, "nobody can tell how busy workers are: all of them serve clients now");
        }
        Change::More { serving } | Change::Less { serving } => {
            shared.serving.store(serving, Ordering::Relaxed);
            info!(serving, of, ?busy, "as many workers serve clients now");
        }
        Change::Even { .. } => debug!(?change, ?busy, "clients go to another worker"),
    }
    let mut number = 0;
    shared.cancels.place(|at| {
        number += 1;
        // Who came to the spare worker stays there.
        if at < of { change.place(number, at) } else { at }
    });
}

/// How long each worker has run.
fn uses(workers: &[Worker]) -> Option<Vec<Duration>> {
    workers.iter().map(Worker::used).collect()
}

/// How busy each was between two looks, in thousandths. Only what it ran counts: where it has to wait for a processor,
/// clients and PostgreSQL have all of them, and what a second worker got would be taken from these.
fn busy(
    before: Option<&[Duration]>,
    until: Option<&[Duration]>,
    length: Duration,
) -> Option<Vec<u32>> {
    // A kernel that does not account for this says 0, whoever asks.
    let until = until.filter(|until| !until.contains(&Duration::ZERO))?;
    let of_one =
        |(before, until): (&Duration, &Duration)| part(until.saturating_sub(*before), length);
    Some(before?.iter().zip(until).map(of_one).collect())
}

/// A time in thousandths of another, no more than all of it.
fn part(time: Duration, of: Duration) -> u32 {
    let thousandths = time.as_micros() * 1000 / of.as_micros().max(1);
    u32::try_from(thousandths).unwrap_or(u32::MAX).min(1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_busy_a_worker_was_is_a_part_of_the_time_between_two_looks() {
        let ms = Duration::from_millis;
        let (before, until) = ([ms(50), ms(50), ms(50)], [ms(150), ms(50), ms(350)]);
        assert_eq!(busy(Some(&before), Some(&until), ms(250)), Some(vec![400, 0, 1000]));
        assert_eq!(busy(None, Some(&until), ms(250)), None);
        assert_eq!(busy(Some(&before), Some(&[ms(0); 3]), ms(250)), None, "nobody can tell");
    }
}
