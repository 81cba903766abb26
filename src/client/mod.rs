//! One client: greet, log in, and then hold a server only while it has something to do.
//!
//! Promises: before authentication a client costs a few bytes and a deadline; a session relays only
//! through a [`crate::pool::Linked`] server; what a client is told about a failure is decided in
//! one place, [`refusal`]; bytes pass through untouched, once scanned, and are never gathered.
//!
//! Uses `pool`, `auth`, `flow`, `server`. Knows no configuration file and no signals.

mod absorb;
mod access;
mod answers;
mod by_path;
mod chained;
mod changes;
mod clock;
mod consoles;
mod deallocate;
mod departure;
mod described;
mod events;
mod fuel;
mod greet;
mod guard;
mod hello;
mod kept;
mod ledger;
mod link;
mod login;
mod observe;
mod own_state;
mod placed;
mod plain;
mod prepared;
mod proof;
mod question;
mod quotas;
mod reading;
mod reasons;
mod refresh;
mod refusal;
mod refused;
mod reported;
mod restore;
mod row_types;
mod session;
mod sql_prepared;
mod statements;
mod targets;
mod texts;
mod timing;
mod to_client;
mod to_server;
mod units;
mod unnamed;
mod welcome;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use parking_lot::RwLock;
use tokio::sync::Semaphore;

pub use access::{Access, Clusters};
pub use consoles::{ConsoleFacts, ConsoleSeat, Consoles};
pub use greet::{GreetError, Greeting, Peer, greet, tell};
pub use hello::Hello;
pub use login::{DRAIN_GRACE, login};
pub use proof::{prove_for_console, slow_down};
use quotas::Rates;
pub use refusal::Refusal;
pub use session::Session;
pub use targets::Targets;
pub use welcome::Welcomes;

use crate::auth::Failures;
use crate::config::{General, PoolMode};
use crate::engine::Worker;
use crate::net::{Phase, Shutdown};
use crate::pool::{CancelRegistry, Everywhere};
use crate::prepared::Statements;
use crate::server::Keychain;
use crate::stats::Stats;

/// What all clients share.
pub struct Shared {
    /// `[general]`, as it was when the pooler started.
    pub general: General,
    access: RwLock<Arc<Access>>,
    /// The number of what holds now.
    version: AtomicU64,
    /// Keys that clients have shown.
    pub keychain: Arc<Keychain>,
    /// Who has failed to prove itself.
    pub failures: Failures,
    /// Keys by which clients cancel.
    pub cancels: Arc<CancelRegistry>,
    /// What clients are told at login.
    pub welcomes: Welcomes,
    /// States that clients are in.
    pub targets: Arc<Targets>,
    /// Statements that clients have prepared.
    pub statements: Statements,
    /// Room for clients, `max_client_conn`.
    pub room: Arc<Semaphore>,
    /// Whether the pooler stops.
    pub shutdown: Arc<Shutdown>,
    /// The first so many workers serve clients.
    pub serving: AtomicUsize,
    /// Workers that do not answer, a bit each: there are 64 at most.
    still: AtomicU64,
    /// Whose turn it is to get a client that stays.
    turn: AtomicUsize,
    /// How fast tenants' clients come.
    rates: Rates,
    /// Operators' sessions.
    pub consoles: Arc<Consoles>,
    /// Nobody is let in any more.
    closed: AtomicBool,
    /// Counters.
    pub stats: Arc<Stats>,
    /// All clusters.
    pub everywhere: Arc<Everywhere>,
}

impl Shared {
    /// What clients share from the start; nothing else has happened yet.
    #[must_use]
    pub fn new(
        general: General,
        access: Access,
        shutdown: Arc<Shutdown>,
        serving: usize,
        stats: Arc<Stats>,
        everywhere: Arc<Everywhere>,
    ) -> Self {
        let room = Arc::new(Semaphore::new(general.max_client_conn));
        Self {
            general,
            version: AtomicU64::new(access.number),
            keychain: Arc::clone(&access.keychain),
            access: RwLock::new(Arc::new(access)),
            failures: Failures::default(),
            cancels: Arc::default(),
            welcomes: Welcomes::default(),
            targets: Arc::default(),
            statements: Statements::default(),
            room,
            rates: Rates::default(),
            shutdown,
            serving: AtomicUsize::new(serving),
            still: AtomicU64::new(0),
            turn: AtomicUsize::new(0),
            consoles: Arc::default(),
            closed: AtomicBool::new(false),
            stats,
            everywhere,
        }
    }

    /// Whether something else holds by now than did in that version.
    #[inline]
    #[must_use]
    pub fn is_newer(&self, version: u64) -> bool {
        self.version.load(Ordering::Acquire) != version
    }

    /// The number of the worker whose thread this is; the spare one comes behind all others.
    fn this_worker(&self) -> usize {
        let workers = self.shutdown.workers();
        workers.iter().position(Worker::is_current).unwrap_or(workers.len())
    }

    /// The worker for who has just come: this one, or another one if it was given up meanwhile. Who will keep his
    /// server cannot be sent elsewhere later: such clients go to all workers in turns.
    fn worker_for(&self, mode: PoolMode) -> usize {
        let (this, all) = (self.this_worker(), self.shutdown.workers().len());
        if this == all || self.any_stands_still() {
            // It came here because others do not answer.
            return this;
        }
        match mode {
            PoolMode::Session => self.turn.fetch_add(1, Ordering::Relaxed) % all,
            PoolMode::Transaction => this % self.serving.load(Ordering::Relaxed),
        }
    }

    /// Notes whether a worker answers.
    pub fn note_worker(&self, number: usize, stands_still: bool) {
        let bit = 1 << number;
        if stands_still {
            self.still.fetch_or(bit, Ordering::Relaxed);
        } else {
            self.still.fetch_and(!bit, Ordering::Relaxed);
        }
    }

    /// Whether that worker does not answer.
    #[must_use]
    pub fn stands_still(&self, number: usize) -> bool {
        self.still.load(Ordering::Relaxed) >> number & 1 == 1
    }

    /// Whether any of them does not.
    #[must_use]
    pub fn any_stands_still(&self) -> bool {
        self.still.load(Ordering::Relaxed) != 0
    }

    /// From now on nobody is let in; who is there stays.
    pub fn close_doors(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    /// Whether somebody may come.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.closed.load(Ordering::Relaxed) && self.shutdown.phase() == Phase::Running
    }

    /// Who may connect now. A login that has begun goes on with what it began with.
    #[must_use]
    pub fn access(&self) -> Arc<Access> {
        Arc::clone(&self.access.read())
    }

    /// Replaces what holds. Sessions look at their tenants again before their next transaction.
    pub fn renew(&self, access: Arc<Access>) {
        let number = access.number;
        *self.access.write() = access;
        self.version.store(number, Ordering::Release);
    }
}
