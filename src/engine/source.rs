//! Whether a socket is ready, and who waits for that.

use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Waker};

use mio::event::Event;
use parking_lot::Mutex;

const READABLE: u32 = 1;
const WRITABLE: u32 = 2;
/// The peer sends nothing more: from now on every read returns at once.
const READ_CLOSED: u32 = 4;
/// Nothing can be sent any more: from now on every write fails at once.
const WRITE_CLOSED: u32 = 8;
/// Above the flags: how many events have come. A flag is taken back only if none came since.
const EVENT: u32 = 16;

/// What a task waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Read,
    Write,
}

impl Direction {
    const fn flags(self) -> u32 {
        match self {
            Self::Read => READABLE | READ_CLOSED,
            Self::Write => WRITABLE | WRITE_CLOSED,
        }
    }

    const fn passing(self) -> u32 {
        match self {
            Self::Read => READABLE,
            Self::Write => WRITABLE,
        }
    }
}

/// What was seen of a source, to take back what turned out to be over.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen(u32);

/// One socket's readiness. A waiter stays registered until another takes its place: to wait once
/// more costs a comparison.
#[derive(Debug)]
pub(super) struct Source {
    state: AtomicU32,
    reader: Mutex<Option<Waker>>,
    writer: Mutex<Option<Waker>>,
}

impl Source {
    /// Ready for everything until a try shows otherwise: that saves a new socket a turn.
    pub(super) const fn new() -> Self {
        Self {
            state: AtomicU32::new(READABLE | WRITABLE),
            reader: Mutex::new(None),
            writer: Mutex::new(None),
        }
    }

    /// For the same socket in another worker's epoll: as ready as it is, and nobody waits yet.
    pub(super) fn successor(&self) -> Self {
        let state = AtomicU32::new(self.state.load(Ordering::Acquire));
        Self { state, reader: Mutex::new(None), writer: Mutex::new(None) }
    }

    const fn waiter(&self, direction: Direction) -> &Mutex<Option<Waker>> {
        match direction {
            Direction::Read => &self.reader,
            Direction::Write => &self.writer,
        }
    }

    /// Whether a try makes sense now.
    #[inline]
    pub(super) fn is_ready(&self, direction: Direction) -> bool {
        self.state.load(Ordering::Acquire) & direction.flags() != 0
    }

    /// Waits until a try makes sense.
    #[inline]
    pub(super) fn poll_ready(&self, direction: Direction, cx: &Context<'_>) -> Poll<Seen> {
        let state = self.state.load(Ordering::Acquire);
        if state & direction.flags() != 0 {
            return Poll::Ready(Seen(state));
        }
        self.wait_for(direction, cx);
        // An event between the first look and the registration has woken nobody.
        let state = self.state.load(Ordering::Acquire);
        if state & direction.flags() == 0 { Poll::Pending } else { Poll::Ready(Seen(state)) }
    }

    /// Waits until the peer sends nothing more, whatever it sent before.
    pub(super) fn poll_closed(&self, cx: &Context<'_>) -> Poll<()> {
        let is_closed = || self.state.load(Ordering::Acquire) & READ_CLOSED != 0;
        if !is_closed() {
            self.wait_for(Direction::Read, cx);
        }
        if is_closed() { Poll::Ready(()) } else { Poll::Pending }
    }

    fn wait_for(&self, direction: Direction, cx: &Context<'_>) {
        let mut waiter = self.waiter(direction).lock();
        if !waiter.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waiter = Some(cx.waker().clone());
        }
    }

    /// A try has shown that there is nothing more for now. An event that came since `seen` stays.
    #[inline]
    pub(super) fn run_dry(&self, direction: Direction, seen: Seen) {
        let dry = seen.0 & !direction.passing();
        let _ = self.state.compare_exchange(seen.0, dry, Ordering::AcqRel, Ordering::Acquire);
    }

    /// An event has come: notes it and wakes who waits for it.
    pub(super) fn notify(&self, event: &Event) {
        let flag = |set: bool, flag: u32| if set { flag } else { 0 };
        self.set(
            flag(event.is_readable() || event.is_error(), READABLE)
                | flag(event.is_writable() || event.is_error(), WRITABLE)
                | flag(event.is_read_closed(), READ_CLOSED)
                | flag(event.is_write_closed(), WRITE_CLOSED),
        );
    }

    pub(super) fn set(&self, flags: u32) {
        let note = |state: u32| Some((state | flags).wrapping_add(EVENT));
        // It cannot fail: `note` always has an answer.
        let noted = self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, note);
        // Who waits has seen the flag down: where it was up already, nobody does.
        let raised = flags & !noted.unwrap_or(0);
        for direction in [Direction::Read, Direction::Write] {
            if raised & direction.flags() != 0
                && let Some(waker) = &*self.waiter(direction).lock()
            {
                waker.wake_by_ref();
            }
        }
    }
}

#[cfg(test)]
pub(super) const BOTH: u32 = READABLE | WRITABLE;
