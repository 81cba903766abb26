//! What an operator has set for tenants and databases on the console.
//!
//! It comes before everything that is written, and stays over reloads until it is taken back or the pooler
//! ends.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use toml::Table;

use super::Config;
use super::fault::Fault;
use super::load::over_promise;
use super::rules::{Rules, State};
use crate::tenant::Source;

/// What was set, as it was said.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// Keys of `[tenants.<name>]` and their values, by the tenant's name.
    pub tenants: BTreeMap<String, Table>,
    /// What holds for tenants that live in a database.
    pub databases: BTreeMap<String, DatabaseOverride>,
    /// What holds for those in databases that have no state of their own.
    pub everywhere: Option<State>,
}

/// What was set for a database.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DatabaseOverride {
    /// The state of its tenants, unless one of them has its own from the console.
    pub state: Option<State>,
    /// Nobody logs in any more.
    pub disabled: bool,
}

impl Overrides {
    /// The state of tenants in a database, if one was set.
    #[must_use]
    pub fn state_of(&self, database: &str) -> Option<State> {
        let own = self.databases.get(database).and_then(|database| database.state);
        own.or(self.everywhere)
    }

    /// Whether nobody may log in to a database.
    #[must_use]
    pub fn is_disabled(&self, database: &str) -> bool {
        self.databases.get(database).is_some_and(|database| database.disabled)
    }

    /// Whether a tenant has a state of its own.
    pub(super) fn has_state(&self, tenant: &str) -> bool {
        self.tenants.get(tenant).is_some_and(|table| table.contains_key("state"))
    }
}

impl Config {
    /// The same configuration with these; and what is wrong with those that are left out.
    #[must_use]
    pub fn with_overrides(&self, overrides: &Arc<Overrides>) -> (Self, Vec<Fault>) {
        let (mut overridden, mut faults) = (HashMap::new(), Vec::new());
        for (name, table) in &overrides.tenants {
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

    /// By PostgreSQL's database, the name that clients ask for instead, where it is another and there is just one: of a
    /// tenant that is listed and named by the database, as entries of PgBouncer's with a `dbname` are.
    #[must_use]
    pub fn names_of_databases(&self) -> HashMap<String, String> {
        let sources = &self.tenancy.tenant_from;
        if !sources.iter().any(|source| matches!(source, Source::Database)) {
            return HashMap::new();
        }
        let mut names: HashMap<String, Option<String>> = HashMap::new();
        for tenant in self.listed().filter_map(|id| self.tenant(&id)) {
            let name = Some(tenant.id.to_string());
            names.entry(tenant.database).and_modify(|known| *known = None).or_insert(name);
        }
        let others = names.into_iter().filter_map(|(database, name)| Some((database, name?)));
        others.filter(|(database, name)| database != name).collect()
    }

    /// Whether a database is one of a cluster's or of a listed tenant's.
    #[must_use]
    pub fn has_database(&self, name: &str) -> bool {
        self.clusters.values().any(|cluster| cluster.database == name)
            || self.listed().filter_map(|id| self.tenant(&id)).any(|it| it.database == name)
    }
}
