//! One answer to "has this feature drifted?", put together from tests that see different things.
//!
//! Numeric: a change of level, of spread (both of normal scores), and of shape (the ten bins of the stability index).
//! Categorical: of all shares together, and of any single one. Each test gets a part of the false-alarm rate, and the
//! smallest p-value over its part is the answer (Bonferroni with weights): whatever the tests have to do with each
//! other, the chance of a false alarm is at most the rate.

use super::homogeneity::Homogeneity;
use super::inflation::Inflation;
use super::scores::ScoreTests;

/// Parts of the false-alarm rate. A moved level is what pipelines do most often and what every test sees worst, so it
/// gets the most; `cargo bench --bench drift_power` measures what that buys.
const LEVEL_PART: f64 = 0.8;
const SPREAD_PART: f64 = 0.1;
const SHAPE_PART: f64 = 0.1;

/// How far windows differ beyond chance, by what a test looks at.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Inflations {
    pub level: Inflation,
    pub spread: Inflation,
    /// Mean over the cells of `homogeneity::test`.
    pub shape: Inflation,
    pub missing: Inflation,
}

impl Inflations {
    /// The widest direction there is: for statistics that may look in any.
    pub fn widest(&self, cells: usize) -> Inflation {
        let lead = 1.0 + cells.saturating_sub(1) as f64 * (self.shape.factor - 1.0);
        let shape = Inflation { factor: lead, ..self.shape };
        self.level.or(self.spread).or(shape)
    }
}

/// p-value of a numeric feature; `shape` is `None` where all values are in one bin.
pub fn numeric_p(scores: ScoreTests, shape: Option<Homogeneity>, inflations: &Inflations) -> f64 {
    let level = inflations.level.two_sided_p(scores.level) / LEVEL_PART;
    let spread = inflations.spread.two_sided_p(scores.spread) / SPREAD_PART;
    let shape = shape.map_or(1.0, |test| test.p_value) / SHAPE_PART;
    level.min(spread).min(shape).min(1.0)
}

/// The value of the metric `drift`: how many zeros the p-value has.
pub fn strength(p_value: f64) -> f64 {
    // 0.0 - rather than a sign: -log10(1) is -0.
    0.0 - p_value.max(super::normal::LEAST_P).log10()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_are_a_whole() {
        assert!((LEVEL_PART + SPREAD_PART + SHAPE_PART - 1.0).abs() < 1e-12);
    }

    #[test]
    fn the_smallest_over_its_part_is_the_answer() {
        let scores = ScoreTests { level: 4.0, spread: 0.0 };
        let p = numeric_p(scores, None, &Inflations::default());
        assert!((p / (6.334248366623996e-05 / LEVEL_PART) - 1.0).abs() < 1e-6, "{p}");
        let level = Inflation { factor: 16.0, dof: f64::INFINITY };
        assert!(numeric_p(scores, None, &Inflations { level, ..Inflations::default() }) > 0.3);
        assert_eq!((strength(1.0), strength(1e-4)), (0.0, 4.0));
        assert!(strength(0.0).is_finite());
    }
}
