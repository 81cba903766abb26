//! Tasks that somebody waits for.

use std::future::Future;

use tokio_util::task::TaskTracker;

use crate::engine::Worker;

/// A group of tasks. Whoever owns the group can wait until all of them have ended.
#[derive(Debug, Clone, Default)]
pub struct Tasks(TaskTracker);

impl Tasks {
    /// Runs a future as a task of the current worker; elsewhere, of the current tokio runtime.
    pub fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        match Worker::current() {
            Some(worker) => self.spawn_on(future, &worker),
            None => drop(self.0.spawn(future)),
        }
    }

    /// Runs a future as a task of a given worker.
    pub fn spawn_on(&self, future: impl Future<Output = ()> + Send + 'static, worker: &Worker) {
        worker.spawn(self.0.track_future(future));
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Waits until no task is left. More may be spawned meanwhile; they are waited for too.
    pub async fn wait(&self) {
        self.0.close();
        self.0.wait().await;
    }
}
