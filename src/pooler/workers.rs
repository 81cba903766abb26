//! Threads that serve clients, each with an event loop of its own. Which one serves whom: `placing`.

use std::io;
use std::thread::JoinHandle;

use tokio::runtime::Handle;
use tracing::error;

use crate::engine::Worker;

pub(super) struct Workers {
    threads: Vec<JoinHandle<()>>,
    workers: Vec<Worker>,
}

impl Workers {
    /// Starts them; their timers run in the current tokio runtime.
    pub(super) fn start(count: usize) -> io::Result<Self> {
        let mut all = Self { threads: Vec::new(), workers: Vec::new() };
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

    pub(super) fn join(mut self) {
        self.end();
    }

    fn end(&mut self) {
        for worker in &self.workers {
            worker.stop();
        }
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                error!("a worker panicked");
            }
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.end();
    }
}
