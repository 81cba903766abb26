//! What is known of a server from its login on, for those who look from outside.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::SystemTime;

use parking_lot::Mutex;

use crate::tenant::TenantId;

static SERVERS: AtomicU64 = AtomicU64::new(1);

/// A number that no other server of this process has or had.
pub(super) fn next_id() -> u64 {
    SERVERS.fetch_add(1, Ordering::Relaxed)
}

/// A server, as an operator sees it.
#[derive(Debug)]
pub struct ServerFacts {
    /// Its number.
    pub id: u64,
    /// Its process id, as in `pg_stat_activity`.
    pub pid: i32,
    /// As configured: host name, address or directory of the socket.
    pub host: String,
    /// The address that was dialled; a unix socket has none.
    pub peer: Option<SocketAddr>,
    /// The pooler's own end.
    pub local: Option<SocketAddr>,
    /// Whether it speaks TLS.
    pub tls: bool,
    /// The database.
    pub database: String,
    /// The login role.
    pub user: String,
    /// When it logged in.
    pub since: SystemTime,
    /// It is closed when its client lets go.
    pub outdated: AtomicBool,
    /// Tenants that it has served, in their order. Locked when one is new to it.
    pub warm: Mutex<Vec<TenantId>>,
}

impl ServerFacts {
    /// Whether it is closed when its client lets go.
    #[must_use]
    pub fn is_outdated(&self) -> bool {
        self.outdated.load(Ordering::Relaxed)
    }
}
