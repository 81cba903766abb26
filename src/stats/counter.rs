//! Numbers that only grow.

use std::collections::BTreeMap;
#[cfg(debug_assertions)]
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
#[cfg(debug_assertions)]
use std::thread::ThreadId;

use parking_lot::Mutex;

/// Threads that add without meeting another one. More of them share.
const CELLS: usize = 16;

static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// This thread's cell.
    static CELL: usize = THREADS.fetch_add(1, Ordering::Relaxed) % CELLS;
}

/// A part of a number on a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Cell(AtomicU64);

/// A number that only grows, added to from any thread.
#[derive(Debug, Default)]
pub struct Counter([Cell; CELLS]);

impl Counter {
    /// Adds one.
    pub fn add_one(&self) {
        let cell = CELL.try_with(|cell| *cell).unwrap_or(0);
        self.0[cell].0.fetch_add(1, Ordering::Relaxed);
    }

    /// The number now.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.iter().map(|cell| cell.0.load(Ordering::Relaxed)).sum()
    }
}

/// A number that only grows and that one thread adds to; others look. Half the cost of a [`Counter`].
#[derive(Debug, Default)]
pub struct Count {
    number: AtomicU64,
    /// Whose it is: a mistake is noticed where mistakes are looked for.
    #[cfg(debug_assertions)]
    owner: OnceLock<ThreadId>,
}

impl Count {
    /// Adds some. Of two threads that add at once, one may be forgotten.
    #[inline]
    pub fn add(&self, more: u64) {
        #[cfg(debug_assertions)]
        {
            let current = std::thread::current().id();
            assert_eq!(*self.owner.get_or_init(|| current), current, "one thread adds to a count");
        }
        let number = self.number.load(Ordering::Relaxed).wrapping_add(more);
        self.number.store(number, Ordering::Relaxed);
    }

    /// The number now.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.number.load(Ordering::Relaxed)
    }
}

/// Numbers that only grow, each with a reason; there are few of those. For what is rare.
#[derive(Debug)]
pub struct ByReason<R>(Mutex<BTreeMap<R, u64>>);

impl<R> Default for ByReason<R> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<R: Ord + Clone> ByReason<R> {
    /// Adds one; how many there are now of that reason.
    pub fn add_one(&self, reason: R) -> u64 {
        let mut counts = self.0.lock();
        let count = counts.entry(reason).or_default();
        *count += 1;
        *count
    }

    /// All of them.
    #[must_use]
    pub fn get(&self) -> BTreeMap<R, u64> {
        self.0.lock().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_threads_add_is_lost() {
        let counter = Counter::default();
        std::thread::scope(|scope| {
            for _ in 0..2 * CELLS {
                scope.spawn(|| (0..1000).for_each(|_| counter.add_one()));
            }
        });
        assert_eq!(counter.get(), 2000 * CELLS as u64);
    }
}
