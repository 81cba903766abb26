//! SIGHUP: the configuration is read again, and with it users and secrets.
//!
//! It is read and checked whole before anything of it counts. Clients stay; the next login, on either
//! side, goes by what is new. What else has changed is named in the log and waits for a restart.

use std::sync::Arc;

use tracing::{error, info, warn};

use super::{Pooler, credentials};
use crate::client::{Access, Shared};
use crate::config::Config;

impl Pooler {
    /// Takes users and secrets from `load`; if it fails, everything stays as it is.
    pub async fn reload<E: std::fmt::Display + Send + 'static>(
        &self,
        load: impl FnOnce() -> Result<Config, E> + Send + 'static,
    ) {
        let shared = Arc::clone(&self.shared);
        // Files are read and passwords hashed: not where clients are accepted.
        let read = tokio::task::spawn_blocking(move || {
            let config = Arc::new(load().map_err(|error| error.to_string())?);
            Ok::<_, String>(access(config, &shared))
        });
        match read.await.map_err(|error| error.to_string()).flatten() {
            Ok(access) => apply(access, &self.shared),
            Err(error) => error!(error, "configuration not reloaded: the old one stays"),
        }
    }
}

/// What is kept for logins of a configuration.
fn access(config: Arc<Config>, shared: &Shared) -> Access {
    let old = shared.access();
    let renewed = old.credentials.renew(&config.users);
    let credentials = credentials(renewed, &config, &shared.clusters, &shared.keychain);
    Access { config, credentials }
}

fn apply(access: Access, shared: &Shared) {
    let old = shared.access();
    let new = Arc::new(access);
    let waiting = shared.config.differences(&new.config);
    let users = new.config.users.secrets().count();
    *shared.access.write() = Arc::clone(&new);
    let secret = |access: &Access, user: &str| access.config.users.secret(user).cloned();
    shared.keychain.retain(|user| secret(&old, user) == secret(&new, user));
    for (_, pools) in shared.clusters.values() {
        for tenant in pools.tenants().iter().filter_map(|id| shared.tenant(id)) {
            // Its pool logs in with the tenant's password of now.
            let (pools, endpoint) = shared.home(&tenant);
            pools.renew(&endpoint);
        }
    }
    info!(users, "configuration reloaded");
    if !waiting.is_empty() {
        let sections = waiting.join(", ");
        warn!(sections, "changes other than users and secrets need a restart");
    }
}
