//! How much a task may do before the others have their turn.

use std::cell::Cell;

/// Reads and writes a task may do in one turn: a megabyte with full buffers.
pub(super) const OPERATIONS_MAX: i64 = 64;

thread_local! {
    /// What the task that runs has left of them; below 0 once it wanted more. On a thread that is no worker it never ends.
    static LEFT: Cell<i64> = const { Cell::new(i64::MAX) };
}

/// The next task of this worker begins its turn. `false`: the last one wanted more than it may have, and those that
/// wait for sockets come first.
pub(super) fn begin() -> bool {
    LEFT.replace(OPERATIONS_MAX) >= 0
}

/// Counts a read or a write. `false`: the task has done enough for this time.
#[inline]
pub(super) fn may_go_on() -> bool {
    let left = LEFT.get();
    LEFT.set(left - 1);
    left > 0
}
