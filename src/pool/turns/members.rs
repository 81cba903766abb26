//! Tenants that have clients: who comes and goes, what holds for them, what they are guaranteed.

use std::time::Duration;

use super::{Account, Limits, Turns};
use crate::engine::Tick;
use crate::pool::error::Stop;
use crate::tenant::TenantId;

/// The tenant is at `max_client_connections`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the tenant already has {limit} clients")]
pub struct TooManyClients {
    /// The limit.
    pub limit: usize,
}

impl<T> Turns<T> {
    /// A client of the tenant comes; its place is kept until [`Turns::leave`].
    pub(in crate::pool) fn enter(
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
            let debt = self.debts.remove(id).unwrap_or_default();
            let mut account = Account::new(id.clone(), limits, pool);
            account.debt = debt;
            account
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
    pub(in crate::pool) fn amend(
        &mut self,
        id: &TenantId,
        limits: Limits,
        pool: Option<usize>,
        now: Tick,
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

    /// Accounts of tenants that have clients.
    pub(in crate::pool) fn accounts(&self) -> impl Iterator<Item = &Account<T>> {
        self.accounts.iter().flatten()
    }

    /// Tenants that have clients.
    pub(in crate::pool) fn tenants(&self) -> impl Iterator<Item = &TenantId> {
        self.places.keys()
    }

    /// A client goes. With the last one, the tenant is forgotten.
    pub(in crate::pool) fn leave(&mut self, place: usize) {
        let account = self.account(place);
        account.clients -= 1;
        if account.clients == 0 {
            debug_assert_eq!(account.in_use, 0, "a loan keeps its seat");
            debug_assert!(account.queue.is_empty(), "a ticket keeps its seat");
            let (id, pool) = (account.id.clone(), account.pool);
            let debt = std::mem::take(&mut account.debt);
            self.keep_only(place, 0);
            self.settle(place);
            self.pools[pool].members -= 1;
            self.places.remove(&id);
            if !debt.is_settled() {
                self.debts.insert(id, debt);
            }
            self.accounts[place] = None;
            self.free.push(place);
        }
    }

    /// Whether no transaction of the tenant is under way, nor can begin: it is paused, or the cluster `stops`.
    pub(in crate::pool) fn is_quiet(&self, id: &TenantId, stops: bool) -> bool {
        let account = self.places.get(id).and_then(|place| self.accounts[*place].as_ref());
        account.is_none_or(|account| account.is_quiet(stops))
    }

    /// A session that keeps its server begins no transaction as long as the tenant is paused. The tenant is
    /// named if none of it is under way any more.
    pub(in crate::pool) fn rests_with_server(
        &mut self,
        place: usize,
        stops: bool,
    ) -> Option<TenantId> {
        let account = self.account(place);
        account.at_rest += 1;
        account.is_quiet(stops).then(|| account.id.clone())
    }

    /// Such a session goes on, or ends.
    pub(in crate::pool) fn goes_on_with_server(&mut self, place: usize) {
        self.account(place).at_rest -= 1;
    }

    /// Nobody of the tenant gets a server until it is amended.
    pub(in crate::pool) fn hold(&mut self, id: &TenantId, now: Tick) {
        let Some(&place) = self.places.get(id) else { return };
        let account = self.account(place);
        let contended = account.contends();
        account.held = true;
        self.note_contender(contended, place, now);
        self.settle(place);
    }

    /// Tickets of the tenant, all of them: they have to ask again.
    pub(in crate::pool) fn dismiss(&mut self, id: &TenantId, now: Tick) -> Vec<T> {
        let Some(&place) = self.places.get(id) else { return Vec::new() };
        let account = self.account(place);
        let contended = account.contends();
        let tickets = account.queue.drain(..).map(|(_, ticket)| ticket).collect();
        self.note_contender(contended, place, now);
        self.settle(place);
        tickets
    }

    /// What its clients wait for, whatever servers there are.
    pub(in crate::pool) fn stop_of(&mut self, place: usize) -> Option<Stop> {
        self.account(place).stop()
    }

    /// Whether it has more clients than it may.
    pub(in crate::pool) fn is_beyond_limit(&mut self, place: usize) -> bool {
        let account = self.account(place);
        account.clients > account.limits.clients
    }

    /// The tenant, if what exceeds its limits is only audited.
    pub(in crate::pool) fn audited(&mut self, place: usize) -> Option<TenantId> {
        let account = self.account(place);
        account.limits.audited.then(|| account.id.clone())
    }

    /// Whether as many of its clients wait as may.
    pub(in crate::pool) fn is_full(&mut self, place: usize) -> bool {
        self.account(place).is_full()
    }

    /// Tickets of tenants that are only audited, to be changed.
    pub(in crate::pool) fn audited_tickets(&mut self) -> impl Iterator<Item = (&TenantId, &mut T)> {
        let audited = self.accounts.iter_mut().flatten().filter(|a| a.limits.audited);
        audited.flat_map(|a| {
            let id = &a.id;
            a.queue.iter_mut().map(move |(_, ticket)| (id, ticket))
        })
    }

    /// Longest wait of the tenant's tickets.
    pub(in crate::pool) fn patience(&mut self, place: usize) -> Duration {
        self.account(place).limits.patience
    }

    /// Another budget; what is guaranteed is counted anew.
    pub(in crate::pool) fn set_max_open(&mut self, max_open: usize) {
        self.max_open = max_open;
        let places: Vec<usize> = self.places.values().copied().collect();
        for place in &places {
            self.keep_only(*place, 0);
        }
        for place in places {
            self.keep(place);
            self.settle(place);
        }
        let pools: Vec<usize> = self.pools.iter().map(|(pool, _)| pool).collect();
        for pool in pools {
            self.settle_pool(pool);
        }
    }

    /// Servers the tenant has, and may have.
    pub(in crate::pool) fn usage(&mut self, place: usize) -> (usize, usize) {
        let account = self.account(place);
        (account.in_use, account.limits.servers)
    }

    /// Who has most of the servers that the tenant waits for: itself, if it has all it may have.
    pub(in crate::pool) fn holder(&mut self, place: usize) -> Option<(TenantId, usize)> {
        let (in_use, limit) = self.usage(place);
        if in_use >= limit {
            return Some((self.account(place).id.clone(), in_use));
        }
        let most = self.accounts().max_by_key(|account| account.in_use)?;
        (most.in_use > 0).then(|| (most.id.clone(), most.in_use))
    }

    /// How often clients of the tenant have waited since its first client came.
    pub(in crate::pool) fn waits(&self, id: &str) -> u64 {
        let account = self.accounts.iter().flatten().find(|account| account.id.as_str() == id);
        account.map_or(0, |account| account.waits)
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
        // What was kept may make room now.
        self.no_room &= kept >= before;
        let account = self.account(place);
        let (now_reserved, pool) = (account.reserved(), account.pool);
        self.kept = self.kept - before + kept;
        self.reserved = self.reserved - reserved + now_reserved;
        self.pools[pool].kept = self.pools[pool].kept - before + kept;
    }

    /// Takes out every ticket for which `is_hopeless`.
    pub(in crate::pool) fn drain(&mut self, now: Tick, is_hopeless: impl Fn(&T) -> bool) -> Vec<T> {
        let concerns = |account: &Account<T>| account.queue.iter().any(|(_, t)| is_hopeless(t));
        self.drain_of(now, concerns, &is_hopeless)
    }

    /// Takes out every ticket of a pool's tenants.
    pub(in crate::pool) fn drain_pool(&mut self, pool: usize, now: Tick) -> Vec<T> {
        self.drain_of(now, |account| account.pool == pool && !account.queue.is_empty(), |_| true)
    }

    fn drain_of(
        &mut self,
        now: Tick,
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
}
