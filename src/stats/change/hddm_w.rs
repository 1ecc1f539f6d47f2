//! HDDM-W: as HDDM-A on exponentially weighted averages, with McDiarmid's bound (Frias-Blanco and others, Online and
//! non-parametric drift detection methods based on Hoeffding's bounds, 2015).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Verdict;

/// How sensitive HDDM-W is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HddmWParameters {
    /// Chance that the bound of a change is passed without one, in (0, 1).
    pub drift_confidence: f64,
    /// Chance that the bound of a warning is passed without a change, in (0, 1).
    pub warning_confidence: f64,
    /// Weight of the newest value, in (0, 1).
    pub lambda: f64,
    /// Also watch for a fall of the mean.
    pub two_sided_test: bool,
}

impl Default for HddmWParameters {
    fn default() -> Self {
        Self { drift_confidence: 0.001, warning_confidence: 0.005, lambda: 0.05, two_sided_test: false }
    }
}

/// State of one stream of values in [0, 1].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HddmW {
    pub parameters: HddmWParameters,
    total: WeightedMean,
    rise: CutPoint,
    fall: CutPoint,
}

/// Exponentially weighted mean, and the sum of its squared weights.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct WeightedMean {
    /// `None` before the first value.
    mean: Option<f64>,
    squared_weights: f64,
}

/// The best stretch of the past, and what came after it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct CutPoint {
    /// Bound of the mean at the cut; `None` before the first value.
    bound: Option<f64>,
    before: WeightedMean,
    after: WeightedMean,
}

const EMPTY: WeightedMean = WeightedMean { mean: None, squared_weights: 1.0 };
const NO_CUT: CutPoint = CutPoint { bound: None, before: EMPTY, after: EMPTY };

impl WeightedMean {
    fn update(&mut self, value: f64, lambda: f64) {
        self.mean = Some(self.mean.map_or(value, |mean| lambda * value + (1.0 - lambda) * mean));
        self.squared_weights = lambda * lambda + (1.0 - lambda) * (1.0 - lambda) * self.squared_weights;
    }
}

fn mcdiarmid_bound(squared_weights: f64, confidence: f64) -> f64 {
    (squared_weights * (1.0 / confidence).ln() / 2.0).sqrt()
}

impl HddmW {
    pub fn new(parameters: HddmWParameters) -> Self {
        Self { parameters, total: EMPTY, rise: NO_CUT, fall: NO_CUT }
    }

    pub fn update(&mut self, value: f64) -> Verdict {
        let HddmWParameters { drift_confidence, warning_confidence, lambda, two_sided_test } = self.parameters;
        self.total.update(value, lambda);
        let mean = self.total.mean.unwrap_or(value);
        let bound = mcdiarmid_bound(self.total.squared_weights, drift_confidence);
        let best_yet = self.rise.bound.is_none_or(|best| mean + bound < best);
        self.rise.follow(best_yet.then_some(mean + bound), self.total, value, lambda);
        let best_yet = self.fall.bound.is_none_or(|best| mean - bound > best);
        self.fall.follow(best_yet.then_some(mean - bound), self.total, value, lambda);

        let risen = |confidence| exceeds(self.rise.before, self.rise.after, confidence);
        let fallen = |confidence| exceeds(self.fall.after, self.fall.before, confidence);
        let mut change = risen(drift_confidence);
        let mut warning = !change && risen(warning_confidence);
        if two_sided_test {
            let fell = fallen(drift_confidence);
            warning |= !fell && fallen(warning_confidence);
            change |= fell;
        }
        Verdict { change, warning }
    }
}

impl CutPoint {
    /// A new best bound moves the cut here; any other value comes after it.
    fn follow(&mut self, best: Option<f64>, total: WeightedMean, value: f64, lambda: f64) {
        match best {
            Some(bound) => *self = Self { bound: Some(bound), before: total, after: EMPTY },
            None => self.after.update(value, lambda),
        }
    }
}

fn exceeds(lower: WeightedMean, upper: WeightedMean, confidence: f64) -> bool {
    match (lower.mean, upper.mean) {
        (Some(low), Some(high)) => {
            high - low > mcdiarmid_bound(lower.squared_weights + upper.squared_weights, confidence)
        }
        _ => false,
    }
}
