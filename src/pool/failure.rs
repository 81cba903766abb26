//! A login that failed, and when the next one may be tried.
//!
//! Logins that fail beside each other count once: none of them was a second try. The pause grows with the time since
//! the first failure, so that an outage takes at most a quarter longer for the pooler than for PostgreSQL.

use std::time::{Duration, Instant};

use crate::server::LoginError;

/// Shortest pause.
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// Longest pause: a third of PgBouncer's `server_login_retry`, for one login at a time costs little.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// How often, at most, a server of another pool is closed for a login that will fail unless somebody changes something.
const ROOM_PAUSE: Duration = Duration::from_mins(1);
/// The part of the time since the first failure that a pause takes.
const PAUSE_PART: u32 = 4;

/// The last login failed.
#[derive(Clone)]
pub(super) struct Failure {
    pub(super) error: LoginError,
    /// When the next one may be tried.
    pub(super) retry_at: Instant,
    /// When the first one failed since one succeeded.
    since: Instant,
    /// When a server of another pool may be closed for one again.
    room_at: Instant,
}

impl Failure {
    /// A login has failed after those of `before`.
    pub(super) fn after(before: Option<&Self>, error: LoginError, now: Instant) -> Self {
        let Some(before) = before else {
            return Self {
                error,
                retry_at: now + PAUSE_MIN,
                since: now,
                room_at: now + ROOM_PAUSE,
            };
        };
        let Self { since, retry_at, room_at, .. } = *before;
        if retry_at > now {
            return Self { error, retry_at, since, room_at };
        }
        let pause = now.saturating_duration_since(since) / PAUSE_PART;
        let retry_at = now + pause.clamp(PAUSE_MIN, PAUSE_MAX);
        Self { error, retry_at, since, room_at }
    }

    /// Whether a server of another pool may be closed for the next one.
    pub(super) fn takes_room(&mut self, now: Instant) -> bool {
        let may = self.error.may_pass() || now >= self.room_at;
        if may {
            self.room_at = now + ROOM_PAUSE;
        }
        may
    }

    /// What it failed by may have passed.
    pub(super) const fn try_at(&mut self, now: Instant) {
        (self.retry_at, self.since) = (now, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error() -> LoginError {
        LoginError::TimedOut { after: Duration::ZERO }
    }

    /// When logins are tried in an outage of that length, if each fails at once.
    fn tries(outage: Duration) -> Vec<Duration> {
        let start = Instant::now();
        let (mut tries, mut at, mut last) = (Vec::new(), start, None);
        loop {
            tries.push(at - start);
            if at - start >= outage {
                return tries;
            }
            let failure = Failure::after(last.as_ref(), error(), at);
            at = failure.retry_at;
            last = Some(failure);
        }
    }

    #[test]
    fn an_outage_takes_at_most_a_quarter_longer_and_not_many_logins() {
        for millis in [1, 10, 100, 500, 1_000, 5_000, 20_000] {
            let outage = Duration::from_millis(millis);
            let tries = tries(outage);
            let last = *tries.last().unwrap();
            assert!(last <= outage + (outage / 4).max(PAUSE_MIN), "{outage:?}: {last:?}");
            assert!(tries.len() <= 40, "{outage:?}: {}", tries.len());
        }
        let day = Duration::from_hours(24);
        assert!(*tries(day).last().unwrap() <= day + PAUSE_MAX);
    }

    #[test]
    fn logins_that_fail_beside_each_other_count_once() {
        let start = Instant::now();
        let one = Failure::after(None, error(), start);
        let mut many = one.clone();
        for millis in 0..32 {
            let now = start + Duration::from_millis(millis);
            many = Failure::after(Some(&many), error(), now);
        }
        assert_eq!(many.retry_at, one.retry_at);
        // The second try is one.
        let second = Failure::after(Some(&many), error(), one.retry_at);
        assert!(second.retry_at > one.retry_at);
    }
}
