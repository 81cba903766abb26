//! Prepared statements under load: pgbench, and many clients whose tables change under them.

use std::process::Stdio;

use protocol_tests::wire::{Message, bind, execute, parse, sync};
use protocol_tests::{Database, Pooler, Wire, on_both};
use tokio::process::Command;
use tokio::task::JoinSet;

use crate::{raw, trusting};

/// pgbench, as that tenant. A thread a client: it waits for the answer to a `Parse` with all that share
/// its thread, one of which may hold the server that is waited for.
fn pgbench(pooler: &Pooler, tenant: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("/usr/lib/postgresql/15/bin/pgbench");
    command.args([
        "-h",
        "127.0.0.1",
        "-U",
        &format!("app.{tenant}"),
        "-p",
        &pooler.port.to_string(),
    ]);
    command.args(arguments).arg(tenant).stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// What it says; it must have had no error.
async fn done(mut command: Command) -> String {
    let output = command.output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    said
}

/// A client that runs `select *` by its name again and again.
async fn reader(mut wire: Wire, tenant: &'static str, rounds: usize) {
    wire.send(&[parse("s", "select * from thing"), sync()].concat()).await;
    assert_eq!(wire.tags().await, "1ZI");
    for round in 0..rounds {
        wire.send(&[bind("", "s"), execute("", 0), sync()].concat()).await;
        let (messages, _) = wire.until_ready().await;
        let error = messages.iter().find(|m| m.tag == 'E').map(|e| e.field('M'));
        assert_eq!(error, None, "{tenant} in round {round}");
        let rows: Vec<String> =
            messages.iter().filter(|m| m.tag == 'D').map(Message::text).collect();
        assert_eq!(rows, [tenant]);
    }
}

on_both! {
    async fn pgbench_prepared_runs_for_two_tenants_over_two_servers(db: &Database) {
        let pooler = trusting(db, 2).await;
        for tenant in ["acme", "umbra"] {
            done(pgbench(&pooler, tenant, &["-i", "-q", "-I", "dtgp"])).await;
        }
        let run = |tenant| done(pgbench(&pooler, tenant, &["-n", "-M", "prepared", "-c", "8", "-j", "8", "-t", "50"]));
        let (acme, umbra) = tokio::join!(run("acme"), run("umbra"));
        for said in [acme, umbra] {
            assert!(said.contains("number of transactions actually processed: 400/400"), "{said}");
        }
        // Each transaction has added one line to its own tenant's history.
        for tenant in ["acme", "umbra"] {
            let count = raw(&pooler, tenant).await.run("select count(*) from pgbench_history").await.unwrap();
            assert_eq!(count, ["400"]);
        }
        assert_eq!(pooler.messages("session pinned to its server"), 0);
    }

    async fn sixteen_clients_read_on_while_their_tables_are_altered(db: &Database) {
        let pooler = trusting(db, 2).await;
        for tenant in ["acme", "umbra"] {
            let sql = format!("create table {tenant}.thing as select '{tenant}'::text as name; alter table {tenant}.thing owner to {}", db.name);
            db.admin.batch_execute(&sql).await.unwrap();
        }
        let mut clients = JoinSet::new();
        for number in 0..16 {
            let tenant = ["acme", "umbra"][number % 2];
            clients.spawn(reader(raw(&pooler, tenant).await, tenant, 60));
        }
        for number in 0..10 {
            for tenant in ["acme", "umbra"] {
                db.admin.batch_execute(&format!("alter table {tenant}.thing add column c{number} int")).await.unwrap();
            }
            tokio::time::sleep(std::time::Duration::from_millis(30)).await; // a pace, not a condition
        }
        clients.join_all().await;
        assert_eq!(pooler.messages("session pinned to its server"), 0);
    }
}
