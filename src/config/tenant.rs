//! A tenant as the configuration has it: where it lives, its state, its quotas, what its clients may do.

use std::sync::Arc;
use std::time::Duration;

use super::Cluster;
use super::secret::Secret;
use crate::tenant::{GucName, SessionState, TenantId, Value};

/// A tenant as the configuration has it: where it lives, its state, its quotas.
#[derive(Debug)]
pub struct Tenant {
    /// Its name.
    pub id: TenantId,
    /// The PostgreSQL it lives in.
    pub cluster: Arc<Cluster>,
    /// Its database.
    pub database: String,
    /// The role the pooler logs in as.
    pub user: String,
    /// That role's password.
    pub password: Option<Secret>,
    /// The schema that must exist, if it lives in one.
    pub schema: Option<String>,
    /// Role and settings below every client's own.
    pub baseline: SessionState,
    /// Settings of the baseline that the operator named: a client may not start with another value.
    pub fixed_settings: Vec<GucName>,
    /// Who else uses its servers.
    pub server_sharing: ServerSharing,
    /// Its limits.
    pub quotas: Quotas,
    /// What its clients may do to their sessions.
    pub policy: Policy,
    /// Whether it may connect.
    pub availability: Availability,
}

impl Availability {
    /// The word for it, as it is written.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::ReadOnly => "read_only",
            Self::Paused => "paused",
            Self::Draining => "draining",
            Self::Suspended { .. } => "suspended",
        }
    }

    /// Whether its clients may come, and stay.
    #[must_use]
    pub const fn lets_in(&self) -> bool {
        match self {
            Self::Active | Self::ReadOnly | Self::Paused => true,
            Self::Draining | Self::Suspended { .. } => false,
        }
    }

    /// Whether its transactions run.
    #[must_use]
    pub const fn is_served(&self) -> bool {
        match self {
            Self::Active | Self::ReadOnly => true,
            Self::Paused | Self::Draining | Self::Suspended { .. } => false,
        }
    }
}

impl Tenant {
    /// Whether another version of it uses the same servers.
    #[must_use]
    pub fn lives_with(&self, other: &Self) -> bool {
        let place = |it: &Self| (it.cluster.name.clone(), it.database.clone(), it.user.clone());
        let shared = self.server_sharing == other.server_sharing;
        shared && place(self) == place(other) && self.schema == other.schema
    }

    /// A key whose name PostgreSQL would cut, and the name: then it could be another tenant's.
    #[must_use]
    pub fn cut_name(&self) -> Option<(&'static str, &str)> {
        let path = match self.baseline.get("search_path") {
            Some(Value::Names(names)) => &**names,
            Some(Value::Text(_)) | None => &[],
        };
        let of_path = path.iter().map(|name| ("search_path", name.as_str()));
        let named = [
            ("schema", self.schema.as_deref()),
            ("role", self.baseline.role()),
            ("database", Some(&*self.database)),
            ("user", Some(&*self.user)),
        ];
        let named = named.into_iter().filter_map(|(key, name)| Some((key, name?)));
        named.chain(of_path).find(|(_, name)| name.len() > IDENTIFIER_LEN_MAX)
    }
}

/// Longest name of a schema, a role or a database, in bytes: PostgreSQL cuts the rest off (`NAMEDATALEN - 1`).
///
/// <https://www.postgresql.org/docs/current/sql-syntax-lexical.html#SQL-SYNTAX-IDENTIFIERS>
pub const IDENTIFIER_LEN_MAX: usize = 63;

/// `state` of a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Availability {
    /// It may.
    Active,
    /// It may, and its transactions are read-only unless they say otherwise.
    ReadOnly,
    /// It may, and its transactions wait.
    Paused,
    /// It may not; its sessions end with their transactions.
    Draining,
    /// It may not; clients are told why.
    Suspended {
        /// `message`, the operator's words.
        message: Option<String>,
    },
}

/// What a tenant's clients may do to their sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// `guard`.
    pub guard: Guard,
    /// `on_session_state`.
    pub on_session_state: OnSessionState,
    /// Longest a session may keep its server between transactions.
    pub max_pin_time: Option<Duration>,
    /// How long its transactions may take.
    pub timeouts: Timeouts,
    /// Settings that are the tenant's: the search_path, the role, and those the operator named.
    pub guarded: Vec<GucName>,
}

/// `guard`: what happens to statements that set what belongs to the tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    /// They run.
    Off,
    /// They run, and are counted and logged.
    Audit,
    /// They are refused.
    Reject,
}

/// `on_session_state`: what happens to statements that tie a session to its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnSessionState {
    /// The session keeps its server.
    Pin,
    /// They are refused.
    Reject,
}

/// `server_sharing`: who else uses a tenant's servers, one after another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerSharing {
    /// All tenants of the same database and login role.
    All,
    /// Nobody: a server serves one tenant as long as it lives.
    Tenant,
}

/// What a tenant may use; the names are those of the settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quotas {
    /// Clients connected at once; one more is refused.
    pub max_client_connections: usize,
    /// Servers lent at once; one more client waits.
    pub max_server_connections: usize,
    /// Servers that nobody else gets while the tenant has clients.
    pub guaranteed_server_connections: usize,
    /// Its share of servers that are short, beside others' weights.
    pub weight: u32,
    /// Clients waiting at once; one more is refused.
    pub max_waiting_clients: usize,
    /// Longest wait for a server.
    pub query_wait_timeout: Duration,
    /// Clients that may come in a second; one more is refused.
    pub max_connection_rate: Option<u32>,
    /// Whether what exceeds them is refused.
    pub mode: QuotaMode,
}

/// `quota_mode`: what happens to what exceeds a quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuotaMode {
    /// It is refused.
    Enforce,
    /// It is counted and logged, and goes on. Limits on servers hold all the same.
    Audit,
}

/// How long a tenant's transactions may take, by the pooler's own clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timeouts {
    /// `transaction_timeout`: as a whole; then the session ends.
    pub transaction: Option<Duration>,
    /// `idle_transaction_timeout`: between two statements; then the session ends.
    pub idle_transaction: Option<Duration>,
    /// `query_timeout`: a statement; then it is cancelled.
    pub query: Option<Duration>,
}

impl Timeouts {
    /// Whether there is a limit.
    #[must_use]
    pub const fn any(&self) -> bool {
        self.transaction.is_some() || self.idle_transaction.is_some() || self.query.is_some()
    }

    /// The shortest of them.
    #[must_use]
    pub fn shortest(&self) -> Option<Duration> {
        [self.transaction, self.idle_transaction, self.query].into_iter().flatten().min()
    }
}

/// An effective setting and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explained {
    /// The setting's name.
    pub key: &'static str,
    /// Its value, templates filled in.
    pub value: String,
    /// The path of the layer that set it, or `default`.
    pub from: String,
}
