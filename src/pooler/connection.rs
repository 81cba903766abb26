//! One connection's life, from its first byte on.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;
use tracing::{debug, info, warn};

use crate::admin::{self, Order};
use crate::client::{
    DRAIN_GRACE, GreetError, Greeting, Peer, Session, Shared, greet, login, slow_down, tell,
};
use crate::net::{Incoming, Phase};

/// Longest a new connection may take to say what it wants.
const GREETING_TIME_MAX: Duration = Duration::from_secs(15);

/// Greet -> cancel, the console, or log in -> serve.
pub(super) async fn serve_one(
    incoming: Incoming,
    tenant: Option<Arc<str>>,
    shared: Arc<Shared>,
    orders: mpsc::Sender<Order>,
) {
    // Boxed: logging in is large and ends, the session is small and stays.
    let shutdown = Arc::clone(&shared.shutdown);
    let session = tokio::select! {
        session = Box::pin(enter(incoming, tenant, shared, orders)) => session,
        () = Box::pin(shutdown.reached(Phase::Stopping)) => None,
    };
    if let Some(session) = session {
        session.run().await;
    }
}

async fn enter(
    incoming: Incoming,
    tenant: Option<Arc<str>>,
    shared: Arc<Shared>,
    orders: mpsc::Sender<Order>,
) -> Option<Box<Session>> {
    let stream = incoming.into_stream().ok()?;
    let peer = Peer(stream.peer_addr());
    let access = shared.access();
    let greeting = tokio::select! {
        greeting = timeout(GREETING_TIME_MAX, greet(stream, &access.acceptor)) => greeting,
        () = shared.shutdown.drained_for(DRAIN_GRACE) => {
            info!(client = %peer, "connection closed: the pooler is shutting down");
            return None;
        }
    };
    match greeting {
        Ok(Ok(Greeting::Startup(startup))) => {
            let (talk, hello) = *startup;
            let user = hello.user.clone();
            let result = if admin::is_meant(&hello, &access) {
                let console = admin::serve(talk, hello, &access, &shared, &orders);
                Box::pin(console).await.map(|()| None)
            } else {
                login(talk, hello, tenant.as_deref(), &access, &shared).await.map(Some)
            };
            match result {
                Ok(session) => return session,
                Err(refusal) => {
                    let (sqlstate, message) = refusal.summary();
                    let (reason, tenant) = (refusal.reason(), refusal.tenant());
                    info!(user, tenant, client = %peer, reason, sqlstate, told = message, "client refused");
                }
            }
        }
        Ok(Ok(Greeting::Cancel { pid, key, talk })) => {
            if shared.consoles.cancel(pid, &key) {
                debug!(client = %peer, "an operator waits no longer");
            } else if let Some(cancel) = shared.cancels.request(pid, &key) {
                shared.stats.cancels.add_one();
                if let Err(error) = cancel.send().await {
                    warn!(%error, "could not cancel");
                }
            }
            // Who waits for this may send its next statement: no signal may meet that.
            drop(talk);
        }
        Ok(Err(GreetError::Refused(refused))) => {
            let (mut talk, refusal) = *refused;
            shared.count_refusal(&refusal, None);
            let (sqlstate, message) = refusal.summary();
            let reason = refusal.reason();
            info!(client = %peer, reason, sqlstate, told = message, "connection refused");
            slow_down(&mut talk, None, &shared).await;
            // As long as the greeting may have taken; a client that does not read is not waited for.
            let _ = timeout(GREETING_TIME_MAX, tell(talk, &refusal)).await;
        }
        Ok(Err(error)) => {
            debug!(client = %peer, %error, "connection closed before it said what it wants");
        }
        Err(_) => info!(client = %peer, "connection closed: silent for {GREETING_TIME_MAX:?}"),
    }
    None
}
