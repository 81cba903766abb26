//! What a tenant owes for servers that its clients made unusable.
//!
//! Each of them costs a login in its place, and PostgreSQL's machine pays as much for that as for hundreds of statements:
//! whoever closes one with each transaction would take most of it from all others. So a tenant may have [`CREDIT_MAX`] of
//! them closed at once and [`PAID_A_SECOND`] more; beyond that its clients wait in its own queue, and nobody else does.
//!
//! What PostgreSQL has ended counts as well, because a client can ask for that. An outage is nobody's doing: it settles
//! what everybody owes.
//!
//! Pure: the time comes in as an argument.

use std::time::Duration;

use crate::engine::Tick;

/// Servers that are paid in a second.
pub const PAID_A_SECOND: u32 = 3;
/// Servers that may be owed before anybody waits.
pub const CREDIT_MAX: u32 = 10;
/// Each is paid in so many microseconds.
const PRICE: u64 = 1_000_000 / PAID_A_SECOND as u64;
/// What may be owed before anybody waits, in microseconds.
const CREDIT: u64 = PRICE * CREDIT_MAX as u64;
/// Longest anybody waits for what is owed, in microseconds: many servers may be lost at once.
const WAIT_MAX: u64 = 2_000_000;

/// How often a tenant that waits again and again is logged, in microseconds.
const SAID_AGAIN: u64 = 60_000_000;

/// A tenant's.
#[derive(Debug, Default)]
pub(super) struct Debt {
    /// When all of it is paid.
    paid_at: Option<Tick>,
    /// The tenant waits until then.
    until: Option<Tick>,
    /// When that was logged last.
    said: Option<Tick>,
}

impl Debt {
    /// One more server. `Some`: the tenant waits until then; `true`: the operator is to hear of it.
    pub(super) fn charge(&mut self, now: Tick) -> Option<(Tick, bool)> {
        let owed = self.paid_at.map_or(0, |at| at.micros_since(now));
        self.paid_at = Some(now + Duration::from_micros((owed + PRICE).min(CREDIT + WAIT_MAX)));
        let began = self.until.is_none();
        let until = self.look(now)?;
        let long_ago = self.said.is_none_or(|at| now.micros_since(at) >= SAID_AGAIN);
        if began && long_ago {
            self.said = Some(now);
        }
        Some((until, began && long_ago))
    }

    /// Time has passed. `Some`: the tenant still waits until then.
    pub(super) fn look(&mut self, now: Tick) -> Option<Tick> {
        let owed = self.paid_at.map_or(0, |at| at.micros_since(now));
        if owed == 0 {
            self.paid_at = None;
        }
        let wait = owed.saturating_sub(CREDIT);
        self.until = (wait > 0).then(|| now + Duration::from_micros(wait));
        self.until
    }

    /// Whether the tenant waits.
    pub(super) const fn waits(&self) -> bool {
        self.until.is_some()
    }

    /// Whether nothing is owed, as far as was looked.
    pub(super) const fn is_settled(&self) -> bool {
        self.paid_at.is_none()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_few_at_once_cost_nothing_and_then_three_a_second() {
        let (mut debt, start) = (Debt::default(), Tick::at(Instant::now()));
        for _ in 0..CREDIT_MAX {
            assert_eq!(debt.charge(start), None);
        }
        let (mut now, mut closed) = (start, 0);
        while now.micros_since(start) < 10_000_000 {
            let (until, began) = debt.charge(now).expect("the credit is used up");
            assert_eq!(began, closed == 0, "it is logged once a minute");
            assert!(debt.waits() && until.micros_since(now) == PRICE);
            assert_eq!(debt.look(now + Duration::from_micros(PRICE - 1)), Some(until));
            assert_eq!((debt.look(until), debt.waits()), (None, false));
            (now, closed) = (until, closed + 1);
        }
        assert_eq!(closed, 31);
    }

    #[test]
    fn who_loses_many_at_once_waits_two_seconds_and_pays_for_all_it_may_owe() {
        let (mut debt, now) = (Debt::default(), Tick::at(Instant::now()));
        let waits: Vec<_> = (0..500).map(|_| debt.charge(now)).collect();
        let begins = waits.iter().filter(|wait| matches!(wait, Some((_, true)))).count();
        assert_eq!((begins, waits[CREDIT_MAX as usize].is_some()), (1, true));
        assert_eq!(waits[499], Some((now + Duration::from_secs(2), false)));
        assert_eq!(debt.look(now + Duration::from_secs(2)), None);
        debt.look(now + Duration::from_micros(CREDIT + WAIT_MAX - 1));
        assert!(!debt.is_settled());
        debt.look(now + Duration::from_micros(CREDIT + WAIT_MAX));
        assert!(debt.is_settled());
    }
}
