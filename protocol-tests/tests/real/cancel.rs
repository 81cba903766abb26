//! Cancel: it reaches what the client runs, ends a wait, and hits nobody else.

use protocol_tests::wire::{V3_0, query, startup};
use protocol_tests::{Database, Wire, on_both};

use crate::{raw, trusting};

on_both! {
    async fn a_running_statement_is_cancelled_and_the_session_goes_on(db: &Database) {
        let pooler = trusting(db, 1).await;
        for version in [V3_0, V3_0 + 2] {
            let mut wire = Wire::open(pooler.port).await;
            wire.send(&startup(version, &[("user", "app.acme")])).await;
            wire.logged_in().await;
            // From a server that needs a switch, and from one that does not.
            for _ in 0..2 {
                wire.send(&query("select pg_sleep(600)")).await;
                db.until("state = 'active' and query like '%pg_sleep%'", 1).await;
                Wire::cancel(pooler.port, wire.pid, &wire.key).await;
                let (messages, status) = wire.until_ready().await;
                let error = messages.iter().find(|m| m.tag == 'E').unwrap();
                assert_eq!((error.field('C').as_str(), status), ("57014", 'I'));
                assert_eq!(wire.run("select name from who").await.unwrap(), ["acme"]);
            }
            raw(&pooler, "umbra").await.run("select 1").await.unwrap();
        }
    }

    async fn a_wait_is_cancelled(db: &Database) {
        let pooler = trusting(db, 1).await;
        let (mut a, mut b) = (raw(&pooler, "acme").await, raw(&pooler, "umbra").await);
        a.run("begin").await.unwrap();
        b.send(&query("select name from who")).await;
        pooler.until_message(1, "client waits for a server").await;
        Wire::cancel(pooler.port, b.pid, &b.key).await;
        let (messages, status) = b.until_ready().await;
        assert_eq!((messages[0].field('C').as_str(), status), ("57014", 'I'));
        a.run("rollback").await.unwrap();
        assert_eq!(b.run("select name from who").await.unwrap(), ["umbra"]);
    }

    async fn a_cancel_with_a_wrong_key_or_for_an_idle_client_does_nothing(db: &Database) {
        let pooler = trusting(db, 1).await;
        let (mut a, mut b) = (raw(&pooler, "acme").await, raw(&pooler, "umbra").await);
        a.run("select 1").await.unwrap(); // a holds nothing now
        b.send(&query("select pg_sleep(0.5), name from who")).await;
        db.until("state = 'active' and query like '%pg_sleep%'", 1).await;
        Wire::cancel(pooler.port, a.pid, &a.key).await;
        Wire::cancel(pooler.port, b.pid, b"nope").await;
        Wire::cancel(pooler.port, b.pid, &a.key).await;
        Wire::cancel(pooler.port, 1, b"nope").await;
        let (messages, _) = b.until_ready().await;
        assert!(messages.iter().all(|m| m.tag != 'E'), "somebody else's statement was hit");
    }

    async fn a_late_cancel_never_hits_the_next_client(db: &Database) {
        let pooler = trusting(db, 1).await;
        let mut a = raw(&pooler, "acme").await;
        let mut b = raw(&pooler, "umbra").await;
        for _ in 0..50 {
            a.send(&query("select name from who")).await;
            let (port, pid, key) = (pooler.port, a.pid, a.key.clone());
            let cancel = Wire::cancel(port, pid, &key);
            let statements = async {
                let (messages, _) = a.until_ready().await; // done, or cancelled
                assert!(messages.iter().all(|m| m.tag != 'E' || m.field('C') == "57014"));
                assert_eq!(b.run("select name from who").await.unwrap(), ["umbra"]);
            };
            tokio::join!(cancel, statements);
        }
    }
}
