//! `/livez`: whether every worker answers.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::client::Shared;

/// Longest a worker may take to come round to a new task.
const TURN_TIME_MAX: Duration = Duration::from_secs(2);

/// Asks all workers; the number of one that does not answer, if there is one.
pub(super) async fn silent_worker(shared: &Shared) -> Option<usize> {
    if let Some(still) = (0..shared.shutdown.workers().len()).find(|at| shared.stands_still(*at)) {
        return Some(still);
    }
    for (number, worker) in shared.shutdown.workers().iter().enumerate() {
        let (reply, answer) = oneshot::channel();
        worker.spawn(async move {
            // Who asked may have lost patience.
            let _ = reply.send(());
        });
        if !matches!(timeout(TURN_TIME_MAX, answer).await, Ok(Ok(()))) {
            return Some(number);
        }
    }
    None
}
