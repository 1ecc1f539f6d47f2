//! Queues and batches on `/metrics`: read from the runners at each scrape, so that a request pays for none of it.
//!
//! To add a metric: a line in `FAMILIES`, a row of the tables in docs/scorer.md and docs/scorer-performance.md, and a
//! panel of the Scorer dashboard.

use std::collections::HashMap;

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};

use super::RunnerStats;

/// One version's queue and workers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchSeries {
    pub model: String,
    pub version: String,
    pub stats: RunnerStats,
}

/// How a family's value is read.
enum Read {
    Gauge(fn(&RunnerStats) -> u64),
    Counter(fn(&RunnerStats) -> u64),
    Seconds(fn(&RunnerStats) -> f64),
    BatchRows,
}

const FAMILIES: [(&str, &str, Read); 8] = [
    ("queue_requests", "Requests that wait for a worker.", Read::Gauge(|stats| stats.queued_requests)),
    ("queue_rows", "Rows of the requests that wait for a worker.", Read::Gauge(|stats| stats.queued_rows)),
    ("workers", "Threads that compute or wait for work.", Read::Gauge(|stats| stats.workers)),
    ("batch_rows", "Rows of each batch that was computed.", Read::BatchRows),
    (
        "split_batches_total",
        "Batches that failed and were computed again in halves.",
        Read::Counter(|stats| stats.split_batches),
    ),
    ("queue_refused_total", "Requests refused because the queue was full.", Read::Counter(|stats| stats.refused)),
    (
        "queue_dropped_total",
        "Requests dropped before they were computed: expired, or their caller was gone.",
        Read::Counter(|stats| stats.dropped),
    ),
    ("busy_seconds_total", "Time that workers computed, added up.", Read::Seconds(|stats| stats.busy.as_secs_f64())),
];

/// A collector of `driftline_scorer_queue_*`, `driftline_scorer_batch_*` and the like, by model and version.
pub struct BatchCollector<F> {
    series: F,
    descriptions: Vec<Desc>,
}

impl BatchCollector<fn() -> Vec<BatchSeries>> {
    /// Names of the families, for the checks of the documents and the dashboard.
    pub fn names() -> Vec<String> {
        FAMILIES.iter().map(|(name, ..)| full(name)).collect()
    }
}

impl<F: Fn() -> Vec<BatchSeries> + Send + Sync> BatchCollector<F> {
    /// `series` gives the versions that are in memory.
    ///
    /// # Errors
    /// None: the names are right.
    pub fn new(series: F) -> prometheus::Result<Self> {
        let describe = |(name, help, _): &(&str, &str, Read)| {
            Desc::new(full(name), (*help).into(), vec!["model".into(), "version".into()], HashMap::new())
        };
        Ok(Self { series, descriptions: FAMILIES.iter().map(describe).collect::<prometheus::Result<_>>()? })
    }
}

impl<F: Fn() -> Vec<BatchSeries> + Send + Sync> Collector for BatchCollector<F> {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let series = (self.series)();
        let family = |(name, help, read): &(&str, &str, Read)| {
            let mut family = MetricFamily::default();
            family.set_name(full(name));
            family.set_help((*help).into());
            family.set_field_type(match read {
                Read::Gauge(_) => MetricType::GAUGE,
                Read::Counter(_) | Read::Seconds(_) => MetricType::COUNTER,
                Read::BatchRows => MetricType::HISTOGRAM,
            });
            family.set_metric(series.iter().map(|one| metric(one, read)).collect());
            family
        };
        FAMILIES.iter().map(family).collect()
    }
}

fn full(name: &str) -> String {
    format!("driftline_scorer_{name}")
}

fn metric(series: &BatchSeries, read: &Read) -> Metric {
    let label = |name: &str, value: &str| {
        let mut pair = LabelPair::default();
        pair.set_name(name.into());
        pair.set_value(value.into());
        pair
    };
    let mut metric = Metric::from_label(vec![label("model", &series.model), label("version", &series.version)]);
    let counter = |value: f64| {
        let mut counter = Counter::default();
        counter.set_value(value);
        counter
    };
    match read {
        Read::Gauge(value) => {
            let mut gauge = Gauge::default();
            gauge.set_value(value(&series.stats) as f64);
            metric.set_gauge(gauge);
        }
        Read::Counter(value) => metric.set_counter(counter(value(&series.stats) as f64)),
        Read::Seconds(value) => metric.set_counter(counter(value(&series.stats))),
        Read::BatchRows => metric.set_histogram(batch_rows(&series.stats)),
    }
    metric
}

fn batch_rows(stats: &RunnerStats) -> Histogram {
    let mut cumulative = 0;
    // The last cell is that of the larger ones, `+Inf`, which the encoder writes from the count.
    let bounded = stats.batches_by_rows.split_last().map_or(&[][..], |(_, bounded)| bounded);
    let buckets = bounded.iter().enumerate().map(|(power, count)| {
        cumulative += count;
        let mut bucket = Bucket::default();
        bucket.set_upper_bound((1_u64 << power) as f64);
        bucket.set_cumulative_count(cumulative);
        bucket
    });
    let mut histogram = Histogram::default();
    histogram.set_bucket(buckets.collect());
    histogram.set_sample_count(stats.batches);
    histogram.set_sample_sum(stats.batch_rows as f64);
    histogram
}

#[cfg(test)]
mod tests {
    use prometheus::{Registry, TextEncoder};

    use super::*;

    #[test]
    fn a_scrape_shows_what_the_runner_counted() {
        let mut stats =
            RunnerStats { queued_requests: 3, workers: 1, batches: 6, batch_rows: 9_010, ..RunnerStats::default() };
        stats.batches_by_rows[0] = 2;
        stats.batches_by_rows[2] = 3;
        stats.batches_by_rows[13] = 1;
        stats.busy = std::time::Duration::from_millis(1_500);
        let series = BatchSeries { model: "fraud".into(), version: "1".into(), stats };
        let registry = Registry::new();
        registry.register(Box::new(BatchCollector::new(move || vec![series.clone()]).unwrap())).unwrap();
        let text = TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        for line in [
            "driftline_scorer_queue_requests{model=\"fraud\",version=\"1\"} 3",
            "driftline_scorer_batch_rows_bucket{model=\"fraud\",version=\"1\",le=\"2\"} 2",
            "driftline_scorer_batch_rows_bucket{model=\"fraud\",version=\"1\",le=\"4096\"} 5",
            "driftline_scorer_batch_rows_bucket{model=\"fraud\",version=\"1\",le=\"+Inf\"} 6",
            "driftline_scorer_batch_rows_sum{model=\"fraud\",version=\"1\"} 9010",
            "driftline_scorer_busy_seconds_total{model=\"fraud\",version=\"1\"} 1.5",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        for name in BatchCollector::names() {
            assert!(text.contains(&format!("# TYPE {name} ")), "{name} is not in\n{text}");
        }
    }
}
