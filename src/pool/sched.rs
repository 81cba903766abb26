//! One cluster's servers and waiters, under one lock.
//!
//! [`Turns`] says who is next; here are the servers themselves. What takes time (dialling, closing) is not
//! done here: it is returned as [`Effects`].

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::account::{Limits, TicketId};
use super::answer::Reply;
use super::effects::Effects;
use super::error::{CheckoutError, Holder};
use super::outage::Outage;
use super::rack::{Pooled, Rack};
use super::turns::{Logins, Next, QueueFull, STAY_MIN, Turns};
use crate::config::{Cluster, Secret, Tenant};
use crate::engine::{Tick, tick};
use crate::server::switch::Fit;
use crate::server::{Endpoint, LoginError, Target};
use crate::tenant::TenantId;

/// A waiter, and what it waits for.
pub(super) struct Ticket<S> {
    pub(super) place: usize,
    /// Since when it waits.
    pub(super) asked: Instant,
    /// `query_wait_timeout`, and when it ends.
    pub(super) patience: Duration,
    /// `None`: it has ended, which is only audited.
    pub(super) deadline: Option<Instant>,
    pub(super) target: Arc<Target>,
    pub(super) reply: Reply<Result<Lent<S>, CheckoutError>>,
}

impl<S> Ticket<S> {
    fn is_overdue(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now)
    }
}

/// Why a server that was lent is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Loss {
    /// Nothing was sent on it: it is no doing of who had it.
    Nobodys,
    /// What its client did or left cannot be undone.
    Clients,
    /// PostgreSQL has ended it: its client may have asked for that, or nobody.
    Ended,
    /// The same, soon after the tenant has let it go.
    EndedAtRest(TenantId),
}

/// A server, and the pool it belongs to.
pub(super) struct Lent<S> {
    pub(super) server: S,
    pub(super) pool: usize,
}

/// Database, login role, its password if that is not the cluster's, and the tenant whose alone it is.
type Name = (String, String, Option<Secret>, Option<TenantId>);

/// Pools by name.
type Names = HashMap<Name, usize>;

fn name_of(endpoint: &Endpoint) -> Name {
    let password = endpoint.password.clone().filter(|_| endpoint.own_password);
    (endpoint.database.clone(), endpoint.user.clone(), password, endpoint.only.clone())
}

pub(super) struct Sched<S> {
    /// What time it was a moment ago: to read the clock twice a transaction costs more than the
    /// rest of giving a server back, and servers rest for seconds.
    pub(super) clock: Instant,
    /// When somebody may lose patience, or a login may be tried again: for all there is one timer.
    alarm: Option<Instant>,
    pub(super) turns: Turns<Ticket<S>>,
    pub(super) racks: Vec<Option<Rack<S>>>,
    /// Nobody can log in.
    pub(super) outage: Option<Outage>,
    names: Names,
    pub(super) cluster: Arc<Cluster>,
    /// The number of what holds here.
    pub(super) version: u64,
    pub(super) stopping: bool,
}

impl<S: Pooled> Sched<S> {
    pub(super) fn new(cluster: Arc<Cluster>) -> Self {
        let (clock, max_open) = (Instant::now(), cluster.max_server_connections);
        Self {
            clock,
            alarm: None,
            turns: Turns::new(max_open, Tick::at(clock)),
            racks: Vec::new(),
            outage: None,
            names: HashMap::new(),
            cluster,
            version: 0,
            stopping: false,
        }
    }

    pub(super) const fn is_stopping(&self) -> bool {
        self.stopping
    }

    pub(super) fn rack(&mut self, pool: usize) -> &mut Rack<S> {
        self.racks[pool].as_mut().expect("a pool is there as long as it has tenants or servers")
    }

    /// The time now, to the caller's knowledge; the worker's as long as somebody waits.
    pub(super) fn now(&self) -> Instant {
        if self.turns.nobody_waits() { self.clock } else { tick().instant() }
    }

    /// The pool of that database, login role and tenant, if it is one tenant's alone. From now on it logs in as the endpoint says.
    pub(super) fn pool(&mut self, endpoint: &Endpoint) -> usize {
        let name = name_of(endpoint);
        if let Some(&pool) = self.names.get(&name) {
            let before = Arc::clone(&self.rack(pool).endpoint);
            if before.password != endpoint.password || !before.is_same_place(endpoint) {
                self.forget_failure(pool);
            }
            self.rack(pool).endpoint = Arc::new(endpoint.clone());
            return pool;
        }
        let pool = self.turns.add_pool();
        if pool == self.racks.len() {
            self.racks.push(None);
        }
        self.racks[pool] = Some(Rack::new(endpoint.clone()));
        self.names.insert(name, pool);
        pool
    }

    /// Its last failed login counts no more; `true` if there was one. The only way to forget it: a pool that may
    /// not log in for a failure that nobody knows of would never try again.
    pub(super) fn forget_failure(&mut self, pool: usize) -> bool {
        self.turns.allow_logins(pool, Logins::Any);
        self.rack(pool).failure.take().is_some()
    }

    /// What holds for a tenant from now on.
    pub(super) fn amend(
        &mut self,
        tenant: &Tenant,
        endpoint: Option<&Endpoint>,
        effects: &mut Effects<S>,
    ) {
        let (now, limits) = (Instant::now(), Limits::of(tenant));
        let pool = endpoint.filter(|_| !limits.paused).map(|endpoint| self.pool(endpoint));
        for ticket in self.turns.amend(&tenant.id, limits, pool, Tick::at(now)) {
            ticket.reply.send(Err(CheckoutError::Moved));
        }
        self.dispatch(Tick::at(now), effects);
    }

    /// Whether no transaction of a paused tenant is under way here, nor can begin.
    pub(super) fn is_quiet(&self, tenant: &TenantId) -> bool {
        self.turns.is_quiet(tenant, self.stopping)
    }

    /// A tenant's waiters are to look where it lives.
    pub(super) fn dismiss(&mut self, tenant: &TenantId) {
        for ticket in self.turns.dismiss(tenant, tick()) {
            ticket.reply.send(Err(CheckoutError::Moved));
        }
    }

    /// What holds for the cluster from now on.
    pub(super) fn renew(&mut self, cluster: Arc<Cluster>, effects: &mut Effects<S>) {
        let moves = !self.cluster.is_reached_as(&cluster);
        self.turns.set_max_open(cluster.max_server_connections);
        self.cluster = cluster;
        if moves {
            self.forget_outage();
            for pool in 0..self.racks.len() {
                if let Some(rack) = &mut self.racks[pool] {
                    rack.generation += 1;
                    self.forget_failure(pool);
                }
            }
        }
        let (open, max_open) = self.turns.budget();
        let mut over = if moves { open } else { open.saturating_sub(max_open) };
        let stale = |_: &mut S| over.checked_sub(1).map(|left| over = left).is_some();
        self.close_idle(stale, Instant::now(), effects);
    }

    /// Forgets pools that nobody uses.
    pub(super) fn forget_pools(&mut self, now: Instant) {
        self.turns.look_at_debts(Tick::at(now));
        for pool in 0..self.racks.len() {
            let Some(rack) = &self.racks[pool] else { continue };
            if rack.failing(now).is_none() && self.turns.forget_pool(pool) {
                let name = name_of(&rack.endpoint);
                self.names.remove(&name);
                self.racks[pool] = None;
            }
        }
    }

    /// Queues a ticket.
    pub(super) fn wait(
        &mut self,
        ticket: Ticket<S>,
        now: Tick,
        effects: &mut Effects<S>,
    ) -> Result<TicketId, QueueFull> {
        let mut ticket = ticket;
        if self.turns.is_full(ticket.place)
            && let Some(tenant) = self.turns.audited(ticket.place)
        {
            effects.todo().audited.push((tenant, "max_waiting_clients"));
            // It would not have waited.
            ticket.deadline = None;
        }
        let (deadline, asked) = (ticket.deadline, ticket.asked);
        let id = self.turns.wait(ticket.place, ticket, now)?;
        self.clock = asked;
        if let Some(deadline) = deadline {
            self.look_at(deadline, effects);
        }
        self.dispatch(now, effects);
        Ok(id)
    }

    /// The clock is to be looked at then, at the latest.
    pub(super) fn look_at(&mut self, at: Instant, effects: &mut Effects<S>) {
        if self.alarm.is_none_or(|alarm| at < alarm) {
            self.alarm = Some(at);
            effects.todo().rings = true;
        }
    }

    /// The clock has come so far: tells those whose patience has ended, lets logins be tried again.
    pub(super) fn tick(&mut self, now: Instant, effects: &mut Effects<S>) -> Option<Instant> {
        self.clock = now;
        self.expire(now, effects);
        let mut next = self.turns.tickets().filter_map(|ticket| ticket.deadline).min();
        for pool in 0..self.racks.len() {
            let failure = self.racks[pool].as_ref().and_then(|rack| rack.failure.as_ref());
            match failure.map(|failure| failure.retry_at) {
                Some(at) if at > now => next = Some(next.map_or(at, |next| next.min(at))),
                Some(_) => self.turns.allow_logins(pool, Logins::One),
                None => {}
            }
        }
        if let Some(at) = self.turns.look_at_debts(Tick::at(now)).map(Tick::instant) {
            next = Some(next.map_or(at, |next| next.min(at)));
        }
        if let Some(at) = self.retry_outage(now) {
            next = Some(next.map_or(at, |next| next.min(at)));
        }
        self.alarm = next;
        self.turns.set_no_room(false);
        self.dispatch(Tick::at(now), effects);
        self.alarm
    }

    fn expire(&mut self, now: Instant, effects: &mut Effects<S>) {
        for (tenant, ticket) in self.turns.audited_tickets() {
            if ticket.is_overdue(now) {
                ticket.deadline = None;
                effects.todo().audited.push((tenant.clone(), "query_wait_timeout"));
            }
        }
        for ticket in self.turns.drain(Tick::at(now), |ticket| ticket.is_overdue(now)) {
            let pool = self.turns.pool_of(ticket.place);
            let outage = self.outage.as_ref().map(|outage| outage.last.error.clone());
            let failure = self.rack(pool).failure.as_ref();
            let login = failure.map(|failure| failure.error.clone()).or(outage);
            let holder = self.turns.holder(ticket.place);
            let timed_out = CheckoutError::TimedOut {
                waited: ticket.patience,
                holder: holder
                    .map(|(tenant, servers)| Box::new(Holder { tenant, servers, oldest: None })),
                tenant: self.turns.usage(ticket.place),
                cluster: self.turns.budget(),
                stop: self.turns.stop_of(ticket.place),
                login,
            };
            ticket.reply.send(Err(timed_out));
        }
    }

    /// An idle server for the tenant at that place, if nobody is overtaken.
    pub(super) fn take_idle(&mut self, place: usize, target: &Arc<Target>) -> Option<Lent<S>> {
        let pool = self.turns.take(place, tick)?;
        let server = self.rack(pool).take(target).expect("the turns count what rests");
        Some(Lent { server, pool })
    }

    /// A server comes back to its pool, if it may still be lent. Whoever is next gets it, wherever
    /// he belongs; `None`: nobody waits.
    pub(super) fn put_idle(
        &mut self,
        place: usize,
        lent: Lent<S>,
        at_rest: bool,
    ) -> Option<Effects<S>> {
        let now = self.now();
        let is_worn = self.stopping || self.is_worn(lent.pool, &lent.server, now);
        let waited_for = !is_worn && !at_rest && !self.turns.nobody_waits();
        let lent = if waited_for { self.hand_over(place, lent)? } else { lent };
        let Lent { mut server, pool } = lent;
        let quiet = self.give_back(place, at_rest);
        if is_worn {
            let mut effects = Effects::quiet(quiet);
            server.close();
            self.turns.closed(pool);
            self.dispatch(tick(), &mut effects);
            return Some(effects);
        }
        let life = server.life_mut();
        (life.idle_since, life.proven) = (now, now);
        let may_make_room_at = life.opened + STAY_MIN;
        self.rack(pool).put(server);
        self.turns.rests(pool);
        if self.turns.nobody_waits() && quiet.is_none() {
            return None;
        }
        let mut effects = Effects::quiet(quiet);
        self.offer_room(may_make_room_at, now, &mut effects);
        self.dispatch(tick(), &mut effects);
        Some(effects)
    }

    /// The tenant's next client gets the server, if nobody else waits and the server is in his state; or it is
    /// returned.
    fn hand_over(&mut self, place: usize, lent: Lent<S>) -> Option<Lent<S>> {
        let suits = |ticket: &Ticket<S>| lent.server.fit(&ticket.target) == Fit::SameState;
        match self.turns.hand_over(place, lent.pool, tick(), suits) {
            None => Some(lent),
            Some(ticket) => {
                ticket.reply.send(Ok(lent));
                None
            }
        }
    }

    /// A server rests, and may make room from then on.
    pub(super) fn offer_room(&mut self, at: Instant, now: Instant, effects: &mut Effects<S>) {
        if at <= now {
            self.turns.set_no_room(false);
        } else {
            // Somebody may want its place by then.
            self.look_at(at, effects);
        }
    }

    /// A client goes; what its tenant was guaranteed may be free for others.
    pub(super) fn leave(&mut self, place: usize, effects: &mut Effects<S>) {
        self.turns.leave(place);
        if !self.turns.nobody_waits() {
            self.dispatch(tick(), effects);
        }
    }

    pub(super) fn is_worn(&mut self, pool: usize, server: &S, now: Instant) -> bool {
        now >= server.life().retire_at
            || server.served() > self.cluster.max_tenants_per_server
            || self.turns.is_over_budget()
            || server.life().generation != self.rack(pool).generation
    }

    /// A session keeps its server and begins no transaction. The tenant, if none of it is under way any more.
    pub(super) fn rests_with_server(&mut self, place: usize) -> Option<TenantId> {
        self.turns.rests_with_server(place, self.stopping)
    }

    /// The tenant, if it may have ended its last transaction here by that.
    fn give_back(&mut self, place: usize, at_rest: bool) -> Option<TenantId> {
        if at_rest {
            self.turns.goes_on_with_server(place);
        }
        self.turns.give_back(place, self.stopping, tick)
    }

    /// A server that was lent is gone; its session was `at_rest`.
    pub(super) fn lost(
        &mut self,
        (place, pool): (usize, usize),
        at_rest: bool,
        loss: Loss,
        effects: &mut Effects<S>,
    ) {
        effects.note_quiet(self.give_back(place, at_rest));
        self.turns.closed(pool);
        self.charge(Some(place), pool, &loss, effects);
        self.dispatch(tick(), effects);
    }

    /// Charges whoever made a server of that pool unusable: the tenant at that place, or whom the loss names.
    pub(super) fn charge(
        &mut self,
        place: Option<usize>,
        pool: usize,
        loss: &Loss,
        effects: &mut Effects<S>,
    ) {
        let now = tick();
        let owes = match (loss, place) {
            (Loss::EndedAtRest(tenant), _) => self.turns.charge_tenant(tenant, now),
            (Loss::Clients | Loss::Ended, Some(place)) => self.turns.charge(place, now),
            (Loss::Nobodys, _) | (_, None) => None,
        };
        let Some((until, tenant)) = owes else { return };
        effects.todo().owing.extend(tenant);
        self.look_at(until.instant(), effects);
        // Nobody may be there who would find out that PostgreSQL is not.
        if *loss != Loss::Clients && !self.stopping && self.turns.may_try(pool) {
            self.open(pool, true, now.instant(), effects);
        }
    }

    /// Serves waiters in their turns, with idle servers and with logins, while there are any.
    pub(super) fn dispatch(&mut self, now: Tick, effects: &mut Effects<S>) {
        if self.stopping {
            return;
        }
        while let Some(next) = self.turns.next(now) {
            match next {
                Next::Serve { place, pool } => self.serve(place, pool, now),
                Next::Open { pool, claims } => self.open(pool, claims, now.instant(), effects),
            }
        }
    }

    fn serve(&mut self, place: usize, pool: usize, now: Tick) {
        let Some(ticket) = self.turns.serve(place, now) else { return };
        let server = self.rack(pool).take(&ticket.target).expect("the turns count what rests");
        // A client that leaves takes its ticket with it, or gives the server back.
        ticket.reply.send(Ok(Lent { server, pool }));
    }

    /// Why a client need not even queue: the last login failed for good, and nothing else is open.
    pub(super) fn is_hopeless(&mut self, place: usize, now: Instant) -> Option<LoginError> {
        let pool = self.turns.pool_of(place);
        let error = self.rack(pool).failing(now)?.clone();
        (self.turns.open_in(pool) == 0 && !error.may_pass()).then_some(error)
    }
}
