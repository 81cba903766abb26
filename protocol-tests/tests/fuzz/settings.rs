//! Every setting that a conversation can meet, at random.

use std::fmt::Write;

use protocol_tests::Database;
use rand::Rng;
use rand::rngs::StdRng;

/// A pooler's configuration, and what its canaries may ask of it.
pub(crate) struct Config {
    pub(crate) toml: String,
    /// Each tenant has a server that the other one cannot take.
    pub(crate) apart: bool,
}

/// Schemas of two tenants, and their roles.
pub(crate) async fn prepare(db: &Database) {
    db.schemas(&["acme", "umbra"]).await;
    let name = &db.name;
    db.admin
        .batch_execute(&format!(
            "create role {name}_acme; create role {name}_umbra; grant {name}_acme, {name}_umbra to {name}; \
             grant usage, create on schema acme to {name}_acme; grant usage, create on schema umbra to {name}_umbra; \
             grant all on acme.who to {name}_acme; grant all on umbra.who to {name}_umbra"
        ))
        .await
        .unwrap();
}

/// A configuration. Its limits are short: a client that stops in the middle is not waited for.
pub(crate) fn random(rng: &mut StdRng, db: &Database) -> Config {
    let one = |rng: &mut StdRng, of: &[&str]| of[rng.random_range(0..of.len())].to_owned();
    let servers = rng.random_range(1..4);
    let apart = servers > 1 && rng.random_bool(0.7);
    let mut general = String::new();
    general +=
        &one(rng, &["", "", "", "max_prepared_statements = 0\n", "max_prepared_statements = 2\n"]);
    if rng.random_bool(0.2) {
        general.push_str("absorb = false\n");
    }
    if rng.random_bool(0.2) {
        general.push_str("scrub = \"client\"\n");
    }
    if rng.random_bool(0.2) {
        general.push_str("pool_mode = \"session\"\n");
    }
    if rng.random_bool(0.3) {
        general.push_str("workers = 2\n");
    }
    let mut tenancy = String::from(
        "[tenancy]\ntenant_from = [\"user:.\"]\nunknown = \"template\"\nschema = \"{tenant}\"\n",
    );
    if rng.random_bool(0.5) {
        writeln!(tenancy, "role = \"{}_{{tenant}}\"", db.name).unwrap();
    }
    if rng.random_bool(0.5) {
        tenancy.push_str("settings = { \"app.tenant\" = \"{tenant}\" }\n");
    }
    writeln!(tenancy, "guard = \"{}\"", one(rng, &["off", "audit", "reject", "reject"])).unwrap();
    writeln!(tenancy, "on_session_state = \"{}\"", one(rng, &["pin", "pin", "reject"])).unwrap();
    tenancy.push_str(
        "max_pin_time = \"500ms\"\nidle_transaction_timeout = \"300ms\"\ntransaction_timeout = \"1500ms\"\n\
         query_timeout = \"1s\"\nquery_wait_timeout = \"15s\"\n",
    );
    if apart {
        writeln!(tenancy, "max_server_connections = {}", servers - 1).unwrap();
        tenancy.push_str("guaranteed_server_connections = 1\n");
    }
    let toml = format!(
        "{general}{}[auth]\ntype = \"trust\"\n{tenancy}[tenants.\"*\"]\n",
        db.toml(servers)
    );
    Config { toml, apart }
}
