//! Every metric that Driftline exports, and the set-up of its log, declared once.
//!
//! To add a metric: a field here with its help text, a panel in `http::dashboards` (or a line in its list of
//! exemptions); a test holds the two together. Gauges of drift are not here: `http::metrics` derives them from
//! closed windows at every scrape.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus::core::Collector;
use prometheus::{
    Counter, Gauge, GaugeVec, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};
use tracing_subscriber::EnvFilter;

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
    /// Predictions and labels too late for their window of performance, by model.
    pub performance_late: IntCounterVec,
    pub performance_panes: IntGauge,
    pub performance_bytes: IntGauge,
    pub history_panes: IntGauge,
    pub history_bytes: IntGauge,
    /// Watermark by model, epoch seconds.
    pub watermark_seconds: GaugeVec,
    /// Predictions and labels held by the join, by model.
    pub join_pending: IntGaugeVec,
    pub join_pending_bytes: IntGaugeVec,
    /// What became of predictions that were to meet a label, by model and outcome.
    pub join_predictions: IntCounterVec,
    /// What became of labels, by model and outcome.
    pub join_labels: IntCounterVec,
    /// Share of the ids that the join holds within its budget, by model.
    pub join_sample_ratio: GaugeVec,
    /// Event time up to which predictions have met their labels, by model, epoch seconds.
    pub join_time_seconds: GaugeVec,
    pub rule_evaluations: IntCounterVec,
    pub notifications: IntCounterVec,
    /// Not told to anybody, by rule and what kept them quiet.
    pub notifications_suppressed: IntCounterVec,
    pub delivery_attempts: IntCounterVec,
    pub deliveries_pending: IntGaugeVec,
    pub deliveries_expired: IntCounterVec,
    pub deliveries_held: IntGaugeVec,
    pub deliveries_failed: IntCounterVec,
    pub deliveries_superseded: IntCounterVec,
    pub deliveries_fallback: IntCounterVec,
    pub delivery_reminders: IntCounterVec,
    pub delivery_digests: IntCounterVec,
    pub receiver_circuit: IntGaugeVec,
    pub heartbeat_time_seconds: GaugeVec,
    pub delivery_seconds: Histogram,
    /// Runs held, by action and state.
    pub action_runs: IntGaugeVec,
    /// Changes of state of runs, by action and new state.
    pub action_transitions: IntCounterVec,
    /// Calls of targets, by action and outcome.
    pub action_calls: IntCounterVec,
    /// When a run last succeeded, by action and model, epoch seconds.
    pub action_last_success_seconds: GaugeVec,
    /// Records of `results`, `outbox` and `deliveries` taken into the pages' read model, by topic and outcome.
    pub view_records: IntCounterVec,
    pub http_requests: IntCounterVec,
    pub process_start_seconds: Gauge,
    /// 1 if the configuration was taken up when it was last read, 0 if the earlier one goes on.
    pub config_last_reload_successful: IntGauge,
    pub config_last_reload_success_seconds: Gauge,
    process_cpu_seconds: Counter,
    process_resident_bytes: IntGauge,
    names: Arc<[String]>,
}

/// A registry that knows the names of its families, those without a series too: an untouched vector shows
/// nothing when gathered.
#[derive(Default)]
pub(crate) struct Families {
    pub registry: Registry,
    names: RefCell<Vec<String>>,
}

impl Families {
    /// Makes a metric named `driftline_{name}` and registers it.
    pub fn register<M: Collector + Clone + 'static>(
        &self,
        name: &str,
        make: impl FnOnce(String) -> prometheus::Result<M>,
    ) -> prometheus::Result<M> {
        let name = format!("driftline_{name}");
        let metric = make(name.clone())?;
        self.registry.register(Box::new(metric.clone()))?;
        self.names.borrow_mut().push(name);
        Ok(metric)
    }

    pub fn into_names(self) -> Vec<String> {
        self.names.into_inner()
    }
}

/// Label values known from the configuration. Counters that exist at zero from the start let `rate` see their
/// first increment, and let a panel tell "never" from "misspelt".
#[derive(Debug, Clone, Default)]
pub struct KnownLabels {
    pub roles: Vec<String>,
    pub source_topics: Vec<String>,
    pub models: Vec<String>,
    pub rules: Vec<String>,
    pub receivers: Vec<String>,
    pub dead_letter_reasons: Vec<String>,
    pub rule_outcomes: Vec<String>,
    pub delivery_outcomes: Vec<String>,
    pub actions: Vec<String>,
    pub action_states: Vec<String>,
    pub action_outcomes: Vec<String>,
    /// Models with labels on a topic of their own.
    pub joined_models: Vec<String>,
    pub join_prediction_outcomes: Vec<String>,
    pub join_label_outcomes: Vec<String>,
}

impl Metrics {
    pub fn new() -> Result<Self, prometheus::Error> {
        let families = Families::default();
        let counters = |name: &str, help: &str, labels: &[&str]| {
            families.register(name, |name| IntCounterVec::new(Opts::new(name, help), labels))
        };
        let gauges = |name: &str, help: &str, labels: &[&str]| {
            families.register(name, |name| IntGaugeVec::new(Opts::new(name, help), labels))
        };
        let gauge = |name: &str, help: &str| families.register(name, |name| IntGauge::new(name, help));
        let histogram = |name: &str, help: &str| {
            let buckets = prometheus::exponential_buckets(0.001, 2.5, 12)?;
            families.register(name, |name| Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets)))
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
        let flushes =
            families.register("flushes_total", |name| IntCounter::new(name, "Flushes of events committed."))?;
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
        let open_panes = gauge("open_panes", "Panes held in memory that events can still change.")?;
        let pane_bytes = gauge("pane_bytes", "Approximate memory of the open panes, bytes.")?;
        let performance_late = counters(
            "performance_late_total",
            "Predictions and labels too late for their window of performance, by model.",
            &["model"],
        )?;
        let performance_panes = gauge("performance_panes", "Panes of performance held in memory.")?;
        let performance_bytes = gauge("performance_bytes", "Approximate memory of the panes of performance, bytes.")?;
        let history_panes = gauge("history_panes", "Panes past revision that are kept for moving references.")?;
        let history_bytes =
            gauge("history_bytes", "Approximate memory of the panes kept for moving references, bytes.")?;
        let watermark_seconds = families.register("watermark_seconds", |name| {
            let help = "Event time up to which a model's windows are closed, epoch seconds.";
            GaugeVec::new(Opts::new(name, help), &["model"])
        })?;
        let join_pending = gauges(
            "join_pending_predictions",
            "Predictions kept for their labels, and labels that wait for their prediction.",
            &["model"],
        )?;
        let join_pending_bytes =
            gauges("join_pending_bytes", "Approximate memory of what the join keeps, bytes.", &["model"])?;
        let join_predictions = counters(
            "join_predictions_total",
            "Predictions that were to meet a label, by outcome: kept, duplicate, too_late, unsampled, evicted.",
            &["model", "outcome"],
        )?;
        let join_labels = counters(
            "join_labels_total",
            "Labels, by outcome: matched, corrected, duplicate, outdated, early, too_late, unmatched, unsampled.",
            &["model", "outcome"],
        )?;
        let float_gauges =
            |name: &str, help: &str| families.register(name, |name| GaugeVec::new(Opts::new(name, help), &["model"]));
        let join_sample_ratio =
            float_gauges("join_sample_ratio", "Share of the predictions that the join keeps within its budget.")?;
        let join_time_seconds = float_gauges(
            "join_time_seconds",
            "Event time up to which predictions and labels have been read by the join, epoch seconds.",
        )?;
        let rule_evaluations = counters(
            "rule_evaluations_total",
            "Rule evaluations on closed windows, by outcome.",
            &["rule", "outcome"],
        )?;
        let notifications = counters("notifications_total", "Notifications derived from rules.", &["rule", "status"])?;
        let notifications_suppressed = counters(
            "notifications_suppressed_total",
            "Notifications that an inhibition or a silence of the rules kept from everybody.",
            &["rule", "by"],
        )?;
        let delivery_attempts = counters(
            "delivery_attempts_total",
            "Attempts to deliver, by receiver and outcome.",
            &["receiver", "outcome"],
        )?;
        let deliveries_pending = gauges("deliveries_pending", "Notifications not yet delivered.", &["receiver"])?;
        let deliveries_expired =
            counters("deliveries_expired_total", "Notifications given up after the expiry.", &["receiver"])?;
        let deliveries_held = gauges("deliveries_held", "Notifications held back by a silence.", &["receiver"])?;
        let deliveries_failed =
            counters("deliveries_failed_total", "Notifications refused for good, or for nobody.", &["receiver"])?;
        let deliveries_superseded = counters(
            "deliveries_superseded_total",
            "Notifications not sent by themselves: a later one says it too, or they ended while held back.",
            &["receiver"],
        )?;
        let deliveries_fallback = counters(
            "deliveries_fallback_total",
            "Notifications told to somebody else, by the receiver that could not be told.",
            &["receiver"],
        )?;
        let delivery_reminders = counters("delivery_reminders_total", "Reminders delivered.", &["receiver"])?;
        let delivery_digests = counters("delivery_digests_total", "Attempts to send a digest.", &["receiver"])?;
        let receiver_circuit = gauges(
            "receiver_circuit_state",
            "0: attempts go ahead; 1: one at a time, after failures in a row; 2: left alone for a while.",
            &["receiver"],
        )?;
        let heartbeat_time_seconds = families.register("heartbeat_time_seconds", |name| {
            let help = "When this process last delivered a heartbeat, epoch seconds.";
            GaugeVec::new(Opts::new(name, help), &["receiver"])
        })?;
        let delivery_seconds = histogram("delivery_seconds", "Time of one delivery attempt.")?;
        let action_runs =
            gauges("action_runs", "Runs of actions of the last 90 days, by state.", &["action", "state"])?;
        let action_transitions =
            counters("action_transitions_total", "Changes of state of runs of actions.", &["action", "state"])?;
        let action_calls = counters(
            "action_calls_total",
            "Calls of targets of actions, by outcome: accepted, retry, permanent.",
            &["action", "outcome"],
        )?;
        let action_last_success_seconds = families.register("action_last_success_time_seconds", |name| {
            let help = "When a run of an action last succeeded, epoch seconds.";
            GaugeVec::new(Opts::new(name, help), &["action", "model"])
        })?;
        let process_start_seconds = families
            .register("process_start_time_seconds", |name| Gauge::new(name, "Start of the process, epoch seconds."))?;
        let config_last_reload_successful = gauge(
            "config_last_reload_successful",
            "1 if the configuration was taken up when it was last read, 0 if the earlier one goes on.",
        )?;
        let config_last_reload_success_seconds = families
            .register("config_last_reload_success_timestamp_seconds", |name| {
                Gauge::new(name, "When the configuration was last taken up, epoch seconds.")
            })?;
        let view_records = counters(
            "view_records_total",
            "Records read for the pages and the drift gauges, by topic and outcome.",
            &["topic", "outcome"],
        )?;
        let http_requests =
            counters("http_requests_total", "HTTP requests, by route and status.", &["route", "status"])?;
        let process_cpu_seconds = families
            .register("process_cpu_seconds_total", |name| Counter::new(name, "User and system CPU time, seconds."))?;
        let process_resident_bytes = gauge("process_resident_memory_bytes", "Resident memory, bytes.")?;
        let build_info = gauges("build_info", "Always 1; the version is a label.", &["version"])?;
        build_info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let Families { registry, names } = families;
        Ok(Self {
            registry,
            names: names.into_inner().into(),
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
            performance_late,
            performance_panes,
            performance_bytes,
            history_panes,
            history_bytes,
            watermark_seconds,
            join_pending,
            join_pending_bytes,
            join_predictions,
            join_labels,
            join_sample_ratio,
            join_time_seconds,
            rule_evaluations,
            notifications,
            notifications_suppressed,
            delivery_attempts,
            deliveries_pending,
            deliveries_expired,
            deliveries_held,
            deliveries_failed,
            deliveries_superseded,
            deliveries_fallback,
            delivery_reminders,
            delivery_digests,
            receiver_circuit,
            heartbeat_time_seconds,
            delivery_seconds,
            action_runs,
            action_transitions,
            action_calls,
            action_last_success_seconds,
            view_records,
            http_requests,
            process_start_seconds,
            config_last_reload_successful,
            config_last_reload_success_seconds,
            process_cpu_seconds,
            process_resident_bytes,
        })
    }

    /// Names of all families, with a series or without.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Creates every counter whose labels are known, at zero.
    pub fn prepare(&self, known: &KnownLabels) {
        let touch = |metric: &IntCounterVec, labels: &[&str]| {
            metric.with_label_values(labels);
        };
        for role in &known.roles {
            touch(&self.transactions_aborted, &[role]);
            touch(&self.rebalances, &[role]);
        }
        for topic in &known.source_topics {
            touch(&self.events_read, &[topic]);
            for reason in &known.dead_letter_reasons {
                touch(&self.events_dead_lettered, &[topic, reason]);
            }
        }
        for model in &known.models {
            for metric in [
                &self.events_ingested,
                &self.events_late,
                &self.performance_late,
                &self.windows_closed,
                &self.windows_revised,
                &self.windows_incomplete,
            ] {
                touch(metric, &[model]);
            }
        }
        for model in &known.joined_models {
            for outcome in &known.join_prediction_outcomes {
                touch(&self.join_predictions, &[model, outcome]);
            }
            for outcome in &known.join_label_outcomes {
                touch(&self.join_labels, &[model, outcome]);
            }
        }
        for rule in &known.rules {
            for outcome in &known.rule_outcomes {
                touch(&self.rule_evaluations, &[rule, outcome]);
            }
            for status in ["firing", "resolved"] {
                touch(&self.notifications, &[rule, status]);
            }
            for by in ["inhibition", "silence"] {
                touch(&self.notifications_suppressed, &[rule, by]);
            }
        }
        for receiver in &known.receivers {
            for outcome in &known.delivery_outcomes {
                touch(&self.delivery_attempts, &[receiver, outcome]);
            }
            for metric in [
                &self.deliveries_expired,
                &self.deliveries_failed,
                &self.deliveries_superseded,
                &self.deliveries_fallback,
                &self.delivery_reminders,
                &self.delivery_digests,
            ] {
                touch(metric, &[receiver]);
            }
            for metric in [&self.deliveries_pending, &self.deliveries_held, &self.receiver_circuit] {
                metric.with_label_values(&[receiver]);
            }
        }
        for action in &known.actions {
            for state in &known.action_states {
                touch(&self.action_transitions, &[action, state]);
                self.action_runs.with_label_values(&[action, state]);
            }
            for outcome in &known.action_outcomes {
                touch(&self.action_calls, &[action, outcome]);
            }
        }
    }

    /// Reads CPU time and memory of this process from /proc. Where there is no /proc the figures stay at zero.
    pub fn refresh_process(&self) {
        if let Some(seconds) = process_cpu_seconds() {
            self.process_cpu_seconds.inc_by((seconds - self.process_cpu_seconds.get()).max(0.0));
        }
        if let Some(bytes) = process_resident_bytes() {
            self.process_resident_bytes.set(bytes);
        }
    }
}

/// CPU time of this process, in user and kernel mode; `None` without /proc.
pub fn process_cpu_seconds() -> Option<f64> {
    // Linux reports these ticks in USER_HZ, which is 100 on every architecture Rust's Linux targets have.
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    Some(cpu_ticks(&stat)? as f64 / TICKS_PER_SECOND)
}

/// Resident memory of this process; `None` without /proc.
pub fn process_resident_bytes() -> Option<i64> {
    resident_bytes(&std::fs::read_to_string("/proc/self/status").ok()?)
}

/// utime + stime: fields 14 and 15 of proc_pid_stat(5), counted after the command name, which may hold spaces.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

fn resident_bytes(status: &str) -> Option<i64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse::<i64>().ok().map(|kibibytes| kibibytes * 1024)
}

/// Keeps a complaint that comes again and again from filling the log: news is another message, or the same one
/// after ten seconds.
#[derive(Debug, Default)]
pub struct Complaints {
    last: Option<(String, Instant)>,
}

impl Complaints {
    pub fn is_news(&mut self, message: &str) -> bool {
        let known = |(last, at): &(String, Instant)| last == message && at.elapsed() < Duration::from_secs(10);
        if self.last.as_ref().is_some_and(known) {
            return false;
        }
        self.last = Some((message.to_string(), Instant::now()));
        true
    }
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people, with colours where `colour` says so.
    Text { colour: bool },
    /// One JSON object a line: `timestamp`, `level`, `target`, `fields`, `spans`.
    Json,
}

/// Starts logging to standard error. `filter` is a `tracing` filter (`info,driftline=debug`); an unreadable one is
/// an error, as is a second call in one process.
pub fn start_logging(format: LogFormat, filter: &str) -> Result<(), String> {
    let filter = EnvFilter::try_new(filter).map_err(|error| format!("log filter `{filter}`: {error}"))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text { colour } => builder.with_ansi(colour).try_init(),
        LogFormat::Json => builder.json().with_current_span(false).try_init(),
    }
    .map_err(|error| format!("logging was started already: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prepared_counter_is_exported_at_zero() {
        let metrics = Metrics::new().unwrap();
        let names = |metrics: &Metrics| metrics.registry.gather().len();
        let before = names(&metrics);
        metrics.prepare(&KnownLabels {
            receivers: vec!["oncall".into()],
            delivery_outcomes: vec!["delivered".into()],
            ..KnownLabels::default()
        });
        assert_eq!(names(&metrics), before + 10, "attempts, what became of deliveries, and the circuit");
        assert_eq!(metrics.deliveries_expired.with_label_values(&["oncall"]).get(), 0);
    }

    #[test]
    fn process_figures_survive_a_command_name_with_spaces() {
        let stat = "12 (a b) c) S 1 2 3 4 5 6 7 8 9 10 140 60 0 0";
        assert_eq!(cpu_ticks(stat), Some(200));
        assert_eq!(resident_bytes("Name:\tx\nVmRSS:\t   2048 kB\n"), Some(2_097_152));
    }
}
