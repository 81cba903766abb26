//! `/state.json`: what the dashboard shows. Counts only grow; the page makes rates of them.

use std::collections::HashMap;
use std::time::{Instant, SystemTime};

use serde_json::{Value, json};

use super::looked::{ClusterLook, Looked};
use crate::pool::{Activity, ClientReport, PoolReport, Stop, TenantReport};
use crate::stats::Totals;
use crate::tenant::TenantId;

/// Tenants, servers and pins that are shown, each.
const ROWS_MAX: usize = 500;

/// Names of tenants that a server is warm for.
const WARM_MAX: usize = 12;

/// All of it.
pub(super) fn state(looked: &Looked<'_>) -> Value {
    let (done, rest) = looked.shared.stats.tallies.sums().by_tenant();
    let mut all = rest;
    for totals in done.values() {
        all.add(totals);
    }
    let pins = pinned(looked);
    let mut tenants: Vec<Value> = looked
        .tenants()
        .map(|(look, it)| tenant(looked, look, it, done.get(&it.id), &pins))
        .collect();
    let busy = |it: &Value| (it["waiting"].as_u64(), it["busy_us"].as_u64());
    tenants.sort_by_key(|it| std::cmp::Reverse(busy(it)));
    let hidden = tenants.len().saturating_sub(ROWS_MAX);
    tenants.truncate(ROWS_MAX);
    let refusals: u64 = looked.shared.stats.refusals.get().values().sum();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "now": millis(SystemTime::now()),
        "uptime_s": looked.started_for().as_secs(),
        "serves": looked.shared.is_open(),
        "clients": looked.clients(),
        "clients_max": looked.shared.general.max_client_conn,
        "transactions": all.transactions.count(),
        "waited": all.waited,
        "switches": all.switches.count(),
        "refusals": refusals,
        "pinned": looked.pinned,
        "clusters": looked.clusters.iter().map(cluster).collect::<Vec<_>>(),
        "tenants": tenants,
        "tenants_hidden": hidden,
        "pins": looked.sessions.iter().filter_map(pin).take(ROWS_MAX).collect::<Vec<_>>(),
        "servers": servers(looked),
    })
}

fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn cluster(look: &ClusterLook) -> Value {
    let pools = &look.report.pools;
    let sum = |of: fn(&PoolReport) -> usize| pools.iter().map(of).sum::<usize>();
    json!({
        "name": look.name,
        "active": sum(|pool| pool.active),
        "idle": sum(|pool| pool.idle),
        "opening": sum(|pool| pool.opening),
        "max": look.max_servers,
        "waiting": sum(|pool| pool.waiting),
        "down": look.is_down(),
    })
}

fn tenant(
    looked: &Looked<'_>,
    look: &ClusterLook,
    it: &TenantReport,
    done: Option<&Totals>,
    pins: &HashMap<TenantId, usize>,
) -> Value {
    let known = looked.access.tenant(&it.id);
    let state = known.as_ref().map_or("gone", |tenant| tenant.availability.name());
    let nothing = Totals::default();
    let done = done.unwrap_or(&nothing);
    json!({
        "tenant": it.id.as_str(),
        "state": state,
        "cluster": look.name,
        "database": look.report.pools[it.pool].database,
        "clients": it.clients,
        "clients_max": it.max_clients,
        "waiting": it.waiting,
        "waits_for": waits_for(look, it),
        "wait_us": u64::try_from(it.longest_wait.as_micros()).unwrap_or(u64::MAX),
        "servers": it.servers,
        "servers_max": it.max_servers,
        "guaranteed": it.guaranteed,
        "weight": it.weight,
        "pinned": pins.get(&it.id).copied().unwrap_or(0),
        "busy_us": done.transactions.micros,
        "transactions": done.transactions.count(),
        "waited": done.waited,
        "waited_us": done.waits.micros,
        "refusals": done.refusals,
    })
}

/// Why a tenant's clients wait, in the words of the settings.
fn waits_for(look: &ClusterLook, it: &TenantReport) -> &'static str {
    let pools = &look.report.pools;
    let open: usize = pools.iter().map(|pool| pool.active + pool.idle + pool.opening).sum();
    if it.waiting == 0 {
        ""
    } else if let Some(stop) = it.stop {
        match stop {
            Stop::Paused => "it is paused",
            Stop::Owes => "servers closed for what it did",
        }
    } else if it.servers >= it.max_servers {
        "its max_server_connections"
    } else if pools[it.pool].down {
        "a login to PostgreSQL"
    } else if open >= look.max_servers {
        "the cluster's max_server_connections"
    } else {
        "a login to PostgreSQL"
    }
}

fn pinned(looked: &Looked<'_>) -> HashMap<TenantId, usize> {
    let mut pins = HashMap::new();
    for session in looked.sessions.iter().filter(|session| session.pin.is_some()) {
        *pins.entry(session.slot.facts().tenant()).or_insert(0) += 1;
    }
    pins
}

fn pin(session: &ClientReport) -> Option<Value> {
    let pin = session.pin?;
    let facts = session.slot.facts();
    Some(json!({
        "tenant": facts.tenant().as_str(),
        "user": &*facts.user,
        "application": &*facts.application_name,
        "reason": pin.reason,
        "seconds": pin.since.elapsed().as_secs(),
        "client": session.pid,
    }))
}

fn servers(looked: &Looked<'_>) -> Vec<Value> {
    let holder = |session: &ClientReport| match session.activity {
        Activity::Linked { server, since, .. } => {
            Some((server, (session.slot.facts().tenant(), since)))
        }
        Activity::Idle | Activity::Waiting(_) => None,
    };
    let holders: HashMap<u64, (TenantId, Instant)> =
        looked.sessions.iter().filter_map(holder).collect();
    let mut all = Vec::new();
    for (name, (_, pools)) in &looked.access.clusters {
        for server in pools.servers() {
            let held = holders.get(&server.facts.id);
            let state = match (held, server.idle) {
                (Some(_), _) => "active",
                (None, true) => "idle",
                (None, false) => "tested",
            };
            let (warm_count, warm) = {
                let warm = server.facts.warm.lock();
                let last = warm.iter().rev().take(WARM_MAX).map(ToString::to_string);
                (warm.len(), last.collect::<Vec<_>>())
            };
            all.push(json!({
                "id": server.facts.id,
                "pid": server.facts.pid,
                "cluster": name,
                "database": server.facts.database,
                "user": server.facts.user,
                "state": state,
                "tenant": held.map(|(tenant, _)| tenant.as_str()),
                "for_ms": held.map(|(_, since)| u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)),
                "since": millis(server.facts.since),
                "warm_count": warm_count,
                "warm": warm,
            }));
        }
    }
    all.sort_by_key(|server| server["id"].as_u64());
    all.truncate(ROWS_MAX);
    all
}
