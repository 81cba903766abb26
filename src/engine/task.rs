//! A future that a worker runs.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use futures_task::{ArcWake, waker_ref};
use parking_lot::Mutex;
use tracing::error;

use super::local::{Home, Local, schedule};

pub(super) type BoxFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

/// One task. It is in its worker's queue at most once.
pub(super) struct Task {
    pub(super) home: Arc<Home>,
    future: Mutex<Option<BoxFuture>>,
    queued: AtomicBool,
    /// Among the worker's tasks.
    place: usize,
}

impl ArcWake for Task {
    fn wake_by_ref(task: &Arc<Self>) {
        if !task.queued.swap(true, Ordering::AcqRel) {
            schedule(task);
        }
    }
}

impl Task {
    /// Begins a task; on a worker that has stopped, the future is dropped at once.
    pub(super) fn begin(home: &Arc<Home>, future: BoxFuture) {
        let task = {
            let mut tasks = home.tasks.lock();
            if home.is_stopped() {
                drop(tasks);
                return drop_quietly(Some(future));
            }
            let entry = tasks.vacant_entry();
            let task = Arc::new(Self {
                home: Arc::clone(home),
                future: Mutex::new(Some(future)),
                queued: AtomicBool::new(true),
                place: entry.key(),
            });
            entry.insert(Arc::clone(&task));
            task
        };
        schedule(&task);
    }

    /// Polls it once. A panic ends it as its own end would; one that wants to go on elsewhere begins there.
    pub(super) fn run(self: Arc<Self>, local: &Local) {
        // Before the poll: whoever wakes it meanwhile wants it polled again.
        self.queued.store(false, Ordering::Release);
        let waker = waker_ref(&self);
        let mut context = Context::from_waker(&waker);
        let mut slot = self.future.lock();
        let Some(future) = &mut *slot else { return };
        let poll = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut context)));
        let elsewhere = local.leaving.take();
        match (poll, elsewhere) {
            (Ok(Poll::Pending), None) => return,
            (Ok(Poll::Pending), Some(home)) => {
                let future = slot.take();
                drop(slot);
                self.forget();
                // Whoever wakes this one meanwhile finds nothing: there it is polled in any case.
                if let Some(future) = future {
                    Self::begin(&home, future);
                }
                return;
            }
            (Ok(Poll::Ready(())), _) => {}
            (Err(_), _) => error!("a task panicked; nobody else is affected"),
        }
        let future = slot.take();
        drop(slot);
        drop_quietly(future);
        self.forget();
    }

    fn forget(&self) {
        // At a stop it is gone already.
        self.home.tasks.lock().try_remove(self.place);
    }

    /// Drops the future: the worker stops.
    pub(super) fn cut(&self) {
        let future = self.future.lock().take();
        drop_quietly(future);
    }
}

fn drop_quietly(future: Option<BoxFuture>) {
    if catch_unwind(AssertUnwindSafe(|| drop(future))).is_err() {
        error!("a task panicked at its end; nobody else is affected");
    }
}
