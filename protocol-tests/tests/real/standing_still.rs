//! The pooler never stands still: no input keeps a worker, a worker that does not turn is noticed and stood in for, every
//! login is answered, and a failure does not outlive its cause.

use std::time::Duration;

use protocol_tests::halt::halt_thread;
use protocol_tests::pooler::BY_SCHEMA;
use protocol_tests::wire::{V3_0, bind, close, execute, parse, query, startup, sync};
use protocol_tests::{Cluster, Database, Pooler, Wire, on_both, soon};

use crate::raw;

async fn refusing(db: &Database, rules: &str) -> Pooler {
    Pooler::start(&format!("{}[auth]\ntype = \"trust\"\n{BY_SCHEMA}{rules}", db.toml(1))).await
}

on_both! {
    async fn a_refused_query_that_the_server_skips_keeps_nobody_up(db: &Database) {
        db.schemas(&["acme"]).await;
        for (rules, refused) in [("guard = \"reject\"\n", "set role none"), ("on_session_state = \"reject\"\n", "listen x")] {
            let pooler = refusing(db, rules).await;
            let mut wire = raw(&pooler, "acme").await;
            let named = [parse("s1", "select 1"), sync()].concat();
            wire.send(&[execute("p", 0), query(refused), sync(), named].concat()).await;
            assert_eq!(wire.tags().await, "EZI", "{refused}");
            assert_eq!(wire.tags().await, "1ZI", "{refused}");
            assert_eq!(raw(&pooler, "acme").await.run("select name from who").await.unwrap(), ["acme"]);
            assert_eq!(pooler.messages("session ended: it made no progress; this is a fault of the pooler's, please report it"), 0);
        }
    }

    async fn a_long_message_behind_a_named_one_is_answered(db: &Database) {
        // More than a buffer: the unit is sent when the switch is confirmed, and its named messages are written then.
        db.schemas(&["acme", "umbra"]).await;
        let pooler = Pooler::start(&format!("{}[auth]\ntype = \"trust\"\n{BY_SCHEMA}", db.toml(1))).await;
        let mut other = raw(&pooler, "umbra").await;
        let mut same = raw(&pooler, "acme").await;
        for len in [10_000, 16_300, 16_400, 20_000, 40_000, 100_000] {
            let long = format!("/* {} */ select name from who", "y".repeat(len));
            let run = |name: &str| [bind("", name), execute("", 0)].concat();
            for unit in [
                [parse("s", "select 1"), run("s"), query(&long), sync()].concat(),
                [bind("", "nobody's"), query(&long), sync()].concat(),
                [bind("", "nobody's"), parse("", &long), run(""), sync()].concat(),
                [parse("s", "select 1"), sync(), run("s"), parse("", &long), run(""), sync()].concat(),
                [close('S', "s"), parse("s", "select 2"), parse("t", &long), run("t"), sync()].concat(),
            ] {
                let ends = unit.windows(5).filter(|w| *w == b"S\0\0\0\x04").count()
                    + usize::from(unit.windows(long.len() + 5).any(|w| w[0] == b'Q'));
                assert_eq!(other.run("select name from who").await.unwrap(), ["umbra"]);
                let mut direct = db.wire("-c search_path=acme").await;
                let (mut wire, mut want) = (raw(&pooler, "acme").await, Vec::new());
                direct.send(&unit).await;
                while want.len() < ends {
                    let skipped = want.is_empty() && unit.starts_with(b"B");
                    want.push(direct.tags().await);
                    if skipped {
                        break;
                    }
                }
                wire.send(&unit).await;
                for want in want {
                    assert_eq!(wire.tags().await, want, "{len}");
                }
                drop(wire);
                // PostgreSQL 18 fails the statement that follows a query in a pipeline, whosever it is.
                assert_eq!(same.run("select name from who").await.unwrap(), ["acme"]);
            }
        }
    }

    async fn a_login_that_postgresql_refuses_at_length_is_answered(db: &Database) {
        db.schemas(&["acme"]).await;
        let pooler = Pooler::start(&format!("{}[auth]\ntype = \"trust\"\n{BY_SCHEMA}", db.toml(1))).await;
        for len in [100, 4000, 4096, 5000, 7000] {
            let mut wire = Wire::open(pooler.port).await;
            let long = format!("-c extra_float_digits={}", "1".repeat(len));
            wire.send(&startup(V3_0, &[("user", "app.acme"), ("options", &long)])).await;
            let told = wire.receive().await;
            assert_eq!((told.tag, told.field('C').as_str()), ('E', "22023"), "{len}: {}", told.field('M'));
            assert!(wire.next().await.is_none());
        }
        assert_eq!(raw(&pooler, "acme").await.run("select 1").await.unwrap(), ["1"]);
    }

    async fn errors_of_any_length_are_looked_into(db: &Database) {
        db.schemas(&["acme"]).await;
        let pooler = Pooler::start(&format!("{}[auth]\ntype = \"trust\"\n{BY_SCHEMA}", db.toml(1))).await;
        let (mut wire, mut other) = (raw(&pooler, "acme").await, raw(&pooler, "acme").await);
        for len in [10, 4000, 4090, 9000, 70_000, 3_000_000] {
            // The unit's error, in the middle of a named statement's life, and a FATAL one.
            let raise = format!("do $$ begin raise exception '%', repeat('x', {len}); end $$");
            assert_eq!(wire.run(&raise).await.unwrap_err(), "P0001");
            let setting = format!("set extra_float_digits to '{}'", "1".repeat(len.min(10_000)));
            assert_eq!(wire.run(&setting).await.unwrap_err(), "22023");
            let named = [parse("n", &raise), bind("", "n"), execute("", 0), sync()].concat();
            wire.send(&named).await;
            assert_eq!(wire.tags().await, "12EZI", "{len}");
            assert_eq!(wire.run("deallocate n").await.unwrap(), [""; 0]);
            assert_eq!(other.run("select name from who").await.unwrap(), ["acme"]);
        }
        // A reported setting that is longer than what is looked at: told to who sets it, and to nobody else.
        let long = "x".repeat(60);
        let path = (0..100).map(|at| format!("{long}{at:03}")).collect::<Vec<_>>().join(", ");
        wire.run(&format!("set search_path to {path}")).await.unwrap();
        assert_eq!(wire.run("show search_path").await.unwrap(), [path]);
        assert_eq!(other.run("select name from who").await.unwrap(), ["acme"]);
    }
}

#[tokio::test]
async fn a_worker_that_does_not_turn_is_noticed_and_stood_in_for() {
    let db = &Database::create(15).await;
    db.schemas(&["acme"]).await;
    let toml = format!(
        "[http]\nlisten = [\"127.0.0.1:0\"]\n[admin]\nusers = [\"app\"]\n{}[auth]\ntype = \"trust\"\n{BY_SCHEMA}",
        db.toml(2)
    );
    let mut pooler = Pooler::start_with("shutdown_timeout = \"1s\"\n", &toml).await;
    let mut kept = raw(&pooler, "acme").await;
    assert_eq!(kept.run("select 1").await.unwrap(), ["1"]);
    assert_eq!(pooler.page("/livez").await.status, 200);
    halt_thread(pooler.pid(), "worker-0");
    pooler
        .until_log(1, |line| {
            line["message"].as_str().is_some_and(|m| m.starts_with("a worker does not turn"))
        })
        .await;
    let live = pooler.page("/livez").await;
    assert_eq!((live.status, live.body.trim()), (503, "worker 0 does not answer"));
    assert_eq!(pooler.page("/readyz").await.status, 200);
    assert!(pooler.page("/metrics").await.body.contains("tenantry_stuck_workers_total 1"));
    // Who comes now is served, and the console too; by unix socket as well.
    assert_eq!(raw(&pooler, "acme").await.run("select name from who").await.unwrap(), ["acme"]);
    let mut console = Wire::login(pooler.port, &[("user", "app"), ("database", "tenantry")]).await;
    assert!(!console.run("show clients").await.unwrap().is_empty());
    pooler.signal("TERM");
    assert!(pooler.ended().await.success());
}

#[tokio::test]
async fn a_failed_login_is_forgotten_with_what_it_failed_by() {
    let db = &Database::create(15).await;
    db.schemas(&["acme"]).await;
    let name = &db.name;
    let pooler = Pooler::start(&format!(
        "{}[auth]\ntype = \"trust\"\n{BY_SCHEMA}query_wait_timeout = \"15s\"\n",
        db.toml(1)
    ))
    .await;
    let changes: [(&str, &str); 3] = [
        ("[auth]", "[tls.server]\nmode = \"disable\"\n[auth]"),
        (
            "query_wait_timeout = \"15s\"",
            "query_wait_timeout = \"15s\"\nsettings = { \"app.x\" = \"1\" }",
        ),
        ("mode = \"disable\"", "mode = \"prefer\""),
    ];
    for (count, (from, to)) in changes.into_iter().enumerate() {
        db.admin.batch_execute(&format!("alter role {name} password 'other'")).await.unwrap();
        db.admin
            .execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where usename = $1",
                &[name],
            )
            .await
            .unwrap();
        db.until("true", 0).await;
        let mut wire = Wire::open(pooler.port).await;
        wire.send(&startup(
            V3_0,
            &[("user", "app.acme"), ("geqo_threshold", &(count + 10).to_string())],
        ))
        .await;
        assert_eq!(wire.receive().await.field('C'), "28P01");
        db.admin.batch_execute(&format!("alter role {name} password 'pw'")).await.unwrap();
        pooler.reload(count + 1, |text| text.replacen(from, to, 1)).await;
        let served = async { raw(&pooler, "acme").await.run("select name from who").await };
        assert_eq!(
            tokio::time::timeout(Duration::from_secs(10), served).await.expect("it is tried"),
            Ok(vec!["acme".to_owned()])
        );
    }
}

#[tokio::test]
async fn who_waits_for_a_postgresql_that_was_down_is_served_after_a_reload() {
    let cluster = Cluster::start(15, "");
    let db = &Database::create_on(15, cluster.port).await;
    db.schemas(&["acme"]).await;
    let pooler = Pooler::start(&format!(
        "{}[auth]\ntype = \"trust\"\n{BY_SCHEMA}query_wait_timeout = \"60s\"\n",
        db.toml(1)
    ))
    .await;
    let mut wire = raw(&pooler, "acme").await;
    let _cluster = cluster
        .restart_after(|| async {
            wire.send(&query("select name from who")).await;
            pooler.until_message(1, "login to the server failed").await;
            pooler
                .reload(1, |text| {
                    text.replace("[auth]", "[tls.server]\nmode = \"disable\"\n[auth]")
                })
                .await;
        })
        .await;
    assert_eq!(soon("an answer", wire.tags()).await, "TDCZI");
}
