//! `tenant_from = "search_path"`: whose statement it is, is what the client's search_path says when a
//! server is asked for.
//!
//! The tenant is the first name in the path that is one; else `default_tenant`. Its quotas are
//! charged, its baseline lies under what the client has set, its servers are used.

use std::sync::Arc;

use tracing::debug;

use super::events::Next;
use super::login::{may_enter, not_disabled, take_seat};
use super::refusal::Refusal;
use super::session::Session;
use crate::config::{Config, Tenant};
use crate::server::Target;
use crate::tenant::{GucName, SessionState, TenantId};

/// What a session needs whose tenant may change.
pub(super) struct ByPath {
    /// The client's own start-up settings.
    pub(super) startup: SessionState,
    /// The state for which the tenant was last looked up.
    pub(super) seen: Arc<Target>,
}

impl Session {
    /// Whether the search_path may name another tenant than the session's.
    #[inline]
    pub(super) fn may_change_tenant(&self) -> bool {
        self.by_path.as_ref().is_some_and(|path| !Arc::ptr_eq(&path.seen, &self.target))
    }

    /// Becomes the tenant that the search_path names.
    pub(super) async fn follow_path(&mut self) -> Next {
        let tenant = match self.tenant_in_path() {
            Ok(tenant) if tenant.id == self.target.tenant => Ok(()),
            Ok(tenant) => self.become_tenant(&tenant).await,
            Err(refusal) => Err(refusal),
        };
        if let Err(refusal) = tenant {
            if refusal.is_outdated() {
                return Next::Go;
            }
            return self.refuse_unit(&refusal).await;
        }
        if let Some(path) = &mut self.by_path {
            path.seen = Arc::clone(&self.target);
        }
        Next::Go
    }

    fn tenant_in_path(&self) -> Result<Arc<Tenant>, Refusal> {
        let access = self.shared.access();
        let config = &access.config;
        let names = self.target.session.search_path();
        let known = names.iter().filter_map(|name| config.tenancy.name_pattern.parse(name).ok());
        let id = known.into_iter().find(|id| access.tenant(id).is_some());
        let id = id.or_else(|| default_tenant(config)).ok_or_else(|| Refusal::NoTenant {
            accepted: config.tenancy.tenant_from_text.clone(),
        })?;
        may_enter(&self.user, &id, &access)
    }

    async fn become_tenant(&mut self, tenant: &Arc<Tenant>) -> Result<(), Refusal> {
        let startup = self.by_path.as_ref().map(|path| path.startup.clone()).unwrap_or_default();
        let own = self.target.session.beyond(&self.of.baseline);
        let access = self.shared.access();
        // What was true of the tenant a moment ago need not be: it is looked at once more.
        let tenant = &access
            .tenant(&tenant.id)
            .ok_or_else(|| Refusal::UnknownTenant { tenant: tenant.id.to_string() })?;
        not_disabled(tenant, &access)?;
        let seat = take_seat(tenant, &access, &self.shared)?;
        let state = tenant.baseline.overlay(&own);
        let welcomes = &self.shared.welcomes;
        let welcome = welcomes.get(tenant, &state, &own, &seat, &self.shared.targets).await?;
        debug!(tenant = tenant.id.as_str(), "search_path names another tenant");
        // RESET leads to the path the session had before it named anybody.
        let path = GucName::new("search_path").expect("a name PostgreSQL has");
        let mut home = tenant.baseline.overlay(&startup);
        if let Some(value) = self.home.session.get("search_path") {
            home = home.with(path, value.clone());
        }
        self.home = self.shared.targets.get(&tenant.id, home);
        self.target = welcome.target;
        self.seat = seat;
        self.policy = access.policy(tenant, true);
        (self.of, self.version) = (Arc::clone(tenant), access.number);
        *self.registration.slot.facts().tenant.lock() = tenant.id.clone();
        self.tally = self.shared.stats.tallies.of(&tenant.id, &tenant.database);
        Ok(())
    }
}

fn default_tenant(config: &Config) -> Option<TenantId> {
    let tenancy = &config.tenancy;
    tenancy.name_pattern.parse(tenancy.default_tenant.as_deref()?).ok()
}
