//! What belongs to one worker's thread, and the mailbox through which other threads reach it.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use slab::Slab;

use super::source::Source;
use super::task::Task;

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
    /// How often it has come round. Only its own thread counts.
    turns: AtomicU64,
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
            turns: AtomicU64::new(0),
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

    /// It has come round.
    pub(super) fn turn(&self) {
        self.turns.store(self.turns.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// The turn that it is in; `None`: it waits for its sockets.
    pub(super) fn busy_turn(&self) -> Option<u64> {
        (!self.parked.load(Ordering::SeqCst)).then(|| self.turns.load(Ordering::Relaxed))
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
    /// Where the task that runs wants to go on.
    pub(super) leaving: Cell<Option<Arc<Home>>>,
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
        leaving: Cell::new(None),
    };
    LOCAL.with(|place| assert!(place.set(local).is_ok(), "a thread is one worker"));
}

/// Puts a task into its worker's queue.
pub(super) fn schedule(task: &Arc<Task>) {
    let here = with(|local| {
        let same = Arc::ptr_eq(&task.home, &local.home);
        if same {
            local.ready.borrow_mut().push_back(Arc::clone(task));
        }
        same
    });
    if here != Some(true) {
        task.home.send(|mail| mail.woken.push(Arc::clone(task)));
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

impl Local {
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
