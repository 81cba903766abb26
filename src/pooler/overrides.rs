//! What an operator sets for a tenant on the console.

use std::sync::Arc;

use tracing::info;

use super::Pooler;
use crate::admin::Change;
use crate::config::Config;
use crate::tenant::TenantId;

impl Pooler {
    /// Changes what holds for a tenant, before all that is written.
    ///
    /// # Errors
    /// What is wrong with it; everything stays as it is.
    pub(super) fn change_tenant(&self, id: &TenantId, change: Change) -> Result<(), String> {
        let old = self.shared.access();
        let said = format!("{change:?}");
        let config = changed(&old.config, id, change)?;
        let known = old.credentials.renew(&config.users);
        self.install(Arc::new(config), old.acceptor.clone(), known)?;
        info!(tenant = %id, change = said, "tenant changed on the console");
        Ok(())
    }
}

fn changed(config: &Config, id: &TenantId, change: Change) -> Result<Config, String> {
    if config.tenant(id).is_none() {
        return Err(format!("tenant \"{id}\" does not exist"));
    }
    let mut overrides = (*config.overrides).clone();
    let mut own = overrides.remove(id.as_str()).unwrap_or_default();
    match change {
        Change::Set { key, value } => drop(own.insert(key, value)),
        Change::Reset => own.clear(),
        Change::Resume => {
            own.remove("state");
            let rest = overrides.iter().map(|(name, table)| (name.clone(), table.clone()));
            let without = rest.chain([(id.to_string(), own.clone())]).collect();
            let (written, _) = config.with_overrides(&Arc::new(without));
            // What is written may say that it rests, too.
            if !written.tenant(id).is_some_and(|tenant| tenant.availability.is_served()) {
                own.insert("state".to_owned(), "active".into());
            }
        }
    }
    if !own.is_empty() {
        overrides.insert(id.to_string(), own);
    }
    // What was wrong before, a reload may have made so.
    let (_, known) = config.with_overrides(&config.overrides);
    let (config, mut faults) = config.with_overrides(&Arc::new(overrides));
    faults.retain(|fault| !known.contains(fault));
    let said = faults.iter().map(|fault| format!("{}: {}", fault.path, fault.problem));
    let said: Vec<String> = said.collect();
    if said.is_empty() { Ok(config) } else { Err(said.join("; ")) }
}
