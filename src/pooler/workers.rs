//! Threads that serve clients, each with an event loop of its own. A client never moves.

use std::io;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::CancellationToken;
use tracing::error;

/// Longest a worker waits for what it computes off its thread.
const BLOCKING_TIME_MAX: Duration = Duration::from_secs(1);

pub(super) struct Workers {
    threads: Vec<JoinHandle<()>>,
    handles: Vec<Handle>,
    stop: CancellationToken,
}

impl Workers {
    pub(super) fn start(count: usize) -> io::Result<Self> {
        let stop = CancellationToken::new();
        let (mut threads, mut handles) = (Vec::new(), Vec::new());
        for number in 0..count {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            handles.push(runtime.handle().clone());
            let stop = stop.clone();
            let thread = thread::Builder::new().name(format!("worker-{number}"));
            threads.push(thread.spawn(move || {
                runtime.block_on(stop.cancelled());
                runtime.shutdown_timeout(BLOCKING_TIME_MAX);
            })?);
        }
        Ok(Self { threads, handles, stop })
    }

    pub(super) fn handles(&self) -> Vec<Handle> {
        self.handles.clone()
    }

    pub(super) const fn count(&self) -> usize {
        self.threads.len()
    }

    pub(super) fn join(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.stop.cancel();
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
