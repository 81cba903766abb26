//! A server that is closed in the middle of something keeps its place until PostgreSQL has ended its backend.

use protocol_tests::pooler::BY_SCHEMA;
use protocol_tests::wire::{message, query, sync};
use protocol_tests::{Database, Pooler, Wire, on_both, soon};

use crate::raw;

/// Neither a cancel ends it, nor that nobody reads its answer.
const STUBBORN: &str = "do $$ begin loop begin perform pg_sleep(1000); exception when query_canceled then null; end; end loop; end $$";

async fn start(db: &Database, rules: &str) -> Pooler {
    db.schemas(&["acme", "umbra"]).await;
    start_with(db, 2, rules).await
}

async fn start_with(db: &Database, servers: usize, rules: &str) -> Pooler {
    let general = "[admin]\nusers = [\"ops\"]\n[users.ops]\n";
    Pooler::start(&format!(
        "{}[auth]\ntype = \"trust\"\n{general}{BY_SCHEMA}{rules}",
        db.toml(servers)
    ))
    .await
}

/// Has as many servers open as there may be, until none of `condition` is left: never more than `most`.
async fn until_gone(db: &Database, pooler: &Pooler, condition: &str, most: i64) {
    let (mut a, mut b) = (raw(pooler, "umbra").await, raw(pooler, "umbra").await);
    let look = async {
        loop {
            for wire in [&mut a, &mut b] {
                wire.send(&query("select name from who")).await;
            }
            for wire in [&mut a, &mut b] {
                assert_eq!(wire.until_ready().await.0[1].text(), "umbra");
            }
            let open = db.count("query <> '' and query not like '%pg_terminate_backend%'").await;
            assert!(open <= most, "{open} servers are open");
            if db.count(condition).await == 0 {
                return;
            }
        }
    };
    soon("the end of the backend", Box::pin(look)).await;
}

on_both! {
    async fn who_ignores_its_cancel_is_terminated_and_counts_until_then(db: &Database) {
        let pooler = start(db, "query_timeout = \"1s\"\nmax_server_connections = 2\n").await;
        let stubborn = "query like 'do %'";
        let mut wire = raw(&pooler, "acme").await;
        wire.send(&query(STUBBORN)).await;
        db.until(stubborn, 1).await;
        // query_timeout cancels it, and ends the session when that does not help.
        until_gone(db, &pooler, stubborn, 2).await;
    }

    async fn of_those_that_wait_for_a_lock_in_their_scrub_one_counts_no_more(db: &Database) {
        let pooler = start(db, "").await;
        // The scrub drops it, and somebody else has locked it.
        for number in 0..2 {
            let mut wire = raw(&pooler, "acme").await;
            wire.run("create temp table t (a int)").await.unwrap();
            let schema = wire.run("select nspname from pg_namespace where oid = pg_my_temp_schema()").await.unwrap();
            let begin = if number == 0 { "begin; " } else { "" };
            db.admin.batch_execute(&format!("{begin}lock table {}.t in access share mode", schema[0])).await.unwrap();
        }
        // Nor does its backend end before: what is temporary is dropped then, too.
        let release = async {
            pooler.until_message(2, "a server does not end after its cancel: it is terminated").await;
            db.admin.batch_execute("rollback").await.unwrap();
        };
        tokio::join!(until_gone(db, &pooler, "query like '%DISCARD TEMP%' and state = 'active'", 3), release);
    }

    async fn a_client_that_leaves_behind_more_than_its_statement_is_noticed(db: &Database) {
        db.schemas(&["acme"]).await;
        let poolers = [start_with(db, 4, "").await, start_with(db, 4, "guard = \"reject\"\n").await];
        let mut sleeping = 0;
        for pooler in &poolers {
            for behind in [message('X', &[]), sync(), query("select 1"), [query("select 1"), message('X', &[])].concat()] {
                let mut wire: Wire = raw(pooler, "acme").await;
                wire.send(&query("select pg_sleep(1000)")).await;
                sleeping += 1;
                db.until("query like '%pg_sleep%' and state = 'active'", sleeping).await;
                wire.send(&behind).await;
                drop(wire);
            }
        }
        db.until("query like '%pg_sleep%' and state = 'active'", 0).await;
    }
}
