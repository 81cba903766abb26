//! What the operator and the machine do to all clients at once: servers are killed or reconnected, and the
//! configuration is written anew: quotas, weights, guarantees, time limits; tenants that are suspended, drained, paused, made
//! known again; tenants that move to another database or to another cluster and back. And what an operator says on the
//! console: all of it, in any order.

use std::time::Duration;

use protocol_tests::database::connect;
use protocol_tests::{Database, Pooler};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::{DEFAULT_TENANT, GUARDED, SERVERS};

pub(super) struct Trouble<'a> {
    db: &'a Database,
    /// Another database that has the same tenants.
    other: String,
    tenants: Vec<String>,
    rng: StdRng,
}

impl<'a> Trouble<'a> {
    pub(super) async fn new(db: &'a Database, tenants: &[String], seed: u64) -> Self {
        let other = format!("{}_other", db.name);
        let sql = format!("create database {other} owner {}", db.name);
        db.admin.batch_execute(&sql).await.unwrap();
        let admin = connect(&db.direct_as_admin(&other)).await.unwrap();
        db.schemas_in(&admin, &tenants.iter().map(String::as_str).collect::<Vec<_>>()).await;
        Self { db, other, tenants: tenants.to_vec(), rng: StdRng::seed_from_u64(seed) }
    }

    fn with(&self, tenant: impl FnMut(&String) -> String) -> String {
        let main = self.db.toml(SERVERS.into());
        let second = main
            .split("[users.app]")
            .next()
            .unwrap()
            .replace("[clusters.main]", "[clusters.second]");
        let tenants: String = self.tenants.iter().map(tenant).collect();
        format!(
            "{main}{second}database = \"{}\"\n[auth]\ntype = \"trust\"\n[admin]\nusers = [\"ops\"]\n[users.ops]\n[tenancy]\ntenant_from = [\"user:.\", \"search_path\"]\n\
             default_tenant = \"{DEFAULT_TENANT}\"\nunknown = \"template\"\ncluster = \"main\"\nschema = \"{{tenant}}\"\n[tenants.\"*\"]\n{tenants}",
            self.other
        )
    }

    fn section(&self, name: &str) -> String {
        let guarded = self.tenants.iter().take(GUARDED.into()).any(|tenant| tenant == name);
        let guard = if guarded { "guard = \"reject\"\n" } else { "" };
        format!("[tenants.{name}]\n{guard}")
    }

    /// A configuration in which everybody is let in.
    pub(super) fn quiet(&self) -> String {
        self.with(|name| self.section(name))
    }

    fn unquiet(&mut self) -> String {
        let mut rng = StdRng::seed_from_u64(self.rng.random());
        self.with(|name| {
            let mut section = self.section(name);
            let mut add = |line: &str| section.extend([line, "\n"]);
            if name != DEFAULT_TENANT {
                match rng.random_range(0..20) {
                    0 => add("state = \"suspended\"\nmessage = \"for a while\""),
                    1 => add("state = \"draining\""),
                    2..=4 => add("state = \"paused\""),
                    _ => {}
                }
            }
            match rng.random_range(0..4) {
                0 => add(&format!("database = \"{}\"", self.other)),
                1 => add("cluster = \"second\""),
                _ => {}
            }
            add(&format!("max_server_connections = {}", rng.random_range(1..=SERVERS)));
            add(&format!("weight = {}", rng.random_range(1..9)));
            // In sum less than the budget, or the configuration would be refused.
            if ["t1", "t5"].contains(&name.as_str()) && rng.random_bool(0.5) {
                add("guaranteed_server_connections = 1");
            }
            add(["query_wait_timeout = \"500ms\"", "max_waiting_clients = 2", ""]
                [rng.random_range(0..3)]);
            add([
                "idle_transaction_timeout = \"300ms\"",
                "transaction_timeout = \"300ms\"",
                "query_timeout = \"300ms\"",
                "",
            ][rng.random_range(0..4)]);
            section
        })
    }

    /// Until the time is over; how often the configuration was taken. In the end everybody is let in.
    pub(super) async fn make(mut self, pooler: &Pooler, time: Duration) -> usize {
        let end = tokio::time::Instant::now() + time;
        while tokio::time::Instant::now() < end {
            let pace = self.rng.random_range(50..400);
            tokio::time::sleep(Duration::from_millis(pace)).await; // a pace, not a condition
            let sql = format!(
                "select pg_terminate_backend(pid) from pg_stat_activity where usename = '{}' order by md5(pid::text || '{}') limit 1",
                self.db.name,
                self.rng.random::<u32>()
            );
            self.db.admin.batch_execute(&sql).await.unwrap();
            if self.rng.random_bool(0.4) {
                let text = self.unquiet();
                self.write(pooler, &text).await;
            }
            if self.rng.random_bool(0.6) {
                let commands = self.orders();
                self.order(pooler, &commands).await;
            }
        }
        let mut back = vec!["RESUME".to_owned()];
        back.extend([&self.db.name, &self.other].map(|database| format!("ENABLE {database}")));
        back.extend(self.tenants.iter().map(|tenant| format!("RESET TENANT {tenant}")));
        self.order(pooler, &back).await;
        let text = self.quiet();
        self.write(pooler, &text).await;
        pooler.messages("configuration reloaded")
    }

    /// What an operator may say, one after the other; what rests goes on a little later.
    fn orders(&mut self) -> Vec<String> {
        let tenant = &self.tenants[self.rng.random_range(0..self.tenants.len())];
        let database = if self.rng.random_bool(0.5) { &self.db.name } else { &self.other };
        let servers = self.rng.random_range(1..=SERVERS);
        match self.rng.random_range(0..16) {
            0 => vec!["RECONNECT".to_owned()],
            1 => vec!["RELOAD".to_owned()],
            2 => vec![format!("RECONNECT {database}"), "WAIT_CLOSE".to_owned()],
            3 => vec![format!("RECONNECT TENANT {tenant}")],
            4 => vec![format!("KILL TENANT {tenant}")],
            5 => vec![format!("PAUSE TENANT {tenant}"), format!("RESUME TENANT {tenant}")],
            6 => vec![format!("SUSPEND TENANT {tenant}"), format!("RESET TENANT {tenant}")],
            7 => vec![format!("DRAIN TENANT {tenant}"), format!("RESUME TENANT {tenant}")],
            8 => vec![format!("SET TENANT {tenant} max_server_connections = {servers}")],
            9 => vec![format!("SET TENANT {tenant} database = '{}'", self.other)],
            10 => vec![format!("SET TENANT {tenant} cluster = 'second'")],
            11 => vec![format!("RESET TENANT {tenant}")],
            12 => vec![format!("PAUSE {database}"), format!("RESUME {database}")],
            13 => vec!["PAUSE".to_owned(), format!("RESUME TENANT {tenant}"), "RESUME".to_owned()],
            14 => vec![format!("KILL {database}"), "RESUME".to_owned()],
            _ => vec![
                format!("DISABLE {database}"),
                format!("DRAIN {database}"),
                format!("ENABLE {database}"),
                format!("RESUME {database}"),
            ],
        }
    }

    /// Says it. Whoever waits for servers to close loses patience: sessions may keep theirs.
    async fn order(&self, pooler: &Pooler, commands: &[String]) {
        let url = format!("postgres://ops@127.0.0.1:{}/tenantry", pooler.port);
        for command in commands {
            let console = connect(&url).await.unwrap();
            let answer =
                tokio::time::timeout(Duration::from_millis(300), console.batch_execute(command));
            if let Ok(Err(error)) = answer.await {
                // Nobody to kill, no server of that database.
                assert!(error.as_db_error().is_some(), "{command}: {error}");
            }
        }
    }

    async fn write(&self, pooler: &Pooler, text: &str) {
        let count = pooler.messages("configuration reloaded") + 1;
        pooler
            .reload(count, |old| format!("{}{text}", old.split("[clusters.main]").next().unwrap()))
            .await;
    }
}
