//! Every metric that Driftline exports, and the set-up of its log, declared once.
//!
//! To add a metric: a field here with its help text, a panel in `http::dashboards` (or a line in its list of
//! exemptions); a test holds the two together.

use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

/// Counters and gauges of the pipeline. Cheap to clone: handles share their values.
#[derive(Clone)]
pub struct Metrics {
    pub registry: Registry,
    /// Events read, by topic.
    pub events_read: IntCounterVec,
    /// Events aggregated, by model.
    pub events_ingested: IntCounterVec,
    /// Events in the dead-letter topic, by topic and reason.
    pub events_dead_lettered: IntCounterVec,
    /// Events later than the allowed lateness, by model.
    pub events_late: IntCounterVec,
    pub flush_seconds: Histogram,
    pub flushes: IntCounter,
    pub transactions_aborted: IntCounterVec,
    pub rebalances: IntCounterVec,
    /// Records between the last committed offset and the end, by role and topic.
    pub consumer_lag_records: IntGaugeVec,
    pub windows_closed: IntCounterVec,
    pub windows_revised: IntCounterVec,
    pub windows_incomplete: IntCounterVec,
    pub open_panes: IntGauge,
    pub pane_bytes: IntGauge,
    /// Watermark by model, epoch seconds.
    pub watermark_seconds: GaugeVec,
    pub rule_evaluations: IntCounterVec,
    pub notifications: IntCounterVec,
    pub delivery_attempts: IntCounterVec,
    pub deliveries_pending: IntGaugeVec,
    pub deliveries_expired: IntCounterVec,
    pub delivery_seconds: Histogram,
    pub process_start_seconds: Gauge,
}

impl Metrics {
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let counters = |name: &str, help: &str, labels: &[&str]| -> Result<IntCounterVec, prometheus::Error> {
            let metric = IntCounterVec::new(Opts::new(format!("driftline_{name}"), help), labels)?;
            registry.register(Box::new(metric.clone()))?;
            Ok(metric)
        };
        let gauges = |name: &str, help: &str, labels: &[&str]| -> Result<IntGaugeVec, prometheus::Error> {
            let metric = IntGaugeVec::new(Opts::new(format!("driftline_{name}"), help), labels)?;
            registry.register(Box::new(metric.clone()))?;
            Ok(metric)
        };
        let histogram = |name: &str, help: &str| -> Result<Histogram, prometheus::Error> {
            let buckets = prometheus::exponential_buckets(0.001, 2.5, 12)?;
            let metric = Histogram::with_opts(HistogramOpts::new(format!("driftline_{name}"), help).buckets(buckets))?;
            registry.register(Box::new(metric.clone()))?;
            Ok(metric)
        };
        let events_read = counters("events_read_total", "Events read from source topics.", &["topic"])?;
        let events_ingested = counters("events_ingested_total", "Events counted in a window, by model.", &["model"])?;
        let events_dead_lettered = counters(
            "events_dead_lettered_total",
            "Events that could not be used, by source topic and reason.",
            &["topic", "reason"],
        )?;
        let events_late =
            counters("events_late_total", "Events later than the allowed lateness, by model.", &["model"])?;
        let flush_seconds = histogram("flush_seconds", "Time to aggregate and commit one flush of events.")?;
        let flushes = IntCounter::new("driftline_flushes_total", "Flushes of events committed.")?;
        registry.register(Box::new(flushes.clone()))?;
        let transactions_aborted =
            counters("transactions_aborted_total", "Kafka transactions aborted, by role.", &["role"])?;
        let rebalances = counters("rebalances_total", "Rebalances of the consumer group, by role.", &["role"])?;
        let consumer_lag_records =
            gauges("consumer_lag_records", "Records not yet read and committed.", &["role", "topic"])?;
        let windows_closed = counters("windows_closed_total", "Windows closed, by model.", &["model"])?;
        let windows_revised =
            counters("windows_revised_total", "Closed windows revised by late events, by model.", &["model"])?;
        let windows_incomplete = counters(
            "windows_incomplete_total",
            "Windows closed with a known gap in their input; their alerts are muted.",
            &["model"],
        )?;
        let open_panes = IntGauge::new("driftline_open_panes", "Panes held in memory.")?;
        registry.register(Box::new(open_panes.clone()))?;
        let pane_bytes = IntGauge::new("driftline_pane_bytes", "Approximate memory of the panes held, bytes.")?;
        registry.register(Box::new(pane_bytes.clone()))?;
        let watermark_seconds = GaugeVec::new(
            Opts::new(
                "driftline_watermark_seconds",
                "Event time up to which a model's windows are closed, epoch seconds.",
            ),
            &["model"],
        )?;
        registry.register(Box::new(watermark_seconds.clone()))?;
        let rule_evaluations = counters(
            "rule_evaluations_total",
            "Rule evaluations on closed windows, by outcome.",
            &["rule", "outcome"],
        )?;
        let notifications = counters("notifications_total", "Notifications derived from rules.", &["rule", "status"])?;
        let delivery_attempts = counters(
            "delivery_attempts_total",
            "Attempts to deliver, by receiver and outcome.",
            &["receiver", "outcome"],
        )?;
        let deliveries_pending = gauges("deliveries_pending", "Notifications not yet delivered.", &["receiver"])?;
        let deliveries_expired =
            counters("deliveries_expired_total", "Notifications given up after the expiry.", &["receiver"])?;
        let delivery_seconds = histogram("delivery_seconds", "Time of one delivery attempt.")?;
        let process_start_seconds =
            Gauge::new("driftline_process_start_time_seconds", "Start of the process, epoch seconds.")?;
        registry.register(Box::new(process_start_seconds.clone()))?;
        Ok(Self {
            registry,
            events_read,
            events_ingested,
            events_dead_lettered,
            events_late,
            flush_seconds,
            flushes,
            transactions_aborted,
            rebalances,
            consumer_lag_records,
            windows_closed,
            windows_revised,
            windows_incomplete,
            open_panes,
            pane_bytes,
            watermark_seconds,
            rule_evaluations,
            notifications,
            delivery_attempts,
            deliveries_pending,
            deliveries_expired,
            delivery_seconds,
            process_start_seconds,
        })
    }
}
