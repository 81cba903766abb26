//! Pools and databases.

use super::{Rows, mode, reports};
use crate::admin::cell::Cell;
use crate::client::Access;
use crate::config::State;
use crate::pool::PoolReport;

pub(in crate::admin) fn pools(access: &Access) -> Rows {
    let mode = mode(access);
    let mut rows = Vec::new();
    for (cluster, report) in reports(access) {
        for pool in &report.pools {
            let PoolReport { database, user, clients, waiting, active, idle, opening, .. } = pool;
            let wait = pool.longest_wait;
            let zero = || Cell::from(0_usize);
            let wait_us = u128::from(wait.subsec_micros());
            rows.push(vec![
                access.shown_name(database).into(),
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

pub(in crate::admin) fn databases(access: &Access) -> Rows {
    let mode = mode(access);
    let said = &access.config.overrides;
    let mut rows = Vec::new();
    for (name, report) in reports(access) {
        let Some(cluster) = access.config.clusters.get(&name) else { continue };
        let host = cluster.hosts.iter().map(|host| &*host.name).collect::<Vec<_>>().join(",");
        let port = cluster.hosts.first().map_or(0, |host| usize::from(host.port));
        for pool in &report.pools {
            let servers = pool.active + pool.idle + pool.opening;
            let paused = said.state_of(&pool.database).is_some_and(|state| state == State::Paused);
            rows.push(vec![
                access.shown_name(&pool.database).into(),
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
                usize::from(paused).into(),
                usize::from(said.is_disabled(&pool.database)).into(),
                (&name).into(),
            ]);
        }
    }
    rows
}
