//! `general.watch`: the configuration is read again when one of its files has changed.
//!
//! The files are looked at every second: their own names, where symbolic links lead, and patterns of `include`
//! that match more. A change counts once it has stayed the same for a second: nobody reads half of it.

use std::time::Duration;

use crate::client::Shared;
use crate::config::Look;

const PERIOD: Duration = Duration::from_secs(1);

/// What was last seen of the files.
pub(super) struct Watch {
    known: Look,
}

impl Watch {
    /// What is there now is known.
    pub(super) fn new(shared: &Shared) -> Self {
        Self { known: shared.access().config.sources.look() }
    }

    /// Waits for a change. After one that could not be taken, for another.
    pub(super) async fn changed(&mut self, shared: &Shared) {
        let mut last = self.known.clone();
        loop {
            tokio::time::sleep(PERIOD).await;
            let now = shared.access().config.sources.look();
            if now != self.known && now == last {
                self.known = now;
                return;
            }
            last = now;
        }
    }
}
