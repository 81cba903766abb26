//! Whose turn comes first: keys filed by round, found without a search.
//!
//! Deficit round robin visits everybody in every round, also who has nothing to spend yet. Here, who can
//! spend again three rounds from now is filed three rounds ahead; 64 rounds are the bits of a word, and
//! the next one is found by counting zeros. Every operation takes the same time, however many wait.
//!
//! Pure: a key is a number, and a key is filed in one [`Order`] at a time of those that share [`Links`].

/// Rounds that are told apart; who is due later is filed in the last of them. Nobody is found later than he
/// is due, but may be earlier: his owner looks whether his turn has come, and files him again if not.
const ROUNDS: u64 = u64::BITS as u64;

/// No key.
const NONE: u32 = u32::MAX;

/// When somebody is due, the earliest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    /// Before everybody who is not: a guaranteed server.
    Guaranteed,
    /// In this round.
    Round(u64),
}

#[derive(Debug, Clone, Copy)]
struct Link {
    before: u32,
    behind: u32,
    filed: Option<Due>,
}

/// Where each key is filed. Keys are small numbers.
#[derive(Debug, Default)]
pub(super) struct Links(Vec<Link>);

impl Links {
    fn grow(&mut self, key: usize) {
        if key >= self.0.len() {
            self.0.resize(key + 1, Link { before: NONE, behind: NONE, filed: None });
        }
    }

    fn at(&mut self, key: u32) -> &mut Link {
        &mut self.0[key as usize]
    }
}

#[derive(Debug, Clone, Copy)]
struct List {
    first: u32,
    last: u32,
}

impl List {
    const EMPTY: Self = Self { first: NONE, last: NONE };

    const fn is_empty(self) -> bool {
        self.first == NONE
    }

    fn push(&mut self, links: &mut Links, key: u32) {
        (links.at(key).before, links.at(key).behind) = (self.last, NONE);
        match self.last {
            NONE => self.first = key,
            last => links.at(last).behind = key,
        }
        self.last = key;
    }

    fn remove(&mut self, links: &mut Links, key: u32) {
        let Link { before, behind, .. } = *links.at(key);
        match before {
            NONE => self.first = behind,
            before => links.at(before).behind = behind,
        }
        match behind {
            NONE => self.last = before,
            behind => links.at(behind).before = before,
        }
    }
}

/// Keys in the order in which they are due; those of one round in the order in which they came.
#[derive(Debug)]
pub(super) struct Order {
    guaranteed: List,
    rounds: [List; u64::BITS as usize],
    /// A bit for each round that has somebody, by the round's number modulo 64.
    filled: u64,
    /// No round before it has anybody.
    base: u64,
}

impl Order {
    pub(super) const fn new() -> Self {
        Self {
            guaranteed: List::EMPTY,
            rounds: [List::EMPTY; u64::BITS as usize],
            filled: 0,
            base: 0,
        }
    }

    /// Files a key that is not filed.
    pub(super) fn file(&mut self, links: &mut Links, key: usize, due: Due) {
        links.grow(key);
        let key = u32::try_from(key).expect("fewer tenants than a u32 counts");
        debug_assert!(links.at(key).filed.is_none(), "filed once");
        let due = match due {
            Due::Guaranteed => {
                self.guaranteed.push(links, key);
                due
            }
            Due::Round(round) => {
                let round = self.make_room_for(round);
                self.rounds[slot(round)].push(links, key);
                self.filled |= 1 << slot(round);
                Due::Round(round)
            }
        };
        links.at(key).filed = Some(due);
    }

    /// The round to file for `round`: that one, or the last that can be told apart. If `base` falls, who is
    /// filed further ahead than that is found too early, and filed again.
    fn make_room_for(&mut self, round: u64) -> u64 {
        self.base = self.first_round().map_or(round, |first| first.min(round));
        round.min(self.base + (ROUNDS - 1))
    }

    /// The bits of the rounds from `base` on.
    const fn rotated(&self) -> u64 {
        self.filled.rotate_right((self.base % ROUNDS) as u32)
    }

    fn first_round(&self) -> Option<u64> {
        (self.filled != 0).then(|| self.base + u64::from(self.rotated().trailing_zeros()))
    }

    /// Takes a key out, if it is in.
    pub(super) fn remove(&mut self, links: &mut Links, key: usize) {
        links.grow(key);
        let key = u32::try_from(key).expect("fewer tenants than a u32 counts");
        match links.at(key).filed.take() {
            None => {}
            Some(Due::Guaranteed) => self.guaranteed.remove(links, key),
            Some(Due::Round(round)) => {
                let list = &mut self.rounds[slot(round)];
                list.remove(links, key);
                if list.is_empty() {
                    self.filled &= !(1 << slot(round));
                }
            }
        }
    }

    /// Whether nobody is filed.
    #[inline]
    pub(super) const fn is_empty(&self) -> bool {
        self.filled == 0 && self.guaranteed.is_empty()
    }

    /// Who is first, and when he is due.
    pub(super) fn first(&self) -> Option<(usize, Due)> {
        if !self.guaranteed.is_empty() {
            return Some((self.guaranteed.first as usize, Due::Guaranteed));
        }
        let round = self.first_round()?;
        Some((self.rounds[slot(round)].first as usize, Due::Round(round)))
    }
}

const fn slot(round: u64) -> usize {
    (round % ROUNDS) as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_guaranteed_come_first_then_rounds_then_who_came_first() {
        let (mut order, mut links) = (Order::new(), Links::default());
        order.file(&mut links, 1, Due::Round(7));
        order.file(&mut links, 2, Due::Round(5));
        order.file(&mut links, 3, Due::Round(5));
        order.file(&mut links, 4, Due::Guaranteed);
        let mut all = Vec::new();
        while let Some((key, due)) = order.first() {
            order.remove(&mut links, key);
            all.push((key, due));
        }
        let round = Due::Round;
        assert_eq!(all, [(4, Due::Guaranteed), (2, round(5)), (3, round(5)), (1, round(7))]);
    }

    #[test]
    fn who_is_due_far_ahead_comes_last_and_says_when() {
        let (mut order, mut links) = (Order::new(), Links::default());
        order.file(&mut links, 1, Due::Round(1_000_000));
        order.file(&mut links, 2, Due::Round(3));
        order.file(&mut links, 3, Due::Round(60));
        for expected in [2, 3, 1] {
            let (key, _) = order.first().unwrap();
            assert_eq!(key, expected);
            order.remove(&mut links, key);
        }
        assert_eq!(order.first(), None);
    }

    proptest! {
        /// Against a list that is sorted: as long as all rounds are within 64, the order is the same.
        #[test]
        fn it_is_a_sorted_list(steps in prop::collection::vec((0..20usize, 0..50u64, 0..4u8), 1..300)) {
            let (mut order, mut links) = (Order::new(), Links::default());
            let mut model: Vec<(Due, usize, usize)> = Vec::new();
            for (at, (key, round, what)) in steps.into_iter().enumerate() {
                let known = model.iter().position(|(_, _, k)| *k == key);
                match (what, known) {
                    (0, _) => {
                        let first = model.iter().min().copied();
                        prop_assert_eq!(order.first(), first.map(|(due, _, key)| (key, due)));
                        if let Some(first) = first {
                            order.remove(&mut links, first.2);
                            model.retain(|entry| *entry != first);
                        }
                    }
                    (1, _) => {
                        order.remove(&mut links, key);
                        model.retain(|(_, _, k)| *k != key);
                    }
                    (_, Some(_)) => {}
                    (_, None) => {
                        let due = if what == 2 && round == 0 { Due::Guaranteed } else { Due::Round(100 + round) };
                        order.file(&mut links, key, due);
                        model.push((due, at, key));
                    }
                }
            }
        }

        /// Whatever the rounds, and who is taken out meanwhile: who is due first comes first, if his owner
        /// files him again who is found too early.
        #[test]
        fn who_is_due_first_comes_first(steps in prop::collection::vec((0..30usize, 0..10_000u64, any::<bool>()), 1..300)) {
            let (mut order, mut links) = (Order::new(), Links::default());
            let mut rounds = [None; 30];
            let first = |order: &mut Order, links: &mut Links, rounds: &[Option<u64>]| loop {
                let Some((key, Due::Round(found))) = order.first() else { return None };
                let round = rounds[key].expect("only those are filed");
                if round <= found {
                    return Some((round, key));
                }
                order.remove(links, key);
                order.file(links, key, Due::Round(round));
            };
            for (key, round, looks) in steps {
                order.remove(&mut links, key);
                rounds[key] = if rounds[key].is_some() { None } else { Some(round) };
                if rounds[key].is_some() {
                    order.file(&mut links, key, Due::Round(round));
                }
                if looks {
                    let due = rounds.iter().flatten().min().copied();
                    let found = first(&mut order, &mut links, &rounds);
                    prop_assert_eq!(found.map(|(round, _)| round), due);
                }
            }
            while let Some((_, key)) = first(&mut order, &mut links, &rounds) {
                order.remove(&mut links, key);
                rounds[key] = None;
            }
            prop_assert_eq!(rounds, [None; 30]);
        }
    }
}
