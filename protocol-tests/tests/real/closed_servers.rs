//! A tenant whose clients make their servers unusable waits for the logins that this costs; nobody else does.

use std::time::{Duration, Instant};

use protocol_tests::pooler::BY_SCHEMA;
use protocol_tests::wire::{V3_0, bind, execute, flush, message, parse, query, scram, startup};
use protocol_tests::{Database, Pooler, Wire, on_both};

/// Servers that may be closed at once, and what each takes to be paid.
const CREDIT: u32 = 10;
const PRICE: Duration = Duration::from_millis(333);
const ROUNDS: u32 = 18;

async fn started(db: &Database) -> Pooler {
    db.schemas(&["acme", "umbra"]).await;
    Pooler::start(&format!("{}{BY_SCHEMA}", db.toml(2))).await
}

async fn client(pooler: &Pooler, tenant: &str) -> Wire {
    let mut wire = Wire::open(pooler.port).await;
    wire.send(&startup(V3_0, &[("user", &format!("app.{tenant}"))])).await;
    scram(&mut wire, "secret").await;
    wire.logged_in().await;
    wire
}

/// Closes a server in each round, and takes the time for it that all of them but one cost: the last one may not be
/// charged yet. The other tenant is at work meanwhile.
async fn is_paid_for(db: &Database, close: impl AsyncFn(&Pooler)) {
    let pooler = started(db).await;
    let other = pooler.connect("umbra").await;
    let began = Instant::now();
    for _ in 0..ROUNDS {
        close(&pooler).await;
        other.batch_execute("select 1").await.unwrap();
    }
    let took = began.elapsed();
    assert!(took >= PRICE * (ROUNDS - 2 - CREDIT), "{ROUNDS} servers in {took:?}");
    let said = "its clients wait: more than 10 servers became unusable while they had them, and 3 a second more may";
    assert_eq!(pooler.until_message(1, said).await["tenant"], "acme");
}

on_both! {
    async fn seeds_of_random_are_paid_for(db: &Database) {
        is_paid_for(db, async |pooler| {
            client(pooler, "acme").await.run("select setseed(0.5)").await.unwrap();
        }).await;
    }

    async fn backends_that_end_themselves_are_paid_for(db: &Database) {
        is_paid_for(db, async |pooler| {
            let mut wire = client(pooler, "acme").await;
            wire.send(&query("select pg_terminate_backend(pg_backend_pid())")).await;
            let mut last = wire.receive().await;
            while let Some(message) = wire.next().await {
                last = message;
            }
            assert_eq!(last.field('C'), "57P01");
        }).await;
    }

    async fn pipelines_that_are_left_are_paid_for(db: &Database) {
        is_paid_for(db, async |pooler| {
            let mut wire = client(pooler, "acme").await;
            wire.send(&[parse("", "select 1"), bind("", ""), execute("", 0), flush()].concat()).await;
            while wire.receive().await.tag != 'C' {}
        }).await;
    }

    async fn transactions_that_break_the_protocol_are_paid_for(db: &Database) {
        is_paid_for(db, async |pooler| {
            let mut wire = client(pooler, "acme").await;
            wire.send(&[query("begin"), message('!', b"")].concat()).await;
            while wire.next().await.is_some() {}
        }).await;
    }
    /// A time-out that no text shows ends the server when it rests, and somebody else finds it gone.
    async fn servers_that_end_by_what_is_left_there_are_paid_for(db: &Database) {
        db.schemas(&["acme", "umbra"]).await;
        let function = "create function acme.leaves() returns int language plpgsql as \
            $$ begin perform set_config('idle_session_timeout', '1', false); return pg_backend_pid(); end $$";
        db.admin.batch_execute(function).await.unwrap();
        let pooler = Pooler::start(&format!("{}{BY_SCHEMA}", db.toml(2))).await;
        let other = pooler.connect("umbra").await;
        let began = Instant::now();
        for _ in 0..ROUNDS {
            let pid = client(&pooler, "acme").await.run("select leaves()").await.unwrap().remove(0);
            let there = format!("select from pg_stat_activity where pid = {pid}");
            while !db.admin.query(&there, &[]).await.unwrap().is_empty() {}
            other.batch_execute("select 1").await.unwrap();
        }
        let took = began.elapsed();
        assert!(took >= PRICE * (ROUNDS - 3 - CREDIT), "{ROUNDS} servers in {took:?}");
    }
}
