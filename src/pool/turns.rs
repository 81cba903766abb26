//! Who is next: one FIFO a tenant; tenants take turns by what they use, over all pools of a cluster.
//!
//! Weighted deficit round robin, charged in server-busy time: a tenant with statements of 20 ms pays 100
//! times what one with 0.2 ms pays, and who has used more comes in a later round. Guaranteed servers come
//! first, and nobody else may take them while their tenant has clients. Who wakes up is next soon, and
//! cannot have saved anything up. No server rests while somebody may have it.
//!
//! Pure: no clocks, no servers. A ticket is whatever the caller waits with; pools are counted only. What
//! one call costs does not depend on how many tenants there are.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use slab::Slab;

use super::account::{Account, Contention, Limits, TicketId};
use super::order::{Due, Links, Order};
use crate::tenant::TenantId;

/// Logins under way at once: each costs PostgreSQL a fork and some milliseconds.
const OPENING_MAX: usize = 32;
/// The same in one pool: a database that keeps logins waiting does not keep other databases' waiting.
const POOL_OPENING_MAX: usize = 8;

/// The tenant is at `max_client_connections`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the tenant already has {limit} clients")]
pub struct TooManyClients {
    /// The limit.
    pub limit: usize,
}

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

/// Logins that a pool may have under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Logins {
    /// As many as any pool.
    Any,
    /// One, to see whether it works again.
    One,
    /// None for now.
    None,
}

impl Logins {
    const fn max(self) -> usize {
        match self {
            Self::Any => POOL_OPENING_MAX,
            Self::One => 1,
            Self::None => 0,
        }
    }
}

/// Servers of one pool, by number, and its tenants that wait.
#[derive(Debug)]
struct PoolTurns {
    order: Order,
    /// Tenants that live in it.
    members: usize,
    /// Tickets that could be served if there were servers enough.
    demand: usize,
    idle: usize,
    /// Logins under way.
    opening: usize,
    /// Of these, at least, for tenants that are not guaranteed the server.
    claimed: usize,
    /// Servers that exist, and logins under way.
    open: usize,
    /// What its tenants are guaranteed.
    kept: usize,
    logins: Logins,
    filed: Option<(Wants, Due)>,
}

/// What a pool with waiters lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wants {
    /// Nothing but its turn.
    Turn,
    /// A server.
    Server,
}

/// Tenants with clients, and the pools of a cluster.
#[derive(Debug)]
pub(super) struct Turns<T> {
    accounts: Vec<Option<Account<T>>>,
    free: Vec<usize>,
    places: HashMap<TenantId, usize>,
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
    max_open: usize,
    last_ticket: u64,
}

impl<T> Turns<T> {
    pub(super) fn new(max_open: usize, now: Instant) -> Self {
        Self {
            accounts: Vec::new(),
            free: Vec::new(),
            places: HashMap::new(),
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
            max_open,
            last_ticket: 0,
        }
    }

    fn account(&mut self, place: usize) -> &mut Account<T> {
        self.accounts[place].as_mut().expect("a seat keeps its tenant's account")
    }

    /// A new pool; its number.
    pub(super) fn add_pool(&mut self) -> usize {
        self.pools.insert(PoolTurns {
            order: Order::new(),
            members: 0,
            demand: 0,
            idle: 0,
            opening: 0,
            claimed: 0,
            open: 0,
            kept: 0,
            logins: Logins::Any,
            filed: None,
        })
    }

    /// Forgets a pool, if it has no tenant and no server.
    pub(super) fn forget_pool(&mut self, pool: usize) -> bool {
        let unused = self.pools[pool].members == 0 && self.pools[pool].open == 0;
        if unused {
            self.pools.remove(pool);
        }
        unused
    }

    /// The pool a tenant lives in.
    pub(super) fn pool_of(&mut self, place: usize) -> usize {
        self.account(place).pool
    }

    /// A client of the tenant comes; its place is kept until [`Turns::leave`].
    pub(super) fn enter(
        &mut self,
        id: &TenantId,
        limits: Limits,
        pool: usize,
    ) -> Result<usize, TooManyClients> {
        let place = self.places.get(id).copied().unwrap_or_else(|| {
            let place = self.free.pop().unwrap_or_else(|| {
                self.accounts.push(None);
                self.accounts.len() - 1
            });
            self.places.insert(id.clone(), place);
            place
        });
        let (limit, audited) = (limits.clients, limits.audited);
        let account = self.accounts[place].get_or_insert_with(|| {
            self.pools[pool].members += 1;
            Account::new(id.clone(), limits, pool)
        });
        if account.clients >= limit && !audited {
            return Err(TooManyClients { limit });
        }
        account.clients += 1;
        if account.clients == 1 {
            self.keep(place);
            self.settle(place);
        }
        Ok(place)
    }

    /// What holds for the tenant from now on, and where it lives, if that changes. Tickets that have to ask
    /// again are returned: their tenant has moved, or was paused and goes on, perhaps elsewhere.
    pub(super) fn amend(
        &mut self,
        id: &TenantId,
        limits: Limits,
        pool: Option<usize>,
        now: Instant,
    ) -> Vec<T> {
        let Some(&place) = self.places.get(id) else { return Vec::new() };
        let contended = self.account(place).contends();
        self.count(place, || now);
        let account = self.account(place);
        let pool = pool.unwrap_or(account.pool);
        let resumes = account.is_stopped() && !limits.paused;
        (account.limits, account.held) = (limits, false);
        let mut moved = Vec::new();
        if account.pool != pool || resumes {
            moved.extend(account.queue.drain(..).map(|(_, ticket)| ticket));
        }
        if account.pool != pool {
            // Out of the old pool's books, before it is in the new one's.
            self.keep_only(place, 0);
            self.settle(place);
            let old = std::mem::replace(&mut self.account(place).pool, pool);
            self.pools[old].members -= 1;
            self.pools[pool].members += 1;
        }
        self.note_contender(contended, place, now);
        self.keep(place);
        self.settle(place);
        moved
    }

    /// Tenants that have clients.
    pub(super) fn tenants(&self) -> impl Iterator<Item = &TenantId> {
        self.places.keys()
    }

    /// A client goes. With the last one, the tenant is forgotten.
    pub(super) fn leave(&mut self, place: usize) {
        let account = self.account(place);
        account.clients -= 1;
        if account.clients == 0 {
            debug_assert_eq!(account.in_use, 0, "a loan keeps its seat");
            debug_assert!(account.queue.is_empty(), "a ticket keeps its seat");
            let (id, pool) = (account.id.clone(), account.pool);
            self.keep_only(place, 0);
            self.settle(place);
            self.pools[pool].members -= 1;
            self.places.remove(&id);
            self.accounts[place] = None;
            self.free.push(place);
        }
    }

    /// Whether nobody waits that could be served.
    pub(super) fn nobody_waits(&self) -> bool {
        self.contenders == 0
    }

    /// Takes an idle server of its pool for the tenant, if there is one and nobody is overtaken.
    pub(super) fn take(&mut self, place: usize, now: impl FnOnce() -> Instant) -> Option<usize> {
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

    /// Servers a tenant has that has clients.
    pub(super) fn servers_of(&self, id: &TenantId) -> Option<usize> {
        let account = self.accounts[*self.places.get(id)?].as_ref()?;
        Some(account.in_use)
    }

    /// A server of the tenant comes back or is gone. A paused tenant is named with its last one.
    pub(super) fn give_back(
        &mut self,
        place: usize,
        now: impl FnOnce() -> Instant,
    ) -> Option<TenantId> {
        self.count(place, now);
        self.lent -= 1;
        let account = self.account(place);
        let reserved = account.reserved();
        account.in_use -= 1;
        let more = account.reserved() - reserved;
        account.note_idle();
        let waits = !account.queue.is_empty();
        let quiet = account.limits.paused && account.in_use == 0;
        let quiet = quiet.then(|| account.id.clone());
        self.reserved += more;
        if waits {
            self.settle(place);
        }
        quiet
    }

    /// Nobody of the tenant gets a server until it is amended.
    pub(super) fn hold(&mut self, id: &TenantId, now: Instant) {
        let Some(&place) = self.places.get(id) else { return };
        let account = self.account(place);
        let contended = account.contends();
        account.held = true;
        self.note_contender(contended, place, now);
        self.settle(place);
    }

    /// Tickets of the tenant, all of them: they have to ask again.
    pub(super) fn dismiss(&mut self, id: &TenantId, now: Instant) -> Vec<T> {
        let Some(&place) = self.places.get(id) else { return Vec::new() };
        let account = self.account(place);
        let contended = account.contends();
        let tickets = account.queue.drain(..).map(|(_, ticket)| ticket).collect();
        self.note_contender(contended, place, now);
        self.settle(place);
        tickets
    }

    /// Whether its clients wait for the operator.
    pub(super) fn is_paused(&mut self, place: usize) -> bool {
        self.account(place).limits.paused
    }

    /// Whether it has more clients than it may.
    pub(super) fn is_beyond_limit(&mut self, place: usize) -> bool {
        let account = self.account(place);
        account.clients > account.limits.clients
    }

    /// The tenant, if what exceeds its limits is only audited.
    pub(super) fn audited(&mut self, place: usize) -> Option<TenantId> {
        let account = self.account(place);
        account.limits.audited.then(|| account.id.clone())
    }

    /// Whether as many of its clients wait as may.
    pub(super) fn is_full(&mut self, place: usize) -> bool {
        self.account(place).is_full()
    }

    /// Tickets of tenants that are only audited, to be changed.
    pub(super) fn audited_tickets(&mut self) -> impl Iterator<Item = (&TenantId, &mut T)> {
        let audited = self.accounts.iter_mut().flatten().filter(|a| a.limits.audited);
        audited.flat_map(|a| {
            let id = &a.id;
            a.queue.iter_mut().map(move |(_, ticket)| (id, ticket))
        })
    }

    /// Longest wait of the tenant's tickets.
    pub(super) fn patience(&mut self, place: usize) -> Duration {
        self.account(place).limits.patience
    }

    /// Another budget; what is guaranteed is counted anew.
    pub(super) fn set_max_open(&mut self, max_open: usize) {
        self.max_open = max_open;
        let places: Vec<usize> = self.places.values().copied().collect();
        for place in &places {
            self.keep_only(*place, 0);
        }
        for place in places {
            self.keep(place);
            self.settle(place);
        }
    }

    /// Servers the tenant has, and may have.
    pub(super) fn usage(&mut self, place: usize) -> (usize, usize) {
        let account = self.account(place);
        (account.in_use, account.limits.servers)
    }

    /// Servers that exist or are being dialled, and how many there may be.
    pub(super) const fn budget(&self) -> (usize, usize) {
        (self.open, self.max_open)
    }

    /// How often clients of the tenant have waited since its first client came.
    pub(super) fn waits(&self, id: &str) -> u64 {
        let account = self.accounts.iter().flatten().find(|account| account.id.as_str() == id);
        account.map_or(0, |account| account.waits)
    }

    /// Queues a ticket.
    pub(super) fn wait(
        &mut self,
        place: usize,
        ticket: T,
        now: Instant,
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
    pub(super) fn forget(&mut self, place: usize, id: TicketId, now: Instant) {
        let account = self.account(place);
        let contended = account.contends();
        account.queue.retain(|(waiting, _)| *waiting != id);
        account.note_idle();
        self.note_contender(contended, place, now);
        self.settle(place);
    }

    /// What is to be done next, if anything can be done.
    pub(super) fn next(&mut self, now: Instant) -> Option<Next> {
        loop {
            let open_to_all = self.is_open_to_all();
            let may = |due: Due| due == Due::Guaranteed || open_to_all;
            let ready = self.ready.first().filter(|(_, due)| may(*due));
            let wanting = self.wanting.first().filter(|(_, due)| may(*due));
            let wanting = wanting.filter(|_| self.opening < OPENING_MAX);
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
    fn is_due(&mut self, place: usize, pool: usize, due: Due, filed: Due, now: Instant) -> bool {
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
    pub(super) fn serve(&mut self, place: usize, now: Instant) -> Option<T> {
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

    /// All tickets that wait.
    pub(super) fn tickets(&self) -> impl Iterator<Item = &T> {
        self.accounts.iter().flatten().flat_map(|a| a.queue.iter().map(|(_, ticket)| ticket))
    }

    /// Takes out every ticket for which `is_hopeless`.
    pub(super) fn drain(&mut self, now: Instant, is_hopeless: impl Fn(&T) -> bool) -> Vec<T> {
        let concerns = |account: &Account<T>| account.queue.iter().any(|(_, t)| is_hopeless(t));
        self.drain_of(now, concerns, &is_hopeless)
    }

    /// Takes out every ticket of a pool's tenants.
    pub(super) fn drain_pool(&mut self, pool: usize, now: Instant) -> Vec<T> {
        self.drain_of(now, |account| account.pool == pool && !account.queue.is_empty(), |_| true)
    }

    fn drain_of(
        &mut self,
        now: Instant,
        concerns: impl Fn(&Account<T>) -> bool,
        is_hopeless: impl Fn(&T) -> bool,
    ) -> Vec<T> {
        let mut drained = Vec::new();
        for place in 0..self.accounts.len() {
            let Some(account) = &mut self.accounts[place] else { continue };
            if !concerns(account) {
                continue;
            }
            let contended = account.contends();
            let queue = std::mem::take(&mut account.queue);
            for (id, ticket) in queue {
                if is_hopeless(&ticket) {
                    drained.push(ticket);
                } else {
                    account.queue.push_back((id, ticket));
                }
            }
            self.note_contender(contended, place, now);
            self.settle(place);
        }
        drained
    }

    fn count(&mut self, place: usize, now: impl FnOnce() -> Instant) {
        let contention = self.contention;
        self.account(place).count(&contention, now);
    }

    /// A tenant may have begun or ceased to wait.
    fn note_contender(&mut self, before: bool, place: usize, now: Instant) {
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

    /// Guarantees what the tenant is promised, as far as the budget goes; one server is always left for
    /// those who are promised nothing.
    fn keep(&mut self, place: usize) {
        let account = self.account(place);
        let promised = if account.limits.paused { 0 } else { account.limits.guaranteed };
        let others = self.kept - self.account(place).kept;
        let room = self.max_open.saturating_sub(1 + others);
        self.keep_only(place, promised.min(room));
    }

    fn keep_only(&mut self, place: usize, kept: usize) {
        let account = self.account(place);
        let (before, reserved) = (account.kept, account.reserved());
        account.kept = kept;
        let (now_reserved, pool) = (account.reserved(), account.pool);
        self.kept = self.kept - before + kept;
        self.reserved = self.reserved - reserved + now_reserved;
        self.pools[pool].kept = self.pools[pool].kept - before + kept;
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

    /// Files a pool where it belongs now.
    #[inline]
    fn settle_pool(&mut self, pool: usize) {
        // Mostly nobody waits.
        let entry = &self.pools[pool];
        if entry.filed.is_some() || !entry.order.is_empty() {
            self.settle_waiting(pool);
        }
    }

    fn settle_waiting(&mut self, pool: usize) {
        let entry = &mut self.pools[pool];
        let filed = entry.order.first().and_then(|(_, due)| {
            let may_open = entry.opening < entry.demand.min(entry.logins.max());
            match entry.idle {
                0 => may_open.then_some((Wants::Server, due)),
                _ => Some((Wants::Turn, due)),
            }
        });
        self.file_pool(pool, filed);
    }

    fn file_pool(&mut self, pool: usize, filed: Option<(Wants, Due)>) {
        let before = std::mem::replace(&mut self.pools[pool].filed, filed);
        if before == filed {
            return;
        }
        match before {
            Some((Wants::Turn, _)) => self.ready.remove(&mut self.pool_links, pool),
            Some((Wants::Server, _)) => self.wanting.remove(&mut self.pool_links, pool),
            None => {}
        }
        match filed {
            Some((Wants::Turn, due)) => self.ready.file(&mut self.pool_links, pool, due),
            Some((Wants::Server, due)) => self.wanting.file(&mut self.pool_links, pool, due),
            None => {}
        }
    }
}

/// What happens to servers, by number.
impl<T> Turns<T> {
    /// A login begins. If it `claims` a slot, nobody of another pool takes that meanwhile.
    pub(super) fn opening(&mut self, pool: usize, claims: bool) {
        (self.open, self.opening) = (self.open + 1, self.opening + 1);
        self.claimed += usize::from(claims);
        let entry = &mut self.pools[pool];
        entry.claimed += usize::from(claims);
        (entry.open, entry.opening) = (entry.open + 1, entry.opening + 1);
        self.settle_pool(pool);
    }

    /// A login has ended: there is a server that rests, or none.
    pub(super) fn opened(&mut self, pool: usize, succeeded: bool) {
        self.opening -= 1;
        let entry = &mut self.pools[pool];
        entry.opening -= 1;
        let claimed = entry.claimed.min(entry.opening);
        self.claimed -= std::mem::replace(&mut entry.claimed, claimed) - claimed;
        if succeeded {
            self.rests(pool);
        } else {
            self.closed(pool);
        }
    }

    /// A server has come back to its pool.
    pub(super) fn rests(&mut self, pool: usize) {
        self.pools[pool].idle += 1;
        self.settle_pool(pool);
    }

    /// A server that was lent is gone.
    pub(super) fn closed(&mut self, pool: usize) {
        self.open -= 1;
        self.pools[pool].open -= 1;
        self.no_room = false;
        self.settle_pool(pool);
    }

    /// A server that rested is gone.
    pub(super) fn closed_idle(&mut self, pool: usize) {
        self.pools[pool].idle -= 1;
        self.closed(pool);
    }

    /// Nothing can be closed for another pool now, or something may be.
    pub(super) const fn set_no_room(&mut self, no_room: bool) {
        self.no_room = no_room;
    }

    /// How many logins a pool may have under way.
    pub(super) fn allow_logins(&mut self, pool: usize, logins: Logins) {
        self.pools[pool].logins = logins;
        self.settle_pool(pool);
    }

    /// Whether there are more servers than there may be.
    pub(super) const fn is_over_budget(&self) -> bool {
        self.open > self.max_open
    }

    /// Servers of a pool, logins under way among them.
    pub(super) fn open_in(&self, pool: usize) -> usize {
        self.pools[pool].open
    }

    /// Whether a pool has more servers than its tenants are guaranteed.
    pub(super) fn has_to_spare(&self, pool: usize) -> bool {
        self.pools.get(pool).is_some_and(|pool| pool.open > pool.kept)
    }
}

#[cfg(test)]
#[path = "turns_tests.rs"]
mod tests;
