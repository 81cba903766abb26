//! What clients did lately, by database: PgBouncer's averages, over the last full minute and what has come since.
//!
//! <https://www.pgbouncer.org/usage.html#show-stats>

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::tally::Totals;

/// What was counted by database, and when that was looked at.
#[derive(Debug, Clone)]
struct Look {
    at: Instant,
    databases: BTreeMap<Arc<str>, Totals>,
}

/// The last two looks, the older one first.
#[derive(Debug)]
pub struct Period(Mutex<[Look; 2]>);

impl Default for Period {
    fn default() -> Self {
        let start = Look { at: Instant::now(), databases: BTreeMap::new() };
        Self(Mutex::new([start.clone(), start]))
    }
}

impl Period {
    /// One ends, and the next begins.
    pub fn end(&self, at: Instant, databases: BTreeMap<Arc<str>, Totals>) {
        let mut looks = self.0.lock();
        looks.swap(0, 1);
        looks[1] = Look { at, databases };
    }

    /// What came since the look before the last one, and how long ago that was.
    #[must_use]
    pub fn since_last(
        &self,
        now: Instant,
        databases: &BTreeMap<Arc<str>, Totals>,
    ) -> (Duration, BTreeMap<Arc<str>, Totals>) {
        let looks = self.0.lock();
        let (then, none) = (&looks[0], Totals::default());
        let since = |(name, totals): (&Arc<str>, &Totals)| {
            (Arc::clone(name), totals.since(then.databases.get(name).unwrap_or(&none)))
        };
        let came = databases.iter().map(since).collect();
        (now.saturating_duration_since(then.at), came)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn averages_reach_back_to_the_look_before_the_last() {
        let (period, start) = (Period::default(), Instant::now());
        let at = |minutes: u64| start + Duration::from_mins(minutes);
        let counted = |queries: u64| {
            BTreeMap::from([(Arc::from("saas"), Totals { queries, ..Totals::default() })])
        };
        let came = |minutes: u64, queries: u64| {
            let (length, came) = period.since_last(at(minutes), &counted(queries));
            (length.as_secs().div_ceil(60), came["saas"].queries)
        };
        assert_eq!(came(1, 100), (1, 100));
        period.end(at(1), counted(100));
        assert_eq!(came(2, 300), (2, 300));
        period.end(at(2), counted(300));
        assert_eq!(came(2, 300), (1, 200));
        period.end(at(3), counted(300));
        assert_eq!(came(4, 310), (2, 10));
    }
}
