//! `[registry]`: tenants that live in a table are read again and again.
//!
//! On a connection of its own, which nothing a client says ever reaches. While PostgreSQL cannot be asked, what it
//! said last holds. Nobody asks it for one tenant: a name that it did not have is refused from memory.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value as Json;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::{error, info, warn};

use super::reload::Why;
use super::{Pooler, endpoint_of};
use crate::config::Registered;
use crate::server::{Endpoint, login};

/// Bytes that the registry's answer may have.
const ANSWER_LEN_MAX: usize = 64 << 20;
/// How often it is looked whether it is time.
const PERIOD: Duration = Duration::from_millis(100);

impl Pooler {
    /// Waits for the time to ask and asks, until the registry says something new.
    pub(super) async fn registry_changes(&self, asked: &mut Option<Instant>) -> Arc<[Json]> {
        loop {
            let access = self.shared.access();
            let Some(registry) = &access.config.registry else {
                tokio::time::sleep(PERIOD).await;
                continue;
            };
            if asked.is_some_and(|asked| asked.elapsed() < registry.refresh) {
                tokio::time::sleep(PERIOD).await;
                continue;
            }
            let news = self.registry_news().await;
            *asked = Some(Instant::now());
            if let Ok(Some(rows)) = news {
                return rows;
            }
        }
    }

    /// Asks the registry, if there is one; what it says, if that is new.
    ///
    /// # Errors
    /// Why it cannot be asked; it was logged.
    pub(super) async fn registry_news(&self) -> Result<Option<Arc<[Json]>>, String> {
        let access = self.shared.access();
        let Some(registry) = &access.config.registry else { return Ok(None) };
        let query = &registry.query;
        let endpoint = endpoint_of(query, &access.config, &access.clusters, &access.keychain);
        let answer = match endpoint {
            Some(endpoint) => self.ask_registry(endpoint, &query.sql).await,
            None => Err("its cluster is not there".to_owned()),
        };
        let news = answer.map(|rows| Some(rows).filter(|rows| **rows != **self.registered.lock()));
        if let Err(problem) = &news {
            warn!(problem, "the registry cannot be asked: what it said last holds");
        }
        if !matches!(news, Ok(Some(_))) {
            self.opened.cancel();
        }
        news
    }

    /// Sockets are a worker's: the question is asked there.
    async fn ask_registry(&self, endpoint: Endpoint, sql: &str) -> Result<Arc<[Json]>, String> {
        let sql = format!(
            "select pg_catalog.to_jsonb(registry) from ({}) registry",
            sql.trim_end_matches([';', ' ', '\n'])
        );
        let (reply, answer) = oneshot::channel();
        let ask = async move {
            let limit = endpoint.timeout;
            let asked = timeout(limit, ask(&endpoint, &sql)).await;
            let rows = asked.unwrap_or_else(|_| Err(format!("no answer within {limit:?}")));
            // Who asked may have something else to do by now.
            let _ = reply.send(rows);
        };
        self.servers.spawn_on(ask, &self.workers.all()[0]);
        answer.await.unwrap_or_else(|_| Err("the pooler stops".to_owned()))
    }

    /// Other tenants count from now on.
    pub(super) fn take_registry(&self, rows: Arc<[Json]>) {
        let old = self.shared.access();
        let Registered { config, faults, ignored, promised } = old.config.with_registry(&rows);
        let tenants = rows.len() - faults.len();
        info!(tenants, left_out = faults.len(), "the registry has changed");
        for fault in faults.iter().take(10) {
            error!(
                path = fault.path,
                problem = fault.problem,
                "a tenant of the registry is left out"
            );
        }
        if !ignored.is_empty() {
            let columns = ignored.into_iter().collect::<Vec<_>>().join(", ");
            warn!(columns, "columns of the registry that are no settings of a tenant are ignored");
        }
        for (cluster, (guaranteed, max_server_connections)) in promised {
            warn!(
                cluster,
                guaranteed,
                max_server_connections,
                "more is guaranteed than can be kept: those whose clients come first have it"
            );
        }
        *self.registered.lock() = rows;
        let known = old.credentials.renew(&old.config.users);
        // What is wrong was logged.
        let _ = self.install(Arc::new(config), old.acceptor.clone(), known, Why::Files);
        self.opened.cancel();
    }
}

async fn ask(endpoint: &Endpoint, sql: &str) -> Result<Arc<[Json]>, String> {
    let mut server = login(endpoint).await.map_err(|error| error.to_string())?;
    let rows = server.fetch_all(sql, ANSWER_LEN_MAX).await.map_err(|error| error.to_string())?;
    server.terminate();
    let read = |row: Vec<Option<Box<[u8]>>>| {
        let text = row.into_iter().next().flatten().unwrap_or_default();
        serde_json::from_slice(&text).map_err(|error| error.to_string())
    };
    rows.into_iter().map(read).collect()
}
