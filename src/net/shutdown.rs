//! The word that the pooler stops, heard by everybody who waits for something else.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::Context;

use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

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

/// The phase, for all.
#[derive(Debug, Default)]
pub struct Shutdown {
    phase: AtomicU8,
    rung: Arc<Notify>,
}

impl Shutdown {
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
}

/// One listener. Between two phases a look costs one load.
pub struct Bell {
    shutdown: Arc<Shutdown>,
    rung: Pin<Box<OwnedNotified>>,
    heard: Option<Phase>,
}

impl Bell {
    /// Begins to listen.
    #[must_use]
    pub fn new(shutdown: &Arc<Shutdown>) -> Self {
        let rung = Box::pin(Arc::clone(&shutdown.rung).notified_owned());
        Self { shutdown: Arc::clone(shutdown), rung, heard: None }
    }

    /// The phase now; the task is woken when it changes.
    pub fn phase(&mut self, cx: &mut Context<'_>) -> Phase {
        let phase = self.shutdown.phase();
        if self.heard == Some(phase) {
            return phase;
        }
        // A bell that rings while it is hung up again is heard: it counts from its making.
        while self.rung.as_mut().poll(cx).is_ready() {
            let again = Arc::clone(&self.shutdown.rung).notified_owned();
            self.rung.set(again);
        }
        let phase = self.shutdown.phase();
        self.heard = Some(phase);
        phase
    }
}
