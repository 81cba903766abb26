//! The configuration is read again: users, secrets, certificates, clusters, tenants and their quotas.
//!
//! It is read and checked whole, and every file it names, before anything of it counts; then all of it counts
//! at once. Clients stay. A session goes by what is new from its next transaction on; one whose tenant is
//! gone, suspended or draining ends when it is between two transactions. `[general]` waits for a restart.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::sync::Arc;

use tracing::{error, info, warn};

use super::{Pooler, Servers, bound, credentials};
use crate::auth::Credentials;
use crate::client::{Access, Shared};
use crate::config::{Availability, Config};
use crate::net::Acceptor;
use crate::tenant::TenantId;

/// Why something else holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// Files were read again, or the registry was asked.
    Files,
    /// An operator said so on the console.
    Console,
}

impl Pooler {
    /// Takes what `load` gives.
    ///
    /// # Errors
    /// What is wrong with it; it was logged, and everything stays as it is.
    pub async fn reload<E: Display + Send + 'static>(
        &self,
        load: impl FnOnce() -> Result<Config, E> + Send + 'static,
    ) -> Result<(), String> {
        let old = self.shared.access();
        // Files are read and passwords hashed: not where clients are accepted.
        let rows = Arc::clone(&self.registered.lock());
        let read = tokio::task::spawn_blocking(move || {
            let config = load().map_err(|error| error.to_string())?;
            let acceptor = Acceptor::new(&config.client_tls).map_err(|error| error.to_string())?;
            let known = old.credentials.renew(&config.users);
            // Without a registry, nobody is registered.
            let config = match &config.registry {
                Some(_) => config.with_registry(&rows).config,
                None => config,
            };
            let (config, faults) = config.with_overrides(&old.config.overrides);
            for fault in faults {
                warn!(
                    path = fault.path,
                    problem = fault.problem,
                    "what was set on the console does not hold"
                );
            }
            Ok::<_, String>((Arc::new(config), acceptor, known))
        });
        match read.await.map_err(|error| error.to_string()).flatten() {
            Ok((config, acceptor, known)) => self.install(config, acceptor, known, Why::Files),
            Err(error) => {
                error!(error, "configuration not reloaded: the old one stays");
                Err(error)
            }
        }
    }

    /// What holds from now on.
    ///
    /// # Errors
    /// What is wrong with its certificates; everything stays as it is.
    pub(super) fn install(
        &self,
        config: Arc<Config>,
        acceptor: Acceptor,
        known: Credentials,
        why: Why,
    ) -> Result<(), String> {
        let old = self.shared.access();
        let (tasks, stats, everywhere) =
            (&self.servers, &self.shared.stats, &self.shared.everywhere);
        let place = Servers { tasks, workers: &self.workers, stats, everywhere };
        let clusters = match place.clusters(&config, &old.clusters) {
            Ok(clusters) => clusters,
            Err(error) => {
                error!(%error, "configuration not reloaded: the old one stays");
                return Err(error.to_string());
            }
        };
        let keychain = Arc::clone(&self.shared.keychain);
        let known = bound(known, &acceptor);
        let credentials = credentials(known, &config, &clusters, &keychain);
        let number = old.number + 1;
        let access = Access::new(config, credentials, acceptor, clusters, number, keychain);
        apply(access, &self.shared, why);
        // Who is idle may have to go.
        self.shared.shutdown.wake_all();
        Ok(())
    }
}

fn apply(access: Access, shared: &Shared, why: Why) {
    let (old, new) = (shared.access(), Arc::new(access));
    let differences = old.config.differences(&new.config);
    let secret = |access: &Access, user: &str| access.config.users.secret(user).cloned();
    shared.keychain.retain(|user| secret(&old, user) == secret(&new, user));
    // Nobody comes by what was, and nobody of a tenant that moves gets a server, before all know where to.
    for (_, pools) in old.clusters.values().chain(new.clusters.values()) {
        pools.outdate(new.number);
        for id in pools.tenants() {
            let stays = old.tenant(&id).zip(new.tenant(&id)).is_some_and(|(a, b)| a.lives_with(&b));
            if !stays {
                pools.hold(&id);
            }
        }
    }
    shared.renew(Arc::clone(&new));
    shared.welcomes.forget_all();
    for (name, (_, pools)) in &new.clusters {
        if let Some(cluster) = new.config.clusters.get(name) {
            pools.renew(Arc::clone(cluster));
        }
    }
    let mut paused = paused_by_name(&differences, &old, &new);
    for (name, (_, pools)) in &old.clusters {
        for id in pools.tenants() {
            settle(&id, name, &old, &new);
            if is_paused(&id, &new) && !is_paused(&id, &old) {
                paused.insert(id);
            }
        }
        if !new.clusters.contains_key(name) {
            // Who holds one of its servers ends what it does; it is closed then.
            pools.stop();
        }
    }
    let users = new.config.users.secrets().count();
    match why {
        Why::Files => info!(users, changed = differences.join(", "), "configuration reloaded"),
        // Who changed what is logged by who was told to.
        Why::Console => {}
    }
    if why == Why::Files {
        new.config.users.warn();
    }
    if format!("{:?}", shared.general) != format!("{:?}", new.config.general) {
        warn!("changes of [general] need a restart");
    }
    if differences.iter().any(|path| path == "http") {
        warn!("changes of [http] need a restart");
    }
    shared.everywhere.forget(|id| is_paused(id, &new));
    shared.everywhere.pause(paused);
}

/// Tenants that this reload pauses, of those that it changes by their names: they may have no clients.
fn paused_by_name(differences: &[String], old: &Access, new: &Access) -> BTreeSet<TenantId> {
    let name = |path: &'_ String| {
        let (place, name) = path.split_once('.')?;
        ["tenants", "registry", "console"].contains(&place).then(|| name.to_owned())
    };
    let names = differences.iter().filter_map(name);
    let ids = names.filter_map(|name| new.config.tenancy.name_pattern.parse(&name).ok());
    ids.filter(|id| is_paused(id, new) && !is_paused(id, old)).collect()
}

fn is_paused(id: &TenantId, access: &Access) -> bool {
    access.tenant(id).is_some_and(|tenant| tenant.availability == Availability::Paused)
}

/// A tenant that has clients: what holds for it, and where those go that wait.
fn settle(id: &TenantId, cluster: &str, old: &Access, new: &Access) {
    let pools = &old.clusters[cluster].1;
    match new.tenant(id) {
        Some(tenant) if tenant.cluster.name == cluster => {
            let (_, endpoint) = new.home(&tenant);
            pools.amend(&tenant, Some(&endpoint));
            if !tenant.availability.lets_in() {
                pools.dismiss(id);
            }
        }
        // It waits where it is; where it goes is looked at when it is let go.
        Some(tenant) if tenant.availability == Availability::Paused => pools.amend(&tenant, None),
        Some(_) | None => pools.dismiss(id),
    }
}
