//! Why a client gets no server.

use std::time::Duration;

use super::turns::TooManyClients;
use crate::server::LoginError;
use crate::tenant::TenantId;

/// Why a client gets no place among those of its tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SeatError {
    /// The tenant is at `max_client_connections`.
    #[error(transparent)]
    TooManyClients(#[from] TooManyClients),
    /// What is known of the tenant holds no more: look again.
    #[error("the configuration has changed meanwhile")]
    Outdated,
}

/// Why a checkout gave no server. The session stays: nothing of the statement has run.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CheckoutError {
    /// No server came free within `query_wait_timeout`.
    #[error("no server came free within {waited:?}")]
    TimedOut {
        /// The limit.
        waited: Duration,
        /// Servers the tenant had then, and may have.
        tenant: (usize, usize),
        /// Servers the cluster had then, and may have.
        cluster: (usize, usize),
        /// Who held most of them.
        holder: Option<Box<Holder>>,
        /// What it waited for besides a server.
        stop: Option<Stop>,
        /// Why PostgreSQL could not be logged in to, if that is what was waited for.
        login: Option<LoginError>,
    },
    /// The tenant is at `max_waiting_clients`. Other tenants are not affected.
    #[error("already {limit} clients wait for a server")]
    QueueFull {
        /// The limit.
        limit: usize,
    },
    /// PostgreSQL cannot be logged in to, and waiting would not help.
    #[error("{0}")]
    Login(LoginError),
    /// The tenant's servers are elsewhere by now, or it is to be looked at again: ask anew.
    #[error("the tenant has moved")]
    Moved,
    /// The pooler stops.
    #[error("the pooler is shutting down")]
    Stopping,
}

/// Why a tenant gets no server, whatever servers there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// The operator has paused it.
    Paused,
    /// So many of its servers were closed for what its clients did that the next ones wait.
    Owes,
}

/// A tenant that holds servers others wait for, or its own clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Who it is.
    pub tenant: TenantId,
    /// How many.
    pub servers: usize,
    /// Its client that has held one for longest.
    pub oldest: Option<Oldest>,
}

/// How long a client has held its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Oldest {
    /// So long, or its transaction has been idle for so long.
    pub time: Duration,
    /// What it does with it.
    pub holds: Holds,
}

/// What a client does with its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    /// PostgreSQL works for it.
    Busy,
    /// Nothing, in a transaction.
    Idle,
    /// It keeps it between transactions.
    Kept,
}
