//! `tenantry top`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{ArgAction, Args, ValueEnum};
use tenantry::config::{Host, Secret, ServerTls, SessionAttrs, TlsMode};
use tenantry::net::Connector;
use tenantry::server::Endpoint;
use tenantry::top::{Options, run};

use super::{Failure, runtime};

/// How the console is reached, by psql's letters.
#[derive(Args)]
pub(crate) struct TopArgs {
    /// The pooler's host, or the directory of its unix socket.
    #[arg(short = 'h', long, env = "PGHOST", default_value = "localhost")]
    host: String,
    /// Its port.
    #[arg(short, long, env = "PGPORT", default_value_t = 6432)]
    port: u16,
    /// A user of `admin.users` or `admin.stats_users`.
    #[arg(short = 'U', long, env = "PGUSER")]
    username: String,
    /// TLS, by libpq's modes.
    #[arg(long, env = "PGSSLMODE", value_enum, default_value = "prefer")]
    sslmode: Mode,
    /// Who signs the pooler's certificate (PEM).
    #[arg(long, env = "PGSSLROOTCERT")]
    sslrootcert: Option<PathBuf>,
    /// Seconds between two looks.
    #[arg(short = 'n', long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=3600))]
    interval: u64,
    /// Look so often and end; once is a table for a script.
    #[arg(long)]
    count: Option<u32>,
    /// Print help.
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Mode {
    Disable,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

pub(super) fn top(args: &TopArgs) -> Result<(), Failure> {
    let mode = match args.sslmode {
        Mode::Disable => TlsMode::Disable,
        Mode::Prefer => TlsMode::Prefer,
        Mode::Require => TlsMode::Require,
        Mode::VerifyCa => TlsMode::VerifyCa,
        Mode::VerifyFull => TlsMode::VerifyFull,
    };
    if mode >= TlsMode::VerifyCa && args.sslrootcert.is_none() {
        return Err("--sslrootcert is required to check the pooler's certificate".into());
    }
    let tls = ServerTls { mode, ca: args.sslrootcert.clone(), cert: None, key: None };
    let endpoint = Endpoint {
        hosts: vec![Host { name: args.host.clone(), port: args.port }],
        attrs: SessionAttrs::Any,
        connector: Connector::new(&tls)?,
        database: "tenantry".to_owned(),
        user: args.username.clone(),
        only: None,
        own_password: false,
        password: std::env::var("PGPASSWORD").ok().map(|password| Secret::new(&password)),
        keychain: Arc::default(),
        neutral: Arc::new([]),
        timeout: Duration::from_secs(15),
        lifetime: Duration::from_hours(24),
    };
    let options = Options { interval: Duration::from_secs(args.interval), count: args.count };
    Ok(runtime()?.block_on(run(endpoint, options))?)
}
