//! From two profiles of one vector layout to metrics, and to what moved.

use std::cell::OnceCell;

use super::classifier_auc::classifier_auc;
use super::layout::VectorLayout;
use super::mean_cosine_distance;
use super::measure::SAMPLE_WIDTH;
use super::mmd2;
use super::pca_reconstruction_error::{ReconstructionError, reconstruction_error};
use super::profile::VectorProfile;
use crate::stats::labels::significant;
use crate::stats::metric::{MetricValue, VectorMove};

/// Entries and axes named as having moved.
const NAMED_ENTRIES: usize = 5;
const NAMED_AXES: usize = 3;
/// Entries named in the description of an axis.
const NAMED_LOADINGS: usize = 3;
/// What moved by fewer standard errors than this is not named: among 2048 entries chance reaches 3.5.
const LEAST_STANDARD_ERRORS: f64 = 4.0;

/// Two profiles of one layout, with rows in them.
pub struct VectorPair<'a> {
    layout: &'a VectorLayout,
    reference: &'a VectorProfile,
    window: &'a VectorProfile,
    error: OnceCell<Option<ReconstructionError>>,
}

type Statistic = for<'a> fn(&VectorPair<'a>) -> Option<MetricValue>;

/// Name and statistic; `None` where a side has too few rows for it.
pub const STATISTICS: &[(&str, Statistic)] = &[
    ("mmd2", |pair| pair.mmd2()),
    ("pca_reconstruction_error", |pair| pair.pca_reconstruction_error()),
    ("pca_reconstruction_shift", |pair| pair.pca_reconstruction_shift()),
    ("mean_cosine_distance", |pair| pair.mean_cosine_distance()),
    ("classifier_auc", |pair| pair.classifier_auc()),
    ("incomplete_rate", |pair| pair.incomplete_rate()),
];

impl<'a> VectorPair<'a> {
    pub fn new(layout: &'a VectorLayout, reference: &'a VectorProfile, window: &'a VectorProfile) -> Self {
        Self { layout, reference, window, error: OnceCell::new() }
    }

    fn mmd2(&self) -> Option<MetricValue> {
        let (reference, window) = (self.reference.mean_features(), self.window.mean_features());
        let (n_reference, n) = (self.reference.n(), self.window.n());
        let value = mmd2::mmd2(&reference, n_reference, &window, n)?;
        let p_value = mmd2::p_value(&self.layout.parts().features_law, &reference, n_reference, &window, n);
        Some(MetricValue { p_value, ..MetricValue::exact(value) })
    }

    fn mean_cosine_distance(&self) -> Option<MetricValue> {
        let (reference, window) = (self.reference.mean_direction(), self.window.mean_direction());
        let (n_reference, n) = (self.reference.n(), self.window.n());
        let value = mean_cosine_distance::mean_cosine_distance(&reference, n_reference, &window, n)?;
        let law = &self.layout.parts().directions_law;
        let p_value = mean_cosine_distance::p_value(law, &reference, n_reference, &window, n);
        Some(MetricValue { p_value, ..MetricValue::exact(value) })
    }

    fn error(&self) -> Option<ReconstructionError> {
        let (reference, window) = (self.reference, self.window);
        let of = || {
            reconstruction_error(reference.error_moments(), reference.judged(), window.error_moments(), window.judged())
        };
        *self.error.get_or_init(of)
    }

    fn pca_reconstruction_error(&self) -> Option<MetricValue> {
        self.error().map(|error| MetricValue { p_value: Some(error.p_value), ..MetricValue::exact(error.mean) })
    }

    fn pca_reconstruction_shift(&self) -> Option<MetricValue> {
        self.error().map(|error| MetricValue { p_value: Some(error.p_value), ..MetricValue::exact(error.shift) })
    }

    fn classifier_auc(&self) -> Option<MetricValue> {
        let width = self.layout.dimension().min(SAMPLE_WIDTH);
        let found = classifier_auc(&self.reference.sample(), &self.window.sample(), width)?;
        Some(MetricValue { p_value: Some(found.p_value), ..MetricValue::exact(found.auc) })
    }

    /// Share of the rows that have some entry but not all.
    fn incomplete_rate(&self) -> Option<MetricValue> {
        let rows = self.window.n() + self.window.nulls() + self.window.incomplete();
        Some(MetricValue::exact(self.window.incomplete() as f64 / rows as f64))
    }
}

/// The entries whose mean moved most and the principal axes whose variance changed most, largest first; only what
/// chance does not explain.
pub fn moves(layout: &VectorLayout, reference: &VectorProfile, window: &VectorProfile) -> Vec<VectorMove> {
    let standard_error = (1.0 / reference.n() as f64 + 1.0 / window.n() as f64).sqrt();
    let shifts = reference.mean_entries().into_iter().zip(window.mean_entries()).map(|(before, now)| now - before);
    let mut entries: Vec<(usize, f64)> = shifts.enumerate().collect();
    entries.retain(|(_, shift)| shift.abs() >= LEAST_STANDARD_ERRORS * standard_error);
    entries.sort_by(|left, right| right.1.abs().total_cmp(&left.1.abs()).then(left.0.cmp(&right.0)));
    let mut moved: Vec<VectorMove> = entries
        .iter()
        .take(NAMED_ENTRIES)
        .map(|(entry, shift)| VectorMove {
            label: layout.entry_name(*entry),
            mean_shift: Some(*shift),
            variance_ratio: None,
        })
        .collect();
    // The logarithm of a ratio of two variances of normal scores has this standard error.
    let of_ratio = LEAST_STANDARD_ERRORS * (2.0 / reference.judged() as f64 + 2.0 / window.judged() as f64).sqrt();
    let ratios = reference.mean_squares().into_iter().zip(window.mean_squares()).map(|(before, now)| now / before);
    let mut axes: Vec<(usize, f64)> = ratios.enumerate().collect();
    axes.retain(|(_, ratio)| *ratio > 0.0 && ratio.is_finite() && ratio.ln().abs() >= of_ratio);
    axes.sort_by(|left, right| right.1.ln().abs().total_cmp(&left.1.ln().abs()).then(left.0.cmp(&right.0)));
    moved.extend(axes.iter().take(NAMED_AXES).map(|(axis, ratio)| VectorMove {
        label: axis_label(layout, *axis),
        mean_shift: None,
        variance_ratio: Some(*ratio),
    }));
    moved
}

/// `axis 1 (amount 0.71, income -0.69)`: the entries with the largest weights.
fn axis_label(layout: &VectorLayout, axis: usize) -> String {
    let Some(weights) = layout.parts().components.get(axis) else { return format!("axis {}", axis + 1) };
    let mut entries: Vec<(usize, f32)> = weights.iter().copied().enumerate().collect();
    entries.sort_by(|left, right| right.1.abs().total_cmp(&left.1.abs()).then(left.0.cmp(&right.0)));
    let named: Vec<String> = entries
        .iter()
        .take(NAMED_LOADINGS)
        .map(|(entry, weight)| format!("{} {}", layout.entry_name(*entry), significant(f64::from(*weight), 2)))
        .collect();
    format!("axis {} ({})", axis + 1, named.join(", "))
}
