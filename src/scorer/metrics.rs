//! Every metric of the scorer, declared once; served by the admin server.
//!
//! To add a metric: a field here with its help text, a row in docs/scorer.md, and a panel of the Scorer dashboard. What is counted on the way of
//! a request is taken from `arms`, whose handles are made when a version is loaded: a look-up by label costs more than
//! the count.

use std::sync::Arc;
use std::time::Duration;

use prometheus::{
    Encoder, Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};

use super::batching::metrics::BatchCollector;
use super::events::EventCollector;
use super::protocols::grpc::SERVICES;
use super::score::{Arm, ScoreError};
use crate::telemetry::{self, Families};

/// Cheap to clone: handles share their values.
#[derive(Clone)]
pub struct Metrics {
    pub registry: Registry,
    /// Requests, by model, version, arm and code.
    pub requests: IntCounterVec,
    /// Rows scored, by model, version and arm.
    pub rows: IntCounterVec,
    /// From the last byte of a request to its last score, by model, version and arm.
    pub request_seconds: HistogramVec,
    /// Answers over HTTP, by protocol and status.
    pub http_responses: IntCounterVec,
    pub http_connections: IntGauge,
    /// Connections closed at once because there are too many, and those that were too slow.
    pub http_connections_refused: IntCounterVec,
    pub http_body_bytes: IntGauge,
    /// Calls over gRPC, by service and code.
    pub grpc_responses: IntCounterVec,
    pub grpc_connections: IntGauge,
    /// Connections closed at once because there are too many.
    pub grpc_connections_refused: IntCounter,
    /// Requests to servers that compute, by model, version and outcome; and what is known of those servers.
    pub proxy: ProxyMetrics,
    /// Versions in memory, by model and version.
    pub loaded_versions: IntGaugeVec,
    /// Attempts to load a version, by model and outcome.
    pub loads: IntCounterVec,
    pub load_seconds: Histogram,
    /// Generation of the registry's state that is served, by model.
    pub generation: IntGaugeVec,
    /// Share of the requests that the canary answers, by model.
    pub canary_ratio: prometheus::GaugeVec,
    /// Shadow scores, by model, version and outcome.
    pub shadow_requests: IntCounterVec,
    /// Scores of the shadow less production's, without sign, by model and version.
    pub shadow_difference: HistogramVec,
    /// The largest of them since the start.
    pub shadow_difference_max: prometheus::GaugeVec,
    /// Scores that differ by more than the tolerance.
    pub shadow_differences: IntCounterVec,
    /// Turns of trials, by model and verdict.
    pub trial_decisions: IntCounterVec,
    pub trial_requests_needed: IntGaugeVec,
    /// By model and guard.
    pub trial_log_e: prometheus::GaugeVec,
    process_cpu_seconds: prometheus::Counter,
    process_resident_bytes: IntGauge,
    names: Arc<[String]>,
}

/// Of servers that compute models, by model and version.
#[derive(Clone)]
pub struct ProxyMetrics {
    pub requests: IntCounterVec,
    pub request_seconds: HistogramVec,
    /// 1 while it is left alone, or tried with one request.
    pub circuit_open: IntGaugeVec,
    pub ready: IntGaugeVec,
}

/// The handles of one version that another server computes.
pub struct PeerMetrics {
    outcomes: [IntCounter; PROXY_OUTCOMES.len()],
    seconds: Histogram,
    pub circuit_open: IntGauge,
    pub ready: IntGauge,
}

/// What came of a request to a server that computes; a label.
const PROXY_OUTCOMES: [&str; 9] =
    ["ok", "not_reached", "broken", "slow", "busy", "refused", "nonsense", "left_alone", "given_up"];

/// What became of a request; a label.
const CODES: [&str; 7] = ["ok", "not_found", "invalid", "queue_full", "unavailable", "expired", "failed"];

const fn code(outcome: &Result<(), &ScoreError>) -> usize {
    match outcome {
        Ok(()) => 0,
        Err(ScoreError::NotFound(_)) => 1,
        Err(ScoreError::Invalid(_)) => 2,
        Err(ScoreError::QueueFull { .. }) => 3,
        Err(ScoreError::Unavailable(_)) => 4,
        Err(ScoreError::Expired) => 5,
        Err(ScoreError::Failed(_)) => 6,
    }
}

/// The handles of one version as one arm.
pub struct ArmCounters {
    by_code: [IntCounter; CODES.len()],
    rows: IntCounter,
    seconds: Histogram,
}

/// What came of the requests of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    pub answered: u64,
    pub answered_ns: u64,
    pub failed: u64,
    pub rows: u64,
}

impl ProxyMetrics {
    fn new(families: &Families) -> Result<Self, prometheus::Error> {
        let labels = &["model", "version"];
        let gauges = |name: &str, help: &str| {
            families.register(&format!("scorer_proxy_{name}"), |name| IntGaugeVec::new(Opts::new(name, help), labels))
        };
        let requests = families.register("scorer_proxy_requests_total", |name| {
            let help = "Requests to servers that compute, by outcome: ok, not_reached, broken, slow, busy, refused, \
                        nonsense, left_alone, given_up.";
            IntCounterVec::new(Opts::new(name, help), &["model", "version", "outcome"])
        })?;
        let request_seconds = families.register("scorer_proxy_request_seconds", |name| {
            let help = "From a request to a server that computes to its answer.";
            let buckets = prometheus::exponential_buckets(0.0005, 2.5, 12)?;
            HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets), labels)
        })?;
        let help = "1 while a server that computes is left alone after failures in a row, or tried with one request.";
        let circuit_open = gauges("circuit_open", help)?;
        let ready = gauges("ready", "1 while a server that computes says that the model is ready.")?;
        Ok(Self { requests, request_seconds, circuit_open, ready })
    }

    /// The handles of one version.
    pub fn version(&self, model: &str, version: &str) -> PeerMetrics {
        let labels = [model, version];
        PeerMetrics {
            outcomes: PROXY_OUTCOMES.map(|outcome| self.requests.with_label_values(&[model, version, outcome])),
            seconds: self.request_seconds.with_label_values(&labels),
            circuit_open: self.circuit_open.with_label_values(&labels),
            ready: self.ready.with_label_values(&labels),
        }
    }

    fn forget_version(&self, model: &str, version: &str) {
        for outcome in PROXY_OUTCOMES {
            let _ = self.requests.remove_label_values(&[model, version, outcome]);
        }
        let _ = self.request_seconds.remove_label_values(&[model, version]);
        let _ = self.circuit_open.remove_label_values(&[model, version]);
        let _ = self.ready.remove_label_values(&[model, version]);
    }
}

impl PeerMetrics {
    /// `outcome` is one of `PROXY_OUTCOMES`; answers in time have a time.
    pub fn count(&self, outcome: &str, took: Option<Duration>) {
        let at = PROXY_OUTCOMES.iter().position(|known| *known == outcome);
        if let Some(counter) = at.and_then(|at| self.outcomes.get(at)) {
            counter.inc();
        }
        if let Some(took) = took {
            self.seconds.observe(took.as_secs_f64());
        }
    }
}

impl ArmCounters {
    pub fn add_to(&self, totals: &mut Totals) {
        let [ok, failed @ ..] = &self.by_code;
        totals.answered += ok.get();
        totals.answered_ns += (self.seconds.get_sample_sum() * 1e9) as u64;
        totals.failed += failed.iter().map(IntCounter::get).sum::<u64>();
        totals.rows += self.rows.get();
    }

    pub fn count(&self, outcome: Result<(), &ScoreError>, rows: usize, latency: Duration) {
        if let Some(counter) = self.by_code.get(code(&outcome)) {
            counter.inc();
        }
        if outcome.is_ok() {
            self.rows.inc_by(rows as u64);
            self.seconds.observe(latency.as_secs_f64());
        }
    }
}

impl Metrics {
    /// # Errors
    /// Two metrics have one name.
    pub fn new() -> Result<Self, prometheus::Error> {
        let families = Families::default();
        let counters = |name: &str, help: &str, labels: &[&str]| {
            families.register(&format!("scorer_{name}"), |name| IntCounterVec::new(Opts::new(name, help), labels))
        };
        let gauges = |name: &str, help: &str, labels: &[&str]| {
            families.register(&format!("scorer_{name}"), |name| IntGaugeVec::new(Opts::new(name, help), labels))
        };
        let gauge =
            |name: &str, help: &str| families.register(&format!("scorer_{name}"), |name| IntGauge::new(name, help));
        let requests = counters(
            "requests_total",
            "Requests for scores, by code: ok, not_found, invalid, queue_full, unavailable, expired, failed.",
            &["model", "version", "arm", "code"],
        )?;
        let rows = counters("rows_total", "Rows scored.", &["model", "version", "arm"])?;
        let request_seconds = families.register("scorer_request_seconds", |name| {
            let help = "From the last byte of a request to its last score; of requests that were answered.";
            let buckets = vec![
                1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 0.5, 1.0,
                2.5, 5.0, 10.0,
            ];
            HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets), &["model", "version", "arm"])
        })?;
        let http_responses =
            counters("http_responses_total", "Answers over HTTP, by protocol and status.", &["protocol", "status"])?;
        let http_connections = gauge("http_connections", "Open connections of clients over HTTP.")?;
        let http_connections_refused = counters(
            "http_connections_refused_total",
            "Connections closed by the scorer: too_many at a time, or too_slow.",
            &["reason"],
        )?;
        let http_body_bytes =
            gauge("http_body_bytes", "Bytes of the bodies that are being read or scored, of gRPC too.")?;
        let grpc_responses =
            counters("grpc_responses_total", "Calls over gRPC, by service and code.", &["service", "code"])?;
        for service in SERVICES {
            // From zero on, so that a rate shows the first one.
            grpc_responses.with_label_values(&[service, "Ok"]).reset();
        }
        let grpc_connections = gauge("grpc_connections", "Open connections of clients over gRPC.")?;
        let grpc_connections_refused = families.register("scorer_grpc_connections_refused_total", |name| {
            IntCounter::new(name, "Connections over gRPC closed at once: too many at a time.")
        })?;
        let proxy = ProxyMetrics::new(&families)?;
        let loaded_versions = gauges("loaded_versions", "1 for each version in memory.", &["model", "version"])?;
        let loads = counters("loads_total", "Attempts to load a version: ok, failed.", &["model", "outcome"])?;
        let load_seconds = families.register("scorer_load_seconds", |name| {
            let buckets = prometheus::exponential_buckets(0.001, 2.5, 12)?;
            Histogram::with_opts(HistogramOpts::new(name, "Time to load and warm one version.").buckets(buckets))
        })?;
        let generation = gauges("generation", "Generation of the registry's state that is served.", &["model"])?;
        let canary_ratio = families.register("scorer_canary_ratio", |name| {
            let help = "Share of the requests that the canary answers, 0 to 1.";
            prometheus::GaugeVec::new(Opts::new(name, help), &["model"])
        })?;
        let shadow_requests = counters(
            "shadow_requests_total",
            "Requests scored by the shadow beside production: ok, failed, dropped.",
            &["model", "version", "outcome"],
        )?;
        let shadow_difference = families.register("scorer_shadow_difference", |name| {
            let help = "Score of the shadow less production's for the same row, without sign.";
            let buckets = vec![1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0];
            HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets), &["model", "version"])
        })?;
        let shadow_difference_max = families.register("scorer_shadow_difference_max", |name| {
            let help = "Largest difference between a shadow's and production's score since the start.";
            prometheus::GaugeVec::new(Opts::new(name, help), &["model", "version"])
        })?;
        let shadow_differences = counters(
            "shadow_differences_total",
            "Scores of the shadow that differ from production's by more than the tolerance.",
            &["model", "version"],
        )?;
        let trial_decisions = counters(
            "trial_decisions_total",
            "Turns of canaries' trials: hold, not_decided, advance, promote, roll_back, stop.",
            &["model", "verdict"],
        )?;
        let trial_requests_needed = gauges(
            "trial_requests_needed",
            "Requests that the canary has yet to answer before its trial can go on; -1: cannot be told.",
            &["model"],
        )?;
        let trial_log_e = families.register("scorer_trial_evidence_ratio", |name| {
            let help = "Evidence that the canary is worse, by guard: logarithm of the e-value over what rolls back; 1 rolls back.";
            prometheus::GaugeVec::new(Opts::new(name, help), &["model", "guard"])
        })?;
        let start = families.register("scorer_process_start_time_seconds", |name| {
            Gauge::new(name, "Start of the process, epoch seconds.")
        })?;
        start.set(chrono::Utc::now().timestamp_millis() as f64 / 1000.0);
        let process_cpu_seconds = families.register("scorer_process_cpu_seconds_total", |name| {
            prometheus::Counter::new(name, "CPU time of the process, in user and kernel mode, seconds.")
        })?;
        let process_resident_bytes = gauge("process_resident_memory_bytes", "Resident memory, bytes.")?;
        let build_info = gauges("build_info", "Always 1; the version is a label.", &["version"])?;
        build_info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        // They are there from the start, at zero.
        for reason in ["too_many", "too_slow"] {
            http_connections_refused.with_label_values(&[reason]);
        }
        let registry = families.registry.clone();
        Ok(Self {
            registry,
            names: families.into_names().into(),
            requests,
            rows,
            request_seconds,
            http_responses,
            http_connections,
            http_connections_refused,
            http_body_bytes,
            grpc_responses,
            grpc_connections,
            grpc_connections_refused,
            proxy,
            loaded_versions,
            loads,
            load_seconds,
            generation,
            canary_ratio,
            shadow_requests,
            shadow_difference,
            shadow_difference_max,
            shadow_differences,
            trial_decisions,
            trial_requests_needed,
            trial_log_e,
            process_cpu_seconds,
            process_resident_bytes,
        })
    }

    /// Names of all families, with a series or without.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Names of everything on the scorer's `/metrics`: these families, those of the events and of the queues.
    ///
    /// # Errors
    /// Two metrics have one name.
    pub fn all_names() -> Result<Vec<String>, prometheus::Error> {
        let mut names = Self::new()?.names.to_vec();
        names.extend(EventCollector::names());
        names.extend(BatchCollector::names());
        Ok(names)
    }

    /// The handles of a version as an arm; they are at zero from then on.
    pub fn arm(&self, model: &str, version: &str, arm: Arm) -> ArmCounters {
        ArmCounters {
            by_code: CODES.map(|code| self.requests.with_label_values(&[model, version, arm.name(), code])),
            rows: self.rows.with_label_values(&[model, version, arm.name()]),
            seconds: self.request_seconds.with_label_values(&[model, version, arm.name()]),
        }
    }

    /// Counts an answer over HTTP.
    pub fn http_answered(&self, protocol: &str, status: hyper::StatusCode) {
        self.http_responses.with_label_values(&[protocol, status.as_str()]).inc();
    }

    /// Takes out the series of a version that is no longer loaded: versions come and go for years.
    pub fn forget_version(&self, model: &str, version: &str) {
        // What is not there need not be removed.
        for arm in Arm::ALL {
            for code in CODES {
                let _ = self.requests.remove_label_values(&[model, version, arm.name(), code]);
            }
            let _ = self.rows.remove_label_values(&[model, version, arm.name()]);
            let _ = self.request_seconds.remove_label_values(&[model, version, arm.name()]);
        }
        let _ = self.loaded_versions.remove_label_values(&[model, version]);
        self.proxy.forget_version(model, version);
    }

    /// The text format of Prometheus.
    pub fn text(&self) -> String {
        // Where there is no /proc the figures stay at zero.
        if let Some(seconds) = telemetry::process_cpu_seconds() {
            self.process_cpu_seconds.inc_by((seconds - self.process_cpu_seconds.get()).max(0.0));
        }
        if let Some(bytes) = telemetry::process_resident_bytes() {
            self.process_resident_bytes.set(bytes);
        }
        let mut out = Vec::new();
        // Writing to memory does not fail.
        let _ = TextEncoder::new().encode(&self.registry.gather(), &mut out);
        String::from_utf8(out).unwrap_or_default()
    }
}
