//! A server that is lent: unknown state -> the client's state -> back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::timeout;
use tracing::{debug, warn};

use super::Pools;
use super::effects::Effects;
use super::rack::ended_at_rest;
use super::sched::{Lent, Loss};
use super::seat::Seat;
use crate::server::switch::Fit;
use crate::server::{Frames, Known, Parameters, Server, Switch, Target};
use crate::wire::backend::TransactionStatus;

/// Longest a scrub may take: it drops what a session made, which may be many temporary tables.
const SCRUB_TIME_MAX: Duration = Duration::from_secs(5);

/// Holds the server and its place in all counts. Dropped, it closes the socket.
pub(super) struct Loan {
    seat: Arc<Seat>,
    server: Option<Box<Server>>,
    /// The server's; its tenant may have moved to another one meanwhile.
    pool: usize,
    /// Its session begins no transaction: the tenant is paused.
    at_rest: bool,
    /// Whose doing it is if the server goes now.
    loss: Loss,
}

impl Loan {
    pub(super) fn new(seat: Arc<Seat>, lent: Lent<Box<Server>>) -> Self {
        let (server, pool) = (Some(lent.server), lent.pool);
        Self { seat, server, pool, at_rest: false, loss: Loss::Nobodys }
    }

    fn server(&mut self) -> &mut Server {
        self.server.as_mut().expect("a loan has its server until it ends")
    }

    /// The server is about to be sent a switch, perhaps one that scrubs it: until that is confirmed,
    /// nobody knows its state.
    fn begin_switch(&mut self, target: &Arc<Target>, scrubs: bool) {
        let stats = Arc::clone(&self.seat.pools.stats);
        let server = self.server();
        stats.switches.add_one();
        if server.known.fit(target) == Fit::OtherTenant {
            let first_touch = server.tenants.add(&target.tenant);
            if first_touch {
                server.facts.warm.lock().push(target.tenant.clone());
            }
            if first_touch { &stats.cold } else { &stats.warm }.add_one();
        }
        if scrubs {
            stats.scrubs.add_one();
            server.held.clear();
        }
        server.known = Known::Unsure;
    }

    /// Hands the server to whoever is next, or lets it rest. A server past `server_lifetime` is
    /// closed instead.
    fn give_back(&mut self) {
        let Some(server) = self.server.take() else { return };
        let pools = &self.seat.pools;
        let lent = Lent { server, pool: self.pool };
        let effects = pools.desk.0.lock().put_idle(self.seat.place, lent, self.at_rest);
        if let Some(effects) = effects {
            pools.carry_out(effects);
        }
    }

    /// Closes the server, with a polite word if it is idle, and takes it out of all counts.
    fn close(&mut self, politely: bool) {
        let Some(mut server) = self.server.take() else { return };
        if self.loss == Loss::Clients && !server.is_usable() {
            self.loss = Loss::Ended;
        }
        // The socket first: as long as it is open, it counts.
        if politely {
            server.terminate();
        } else {
            drop(server);
        }
        self.free_place();
    }

    fn free_place(&self) {
        let pools = &self.seat.pools;
        let mut effects = Effects::default();
        match self.loss {
            Loss::Nobodys => {}
            Loss::Clients => drop(pools.stats.lost.add_one("client")),
            Loss::Ended | Loss::EndedAtRest(_) => drop(pools.stats.lost.add_one("server")),
        }
        let of = (self.seat.place, self.pool);
        pools.desk.0.lock().lost(of, self.at_rest, self.loss.clone(), &mut effects);
        pools.carry_out(effects);
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        self.close(false);
    }
}

/// A server in whatever state its last client left it. It can be switched, and nothing else.
pub struct Checkout(Option<Loan>);

impl Checkout {
    pub(super) const fn new(loan: Loan) -> Self {
        Self(Some(loan))
    }

    fn loan(&mut self) -> &mut Loan {
        self.0.as_mut().expect("a checkout has its loan until it ends")
    }

    pub(super) fn is_usable(&mut self) -> bool {
        self.loan().server().is_usable()
    }

    /// What it has reported of its settings.
    #[inline]
    pub fn reported(&mut self) -> &Arc<Parameters> {
        &self.loan().server().parameters
    }

    /// What it is known to be in.
    pub fn known(&mut self) -> &Known {
        &self.loan().server().known
    }

    /// Has the current worker wait for its socket: the client is the worker's own.
    pub(super) fn move_here(&mut self) -> bool {
        let moved = self.loan().server().stream().move_here();
        if let Err(problem) = &moved {
            warn!(%problem, "server closed: a worker cannot wait for it");
        }
        moved.is_ok()
    }

    /// It has ended while it rested.
    pub(super) fn close(mut self) {
        if let Some(mut loan) = self.0.take() {
            loan.loss = loan.server.as_mut().map_or(Loss::Nobodys, |server| {
                server.life.ended = true;
                ended_at_rest(server, Instant::now())
            });
        }
    }

    /// Lets a task use the server, within `Pools`' own tasks.
    ///
    /// # Panics
    /// Never: a checkout has its loan until it ends.
    pub fn use_with<F>(self, use_it: impl FnOnce(Self) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let tasks = self.0.as_ref().expect("until it ends").seat.pools.tasks.clone();
        tasks.spawn(use_it(self));
    }

    /// Binds the server to a client's state. The frames of the [`Switch`] go in front of the
    /// client's first message; until [`Linked::confirm`] the server's state counts as unsure.
    #[must_use]
    pub fn switch_to(mut self, target: &Arc<Target>) -> (Linked, Switch) {
        let mut loan = self.0.take().expect("a checkout has its loan until it ends");
        let scrub = loan.seat.pools.scrub;
        let switch = loan.server().known.switch_to(target, scrub);
        if let Switch::Frames { scrubs, .. } = switch {
            loan.begin_switch(target, scrubs);
        }
        loan.loss = Loss::Clients;
        (Linked { loan, target: Arc::clone(target), taint: Taint::None }, switch)
    }
}

impl Drop for Checkout {
    fn drop(&mut self) {
        // Nothing was sent on it: its state is what it was.
        if let Some(mut loan) = self.0.take() {
            loan.give_back();
        }
    }
}

/// What a client did to a server that the next one must not find.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Taint {
    /// Nothing.
    None,
    /// A scrub removes it.
    Scrub,
    /// Nothing removes it.
    Close,
}

/// A server in its client's state, or on the way there behind the guarded switch.
///
/// The relay takes nothing else. Dropped, it closes the socket; only [`Linked::check_in`] keeps it.
pub struct Linked {
    loan: Loan,
    target: Arc<Target>,
    taint: Taint,
}

impl Linked {
    /// The server.
    pub fn server(&mut self) -> &mut Server {
        self.loan.server()
    }

    /// What the server has reported of its settings.
    #[inline]
    #[must_use]
    pub fn reported(&self) -> &Arc<Parameters> {
        &self.loan.server.as_ref().expect("a loan has its server until it ends").parameters
    }

    /// Its process id, for a log line.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.loan.server.as_ref().map_or(0, |server| server.cancel_key.pid())
    }

    /// The session keeps it and begins no transaction, because the tenant is paused, until [`Linked::go_on`].
    pub fn rest(&mut self) {
        if !std::mem::replace(&mut self.loan.at_rest, true) {
            let seat = &self.loan.seat;
            let quiet = seat.pools.desk.0.lock().rests_with_server(seat.place);
            seat.pools.carry_out(Effects::quiet(quiet));
        }
    }

    /// The session may begin transactions again.
    pub fn go_on(&mut self) {
        if std::mem::take(&mut self.loan.at_rest) {
            let seat = &self.loan.seat;
            seat.pools.desk.0.lock().turns.goes_on_with_server(seat.place);
        }
    }

    /// PostgreSQL has confirmed the switch.
    pub fn confirm(&mut self) {
        if self.taint == Taint::None {
            let target = Arc::clone(&self.target);
            self.server().known = Known::Exactly(target);
        }
    }

    /// PostgreSQL has refused the switch, and all of it was rolled back: the server is in the state it was in `before`.
    pub fn was_not_switched(mut self, before: Known) {
        if self.taint == Taint::None {
            self.server().known = before;
            self.give_back();
        }
    }

    /// The client may leave something behind: from now on the state is unsure.
    pub fn taint(&mut self, taint: Taint) {
        if taint > self.taint {
            self.taint = taint;
            self.server().known = Known::Unsure;
        }
    }

    /// The server has said what the client left: it is in the state of `target`, and `clean` says that
    /// nothing else is there that a scrub would have to remove.
    pub fn observed(&mut self, target: &Arc<Target>, clean: bool) {
        self.target = Arc::clone(target);
        if clean && self.taint != Taint::Close {
            self.taint = Taint::None;
            self.server().known = Known::Exactly(Arc::clone(target));
        }
    }

    /// Gives the server back. It must be at rest: nothing owed, no transaction, no half message.
    ///
    /// A server that nothing can clean is closed. One that has to be scrubbed is scrubbed at once: a
    /// lock it holds would hold up others. So is one whose `idle_session_timeout` would end it while it
    /// rests. One whose cancel is under way is given back when that has ended, because until then the
    /// signal may hit whoever has it next.
    pub fn check_in(mut self) {
        match self.taint {
            Taint::None if !self.target.restless => self.give_back(),
            Taint::None | Taint::Scrub => self.finish_with(Self::scrub),
            Taint::Close => {
                debug!("server closed: what its client did cannot be undone");
                self.loan.close(true);
            }
        }
    }

    /// Frees the place of a server that is about to end.
    pub(super) fn give_up_place(&mut self) -> Option<Box<Server>> {
        let server = self.loan.server.take()?;
        self.loan.free_place();
        Some(server)
    }

    pub(super) fn pools(&self) -> &Arc<Pools> {
        &self.loan.seat.pools
    }

    pub(super) const fn pool(&self) -> usize {
        self.loan.pool
    }

    /// Asks PostgreSQL to cancel what runs on it. It is lent to nobody before that has ended.
    pub fn cancel(&mut self) {
        let cancel = self.server().cancel_key.promise();
        self.loan.seat.pools.tasks.spawn(async move {
            if let Err(error) = cancel.send().await {
                warn!(%error, "could not cancel");
            }
        });
    }

    async fn scrub(mut self) {
        // No signal of the last client's may meet it.
        Arc::clone(&self.server().cancel_key).settle().await;
        let frames = Frames::scrub();
        self.loan.seat.pools.stats.scrubs.add_one();
        let stop = self.loan.seat.pools.stop.clone();
        let scrub = timeout(SCRUB_TIME_MAX, self.server().ask(Some(&frames), ""));
        let ended = stop.run_until_cancelled(scrub).await;
        match ended.and_then(Result::ok) {
            Some(Ok(answer)) if answer.status == TransactionStatus::Idle => {
                let server = self.server();
                (server.known, server.unnamed_left) = (Known::Neutral, None);
                server.held.clear();
                self.give_back();
            }
            Some(Ok(_)) => warn!("server closed: it is in a transaction behind its scrub"),
            Some(Err(error)) => warn!(%error, "server closed: it could not be scrubbed"),
            // It may wait for somebody's lock on a temporary table, as a direct session's end would.
            None => {
                warn!("server closed: it was not scrubbed within {SCRUB_TIME_MAX:?}");
                let cancel = self.server().cancel_key.promise();
                if let Err(error) = cancel.send().await {
                    warn!(%error, "the scrub could not be cancelled");
                }
                self.end_scrub().await;
            }
        }
    }

    fn give_back(mut self) {
        let key = &self.server().cancel_key;
        if key.is_settled() && !key.is_in_doubt() {
            return self.loan.give_back();
        }
        let key = Arc::clone(key);
        let pools = Arc::clone(&self.loan.seat.pools);
        pools.tasks.spawn(async move {
            key.settle().await;
            if key.is_in_doubt() {
                warn!(pid = key.pid(), "server closed: a cancel request was not confirmed");
                drop(self);
            } else {
                self.loan.give_back();
            }
        });
    }

    /// Lets a task finish with the server, within `Pools`' own tasks.
    pub fn finish_with<F>(self, finish: impl FnOnce(Self) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let tasks = self.loan.seat.pools.tasks.clone();
        tasks.spawn(finish(self));
    }
}
