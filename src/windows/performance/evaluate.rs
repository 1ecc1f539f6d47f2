//! The figures of a window: what was realised, what is estimated, and what the reference had.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::reference::segments::SegmentKey;
use crate::reference::{PerformanceBaseline, Reference};
use crate::stats::metric::{FeatureStats, MetricValue};
use crate::stats::performance::profile::{PerformanceLayout, PerformanceProfile};

use super::super::result::{Segment, WindowPerformance};
use super::super::state::References;
use super::super::watched::{WatchedModel, name_at};

/// A reference, ready for one model.
#[derive(Debug)]
pub(super) struct Opened {
    pub reference: Arc<Reference>,
    pub layout: Arc<PerformanceLayout>,
    /// `None`: it has no labels to compare with or to estimate by.
    baseline: Option<PerformanceBaseline>,
}

impl Opened {
    /// The error says why this reference is of no use.
    pub fn new(watched: &WatchedModel, id: &str, references: &dyn References) -> Result<Self, String> {
        let name = &watched.model.model;
        let reference = references.find(name, id).ok_or_else(|| {
            format!("the reference {id} of model {name} is not at hand; restore its file in the references directory")
        })?;
        let layout = reference
            .performance_layout(&watched.model)
            .ok_or_else(|| format!("the file of model {name} has no `performance`"))?;
        let baseline = PerformanceBaseline::open(&reference, &watched.model).unwrap_or_else(|reason| {
            tracing::warn!(model = %name, %reason, "performance has no baseline and no estimates");
            None
        });
        Ok(Self { reference, layout, baseline })
    }

    /// Metrics of the reference's labelled rows, and the number of these.
    fn baseline(&self, segment: Option<&SegmentKey>, thresholds: &[f64]) -> (BTreeMap<String, MetricValue>, u64) {
        let Some(baseline) = &self.baseline else { return (BTreeMap::new(), 0) };
        let mut metrics = baseline.metrics(segment).cloned().unwrap_or_default();
        for threshold in thresholds {
            let at = baseline.metrics_at(segment, *threshold).unwrap_or_default().into_iter();
            metrics.extend(at.map(|(name, value)| (name_at(&name, *threshold), value)));
        }
        (metrics, baseline.labelled(segment))
    }
}

fn key_of(segment: &Segment) -> Option<SegmentKey> {
    (!segment.is_all()).then(|| (segment.column.clone(), segment.value.clone()))
}

/// Everything that is known of a profile's rows: the realised metrics once a label is known, at other thresholds too,
/// estimates, and whether labels still mean at the same scores what they meant.
pub(super) fn metrics(
    watched: &WatchedModel,
    opened: &Opened,
    segment: &Segment,
    profile: &PerformanceProfile,
) -> BTreeMap<String, MetricValue> {
    let segment = key_of(segment);
    let mut metrics = profile.metrics(&opened.layout);
    for threshold in &watched.performance.thresholds {
        let at = profile.metrics_at(&opened.layout, *threshold).into_iter();
        metrics.extend(at.map(|(name, value)| (name_at(&name, *threshold), value)));
    }
    if let Some(baseline) = &opened.baseline {
        metrics.extend(baseline.estimates(segment.as_ref(), profile));
        metrics.extend(baseline.shifts(segment.as_ref(), profile));
    }
    metrics
}

pub(super) fn figures(
    watched: &WatchedModel,
    opened: &Opened,
    segment: &Segment,
    profile: &PerformanceProfile,
    is_final: bool,
) -> (FeatureStats, WindowPerformance) {
    let (baseline, n_reference) = opened.baseline(key_of(segment).as_ref(), &watched.performance.thresholds);
    let (predictions, labelled) = (profile.sampled(), profile.labelled());
    let label_coverage = if predictions == 0 { 0.0 } else { (labelled as f64 / predictions as f64).min(1.0) };
    let stats = FeatureStats {
        n: labelled,
        missing: predictions.saturating_sub(labelled),
        n_reference,
        metrics: metrics(watched, opened, segment, profile),
        ..FeatureStats::default()
    };
    let confusion = if segment.is_all() { profile.confusion(&opened.layout) } else { Vec::new() };
    let performance = WindowPerformance {
        predictions,
        labelled,
        label_coverage,
        is_final,
        baseline,
        confusion,
        ..WindowPerformance::default()
    };
    (stats, performance)
}
