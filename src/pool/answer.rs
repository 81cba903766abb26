//! Where the answer to a waiter is left: a slot that its seat keeps, so that a place in the queue costs no
//! allocation.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::lock::Mutex;

/// A place for one answer at a time.
pub(super) struct Slot<T>(Mutex<State<T>>);

struct State<T> {
    answer: Option<T>,
    /// Whoever was to answer has done so, or is gone.
    is_over: bool,
    waker: Option<Waker>,
}

impl<T> Slot<T> {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(State { answer: None, is_over: false, waker: None })))
    }

    /// Both ends of a wait, in the seat's own slot, unless somebody still has an end of that. Under the desk's
    /// lock: two who ask at once must not both get it.
    pub(super) fn open(seats: &Arc<Self>) -> (Reply<T>, Answer<T>) {
        let slot = if Arc::strong_count(seats) == 1 { Arc::clone(seats) } else { Self::new() };
        slot.0.lock().is_over = false;
        (Reply(Some(Arc::clone(&slot))), Answer(slot))
    }

    fn end(&self, answer: Option<T>) {
        let waker = {
            let mut state = self.0.lock();
            (state.answer, state.is_over) = (answer, true);
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// Who answers. Dropped without an answer, the waiter learns that there will be none.
pub(super) struct Reply<T>(Option<Arc<Slot<T>>>);

impl<T> Reply<T> {
    pub(super) fn send(mut self, answer: T) {
        if let Some(slot) = self.0.take() {
            slot.end(Some(answer));
        }
    }
}

impl<T> Drop for Reply<T> {
    fn drop(&mut self) {
        if let Some(slot) = self.0.take() {
            slot.end(None);
        }
    }
}

/// Who waits for it.
pub(super) struct Answer<T>(Arc<Slot<T>>);

impl<T> Answer<T> {
    /// The answer; `None`: there will be none.
    pub(super) fn poll(&self, cx: &Context<'_>) -> Poll<Option<T>> {
        let mut state = self.0.0.lock();
        if state.is_over {
            return Poll::Ready(state.answer.take());
        }
        if !state.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            state.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// What has been answered, for who waits no longer.
    pub(super) fn take(&self) -> Option<T> {
        let mut state = self.0.0.lock();
        state.waker = None;
        state.answer.take()
    }
}
