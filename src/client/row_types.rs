//! Functions that tenants share and that name row types: said once for each database, when its second tenant comes.
//!
//! PL/pgSQL keeps the first tenant's row types in the backend, and nothing but a new backend removes them
//! (`docs/isolation.md`, "What a backend remembers"). An operator is to hear of that before a tenant's rows are read in
//! another one's order of columns. Nobody waits for the question: it goes to a server that rests.

use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use tracing::{debug, warn};

use super::question::{Asked, Question};
use super::targets::Targets;
use crate::config::{ServerSharing, Tenant};
use crate::pool::{Checkout, Seat};
use crate::server::Target;
use crate::tenant::TenantId;

/// Functions outside the catalog whose text names a row type, or whose language keeps what it wants. The same question is in
/// `docs/isolation.md`.
const QUESTION: &str = "SELECT FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_language l \
    ON l.oid OPERATOR(pg_catalog.=) p.prolang \
    WHERE l.lanname OPERATOR(pg_catalog.<>) ALL ('{sql,c,internal}'::pg_catalog.name[]) \
    AND p.pronamespace OPERATOR(pg_catalog.<>) 'pg_catalog'::pg_catalog.regnamespace \
    AND (p.prosrc OPERATOR(pg_catalog.~*) '%\\s*(row)?type' OR l.lanname OPERATOR(pg_catalog.<>) 'plpgsql')";
/// Longest it may take.
const TIME_MAX: Duration = Duration::from_secs(5);
/// Databases remembered. Of more nothing is said.
const DATABASES_MAX: usize = 4096;

/// What is known of a database.
enum Known {
    /// One tenant has come: nobody shares anything yet.
    Alone(TenantId),
    /// It was asked.
    Asked,
}

/// Databases, by their clusters.
#[derive(Default)]
pub(super) struct RowTypes(DashMap<(String, String), Known>);

impl RowTypes {
    /// A tenant has come. If it is the second one of its database there, and shares servers, that is looked at.
    pub(super) fn note(
        &self,
        tenant: &Tenant,
        seat: &Arc<Seat>,
        target: &Arc<Target>,
        targets: &Arc<Targets>,
    ) {
        if tenant.server_sharing != ServerSharing::All || !self.is_due(tenant) {
            return;
        }
        let Some(checkout) = seat.acquire_now(target) else { return };
        self.0.insert(key(tenant), Known::Asked);
        let question = Question {
            target: Arc::clone(target),
            sql: QUESTION.to_owned(),
            limit: TIME_MAX,
            targets: Arc::clone(targets),
        };
        let database = tenant.database.clone();
        checkout.use_with(|checkout| ask(question, checkout, database));
    }

    fn is_due(&self, tenant: &Tenant) -> bool {
        if self.0.len() >= DATABASES_MAX {
            return false;
        }
        match self.0.entry(key(tenant)) {
            Entry::Vacant(entry) => {
                entry.insert(Known::Alone(tenant.id.clone()));
                false
            }
            Entry::Occupied(entry) => match entry.get() {
                Known::Alone(first) => *first != tenant.id,
                Known::Asked => false,
            },
        }
    }
}

fn key(tenant: &Tenant) -> (String, String) {
    (tenant.cluster.name.clone(), tenant.database.clone())
}

async fn ask(question: Question, checkout: Checkout, database: String) {
    match question.put(checkout).await {
        Asked::Answered { rows: 0, .. } => {}
        Asked::Answered { rows: functions, .. } => warn!(
            database,
            functions,
            "tenants share functions that name row types: a server may read one tenant's rows in another's order of columns, unless server_sharing = \"tenant\""
        ),
        Asked::Refused(error) => {
            debug!(database, %error, "functions that name row types could not be looked for");
        }
        Asked::Failed(problem) => {
            debug!(database, problem, "functions that name row types could not be looked for");
        }
    }
}
