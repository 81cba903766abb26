//! What the demo shows.

use std::fmt::Write;

use serde_json::json;

use super::load::Measured;
use crate::pooler::Pooler;

/// Counts and latencies of one run.
pub struct Report {
    clients: usize,
    tenants: Vec<Measured>,
    server_connections: usize,
    dials: u64,
    switches: u64,
    switch_round_trips: u64,
}

impl Report {
    pub(super) fn new(pooler: &Pooler, clients: usize, mut tenants: Vec<Measured>) -> Self {
        for tenant in &mut tenants {
            tenant.latencies.sort_unstable();
        }
        let stats = pooler.stats();
        Self {
            clients,
            tenants,
            server_connections: pooler.server_connections(),
            dials: stats.dials.get(),
            switches: stats.switches.get(),
            switch_round_trips: stats.switch_round_trips.get(),
        }
    }

    pub(super) fn wrong_rows(&self) -> u64 {
        self.tenants.iter().map(|tenant| tenant.wrong_rows).sum()
    }

    fn statements(&self) -> usize {
        self.tenants.iter().map(|tenant| tenant.latencies.len()).sum()
    }

    pub(super) fn json(&self) -> String {
        json!({
            "clients": self.clients,
            "tenants": self.tenants.len(),
            "server_connections": self.server_connections,
            "statements": self.statements(),
            "wrong_rows": self.wrong_rows(),
            "switches": self.switches,
            "switch_round_trips": self.switch_round_trips,
        })
        .to_string()
    }

    pub(super) fn table(&self) -> String {
        let mut out = String::new();
        let mut line =
            |text: String| writeln!(out, "{text}").expect("a String takes all that is written");
        line(format!(
            "{:<16} {:>10} {:>9} {:>9} {:>8} {:>10}",
            "tenant", "statements", "p50 ms", "p99 ms", "waits", "wrong rows"
        ));
        for tenant in &self.tenants {
            line(format!(
                "{:<16} {:>10} {:>9.2} {:>9.2} {:>8} {:>10}",
                tenant.tenant,
                tenant.latencies.len(),
                percentile(&tenant.latencies, 50),
                percentile(&tenant.latencies, 99),
                tenant.waits,
                tenant.wrong_rows
            ));
        }
        line(format!(
            "\n{} clients of {} tenants, {} server connections ({} dialled): {} statements, {} wrong rows",
            self.clients,
            self.tenants.len(),
            self.server_connections,
            self.dials,
            self.statements(),
            self.wrong_rows()
        ));
        line(format!(
            "{} switches of tenant, {} round trips spent on them",
            self.switches, self.switch_round_trips
        ));
        out
    }
}

/// Milliseconds below which `percent` of the sorted latencies are.
fn percentile(sorted: &[u32], percent: usize) -> f64 {
    let at = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    sorted.get(at).map_or(0.0, |micros| f64::from(*micros) / 1000.0)
}
