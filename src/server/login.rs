//! From a host name to a [`Server`]: dial, start-up packet, authentication, first parameters.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant, SystemTime};

use bytes::BytesMut;
use parking_lot::Mutex;
use tokio::time::timeout;

use super::prove::prove;
use super::{
    CancelKey, Keychain, Known, Life, Parameters, ScramError, Served, Server, ServerFacts,
};
use crate::config::{Cluster, Host, Secret, SessionAttrs};
use crate::net::{Address, Connector, Conversation, DialError, dial, resolve};
use crate::prepared::Held;
use crate::tenant::TenantId;
use crate::wire::Malformed;
use crate::wire::backend::{ServerError, backend_key_data, parameter_status, tag};
use crate::wire::build;

/// Longest message of a login, in bytes: a parameter or an error, never data.
const MESSAGE_LEN_MAX: usize = 64 * 1024;

/// Where to log in, and as whom.
#[derive(Clone)]
pub struct Endpoint {
    /// Where it may be; the first that is there and right is taken.
    pub hosts: Vec<Host>,
    /// Which of them is right.
    pub attrs: SessionAttrs,
    /// TLS as `[tls.server]` wants it.
    pub connector: Connector,
    /// Database.
    pub database: String,
    /// Login role.
    pub user: String,
    /// The only tenant that its servers serve, if `server_sharing` says so.
    pub only: Option<TenantId>,
    /// Its password is not the cluster's: its servers are those of who has the same one.
    pub own_password: bool,
    /// Its password.
    pub password: Option<Secret>,
    /// What stands for it if there is none.
    pub keychain: Arc<Keychain>,
    /// Start-up parameters that make a new session neutral.
    pub neutral: Arc<[(String, String)]>,
    /// `server_connect_timeout`.
    pub timeout: Duration,
    /// `server_lifetime`.
    pub lifetime: Duration,
}

impl Endpoint {
    /// An endpoint on a cluster.
    #[must_use]
    pub fn new(
        cluster: &Cluster,
        connector: Connector,
        database: &str,
        user: &str,
        password: Option<Secret>,
        keychain: &Arc<Keychain>,
    ) -> Self {
        let empty = |name: &crate::tenant::GucName| (name.to_string(), String::new());
        // An unqualified name fails in a session that nobody has switched yet.
        let path = [("search_path".to_owned(), "\"\"".to_owned())];
        Self {
            hosts: cluster.hosts.clone(),
            attrs: cluster.target_session_attrs,
            connector,
            database: database.to_owned(),
            user: user.to_owned(),
            only: None,
            own_password: false,
            password,
            keychain: Arc::clone(keychain),
            neutral: path.into_iter().chain(cluster.neutral.iter().map(empty)).collect(),
            timeout: cluster.server_connect_timeout,
            lifetime: cluster.server_lifetime,
        }
    }
}

impl Endpoint {
    /// Servers that serve this tenant and no other.
    #[must_use]
    pub fn only_for(mut self, tenant: TenantId) -> Self {
        self.only = Some(tenant);
        self
    }

    /// Its password is not the cluster's. Servers are shared with those who have the same one: a wrong password is
    /// nobody else's.
    #[must_use]
    pub const fn by_own_password(mut self) -> Self {
        self.own_password = true;
        self
    }

    /// Whether another one leads to the same PostgreSQL in the same way.
    #[must_use]
    pub fn is_same_place(&self, other: &Self) -> bool {
        self.hosts == other.hosts && self.attrs == other.attrs
    }

    /// For questions of the pooler's own: what is not qualified is PostgreSQL's own.
    #[must_use]
    pub fn for_questions(mut self) -> Self {
        // Given up here, it is given up there too: a lock does not gather backends.
        let limit = self.timeout.as_millis().to_string();
        let settings = [("search_path", "pg_catalog".to_owned()), ("statement_timeout", limit)];
        self.neutral = settings.map(|(name, value)| (name.to_owned(), value)).into();
        self
    }
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let hosts: Vec<String> = self.hosts.iter().map(ToString::to_string).collect();
        write!(f, "{}@{}/{}", self.user, hosts.join(","), self.database)
    }
}

/// Why a server could not be logged in to.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LoginError {
    /// No connection came about.
    #[error("{0}")]
    Dial(Arc<DialError>),
    /// The connection broke.
    #[error("the connection broke during login: {0}")]
    Io(Arc<std::io::Error>),
    /// PostgreSQL refused; its own words go on to the client.
    #[error("{0}")]
    Refused(ServerError),
    /// `target_session_attrs = "primary"`, and it is not.
    #[error("the server is in hot standby mode")]
    Standby,
    /// `server_connect_timeout` passed.
    #[error("no login within {after:?}")]
    TimedOut {
        /// The limit.
        after: Duration,
    },
    /// The server wants a password and none is configured, nor has a client of that name shown its keys.
    #[error(
        "the server asks for a password; none is configured for user {user:?}, \
         and no client of that name has logged in by SCRAM with a stored secret"
    )]
    NoPassword {
        /// The login role.
        user: String,
    },
    /// The server wants the password in the clear on a connection that is not encrypted.
    #[error("the server asks for a cleartext password without TLS")]
    Cleartext,
    /// The server wants a method the pooler does not speak.
    #[error("the server asks for an authentication method that is not supported")]
    Method,
    /// The exchange of proofs failed, on either side.
    #[error("{0}")]
    Scram(#[from] ScramError),
    /// The server said something that does not belong in a login.
    #[error("the server sent an unexpected message {:?} during login", char::from(*.tag))]
    Unexpected {
        /// The message's type.
        tag: u8,
    },
    /// The server sent a message with the wrong shape.
    #[error("{0}")]
    Malformed(#[from] Malformed),
}

impl LoginError {
    /// Whether PostgreSQL has answered, if only to refuse: then it is there. A standby is not what was looked for, and
    /// who says that it starts up or shuts down is not there yet, or no more.
    #[must_use]
    pub fn is_answer(&self) -> bool {
        match self {
            Self::Refused(error) => !error.sqlstate().starts_with("57P"),
            Self::NoPassword { .. } | Self::Cleartext | Self::Method | Self::Scram(_) => true,
            Self::Dial(_)
            | Self::Io(_)
            | Self::Standby
            | Self::TimedOut { .. }
            | Self::Unexpected { .. }
            | Self::Malformed(_) => false,
        }
    }

    /// Whether no login to the server can succeed now, whoever tries: nobody answers, it starts up or shuts down
    /// (57P01 to 57P03), or it is a standby.
    #[must_use]
    pub fn is_outage(&self) -> bool {
        match self {
            Self::Refused(error) => matches!(error.sqlstate(), "57P01" | "57P02" | "57P03"),
            Self::Dial(error) => matches!(**error, DialError::Io { .. }),
            Self::Standby => true,
            _ => false,
        }
    }

    /// Whether the same login may succeed later, without anybody changing anything.
    ///
    /// Classes: 53 (too many connections), 57P (starting up or shutting down), network.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Refused(error) => {
                error.sqlstate().starts_with("53") || error.sqlstate().starts_with("57P")
            }
            Self::Dial(error) => matches!(**error, DialError::Io { .. }),
            Self::Io(_)
            | Self::Standby
            | Self::TimedOut { .. }
            | Self::Unexpected { .. }
            | Self::Malformed(_) => true,
            Self::NoPassword { .. } | Self::Cleartext | Self::Method | Self::Scram(_) => false,
        }
    }
}

impl From<DialError> for LoginError {
    fn from(error: DialError) -> Self {
        Self::Dial(Arc::new(error))
    }
}

impl From<std::io::Error> for LoginError {
    fn from(error: std::io::Error) -> Self {
        Self::Io(Arc::new(error))
    }
}

/// Dials and logs in: at the first host and address that is there, and a primary if it has to be.
///
/// # Errors
/// [`LoginError`] of the last one that was tried; of each at the latest after [`Endpoint::timeout`].
///
/// # Cancel safety
/// Dropped, it closes the connection.
pub async fn login(endpoint: &Endpoint) -> Result<Box<Server>, LoginError> {
    let mut last = LoginError::TimedOut { after: endpoint.timeout };
    for host in &endpoint.hosts {
        let found = within(endpoint.timeout, async {
            resolve(&host.name, host.port).await.map_err(LoginError::from)
        });
        let addresses = match found.await {
            Ok(addresses) => addresses,
            Err(error) => {
                last = error;
                continue;
            }
        };
        for address in addresses {
            // Boxed: it is large, and ends.
            match within(endpoint.timeout, Box::pin(start(endpoint, &address))).await {
                Ok(server) => return Ok(server),
                // Another one may be there, or be the right one.
                Err(error) if error.may_pass() => last = error,
                Err(error) => return Err(error),
            }
        }
    }
    Err(last)
}

async fn within<T>(
    limit: Duration,
    attempt: impl Future<Output = Result<T, LoginError>>,
) -> Result<T, LoginError> {
    timeout(limit, attempt).await.unwrap_or(Err(LoginError::TimedOut { after: limit }))
}

async fn start(endpoint: &Endpoint, address: &Address) -> Result<Box<Server>, LoginError> {
    let stream = dial(address, &endpoint.connector).await?;
    let mut talk = Conversation::new(stream, MESSAGE_LEN_MAX);
    let mut parameters = vec![("user", &*endpoint.user), ("database", &*endpoint.database)];
    parameters.extend(endpoint.neutral.iter().map(|(name, value)| (&**name, &**value)));
    let mut packet = BytesMut::new();
    build::startup(&parameters, &mut packet)?;
    talk.send(&packet).await?;
    prove(endpoint, &mut talk).await?;
    let mut reported = Parameters::default();
    let mut key = None;
    loop {
        let (tag, body) = talk.receive().await?;
        match tag {
            tag::PARAMETER_STATUS => {
                let (name, value) = parameter_status(&body)?;
                reported.set(name, value);
            }
            tag::BACKEND_KEY_DATA => {
                key = Some(backend_key_data(&body).map(|(p, k)| (p, k.to_vec()))?);
            }
            tag::NOTICE => {}
            tag::ERROR => return Err(LoginError::Refused(ServerError::read(&body))),
            tag::READY_FOR_QUERY => break,
            _ => return Err(LoginError::Unexpected { tag }),
        }
    }
    if endpoint.attrs == SessionAttrs::Primary && reported.knows(b"in_hot_standby", b"on") {
        return Err(LoginError::Standby);
    }
    let (pid, key) = key.ok_or(LoginError::Unexpected { tag: tag::READY_FOR_QUERY })?;
    let (stream, unread) = talk.into_parts();
    if let Some(&tag) = unread.first() {
        return Err(LoginError::Unexpected { tag });
    }
    let reported = Arc::new(reported);
    let life = Life::new(Instant::now(), endpoint.lifetime);
    let (at, connector) = (address.clone(), endpoint.connector.clone());
    let facts = ServerFacts {
        id: life.id,
        pid,
        host: address.host().to_owned(),
        peer: stream.peer_addr(),
        local: stream.local_addr(),
        tls: stream.is_tls(),
        database: endpoint.database.clone(),
        user: endpoint.user.clone(),
        since: SystemTime::now(),
        outdated: AtomicBool::new(false),
        warm: Mutex::default(),
    };
    Ok(Box::new(Server {
        stream,
        cancel_key: Arc::new(CancelKey::new(at, connector, life.id, (pid, &key))),
        parameters: Arc::clone(&reported),
        defaults: reported,
        known: Known::Neutral,
        unnamed_left: None,
        held: Held::default(),
        tenants: Served::default(),
        life,
        facts: Arc::new(facts),
    }))
}
