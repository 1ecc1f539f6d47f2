//! A service as it looks after a day: two models, a drift, a gap, alerts and deliveries. For tests that serve it.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod runs;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, RwLock};

use driftline::config::receivers::Secret;
use driftline::config::rules::Severity;
use driftline::config::service::{Http, Role, Token};
use driftline::http::access::Access;
use driftline::http::follow::FollowHandle;
use driftline::http::metrics::{Watched, WatchedModel, WatchedRule};
use driftline::http::readiness::Readiness;
use driftline::http::server::{AppState, Configured, Operations, serve};
use driftline::http::view::{Delivery, DeliveryStatus, Limits, View};
use driftline::log::Log;
use driftline::log::embedded::EmbeddedLog;
use driftline::log::topics::Topics;
use driftline::rules::episode::{EpisodeStatus, Finding, Notification};
use driftline::rules::explanation::Explanation;
use driftline::rules::performance::PerformanceFinding;
use driftline::stats::metric::{BinShare, FeatureStats, MetricValue};
use driftline::stats::quality::WindowQuality;
use driftline::stats::sql::{VALUE, result_name};
use driftline::telemetry::{KnownLabels, Metrics};
use driftline::windows::result::{
    Change, EstimateError, Gap, GroupValue, PERFORMANCE_FEATURE, Segment, Window, WindowPerformance, WindowResult,
};

pub const HOUR_MS: i64 = 3_600_000;
/// 2026-03-02 06:00 UTC.
pub const FIRST_MS: i64 = 1_772_431_200_000;
pub const WINDOWS: i64 = 30;
pub const NOW_MS: i64 = FIRST_MS + WINDOWS * HOUR_MS + 420_000;
pub const EPISODE: &str = "5f0c6a1be2d94c07";
pub const PERFORMANCE_EPISODE: &str = "b91e07c4d2a65f38";

const FEATURES: [&str; 12] = [
    "amount",
    "country",
    "account_age_days",
    "device",
    "distance_from_home_km",
    "hour_of_day",
    "is_foreign_card",
    "items",
    "merchant_category",
    "previous_chargebacks",
    "seconds_since_last_transaction",
    "velocity_24h",
];
const CATEGORICAL: [&str; 3] = ["country", "device", "merchant_category"];

/// Same input, same figure between 0 and 1: noise that a test can rely on.
fn noise(feature: usize, hour: i64) -> f64 {
    let mixed = (feature as u64 * 7919 + hour as u64 * 104_729 + 17).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 40) as f64 / (1u64 << 24) as f64
}

fn stats(feature: usize, hour: i64, psi: f64) -> FeatureStats {
    let name = FEATURES[feature];
    let p_value = if psi > 0.05 { 1e-12 } else { 0.05 + 0.9 * noise(feature, hour) };
    let metric =
        |value: f64, p_value: Option<f64>| MetricValue { value: Some(value), bound: None, p_value, interval: None };
    let mut metrics = BTreeMap::from([
        ("psi".to_string(), metric(psi, Some(p_value))),
        ("js".to_string(), metric((psi / 8.0).sqrt(), None)),
        ("null_rate".to_string(), metric(0.01 * noise(feature, hour + 1), None)),
    ]);
    let bins: Vec<(String, f64)> = if CATEGORICAL.contains(&name) {
        metrics.insert("chi_square".into(), metric(psi * 9_000.0, Some(p_value)));
        metrics.insert("cramers_v".into(), metric((psi / 6.0).sqrt(), None));
        metrics.insert("unseen_rate".into(), metric(0.002, None));
        [("DE", 0.4), ("FR", 0.3), ("BR", 0.2), ("a category with a very long name", 0.1)]
            .map(|(label, share)| (label.to_string(), share))
            .to_vec()
    } else {
        let ks =
            MetricValue { value: Some((psi / 5.0).sqrt()), bound: Some(0.001), p_value: Some(p_value), interval: None };
        metrics.insert("ks".into(), ks);
        metrics.insert("wasserstein_norm".into(), metric(psi * 1.4, None));
        metrics.insert("mean".into(), metric(102.0 + 20.0 * psi, None));
        metrics.insert("std".into(), metric(20.0, None));
        (0..10).map(|bin| (format!("{} to {}", bin * 25, bin * 25 + 25), 0.1)).collect()
    };
    let count = bins.len() as f64;
    let tilt = |index: usize| 1.0 + 1.6 * psi.min(0.6) * (index as f64 - (count - 1.0) / 2.0) / (count / 2.0);
    let bins = bins.into_iter().enumerate();
    FeatureStats {
        n: 10_180,
        missing: 60,
        n_reference: 100_000,
        moved: Vec::new(),
        metrics,
        location: None,
        importance: None,
        bins: bins
            .map(|(index, (label, share))| BinShare { label, reference: share, window: share * tilt(index) })
            .collect(),
        ..FeatureStats::default()
    }
}

/// `amount` drifts in the last four windows, `country` a little for half a day.
fn psi(feature: usize, hour: i64) -> f64 {
    let quiet = 0.002 + 0.03 * noise(feature, hour);
    match feature {
        0 if hour >= WINDOWS - 4 => 0.28 + 0.13 * (hour - WINDOWS + 4) as f64,
        1 if (10..22).contains(&hour) => 0.08 + 0.06 * noise(1, hour),
        4 if hour == 17 => 0.31,
        _ => quiet,
    }
}

fn add_flaws(feature: &str, stats: &mut FeatureStats) {
    let flaws: &[(&str, f64)] = match feature {
        "amount" => &[("type_mismatch_rate", 0.102), ("out_of_range_rate", 0.013)],
        "velocity_24h" => &[("absent_rate", 1.0), ("null_rate", 1.0), ("null_rate_change", 0.997)],
        "device" => &[("constant", 1.0)],
        "items" => &[("nan_rate", 0.021), ("infinite_rate", 0.0004)],
        _ => &[],
    };
    for (name, value) in flaws {
        stats.metrics.insert(name.to_string(), MetricValue::exact(*value));
    }
}

/// The fraud model's producers went wrong in the newest window.
fn quality(calm: bool, hour: i64, start_ms: i64) -> WindowQuality {
    let wrong = !calm && hour == WINDOWS - 1;
    let counts = |counts: &[(&str, u64)]| counts.iter().map(|(name, count)| (name.to_string(), *count)).collect();
    WindowQuality {
        rejected: if wrong { counts(&[("unknown_feature", 310), ("wrong_type", 1_204)]) } else { counts(&[]) },
        duplicate_rate: Some(MetricValue {
            value: Some(if wrong { 0.034 } else { 0.0 }),
            bound: Some(0.004),
            p_value: None,
            interval: None,
        }),
        expected_rows: (hour >= 3).then_some(10_600.0),
        freshness_seconds: Some(12.5 + (start_ms % 7) as f64),
        delay_seconds: Some(0.8),
        schema_added: if wrong { counts(&[("coupon", 310)]) } else { counts(&[]) },
        schema_added_rest: 0,
        schema_missing: if wrong { vec!["velocity_24h".into()] } else { Vec::new() },
    }
}

pub fn window(model: &str, version: &str, hour: i64, size_ms: i64) -> WindowResult {
    let start_ms = FIRST_MS + hour * size_ms;
    let calm = model != "fraud";
    let stats_of = |feature: usize| {
        let psi = if calm { 0.002 + 0.03 * noise(feature, hour) } else { psi(feature, hour) };
        let mut stats = stats(feature, hour, psi);
        if !calm && hour == WINDOWS - 1 {
            add_flaws(FEATURES[feature], &mut stats);
        }
        (FEATURES[feature].to_string(), stats)
    };
    WindowResult {
        model: model.into(),
        version: version.into(),
        segment: Segment::default(),
        window: Window { start_ms, end_ms: start_ms + size_ms },
        revision: u32::from(hour == WINDOWS - 2),
        reference: "training".into(),
        reference_id: "sha256-6f1d0c33aa17".into(),
        rows: 10_240 + (noise(40, hour) * 900.0) as u64,
        complete: hour != 12,
        baseline: None,
        quality: Some(quality(calm, hour, start_ms)),
        changes: if !calm && hour == WINDOWS - 4 { vec![change(start_ms)] } else { Vec::new() },
        performance: None,
        features: (0..FEATURES.len()).map(stats_of).chain([approval_rate(hour)]).collect(),
    }
}

/// The value of a rule's query.
fn approval_rate(hour: i64) -> (String, FeatureStats) {
    let value = MetricValue::exact(0.62 + 0.05 * noise(41, hour));
    let metrics = BTreeMap::from([(VALUE.to_string(), value)]);
    (result_name("approval-rate"), FeatureStats { n: 10_240, metrics, ..FeatureStats::default() })
}

fn change(window_start_ms: i64) -> Change {
    Change {
        event_time_ms: window_start_ms + 754_000,
        signal: FEATURES[0].into(),
        detector: "adwin(delta=0.01)".into(),
        topic: "predictions".into(),
        partition: 2,
        offset: 48_211,
    }
}

/// What the reference had, by figure.
const PERFORMANCE: [(&str, f64, f64); 9] = [
    ("roc_auc", 0.786, 0.011),
    ("f1", 0.641, 0.014),
    ("accuracy", 0.902, 0.005),
    ("precision", 0.713, 0.018),
    ("recall", 0.583, 0.019),
    ("specificity", 0.968, 0.004),
    ("log_loss", 0.241, 0.009),
    ("brier", 0.068, 0.003),
    ("ece", 0.012, 0.004),
];

/// How well the model did: worse in the last eight windows, of which labels have come for the first; each fifth label
/// never comes.
pub fn performance_window(version: &str, hour: i64, segment: Option<(&str, &str)>) -> WindowResult {
    let mut result = window("fraud", version, hour, HOUR_MS);
    let shift = segment.map_or(0.0, |(_, value)| if value == "BR" { 0.06 } else { -0.01 });
    let worse = if hour >= WINDOWS - 8 && version == "3" { 0.07 } else { 0.0 } + shift;
    let coverage = (0.8 * (WINDOWS - 2 - hour) as f64 / 8.0).clamp(0.0, 0.8);
    let predictions = if segment.is_some() { result.rows / 3 } else { result.rows };
    let labelled = (predictions as f64 * coverage) as u64;
    let figure = |value: f64, half: f64| MetricValue::exact(value).with_interval([value - half, value + half]);
    // Of a figure where less is better, more.
    let moved = |name: &str, value: f64, by: f64| match name {
        "log_loss" | "brier" | "ece" => value * (1.0 + by),
        _ => value - by,
    };
    let mut stats =
        FeatureStats { n: labelled, missing: predictions - labelled, n_reference: 50_000, ..Default::default() };
    for (index, (name, value, half)) in PERFORMANCE.into_iter().enumerate() {
        let wobble = (noise(50 + index, hour) - 0.5) * half;
        if labelled > 0 {
            let widened = half / coverage.sqrt() * if segment.is_some() { 1.7 } else { 1.0 };
            stats.metrics.insert(name.into(), figure(moved(name, value, worse) + wobble, widened));
        }
        if index < 6 {
            let expected = moved(name, value, 0.85 * worse) + 0.4 * wobble;
            stats.metrics.insert(format!("est_{name}"), figure(expected, 0.8 * half));
        }
    }
    if labelled > 0 {
        let recall = stats.metrics["recall"].value.unwrap();
        let positives = (labelled as f64 * 0.1).round();
        let hits = (positives * recall).round();
        let alarms = (hits * 0.43).round();
        let counts =
            [("tp", hits), ("fp", alarms), ("fn", positives - hits), ("tn", labelled as f64 - positives - alarms)];
        stats.metrics.extend(counts.map(|(name, count)| (name.to_string(), MetricValue::exact(count))));
        let shares = [("prevalence", positives), ("positive_rate", hits + alarms)];
        for (name, count) in shares {
            stats.metrics.insert(name.into(), figure(count / labelled as f64, 0.003));
        }
        stats.metrics.insert("recall".into(), figure(hits / positives, 0.02));
        let p_value = if worse > 0.05 { 3e-5 } else { 0.1 + 0.8 * noise(70, hour) };
        stats.metrics.insert("calibration_shift".into(), MetricValue::exact(1.2).with_p(p_value));
    }
    if let Some((column, value)) = segment {
        result.segment = Segment { column: column.into(), value: value.into() };
    }
    result.rows = predictions;
    result.quality = None;
    result.changes = Vec::new();
    result.performance = Some(WindowPerformance {
        predictions,
        labelled,
        label_coverage: labelled as f64 / predictions as f64,
        is_final: coverage >= 0.8,
        baseline: PERFORMANCE.map(|(name, value, half)| (name.to_string(), figure(value, half / 3.0))).into(),
        confusion: Vec::new(),
        gaps: if segment.is_none() && labelled > 0 { gaps(labelled) } else { Vec::new() },
        estimate_error: PERFORMANCE[..6]
            .iter()
            .map(|(name, _, half)| {
                let error =
                    EstimateError { mean_absolute_error: 0.4 * half, bias: -0.1 * half, windows: hour.max(0) as u64 };
                (name.to_string(), error)
            })
            .collect(),
    });
    result.features = BTreeMap::from([(PERFORMANCE_FEATURE.to_string(), stats)]);
    result
}

fn gaps(labelled: u64) -> Vec<Gap> {
    let half = 1.5 / (labelled as f64).sqrt();
    let figure = |value: f64, half: f64| MetricValue::exact(value).with_interval([value - half, value + half]);
    let group = |group: &str, value: f64| GroupValue { group: group.into(), value: figure(value, half) };
    ["roc_auc", "recall"]
        .map(|metric| Gap {
            column: "country".into(),
            metric: metric.into(),
            highest: group("DE", 0.79),
            lowest: group("BR", 0.72),
            gap: figure(0.07, 1.6 * half),
        })
        .to_vec()
}

/// An estimate raised it, and the labels confirm it.
fn performance_alert() -> Notification {
    let mut alert = notification(PERFORMANCE_EPISODE, 0, EpisodeStatus::Firing, WINDOWS - 7);
    alert.rule = "quality-drop".into();
    alert.summary = "quality-drop critical: fraud@3, ROC AUC 0.718".into();
    alert.findings = vec![Finding {
        feature: Some(PERFORMANCE_FEATURE.into()),
        metric: "roc_auc".into(),
        value: MetricValue::exact(0.718).with_interval([0.701, 0.735]),
        condition: "roc_auc < baseline - 0.03 with 95% confidence".into(),
        p_adjusted: None,
        moved: Vec::new(),
        n: 6_400,
        n_reference: 50_000,
        performance: Some(PerformanceFinding {
            estimate: Some(MetricValue::exact(0.727).with_interval([0.718, 0.736])),
            confirmed: Some(true),
            baseline: Some(MetricValue::exact(0.786).with_interval([0.782, 0.79])),
            difference: Some(MetricValue::exact(-0.068).with_interval([-0.085, -0.051])),
            predictions: 10_400,
            labelled: 6_400,
            label_coverage: 0.615,
            ..PerformanceFinding::default()
        }),
        reason: "ROC AUC 0.718 (95% 0.701 to 0.735), 0.068 below the baseline 0.786, labels for 62% of 10\u{202f}400 \
                 predictions; estimated before labels: 0.727 (0.718 to 0.736): the labels confirm it"
            .into(),
        ..finding(PERFORMANCE_FEATURE, 0.718, Severity::Critical)
    }];
    alert
}

pub fn finding(feature: &str, value: f64, severity: Severity) -> Finding {
    Finding {
        feature: Some(feature.into()),
        segment: Segment::default(),
        severity,
        metric: "psi".into(),
        value: MetricValue { value: Some(value), bound: None, p_value: Some(1e-12), interval: None },
        condition: "psi > 0.25".into(),
        threshold: None,
        effect_psi: None,
        p_value: None,
        p_adjusted: Some(1.2e-11),
        inflation: None,
        n: 10_180,
        n_reference: 100_000,
        performance: None,
        moved: vec![BinShare { label: "225 to 250".into(), reference: 0.1, window: 0.21 }.into()],
        explanation: Explanation::default(),
        reason: format!(
            "`{feature}`: PSI {value} against training, 2 of 2 windows, 10\u{202f}240 events, adjusted p < 1e-6"
        ),
    }
}

pub fn notification(episode: &str, sequence: u32, status: EpisodeStatus, hour: i64) -> Notification {
    let at = |hour: i64| Window { start_ms: FIRST_MS + hour * HOUR_MS, end_ms: FIRST_MS + (hour + 1) * HOUR_MS };
    let firing = status == EpisodeStatus::Firing;
    Notification {
        id: format!("{episode}-{sequence}"),
        episode_id: episode.into(),
        sequence,
        status,
        severity: Severity::Critical,
        rule: "feature-drift".into(),
        model: "fraud".into(),
        version: "3".into(),
        segment: Segment::default(),
        feature: None,
        summary: "feature-drift critical: fraud@3, `amount` PSI 0.41".into(),
        findings: if firing { vec![finding("amount", 0.41, Severity::Critical)] } else { Vec::new() },
        reference: "training".into(),
        reference_id: "sha256-6f1d0c33aa17".into(),
        first_window: at(hour - i64::from(sequence) - 1),
        window: at(hour),
        windows_breached: 2,
        windows_considered: 2,
        rows: 10_240,
        at_ms: FIRST_MS + (hour + 1) * HOUR_MS + 9_000,
        receivers: vec!["oncall".into(), "hook".into()],
        description: None,
        runbook: None,
        suppressed: None,
        actions: Vec::new(),
    }
}

pub fn view() -> View {
    let mut view = View::new(Limits::default());
    for hour in 0..WINDOWS {
        if hour != 20 {
            view.apply_result(window("fraud", "3", hour, HOUR_MS));
        }
        for (value, share) in [("DE", 0.7), ("BR", 1.4)] {
            let mut segment = window("fraud", "3", hour, HOUR_MS);
            segment.segment = Segment { column: "country".into(), value: value.into() };
            segment.rows = (segment.rows as f64 * share / 3.0) as u64;
            view.apply_result(segment);
        }
    }
    for hour in 20..WINDOWS - 3 {
        view.apply_result(window("fraud", "2", hour, HOUR_MS));
        view.apply_result(performance_window("2", hour, None));
    }
    for hour in 0..WINDOWS {
        for segment in [None, Some(("country", "DE")), Some(("country", "BR"))] {
            view.apply_result(performance_window("3", hour, segment));
        }
    }
    view.apply_notification(performance_alert());
    for quarter in WINDOWS * 3..WINDOWS * 4 {
        view.apply_result(window("churn", "2026-02", quarter, HOUR_MS / 4));
    }
    view.apply_notification(notification(EPISODE, 0, EpisodeStatus::Firing, WINDOWS - 3));
    view.apply_notification(notification(EPISODE, 1, EpisodeStatus::Firing, WINDOWS - 2));
    let mut resolved = notification("0a77d1c2", 0, EpisodeStatus::Firing, 17);
    resolved.severity = Severity::Warn;
    resolved.findings = vec![finding("country", 0.13, Severity::Warn), finding("amount", 0.11, Severity::Warn)];
    view.apply_notification(resolved);
    view.apply_notification(notification("0a77d1c2", 1, EpisodeStatus::Resolved, 22));
    for (sequence, receiver, status, attempts, error) in [
        (0, "oncall", DeliveryStatus::Delivered, 1, None),
        (0, "hook", DeliveryStatus::Delivered, 4, Some("503 Service Unavailable")),
        (1, "oncall", DeliveryStatus::Delivered, 1, None),
        (1, "hook", DeliveryStatus::Retrying, 3, Some("connection refused")),
    ] {
        view.apply_delivery(Delivery {
            notification_id: format!("{EPISODE}-{sequence}"),
            receiver: receiver.into(),
            status,
            attempts,
            last_error: error.map(str::to_string),
            at_ms: NOW_MS - 400_000,
        });
    }
    runs::runs().into_iter().for_each(|run| view.apply_run(run));
    view
}

pub fn watched() -> Watched {
    let model = |name: &str, window_size_ms| WatchedModel { name: name.into(), window_size_ms };
    Watched {
        models: vec![model("fraud", HOUR_MS), model("churn", HOUR_MS / 4), model("pricing", HOUR_MS)],
        rules: vec![
            WatchedRule {
                name: "feature-drift".into(),
                models: vec!["fraud".into(), "churn".into()],
                severities: vec![Severity::Warn, Severity::Critical],
                thresholds: vec![("psi".into(), Severity::Warn, 0.1), ("psi".into(), Severity::Critical, 0.25)],
            },
            WatchedRule {
                name: "quality-drop".into(),
                models: vec!["fraud".into()],
                severities: vec![Severity::Critical],
                thresholds: vec![("roc_auc".into(), Severity::Critical, 0.73)],
            },
            WatchedRule {
                name: "approval-rate".into(),
                models: vec!["fraud".into()],
                severities: vec![Severity::Critical],
                thresholds: vec![(VALUE.into(), Severity::Critical, 0.55)],
            },
        ],
    }
}

/// Counters as a service leaves them; `more` adds to each, as time does.
pub fn metrics() -> Metrics {
    let metrics = Metrics::new().unwrap();
    let names = |names: &[&str]| names.iter().map(|name| name.to_string()).collect::<Vec<_>>();
    metrics.prepare(&KnownLabels {
        roles: names(&["ingest", "windows", "dispatch"]),
        source_topics: names(&["predictions"]),
        models: names(&["fraud", "churn"]),
        rules: names(&["feature-drift"]),
        receivers: names(&["oncall", "hook"]),
        dead_letter_reasons: names(&["malformed", "wrong_type"]),
        rule_outcomes: names(&["ok", "breach"]),
        delivery_outcomes: names(&["delivered", "failed"]),
        actions: names(&["retrain-fraud"]),
        action_states: names(&["blocked", "calling", "accepted", "succeeded"]),
        action_outcomes: names(&["accepted", "retry", "permanent"]),
        joined_models: names(&["fraud"]),
        join_prediction_outcomes: names(&["kept", "evicted"]),
        join_label_outcomes: names(&["matched", "unmatched"]),
    });
    metrics.join_pending.with_label_values(&["fraud"]).set(61_200);
    metrics.join_pending_bytes.with_label_values(&["fraud"]).set(9_900_000);
    metrics.join_sample_ratio.with_label_values(&["fraud"]).set(0.5);
    metrics.join_time_seconds.with_label_values(&["fraud"]).set(NOW_MS as f64 / 1e3);
    metrics.consumer_lag_records.with_label_values(&["ingest", "predictions"]).set(17);
    metrics.watermark_seconds.with_label_values(&["fraud"]).set(NOW_MS as f64 / 1e3);
    metrics.process_start_seconds.set(NOW_MS as f64 / 1e3);
    metrics.action_last_success_seconds.with_label_values(&["retrain-fraud", "fraud"]).set(NOW_MS as f64 / 1e3);
    metrics.view_records.with_label_values(&["driftline.results", "applied"]).inc_by(90);
    metrics
}

pub fn more(metrics: &Metrics) {
    metrics.events_read.with_label_values(&["predictions"]).inc_by(100);
    metrics.events_ingested.with_label_values(&["fraud"]).inc_by(99);
    metrics.join_predictions.with_label_values(&["fraud", "kept"]).inc_by(99);
    metrics.join_labels.with_label_values(&["fraud", "matched"]).inc_by(80);
    metrics.flush_seconds.observe(0.02);
    metrics.delivery_seconds.observe(0.2);
    metrics.flushes.inc();
}

pub fn state(view: View) -> AppState {
    let readiness = Readiness::default();
    readiness.met("kafka");
    let follow = FollowHandle::default();
    follow.mark_caught_up();
    AppState {
        view: Arc::new(RwLock::new(view)),
        follow,
        metrics: metrics(),
        configured: Configured { watched: watched(), access: access(&[]), series_budget: 50_000 }.shared(),
        readiness,
        operations: Some(operations()),
        reload: None,
        now_ms: || NOW_MS,
    }
}

/// Bound to loopback, with these tokens: name, role, the token.
pub fn access(tokens: &[(&str, Role, &str)]) -> Access {
    let folder = tempfile::tempdir().unwrap();
    let token = |(name, role, value): &(&str, Role, &str)| {
        let file = folder.path().join(name);
        std::fs::write(&file, value).unwrap();
        let token = Secret { env: None, file: Some(file.display().to_string()) };
        Token { name: name.to_string(), role: *role, token }
    };
    let tokens = tokens.iter().map(token).collect();
    Access::new(&Http { tokens, ..Http::default() }).unwrap_or_else(|errors| panic!("{errors:?}"))
}

/// An embedded log that takes commands.
pub fn operations() -> Operations {
    let (log, topics) = (EmbeddedLog::new(), Topics::new("driftline"));
    log.create_topics(&topics.specs(1, -1)).unwrap();
    Operations { log: Arc::new(log), topics }
}

/// Serves on a free port of loopback until the process ends.
pub fn start(state: AppState) -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            serve(state, listener, std::future::pending()).await.unwrap();
        });
    });
    address
}

pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

pub fn get(address: SocketAddr, path: &str) -> Answer {
    ask(address, "GET", path, &[], "")
}

/// A request with further headers and a body.
pub fn ask(address: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    let mut request = format!("{method} {path} HTTP/1.1\r\nconnection: close\r\n");
    if !headers.iter().any(|(name, _)| *name == "host") {
        request.push_str(&format!("host: {address}\r\n"));
    }
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    write!(stream, "{request}content-length: {}\r\n\r\n{body}", body.len()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    Answer { status, head: head.to_ascii_lowercase(), body: if chunked { dechunk(body) } else { body.to_string() } }
}

fn dechunk(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            break;
        }
        whole.push_str(&rest[..size]);
        body = &rest[size + 2..];
    }
    whole
}
