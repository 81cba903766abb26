//! A transaction that may have changed the session is over: the server is asked what it left, before
//! it can be anybody else's and while the client already has its answer.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::time::timeout;
use tracing::info;

use super::changes::{Changes, Pinned, SETTINGS_LEN_MAX, SETTINGS_MAX};
use super::events::Next;
use super::link::Link;
use super::refusal::Refusal;
use super::session::Session;
use crate::config::{Guard, OnSessionState};
use crate::pool::Taint;
use crate::server::{AskError, Frames, ObserveError, Target};
use crate::tenant::{Observed, Question, SessionState, Ties};
use crate::wire::backend::TransactionStatus;

/// Longest a server may take to say what a client left, or to put a session's state back.
const OBSERVE_TIME_MAX: Duration = Duration::from_secs(5);

/// Whether a state is small enough to be followed.
fn fits(session: &SessionState) -> bool {
    session.settings().count() <= SETTINGS_MAX && session.size() <= SETTINGS_LEN_MAX
}

fn silent() -> Refusal {
    Refusal::ServerLost { problem: "the server did not answer in time".to_owned() }
}

impl Session {
    /// Asks, and follows: the session's state is what the server says, over the session's home.
    pub(super) async fn observe(&mut self) -> Next {
        self.resume();
        self.is_pin_timed = self.pinned_since.is_some();
        let Some(changes) = self.changes.take() else { return Next::Go };
        let before = Arc::clone(&self.target);
        let mut question = changes.question(&before.session);
        if matches!(self.pin, Some(Pinned::Tied(_))) || changes.may_prove_reset {
            // What it is tied by may be anything by now, and must not be taken for gone.
            question.ties = Ties::ALL;
        }
        let mut owed = BytesMut::new();
        // The question drops it.
        self.exchange.forget_unnamed();
        let Some(linked) = self.undisturbed().await else { return Next::Over };
        let asked = linked.server().observe(&question, &before.session, &mut owed);
        let refusal = match timeout(OBSERVE_TIME_MAX, asked).await {
            Ok(Ok(observed)) => {
                match self.follow(&changes, &question, &observed, &mut owed).await {
                    Ok(()) => return self.tell(owed).await,
                    Err(refusal) => refusal,
                }
            }
            // Whatever the reason, such as a statement_timeout of 1 ms: it stays with its server.
            Ok(Err(ObserveError::Refused(error))) if self.policy.guard == Guard::Reject => {
                let tenant = self.tenant().to_owned();
                self.span().in_scope(|| info!(%error, "server would not say what the client left"));
                Refusal::LeftTenant { name: "(it could not be asked for)".to_owned(), tenant }
            }
            Ok(Err(ObserveError::Refused(error))) => {
                self.span().in_scope(|| info!(%error, "server would not say what the client left"));
                self.pin_to_server(Pinned::Lasting("state that could not be asked for"));
                return self.tell(owed).await;
            }
            Ok(Err(ObserveError::Lost(error))) => {
                Refusal::ServerLost { problem: error.to_string() }
            }
            Err(_) => silent(),
        };
        // What the client did is lost with it.
        self.link = Link::default();
        Next::Farewell(refusal)
    }

    /// The server has reported all that may have changed: it need not be asked. `false`: it must be.
    pub(super) fn follow_reports(&mut self) -> bool {
        let Some(linked) = self.link.linked.as_mut().filter(|_| self.pin.is_none()) else {
            return false;
        };
        let Some(changes) = &self.changes else { return true };
        let before = &self.target.session;
        let reported = changes.reported(before, &linked.server().parameters);
        let Some(observed) = reported else { return false };
        let question = changes.question(before);
        let (session, _) = observed.states(&question, before, &self.home.session);
        let guarded = self.without_guarded(session.clone()) != session;
        if guarded || session.names_temporary_schema() || !fits(&session) {
            return false;
        }
        self.changes = None;
        self.target = self.target_of(session);
        let reported = self.reported();
        self.pin_if_unreadable(&reported);
        if self.pin.is_none() && self.taint != Taint::Close {
            self.taint = Taint::None;
        }
        if let Some(linked) = &mut self.link.linked {
            linked.observed(&self.target, self.taint == Taint::None);
        }
        true
    }

    /// Inside a transaction RESET has gone below the session's home: puts back what it reset, there, so
    /// that a rollback takes back both.
    pub(super) async fn restore(&mut self) -> Next {
        self.resume();
        let (before, home) = (Arc::clone(&self.target), Arc::clone(&self.home));
        let question = match &mut self.changes {
            Some(changes) => {
                changes.is_below_home = false;
                Question { ties: Ties::NONE, ..changes.question(&before.session) }
            }
            None => return Next::Go,
        };
        let mut owed = BytesMut::new();
        let Some(linked) = self.undisturbed().await else { return Next::Over };
        let restore = async {
            let server = linked.server();
            let observed = server.observe_inside(&question, &before.session, &mut owed).await?;
            let (session, lower) = observed.states(&question, &before.session, &home.session);
            let frames = Frames::inside(&session.statements_from(&lower));
            server.ask(Some(&frames), "").await
        };
        let problem = match timeout(OBSERVE_TIME_MAX, restore).await {
            Ok(Ok(answer)) if answer.status == TransactionStatus::InBlock => {
                self.exchange.forget_unnamed();
                return self.tell(owed).await;
            }
            Ok(Ok(_)) => "the transaction has ended".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the server did not answer in time".to_owned(),
        };
        // The transaction cannot go on as the client left it.
        self.link = Link::default();
        let tenant = self.tenant().to_owned();
        Next::Farewell(Refusal::Switch { tenant, error: problem })
    }

    async fn follow(
        &mut self,
        changes: &Changes,
        question: &Question,
        observed: &Observed,
        owed: &mut BytesMut,
    ) -> Result<(), Refusal> {
        let (before, home) = (&self.target.session, &self.home.session);
        let (session, server) = observed.states(question, before, home);
        let proven = changes.may_prove_reset && changes.has_discarded && !observed.is_too_long;
        // A RESET that the text shows has been followed by what leads back, or is now.
        if !question.resets
            && let Some(left) = self.left_by(&server, observed)
        {
            return Err(left);
        }
        let session = self.without_guarded(session);
        if self.policy.on_session_state == OnSessionState::Reject
            && let Some(tie) = observed.ties.iter().next()
        {
            // Made where the text does not show it: too late for an error.
            let tenant = self.target.tenant.to_string();
            return Err(Refusal::Ties { what: tie.name(), tenant });
        }
        self.unpin(observed, proven);
        let fits = fits(&session) && !observed.is_too_long;
        if fits {
            self.target = self.target_of(session);
        } else {
            self.pin_to_server(Pinned::Lasting("more settings than are followed"));
        }
        let reported = self.reported();
        self.pin_if_unreadable(&reported);
        let back =
            (fits && !self.is_other_user).then(|| self.target.session.statements_from(&server));
        let Some(linked) = &mut self.link.linked else { return Ok(()) };
        if let Some(statements) = back.filter(|statements| !statements.is_empty()) {
            // RESET has gone below the session's home.
            let frames = Frames::guarded(&[], &statements);
            let asked = timeout(OBSERVE_TIME_MAX, linked.server().ask(Some(&frames), "")).await;
            match asked.map_err(|_| silent())? {
                Ok(answer) => owed.unsplit(answer.notifications),
                Err(AskError::Refused(error)) => {
                    let (tenant, error) = (self.target.tenant.to_string(), error.to_string());
                    return Err(Refusal::Switch { tenant, error });
                }
                Err(error) => return Err(Refusal::ServerLost { problem: error.to_string() }),
            }
        }
        linked.server().unnamed_left = None;
        if self.pin.is_none() && self.taint != Taint::Close {
            self.taint = Taint::None;
        }
        linked.observed(&self.target, self.taint == Taint::None);
        Ok(())
    }

    /// Keeps the session on its server only for what is still there.
    fn unpin(&mut self, observed: &Observed, proven: bool) {
        let lasts =
            matches!(self.pin, Some(Pinned::Lasting(_))) && !(proven && self.taint != Taint::Close);
        match observed.ties.iter().next() {
            _ if lasts => {}
            Some(tie) => self.pin_to_server(Pinned::Tied(tie.name())),
            None => {
                self.pinned_since = None;
                (self.has_own_names, self.is_other_user) = (false, false);
                if let Some(pin) = self.pin.take() {
                    self.registration.slot.pin(None);
                    let reason = pin.reason();
                    self.span().in_scope(|| info!(reason, "session no longer pinned"));
                }
            }
        }
    }

    /// Prepared once for all clients in the same state.
    pub(super) fn target_of(&self, session: SessionState) -> Arc<Target> {
        for known in [&self.target, &self.home] {
            if known.session == session {
                return Arc::clone(known);
            }
        }
        self.shared.targets.get(&self.target.tenant, session)
    }
}
