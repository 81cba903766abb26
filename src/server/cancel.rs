//! Cancelling what a server runs, over a connection of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Mutex, Notify};
use tokio::time::timeout;

use crate::net::{Address, Connector, DialError, dial};
use crate::wire::build;

/// Longest a cancel's own connection may take.
const CANCEL_TIME_MAX: Duration = Duration::from_secs(10);

/// What PostgreSQL wants to see before it cancels a statement.
pub struct CancelKey {
    /// The address that was logged in to: the host's name may lead elsewhere by now.
    address: Address,
    connector: Connector,
    pid: i32,
    /// The server's number.
    server: u64,
    key: Box<[u8]>,
    /// Cancels that were promised and have not ended.
    in_flight: AtomicU32,
    /// A cancel ended without PostgreSQL's word: its signal may still come.
    in_doubt: AtomicBool,
    /// Taken by the one that is being sent: who asks often opens no more connections.
    turn: Mutex<()>,
    /// How many were begun to be sent.
    begun: AtomicU64,
    settled: Notify,
}

impl std::fmt::Debug for CancelKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Neither its key nor certificates.
        f.debug_struct("CancelKey").field("pid", &self.pid).finish_non_exhaustive()
    }
}

/// A cancel that was promised: until it is dropped, the server is not lent to anybody else.
#[derive(Debug)]
pub struct PendingCancel {
    key: Arc<CancelKey>,
    /// How many had begun when it was promised.
    begun_before: u64,
}

impl Drop for PendingCancel {
    fn drop(&mut self) {
        if self.key.in_flight.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.key.settled.notify_waiters();
        }
    }
}

impl PendingCancel {
    /// Asks PostgreSQL to cancel, and returns when it has closed the connection: by then the
    /// signal was sent, so a later statement of somebody else cannot be hit. One that began after
    /// this one was promised has done its work already.
    ///
    /// # Errors
    /// When PostgreSQL could not be reached or did not close; the server is then not lent again.
    pub async fn send(self) -> Result<(), DialError> {
        let _turn = self.key.turn.lock().await;
        if self.key.begun.load(Ordering::Acquire) > self.begun_before {
            return Ok(());
        }
        self.key.begun.fetch_add(1, Ordering::AcqRel);
        let result = self.key.cancel().await;
        if result.is_err() {
            self.key.in_doubt.store(true, Ordering::Release);
        }
        result
    }
}

impl CancelKey {
    pub(super) fn new(
        address: Address,
        connector: Connector,
        server: u64,
        (pid, key): (i32, &[u8]),
    ) -> Self {
        Self {
            address,
            connector,
            pid,
            server,
            key: key.into(),
            in_flight: AtomicU32::new(0),
            in_doubt: AtomicBool::new(false),
            turn: Mutex::new(()),
            begun: AtomicU64::new(0),
            settled: Notify::new(),
        }
    }

    /// Promises a cancel, from this moment on.
    #[must_use]
    pub fn promise(self: &Arc<Self>) -> PendingCancel {
        self.in_flight.fetch_add(1, Ordering::AcqRel);
        PendingCancel { key: Arc::clone(self), begun_before: self.begun.load(Ordering::Acquire) }
    }

    /// Whether no cancel is under way.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.in_flight.load(Ordering::Acquire) == 0
    }

    /// Whether a cancel's signal may still come, although nothing is under way.
    #[must_use]
    pub fn is_in_doubt(&self) -> bool {
        self.in_doubt.load(Ordering::Acquire)
    }

    /// Waits until no cancel is under way.
    pub async fn settle(&self) {
        loop {
            let mut settled = std::pin::pin!(self.settled.notified());
            settled.as_mut().enable();
            if self.is_settled() {
                return;
            }
            settled.await;
        }
    }

    /// The server's process id, as in `pg_stat_activity`.
    #[must_use]
    pub const fn pid(&self) -> i32 {
        self.pid
    }

    /// The server's number, [`super::Life::id`].
    #[must_use]
    pub const fn server(&self) -> u64 {
        self.server
    }

    async fn cancel(&self) -> Result<(), DialError> {
        let io = |source| self.address.failed(source);
        let exchange = async {
            let mut stream = dial(&self.address, &self.connector).await?;
            let mut request = BytesMut::new();
            build::cancel_request(self.pid, &self.key, &mut request);
            stream.write_all(&request).await.map_err(io)?;
            stream.flush().await.map_err(io)?;
            // PostgreSQL answers with the end of the stream; a reset says the same.
            let _ = stream.read(&mut [0; 1]).await;
            Ok(())
        };
        match timeout(CANCEL_TIME_MAX, exchange).await {
            Ok(result) => result,
            Err(_) => Err(io(std::io::ErrorKind::TimedOut.into())),
        }
    }
}
