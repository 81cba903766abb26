//! The one TOML file: as written -> checked [`Config`].
//!
//! Promises: all faults are reported at once, each with its key path; an unknown key is a fault
//! that names the nearest known one; a [`Config`] that exists is consistent, so nobody else checks.
//! Key names are PgBouncer's where PgBouncer has the thing.
//!
//! Uses `tenant` for names and states. Reads the files the configuration names; opens no socket.

mod clusters;
mod diff;
mod fault;
mod http;
mod include;
mod keys;
mod layers;
mod lengths;
mod load;
mod overrides;
mod read;
mod registry;
mod rules;
mod secret;
mod shown;
mod tenancy;
mod tenant;
#[cfg(test)]
mod tests;
mod tls;
mod units;
mod userlist;
mod users;
mod watch;

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use fault::{ConfigError, Fault};
pub use http::{Dashboard, Http};
pub use keys::{KEYS, Key};
pub use overrides::{DatabaseOverride, Overrides};
pub use registry::{Registered, Registry};
pub use rules::State;
pub use secret::Secret;
pub use shown::Shown;
pub use tenant::{
    Availability, Explained, Guard, IDENTIFIER_LEN_MAX, OnSessionState, Policy, QuotaMode, Quotas,
    ServerSharing, Tenant, Timeouts,
};
pub use tls::{ClientTls, ServerTls, TlsMode};
pub use userlist::read_userlist;
pub use users::{AuthMethod, TableQuery, User, Users};
pub use watch::{Look, Sources};

use crate::tenant::{GucName, NamePattern, Source};
use rules::Rules;

/// A checked configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// `[general]`.
    pub general: General,
    /// `[tls.client]`: towards clients.
    pub client_tls: ClientTls,
    /// `[clusters.<name>]`.
    pub clusters: BTreeMap<String, Arc<Cluster>>,
    /// `[auth]` and `[users.<name>]`.
    pub users: Users,
    /// `[tenancy]`.
    pub tenancy: Tenancy,
    /// `[tenants.<name>]`, which may be many.
    tenants: HashMap<String, Rules>,
    /// `[tenants.<pattern>]`, the most specific first.
    templates: Vec<Rules>,
    /// `[classes.<name>]`.
    classes: BTreeMap<String, Rules>,
    /// `[admin]`.
    pub admin: Admin,
    /// `[http]`.
    pub http: Http,
    /// `[registry]`.
    pub registry: Option<Registry>,
    /// Tenants that the registry has.
    registered: HashMap<String, Rules>,
    /// What was set for tenants on the console, as it was said.
    pub overrides: Arc<Overrides>,
    overridden: HashMap<String, Rules>,
    /// The files it was read from.
    pub sources: Sources,
    /// What is written in them, tenants and users aside.
    written: Arc<toml::Table>,
}

/// `[admin]`.
#[derive(Debug, Clone, Default)]
pub struct Admin {
    /// Who may use the console.
    pub users: Vec<String>,
    /// Who may only look.
    pub stats_users: Vec<String>,
}

impl Admin {
    /// What a user may do there, if anything. If nobody may, there is no console.
    #[must_use]
    pub fn right_of(&self, user: &str) -> Option<Right> {
        let is_in = |list: &[String]| list.iter().any(|name| name == user);
        match (is_in(&self.users), is_in(&self.stats_users)) {
            (true, _) => Some(Right::All),
            (false, true) => Some(Right::Show),
            (false, false) => None,
        }
    }
}

/// What a user may do on the console.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Right {
    /// Look.
    Show,
    /// Everything.
    All,
}

/// `[general]`.
#[derive(Debug, Clone)]
pub struct General {
    /// Where clients connect.
    pub listen: Vec<Listen>,
    /// Rights of a unix socket's file.
    pub unix_socket_mode: u32,
    /// Mode of users that name none.
    pub pool_mode: PoolMode,
    /// Clients of all tenants together.
    pub max_client_conn: usize,
    /// Whether a lone `SET` that needs no server is answered without one.
    pub absorb: bool,
    /// Statements that a server keeps prepared for clients; 0: they keep their server instead.
    pub max_prepared_statements: usize,
    /// Threads that serve clients.
    pub workers: usize,
    /// At which handover a server is scrubbed.
    pub scrub: Scrub,
    /// Whether it is read again when a file it was read from changes.
    pub watch: bool,
    /// Whether sessions begin with the tenant's name in front of their `application_name`.
    pub application_name_add_tenant: bool,
    /// How long SIGTERM lets transactions finish.
    pub shutdown_timeout: Duration,
}

/// One listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// Its address.
    pub address: ListenAddress,
    /// The tenant it belongs to, for the source `fixed`.
    pub tenant: Option<String>,
}

/// Where a listener listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddress {
    /// `0.0.0.0:6432`
    Tcp(SocketAddr),
    /// `unix:/run/tenantry`, as the whole path of the socket.
    Unix(PathBuf),
}

/// `pool_mode`: when a client gives its server back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolMode {
    /// When it disconnects.
    Session,
    /// When its transaction ends.
    Transaction,
}

impl PoolMode {
    /// Reads PgBouncer's word for it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "session" => Some(Self::Session),
            "transaction" => Some(Self::Transaction),
            _ => None,
        }
    }
}

/// `general.scrub`: when a server is scrubbed although no tenant changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scrub {
    /// Only when the tenant changes.
    Tenant,
    /// Whenever the client changes.
    Client,
}

/// Where a PostgreSQL may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Host name, address, or directory of a unix socket (begins with `/`).
    pub name: String,
    /// TCP port, or the number in the socket's name.
    pub port: u16,
}

impl std::fmt::Display for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.name, self.port)
    }
}

/// `target_session_attrs`, as libpq's: which of several hosts is connected to.
///
/// <https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNECT-TARGET-SESSION-ATTRS>
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionAttrs {
    /// The first that is there.
    Any,
    /// The first that is not in hot standby mode. Servers before PostgreSQL 14 do not say.
    Primary,
}

/// `[clusters.<name>]`: one PostgreSQL.
#[derive(Debug)]
pub struct Cluster {
    /// Its name in the configuration.
    pub name: String,
    /// `host` and `port`: where it may be, in the order in which that is tried.
    pub hosts: Vec<Host>,
    /// `target_session_attrs`: which of them it is.
    pub target_session_attrs: SessionAttrs,
    /// Login role of tenants that have none of their own.
    pub user: String,
    /// Its password.
    pub password: Option<Secret>,
    /// Database of tenants that have none of their own.
    pub database: String,
    /// `[tls.server]`: towards PostgreSQL.
    pub tls: ServerTls,
    /// Servers of all tenants and databases together, counted from before they are dialled.
    pub max_server_connections: usize,
    /// Close a server that has served more tenants than this, once it is idle.
    pub max_tenants_per_server: usize,
    /// Close a server that nobody used for so long.
    pub server_idle_timeout: Duration,
    /// Close a server that is this old, once it is idle.
    pub server_lifetime: Duration,
    /// Ask a server that has rested so long whether it is still there.
    pub server_check_delay: Duration,
    /// Give up dialling and logging in after this.
    pub server_connect_timeout: Duration,
    /// Custom settings that tenants have: a new server starts with them empty, so that a session
    /// nobody has switched yet reads `''` and RESET returns there.
    pub neutral: Vec<GucName>,
}

impl Cluster {
    /// Whether another version of it is the same PostgreSQL, reached and logged in to in the same way.
    #[must_use]
    pub fn is_reached_as(&self, other: &Self) -> bool {
        let way = |it: &Self| {
            (it.hosts.clone(), it.target_session_attrs, it.tls.clone(), it.neutral.clone())
        };
        way(self) == way(other)
    }
}

/// `[tenancy]`: how a tenant is named and what tenants have in common.
#[derive(Debug, Clone)]
pub struct Tenancy {
    /// Sources in their order.
    pub tenant_from: Vec<Source>,
    /// `tenant_from` as written, for hints.
    pub tenant_from_text: Vec<String>,
    /// What names may look like.
    pub name_pattern: NamePattern,
    /// Whether a name that is not listed may be a tenant.
    pub unknown: Unknown,
    /// The tenant of a client that names none.
    pub default_tenant: Option<String>,
    /// Databases that are shared: as a whole their names are no tenants.
    pub shared_databases: Vec<String>,
    /// What all tenants have in common.
    rules: Rules,
}

/// `tenancy.unknown`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown {
    /// Only tenants listed by name exist.
    Reject,
    /// A name that fits a pattern under `[tenants]` is a tenant.
    Template,
}
