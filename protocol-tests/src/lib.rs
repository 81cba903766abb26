//! What the tests stand on: throw-away clusters, databases, the binary under test, raw protocol.
//!
//! Nothing here knows Tenantry's sources. Every server a test starts is stopped when its handle is
//! dropped; ports come from the system; nobody sleeps where a condition can be waited for.
#![allow(
    missing_docs,
    clippy::missing_errors_doc,
    clippy::unwrap_used,
    clippy::match_wild_err_arm,
    clippy::format_collect,
    clippy::duration_suboptimal_units,
    reason = "a test harness: what is wrong fails the test"
)]

pub mod certs;
pub mod cluster;
pub mod database;
pub mod halt;
pub mod http;
mod place;
pub mod pooler;
pub mod report;
pub mod scripted;
pub mod tls_relay;
pub mod wire;

pub use cluster::Cluster;
pub use database::Database;
pub use pooler::Pooler;
pub use report::report;
pub use wire::Wire;

use std::time::Duration;

/// Longest any condition is waited for. A machine that is busy is slow, not wrong.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Fails the test when a future takes longer than [`PATIENCE`].
pub async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(output) => output,
        Err(_) => panic!("waited in vain: {what}"),
    }
}

/// Seeds for random conversations with PostgreSQL as the oracle: so many, and more of them as long as
/// `TENANTRY_FUZZ_SECONDS` says, if it does. The first one is printed; `TENANTRY_CORPUS_SEED` repeats it.
pub fn seeds(least: u64) -> impl Iterator<Item = u64> {
    use rand::Rng;
    let first: u64 = std::env::var("TENANTRY_CORPUS_SEED")
        .map_or_else(|_| rand::rng().random::<u32>().into(), |seed| seed.parse().unwrap());
    #[expect(clippy::print_stdout, reason = "a failed test shows it")]
    {
        println!("TENANTRY_CORPUS_SEED={first}");
    }
    let seconds = std::env::var("TENANTRY_FUZZ_SECONDS").map_or(0, |text| text.parse().unwrap());
    let until = std::time::Instant::now() + Duration::from_secs(seconds);
    let goes_on = move |number: &u64| *number < least || std::time::Instant::now() < until;
    (0..).take_while(goes_on).map(move |number| first + number)
}

/// Runs each scenario on PostgreSQL 15 and 18.
#[macro_export]
macro_rules! on_both {
    ($($(#[$attr:meta])* async fn $name:ident($db:ident: &$database:ty) $body:block)*) => {
        $($(#[$attr])* async fn $name($db: &$database) $body)*
        mod pg15 { $(#[tokio::test]
            async fn $name() { super::$name(&protocol_tests::Database::create(15).await).await })* }
        mod pg18 { $(#[tokio::test]
            async fn $name() { super::$name(&protocol_tests::Database::create(18).await).await })* }
    };
}
