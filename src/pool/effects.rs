//! What was decided under a cluster's lock and is to be done once it is free.

use std::sync::Arc;

use super::sched::Lent;
use crate::server::Endpoint;
use crate::tenant::TenantId;

/// Mostly nothing, which costs nothing.
pub(super) struct Effects<S>(Option<Box<Todo<S>>>);

/// What there is to do.
pub(super) struct Todo<S> {
    pub(super) dials: Vec<(usize, u64, Arc<Endpoint>)>,
    /// The clock is to be looked at sooner than was thought.
    pub(super) rings: bool,
    /// A paused tenant has ended its last transaction here.
    pub(super) quiet: Option<TenantId>,
    /// Servers that are to be asked whether they are still there, and their pools.
    pub(super) checks: Vec<Lent<S>>,
    /// What exceeds quotas that are only audited: whose, and which.
    pub(super) audited: Vec<(TenantId, &'static str)>,
    /// Tenants that wait from now on for what they owe.
    pub(super) owing: Vec<TenantId>,
}

impl<S> Default for Effects<S> {
    fn default() -> Self {
        Self(None)
    }
}

impl<S> Effects<S> {
    /// Perhaps a tenant that is quiet now, and nothing else.
    pub(super) fn quiet(tenant: Option<TenantId>) -> Self {
        let mut effects = Self::default();
        effects.note_quiet(tenant);
        effects
    }

    pub(super) fn note_quiet(&mut self, tenant: Option<TenantId>) {
        if tenant.is_some() {
            self.todo().quiet = tenant;
        }
    }

    /// To write down more.
    pub(super) fn todo(&mut self) -> &mut Todo<S> {
        self.0.get_or_insert_with(|| {
            let (dials, checks) = (Vec::new(), Vec::new());
            let (audited, owing) = (Vec::new(), Vec::new());
            Box::new(Todo { dials, rings: false, quiet: None, checks, audited, owing })
        })
    }

    /// The clock is being looked at already.
    pub(super) fn silence(&mut self) {
        if let Some(todo) = &mut self.0 {
            todo.rings = false;
        }
    }

    /// What there is to do, if there is anything.
    #[inline]
    pub(super) fn into_todo(self) -> Option<Box<Todo<S>>> {
        self.0
    }
}
