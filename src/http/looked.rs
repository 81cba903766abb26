//! Everything at one moment, for metrics and for the dashboard.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::table::Labelled;
use crate::client::{Access, Shared};
use crate::pool::{ClientReport, LastLogin, Report, TenantReport};

/// A cluster at that moment.
pub(super) struct ClusterLook {
    pub(super) name: String,
    pub(super) max_servers: usize,
    pub(super) report: Report,
    pub(super) last_login: Option<LastLogin>,
}

impl ClusterLook {
    /// Servers are open.
    pub(super) fn is_in_use(&self) -> bool {
        self.report.pools.iter().any(|pool| pool.active + pool.idle > 0)
    }

    /// The last login found nobody, and no server is open.
    pub(super) fn is_down(&self) -> bool {
        self.last_login.is_some_and(|login| !login.answered) && !self.is_in_use()
    }
}

/// What there is.
pub(super) struct Looked<'a> {
    pub(super) shared: &'a Shared,
    pub(super) access: Arc<Access>,
    pub(super) clusters: Vec<ClusterLook>,
    pub(super) sessions: Vec<ClientReport>,
    /// Sessions that keep their servers.
    pub(super) pinned: usize,
    since: SystemTime,
}

impl<'a> Looked<'a> {
    /// Now; the pooler has been there since then.
    pub(super) fn now(shared: &'a Shared, since: SystemTime) -> Self {
        let access = shared.access();
        let mut clusters: Vec<ClusterLook> = Vec::new();
        for (name, (_, pools)) in &access.clusters {
            let (cluster, report) = pools.report();
            let max_servers = cluster.max_server_connections;
            let last_login = pools.last_login();
            clusters.push(ClusterLook { name: name.clone(), max_servers, report, last_login });
        }
        clusters.sort_by(|a, b| a.name.cmp(&b.name));
        let sessions = shared.cancels.clients();
        let pinned = sessions.iter().filter(|session| session.pin.is_some()).count();
        Self { shared, access, clusters, sessions, pinned, since }
    }

    /// Tenants that have clients, and where.
    pub(super) fn tenants(&self) -> impl Iterator<Item = (&ClusterLook, &TenantReport)> {
        self.clusters.iter().flat_map(|look| look.report.tenants.iter().map(move |it| (look, it)))
    }

    /// Clients that have logged in, or are about to.
    pub(super) fn clients(&self) -> usize {
        self.shared.general.max_client_conn - self.shared.room.available_permits()
    }

    /// How long it has been there.
    pub(super) fn started_for(&self) -> Duration {
        self.since.elapsed().unwrap_or_default()
    }
}

/// Of each cluster.
pub(super) fn servers_by_state(looked: &Looked<'_>) -> Labelled<f64> {
    let mut all = Vec::new();
    for look in &looked.clusters {
        let pools = &look.report.pools;
        for (state, count) in [
            ("active", pools.iter().map(|pool| pool.active).sum()),
            ("idle", pools.iter().map(|pool| pool.idle).sum()),
            ("opening", pools.iter().map(|pool| pool.opening).sum()),
        ] {
            all.push((vec![look.name.clone(), state.to_owned()], float(count)));
        }
    }
    all
}

/// In seconds since 1970.
pub(super) fn started(looked: &Looked<'_>) -> f64 {
    looked.since.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// A count, as Prometheus has it.
#[expect(clippy::cast_precision_loss, reason = "nothing here is counted beyond 2^52")]
pub(super) const fn float(count: usize) -> f64 {
    count as f64
}
