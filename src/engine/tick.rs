//! What time it is, to a turn of the worker's loop.

use std::cell::Cell;
use std::ops::Add;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use super::local;

thread_local! {
    /// When the worker last looked at its sockets, if anybody has asked since.
    static TURN: Cell<Option<Tick>> = const { Cell::new(None) };
}

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// A moment in microseconds, which costs less to count with than an [`Instant`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tick(u64);

impl Tick {
    /// That moment.
    #[must_use]
    pub fn at(moment: Instant) -> Self {
        let passed = moment.saturating_duration_since(*START).as_micros();
        Self(u64::try_from(passed).unwrap_or(u64::MAX))
    }

    /// How long after another one it is; 0 if it is not.
    #[inline]
    #[must_use]
    pub const fn micros_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The same moment.
    #[must_use]
    pub fn instant(self) -> Instant {
        *START + Duration::from_micros(self.0)
    }
}

impl Add<Duration> for Tick {
    type Output = Self;

    fn add(self, time: Duration) -> Self {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(micros))
    }
}

/// What time it is, read once a turn of the worker's loop: what is counted by it may be off by as much as a turn
/// takes, which is less than what is waited for.
#[inline]
#[must_use]
pub fn tick() -> Tick {
    TURN.get().unwrap_or_else(look)
}

#[cold]
fn look() -> Tick {
    let now = Tick::at(Instant::now());
    // Only a worker has turns that end.
    if local::with(|_| ()).is_some() {
        TURN.set(Some(now));
    }
    now
}

/// The sockets are looked at: time has passed.
pub(super) fn next_turn() {
    TURN.set(None);
}
