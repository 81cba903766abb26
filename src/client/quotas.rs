//! Quotas that refuse, and `quota_mode = "audit"`: what would have been refused is counted and logged.

use std::time::Instant;

use dashmap::DashMap;

use super::Shared;
use super::refusal::Refusal;
use super::session::Session;
use crate::config::{QuotaMode, Tenant};
use crate::tenant::TenantId;

/// Tenants whose logins are remembered before those are looked for that need not be.
const SWEEP_LEN: usize = 4096;

/// How fast tenants' clients come: for each a bucket that holds what may come in a second.
#[derive(Default)]
pub(super) struct Rates(DashMap<TenantId, Bucket>);

#[derive(Clone, Copy)]
struct Bucket {
    left: f64,
    filled: Instant,
}

impl Bucket {
    fn fill(&mut self, per_second: f64, now: Instant) {
        let passed = now.saturating_duration_since(self.filled).as_secs_f64();
        (self.left, self.filled) = ((self.left + passed * per_second).min(per_second), now);
    }
}

impl Rates {
    /// A client comes; `false`: too soon after others of its tenant.
    fn take(&self, tenant: &TenantId, per_second: u32, now: Instant) -> bool {
        if self.0.len() >= SWEEP_LEN {
            // After a second every bucket is full, which is how a new one begins.
            self.0.retain(|_, bucket| now.saturating_duration_since(bucket.filled).as_secs() < 1);
        }
        let per_second = f64::from(per_second);
        let new = Bucket { left: per_second, filled: now };
        let mut bucket = self.0.entry(tenant.clone()).or_insert(new);
        bucket.fill(per_second, now);
        let may = bucket.left >= 1.0;
        bucket.left -= if may { 1.0 } else { 0.0 };
        may
    }
}

impl Shared {
    /// A client of the tenant may come now.
    ///
    /// # Errors
    /// The [`Refusal`] at `max_connection_rate`.
    pub(super) fn take_turn_to_connect(&self, tenant: &Tenant) -> Result<(), Refusal> {
        let Some(limit) = tenant.quotas.max_connection_rate else { return Ok(()) };
        if self.rates.take(&tenant.id, limit, Instant::now()) {
            return Ok(());
        }
        let refusal = Refusal::TooFast { tenant: tenant.id.to_string(), limit };
        if self.is_audited(tenant, "max_connection_rate") { Ok(()) } else { Err(refusal) }
    }

    /// A quota of the tenant's is exceeded. `true`: that is only counted and logged.
    pub(super) fn is_audited(&self, tenant: &Tenant, quota: &'static str) -> bool {
        let audited = tenant.quotas.mode == QuotaMode::Audit;
        if audited {
            self.stats.audit_quota(tenant.id.as_str(), quota);
        }
        audited
    }
}

impl Session {
    /// The same for a session's own tenant.
    pub(super) fn is_only_audited(&self, quota: &'static str) -> bool {
        self.shared.is_audited(&self.of, quota)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::tenant::NamePattern;

    #[test]
    fn so_many_may_come_in_a_second_and_then_one_at_a_time() {
        let (rates, now) = (Rates::default(), Instant::now());
        let [acme, umbra] =
            ["acme", "umbra"].map(|n| NamePattern::new(".*").unwrap().parse(n).unwrap());
        let come = |at: Duration| rates.take(&acme, 4, now + at);
        assert_eq!([0, 0, 0, 0, 0].map(|_| come(Duration::ZERO)), [true, true, true, true, false]);
        assert!(rates.take(&umbra, 4, now), "others are not affected");
        assert!(come(Duration::from_millis(250)) && !come(Duration::from_millis(260)));
        let later = Duration::from_mins(1);
        assert_eq!([0, 0, 0, 0, 0].map(|_| come(later)), [true, true, true, true, false]);
    }
}
