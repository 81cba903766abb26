//! Tenants: who has clients, what holds for one, what was set here.

use std::collections::BTreeMap;

use super::{Rows, reports};
use crate::admin::cell::Cell;
use crate::client::{Access, Shared};
use crate::config::Explained;
use crate::stats::Totals;

pub(in crate::admin) fn tenants(access: &Access, shared: &Shared) -> Rows {
    let (done, _) = shared.stats.tallies.sums().by_tenant();
    let nothing = Totals::default();
    let clients = shared.cancels.clients();
    let pinned: Vec<_> = clients.iter().filter(|client| client.pin.is_some()).collect();
    let mut rows = BTreeMap::new();
    for (cluster, report) in reports(access) {
        for tenant in &report.tenants {
            let pool = &report.pools[tenant.pool];
            let known = access.tenant(&tenant.id);
            let done = done.get(&tenant.id).unwrap_or(&nothing);
            let pins = pinned.iter().filter(|client| client.slot.facts().tenant() == tenant.id);
            let row = vec![
                tenant.id.as_str().into(),
                known.as_ref().map_or("gone", |tenant| tenant.availability.name()).into(),
                (&cluster).into(),
                (&pool.database).into(),
                (&pool.user).into(),
                tenant.clients.into(),
                tenant.max_clients.into(),
                tenant.waiting.into(),
                tenant.servers.into(),
                tenant.max_servers.into(),
                tenant.guaranteed.into(),
                tenant.weight.into(),
                tenant.waits.into(),
                tenant.longest_wait.as_micros().into(),
                done.transactions.count().into(),
                done.transactions.micros.into(),
                done.waits.micros.into(),
                done.refusals.into(),
                pins.count().into(),
            ];
            // One that moves may have clients in two places.
            rows.insert((tenant.id.as_str().to_owned(), cluster.clone()), row);
        }
    }
    rows.into_values().collect()
}

/// Every setting of a tenant, and the rule that decides it, as `tenantry check --tenant` prints them. `None`: there is
/// no such tenant.
pub(in crate::admin) fn tenant(name: &str, access: &Access) -> Option<Rows> {
    let id = access.config.tenancy.name_pattern.parse(name).ok()?;
    let (_, explained) = access.config.explain(&id)?;
    let row = |setting: &Explained| {
        vec![setting.key.into(), (&setting.value).into(), (&setting.from).into()]
    };
    Some(explained.iter().map(row).collect())
}

pub(in crate::admin) fn overrides(access: &Access) -> Rows {
    let said = &access.config.overrides;
    let tenants = said.tenants.iter();
    let tenants =
        tenants.flat_map(|(tenant, table)| table.iter().map(move |entry| (tenant, entry)));
    let mut rows: Rows = tenants
        .map(|(tenant, (key, value))| {
            vec![tenant.into(), key.into(), (&shown(key, value)).into(), Cell::Null]
        })
        .collect();
    if let Some(state) = said.everywhere {
        rows.push(vec![Cell::Null, "state".into(), state.name().into(), "*".into()]);
    }
    for (database, set) in &said.databases {
        let state = set.state.map(|state| ("state", state.name()));
        let disabled = set.disabled.then_some(("disabled", "true"));
        for (key, value) in state.into_iter().chain(disabled) {
            rows.push(vec![Cell::Null, key.into(), value.into(), database.into()]);
        }
    }
    rows
}

/// A value that was set, unless it is a secret.
pub(in crate::admin) fn shown(key: &str, value: &toml::Value) -> String {
    match value {
        _ if key.starts_with("password") => "***".to_owned(),
        toml::Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
