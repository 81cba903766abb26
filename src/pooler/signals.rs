//! SIGTERM drains; a second one, or SIGINT, stops now.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tracing::info;

use super::Pooler;

/// Runs a pooler until a signal ends it, and returns when nothing is left of it.
///
/// # Errors
/// When the handlers cannot be installed.
pub async fn until_signal(pooler: Pooler) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = interrupt.recv() => info!("SIGINT: stopping now"),
        _ = terminate.recv() => {
            info!("SIGTERM: finishing transactions; send it again to stop now");
            tokio::select! {
                () = pooler.drain() => {}
                _ = terminate.recv() => info!("second SIGTERM: stopping now"),
                _ = interrupt.recv() => info!("SIGINT: stopping now"),
            }
        }
    }
    pooler.stopped().await;
    Ok(())
}
