//! The console: an operator's commands, as a database of its own, `tenantry` or, as PgBouncer's, `pgbouncer`.
//!
//! Promises: nobody but an authenticated user of `admin.users`, or to look `admin.stats_users`, is heard; a command is answered when it has
//! worked, or with what went wrong; what it cannot read it refuses, and the session goes on.
//!
//! Uses `client` (who is it?), `pool`. What is for the whole pooler goes out as an [`Order`].

mod cell;
mod command;
mod portal;
mod rows;
mod show;
mod tokens;

use std::sync::Arc;

use bytes::BytesMut;
use tokio::sync::{mpsc, oneshot};
use tracing::info;

use crate::client::{Access, Hello, Refusal, Shared, prove, tell};
use crate::net::{Conversation, Phase};
use crate::pool::ClientFacts;
use crate::tenant::TenantId;
use crate::wire::backend::TransactionStatus;
use crate::wire::build::{self, Format};
use crate::wire::frontend::tag;
use command::{Command, KNOWN};
use portal::{Bound, Portals, Said};
use tokens::commands;

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
        /// What is wrong with it.
        reply: oneshot::Sender<Result<(), String>>,
    },
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

/// Serves an operator until he leaves or the pooler drains.
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
    if let Err(refusal) = enter(&mut talk, &hello, access, shared).await {
        // A client that is gone cannot be told.
        let _ = tell(talk, &refusal).await;
        return Err(refusal);
    }
    info!(user = hello.user, "console opened");
    let mut console =
        Console { talk, user: hello.user, portals: Portals::default(), shared, orders };
    tokio::select! {
        // The operator is gone, however.
        _ = console.run() => Ok(()),
        () = shared.shutdown.reached(Phase::Draining) => {
            let _ = tell(console.talk, &Refusal::ShuttingDown).await;
            Ok(())
        }
    }
}

async fn enter(
    talk: &mut Conversation,
    hello: &Hello,
    access: &Access,
    shared: &Shared,
) -> Result<(), Refusal> {
    let proof = prove(talk, hello, access, shared).await?;
    if access.config.admin.right_of(proof.user()).is_none() {
        return Err(Refusal::NotAdmin { user: hello.user.clone() });
    }
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
    build::ready_for_query(TransactionStatus::Idle, &mut out);
    let _ = talk.send(&out).await;
    Ok(())
}

struct Console<'a> {
    talk: Conversation,
    user: String,
    portals: Portals,
    shared: &'a Arc<Shared>,
    orders: &'a mpsc::Sender<Order>,
}

impl Console<'_> {
    async fn run(&mut self) -> std::io::Result<()> {
        loop {
            let (tag, body) = self.talk.receive().await?;
            let mut out = BytesMut::new();
            match tag {
                tag::TERMINATE => return Ok(()),
                tag::QUERY => {
                    self.query(&body, &mut out).await;
                    build::ready_for_query(TransactionStatus::Idle, &mut out);
                }
                _ => match self.portals.take(tag, &body, &mut out) {
                    Ok(Said::Nothing) => {}
                    Ok(Said::Describe(bound)) => {
                        match Command::only(&bound.text).and_then(|command| command.columns()) {
                            Some(columns) => {
                                build::row_description(columns, |at| bound.format(at), &mut out);
                            }
                            None => out.extend_from_slice(build::NO_DATA),
                        }
                    }
                    Ok(Said::Run(bound)) => {
                        if !self.run_all(&bound, false, &mut out).await {
                            self.portals.fail();
                        }
                    }
                    Err(problem) => refuse("08P01", problem.to_string(), None, &mut out),
                },
            }
            self.talk.send(&out).await?;
        }
    }

    async fn query(&mut self, body: &[u8], out: &mut BytesMut) {
        match std::str::from_utf8(body).ok().and_then(|text| text.strip_suffix('\0')) {
            Some(text) => drop(self.run_all(&Bound::in_text(text), true, out).await),
            None => refuse("08P01", "a query that is not a text".to_owned(), None, out),
        }
    }

    /// Runs commands until one fails; `false`: one did. In the simple protocol, what has rows is described.
    async fn run_all(&mut self, bound: &Bound, describes: bool, out: &mut BytesMut) -> bool {
        let Some(commands) = commands(&bound.text) else {
            refuse("42601", "a quote is not closed".to_owned(), None, out);
            return false;
        };
        if commands.is_empty() {
            out.extend_from_slice(build::EMPTY_QUERY);
        }
        for words in commands {
            let Some(command) = Command::parse(&words) else {
                let problem = "unknown command, or not in this form".to_owned();
                refuse("42601", problem, Some(format!("Known are {KNOWN}.")), out);
                return false;
            };
            // A reload may have changed that.
            if self.shared.access().config.admin.right_of(&self.user) < Some(command.right()) {
                let problem = format!("user \"{}\" may not do that", self.user);
                refuse("42501", problem, None, out);
                return false;
            }
            if let Some(columns) = command.columns().filter(|_| describes) {
                build::row_description(columns, |_| Format::Text, out);
            }
            if !self.obey(command, bound, out).await {
                return false;
            }
        }
        true
    }

    fn kill(
        &self,
        whom: impl Fn(i32, &ClientFacts) -> bool,
        nobody: &str,
        out: &mut BytesMut,
    ) -> bool {
        let clients = self.shared.cancels.kill(whom);
        if clients == 0 {
            refuse("02000", nobody.to_owned(), None, out);
            return false;
        }
        self.shared.shutdown.wake_all();
        info!(clients, "clients disconnected from the console");
        build::command_complete("KILL", out);
        true
    }

    async fn change_tenant(&self, name: &str, change: Change, out: &mut BytesMut) -> bool {
        let access = self.shared.access();
        let parsed = access.config.tenancy.name_pattern.parse(name).ok();
        let Some(id) = parsed.filter(|id| access.tenant(id).is_some()) else {
            refuse("3D000", format!("tenant \"{name}\" does not exist"), None, out);
            return false;
        };
        let tag = match &change {
            Change::Set { .. } => "SET",
            Change::Reset => "RESET",
            Change::Resume => "RESUME",
        };
        let (reply, answer) = oneshot::channel();
        let sent = self.orders.send(Order::Tenant { id, change, reply }).await.is_ok();
        match if sent { answer.await.ok() } else { None } {
            Some(Ok(())) => {
                build::command_complete(tag, out);
                return true;
            }
            Some(Err(problem)) => refuse("22023", problem, None, out),
            None => refuse("57P01", "the pooler is shutting down".to_owned(), None, out),
        }
        false
    }

    async fn obey(&mut self, command: Command, bound: &Bound, out: &mut BytesMut) -> bool {
        match command {
            Command::Reload => {
                let (reply, answer) = oneshot::channel();
                // Without an answer, the pooler stops.
                let sent = self.orders.send(Order::Reload(reply)).await.is_ok();
                let result = if sent { answer.await.ok() } else { None };
                match result {
                    Some(Ok(())) => build::command_complete("RELOAD", out),
                    Some(Err(unread)) => {
                        let (message, problem) = match unread {
                            Unread::Configuration(problem) => {
                                ("configuration not reloaded: the old one stays", problem)
                            }
                            Unread::Registry(problem) => (
                                "configuration reloaded, but the registry cannot be asked: what it said last holds",
                                problem,
                            ),
                        };
                        refuse("F0000", message.to_owned(), Some(problem), out);
                        return false;
                    }
                    None => {
                        refuse("57P01", "the pooler is shutting down".to_owned(), None, out);
                        return false;
                    }
                }
            }
            Command::Reconnect { database } => {
                let clusters = &self.shared.access().clusters;
                let pools = clusters.values().map(|(_, pools)| pools);
                let known = pools.map(|pools| pools.reconnect(database.as_deref())).sum::<usize>();
                if let (Some(database), 0) = (&database, known) {
                    let problem = format!("no server connection to database \"{database}\"");
                    refuse("3D000", problem, None, out);
                    return false;
                }
                info!(database, "RECONNECT: servers are closed when their clients let go");
                build::command_complete("RECONNECT", out);
            }
            Command::KillTenant(name) => {
                let whom = |_, facts: &ClientFacts| facts.tenant.as_str() == name;
                return self.kill(whom, &format!("tenant \"{name}\" has no clients"), out);
            }
            Command::KillClient(id) => {
                return self.kill(|pid, _| pid == id, &format!("no client has the id {id}"), out);
            }
            Command::Tenant { name, change } => {
                return self.change_tenant(&name, change, out).await;
            }
            Command::Show(show) => show.rows(self.shared, |at| bound.format(at), out),
        }
        true
    }
}

fn refuse(sqlstate: &str, message: String, detail: Option<String>, out: &mut BytesMut) {
    let mut fields = [(b'S', "ERROR"), (b'V', "ERROR"), (b'C', sqlstate)]
        .map(|(code, text)| (code, text.to_owned()))
        .to_vec();
    fields.push((b'M', message));
    fields.extend(detail.map(|text| (b'D', text)));
    build::error_response(fields, out);
}
