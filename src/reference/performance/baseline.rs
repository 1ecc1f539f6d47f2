//! The reference's performance, ready for one model: decoded and fitted once, asked for every window.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Expectation, JudgedBy, PerformanceReference};
use crate::config::model::Model;
use crate::reference::Reference;
use crate::reference::segments::SegmentKey;
use crate::stats::metric::MetricValue;
use crate::stats::performance::calibration_shift::{LabelledCell, calibration_shift};
use crate::stats::performance::confidence_based::binary::{self, ExpectedCell, ScoreCell};
use crate::stats::performance::confidence_based::multiclass::{self, ExpectedConfusion};
use crate::stats::performance::direct_loss::DirectLoss;
use crate::stats::performance::direct_loss::estimate::{self, ExpectedLosses};
use crate::stats::performance::isotonic::{Isotonic, ScoredRows};
use crate::stats::performance::profile::{
    ClassGroup, Group, Moments, MulticlassOutcomes, PerformanceLayout, PerformanceProfile, RegressionOutcomes,
};
use crate::stats::welch;

/// Drift of P(label | score), a metric of classifiers.
pub const CALIBRATION_SHIFT: &str = "calibration_shift";
/// Mean error of the window less that of the reference, a metric of models that predict a number.
pub const BIAS_SHIFT: &str = "bias_shift";

/// A segment has a curve of its own from so many positives and negatives on.
const FEWEST_OF_CLASS: u64 = 20;

/// What a model's windows are compared with, and estimated by.
#[derive(Debug)]
pub struct PerformanceBaseline {
    layout: Arc<PerformanceLayout>,
    whole: Part,
    segments: BTreeMap<SegmentKey, Part>,
    losses: Option<DirectLoss>,
}

/// The whole or one segment.
#[derive(Debug)]
struct Part {
    profile: PerformanceProfile,
    metrics: BTreeMap<String, MetricValue>,
    /// One for a binary model, one a class for several; empty: nothing can be expected.
    curves: Vec<Isotonic>,
}

impl Reference {
    /// The layout of performance profiles of this model's rows while this reference is in force; `None` where the model
    /// file has no `performance`.
    pub fn performance_layout(&self, model: &Model) -> Option<Arc<PerformanceLayout>> {
        let classes = self.performance.as_ref().map(|performance| performance.classes.as_slice()).unwrap_or_default();
        PerformanceLayout::of(model, classes)
    }
}

impl PerformanceBaseline {
    /// `Ok(None)` where the model file has no `performance`, or the reference no labels. The error says that the model
    /// file judges rows otherwise than when the reference was built: nothing can be compared then.
    pub fn open(reference: &Reference, model: &Model) -> Result<Option<Self>, String> {
        let (Some(performance), Some(judged_by)) = (&reference.performance, JudgedBy::of(model)) else {
            return Ok(None);
        };
        if performance.judged_by != judged_by {
            return Err(format!(
                "reference `{}` ({}) of model `{}` was built under another `performance`, `prediction` or `score` than \
                 the model file has now: build it again with `driftline reference build`",
                reference.name, reference.id, model.model
            ));
        }
        let Some(layout) = reference.performance_layout(model) else { return Ok(None) };
        Ok(Some(Self::of(performance, layout)))
    }

    fn of(performance: &PerformanceReference, layout: Arc<PerformanceLayout>) -> Self {
        let curves = match &performance.expectation {
            Expectation::Binary(curve) => vec![curve.clone()],
            Expectation::Multiclass(curves) => curves.clone(),
            Expectation::None | Expectation::Regression(_) => Vec::new(),
        };
        let losses = match &performance.expectation {
            Expectation::Regression(losses) => Some((**losses).clone()),
            _ => None,
        };
        let part = |profile: &PerformanceProfile, curves: Vec<Isotonic>| Part {
            metrics: profile.metrics(&layout),
            profile: profile.clone(),
            curves,
        };
        let segments = performance.segments.iter().map(|(key, profile)| {
            let own = curves_of_segment(profile, curves.len());
            (key.clone(), part(profile, own))
        });
        let segments = segments.collect();
        Self { whole: part(&performance.profile, curves), segments, losses, layout }
    }

    pub fn layout(&self) -> &Arc<PerformanceLayout> {
        &self.layout
    }

    /// `None`: the whole.
    fn part(&self, segment: Option<&SegmentKey>) -> Option<&Part> {
        segment.map_or(Some(&self.whole), |segment| self.segments.get(segment))
    }

    /// Metrics of the reference's labelled rows, of one segment or of the whole; `None` where it has no such segment.
    pub fn metrics(&self, segment: Option<&SegmentKey>) -> Option<&BTreeMap<String, MetricValue>> {
        self.part(segment).map(|part| &part.metrics)
    }

    /// The same at another threshold of a binary model's score.
    pub fn metrics_at(&self, segment: Option<&SegmentKey>, threshold: f64) -> Option<BTreeMap<String, MetricValue>> {
        self.part(segment).map(|part| part.profile.metrics_at(&self.layout, threshold))
    }

    /// Labelled rows of the reference.
    pub fn labelled(&self, segment: Option<&SegmentKey>) -> u64 {
        self.part(segment).map_or(0, |part| part.profile.labelled())
    }

    /// Metrics without labels of a window of this segment, or of the whole, by name: `est_*`, each with its 95% band,
    /// and a binary model's expected counts `exp_*`. Empty where nothing can be expected.
    pub fn estimates(
        &self,
        segment: Option<&SegmentKey>,
        window: &PerformanceProfile,
    ) -> BTreeMap<String, MetricValue> {
        let Some(part) = self.part(segment) else { return BTreeMap::new() };
        let found = if let (Some(outcomes), [curve]) = (window.binary(), part.curves.as_slice()) {
            binary::estimates(curve, outcomes.predictions().iter().map(score_cell).collect())
        } else if let Some(outcomes) = window.multiclass() {
            self.estimates_of_classes(part, outcomes)
        } else if let (Some(outcomes), Some(losses)) = (window.regression(), &self.losses) {
            estimate::estimates(losses.held_out(), &expected_losses(outcomes))
        } else {
            Vec::new()
        };
        found.into_iter().map(|(name, value)| (name.to_string(), value)).collect()
    }

    /// Chances come with the predictions, by the curves of the whole.
    fn estimates_of_classes(&self, part: &Part, window: &MulticlassOutcomes) -> Vec<(&'static str, MetricValue)> {
        let classes = self.layout.classes().len();
        let curves = &self.whole.curves;
        if curves.len() != classes || window.expected().is_empty() {
            return Vec::new();
        }
        let table = window.expected();
        let cell =
            |predicted: usize, class: usize| table.get(&(predicted as u32, class as u32)).copied().unwrap_or(0.0);
        let sums = ExpectedConfusion {
            predicted: (0..=classes as u32).map(|class| window.predicted().get(&class).copied().unwrap_or(0)).collect(),
            expected: (0..=classes)
                .map(|predicted| (0..classes).map(|class| cell(predicted, class)).collect())
                .collect(),
        };
        let mut of_reference = vec![0u64; classes + 1];
        for ((_, predicted), rows) in part.profile.multiclass().map(MulticlassOutcomes::confusion).unwrap_or_default() {
            if let Some(sum) = of_reference.get_mut(predicted as usize) {
                *sum += rows;
            }
        }
        let cells = |class: usize| {
            let groups = window.class_predictions(class).into_iter();
            let cell = |group: ClassGroup| ExpectedCell {
                low: group.least,
                high: group.most,
                rows: group.rows,
                expected: group.expected,
            };
            groups.map(cell).collect()
        };
        let scores = if self.layout.has_class_scores() { (0..classes).map(cells).collect() } else { Vec::new() };
        multiclass::estimates(&sums, &of_reference, curves, scores)
    }

    /// Whether the labelled rows of a window mean what the reference's did at the same scores: `calibration_shift`; of
    /// a model that predicts a number, whether its errors have another mean: `bias_shift`. Each with its p-value; empty
    /// without labels on either side.
    pub fn shifts(&self, segment: Option<&SegmentKey>, window: &PerformanceProfile) -> BTreeMap<String, MetricValue> {
        let Some(part) = self.part(segment) else { return BTreeMap::new() };
        let found = if let (Some(now), Some(before)) = (window.binary(), part.profile.binary()) {
            let cells = |groups: Vec<Group<4>>| groups.iter().map(binary_cell).collect::<Vec<_>>();
            let (before, now) = (cells(before.labelled()), cells(now.labelled()));
            part.curves.first().map(|curve| (CALIBRATION_SHIFT, calibration_shift(curve, &before, &now)))
        } else if let (Some(now), Some(before)) = (window.multiclass(), part.profile.multiclass()) {
            shift_of_classes(&part.curves, before, now).map(|shift| (CALIBRATION_SHIFT, shift))
        } else if let (Some(now), Some(before)) = (window.regression(), part.profile.regression()) {
            bias_shift(before.error(), now.error()).map(|shift| (BIAS_SHIFT, shift))
        } else {
            None
        };
        let given = found.into_iter().filter(|(_, shift)| shift.value.is_some());
        given.map(|(name, shift)| (name.to_string(), shift)).collect()
    }
}

fn score_cell(group: &Group<2>) -> ScoreCell {
    let [predicted_negative, predicted_positive] = group.counts;
    ScoreCell { low: group.least, high: group.most, predicted_negative, predicted_positive }
}

fn binary_cell(group: &Group<4>) -> LabelledCell {
    let [true_negatives, false_positives, false_negatives, true_positives] = group.counts;
    LabelledCell {
        low: group.least,
        high: group.most,
        negatives: true_negatives + false_positives,
        positives: false_negatives + true_positives,
    }
}

fn class_cell(group: &Group<2>) -> LabelledCell {
    let [negatives, positives] = group.counts;
    LabelledCell { low: group.least, high: group.most, negatives, positives }
}

/// A segment means by its scores what its own rows say, where these are enough; as many curves as the whole has.
fn curves_of_segment(profile: &PerformanceProfile, curves: usize) -> Vec<Isotonic> {
    let cells: Vec<Vec<LabelledCell>> = if let Some(outcomes) = profile.binary() {
        vec![outcomes.labelled().iter().map(binary_cell).collect()]
    } else if let Some(outcomes) = profile.multiclass() {
        (0..curves).map(|class| outcomes.class_labelled(class).iter().map(class_cell).collect()).collect()
    } else {
        Vec::new()
    };
    let fitted: Option<Vec<Isotonic>> = cells.iter().take(curves).map(|cells| curve_of(cells)).collect();
    fitted.unwrap_or_default()
}

fn curve_of(cells: &[LabelledCell]) -> Option<Isotonic> {
    let sum = |of: fn(&LabelledCell) -> u64| cells.iter().map(of).sum::<u64>();
    let enough = sum(|cell| cell.positives).min(sum(|cell| cell.negatives)) >= FEWEST_OF_CLASS;
    let rows = cells.iter().map(|cell| ScoredRows {
        score: cell.score(),
        rows: cell.negatives + cell.positives,
        positives: cell.positives,
    });
    if enough { Isotonic::fit_counts(rows) } else { None }
}

fn expected_losses(outcomes: &RegressionOutcomes) -> ExpectedLosses {
    let (absolute, squared) = (outcomes.expected_absolute(), outcomes.expected_squared());
    ExpectedLosses {
        rows: absolute.n(),
        sums: [absolute.sum(), squared.sum()],
        squares: [absolute.squares(), squared.squares()],
    }
}

/// The mean over the classes of each one's shift against the rest, and the smallest of their p-values times their
/// number (Bonferroni): classes are tested together.
fn shift_of_classes(curves: &[Isotonic], before: &MulticlassOutcomes, now: &MulticlassOutcomes) -> Option<MetricValue> {
    let cells = |outcomes: &MulticlassOutcomes, class: usize| {
        outcomes.class_labelled(class).iter().map(class_cell).collect::<Vec<_>>()
    };
    let of_class =
        |(class, curve): (usize, &Isotonic)| calibration_shift(curve, &cells(before, class), &cells(now, class));
    let shifts: Vec<MetricValue> = curves.iter().enumerate().map(of_class).collect();
    let classes = shifts.len() as f64;
    let value = shifts.iter().map(|shift| shift.value).sum::<Option<f64>>()? / classes;
    let bound = shifts.iter().filter_map(|shift| shift.bound).sum::<f64>() / classes;
    let least = shifts.iter().filter_map(|shift| shift.p_value).reduce(f64::min);
    let p_value = least.map(|p| (p * classes).min(1.0));
    (classes > 0.0).then(|| MetricValue { bound: Some(bound), p_value, ..MetricValue::exact(value) }.tidy())
}

fn bias_shift(before: &Moments, now: &Moments) -> Option<MetricValue> {
    let side = |moments: &Moments| {
        Some(welch::Moments { n: moments.n(), mean: moments.mean()?, variance: moments.variance().unwrap_or(f64::NAN) })
    };
    let (before, now) = (side(before)?, side(now)?);
    let p_value = welch::welch_t_test(before, now).map(|(_, p)| p);
    Some(MetricValue::exact(now.mean - before.mean).with_p(p_value).tidy())
}
