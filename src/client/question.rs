//! A question of the pooler's own to a server that nobody uses, in the state that a client is to get.
//!
//! The server comes back in a state that is known, or is closed: whatever is refused costs the others no server.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::targets::Targets;
use crate::pool::{Checkout, Linked, Taint};
use crate::server::{AskError, Known, Parameters, Switch, Target};
use crate::wire::backend::ServerError;

/// Longest a server may take to roll back a switch.
const ROLL_BACK_TIME_MAX: Duration = Duration::from_secs(5);

/// What a server is asked in a tenant's state.
pub(super) struct Question {
    pub(super) target: Arc<Target>,
    pub(super) sql: String,
    pub(super) limit: Duration,
    pub(super) targets: Arc<Targets>,
}

/// What came of it.
pub(super) enum Asked {
    /// The state is there.
    Answered { rows: usize, parameters: Arc<Parameters> },
    /// PostgreSQL has refused the state.
    Refused(ServerError),
    /// There was no answer.
    Failed(String),
}

impl Question {
    /// Asks, and gives the server back where it may be lent again.
    pub(super) async fn put(self, checkout: Checkout) -> Asked {
        let Self { target, sql, limit, targets } = self;
        let mut checkout = checkout;
        let before = checkout.known().clone();
        let (mut linked, switch) = checkout.switch_to(&target);
        let frames = match &switch {
            Switch::None => None,
            Switch::Frames { frames, .. } => Some(frames),
        };
        let seeds = target.session.seeds();
        match timeout(limit, linked.server().ask(frames, &sql)).await {
            Ok(Ok(answer)) => {
                linked.confirm();
                // The same as clients are told, by which it is known that there is nothing to tell.
                let parameters = targets.report(&linked.server().parameters);
                linked.server().parameters = Arc::clone(&parameters);
                if seeds {
                    linked.taint(Taint::Close);
                }
                linked.check_in();
                Asked::Answered { rows: answer.rows, parameters }
            }
            Ok(Err(AskError::Refused(error))) => {
                match &switch {
                    // No rollback takes a seed back.
                    Switch::Frames { scrubs, .. } if !seeds => {
                        roll_back(linked, *scrubs, before).await;
                    }
                    Switch::Frames { .. } | Switch::None => drop(linked),
                }
                Asked::Refused(error)
            }
            Ok(Err(error)) => Asked::Failed(error.to_string()),
            Err(_) => Asked::Failed(format!("the server did not answer within {limit:?}")),
        }
    }
}

/// What one client or one tenant is refused costs the others no server.
async fn roll_back(linked: Linked, scrubbed: bool, before: Known) {
    let mut linked = linked;
    if matches!(timeout(ROLL_BACK_TIME_MAX, linked.server().roll_back(scrubbed)).await, Ok(Ok(())))
    {
        linked.was_not_switched(before);
    }
}
