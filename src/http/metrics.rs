//! `/metrics`: what the table lists, encoded when somebody asks.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::looked::Looked;
use super::table::{Kind, METRICS, Metric, Source};
use crate::client::Shared;
use crate::pool::TenantReport;
use crate::stats::{BOUNDS, Ranking, Shares, Spread, Totals};

/// The tenants that are not named.
const OTHER: &str = "other";

/// Encodes all metrics.
pub(super) struct Metrics(Registry);

impl Metrics {
    pub(super) fn new(shared: Arc<Shared>, tenant_labels: usize, since: SystemTime) -> Self {
        let ranking = Mutex::new(Ranking::new(tenant_labels));
        let mut registry = Registry::default();
        registry.register_collector(Box::new(All { shared, ranking, since }));
        Self(registry)
    }

    /// In the OpenMetrics text format.
    ///
    /// <https://prometheus.io/docs/specs/om/open_metrics_spec/>
    pub(super) fn encode(&self) -> Result<String, fmt::Error> {
        let mut out = String::new();
        text::encode(&mut out, &self.0)?;
        Ok(out)
    }
}

struct All {
    shared: Arc<Shared>,
    ranking: Mutex<Ranking>,
    since: SystemTime,
}

impl fmt::Debug for All {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("All")
    }
}

impl Collector for All {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let looked = Looked::now(&self.shared, self.since);
        let (tenants, rest) = self.shared.stats.tallies.sums().by_tenant();
        let mut all = rest.clone();
        for totals in tenants.values() {
            all.add(totals);
        }
        let shares = self.ranking.lock().share(Instant::now(), &tenants, &rest);
        let there = there(&looked, &shares);
        for metric in METRICS {
            // Of a counter, the encoder adds the ending.
            let name = metric.name.strip_suffix("_total").unwrap_or(metric.name);
            let kind = match metric.kind() {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
                Kind::Histogram => MetricType::Histogram,
            };
            let family = encoder.encode_descriptor(name, metric.help, None, kind)?;
            let mut family = Family { metric, encoder: family };
            family.give(&looked, &shares, &there, &all)?;
        }
        Ok(())
    }
}

type There = BTreeMap<Cow<'static, str>, TenantReport>;

/// Tenants that have clients; those that are not named, as one.
fn there(looked: &Looked<'_>, shares: &Shares) -> There {
    let mut there = There::new();
    for (_, tenant) in looked.tenants() {
        let named = shares.named.contains_key(&tenant.id);
        let name = if named { tenant.id.to_string().into() } else { OTHER.into() };
        match there.get_mut(&name) {
            Some(known) => {
                known.clients += tenant.clients;
                known.waiting += tenant.waiting;
                known.servers += tenant.servers;
                known.longest_wait = known.longest_wait.max(tenant.longest_wait);
            }
            None => drop(there.insert(name, tenant.clone())),
        }
    }
    there
}

/// Samples of one metric.
struct Family<'a> {
    metric: &'static Metric,
    encoder: MetricEncoder<'a>,
}

impl Family<'_> {
    fn give(
        &mut self,
        looked: &Looked<'_>,
        shares: &Shares,
        there: &There,
        all: &Totals,
    ) -> fmt::Result {
        let stats = &looked.shared.stats;
        let done = || {
            let named = shares.named.iter().map(|(id, totals)| (id.as_str(), totals));
            named.chain([(OTHER, &shares.other)])
        };
        match &self.metric.source {
            Source::Done(of) => done().try_for_each(|(name, it)| self.counter(&[name], of(it))),
            Source::Spread(of) => done().try_for_each(|(name, it)| self.spread(&[name], of(it))),
            Source::There { value, is_limit } => {
                let shown = there.iter().filter(|(name, _)| !(*is_limit && *name == OTHER));
                shown.into_iter().try_for_each(|(name, it)| self.gauge(&[name], value(it)))
            }
            Source::All(of) => self.encoder.encode_counter::<NoLabelSet, _, u64>(&of(all), None),
            Source::Count(of) => {
                self.encoder.encode_counter::<NoLabelSet, _, u64>(&of(stats), None)
            }
            Source::Counts(of) => {
                of(stats).iter().try_for_each(|(labels, count)| self.counter(labels, *count))
            }
            Source::Gauge(of) => self.encoder.encode_gauge(&of(looked)),
            Source::Gauges(of) => {
                of(looked).iter().try_for_each(|(labels, value)| self.gauge(labels, *value))
            }
        }
    }

    /// Values of the metric's labels, in their order.
    fn labels<'l, L: AsRef<str>>(&self, values: &'l [L]) -> Vec<(&'static str, &'l str)> {
        self.metric.labels.split(',').zip(values.iter().map(AsRef::as_ref)).collect()
    }

    fn counter<L: AsRef<str>>(&mut self, labels: &[L], count: u64) -> fmt::Result {
        let labels = self.labels(labels);
        self.encoder.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&count, None)
    }

    fn gauge<L: AsRef<str>>(&mut self, labels: &[L], value: f64) -> fmt::Result {
        let labels = self.labels(labels);
        self.encoder.encode_family(&labels)?.encode_gauge(&value)
    }

    fn spread<L: AsRef<str>>(&mut self, labels: &[L], spread: &Spread) -> fmt::Result {
        let labels = self.labels(labels);
        let bounds = BOUNDS.iter().map(|bound| seconds(*bound)).chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(spread.buckets).collect();
        let (sum, count) = (seconds(spread.micros), spread.count());
        let mut encoder = self.encoder.encode_family(&labels)?;
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }
}

fn seconds(micros: u64) -> f64 {
    Duration::from_micros(micros).as_secs_f64()
}
