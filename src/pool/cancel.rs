//! Clients: their cancel keys, what a cancel request reaches, and what an operator sees of them.
//!
//! A request goes to the server its client holds at that moment; while the client waits, it ends
//! the wait. Nothing is registered per transaction but a pointer in the client's own slot.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Waker;
use std::time::{Instant, SystemTime};

use dashmap::DashMap;
use dashmap::Entry;
use dashmap::mapref::multiple::RefMulti;
use parking_lot::Mutex;
use ring::rand::{SecureRandom, SystemRandom};
use smallvec::SmallVec;

use super::oldest::LastAnswer;
use crate::engine::{Tick, tick};
use crate::server::{CancelKey, PendingCancel};
use crate::tenant::TenantId;
use crate::wire::startup::ProtocolVersion;

/// Bytes of a key in protocol 3.2, as many as PostgreSQL 18 uses.
const KEY_LEN: usize = 32;

/// Where a client stands, for those who want to cancel it.
#[derive(Debug)]
pub struct CancelSlot {
    /// The key the client is told.
    pub key: SmallVec<[u8; 4]>,
    pub(super) state: Mutex<State>,
    /// An operator wants it gone.
    killed: AtomicBool,
    /// The number of the worker that is to serve it.
    worker: AtomicUsize,
    pin: Mutex<Option<Pin>>,
    facts: Box<ClientFacts>,
}

/// Why a session keeps its server, and since when.
#[derive(Debug, Clone, Copy)]
pub struct Pin {
    /// The statement, or the thing.
    pub reason: &'static str,
    /// When it did that.
    pub since: Instant,
}

/// What is known of a client from its login on; its tenant may be another later, by its search_path.
#[derive(Debug)]
pub struct ClientFacts {
    /// As whom it has logged in.
    pub user: Box<str>,
    /// Its tenant now.
    pub tenant: Mutex<TenantId>,
    /// Its address; a unix socket has none.
    pub peer: Option<SocketAddr>,
    /// The pooler's address that it came to.
    pub local: Option<SocketAddr>,
    /// Whether it speaks TLS.
    pub tls: bool,
    /// `application_name` in its start-up packet.
    pub application_name: Box<str>,
    /// When it logged in.
    pub since: SystemTime,
}

/// A client at one moment.
pub struct ClientReport {
    /// The process id it was told.
    pub pid: i32,
    /// Where what is known of it is.
    pub slot: Arc<CancelSlot>,
    /// What it is doing.
    pub activity: Activity,
    /// Why it keeps its server, if it does.
    pub pin: Option<Pin>,
}

/// What a client is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    /// Nothing that needs a server.
    Idle,
    /// It waits for a server, since then.
    Waiting(Instant),
    /// It holds a server, since then.
    Linked {
        /// The server's process id.
        pid: i32,
        /// The server's number.
        server: u64,
        /// Since when.
        since: Instant,
    },
}

impl ClientFacts {
    /// Its tenant.
    #[must_use]
    pub fn tenant(&self) -> TenantId {
        self.tenant.lock().clone()
    }
}

impl CancelSlot {
    /// Whether an operator wants it gone.
    #[inline]
    #[must_use]
    pub fn is_killed(&self) -> bool {
        self.killed.load(Ordering::Relaxed)
    }

    /// The number of the worker that is to serve it.
    #[inline]
    #[must_use]
    pub fn worker(&self) -> usize {
        self.worker.load(Ordering::Relaxed)
    }

    /// Another worker is to serve it.
    pub fn send_to(&self, worker: usize) {
        self.worker.store(worker, Ordering::Relaxed);
    }

    /// What is known of the client.
    #[must_use]
    pub const fn facts(&self) -> &ClientFacts {
        &self.facts
    }

    /// Whether and why it keeps its server from now on.
    pub fn pin(&self, reason: Option<&'static str>) {
        *self.pin.lock() = reason.map(|reason| Pin { reason, since: tick().instant() });
    }

    pub(super) fn is_pinned(&self) -> bool {
        self.pin.lock().is_some()
    }

    fn activity(&self) -> Activity {
        match &*self.state.lock() {
            State::Idle => Activity::Idle,
            State::Queued { since, .. } => Activity::Waiting(since.instant()),
            State::Linked { key, since, .. } => {
                Activity::Linked { pid: key.pid(), server: key.server(), since: since.instant() }
            }
        }
    }
}

#[derive(Debug, Default)]
pub(super) enum State {
    /// It holds nothing: there is nothing to cancel.
    #[default]
    Idle,
    /// It waits for a server.
    Queued { cancelled: bool, waker: Option<Waker>, since: Tick },
    /// It holds this server. `idle`: since when its transaction waits for it.
    Linked { key: Arc<CancelKey>, cancelled: bool, since: Tick, idle: Option<Tick> },
}

impl CancelSlot {
    /// The client begins to wait.
    pub fn queue(&self) {
        let since = tick();
        *self.state.lock() = State::Queued { cancelled: false, waker: None, since };
    }

    /// Whether the wait was cancelled; if not, `waker` is woken when it is.
    pub fn is_wait_cancelled(&self, current: &Waker) -> bool {
        match &mut *self.state.lock() {
            State::Queued { cancelled, waker, .. } => {
                if !waker.as_ref().is_some_and(|waker| waker.will_wake(current)) {
                    *waker = Some(current.clone());
                }
                *cancelled
            }
            State::Idle | State::Linked { .. } => false,
        }
    }

    /// The client holds a server, from then on.
    pub fn link(&self, key: Arc<CancelKey>, since: Tick) {
        *self.state.lock() = State::Linked { key, cancelled: false, since, idle: None };
    }

    /// Since when its transaction waits for the client, if it does.
    pub fn note_idle(&self, at: Option<Tick>) {
        if let State::Linked { idle, .. } = &mut *self.state.lock() {
            *idle = at;
        }
    }

    /// The client holds nothing any more: no later request reaches what it held. Says whether
    /// one had.
    pub fn unlink(&self) -> bool {
        match std::mem::take(&mut *self.state.lock()) {
            State::Linked { cancelled, .. } | State::Queued { cancelled, .. } => cancelled,
            State::Idle => false,
        }
    }

    fn request(&self) -> Option<PendingCancel> {
        match &mut *self.state.lock() {
            State::Idle => None,
            State::Queued { cancelled, waker, .. } => {
                *cancelled = true;
                if let Some(waker) = waker.take() {
                    waker.wake();
                }
                None
            }
            State::Linked { key, cancelled, .. } => {
                *cancelled = true;
                // Promised under the slot's lock: the client cannot give the server back unseen.
                Some(key.promise())
            }
        }
    }
}

/// All clients' keys.
#[derive(Default)]
pub struct CancelRegistry {
    slots: DashMap<i32, Arc<CancelSlot>>,
    pub(super) last_answer: LastAnswer,
}

/// A client's entry, until it is dropped.
pub struct Registration {
    registry: Arc<CancelRegistry>,
    /// The process id the client is told.
    pub pid: i32,
    /// Where it stands.
    pub slot: Arc<CancelSlot>,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.registry.slots.remove(&self.pid);
    }
}

impl CancelRegistry {
    /// Gives a client its key: 4 bytes, or 32 from protocol 3.2 on. It is to be told which worker
    /// serves it.
    #[must_use]
    pub fn register(
        self: &Arc<Self>,
        version: ProtocolVersion,
        facts: ClientFacts,
    ) -> Registration {
        let random = SystemRandom::new();
        let fill = |bytes: &mut [u8]| random.fill(bytes).expect("the system has random numbers");
        let len = if version >= ProtocolVersion::V3_2 { KEY_LEN } else { 4 };
        let mut key = SmallVec::from_elem(0, len);
        fill(&mut key);
        let slot = Arc::new(CancelSlot {
            key,
            state: Mutex::default(),
            killed: AtomicBool::new(false),
            worker: AtomicUsize::new(0),
            pin: Mutex::default(),
            facts: Box::new(facts),
        });
        loop {
            let mut bytes = [0; 4];
            fill(&mut bytes);
            let pid = i32::from_be_bytes(bytes) & i32::MAX;
            if let Entry::Vacant(vacant) = self.slots.entry(pid) {
                vacant.insert(Arc::clone(&slot));
                return Registration { registry: Arc::clone(self), pid, slot };
            }
        }
    }

    /// Clients that are to go when they look next; how many there are.
    pub fn kill(&self, whom: impl Fn(i32, &ClientFacts) -> bool) -> usize {
        let hit = self.slots.iter().filter(|entry| whom(*entry.key(), &entry.value().facts));
        hit.map(|entry| entry.value().killed.store(true, Ordering::Relaxed)).count()
    }

    /// Which worker is to serve each client: `next` is told which one it is now. A client goes where it is sent
    /// when it next has something to do. Who keeps a server cannot go, and is not asked about.
    pub fn place(&self, mut next: impl FnMut(usize) -> usize) {
        for entry in &self.slots {
            let slot = entry.value();
            if slot.pin.lock().is_none() {
                slot.send_to(next(slot.worker()));
            }
        }
    }

    /// Where all clients stand.
    pub(super) fn slots(&self) -> impl Iterator<Item = Arc<CancelSlot>> {
        self.slots.iter().map(|entry| Arc::clone(entry.value()))
    }

    /// All clients, by their process ids.
    #[must_use]
    pub fn clients(&self) -> Vec<ClientReport> {
        let report = |entry: RefMulti<'_, i32, Arc<CancelSlot>>| {
            let (pid, slot) = (*entry.key(), Arc::clone(entry.value()));
            let pin = *slot.pin.lock();
            ClientReport { pid, activity: slot.activity(), pin, slot }
        };
        let mut clients: Vec<ClientReport> = self.slots.iter().map(report).collect();
        clients.sort_by_key(|client| (client.slot.facts.since, client.pid));
        clients
    }

    /// A cancel request came. `Some` if there is one to send on.
    #[must_use]
    pub fn request(&self, pid: i32, key: &[u8]) -> Option<PendingCancel> {
        let slot = {
            let entry = self.slots.get(&pid)?;
            let slot = entry.value();
            #[expect(
                deprecated,
                reason = "constant time; the names of its successors differ by version"
            )]
            let same = ring::constant_time::verify_slices_are_equal(&slot.key, key).is_ok();
            same.then(|| Arc::clone(slot))?
        };
        slot.request()
    }
}
