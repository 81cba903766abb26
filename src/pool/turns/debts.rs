//! Tenants that owe for servers which their clients made unusable: they wait, and nobody else does.

use super::Turns;
use crate::engine::Tick;
use crate::pool::debt::Debt;
use crate::tenant::TenantId;

impl<T> Turns<T> {
    /// A server of the tenant is gone, and that was its doing. `Some`: it gets none until then; the tenant, if it is the
    /// first that it waits for.
    pub(in crate::pool) fn charge(
        &mut self,
        place: usize,
        now: Tick,
    ) -> Option<(Tick, Option<TenantId>)> {
        let (until, began) = self.with_debt(place, now, |debt| debt.charge(now))?;
        Some((until, began.then(|| self.account(place).id.clone())))
    }

    /// The same of a tenant that may have no clients by now.
    pub(in crate::pool) fn charge_tenant(
        &mut self,
        tenant: &TenantId,
        now: Tick,
    ) -> Option<(Tick, Option<TenantId>)> {
        if let Some(&place) = self.places.get(tenant) {
            return self.charge(place, now);
        }
        let (until, began) = self.debts.entry(tenant.clone()).or_default().charge(now)?;
        Some((until, began.then(|| tenant.clone())))
    }

    /// Those whose time has come get servers again. When the next of them does.
    pub(in crate::pool) fn look_at_debts(&mut self, now: Tick) -> Option<Tick> {
        self.debts.retain(|_, debt| {
            debt.look(now);
            !debt.is_settled()
        });
        let places: Vec<usize> = self.owing().collect();
        places.into_iter().filter_map(|at| self.with_debt(at, now, |debt| debt.look(now))).min()
    }

    /// Nobody owes anything any more.
    pub(in crate::pool) fn forgive(&mut self, now: Tick) {
        self.debts.clear();
        for place in self.owing().collect::<Vec<_>>() {
            self.with_debt(place, now, |debt| *debt = Debt::default());
        }
    }

    fn owing(&self) -> impl Iterator<Item = usize> {
        let owes = |place: &usize| {
            let account = self.accounts[*place].as_ref();
            account.is_some_and(|account| !account.debt.is_settled())
        };
        (0..self.accounts.len()).filter(owes)
    }

    /// Whether it waits may be another matter afterwards.
    fn with_debt<R>(&mut self, place: usize, now: Tick, change: impl FnOnce(&mut Debt) -> R) -> R {
        let account = self.account(place);
        let contended = account.contends();
        let result = change(&mut account.debt);
        self.note_contender(contended, place, now);
        self.settle(place);
        result
    }

    /// Whether a login of the pool may begin that nobody waits for.
    pub(in crate::pool) fn may_try(&self, pool: usize) -> bool {
        self.pools[pool].opening == 0
            && self.may_begin_login()
            && self.is_open_to_all()
            && !self.is_budget_spent()
    }
}
