//! Which of a session's statements, or portals, reset something when they run: what is to follow each.
//!
//! PostgreSQL skips what stands behind an error up to the `Sync`, and refuses a name that is taken: so what a unit has made
//! counts inside it, and for later ones only once the unit has succeeded. Of one that has failed nobody knows what it
//! has made: what stood there before it counts too, and everything that leads home is run. Once too often does no harm.

use std::collections::VecDeque;
use std::sync::Arc;

/// Statements that lead home.
pub(super) type WayHome = Arc<[String]>;

/// What a unit has made of a name; `None`: something that resets nothing.
type Made = (Box<[u8]>, Option<WayHome>);

/// Names, and the ways home of what they stand for. Kept for names that reset something, and in a unit for all.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    before: Vec<(Box<[u8]>, WayHome)>,
    /// Of units that were sent and are still to be answered: nobody knows yet whether they have failed.
    sent: VecDeque<Vec<Made>>,
    in_unit: Vec<Made>,
}

impl Ledger {
    /// So many units are still to be answered that have made nothing of the kind.
    pub(super) fn behind(units: usize) -> Self {
        Self { sent: vec![Vec::new(); units].into(), ..Self::default() }
    }

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
        let before = self.before.iter().map(|(known, way)| (known, way));
        let sent =
            self.sent.iter().flatten().filter_map(|(known, way)| Some((known, way.as_ref()?)));
        let mut ways: Vec<&WayHome> = Vec::new();
        for (_, way) in before.chain(sent).filter(|(known, _)| ***known == *name) {
            if !ways.contains(&way) {
                ways.push(way);
            }
        }
        match ways.as_slice() {
            [] => None,
            [way] => Some(Arc::clone(way)),
            ways => Some(ways.iter().flat_map(|way| way.iter()).cloned().collect()),
        }
    }

    /// Names that may reset something.
    pub(super) fn names(&self) -> impl Iterator<Item = &[u8]> {
        let made = self.sent.iter().flatten().chain(&self.in_unit);
        let made = made.filter(|(_, way)| way.is_some()).map(|(name, _)| &**name);
        self.before.iter().map(|(name, _)| &**name).chain(made)
    }

    /// A unit ends here.
    pub(super) fn seal(&mut self) {
        self.sent.push_back(std::mem::take(&mut self.in_unit));
    }

    /// The first of the units is over.
    pub(super) fn settle(&mut self, failed: bool) {
        let unit = self.sent.pop_front().unwrap_or_else(|| std::mem::take(&mut self.in_unit));
        for (name, way) in unit {
            if !failed {
                self.before.retain(|(known, _)| **known != *name);
            }
            let Some(way) = way else { continue };
            if !self.before.iter().any(|known| *known.0 == *name && known.1 == way) {
                self.before.push((name, way));
            }
        }
    }

    /// All that was sent is answered: of what is left nobody knows what became of it.
    pub(super) fn settle_all(&mut self) {
        while !self.sent.is_empty() {
            self.settle(true);
        }
    }

    /// What was read of units that nobody has answered is read once more.
    pub(super) fn rewind(&mut self) {
        self.sent.clear();
        self.in_unit.clear();
    }

    /// All of them are gone.
    pub(super) fn clear(&mut self) {
        self.before.clear();
        self.rewind();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.before.is_empty() && self.in_unit.is_empty() && self.sent.iter().all(Vec::is_empty)
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

    #[test]
    fn what_a_unit_on_its_way_makes_hides_nothing_that_was_there() {
        let mut ledger = ledger("set role a");
        ledger.make(b"y", None);
        ledger.seal();
        assert_eq!(ledger.way(b"y"), Some(way("set role a")), "it may fail");
        ledger.make(b"z", Some(way("set path")));
        ledger.seal();
        ledger.settle(false);
        assert_eq!(ledger.way(b"y"), None, "it has not");
        assert_eq!(ledger.way(b"z"), Some(way("set path")));
        ledger.settle(true);
        assert_eq!(ledger.way(b"z"), Some(way("set path")));
    }

    #[test]
    fn units_in_front_are_answered_first() {
        let mut ledger = Ledger::behind(2);
        ledger.make(b"y", Some(way("set role a")));
        ledger.seal();
        ledger.settle(true);
        ledger.settle(true);
        ledger.make(b"y", None);
        ledger.seal();
        ledger.settle(false);
        ledger.settle(false);
        assert!(ledger.is_empty());
        ledger.make(b"y", Some(way("set role a")));
        ledger.seal();
        ledger.seal();
        ledger.settle_all();
        assert_eq!((ledger.way(b"y"), ledger.sent.len()), (Some(way("set role a")), 0));
    }
}
