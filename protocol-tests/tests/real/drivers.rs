//! Real drivers by a plain URL: a transaction, a prepared statement, a COPY and an error.

use std::process::Stdio;

use protocol_tests::{Database, on_both};
use tokio::process::Command;

use crate::{sqlstate, two_tenants};

/// Runs a driver's program with the pooler's URL; it checks by itself and says `ok`.
async fn program(mut command: Command, url: &str) {
    let output = command.arg(url).stdin(Stdio::null()).output();
    let output = protocol_tests::soon("the driver", output).await.unwrap();
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.trim() == "ok", "{out}\n{err}");
}

fn script(name: &str) -> String {
    format!("{}/drivers/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn python(name: &str) -> Command {
    let mut command = Command::new(std::env::var("TENANTRY_TEST_PYTHON").expect("run `make test`"));
    command.arg(script(name));
    command
}

on_both! {
    async fn psql(db: &Database) {
        let pooler = two_tenants(db, 2).await;
        let mut command = Command::new("bash");
        command.arg(script("psql.sh"));
        program(command, &pooler.url("app.acme", "")).await;
    }

    async fn psycopg(db: &Database) {
        let pooler = two_tenants(db, 2).await;
        program(python("psycopg_driver.py"), &pooler.url("app.acme", "")).await;
    }

    async fn asyncpg(db: &Database) {
        let pooler = two_tenants(db, 2).await;
        program(python("asyncpg_driver.py"), &pooler.url("app.acme", &format!("{}?options=-c%20app.tenant%3Dacme", db.name))).await;
    }

    async fn node_pg(db: &Database) {
        let pooler = two_tenants(db, 2).await;
        let mut command = Command::new("node");
        command.arg(script("node-pg.js")).env("NODE_PATH", std::env::var("TENANTRY_TEST_NODE_MODULES").expect("run `make test`"));
        program(command, &pooler.url("app.acme", &db.name)).await;
    }

    async fn tokio_postgres(db: &Database) {
        let pooler = two_tenants(db, 2).await;
        let mut client = pooler.connect("acme").await;
        let transaction = client.transaction().await.unwrap();
        transaction.execute("insert into who values ($1)", &[&"x"]).await.unwrap();
        transaction.rollback().await.unwrap();
        let statement = client.prepare("select name from who where name = $1").await.unwrap();
        for _ in 0..3 {
            assert_eq!(client.query_one(&statement, &[&"acme"]).await.unwrap().get::<_, String>(0), "acme");
        }
        let sink = client.copy_in::<_, &[u8]>("copy who from stdin").await.unwrap();
        drop(sink); // abandoned: CopyFail
        let error = client.query("select 1/0", &[]).await.unwrap_err();
        assert_eq!(sqlstate(&error), "22012");
        assert_eq!(client.query("select name from who", &[]).await.unwrap().len(), 1);
    }
}
