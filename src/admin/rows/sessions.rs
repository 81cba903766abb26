//! Clients, servers, and who keeps which.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use super::{Rows, utc};
use crate::admin::cell::Cell;
use crate::client::{Access, ConsoleFacts, Shared};
use crate::pool::{Activity, ClientReport};

fn host(address: Option<SocketAddr>) -> Cell {
    address.map_or("unix".into(), |address| Cell::Text(address.ip().to_string()))
}

fn port(address: Option<SocketAddr>) -> Cell {
    address.map_or(Cell::Null, |address| usize::from(address.port()).into())
}

const fn tls(is_on: bool) -> &'static str {
    if is_on { "TLS" } else { "" }
}

/// A moment of the process's clock, as one of the day's.
fn moment(at: Instant) -> Cell {
    Cell::Text(utc(SystemTime::now().checked_sub(at.elapsed()).unwrap_or(SystemTime::UNIX_EPOCH)))
}

pub(in crate::admin) fn clients(access: &Access, shared: &Shared) -> Rows {
    let clients = shared.cancels.clients();
    let consoles = shared.consoles.all();
    let consoles = consoles.iter().map(|(pid, facts)| console(*pid, facts));
    clients.iter().map(|client| row(client, access)).chain(consoles).collect()
}

/// An operator's session, as PgBouncer shows it: it is no tenant's, and at work.
fn console(pid: i32, facts: &ConsoleFacts) -> Vec<Cell> {
    let zero = || Cell::from(0_usize);
    vec![
        "C".into(),
        (&facts.user).into(),
        (&facts.database).into(),
        "none".into(),
        "active".into(),
        host(facts.peer),
        port(facts.peer),
        host(facts.local),
        port(facts.local),
        Cell::Text(utc(facts.since)),
        Cell::Text(utc(SystemTime::now())),
        zero(),
        zero(),
        zero(),
        Cell::Text(format!("C-{pid}")),
        "".into(),
        zero(),
        tls(facts.tls).into(),
        (&facts.application_name).into(),
        Cell::Null,
        Cell::Number(pid.into()),
        "".into(),
    ]
}

fn row(client: &ClientReport, access: &Access) -> Vec<Cell> {
    let facts = client.slot.facts();
    let tenant = access.tenant(&facts.tenant());
    let (state, since, pid, server) = match client.activity {
        Activity::Idle => ("idle", None, None, None),
        Activity::Waiting(since) => ("waiting", Some(since), None, None),
        Activity::Linked { pid, server, since } => ("active", Some(since), Some(pid), Some(server)),
    };
    let waits = matches!(client.activity, Activity::Waiting(_));
    let wait = since.filter(|_| waits).map_or(Duration::ZERO, |since| since.elapsed());
    vec![
        "C".into(),
        (&*facts.user).into(),
        tenant.map_or(Cell::Null, |tenant| access.shown_name(&tenant.database).into()),
        "none".into(),
        state.into(),
        host(facts.peer),
        port(facts.peer),
        host(facts.local),
        port(facts.local),
        Cell::Text(utc(facts.since)),
        since.map_or(Cell::Null, moment),
        wait.as_secs().into(),
        u128::from(wait.subsec_micros()).into(),
        0_usize.into(),
        Cell::Text(format!("C-{}", client.pid)),
        server.map_or("".into(), |server| Cell::Text(format!("S-{server}"))),
        pid.map_or(0_usize.into(), |pid| Cell::Number(pid.into())),
        tls(facts.tls).into(),
        (&*facts.application_name).into(),
        Cell::Null,
        Cell::Number(client.pid.into()),
        facts.tenant().as_str().into(),
    ]
}

pub(in crate::admin) fn servers(access: &Access, shared: &Shared) -> Rows {
    let holder = |client: &ClientReport| match client.activity {
        Activity::Linked { server, since, .. } => Some((server, (client.pid, since))),
        Activity::Idle | Activity::Waiting(_) => None,
    };
    let clients = shared.cancels.clients();
    let slots: HashMap<i32, &ClientReport> = clients.iter().map(|c| (c.pid, c)).collect();
    let holders: HashMap<u64, (i32, Instant)> = clients.iter().filter_map(holder).collect();
    let mut clusters: Vec<_> = access.clusters.iter().collect();
    clusters.sort_by_key(|(name, _)| *name);
    let mut rows = Vec::new();
    for (cluster, (_, pools)) in clusters {
        for server in pools.servers() {
            let facts = &server.facts;
            let held = holders.get(&facts.id);
            // Neither at rest nor with a client: it is asked, scrubbed, or ends what a client left.
            let state = match (held, server.idle) {
                (Some(_), _) => "active",
                (None, true) => "idle",
                (None, false) => "tested",
            };
            let client = held.and_then(|(pid, _)| slots.get(pid)).map(|client| client.slot.facts());
            let warm: Vec<String> = facts.warm.lock().iter().map(ToString::to_string).collect();
            rows.push(vec![
                "S".into(),
                (&facts.user).into(),
                access.shown_name(&facts.database).into(),
                "none".into(),
                state.into(),
                facts.peer.map_or_else(|| (&facts.host).into(), |peer| host(Some(peer))),
                port(facts.peer),
                host(facts.local),
                port(facts.local),
                Cell::Text(utc(facts.since)),
                held.map_or(Cell::Null, |(_, since)| moment(*since)),
                0_usize.into(),
                0_usize.into(),
                usize::from(facts.is_outdated()).into(),
                Cell::Text(format!("S-{}", facts.id)),
                held.map_or("".into(), |(pid, _)| Cell::Text(format!("C-{pid}"))),
                Cell::Number(facts.pid.into()),
                tls(facts.tls).into(),
                client.map_or("", |client| &*client.application_name).into(),
                Cell::Null,
                facts.id.into(),
                client.map_or(Cell::Null, |client| client.tenant().as_str().into()),
                cluster.into(),
                warm.len().into(),
                Cell::Text(warm.join(",")),
            ]);
        }
    }
    rows
}

pub(in crate::admin) fn pins(shared: &Shared) -> Rows {
    let mut rows = Vec::new();
    for client in shared.cancels.clients() {
        let Some(pin) = client.pin else { continue };
        let facts = client.slot.facts();
        let pid = match client.activity {
            Activity::Linked { pid, .. } => Cell::Number(pid.into()),
            Activity::Idle | Activity::Waiting(_) => Cell::Null,
        };
        rows.push(vec![
            facts.tenant().as_str().into(),
            (&*facts.user).into(),
            pin.reason.into(),
            pin.since.elapsed().as_secs().into(),
            Cell::Number(client.pid.into()),
            pid,
            (&*facts.application_name).into(),
        ]);
    }
    rows
}
