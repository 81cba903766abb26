//! What is read again while the pooler runs: who may connect, as whom, and where tenants live.
//!
//! One value, replaced as a whole: a login, or a look at a tenant, goes by one of them from its beginning
//! to its end.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use super::targets::Interned;
use crate::auth::Credentials;
use crate::config::{Config, Guard, Policy, ServerSharing, Tenant};
use crate::net::{Acceptor, Connector};
use crate::pool::Pools;
use crate::server::{Endpoint, Keychain};
use crate::tenant::TenantId;

/// TLS towards the servers of a cluster, and the servers.
pub type Clusters = HashMap<String, (Connector, Arc<Pools>)>;

/// What holds now.
pub struct Access {
    /// The configuration.
    pub config: Arc<Config>,
    /// What clients' proofs are checked against.
    pub credentials: Credentials,
    /// TLS towards clients.
    pub acceptor: Acceptor,
    /// Clusters by name: all that `config` has.
    pub clusters: Clusters,
    /// Which one it is; a later one has a larger number.
    pub number: u64,
    /// Keys that stand for passwords.
    pub keychain: Arc<Keychain>,
    tenants: Interned<TenantId, Tenant>,
    policies: Interned<(TenantId, bool), Policy>,
    /// Once somebody has asked.
    names: OnceLock<HashMap<String, String>>,
}

impl Access {
    /// From its parts.
    #[must_use]
    pub fn new(
        config: Arc<Config>,
        credentials: Credentials,
        acceptor: Acceptor,
        clusters: Clusters,
        number: u64,
        keychain: Arc<Keychain>,
    ) -> Self {
        let (tenants, policies, names) = Default::default();
        Self { config, credentials, acceptor, clusters, number, keychain, tenants, policies, names }
    }

    /// How an operator knows a database: by the name that clients ask for, where that is another.
    #[must_use]
    pub fn shown_name<'a>(&'a self, database: &'a str) -> &'a str {
        let names = self.names.get_or_init(|| self.config.names_of_databases());
        names.get(database).map_or(database, String::as_str)
    }

    /// The tenant of that name, if there is one. Its clients share it.
    #[must_use]
    pub fn tenant(&self, id: &TenantId) -> Option<Arc<Tenant>> {
        if let Some(known) = self.tenants.known(id) {
            return Some(known);
        }
        let tenant = self.config.tenant(id)?;
        Some(self.tenants.get(id.clone(), |_| tenant))
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
        let own = tenant.password.is_some() && tenant.password != tenant.cluster.password;
        let endpoint = if own { endpoint.by_own_password() } else { endpoint };
        match tenant.server_sharing {
            ServerSharing::All => (pools, endpoint),
            ServerSharing::Tenant => (pools, endpoint.only_for(tenant.id.clone())),
        }
    }

    /// What a tenant's clients may do; whose tenant is named by its search_path may set that.
    pub(super) fn policy(&self, tenant: &Tenant, by_path: bool) -> Arc<Policy> {
        self.policies.get((tenant.id.clone(), by_path), |_| {
            let mut policy = tenant.policy.clone();
            if by_path {
                policy.guard = Guard::Off;
            }
            policy
        })
    }
}
