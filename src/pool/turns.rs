//! Who is next: one FIFO a tenant; tenants take turns by what they use, over all pools of a cluster.
//!
//! Weighted deficit round robin, charged in server-busy time: a tenant with statements of 20 ms pays 100
//! times what one with 0.2 ms pays, and who has used more comes in a later round. Guaranteed servers come
//! first, and nobody else may take them while their tenant has clients. Who wakes up is next soon, and
//! cannot have saved anything up. No server rests while somebody may have it.
//!
//! Pure: no clocks, no servers. A ticket is whatever the caller waits with; pools are counted only. What
//! one call costs does not depend on how many tenants there are.

use slab::Slab;
use std::collections::HashMap;

use super::account::{Account, Contention, Limits, TicketId};
use super::debt::Debt;
use super::order::{Due, Links, Order};
use crate::engine::Tick;
use crate::tenant::TenantId;

mod debts;
mod members;
mod pools;

pub use members::TooManyClients;
use pools::PoolTurns;
pub(super) use pools::{Logins, STAY_MIN};

/// Logins under way at once: each costs PostgreSQL a fork and some milliseconds.
const OPENING_MAX: usize = 32;
/// The same as a part of the budget: databases that hang in login, however many, leave the rest to the others.
const OPENING_PART: usize = 2;

const HAS_ACCOUNT: &str = "a seat keeps its tenant's account";

/// The tenant is at `max_waiting_clients`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct QueueFull {
    pub(super) limit: usize,
}

/// What is to be done next for those who wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Serve the first ticket of the tenant at this place with an idle server of its pool.
    Serve { place: usize, pool: usize },
    /// A server for this pool, by a login; if the budget is spent, in the place of one of another pool.
    /// The slot it is for is `claims`: not one of those that are guaranteed.
    Open { pool: usize, claims: bool },
}

/// Tenants with clients, and the pools of a cluster.
#[derive(Debug)]
pub(super) struct Turns<T> {
    accounts: Vec<Option<Account<T>>>,
    free: Vec<usize>,
    places: HashMap<TenantId, usize>,
    /// What tenants owe that have no clients now.
    debts: HashMap<TenantId, Debt>,
    links: Links,
    pools: Slab<PoolTurns>,
    pool_links: Links,
    /// Pools that have waiters and idle servers.
    ready: Order,
    /// Pools that have waiters and not enough servers, and may have another.
    wanting: Order,
    /// There is nothing to close for another pool.
    no_room: bool,
    contention: Contention,
    /// Tenants of which somebody waits.
    contenders: usize,
    /// Servers that are lent.
    lent: usize,
    /// Slots kept for tenants that do not use them now.
    reserved: usize,
    /// Slots kept for logins under way.
    claimed: usize,
    /// All that is guaranteed now.
    kept: usize,
    /// Servers that exist, and logins under way.
    open: usize,
    /// Logins under way.
    opening: usize,
    logins: Logins,
    max_open: usize,
    last_ticket: u64,
}

impl<T> Turns<T> {
    pub(super) fn new(max_open: usize, now: Tick) -> Self {
        Self {
            accounts: Vec::new(),
            free: Vec::new(),
            places: HashMap::new(),
            debts: HashMap::new(),
            links: Links::default(),
            pools: Slab::new(),
            pool_links: Links::default(),
            ready: Order::new(),
            wanting: Order::new(),
            no_room: false,
            contention: Contention::new(now),
            contenders: 0,
            lent: 0,
            reserved: 0,
            claimed: 0,
            kept: 0,
            open: 0,
            opening: 0,
            logins: Logins::Any,
            max_open,
            last_ticket: 0,
        }
    }

    fn account(&mut self, place: usize) -> &mut Account<T> {
        self.accounts[place].as_mut().expect(HAS_ACCOUNT)
    }

    /// The pool a tenant lives in.
    pub(super) fn pool_of(&mut self, place: usize) -> usize {
        self.account(place).pool
    }

    /// Whether nobody waits that could be served.
    pub(super) fn nobody_waits(&self) -> bool {
        self.contenders == 0
    }

    /// Takes an idle server of its pool for the tenant, if there is one and nobody is overtaken.
    pub(super) fn take(&mut self, place: usize, now: impl FnOnce() -> Tick) -> Option<usize> {
        let open_to_all = self.is_open_to_all();
        let account = self.account(place);
        let pool = account.pool;
        let may = account.queue.is_empty()
            && !account.is_stopped()
            && account.in_use < account.limits.servers
            && (open_to_all || account.in_use < account.kept);
        if !may || self.pools[pool].idle == 0 {
            return None;
        }
        self.count(place, now);
        self.lend(place, pool);
        Some(pool)
    }

    fn may_begin_login(&self) -> bool {
        match self.logins {
            Logins::Any => self.opening < (self.max_open / OPENING_PART).clamp(1, OPENING_MAX),
            Logins::One => true,
            Logins::None => false,
        }
    }

    /// Whether there is a slot that is neither guaranteed to anybody nor kept for a login under way.
    const fn is_open_to_all(&self) -> bool {
        self.max_open.saturating_sub(self.lent) > self.reserved + self.claimed
    }

    fn lend(&mut self, place: usize, pool: usize) {
        let account = self.account(place);
        let reserved = account.reserved();
        account.in_use += 1;
        let freed = reserved - account.reserved();
        self.reserved -= freed;
        self.lent += 1;
        self.pools[pool].idle -= 1;
        self.settle_pool(pool);
    }

    /// A server of the tenant comes back or is gone. A paused tenant, or one of a
    /// cluster that `stops`, is named when no transaction of it is under way any more.
    pub(super) fn give_back(
        &mut self,
        place: usize,
        stops: bool,
        now: impl FnOnce() -> Tick,
    ) -> Option<TenantId> {
        self.count(place, now);
        self.lent -= 1;
        let account = self.account(place);
        let reserved = account.reserved();
        account.in_use -= 1;
        let more = account.reserved() - reserved;
        account.note_idle();
        let waits = !account.queue.is_empty();
        let quiet = account.is_quiet(stops).then(|| account.id.clone());
        self.reserved += more;
        if waits {
            self.settle(place);
        }
        quiet
    }

    /// Servers that exist or are being dialled, and how many there may be.
    pub(super) const fn budget(&self) -> (usize, usize) {
        (self.open, self.max_open)
    }

    /// Queues a ticket.
    pub(super) fn wait(
        &mut self,
        place: usize,
        ticket: T,
        now: Tick,
    ) -> Result<TicketId, QueueFull> {
        let account = self.account(place);
        if account.is_full() && !account.limits.audited {
            return Err(QueueFull { limit: account.limits.waiting });
        }
        self.last_ticket += 1;
        let id = TicketId(self.last_ticket);
        let account = self.account(place);
        let contended = account.contends();
        account.waits += 1;
        account.queue.push_back((id, ticket));
        self.note_contender(contended, place, now);
        self.count(place, || now);
        self.settle(place);
        Ok(id)
    }

    /// Takes a ticket out of the queue, if it is still in it.
    pub(super) fn forget(&mut self, place: usize, id: TicketId, now: Tick) {
        let account = self.account(place);
        let contended = account.contends();
        account.queue.retain(|(waiting, _)| *waiting != id);
        account.note_idle();
        self.note_contender(contended, place, now);
        self.settle(place);
    }

    /// What is to be done next, if anything can be done.
    pub(super) fn next(&mut self, now: Tick) -> Option<Next> {
        loop {
            let open_to_all = self.is_open_to_all();
            let may = |due: Due| due == Due::Guaranteed || open_to_all;
            let ready = self.ready.first().filter(|(_, due)| may(*due));
            let wanting = self.wanting.first().filter(|(_, due)| may(*due));
            let wanting = wanting.filter(|_| self.may_begin_login());
            let wanting = wanting.filter(|_| self.open < self.max_open || !self.no_room);
            let ((pool, filed), opens) = match (ready, wanting) {
                (None, None) => return None,
                (Some(ready), None) => (ready, false),
                (None, Some(wanting)) => (wanting, true),
                (Some((_, due)), Some(wanting)) if wanting.1 < due => (wanting, true),
                // What one pool has beyond its guarantees it does not keep from another one's.
                (Some((pool, Due::Guaranteed)), Some(wanting))
                    if wanting.1 == Due::Guaranteed && self.has_to_spare(pool) =>
                {
                    (wanting, true)
                }
                (Some(ready), Some(_)) => (ready, false),
            };
            let (place, due) = self.pools[pool].order.first()?;
            if self.is_due(place, pool, due, filed, now) {
                let claims = due != Due::Guaranteed;
                let opened = Next::Open { pool, claims };
                return Some(if opens { opened } else { Next::Serve { place, pool } });
            }
        }
    }

    /// Whether the turn of the tenant that is first in its pool has come; if not, it is filed again: what
    /// it has used since may have moved its turn, and rounds far ahead are not told apart.
    fn is_due(&mut self, place: usize, pool: usize, due: Due, filed: Due, now: Tick) -> bool {
        if due != Due::Guaranteed {
            self.count(place, || now);
            let later = self.account(place).next_due();
            if later.is_none_or(|later| later > due) {
                self.file(place, None);
                self.file(place, later);
                self.settle_pool(pool);
                return false;
            }
        }
        if due > filed {
            self.file_pool(pool, None);
            self.settle_pool(pool);
            return false;
        }
        true
    }

    /// Serves the tenant's first ticket: it has one server more.
    pub(super) fn serve(&mut self, place: usize, now: Tick) -> Option<T> {
        let account = self.account(place);
        let (pool, contended, due) = (account.pool, account.contends(), account.due);
        let (_, ticket) = account.queue.pop_front()?;
        if let Some(Due::Round(round)) = due {
            self.contention.round = self.contention.round.max(round);
        }
        self.note_contender(contended, place, now);
        self.lend(place, pool);
        self.settle(place);
        Some(ticket)
    }

    /// A server of the tenant comes back and goes to its next ticket, if nobody else waits, it may have it and
    /// the server `suits`: no book changes by that but its queue.
    pub(super) fn hand_over(
        &mut self,
        place: usize,
        pool: usize,
        now: Tick,
        suits: impl FnOnce(&T) -> bool,
    ) -> Option<T> {
        // As if it had come back.
        let free = self.max_open.saturating_sub(self.lent - 1);
        let open_to_all = free > self.reserved + self.claimed;
        let alone = self.contenders == 1;
        let account = self.account(place);
        let guaranteed = account.in_use <= account.kept;
        let may = alone
            && account.pool == pool
            && !account.is_stopped()
            && account.in_use <= account.limits.servers
            && (guaranteed || open_to_all);
        if !may || !account.queue.front().is_some_and(|(_, ticket)| suits(ticket)) {
            return None;
        }
        self.count(place, || now);
        let account = self.account(place);
        let (_, ticket) = account.queue.pop_front()?;
        let (round, changes) = (account.round_of_last(), account.is_out_of_books());
        if !guaranteed {
            self.contention.round = self.contention.round.max(round);
        }
        if changes {
            self.note_contender(true, place, now);
            self.settle(place);
        }
        Some(ticket)
    }

    /// All tickets that wait.
    pub(super) fn tickets(&self) -> impl Iterator<Item = &T> {
        self.accounts.iter().flatten().flat_map(|a| a.queue.iter().map(|(_, ticket)| ticket))
    }

    fn count(&mut self, place: usize, now: impl FnOnce() -> Tick) {
        let account = self.accounts[place].as_mut().expect(HAS_ACCOUNT);
        account.count(&self.contention, now);
    }

    /// A tenant may have begun or ceased to wait.
    fn note_contender(&mut self, before: bool, place: usize, now: Tick) {
        match (before, self.account(place).contends()) {
            (false, true) => {
                if self.contenders == 0 {
                    self.contention.begin(now);
                }
                self.contenders += 1;
            }
            (true, false) => {
                self.contenders -= 1;
                if self.contenders == 0 {
                    self.contention.end(now);
                }
            }
            (true, true) | (false, false) => {}
        }
    }

    /// Files the tenant where it belongs now.
    fn settle(&mut self, place: usize) {
        let contention = self.contention;
        let account = self.account(place);
        if account.due.is_none() && account.servable() > 0 {
            account.wake(&contention);
        }
        let (due, demand, pool) = (account.next_due(), account.servable(), account.pool);
        if account.due.is_some() && due.is_none() {
            account.rest(&contention);
        }
        let before = std::mem::replace(&mut account.demand, demand);
        if before == demand && account.due == due {
            return;
        }
        self.pools[pool].demand = self.pools[pool].demand - before + demand;
        self.file(place, due);
        self.settle_pool(pool);
    }

    fn file(&mut self, place: usize, due: Option<Due>) {
        let account = self.account(place);
        if account.due == due {
            return;
        }
        account.due = due;
        let order = &mut self.pools[self.accounts[place].as_ref().map_or(0, |a| a.pool)].order;
        order.remove(&mut self.links, place);
        if let Some(due) = due {
            order.file(&mut self.links, place, due);
        }
    }
}

#[cfg(test)]
mod simulated;
#[cfg(test)]
mod tests;
