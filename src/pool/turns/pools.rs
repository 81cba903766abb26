//! The pools of a cluster, by number: their servers, their logins, and which of them is next.

use std::time::Duration;

use super::{Due, Order, Turns};

/// The same in one pool, and no more than this part of the budget: a database that keeps logins waiting, for as
/// long as `server_connect_timeout`, keeps neither other databases' waiting nor their servers.
const POOL_OPENING_MAX: usize = 8;
const POOL_OPENING_PART: usize = 4;

/// How long a server stays in its pool, at least, before it makes room for one of another pool: a login
/// costs some milliseconds and a fork, and two busy pools would otherwise do little else.
pub(in crate::pool) const STAY_MIN: Duration = Duration::from_millis(200);

/// Logins that a pool, or all of them, may have under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::pool) enum Logins {
    /// As many as otherwise.
    Any,
    /// One, to see whether it works again.
    One,
    /// None for now.
    None,
}

impl Logins {
    pub(super) fn max(self, budget: usize) -> usize {
        match self {
            Self::Any => (budget / POOL_OPENING_PART).clamp(1, POOL_OPENING_MAX),
            Self::One => 1,
            Self::None => 0,
        }
    }
}

/// Servers of one pool, by number, and its tenants that wait.
#[derive(Debug)]
pub(super) struct PoolTurns {
    pub(super) order: Order,
    /// Tenants that live in it.
    pub(super) members: usize,
    /// Tickets that could be served if there were servers enough.
    pub(super) demand: usize,
    pub(super) idle: usize,
    /// Logins under way.
    pub(super) opening: usize,
    /// Of these, at least, for tenants that are not guaranteed the server.
    pub(super) claimed: usize,
    /// Servers that exist, and logins under way.
    pub(super) open: usize,
    /// What its tenants are guaranteed.
    pub(super) kept: usize,
    pub(super) logins: Logins,
    pub(super) filed: Option<(Wants, Due)>,
}

/// What a pool with waiters lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wants {
    /// Nothing but its turn.
    Turn,
    /// A server.
    Server,
}

/// Pools, and which is next.
impl<T> Turns<T> {
    /// A new pool; its number.
    pub(in crate::pool) fn add_pool(&mut self) -> usize {
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
    pub(in crate::pool) fn forget_pool(&mut self, pool: usize) -> bool {
        let unused = self.pools[pool].members == 0 && self.pools[pool].open == 0;
        if unused {
            self.pools.remove(pool);
        }
        unused
    }

    /// Files a pool where it belongs now.
    #[inline]
    pub(super) fn settle_pool(&mut self, pool: usize) {
        // Mostly nobody waits.
        let entry = &self.pools[pool];
        if entry.filed.is_some() || !entry.order.is_empty() {
            self.settle_waiting(pool);
        }
    }

    fn settle_waiting(&mut self, pool: usize) {
        let entry = &self.pools[pool];
        let filed = entry.order.first().and_then(|(place, due)| {
            let may_open = entry.opening < entry.demand.min(entry.logins.max(self.max_open));
            match entry.idle {
                // Servers on their way will be used: not all of them go to who happens to be first.
                0 => may_open.then(|| (Wants::Server, self.due_after(place, due, entry.opening))),
                _ => Some((Wants::Turn, due)),
            }
        });
        self.file_pool(pool, filed);
    }

    fn due_after(&self, place: usize, due: Due, opening: usize) -> Due {
        let account = self.accounts[place].as_ref();
        match (due, account) {
            (Due::Round(round), Some(account)) => {
                Due::Round(round + account.rounds_of(STAY_MIN) * opening as u64)
            }
            (Due::Guaranteed, _) | (Due::Round(_), None) => due,
        }
    }

    pub(super) fn file_pool(&mut self, pool: usize, filed: Option<(Wants, Due)>) {
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
    pub(in crate::pool) fn opening(&mut self, pool: usize, claims: bool) {
        (self.open, self.opening) = (self.open + 1, self.opening + 1);
        self.claimed += usize::from(claims);
        let entry = &mut self.pools[pool];
        entry.claimed += usize::from(claims);
        (entry.open, entry.opening) = (entry.open + 1, entry.opening + 1);
        self.settle_pool(pool);
    }

    /// A login has ended: there is a server that rests, or none.
    pub(in crate::pool) fn opened(&mut self, pool: usize, succeeded: bool) {
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
    pub(in crate::pool) fn rests(&mut self, pool: usize) {
        self.pools[pool].idle += 1;
        self.settle_pool(pool);
    }

    /// A server that was lent is gone.
    pub(in crate::pool) fn closed(&mut self, pool: usize) {
        self.open -= 1;
        self.pools[pool].open -= 1;
        self.no_room = false;
        self.settle_pool(pool);
    }

    /// A server that rested is gone.
    pub(in crate::pool) fn closed_idle(&mut self, pool: usize) {
        self.pools[pool].idle -= 1;
        self.closed(pool);
    }

    /// Nothing can be closed for another pool now, or something may be.
    pub(in crate::pool) const fn set_no_room(&mut self, no_room: bool) {
        self.no_room = no_room;
    }

    /// How many logins a pool may have under way.
    pub(in crate::pool) fn allow_logins(&mut self, pool: usize, logins: Logins) {
        self.pools[pool].logins = logins;
        self.settle_pool(pool);
    }

    /// How many logins all pools together may begin. One: after it there is none, until this is said again.
    pub(in crate::pool) const fn allow_all_logins(&mut self, logins: Logins) {
        self.logins = logins;
    }

    /// A login is tried. If it is the one that was allowed, there is no other.
    pub(in crate::pool) fn note_try(&mut self) {
        if self.logins == Logins::One {
            self.logins = Logins::None;
        }
    }

    /// Whether there are as many servers as there may be.
    pub(in crate::pool) const fn is_budget_spent(&self) -> bool {
        self.open >= self.max_open
    }

    /// Whether there are more servers than there may be.
    pub(in crate::pool) const fn is_over_budget(&self) -> bool {
        self.open > self.max_open
    }

    /// Servers of a pool: all, those that rest, logins under way.
    pub(in crate::pool) fn servers_in(&self, pool: usize) -> (usize, usize, usize) {
        let entry = &self.pools[pool];
        (entry.open, entry.idle, entry.opening)
    }

    /// Servers of a pool, logins under way among them.
    pub(in crate::pool) fn open_in(&self, pool: usize) -> usize {
        self.pools[pool].open
    }

    /// Whether a pool has more servers than its tenants are guaranteed.
    pub(in crate::pool) fn has_to_spare(&self, pool: usize) -> bool {
        self.pools.get(pool).is_some_and(|pool| pool.open > pool.kept)
    }
}
