//! What an A/B experiment came to: each arm's rates and means, with intervals that hold whenever they are looked at.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use super::counters::Counts;
use super::sequential::beta_binomial;
use super::sequential::normal_mixture::{Difference, Moments};

/// Chance that an interval ever misses what it is of.
const ALPHA: f64 = 0.05;
/// The intervals of means are narrowest where the mean is known to about so many deviations.
const SPREAD: f64 = 0.1;

/// One experiment.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct ExperimentResult {
    pub experiment: String,
    /// By name; the first is the one that the others' means are compared with.
    pub arms: Vec<ArmResult>,
}

/// One arm.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct ArmResult {
    pub arm: String,
    /// Requests that met it.
    pub exposures: u64,
    pub errors: u64,
    /// Errors per request: 95% confidence sequence.
    pub error_rate: Interval,
    /// Mean score: 95% confidence sequence; none of fewer than two scores.
    pub score_mean: Option<Interval>,
    /// The mean score less the first arm's; none of the first arm.
    pub score_difference: Option<Interval>,
}

/// A figure, and what it can be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub struct Interval {
    /// None before anything is seen.
    pub value: Option<f64>,
    pub low: f64,
    pub high: f64,
}

/// Results by experiment, from counts by experiment and arm.
pub fn results(counts: &BTreeMap<String, BTreeMap<String, Counts>>) -> Vec<ExperimentResult> {
    counts
        .iter()
        .map(|(experiment, arms)| {
            let first = arms.values().next().map(|counts| counts.scores);
            let arms = arms.iter().enumerate().map(|(index, (arm, counts))| {
                let compared = first.filter(|_| index > 0).and_then(|first| difference(counts.scores, first));
                result(arm, counts, compared)
            });
            ExperimentResult { experiment: experiment.clone(), arms: arms.collect() }
        })
        .collect()
}

fn result(arm: &str, counts: &Counts, score_difference: Option<Interval>) -> ArmResult {
    let errors = counts.errors_of_requests();
    let (low, high) = beta_binomial::interval(errors, ALPHA);
    // A mean is its difference from a constant 0.
    let zero = Moments { n: 2, mean: 0.0, squares: 0.0 };
    ArmResult {
        arm: arm.into(),
        exposures: counts.requests,
        errors: counts.errors,
        error_rate: Interval { value: errors.rate(), low, high },
        score_mean: difference(counts.scores, zero),
        score_difference,
    }
}

fn difference(one: Moments, other: Moments) -> Option<Interval> {
    let difference = Difference::of(one, other)?;
    let deviation = one.variance()?.sqrt();
    let half = difference.half_width(ALPHA, (SPREAD * deviation).max(f64::MIN_POSITIVE.sqrt()));
    let value = difference.mean;
    Some(Interval { value: Some(value), low: value - half, high: value + half })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arms_are_compared_with_the_first() {
        let counts = |mean: f64, errors| {
            let mut counts = Counts { requests: 2_000, errors, ..Counts::default() };
            (0..2_000).for_each(|n| counts.scores.push(mean + f64::from(n % 10) / 10.0));
            counts
        };
        let arms = BTreeMap::from([("a".to_string(), counts(0.0, 20)), ("b".to_string(), counts(0.3, 100))]);
        let found = results(&BTreeMap::from([("tone".to_string(), arms)]));
        let [a, b] = found[0].arms.as_slice() else { panic!("{found:?}") };
        assert_eq!((a.exposures, a.errors, a.score_difference), (2_000, 20, None));
        assert!(a.error_rate.low < 0.01 && 0.01 < a.error_rate.high && a.error_rate.high < b.error_rate.low);
        let apart = b.score_difference.unwrap();
        assert!(apart.low < 0.3 && 0.3 < apart.high && apart.low > 0.2, "{apart:?}");
        assert!((a.score_mean.unwrap().value.unwrap() - 0.45).abs() < 1e-9);
    }
}
