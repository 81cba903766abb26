//! Every metric: its name, its labels, what it says, and where it is counted. `docs/metrics.md` is made of this; the
//! alerts and the dashboard in `deploy/` are checked against it.

use std::sync::atomic::Ordering;

use super::looked::{Looked, float, servers_by_state, started};
use crate::pool::TenantReport;
use crate::stats::{Spread, Stats, Totals};

/// One metric.
pub(super) struct Metric {
    /// As Prometheus stores it.
    pub(super) name: &'static str,
    /// Separated by commas.
    pub(super) labels: &'static str,
    pub(super) help: &'static str,
    pub(super) source: Source,
}

/// Values of the labels, in their order, and the number.
pub(super) type Labelled<N> = Vec<(Vec<String>, N)>;

/// What it is made of.
pub(super) enum Source {
    /// What tenants did, each with its name.
    Done(fn(&Totals) -> u64),
    /// How long it took.
    Spread(fn(&Totals) -> &Spread),
    /// Tenants that have clients. What is a limit of many is no limit: only with a name.
    There { value: fn(&TenantReport) -> f64, is_limit: bool },
    /// What all tenants did together.
    All(fn(&Totals) -> u64),
    /// What the pooler did.
    Count(fn(&Stats) -> u64),
    /// What it did, by reasons: values of the labels, and how often.
    Counts(fn(&Stats) -> Labelled<u64>),
    /// What there is.
    Gauge(fn(&Looked<'_>) -> f64),
    /// What there is, by values of the labels.
    Gauges(fn(&Looked<'_>) -> Labelled<f64>),
}

/// What kind of metric Prometheus takes it for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Metric {
    pub(super) const fn kind(&self) -> Kind {
        match self.source {
            Source::Done(_) | Source::All(_) | Source::Count(_) | Source::Counts(_) => {
                Kind::Counter
            }
            Source::Spread(_) => Kind::Histogram,
            Source::There { .. } | Source::Gauge(_) | Source::Gauges(_) => Kind::Gauge,
        }
    }
}

const fn metric(
    name: &'static str,
    labels: &'static str,
    help: &'static str,
    source: Source,
) -> Metric {
    Metric { name, labels, help, source }
}

const fn done(name: &'static str, help: &'static str, of: fn(&Totals) -> u64) -> Metric {
    metric(name, "tenant", help, Source::Done(of))
}

const fn took(name: &'static str, help: &'static str, of: fn(&Totals) -> &Spread) -> Metric {
    metric(name, "tenant", help, Source::Spread(of))
}

const fn there(name: &'static str, help: &'static str, value: fn(&TenantReport) -> f64) -> Metric {
    metric(name, "tenant", help, Source::There { value, is_limit: false })
}

const fn limit(name: &'static str, help: &'static str, value: fn(&TenantReport) -> f64) -> Metric {
    metric(name, "tenant", help, Source::There { value, is_limit: true })
}

const fn count(name: &'static str, help: &'static str, of: fn(&Stats) -> u64) -> Metric {
    metric(name, "", help, Source::Count(of))
}

const fn all(name: &'static str, help: &'static str, of: fn(&Totals) -> u64) -> Metric {
    metric(name, "", help, Source::All(of))
}

const fn gauge(name: &'static str, help: &'static str, of: fn(&Looked<'_>) -> f64) -> Metric {
    metric(name, "", help, Source::Gauge(of))
}

fn one(label: impl ToString, count: u64) -> (Vec<String>, u64) {
    (vec![label.to_string()], count)
}

/// In the order in which they are given.
#[rustfmt::skip]
pub(super) const METRICS: &[Metric] = &[
    done("tenantry_transactions_total", "Transactions that have ended", |it| it.transactions.count()),
    done("tenantry_queries_total", "Queries, and batches of the extended protocol, that PostgreSQL has answered", |it| it.queries),
    took("tenantry_transaction_duration_seconds", "How long transactions held their servers; the rate of the sum is how many servers were busy", |it| &it.transactions),
    took("tenantry_wait_duration_seconds", "How long clients waited for a server, for each transaction; nothing if one was there", |it| &it.waits),
    done("tenantry_waited_total", "Transactions that had to wait for a server", |it| it.waited),
    took("tenantry_switch_duration_seconds", "From sending a switch of session state, in front of a transaction, until PostgreSQL has confirmed it", |it| &it.switches),
    done("tenantry_switches_total", "Servers that were put into the tenant's session state", |it| it.switches.count()),
    done("tenantry_switch_failures_total", "Switches that PostgreSQL refused", |it| it.switch_failures),
    done("tenantry_logins_total", "Clients that have logged in", |it| it.logins),
    done("tenantry_tenant_refusals_total", "Logins, statements and sessions that were refused", |it| it.refusals),
    done("tenantry_received_bytes_total", "Bytes from clients", |it| it.received),
    done("tenantry_sent_bytes_total", "Bytes to clients", |it| it.sent),
    all("tenantry_all_transactions_total", "Transactions of all tenants, whoever has a name", |it| it.transactions.count()),
    all("tenantry_all_queries_total", "Queries of all tenants", |it| it.queries),
    all("tenantry_all_switches_total", "Switches of all tenants", |it| it.switches.count()),
    all("tenantry_all_logins_total", "Logins of all tenants", |it| it.logins),
    all("tenantry_all_received_bytes_total", "Bytes from clients of all tenants", |it| it.received),
    all("tenantry_all_sent_bytes_total", "Bytes to clients of all tenants", |it| it.sent),
    there("tenantry_clients", "Clients that are connected", |it| float(it.clients)),
    limit("tenantry_clients_max", "max_client_connections", |it| float(it.max_clients)),
    there("tenantry_clients_waiting", "Clients that wait for a server", |it| float(it.waiting)),
    there("tenantry_servers", "Servers that the tenant's clients hold", |it| float(it.servers)),
    limit("tenantry_servers_max", "max_server_connections", |it| float(it.max_servers)),
    there("tenantry_longest_wait_seconds", "How long the first of those that wait has waited", |it| it.longest_wait.as_secs_f64()),
    metric("tenantry_refusals_total", "reason,sqlstate", "What clients were refused for: the setting that limits, or a word; and the SQLSTATE they were told",
        Source::Counts(|it| it.refusals.get().into_iter().map(|((why, sqlstate), n)| (vec![why.to_owned(), sqlstate], n)).collect())),
    metric("tenantry_quota_audited_total", "quota", "What would have been refused, with quota_mode = \"audit\"",
        Source::Counts(|it| it.quota_audited.get().into_iter().map(|(quota, n)| one(quota, n)).collect())),
    metric("tenantry_pins_total", "reason", "Sessions that began to keep their server, by the statement or the thing",
        Source::Counts(|it| it.pins.get().into_iter().map(|(reason, n)| one(reason, n)).collect())),
    metric("tenantry_servers_lost_total", "by", "Servers that were closed for what their client did or left (client), or that PostgreSQL ended while a client had them (server); each costs a login",
        Source::Counts(|it| it.lost.get().into_iter().map(|(by, n)| one(by, n)).collect())),
    gauge("tenantry_pinned_sessions", "Sessions that keep their server now", |it| float(it.pinned)),
    count("tenantry_scrubs_total", "Scrubs: DISCARD and the like, in front of a switch or behind a session that left something", |it| it.scrubs.get()),
    metric("tenantry_affinity_total", "touch", "Switches to another tenant, for questions of the pooler's own too: one that the server had served before (warm), or not (cold)",
        Source::Counts(|it| vec![one("warm", it.warm.get()), one("cold", it.cold.get())])),
    count("tenantry_switch_round_trips_total", "Switches that cost a round trip: the client's first message did not fit into the buffer", |it| it.switch_round_trips.get()),
    count("tenantry_absorbed_total", "SETs that were answered without a server", |it| it.absorbed.get()),
    count("tenantry_stuck_sessions_total", "Sessions that made no progress, and were ended for it", |it| it.stuck_sessions.get()),
    count("tenantry_stuck_workers_total", "Times that a worker did not turn for two seconds", |it| it.stuck_workers.get()),
    count("tenantry_guarded_total", "Statements that guard or on_session_state has refused or counted", |it| it.guarded.get()),
    count("tenantry_cancels_total", "Cancel requests that were passed on", |it| it.cancels.get()),
    count("tenantry_dials_total", "Logins to PostgreSQL that were begun", |it| it.dials.get()),
    count("tenantry_server_login_failures_total", "Logins to PostgreSQL that failed", |it| it.login_failures.get()),
    metric("tenantry_cluster_servers", "cluster,state", "Servers of a cluster: active, idle, or opening",
        Source::Gauges(servers_by_state)),
    metric("tenantry_cluster_servers_max", "cluster", "max_server_connections of the cluster",
        Source::Gauges(|it| it.clusters.iter().map(|c| (vec![c.name.clone()], float(c.max_servers))).collect())),
    metric("tenantry_cluster_up", "cluster", "0: PostgreSQL did not answer the last login, and no server is open. A login that it refuses counts in tenantry_server_login_failures_total only",
        Source::Gauges(|it| it.clusters.iter().map(|c| (vec![c.name.clone()], f64::from(u8::from(!c.is_down())))).collect())),
    gauge("tenantry_client_connections", "Clients of all tenants", |it| float(it.clients())),
    gauge("tenantry_client_connections_max", "max_client_conn", |it| float(it.shared.general.max_client_conn)),
    metric("tenantry_reloads_total", "result", "Reloads of the configuration: ok or failed",
        Source::Counts(|it| vec![one("ok", it.reloads.get()), one("failed", it.failed_reloads.get())])),
    gauge("tenantry_config_reload_successful", "Whether the last one was taken over", |it| f64::from(u8::from(!it.shared.stats.reload_has_failed.load(Ordering::Relaxed)))),
    gauge("tenantry_start_time_seconds", "When the pooler started, in seconds since 1970", started),
    metric("tenantry_build_info", "version", "Always 1", Source::Gauges(|_| vec![(vec![env!("CARGO_PKG_VERSION").to_owned()], 1.0)])),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fmt::Write;
    use std::path::{Path, PathBuf};

    use super::*;

    fn root() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
    }

    fn page() -> String {
        let mut page = "# Metrics\n\n\
            `http.listen = \"127.0.0.1:9127\"` gives `/metrics` in the [OpenMetrics](https://prometheus.io/docs/specs/om/open_metrics_spec/) text format. Times are seconds. The label\n\
            `tenant` names the busiest tenants, `http.tenant_labels` of them, by the time their transactions held servers; all others are\n\
            `other`. Who is named is looked at once a minute; who has a name keeps it while it is among twice as many. No series falls or jumps\n\
            because a tenant changes places; but the series of one that loses its name ends, and with it what it counted: the sum over tenants is\n\
            for rates. Counts of all tenants, from the start, are `tenantry_all_...`.\n\n\
            `/livez`: 200 as long as every worker answers. `/readyz`: 200 while clients are let in and PostgreSQL can be reached, in at least one\n\
            cluster; its body says which. `tenantry health` and `tenantry health --ready` ask them.\n\n\
            Alerts: [`deploy/prometheus/rules.yaml`](../deploy/prometheus/rules.yaml), each with its page in [`runbooks/`](runbooks/). A dashboard for Grafana:\n\
            [`deploy/grafana/tenantry.json`](../deploy/grafana/tenantry.json).\n\n\
            This page is made from `src/http/table.rs`.\n\n\
            | metric | kind | labels | |\n|---|---|---|---|\n"
            .to_owned();
        for metric in METRICS {
            let kind = format!("{:?}", metric.kind()).to_lowercase();
            let labels = metric.labels.replace(',', ", ");
            writeln!(page, "| `{}` | {kind} | {labels} | {} |", metric.name, metric.help).unwrap();
        }
        page
    }

    /// `TENANTRY_WRITE_DOCS=1 cargo test --lib table` writes it anew.
    #[test]
    fn the_reference_page_is_made_of_the_table() {
        let path = root().join("docs/metrics.md");
        if std::env::var_os("TENANTRY_WRITE_DOCS").is_some() {
            std::fs::write(&path, page()).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap_or_default(), page());
    }

    #[test]
    fn names_follow_prometheus_rules() {
        let names: BTreeSet<_> = METRICS.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), METRICS.len(), "a name is listed twice");
        for metric in METRICS {
            assert_eq!(
                (metric.kind() == Kind::Counter),
                metric.name.ends_with("_total"),
                "{}",
                metric.name
            );
            assert!(metric.kind() != Kind::Histogram || metric.name.ends_with("_seconds"));
        }
    }

    /// Words of a text that look like metrics, with the endings of histograms cut off.
    fn used(text: &str) -> BTreeSet<String> {
        let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        let metrics = words.filter(|word| word.starts_with("tenantry_"));
        metrics
            .map(|word| {
                let cut =
                    ["_bucket", "_sum", "_count"].iter().find_map(|end| word.strip_suffix(end));
                cut.unwrap_or(word).to_owned()
            })
            .collect()
    }

    #[test]
    fn alerts_and_the_dashboard_use_metrics_that_there_are() {
        for file in ["deploy/prometheus/rules.yaml", "deploy/grafana/tenantry.json"] {
            let text = std::fs::read_to_string(root().join(file)).unwrap();
            let used = used(&text);
            assert!(used.len() > 10, "{file}");
            for name in used {
                assert!(METRICS.iter().any(|metric| metric.name == name), "{file}: {name}");
            }
        }
    }
}
