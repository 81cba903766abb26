//! The word that the pooler stops, heard by everybody who waits for something else.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;

use crate::engine::Worker;

/// How far the pooler is on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// It serves.
    Running,
    /// Transactions may end; nothing new begins.
    Draining,
    /// Everything ends now.
    Stopping,
}

/// The phase, for all. Every task of a worker is polled when it changes: to look is enough.
#[derive(Default)]
pub struct Shutdown {
    phase: AtomicU8,
    rung: Notify,
    workers: Vec<Worker>,
    spare: Option<Worker>,
}

impl Shutdown {
    /// Nothing stops yet.
    #[must_use]
    pub fn new(workers: Vec<Worker>, spare: Worker) -> Self {
        Self { workers, spare: Some(spare), ..Self::default() }
    }

    /// The phase now.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Running,
            1 => Phase::Draining,
            _ => Phase::Stopping,
        }
    }

    /// Goes on to a later phase and wakes everybody.
    pub fn advance(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Ordering::AcqRel);
        self.rung.notify_waiters();
        self.wake_all();
    }

    /// The workers that serve clients.
    #[must_use]
    pub fn workers(&self) -> &[Worker] {
        &self.workers
    }

    /// Has every task look whether it may go on.
    pub fn wake_all(&self) {
        for worker in self.workers.iter().chain(&self.spare) {
            worker.wake_all();
        }
    }

    /// Waits until at least `phase` has come.
    pub async fn reached(&self, phase: Phase) {
        loop {
            let rung = self.rung.notified();
            if self.phase() >= phase {
                return;
            }
            rung.await;
        }
    }

    /// Waits until the pooler has been draining for `grace`.
    pub async fn drained_for(&self, grace: Duration) {
        self.reached(Phase::Draining).await;
        sleep(grace).await;
    }
}
