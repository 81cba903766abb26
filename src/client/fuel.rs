//! No input keeps a worker: how often a session may look again without a byte having moved.
//!
//! Every loop of a session's poll burns from here, every server that it takes burns a good deal, and every byte that
//! comes from its client or goes there fills it up again (what it says to a server by itself is no progress). A session
//! that has burned all of it within a second, in one poll or by waking itself, is not going anywhere: whatever the
//! reason, it ends, its server is closed, and the worker serves the others.

use crate::engine::{Tick, tick};

/// Looks without a byte that moved. A buffer full of the shortest messages takes some ten thousand, in which
/// nothing has to be read or written: that much is work.
const LOOKS_MAX: u32 = 1 << 16;

/// What taking a server burns. One may refuse the switch, and one may be lost before anything is sent.
const SERVER: u32 = LOOKS_MAX / 16;

/// In which they are burned, in microseconds: an idle client is looked at now and then, too, but not so often.
const HASTE_MICROS: u64 = 1_000_000;

/// What is left.
#[derive(Debug)]
pub(super) struct Fuel {
    left: u32,
    /// When it was last filled although no byte had moved.
    filled: Tick,
}

impl Fuel {
    pub(super) fn new() -> Self {
        Self { left: LOOKS_MAX, filled: tick() }
    }

    /// A byte of the client's has moved.
    #[inline]
    pub(super) const fn fill(&mut self) {
        self.left = LOOKS_MAX;
    }

    /// One more look. `false`: whoever looks stops, all the way up.
    #[inline]
    pub(super) fn burn(&mut self) -> bool {
        if self.left == 0 {
            return self.is_filled_by(tick());
        }
        self.left -= 1;
        true
    }

    /// One more server for what the client has sent.
    #[inline]
    pub(super) const fn burn_for_a_server(&mut self) {
        self.left = self.left.saturating_sub(SERVER);
    }

    /// Whether all of it was burned without anything to show for it.
    #[inline]
    pub(super) const fn is_empty(&self) -> bool {
        self.left == 0
    }

    /// Fills it if it was not burned in haste.
    #[cold]
    fn is_filled_by(&mut self, now: Tick) -> bool {
        let later = now.micros_since(self.filled) >= HASTE_MICROS;
        if later {
            (self.left, self.filled) = (LOOKS_MAX, now);
        }
        later
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_session_that_moves_nothing_stops_and_one_that_moves_a_byte_goes_on() {
        let mut fuel = Fuel { left: 3, filled: tick() };
        assert!(fuel.burn() && fuel.burn() && fuel.burn());
        assert!(!fuel.burn() && fuel.is_empty());
        fuel.fill();
        assert!(fuel.burn());
    }

    #[test]
    fn an_idle_client_is_looked_at_for_ever() {
        let filled = tick();
        let mut fuel = Fuel { left: 0, filled };
        assert!(!fuel.is_filled_by(filled + Duration::from_micros(HASTE_MICROS - 1)));
        assert!(fuel.is_filled_by(filled + Duration::from_micros(HASTE_MICROS)) && fuel.burn());
    }
}
