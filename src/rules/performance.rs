//! Results on performance as rules see them: which of a window's figures may be judged yet, and what they are.
//!
//! Labels come late. A condition on realised figures waits until enough of them are known; one on estimates does not,
//! and once the labels are there, the realised figure stands in the estimate's place: an alert that began with an
//! estimate is confirmed by it, or ends.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::compile::Rule;
use super::expression::{Expression, Figure, Limit};
use super::performance_metrics::{Basis, PerformanceMetric, estimate_of, estimated_by};
use super::state::Mute;
use crate::stats::metric::{FeatureStats, MetricValue};
use crate::stats::performance::difference::{Gap, combination, difference, largest_gap};
use crate::windows::result::{PERFORMANCE_FEATURE, Segment, WindowPerformance, WindowResult};

/// What `signal: performance` and `labels:` of a rule say.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OnPerformance {
    /// Share of a window's predictions whose label must be known, 0 to 1.
    pub min_coverage: f64,
    /// `None`: the model's own.
    pub delay_ms: Option<i64>,
}

/// Labels that a rule needs where it does not say.
pub const DEFAULT_MIN_COVERAGE: f64 = 0.8;

impl Expression {
    /// Whether it asks for figures that rest on labels.
    pub fn needs_labels(&self) -> bool {
        self.figures.iter().any(|(figure, _)| figure.metric.basis == Basis::Labels)
    }

    /// Whether it asks how many labels there are, and for nothing else.
    fn is_about_coverage(&self) -> bool {
        !self.metrics.is_empty() && self.figures.len() == self.metrics.len() && {
            self.figures.iter().all(|(figure, _)| figure.metric.basis == Basis::Progress)
        }
    }
}

/// Why `expression` cannot be asked of this window yet.
pub fn gate(rule: &Rule, needs: OnPerformance, result: &WindowResult, expression: &Expression) -> Option<Mute> {
    let performance = result.performance.as_ref()?;
    if expression.needs_labels() && performance.label_coverage < needs.min_coverage {
        return Some(Mute::InsufficientLabels);
    }
    // How many labels there are is known once no more can come.
    if expression.is_about_coverage() && !performance.is_final {
        return Some(Mute::InsufficientLabels);
    }
    let sample = if expression.needs_labels() { performance.labelled } else { result.rows };
    if sample < rule.min_samples {
        return Some(Mute::InsufficientSamples);
    }
    let compared = || expression.figures.iter().filter(|(figure, _)| figure.metric.baseline && !figure.gap);
    let has_baseline = || compared().any(|(figure, _)| baseline(performance, figure).value.is_some());
    (!expression.baselines.is_empty() && !has_baseline()).then_some(Mute::NoReference)
}

/// The reference's value; of an estimate, what the metric really was there.
fn baseline(performance: &WindowPerformance, figure: &Figure) -> MetricValue {
    let key = figure.key();
    let of = |name: &str| performance.baseline.get(name).copied();
    let realised = estimated_by(&key).and_then(|realised| of(realised.metric.name));
    realised.or_else(|| of(&key)).unwrap_or_else(MetricValue::undefined)
}

/// A figure of the window, and whether it is an estimate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reading {
    pub metric: &'static PerformanceMetric,
    pub value: MetricValue,
}

impl Reading {
    pub fn is_estimate(&self) -> bool {
        self.metric.basis == Basis::Estimate
    }
}

/// What a finding on performance rests on.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PerformanceFinding {
    /// The value is an estimate: the labels are not known yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub estimated: bool,
    /// What the metric was estimated to be before labels, with its band.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimate: Option<MetricValue>,
    /// Of an alert that an estimate raised, once the labels are known: whether the realised figure breaches the rule,
    /// too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirmed: Option<bool>,
    /// The reference's value, and how far above it the window's is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<MetricValue>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub difference: Option<MetricValue>,
    /// Predictions of the window that a label can meet, those whose label is known, and the share of these, 0 to 1.
    pub predictions: u64,
    pub labelled: u64,
    pub label_coverage: f64,
    /// Of `gap(...)`: the two groups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap: Option<SegmentGap>,
}

/// One result on performance, and what a rule may see of it.
#[derive(Debug, Clone)]
pub struct Sight<'a> {
    pub result: &'a WindowResult,
    pub performance: &'a WindowPerformance,
    pub stats: &'a FeatureStats,
    /// Enough labels are known for realised figures.
    pub labels_suffice: bool,
    predictions_suffice: bool,
    /// For gaps: the columns of the rule with their groups, where this is the whole.
    columns: Vec<(String, Vec<Sight<'a>>)>,
}

/// Between whom a gap is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SegmentGap {
    pub highest: GroupFigure,
    pub lowest: GroupFigure,
}

/// A segment's value of the metric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GroupFigure {
    pub segment: Segment,
    pub value: MetricValue,
}

impl<'a> Sight<'a> {
    /// `family`: everything that the rule looks at in this window.
    pub fn of(rule: &Rule, result: &'a WindowResult, family: &[&'a WindowResult]) -> Option<Self> {
        let needs = rule.performance?;
        let mut sight = Self::alone(rule, needs, result)?;
        if result.segment.is_all() {
            let groups = |column: &String| {
                let of_column = family.iter().filter(|other| other.segment.column == *column && other.complete);
                of_column.filter_map(|other| Self::alone(rule, needs, other)).collect()
            };
            sight.columns = rule.segments.iter().map(|column| (column.clone(), groups(column))).collect();
        }
        Some(sight)
    }

    fn alone(rule: &Rule, needs: OnPerformance, result: &'a WindowResult) -> Option<Self> {
        let performance = result.performance.as_ref()?;
        let stats = result.features.get(PERFORMANCE_FEATURE)?;
        let labels_suffice =
            performance.label_coverage >= needs.min_coverage && performance.labelled >= rule.min_samples.max(1);
        let predictions_suffice = result.rows >= rule.min_samples;
        Some(Self { result, performance, stats, labels_suffice, predictions_suffice, columns: Vec::new() })
    }

    /// What stands for the figure in this window: of an estimate, the realised figure once it is known.
    pub fn reading(&self, figure: &Figure) -> Reading {
        let metric = figure.metric;
        if metric.metric.name == "label_coverage" {
            return Reading { metric, value: MetricValue::exact(self.performance.label_coverage) };
        }
        if let Some(realised) = estimated_by(metric.metric.name).filter(|_| self.labels_suffice) {
            let found = self.stored(realised.metric.name);
            if found.value.is_some() {
                return Reading { metric: realised, value: found };
            }
        }
        Reading { metric, value: self.stored(&figure.key()) }
    }

    fn stored(&self, name: &str) -> MetricValue {
        self.stats.metrics.get(name).copied().unwrap_or_else(MetricValue::undefined)
    }

    /// The value that a condition sees: the figure itself, or its gap.
    pub fn value(&self, figure: &Figure) -> MetricValue {
        match figure.gap {
            true => self.gap(figure).map_or_else(MetricValue::undefined, |(value, _)| value),
            false => self.reading(figure).value,
        }
    }

    /// The reference's value; of an estimate, what the metric really was there.
    pub fn baseline(&self, figure: &Figure) -> MetricValue {
        if figure.gap { MetricValue::undefined() } else { baseline(self.performance, figure) }
    }

    /// What the figure was estimated to be before its labels came.
    pub fn estimate(&self, figure: &Figure) -> Option<MetricValue> {
        if figure.at.is_some() || figure.gap {
            return None;
        }
        let name = figure.metric.metric.name;
        let estimate = if figure.metric.basis == Basis::Estimate { Some(figure.metric) } else { estimate_of(name) };
        Some(self.stored(estimate?.metric.name)).filter(|value| value.value.is_some())
    }

    /// The largest gap within any of the rule's segment columns. Groups that the rule would not judge alone have no
    /// part in it.
    fn gap(&self, figure: &Figure) -> Option<(MetricValue, SegmentGap)> {
        let rests_on_labels = figure.metric.basis == Basis::Labels;
        let counts =
            |group: &&Sight<'a>| if rests_on_labels { group.labels_suffice } else { group.predictions_suffice };
        // Estimates stay estimates here: those of some groups against realised figures of others would be no gap.
        let key = figure.key();
        let columns: Vec<Vec<(&Segment, MetricValue)>> = self
            .columns
            .iter()
            .map(|(_, groups)| {
                let groups = groups.iter().filter(counts);
                groups.map(|group| (&group.result.segment, group.stored(&key))).collect()
            })
            .collect();
        let values: Vec<Vec<MetricValue>> =
            columns.iter().map(|groups| groups.iter().map(|(_, value)| *value).collect()).collect();
        let Gap { column, highest, lowest, value } = largest_gap(&values)?;
        let group = |place: usize| {
            let (segment, value) = columns[column][place];
            GroupFigure { segment: segment.clone(), value }
        };
        Some((value, SegmentGap { highest: group(highest), lowest: group(lowest) }))
    }

    /// What a finding by this figure says beside its value.
    pub fn finding(&self, figure: &Figure) -> PerformanceFinding {
        let reading = self.reading(figure);
        let baseline = Some(self.baseline(figure)).filter(|baseline| baseline.value.is_some());
        let difference = |baseline: &MetricValue| difference(&reading.value, baseline);
        PerformanceFinding {
            estimated: reading.is_estimate(),
            estimate: self.estimate(figure),
            confirmed: None,
            difference: baseline.as_ref().map(difference).filter(|difference| difference.value.is_some()),
            baseline,
            predictions: self.performance.predictions,
            labelled: self.performance.labelled,
            label_coverage: self.performance.label_coverage,
            gap: if figure.gap { self.gap(figure).map(|(_, gap)| gap) } else { None },
        }
    }

    /// Whether the whole interval lies beyond the limit; `None`: there is no interval.
    pub fn is_beyond(&self, limit: &Limit) -> Option<bool> {
        let value = self.value(&limit.figure);
        let compared = match limit.baseline_scale == 0.0 {
            true => value,
            false => combination(&value, limit.baseline_scale, &self.baseline(&limit.figure)),
        };
        // A value that is only known to within a bound is as unsure as that, too.
        let bound = compared.bound.unwrap_or(0.0);
        let [low, high] = compared.interval?;
        Some(if limit.above { low - bound > limit.limit } else { high + bound < limit.limit })
    }
}
