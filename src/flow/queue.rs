//! A queue that is mostly short and empty in between: what a server owes.

use std::ops::{Deref, DerefMut};

/// Entries that were taken and are still there, from which on they are cleared away.
const TAKEN_MAX: usize = 64;

/// First in, first out. Its entries lie in a row: to look at the first one costs a comparison, where a
/// `VecDeque` has to find out where its row wraps.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Queue<T> {
    entries: Vec<T>,
    /// How many of them were taken.
    taken: usize,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { entries: Vec::new(), taken: 0 }
    }
}

impl<T> Deref for Queue<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        self.entries.get(self.taken..).unwrap_or_default()
    }
}

impl<T> DerefMut for Queue<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        self.entries.get_mut(self.taken..).unwrap_or_default()
    }
}

impl<T: Copy> Queue<T> {
    #[inline]
    pub(super) fn push(&mut self, entry: T) {
        self.entries.push(entry);
    }

    #[inline]
    pub(super) fn pop(&mut self) -> Option<T> {
        let first = *self.first()?;
        self.taken += 1;
        if self.taken == self.entries.len() {
            self.clear();
        } else if self.taken >= TAKEN_MAX && self.taken * 2 >= self.entries.len() {
            self.entries.drain(..self.taken);
            self.taken = 0;
        }
        Some(first)
    }

    #[inline]
    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.taken = 0;
    }

    pub(super) fn retain(&mut self, keep: impl FnMut(&T) -> bool) {
        self.entries.drain(..self.taken);
        self.taken = 0;
        self.entries.retain(keep);
    }

    /// Empties it, and gives memory back beyond so many entries.
    #[inline]
    pub(super) fn empty(&mut self, kept: usize) {
        self.clear();
        if self.entries.capacity() > kept {
            self.entries.shrink_to(kept);
        }
    }
}

#[cfg(test)]
impl<T: PartialEq> PartialEq for Queue<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

#[cfg(test)]
impl<T: Eq> Eq for Queue<T> {}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_comes_first_goes_first(steps in prop::collection::vec((0..8u8, 0..200u32), 0..300)) {
            let (mut queue, mut model) = (Queue::default(), VecDeque::new());
            for (step, number) in steps {
                match step {
                    0..5 => (0..number).for_each(|n| { queue.push(n); model.push_back(n); }),
                    5 => (0..2 * number).for_each(|_| assert_eq!(queue.pop(), model.pop_front())),
                    6 => { queue.retain(|n| n % 3 > 0); model.retain(|n| n % 3 > 0); }
                    _ => { queue.empty(8); model.clear(); }
                }
                prop_assert!(queue.iter().eq(model.iter()) && queue.len() == model.len());
                prop_assert!(queue.entries.len() <= 2 * queue.len() + TAKEN_MAX);
            }
        }
    }
}
