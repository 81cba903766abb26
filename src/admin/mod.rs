//! The console: an operator's commands, as a database of its own, `tenantry` or, as PgBouncer's, `pgbouncer`.
//!
//! Promises: nobody but an authenticated user of `admin.users`, or to look `admin.stats_users`, is heard; a command is answered when it has
//! worked, or with what went wrong; what it cannot read it refuses, and the session goes on.
//!
//! Uses `client` (who is it?), `pool`. What is for the whole pooler goes out as an [`Order`].

mod cell;
mod columns;
mod command;
mod console;
mod courtesy;
mod obey;
mod portal;
mod rows;
mod show;
mod tokens;

use std::sync::Arc;
use std::time::SystemTime;

use bytes::BytesMut;
use tokio::sync::{mpsc, oneshot};
use tracing::info;

use crate::client::{
    Access, ConsoleFacts, ConsoleSeat, Hello, Peer, Refusal, Shared, prove_for_console, tell,
};
use crate::config::State;
use crate::net::{Conversation, Phase};
use crate::tenant::TenantId;
use crate::wire::backend::TransactionStatus;
use crate::wire::build;
use console::Console;

/// Names of the console's database.
const DATABASES: [&str; 2] = ["tenantry", "pgbouncer"];

/// What only the whole pooler can do.
pub enum Order {
    /// Read the configuration again.
    Reload(oneshot::Sender<Result<(), Unread>>),
    /// Something else is to hold for a tenant.
    Tenant {
        /// The tenant.
        id: TenantId,
        /// What.
        change: Change,
        /// Who wants it.
        by: Operator,
        /// What is wrong with it.
        reply: oneshot::Sender<Result<(), String>>,
    },
    /// Something else is to hold for tenants of a database.
    Database {
        /// The database; `None`: all.
        name: Option<String>,
        /// What.
        change: DatabaseChange,
        /// Who wants it.
        by: Operator,
        /// What is wrong with it.
        reply: oneshot::Sender<Result<(), String>>,
    },
    /// The pooler is to end.
    Shutdown(Leave),
}

/// Whose session it is, for the log.
#[derive(Debug, Clone)]
pub struct Operator {
    /// The user.
    pub user: String,
    /// His address.
    pub client: String,
}

/// What is to hold for a tenant from now on, before all that is written; until it is taken back.
#[derive(Clone, PartialEq)]
pub enum Change {
    /// A key of `[tenants.<name>]` has this value.
    Set {
        /// The key.
        key: String,
        /// The value.
        value: toml::Value,
    },
    /// Nothing but what is written.
    Reset,
    /// Its transactions run.
    Resume,
}

/// As it may stand in a log.
impl std::fmt::Debug for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Set { key, value } => write!(f, "{key} = {}", rows::shown(key, value)),
            Self::Reset => f.write_str("reset"),
            Self::Resume => f.write_str("resume"),
        }
    }
}

/// What is to hold for tenants of a database from now on, until it is taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatabaseChange {
    /// They have this state.
    State(State),
    /// They have the state that is written.
    Resume,
    /// Nobody logs in any more; who is there goes on.
    Disable,
    /// They may log in again.
    Enable,
}

/// How the pooler ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    /// At once.
    Now,
    /// When transactions have ended, as SIGTERM has it.
    WhenServersAreIdle,
    /// When the clients that are there have left; nobody comes meanwhile.
    WhenClientsAreGone,
}

/// What could not be read, and why.
pub enum Unread {
    /// The configuration: the old one stays.
    Configuration(String),
    /// The configuration is read; the registry could not be asked.
    Registry(String),
}

/// Whether a client asks for the console. Without users of its own there is none.
#[must_use]
pub fn is_meant(hello: &Hello, access: &Access) -> bool {
    let database = hello.database.as_ref().unwrap_or(&hello.user);
    let admin = &access.config.admin;
    let is_open = !(admin.users.is_empty() && admin.stats_users.is_empty());
    is_open && DATABASES.contains(&database.as_str())
}

/// Serves an operator until he leaves or the pooler stops.
///
/// # Errors
/// The [`Refusal`] he was told, if he was not let in.
pub async fn serve(
    mut talk: Conversation,
    hello: Hello,
    access: &Access,
    shared: &Arc<Shared>,
    orders: &mpsc::Sender<Order>,
) -> Result<(), Refusal> {
    let entered = enter(&mut talk, &hello, access, shared).await;
    let seat = match entered {
        Ok(seat) => seat,
        Err(refusal) => {
            shared.count_refusal(&refusal, None);
            // A client that is gone cannot be told.
            let _ = tell(talk, &refusal).await;
            return Err(refusal);
        }
    };
    let who = Operator { user: hello.user, client: Peer(talk.stream.peer_addr()).to_string() };
    info!(user = who.user, client = who.client, "console opened");
    let mut console = Console::new(talk, who, seat, shared, orders);
    tokio::select! {
        // What was asked for is answered first.
        biased;
        // The operator is gone, however.
        _ = console.run() => Ok(()),
        // One may look how far the drain is, and end it.
        () = shared.shutdown.reached(Phase::Stopping) => {
            let _ = tell(console.talk, &Refusal::ShuttingDown).await;
            Ok(())
        }
    }
}

fn facts(talk: &Conversation, hello: &Hello) -> ConsoleFacts {
    let name = hello.settings.iter().rev().find(|(name, _)| name == "application_name");
    ConsoleFacts {
        user: hello.user.clone(),
        database: hello.database.clone().unwrap_or_else(|| hello.user.clone()),
        peer: talk.stream.peer_addr(),
        local: talk.stream.local_addr(),
        tls: talk.stream.is_tls(),
        application_name: name
            .map_or_else(String::new, |(_, value)| String::from_utf8_lossy(value).into_owned()),
        since: SystemTime::now(),
    }
}

async fn enter(
    talk: &mut Conversation,
    hello: &Hello,
    access: &Access,
    shared: &Shared,
) -> Result<ConsoleSeat, Refusal> {
    let proof = prove_for_console(talk, hello, access, shared).await?;
    let right = access.config.admin.right_of(proof.user());
    let right = right.ok_or_else(|| Refusal::NotAdmin { user: hello.user.clone() })?;
    let facts = facts(talk, hello);
    let seat = shared.consoles.enter(right, facts).ok_or(Refusal::TooManyConsoles)?;
    let mut out = BytesMut::new();
    build::authentication_ok(&mut out);
    for (name, value) in [
        ("server_version", concat!(env!("CARGO_PKG_VERSION"), "/tenantry")),
        ("server_encoding", "UTF8"),
        ("client_encoding", "UTF8"),
        ("standard_conforming_strings", "on"),
        ("DateStyle", "ISO"),
        ("integer_datetimes", "on"),
    ] {
        build::parameter_status(name, value.as_bytes(), &mut out);
    }
    build::backend_key_data(seat.pid, &seat.key, &mut out);
    build::ready_for_query(TransactionStatus::Idle, &mut out);
    let _ = talk.send(&out).await;
    Ok(seat)
}
