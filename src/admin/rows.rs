//! The rows that `SHOW` gives, in the order of their columns in `show`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use time::OffsetDateTime;
use time::macros::format_description;

use super::cell::Cell;
use crate::client::{Access, Shared};
use crate::config::{Availability, PoolMode};
use crate::net::Phase;
use crate::pool::{Activity, PoolReport, Report};

pub(super) fn state(shared: &Shared) -> Vec<Vec<Cell>> {
    let serves = shared.shutdown.phase() == Phase::Running;
    let is = |yes: bool| if yes { "yes" } else { "no" };
    // The pooler as a whole is neither paused nor suspended; tenants are.
    [("active", serves), ("paused", false), ("suspended", false)]
        .map(|(key, value)| vec![key.into(), is(value).into()])
        .into()
}

fn reports(access: &Access) -> Vec<(String, Report)> {
    let mut clusters: Vec<_> = access.clusters.iter().collect();
    clusters.sort_by_key(|(name, _)| *name);
    clusters.into_iter().map(|(name, (_, pools))| (name.clone(), pools.report().1)).collect()
}

pub(super) fn lists(access: &Access, shared: &Shared) -> Vec<Vec<Cell>> {
    let reports = reports(access);
    let pools = || reports.iter().flat_map(|(_, report)| &report.pools);
    let databases: BTreeSet<_> = reports
        .iter()
        .flat_map(|(name, r)| r.pools.iter().map(move |p| (name, &p.database)))
        .collect();
    let used = shared.general.max_client_conn - shared.room.available_permits();
    let tenants: usize = reports.iter().map(|(_, report)| report.tenants.len()).sum();
    [
        ("databases", databases.len()),
        ("users", access.config.users.secrets().count()),
        ("pools", pools().count()),
        ("free_clients", shared.room.available_permits()),
        ("used_clients", used),
        ("login_clients", 0),
        ("free_servers", pools().map(|pool| pool.idle).sum()),
        ("used_servers", pools().map(|pool| pool.active).sum()),
        ("dns_names", 0),
        ("dns_zones", 0),
        ("dns_queries", 0),
        ("dns_pending", 0),
        ("tenants", tenants),
    ]
    .map(|(list, items)| vec![list.into(), items.into()])
    .into()
}

pub(super) fn pools(access: &Access) -> Vec<Vec<Cell>> {
    let mode = mode(access);
    let mut rows = Vec::new();
    for (cluster, report) in reports(access) {
        for pool in &report.pools {
            let PoolReport { database, user, clients, waiting, active, idle, opening, .. } = pool;
            let wait = pool.longest_wait;
            let zero = || Cell::from(0_usize);
            let wait_us = u128::from(wait.subsec_micros());
            rows.push(vec![
                database.into(),
                user.into(),
                (clients - waiting).into(),
                (*waiting).into(),
                zero(),
                zero(),
                (*active).into(),
                zero(),
                zero(),
                (*idle).into(),
                zero(),
                zero(),
                (*opening).into(),
                wait.as_secs().into(),
                wait_us.into(),
                mode.into(),
                Cell::Null,
                (&cluster).into(),
            ]);
        }
    }
    rows
}

pub(super) fn databases(access: &Access) -> Vec<Vec<Cell>> {
    let mode = mode(access);
    let mut rows = Vec::new();
    for (name, report) in reports(access) {
        let Some(cluster) = access.config.clusters.get(&name) else { continue };
        let host = cluster.hosts.iter().map(|host| &*host.name).collect::<Vec<_>>().join(",");
        let port = cluster.hosts.first().map_or(0, |host| usize::from(host.port));
        for pool in &report.pools {
            let servers = pool.active + pool.idle + pool.opening;
            rows.push(vec![
                (&pool.database).into(),
                (&host).into(),
                port.into(),
                (&pool.database).into(),
                (&pool.user).into(),
                cluster.max_server_connections.into(),
                0_usize.into(),
                0_usize.into(),
                cluster.server_lifetime.as_secs().into(),
                mode.into(),
                Cell::Null,
                cluster.max_server_connections.into(),
                servers.into(),
                0_usize.into(),
                pool.clients.into(),
                0_usize.into(),
                0_usize.into(),
                (&name).into(),
            ]);
        }
    }
    rows
}

pub(super) fn tenants(access: &Access) -> Vec<Vec<Cell>> {
    let mut rows = BTreeMap::new();
    for (cluster, report) in reports(access) {
        for tenant in &report.tenants {
            let pool = &report.pools[tenant.pool];
            let known = access.tenant(&tenant.id);
            let state = known.as_ref().map_or("gone", |tenant| match tenant.availability {
                Availability::Active => "active",
                Availability::ReadOnly => "read_only",
                Availability::Paused => "paused",
                Availability::Draining => "draining",
                Availability::Suspended { .. } => "suspended",
            });
            let row = vec![
                tenant.id.as_str().into(),
                state.into(),
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
            ];
            // One that moves may have clients in two places.
            rows.insert((tenant.id.as_str().to_owned(), cluster.clone()), row);
        }
    }
    rows.into_values().collect()
}

fn mode(access: &Access) -> &'static str {
    match access.config.general.pool_mode {
        PoolMode::Session => "session",
        PoolMode::Transaction => "transaction",
    }
}

pub(super) fn overrides(access: &Access) -> Vec<Vec<Cell>> {
    let all = access.config.overrides.iter();
    let all = all.flat_map(|(tenant, table)| table.iter().map(move |entry| (tenant, entry)));
    all.map(|(tenant, (key, value))| vec![tenant.into(), key.into(), (&shown(key, value)).into()])
        .collect()
}

/// A value that was set, unless it is a secret.
pub(super) fn shown(key: &str, value: &toml::Value) -> String {
    match value {
        _ if key.starts_with("password") => "***".to_owned(),
        toml::Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

pub(super) fn clients(shared: &Shared) -> Vec<Vec<Cell>> {
    let access = shared.access();
    let mut rows = Vec::new();
    for client in shared.cancels.clients() {
        let facts = client.slot.facts();
        let tenant = access.tenant(&facts.tenant);
        let (state, link) = match client.activity {
            Activity::Idle => ("idle", Cell::Null),
            Activity::Waiting => ("waiting", Cell::Null),
            Activity::Linked(pid) => ("active", Cell::Text(pid.to_string())),
        };
        let zero = || Cell::from(0_usize);
        rows.push(vec![
            "C".into(),
            (&*facts.user).into(),
            tenant.map_or(Cell::Null, |tenant| (&tenant.database).into()),
            "none".into(),
            state.into(),
            facts.peer.map_or("unix".into(), |peer| Cell::Text(peer.ip().to_string())),
            facts.peer.map_or(Cell::Null, |peer| usize::from(peer.port()).into()),
            Cell::Null,
            Cell::Null,
            Cell::Text(utc(facts.since)),
            Cell::Null,
            zero(),
            zero(),
            zero(),
            Cell::Null,
            link,
            Cell::Null,
            if facts.tls { "TLS" } else { "" }.into(),
            (&*facts.application_name).into(),
            Cell::Null,
            Cell::Number(client.pid.into()),
            facts.tenant.as_str().into(),
        ]);
    }
    rows
}

/// As PgBouncer writes it.
fn utc(time: SystemTime) -> String {
    let shape = format_description!("[year]-[month]-[day] [hour]:[minute]:[second] UTC");
    OffsetDateTime::from(time).format(shape).unwrap_or_default()
}
