//! After a reload: whose session this is, looked at again.
//!
//! Before the next transaction, never in the middle of one: a session takes its tenant's new state, its new
//! home and its new policy, or ends, because the tenant is gone, suspended, or the user's no longer. What the
//! client has set for itself stays.

use std::sync::Arc;

use tracing::debug;

use super::Access;
use super::events::Next;
use super::login::{may_enter, take_seat};
use super::refusal::Refusal;
use super::session::{Session, Stage};
use crate::config::{Availability, Tenant};
use crate::tenant::SessionState;

impl Session {
    /// Goes by what holds now.
    pub(super) async fn refresh(&mut self) -> Next {
        loop {
            let access = self.shared.access();
            let tenant = match may_enter(&self.user, &self.of.id, &access) {
                Ok(tenant) => tenant,
                Err(refusal) => return Next::Farewell(refusal),
            };
            self.looked = access.number;
            if self.stage == Stage::Idle {
                return Next::Go;
            }
            // A paused tenant's clients wait where they are; where they go is looked at when they are let go.
            let paused = tenant.availability == Availability::Paused;
            let renewed = if paused { Ok(()) } else { self.renew(&tenant, &access).await };
            match renewed {
                Ok(()) => {
                    self.version = access.number;
                    return Next::Go;
                }
                Err(refusal) if refusal.is_outdated() => {}
                // Nothing is half done: it is tried again before the next transaction.
                Err(refusal) => return self.refuse_unit(&refusal).await,
            }
        }
    }

    /// Takes over the tenant's state, home and policy.
    async fn renew(&mut self, tenant: &Arc<Tenant>, access: &Access) -> Result<(), Refusal> {
        let old = Arc::clone(&self.of);
        let pools = &access.clusters[&tenant.cluster.name].1;
        let moves = !old.lives_with(tenant) || !self.seat.is_at(pools);
        if moves || old.baseline != tenant.baseline {
            let own = self.target.session.beyond(&old.baseline);
            let home = tenant.baseline.overlay(&self.home.session.beyond(&old.baseline));
            let state = tenant.baseline.overlay(&own);
            let seat = if self.seat.is_at(pools) {
                Arc::clone(&self.seat)
            } else {
                take_seat(tenant, access, &self.shared)?
            };
            // Whether the tenant's schema is there is asked once, wherever it lives now.
            let (welcomes, targets) = (&self.shared.welcomes, &self.shared.targets);
            let welcome = welcomes.get(tenant, &state, &own, &seat, targets).await?;
            debug!(
                tenant = tenant.id.as_str(),
                moves, "session goes on with its tenant's new state"
            );
            self.home = self.shared.targets.get(&tenant.id, home);
            (self.target, self.seat) = (welcome.target, seat);
        }
        self.policy = access.policy(tenant, self.by_path.is_some());
        if let Some(path) = &mut self.by_path {
            // Who the path names is looked up again.
            path.seen = self.shared.targets.get(&tenant.id, SessionState::default());
        }
        self.of = Arc::clone(tenant);
        self.tally = self.shared.stats.tallies.of(&tenant.id, &tenant.database);
        Ok(())
    }
}
