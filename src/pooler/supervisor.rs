//! What systemd is told, if it started the pooler (`Type=notify`). Elsewhere, nothing.
//!
//! <https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html>

use sd_notify::{NotifyState, notify};
use tracing::debug;

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = notify(false, state) {
        debug!(%error, "systemd could not be told");
    }
}

/// It listens, or goes by the configuration that it has read again.
pub(super) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// It reads its configuration again.
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => debug!(%error, "the system has no monotonic clock"),
    }
}

/// It ends.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}
