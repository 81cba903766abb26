//! What belongs to one worker's thread, and the mailbox through which other threads reach it.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::ops::Add;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use slab::Slab;

use super::source::Source;
use super::task::Task;

/// Reads and writes a task may do before the others have their turn: a megabyte with full buffers.
pub(super) const OPERATIONS_MAX: u32 = 64;

/// The part of a worker that every thread may touch.
pub(super) struct Home {
    /// All tasks that have not ended.
    pub(super) tasks: Mutex<Slab<Arc<Task>>>,
    mail: Mutex<Mail>,
    has_mail: AtomicBool,
    /// The worker waits in epoll, or is about to.
    parked: AtomicBool,
    stopped: AtomicBool,
    bell: mio::Waker,
    /// Where the kernel tells what its thread has used, once that runs.
    pub(super) account: OnceLock<PathBuf>,
    /// Its epoll.
    pub(super) registry: mio::Registry,
}

#[derive(Default)]
struct Mail {
    woken: Vec<Arc<Task>>,
    /// Places of sockets that were dropped on other threads, or moved there.
    released: Vec<usize>,
}

impl Home {
    pub(super) fn new(bell: mio::Waker, registry: mio::Registry) -> Self {
        Self {
            tasks: Mutex::new(Slab::new()),
            mail: Mutex::default(),
            has_mail: AtomicBool::new(false),
            parked: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            bell,
            account: OnceLock::new(),
            registry,
        }
    }

    /// Mail that can wait until the worker wakes up for something else.
    fn leave(&self, write: impl FnOnce(&mut Mail)) {
        write(&mut self.mail.lock());
        self.has_mail.store(true, Ordering::SeqCst);
    }

    fn send(&self, write: impl FnOnce(&mut Mail)) {
        self.leave(write);
        if self.parked.swap(false, Ordering::SeqCst) {
            // Its eventfd cannot be full, and the worker outlives whoever still needs it.
            let _ = self.bell.wake();
        }
    }

    /// `true`: there is no mail, and whoever sends some will ring.
    pub(super) fn park(&self) -> bool {
        self.parked.store(true, Ordering::SeqCst);
        !self.has_mail.load(Ordering::SeqCst)
    }

    pub(super) fn unpark(&self) {
        self.parked.store(false, Ordering::SeqCst);
    }

    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        self.send(|_| ());
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }
}

/// The part that only the worker's own thread touches.
pub(super) struct Local {
    pub(super) home: Arc<Home>,
    pub(super) ready: RefCell<VecDeque<Arc<Task>>>,
    pub(super) sources: RefCell<Slab<Arc<Source>>>,
    operations_left: Cell<u32>,
    /// Where the task that runs wants to go on.
    pub(super) leaving: Cell<Option<Arc<Home>>>,
    /// A task had to be stopped: it has more to do than others may be made to wait for.
    insatiable: Cell<bool>,
    /// When the sockets were last looked at, if anybody has asked since.
    turn: Cell<Option<Tick>>,
}

thread_local! {
    static LOCAL: OnceCell<Local> = const { OnceCell::new() };
}

/// Looks at the current worker, if the thread is one that has not ended.
pub(super) fn with<T>(look: impl FnOnce(&Local) -> T) -> Option<T> {
    LOCAL.try_with(|local| local.get().map(look)).ok().flatten()
}

/// Makes the current thread a worker.
pub(super) fn settle(home: Arc<Home>) {
    let local = Local {
        home,
        ready: RefCell::default(),
        sources: RefCell::default(),
        operations_left: Cell::new(0),
        leaving: Cell::new(None),
        insatiable: Cell::new(false),
        turn: Cell::new(None),
    };
    LOCAL.with(|place| assert!(place.set(local).is_ok(), "a thread is one worker"));
}

/// A moment in microseconds, which costs less to count with than an [`Instant`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tick(u64);

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

impl Tick {
    #[cold]
    fn look() -> Self {
        Self::at(Instant::now())
    }

    /// That moment.
    #[must_use]
    pub fn at(moment: Instant) -> Self {
        let passed = moment.saturating_duration_since(*START).as_micros();
        Self(u64::try_from(passed).unwrap_or(u64::MAX))
    }

    /// How long after another one it is; 0 if it is not.
    #[inline]
    #[must_use]
    pub const fn micros_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The same moment.
    #[must_use]
    pub fn instant(self) -> Instant {
        *START + Duration::from_micros(self.0)
    }
}

impl Add<Duration> for Tick {
    type Output = Self;

    fn add(self, time: Duration) -> Self {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(micros))
    }
}

/// What time it is, read once a turn of the worker's loop: what is counted by it may be off by as much as a turn
/// takes, which is less than what is waited for.
#[inline]
#[must_use]
pub fn tick() -> Tick {
    with(|local| {
        local.turn.get().unwrap_or_else(|| {
            let now = Tick::look();
            local.turn.set(Some(now));
            now
        })
    })
    .unwrap_or_else(Tick::look)
}

/// Puts a task into its worker's queue.
pub(super) fn schedule(task: Arc<Task>) {
    let mut task = Some(task);
    with(|local| {
        if let Some(task) = task.take_if(|task| Arc::ptr_eq(&task.home, &local.home)) {
            local.ready.borrow_mut().push_back(task);
        }
    });
    if let Some(task) = task {
        let home = Arc::clone(&task.home);
        home.send(|mail| mail.woken.push(task));
    }
}

/// Has the task that runs go on at another home once it waits; `false`: nobody runs here.
pub(super) fn leave_for(home: &Arc<Home>) -> bool {
    with(|local| local.leaving.set(Some(Arc::clone(home)))).is_some()
}

/// Gives a socket's place back.
pub(super) fn release(home: &Arc<Home>, place: usize) {
    let here = with(|local| {
        let same = Arc::ptr_eq(home, &local.home);
        if same {
            local.sources.borrow_mut().remove(place);
        }
        same
    });
    if here != Some(true) {
        home.leave(|mail| mail.released.push(place));
    }
}

/// Counts a read or a write. `false`: the task has done enough for this time.
#[inline]
pub(super) fn may_go_on() -> bool {
    with(|local| {
        let left = local.operations_left.get();
        local.operations_left.set(left.saturating_sub(1));
        if left == 0 {
            local.insatiable.set(true);
        }
        left > 0
    })
    .unwrap_or(true)
}

impl Local {
    /// The next task, unless the last one was insatiable: then the sockets are looked at first, so
    /// that whoever they wake comes before it comes again.
    pub(super) fn next_ready(&self) -> Option<Arc<Task>> {
        self.operations_left.set(OPERATIONS_MAX);
        if self.insatiable.take() {
            return None;
        }
        self.ready.borrow_mut().pop_front()
    }

    /// The sockets are looked at: time has passed.
    pub(super) fn next_turn(&self) {
        self.turn.set(None);
    }

    pub(super) fn take_mail(&self) {
        if !self.home.has_mail.swap(false, Ordering::SeqCst) {
            return;
        }
        let mail = std::mem::take(&mut *self.home.mail.lock());
        self.ready.borrow_mut().extend(mail.woken);
        let mut sources = self.sources.borrow_mut();
        for place in mail.released {
            sources.remove(place);
        }
    }
}
