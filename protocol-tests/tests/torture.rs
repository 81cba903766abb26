//! Isolation torture: many clients of many tenants over few servers, doing everything at once.
//!
//! Every row carries its tenant's name; one row of another tenant, or one transaction left open,
//! fails. `TENANTRY_TORTURE_SECONDS` makes it longer, `TENANTRY_TORTURE_SEED` repeats a run.
#![allow(
    clippy::unwrap_used,
    clippy::too_many_lines,
    clippy::semicolon_if_nothing_returned,
    clippy::never_loop,
    clippy::print_stdout,
    clippy::large_futures,
    reason = "tests: what is wrong fails"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use protocol_tests::pooler::BY_SCHEMA;
use protocol_tests::wire::{
    Message, V3_0, batch, bind, close, describe, execute, flush, message, parse, query, startup,
    sync,
};
use protocol_tests::{Database, Pooler, Wire};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const CLIENTS: u64 = 64;
const TENANTS: u64 = 12;
const SERVERS: u8 = 4;

struct Run {
    port: u16,
    stop: AtomicBool,
    rows: AtomicU64,
    errors: AtomicU64,
    reconnects: AtomicU64,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_client_ever_sees_another_tenants_row_on_15() {
    torture(15, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_client_ever_sees_another_tenants_row_on_18_and_two_workers() {
    torture(18, 2).await;
}

/// With two workers, servers are lent from one's event loop to the other's clients.
async fn torture(major: u32, workers: u32) {
    let from_env = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seconds = from_env("TENANTRY_TORTURE_SECONDS").unwrap_or(30);
    let seed = from_env("TENANTRY_TORTURE_SEED").unwrap_or_else(|| rand::rng().random());
    println!("PostgreSQL {major}: TENANTRY_TORTURE_SEED={seed}");
    let db = Database::create(major).await;
    let tenants: Vec<String> = (0..TENANTS).map(|n| format!("t{n}")).collect();
    db.schemas(&tenants.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let toml = format!("{}[auth]\ntype = \"trust\"\n{BY_SCHEMA}", db.toml(SERVERS.into()));
    let pooler = Pooler::start_with(&format!("workers = {workers}"), &toml).await;
    let run = Arc::new(Run {
        port: pooler.port,
        stop: AtomicBool::new(false),
        rows: AtomicU64::new(0),
        errors: AtomicU64::new(0),
        reconnects: AtomicU64::new(0),
    });
    let mut clients = tokio::task::JoinSet::new();
    for number in 0..CLIENTS {
        let rng = StdRng::seed_from_u64(seed ^ (number << 32) ^ u64::from(major));
        clients.spawn(client(Arc::clone(&run), format!("t{}", number % TENANTS), rng));
    }
    killer(&db, seed, Duration::from_secs(seconds)).await;
    run.stop.store(true, Ordering::Relaxed);
    while let Some(ended) = clients.join_next().await {
        ended.unwrap();
    }
    let (rows, errors) = (run.rows.load(Ordering::Relaxed), run.errors.load(Ordering::Relaxed));
    println!("{rows} rows, {errors} errors, {} reconnects", run.reconnects.load(Ordering::Relaxed));
    assert!(rows > 1000 && errors > 50, "the torture did its work");
    db.until("state in ('idle in transaction', 'idle in transaction (aborted)')", 0).await;
    db.until("state = 'active'", 0).await;
    assert!(db.backends().await <= i64::from(SERVERS));
}

/// Kills a random server connection now and then, until the time is over.
async fn killer(db: &Database, seed: u64, time: Duration) {
    let mut rng = StdRng::seed_from_u64(seed);
    let end = tokio::time::Instant::now() + time;
    while tokio::time::Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(rng.random_range(50..400))).await; // a pace, not a condition
        let sql = format!(
            "select pg_terminate_backend(pid) from pg_stat_activity where usename = '{}' order by md5(pid::text || '{}') limit 1",
            db.name,
            rng.random::<u32>()
        );
        db.admin.batch_execute(&sql).await.unwrap();
    }
}

/// Who a client is, and what it has set `app.mark` to.
struct Me {
    tenant: String,
    mark: u32,
    /// How it was last set.
    last: String,
    /// It has a statement `w`.
    prepared: bool,
}

async fn client(run: Arc<Run>, tenant: String, mut rng: StdRng) {
    let mut me = Me { tenant, mark: 0, last: String::new(), prepared: false };
    while !run.stop.load(Ordering::Relaxed) {
        run.reconnects.fetch_add(1, Ordering::Relaxed);
        (me.mark, me.last, me.prepared) = (0, String::new(), false);
        let mut wire = Wire::open(run.port).await;
        wire.send_if_open(&startup(V3_0, &[("user", &format!("app.{}", me.tenant))])).await;
        if !logged_in(&mut wire).await {
            continue;
        }
        for _ in 0..rng.random_range(1..60) {
            if run.stop.load(Ordering::Relaxed) || !step(&run, &mut wire, &mut me, &mut rng).await {
                break;
            }
        }
    }
}

/// `false` when the login failed: a killed server may have been the one it needed.
async fn logged_in(wire: &mut Wire) -> bool {
    while let Some(message) = wire.next().await {
        match message.tag {
            'K' => {
                wire.pid = i32::from_be_bytes(message.body[..4].try_into().unwrap());
                wire.key = message.body[4..].to_vec();
            }
            'Z' => return true,
            'E' => return false,
            _ => {}
        }
    }
    false
}

/// One random thing; `false` when the connection is over.
async fn step(run: &Run, wire: &mut Wire, me: &mut Me, rng: &mut StdRng) -> bool {
    let who = "select name from who";
    let Me { tenant, mark, last, .. } = me;
    match rng.random_range(0..30) {
        17..=20 => marked(run, wire, me, rng).await,
        22..=27 => prepared(run, wire, me, rng).await,
        21 => simple(run, wire, tenant, &unmarked(tenant, *mark, last)).await,
        0..=4 => simple(run, wire, tenant, who).await,
        5 => simple(run, wire, tenant, "begin; select name from who; commit").await,
        6 => {
            let ends = ["commit", "rollback"][rng.random_range(0..2)];
            simple(run, wire, tenant, "begin").await
                && simple(run, wire, tenant, who).await
                && simple(
                    run,
                    wire,
                    tenant,
                    "savepoint s; set local work_mem = '1MB'; rollback to s",
                )
                .await
                && simple(run, wire, tenant, ends).await
        }
        7 => simple(run, wire, tenant, "select 1/0").await,
        8 => {
            simple(run, wire, tenant, "begin; select 1/0").await
                && simple(run, wire, tenant, "rollback").await
        }
        9 => simple(run, wire, tenant, "rollback; select name from who").await,
        10 => extended(run, wire, tenant, &[batch(who), sync()].concat(), 1).await,
        11 => {
            extended(
                run,
                wire,
                tenant,
                &[batch(who), sync(), batch("select 1/0"), sync(), batch(who), sync()].concat(),
                3,
            )
            .await
        }
        12 => {
            extended(run, wire, tenant, &[batch(who), flush(), batch(who), sync()].concat(), 1)
                .await
        }
        13 => simple(run, wire, tenant, "update who set name = name; select name from who").await,
        14 => copy(run, wire, rng).await,
        15 => {
            // Gone in the middle of something, or with something unsynced.
            let parting = [
                query("select pg_sleep(0.05), name from who"),
                batch(who),
                [batch(who), flush()].concat(),
                query("begin"),
                b"Q\0\0\0\x20sel".to_vec(),
            ];
            wire.send_if_open(&parting[rng.random_range(0..parting.len())]).await;
            false
        }
        16 => {
            wire.send_if_open(&query("select name, pg_sleep(0.02) from who")).await;
            let (port, pid, key) = (run.port, wire.pid, wire.key.clone());
            tokio::join!(Wire::cancel(port, pid, &key), answers(run, wire, tenant, 1)).1
        }
        _ => {
            // Pins: what it leaves behind must be nobody else's.
            simple(run, wire, tenant, "set search_path to public, pg_catalog; create temp table if not exists mine (a int)").await
                && simple(run, wire, tenant, &format!("set search_path to {tenant}; select name from who")).await
                && rng.random_bool(0.5)
        }
    }
}

/// A row with the tenant's name, if the mark is what the client set it to.
fn unmarked(tenant: &str, mark: u32, last: &str) -> String {
    let mark = if mark == 0 { String::new() } else { format!("m{mark}") };
    let last = last.replace('\'', "");
    format!(
        "select case when coalesce(current_setting('app.mark', true), '') = '{mark}' then '{tenant}' else concat(current_setting('app.mark', true), ', not {mark}: {last}') end"
    )
}

/// Sets the mark, in one of many ways, and looks at it.
async fn marked(run: &Run, wire: &mut Wire, me: &mut Me, rng: &mut StdRng) -> bool {
    let next = rng.random_range(1..u32::MAX);
    let (sql, kept) = [
        ("set app.mark = 'm#'", true),
        ("begin; set app.mark = 'm#'; commit", true),
        ("begin; set app.mark = 'm#'; rollback", false),
        ("begin; set local app.mark = 'm#'; commit", false),
        ("set app.mark = 'm#'; do $$ begin perform set_config('app.mark', '', true); end $$", true),
        ("do $$ begin execute 'set app.mark = m#'; end $$", true),
    ][rng.random_range(0..6)];
    wire.send_if_open(&query(&sql.replace('#', &next.to_string()))).await;
    // Whether it ran: a late cancel of its own may have met it.
    let Some(ran) = ran(wire, "").await else { return false };
    if kept && ran {
        me.mark = next;
    }
    me.last = format!("{sql} {next}, ran: {ran}");
    simple(run, wire, &me.tenant, &unmarked(&me.tenant, me.mark, &me.last)).await
}

/// Runs a statement by its name, on whichever server; sometimes behind an error, or closes it.
async fn prepared(run: &Run, wire: &mut Wire, me: &mut Me, rng: &mut StdRng) -> bool {
    let run_it = [bind("", "w"), execute("", 0)].concat();
    if !me.prepared {
        let text = parse("w", "select name from who");
        wire.send_if_open(&[text, run_it, sync()].concat()).await;
        let Some(ran) = ran(wire, &me.tenant).await else { return false };
        me.prepared = ran;
        return true;
    }
    let (messages, readies) = match rng.random_range(0..6) {
        0 => ([batch("select 1/0"), run_it.clone(), sync(), run_it, sync()].concat(), 2),
        1 => ([run_it.clone(), sync(), run_it.clone(), sync(), run_it, sync()].concat(), 3),
        2 => {
            wire.send_if_open(&[close('S', "w"), sync()].concat()).await;
            let Some(ran) = ran(wire, &me.tenant).await else { return false };
            me.prepared &= !ran;
            return true;
        }
        3 => ([query("begin"), run_it, sync(), query("rollback")].concat(), 3),
        _ => ([describe('S', "w"), run_it, sync()].concat(), 1),
    };
    extended(run, wire, &me.tenant, &messages, readies).await
}

/// Whether what was sent ran, once it is answered; `None` when the connection is over.
async fn ran(wire: &mut Wire, tenant: &str) -> Option<bool> {
    let mut ran = true;
    loop {
        let message = wire.next().await?;
        match message.tag {
            'Z' => return Some(ran),
            'E' => {
                expected(&message);
                ran = false;
            }
            'D' if !tenant.is_empty() => assert_eq!(message.text(), tenant, "of another tenant"),
            _ => {}
        }
    }
}

async fn simple(run: &Run, wire: &mut Wire, tenant: &str, sql: &str) -> bool {
    wire.send_if_open(&query(sql)).await;
    answers(run, wire, tenant, 1).await
}

async fn extended(run: &Run, wire: &mut Wire, tenant: &str, bytes: &[u8], readies: usize) -> bool {
    wire.send_if_open(bytes).await;
    answers(run, wire, tenant, readies).await
}

async fn copy(run: &Run, wire: &mut Wire, rng: &mut StdRng) -> bool {
    wire.send_if_open(&query("begin; copy who from stdin")).await;
    loop {
        match wire.next().await {
            Some(message) if message.tag == 'G' => break,
            Some(message) if message.tag == 'Z' => return true,
            Some(message) if message.tag == 'E' => {
                run.errors.fetch_add(1, Ordering::Relaxed);
            }
            Some(_) => {}
            None => return false,
        }
    }
    // It never ends well: nothing is left in the table.
    let end =
        if rng.random_bool(0.5) { message('f', b"no\0") } else { message('d', b"too\tmany\n") };
    wire.send_if_open(&[message('d', b"row\n"), end, message('c', b"")].concat()).await;
    answers(run, wire, "", 1).await && simple(run, wire, "", "rollback").await
}

/// What the steps ask for: division by zero, aborted block, cancel, killed server (two in a row end in
/// 58000), COPY that fails, lock timeouts of none; a missing table would be a wrong state.
fn expected(error: &Message) {
    let code = error.field('C');
    let known = ["22012", "25P02", "57014", "57P01", "08006", "22P04", "57P02", "40P01", "58000"];
    assert!(known.contains(&code.as_str()), "{code} {}", error.field('M'));
}

/// Reads `readies` answers; every row must be the tenant's. `false` when the connection is over.
async fn answers(run: &Run, wire: &mut Wire, tenant: &str, readies: usize) -> bool {
    let mut left = readies;
    while left > 0 {
        let Some(message) = wire.next().await else { return false };
        match message.tag {
            'D' => {
                assert_eq!(message.text(), tenant, "a row of another tenant");
                run.rows.fetch_add(1, Ordering::Relaxed);
            }
            'E' => {
                run.errors.fetch_add(1, Ordering::Relaxed);
                expected(&message);
            }
            'Z' => left -= 1,
            _ => {}
        }
    }
    true
}
