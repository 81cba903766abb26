//! One client: greet, log in, and then hold a server only while it has something to do.
//!
//! Promises: before authentication a client costs a few bytes and a deadline; a session relays only
//! through a [`crate::pool::Linked`] server; what a client is told about a failure is decided in
//! one place, [`refusal`]; bytes pass through untouched, once scanned, and are never gathered.
//!
//! Uses `pool`, `auth`, `flow`, `server`. Knows no configuration file and no signals.

mod absorb;
mod answers;
mod by_path;
mod changes;
mod departure;
mod events;
mod greet;
mod guard;
mod hello;
mod link;
mod login;
mod observe;
mod prepared;
mod refusal;
mod session;
mod targets;
mod to_client;
mod to_server;
mod units;
mod welcome;

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::Semaphore;

pub use greet::{GreetError, Greeting, greet, tell};
pub use hello::Hello;
pub use login::{DRAIN_GRACE, login};
pub use refusal::Refusal;
pub use session::Session;
pub use targets::Targets;
pub use welcome::Welcomes;

use crate::auth::{Credentials, Failures};
use crate::config::Config;
use crate::net::{Acceptor, Connector, Shutdown};
use crate::pool::{CancelRegistry, Pools};
use crate::prepared::Statements;
use crate::stats::Stats;

/// What all clients share.
pub struct Shared {
    /// The configuration.
    pub config: Config,
    /// Users' secrets.
    pub credentials: Credentials,
    /// Who has failed to prove itself.
    pub failures: Failures,
    /// TLS towards clients.
    pub acceptor: Acceptor,
    /// TLS towards servers, and the servers, by the cluster's name.
    pub clusters: HashMap<String, (Connector, Arc<Pools>)>,
    /// Keys by which clients cancel.
    pub cancels: Arc<CancelRegistry>,
    /// What clients are told at login.
    pub welcomes: Welcomes,
    /// States that clients are in.
    pub targets: Targets,
    /// Statements that clients have prepared.
    pub statements: Statements,
    /// Room for clients, `max_client_conn`.
    pub room: Arc<Semaphore>,
    /// Whether the pooler stops.
    pub shutdown: Arc<Shutdown>,
    /// Counters.
    pub stats: Arc<Stats>,
}
