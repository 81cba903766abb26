//! What an operator has set for tenants on the console.
//!
//! It comes before everything that is written, for one tenant each, and stays over reloads until it is taken
//! back or the pooler ends.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use toml::Table;

use super::Config;
use super::fault::Fault;
use super::load::over_promise;
use super::rules::Rules;

/// Keys of `[tenants.<name>]` and their values, by the tenant's name.
pub type Overrides = BTreeMap<String, Table>;

impl Config {
    /// The same configuration with these; and what is wrong with those that are left out.
    #[must_use]
    pub fn with_overrides(&self, overrides: &Arc<Overrides>) -> (Self, Vec<Fault>) {
        let (mut overridden, mut faults) = (HashMap::new(), Vec::new());
        for (name, table) in &**overrides {
            match self.tenant_rules("console", name, table.clone(), None) {
                Ok(rules) => drop(overridden.insert(name.clone(), rules)),
                Err(wrong) => faults.extend(wrong),
            }
        }
        let guarantees = overridden.values().any(Rules::guarantees);
        let overrides = Arc::clone(overrides);
        let config = Self { overrides, overridden, ..self.clone() };
        if guarantees {
            faults.extend(config.over_promised().into_iter().map(over_promise));
        }
        (config, faults)
    }
}
