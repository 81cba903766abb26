//! Commands that change something.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::sleep;
use tracing::info;

use super::command::Command;
use super::console::{Console, Problem};
use super::{Change, DatabaseChange, Leave, Operator, Order, Unread};
use crate::client::Shared;
use crate::config::State;
use crate::pool::{ClientFacts, Pools, ServerReport};
use crate::tenant::Source;

/// How often it is looked whether what is waited for has come.
const LOOK: Duration = Duration::from_millis(50);

/// The word that a command is answered with, or why it did not work.
type Outcome = Result<&'static str, Problem>;

impl Console<'_> {
    /// Does what is asked for.
    pub(super) async fn obey(&mut self, command: Command) -> Outcome {
        // From here on: a cancel that comes before there is anything to wait for is not missed.
        self.cancelled.set(Arc::clone(&self.seat.cancelled).notified_owned());
        let mut command = command;
        if let Some(name) = command.database() {
            *name = database_of(name, self.shared);
        }
        match command {
            Command::Reload => self.reload().await,
            Command::Reconnect(name) => self.reconnect(name.as_deref()),
            Command::ReconnectTenant(name) => {
                let access = self.shared.access();
                let id = access.config.tenancy.name_pattern.parse(&name).ok();
                let tenant =
                    id.and_then(|id| access.tenant(&id)).ok_or_else(|| no_tenant(&name))?;
                self.reconnect(Some(&tenant.database))
            }
            Command::WaitClose(name) => {
                self.until_none(name.as_deref(), |server| server.facts.is_outdated(), || true)
                    .await?;
                Ok("WAIT_CLOSE")
            }
            Command::Pause(name) => {
                self.change_database(name.clone(), DatabaseChange::State(State::Paused)).await?;
                self.until_paused(name.as_deref()).await?;
                Ok("PAUSE")
            }
            Command::Kill(name) => {
                self.change_database(name.clone(), DatabaseChange::State(State::Paused)).await?;
                let access = self.shared.access();
                let lives_there = |facts: &ClientFacts| match &name {
                    None => true,
                    Some(name) => access
                        .tenant(&facts.tenant())
                        .is_some_and(|tenant| tenant.database == *name),
                };
                let clients = self.kill(|_, facts| lives_there(facts));
                let Operator { user, client } = &self.who;
                info!(user, client, database = name, clients, "KILL: clients disconnected");
                self.until_paused(name.as_deref()).await?;
                Ok("KILL")
            }
            Command::Database { name, change } => {
                self.change_database(name, change).await?;
                Ok(match change {
                    DatabaseChange::State(State::Draining) => "DRAIN",
                    DatabaseChange::State(_) => "SUSPEND",
                    DatabaseChange::Resume => "RESUME",
                    DatabaseChange::Disable => "DISABLE",
                    DatabaseChange::Enable => "ENABLE",
                })
            }
            Command::KillTenant(name) => {
                let whom = |_, facts: &ClientFacts| facts.tenant().as_str() == name;
                self.kill_some(whom, format!("tenant \"{name}\" has no clients"))
            }
            Command::KillClient(id) => {
                self.kill_some(|pid, _| pid == id, format!("no client has the id {id}"))
            }
            Command::Tenant { name, change, word } => {
                self.change_tenant(&name, change).await?;
                Ok(word)
            }
            Command::Shutdown(leave) => self.shutdown(leave).await,
            Command::Show(_) | Command::Courtesy(_) => Ok(""),
        }
    }

    async fn reload(&self) -> Outcome {
        let (reply, answer) = oneshot::channel();
        let unread = match self.order(Order::Reload(reply), answer).await? {
            Ok(()) => return Ok("RELOAD"),
            Err(unread) => unread,
        };
        let (message, detail) = match unread {
            Unread::Configuration(problem) => {
                ("configuration not reloaded: the old one stays", problem)
            }
            Unread::Registry(problem) => (
                "configuration reloaded, but the registry cannot be asked: what it said last holds",
                problem,
            ),
        };
        Err(Problem { detail: Some(detail), ..Problem::new("F0000", message) })
    }

    fn reconnect(&self, name: Option<&str>) -> Outcome {
        let clusters = &self.shared.access().clusters;
        let known = clusters.values().map(|(_, pools)| pools.reconnect(name)).sum::<usize>();
        if let (Some(name), 0) = (name, known) {
            let problem = format!("no server connection to database \"{name}\"");
            return Err(Problem::new("3D000", problem));
        }
        let Operator { user, client } = &self.who;
        info!(
            user,
            client,
            database = name,
            "RECONNECT: servers are closed when their clients let go"
        );
        Ok("RECONNECT")
    }

    fn kill(&self, whom: impl Fn(i32, &ClientFacts) -> bool) -> usize {
        let clients = self.shared.cancels.kill(whom);
        self.shared.shutdown.wake_all();
        clients
    }

    fn kill_some(&self, whom: impl Fn(i32, &ClientFacts) -> bool, nobody: String) -> Outcome {
        match self.kill(whom) {
            0 => Err(Problem::new("02000", nobody)),
            clients => {
                let Operator { user, client } = &self.who;
                info!(user, client, clients, "clients disconnected from the console");
                Ok("KILL")
            }
        }
    }

    async fn change_tenant(&self, name: &str, change: Change) -> Result<(), Problem> {
        let access = self.shared.access();
        let parsed = access.config.tenancy.name_pattern.parse(name).ok();
        let Some(id) = parsed.filter(|id| access.tenant(id).is_some()) else {
            return Err(no_tenant(name));
        };
        let (reply, answer) = oneshot::channel();
        let by = self.who.clone();
        let changed = self.order(Order::Tenant { id, change, by, reply }, answer).await?;
        changed.map_err(|problem| Problem::new("22023", problem))
    }

    async fn change_database(
        &self,
        name: Option<String>,
        change: DatabaseChange,
    ) -> Result<(), Problem> {
        if let Some(name) = name.as_ref().filter(|name| !is_known(name, self.shared)) {
            return Err(Problem::new("3D000", format!("database \"{name}\" does not exist")));
        }
        let (reply, answer) = oneshot::channel();
        let by = self.who.clone();
        let changed = self.order(Order::Database { name, change, by, reply }, answer).await?;
        changed.map_err(|problem| Problem::new("22023", problem))
    }

    async fn shutdown(&self, leave: Leave) -> Outcome {
        let Operator { user, client } = &self.who;
        info!(user, client, ?leave, "SHUTDOWN on the console");
        self.orders.send(Order::Shutdown(leave)).await.map_err(|_| stops())?;
        Ok("SHUTDOWN")
    }

    /// Gives an order, and waits until it is carried out.
    async fn order<T>(&self, order: Order, answer: oneshot::Receiver<T>) -> Result<T, Problem> {
        self.orders.send(order).await.map_err(|_| stops())?;
        answer.await.map_err(|_| stops())
    }

    /// Its servers are closed when their clients let go; waits until they are, as long as it is paused.
    async fn until_paused(&mut self, name: Option<&str>) -> Result<(), Problem> {
        for (_, pools) in self.shared.access().clusters.values() {
            pools.reconnect(name);
        }
        let shared = Arc::clone(self.shared);
        let is_paused = || {
            let said = &shared.access().config.overrides;
            let state = name.map_or(said.everywhere, |name| said.state_of(name));
            state == Some(State::Paused)
        };
        self.until_none(name, |_| true, is_paused).await
    }

    /// Waits until no server of a database, or of all, is such a one. It ends when what it waits for holds no
    /// more, and when the operator cancels it or leaves.
    async fn until_none(
        &mut self,
        name: Option<&str>,
        such: impl Fn(&ServerReport) -> bool,
        holds: impl Fn() -> bool,
    ) -> Result<(), Problem> {
        loop {
            let access = self.shared.access();
            let mut servers = access.clusters.values().flat_map(|(_, pools)| pools.servers());
            let is_there = |server: &ServerReport| {
                name.is_none_or(|name| server.facts.database == name) && such(server)
            };
            if !servers.any(|server| is_there(&server)) {
                return Ok(());
            }
            if !holds() {
                return Err(Problem::new("57014", "it was resumed before all servers were closed"));
            }
            tokio::select! {
                () = sleep(LOOK) => {}
                () = &mut self.cancelled => {
                    let problem = "canceling the wait due to user request: what was changed holds";
                    return Err(Problem::new("57014", problem));
                }
                () = self.talk.closed() => return Err(Problem::new("57014", "nobody waits any more")),
            }
        }
    }
}

fn no_tenant(name: &str) -> Problem {
    Problem::new("3D000", format!("tenant \"{name}\" does not exist"))
}

fn stops() -> Problem {
    Problem::new("57P01", "the pooler is shutting down")
}

/// PostgreSQL's database behind a name that clients ask for, as PgBouncer's entries have it. Their names come first.
fn database_of(name: &str, shared: &Shared) -> String {
    let access = shared.access();
    let tenancy = &access.config.tenancy;
    let by_database = tenancy.tenant_from.iter().any(|source| matches!(source, Source::Database));
    let is_shared = tenancy.shared_databases.iter().any(|shared| shared == name);
    let tenant = tenancy.name_pattern.parse(name).ok().and_then(|id| access.tenant(&id));
    match tenant.filter(|_| by_database && !is_shared) {
        Some(tenant) => tenant.database.clone(),
        None => name.to_owned(),
    }
}

/// Whether a database is configured, or has servers or clients.
fn is_known(name: &str, shared: &Shared) -> bool {
    let access = shared.access();
    let has_pool = |pools: &Pools| pools.report().1.pools.iter().any(|pool| pool.database == name);
    access.config.has_database(name)
        || access.config.overrides.databases.contains_key(name)
        || access.clusters.values().any(|(_, pools)| has_pool(pools))
}
