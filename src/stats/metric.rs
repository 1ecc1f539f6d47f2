//! What a statistic answers: a value, how exact it is, how likely it is under no drift.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::location::Location;
use super::null::NullLaw;
use super::sql::state::NoValue;

/// One statistic of one feature in one window.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MetricValue {
    /// `None`: undefined here (empty window, empty reference).
    pub value: Option<f64>,
    /// Largest possible distance to the value computed from the rows; absent: exact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound: Option<f64>,
    /// Probability of a value at least this large under no drift, uncorrected; absent: this statistic has no law.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p_value: Option<f64>,
    /// 95% confidence interval; absent: none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<[f64; 2]>,
}

impl MetricValue {
    pub fn exact(value: f64) -> Self {
        Self { value: Some(value), bound: None, p_value: None, interval: None }
    }

    pub fn undefined() -> Self {
        Self { value: None, bound: None, p_value: None, interval: None }
    }

    /// Somewhere in [least, most], most likely `value`. Undefined where any of them is not a number.
    pub fn within(value: f64, least: f64, most: f64) -> Self {
        if value.is_nan() || least.is_nan() || most.is_nan() {
            return Self::undefined();
        }
        // Rounding can leave the ends, or the value and an end, the wrong way round.
        let (least, most) = (least.min(most), most.max(least));
        let value = value.clamp(least, most);
        Self { value: Some(value), bound: Some((most - value).max(value - least)), p_value: None, interval: None }
    }

    pub fn with_p(self, p_value: impl Into<Option<f64>>) -> Self {
        Self { p_value: p_value.into(), ..self }
    }

    pub fn with_interval(self, interval: impl Into<Option<[f64; 2]>>) -> Self {
        Self { interval: interval.into(), ..self }
    }

    /// Numbers that JSON has: NaN and infinity are undefined, and so is a value whose bound is; a bound of 0 is none.
    pub fn tidy(self) -> Self {
        let bounded = self.bound.is_none_or(f64::is_finite);
        Self {
            value: self.value.filter(|value| value.is_finite() && bounded),
            bound: self.bound.filter(|bound| *bound > 0.0 && bounded),
            p_value: self.p_value.filter(|p| p.is_finite()),
            interval: self.interval.filter(|ends| ends.iter().all(|end| end.is_finite())),
        }
    }
}

/// Share of one bin or category on both sides, for explanations and pages.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BinShare {
    /// `< 12.5`, `12.5 to 14`, `>= 14`; a category; `(18 others)`, `(other unseen)`, `(not listed)`; `(missing)`.
    pub label: String,
    pub reference: f64,
    pub window: f64,
}

/// What moved in a vector, for explanations: one entry's mean, or the variance along one principal axis.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct VectorMove {
    /// A feature of a joint signal; `[17]`, an entry of an embedding; `axis 1 (amount 0.71, income -0.69)`.
    pub label: String,
    /// Difference of the means, in the reference's standard deviations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean_shift: Option<f64>,
    /// Mean square along the axis, window over reference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variance_ratio: Option<f64>,
}

/// The selected statistics of one feature in one window. Keys of `metrics` are the metric names of rules
/// (`rules/metrics.rs`); `selection::DEFAULT_METRICS` are always there where they apply.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FeatureStats {
    /// Non-missing values in the window.
    pub n: u64,
    /// Missing values in the window.
    pub missing: u64,
    /// Non-missing values in the reference.
    pub n_reference: u64,
    pub metrics: BTreeMap<String, MetricValue>,
    /// The test of all bins or categories, for thresholds; absent where nothing could be tested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub law: Option<NullLaw>,
    /// Variance of windows over that of independent draws, as the reference's own windows show it, where they differ
    /// most; absent: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inflation: Option<f64>,
    /// Numeric features with values on both sides: mean and median of each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<Location>,
    /// How much the model's output depends on the feature: given in the model file, or learned from the reference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub importance: Option<f64>,
    /// Ten bins or the largest categories, as shares of the non-missing values, and `(missing)` last, where there are
    /// any, as a share of all rows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bins: Vec<BinShare>,
    /// Of a rule's query: why it has no value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_value: Option<NoValue>,
    /// Of a vector: the entries and principal axes that moved most, beyond chance.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub moved: Vec<VectorMove>,
}
