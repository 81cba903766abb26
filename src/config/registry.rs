//! `[registry]`: tenants that live in a table.
//!
//! Every row is a tenant; its columns are the keys of a `[tenants.<name>]` section, and `tenant` is the name.
//! What the file says of a tenant by its name comes first. A row with a fault is left out, and no other; a
//! column that is no such key is ignored: tables have columns of their own.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value as Json;
use toml::{Table, Value};

use super::fault::{Fault, Faults};
use super::load::check_names;
use super::read::{Context, Section};
use super::rules::Rules;
use super::users::table_query;
use super::{Cluster, Config, TableQuery};
use crate::tenant::WildcardPattern;

/// `[registry]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registry {
    /// What gives the tenants.
    pub query: TableQuery,
    /// How often it is asked.
    pub refresh: Duration,
}

pub(super) fn read(
    section: Section<'_>,
    clusters: &BTreeMap<String, Arc<Cluster>>,
) -> Option<Registry> {
    let refresh = section.duration("refresh").unwrap_or(Duration::from_secs(30));
    if refresh.is_zero() {
        section.fault("refresh", "must be longer than nothing");
    }
    let query = table_query(&section);
    if let Some(query) = &query {
        let known = match &query.cluster {
            Some(name) => clusters.contains_key(name),
            None => clusters.len() == 1,
        };
        if !known {
            section.fault("cluster", "name the cluster that registry.query runs on");
        }
    }
    section.finish();
    query.map(|query| Registry { query, refresh })
}

/// What the registry says, read.
pub struct Registered {
    /// The configuration with its tenants.
    pub config: Config,
    /// What is wrong with rows that are left out.
    pub faults: Vec<Fault>,
    /// Columns that are no keys.
    pub ignored: BTreeSet<String>,
    /// Clusters whose tenants are guaranteed more servers than leave one to the others: how many, of how many.
    pub promised: BTreeMap<String, (usize, usize)>,
}

impl Config {
    /// The same configuration with these tenants in the registry.
    #[must_use]
    pub fn with_registry(&self, rows: &[Json]) -> Registered {
        let (mut registered, mut faults) = (HashMap::new(), Vec::new());
        let mut ignored = BTreeSet::new();
        for row in rows {
            match self.registered(row, &mut ignored) {
                Ok((name, rules)) => drop(registered.insert(name, rules)),
                Err(wrong) => faults.extend(wrong),
            }
        }
        let guarantees = registered.values().any(Rules::guarantees);
        let config = Self { registered, ..self.clone() };
        let promised = if guarantees { config.over_promised() } else { BTreeMap::new() };
        Registered { config, faults, ignored, promised }
    }

    fn registered(
        &self,
        row: &Json,
        ignored: &mut BTreeSet<String>,
    ) -> Result<(String, Rules), Vec<Fault>> {
        let fault = |problem: &str| {
            vec![Fault { path: "registry".to_owned(), problem: format!("{problem}: {row}") }]
        };
        let name = row.get("tenant").and_then(Json::as_str);
        let name = name.ok_or_else(|| fault("a row without a tenant"))?;
        if self.tenancy.name_pattern.parse(name).is_err() {
            return Err(fault("not a tenant's name"));
        }
        let columns = row.as_object().into_iter().flatten();
        let columns = columns.filter(|(column, _)| *column != "tenant");
        let tenant: Table = columns.filter_map(|(c, v)| Some((c.clone(), toml_of(v)?))).collect();
        let rules = self.tenant_rules("registry", name, tenant, Some(ignored))?;
        Ok((name.to_owned(), rules))
    }

    /// One tenant's keys, as they stand in a section `[<place>.<name>]`. Unknown ones are `ignored`, or faults.
    pub(super) fn tenant_rules(
        &self,
        place: &'static str,
        name: &str,
        tenant: Table,
        ignored: Option<&mut BTreeSet<String>>,
    ) -> Result<Rules, Vec<Fault>> {
        let tenants = Table::from_iter([(name.to_owned(), Value::Table(tenant))]);
        let table = Table::from_iter([(place.to_owned(), Value::Table(tenants))]);
        let context = Context { faults: Faults::default(), ..Context::default() };
        let root = Section::root(&table, &context);
        let mut rules = Rules::default();
        if let Some((name, section)) = root.section(place).children().pop() {
            let pattern = WildcardPattern::new(name);
            let path = format!("{place}.{name}");
            rules = Rules::read(&section).with_state(&section).located(path, pattern);
            match ignored {
                Some(ignored) => ignored.extend(section.unknown().cloned()),
                None => section.finish(),
            }
            check_names(&rules, &self.clusters, &self.classes, &root);
        }
        match context.faults.into_result(rules) {
            Ok(rules) => Ok(rules),
            Err(super::ConfigError::Faults(faults)) => Err(faults),
            Err(error) => Err(vec![Fault { path: place.to_owned(), problem: error.to_string() }]),
        }
    }
}

/// NULL: the column says nothing.
fn toml_of(value: &Json) -> Option<Value> {
    match value {
        Json::Null => None,
        Json::Bool(bool) => Some(Value::Boolean(*bool)),
        Json::Number(number) => match number.as_i64() {
            Some(integer) => Some(Value::Integer(integer)),
            None => number.as_f64().map(Value::Float),
        },
        Json::String(text) => Some(Value::String(text.clone())),
        Json::Array(list) => Some(Value::Array(list.iter().filter_map(toml_of).collect())),
        Json::Object(map) => {
            let entries =
                map.iter().filter_map(|(key, value)| Some((key.clone(), toml_of(value)?)));
            Some(Value::Table(entries.collect()))
        }
    }
}
