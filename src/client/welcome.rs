//! What a client is told at login: the parameters a server reports in the client's own state.
//!
//! A client's login asks a server: the guarded switch to the client's state, and whether the tenant's schema is there.
//! That also checks the client's settings and the tenant's role, with PostgreSQL's own errors. Where all servers are
//! busy, who comes to a state that somebody had a moment ago gets that answer, and need not wait.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use dashmap::DashMap;
use tokio::sync::oneshot;

use super::question::{Asked, Question};
use super::refusal::Refusal;
use super::refused::Refused;
use super::row_types::RowTypes;
use super::targets::Targets;
use crate::config::Tenant;
use crate::pool::{Acquired, Checkout, CheckoutError, Seat};
use crate::server::{Parameters, Target};
use crate::tenant::{GucName, SessionState, TenantId, Value};

/// How long an answer is good where no server rests: a schema that is dropped is missed no later than this.
const WELCOME_AGE_MAX: Duration = Duration::from_mins(1);
/// Answers kept.
const WELCOMES_MAX: usize = 4096;

pub(super) const APPLICATION_NAME: &str = "application_name";

/// The state, ready for switches, and what servers report in it.
#[derive(Debug, Clone)]
pub struct Welcome {
    /// The state.
    pub target: Arc<Target>,
    /// The reports.
    pub parameters: Arc<Parameters>,
    asked: Instant,
}

pub(super) type Key = (TenantId, SessionState);

/// Answers by tenant and state. An application's name, which may be any, needs no asking.
#[derive(Default)]
pub struct Welcomes {
    answers: DashMap<Key, Welcome>,
    refused: Refused,
    row_types: RowTypes,
    /// How often they were forgotten: what was asked before that is not kept after it.
    forgotten: AtomicU64,
}

impl Welcomes {
    /// The welcome for a client of `tenant` in `state`.
    ///
    /// # Errors
    /// The [`Refusal`] that the client gets instead.
    pub async fn get(
        &self,
        tenant: &Tenant,
        state: &SessionState,
        own: &SessionState,
        seat: &Arc<Seat>,
        targets: &Arc<Targets>,
    ) -> Result<Welcome, Refusal> {
        let whole = (tenant.id.clone(), state.clone());
        let age = self.forgotten.load(Ordering::Acquire);
        let (nameless, name) = without_plain_name(state);
        let key = (tenant.id.clone(), nameless);
        if let Some(refusal) = self.refused.again(&key) {
            return Err(refusal);
        }
        let known = self.known(&key);
        let resting = known.as_ref().and_then(|known| seat.acquire_now(&known.target));
        let welcome = match (known, resting) {
            (Some(welcome), None) => {
                if let Some(welcome) = self.known(&whole) {
                    return Ok(welcome);
                }
                welcome
            }
            (_, resting) => {
                let asked = ask(tenant, &key.1, own, seat, targets, resting).await;
                self.refused.note(&key, asked.as_ref().err());
                let welcome = asked?;
                self.row_types.note(tenant, seat, &welcome.target, targets);
                self.keep(&key, age, welcome)
            }
        };
        let Some(name) = name else { return Ok(welcome) };
        let mut parameters = (*welcome.parameters).clone();
        parameters.set(APPLICATION_NAME.as_bytes(), &name);
        let target = targets.get(&tenant.id, state.clone());
        let parameters = targets.report(&Arc::new(parameters));
        let welcome = Welcome { target, parameters, asked: welcome.asked };
        Ok(self.keep(&whole, age, welcome))
    }

    /// What was asked before holds no more.
    pub fn forget_all(&self) {
        self.forgotten.fetch_add(1, Ordering::AcqRel);
        self.answers.clear();
        self.refused.forget_all();
    }

    fn known(&self, key: &Key) -> Option<Welcome> {
        self.answers.get(key).map(|entry| entry.value().clone()).filter(Welcome::is_fresh)
    }

    fn keep(&self, key: &Key, age: u64, welcome: Welcome) -> Welcome {
        if self.answers.len() >= WELCOMES_MAX {
            self.answers.retain(|_, welcome| welcome.is_fresh());
        }
        if self.answers.len() < WELCOMES_MAX {
            self.answers.insert(key.clone(), welcome.clone());
        }
        // After it was put in: if they were forgotten meanwhile, it is not left behind.
        if self.forgotten.load(Ordering::Acquire) != age {
            self.answers.remove(key);
        }
        welcome
    }
}

impl Welcome {
    fn is_fresh(&self) -> bool {
        self.asked.elapsed() < WELCOME_AGE_MAX
    }
}

/// Takes a name out that every server reports as it is: printable ASCII within `NAMEDATALEN`.
fn without_plain_name(state: &SessionState) -> (SessionState, Option<Box<[u8]>>) {
    match state.get(APPLICATION_NAME) {
        Some(Value::Text(name))
            if name.len() < 64 && name.iter().all(|b| (b' '..=b'~').contains(b)) =>
        {
            let name = name.clone();
            let guc = GucName::new(APPLICATION_NAME).expect("a name PostgreSQL has");
            (state.clone().without(&guc), Some(name))
        }
        _ => (state.clone(), None),
    }
}

async fn ask(
    tenant: &Tenant,
    state: &SessionState,
    own: &SessionState,
    seat: &Arc<Seat>,
    targets: &Arc<Targets>,
    resting: Option<Checkout>,
) -> Result<Welcome, Refusal> {
    let target = targets.get(&tenant.id, state.clone());
    let refused = |error: CheckoutError| Refusal::Checkout { tenant: tenant.id.to_string(), error };
    let (mut last, mut resting) = (String::new(), resting);
    // Twice: the first server may have been in a state that fails the switch.
    for _ in 0..2 {
        let checkout = match resting.take() {
            Some(checkout) => checkout,
            None => match seat.acquire(&target).map_err(refused)? {
                Acquired::Now(checkout) => checkout,
                Acquired::Later(mut waiting) => {
                    poll_fn(|cx| waiting.poll(cx)).await.map_err(refused)?
                }
            },
        };
        let question = Question {
            target: Arc::clone(&target),
            sql: tenant.schema.as_deref().map_or_else(String::new, SessionState::schema_exists),
            limit: tenant.cluster.server_connect_timeout,
            targets: Arc::clone(targets),
        };
        let (answer, asked) = oneshot::channel();
        // To its end, also if the client leaves: a server in the middle of a switch could only be closed.
        checkout.use_with(|checkout| async move {
            // The client may be gone.
            let _ = answer.send(question.put(checkout).await);
        });
        match asked.await.unwrap_or_else(|_| Asked::Failed("the pooler stops".to_owned())) {
            Asked::Answered { rows, parameters } => {
                return match &tenant.schema {
                    Some(schema) if rows == 0 => Err(Refusal::NoSchema {
                        schema: schema.clone(),
                        tenant: tenant.id.to_string(),
                    }),
                    _ => Ok(Welcome { target, parameters, asked: Instant::now() }),
                };
            }
            Asked::Refused(error) => {
                if !may_be_clients_fault(own, error.sqlstate()) {
                    last = error.to_string();
                    continue;
                }
                // It is, if the tenant's state works without the client's own settings: then the
                // client gets PostgreSQL's words.
                let none = SessionState::default();
                Box::pin(ask(tenant, &tenant.baseline, &none, seat, targets, None)).await?;
                return Err(Refusal::Server(error));
            }
            Asked::Failed(error) => last = error,
        }
    }
    Err(Refusal::Switch { tenant: tenant.id.to_string(), error: last })
}

/// 22: data exception, 42: rule violation, 55: not in prerequisite state, 0A: not supported.
pub(super) fn may_be_clients_fault(own: &SessionState, sqlstate: &str) -> bool {
    let class = sqlstate.get(..2).unwrap_or_default();
    *own != SessionState::default() && matches!(class, "22" | "42" | "55" | "0A")
}
