//! Which of a session's statements, or portals, reset something when they run: what is to follow each.
//!
//! PostgreSQL skips what stands behind an error up to the `Sync`, and refuses a name that is taken: so what a unit has made
//! counts inside it, and for later ones only once the unit has succeeded. Of one that has failed nobody knows what it
//! has made: what stood there before it counts too, and everything that leads home is run. Once too often does no harm.

use std::sync::Arc;

/// Statements that lead home.
pub(super) type WayHome = Arc<[String]>;

/// Names, and the ways home of what they stand for. Kept for names that reset something, and in a unit for all.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    before: Vec<(Box<[u8]>, WayHome)>,
    in_unit: Vec<(Box<[u8]>, Option<WayHome>)>,
}

impl Ledger {
    /// A message that makes `name` anew goes to the server.
    pub(super) fn make(&mut self, name: &[u8], way: Option<WayHome>) {
        let is_known = self.names().any(|known| *known == *name);
        if way.is_some() || is_known {
            self.in_unit.push((name.into(), way));
        }
    }

    /// What is to follow when `name` runs.
    pub(super) fn way(&self, name: &[u8]) -> Option<WayHome> {
        if let Some((_, way)) = self.in_unit.iter().rev().find(|(known, _)| **known == *name) {
            return way.clone();
        }
        let mut ways = self.before.iter().filter(|(known, _)| **known == *name).map(|it| &it.1);
        let first = ways.next()?;
        let rest: Vec<&WayHome> = ways.collect();
        if rest.is_empty() {
            return Some(Arc::clone(first));
        }
        Some(first.iter().chain(rest.into_iter().flat_map(|way| way.iter())).cloned().collect())
    }

    /// Names that may reset something.
    pub(super) fn names(&self) -> impl Iterator<Item = &[u8]> {
        let made = self.in_unit.iter().filter(|(_, way)| way.is_some()).map(|(name, _)| &**name);
        self.before.iter().map(|(name, _)| &**name).chain(made)
    }

    /// A unit is over.
    pub(super) fn settle(&mut self, failed: bool) {
        for (name, way) in std::mem::take(&mut self.in_unit) {
            if !failed {
                self.before.retain(|(known, _)| **known != *name);
            }
            let Some(way) = way else { continue };
            if !self.before.iter().any(|known| *known.0 == *name && known.1 == way) {
                self.before.push((name, way));
            }
        }
    }

    /// All of them are gone.
    pub(super) fn clear(&mut self) {
        self.before.clear();
        self.in_unit.clear();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.before.is_empty() && self.in_unit.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(sql: &str) -> WayHome {
        [sql.to_owned()].into()
    }

    fn ledger(role: &str) -> Ledger {
        let mut ledger = Ledger::default();
        ledger.make(b"y", Some(way(role)));
        ledger.settle(false);
        ledger
    }

    #[test]
    fn what_a_unit_makes_takes_the_place_of_what_was_there() {
        let mut ledger = ledger("set role a");
        ledger.make(b"y", None);
        assert_eq!(ledger.way(b"y"), None);
        ledger.settle(false);
        assert_eq!(ledger.way(b"y"), None);
        assert!(ledger.is_empty());
    }

    #[test]
    fn of_a_unit_that_has_failed_nobody_knows_what_it_made() {
        let mut ledger = ledger("set role a");
        ledger.make(b"y", None);
        ledger.settle(true);
        assert_eq!(ledger.way(b"y"), Some(way("set role a")));
        ledger.make(b"y", Some(way("set path")));
        ledger.settle(true);
        assert_eq!(ledger.way(b"y").unwrap().to_vec(), ["set role a", "set path"]);
        assert_eq!(ledger.names().count(), 2);
    }

    #[test]
    fn the_last_of_a_unit_counts_in_it() {
        let mut ledger = ledger("set role a");
        ledger.make(b"z", Some(way("set path")));
        ledger.make(b"z", None);
        assert_eq!(ledger.way(b"z"), None);
        ledger.make(b"z", Some(way("set path")));
        assert_eq!(ledger.way(b"z"), Some(way("set path")));
        ledger.settle(false);
        assert_eq!(ledger.way(b"z"), Some(way("set path")));
        assert_eq!(ledger.way(b"another"), None);
    }
}
