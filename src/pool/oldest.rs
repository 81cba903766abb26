//! Which client of a tenant has held its server for longest: for the error of those who got none.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::cancel::{CancelRegistry, State};
use super::error::{CheckoutError, Holds, Oldest};
use crate::tenant::TenantId;

/// How long an answer serves: many may lose patience at once, and there may be many clients to look at.
const ANSWER_AGE_MAX: Duration = Duration::from_millis(200);

/// The last answer: when, of whom.
pub(super) type LastAnswer = Mutex<Option<(Instant, TenantId, Option<Oldest>)>>;

impl CancelRegistry {
    /// Fills in what is known here of who holds the servers.
    #[must_use]
    pub fn with_oldest(&self, error: CheckoutError) -> CheckoutError {
        let mut error = error;
        if let CheckoutError::TimedOut { holder: Some(holder), login: None, stop: None, .. } =
            &mut error
        {
            holder.oldest = self.oldest_of(&holder.tenant);
        }
        error
    }

    fn oldest_of(&self, tenant: &TenantId) -> Option<Oldest> {
        let (now, mut last) = (Instant::now(), self.last_answer.lock());
        if let Some((at, of, oldest)) = &*last
            && of == tenant
            && now.saturating_duration_since(*at) < ANSWER_AGE_MAX
        {
            return *oldest;
        }
        let held = self.slots().filter_map(|slot| {
            let kept = slot.is_pinned();
            let (since, idle) = match &*slot.state.lock() {
                State::Linked { since, idle, .. } => (*since, *idle),
                State::Idle | State::Queued { .. } => return None,
            };
            let (from, holds) = match (idle, kept) {
                (Some(idle), _) => (idle, Holds::Idle),
                (None, true) => (since, Holds::Kept),
                (None, false) => (since, Holds::Busy),
            };
            (slot.facts().tenant() == *tenant).then(|| {
                let time = now.saturating_duration_since(from.instant());
                Oldest { time, holds }
            })
        });
        let oldest = held.max_by_key(|oldest| oldest.time);
        *last = Some((now, tenant.clone(), oldest));
        oldest
    }
}
