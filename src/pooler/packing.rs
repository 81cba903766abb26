//! How many workers serve clients, and which: one after another is filled, because two that are half idle wake up
//! twice as often for the same work.
//!
//! Pure: it is told how busy each worker was, and says what is to change.

/// A worker that is busier than that, in thousandths of its time, is not given more.
const FULL: u32 = 700;
/// All that serve are so busy on the whole that there should be one more.
const FULL_ON_THE_WHOLE: u32 = 600;
/// Two workers that differ by more, where one is full, are evened out.
const UNEVEN: u32 = 300;
/// What the others would be filled to if one were given up.
const ENOUGH: u32 = 500;
/// Looks in a row after which one is given up: loads come and go.
const LOOKS_BEFORE_LESS: u32 = 20;
/// Looks after which it is tried once more to even out what was uneven before: it may be the work of one client,
/// which cannot be divided.
const LOOKS_BEFORE_EVEN: u32 = 40;

/// Who serves.
#[derive(Debug)]
pub(super) struct Packing {
    /// The first so many serve clients.
    serving: usize,
    all: usize,
    /// Looks in a row at which one less would have been enough.
    more_than_enough: u32,
    /// Looks until it may be evened out.
    even_in: u32,
}

/// What is to change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// All of them serve, in turns.
    All { serving: usize },
    /// A worker more serves, the last of these; each of the others sends it an equal part of its clients.
    More { serving: usize },
    /// One less: its clients go to these.
    Less { serving: usize },
    /// So many thousandths of one worker's clients go to another.
    Even { from: usize, to: usize, part: u32 },
}

impl Packing {
    /// Of so many workers the first one serves.
    pub(super) const fn new(all: usize) -> Self {
        Self { serving: 1, all, more_than_enough: 0, even_in: 0 }
    }

    /// Nobody can tell how busy they are.
    pub(super) const fn serve_all(&mut self) -> Change {
        self.serving = self.all;
        Change::All { serving: self.all }
    }

    /// Looks at how busy each worker was since the last look, in thousandths.
    pub(super) fn look(&mut self, busy: &[u32]) -> Option<Change> {
        let serving = &busy[..self.serving];
        let by_load = |at: &usize| serving[*at];
        let fullest = (0..self.serving).max_by_key(by_load)?;
        let emptiest = (0..self.serving).min_by_key(by_load)?;
        let (most, least, sum) = (serving[fullest], serving[emptiest], serving.iter().sum::<u32>());
        let count = u32::try_from(self.serving).ok()?;
        let enough = count > 1 && sum < ENOUGH * (count - 1);
        self.more_than_enough = if enough { self.more_than_enough + 1 } else { 0 };
        self.even_in = self.even_in.saturating_sub(1);
        if most > FULL && most - least > UNEVEN && self.even_in == 0 {
            self.even_in = LOOKS_BEFORE_EVEN;
            let part = (most - least) * 1000 / (2 * most);
            return Some(Change::Even { from: fullest, to: emptiest, part });
        }
        if most > FULL && sum > FULL_ON_THE_WHOLE * count && self.serving < self.all {
            self.serving += 1;
            return Some(Change::More { serving: self.serving });
        }
        if self.more_than_enough >= LOOKS_BEFORE_LESS {
            self.more_than_enough = 0;
            self.serving -= 1;
            return Some(Change::Less { serving: self.serving });
        }
        None
    }
}

impl Change {
    /// Where the client goes that comes as number `number` and is with worker `at`.
    pub(super) fn place(self, number: usize, at: usize) -> usize {
        match self {
            Self::More { serving } if number.is_multiple_of(serving) => serving - 1,
            Self::Less { serving } if at >= serving => number % serving,
            Self::All { serving } => number % serving,
            // Spread over all of them, not the first so many: who came together may be busy together.
            Self::Even { from, to, part } if at == from && is_among(number, part) => to,
            Self::More { .. } | Self::Less { .. } | Self::Even { .. } => at,
        }
    }
}

/// Whether a number is among so many thousandths of all, evenly spread.
const fn is_among(number: usize, part: u32) -> bool {
    let before = number * part as usize / 1000;
    let behind = (number + 1) * part as usize / 1000;
    behind > before
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Clients with so much to do each, in thousandths of a worker's time, and where they are.
    struct Simulated {
        packing: Packing,
        clients: Vec<(u32, usize)>,
        changes: usize,
    }

    impl Simulated {
        fn new(workers: usize, clients: usize, each: u32) -> Self {
            let clients = vec![(each, 0); clients];
            Self { packing: Packing::new(workers), clients, changes: 0 }
        }

        fn busy(&self) -> Vec<u32> {
            let mut busy = vec![0; self.packing.all];
            for (load, at) in &self.clients {
                busy[*at] = 1000.min(busy[*at] + load);
            }
            busy
        }

        fn look(&mut self, times: u32) {
            for _ in 0..times {
                let Some(change) = self.packing.look(&self.busy()) else { continue };
                self.changes += 1;
                for (number, (_, at)) in self.clients.iter_mut().enumerate() {
                    *at = change.place(number, *at);
                    assert!(*at < self.packing.serving, "nobody is with a worker that is given up");
                }
            }
        }
    }

    #[test]
    fn one_worker_serves_as_long_as_it_can() {
        let mut all = Simulated::new(4, 100, 6);
        all.look(100);
        assert_eq!((all.packing.serving, all.changes), (1, 0));
    }

    #[test]
    fn more_serve_when_there_is_more_to_do_and_fewer_when_there_is_less() {
        let mut all = Simulated::new(4, 100, 20);
        all.look(20);
        assert!((3..=4).contains(&all.packing.serving), "{:?}", all.packing);
        assert!(all.busy().iter().all(|busy| *busy < 1000), "{:?}", all.busy());
        all.clients.iter_mut().for_each(|(load, _)| *load = 2);
        all.look(LOOKS_BEFORE_LESS - 1);
        assert!(all.packing.serving > 2, "it may come again");
        all.look(4 * LOOKS_BEFORE_LESS);
        assert_eq!(all.packing.serving, 1);
        assert!(all.clients.iter().all(|(_, at)| *at == 0));
    }

    #[test]
    fn whatever_there_is_to_do_it_comes_to_rest() {
        for each in 1..60 {
            let mut all = Simulated::new(4, 64, each);
            all.look(100);
            let changes = all.changes;
            all.look(400);
            assert_eq!(all.changes, changes, "{each} thousandths each: {:?}", all.busy());
        }
    }

    #[test]
    fn one_client_that_fills_a_worker_sends_the_others_nowhere_again_and_again() {
        for hot in 0..101 {
            for workers in 2..5 {
                let mut all = Simulated::new(workers, 101, 5);
                all.clients[hot].0 = 800;
                all.look(20);
                let changes = all.changes;
                all.look(4 * LOOKS_BEFORE_EVEN);
                let (more, busy) = (all.changes - changes, all.busy());
                assert!(more <= 8, "{more} changes, {hot} of {workers}: {busy:?}");
            }
        }
    }

    #[test]
    fn where_nobody_can_tell_all_serve() {
        let mut all = Simulated::new(4, 8, 10);
        let change = all.packing.serve_all();
        let placed = [0, 1, 2, 3, 4].map(|number| change.place(number, 0));
        assert_eq!((all.packing.serving, placed), (4, [0, 1, 2, 3, 0]));
        all.look(4 * LOOKS_BEFORE_LESS);
        assert_eq!(all.packing.serving, 1, "once it can be told again");
    }

    #[test]
    fn a_worker_whose_clients_are_busy_sends_some_to_one_whose_are_not() {
        let mut all = Simulated::new(2, 64, 20);
        all.look(20);
        assert_eq!(all.packing.serving, 2);
        for (load, at) in &mut all.clients {
            *load = if *at == 0 { 35 } else { 2 };
        }
        all.look(LOOKS_BEFORE_EVEN);
        let busy = all.busy();
        assert!(busy[0].abs_diff(busy[1]) <= UNEVEN, "{busy:?}");
    }

    #[test]
    fn of_thousandths_as_many_are_taken() {
        for part in [1, 250, 333, 500, 999, 1000] {
            let taken = (0..10_000).filter(|number| is_among(*number, part)).count();
            assert_eq!(taken, part as usize * 10, "{part}");
        }
    }
}
