//! Random conversations against every setting: legal, almost legal and malformed messages, cut anywhere, at any pace, with
//! canaries beside them. `TENANTRY_FUZZ_SECONDS` says how long each of these runs, `TENANTRY_FUZZ_SEED` repeats one.
#![allow(
    clippy::unwrap_used,
    clippy::too_many_lines,
    clippy::print_stdout,
    clippy::large_futures,
    reason = "tests: what is wrong fails"
)]

mod canary;
mod messages;
mod settings;
mod talker;

use std::time::{Duration, Instant};

use protocol_tests::{Database, Pooler};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Clients that say anything, at once.
const TALKERS: u64 = 6;
/// How long a pooler lives: then another one comes, with other settings.
const ROUND: Duration = Duration::from_secs(4);

/// How long to go on, and the first seed.
fn how_long() -> (Duration, u64) {
    let seconds = std::env::var("TENANTRY_FUZZ_SECONDS").map_or(20, |s| s.parse().unwrap());
    let seed = std::env::var("TENANTRY_FUZZ_SEED")
        .map_or_else(|_| rand::rng().random::<u32>().into(), |seed| seed.parse().unwrap());
    println!("TENANTRY_FUZZ_SEED={seed}");
    (Duration::from_secs(seconds), seed)
}

/// Lines that say that something is wrong with the pooler itself.
const FAULTS: [&str; 3] =
    ["session ended: it made no progress", "panicked", "a worker does not turn"];

fn faults(pooler: &Pooler) -> usize {
    pooler.count_log(|line| {
        let text = line["message"].as_str().or(line.as_str()).unwrap_or_default();
        FAULTS.iter().any(|fault| text.contains(fault))
    })
}

async fn round(db: &Database, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let config = settings::random(&mut rng, db);
    let mut pooler = Pooler::start_with("shutdown_timeout = \"2s\"\n", &config.toml).await;
    let until = Instant::now() + ROUND;
    let talk = async {
        let talkers = (0..TALKERS).map(|number| {
            let rng = StdRng::seed_from_u64(seed ^ (number + 1) << 40);
            talker::talk(pooler.port, rng, until)
        });
        let told: Vec<Result<(), String>> = futures(talkers).await;
        told.into_iter().collect::<Result<Vec<()>, String>>()
    };
    let (told, quiet, same) = tokio::join!(
        talk,
        canary::sing(pooler.port, "umbra", &config, until),
        canary::sing(pooler.port, "acme", &config, until)
    );
    let context =
        |pooler: &Pooler| format!("TENANTRY_FUZZ_SEED={seed}\n{}\n{}", config.toml, tail(pooler));
    for result in [told.map(drop), quiet, same] {
        assert_eq!(result, Ok(()), "{}", context(&pooler));
    }
    assert_eq!(faults(&pooler), 0, "{}", context(&pooler));
    // It still works, and it ends.
    let last = canary::once(pooler.port, "umbra").await;
    assert_eq!(last, Ok(()), "{}", context(&pooler));
    pooler.signal("TERM");
    assert!(pooler.ended().await.success(), "{}", context(&pooler));
}

async fn futures<F: Future>(all: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut pinned: Vec<_> = all.map(Box::pin).collect();
    let mut results: Vec<Option<F::Output>> = pinned.iter().map(|_| None).collect();
    std::future::poll_fn(|cx| {
        for (future, result) in pinned.iter_mut().zip(&mut results) {
            if result.is_none()
                && let std::task::Poll::Ready(value) = future.as_mut().poll(cx)
            {
                *result = Some(value);
            }
        }
        if results.iter().all(Option::is_some) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    results.into_iter().map(Option::unwrap).collect()
}

fn tail(pooler: &Pooler) -> String {
    let text = pooler.log_text();
    let lines: Vec<&str> = text.lines().filter(|line| !line.contains("DEBUG")).collect();
    let is_fault = |line: &&str| FAULTS.iter().any(|fault| line.contains(fault));
    let faults: Vec<&str> = lines.iter().copied().filter(is_fault).collect();
    [&faults, &lines[lines.len().saturating_sub(30)..]].concat().join("\n")
}

#[tokio::test]
async fn nothing_that_a_client_says_stops_the_pooler_or_reaches_others() {
    let (time, seed) = how_long();
    let end = Instant::now() + time;
    let (db15, db18) = (Database::create(15).await, Database::create(18).await);
    for db in [&db15, &db18] {
        settings::prepare(db).await;
    }
    let mut number = 0;
    while Instant::now() < end || number == 0 {
        round(if number % 2 == 0 { &db15 } else { &db18 }, seed + number).await;
        number += 1;
    }
    println!("{number} rounds");
}
