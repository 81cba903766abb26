//! What is counted, as the console shows it, beside what was done.

use std::collections::BTreeMap;
use std::process::Stdio;

use protocol_tests::database::connect;
use protocol_tests::{Database, Pooler, on_both};
use tokio::process::Command;
use tokio_postgres::Client;

const TOML: &str = "[tenancy]\ntenant_from = [\"user:.\"]\nschema = \"{tenant}\"\n[users.ops]\npassword = \"opspw\"\n\
    [admin]\nusers = [\"ops\"]\n[tenants.acme]\n[tenants.umbra]\n";
const STATS: &str = "database total_server_assignment_count total_xact_count total_query_count total_received total_sent total_xact_time total_query_time total_wait_time total_client_parse_count total_server_parse_count total_bind_count total_client_connect_count avg_server_assignment_count avg_xact_count avg_query_count avg_recv avg_sent avg_xact_time avg_query_time avg_wait_time avg_client_parse_count avg_server_parse_count avg_bind_count avg_client_connect_count";
const TOTALS: &str = "database server_assignment_count xact_count query_count bytes_received bytes_sent xact_time query_time wait_time client_parse_count server_parse_count bind_count client_connect_count";
const AVERAGES: &str = "database server_assignment_count xact_count query_count bytes_received bytes_sent xact_time query_time wait_time avg_client_parse_count avg_server_parse_count avg_bind_count client_connect_count";
const SERVERS: &str = "type user database replication state addr port local_addr local_port connect_time request_time wait wait_us close_needed ptr link remote_pid tls application_name prepared_statements id tenant cluster warm warm_tenants";
const USERS: &str = "name pool_size reserve_pool_size pool_mode max_user_connections current_connections max_user_client_connections current_client_connections";

async fn start(db: &Database, general: &str, more: &str) -> (Pooler, Client) {
    db.schemas(&["acme", "umbra"]).await;
    let pooler = Pooler::start_with(general, &format!("{}{TOML}{more}", db.toml(1))).await;
    let url = format!("postgres://ops:opspw@127.0.0.1:{}/pgbouncer", pooler.port);
    let ops = connect(&url).await.unwrap();
    (pooler, ops)
}

/// The numbers of the database's row.
async fn stats(ops: &Client, db: &Database) -> BTreeMap<String, i64> {
    let rows = ops.query("show stats", &[]).await.unwrap();
    let row = rows.iter().find(|row| row.get::<_, &str>(0) == db.name).expect("it has had clients");
    row.columns()
        .iter()
        .enumerate()
        .skip(1)
        .map(|(at, c)| (c.name().to_owned(), row.get(at)))
        .collect()
}

on_both! {
    async fn pgbouncers_statistics_count_what_was_done(db: &Database) {
        let (pooler, ops) = start(db, "", "").await;
        let acme = pooler.connect_as("app.acme", "secret").await;
        let before = stats(&ops, db).await;
        for _ in 0..5 {
            acme.simple_query("select 1").await.unwrap();
        }
        acme.batch_execute("begin").await.unwrap();
        acme.batch_execute("select pg_sleep(0.05)").await.unwrap();
        acme.batch_execute("commit").await.unwrap();
        let long = "x".repeat(100_000);
        acme.simple_query(&format!("select '{long}'")).await.unwrap();
        let statement = acme.prepare("select 1").await.unwrap();
        for _ in 0..3 {
            acme.query(&statement, &[]).await.unwrap();
        }
        let after = stats(&ops, db).await;
        let of = |name: &str| after[&format!("total_{name}")] - before[&format!("total_{name}")];
        // Five, a block of three queries, the long one, and of the statement: prepared, and run three times.
        assert_eq!((of("xact_count"), of("query_count")), (5 + 1 + 1 + 4, 5 + 3 + 1 + 4));
        assert_eq!(of("server_assignment_count"), 11);
        assert_eq!((of("client_parse_count"), of("bind_count")), (1, 3));
        assert!(of("received") > 100_000 && of("received") < 102_000, "{}", of("received"));
        assert!(of("sent") > 100_000 && of("sent") < 102_000, "{}", of("sent"));
        assert!(of("xact_time") >= 50_000 && of("xact_time") >= of("query_time"), "{after:?}");
        assert!(after["avg_xact_time"] > 0 && after["avg_recv"] > 0);
    }

    async fn who_waits_is_counted_with_how_long(db: &Database) {
        let (pooler, ops) = start(db, "", "").await;
        let (busy, waits) = (pooler.connect_as("app.acme", "secret").await, pooler.connect_as("app.umbra", "secret").await);
        let before = stats(&ops, db).await;
        busy.batch_execute("begin").await.unwrap();
        let wait = async { waits.batch_execute("select 1").await.unwrap() };
        let hold = async {
            pooler.until_message(1, "client waits for a server").await;
            busy.batch_execute("select pg_sleep(0.1)").await.unwrap();
            busy.batch_execute("commit").await.unwrap();
        };
        tokio::join!(wait, hold);
        let after = stats(&ops, db).await;
        let waited = after["total_wait_time"] - before["total_wait_time"];
        assert!((90_000..60_000_000).contains(&waited), "{waited}");
    }

    async fn every_table_has_pgbouncers_columns(db: &Database) {
        let (pooler, ops) = start(db, "", "").await;
        let _acme = pooler.connect_as("app.acme", "secret").await;
        for (command, columns) in [
            ("show stats", STATS),
            ("show stats_totals", TOTALS),
            ("show stats_averages", AVERAGES),
            ("show totals", "name value"),
            ("show servers", SERVERS),
            ("show users", USERS),
            ("show config", "key value default changeable"),
            ("show pins", "tenant user reason age client server_pid application_name"),
            ("show tenant acme", "key value rule"),
        ] {
            let statement = ops.prepare(command).await.unwrap();
            let names: Vec<&str> = statement.columns().iter().map(tokio_postgres::Column::name).collect();
            assert_eq!(names.join(" "), columns, "{command}");
            ops.query(&statement, &[]).await.unwrap();
        }
        let totals = ops.query("show totals", &[]).await.unwrap();
        assert_eq!(totals.len(), 24);
        let config = ops.query("show config", &[]).await.unwrap();
        let of = |key: &str| {
            let row = config.iter().find(|row| row.get::<_, &str>(0) == key).unwrap_or_else(|| panic!("{key}"));
            [1, 2, 3].map(|at| row.get::<_, String>(at)).join(" ")
        };
        assert_eq!(of("max_client_conn"), "10000 10000 no");
        assert_eq!(of("clusters.main.max_server_connections"), "1 20 yes");
        assert!(of("clusters.main.password").starts_with("*** "));
        let rows = ops.query("show tenant acme", &[]).await.unwrap();
        let schema = rows.iter().find(|row| row.get::<_, &str>(0) == "schema").unwrap();
        assert_eq!((schema.get::<_, &str>(1), schema.get::<_, &str>(2)), ("acme", "tenancy"));
        assert_eq!(ops.query("show tenant nobody", &[]).await.unwrap_err().code().unwrap().code(), "3D000");
    }

    async fn servers_and_pins_are_shown_with_their_clients(db: &Database) {
        let (pooler, ops) = start(db, "", "").await;
        let acme = pooler.connect_as("app.acme", "secret").await;
        let umbra = pooler.connect_as("app.umbra", "secret").await;
        umbra.batch_execute("select 1").await.unwrap();
        acme.batch_execute("listen news").await.unwrap();
        let pid: i32 = acme.query_one("select pg_backend_pid()", &[]).await.unwrap().get(0);
        let servers = ops.query("show servers", &[]).await.unwrap();
        let [server] = &*servers else { panic!("one server") };
        let text = |name: &str| server.get::<_, String>(name);
        assert_eq!((text("state"), text("database"), text("tenant")), ("active".into(), db.name.clone(), "acme".into()));
        assert_eq!((server.get::<_, i64>("remote_pid"), text("warm_tenants")), (i64::from(pid), "acme,umbra".to_owned()));
        let pins = ops.query("show pins", &[]).await.unwrap();
        assert_eq!((pins.len(), pins[0].get::<_, &str>("reason"), pins[0].get::<_, &str>("tenant")), (1, "LISTEN", "acme"));
        assert_eq!(pins[0].get::<_, i64>("server_pid"), i64::from(pid));
        let clients = ops.query("show clients", &[]).await.unwrap();
        let holder = clients.iter().find(|row| row.get::<_, &str>("tenant") == "acme").unwrap();
        assert_eq!((holder.get::<_, String>("link"), holder.get::<_, String>("ptr")), (text("ptr"), text("link")));
        assert!(holder.get::<_, Option<&str>>("request_time").is_some() && holder.get::<_, i64>("local_port") == i64::from(pooler.port));
        acme.batch_execute("unlisten *").await.unwrap();
        acme.batch_execute("select 1").await.unwrap();
        assert!(ops.query("show pins", &[]).await.unwrap().is_empty(), "it is pinned no more");
        let servers = ops.query("show servers", &[]).await.unwrap();
        assert_eq!((servers[0].get::<_, &str>("state"), servers[0].get::<_, &str>("link")), ("idle", ""));
        ops.batch_execute("reconnect").await.unwrap();
        ops.batch_execute("wait_close").await.unwrap();
        assert!(ops.query("show servers", &[]).await.unwrap().is_empty());
        // A session in that mode takes a server away as much as a pin does.
        let tool = connect(&format!("postgres://app.umbra:secret@127.0.0.1:{}/{}?options=-c%20tenantry.pool_mode%3Dsession", pooler.port, db.name)).await.unwrap();
        tool.batch_execute("select 1").await.unwrap();
        let pins = ops.query("show pins", &[]).await.unwrap();
        assert_eq!((pins.len(), pins[0].get::<_, &str>("reason")), (1, "pool_mode = \"session\""));
    }

    async fn pg_stat_activity_can_be_read_by_tenant(db: &Database) {
        let (pooler, _ops) = start(db, "application_name_add_tenant = true\n", "").await;
        let name = async |client: &Client| client.query_one("show application_name", &[]).await.unwrap().get::<_, String>(0);
        let acme = pooler.connect_as("app.acme", "secret").await;
        let url = format!("postgres://app.umbra:secret@127.0.0.1:{}/?application_name=billing", pooler.port);
        let umbra = connect(&url).await.unwrap();
        assert_eq!((name(&acme).await, name(&umbra).await), ("acme".to_owned(), "umbra: billing".to_owned()));
        let seen: i64 = db.admin.query_one("select count(*) from pg_stat_activity where application_name = 'umbra: billing'", &[]).await.unwrap().get(0);
        assert_eq!(seen, 1);
        acme.batch_execute("set application_name = 'own'; reset application_name").await.unwrap();
        assert_eq!(name(&acme).await, "acme", "RESET leads there, too");
    }

    /// PyPI's prometheus-pgbouncer-exporter, as it is.
    async fn pgbouncers_exporter_reads_it_unchanged(db: &Database) {
        let (pooler, _ops) = start(db, "", "").await;
        let acme = pooler.connect_as("app.acme", "secret").await;
        acme.simple_query("select 1").await.unwrap();
        let python = std::env::var("TENANTRY_TEST_PYTHON").expect("run `make test`");
        let program = "import sys\n\
            from prometheus_pgbouncer_exporter.config import PgbouncerConfig\n\
            from prometheus_pgbouncer_exporter.collector import PgbouncerMetricsCollector\n\
            for m in PgbouncerMetricsCollector(PgbouncerConfig({'dsn': sys.argv[1]})).collect():\n    print(m['name'], m['value'], m['labels'].get('database', ''))\n";
        let dsn = format!("postgres://ops:opspw@127.0.0.1:{}/pgbouncer", pooler.port);
        let output = Command::new(python).args(["-W", "ignore", "-c", program, &dsn]).stdin(Stdio::null()).output().await.unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let value = |name: &str| {
            let line = said.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap_or_else(|| panic!("{name} in {said}"));
            line.split(' ').nth(1).unwrap().parse::<i64>().unwrap()
        };
        assert_eq!(value("pgbouncer_up"), 1, "{said}");
        assert_eq!(value("pgbouncer_config_max_client_conn"), 10_000);
        assert_eq!(value("pgbouncer_pools_client_active_connections"), 1);
        assert_eq!(value("pgbouncer_databases_database_max_connections"), 1);
        assert!(value("pgbouncer_stats_transactions_total") >= 1 && value("pgbouncer_stats_received_bytes_total") > 0);
        assert!(said.contains(&format!("pgbouncer_pools_server_idle_connections 1 {}", db.name)), "{said}");
    }
}
