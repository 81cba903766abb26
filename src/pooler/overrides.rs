//! What an operator sets for a tenant or a database on the console.

use std::sync::Arc;

use tracing::info;

use super::Pooler;
use super::reload::Why;
use crate::admin::{Change, DatabaseChange, Operator};
use crate::config::{Config, Overrides, State};
use crate::tenant::TenantId;

impl Pooler {
    /// Changes what holds for a tenant, before all that is written.
    ///
    /// # Errors
    /// What is wrong with it; everything stays as it is.
    pub(super) fn change_tenant(
        &self,
        id: &TenantId,
        change: Change,
        by: &Operator,
    ) -> Result<(), String> {
        let old = &self.shared.access().config;
        let said = format!("{change:?}");
        self.override_by(changed(old, id, change)?)?;
        let Operator { user, client } = by;
        info!(user, client, tenant = id.as_str(), change = said, "tenant changed on the console");
        Ok(())
    }

    /// Changes what holds for tenants of a database, or of all.
    ///
    /// # Errors
    /// What is wrong with it; everything stays as it is.
    pub(super) fn change_database(
        &self,
        name: Option<&str>,
        change: DatabaseChange,
        by: &Operator,
    ) -> Result<(), String> {
        let mut overrides = (*self.shared.access().config.overrides).clone();
        match (name, change) {
            (None, DatabaseChange::State(state)) => overrides.everywhere = Some(state),
            (None, _) => {
                overrides.everywhere = None;
                overrides.databases.values_mut().for_each(|database| database.state = None);
            }
            (Some(name), change) => {
                let others = overrides.everywhere.map(|_| State::Active);
                let database = overrides.databases.entry(name.to_owned()).or_default();
                match change {
                    DatabaseChange::State(state) => database.state = Some(state),
                    DatabaseChange::Resume => database.state = others,
                    DatabaseChange::Disable => database.disabled = true,
                    DatabaseChange::Enable => database.disabled = false,
                }
            }
        }
        overrides.databases.retain(|_, it| it.disabled || it.state.is_some());
        self.override_by(overrides)?;
        let Operator { user, client } = by;
        info!(user, client, database = name, ?change, "database changed on the console");
        Ok(())
    }

    fn override_by(&self, overrides: Overrides) -> Result<(), String> {
        let old = self.shared.access();
        // What was wrong before, a reload may have made so.
        let (_, known) = old.config.with_overrides(&old.config.overrides);
        let (config, mut faults) = old.config.with_overrides(&Arc::new(overrides));
        faults.retain(|fault| !known.contains(fault));
        let said = faults.iter().map(|fault| format!("{}: {}", fault.path, fault.problem));
        let said: Vec<String> = said.collect();
        if !said.is_empty() {
            return Err(said.join("; "));
        }
        let known = old.credentials.renew(&config.users);
        self.install(Arc::new(config), old.acceptor.clone(), known, Why::Console)
    }
}

fn changed(config: &Config, id: &TenantId, change: Change) -> Result<Overrides, String> {
    if config.tenant(id).is_none() {
        return Err(format!("tenant \"{id}\" does not exist"));
    }
    let mut overrides = (*config.overrides).clone();
    let mut own = overrides.tenants.remove(id.as_str()).unwrap_or_default();
    match change {
        Change::Set { key, value } => drop(own.insert(key, value)),
        Change::Reset => own.clear(),
        Change::Resume => {
            own.remove("state");
            let mut without = overrides.clone();
            without.tenants.insert(id.to_string(), own.clone());
            let (written, _) = config.with_overrides(&Arc::new(without));
            // What is written, or set for the database, may say that it rests, too.
            if !written.tenant(id).is_some_and(|tenant| tenant.availability.is_served()) {
                own.insert("state".to_owned(), "active".into());
            }
        }
    }
    if !own.is_empty() {
        overrides.tenants.insert(id.to_string(), own);
    }
    Ok(overrides)
}
