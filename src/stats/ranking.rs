//! Which tenants have metrics of their own: the busiest. The others are one.
//!
//! Promises: no series ever falls, nor jumps because a tenant changes places: what a tenant did as one of the
//! others stays with them, and what it did under its own name never comes to them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::tally::Totals;
use crate::tenant::TenantId;

/// How long a ranking holds.
const PERIOD: Duration = Duration::from_mins(1);

/// A tenant that has its own name.
#[derive(Debug, Default)]
struct Named {
    /// What it had done before, as one of the others.
    base: Totals,
    /// What it had done when it was last looked at.
    last: Totals,
}

/// Who has its own name, and what is to be left out of the others.
#[derive(Debug)]
pub struct Ranking {
    /// How many.
    max: usize,
    named: BTreeMap<TenantId, Named>,
    /// Tenants that were among the others.
    others: BTreeSet<TenantId>,
    /// What tenants did under their own names that have them no more.
    retired: Totals,
    /// When it was made, and how busy everybody was until then.
    made: Option<(Instant, BTreeMap<TenantId, u64>)>,
}

/// What is shown.
#[derive(Debug, Default)]
pub struct Shares {
    /// By name.
    pub named: BTreeMap<TenantId, Totals>,
    /// All others together.
    pub other: Totals,
}

impl Ranking {
    /// Nobody has its own name yet.
    #[must_use]
    pub fn new(max: usize) -> Self {
        let (named, others) = (BTreeMap::new(), BTreeSet::new());
        Self { max, named, others, retired: Totals::default(), made: None }
    }

    /// What tenants have done, and the rest of which nobody knows whose it is, as it is shown.
    pub fn share(
        &mut self,
        now: Instant,
        tenants: &BTreeMap<TenantId, Totals>,
        rest: &Totals,
    ) -> Shares {
        self.forget_lost(tenants);
        let is_old = |(at, _): &(Instant, _)| now.saturating_duration_since(*at) >= PERIOD;
        if self.made.as_ref().is_none_or(is_old) || self.named.len() < self.max {
            self.rank(now, tenants);
        }
        let mut shares = Shares::default();
        let mut all = rest.clone();
        for (id, totals) in tenants {
            all.add(totals);
            match self.named.get_mut(id) {
                Some(named) => {
                    named.last = totals.clone();
                    shares.named.insert(id.clone(), totals.since(&named.base));
                }
                None => drop(self.others.insert(id.clone())),
            }
        }
        let mut elsewhere = self.retired.clone();
        shares.named.values().for_each(|totals| elsewhere.add(totals));
        shares.other = all.since(&elsewhere);
        shares
    }

    /// The tally of a tenant that has left may be given up: what it did is in the rest then.
    fn forget_lost(&mut self, tenants: &BTreeMap<TenantId, Totals>) {
        let is_lost = |id: &TenantId, named: &Named| {
            tenants.get(id).is_none_or(|totals| totals.size() < named.last.size())
        };
        let lost: Vec<TenantId> = self
            .named
            .iter()
            .filter(|(id, named)| is_lost(id, named))
            .map(|(id, _)| id.clone())
            .collect();
        for id in lost {
            self.retire(&id);
        }
    }

    fn retire(&mut self, id: &TenantId) {
        if let Some(named) = self.named.remove(id) {
            self.retired.add(&named.last.since(&named.base));
            self.others.insert(id.clone());
        }
    }

    /// The busiest since the last time have names. Who has one keeps it while he is among twice as many.
    fn rank(&mut self, now: Instant, tenants: &BTreeMap<TenantId, Totals>) {
        let before = self.made.take().map(|(_, busy)| busy).unwrap_or_default();
        let busy = |totals: &Totals| totals.transactions.micros;
        let score = |(id, totals): (&TenantId, &Totals)| {
            let since = busy(totals).saturating_sub(before.get(id).copied().unwrap_or(0));
            ((since, totals.logins), id.clone())
        };
        let mut ranks: Vec<_> = tenants.iter().map(score).collect();
        ranks.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
        let near: BTreeSet<&TenantId> = ranks.iter().take(2 * self.max).map(|(_, id)| id).collect();
        let far: Vec<TenantId> =
            self.named.keys().filter(|id| !near.contains(id)).cloned().collect();
        for id in far {
            self.retire(&id);
        }
        for (_, id) in &ranks {
            if self.named.len() >= self.max {
                break;
            }
            if !self.named.contains_key(id) {
                let known = self.others.remove(id);
                let base = if known { tenants[id].clone() } else { Totals::default() };
                let last = tenants[id].clone();
                self.named.insert(id.clone(), Named { base, last });
            }
        }
        let all = tenants.iter().map(|(id, totals)| (id.clone(), busy(totals))).collect();
        self.made = Some((now, all));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tenant::NamePattern;

    fn id(number: usize) -> TenantId {
        NamePattern::new(".*").unwrap().parse(&format!("t{number}")).unwrap()
    }

    fn did(micros: u64) -> Totals {
        let mut totals = Totals { queries: micros, ..Totals::default() };
        totals.transactions.micros = micros;
        totals
    }

    #[test]
    fn few_tenants_all_have_their_names_from_the_beginning() {
        let mut ranking = Ranking::new(3);
        let tenants: BTreeMap<_, _> = (0..3).map(|n| (id(n), did(10 * n as u64))).collect();
        let shares = ranking.share(Instant::now(), &tenants, &Totals::default());
        assert_eq!(shares.named, tenants);
        assert_eq!(shares.other, Totals::default());
    }

    proptest! {
        /// Each step: a tenant does something, its tally is given up, or a minute passes.
        #[test]
        fn no_series_falls_and_nothing_is_counted_twice(steps in prop::collection::vec((0..6_usize, 0..4_u8, 1..100_u64), 1..200)) {
            let (mut ranking, mut now) = (Ranking::new(2), Instant::now());
            let (mut tenants, mut rest) = (BTreeMap::<TenantId, Totals>::new(), Totals::default());
            let mut shown: BTreeMap<TenantId, u64> = BTreeMap::new();
            let (mut other, mut done, mut counted) = (0, 0, 0);
            for (tenant, what, micros) in steps {
                match what {
                    0 => if let Some(gone) = tenants.remove(&id(tenant)) { rest.add(&gone) },
                    1 => now += PERIOD,
                    _ => {
                        tenants.entry(id(tenant)).or_default().add(&did(micros));
                        done += micros;
                    }
                }
                let shares = ranking.share(now, &tenants, &rest);
                prop_assert!(shares.named.len() <= 2);
                prop_assert!(shares.other.queries >= other, "others fell from {other} to {}", shares.other.queries);
                counted += shares.other.queries - other;
                other = shares.other.queries;
                let mut now_shown = BTreeMap::new();
                for (id, totals) in &shares.named {
                    let before = shown.get(id).copied().unwrap_or(0);
                    // Prometheus takes what is less for a new beginning.
                    counted += if totals.queries >= before { totals.queries - before } else { totals.queries };
                    now_shown.insert(id.clone(), totals.queries);
                }
                shown = now_shown;
                prop_assert!(counted <= done, "{counted} of {done}");
            }
        }
    }
}
