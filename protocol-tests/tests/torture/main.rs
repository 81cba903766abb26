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

mod client;
mod steps;
mod trouble;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use protocol_tests::{Database, Pooler};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use client::{Client, Kind};
use trouble::Trouble;

const CLIENTS: u64 = 64;
const TENANTS: u64 = 12;
const SERVERS: u8 = 4;
/// Every so many-th client names its tenant by its search_path, and changes it as it likes.
const WANDERERS: u64 = 8;
/// Whose a client is that names nobody.
const DEFAULT_TENANT: &str = "t11";
/// Tenants whose clients may not set what is the tenant's: `t0` to here, without it.
const GUARDED: u8 = 3;

struct Run {
    port: u16,
    stop: AtomicBool,
    rows: AtomicU64,
    errors: AtomicU64,
    reconnects: AtomicU64,
    /// Changes of tenant by search_path.
    moves: AtomicU64,
    /// Statements that the guard refused.
    refused: AtomicU64,
    /// Notifications.
    heard: AtomicU64,
}

impl Run {
    fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
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
    let trouble = Trouble::new(&db, &tenants, seed).await;
    let pooler = Pooler::start_with(&format!("workers = {workers}"), &trouble.quiet()).await;
    let run = Arc::new(Run {
        port: pooler.port,
        stop: AtomicBool::new(false),
        rows: AtomicU64::new(0),
        errors: AtomicU64::new(0),
        reconnects: AtomicU64::new(0),
        moves: AtomicU64::new(0),
        refused: AtomicU64::new(0),
        heard: AtomicU64::new(0),
    });
    let mut clients = tokio::task::JoinSet::new();
    for number in 0..CLIENTS {
        let rng = StdRng::seed_from_u64(seed ^ (number << 32) ^ u64::from(major));
        let kind = match number {
            _ if number % WANDERERS == 0 => Kind::Wanderer,
            _ if number % TENANTS < u64::from(GUARDED) => Kind::Guarded,
            _ => Kind::Free,
        };
        let client = Client::new(Arc::clone(&run), number, kind, rng);
        clients.spawn(client.live());
    }
    let reloads = trouble.make(&pooler, Duration::from_secs(seconds)).await;
    run.stop.store(true, Ordering::Relaxed);
    while let Some(ended) = clients.join_next().await {
        ended.unwrap();
    }
    let [rows, errors, reconnects, moves, refused, heard] =
        [&run.rows, &run.errors, &run.reconnects, &run.moves, &run.refused, &run.heard]
            .map(|counter| counter.load(Ordering::Relaxed));
    println!(
        "{rows} rows, {errors} errors, {reconnects} reconnects, {moves} moves, {refused} refused, {heard} heard, {reloads} reloads"
    );
    assert!(rows > 1000 && errors > 50, "the torture did its work");
    assert!(moves > 50 && refused > 20 && heard > 20, "all of it");
    assert!(reloads > 5, "tenants came and went");
    db.until("state in ('idle in transaction', 'idle in transaction (aborted)')", 0).await;
    db.until("state = 'active'", 0).await;
    // Two clusters, as the pooler sees it.
    assert!(db.backends().await <= 2 * i64::from(SERVERS));
}
