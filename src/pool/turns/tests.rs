//! Turns against a cluster of numbers: servers are counts, statements are lengths, time is simulated.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::tenant::NamePattern;

const MS: Duration = Duration::from_millis(1);

fn id(name: &str) -> TenantId {
    NamePattern::new("[a-z0-9]+").unwrap().parse(name).unwrap()
}

const fn limits(clients: usize, servers: usize, waiting: usize) -> Limits {
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
enum Happens {
    LoginEnds {
        pool: usize,
    },
    StatementEnds {
        tenant: usize,
        pool: usize,
        opened: Instant,
    },
    ClientAsks {
        tenant: usize,
    },
    /// A server has stayed for so long that it may make room.
    MayMakeRoom,
}

struct Simulated {
    pool: usize,
    place: usize,
    /// Length of its statements.
    cost: Duration,
    /// What a client does between two of them.
    think: Duration,
    busy: Duration,
    served: usize,
    longest_wait: Duration,
}

struct Cluster {
    turns: Turns<(usize, Instant)>,
    now: Instant,
    tenants: Vec<Simulated>,
    events: BinaryHeap<Reverse<(Instant, u64, Happens)>>,
    count: u64,
    login: Duration,
    /// Servers of each pool that rest: since when, and when they were opened; the one used last is at the back.
    resting: Vec<VecDeque<(Instant, Instant)>>,
    /// How long a server stays before it makes room.
    stay: Duration,
    /// Limits were lowered: until transactions end they may be exceeded.
    lowered: bool,
    /// No client asks any more.
    closing: bool,
}

impl Cluster {
    fn new(servers: usize, pools: usize) -> Self {
        let now = Instant::now();
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
            closing: false,
        }
    }

    fn tenant(
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

    fn later(&mut self, delay: Duration, what: Happens) {
        self.count += 1;
        self.events.push(Reverse((self.now + delay, self.count, what)));
    }

    fn begin(&mut self, tenant: usize, pool: usize, asked: Instant) {
        let (_, opened) = self.resting[pool].pop_back().unwrap();
        let it = &mut self.tenants[tenant];
        it.served += 1;
        it.longest_wait = it.longest_wait.max(self.now - asked);
        let cost = it.cost;
        self.later(cost, Happens::StatementEnds { tenant, pool, opened });
    }

    fn dispatch(&mut self) {
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

    fn make_room(&mut self, pool: usize) -> bool {
        let others = (0..self.resting.len()).filter(|at| *at != pool);
        let oldest = others.filter_map(|at| Some((self.victim(at)?, at))).min();
        let Some(((_, server), victim)) = oldest else { return false };
        self.resting[victim].remove(server);
        self.turns.closed_idle(victim);
        true
    }

    /// A server of the pool that may make room for another pool's.
    fn victim(&self, pool: usize) -> Option<(Instant, usize)> {
        let resting = self.resting[pool].iter().enumerate();
        let stayed = resting.filter(|(_, (_, opened))| *opened + self.stay <= self.now);
        let oldest = stayed.map(|(at, (since, _))| (*since, at)).min();
        oldest.filter(|_| self.turns.has_to_spare(pool))
    }

    fn step(&mut self) -> bool {
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
                self.turns.give_back(place, false, || now);
                self.turns.rests(pool);
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
    fn check(&self) {
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
            let can_open = turns.opening < turns.opening_max()
                && (turns.open < turns.max_open || evictable > 0);
            let enough = pool.opening >= pool.demand.min(pool.logins.max(turns.max_open));
            let spoken_for =
                free <= turns.reserved + turns.opening && account.in_use >= account.kept;
            assert!(enough || spoken_for || !can_open, "no login although there is room");
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.events.peek().is_some_and(|Reverse((at, ..))| *at <= end) {
            self.step();
        }
        self.now = end;
    }

    /// Nobody asks any more; all that wait are served.
    fn drain(&mut self) {
        self.closing = true;
        while self.step() {}
        assert!(self.turns.nobody_waits(), "somebody waits for ever");
        assert_eq!(self.turns.tickets().count(), 0);
    }
}

fn share(cluster: &Cluster, tenant: usize) -> f64 {
    let all: Duration = cluster.tenants.iter().map(|t| t.busy).sum();
    cluster.tenants[tenant].busy.as_secs_f64() / all.as_secs_f64()
}

#[test]
fn limits_on_clients_and_on_the_queue_refuse_at_once() {
    let now = Instant::now();
    let mut turns = Turns::new(1, now);
    let pool = turns.add_pool();
    let limits = limits(2, 1, 1);
    let a = turns.enter(&id("a"), limits.clone(), pool).unwrap();
    assert_eq!(turns.enter(&id("a"), limits.clone(), pool), Ok(a));
    assert_eq!(turns.enter(&id("a"), limits.clone(), pool), Err(TooManyClients { limit: 2 }));
    let ticket = turns.wait(a, "x", now).unwrap();
    assert_eq!(turns.wait(a, "y", now), Err(QueueFull { limit: 1 }));
    turns.forget(a, ticket, now);
    assert!(turns.nobody_waits());
    let ticket = turns.wait(a, "y", now).unwrap();
    turns.forget(a, ticket, now);
    turns.leave(a);
    assert!(turns.enter(&id("a"), limits, pool).is_ok());
}

#[test]
fn nobody_overtakes_his_own_tenants_queue() {
    let now = Instant::now();
    let mut turns = Turns::new(2, now);
    let pool = turns.add_pool();
    let a = turns.enter(&id("a"), limits(9, 1, 9), pool).unwrap();
    turns.opening(pool, false);
    turns.opened(pool, true);
    assert_eq!(turns.take(a, || now), Some(pool));
    turns.wait(a, "first", now).unwrap();
    turns.opening(pool, false);
    turns.opened(pool, true);
    assert_eq!(turns.next(now), None, "the tenant is at its limit");
    turns.give_back(a, false, || now);
    turns.rests(pool);
    assert_eq!(turns.take(a, || now), None, "somebody of the tenant waits already");
    assert_eq!(turns.next(now), Some(Next::Serve { place: a, pool }));
    assert_eq!(turns.serve(a, now), Some("first"));
}

#[test]
fn a_paused_tenant_waits_and_takes_nobodys_turn() {
    let now = Instant::now();
    let mut turns = Turns::new(2, now);
    let (pool, other) = (turns.add_pool(), turns.add_pool());
    let paused = Limits { paused: true, guaranteed: 1, ..limits(9, 2, 9) };
    let a = turns.enter(&id("a"), paused.clone(), pool).unwrap();
    turns.opening(pool, false);
    turns.opened(pool, true);
    assert_eq!(turns.take(a, || now), None);
    turns.wait(a, "waits", now).unwrap();
    assert_eq!((turns.next(now), turns.nobody_waits()), (None, true));
    // Its home moves: who waits is told, and asks there.
    assert_eq!(turns.amend(&id("a"), paused.clone(), Some(other), now), ["waits"]);
    turns.wait(a, "waits again", now).unwrap();
    assert_eq!(turns.next(now), None);
    let resumed = Limits { paused: false, ..paused };
    assert_eq!(turns.amend(&id("a"), resumed, None, now), ["waits again"], "where is it now?");
    turns.wait(a, "there", now).unwrap();
    assert_eq!(turns.next(now), Some(Next::Open { pool: other, claims: false }));
    // Where it lives is being changed: nobody gets a server until that is known, and then asks anew.
    turns.hold(&id("a"), now);
    assert_eq!((turns.next(now), turns.nobody_waits()), (None, true));
    let limits = limits(9, 2, 9);
    assert_eq!(turns.amend(&id("a"), limits, None, now), ["there"]);
}

#[test]
fn a_quiet_tenant_waits_for_one_statement_at_most_whoever_is_loud() {
    let mut cluster = Cluster::new(5, 1);
    for _ in 0..10 {
        cluster.tenant(limits(99, 99, 99), 0, 50, 20 * MS, Duration::ZERO);
    }
    cluster.run(Duration::from_secs(1));
    cluster.tenant(limits(99, 99, 99), 0, 1, MS / 10, 3 * MS);
    cluster.run(Duration::from_secs(5));
    let quiet = &cluster.tenants[10];
    assert!(quiet.served > 200, "{} served", quiet.served);
    assert!(quiet.longest_wait <= 20 * MS, "waited {:?}", quiet.longest_wait);
    cluster.drain();
}

#[test]
fn what_is_guaranteed_is_there_at_once_and_to_nobody_else() {
    let mut cluster = Cluster::new(5, 1);
    cluster.tenant(limits(99, 99, 99), 0, 50, 20 * MS, Duration::ZERO);
    cluster.tenant(Limits { guaranteed: 1, ..limits(9, 9, 9) }, 0, 1, MS, 5 * MS);
    cluster.run(Duration::from_secs(1));
    cluster.tenants[1].longest_wait = Duration::ZERO;
    cluster.run(Duration::from_secs(5));
    assert_eq!(cluster.tenants[1].longest_wait, Duration::ZERO);
    // With its last client the guarantee goes, and its server is anybody's.
    assert_eq!((cluster.turns.lent, cluster.turns.reserved), (4, 1));
    cluster.drain();
    cluster.turns.leave(cluster.tenants[1].place);
    assert_eq!((cluster.turns.kept, cluster.turns.reserved), (0, 0));
}

#[test]
fn guarantees_beyond_the_budget_leave_a_server_to_the_others() {
    let now = Instant::now();
    let mut turns: Turns<()> = Turns::new(4, now);
    let pool = turns.add_pool();
    for name in ["a", "b", "c"] {
        let guaranteed = Limits { guaranteed: 2, ..limits(9, 9, 9) };
        turns.enter(&id(name), guaranteed, pool).unwrap();
    }
    assert_eq!((turns.kept, turns.reserved), (3, 3));
}

#[test]
fn who_was_idle_for_long_has_saved_nothing_up() {
    let mut cluster = Cluster::new(2, 1);
    cluster.tenant(limits(99, 99, 99), 0, 9, 10 * MS, Duration::ZERO);
    cluster.run(Duration::from_mins(1));
    cluster.tenant(limits(99, 99, 99), 0, 9, 10 * MS, Duration::ZERO);
    cluster.tenants[0].busy = Duration::ZERO;
    cluster.run(Duration::from_secs(2));
    assert!((share(&cluster, 1) - 0.5).abs() < 0.05, "{}", share(&cluster, 1));
}

#[test]
fn two_hundred_databases_take_turns_over_forty_servers() {
    let mut cluster = Cluster::new(40, 200);
    for pool in 0..200 {
        cluster.tenant(limits(99, 99, 99), pool, 5, 20 * MS, Duration::ZERO);
    }
    cluster.run(Duration::from_mins(1));
    let served: Vec<usize> = cluster.tenants.iter().map(|tenant| tenant.served).collect();
    let (least, most) = (served.iter().min().unwrap(), served.iter().max().unwrap());
    assert!(*least > 0 && most * 10 <= least * 11 + 50, "served {least} to {most}");
    cluster.drain();
}

/// Limit, guarantee, weight, milliseconds of a statement and between two, pool, clients.
type Spec = (usize, usize, u64, u32, u32, usize, usize);

fn nobody_starves(tenants: &[Spec], servers: usize) {
    let mut cluster = Cluster::new(servers, 3);
    for &(cap, guaranteed, weight, cost, think, pool, clients) in tenants {
        let limits = Limits { guaranteed: guaranteed.min(cap), weight, ..limits(99, cap, 99) };
        cluster.tenant(limits, pool, clients, cost * MS, think * MS);
    }
    cluster.run(Duration::from_secs(3));
    for tenant in &cluster.tenants {
        assert!(tenant.served > 0, "a tenant got nothing in 3 s");
    }
    cluster.drain();
}

#[test]
fn a_slot_is_kept_for_the_login_that_is_under_way_for_it() {
    let takes_it = (1, 0, 1, 5, 0, 0, 1);
    nobody_starves(
        &[(1, 1, 1, 1, 0, 0, 1), (1, 0, 1, 1, 0, 2, 1), takes_it, (1, 1, 1, 3, 0, 2, 2)],
        3,
    );
}

#[test]
fn one_who_is_far_ahead_does_not_mix_up_those_behind() {
    let (ahead, behind) = ((3, 1, 1, 14, 1, 1, 4), (1, 0, 1, 1, 0, 0, 1));
    nobody_starves(
        &[(1, 0, 7, 5, 0, 2, 2), ahead, (2, 2, 1, 1, 0, 2, 1), (1, 0, 1, 1, 0, 2, 2), behind],
        4,
    );
}

fn tenants(costs: std::ops::Range<u64>) -> impl Strategy<Value = Vec<(u32, u64)>> {
    prop::collection::vec((1..9u32, costs), 2..6)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// Under saturation, whatever the statements' lengths: server-busy time goes by weight, within 10 %.
    #[test]
    fn shares_follow_the_weights(tenants in tenants(500..30_000), servers in 1..8usize, pools in 1..3usize) {
        let mut cluster = Cluster::new(servers, pools);
        cluster.login = Duration::ZERO;
        for (at, (weight, micros)) in tenants.iter().enumerate() {
            let limits = Limits { weight: u64::from(*weight), ..limits(99, 99, 99) };
            cluster.tenant(limits, at % pools, 2 * servers, Duration::from_micros(*micros), Duration::ZERO);
        }
        cluster.run(Duration::from_secs(1));
        for tenant in &mut cluster.tenants { tenant.busy = Duration::ZERO; }
        cluster.run(Duration::from_secs(30));
        let weights: u32 = tenants.iter().map(|(weight, _)| weight).sum();
        for (at, (weight, _)) in tenants.iter().enumerate() {
            let due = f64::from(*weight) / f64::from(weights);
            let got = share(&cluster, at);
            prop_assert!((got / due - 1.0).abs() < 0.1, "tenant {at}: {got:.3} instead of {due:.3}");
        }
        cluster.drain();
    }

    /// Any mix of limits, guarantees, lengths and pools: what `check` says holds at every step, everybody is
    /// served in the end, and nobody waits for ever.
    #[test]
    fn limits_hold_nobody_starves_and_no_server_rests(
        tenants in prop::collection::vec((1..5usize, 0..3usize, 1..9u64, 1..20u32, 0..30u32, 0..3usize, 1..12usize), 1..8),
        servers in 1..9usize,
    ) {
        nobody_starves(&tenants, servers);
    }

    /// Limits, weights, pauses and homes that change in the middle lose nobody and break no book.
    #[test]
    fn amended_tenants_keep_the_books(
        changes in prop::collection::vec((0..4usize, 1..4usize, 0..3usize, 1..9u64, any::<bool>(), 0..2usize), 1..30),
    ) {
        let mut cluster = Cluster::new(4, 2);
        cluster.lowered = true;
        for _ in 0..4 {
            cluster.tenant(limits(99, 2, 99), 0, 6, 3 * MS, MS);
        }
        for (tenant, cap, guaranteed, weight, paused, pool) in changes {
            cluster.run(10 * MS);
            let limits = Limits { guaranteed: guaranteed.min(cap), weight, paused, ..limits(99, cap, 99) };
            let name = id(&format!("t{tenant}"));
            let now = cluster.now;
            let moved = cluster.turns.amend(&name, limits, Some(pool), now);
            let it = &mut cluster.tenants[tenant];
            it.pool = pool;
            let place = it.place;
            for ticket in moved {
                cluster.turns.wait(place, ticket, now).unwrap();
            }
            cluster.dispatch();
        }
        for tenant in 0..4 {
            let (name, now) = (id(&format!("t{tenant}")), cluster.now);
            for ticket in cluster.turns.amend(&name, limits(99, 2, 99), None, now) {
                let place = cluster.tenants[tenant].place;
                cluster.turns.wait(place, ticket, now).unwrap();
            }
        }
        cluster.dispatch();
        cluster.drain();
    }
}
