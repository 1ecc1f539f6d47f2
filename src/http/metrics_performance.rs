//! Gauges of how well models do: figures of the window that stands for each, with the estimate of the newest.

use std::collections::BTreeMap;

use prometheus::{GaugeVec, Opts};

use super::{Watched, last_of_versions};
use crate::config::units::Span;
use crate::http::performance::{baseline, behind, estimate, figures, realised, standing};
use crate::http::view::{Series, SeriesKey, View};
use crate::stats::metric::MetricValue;
use crate::telemetry::Families;

/// Value of the label `segment` for all events.
const ALL: &str = "all";
/// Figures of a segment that have series: the first that people ask for.
const SEGMENT_FIGURES: usize = 3;
/// Part of the series budget that segments may take.
const SEGMENTS_PART: usize = 4;

const FIGURE_LABELS: [&str; 5] = ["model", "version", "window", "segment", "metric"];
const SEGMENT_LABELS: [&str; 4] = ["model", "version", "window", "segment"];
const METRIC_LABELS: [&str; 4] = ["model", "version", "window", "metric"];

/// A figure with both ends of its 95% interval.
struct Figures {
    value: GaugeVec,
    lower: GaugeVec,
    upper: GaugeVec,
}

struct Gauges {
    realised: Figures,
    estimate: Figures,
    baseline: GaugeVec,
    coverage: GaugeVec,
    labels: GaugeVec,
    end: GaugeVec,
    gap: GaugeVec,
    estimate_error: GaugeVec,
}

impl Gauges {
    fn register(families: &Families) -> Result<Self, prometheus::Error> {
        let gauges = |name: &str, help: &str, labels: &[&str]| {
            families.register(name, |name| GaugeVec::new(Opts::new(name, help), labels))
        };
        let figures = |name: &str, what: &str| -> Result<Figures, prometheus::Error> {
            let one = |name: &str, help: String| gauges(name, &help, &FIGURE_LABELS);
            Ok(Figures {
                value: one(name, format!("{what}."))?,
                lower: one(&format!("{name}_lower"), format!("{what}: lower end of the 95% interval."))?,
                upper: one(&format!("{name}_upper"), format!("{what}: upper end of the 95% interval."))?,
            })
        };
        Ok(Self {
            realised: figures("performance", "Figure of the newest window with enough labels")?,
            estimate: figures("performance_estimate", "Figure of the newest window, estimated without labels")?,
            baseline: gauges("performance_baseline", "Figure of the reference.", &METRIC_LABELS)?,
            coverage: gauges(
                "label_coverage_ratio",
                "Share of the predictions of the window behind driftline_performance whose label is known.",
                &SEGMENT_LABELS,
            )?,
            labels: gauges("performance_labels", "Labels behind driftline_performance.", &SEGMENT_LABELS)?,
            end: gauges(
                "performance_end_time_seconds",
                "End of the window behind the realised figures, and of the one behind estimates, epoch seconds.",
                &["model", "version", "window", "kind"],
            )?,
            gap: gauges(
                "performance_gap",
                "Largest difference of a figure between the values of a segment column.",
                &["model", "version", "window", "column", "metric"],
            )?,
            estimate_error: gauges(
                "performance_estimate_error",
                "Mean distance of past estimates to what labels said.",
                &METRIC_LABELS,
            )?,
        })
    }
}

/// Sets the gauges of all models. Series made, and series left out to keep the budget.
pub fn derive(
    families: &Families,
    view: &View,
    watched: &Watched,
    series_budget: usize,
) -> Result<(usize, usize), prometheus::Error> {
    let gauges = Gauges::register(families)?;
    let mut budget = Budget { left: series_budget, used: 0, dropped: 0 };
    let mut of_segments = Vec::new();
    for model in &watched.models {
        let whole = last_of_versions(view.performance_of(&model.name).filter(|(key, _)| key.segment.is_all()));
        for (key, series) in whole {
            set_whole(&gauges, key, series, &mut budget);
            let same = |other: &SeriesKey| {
                !other.segment.is_all() && other.version == key.version && other.size_ms == key.size_ms
            };
            of_segments.extend(view.performance_of(&model.name).filter(|(other, _)| same(other)));
        }
    }
    // The largest segments first.
    of_segments
        .sort_by_key(|(key, series)| (std::cmp::Reverse(series.values().next_back().map(|last| last.rows)), *key));
    budget.left = budget.left.min(series_budget / SEGMENTS_PART);
    for (key, series) in of_segments {
        set_segment(&gauges, key, series, &mut budget);
    }
    Ok((budget.used, budget.dropped))
}

struct Budget {
    left: usize,
    used: usize,
    dropped: usize,
}

impl Budget {
    fn take(&mut self, series: usize) -> bool {
        let fits = series <= self.left;
        if fits {
            self.left -= series;
            self.used += series;
        } else {
            self.dropped += series;
        }
        fits
    }
}

fn finite(metric: &MetricValue) -> Option<f64> {
    metric.value.filter(|value| value.is_finite())
}

impl Figures {
    fn set(&self, labels: &[&str; 5], metric: Option<&MetricValue>) {
        let Some(metric) = metric else { return };
        let ends = metric.interval.filter(|ends| ends.iter().all(|end| end.is_finite()));
        let Some(value) = finite(metric) else { return };
        self.value.with_label_values(labels).set(value);
        if let Some([lower, upper]) = ends {
            self.lower.with_label_values(labels).set(lower);
            self.upper.with_label_values(labels).set(upper);
        }
    }
}

fn set_whole(gauges: &Gauges, key: &SeriesKey, series: &Series, budget: &mut Budget) {
    let (Some(standing), Some(newest)) = (standing(series), series.values().next_back()) else { return };
    let size = Span::from_ms(key.size_ms).to_string();
    let (model, version) = (key.model.as_str(), key.version.as_str());
    let gaps: BTreeMap<(&str, &str), f64> = behind(standing)
        .into_iter()
        .flat_map(|performance| &performance.gaps)
        .filter_map(|gap| Some(((gap.column.as_str(), gap.metric.as_str()), finite(&gap.gap)?)))
        .collect();
    if budget.take(4) {
        set_labels(gauges, &[model, version, &size, ALL], standing);
        for (kind, result) in [("realised", standing), ("estimate", newest)] {
            let seconds = result.window.end_ms as f64 / 1_000.0;
            gauges.end.with_label_values(&[model, version, &size, kind]).set(seconds);
        }
    }
    for metric in figures([standing, newest].into_iter()) {
        // Value and interval, realised and estimated, the baseline, the error of past estimates.
        if !budget.take(8) {
            continue;
        }
        let labels = [model, version, &size, ALL, &metric];
        gauges.realised.set(&labels, realised(standing, &metric));
        gauges.estimate.set(&labels, estimate(newest, &metric));
        let labels = [model, version, &size, metric.as_str()];
        if let Some(value) = baseline(newest, &metric).and_then(finite) {
            gauges.baseline.with_label_values(&labels).set(value);
        }
        let error = behind(newest).and_then(|performance| performance.estimate_error.get(&metric));
        if let Some(error) = error.filter(|error| error.windows > 0 && error.mean_absolute_error.is_finite()) {
            gauges.estimate_error.with_label_values(&labels).set(error.mean_absolute_error);
        }
    }
    for ((column, metric), gap) in gaps {
        if budget.take(1) {
            gauges.gap.with_label_values(&[model, version, &size, column, metric]).set(gap);
        }
    }
}

fn set_segment(gauges: &Gauges, key: &SeriesKey, series: &Series, budget: &mut Budget) {
    let (Some(standing), Some(newest)) = (standing(series), series.values().next_back()) else { return };
    let (size, segment) = (Span::from_ms(key.size_ms).to_string(), key.segment.to_string());
    let names = figures([standing, newest].into_iter());
    let names = &names[..names.len().min(SEGMENT_FIGURES)];
    if !budget.take(2 + 6 * names.len()) {
        return;
    }
    set_labels(gauges, &[&key.model, &key.version, &size, &segment], standing);
    for metric in names {
        let labels = [key.model.as_str(), &key.version, &size, &segment, metric];
        gauges.realised.set(&labels, realised(standing, metric));
        gauges.estimate.set(&labels, estimate(newest, metric));
    }
}

fn set_labels(gauges: &Gauges, labels: &[&str; 4], standing: &crate::windows::result::WindowResult) {
    let Some(performance) = behind(standing) else { return };
    gauges.coverage.with_label_values(labels).set(performance.label_coverage);
    gauges.labels.with_label_values(labels).set(performance.labelled as f64);
}
