//! Real PostgreSQL 15 and 18, one file a promise.
#![allow(
    clippy::unwrap_used,
    clippy::too_many_lines,
    clippy::semicolon_if_nothing_returned,
    clippy::never_loop,
    clippy::print_stdout,
    clippy::large_futures,
    reason = "tests: what is wrong fails"
)]

mod absorbed;
mod asked_sessions;
mod auth_query;
mod authentication;
mod cancel;
mod channel_binding;
mod closed_servers;
mod command_line;
mod console;
mod console_databases;
mod console_drivers;
mod copy;
mod dashboard;
mod django;
mod drivers;
mod ended_backends;
mod extended_query;
mod failover;
mod first_bytes;
mod guard;
mod guarded_apps;
mod hostile;
mod http;
mod kept_servers;
mod living_tenants;
mod logs;
mod many_databases;
mod neighbours;
mod own_clock;
mod own_names;
mod pass_through;
mod pipeline;
mod prepared;
mod prepared_corpus;
mod prepared_load;
mod prepared_pipelines;
mod prepared_reading;
mod quotas;
mod refused_switch;
mod registry;
mod regressions;
mod reload;
mod reported;
mod resets_by_name;
mod result_types;
mod server_sharing;
mod session_mode;
mod session_state;
mod set_grammar;
mod shutdown;
mod simple_query;
mod sql_prepared;
mod standing_still;
mod startup;
mod startup_rows;
mod state_corpus;
mod state_edges;
mod state_rows;
mod statistics;
mod tenancy;
mod tenant_isolation;
mod timeouts;
mod tls;
mod transaction_mode;
mod ways_out;

use protocol_tests::pooler::BY_SCHEMA;
use protocol_tests::{Database, Pooler, Wire};

/// A pooler over `servers` servers, with the schema tenants `acme` and `umbra`.
async fn two_tenants(db: &Database, servers: usize) -> Pooler {
    db.schemas(&["acme", "umbra"]).await;
    Pooler::start(&format!("{}{BY_SCHEMA}", db.toml(servers))).await
}

/// The same with `trust`, for raw clients.
async fn trusting(db: &Database, servers: usize) -> Pooler {
    db.schemas(&["acme", "umbra"]).await;
    Pooler::start(&format!("{}[auth]\ntype = \"trust\"\n{BY_SCHEMA}", db.toml(servers))).await
}

/// A raw client of a tenant.
async fn raw(pooler: &Pooler, tenant: &str) -> Wire {
    Wire::login(pooler.port, &[("user", &format!("app.{tenant}"))]).await
}

/// The SQLSTATE of a failed connection or statement.
fn sqlstate(error: &tokio_postgres::Error) -> String {
    error.code().map_or_else(|| error.to_string(), |code| code.code().to_owned())
}
