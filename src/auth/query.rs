//! `auth.query`: secrets that live in a table of PostgreSQL's.
//!
//! It runs on a connection of its own, whose search_path is `pg_catalog` and which nothing a client
//! says ever reaches, but for the user's name, as a bound parameter: an unqualified name in the
//! query means what the operator meant (CVE-2025-12819 was about a pooler that ran it with the
//! client's search_path).

use std::time::{Duration, Instant};

use dashmap::DashMap;
use tokio::sync::Mutex;
use tokio::time::timeout;
use tracing::{debug, warn};

use super::credentials::Challenge;
use crate::config::Secret;
use crate::server::{AskError, Endpoint, LoginError, Row, Server, login};

/// How long an answer is good: a changed password works no later than this.
const ANSWER_AGE_MAX: Duration = Duration::from_secs(5);
/// Answers kept.
const ANSWERS_MAX: usize = 10_000;

/// Why the secret of a user is not known.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// PostgreSQL could not be logged in to.
    #[error("{0}")]
    Login(#[from] LoginError),
    /// It refused the query, or broke off.
    #[error("{0}")]
    Ask(#[from] AskError),
    /// It did not answer.
    #[error("no answer within {after:?}")]
    TimedOut {
        /// The limit.
        after: Duration,
    },
}

struct Answer {
    challenge: Option<Challenge>,
    asked: Instant,
}

/// Asks for secrets, one at a time, and remembers the answers for a moment.
pub(super) struct Query {
    endpoint: Endpoint,
    sql: String,
    server: Mutex<Option<Box<Server>>>,
    answers: DashMap<String, Answer>,
}

impl Query {
    pub(super) fn new(endpoint: Endpoint, sql: String) -> Self {
        Self { endpoint, sql, server: Mutex::default(), answers: DashMap::new() }
    }

    /// How to ask this user; `None` if the query knows no such user.
    pub(super) async fn challenge(
        &self,
        user: &str,
        make: impl FnOnce(Secret) -> Challenge + Send + 'static,
    ) -> Result<Option<Challenge>, QueryError> {
        if let Some(answer) = self.answers.get(user)
            && answer.asked.elapsed() < ANSWER_AGE_MAX
        {
            return Ok(answer.challenge.clone());
        }
        let limit = self.endpoint.timeout;
        let asked = timeout(limit, self.ask(user)).await;
        let secret = asked.map_err(|_| QueryError::TimedOut { after: limit })??;
        // A plain password has to be hashed, which takes a millisecond: not on a worker.
        let challenge = match secret {
            Some(secret) => tokio::task::spawn_blocking(move || make(secret)).await.ok(),
            None => None,
        };
        if self.answers.len() >= ANSWERS_MAX {
            self.answers.retain(|_, answer| answer.asked.elapsed() < ANSWER_AGE_MAX);
        }
        if self.answers.len() < ANSWERS_MAX {
            let answer = Answer { challenge: challenge.clone(), asked: Instant::now() };
            self.answers.insert(user.to_owned(), answer);
        }
        Ok(challenge)
    }

    async fn ask(&self, user: &str) -> Result<Option<Secret>, QueryError> {
        let mut place = self.server.lock().await;
        // Taken out: a question that is given up half-way leaves no half-read connection behind.
        let mut kept = place.take().filter(|server| Instant::now() < server.life.retire_at);
        if kept.as_mut().is_some_and(|server| !server.is_usable()) {
            kept = None;
        }
        if let Some(mut server) = kept {
            match server.fetch(&self.sql, user).await {
                Ok(rows) => {
                    *place = Some(server);
                    return Ok(secret(rows, user));
                }
                Err(error @ AskError::Refused(_)) => return Err(error.into()),
                // It was lost while nobody looked; a new one can be asked.
                Err(error) => debug!(%error, "connection for auth.query lost"),
            }
        }
        debug!(endpoint = ?self.endpoint, "connection for auth.query");
        let mut server = login(&self.endpoint).await?;
        let rows = server.fetch(&self.sql, user).await?;
        *place = Some(server);
        drop(place);
        Ok(secret(rows, user))
    }
}

/// PgBouncer's shape: name and secret. NULL, or no row: there is no such user. Nor is there one if the answer is of
/// another, or of several: whose secret that is nobody knows.
fn secret(rows: Vec<Row>, user: &str) -> Option<Secret> {
    let mut rows = rows.into_iter();
    let (mut row, others) = (rows.next()?.into_iter(), rows.count());
    let (name, secret) = (row.next()??, row.next()??);
    if others > 0 || &name[..] != user.as_bytes() {
        warn!(user, rows = others + 1, "auth.query answered for another user, or for several");
        return None;
    }
    std::str::from_utf8(&secret).ok().map(Secret::new)
}
