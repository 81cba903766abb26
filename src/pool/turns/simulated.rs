//! A cluster of numbers: servers are counts, statements are lengths, time is simulated. What holds at every
//! moment is looked at at every step.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use super::*;
use crate::engine::tick;
use crate::tenant::NamePattern;

pub(super) const MS: Duration = Duration::from_millis(1);

pub(super) fn id(name: &str) -> TenantId {
    NamePattern::new("[a-z0-9]+").unwrap().parse(name).unwrap()
}

pub(super) const fn limits(clients: usize, servers: usize, waiting: usize) -> Limits {
    let patience = Duration::from_secs(1);
    Limits {
        clients,
        servers,
        guaranteed: 0,
        weight: 1,
        waiting,
        patience,
        paused: false,
        audited: false,
    }
}

/// What happens in the simulated cluster, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Happens {
    LoginEnds {
        pool: usize,
    },
    StatementEnds {
        tenant: usize,
        pool: usize,
        opened: Tick,
    },
    ClientAsks {
        tenant: usize,
    },
    /// A server has stayed for so long that it may make room.
    MayMakeRoom,
}

pub(super) struct Simulated {
    pub(super) pool: usize,
    pub(super) place: usize,
    /// Length of its statements.
    pub(super) cost: Duration,
    /// What a client does between two of them.
    pub(super) think: Duration,
    pub(super) busy: Duration,
    pub(super) served: usize,
    pub(super) longest_wait: Duration,
}

pub(super) struct Cluster {
    pub(super) turns: Turns<(usize, Tick)>,
    pub(super) now: Tick,
    pub(super) tenants: Vec<Simulated>,
    pub(super) events: BinaryHeap<Reverse<(Tick, u64, Happens)>>,
    pub(super) count: u64,
    pub(super) login: Duration,
    /// Servers of each pool that rest: since when, and when they were opened; the one used last is at the back.
    pub(super) resting: Vec<VecDeque<(Tick, Tick)>>,
    /// How long a server stays before it makes room.
    pub(super) stay: Duration,
    /// Limits were lowered: until transactions end they may be exceeded.
    pub(super) lowered: bool,
    /// Whether a server may go straight to the next ticket, and how many have.
    pub(super) hands_over: bool,
    pub(super) handed_over: usize,
    /// No client asks any more.
    pub(super) closing: bool,
}

impl Cluster {
    pub(super) fn new(servers: usize, pools: usize) -> Self {
        let now = tick();
        let mut turns = Turns::new(servers, now);
        for _ in 0..pools {
            turns.add_pool();
        }
        let (tenants, events) = (Vec::new(), BinaryHeap::new());
        Self {
            turns,
            now,
            tenants,
            events,
            count: 0,
            login: 7 * MS,
            resting: vec![VecDeque::new(); pools],
            stay: STAY_MIN,
            lowered: false,
            hands_over: true,
            handed_over: 0,
            closing: false,
        }
    }

    pub(super) fn tenant(
        &mut self,
        limits: Limits,
        pool: usize,
        clients: usize,
        cost: Duration,
        think: Duration,
    ) {
        let name = format!("t{}", self.tenants.len());
        let tenant = self.tenants.len();
        let mut place = 0;
        for _ in 0..clients {
            place = self.turns.enter(&id(&name), limits.clone(), pool).unwrap();
            self.later(Duration::ZERO, Happens::ClientAsks { tenant });
        }
        let (busy, longest_wait) = (Duration::ZERO, Duration::ZERO);
        self.tenants.push(Simulated { pool, place, cost, think, busy, served: 0, longest_wait });
    }

    pub(super) fn later(&mut self, delay: Duration, what: Happens) {
        self.count += 1;
        self.events.push(Reverse((self.now + delay, self.count, what)));
    }

    pub(super) fn begin(&mut self, tenant: usize, pool: usize, asked: Tick) {
        let (_, opened) = self.resting[pool].pop_back().unwrap();
        let it = &mut self.tenants[tenant];
        it.served += 1;
        it.longest_wait = it.longest_wait.max(Duration::from_micros(self.now.micros_since(asked)));
        let cost = it.cost;
        self.later(cost, Happens::StatementEnds { tenant, pool, opened });
    }

    pub(super) fn dispatch(&mut self) {
        self.turns.set_no_room(false);
        while let Some(next) = self.turns.next(self.now) {
            match next {
                Next::Serve { place, pool } => {
                    let (tenant, asked) = self.turns.serve(place, self.now).unwrap();
                    self.begin(tenant, pool, asked);
                }
                Next::Open { pool, claims } => {
                    let (open, max) = self.turns.budget();
                    if open >= max && !self.make_room(pool) {
                        self.turns.set_no_room(true);
                        continue;
                    }
                    self.turns.opening(pool, claims);
                    self.later(self.login, Happens::LoginEnds { pool });
                }
            }
        }
    }

    pub(super) fn make_room(&mut self, pool: usize) -> bool {
        let others = (0..self.resting.len()).filter(|at| *at != pool);
        let oldest = others.filter_map(|at| Some((self.victim(at)?, at))).min();
        let Some(((_, server), victim)) = oldest else { return false };
        self.resting[victim].remove(server);
        self.turns.closed_idle(victim);
        true
    }

    /// A server of the pool that may make room for another pool's.
    pub(super) fn victim(&self, pool: usize) -> Option<(Tick, usize)> {
        let resting = self.resting[pool].iter().enumerate();
        let stayed = resting.filter(|(_, (_, opened))| *opened + self.stay <= self.now);
        let oldest = stayed.map(|(at, (since, _))| (*since, at)).min();
        oldest.filter(|_| self.turns.has_to_spare(pool))
    }

    pub(super) fn step(&mut self) -> bool {
        let Some(Reverse((at, _, what))) = self.events.pop() else { return false };
        self.now = at;
        match what {
            Happens::LoginEnds { pool } => {
                self.resting[pool].push_front((self.now, self.now));
                self.turns.opened(pool, true);
                self.later(self.stay, Happens::MayMakeRoom);
            }
            Happens::MayMakeRoom => {}
            Happens::StatementEnds { tenant, pool, opened } => {
                self.resting[pool].push_back((self.now, opened));
                let it = &mut self.tenants[tenant];
                it.busy += it.cost;
                let (place, think) = (it.place, it.think);
                let now = self.now;
                match self.turns.hand_over(place, pool, now, |_| self.hands_over) {
                    Some((tenant, asked)) => {
                        self.handed_over += 1;
                        self.begin(tenant, pool, asked);
                    }
                    None => {
                        self.turns.give_back(place, false, || now);
                        self.turns.rests(pool);
                    }
                }
                if !self.closing {
                    self.later(think, Happens::ClientAsks { tenant });
                }
            }
            Happens::ClientAsks { tenant } => {
                let (place, now) = (self.tenants[tenant].place, self.now);
                if let Some(pool) = self.turns.take(place, || now) {
                    self.begin(tenant, pool, now);
                } else {
                    self.turns.wait(place, (tenant, now), now).unwrap();
                }
            }
        }
        self.dispatch();
        self.check();
        true
    }

    /// What holds at every moment.
    pub(super) fn check(&self) {
        let turns = &self.turns;
        assert!(turns.open <= turns.max_open, "no more servers than the cluster may have");
        let sum = |of: &dyn Fn(&Account<_>) -> usize| {
            turns.accounts.iter().flatten().map(of).sum::<usize>()
        };
        assert_eq!(
            (turns.lent, turns.reserved, turns.kept),
            (sum(&|a| a.in_use), sum(&|a| a.reserved()), sum(&|a| a.kept))
        );
        let rests: usize = turns.pools.iter().map(|(_, pool)| pool.idle).sum();
        assert_eq!(turns.open, turns.lent + rests + turns.opening);
        let free = turns.max_open - turns.lent;
        let victims = (0..self.resting.len()).filter(|at| self.victim(*at).is_some()).count();
        for account in turns.accounts.iter().flatten() {
            assert!(self.lowered || account.in_use <= account.limits.servers, "a tenant's limit");
            let may = free > turns.reserved + turns.claimed || account.in_use < account.kept;
            if account.servable() == 0 || !may {
                continue;
            }
            // Somebody waits who may have a server: none rests in his pool, and all that can be is under way.
            let pool = &turns.pools[account.pool];
            assert_eq!(pool.idle, 0, "a server rests while somebody waits for it");
            let evictable = victims - usize::from(self.victim(account.pool).is_some());
            let can_open =
                turns.may_begin_login() && (turns.open < turns.max_open || evictable > 0);
            let enough = pool.opening >= pool.demand.min(pool.logins.max(turns.max_open));
            let spoken_for =
                free <= turns.reserved + turns.opening && account.in_use >= account.kept;
            assert!(enough || spoken_for || !can_open, "no login although there is room");
        }
    }

    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.events.peek().is_some_and(|Reverse((at, ..))| *at <= end) {
            self.step();
        }
        self.now = end;
    }

    /// Nobody asks any more; all that wait are served.
    pub(super) fn drain(&mut self) {
        self.closing = true;
        while self.step() {}
        assert!(self.turns.nobody_waits(), "somebody waits for ever");
        assert_eq!(self.turns.tickets().count(), 0);
    }
}
