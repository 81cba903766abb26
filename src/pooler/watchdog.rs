//! Workers that do not come round: noticed, logged, counted, and shown by `/livez`. Whoever comes then is served by
//! the spare worker.
//!
//! A worker runs one task at a time, so a task that does not end holds up all others of its worker: its clients, new
//! connections, the console, the clock of `query_wait_timeout`. Nobody can stop it from outside; but the spare worker
//! can accept from the same sockets and look after the same pools, until the operator has read the log. It runs in
//! the runtime, beside all workers, as signals and HTTP do.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use super::accept::{Place, accept, open};
use crate::client::Shared;
use crate::engine::Worker;
use crate::net::{Listener, Phase, Tasks};

/// How often it looks.
const PERIOD: Duration = Duration::from_secs(1);
/// Looks in a row at which a worker was in the same turn.
const LOOKS_MAX: u32 = 2;

pub(super) struct Watchdog {
    pub(super) shared: Arc<Shared>,
    /// The listeners' sockets once more, and where what they accept goes.
    pub(super) entrances: Vec<(Listener, Place)>,
    pub(super) spare: Worker,
    pub(super) acceptors: Tasks,
    pub(super) servers: Tasks,
}

/// How often the spare worker looks at the clock of a pool.
const CLOCK_PERIOD: Duration = Duration::from_millis(100);

/// What was seen of a worker.
#[derive(Debug, Default)]
struct Sight {
    turn: Option<u64>,
    looks: u32,
}

impl Sight {
    /// Whether it stands still: it does not wait, and is in the turn in which it was at the last looks.
    fn look(&mut self, turn: Option<u64>) -> bool {
        self.looks = if turn.is_some() && turn == self.turn { self.looks + 1 } else { 0 };
        self.turn = turn;
        self.looks >= LOOKS_MAX
    }
}

impl Watchdog {
    /// Runs until the pooler stops.
    pub(super) async fn watch(self) {
        let shared = Arc::clone(&self.shared);
        tokio::select! {
            () = shared.shutdown.reached(Phase::Stopping) => {}
            () = self.look_on() => {}
        }
    }

    async fn look_on(self) {
        let workers = self.shared.shutdown.workers();
        let mut sights: Vec<Sight> = workers.iter().map(|_| Sight::default()).collect();
        let mut rescue: Option<CancellationToken> = None;
        loop {
            sleep(PERIOD).await;
            for (number, (worker, sight)) in workers.iter().zip(&mut sights).enumerate() {
                self.note(number, sight.look(worker.busy_turn()));
            }
            match (self.shared.any_stands_still(), &rescue) {
                (true, None) => rescue = Some(self.stand_in()),
                (false, Some(token)) => {
                    token.cancel();
                    rescue = None;
                }
                (true, Some(_)) | (false, None) => {}
            }
        }
    }

    fn note(&self, worker: usize, stands_still: bool) {
        let stood_still = self.shared.stands_still(worker);
        self.shared.note_worker(worker, stands_still);
        match (stood_still, stands_still) {
            (false, true) => {
                self.shared.stats.stuck_workers.add_one();
                error!(
                    worker,
                    "a worker does not turn: its clients are not served; who comes now is served by the spare one; \
                     this is a fault of the pooler's, please report it"
                );
            }
            (true, false) => info!(worker, "the worker turns again"),
            (true, true) | (false, false) => {}
        }
    }

    /// The spare worker does what the first one may not do any more, until that is cancelled.
    fn stand_in(&self) -> CancellationToken {
        let token = CancellationToken::new();
        for (listener, place) in &self.entrances {
            if let Err(problem) = self.open(listener, place, &token) {
                error!(%problem, "the spare worker cannot accept connections");
            }
        }
        for (_, pools) in self.shared.access().clusters.values() {
            let (janitor, clock) = (Arc::clone(pools), Arc::clone(pools));
            self.servers.spawn_on(until(&token, janitor.janitor()), &self.spare);
            self.servers
                .spawn_on(until(&token, clock.look_at_the_clock(CLOCK_PERIOD)), &self.spare);
        }
        token
    }

    fn open(
        &self,
        listener: &Listener,
        place: &Place,
        token: &CancellationToken,
    ) -> io::Result<()> {
        let doors = open(listener.try_clone()?, &self.spare)?;
        let place = Place { workers: vec![self.spare.clone()], ..place.clone() };
        self.acceptors.spawn_on(until(token, accept(doors, place)), &self.spare);
        Ok(())
    }
}

/// A future that ends with the token.
fn until<F: Future<Output = ()>>(
    token: &CancellationToken,
    future: F,
) -> impl Future<Output = ()> + use<F> {
    let token = token.clone();
    async move {
        let _ = token.run_until_cancelled(future).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_or_comes_round_does_not_stand_still() {
        let mut sight = Sight::default();
        let seen = [None, None, None, Some(1), Some(1), Some(2), Some(2), None, Some(2), Some(2)];
        assert_eq!(seen.map(|turn| sight.look(turn)), [false; 10]);
        assert_eq!([Some(2), Some(2), Some(3)].map(|turn| sight.look(turn)), [true, true, false]);
    }
}
