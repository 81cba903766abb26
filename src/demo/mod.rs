//! `tenantry demo`: the main job on a real PostgreSQL, on a machine that has none.
//!
//! A throw-away cluster with schema tenants, a database tenant and a role tenant, whose rows carry
//! their tenant's name; the pooler in front of it; and 200 clients of 24 tenants over 5 server
//! connections, each checking every row it gets. Promises: nothing is left behind, whatever ends it.
//!
//! Uses every room above it.

mod load;
mod postgres;
mod report;
mod trickle;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use crate::config::{Config, ConfigError, ListenAddress};
use crate::engine::Worker;
use crate::net::{DialError, Tasks};
use crate::pooler::{Pooler, StartError};
use crate::server::{AskError, LoginError};

pub use postgres::PostgresError;
pub use report::Report;

/// How the demo is run.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// End after the table instead of staying up.
    pub once: bool,
    /// Print the table as JSON.
    pub json: bool,
    /// How long the clients run.
    pub time: Duration,
}

/// Clients, tenants and servers of the demo.
const CLIENTS: usize = 200;
const SCHEMA_TENANTS: usize = 22;
const SERVERS: usize = 5;

/// Why the demo could not be given.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// PostgreSQL could not be found, fetched or started.
    #[error("{0}")]
    Postgres(#[from] PostgresError),
    /// PostgreSQL could not be logged in to.
    #[error("{0}")]
    Login(#[from] LoginError),
    /// PostgreSQL refused to make the tenants.
    #[error("{0}")]
    Ask(#[from] AskError),
    /// The demo's own configuration is wrong.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// The pooler did not start.
    #[error("{0}")]
    Start(#[from] StartError),
    /// No TCP address: the configuration names one.
    #[error("the pooler does not listen on TCP")]
    NoAddress,
    /// A connection or the terminal broke.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Nobody answered.
    #[error("{0}")]
    Dial(#[from] DialError),
    /// A bug; the panic's own words are on stderr.
    #[error("the demo panicked")]
    Panicked,
}

/// Gives the demo; `true` if no client got a wrong row.
///
/// # Errors
/// [`DemoError`]; nothing is left behind then either.
pub async fn run(options: Options) -> Result<bool, DemoError> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let stopped = async {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    };
    let (worker, thread) = Worker::start("demo".to_owned(), Handle::current())?;
    let (reply, result) = oneshot::channel();
    worker.spawn(async move {
        // After a signal nobody listens.
        let _ = reply.send(give(options).await);
    });
    let result = tokio::select! {
        result = result => result.unwrap_or_else(|_| Err(DemoError::Panicked)),
        () = stopped => Ok(true),
    };
    // Stopped at any point, it takes everything it made with it.
    worker.stop();
    thread.join().map_err(|_| DemoError::Panicked)?;
    result
}

async fn give(options: Options) -> Result<bool, DemoError> {
    let cluster = postgres::Cluster::start(say)?;
    let tenants = tenants();
    cluster.make_tenants(&tenants).await?;
    let pooler = Pooler::start(Config::parse(&configuration(&cluster), PathBuf::new())?)?;
    let port = pooler.addresses().iter().find_map(|address| match address {
        ListenAddress::Tcp(address) => Some(address.port()),
        ListenAddress::Unix(_) => None,
    });
    let port = port.ok_or(DemoError::NoAddress)?;
    say(&format!(
        "{CLIENTS} clients of {} tenants over {SERVERS} server connections",
        tenants.len()
    ));
    let measured = load::drive(&pooler, port, &tenants, CLIENTS, options.time).await?;
    let report = Report::new(&pooler, CLIENTS, measured);
    let text = if options.json { report.json() } else { report.table() };
    writeln!(io::stdout(), "{text}")?;
    let right = report.wrong_rows() == 0;
    if !options.once {
        let tasks = Tasks::default();
        trickle::begin(port, &tenants, &tasks).await?;
        say(&invitation(port, pooler.http_addresses()));
        std::future::pending::<()>().await;
    }
    pooler.stopped().await;
    Ok(right)
}

fn say(line: &str) {
    // Without a terminal there is nobody to tell.
    let _ = writeln!(io::stderr(), "{line}");
}

/// Names of the tenants: schemas, then a database, then a role.
fn tenants() -> Vec<String> {
    let schemas = (1..=SCHEMA_TENANTS).map(|n| format!("tenant_{n:02}"));
    schemas.chain(["database_tenant".to_owned(), "role_tenant".to_owned()]).collect()
}

fn configuration(cluster: &postgres::Cluster) -> String {
    format!(
        r#"
[general]
listen = ["127.0.0.1:0"]
[http]
listen = "127.0.0.1:0"
[admin]
users = ["ops"]
[users.ops]
[clusters.main]
port = {}
user = "saas"
database = "saas"
max_server_connections = {SERVERS}
[tls.server]
mode = "disable"
[auth]
type = "trust"
[users.app]
tenants = ["*"]
[tenancy]
tenant_from = ["options:app.tenant", "user:.", "database"]
unknown = "template"
settings = {{ "app.tenant" = "{{tenant}}" }}
[tenants."tenant_*"]
schema = "{{tenant}}"
[tenants.database_tenant]
database = "database_tenant"
[tenants.role_tenant]
role = "role_tenant"
schema = "role_tenant"
"#,
        cluster.port()
    )
}

fn invitation(port: u16, http: &[SocketAddr]) -> String {
    let host = format!("127.0.0.1:{port}");
    let dashboard = http.first().map(|at| format!("http://{at}/")).unwrap_or_default();
    format!(
        "\nIt stays up, with a little load of three tenants.\n\
         Dashboard: {dashboard}\n\
         Console:   psql 'postgres://ops@{host}/tenantry' -c 'show tenants'\n\
         One URL for each way to name the tenant:\n\
         \x20 psql 'postgres://app@{host}/saas?options=-c%20app.tenant%3Dtenant_01' -c 'table who'\n\
         \x20 psql 'postgres://app.role_tenant@{host}/saas' -c 'select *, current_user from who'\n\
         \x20 psql 'postgres://app@{host}/database_tenant' -c 'select *, current_database() from who'\n\
         Ctrl-C removes everything."
    )
}
