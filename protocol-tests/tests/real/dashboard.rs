//! The dashboard in a real browser, headless.

use std::process::Stdio;

use protocol_tests::{Database, Pooler, on_both};
use serde_json::Value;
use tokio::process::Command;
use tokio_postgres::Client;

const TOML: &str = "[http]\nlisten = \"127.0.0.1:0\"\n[tenancy]\ntenant_from = [\"user:.\"]\nschema = \"{tenant}\"\n\
    [tenants.acme]\nmax_server_connections = 1\n[tenants.umbra]\n[tenants.initech]\n";

/// What the page shows once `tenant` has a rate; the picture is kept where `TENANTRY_SCREENSHOT` says.
async fn look(pooler: &Pooler, tenant: &str) -> Value {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/browser/dashboard.js");
    let modules = std::env::var("TENANTRY_TEST_NODE_MODULES").expect("run `make test`");
    let url = format!("http://{}/", pooler.http.unwrap());
    let mut command = Command::new("node");
    command
        .env("NODE_PATH", modules)
        .args([script, &url, tenant])
        .args(std::env::var("TENANTRY_SCREENSHOT"));
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Statements, one after the other, until it is dropped.
async fn keep_busy(client: Client) {
    loop {
        client.batch_execute("select pg_sleep(0.01)").await.unwrap();
    }
}

fn row<'a>(seen: &'a Value, table: &str, column: usize, text: &str) -> &'a Value {
    let rows = seen[table].as_array().unwrap();
    rows.iter().find(|row| row[column] == text).unwrap_or_else(|| panic!("{text} in {rows:#?}"))
}

on_both! {
    async fn it_shows_three_tenants_live_and_who_waits_for_what(db: &Database) {
        // A name that would be a script, if it were taken for one.
        let script = "<img src=x onerror=alert(1)>";
        db.schemas(&["acme", "umbra", "initech"]).await;
        let pooler = Pooler::start(&format!("{}{TOML}", db.toml(4))).await;
        let connect = |tenant: &str| { let name = format!("app.{tenant}"); async { let name = name; pooler.connect_as(&name, "secret").await } };
        let blocks = connect("acme").await;
        blocks.batch_execute("begin").await.unwrap();
        let waits = connect("acme").await;
        let pinned = connect("initech").await;
        pinned.batch_execute(&format!("set application_name = '{script}'; listen news")).await.unwrap();
        let url = format!("postgres://app.initech:secret@127.0.0.1:{}/?application_name={}", pooler.port, "%3Cb%3Ebold%3C%2Fb%3E");
        let marked = protocol_tests::database::connect(&url).await.unwrap();
        marked.batch_execute("create temporary table mine (n int)").await.unwrap();
        let (busy, waiting) = (keep_busy(connect("umbra").await), async { waits.batch_execute("select 1").await.unwrap() });
        let seen = tokio::select! {
            seen = look(&pooler, "umbra") => seen,
            () = busy => unreachable!(),
            () = async { waiting.await; std::future::pending::<()>().await } => unreachable!(),
        };
        let (acme, umbra) = (row(&seen, "tenants", 0, "acme"), row(&seen, "tenants", 0, "umbra"));
        assert_eq!(seen["tenants"].as_array().unwrap().len(), 3);
        assert_eq!(seen["tenants"][0][0], "acme", "who waits comes first");
        assert_eq!((&acme[3], &acme[6], &acme[7]), (&"1 of 1".into(), &"1".into(), &"its max_server_connections".into()));
        assert!(umbra[2].as_str().unwrap().parse::<f64>().unwrap() > 0.2, "it keeps a server busy: {umbra}");
        assert_eq!(seen["figures"]["clients that wait"], "1");
        assert_eq!((&row(&seen, "pins", 3, "LISTEN")[0], &row(&seen, "pins", 3, "temporary object")[2]), (&"initech".into(), &"<b>bold</b>".into()), "text stays text");
        assert!(seen["clusters"][0].as_str().unwrap().contains("of 4 servers busy"), "{}", seen["clusters"]);
        let server = row(&seen, "servers", 6, "acme");
        assert!(server[8].as_str().unwrap().contains("acme"), "it is warm for its tenant: {server}");
        assert_eq!(seen["problems"], serde_json::json!([]));
        assert_eq!(seen["elsewhere"], serde_json::json!([]), "the page asks nobody else");
    }
}
