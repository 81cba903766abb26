//! The rows that `SHOW` gives, in the order of their columns in `columns`.

mod config;
mod pools;
mod sessions;
mod stats;
mod tenants;

use std::collections::BTreeSet;
use std::time::SystemTime;

use time::OffsetDateTime;
use time::macros::format_description;

pub(super) use config::{config, users};
pub(super) use pools::{databases, pools};
pub(super) use sessions::{clients, pins, servers};
pub(super) use stats::{averages, stats, totals, totals_by_name};
pub(super) use tenants::{overrides, shown, tenant, tenants};

use super::cell::Cell;
use crate::client::{Access, Shared};
use crate::config::{PoolMode, State};
use crate::net::Phase;
use crate::pool::Report;

/// The rows of a table.
pub(super) type Rows = Vec<Vec<Cell>>;

pub(super) fn state(access: &Access, shared: &Shared) -> Rows {
    let serves = shared.shutdown.phase() == Phase::Running;
    let is = |yes: bool| if yes { "yes" } else { "no" };
    let paused = access.config.overrides.everywhere.is_some_and(|state| state != State::Active);
    [("active", serves && !paused), ("paused", paused), ("suspended", false)]
        .map(|(key, value)| vec![key.into(), is(value).into()])
        .into()
}

/// Clusters by name, and what there is in each.
fn reports(access: &Access) -> Vec<(String, Report)> {
    let mut clusters: Vec<_> = access.clusters.iter().collect();
    clusters.sort_by_key(|(name, _)| *name);
    clusters.into_iter().map(|(name, (_, pools))| (name.clone(), pools.report().1)).collect()
}

pub(super) fn lists(access: &Access, shared: &Shared) -> Rows {
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

const fn mode_name(mode: PoolMode) -> &'static str {
    match mode {
        PoolMode::Session => "session",
        PoolMode::Transaction => "transaction",
    }
}

fn mode(access: &Access) -> &'static str {
    mode_name(access.config.general.pool_mode)
}

/// As PgBouncer writes it.
fn utc(time: SystemTime) -> String {
    let shape = format_description!("[year]-[month]-[day] [hour]:[minute]:[second] UTC");
    OffsetDateTime::from(time).format(shape).unwrap_or_default()
}
