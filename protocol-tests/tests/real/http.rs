//! Metrics, probes, and who gets the dashboard.

use std::collections::BTreeMap;
use std::process::Stdio;

use protocol_tests::http::send;
use protocol_tests::pooler::binary;
use protocol_tests::{Database, Pooler, on_both};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;

const TOML: &str = "[tenancy]\ntenant_from = [\"user:.\"]\nunknown = \"template\"\nschema = \"{tenant}\"\n[tenants.\"*\"]\n";
const HTTP: &str = "[http]\nlisten = \"127.0.0.1:0\"\n";

async fn start(db: &Database, http: &str) -> Pooler {
    db.schemas(&["acme", "umbra", "third"]).await;
    Pooler::start(&format!("{}{TOML}{http}", db.toml(2))).await
}

/// Samples, by name and labels as they are written.
async fn metrics(pooler: &Pooler) -> BTreeMap<String, f64> {
    let page = pooler.page("/metrics").await;
    assert_eq!(page.status, 200);
    let samples = page.body.lines().filter(|line| !line.starts_with('#'));
    samples
        .map(|line| line.rsplit_once(' ').unwrap())
        .map(|(name, value)| (name.to_owned(), value.parse().unwrap()))
        .collect()
}

/// A number that has no fraction.
#[expect(clippy::cast_possible_truncation, reason = "counts of a test")]
fn count(metrics: &BTreeMap<String, f64>, name: &str) -> i64 {
    let value = metrics.get(name).unwrap_or_else(|| panic!("{name} in {metrics:#?}"));
    assert!(value.fract() == 0.0, "{name} {value}");
    *value as i64
}

on_both! {
    async fn metrics_count_what_was_done_by_tenant(db: &Database) {
        let pooler = start(db, HTTP).await;
        let (acme, umbra) = (pooler.connect("acme").await, pooler.connect("umbra").await);
        for _ in 0..7 {
            acme.simple_query("select 1").await.unwrap();
        }
        acme.batch_execute("begin; select pg_sleep(0.03); commit").await.unwrap();
        umbra.batch_execute("listen news").await.unwrap();
        pooler.until_message(1, "session pinned to its server").await;
        let wrong = format!("postgres://app.nobody:wrong@127.0.0.1:{}/", pooler.port);
        protocol_tests::database::connect(&wrong).await.err().unwrap();
        let seen = metrics(&pooler).await;
        let of = |name: &str| count(&seen, name);
        assert_eq!(of("tenantry_transactions_total{tenant=\"acme\"}"), 8);
        assert_eq!(of("tenantry_queries_total{tenant=\"acme\"}"), 8);
        assert_eq!(of("tenantry_transactions_total{tenant=\"umbra\"}"), 1);
        assert_eq!(of("tenantry_transactions_total{tenant=\"other\"}"), 0);
        assert_eq!(of("tenantry_logins_total{tenant=\"acme\"}"), 1);
        assert_eq!((of("tenantry_clients{tenant=\"acme\"}"), of("tenantry_servers{tenant=\"umbra\"}")), (1, 1));
        // Of two, one is left to the others.
        assert_eq!(of("tenantry_servers_max{tenant=\"acme\"}"), 1);
        assert_eq!((of("tenantry_pinned_sessions"), of("tenantry_pins_total{reason=\"LISTEN\"}")), (1, 1));
        assert_eq!(of("tenantry_refusals_total{reason=\"authentication\",sqlstate=\"28P01\"}"), 1);
        assert_eq!(of("tenantry_cluster_up{cluster=\"main\"}"), 1);
        assert_eq!(of("tenantry_cluster_servers{cluster=\"main\",state=\"active\"}"), 1);
        assert_eq!(of("tenantry_transaction_duration_seconds_count{tenant=\"acme\"}"), 8);
        assert_eq!(of("tenantry_transaction_duration_seconds_bucket{le=\"+Inf\",tenant=\"acme\"}"), 8);
        assert!(of("tenantry_transaction_duration_seconds_bucket{le=\"0.025\",tenant=\"acme\"}") <= 7, "one took 30 ms");
        assert!(seen["tenantry_transaction_duration_seconds_sum{tenant=\"acme\"}"] >= 0.03);
        assert_eq!(of("tenantry_wait_duration_seconds_count{tenant=\"acme\"}"), 8);
        let switched = of("tenantry_switches_total{tenant=\"acme\"}") + of("tenantry_switches_total{tenant=\"umbra\"}");
        assert_eq!(switched, of("tenantry_switch_duration_seconds_count{tenant=\"acme\"}") + of("tenantry_switch_duration_seconds_count{tenant=\"umbra\"}"));
        assert!(of("tenantry_received_bytes_total{tenant=\"acme\"}") > 7 * 14);
    }

    async fn the_busiest_have_names_and_the_rest_are_one(db: &Database) {
        let pooler = start(db, "[http]\nlisten = \"127.0.0.1:0\"\ntenant_labels = 1\n").await;
        let (acme, umbra, third) = (pooler.connect("acme").await, pooler.connect("umbra").await, pooler.connect("third").await);
        umbra.batch_execute("select pg_sleep(0.1)").await.unwrap();
        acme.batch_execute("select 1").await.unwrap();
        third.batch_execute("select 1").await.unwrap();
        let seen = metrics(&pooler).await;
        assert_eq!((count(&seen, "tenantry_transactions_total{tenant=\"umbra\"}"), count(&seen, "tenantry_transactions_total{tenant=\"other\"}")), (1, 2));
        assert_eq!((count(&seen, "tenantry_all_transactions_total"), count(&seen, "tenantry_all_logins_total")), (3, 3));
        assert_eq!((count(&seen, "tenantry_clients{tenant=\"other\"}"), count(&seen, "tenantry_clients{tenant=\"umbra\"}")), (2, 1));
        assert!(!seen.keys().any(|name| name.contains("acme") || name.contains("third")), "{seen:#?}");
        assert!(!seen.contains_key("tenantry_servers_max{tenant=\"other\"}"), "a limit of many is no limit");
    }

    /// By Prometheus' own strict reader; and what there is, is what the page lists.
    async fn metrics_are_open_metrics_and_all_on_their_page(db: &Database) {
        let pooler = start(db, HTTP).await;
        let acme = pooler.connect("acme").await;
        acme.batch_execute("select 1").await.unwrap();
        let page = pooler.page("/metrics").await;
        assert!(page.head.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"), "{}", page.head);
        let program = "import sys\n\
            from prometheus_client.openmetrics.parser import text_string_to_metric_families as read\n\
            for f in read(sys.stdin.read()):\n    print(f.name + ('_total' if f.type == 'counter' else ''), f.type)\n";
        let python = std::env::var("TENANTRY_TEST_PYTHON").expect("run `make test`");
        let mut child = Command::new(python).args(["-c", program]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(page.body.as_bytes()).await.unwrap();
        let output = child.wait_with_output().await.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let said = String::from_utf8(output.stdout).unwrap();
        let listed = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md")).unwrap();
        let rows = listed.lines().filter_map(|line| line.strip_prefix("| `tenantry_"));
        let rows: Vec<String> = rows.map(|row| format!("tenantry_{}", row.split(" | ").take(2).collect::<Vec<_>>().join(" ").replace('`', ""))).collect();
        assert!(rows.len() > 30);
        assert_eq!(said.lines().collect::<Vec<_>>(), rows);
    }

    async fn probes_say_what_an_operator_would(db: &Database) {
        let mut pooler = start(db, HTTP).await;
        assert_eq!(pooler.page("/livez").await.status, 200);
        let ready = pooler.page("/readyz").await;
        assert_eq!((ready.status, ready.body.as_str()), (200, "clients: let in\ncluster main: reachable\n"));
        let acme = pooler.connect("acme").await;
        acme.batch_execute("begin").await.unwrap();
        assert_eq!(pooler.page("/readyz").await.body, "clients: let in\ncluster main: in use\n");
        let health = async |more: &[&str]| {
            let path = pooler.directory.path().join("tenantry.toml");
            let at = pooler.http.unwrap().to_string();
            let text = std::fs::read_to_string(&path).unwrap().replace("listen = \"127.0.0.1:0\"", &format!("listen = \"{at}\""));
            let here = pooler.directory.path().join("health.toml");
            std::fs::write(&here, text).unwrap();
            let output = Command::new(binary()).arg("health").args(more).arg(&here).output().await.unwrap();
            (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
        };
        assert_eq!(health(&[]).await, (true, "ok\n".to_owned()));
        assert!(health(&["--ready"]).await.0);
        pooler.signal("TERM");
        pooler.until_message(1, "draining").await;
        let ready = pooler.page("/readyz").await;
        assert_eq!((ready.status, ready.body.lines().next().unwrap()), (503, "clients: refused, shutting down"));
        assert_eq!(pooler.page("/livez").await.status, 200, "it drains, and is well");
        assert!(!health(&["--ready"]).await.0);
        acme.batch_execute("commit").await.unwrap();
        drop(acme);
        let at = pooler.http.unwrap();
        pooler.ended().await;
        assert!(TcpStream::connect(at).await.is_err());
    }

    async fn it_is_not_ready_without_postgresql(db: &Database) {
        let toml = db.toml(1);
        let port = toml.lines().find(|line| line.starts_with("port")).unwrap();
        // A port that nobody listens on: bound, and given back.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let pooler = Pooler::start(&format!("{}{TOML}{HTTP}", toml.replace(port, &format!("port = {free}")))).await;
        let ready = pooler.page("/readyz").await;
        assert_eq!((ready.status, ready.body.lines().nth(1).unwrap()), (503, "cluster main: not reachable"));
        let url = format!("postgres://app.acme:secret@127.0.0.1:{}/", pooler.port);
        // It waits for a login that fails again and again.
        let mut login = Box::pin(protocol_tests::database::connect(&url));
        let failed = pooler.until_message(1, "login to the server failed");
        tokio::select! {
            _ = &mut login => {}
            _ = failed => {}
        }
        let fails = async {
            while pooler.page("/readyz").await.body.lines().nth(1).unwrap() != "cluster main: logins fail" {
                tokio::task::yield_now().await;
            }
        };
        protocol_tests::soon("logins fail", fails).await;
        assert_eq!(pooler.page("/readyz").await.status, 503);
        let seen = metrics(&pooler).await;
        assert_eq!(count(&seen, "tenantry_cluster_up{cluster=\"main\"}"), 0);
        assert!(count(&seen, "tenantry_server_login_failures_total") >= 1);
        assert_eq!(pooler.page("/livez").await.status, 200);
        drop(login);
    }

    async fn a_postgresql_that_hangs_is_not_ready(db: &Database) {
        // It lets the kernel take connections, and says nothing.
        let hangs = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let toml = db.toml(1);
        let port = toml.lines().find(|line| line.starts_with("port")).unwrap();
        let toml = toml.replace(port, &format!("port = {}\nserver_connect_timeout = \"500ms\"", hangs.local_addr().unwrap().port()));
        let pooler = Pooler::start(&format!("{toml}{TOML}{HTTP}")).await;
        let ready = pooler.page("/readyz").await;
        assert_eq!((ready.status, ready.body.lines().nth(1).unwrap()), (503, "cluster main: not reachable"));
        let url = format!("postgres://app.acme:secret@127.0.0.1:{}/", pooler.port);
        let mut login = Box::pin(protocol_tests::database::connect(&url));
        let failed = pooler.until_message(2, "login to the server failed");
        tokio::select! {
            _ = &mut login => {}
            _ = failed => {}
        }
        drop(login);
        // Nobody tries any more: it stays as it was found.
        for _ in 0..20 {
            assert_eq!(pooler.page("/readyz").await.body.lines().nth(1).unwrap(), "cluster main: logins fail");
            assert_eq!(count(&metrics(&pooler).await, "tenantry_cluster_up{cluster=\"main\"}"), 0);
        }
    }

    async fn the_dashboard_is_for_this_host_unless_it_is_said(db: &Database) {
        let ask = async |pooler: &Pooler, host: &str| {
            send(pooler.http.unwrap(), &format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")).await
        };
        let pooler = start(db, HTTP).await;
        let page = ask(&pooler, "127.0.0.1:9127").await;
        assert!(page.status == 200 && page.body.contains("<title>Tenantry</title>"));
        assert!(page.head.contains("content-security-policy: default-src 'none'") && page.head.contains("x-content-type-options: nosniff"), "{}", page.head);
        let refused = ask(&pooler, "rebound.example:9127").await;
        assert!(refused.status == 403 && refused.body.contains("http.dashboard"), "a page elsewhere cannot read it by a name of its own");
        for request in [
            "GET /state.json HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            "GET http://x/state.json HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
            "GET /state.json HTTP/1.1\r\nHost: localhost\r\nHost: x\r\nConnection: close\r\n\r\n",
        ] {
            assert_eq!(send(pooler.http.unwrap(), request).await.status, 403, "{request}");
        }
        for (setting, host, status) in [("off", "localhost", 403), ("any", "rebound.example", 200)] {
            let pooler = Pooler::start(&format!("{}{TOML}{HTTP}dashboard = \"{setting}\"\n", db.toml(2))).await;
            assert_eq!(ask(&pooler, host).await.status, status, "{setting}");
            assert_eq!(pooler.page("/metrics").await.status, 200);
        }
    }

    async fn who_asks_badly_is_refused_and_nobody_else_notices(db: &Database) {
        let pooler = start(db, HTTP).await;
        let at = pooler.http.unwrap();
        for (request, status) in [
            ("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_owned(), 405),
            ("GET /nowhere HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".to_owned(), 404),
            ("GET /../../etc/passwd HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".to_owned(), 404),
            ("nonsense\r\n\r\n".to_owned(), 400),
            (format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(100_000)), 431),
        ] {
            assert_eq!(send(at, &request).await.status, status, "{request:.40}");
        }
        // More than are kept, that say nothing, or half of it: clients are served, and so is who asks.
        let mut silent = Vec::new();
        for number in 0..200 {
            let mut stream = TcpStream::connect(at).await.unwrap();
            if number % 2 == 0 {
                stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: local").await.unwrap();
            }
            silent.push(stream);
            if number % 20 == 0 {
                assert_eq!(pooler.page("/livez").await.status, 200, "beside {number}");
            }
        }
        let acme = pooler.connect("acme").await;
        acme.batch_execute("select 1").await.unwrap();
        let gone = async { silent[0].read(&mut [0; 1]).await.unwrap_or(0) };
        assert_eq!(protocol_tests::soon("the end of a silent connection", gone).await, 0);
        assert_eq!(pooler.page("/livez").await.status, 200);
    }
}
