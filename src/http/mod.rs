//! Metrics, probes and the dashboard, over HTTP/1.1.
//!
//! Promises: nothing is changed by a request; of [`CONNECTIONS_MAX`] connections the oldest makes room for a new one, so
//! that nobody keeps a probe out by being there; names of tenants are shown to whom `http.dashboard` allows, and in metrics; no
//! secret is shown to anybody.
//!
//! Runs in the tokio runtime of the pooler, beside its workers. Uses `client` for what there is, `stats`, `pool`.

mod ask;
mod livez;
mod looked;
mod metrics;
mod pages;
mod readyz;
mod state;
mod table;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

pub use ask::{Asked, ask};

use crate::client::Shared;
use crate::net::{Phase, bind_tcp};
use pages::Pages;

/// Connections at once; for one more, the oldest is closed.
const CONNECTIONS_MAX: usize = 64;
/// Longest a peer may take to send a request's head.
const HEAD_TIME_MAX: Duration = Duration::from_secs(5);
/// Longest a connection is kept: whoever asks every second comes again.
const CONNECTION_TIME_MAX: Duration = Duration::from_mins(2);
/// Longest head of a request, in bytes. It is also hyper's least.
const HEAD_LEN_MAX: usize = 8192;
/// Pause after a failed accept: descriptors are short, and the next try would fail too.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where it listens.
pub struct Http {
    listeners: Vec<TcpListener>,
}

impl Http {
    /// Binds the addresses of `[http]`. Must run inside a tokio runtime.
    ///
    /// # Errors
    /// The address that cannot be listened on, and the system's word for it.
    pub fn bind(addresses: &[SocketAddr]) -> Result<Self, (SocketAddr, io::Error)> {
        let bind = |at: &SocketAddr| {
            let beside_v4 = addresses.iter().any(|it| it.is_ipv4() && it.port() == at.port());
            let bound = bind_tcp(*at, beside_v4).and_then(TcpListener::from_std);
            bound.map_err(|error| (*at, error))
        };
        Ok(Self { listeners: addresses.iter().map(bind).collect::<Result<_, _>>()? })
    }

    /// The addresses, with the ports that the system chose.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect()
    }

    /// Answers until the pooler stops; while it drains, too.
    pub async fn serve(self, shared: Arc<Shared>) {
        let config = &shared.access().config.http;
        let (labels, dashboard) = (config.tenant_labels, config.dashboard);
        let pages = Pages::new(Arc::clone(&shared), labels, dashboard, SystemTime::now());
        let pages = Arc::new(pages);
        // Dropped with this, they end.
        let mut tasks = JoinSet::new();
        for listener in self.listeners {
            let pages = Arc::clone(&pages);
            tasks.spawn(async move { accept(&listener, pages).await });
        }
        shared.shutdown.reached(Phase::Stopping).await;
    }
}

async fn accept(listener: &TcpListener, pages: Arc<Pages>) {
    // Dropped with this, all connections end.
    let mut connections = JoinSet::new();
    let mut by_age: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                while connections.try_join_next().is_some() {}
                by_age.retain(|connection| !connection.is_finished());
                if by_age.len() >= CONNECTIONS_MAX
                    && let Some(oldest) = by_age.pop_front()
                {
                    oldest.abort();
                }
                let pages = Arc::clone(&pages);
                let life = async move { answer(stream, peer, &pages).await };
                by_age.push_back(connections.spawn(life));
            }
            Err(error) => {
                warn!(%error, "could not accept an HTTP connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn answer(stream: TcpStream, peer: SocketAddr, pages: &Pages) {
    let service =
        service_fn(
            |request| async move { Ok::<_, Infallible>(pages.answer(&request, peer).await) },
        );
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME_MAX)
        .max_buf_size(HEAD_LEN_MAX)
        .serve_connection(TokioIo::new(stream), service);
    if let Ok(Err(error)) = timeout(CONNECTION_TIME_MAX, connection).await {
        debug!(%peer, %error, "HTTP connection broken off");
    }
}
