//! Transactions that follow each other in one unit: `COMMIT AND CHAIN`, or `commit; begin` in one text.
//!
//! Where the guard is on, a session is looked at behind each transaction. What these end is behind them when the unit is
//! over, and its status is that of the next one. So the server is asked inside that, before anything else of the client's.

use std::time::Duration;

use bytes::BytesMut;
use tokio::time::timeout;

use super::events::Next;
use super::link::Link;
use super::refusal::Refusal;
use super::session::Session;
use crate::config::Guard;
use crate::tenant::{Question, Ties};

/// Longest a server may take to answer.
const OBSERVE_TIME_MAX: Duration = Duration::from_secs(5);

/// Whether a session is known to be its tenant's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verified {
    /// The server was asked, or is about to be: nothing has run since.
    Yes,
    /// Something of the client's has run.
    No,
    /// Something has run, and a transaction of it has ended.
    Chained,
}

impl Verified {
    /// Something of the client's goes to the server.
    #[inline]
    pub(super) fn on_sent(&mut self) {
        if *self == Self::Yes {
            *self = Self::No;
        }
    }

    /// What has run may have been committed.
    #[inline]
    pub(super) fn on_end(&mut self) {
        if *self == Self::No {
            *self = Self::Chained;
        }
    }
}

/// Whether a `CommandComplete` with this body may be the end of a transaction of which something stays. A `CALL` or a `DO`
/// may end some inside.
pub(super) fn ends_transaction(body: Option<&[u8]>) -> bool {
    matches!(body, Some(b"COMMIT\0" | b"PREPARE TRANSACTION\0" | b"CALL\0" | b"DO\0"))
}

impl Session {
    /// A transaction has ended that was not looked at, and the next one has begun.
    pub(super) fn is_chained(&self) -> bool {
        self.policy.guard == Guard::Reject
            && self.verified == Verified::Chained
            && self.exchange.in_block()
            && !self.exchange.is_unsynced()
    }

    /// Whether the server has to be asked before anything runs.
    pub(super) fn has_to_be_verified(&self) -> bool {
        match self.verified {
            Verified::Yes => false,
            Verified::No => !self.exchange.in_block(),
            Verified::Chained => true,
        }
    }

    /// Asks in the transaction that has begun.
    pub(super) async fn verify_inside(&mut self) -> Next {
        self.resume();
        let before = std::sync::Arc::clone(&self.target);
        let names = self.policy.guarded.iter().cloned().collect();
        let question = Question { names, ties: Ties::NONE, ..Question::default() };
        let is_sound = self.exchange.in_sound_block();
        let mut owed = BytesMut::new();
        let Some(linked) = self.undisturbed().await else { return Next::Over };
        let server = linked.server();
        let asked = async {
            if is_sound {
                server.observe_inside(&question, &before.session, &mut owed).await
            } else {
                server.observe_failed(&question, &before.session, &mut owed).await
            }
        };
        let refusal = match timeout(OBSERVE_TIME_MAX, asked).await {
            Ok(Ok(observed)) => {
                let (_, server) = observed.states(&question, &before.session, &self.home.session);
                match self.left_by(&server, &observed) {
                    None => {
                        self.verified = Verified::No;
                        self.exchange.forget_unnamed();
                        return self.tell(owed).await;
                    }
                    Some(left) => left,
                }
            }
            Ok(Err(error)) => Refusal::ServerLost { problem: error.to_string() },
            Err(_) => Refusal::ServerLost { problem: "the server did not answer in time".into() },
        };
        self.link = Link::default();
        Next::Farewell(refusal)
    }
}
