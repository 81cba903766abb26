//! Transaction mode: a server for a transaction, and not a moment longer.

use protocol_tests::wire::{query, sync};
use protocol_tests::{Database, on_both};

use crate::{raw, trusting, two_tenants};

on_both! {
    async fn many_clients_share_one_server(db: &Database) {
        let pooler = trusting(db, 1).await;
        let mut clients = Vec::new();
        for n in 0..20 {
            clients.push((raw(&pooler, ["acme", "umbra"][n % 2]).await, ["acme", "umbra"][n % 2]));
        }
        for _ in 0..5 {
            for (wire, tenant) in &mut clients {
                assert_eq!(wire.run("select name from who").await.unwrap(), [*tenant]);
            }
        }
        assert_eq!(db.backends().await, 1);
    }

    async fn a_transaction_keeps_its_server_and_an_error_does_not_lose_it(db: &Database) {
        let pooler = two_tenants(db, 2).await;
        let (mut a, b) = (pooler.connect("acme").await, pooler.connect("umbra").await);
        let transaction = a.transaction().await.unwrap();
        transaction.batch_execute("insert into who values ('mine')").await.unwrap();
        b.batch_execute("select 1").await.unwrap();
        assert!(transaction.batch_execute("select 1/0").await.is_err());
        assert!(transaction.batch_execute("select 1").await.is_err(), "aborted until the rollback");
        transaction.rollback().await.unwrap();
        let rows = a.simple_query("select name from who").await.unwrap();
        assert_eq!(rows.len(), 3, "one row, its description and the end");
    }

    async fn a_client_that_sends_half_a_message_or_nothing_useful_holds_no_server(db: &Database) {
        let pooler = trusting(db, 1).await;
        let mut slow = raw(&pooler, "acme").await;
        let bytes = query("select name from who");
        let (head, tail) = bytes.split_at(bytes.len() - 1);
        for byte in head {
            slow.send(&[*byte]).await;
        }
        let mut idle = raw(&pooler, "acme").await;
        idle.send(&[sync(), sync()].concat()).await;
        assert_eq!(idle.tags().await, "ZI");
        assert_eq!(idle.tags().await, "ZI");
        let mut other = raw(&pooler, "umbra").await;
        assert_eq!(other.run("select name from who").await.unwrap(), ["umbra"]);
        slow.send(tail).await;
        assert_eq!(slow.until_ready().await.0[1].text(), "acme");
    }

    async fn what_a_departed_client_left_open_is_rolled_back(db: &Database) {
        let pooler = trusting(db, 1).await;
        for parting in ["begin; insert into who values ('lost')", "begin; select 1/0", "select pg_sleep(0.2)"] {
            let mut wire = raw(&pooler, "acme").await;
            wire.send(&query(parting)).await;
            if parting.starts_with("begin") {
                wire.until_ready().await;
            }
            drop(wire);
            let mut next = raw(&pooler, "umbra").await;
            assert_eq!(next.run("select name from who").await.unwrap(), ["umbra"], "{parting}");
            assert_eq!(raw(&pooler, "acme").await.run("select name from who").await.unwrap(), ["acme"]);
        }
    }

    async fn a_query_and_goodbye_in_one_write_still_runs(db: &Database) {
        let pooler = trusting(db, 1).await;
        let mut wire = raw(&pooler, "acme").await;
        wire.send(&[query("insert into who values ('written')"), protocol_tests::wire::message('X', b"")].concat()).await;
        drop(wire);
        let mut next = raw(&pooler, "acme").await;
        assert_eq!(next.run("select count(*) from who").await.unwrap(), ["2"]);
    }
}
