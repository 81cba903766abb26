//! Tasks that somebody waits for.

use std::future::Future;

use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

/// A group of tasks. Whoever owns the group can wait until all of them have ended.
#[derive(Debug, Clone, Default)]
pub struct Tasks(TaskTracker);

impl Tasks {
    /// Runs a future as a task of the current worker.
    pub fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        self.spawn_on(future, &Handle::current());
    }

    /// Runs a future as a task of a given worker.
    pub fn spawn_on(&self, future: impl Future<Output = ()> + Send + 'static, worker: &Handle) {
        self.0.spawn_on(future, worker);
    }

    /// Waits until no task is left. More may be spawned meanwhile; they are waited for too.
    pub async fn wait(&self) {
        self.0.close();
        self.0.wait().await;
    }
}
