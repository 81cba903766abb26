//! What is seen, and how it is drawn.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Instant;

use crate::server::Row;

/// Rows when nobody knows how high the terminal is.
const ROWS: usize = 40;
const ENTER: &[u8] = b"\x1b[?1049h\x1b[?25l";
const LEAVE: &[u8] = b"\x1b[?25h\x1b[?1049l";

/// The console's answers at one moment.
pub(super) struct Look {
    at: Instant,
    version: String,
    clients: u64,
    pools: Vec<Pool>,
    tenants: BTreeMap<(String, String), Tenant>,
}

struct Pool {
    name: String,
    waiting: u64,
    active: u64,
    idle: u64,
    opening: u64,
}

/// By the columns of `SHOW TENANTS`.
#[derive(Default)]
struct Tenant {
    state: String,
    clients: u64,
    waiting: u64,
    servers: u64,
    max_servers: u64,
    longest_wait_us: u64,
    transactions: u64,
    busy_us: u64,
    waited_us: u64,
    refusals: u64,
    pins: u64,
}

fn text(row: &Row, at: usize) -> String {
    let bytes = row.get(at).and_then(Option::as_ref);
    let text = bytes.map(|bytes| String::from_utf8_lossy(bytes)).unwrap_or_default();
    // A name may hold anything; a terminal obeys some of it.
    text.chars().map(|c| if is_shown(c) { c } else { '?' }).collect()
}

/// Neither a control character nor one that turns the direction of what follows.
fn is_shown(c: char) -> bool {
    !c.is_control()
        && !matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn number(row: &Row, at: usize) -> u64 {
    text(row, at).parse().unwrap_or(0)
}

impl Look {
    pub(super) fn new(
        at: Instant,
        version: &[Row],
        lists: &[Row],
        pools: &[Row],
        tenants: &[Row],
    ) -> Self {
        let used = lists.iter().find(|row| text(row, 0) == "used_clients");
        let pool = |row: &Row| Pool {
            name: format!("{} as {} ({})", text(row, 0), text(row, 1), text(row, 17)),
            waiting: number(row, 3),
            active: number(row, 6),
            idle: number(row, 9),
            opening: number(row, 12),
        };
        let tenant = |row: &Row| {
            let it = Tenant {
                state: text(row, 1),
                clients: number(row, 5),
                waiting: number(row, 7),
                servers: number(row, 8),
                max_servers: number(row, 9),
                longest_wait_us: number(row, 13),
                transactions: number(row, 14),
                busy_us: number(row, 15),
                waited_us: number(row, 16),
                refusals: number(row, 17),
                pins: number(row, 18),
            };
            ((text(row, 0), text(row, 2)), it)
        };
        Self {
            at,
            version: version.first().map(|row| text(row, 0)).unwrap_or_default(),
            clients: used.map_or(0, |row| number(row, 1)),
            pools: pools.iter().map(pool).collect(),
            tenants: tenants.iter().map(tenant).collect(),
        }
    }
}

/// A line of the table, with what happened since the last look.
struct Line<'a> {
    name: &'a str,
    it: &'a Tenant,
    /// Servers that were busy for it, on average.
    busy: f64,
    transactions: f64,
    /// Clients that waited, on average.
    waits: f64,
    refused: u64,
}

/// The terminal, or a file. Dropped, it is as it was.
pub(super) struct Screen {
    is_terminal: bool,
}

impl Screen {
    pub(super) fn open(is_terminal: bool) -> io::Result<Self> {
        if is_terminal {
            io::stdout().write_all(ENTER)?;
        }
        Ok(Self { is_terminal })
    }

    pub(super) fn show(&mut self, now: &Look, before: &Look) -> io::Result<()> {
        let rows = if self.is_terminal { height() } else { usize::MAX };
        let mut out = String::new();
        if self.is_terminal {
            out.push_str("\x1b[H\x1b[J");
        }
        let lines = table(now, before);
        let cut = lines.len() > rows;
        for line in lines.into_iter().take(rows) {
            out.push_str(&line);
            out.push('\n');
        }
        if self.is_terminal && cut {
            // The last line ends without one: the screen would scroll.
            out.pop();
        }
        io::stdout().write_all(out.as_bytes())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if self.is_terminal {
            // Without a terminal there is nothing to put back.
            let _ = io::stdout().write_all(LEAVE);
            let _ = io::stdout().flush();
        }
    }
}

fn height() -> usize {
    rustix::termios::tcgetwinsize(io::stdout()).map_or(ROWS, |size| usize::from(size.ws_row).max(3))
}

#[expect(clippy::cast_precision_loss, reason = "shown with two digits")]
fn rate(now: u64, before: u64, seconds: f64) -> f64 {
    now.saturating_sub(before) as f64 / seconds.max(0.001)
}

fn table(now: &Look, before: &Look) -> Vec<String> {
    let seconds = now.at.saturating_duration_since(before.at).as_secs_f64();
    let nothing = Tenant::default();
    let mut lines: Vec<Line<'_>> = now
        .tenants
        .iter()
        .map(|(key, it)| {
            let then = before.tenants.get(key).unwrap_or(&nothing);
            Line {
                name: &key.0,
                it,
                busy: rate(it.busy_us, then.busy_us, seconds) / 1e6,
                transactions: rate(it.transactions, then.transactions, seconds),
                waits: rate(it.waited_us, then.waited_us, seconds) / 1e6,
                refused: it.refusals.saturating_sub(then.refusals),
            }
        })
        .collect();
    lines.sort_by(|a, b| {
        (b.it.waiting > 0)
            .cmp(&(a.it.waiting > 0))
            .then(b.busy.total_cmp(&a.busy))
            .then(a.name.cmp(b.name))
    });
    let waiting: u64 = now.pools.iter().map(|pool| pool.waiting).sum();
    // Not a sum: that of nothing is -0.
    let all = lines.iter().fold(0.0, |all, line| all + line.transactions);
    let mut out = vec![format!(
        "{}: {} clients, {waiting} wait, {all:.0} transactions/s, {} tenants",
        now.version,
        now.clients,
        lines.len()
    )];
    for pool in &now.pools {
        out.push(format!(
            "{}: {} servers active, {} idle, {} opening, {} clients wait",
            pool.name, pool.active, pool.idle, pool.opening, pool.waiting
        ));
    }
    out.push(String::new());
    out.push(format!(
        "{:<28} {:<9} {:>7} {:>9} {:>8} {:>9} {:>7} {:>7} {:>9} {:>5} {:>7}",
        "TENANT",
        "STATE",
        "BUSY",
        "XACT/S",
        "CLIENTS",
        "SERVERS",
        "WAITING",
        "WAITED",
        "MAXWAIT",
        "PINS",
        "REFUSED"
    ));
    if lines.is_empty() {
        out.push("no tenant has clients".to_owned());
    }
    out.extend(lines.iter().map(row));
    out
}

fn row(line: &Line<'_>) -> String {
    let Line { name, it, busy, transactions, waits, refused } = line;
    let max_wait = match it.longest_wait_us {
        0 => "-".to_owned(),
        micros if micros < 1_000_000 => format!("{} ms", micros / 1000),
        micros => format!("{} s", micros / 1_000_000),
    };
    format!(
        "{name:<28} {:<9} {busy:>7.2} {transactions:>9.0} {:>8} {:>9} {:>7} {waits:>7.2} {max_wait:>9} {:>5} {refused:>7}",
        it.state,
        it.clients,
        format!("{}/{}", it.servers, it.max_servers),
        it.waiting,
        it.pins,
    )
}
