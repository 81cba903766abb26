//! Accepting connections and placing them on workers.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::connection::serve_one;
use crate::admin::Order;
use crate::client::Shared;
use crate::engine::Worker;
use crate::net::{Doors, Listener, Phase, Tasks};

/// Connections per listener that have not logged in yet; one more is closed at once.
const GREETING_MAX: usize = 4096;
/// Pause after a failed accept: descriptors are short, and the next try would fail too.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where a listener's connections go.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) shared: Arc<Shared>,
    pub(super) clients: Tasks,
    pub(super) workers: Vec<Worker>,
    /// For those of a worker that does not answer.
    pub(super) spare: Worker,
    pub(super) tenant: Option<Arc<str>>,
    /// Until then, who comes waits: nobody is told yet that his tenant does not exist.
    pub(super) opened: CancellationToken,
    pub(super) orders: mpsc::Sender<Order>,
}

/// Makes a listener a socket of the worker's, which only its own thread can do.
///
/// # Errors
/// The system's own.
pub(super) fn open(listener: Listener, worker: &Worker) -> io::Result<Doors> {
    let (tell, told) = std::sync::mpsc::sync_channel(1);
    worker.spawn(async move {
        // Who asked waits for it.
        let _ = tell.send(listener.open());
    });
    told.recv().map_err(io::Error::other)?
}

/// Accepts until the pooler stops. While it drains, clients are still answered: they are refused. A task of a
/// worker's.
pub(super) async fn accept(doors: Doors, place: Place) {
    let shutdown = Arc::clone(&place.shared.shutdown);
    tokio::select! {
        () = shutdown.reached(Phase::Stopping) => {}
        () = accept_all(&doors, &place) => {}
    }
}

async fn accept_all(doors: &Doors, place: &Place) {
    place.opened.cancelled().await;
    let open = Arc::new(Semaphore::new(GREETING_MAX + place.shared.general.max_client_conn));
    for number in 0.. {
        let serving = place.shared.serving.load(Ordering::Relaxed);
        let at = number % serving.min(place.workers.len());
        let still = place.shared.stands_still(at);
        let worker = if still { &place.spare } else { &place.workers[at] };
        let incoming = loop {
            match doors.accept().await {
                Ok(incoming) => break incoming,
                Err(error) => {
                    warn!(%error, "could not accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        };
        let Ok(permit) = Arc::clone(&open).try_acquire_owned() else { continue };
        let (tenant, shared) = (place.tenant.clone(), Arc::clone(&place.shared));
        let orders = place.orders.clone();
        let life = async move {
            serve_one(incoming, tenant, shared, orders).await;
            drop(permit);
        };
        place.clients.spawn_on(life, worker);
    }
}
