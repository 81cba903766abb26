//! `transaction_timeout`, `idle_transaction_timeout`, `query_timeout`: by the pooler's own clock, because a
//! client can set PostgreSQL's to 0.
//!
//! A session has a timer only while it holds a server and its tenant has such a limit; that its transaction is idle is
//! noted without a limit too, for who wants to know it. The timer is set once
//! and looks, when it ends, how far the transaction of that moment is; so a transaction that is over in time
//! costs a look at the clock and no timer of its own.

use std::task::Context;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use tracing::info;

use super::departure::DRAIN_TIME_MAX;
use super::events::Next;
use super::link::LinkEnd;
use super::refusal::{Refusal, Severity};
use super::session::{Session, Stage};
use crate::engine::tick;
use crate::wire::backend::{ServerError, TransactionStatus};

/// How long a cancelled statement may take to end. A function can catch the cancel and go on.
const CANCELLED_TIME_MAX: Duration = Duration::from_secs(5);

/// A client that has left while more of what it sent waits behind a statement that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Left {
    /// It is there.
    #[default]
    No,
    /// Since then; the timer does not know yet.
    Noticed(Instant),
    /// Since then; the timer runs.
    Timed(Instant),
}

/// What a session's transaction is doing, and since when.
pub(super) struct Watch {
    state: State,
    /// Since when it is in that state, or runs its present statement.
    since: Instant,
    /// Since when it holds its server for this transaction.
    began: Instant,
    /// When its present statement was cancelled.
    cancelled: Option<Instant>,
    /// What is too long is only audited, and was counted: the turn, the transaction.
    counted: (bool, bool),
    /// The timer runs.
    armed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// No transaction.
    Rest,
    /// PostgreSQL owes an answer.
    Busy,
    /// The client is to say what comes next.
    Idle,
}

/// What has taken too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overdue {
    /// The transaction.
    Transaction,
    /// Its client, to go on.
    IdleInTransaction,
    /// A statement.
    Query,
}

impl Watch {
    const fn new(now: Instant, armed: bool) -> Self {
        let (state, counted) = (State::Busy, (false, false));
        Self { state, since: now, began: now, cancelled: None, counted, armed }
    }

    /// Something else begins; with it perhaps a transaction.
    fn begin(&mut self, state: State, transaction: bool) {
        let now = tick().instant();
        (self.state, self.since, self.cancelled, self.counted.0) = (state, now, None, false);
        if transaction {
            (self.began, self.counted.1) = (now, false);
        }
    }

    /// All that was sent together has ended (what each statement of it takes is not seen: PostgreSQL keeps
    /// its answers until the end); outside a block, the transaction too.
    pub(super) fn ready(&mut self, status: TransactionStatus) {
        self.begin(self.state, status == TransactionStatus::Idle);
    }
}

impl Overdue {
    /// The setting that limits it.
    #[must_use]
    pub const fn setting(self) -> &'static str {
        match self {
            Self::Transaction => "transaction_timeout",
            Self::IdleInTransaction => "idle_transaction_timeout",
            Self::Query => "query_timeout",
        }
    }
}

impl Session {
    /// It holds a server now.
    pub(super) fn watch_link(&mut self) {
        let now = tick().instant();
        let armed = self.watch.as_ref().is_some_and(|watch| watch.armed);
        let watch = Watch::new(now, armed);
        match &mut self.watch {
            Some(known) => **known = watch,
            None => self.watch = Some(Box::new(watch)),
        }
    }

    /// Whether the timer has to be set.
    #[inline]
    pub(super) fn has_to_be_armed(&self) -> bool {
        matches!(self.link.left, Left::Noticed(_))
            || self.watch.as_ref().is_some_and(|watch| !watch.armed) && self.policy.timeouts.any()
    }

    /// The client has left, and nothing says so to the statement that runs: it gets as long as that of a client that has left
    /// nothing behind it.
    pub(super) fn note_left(&mut self, cx: &Context<'_>) {
        if self.link.left == Left::No && self.exchange.is_busy() {
            self.link.left = Left::Noticed(Instant::now());
            cx.waker().wake_by_ref();
        }
    }

    fn left_for_too_long(&self) -> Option<Instant> {
        match self.link.left {
            Left::Noticed(since) | Left::Timed(since) => Some(since + DRAIN_TIME_MAX),
            Left::No => None,
        }
    }

    /// Whoever's turn it was, it may be the other's now.
    pub(super) fn watch_turn(&mut self) {
        let state = match (self.exchange.is_at_rest(), self.exchange.is_busy()) {
            (true, _) => State::Rest,
            (false, true) => State::Busy,
            (false, false) => State::Idle,
        };
        let Some(watch) = &mut self.watch else { return };
        if watch.state != state {
            if state == State::Idle || watch.state == State::Idle {
                self.registration.slot.note_idle((state == State::Idle).then(tick));
            }
            watch.begin(state, watch.state == State::Rest);
        }
    }

    /// What the timer is set to: when something will be overdue if nothing happens, and no later than what
    /// begins in this moment may take.
    pub(super) fn watch_ends(&mut self) -> Option<Instant> {
        if !self.holds_server() {
            // A client without a server keeps nothing.
            self.watch = None;
            return None;
        }
        self.watch.as_mut()?.armed = true;
        if let Left::Noticed(since) = self.link.left {
            self.link.left = Left::Timed(since);
        }
        let overdue = self.overdue_at().map(|(end, _)| end);
        let shortest = self.policy.timeouts.shortest().map(|limit| Instant::now() + limit);
        overdue.into_iter().chain(shortest).chain(self.left_for_too_long()).min()
    }

    fn holds_server(&self) -> bool {
        matches!(self.stage, Stage::Linked { .. }) && self.link.linked.is_some()
    }

    fn overdue_at(&self) -> Option<(Instant, Overdue)> {
        let watch = self.watch.as_ref().filter(|_| self.holds_server())?;
        let limits = &self.policy.timeouts;
        let at = |from: Instant, limit: Option<Duration>, what| Some((from + limit?, what));
        let of_turn = match (watch.state, watch.cancelled) {
            (State::Rest, _) => return None,
            (State::Busy, Some(then)) => at(then, Some(CANCELLED_TIME_MAX), Overdue::Query),
            (State::Busy, None) => at(watch.since, limits.query, Overdue::Query),
            (State::Idle, _) => {
                at(watch.since, limits.idle_transaction, Overdue::IdleInTransaction)
            }
        };
        let of_all = at(watch.began, limits.transaction, Overdue::Transaction);
        let of_turn = of_turn.filter(|_| !watch.counted.0);
        let of_all = of_all.filter(|_| !watch.counted.1);
        of_turn.into_iter().chain(of_all).min_by_key(|(end, _)| *end)
    }

    /// The timer has ended: something may be overdue.
    pub(super) async fn look_at_clock(&mut self) -> Next {
        let now = Instant::now();
        if self.left_for_too_long().is_some_and(|end| end <= now) && self.holds_server() {
            let cancelled = self.part_from_server(&LinkEnd::ClientLeft);
            return self.on_link_end(LinkEnd::ClientLeft, cancelled).await;
        }
        let Some((_, what)) = self.overdue_at().filter(|(end, _)| *end <= now) else {
            return Next::Go;
        };
        let limits = &self.policy.timeouts;
        let limit = match what {
            Overdue::Transaction => limits.transaction,
            Overdue::IdleInTransaction => limits.idle_transaction,
            Overdue::Query => limits.query,
        };
        let refusal = Refusal::Overdue { what, limit: limit.unwrap_or_default() };
        let audited = self.is_only_audited(what.setting());
        let Some(watch) = &mut self.watch else { return Next::Go };
        if audited {
            match what {
                Overdue::Transaction => watch.counted.1 = true,
                Overdue::IdleInTransaction | Overdue::Query => watch.counted.0 = true,
            }
            return Next::Go;
        }
        let was_cancelled = watch.cancelled.replace(now).is_some();
        if what != Overdue::Query || was_cancelled {
            let end = self.last_word(refusal);
            let cancelled = self.part_from_server(&end);
            return self.on_link_end(end, cancelled).await;
        }
        self.shared.count_refusal(&refusal, Some(&self.tally));
        let tenant = self.tenant();
        info!(tenant, user = &*self.user, limit = ?limit, "statement cancelled: query_timeout");
        if let Some(linked) = &mut self.link.linked {
            linked.cancel();
        }
        Next::Go
    }

    /// Of a statement that was cancelled for its time: PostgreSQL says that the user did it.
    pub(super) fn named_limit(&self, error: &ServerError) -> Option<Vec<u8>> {
        self.watch.as_ref()?.cancelled.filter(|_| error.sqlstate() == "57014")?;
        let limit = self.policy.timeouts.query?;
        let mut told = BytesMut::new();
        Refusal::Overdue { what: Overdue::Query, limit }.write(Severity::Error, &mut told);
        Some(told.into())
    }
}
