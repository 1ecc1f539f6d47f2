//! What a closed window says, as it stands in the `results` topic.

use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::segment;
use crate::stats::metric::{FeatureStats, MetricValue};
use crate::stats::performance::profile::ConfusionCell;
use crate::stats::quality::WindowQuality;

use super::baseline::Baseline;

pub use crate::stats::performance::PERFORMANCE_FEATURE;

/// A window of event time, [start, end), epoch milliseconds, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Window {
    pub start_ms: i64,
    pub end_ms: i64,
}

/// One segment of one model version in one closed window: one record of the `results` topic, keyed
/// `model|version|segment|start|end`, with `|performance` behind it where it is on performance, and `|reference` where that
/// moves or is another version. A later revision replaces an earlier one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WindowResult {
    pub model: String,
    pub version: String,
    /// Empty: all events. Otherwise one segment column and its value.
    #[serde(default, skip_serializing_if = "Segment::is_all")]
    pub segment: Segment,
    pub window: Window,
    /// 0 when the window first closed; one more each time late events changed it.
    pub revision: u32,
    /// Name of the reference (`training`) and its content address; of a moving one, what it is (`trailing 7d`), and
    /// the address of the reference whose bins it has, followed by `+` and the name.
    pub reference: String,
    pub reference_id: String,
    /// Events in the window.
    pub rows: u64,
    /// False: events are known to be missing (a gap in the log); alerts are muted.
    pub complete: bool,
    /// What a moving reference, or another version's performance, is made of; absent: a stored reference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<Baseline>,
    /// Of all events; absent for segments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality: Option<WindowQuality>,
    /// Of all events, against a stored reference: the changes that detectors saw in this window, in order of event
    /// time; at most 100. The metric `change_points` of each watched signal counts all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<Change>,
    /// How well the model did in this window; a result with it has the one feature [`PERFORMANCE_FEATURE`], and is keyed
    /// with `|performance` behind the window. Results of features have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub performance: Option<WindowPerformance>,
    pub features: BTreeMap<String, FeatureStats>,
}

/// What the figures of a window rest on. Its metrics, realised ones under their own names and estimates as `est_...`, are
/// those of the feature [`PERFORMANCE_FEATURE`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WindowPerformance {
    /// Predictions that can be met by a label: those of the window, or its sample.
    pub predictions: u64,
    /// Those whose label is known.
    pub labelled: u64,
    /// `labelled / predictions`, 0 without predictions.
    pub label_coverage: f64,
    /// No label can change it any more.
    #[serde(rename = "final")]
    pub is_final: bool,
    /// By metric, for `baseline`: the values of the reference, or of the version that is compared with.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub baseline: BTreeMap<String, MetricValue>,
    /// Of all events: labelled predictions by label and predicted class; cells without any are left out, and so is the
    /// whole table where it has more than 2 500 of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub confusion: Vec<ConfusionCell>,
    /// Of all events: how far the groups of each segment column lie apart, by column, then metric.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<Gap>,
    /// Of all events: how far earlier estimates of this version lay from what was realised, by metric (`roc_auc`).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub estimate_error: BTreeMap<String, EstimateError>,
}

/// The largest difference of one metric between the groups of one segment column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Gap {
    /// Segment column.
    pub column: String,
    pub metric: String,
    pub highest: GroupValue,
    pub lowest: GroupValue,
    /// `highest - lowest`. Its interval allows for the two having been picked among all groups of the column.
    pub gap: MetricValue,
}

/// The value of a metric in one group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GroupValue {
    /// Value of the segment column.
    pub group: String,
    pub value: MetricValue,
}

/// How far estimates lay from realised figures, over windows whose labels are in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EstimateError {
    /// Mean of |realised - estimated|.
    pub mean_absolute_error: f64,
    /// Mean of realised - estimated: above 0 where estimates were too low.
    pub bias: f64,
    /// Windows that it is the mean of.
    pub windows: u64,
}

/// A signal had changed: seen at this event, begun before it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Change {
    /// Of the event, epoch milliseconds.
    pub event_time_ms: i64,
    pub signal: String,
    /// Method and parameters, `adwin(delta=0.05)`.
    pub detector: String,
    /// Source of the event.
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
}

impl WindowResult {
    /// Key of its record.
    pub fn key(&self) -> String {
        let Window { start_ms, end_ms } = self.window;
        let mut key = format!("{}|{}|{}|{start_ms}|{end_ms}", self.model, self.version, self.segment);
        if self.performance.is_some() {
            key.push_str("|performance");
        }
        if self.baseline.is_some() {
            key.push('|');
            key.push_str(&self.reference);
        }
        key
    }

    /// Its moving reference has too little to it to be compared with.
    pub fn is_wanting(&self) -> bool {
        self.baseline.as_ref().is_some_and(|baseline| baseline.wanting.is_some())
    }

    /// A metric of the window as a whole, by its name in rules.
    pub fn window_metric(&self, name: &str) -> Option<MetricValue> {
        match name {
            "row_count" => Some(MetricValue::exact(self.rows as f64)),
            name => self.quality.as_ref()?.metric(name, self.rows),
        }
    }

    /// Events that were counted or went to the dead letter.
    pub fn events(&self) -> u64 {
        self.rows.saturating_add(self.quality.as_ref().map_or(0, WindowQuality::rejected_events))
    }
}

/// `column` = `value`; both empty for all events. Of two columns together both are written `country,device`, in
/// alphabetical order of the columns, with a backslash before a comma or backslash of either part.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Segment {
    pub column: String,
    pub value: String,
}

impl Segment {
    pub fn is_all(&self) -> bool {
        self.column.is_empty()
    }

    /// Columns with their values: none for all events, one, or two.
    pub fn parts(&self) -> Vec<(String, String)> {
        if self.is_all() {
            return Vec::new();
        }
        match segment::split(&self.column).zip(segment::split(&self.value)) {
            Some(((first, second), (first_value, second_value))) => vec![(first, first_value), (second, second_value)],
            None => vec![(self.column.clone(), self.value.clone())],
        }
    }

    /// Whether its events are part of those of `other`, by name, and not all of them.
    pub fn is_within(&self, other: &Segment) -> bool {
        let (mine, others) = (self.parts(), other.parts());
        mine.len() > others.len() && others.iter().all(|part| mine.contains(part))
    }
}

impl std::fmt::Display for Segment {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.parts().as_slice() {
            [] => write!(formatter, "all"),
            [(column, value)] => write!(formatter, "{column}={value}"),
            parts => {
                let parts: Vec<String> = parts.iter().map(|(column, value)| format!("{column}={value}")).collect();
                formatter.write_str(&parts.join(", "))
            }
        }
    }
}

/// Everything of one model version that closed together: against the stored reference the whole first, then segments
/// in order, then the same against each moving reference. Those of one reference are the family over which p-values
/// are adjusted.
#[derive(Debug, Clone, PartialEq)]
pub struct ClosedWindow {
    pub model: String,
    pub version: String,
    pub window: Window,
    pub revision: u32,
    pub results: Vec<WindowResult>,
    /// Where the model's source topics had been read to when it closed: topic, partition, offset of the next record to be
    /// read.
    pub positions: Arc<Vec<(String, i32, i64)>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_written_as_people_read_them() {
        let segment = |column: &str, value: &str| Segment { column: column.into(), value: value.into() };
        let written = [segment("", ""), segment("country", "DE"), segment("country,device", "IT,a\\,b")];
        assert_eq!(written.map(|segment| segment.to_string()), ["all", "country=DE", "country=IT, device=a,b"]);
        assert_eq!(segment("place", "Nice, France").to_string(), "place=Nice, France");
    }

    #[test]
    fn a_pair_lies_within_each_of_its_columns_values() {
        let segment = |column: &str, value: &str| Segment { column: column.into(), value: value.into() };
        let pair = segment("country,device", "IT,phone");
        for (other, within) in [
            (Segment::default(), true),
            (segment("country", "IT"), true),
            (segment("country", "DE"), false),
            (pair.clone(), false),
        ] {
            assert_eq!(pair.is_within(&other), within, "{pair} within {other}");
        }
        assert!(!Segment::default().is_within(&Segment::default()));
    }
}
