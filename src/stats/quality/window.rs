//! What a window says of the quality of its events as a whole.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::stats::metric::MetricValue;

use super::QualityProfile;

/// Quality of all events of one window together. Absent in the results of segments.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WindowQuality {
    /// Events in the dead letter that belong to this window (their event time could be read), by reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rejected: BTreeMap<String, u64>,
    /// Share of the events with a prediction id that repeat the id of another event of the window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duplicate_rate: Option<MetricValue>,
    /// Rows that a window like this one usually has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_rows: Option<f64>,
    /// From the newest event to the wall clock of the log when the window first closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub freshness_seconds: Option<f64>,
    /// Mean time from an event to its record in the log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_seconds: Option<f64>,
    /// Keys beside the features that the model does not list, with their events: at most twenty of them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub schema_added: BTreeMap<String, u64>,
    /// Occurrences of further such keys.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub schema_added_rest: u64,
    /// Features of which no event of the window has the key, though the reference has values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub schema_missing: Vec<String>,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl WindowQuality {
    /// `closed_ms`: wall clock of the log when the window first closed, epoch milliseconds.
    pub fn of(profile: &QualityProfile, closed_ms: i64) -> Self {
        let behind_ms = profile.newest_ms().map(|newest_ms| closed_ms.saturating_sub(newest_ms));
        Self {
            rejected: profile.rejected().clone(),
            duplicate_rate: profile.ids().duplicate_rate(),
            expected_rows: None,
            freshness_seconds: behind_ms.map(|behind_ms| behind_ms as f64 / 1_000.0),
            delay_seconds: profile.mean_delay_seconds(),
            schema_added: profile.unlisted().counts(),
            schema_added_rest: profile.unlisted().rest(),
            schema_missing: Vec::new(),
        }
    }

    pub fn rejected_events(&self) -> u64 {
        self.rejected.values().fold(0, |total, count| total.saturating_add(*count))
    }

    /// The metric of this name as rules know it; `rows` are the accepted events.
    pub fn metric(&self, name: &str, rows: u64) -> Option<MetricValue> {
        let exact = |value: Option<f64>| value.map(MetricValue::exact);
        match name {
            "expected_row_count" => exact(self.expected_rows),
            "row_count_ratio" => {
                exact(self.expected_rows.filter(|expected| *expected > 0.0).map(|expected| rows as f64 / expected))
            }
            "rejected_rate" => {
                let events = rows.saturating_add(self.rejected_events());
                exact((events > 0).then(|| self.rejected_events() as f64 / events as f64))
            }
            "duplicate_rate" => self.duplicate_rate,
            "freshness_seconds" => exact(self.freshness_seconds),
            "delay_seconds" => exact(self.delay_seconds),
            "new_features" => {
                let more = u64::from(self.schema_added_rest > 0);
                Some(MetricValue::exact((self.schema_added.len() as u64 + more) as f64))
            }
            "vanished_features" => Some(MetricValue::exact(self.schema_missing.len() as f64)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_follow_from_the_counts() {
        let mut profile = QualityProfile::default();
        profile.add_event(50_000, 52_000);
        (0..25).for_each(|_| profile.add_rejected("wrong_type"));
        (0..30).for_each(|i| profile.add_unlisted(&format!("f{i}")));
        let mut quality = WindowQuality::of(&profile, 65_000);
        let value = |quality: &WindowQuality, name: &str| quality.metric(name, 75).and_then(|metric| metric.value);
        assert_eq!(value(&quality, "rejected_rate"), Some(0.25));
        assert_eq!(value(&quality, "freshness_seconds"), Some(15.0));
        assert_eq!(value(&quality, "delay_seconds"), Some(2.0));
        assert_eq!(value(&quality, "new_features"), Some(21.0), "twenty by name, and others");
        assert_eq!(value(&quality, "vanished_features"), Some(0.0));
        assert_eq!((value(&quality, "duplicate_rate"), value(&quality, "row_count_ratio")), (None, None));
        quality.expected_rows = Some(150.0);
        assert_eq!(value(&quality, "row_count_ratio"), Some(0.5));
        let read: WindowQuality = serde_json::from_str(&serde_json::to_string(&quality).unwrap()).unwrap();
        assert_eq!(read, quality);
    }
}
