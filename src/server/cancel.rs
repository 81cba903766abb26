//! Cancelling what a server runs, over a connection of its own.

use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::login::Endpoint;
use crate::net::{DialError, dial};
use crate::wire::build;

/// Longest a cancel's own connection may take.
const CANCEL_TIME_MAX: Duration = Duration::from_secs(10);

/// What PostgreSQL wants to see before it cancels a statement.
#[derive(Debug)]
pub struct CancelKey {
    endpoint: Endpoint,
    pid: i32,
    key: Box<[u8]>,
}

impl CancelKey {
    pub(super) fn new(endpoint: Endpoint, pid: i32, key: &[u8]) -> Self {
        Self { endpoint, pid, key: key.into() }
    }

    /// The server's process id, as in `pg_stat_activity`.
    #[must_use]
    pub const fn pid(&self) -> i32 {
        self.pid
    }

    /// Asks PostgreSQL to cancel, and returns when it has closed the connection: by then the
    /// signal was sent, so a later statement of somebody else cannot be hit.
    ///
    /// # Errors
    /// When PostgreSQL could not be reached or did not close. The signal may still come: close the
    /// server instead of lending it again.
    pub async fn cancel(&self) -> Result<(), DialError> {
        let io = |source| DialError::Io {
            host: self.endpoint.host.clone(),
            port: self.endpoint.port,
            source,
        };
        let exchange = async {
            let Endpoint { host, port, connector, .. } = &self.endpoint;
            let mut stream = dial(host, *port, connector).await?;
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
