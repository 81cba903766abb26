//! Turns in a simulated cluster, and alone.

use std::time::Duration;

use proptest::prelude::*;

use super::simulated::{Cluster, MS, id, limits};
use super::*;
use crate::engine::tick;

fn share(cluster: &Cluster, tenant: usize) -> f64 {
    let all: Duration = cluster.tenants.iter().map(|t| t.busy).sum();
    cluster.tenants[tenant].busy.as_secs_f64() / all.as_secs_f64()
}

#[test]
fn limits_on_clients_and_on_the_queue_refuse_at_once() {
    let now = tick();
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
    let now = tick();
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

/// Two servers that tenant `a` has, and a ticket of it.
fn one_waits_for_its_own() -> (Turns<&'static str>, usize, usize, Tick) {
    let now = tick();
    let mut turns = Turns::new(2, now);
    let pool = turns.add_pool();
    let a = turns.enter(&id("a"), limits(9, 2, 9), pool).unwrap();
    for _ in 0..2 {
        turns.opening(pool, false);
        turns.opened(pool, true);
        assert_eq!(turns.take(a, || now), Some(pool));
    }
    turns.wait(a, "a", now).unwrap();
    (turns, pool, a, now)
}

#[test]
fn a_server_goes_straight_to_the_next_of_its_tenant_if_nobody_else_waits() {
    let (mut turns, pool, a, now) = one_waits_for_its_own();
    turns.wait(a, "then", now).unwrap();
    assert_eq!(turns.hand_over(a, pool, now, |_| false), None, "it does not suit");
    assert_eq!(turns.hand_over(a, pool, now, |ticket| *ticket == "a"), Some("a"));
    assert_eq!((turns.lent, turns.nobody_waits()), (2, false));
    assert_eq!(turns.hand_over(a, pool, now, |_| true), Some("then"));
    assert_eq!((turns.lent, turns.nobody_waits()), (2, true));
    assert_eq!(turns.hand_over(a, pool, now, |_| true), None);
}

#[test]
fn a_server_does_not_go_straight_on_where_somebody_else_comes_first() {
    let (mut turns, pool, a, now) = one_waits_for_its_own();
    let other = turns.add_pool();
    let b = turns.enter(&id("b"), limits(9, 2, 9), other).unwrap();
    turns.wait(b, "b", now).unwrap();
    assert_eq!(turns.hand_over(a, pool, now, |_| true), None, "b waits as well");
    // It is guaranteed the next server, although it does not want it yet.
    let (mut turns, pool, a, now) = one_waits_for_its_own();
    let guaranteed = Limits { guaranteed: 1, ..limits(9, 2, 9) };
    turns.enter(&id("b"), guaranteed, pool).unwrap();
    assert_eq!(turns.hand_over(a, pool, now, |_| true), None, "one is kept for b");
    let (mut turns, pool, a, now) = one_waits_for_its_own();
    turns.amend(&id("a"), limits(9, 1, 9), None, now);
    assert_eq!(turns.hand_over(a, pool, now, |_| true), None, "it has more than it may");
    let (mut turns, pool, a, now) = one_waits_for_its_own();
    turns.hold(&id("a"), now);
    assert_eq!(turns.hand_over(a, pool, now, |_| true), None, "it may have moved");
    let (mut turns, pool, a, now) = one_waits_for_its_own();
    let other = turns.add_pool();
    let moved = turns.amend(&id("a"), limits(9, 2, 9), Some(other), now);
    assert_eq!(moved, ["a"]);
    turns.wait(a, "a", now).unwrap();
    assert_eq!(turns.hand_over(a, pool, now, |_| true), None, "it waits for one of another pool");
}

#[test]
fn who_alone_waits_for_long_is_filed_where_he_is_due() {
    let (mut turns, pool, a, mut now) = one_waits_for_its_own();
    turns.amend(&id("a"), limits(9, 9, 999), None, now);
    for _ in 0..500 {
        turns.wait(a, "a", now).unwrap();
    }
    // It may have more servers, and there are none: nothing but time passes.
    for _ in 0..400 {
        now = now + 100 * MS;
        assert_eq!(turns.hand_over(a, pool, now, |_| true), Some("a"));
        let account = turns.account(a);
        let Some(Due::Round(filed)) = account.due else { panic!("it waits") };
        let behind = account.round_of_last().saturating_sub(filed);
        assert!(behind < 64, "{behind} rounds to go to find its turn");
    }
}

#[test]
fn whether_servers_go_straight_on_does_not_change_the_shares() {
    for hands_over in [true, false] {
        let mut cluster = Cluster::new(2, 1);
        cluster.hands_over = hands_over;
        cluster.tenant(limits(99, 99, 99), 0, 9, 3 * MS, Duration::ZERO);
        cluster.run(Duration::from_secs(5));
        assert_eq!(cluster.handed_over > 0, hands_over);
        cluster.tenant(limits(99, 99, 99), 0, 9, 10 * MS, Duration::ZERO);
        cluster.tenants[0].busy = Duration::ZERO;
        let before = cluster.handed_over;
        cluster.run(Duration::from_millis(500));
        assert_eq!(cluster.handed_over, before, "two wait");
        assert!((share(&cluster, 1) - 0.5).abs() < 0.05, "{}", share(&cluster, 1));
        cluster.drain();
    }
}

#[test]
fn a_paused_tenant_waits_and_takes_nobodys_turn() {
    let now = tick();
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
    let now = tick();
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
