//! How often something took how long.

use super::counter::Count;

/// Upper bounds in microseconds, each included; what is longer than the last one is counted behind it.
pub const BOUNDS: [u64; 18] = [
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 5_000_000, 10_000_000, 30_000_000,
];

/// A distribution of durations, which one thread adds to.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [Count; BOUNDS.len() + 1],
    micros: Count,
}

/// A distribution at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Spread {
    /// How many took no longer than the bound of the same place and longer than the one before; the last: longer than all.
    pub buckets: [u64; BOUNDS.len() + 1],
    /// All of them together, in microseconds.
    pub micros: u64,
}

impl Histogram {
    /// One more, in microseconds.
    #[inline]
    pub fn add(&self, micros: u64) {
        // Most are short: the first bounds decide.
        let at = BOUNDS.iter().position(|bound| micros <= *bound).unwrap_or(BOUNDS.len());
        self.buckets[at].add(1);
        self.micros.add(micros);
    }

    /// One more that took no time.
    #[inline]
    pub fn add_nothing(&self) {
        self.buckets[0].add(1);
    }

    /// How it stands now.
    #[must_use]
    pub fn get(&self) -> Spread {
        Spread { buckets: self.buckets.each_ref().map(Count::get), micros: self.micros.get() }
    }
}

impl Spread {
    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Each number and the other's of the same place, by `by`.
    pub(super) fn combine(&mut self, other: &Self, by: impl Fn(u64, u64) -> u64) {
        for (own, others) in self.buckets.iter_mut().zip(other.buckets) {
            *own = by(*own, others);
        }
        self.micros = by(self.micros, other.micros);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_counted_at_the_first_bound_that_it_does_not_exceed() {
        let histogram = Histogram::default();
        let at = |micros: u64| {
            let before = histogram.get();
            histogram.add(micros);
            let after = histogram.get();
            (0..=BOUNDS.len()).find(|at| after.buckets[*at] != before.buckets[*at]).unwrap()
        };
        assert_eq!([0, 50, 51, 100, 30_000_000, 30_000_001].map(at), [0, 0, 1, 1, 17, 18]);
        histogram.add_nothing();
        assert_eq!((histogram.get().count(), histogram.get().micros), (7, 60_000_202));
    }
}
