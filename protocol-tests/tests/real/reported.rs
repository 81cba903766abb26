//! What a client was last told of a setting is what its session has: at its login, at each `ReadyForQuery`, after every way
//! to set or reset one. Repeat a run with `TENANTRY_CORPUS_SEED`.

use protocol_tests::pooler::BY_SCHEMA;
use protocol_tests::wire::{V3_0, batch, query, startup, sync};
use protocol_tests::{Cluster, Database, Pooler, Wire, on_both};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::raw;

/// Settings that PostgreSQL reports, and a session can change; `search_path` from 18 on.
const REPORTED: [&str; 8] = [
    "TimeZone",
    "DateStyle",
    "IntervalStyle",
    "client_encoding",
    "application_name",
    "default_transaction_read_only",
    "standard_conforming_strings",
    "search_path",
];

/// Every way to set or reset one. `#`: two of each value, so that clients meet what others have left.
const STEPS: [&str; 44] = [
    "set timezone to 'America/Chicago'",
    "set time zone 'Asia/Tokyo'",
    "select set_config('TimeZone', 'America/Chicago', false)",
    "set timezone to default",
    "reset timezone",
    "set time zone local",
    "set local timezone to 'UTC'",
    "begin; set local timezone to 'Asia/Tokyo'; commit",
    "begin; set timezone to 'Asia/Tokyo'; rollback",
    "begin; set timezone to 'Asia/Tokyo'; commit",
    "set datestyle to german",
    "set datestyle to 'ISO, YMD'",
    "reset datestyle",
    "set intervalstyle to iso_8601",
    "reset intervalstyle",
    "set client_encoding to latin1",
    "set names 'utf8'",
    "reset client_encoding",
    "set application_name to x",
    "set application_name to 'y z'",
    "reset application_name",
    "set default_transaction_read_only to on",
    "set default_transaction_read_only to off",
    "set session characteristics as transaction read only",
    "reset default_transaction_read_only",
    "set search_path to umbra, public",
    "set search_path to \"user\", acme",
    "select set_config('search_path', 'umbra,public', false)",
    "set search_path to default",
    "reset search_path",
    "set schema 'umbra'",
    "reset all",
    "discard all",
    "select pg_advisory_unlock_all(); close all; unlisten *; reset all",
    "do $$ begin set timezone = 'Asia/Tokyo'; end $$",
    "do $$ begin perform set_config('datestyle', 'german', false); end $$",
    "update pg_settings set setting = 'postgres_verbose' where name = 'IntervalStyle'",
    "select 1",
    "select 1/0",
    "begin",
    "commit",
    "rollback",
    "savepoint a",
    "select name from acme.who",
];

/// What comes, but for reports.
async fn answer(wire: &mut Wire, bytes: &[u8]) -> String {
    wire.send(bytes).await;
    let (messages, status) = wire.until_ready().await;
    let told = messages.iter().filter(|m| m.tag != 'S').map(|m| match m.tag {
        'E' => format!("E{} {} ", m.field('C'), m.field('M')),
        tag => tag.to_string(),
    });
    told.collect::<String>() + &status.to_string()
}

async fn shown(wire: &mut Wire, name: &str) -> Option<String> {
    // In a failed transaction nobody can look.
    let sql = format!("select pg_catalog.current_setting('{name}')");
    wire.run(&sql).await.ok().map(|rows| rows[0].clone())
}

/// What it was told is what it has, and what PostgreSQL alone would have told.
async fn compare(wire: &mut Wire, direct: &mut Wire, context: &str) {
    for name in REPORTED {
        let told = wire.told(name).map(str::to_owned);
        if told.as_deref() != direct.told(name) {
            let (has, alone) = (shown(wire, name).await, shown(direct, name).await);
            panic!(
                "{name}: told {told:?}, has {has:?}; alone {:?}, {alone:?}: {context}",
                direct.told(name)
            );
        }
        assert_eq!(told.as_deref(), direct.told(name), "{name}: {context}");
        if let (Some(told), Some(has)) = (told, shown(wire, name).await) {
            assert_eq!(told, has, "{name}: {context}");
        }
        // The look itself told nothing new.
        assert_eq!(wire.told(name), direct.told(name), "{name}: {context}");
    }
}

async fn converse(db: &Database, pooler: &Pooler, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let own = [("TimeZone", "Asia/Tokyo"), ("DateStyle", "German"), ("application_name", "me")];
    let mut pairs = Vec::new();
    for _ in 0..3 {
        let own: Vec<(&str, &str)> = own.into_iter().filter(|_| rng.random_bool(0.2)).collect();
        let mut wire = Wire::open(pooler.port).await;
        wire.send(&startup(V3_0, &[&[("user", "app.acme")], &own[..]].concat())).await;
        wire.logged_in().await;
        let mut direct = Wire::open(db.port).await;
        let alone = [("user", &*db.name), ("database", &*db.name), ("search_path", "acme")];
        direct.send(&startup(V3_0, &[&alone[..], &own[..]].concat())).await;
        protocol_tests::wire::scram(&mut direct, "pw").await;
        direct.logged_in().await;
        // The baseline is shown as the pooler sets it.
        direct.run("select 1").await.unwrap();
        pairs.push((wire, direct, Vec::new()));
    }
    for _ in 0..24 {
        let at = rng.random_range(0..pairs.len());
        let (wire, direct, log) = &mut pairs[at];
        let step = STEPS[rng.random_range(0..STEPS.len())];
        let extended = !step.contains(';') && rng.random_bool(0.4);
        let bytes = if extended { [batch(step), sync()].concat() } else { query(step) };
        log.push(step);
        let (want, got) = (answer(direct, &bytes).await, answer(wire, &bytes).await);
        assert_eq!(got, want, "seed {seed}: {log:#?}");
        compare(wire, direct, &format!("seed {seed}: {log:#?}")).await;
    }
    for (mut wire, ..) in pairs {
        // Open transactions would keep the servers of the next ones.
        let _ = wire.run("rollback").await;
    }
}

on_both! {
    async fn what_a_client_was_told_is_what_its_session_has(db: &Database) {
        db.schemas(&["acme", "umbra"]).await;
        let mut poolers = Vec::new();
        for servers in [1, 3] {
            poolers.push(Pooler::start(&format!("{}[auth]\ntype = \"trust\"\n{BY_SCHEMA}", db.toml(servers))).await);
        }
        for seed in protocol_tests::seeds(12) {
            // With one server a client in a transaction keeps the others waiting.
            converse_in_turn(db, &poolers[0], seed).await;
            converse(db, &poolers[1], seed).await;
        }
    }
}

/// One client after another on one server: each meets what the last has left.
async fn converse_in_turn(db: &Database, pooler: &Pooler, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    for _ in 0..4 {
        let mut wire = raw(pooler, "acme").await;
        let mut direct = db.wire("-c search_path=acme").await;
        let mut log = Vec::new();
        for _ in 0..6 {
            let step = STEPS[rng.random_range(0..STEPS.len())];
            log.push(step);
            let bytes = query(step);
            let (want, got) = (answer(&mut direct, &bytes).await, answer(&mut wire, &bytes).await);
            assert_eq!(got, want, "seed {seed}: {log:#?}");
            compare(&mut wire, &mut direct, &format!("seed {seed}: {log:#?}")).await;
        }
        let _ = wire.run("rollback").await;
    }
}

#[tokio::test]
async fn a_new_client_is_told_what_holds_now() {
    let cluster = Cluster::start(15, "");
    let db = &Database::create_on(15, cluster.port).await;
    db.schemas(&["acme"]).await;
    let pooler =
        Pooler::start(&format!("{}[auth]\ntype = \"trust\"\n{BY_SCHEMA}", db.toml(2))).await;
    let mut first = raw(&pooler, "acme").await;
    assert_eq!(first.told("DateStyle"), Some("ISO, MDY"));
    db.admin.batch_execute("alter system set datestyle to 'German, DMY'").await.unwrap();
    db.reload().await;
    let mut second = raw(&pooler, "acme").await;
    assert_eq!(second.told("DateStyle"), Some("German, DMY"));
    assert_eq!(shown(&mut second, "DateStyle").await.unwrap(), "German, DMY");
    assert_eq!(
        (shown(&mut first, "DateStyle").await.unwrap().as_str(), first.told("DateStyle")),
        ("German, DMY", Some("German, DMY"))
    );
    // New servers have another default than old ones: whoever comes to one is told before it answers.
    let sql = format!("alter role {} set timezone to 'Asia/Tokyo'", db.name);
    db.admin.batch_execute(&sql).await.unwrap();
    first.run("begin").await.unwrap();
    let mut third = raw(&pooler, "acme").await;
    third.send(&query("show timezone")).await;
    let (messages, _) = third.until_ready().await;
    let row = messages.iter().position(|m| m.tag == 'D').unwrap();
    assert_eq!(messages[row].text(), "Asia/Tokyo");
    assert_eq!(third.told("TimeZone"), Some("Asia/Tokyo"));
    let told = messages.iter().position(|m| m.tag == 'S' && m.body.starts_with(b"TimeZone\0"));
    assert!(told.is_none_or(|at| at < row), "before the row that depends on it");
}
