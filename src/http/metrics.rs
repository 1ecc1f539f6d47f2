//! `/metrics`: the pipeline's own counters, and gauges of the last closed window derived from the view.
//!
//! Series of features and of performance grow with what is watched, so they have a budget: each window's worst features
//! are kept, the rest is counted, and the worst of the rest stands under `feature="_other"`. Values of rules' queries come first, then performance;
//! its segments may take a quarter. Of features, segments have no series; they are on the pages. A model that is no
//! longer configured has none.

#[path = "metrics_performance.rs"]
mod performance;
#[path = "metrics_query.rs"]
mod query;

use std::collections::{BTreeMap, BTreeSet};

use prometheus::{GaugeVec, IntGauge, Opts, TextEncoder};

use super::view::{Series, SeriesKey, View, drift, worst_features, worst_flaw};
use crate::config::rules::Severity;
use crate::config::units::Span;
use crate::rules::episode::EpisodeStatus;
use crate::stats::metric::FeatureStats;
use crate::stats::sql::is_result_name;
use crate::telemetry::{Families, Metrics};
use crate::windows::result::WindowResult;

/// A model as it is configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchedModel {
    pub name: String,
    /// The windows shown first on pages.
    pub window_size_ms: i64,
}

/// A rule as it is configured: what `driftline_alerts_firing` exists for at zero, and where lines are drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct WatchedRule {
    pub name: String,
    /// Names of the configured models that the rule's glob matches.
    pub models: Vec<String>,
    pub severities: Vec<Severity>,
    /// Metric (`psi`), severity and level of each plain comparison in `when`.
    pub thresholds: Vec<(String, Severity, f64)>,
}

/// What is configured, for everything that shows the view.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Watched {
    pub models: Vec<WatchedModel>,
    pub rules: Vec<WatchedRule>,
}

pub fn severity_name(severity: Severity) -> &'static str {
    match severity {
        Severity::Warn => "warn",
        Severity::Critical => "critical",
    }
}

/// Gauges of one feature: family, help, key in `FeatureStats::metrics`. `driftline_feature_psi` comes first: it
/// is the one kept for `_other`.
const FEATURE_GAUGES: [(&str, &str, &str); 10] = [
    ("feature_psi", "Population stability index against the reference.", "psi"),
    ("feature_ks", "Kolmogorov-Smirnov distance to the reference.", "ks"),
    ("feature_js", "Jensen-Shannon distance to the reference, base 2.", "js"),
    (
        "feature_wasserstein_norm",
        "Wasserstein distance to the reference, in standard deviations of the reference.",
        "wasserstein_norm",
    ),
    ("feature_chi_square", "Chi-square statistic of window and reference.", "chi_square"),
    ("feature_cramers_v", "Cramer's V of window and reference.", "cramers_v"),
    ("feature_null_ratio", "Share of missing values.", "null_rate"),
    ("feature_unseen_ratio", "Share of values in categories that the reference lacks.", "unseen_rate"),
    ("feature_mean", "Mean of the values.", "mean"),
    ("feature_standard_deviation", "Standard deviation of the values.", "std"),
];
const P_VALUE: (&str, &str) = ("feature_p_value", "Probability of such a drift by chance, uncorrected, by test.");
const INVALID: (&str, &str) = (
    "feature_invalid_ratio",
    "The worst share of what is wrong with a feature: type, not a number, infinite, range, unseen, constant, more nulls.",
);
const FEATURE_ROWS: (&str, &str) = ("feature_rows", "Non-missing values in the window.");
const FEATURE_LABELS: [&str; 4] = ["model", "version", "window", "feature"];
const WINDOW_LABELS: [&str; 3] = ["model", "version", "window"];

/// Versions whose last window is older than this many windows than the model's newest have retired.
const RETIRED_AFTER_WINDOWS: i64 = 24;

/// The whole answer to a scrape, in Prometheus' text format.
pub fn render(
    metrics: &Metrics,
    view: &View,
    watched: &Watched,
    series_budget: usize,
) -> Result<String, prometheus::Error> {
    metrics.refresh_process();
    let encoder = TextEncoder::new();
    let mut text = encoder.encode_to_string(&metrics.registry.gather())?;
    text.push_str(&encoder.encode_to_string(&derive(view, watched, series_budget)?.registry.gather())?);
    Ok(text)
}

/// Names of all families that `render` can write.
pub fn names(metrics: &Metrics) -> Result<Vec<String>, prometheus::Error> {
    let derived = derive(&View::default(), &Watched::default(), 0)?;
    Ok(metrics.names().iter().cloned().chain(derived.into_names()).collect())
}

/// The last closed window of every configured model version and window size. Cheap: one per scrape and series.
fn last_windows<'a>(view: &'a View, watched: &'a Watched) -> Vec<(&'a WindowResult, String)> {
    let of_model = |model: &'a WatchedModel| last_of_versions(view.whole(&model.name));
    let last = watched.models.iter().flat_map(of_model);
    last.filter_map(|(key, series)| Some((series.values().next_back()?, Span::from_ms(key.size_ms).to_string())))
        .collect()
}

/// Series of one model without those of versions that have retired.
fn last_of_versions<'a>(series: impl Iterator<Item = (&'a SeriesKey, &'a Series)>) -> Vec<(&'a SeriesKey, &'a Series)> {
    let series: Vec<(&SeriesKey, &Series)> = series.collect();
    let end_ms = |series: &Series| series.values().next_back().map(|result| result.window.end_ms);
    let newest_ms = |size_ms: i64| {
        series.iter().filter(|(key, _)| key.size_ms == size_ms).filter_map(|(_, series)| end_ms(series)).max()
    };
    let is_current = |key: &SeriesKey, series: &Series| {
        let behind_ms = newest_ms(key.size_ms).unwrap_or(0) - end_ms(series).unwrap_or(0);
        behind_ms < RETIRED_AFTER_WINDOWS * key.size_ms
    };
    series.iter().filter(|(key, series)| is_current(key, series)).copied().collect()
}

/// Gauges of the view, made anew for each scrape: what is gone leaves no series.
fn derive(view: &View, watched: &Watched, series_budget: usize) -> Result<Families, prometheus::Error> {
    let families = Families::default();
    let gauges = |name: &str, help: &str, labels: &[&str]| {
        families.register(name, |name| GaugeVec::new(Opts::new(name, help), labels))
    };
    let rows = gauges("window_rows", "Events in the last closed window.", &WINDOW_LABELS)?;
    let end = gauges("window_end_time_seconds", "End of the last closed window, epoch seconds.", &WINDOW_LABELS)?;
    let complete =
        gauges("window_complete", "0 if events of the last closed window are known to be missing.", &WINDOW_LABELS)?;
    let features =
        gauges("window_features", "Features in the last closed window, with or without series.", &WINDOW_LABELS)?;
    let quality = QualityGauges::register(&families)?;
    let windows = last_windows(view, watched);
    for (result, size) in &windows {
        let labels = [result.model.as_str(), result.version.as_str(), size.as_str()];
        rows.with_label_values(&labels).set(result.rows as f64);
        end.with_label_values(&labels).set(result.window.end_ms as f64 / 1_000.0);
        complete.with_label_values(&labels).set(f64::from(u8::from(result.complete)));
        let count = result.features.keys().filter(|name| !is_result_name(name)).count();
        features.with_label_values(&labels).set(count as f64);
        quality.set(&labels, result);
    }
    let (queries, left_out) = query::derive(&families, view, watched, series_budget)?;
    let left = series_budget.saturating_sub(queries);
    let (used, dropped) = performance::derive(&families, view, watched, left)?;
    derive_features(&families, &windows, left.saturating_sub(used), dropped + left_out)?;
    let firing = gauges("alerts_firing", "Firing episodes.", &["model", "rule", "severity"])?;
    for ((model, rule, severity), count) in count_firing(view, watched) {
        firing.with_label_values(&[&model, &rule, severity]).set(count as f64);
    }
    let threshold = gauges("rule_threshold", "Level in a rule's condition.", &["rule", "metric", "severity"])?;
    for rule in &watched.rules {
        for (metric, severity, level) in &rule.thresholds {
            threshold.with_label_values(&[&rule.name, metric, severity_name(*severity)]).set(*level);
        }
    }
    let help = "Feature statistics held in memory for pages.";
    families.register("view_cells", |name| IntGauge::new(name, help))?.set(view.cells() as i64);
    Ok(families)
}

/// Gauges of the quality of a window's events: family, help, metric in rules.
const QUALITY_GAUGES: [(&str, &str, &str); 7] = [
    ("window_rejected_ratio", "Share of the events of the last closed window in the dead letter.", "rejected_rate"),
    ("window_duplicate_ratio", "Share of the events that repeat the prediction id of another.", "duplicate_rate"),
    ("window_expected_rows", "Events that such a window usually has.", "expected_row_count"),
    ("window_freshness_seconds", "Age of the newest event when the window closed.", "freshness_seconds"),
    ("window_delay_seconds", "Mean time from an event to its record in the log.", "delay_seconds"),
    ("window_new_features", "Keys beside the features that the model does not list.", "new_features"),
    ("window_vanished_features", "Features of which no event has the key.", "vanished_features"),
];

/// What can be wrong with a feature: label and metric in rules.
const FLAWS: [(&str, &str); 8] = [
    ("null", "null_rate"),
    ("absent", "absent_rate"),
    ("nan", "nan_rate"),
    ("infinite", "infinite_rate"),
    ("type_mismatch", "type_mismatch_rate"),
    ("out_of_range", "out_of_range_rate"),
    ("unseen", "unseen_rate"),
    ("constant", "constant"),
];

struct QualityGauges {
    of_window: Vec<(GaugeVec, &'static str)>,
    worst_feature: GaugeVec,
}

impl QualityGauges {
    fn register(families: &Families) -> Result<Self, prometheus::Error> {
        let mut of_window = Vec::new();
        for (name, help, metric) in QUALITY_GAUGES {
            let gauge = families.register(name, |name| GaugeVec::new(Opts::new(name, help), &WINDOW_LABELS))?;
            of_window.push((gauge, metric));
        }
        let help = "Share of the worst feature of the last closed window, by what is wrong.";
        let labels: Vec<&str> = WINDOW_LABELS.iter().copied().chain(["flaw"]).collect();
        let worst_feature =
            families.register("window_worst_feature_ratio", |name| GaugeVec::new(Opts::new(name, help), &labels))?;
        Ok(Self { of_window, worst_feature })
    }

    fn set(&self, labels: &[&str; 3], result: &WindowResult) {
        for (gauge, metric) in &self.of_window {
            let value = result.window_metric(metric).and_then(|metric| metric.value);
            if let Some(value) = value.filter(|value| value.is_finite()) {
                gauge.with_label_values(labels).set(value);
            }
        }
        for (flaw, metric) in FLAWS {
            let worst = result.features.values().filter_map(|stats| finite(stats, metric)).fold(0.0, f64::max);
            self.worst_feature.with_label_values(&[labels[0], labels[1], labels[2], flaw]).set(worst);
        }
    }
}

fn derive_features(
    families: &Families,
    windows: &[(&WindowResult, String)],
    series_budget: usize,
    dropped_before: usize,
) -> Result<(), prometheus::Error> {
    let family = |name: &str, help: &str, extra: &[&str]| {
        let labels: Vec<&str> = FEATURE_LABELS.iter().chain(extra).copied().collect();
        families.register(name, |name| GaugeVec::new(Opts::new(name, help), &labels))
    };
    let mut by_key = Vec::new();
    for (name, help, key) in FEATURE_GAUGES {
        by_key.push((family(name, help, &[])?, key));
    }
    let p_values = family(P_VALUE.0, P_VALUE.1, &["test"])?;
    let counts = family(FEATURE_ROWS.0, FEATURE_ROWS.1, &[])?;
    let invalid = family(INVALID.0, INVALID.1, &[])?;
    let (kept, dropped) = keep_worst(windows, series_budget);
    for (index, feature) in kept {
        let (result, size) = &windows[index];
        let Some(stats) = result.features.get(feature) else { continue };
        let labels = [result.model.as_str(), result.version.as_str(), size.as_str(), feature];
        counts.with_label_values(&labels).set(stats.n as f64);
        invalid.with_label_values(&labels).set(worst_flaw(stats));
        for (gauges, key) in &by_key {
            if let Some(value) = finite(stats, key) {
                gauges.with_label_values(&labels).set(value);
            }
        }
        for (test, p_value) in p_values_of(stats) {
            p_values.with_label_values(&[labels[0], labels[1], labels[2], labels[3], test]).set(p_value);
        }
    }
    let mut dropped_series = dropped_before;
    for (index, feature) in &dropped {
        let (result, size) = &windows[*index];
        dropped_series += result.features.get(*feature).map_or(0, series_of);
        if let Some((psi, _)) = by_key.first() {
            let other = psi.with_label_values(&[&result.model, &result.version, size, "_other"]);
            other.set(other.get().max(drift(result, feature)));
        }
    }
    let help = "Series of features and of performance left out to keep the series budget.";
    families.register("series_dropped", |name| IntGauge::new(name, help))?.set(dropped_series as i64);
    Ok(())
}

type FeatureOf<'a> = (usize, &'a str);

/// Features whose series fit the budget, and the others. Windows take turns, each giving its worst feature
/// first, so that a wide model cannot starve a narrow one.
fn keep_worst<'a>(
    windows: &[(&'a WindowResult, String)],
    series_budget: usize,
) -> (Vec<FeatureOf<'a>>, Vec<FeatureOf<'a>>) {
    let mut turns: Vec<(usize, usize, &str)> = Vec::new();
    for (index, (result, _)) in windows.iter().enumerate() {
        let ranked = worst_features(&[result]);
        turns.extend(ranked.into_iter().enumerate().map(|(rank, feature)| (rank, index, feature)));
    }
    turns.sort_unstable();
    let (mut kept, mut dropped) = (Vec::new(), Vec::new());
    // Each window may need one more series, for `_other`.
    let mut left = series_budget.saturating_sub(windows.len());
    for (_, index, feature) in turns {
        let needed = windows[index].0.features.get(feature).map_or(0, series_of);
        if dropped.is_empty() && needed <= left {
            left -= needed;
            kept.push((index, feature));
        } else {
            dropped.push((index, feature));
        }
    }
    (kept, dropped)
}

fn series_of(stats: &FeatureStats) -> usize {
    2 + FEATURE_GAUGES.iter().filter(|(_, _, key)| finite(stats, key).is_some()).count() + p_values_of(stats).count()
}

fn finite(stats: &FeatureStats, key: &str) -> Option<f64> {
    stats.metrics.get(key)?.value.filter(|value| value.is_finite())
}

fn p_values_of(stats: &FeatureStats) -> impl Iterator<Item = (&'static str, f64)> {
    ["psi", "ks", "chi_square"].into_iter().filter_map(|test| {
        let p_value = stats.metrics.get(test)?.p_value?;
        p_value.is_finite().then_some((test, p_value))
    })
}

/// Firing episodes by model, rule and severity; zero for every configured combination. A rule that
/// is no longer configured has no series.
fn count_firing(view: &View, watched: &Watched) -> BTreeMap<(String, String, &'static str), u64> {
    let mut counts = BTreeMap::new();
    let mut configured = BTreeSet::new();
    for rule in &watched.rules {
        for model in &rule.models {
            for severity in &rule.severities {
                counts.insert((model.clone(), rule.name.clone(), severity_name(*severity)), 0);
            }
        }
        configured.insert(rule.name.as_str());
    }
    for (_, episode) in view.episodes() {
        let Some(last) = episode.last() else { continue };
        let known = configured.contains(last.rule.as_str());
        if last.status == EpisodeStatus::Firing && known {
            *counts.entry((last.model.clone(), last.rule.clone(), severity_name(last.severity))).or_insert(0) += 1;
        }
    }
    counts
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
