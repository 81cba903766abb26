//! Threads that serve clients, each with an event loop of its own. Which one serves whom: `placing`.
//!
//! One more is there and does nothing, until another one does not answer any more: see `watchdog`.

use std::io;
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tracing::error;

use crate::engine::Worker;

/// Longest a thread may take to end. One that does not answer ends with the process.
const END_TIME_MAX: Duration = Duration::from_secs(1);
/// Between two looks whether it has.
const LOOK: Duration = Duration::from_millis(1);

pub(super) struct Workers {
    threads: Vec<JoinHandle<()>>,
    workers: Vec<Worker>,
    spare: Worker,
}

impl Workers {
    /// Starts them; their timers run in the current tokio runtime.
    pub(super) fn start(count: usize) -> io::Result<Self> {
        let (spare, thread) = Worker::start("spare-worker".to_owned(), Handle::current())?;
        let mut all = Self { threads: vec![thread], workers: Vec::new(), spare };
        for number in 0..count {
            let (worker, thread) = Worker::start(format!("worker-{number}"), Handle::current())?;
            all.workers.push(worker);
            all.threads.push(thread);
        }
        Ok(all)
    }

    pub(super) fn all(&self) -> &[Worker] {
        &self.workers
    }

    /// The one that serves who comes while another one does not answer.
    pub(super) const fn spare(&self) -> &Worker {
        &self.spare
    }

    pub(super) fn join(mut self) {
        self.end();
    }

    fn end(&mut self) {
        for worker in self.workers.iter().chain([&self.spare]) {
            worker.stop();
        }
        let deadline = Instant::now() + END_TIME_MAX;
        for thread in self.threads.drain(..) {
            while !thread.is_finished() && Instant::now() < deadline {
                sleep(LOOK);
            }
            let name = thread.thread().name().unwrap_or_default().to_owned();
            if !thread.is_finished() {
                error!(name, "a worker does not end; it is left behind");
            } else if thread.join().is_err() {
                error!(name, "a worker panicked");
            }
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.end();
    }
}
