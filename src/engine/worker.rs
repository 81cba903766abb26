//! A thread that runs tasks, and waits for their sockets when none is ready.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::task::Poll;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use futures_task::ArcWake;
use mio::{Events, Token};
use tokio::runtime::Handle;
use tracing::error;

use super::fair;
use super::load;
use super::local::{self, Home, Local};
use super::task::Task;
use super::tick;

/// Events taken from the kernel at once.
const EVENTS_MAX: usize = 256;
/// Tasks run before the sockets are looked at again.
const RUN_MAX: usize = 256;

/// The mailbox's bell; a socket's token is its place.
const BELL: Token = Token(usize::MAX);

/// A worker, to give tasks to.
#[derive(Clone)]
pub struct Worker(Arc<Home>);

impl Worker {
    /// Starts a thread that runs tasks until [`Worker::stop`]. Their timers and blocking calls run
    /// in `runtime`.
    ///
    /// # Errors
    /// The system's own, such as a lack of file descriptors or threads.
    pub fn start(name: String, runtime: Handle) -> io::Result<(Self, JoinHandle<()>)> {
        let poll = mio::Poll::new()?;
        let bell = mio::Waker::new(poll.registry(), BELL)?;
        let registry = poll.registry().try_clone()?;
        let home = Arc::new(Home::new(bell, registry));
        let worker = Self(Arc::clone(&home));
        let (begun, begins) = sync_channel(1);
        let thread = Builder::new().name(name).spawn(move || {
            let _timers = runtime.enter();
            // Without /proc nobody can tell how busy it is.
            let _ = load::account_of_thread().map(|path| home.account.set(path));
            local::settle(home);
            // Who started it waits for this.
            let _ = begun.send(());
            local::with(|local| run(poll, local));
        })?;
        begins.recv().map_err(io::Error::other)?;
        Ok((worker, thread))
    }

    /// The worker whose thread this is.
    #[must_use]
    pub fn current() -> Option<Self> {
        local::with(|local| Self(Arc::clone(&local.home)))
    }

    /// Gives it a task. After [`Worker::stop`] the future is dropped at once.
    pub fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        Task::begin(&self.0, Box::pin(future));
    }

    /// Has the task that calls it go on here, from the next line on. What it waits for, it is woken for there; its
    /// sockets stay where they are until they are moved too. If this worker has stopped, the task ends.
    ///
    /// # Cancel safety
    /// It may go on here all the same.
    pub async fn enter(&self) {
        poll_fn(|_| {
            if self.is_current() || !local::leave_for(&self.0) {
                return Poll::Ready(());
            }
            Poll::Pending
        })
        .await;
    }

    /// Whether the thread is this worker's.
    #[must_use]
    pub fn is_current(&self) -> bool {
        local::with(|local| Arc::ptr_eq(&local.home, &self.0)) == Some(true)
    }

    /// The number of the turn of its loop that it is in; `None`: it waits for its sockets. One that is in the same turn
    /// for seconds does not answer its clients.
    #[must_use]
    pub fn busy_turn(&self) -> Option<u64> {
        self.0.busy_turn()
    }

    /// What its thread has used of the processors; `None` if the system does not say.
    #[must_use]
    pub fn used(&self) -> Option<Duration> {
        load::used(self.0.account.get()?)
    }

    /// Polls every task once more, whatever it waits for.
    pub fn wake_all(&self) {
        for (_, task) in self.0.tasks.lock().iter() {
            ArcWake::wake_by_ref(task);
        }
    }

    /// It ends after the task that runs now; what has not ended by itself is dropped.
    pub fn stop(&self) {
        self.0.stop();
    }
}

/// Runs tasks that are ready, unless the last one was insatiable: then the sockets are looked at first, so that whoever
/// they wake comes before it comes again.
fn run_ready(next: &mut VecDeque<Arc<Task>>, local: &Local) {
    for _ in 0..RUN_MAX {
        if next.is_empty() {
            std::mem::swap(next, &mut local.ready.borrow_mut());
        }
        if !fair::begin() {
            return;
        }
        let Some(task) = next.pop_front() else { return };
        task.run(local);
    }
}

fn run(mut poll: mio::Poll, local: &Local) {
    let mut events = Events::with_capacity(EVENTS_MAX);
    // Those of the queue that come first. Whoever is woken meanwhile comes behind them.
    let mut next = VecDeque::new();
    while !local.home.is_stopped() {
        run_ready(&mut next, local);
        let waits = next.is_empty() && local.ready.borrow().is_empty() && local.home.park();
        let limit = if waits { None } else { Some(Duration::ZERO) };
        if let Err(error) = poll.poll(&mut events, limit) {
            // A signal; anything else would come again at once, and is worth a line each time.
            if error.kind() != io::ErrorKind::Interrupted {
                error!(%error, "the worker cannot wait for its sockets");
            }
        }
        local.home.unpark();
        local.home.turn();
        tick::next_turn();
        {
            let sources = local.sources.borrow();
            for event in &events {
                // The bell has no source; a socket that was dropped has none any more.
                if let Some(source) = sources.get(event.token().0) {
                    source.notify(event);
                }
            }
        }
        local.take_mail();
    }
    let tasks: Vec<Arc<Task>> = local.home.tasks.lock().drain().collect();
    for task in tasks {
        task.cut();
    }
}
