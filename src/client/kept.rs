//! After a reload: a session that keeps its server between transactions, pinned or in session mode.
//!
//! What it keeps is tied to the tenant's old state and place, so it cannot take new ones. Between two
//! transactions it ends, if the tenant is suspended, draining or gone, or lives elsewhere or in another state;
//! if the tenant is paused, it waits with what it has.

use std::time::{Duration, Instant};

use super::events::Next;
use super::link::LinkEnd;
use super::login::may_enter;
use super::refusal::Refusal;
use super::session::Session;
use crate::config::Availability;

/// Why a session in that mode keeps its server.
pub(super) const SESSION_MODE: &str = "pool_mode = \"session\"";

/// It may begin no transaction: its tenant is paused.
pub(super) struct Hold {
    /// When its client has waited for `query_wait_timeout`, if it waits.
    until: Instant,
    /// The client has sent something, and waits.
    waits: bool,
}

impl Session {
    /// Whether what the client sends next would begin a transaction that may not begin as things are.
    /// One that has begun goes on.
    #[inline]
    pub(super) fn is_held(&self) -> bool {
        (self.hold.is_some() || self.shared.is_newer(self.looked)) && self.begins_anew()
    }

    #[cold]
    fn begins_anew(&self) -> bool {
        let exchange = &self.exchange;
        let goes_on = exchange.in_block() && !exchange.is_busy();
        let inside = exchange.is_unsynced() || exchange.copies_in() || !self.units.at_boundary();
        self.link.confirmed && !goes_on && !inside
    }

    /// Goes by what holds now. It is between two transactions.
    pub(super) fn refresh_kept(&mut self) -> Next {
        let access = self.shared.access();
        let tenant = match may_enter(&self.user, &self.of.id, &access) {
            Ok(tenant) => tenant,
            Err(refusal) => return self.end_kept(refusal),
        };
        self.looked = access.number;
        if tenant.availability == Availability::Paused {
            let until = Instant::now() + tenant.quotas.query_wait_timeout;
            let waits = !self.inbound.is_empty();
            self.hold = Some(Box::new(Hold { until, waits }));
            if let Some(linked) = &mut self.link.linked {
                linked.rest();
            }
            return Next::Go;
        }
        self.hold = None;
        let stays = self.of.lives_with(&tenant)
            && self.seat.is_at(&access.clusters[&tenant.cluster.name].1)
            && self.of.baseline == tenant.baseline;
        if !stays {
            let what = self.pin.map_or(SESSION_MODE, |pin| pin.reason());
            let tenant = tenant.id.to_string();
            return self.end_kept(Refusal::LeftBehind { what, tenant });
        }
        if let Some(linked) = &mut self.link.linked {
            linked.go_on();
        }
        self.policy = access.policy(&tenant, self.by_path.is_some());
        (self.of, self.version) = (tenant, access.number);
        Next::Go
    }

    fn end_kept(&mut self, refusal: Refusal) -> Next {
        self.hold = None;
        self.part_from_server(&LinkEnd::Farewell(Box::new(Refusal::ShuttingDown)));
        Next::Farewell(refusal)
    }

    /// When it is looked whether the client of a paused tenant waits.
    pub(super) fn hold_ends(&self) -> Option<Instant> {
        self.hold.as_ref().map(|hold| hold.until)
    }

    pub(super) fn is_hold_due(&self) -> bool {
        self.hold_ends().is_some_and(|end| end <= Instant::now())
    }

    /// Whether the client of a paused tenant has sent something just now: its wait begins.
    #[inline]
    pub(super) fn begins_to_wait(&self) -> bool {
        self.hold.as_ref().is_some_and(|hold| !hold.waits)
            && !self.inbound.is_empty()
            && self.exchange.is_at_rest()
            && self.link.outbound.is_empty()
    }

    /// The client of a paused tenant waits for `query_wait_timeout`; one that has sent nothing does not wait.
    pub(super) fn look_at_hold(&mut self) -> Next {
        let patience = self
            .shared
            .access()
            .tenant(&self.of.id)
            .map_or(Duration::ZERO, |tenant| tenant.quotas.query_wait_timeout);
        match &mut self.hold {
            Some(hold) if hold.waits => {
                let (tenant, waited) = (self.of.id.to_string(), patience);
                self.end_kept(Refusal::Paused { tenant, waited })
            }
            Some(hold) => {
                hold.until = Instant::now() + patience;
                Next::Go
            }
            None => Next::Go,
        }
    }
}
