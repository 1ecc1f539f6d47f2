//! What a closed window says, as it stands in the `results` topic.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::stats::metric::{FeatureStats, MetricValue};
use crate::stats::quality::WindowQuality;

use super::baseline::Baseline;

/// A window of event time, [start, end), epoch milliseconds, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Window {
    pub start_ms: i64,
    pub end_ms: i64,
}

/// One segment of one model version in one closed window: one record of the `results` topic, keyed
/// `model|version|segment|start|end`, with `|reference` behind it where that moves. A later revision replaces an
/// earlier one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
    /// What a moving reference is made of; absent: a stored reference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<Baseline>,
    /// Of all events; absent for segments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality: Option<WindowQuality>,
    /// Of all events, against a stored reference: the changes that detectors saw in this window, in order of event
    /// time; at most 100. The metric `change_points` of each watched signal counts all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<Change>,
    pub features: BTreeMap<String, FeatureStats>,
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

/// `column` = `value`; both empty for all events.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Segment {
    pub column: String,
    pub value: String,
}

impl Segment {
    pub fn is_all(&self) -> bool {
        self.column.is_empty()
    }
}

impl std::fmt::Display for Segment {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.is_all() { write!(formatter, "all") } else { write!(formatter, "{}={}", self.column, self.value) }
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
}
