//! A session goes on in another worker, between two units: it holds no server then, and nobody waits for it.

use tracing::warn;

use super::events::Next;
use super::session::Session;

impl Session {
    /// Whether another worker is to serve it.
    #[inline]
    pub(super) fn is_elsewhere(&self) -> bool {
        self.registration.slot.worker() != self.worker
    }

    /// Goes where it is to be served. What the client has sent waits in its socket or in the buffer.
    pub(super) async fn go_there(&mut self) -> Next {
        let at = self.registration.slot.worker();
        let Some(worker) = self.shared.shutdown.workers().get(at).cloned() else {
            unreachable!("clients are placed on workers that there are");
        };
        worker.enter().await;
        self.worker = at;
        // Two workers do not add to the same counts.
        self.tally = self.shared.stats.tallies.of(&self.of.id, &self.of.database);
        self.client_wakes = false;
        match self.client.move_here() {
            Ok(()) => Next::Go,
            Err(problem) => {
                self.span()
                    .in_scope(|| warn!(%problem, "client lost: a worker cannot wait for it"));
                Next::Over
            }
        }
    }
}
