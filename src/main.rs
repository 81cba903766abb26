//! The command line.

mod cli;

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use clap::Parser;
use tracing::level_filters::LevelFilter;

use cli::{Cli, Command, LogFormat};

fn main() -> ExitCode {
    let cli = Cli::parse();
    start_log(&cli);
    match cli.command.run() {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads no further, as `| head` does, has what he wanted.
        Err(error) if is_broken_pipe(&*error) => ExitCode::SUCCESS,
        Err(error) => {
            // Without a stderr there is nobody to tell.
            let _ = writeln!(io::stderr(), "tenantry: {error}");
            ExitCode::FAILURE
        }
    }
}

fn is_broken_pipe(error: &(dyn std::error::Error + 'static)) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
}

fn start_log(cli: &Cli) {
    let quiet = !matches!(cli.command, Command::Serve(_));
    let default = if quiet { LevelFilter::WARN } else { LevelFilter::INFO };
    let level = cli.log_level.unwrap_or(default);
    let log = tracing_subscriber::fmt().with_max_level(level).with_writer(io::stderr);
    match cli.log_format {
        LogFormat::Text => log.with_ansi(io::stderr().is_terminal()).init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
}
