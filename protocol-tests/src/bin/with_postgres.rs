//! Runs a command with a PostgreSQL 15 and an 18 beside it, and stops them afterwards.
//!
//! `with-postgres cargo nextest run`

use std::process::{Command, ExitCode};

use protocol_tests::Cluster;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let program = arguments.next().expect("usage: with-postgres COMMAND [ARGUMENT ...]");
    let settings = "max_connections = 400";
    let (fifteen, eighteen) = (Cluster::start(15, settings), Cluster::start(18, settings));
    let status = Command::new(program)
        .args(arguments)
        .env("TENANTRY_TEST_PG15_PORT", fifteen.port.to_string())
        .env("TENANTRY_TEST_PG18_PORT", eighteen.port.to_string())
        .status();
    match status {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}
