//! Databases of tenants' own under one budget: they make room for each other, and take turns.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use protocol_tests::database::connect;
use protocol_tests::wire::{V3_0, query, startup};
use protocol_tests::{Cluster, Database, Pooler, Wire, on_both};
use serde_json::Value;
use tokio::task::JoinSet;

use crate::raw;

/// A pooler for tenants `d0`, `d1`, ... that each have a database.
async fn pooler(db: &Database, databases: usize, servers: usize, extra: &str) -> Pooler {
    let mut tenants = String::new();
    for number in 0..databases {
        let name = format!("{}_{number}", db.name);
        db.admin.batch_execute(&format!("create database {name} owner {}", db.name)).await.unwrap();
        let admin = connect(&db.direct_as_admin(&name)).await.unwrap();
        let sql = format!(
            "create table public.who (name text); insert into public.who values ('d{number}'); grant all on public.who to {}",
            db.name
        );
        admin.batch_execute(&sql).await.unwrap();
        let section = format!("[tenants.d{number}]\ndatabase = \"{name}\"\n");
        tenants.push_str(&section);
    }
    Pooler::start(&format!(
        "{}[auth]\ntype = \"trust\"\n[tenancy]\ntenant_from = [\"user:.\"]\n{tenants}{extra}",
        db.toml(servers)
    ))
    .await
}

on_both! {
    async fn a_young_server_that_comes_back_makes_room_in_time(db: &Database) {
        let pooler = pooler(db, 2, 1, "").await;
        let (mut one, mut two) = (raw(&pooler, "d0").await, raw(&pooler, "d1").await);
        for _ in 0..3 {
            // A new server, lent, wanted elsewhere, and given back before it has stayed long enough.
            one.run("begin").await.unwrap();
            two.send(&query("select name from who")).await;
            one.run("commit").await.unwrap();
            let (messages, _) = two.until_ready().await;
            assert!(messages.iter().any(|message| message.tag == 'D' && message.text() == "d1"));
            two.run("begin").await.unwrap();
            one.send(&query("select name from who")).await;
            two.run("commit").await.unwrap();
            let (messages, _) = one.until_ready().await;
            assert!(messages.iter().any(|message| message.tag == 'D' && message.text() == "d0"));
        }
    }

    async fn a_server_that_rests_makes_room_whoever_waited_for_it_before(db: &Database) {
        let pooler = pooler(db, 3, 2, "").await;
        let (mut busy, mut other) = (raw(&pooler, "d1").await, raw(&pooler, "d2").await);
        let (mut one, mut two) = (raw(&pooler, "d0").await, raw(&pooler, "d0").await);
        for turn in 0..3 {
            busy.run("begin").await.unwrap();
            one.run("begin").await.unwrap();
            // Longer than a server has to stay in its pool.
            one.run("select pg_sleep(0.3)").await.unwrap();
            // Its tenant may have another one, and there is no room for that: it gets this one.
            two.send(&query("select name from who")).await;
            let waits = |line: &Value| line["message"] == "client waits for a server" && line["span"]["id"] == two.pid;
            pooler.until_log(turn + 1, waits).await;
            one.run("commit").await.unwrap();
            two.until_ready().await;
            // That one rests now.
            assert_eq!(other.run("select name from who").await.unwrap(), ["d2"]);
            busy.run("commit").await.unwrap();
        }
    }

    async fn all_are_served_over_few_servers_and_the_budget_holds(shared: &Database) {
        let cluster = Cluster::start(shared.major, "");
        let db = Database::create_on(shared.major, cluster.port).await;
        let pooler = pooler(&db, 9, 3, "").await;
        let mut clients = JoinSet::new();
        for number in 0..36 {
            let tenant = format!("d{}", number % 9);
            let mut wire = raw(&pooler, &tenant).await;
            clients.spawn(async move {
                for _ in 0..10 {
                    assert_eq!(wire.run("select name from who").await.unwrap(), [tenant.as_str()]);
                }
            });
        }
        while let Some(done) = clients.join_next().await {
            done.unwrap();
            let sql = "select count(*) from pg_stat_activity where usename = $1";
            let servers: i64 = db.admin.query_one(sql, &[&db.name]).await.unwrap().get(0);
            // One that was told to go may still be on its way.
            assert!(servers <= 6, "{servers}");
        }
    }

    async fn a_database_that_is_not_there_troubles_its_own_tenant_only(db: &Database) {
        let extra = "[tenants.gone]\ndatabase = \"no_such_database\"\n[tenants.locked]\nuser = \"nobody\"\npassword = \"wrong\"\n";
        let pooler = pooler(db, 1, 2, extra).await;
        let mut works = raw(&pooler, "d0").await;
        for _ in 0..3 {
            for (tenant, sqlstate) in [("gone", "3D000"), ("locked", "28P01")] {
                let refused = connect(&pooler.url(&format!("app.{tenant}"), "")).await.unwrap_err();
                assert_eq!(refused.as_db_error().unwrap().code().code(), sqlstate, "PostgreSQL's own words");
            }
            assert_eq!(works.run("select name from who").await.unwrap(), ["d0"]);
        }
    }

    async fn weights_count_between_databases_too(db: &Database) {
        const STATEMENTS: usize = 600;
        let pooler = pooler(db, 2, 2, "").await;
        pooler.reload(1, |toml| toml.replace("[tenants.d1]\n", "[tenants.d1]\nweight = 4\nmax_server_connections = 2\n")
            .replace("[tenants.d0]\n", "[tenants.d0]\nmax_server_connections = 2\n")).await;
        let served = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
        let mut clients = JoinSet::new();
        for number in 0..12 {
            let mut wire = raw(&pooler, &format!("d{}", number % 2)).await;
            let served = Arc::clone(&served);
            clients.spawn(async move {
                while served.iter().map(|count| count.load(Relaxed)).sum::<usize>() < STATEMENTS {
                    wire.run("select pg_sleep(0.01)").await.unwrap();
                    served[number % 2].fetch_add(1, Relaxed);
                }
            });
        }
        while let Some(done) = clients.join_next().await {
            done.unwrap();
        }
        let [light, heavy] = served.each_ref().map(|count| count.load(Relaxed));
        assert!(heavy >= 2 * light && light > 0, "{heavy} to {light}; 4 to 1 is due");
    }

    async fn one_that_hangs_in_login_keeps_no_others_waiting(db: &Database) {
        let pooler = pooler(db, 3, 4, "").await;
        let (mut one, mut two) = (raw(&pooler, "d0").await, raw(&pooler, "d1").await);
        let hanging = connect(&db.direct_as_admin(&format!("{}_2", db.name))).await.unwrap();
        hanging.batch_execute("begin; lock pg_catalog.pg_class in access exclusive mode").await.unwrap();
        let mut waiting = Vec::new();
        for _ in 0..8 {
            let mut wire = Wire::open(pooler.port).await;
            wire.send(&startup(V3_0, &[("user", "app.d2")])).await;
            waiting.push(wire);
        }
        for wire in &mut waiting {
            assert!(wire.is_silent().await, "it hangs");
        }
        // Both at once, each on a server of its own.
        one.run("begin").await.unwrap();
        two.run("begin").await.unwrap();
        for (wire, own) in [(&mut one, "d0"), (&mut two, "d1")] {
            assert_eq!(wire.run("select name from who").await.unwrap(), [own]);
            wire.run("commit").await.unwrap();
        }
        hanging.batch_execute("rollback").await.unwrap();
        for wire in &mut waiting {
            wire.logged_in().await;
        }
    }
}
