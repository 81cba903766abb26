//! PgBouncer's statistics, by database: totals, and averages of the last minute or two.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Rows;
use crate::admin::cell::Cell;
use crate::client::Access;
use crate::stats::{Stats, Totals};

/// How many numbers PgBouncer gives.
const NUMBERS: usize = 12;

/// Their names in `SHOW TOTALS`, and in `SHOW STATS` as far as that has no others.
const NAMES: [&str; NUMBERS] = [
    "server_assignment_count",
    "xact_count",
    "query_count",
    "client_bytes",
    "server_bytes",
    "xact_time",
    "query_time",
    "wait_time",
    "ps_client_parse_count",
    "ps_server_parse_count",
    "ps_bind_count",
    "client_connect_count",
];

/// In their order; times in microseconds.
fn numbers(totals: &Totals) -> [u64; NUMBERS] {
    [
        totals.waits.count(),
        totals.transactions.count(),
        totals.queries,
        totals.received,
        totals.sent,
        totals.transactions.micros,
        totals.query_micros,
        totals.waits.micros,
        totals.parses,
        totals.server_parses,
        totals.binds,
        totals.logins,
    ]
}

/// So many a second; of times, so long each.
fn a_second(totals: &Totals, length: Duration) -> [u64; NUMBERS] {
    let micros = length.as_micros().max(1);
    let rate = |n: u64| u64::try_from(u128::from(n) * 1_000_000 / micros).unwrap_or(u64::MAX);
    let mut rates = numbers(totals).map(rate);
    let each = |sum: u64, count: u64| sum.checked_div(count).unwrap_or(0);
    rates[5] = each(totals.transactions.micros, totals.transactions.count());
    rates[6] = each(totals.query_micros, totals.queries);
    rates[7] = each(totals.waits.micros, totals.waits.count());
    rates
}

type Databases = BTreeMap<Arc<str>, Totals>;

/// Since the start, and in the last minute or two, and how long that was.
fn look(counted: &Stats) -> (Databases, Databases, Duration) {
    let now = counted.tallies.sums().by_database();
    let (length, came) = counted.period.since_last(Instant::now(), &now);
    (now, came, length)
}

fn row(name: &str, numbers: impl IntoIterator<Item = u64>) -> Vec<Cell> {
    [name.into()].into_iter().chain(numbers.into_iter().map(Cell::from)).collect()
}

pub(in crate::admin) fn stats(access: &Access, counted: &Stats) -> Rows {
    let row = |name: &str, numbers: Vec<u64>| row(access.shown_name(name), numbers);
    let (now, came, length) = look(counted);
    let of = |name: &Arc<str>| came.get(name).map_or([0; NUMBERS], |it| a_second(it, length));
    let both = |name, all| numbers(all).into_iter().chain(of(name)).collect();
    now.iter().map(|(name, all)| row(name, both(name, all))).collect()
}

pub(in crate::admin) fn totals(access: &Access, counted: &Stats) -> Rows {
    let rows = look(counted).0;
    rows.iter().map(|(name, totals)| row(access.shown_name(name), numbers(totals))).collect()
}

pub(in crate::admin) fn averages(access: &Access, counted: &Stats) -> Rows {
    let (_, came, length) = look(counted);
    let row = |name, totals| row(access.shown_name(name), a_second(totals, length));
    came.iter().map(|(name, totals)| row(name, totals)).collect()
}

/// Of all databases together, a row for each number.
pub(in crate::admin) fn totals_by_name(counted: &Stats) -> Rows {
    let (now, came, length) = look(counted);
    let sum = |databases: &Databases| {
        databases.values().fold(Totals::default(), |mut sum, totals| {
            sum.add(totals);
            sum
        })
    };
    let named = |prefix: &str, numbers: [u64; NUMBERS]| {
        let named = NAMES.iter().zip(numbers);
        named
            .map(|(name, n)| vec![Cell::Text(format!("{prefix}_{name}")), n.into()])
            .collect::<Rows>()
    };
    let mut rows = named("total", numbers(&sum(&now)));
    rows.extend(named("avg", a_second(&sum(&came), length)));
    rows
}
