//! A server that is closed in the middle of something keeps its place until PostgreSQL has ended its backend.
//!
//! PostgreSQL reads nothing while it runs a statement: a socket that is closed ends neither a statement that ignores its cancel nor
//! one that waits for a lock. If its place were free by then, the next server would be one more than the limit says, and who
//! leaves again and again would fill PostgreSQL's `max_connections`. So the socket stays open until the backend's end is read
//! from it; what was cancelled and does not end is terminated, over a login of its own. As long as the socket is open no other
//! backend has that process id.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use tracing::{info, warn};

use super::loan::Linked;
use crate::server::{Endpoint, Server, login};

/// How long a backend is given to end: after its cancel, and after each termination.
const GRACE: Duration = Duration::from_secs(5);

/// Longest pause between two terminations of the same backend.
const PAUSE_MAX: Duration = Duration::from_mins(1);

/// Reads until PostgreSQL has closed the connection.
async fn ended(server: &mut Server) {
    let stream = server.stream();
    // It begins nothing more: behind what it runs it finds the end.
    if stream.shutdown().await.is_err() {
        return;
    }
    let mut answers = vec![0; 8 * 1024];
    while matches!(stream.read(&mut answers).await, Ok(1..)) {}
}

/// `true`: PostgreSQL has sent the signal.
async fn terminate(endpoint: &Endpoint, pid: i32) -> bool {
    let asked = async {
        let mut server = login(endpoint).await.map_err(|error| error.to_string())?;
        let sql = format!("SELECT pg_catalog.pg_terminate_backend({pid})");
        let asked = server.ask(None, &sql).await.map_err(|error| error.to_string());
        server.terminate();
        asked
    };
    match asked.await {
        Ok(_) => true,
        Err(problem) => {
            warn!(pid, problem, "a server could not be terminated: it keeps its place");
            false
        }
    }
}

async fn wait_for_its_end(server: &mut Server, endpoint: &Endpoint) {
    if timeout(GRACE, ended(server)).await.is_ok() {
        return;
    }
    let pid = server.cancel_key.pid();
    warn!(pid, "a server does not end after its cancel: it is terminated");
    let mut pause = GRACE;
    loop {
        terminate(endpoint, pid).await;
        if timeout(pause, ended(server)).await.is_ok() {
            return info!(pid, "the server has ended");
        }
        pause = PAUSE_MAX.min(pause * 2);
    }
}

impl Linked {
    /// Closes the server, of which a cancel was asked or that runs nothing, and frees its place when its backend is gone.
    pub async fn end_backend(mut self) {
        let stop = self.pools().stop.clone();
        stop.run_until_cancelled(self.wait_for_its_end()).await;
    }

    /// The same of one that waits for somebody's lock in its scrub: nobody is to wait for that. One at a time gives its place
    /// to others meanwhile.
    pub(super) async fn end_scrub(mut self) {
        let pools = Arc::clone(self.pools());
        if pools.ends_beyond_limit.swap(true, Ordering::AcqRel) {
            return self.end_backend().await;
        }
        let endpoint = self.endpoint();
        if let Some(mut server) = self.give_up_place() {
            pools.stop.run_until_cancelled(wait_for_its_end(&mut server, &endpoint)).await;
        }
        pools.ends_beyond_limit.store(false, Ordering::Release);
    }

    async fn wait_for_its_end(&mut self) {
        let endpoint = self.endpoint();
        wait_for_its_end(self.server(), &endpoint).await;
    }

    /// What its pool logs in by now: the password may be a new one.
    fn endpoint(&self) -> Arc<Endpoint> {
        let pool = self.pool();
        Arc::clone(&self.pools().desk.0.lock().rack(pool).endpoint)
    }
}
