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
mod sql_prepared;
mod statements;
mod targets;
mod texts;
mod to_client;
mod to_server;
mod units;
mod unnamed;
mod welcome;

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;
use tokio::sync::Semaphore;

pub use greet::{GreetError, Greeting, greet, tell};
pub use hello::Hello;
pub use login::{DRAIN_GRACE, login};
pub use refusal::Refusal;
pub use session::Session;
pub use targets::Targets;
pub use welcome::Welcomes;

use crate::auth::{Credentials, Failures};
use crate::config::{Config, Tenant};
use crate::net::{Acceptor, Connector, Shutdown};
use crate::pool::{CancelRegistry, Pools};
use crate::prepared::Statements;
use crate::server::{Endpoint, Keychain};
use crate::stats::Stats;
use crate::tenant::TenantId;

/// Users and secrets: what is read again while the pooler runs.
pub struct Access {
    /// The configuration they were read from.
    pub config: Arc<Config>,
    /// What clients' proofs are checked against.
    pub credentials: Credentials,
}

/// What all clients share.
pub struct Shared {
    /// The configuration, as it was when the pooler started.
    pub config: Arc<Config>,
    /// Who may connect, as it was last read.
    pub access: RwLock<Arc<Access>>,
    /// Keys that clients have shown.
    pub keychain: Arc<Keychain>,
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

impl Shared {
    /// Who may connect now. A login that has begun goes on with what it began with.
    #[must_use]
    pub fn access(&self) -> Arc<Access> {
        Arc::clone(&self.access.read())
    }

    /// A tenant, with the password that its servers are logged in to by now.
    #[must_use]
    pub fn tenant(&self, id: &TenantId) -> Option<Tenant> {
        let mut tenant = self.config.tenant(id)?;
        let access = self.access();
        if !Arc::ptr_eq(&access.config, &self.config)
            && let Some(now) = access.config.tenant(id).filter(|now| now.user == tenant.user)
        {
            tenant.password = now.password;
        }
        Some(tenant)
    }

    /// Where a tenant's servers are, and how they are logged in to.
    #[must_use]
    pub fn home(&self, tenant: &Tenant) -> (&Arc<Pools>, Endpoint) {
        let (connector, pools) = &self.clusters[&tenant.cluster.name];
        let endpoint = Endpoint::new(
            &tenant.cluster,
            connector.clone(),
            &tenant.database,
            &tenant.user,
            tenant.password.clone(),
            &self.keychain,
        );
        (pools, endpoint)
    }
}
