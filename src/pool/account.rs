//! One tenant's account: its clients, its queue, its servers, and what it has used of them.
//!
//! Use is server-busy time: each server it holds, for as long as it holds it, divided by its weight.
//!
//! Pure: the time comes in as an argument.

use std::collections::VecDeque;
use std::time::Duration;

use super::debt::Debt;
use super::error::Stop;
use super::order::Due;
use crate::config::{Availability, QuotaMode, Tenant};
use crate::engine::Tick;
use crate::tenant::TenantId;

/// Length of a round for weight 1, in nanoseconds of server-busy time; about a millisecond.
const ROUND: u64 = 1 << 20;

/// What a tenant has used more than this beyond others is forgotten: an hour of reports does not cost an
/// hour of waiting. In nanoseconds: a minute.
const DEBT_MAX: u64 = 60_000_000_000;

/// Rounds that who alone waits may be behind with what is filed of him.
const LATE: u64 = 32;

/// A ticket's number, to find it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TicketId(pub(super) u64);

/// The limits of a tenant that its turns depend on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) clients: usize,
    pub(super) servers: usize,
    pub(super) guaranteed: usize,
    pub(super) weight: u64,
    pub(super) waiting: usize,
    /// Longest wait of a ticket.
    pub(super) patience: Duration,
    /// It gets no server for now: its clients wait.
    pub(super) paused: bool,
    /// What exceeds limits on clients and waiters goes on.
    pub(super) audited: bool,
}

impl Limits {
    pub(super) fn of(tenant: &Tenant) -> Self {
        let quotas = &tenant.quotas;
        Self {
            clients: quotas.max_client_connections,
            servers: quotas.max_server_connections,
            guaranteed: quotas.guaranteed_server_connections.min(quotas.max_server_connections),
            weight: u64::from(quotas.weight),
            waiting: quotas.max_waiting_clients,
            patience: quotas.query_wait_timeout,
            paused: tenant.availability == Availability::Paused,
            audited: quotas.mode == QuotaMode::Audit,
        }
    }
}

/// Somebody waits, on and off, with gaps of less than this: one contention. What was used in one is
/// forgotten in the next.
const GAP_MAX_MICROS: u64 = 1_000_000;

/// The time in which somebody waits; in all other time there is enough for everybody, and nothing counts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Contention {
    number: u64,
    /// Contended time before this contention, in microseconds.
    before: u64,
    /// Contended time until the last gap, likewise.
    contended: u64,
    /// Since when somebody waits without a gap; else when the last one ceased to.
    waits: bool,
    since: Tick,
    /// The round that was served last.
    pub(super) round: u64,
}

impl Contention {
    pub(super) const fn new(now: Tick) -> Self {
        Self { number: 1, before: 0, contended: 0, waits: false, since: now, round: 1 }
    }

    pub(super) fn begin(&mut self, now: Tick) {
        if now.micros_since(self.since) >= GAP_MAX_MICROS {
            self.number += 1;
            self.before = self.contended;
        }
        (self.waits, self.since) = (true, now);
    }

    pub(super) fn end(&mut self, now: Tick) {
        self.contended = self.clock(|| now);
        (self.waits, self.since) = (false, now);
    }

    /// Contended time until now.
    fn clock(&self, now: impl FnOnce() -> Tick) -> u64 {
        if !self.waits {
            return self.contended;
        }
        self.contended + now().micros_since(self.since)
    }

    /// Who comes now starts here, one round before those who wait already: he is next, and what he did not
    /// use before he cannot use now.
    const fn start(&self) -> u64 {
        self.round.saturating_sub(1) * ROUND
    }
}

#[derive(Debug)]
pub(super) struct Account<T> {
    pub(super) id: TenantId,
    pub(super) limits: Limits,
    pub(super) clients: usize,
    pub(super) in_use: usize,
    /// Of these, how many sessions keep that begin no transaction, because it is paused.
    pub(super) at_rest: usize,
    /// Tickets it ever had.
    pub(super) waits: u64,
    pub(super) queue: VecDeque<(TicketId, T)>,
    /// Where it lives is being changed: nobody of it gets a server until that is known.
    pub(super) held: bool,
    /// What it owes for servers that its clients made unusable: it gets none while it waits for that.
    pub(super) debt: Debt,
    /// Where it lives now; servers lent before may be of another pool.
    pub(super) pool: usize,
    /// Of the guarantee, what the cluster's budget has room for.
    pub(super) kept: usize,
    /// Tickets that could be served if there were servers enough; as counted in its pool.
    pub(super) demand: usize,
    /// When it is due, if it is filed.
    pub(super) due: Option<Due>,
    /// Server-busy time it has used, by its weight, in nanoseconds.
    used: u64,
    /// Until when that is counted, in contended time, and in which contention.
    counted: u64,
    contention: u64,
    /// How far it was behind when it waited last. It keeps that as long as it has servers: it may have
    /// nobody in the queue for a moment only.
    behind: u64,
}

impl<T> Account<T> {
    pub(super) fn new(id: TenantId, limits: Limits, pool: usize) -> Self {
        Self {
            id,
            limits,
            clients: 0,
            in_use: 0,
            at_rest: 0,
            waits: 0,
            queue: VecDeque::new(),
            held: false,
            debt: Debt::default(),
            pool,
            kept: 0,
            demand: 0,
            due: None,
            used: 0,
            counted: 0,
            contention: 0,
            behind: 0,
        }
    }

    /// Whether as many of its clients wait as may.
    pub(super) fn is_full(&self) -> bool {
        self.queue.len() >= self.limits.waiting
    }

    /// Whether one of its clients waits for a server and not for the operator.
    pub(super) fn contends(&self) -> bool {
        !self.is_stopped() && !self.queue.is_empty()
    }

    /// Whether its clients wait, whatever servers there are.
    pub(super) const fn is_stopped(&self) -> bool {
        self.limits.paused || self.held || self.debt.waits()
    }

    /// What its clients wait for, whatever servers there are.
    pub(super) const fn stop(&self) -> Option<Stop> {
        match (self.limits.paused, self.debt.waits()) {
            (true, _) => Some(Stop::Paused),
            (false, true) => Some(Stop::Owes),
            (false, false) => None,
        }
    }

    /// It is paused, or the cluster `stops`, and none of its transactions is under way.
    pub(super) const fn is_quiet(&self, stops: bool) -> bool {
        (self.limits.paused || stops) && self.in_use == self.at_rest
    }

    /// Tickets that its limit has room for.
    pub(super) fn servable(&self) -> usize {
        let room = self.limits.servers.saturating_sub(self.in_use);
        if self.is_stopped() { 0 } else { room.min(self.queue.len()) }
    }

    /// Whether what is known of it elsewhere is to be changed: what waits, or when it is due, if that is so far
    /// behind that to find its turn would take many steps.
    pub(super) fn is_out_of_books(&self) -> bool {
        let is_late = match self.due {
            Some(Due::Round(filed)) => filed + LATE < self.round_of_last(),
            Some(Due::Guaranteed) | None => false,
        };
        is_late || self.queue.is_empty() || self.servable() != self.demand
    }

    /// Slots that nobody else may take: those of its guarantee that it does not use.
    pub(super) fn reserved(&self) -> usize {
        self.kept.saturating_sub(self.in_use)
    }

    /// Counts what it has used until now.
    #[inline]
    pub(super) fn count(&mut self, contention: &Contention, now: impl FnOnce() -> Tick) {
        let clock = contention.clock(now);
        if self.contention != contention.number {
            (self.contention, self.counted) = (contention.number, contention.before);
            (self.used, self.behind) = (contention.start(), 0);
        }
        let passed = clock.saturating_sub(self.counted);
        if passed == 0 {
            return;
        }
        self.counted = clock;
        let busy = passed.saturating_mul(1000 * self.in_use as u64) / self.limits.weight;
        let debt_max = contention.start() + DEBT_MAX;
        self.used = self.used.saturating_add(busy).min(debt_max.max(self.used));
    }

    /// It was not filed and is now: what it has not used meanwhile it cannot use now.
    pub(super) fn wake(&mut self, contention: &Contention) {
        let start = contention.start().saturating_sub(self.advance() + self.behind);
        self.used = self.used.max(start);
    }

    /// It was filed and is no more.
    pub(super) fn rest(&mut self, contention: &Contention) {
        self.behind = match self.in_use {
            0 => 0,
            _ => contention.start().saturating_sub(self.used + self.advance()),
        };
    }

    /// It may have neither servers nor tickets any more.
    pub(super) fn note_idle(&mut self) {
        if self.in_use == 0 && self.queue.is_empty() {
            self.behind = 0;
        }
    }

    /// When it is due: a guaranteed server at once, another in its round. A server it has is paid for a
    /// round in advance, so that nobody takes many at once.
    pub(super) fn next_due(&self) -> Option<Due> {
        if self.servable() == 0 {
            return None;
        }
        if self.in_use < self.kept {
            return Some(Due::Guaranteed);
        }
        Some(Due::Round((self.used + self.advance()) / ROUND))
    }

    /// The round in which the last of its servers was due.
    pub(super) fn round_of_last(&self) -> u64 {
        (self.used + self.advance_of(self.in_use.saturating_sub(1))) / ROUND
    }

    /// Rounds in which a server that it has for so long is paid.
    pub(super) fn rounds_of(&self, time: Duration) -> u64 {
        nanoseconds(time) / ROUND / self.limits.weight
    }

    const fn advance(&self) -> u64 {
        self.advance_of(self.in_use)
    }

    const fn advance_of(&self, servers: usize) -> u64 {
        ROUND * servers as u64 / self.limits.weight
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
