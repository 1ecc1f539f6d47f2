//! How far the estimates of earlier windows lay from what was realised once their labels were in.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::super::result::PERFORMANCE_FEATURE;
use super::super::result::{EstimateError, Window, WindowResult};

/// Windows remembered of each series, the newest.
const MOST_WINDOWS: usize = 50;
/// Model versions and window sizes remembered; the least recent goes first.
const MOST_SERIES: usize = 64;
/// Share of the predictions whose label must be known, so that the realised figure is one of the same rows.
const LEAST_COVERAGE: f64 = 0.5;
/// What stands before the name of an estimated metric.
const ESTIMATE: &str = "est_";

/// Windows of one size of one model version. Its JSON is part of the key of its record.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SeriesKey {
    pub model: String,
    pub version: String,
    pub size_ms: i64,
}

impl SeriesKey {
    fn of(result: &WindowResult) -> Self {
        let Window { start_ms, end_ms } = result.window;
        Self { model: result.model.clone(), version: result.version.clone(), size_ms: end_ms - start_ms }
    }
}

/// By start of the window, then by metric: realised - estimated.
type Errors = BTreeMap<i64, BTreeMap<String, f64>>;

/// A record to be written; `None`: forget it.
pub(super) type StoredErrors = (SeriesKey, Option<Vec<u8>>);

#[derive(Debug, Default)]
pub(super) struct PastEstimates {
    series: BTreeMap<SeriesKey, Errors>,
    unstored: BTreeSet<SeriesKey>,
}

impl PastEstimates {
    /// Remembers a final result of all events.
    pub fn record(&mut self, result: &WindowResult) {
        let Some(performance) = &result.performance else { return };
        let Some(stats) = result.features.get(PERFORMANCE_FEATURE) else { return };
        if !performance.is_final || performance.label_coverage < LEAST_COVERAGE {
            return;
        }
        let error = |(name, estimate): (&String, &crate::stats::metric::MetricValue)| {
            let metric = name.strip_prefix(ESTIMATE)?;
            Some((metric.to_string(), stats.metrics.get(metric)?.value? - estimate.value?))
        };
        let errors: BTreeMap<String, f64> = stats.metrics.iter().filter_map(error).collect();
        if errors.is_empty() {
            return;
        }
        let key = SeriesKey::of(result);
        let series = self.series.entry(key.clone()).or_default();
        series.insert(result.window.start_ms, errors);
        while series.len() > MOST_WINDOWS {
            series.pop_first();
        }
        self.unstored.insert(key);
        if self.series.len() > MOST_SERIES {
            let newest = |errors: &Errors| errors.last_key_value().map(|(start_ms, _)| *start_ms);
            let least = self.series.iter().min_by_key(|(_, errors)| newest(errors)).map(|(key, _)| key.clone());
            if let Some(least) = least {
                self.series.remove(&least);
                self.unstored.insert(least);
            }
        }
    }

    /// The errors of the windows before this one, by metric.
    pub fn before(&self, result: &WindowResult) -> BTreeMap<String, EstimateError> {
        let mut errors: BTreeMap<String, EstimateError> = BTreeMap::new();
        let series = self.series.get(&SeriesKey::of(result)).into_iter().flatten();
        for (metric, error) in series.filter(|(start, _)| **start < result.window.start_ms).flat_map(|(_, of)| of) {
            let sum = errors.entry(metric.clone()).or_default();
            sum.mean_absolute_error += error.abs();
            sum.bias += error;
            sum.windows += 1;
        }
        for sum in errors.values_mut() {
            sum.mean_absolute_error /= sum.windows as f64;
            sum.bias /= sum.windows as f64;
        }
        errors
    }

    /// False: it cannot be read.
    pub fn restore(&mut self, key: SeriesKey, value: &[u8]) -> bool {
        let Ok(errors) = serde_json::from_slice(value) else { return false };
        self.series.insert(key, errors);
        true
    }

    /// Changes since the last call; `None`: forget it.
    pub fn take_stored(&mut self) -> Result<Vec<StoredErrors>, serde_json::Error> {
        let unstored = std::mem::take(&mut self.unstored);
        let value = |key: &SeriesKey| self.series.get(key).map(serde_json::to_vec).transpose();
        let mut stored = Vec::with_capacity(unstored.len());
        for key in unstored {
            let value = value(&key)?;
            stored.push((key, value));
        }
        Ok(stored)
    }
}
