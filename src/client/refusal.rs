//! What a client is told: every SQLSTATE and text, in one `match` (the longer ones in `texts`).
//!
//! <https://www.postgresql.org/docs/current/errcodes-appendix.html>

use std::time::Duration;

use bytes::BytesMut;

use super::clock::Overdue;
use super::texts::{
    Text, auth, certificate, checkout, claim, detail, draining, guarded, left_behind, left_tenant,
    long_name, may_not_claim, no_schema, no_tenant, not_admin, not_there, overdue, paused,
    pinned_too_long, setting, state, state_gone, stuck, suspended, text, ties, too_fast, too_many,
};
use crate::auth::AuthError;
use crate::pool::{CancelRegistry, CheckoutError};
use crate::server::LoginError;
use crate::tenant::ClaimError;
use crate::wire::backend::ServerError;
use crate::wire::build;

/// Whether the session goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// It does.
    Error,
    /// It ends.
    Fatal,
}

/// Everything a client can be refused for.
#[derive(Debug)]
pub enum Refusal {
    /// No source named a tenant, and there is no default.
    NoTenant {
        /// `tenant_from`, for the hint.
        accepted: Vec<String>,
    },
    /// The sources disagree, or a name is not one.
    Claim(ClaimError),
    /// The user is not allowed to be that tenant, or any.
    MayNotClaim {
        /// The user.
        user: String,
        /// The tenant.
        tenant: String,
    },
    /// The console is not for that user.
    NotAdmin {
        /// The user.
        user: String,
    },
    /// No such tenant.
    UnknownTenant {
        /// Its name.
        tenant: String,
    },
    /// PostgreSQL would cut a name that is made of the tenant's.
    LongName {
        /// The tenant.
        tenant: String,
        /// The key that says it.
        key: &'static str,
        /// The name.
        name: String,
    },
    /// The tenant's schema is not there.
    NoSchema {
        /// The schema.
        schema: String,
        /// The tenant.
        tenant: String,
    },
    /// The tenant does not live in the database the client asked for.
    UnknownDatabase {
        /// The database.
        database: String,
        /// The tenant.
        tenant: String,
    },
    /// The operator suspended the tenant.
    Suspended {
        /// The tenant.
        tenant: String,
        /// The operator's words.
        message: Option<String>,
    },
    /// The operator lets the tenant's clients go.
    Draining {
        /// The tenant.
        tenant: String,
    },
    /// The operator has disabled the tenant's database.
    Disabled {
        /// The database.
        database: String,
        /// The tenant.
        tenant: String,
    },
    /// `max_client_conn`.
    TooManyClients {
        /// The limit.
        limit: usize,
    },
    /// There are too many operators.
    TooManyConsoles,
    /// The tenant's `max_client_connections`.
    TooManyTenantClients {
        /// The tenant.
        tenant: String,
        /// The limit.
        limit: usize,
    },
    /// No server.
    Checkout {
        /// The tenant.
        tenant: String,
        /// Why.
        error: CheckoutError,
    },
    /// The server could not be put into the tenant's state.
    Switch {
        /// The tenant.
        tenant: String,
        /// PostgreSQL's words.
        error: String,
    },
    /// What the session had set for itself cannot be set any more.
    StateGone {
        /// The tenant.
        tenant: String,
        /// PostgreSQL's words.
        error: String,
    },
    /// PostgreSQL's own error.
    Server(ServerError),
    /// The server broke off while it owed an answer.
    ServerLost {
        /// What happened.
        problem: String,
    },
    /// Not authenticated.
    Auth(AuthError),
    /// The certificate is another user's.
    Certificate {
        /// The user.
        user: String,
    },
    /// The client may not start with that setting.
    Setting {
        /// Its name.
        name: String,
    },
    /// No such setting.
    UnknownSetting {
        /// Its name.
        name: String,
    },
    /// A value that setting cannot have.
    InvalidSetting {
        /// Its name.
        name: String,
        /// The value.
        value: String,
    },
    /// Clear text where TLS is required.
    TlsRequired,
    /// Something the pooler does not do.
    Unsupported {
        /// What.
        what: String,
    },
    /// The client broke the protocol.
    Protocol {
        /// How.
        problem: String,
    },
    /// The client gives a name to a second statement.
    DuplicateStatement {
        /// The name.
        name: String,
    },
    /// The setting is the tenant's, and guarded.
    Guarded {
        /// Its name.
        name: String,
    },
    /// Something that no text shows has led the session out of its tenant, and the guard is on.
    LeftTenant {
        /// The setting.
        name: String,
        /// The tenant.
        tenant: String,
    },
    /// The tenant's sessions may not keep a server.
    Ties {
        /// The statement.
        what: &'static str,
        /// The tenant.
        tenant: String,
    },
    /// The session has kept its server for too long.
    PinnedTooLong {
        /// What it kept it for.
        what: &'static str,
        /// The limit.
        limit: Duration,
    },
    /// The session kept a server that its tenant has left behind.
    LeftBehind {
        /// What it kept it for.
        what: &'static str,
        /// The tenant.
        tenant: String,
    },
    /// The operator has paused the tenant, and the session, which keeps its server, has waited.
    Paused {
        /// The tenant.
        tenant: String,
        /// How long, at least.
        waited: Duration,
    },
    /// Its clients come too fast.
    TooFast {
        /// The tenant.
        tenant: String,
        /// `max_connection_rate`.
        limit: u32,
    },
    /// Its transaction has taken too long.
    Overdue {
        /// What of it.
        what: Overdue,
        /// The limit.
        limit: Duration,
    },
    /// The client never gave a statement that name.
    UnknownStatement {
        /// The name.
        name: String,
    },
    /// The start-up packet names no user.
    NoUser,
    /// The client did not prove in time who it is.
    LoginTimedOut,
    /// A cancel request ended the wait for a server.
    Cancelled,
    /// The session made no progress.
    Stuck,
    /// An operator has ended the session.
    Killed,
    /// The pooler stops.
    ShuttingDown,
}

impl Refusal {
    /// Appends the `ErrorResponse`.
    pub fn write(&self, severity: Severity, out: &mut BytesMut) {
        let severity = match severity {
            Severity::Error => "ERROR",
            Severity::Fatal => "FATAL",
        };
        let severities = [(b'S', severity.to_owned()), (b'V', severity.to_owned())];
        if let Some(error) = self.servers_own() {
            let own = error.clone().completed().fields;
            let own = own.into_iter().filter(|(code, _)| !matches!(code, b'S' | b'V'));
            return build::error_response(severities.into_iter().chain(own).collect(), out);
        }
        let (sqlstate, message, detail, hint) = self.text();
        let mut fields = severities.to_vec();
        fields.extend([(b'C', sqlstate.to_owned()), (b'M', message)]);
        fields.extend(detail.map(|text| (b'D', text)));
        fields.extend(hint.map(|text| (b'H', text)));
        build::error_response(fields, out);
    }

    /// The error of PostgreSQL that goes on as it is. Not one by which it does not let the pooler's role in: a client
    /// would take it for its own wrong password.
    fn servers_own(&self) -> Option<&ServerError> {
        let (Self::Server(error)
        | Self::Checkout { error: CheckoutError::Login(LoginError::Refused(error)), .. }
        | Self::Checkout {
            error: CheckoutError::TimedOut { login: Some(LoginError::Refused(error)), .. },
            ..
        }) = self
        else {
            return None;
        };
        (!error.sqlstate().starts_with("28")).then_some(error)
    }

    /// What was known of the tenant holds no more: with what holds now it may be no refusal.
    #[must_use]
    pub const fn is_outdated(&self) -> bool {
        matches!(self, Self::Checkout { error: CheckoutError::Moved, .. })
    }

    /// What the client showed is not what proves that it is the user.
    #[must_use]
    pub const fn is_failed_proof(&self) -> bool {
        matches!(self, Self::Auth(AuthError::Failed { .. } | AuthError::NotOwner { .. }))
    }

    /// A login that is refused for what the client asks or what its tenant is, and will be refused again.
    #[must_use]
    pub const fn is_of_request(&self) -> bool {
        matches!(
            self,
            Self::NoTenant { .. }
                | Self::Claim(_)
                | Self::MayNotClaim { .. }
                | Self::UnknownTenant { .. }
                | Self::LongName { .. }
                | Self::UnknownDatabase { .. }
                | Self::Suspended { .. }
                | Self::Draining { .. }
                | Self::Disabled { .. }
                | Self::TooManyTenantClients { .. }
                | Self::TooFast { .. }
                | Self::Setting { .. }
                | Self::UnknownSetting { .. }
                | Self::InvalidSetting { .. }
                | Self::Guarded { .. }
                // PostgreSQL has refused the state, or the login.
                | Self::Server(_)
                | Self::Switch { .. }
                | Self::NoSchema { .. }
                | Self::Checkout { error: CheckoutError::Login(_), .. }
        )
    }

    /// The same, with what the list of clients says of who holds the servers.
    pub(super) fn with_oldest(self, clients: &CancelRegistry) -> Self {
        match self {
            Self::Checkout { tenant, error } => {
                Self::Checkout { tenant, error: clients.with_oldest(error) }
            }
            other => other,
        }
    }

    /// The quota it is refused for, if it is one.
    #[must_use]
    pub const fn quota(&self) -> Option<&'static str> {
        match self {
            Self::TooManyTenantClients { .. } => Some("max_client_connections"),
            Self::TooFast { .. } => Some("max_connection_rate"),
            Self::Checkout { error: CheckoutError::QueueFull { .. }, .. } => {
                Some("max_waiting_clients")
            }
            Self::Checkout { error: CheckoutError::TimedOut { .. }, .. } => {
                Some("query_wait_timeout")
            }
            Self::Overdue { what, .. } => Some(what.setting()),
            _ => None,
        }
    }

    /// SQLSTATE and message, for the log.
    #[must_use]
    pub fn summary(&self) -> (String, String) {
        match self.servers_own() {
            Some(error) => (error.sqlstate().to_owned(), error.message().to_owned()),
            None => {
                let (sqlstate, message, ..) = self.text();
                (sqlstate.to_owned(), message)
            }
        }
    }

    fn text(&self) -> Text {
        match self {
            Self::NoTenant { accepted } => no_tenant(accepted),
            Self::Claim(error) => claim(error),
            Self::MayNotClaim { user, tenant } => may_not_claim(user, tenant),
            Self::NotAdmin { user } => not_admin(user),
            Self::UnknownTenant { tenant } => {
                text("3D000", format!("tenant \"{tenant}\" does not exist"))
            }
            Self::LongName { tenant, key, name } => long_name(tenant, key, name),
            Self::NoSchema { schema, tenant } => no_schema(schema, tenant),
            Self::UnknownDatabase { database, tenant } => not_there(database, tenant),
            Self::Suspended { tenant, message } => suspended(tenant, message.as_ref()),
            Self::Draining { tenant } => draining(tenant),
            Self::Disabled { database, .. } => {
                text("57P03", format!("database \"{database}\" is disabled"))
            }
            Self::TooFast { tenant, limit } => too_fast(tenant, *limit),
            Self::Overdue { what, limit } => overdue(*what, *limit),
            Self::TooManyClients { limit } => too_many(
                "sorry, too many clients already".to_owned(),
                format!("{limit} clients are connected."),
                "The limit is the setting general.max_client_conn.",
            ),
            Self::TooManyConsoles => {
                text("53300", "sorry, too many sessions of the console already")
            }
            Self::TooManyTenantClients { tenant, limit } => too_many(
                format!("too many connections for tenant \"{tenant}\""),
                format!("{limit} clients of the tenant are connected."),
                "The limit is the tenant's setting max_client_connections.",
            ),
            Self::Checkout { tenant, error } => checkout(tenant, error),
            Self::Switch { tenant, error } => state(tenant, error),
            Self::StateGone { tenant, error } => state_gone(tenant, error),
            Self::Server(error) => text("XX000", error.message()),
            Self::ServerLost { problem } => {
                detail(text("08006", "server closed the connection unexpectedly"), problem.clone())
            }
            Self::Auth(error) => auth(error),
            Self::Certificate { user } => certificate(user),
            Self::Setting { name } => setting(name),
            Self::UnknownSetting { name } => {
                text("42704", format!("unrecognized configuration parameter \"{name}\""))
            }
            Self::InvalidSetting { name, value } => {
                text("22023", format!("invalid value for parameter \"{name}\": \"{value}\""))
            }
            Self::TlsRequired => text("28000", "connection requires TLS"),
            Self::Unsupported { what } => text("0A000", what.clone()),
            Self::Protocol { problem } => text("08P01", problem.clone()),
            Self::Guarded { name } => guarded(name),
            Self::LeftTenant { name, tenant } => left_tenant(name, tenant),
            Self::Ties { what, tenant } => ties(what, tenant),
            Self::PinnedTooLong { what, limit } => pinned_too_long(what, *limit),
            Self::LeftBehind { what, tenant } => left_behind(what, tenant),
            Self::Paused { tenant, waited } => paused(tenant, *waited),
            Self::UnknownStatement { name } => {
                text("26000", format!("prepared statement \"{name}\" does not exist"))
            }
            Self::DuplicateStatement { name } => {
                text("42P05", format!("prepared statement \"{name}\" already exists"))
            }
            Self::Stuck => stuck(),
            Self::Cancelled => text("57014", "canceling statement due to user request"),
            Self::NoUser => text("28000", "no PostgreSQL user name specified in startup packet"),
            Self::LoginTimedOut => text("57014", "canceling authentication due to timeout"),
            Self::Killed | Self::ShuttingDown => {
                text("57P01", "terminating connection due to administrator command")
            }
        }
    }
}
