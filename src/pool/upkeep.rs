//! Servers of a cluster come and go: logins, room for other pools, checks, the end.

use std::sync::Arc;
use std::time::Instant;

use super::effects::Effects;
use super::error::CheckoutError;
use super::rack::{Pooled, ended_at_rest};
use super::sched::{Lent, Loss, Sched};
use super::turns::{Logins, STAY_MIN};
use crate::engine::Tick;
use crate::server::LoginError;

/// Servers that are asked at once whether they are still there.
const CHECKS_MAX: usize = 8;

impl<S: Pooled> Sched<S> {
    pub(super) fn open(
        &mut self,
        pool: usize,
        claims: bool,
        now: Instant,
        effects: &mut Effects<S>,
    ) {
        if self.turns.is_budget_spent()
            && let Some(failure) = &mut self.rack(pool).failure
            && !failure.takes_room(now)
        {
            let error = failure.error.clone();
            return self.pool_failed(pool, error, now, effects);
        }
        // There may be more than one too many: the budget may have been lowered.
        while self.turns.is_budget_spent() {
            if self.make_room(pool, now, effects).is_none() {
                return self.turns.set_no_room(true);
            }
        }
        self.turns.opening(pool, claims);
        self.turns.note_try();
        let rack = self.rack(pool);
        effects.todo().dials.push((pool, rack.generation, Arc::clone(&rack.endpoint)));
    }

    /// Closes the idle server of another pool that nobody has used for longest, if it has stayed long enough
    /// and nobody is guaranteed it.
    fn make_room(&mut self, pool: usize, now: Instant, effects: &mut Effects<S>) -> Option<()> {
        let opened_by = now.checked_sub(STAY_MIN)?;
        let spare = |at: &usize| *at != pool && self.turns.has_to_spare(*at);
        let others = || {
            (0..self.racks.len())
                .filter(spare)
                .filter_map(|at| Some((at, self.racks[at].as_ref()?)))
        };
        let oldest = others().filter_map(|(at, s)| Some((s.rests_since(opened_by)?, at))).min();
        let Some((since, victim)) = oldest else {
            if let Some(opened) = others().filter_map(|(_, rack)| rack.opened_first()).min() {
                self.look_at(opened + STAY_MIN, effects);
            }
            return None;
        };
        self.rack(victim).take_resting(since)?.close();
        self.turns.closed_idle(victim);
        Some(())
    }

    /// A login succeeded; `true` if the one before had failed.
    pub(super) fn dialled(
        &mut self,
        pool: usize,
        server: S,
        now: Instant,
        effects: &mut Effects<S>,
    ) -> bool {
        let recovered = self.forget_failure(pool) | self.forget_outage();
        let outdated = server.life().generation != self.rack(pool).generation;
        self.turns.opened(pool, !self.stopping && !outdated);
        if self.stopping || outdated {
            server.close();
        } else {
            self.offer_room(server.life().opened + STAY_MIN, now, effects);
            self.rack(pool).put_new(server);
        }
        if recovered {
            for pool in 0..self.racks.len() {
                if self.racks[pool].as_mut().is_some_and(|rack| rack.try_now(now)) {
                    self.turns.allow_logins(pool, Logins::One);
                }
            }
        }
        self.dispatch(Tick::at(now), effects);
        recovered
    }

    /// A login was given up because the pooler stops.
    pub(super) fn dial_given_up(&mut self, pool: usize) {
        self.turns.opened(pool, false);
    }

    /// A login failed. Waiters learn it at once if waiting cannot help: the failure will not pass
    /// by itself, and the pool has no other server that could come free.
    pub(super) fn dial_failed(
        &mut self,
        pool: usize,
        error: LoginError,
        now: Instant,
        effects: &mut Effects<S>,
    ) {
        self.turns.opened(pool, false);
        if !self.note_outage(&error, now, effects) {
            self.pool_failed(pool, error, now, effects);
        }
        self.dispatch(Tick::at(now), effects);
    }

    /// A pool cannot log in, or does not try because that would cost another pool a server.
    fn pool_failed(
        &mut self,
        pool: usize,
        error: LoginError,
        now: Instant,
        effects: &mut Effects<S>,
    ) {
        let retry_at = self.rack(pool).fails(error.clone(), now);
        self.turns.allow_logins(pool, Logins::None);
        self.look_at(retry_at, effects);
        if !error.may_pass() && self.turns.open_in(pool) == 0 {
            for ticket in self.turns.drain_pool(pool, Tick::at(now)) {
                ticket.reply.send(Err(CheckoutError::Login(error.clone())));
            }
        }
    }

    /// No server of a database, or of any, is lent again.
    pub(super) fn reconnect(&mut self, database: Option<&str>, effects: &mut Effects<S>) -> usize {
        let mut count = 0;
        self.forget_outage();
        for pool in 0..self.racks.len() {
            let Some(rack) = &mut self.racks[pool] else { continue };
            if database.is_some_and(|database| rack.endpoint.database != database) {
                continue;
            }
            rack.generation += 1;
            count += self.turns.open_in(pool);
            self.forget_failure(pool);
        }
        let now = Instant::now();
        let generations: Vec<_> =
            self.racks.iter().map(|rack| rack.as_ref().map(|rack| rack.generation)).collect();
        for (pool, generation) in generations.into_iter().enumerate() {
            let stale = |server: &mut S| Some(server.life().generation) != generation;
            self.close_stale_of(pool, stale, now);
        }
        self.dispatch(Tick::at(now), effects);
        count
    }

    /// Closes the idle servers that are `stale`.
    pub(super) fn close_idle(
        &mut self,
        mut stale: impl FnMut(&mut S) -> bool,
        now: Instant,
        effects: &mut Effects<S>,
    ) {
        for pool in 0..self.racks.len() {
            for loss in self.close_stale_of(pool, &mut stale, now) {
                self.charge(None, pool, &loss, effects);
            }
        }
        self.dispatch(Tick::at(now), effects);
    }

    fn close_stale_of(
        &mut self,
        pool: usize,
        stale: impl FnMut(&mut S) -> bool,
        now: Instant,
    ) -> Vec<Loss> {
        let Some(rack) = &mut self.racks[pool] else { return Vec::new() };
        let mut losses = Vec::new();
        for server in rack.take_stale(stale) {
            losses.push(ended_at_rest(&server, now));
            server.close();
            self.turns.closed_idle(pool);
        }
        losses
    }

    /// Takes out servers that have not answered for long: they are to be asked. They count as being opened.
    pub(super) fn take_silent(&mut self, now: Instant, effects: &mut Effects<S>) {
        let delay = self.cluster.server_check_delay;
        let mut left = CHECKS_MAX;
        for pool in 0..self.racks.len() {
            let Some(rack) = &mut self.racks[pool] else { continue };
            let silent = rack.take_stale(|server| {
                let due = left > 0 && now.saturating_duration_since(server.life().proven) >= delay;
                left -= usize::from(due);
                due
            });
            for server in silent {
                self.turns.closed_idle(pool);
                self.turns.opening(pool, false);
                effects.todo().checks.push(Lent { server, pool });
            }
        }
    }

    /// A server that was asked has answered, or is gone.
    pub(super) fn checked(&mut self, pool: usize, server: Option<S>, effects: &mut Effects<S>) {
        let now = Instant::now();
        let server = server.filter(|server| !self.stopping && !self.is_worn(pool, server, now));
        self.turns.opened(pool, server.is_some());
        if let Some(mut server) = server {
            server.life_mut().proven = now;
            self.offer_room(server.life().opened + STAY_MIN, now, effects);
            self.rack(pool).put_new(server);
        }
        self.dispatch(Tick::at(now), effects);
    }

    pub(super) fn stop(&mut self, effects: &mut Effects<S>) {
        self.stopping = true;
        let now = Instant::now();
        self.close_idle(|_| true, now, effects);
        for ticket in self.turns.drain(Tick::at(now), |_| true) {
            ticket.reply.send(Err(CheckoutError::Stopping));
        }
    }
}
