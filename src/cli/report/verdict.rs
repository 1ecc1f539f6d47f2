//! Judges a window: effect size and significance together, corrected for the number of questions asked.

use super::compute::{FeatureReport, FeatureWindow};
use crate::config::model::Kind;
use crate::stats::chi_square::contingency;
use crate::stats::multiple_testing::benjamini_hochberg;
use crate::stats::psi::{SHARE_FLOOR, population_stability_index};

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Thresholds {
    pub psi_above: f64,
    pub significance: f64,
    pub min_samples: u64,
}

/// What one window's features did.
#[derive(Debug, Clone, PartialEq)]
pub struct WindowVerdict {
    /// Features that drifted, worst first.
    pub drifted: Vec<Drift>,
    /// Positions of features with too few values to judge.
    pub too_small: Vec<usize>,
    /// Features judged.
    pub judged: usize,
    /// Tests over which p-values are adjusted.
    pub tests: usize,
    /// Adjusted p-value of the distribution test, by feature; `None` where there was no test.
    pub adjusted: Vec<Option<f64>>,
}

impl WindowVerdict {
    pub fn has_drift(&self) -> bool {
        !self.drifted.is_empty()
    }
}

/// One drifted feature.
#[derive(Debug, Clone, PartialEq)]
pub struct Drift {
    /// Position among the features.
    pub feature: usize,
    pub cause: Cause,
    pub psi: f64,
    pub adjusted_p: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The values are distributed otherwise.
    Distribution,
    /// The share of missing values changed.
    Missing,
}

struct Question {
    feature: usize,
    cause: Cause,
    psi: f64,
    p: f64,
}

/// A feature has drifted where its population stability index and its adjusted p-value both say so: of its values (KS
/// with Stephens' correction; chi-square on categories), or of being missing (chi-square).
pub fn judge(window: usize, features: &[FeatureReport], thresholds: &Thresholds) -> WindowVerdict {
    let (mut questions, mut too_small) = (Vec::new(), Vec::new());
    for (position, feature) in features.iter().enumerate() {
        let values = &feature.windows[window];
        if values.rows.min(values.reference_rows) < thresholds.min_samples {
            too_small.push(position);
            continue;
        }
        questions.extend(missing_question(position, values));
        if values.count("n").min(values.count("n_ref")) >= thresholds.min_samples {
            questions.extend(distribution_question(position, feature.kind, values));
        }
    }
    let adjusted = benjamini_hochberg(&questions.iter().map(|question| question.p).collect::<Vec<_>>());
    let mut drifted: Vec<Drift> = questions
        .iter()
        .zip(&adjusted)
        .filter(|(question, p)| question.psi > thresholds.psi_above && **p < thresholds.significance)
        .map(|(question, p)| Drift {
            feature: question.feature,
            cause: question.cause,
            psi: question.psi,
            adjusted_p: *p,
        })
        .collect();
    drifted.sort_by(|a, b| b.psi.total_cmp(&a.psi));
    let mut by_feature = vec![None; features.len()];
    for (question, p) in questions.iter().zip(&adjusted) {
        if question.cause == Cause::Distribution {
            by_feature[question.feature] = Some(*p);
        }
    }
    let judged = features.len() - too_small.len();
    WindowVerdict { drifted, too_small, judged, tests: questions.len(), adjusted: by_feature }
}

fn distribution_question(feature: usize, kind: Kind, values: &FeatureWindow) -> Option<Question> {
    let (psi, p) = match kind {
        Kind::Numeric => (values.metric("psi_q10")?, values.metric("ks_p_stephens")?),
        Kind::Categorical => (values.metric("psi")?, values.metric("chi2_p")?),
        Kind::Vector => return None,
    };
    Some(Question { feature, cause: Cause::Distribution, psi, p })
}

/// Only where some value is missing on either side.
fn missing_question(feature: usize, values: &FeatureWindow) -> Option<Question> {
    let (n_ref, n) = (values.count("n_ref"), values.count("n"));
    let (reference, window) = ([n_ref, values.reference_rows - n_ref], [n, values.rows - n]);
    let test = contingency(&reference, &window)?;
    let share = |counts: [u64; 2]| counts.map(|count| count as f64 / counts.iter().sum::<u64>() as f64);
    let psi = population_stability_index(&share(reference), &share(window), SHARE_FLOOR);
    Some(Question { feature, cause: Cause::Missing, psi, p: test.p_value })
}

#[cfg(test)]
mod tests {
    use super::*;

    const THRESHOLDS: Thresholds = Thresholds { psi_above: 0.1, significance: 0.01, min_samples: 100 };

    fn numeric(psi: f64, p: f64, n: u64, rows: u64) -> FeatureReport {
        let metrics =
            vec![("n_ref", Some(1000.0)), ("n", Some(n as f64)), ("psi_q10", Some(psi)), ("ks_p_stephens", Some(p))];
        let (bounds, bins) = Default::default();
        let window = FeatureWindow { rows, reference_rows: 1000, metrics, bounds, bins, reference_median: None };
        FeatureReport { name: "x".into(), kind: Kind::Numeric, windows: vec![window] }
    }

    #[test]
    fn drift_needs_effect_and_significance() {
        let features = [
            numeric(0.5, 0.5, 500, 500),
            numeric(0.05, 1e-9, 500, 500),
            numeric(0.2, 1e-9, 500, 500),
            numeric(0.3, 1e-9, 500, 500),
        ];
        let verdict = judge(0, &features, &THRESHOLDS);
        let drifted: Vec<usize> = verdict.drifted.iter().map(|drift| drift.feature).collect();
        assert_eq!(drifted, [3, 2], "worst first");
        assert_eq!((verdict.judged, verdict.tests), (4, 4));
    }

    #[test]
    fn asking_about_many_features_asks_for_more_significance() {
        let mut features = vec![numeric(0.2, 0.002, 500, 500)];
        assert!(judge(0, &features, &THRESHOLDS).has_drift());
        features.extend((0..9).map(|_| numeric(0.0, 0.9, 500, 500)));
        assert!(!judge(0, &features, &THRESHOLDS).has_drift(), "0.002 times ten tests is above 0.01");
    }

    #[test]
    fn a_small_window_is_not_judged() {
        let verdict = judge(0, &[numeric(3.0, 0.0, 99, 99)], &THRESHOLDS);
        assert_eq!((verdict.drifted.len(), verdict.too_small, verdict.judged), (0, vec![0], 0));
    }

    #[test]
    fn missing_values_are_a_question_of_their_own() {
        let verdict = judge(0, &[numeric(0.0, 0.9, 400, 500)], &THRESHOLDS);
        let causes: Vec<Cause> = verdict.drifted.iter().map(|drift| drift.cause).collect();
        assert_eq!(causes, [Cause::Missing]);
        assert_eq!(verdict.tests, 2);
        let verdict = judge(0, &[numeric(3.0, 0.0, 0, 500)], &THRESHOLDS);
        assert_eq!((verdict.drifted.len(), verdict.tests), (1, 1), "nothing left to compare but that");
    }
}
