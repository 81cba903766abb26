//! Servers on loan: [`Seat`] -> [`Checkout`] -> [`Linked`] -> back to the pool, or closed.
//!
//! A server comes out of the pool in whatever state its last client left it. Only
//! [`Checkout::switch_to`] makes a [`Linked`], and the relay takes nothing else: no statement
//! runs under another tenant's `search_path`. A [`Linked`] dropped half-way closes its socket.
//!
//! Promises: a tenant never has more servers than `max_server_connections`, a cluster never more
//! than its own, counted from before the dial until the socket is closed; what a tenant is guaranteed
//! nobody else gets; tenants that wait take turns by weight, over all databases of a cluster, and
//! within a tenant the first comes first; a server whose cancel is under way is lent to nobody.
//!
//! Uses `server`, `tenant`, `config`. Pure inside: `turns` (who is next), `account`, `order`. Between
//! threads: `desk`, `answer`.

mod account;
mod answer;
mod cancel;
#[cfg(feature = "counts")]
mod counted;
mod debt;
mod desk;
#[cfg(test)]
mod desk_model;
mod effects;
mod ending;
mod error;
mod everywhere;
mod failure;
mod loan;
mod lock;
#[cfg(any(test, feature = "counts"))]
mod number;
mod oldest;
mod order;
mod outage;
mod rack;
mod report;
mod sched;
mod seat;
mod turns;
mod upkeep;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::time::{timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

pub use cancel::{
    Activity, CancelRegistry, CancelSlot, ClientFacts, ClientReport, Pin, Registration,
};
#[cfg(feature = "counts")]
pub use counted::CountedPool;
pub use debt::{CREDIT_MAX, PAID_A_SECOND};
pub use error::{CheckoutError, Holder, Holds, Oldest, SeatError, Stop};
pub use everywhere::Everywhere;
pub use loan::{Checkout, Linked, Taint};
pub use report::{LastLogin, PoolReport, Report, ServerReport, TenantReport};
pub use seat::{Acquired, Seat, Waiting};
pub use turns::TooManyClients;

use crate::config::{Cluster, Scrub, Tenant};
use crate::engine::tick;
use crate::net::Tasks;
use crate::server::{Endpoint, LoginError, Server, ServerFacts, login};
use crate::stats::Stats;
use crate::tenant::TenantId;
use desk::Desk;
use effects::{Effects, Todo};
use lock::Mutex;
use sched::{Lent, Sched};

/// Longest a server that rests may take to say that it is there.
const CHECK_TIME_MAX: Duration = Duration::from_secs(5);

/// How often idle servers are looked after, and the pools' clock moves on. PgBouncer's period.
const JANITOR_PERIOD: Duration = Duration::from_millis(333);

/// All servers of one cluster, whatever their database and login role, under one budget.
pub struct Pools {
    scrub: Scrub,
    desk: Desk<Box<Server>>,
    tasks: Tasks,
    stop: CancellationToken,
    /// A server whose place is free already has not ended yet.
    ends_beyond_limit: AtomicBool,
    /// Rings when somebody's patience ends sooner than expected.
    alarm: Notify,
    stats: Arc<Stats>,
    everywhere: Arc<Everywhere>,
    /// How the last login went.
    last_login: Mutex<Option<LastLogin>>,
    /// Those that have logged in; some may be closed by now.
    servers: Mutex<Vec<Weak<ServerFacts>>>,
}

impl Pools {
    /// No servers yet. Tasks it needs run in `tasks` until [`Pools::stop`].
    #[must_use]
    pub fn new(
        config: Arc<Cluster>,
        scrub: Scrub,
        tasks: Tasks,
        stats: Arc<Stats>,
        everywhere: Arc<Everywhere>,
    ) -> Arc<Self> {
        let desk = Desk(Mutex::new(Sched::new(config)));
        let stop = CancellationToken::new();
        let pools = Arc::new(Self {
            scrub,
            desk,
            tasks,
            stop,
            ends_beyond_limit: AtomicBool::new(false),
            alarm: Notify::new(),
            stats,
            everywhere: Arc::clone(&everywhere),
            last_login: Mutex::new(None),
            servers: Mutex::new(Vec::new()),
        });
        everywhere.add(&pools);
        pools
    }

    /// What holds for a tenant from now on, and how its servers are logged in to; without that, or if it
    /// is paused, it stays where it is.
    pub fn amend(self: &Arc<Self>, tenant: &Tenant, endpoint: Option<&Endpoint>) {
        let mut effects = Effects::default();
        self.desk.0.lock().amend(tenant, endpoint, &mut effects);
        self.carry_out(effects);
    }

    /// Where a tenant lives is being changed: nobody of it gets a server here until it is amended.
    pub fn hold(&self, tenant: &TenantId) {
        self.desk.0.lock().turns.hold(tenant, tick());
    }

    /// A tenant lives here no more, or not at all: its clients that wait are to look where.
    pub fn dismiss(&self, tenant: &TenantId) {
        self.desk.0.lock().dismiss(tenant);
    }

    /// A newer version of what holds counts from now on: nobody comes by an older one.
    pub fn outdate(&self, version: u64) {
        self.desk.0.lock().version = version;
    }

    /// What holds for the cluster from now on. If it is to be reached in another way, no server that is
    /// there now is lent again.
    pub fn renew(self: &Arc<Self>, cluster: Arc<Cluster>) {
        let mut effects = Effects::default();
        // It may be another PostgreSQL.
        *self.last_login.lock() = None;
        self.desk.0.lock().renew(cluster, &mut effects);
        self.carry_out(effects);
    }

    /// Closes servers of a database, or of all: idle ones now, lent ones when they come back. How many there
    /// were.
    pub fn reconnect(self: &Arc<Self>, database: Option<&str>) -> usize {
        let mut effects = Effects::default();
        let count = self.desk.0.lock().reconnect(database, &mut effects);
        self.outdate_servers(database);
        self.carry_out(effects);
        count
    }

    /// Its last failed login is over: what it fails by may be another by now.
    pub fn forget_failure(&self, endpoint: &Endpoint) {
        let mut sched = self.desk.0.lock();
        let pool = sched.pool(endpoint);
        sched.forget_failure(pool);
    }

    /// Tenants that have clients.
    #[must_use]
    pub fn tenants(&self) -> Vec<TenantId> {
        self.desk.0.lock().turns.tenants().cloned().collect()
    }

    /// Servers that exist or are being dialled.
    #[must_use]
    pub fn server_connections(&self) -> usize {
        self.desk.0.lock().turns.budget().0
    }

    /// How often clients of a tenant have waited for a server since its first client came.
    #[must_use]
    pub fn waits(&self, tenant: &str) -> u64 {
        self.desk.0.lock().turns.waits(tenant)
    }

    /// Tells clients that have waited for `query_wait_timeout`, and tries logins again that have failed,
    /// until [`Pools::stop`].
    pub async fn watch_the_clock(self: Arc<Self>) {
        loop {
            let mut effects = Effects::default();
            let next = self.desk.0.lock().tick(Instant::now(), &mut effects);
            effects.silence();
            self.carry_out(effects);
            let sooner = self.alarm.notified();
            let watch = async {
                match next {
                    Some(next) => drop(timeout_at(next.into(), sooner).await),
                    None => sooner.await,
                }
            };
            if self.stop.run_until_cancelled(watch).await.is_none() {
                return;
            }
        }
    }

    /// The same for who cannot be rung, because the bell is another's: looks every so often.
    pub async fn look_at_the_clock(self: Arc<Self>, period: Duration) {
        let mut tick = tokio::time::interval(period);
        while self.stop.run_until_cancelled(tick.tick()).await.is_some() {
            let mut effects = Effects::default();
            self.desk.0.lock().tick(Instant::now(), &mut effects);
            effects.silence();
            self.carry_out(effects);
        }
    }

    /// Looks after idle servers until [`Pools::stop`].
    pub async fn janitor(self: Arc<Self>) {
        let mut tick = tokio::time::interval(JANITOR_PERIOD);
        while self.stop.run_until_cancelled(tick.tick()).await.is_some() {
            self.close_stale(Instant::now());
        }
    }

    fn close_stale(self: &Arc<Self>, now: Instant) {
        let mut effects = Effects::default();
        {
            let mut sched = self.desk.0.lock();
            let idle_max = sched.cluster.server_idle_timeout;
            let stale = |server: &mut Box<Server>| {
                server.life.ended = !server.is_usable();
                server.life.ended
                    || now.duration_since(server.life.idle_since) >= idle_max
                    || now >= server.life.retire_at
            };
            sched.clock = now;
            sched.close_idle(stale, now, &mut effects);
            sched.take_silent(now, &mut effects);
            sched.forget_pools(now);
        }
        self.carry_out(effects);
    }

    /// No more dials; idle servers are closed, and lent ones when they come back.
    pub fn stop(self: &Arc<Self>) {
        self.stop.cancel();
        let mut effects = Effects::default();
        self.desk.0.lock().stop(&mut effects);
        self.carry_out(effects);
    }

    /// Does what was decided under the lock.
    fn carry_out(self: &Arc<Self>, effects: Effects<Box<Server>>) {
        let Some(todo) = effects.into_todo() else { return };
        let Todo { dials, rings, quiet, checks, audited, owing } = *todo;
        for (pool, generation, endpoint) in dials {
            let pools = Arc::clone(self);
            self.stats.dials.add_one();
            self.tasks.spawn(async move {
                let stop = pools.stop.clone();
                let mut result = stop.run_until_cancelled(login(&endpoint)).await;
                if let Some(Ok(server)) = &mut result {
                    server.life.generation = generation;
                }
                pools.dialled(pool, &endpoint, result);
            });
        }
        for Lent { mut server, pool } in checks {
            let pools = Arc::clone(self);
            self.tasks.spawn(async move {
                let stop = pools.stop.clone();
                let check = timeout(CHECK_TIME_MAX, server.ask(None, ""));
                let problem = match stop.run_until_cancelled(check).await {
                    Some(Ok(Ok(_))) | None => None,
                    Some(Ok(Err(error))) => Some(error.to_string()),
                    Some(Err(_)) => Some(format!("it did not answer within {CHECK_TIME_MAX:?}")),
                };
                let pid = server.cancel_key.pid();
                match &problem {
                    None => debug!(pid, "resting server has answered"),
                    Some(problem) => {
                        info!(pid, problem, "server closed: it rested and is not there any more");
                    }
                }
                server.unnamed_left = None;
                let mut effects = Effects::default();
                let server = problem.is_none().then_some(server);
                pools.desk.0.lock().checked(pool, server, &mut effects);
                pools.carry_out(effects);
            });
        }
        if let Some(tenant) = quiet {
            self.everywhere.note_quiet(&tenant);
        }
        for (tenant, quota) in audited {
            self.stats.audit_quota(tenant.as_str(), quota);
        }
        for tenant in owing {
            let tenant = tenant.as_str();
            warn!(
                tenant,
                "its clients wait: more than {CREDIT_MAX} servers became unusable while they had them, and {PAID_A_SECOND} a second more may"
            );
        }
        if rings {
            self.alarm.notify_one();
        }
    }

    fn dialled(
        self: &Arc<Self>,
        pool: usize,
        endpoint: &Endpoint,
        result: Option<Result<Box<Server>, LoginError>>,
    ) {
        let mut effects = Effects::default();
        let now = Instant::now();
        match result {
            Some(Ok(server)) => {
                debug!(?endpoint, pid = server.cancel_key.pid(), "server connection established");
                self.note_server(&server.facts);
                self.note_login(true);
                let recovered = self.desk.0.lock().dialled(pool, server, now, &mut effects);
                if recovered {
                    info!(?endpoint, "login to the server works again");
                }
            }
            Some(Err(error)) => {
                warn!(?endpoint, %error, "login to the server failed");
                self.stats.login_failures.add_one();
                self.note_login(error.is_answer());
                self.desk.0.lock().dial_failed(pool, error, now, &mut effects);
            }
            None => self.desk.0.lock().dial_given_up(pool),
        }
        self.carry_out(effects);
    }
}
