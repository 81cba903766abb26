//! SIGTERM drains, a second one stops; nothing is left on PostgreSQL.

use protocol_tests::wire::{V3_0, query, startup, sync};
use protocol_tests::{Database, Wire, on_both};

use crate::{raw, trusting};

on_both! {
    async fn sigterm_finishes_transactions_and_refuses_new_clients(db: &Database) {
        let mut pooler = trusting(db, 3).await;
        let (mut idle, mut open, mut pinned) = (raw(&pooler, "acme").await, raw(&pooler, "acme").await, raw(&pooler, "umbra").await);
        open.run("begin; insert into who values ('kept')").await.unwrap();
        pinned.run("set work_mem = '8MB'").await.unwrap();
        pooler.signal("TERM");
        for wire in [&mut idle, &mut pinned] {
            assert_eq!(wire.receive().await.field('C'), "57P01");
            assert_eq!(wire.next().await, None);
        }
        let mut late = Wire::open(pooler.port).await;
        late.send(&startup(V3_0, &[("user", "app.acme")])).await;
        assert_eq!(late.receive().await.field('C'), "57P01");
        assert_eq!(open.run("select count(*) from who").await.unwrap(), ["2"], "the transaction goes on");
        open.send(&query("commit")).await;
        assert_eq!(open.tags().await, "CZI");
        assert!(pooler.ended().await.success());
        db.until("true", 0).await;
        let row = db.admin.query_one("select count(*) from acme.who", &[]).await.unwrap();
        assert_eq!(row.get::<_, i64>(0), 2);
    }

    async fn a_second_sigterm_or_sigint_stops_now_and_leaves_nothing_running(db: &Database) {
        for signals in [&["TERM", "TERM"][..], &["TERM", "INT"], &["INT"]] {
            let mut pooler = protocol_tests::Pooler::start(&format!("{}[auth]\ntype = \"trust\"\n[tenancy]\ntenant_from = [\"user:.\"]\n[tenants.acme]\n", db.toml(3))).await;
            let (mut busy, mut open) = (raw(&pooler, "acme").await, raw(&pooler, "acme").await);
            busy.send(&query("select pg_sleep(600)")).await;
            db.until("state = 'active' and query like '%pg_sleep%'", 1).await;
            open.run("begin").await.unwrap();
            for signal in signals {
                pooler.signal(signal);
                if *signal == "TERM" && signals.len() > 1 {
                    pooler.until_message(1, "draining").await;
                }
            }
            assert!(pooler.ended().await.success());
            db.until("true", 0).await;
        }
    }

    async fn the_drain_ends_at_shutdown_timeout(db: &Database) {
        let toml = format!("{}[auth]\ntype = \"trust\"\n[tenancy]\ntenant_from = [\"user:.\"]\n[tenants.acme]\n", db.toml(3));
        let mut pooler = protocol_tests::Pooler::start_with("shutdown_timeout = \"300ms\"", &toml).await;
        let mut open = raw(&pooler, "acme").await;
        open.run("begin").await.unwrap();
        pooler.signal("TERM");
        assert_eq!(open.receive().await.field('C'), "57P01");
        assert!(pooler.ended().await.success());
        db.until("true", 0).await;
    }

    async fn who_has_not_logged_in_does_not_hold_up_the_drain(db: &Database) {
        let toml = format!("{}[tenancy]\ntenant_from = [\"user:.\"]\n[tenants.acme]\n", db.toml(3));
        let mut pooler = protocol_tests::Pooler::start(&toml).await;
        let mut silent = Wire::open(pooler.port).await;
        let mut asked = Wire::open(pooler.port).await;
        asked.send(&startup(V3_0, &[("user", "app.acme")])).await;
        assert_eq!(asked.receive().await.tag, 'R', "it owes a password");
        pooler.signal("TERM");
        assert_eq!(asked.receive().await.field('C'), "57P01");
        assert_eq!(silent.next().await, None);
        pooler.until_message(1, "connection closed: the pooler is shutting down").await;
        assert!(pooler.ended().await.success());
    }

    async fn a_client_that_does_not_read_holds_up_no_stop(db: &Database) {
        let toml = format!("{}[auth]\ntype = \"trust\"\n[tenancy]\ntenant_from = [\"user:.\"]\n[tenants.acme]\n", db.toml(3));
        for signal in ["TERM", "INT"] {
            let mut pooler = protocol_tests::Pooler::start(&toml).await;
            let mut deaf = raw(&pooler, "acme").await;
            // Each lone Sync is answered, until nothing more fits between the two.
            let syncs = sync().repeat(10_000);
            while tokio::time::timeout(std::time::Duration::from_millis(300), deaf.send(&syncs)).await.is_ok() {}
            pooler.signal(signal);
            assert!(pooler.ended().await.success());
            assert_eq!(pooler.messages("some connections did not end in time and are cut"), 0, "{signal}");
            assert_eq!(pooler.messages("shutdown_timeout has passed; clients are disconnected"), 0, "{signal}");
        }
    }

    async fn stopping_now_waits_for_no_statement(db: &Database) {
        let toml = format!("{}[auth]\ntype = \"trust\"\n[tenancy]\ntenant_from = [\"user:.\"]\n[tenants.acme]\n", db.toml(3));
        let mut pooler = protocol_tests::Pooler::start(&toml).await;
        let (mut busy, mut left) = (raw(&pooler, "acme").await, raw(&pooler, "acme").await);
        for wire in [&mut busy, &mut left] {
            wire.send(&query("select pg_sleep(600)")).await;
        }
        db.until("state = 'active' and query like '%pg_sleep%'", 2).await;
        drop(left); // its statement has 5 s to end
        pooler.signal("INT");
        assert!(pooler.ended().await.success());
        db.until("true", 0).await;
        pooler.until_message(2, "a statement was cancelled: its client is gone").await;
    }

    async fn stopping_now_cancels_what_runs_for_a_client_that_does_not_read(db: &Database) {
        let toml = format!("{}[auth]\ntype = \"trust\"\n[tenancy]\ntenant_from = [\"user:.\"]\n[tenants.acme]\n", db.toml(3));
        let mut pooler = protocol_tests::Pooler::start(&toml).await;
        let mut deaf = raw(&pooler, "acme").await;
        // So much that the pooler holds a part of it, and little enough for PostgreSQL to go on.
        let sql = format!("{}; select pg_sleep(600)", ["select repeat('x', 300000)"; 12].join(";"));
        deaf.send(&query(&sql)).await;
        db.until("state = 'active' and wait_event in ('PgSleep', 'ClientWrite')", 1).await;
        pooler.signal("INT");
        assert!(pooler.ended().await.success());
        db.until("true", 0).await;
    }
}
