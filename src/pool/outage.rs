//! A cluster that nobody can log in to: one pool tries, the others wait for its result.
//!
//! An outage begins with a failure that is nobody's own ([`LoginError::is_outage`]) and ends with a login that succeeds
//! or that PostgreSQL refuses for a reason of the pool's. Failures of one pool are in its rack.

use std::time::Instant;

use super::effects::Effects;
use super::failure::Failure;
use super::rack::Pooled;
use super::sched::Sched;
use super::turns::Logins;
use crate::engine::{Tick, tick};
use crate::server::LoginError;

/// Nobody can log in.
pub(super) struct Outage {
    pub(super) last: Failure,
    phase: Phase,
}

#[derive(PartialEq, Eq)]
enum Phase {
    /// Nobody tries before the time has come.
    Pauses,
    /// Somebody tries, or will as soon as a client waits.
    Tries,
}

impl<S: Pooled> Sched<S> {
    /// A login failed. Whether it is an outage's.
    pub(super) fn note_outage(
        &mut self,
        error: &LoginError,
        now: Instant,
        effects: &mut Effects<S>,
    ) -> bool {
        let is_outage = error.is_outage();
        if self.outage.is_some() && error.is_answer() && !is_outage {
            self.forget_outage();
        }
        if !is_outage && self.outage.is_none() {
            return false;
        }
        // Servers may have gone by that.
        self.turns.forgive(Tick::at(now));
        let before = self.outage.as_ref().map(|outage| &outage.last);
        let last = Failure::after(before, error.clone(), now);
        self.turns.allow_all_logins(Logins::None);
        self.look_at(last.retry_at, effects);
        self.outage = Some(Outage { last, phase: Phase::Pauses });
        is_outage
    }

    /// Everybody may log in again; `true` if there was an outage. The only way to forget it.
    pub(super) fn forget_outage(&mut self) -> bool {
        self.turns.allow_all_logins(Logins::Any);
        let was_there = self.outage.take().is_some();
        if was_there {
            self.turns.forgive(tick());
        }
        was_there
    }

    /// When the next login may be tried in an outage that pauses. If now, one is.
    pub(super) fn retry_outage(&mut self, now: Instant) -> Option<Instant> {
        let outage = self.outage.as_mut().filter(|outage| outage.phase == Phase::Pauses)?;
        if outage.last.retry_at > now {
            return Some(outage.last.retry_at);
        }
        outage.phase = Phase::Tries;
        self.turns.allow_all_logins(Logins::One);
        None
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::Arc;
    use std::time::Duration;

    use shuttle::Runner;
    use shuttle::scheduler::RandomScheduler;

    use super::super::account::Limits;
    use super::super::answer::Slot;
    use super::super::debt::CREDIT_MAX;
    use super::super::error::Stop;
    use super::super::number::Number;
    use super::super::sched::{Loss, Ticket};
    use super::*;
    use crate::config::Config;
    use crate::net::Connector;
    use crate::server::{Class, Endpoint, Keychain, Known, Life, Target};
    use crate::tenant::SessionState;

    const POOLS: usize = 20;

    /// What threads share is shuttle's in tests.
    fn alone(test: fn()) {
        let mut config = shuttle::Config::new();
        // A configuration is read in it.
        config.stack_size = 512 * 1024;
        Runner::new(RandomScheduler::new(1), config).run(test);
    }

    /// A cluster with a waiter in each of its pools, and the logins that were begun for them.
    fn cluster() -> (Sched<Number>, Vec<usize>) {
        let text = "[clusters.main]\nuser = \"app\"\nmax_server_connections = 100\n\
                    [users.app]\npassword = \"app\"\ntenants = [\"*\"]\n[tenancy]\ntenant_from = [\"user:.\"]\n\
                    unknown = \"template\"\n[tenants.\"*\"]\n";
        let config = Config::parse(text, PathBuf::new()).unwrap();
        let cluster = &config.clusters["main"];
        let mut sched = Sched::new(Arc::clone(cluster));
        let (now, mut begun) = (Instant::now(), Vec::new());
        for number in 0..POOLS {
            let (tls, keys) =
                (Connector::new(&cluster.tls).unwrap(), Arc::new(Keychain::default()));
            let name = format!("t{number}");
            let pool = sched.pool(&Endpoint::new(cluster, tls, &name, "app", None, &keys));
            let id = config.tenancy.name_pattern.parse(&name).unwrap();
            let limits = Limits::of(&config.tenant(&id).unwrap());
            let place = sched.turns.enter(&id, limits, pool).unwrap();
            let target = Arc::new(Target::new(id, SessionState::default(), Arc::new(Class::new())));
            let (reply, _) = Slot::open(&Slot::new());
            let (patience, deadline) = (Duration::from_hours(1), None);
            let ticket = Ticket { place, asked: now, patience, deadline, target, reply };
            let mut effects = Effects::default();
            assert!(sched.wait(ticket, Tick::at(now), &mut effects).is_ok());
            begun.extend(dials(effects));
        }
        (sched, begun)
    }

    fn dials(effects: Effects<Number>) -> Vec<usize> {
        let dials = effects.into_todo().map_or_else(Vec::new, |todo| todo.dials);
        dials.into_iter().map(|(pool, ..)| pool).collect()
    }

    fn fail(
        sched: &mut Sched<Number>,
        pool: usize,
        error: &LoginError,
        now: Instant,
    ) -> Vec<usize> {
        let mut effects = Effects::default();
        sched.dial_failed(pool, error.clone(), now, &mut effects);
        dials(effects)
    }

    fn tick(sched: &mut Sched<Number>, now: Instant) -> Vec<usize> {
        let mut effects = Effects::default();
        sched.tick(now, &mut effects);
        dials(effects)
    }

    /// All logins of a moment fail; gives the time of the first try afterwards.
    fn outage(sched: &mut Sched<Number>, begun: Vec<usize>, now: Instant) -> Instant {
        for pool in begun {
            assert_eq!(fail(sched, pool, &LoginError::Standby, now), [0; 0], "they wait");
        }
        let retry_at = sched.outage.as_ref().unwrap().last.retry_at;
        assert_eq!(tick(sched, now), [0; 0]);
        retry_at
    }

    #[test]
    fn one_pool_tries_and_all_log_in_once_it_has_succeeded() {
        alone(|| {
            let (mut sched, begun) = cluster();
            assert_eq!(begun.len(), POOLS, "nothing is known yet");
            let mut now = outage(&mut sched, begun, Instant::now());
            for _ in 0..50 {
                let tried = tick(&mut sched, now);
                let &[pool] = tried.as_slice() else { panic!("not one: {tried:?}") };
                assert_eq!(
                    tick(&mut sched, now + Duration::from_hours(1)),
                    [0; 0],
                    "while it is tried"
                );
                assert_eq!(fail(&mut sched, pool, &LoginError::Standby, now), [0; 0]);
                now = sched.outage.as_ref().unwrap().last.retry_at;
            }
            let pool = tick(&mut sched, now)[0];
            let mut effects = Effects::default();
            let life = Life::new(now, Duration::from_hours(1));
            assert!(sched.dialled(pool, Number { known: Known::Neutral, life }, now, &mut effects));
            assert_eq!(dials(effects).len(), POOLS - 1);
        });
    }

    #[test]
    fn a_pools_own_failure_ends_an_outage_and_is_not_the_others() {
        alone(|| {
            let (mut sched, begun) = cluster();
            let now = outage(&mut sched, begun, Instant::now());
            let pool = tick(&mut sched, now)[0];
            let own = LoginError::NoPassword { user: "app".to_owned() };
            let others = fail(&mut sched, pool, &own, now);
            assert!(others.len() == POOLS - 1 && !others.contains(&pool), "{others:?}");
        });
    }

    #[test]
    fn a_try_without_any_answer_leaves_the_next_one_to_somebody_else() {
        alone(|| {
            let (mut sched, begun) = cluster();
            let now = outage(&mut sched, begun, Instant::now());
            let pool = tick(&mut sched, now)[0];
            let silence = LoginError::TimedOut { after: Duration::ZERO };
            assert_eq!(fail(&mut sched, pool, &silence, now), [0; 0]);
            let retry_at = sched.outage.as_ref().unwrap().last.retry_at;
            let tried = tick(&mut sched, retry_at);
            assert!(tried.len() == 1 && tried != [pool], "{tried:?}");
        });
    }
    /// What the first pool's tenant waits for, after so many of its servers were closed.
    fn charged(sched: &mut Sched<Number>, servers: u32) -> Option<Stop> {
        for _ in 0..servers {
            sched.turns.charge(0, Tick::at(Instant::now()));
        }
        sched.turns.stop_of(0)
    }

    #[test]
    fn an_outage_settles_what_servers_cost_that_have_ended_by_it() {
        alone(|| {
            let (mut sched, begun) = cluster();
            assert_eq!(charged(&mut sched, CREDIT_MAX), None);
            assert_eq!(charged(&mut sched, 1), Some(Stop::Owes));
            fail(&mut sched, begun[1], &LoginError::Standby, Instant::now());
            assert_eq!(charged(&mut sched, CREDIT_MAX), None, "it begins");
            assert_eq!(charged(&mut sched, 1), Some(Stop::Owes));
            sched.forget_outage();
            assert_eq!(charged(&mut sched, 0), None, "it ends");
        });
    }

    #[test]
    fn whether_postgresql_is_there_is_tried_though_nobody_may_have_the_server() {
        alone(|| {
            let (mut sched, begun) = cluster();
            let (now, pool) = (Instant::now(), begun[0]);
            let life = Life::new(now, Duration::from_hours(1));
            let server = Number { known: Known::Neutral, life };
            sched.dialled(pool, server, now, &mut Effects::default());
            assert_eq!(sched.turns.usage(0).0, 1, "its client has it");
            charged(&mut sched, CREDIT_MAX);
            let mut effects = Effects::default();
            sched.lost((0, pool), false, Loss::Ended, &mut effects);
            assert_eq!((sched.turns.stop_of(0), dials(effects)), (Some(Stop::Owes), vec![pool]));
        });
    }
}
