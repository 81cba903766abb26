//! The wiring: listeners, workers, and the way out.
//!
//! Promises: a connection's life is one function, [`serve_one`]; SIGTERM lets transactions end and
//! then stops; when [`Pooler::stopped`] returns, no task, no thread and no server is left.
//!
//! Uses every room above it.

mod accept;
mod connection;
mod overrides;
mod packing;
mod period;
mod placing;
mod registry;
mod reload;
mod signals;
mod supervisor;
mod watch;
mod watchdog;
mod workers;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::Value as Json;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub use signals::Signals;

use crate::admin::Order;
use crate::auth::Credentials;
use crate::client::{Access, Clusters, Shared};
use crate::config::{Cluster, Config, ListenAddress, TableQuery};
use crate::http::Http;
use crate::net::{Acceptor, Connector, Listener, Phase, Shutdown, Tasks, TlsError};
use crate::pool::{Everywhere, Pools};
use crate::server::{Endpoint, Keychain};
use crate::stats::Stats;
use workers::Workers;

/// How often it is looked whether clients have left.
const LOOK: Duration = Duration::from_millis(100);
/// Orders of operators that wait.
const ORDERS_MAX: usize = 8;
/// Longest the last clients and servers may take once everything stops.
const STOP_TIME_MAX: Duration = Duration::from_secs(10);
/// The same where a worker does not answer.
const STOP_TIME_STILL: Duration = Duration::from_secs(1);

/// Why the pooler does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("could not listen on {address}: {source}")]
    Listen {
        /// As configured.
        address: String,
        /// The system's words.
        source: io::Error,
    },
    /// Certificates or keys are no good.
    #[error("tls: {0}")]
    Tls(#[from] TlsError),
    /// A thread or its event loop could not be made.
    #[error("could not start a worker: {0}")]
    Worker(#[from] io::Error),
}

/// A running pooler.
pub struct Pooler {
    shared: Arc<Shared>,
    addresses: Vec<ListenAddress>,
    http: Vec<SocketAddr>,
    clients: Tasks,
    servers: Tasks,
    acceptors: Tasks,
    workers: Workers,
    /// What the registry said last.
    registered: Mutex<Arc<[Json]>>,
    /// Clients are let in: the registry was asked once.
    opened: CancellationToken,
    /// What operators want on the console.
    orders: Mutex<Option<mpsc::Receiver<Order>>>,
}

impl Pooler {
    /// Binds, starts the workers and begins to accept. Must run inside a tokio runtime.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running then.
    pub fn start(config: Config) -> Result<Self, StartError> {
        config.users.warn();
        let mut listeners = Vec::new();
        let all: Vec<_> = config.general.listen.iter().map(|listen| &listen.address).collect();
        for listen in &config.general.listen {
            let listener = Listener::bind(&listen.address, &all, config.general.unix_socket_mode)
                .map_err(|source| StartError::Listen {
                address: format!("{:?}", listen.address),
                source,
            })?;
            listeners.push((listener, listen.tenant.clone()));
        }
        let addresses =
            listeners.iter().map(|(l, _)| l.local_address()).collect::<io::Result<Vec<_>>>()?;
        let http = Http::bind(&config.http.listen).map_err(|(address, source)| {
            StartError::Listen { address: format!("http {address}"), source }
        })?;
        let workers = Workers::start(config.general.workers)?;
        let (clients, servers, acceptors) = (Tasks::default(), Tasks::default(), Tasks::default());
        let opened = CancellationToken::new();
        if config.registry.is_none() {
            opened.cancel();
        }
        let shared = Arc::new(shared(config, &servers, &workers)?);
        let (orders, waiting_orders) = mpsc::channel(ORDERS_MAX);
        let mut entrances = Vec::new();
        for (listener, tenant) in listeners {
            let place = accept::Place {
                shared: Arc::clone(&shared),
                clients: clients.clone(),
                workers: workers.all().to_vec(),
                spare: workers.spare().clone(),
                tenant: tenant.map(Arc::from),
                opened: opened.clone(),
                orders: orders.clone(),
            };
            entrances.push((listener.try_clone()?, place.clone()));
            // By the first worker: with one, nobody is handed over.
            let worker = &workers.all()[0];
            let doors = accept::open(listener, worker)?;
            acceptors.spawn_on(accept::accept(doors, place), worker);
        }
        let watchdog = watchdog::Watchdog {
            shared: Arc::clone(&shared),
            entrances,
            spare: workers.spare().clone(),
            acceptors: acceptors.clone(),
            servers: servers.clone(),
        };
        acceptors.spawn(watchdog.watch());
        acceptors.spawn(period::count(Arc::clone(&shared)));
        if placing::serving_first(workers.all()) < workers.all().len() {
            acceptors.spawn(placing::place(Arc::clone(&shared)));
        }
        let http_addresses = http.addresses();
        acceptors.spawn(http.serve(Arc::clone(&shared)));
        info!(?addresses, http = ?http_addresses, workers = workers.all().len(), "listening");
        let registered = Mutex::new(Arc::from([]));
        let orders = Mutex::new(Some(waiting_orders));
        Ok(Self {
            shared,
            addresses,
            http: http_addresses,
            clients,
            servers,
            acceptors,
            workers,
            registered,
            opened,
            orders,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> &[ListenAddress] {
        &self.addresses
    }

    /// Where metrics and the dashboard are.
    #[must_use]
    pub fn http_addresses(&self) -> &[SocketAddr] {
        &self.http
    }

    /// Counters.
    #[must_use]
    pub fn stats(&self) -> &Stats {
        &self.shared.stats
    }

    /// Servers that exist or are being dialled, of all clusters.
    #[must_use]
    pub fn server_connections(&self) -> usize {
        self.shared.access().clusters.values().map(|(_, pools)| pools.server_connections()).sum()
    }

    /// How often clients of a tenant have waited for a server since its first client came.
    #[must_use]
    pub fn waits(&self, tenant: &str) -> u64 {
        self.shared.access().clusters.values().map(|(_, pools)| pools.waits(tenant)).sum()
    }

    /// Sends clients to other workers, by numbers: `next` is told with which one each is. They go when they next
    /// have something to do.
    pub fn place_clients(&self, next: impl FnMut(usize) -> usize) {
        self.shared.cancels.place(next);
    }

    /// Lets transactions end for at most `shutdown_timeout`; new clients are refused.
    /// [`Pooler::stop`] ends the wait.
    pub async fn drain(&self) {
        let limit = self.shared.general.shutdown_timeout;
        info!(?limit, "draining");
        self.shared.shutdown.advance(Phase::Draining);
        let stopped = self.shared.shutdown.reached(Phase::Stopping);
        let drained = async {
            tokio::select! {
                () = self.clients.wait() => {}
                // Operators may stay until the end.
                () = self.only_consoles_left() => {}
                () = stopped => {}
            }
        };
        if timeout(limit, drained).await.is_err() {
            warn!("shutdown_timeout has passed; clients are disconnected");
        }
    }

    async fn only_consoles_left(&self) {
        while self.clients.count() > self.shared.consoles.count() {
            sleep(LOOK).await;
        }
    }

    /// Nobody is let in any more; waits until all clients have left.
    pub(crate) async fn emptied(&self) {
        info!("waiting until all clients have left; nobody is let in");
        self.shared.close_doors();
        let all = self.shared.general.max_client_conn;
        while self.shared.room.available_permits() < all {
            sleep(LOOK).await;
        }
    }

    /// Everything ends now.
    pub fn stop(&self) {
        self.shared.shutdown.advance(Phase::Stopping);
    }

    /// Stops, and returns when nothing is left.
    pub async fn stopped(self) {
        self.stop();
        // Who belongs to a worker that does not answer never ends.
        let still = self.shared.any_stands_still();
        let limit = if still { STOP_TIME_STILL } else { STOP_TIME_MAX };
        let deadline = tokio::time::Instant::now() + limit;
        let clients = timeout_at(deadline, self.clients.wait()).await;
        for (_, pools) in self.shared.access().clusters.values() {
            pools.stop();
        }
        let servers = timeout_at(deadline, self.servers.wait()).await;
        if clients.is_err() || servers.is_err() {
            warn!("some connections did not end in time and are cut");
        }
        if timeout_at(deadline, self.acceptors.wait()).await.is_err() {
            warn!("a worker does not answer; what it accepts is left behind");
        }
        self.workers.join();
        info!("stopped");
    }
}

fn shared(config: Config, servers: &Tasks, workers: &Workers) -> Result<Shared, StartError> {
    let stats = Arc::new(Stats::default());
    let (config, keychain) = (Arc::new(config), Arc::default());
    let everywhere = Arc::default();
    let place = Servers { tasks: servers, workers, stats: &stats, everywhere: &everywhere };
    let clusters = place.clusters(&config, &Clusters::new())?;
    let acceptor = Acceptor::new(&config.client_tls)?;
    let known = bound(Credentials::new(&config.users), &acceptor);
    let credentials = credentials(known, &config, &clusters, &keychain);
    let general = config.general.clone();
    let access = Access::new(config, credentials, acceptor, clusters, 0, keychain);
    let shutdown = Arc::new(Shutdown::new(workers.all().to_vec(), workers.spare().clone()));
    let serving = placing::serving_first(workers.all());
    Ok(Shared::new(general, access, shutdown, serving, stats, everywhere))
}

/// What servers of a cluster need to live.
struct Servers<'a> {
    tasks: &'a Tasks,
    workers: &'a Workers,
    stats: &'a Arc<Stats>,
    everywhere: &'a Arc<Everywhere>,
}

impl Servers<'_> {
    /// All clusters of a configuration; those that are there already keep their servers. Certificates are
    /// read again.
    fn clusters(&self, config: &Config, known: &Clusters) -> Result<Clusters, TlsError> {
        let mut clusters = Clusters::new();
        for (name, cluster) in &config.clusters {
            let connector = Connector::new(&cluster.tls)?;
            let pools = known.get(name).map(|(_, pools)| Arc::clone(pools));
            clusters.insert(
                name.clone(),
                (connector, pools.unwrap_or_else(|| self.open(config, cluster))),
            );
        }
        Ok(clusters)
    }

    fn open(&self, config: &Config, cluster: &Arc<Cluster>) -> Arc<Pools> {
        let (scrub, stats) = (config.general.scrub, Arc::clone(self.stats));
        let (cluster, everywhere) = (Arc::clone(cluster), Arc::clone(self.everywhere));
        let pools = Pools::new(cluster, scrub, self.tasks.clone(), stats, everywhere);
        let worker = &self.workers.all()[0];
        self.tasks.spawn_on(Arc::clone(&pools).janitor(), worker);
        self.tasks.spawn_on(Arc::clone(&pools).watch_the_clock(), worker);
        pools
    }
}

/// Proofs may be bound to the certificate that clients see.
fn bound(credentials: Credentials, acceptor: &Acceptor) -> Credentials {
    match acceptor.certificate() {
        Some(certificate) => credentials.with_certificate(certificate),
        None => credentials,
    }
}

/// Credentials that also ask `auth.query`, where there is one.
fn credentials(
    credentials: Credentials,
    config: &Config,
    clusters: &Clusters,
    keychain: &Arc<Keychain>,
) -> Credentials {
    let Some(query) = &config.users.query else { return credentials };
    match endpoint_of(query, config, clusters, keychain) {
        Some(endpoint) => credentials.with_query(endpoint, query.sql.clone()),
        None => credentials,
    }
}

/// Where a question of the pooler's own is asked.
fn endpoint_of(
    query: &TableQuery,
    config: &Config,
    clusters: &Clusters,
    keychain: &Arc<Keychain>,
) -> Option<Endpoint> {
    let name = query.cluster.as_ref().or_else(|| config.clusters.keys().next())?;
    let (cluster, (connector, _)) = config.clusters.get(name).zip(clusters.get(name))?;
    let user = query.user.as_ref().unwrap_or(&cluster.user);
    let password = match &query.user {
        Some(_) => query.password.clone(),
        None => query.password.clone().or_else(|| cluster.password.clone()),
    };
    let database = query.database.as_ref().unwrap_or(&cluster.database);
    let endpoint = Endpoint::new(cluster, connector.clone(), database, user, password, keychain);
    Some(endpoint.for_questions())
}
