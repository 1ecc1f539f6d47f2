//! What a training job is given: enough to read the same data and train the same model again.

use chrono::{DateTime, SecondsFormat};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::run::run_id;
use crate::config::actions::Action;
use crate::config::rules::Severity;
use crate::rules::action_request::{ActionRequest, Positions};
use crate::windows::result::{Segment, Window};

/// How far the data to train on reach back, unless the action says otherwise.
pub const DEFAULT_TRAINING_DATA_MS: i64 = 30 * 86_400_000;

/// One run's training job. `schemas/retraining-manifest.schema.json` is generated from it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "Driftline retraining manifest")]
pub struct Manifest {
    /// Version of this format: 1.
    pub version: u32,
    /// The run: the same however often it is sent. Whoever reports how it went names it.
    pub run: String,
    /// Key by which a second copy of the call is known; the run's.
    pub idempotency_key: String,
    pub action: String,
    /// Where the run's page is.
    pub url: String,
    /// When it was decided that the run goes ahead: RFC 3339, UTC.
    pub created_at: String,
    pub model: String,
    /// The version whose alert asked for the run.
    pub model_version: String,
    pub cause: Cause,
    pub data: TrainingData,
    /// What the model's events were compared with.
    pub reference: ReferenceId,
    /// For every random number of the training, so that a second training comes to the same.
    pub seed: u32,
    /// SHA-256 of the action as it was configured, secrets by their names: `sha256:...`.
    pub config_hash: String,
}

/// The alert that asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Cause {
    pub rule: String,
    pub episode_id: String,
    pub severity: Severity,
    #[serde(default, skip_serializing_if = "Segment::is_all")]
    pub segment: Segment,
    /// The alert's line.
    pub summary: String,
    /// First breaching window, and the window after which the run went ahead.
    pub first_window: Window,
    pub window: Window,
}

/// The events to train on: those of the time, as they stood in the log at that moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TrainingData {
    /// Event time, [from, until): RFC 3339, UTC.
    pub from: String,
    pub until: String,
    /// Records to read, by partition. They hold the events of that time that had come by its end, and others, which
    /// `from` and `until` tell apart.
    pub offsets: Vec<OffsetRange>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct OffsetRange {
    pub topic: String,
    pub partition: i32,
    /// First record to read; null: the earliest that the topic still has.
    pub from_offset: Option<i64>,
    /// First record not to read.
    pub until_offset: i64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReferenceId {
    pub name: String,
    /// Content address.
    pub id: String,
}

impl Manifest {
    /// `public_url`: what links start with, without a slash at the end.
    pub fn new(request: &ActionRequest, action: &Action, public_url: &str, now_ms: i64) -> Self {
        let run = run_id(request);
        let until_ms = request.window.end_ms;
        let from_ms = until_ms.saturating_sub(action.training_data.map_or(DEFAULT_TRAINING_DATA_MS, |span| span.ms));
        Self {
            version: 1,
            idempotency_key: run.clone(),
            action: request.action.clone(),
            url: format!("{public_url}/actions/{run}"),
            created_at: rfc3339(now_ms),
            model: request.model.clone(),
            model_version: request.version.clone(),
            cause: Cause {
                rule: request.rule.clone(),
                episode_id: request.episode_id.clone(),
                severity: request.severity,
                segment: request.segment.clone(),
                summary: request.summary.clone(),
                first_window: request.first_window,
                window: request.window,
            },
            data: TrainingData {
                from: rfc3339(from_ms),
                until: rfc3339(until_ms),
                offsets: offsets(&request.facts.positions_by_day, from_ms),
            },
            reference: ReferenceId { name: request.reference.clone(), id: request.reference_id.clone() },
            seed: u32::from_str_radix(run.get(..8).unwrap_or_default(), 16).unwrap_or(0),
            config_hash: config_hash(action),
            run,
        }
    }
}

impl Manifest {
    /// Where the manifest itself can be had.
    pub fn address(&self) -> String {
        let page = format!("/actions/{}", self.run);
        let public_url = self.url.strip_suffix(&page).unwrap_or_default();
        format!("{public_url}/api/v1{page}/manifest")
    }
}

/// From where the partitions stood at the last known moment before `from_ms` to where they stand now.
fn offsets(positions: &[Positions], from_ms: i64) -> Vec<OffsetRange> {
    let Some(now) = positions.last() else { return Vec::new() };
    let start = positions.iter().rev().find(|positions| positions.window_end_ms <= from_ms);
    let start_of = |topic: &String, partition: i32| {
        let known = start?.next_offsets.iter().find(|(of, number, _)| of == topic && *number == partition);
        known.map(|(_, _, offset)| *offset)
    };
    let range = |(topic, partition, until_offset): &(String, i32, i64)| OffsetRange {
        topic: topic.clone(),
        partition: *partition,
        from_offset: start_of(topic, *partition),
        until_offset: *until_offset,
    };
    now.next_offsets.iter().map(range).collect()
}

fn config_hash(action: &Action) -> String {
    // A struct of strings and numbers can always be written as JSON.
    let text = serde_json::to_string(action).unwrap_or_default();
    let digest: String = Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{digest}")
}

fn rfc3339(at_ms: i64) -> String {
    DateTime::from_timestamp_millis(at_ms).unwrap_or_default().to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// The JSON Schema of the manifest, as it stands in `schemas/`.
pub fn manifest_schema() -> schemars::Schema {
    schemars::schema_for!(Manifest)
}

#[cfg(test)]
mod tests {
    use super::super::guard::tests::{DAY_MS, request};
    use super::*;

    #[test]
    fn offsets_start_where_the_partitions_stood_before_the_time_asked_for() {
        let at = |day: i64, offset: i64| Positions {
            window_end_ms: day * DAY_MS,
            next_offsets: vec![("tx".into(), 0, offset), ("tx".into(), 1, offset + 5)],
        };
        let known = [at(1, 100), at(2, 200), at(3, 300), at(4, 400)];
        let from = |from_ms: i64| offsets(&known, from_ms).iter().map(|range| range.from_offset).collect::<Vec<_>>();
        assert_eq!(from(2 * DAY_MS + 1), [Some(200), Some(205)]);
        assert_eq!(from(2 * DAY_MS), [Some(200), Some(205)]);
        assert_eq!(from(DAY_MS - 1), [None, None], "from before what is known: everything that the topic has");
        assert_eq!(offsets(&known, 0).iter().map(|range| range.until_offset).collect::<Vec<_>>(), [400, 405]);
        assert!(offsets(&[], 0).is_empty());
    }

    #[test]
    fn a_manifest_is_the_same_for_the_same_run() {
        let action = Action::default();
        let request = request("retrain", "e1");
        let (first, second) =
            (Manifest::new(&request, &action, "http://d", 5), Manifest::new(&request, &action, "http://d", 5));
        assert_eq!(first, second);
        assert_eq!(first.data.until, "1970-04-11T00:00:00.000Z");
        assert_eq!(first.data.from, "1970-03-12T00:00:00.000Z");
        let other = Action { dry_run: true, ..Action::default() };
        assert_ne!(Manifest::new(&request, &other, "http://d", 5).config_hash, first.config_hash);
    }

    #[test]
    fn the_published_schema_is_the_codes() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/schemas/retraining-manifest.schema.json");
        let generated = format!("{}\n", serde_json::to_string_pretty(&manifest_schema()).unwrap());
        if std::env::var_os("DRIFTLINE_WRITE_SCHEMAS").is_some() {
            std::fs::write(path, &generated).unwrap();
        }
        let published = std::fs::read_to_string(path).unwrap_or_default();
        assert_eq!(published, generated, "run this test with DRIFTLINE_WRITE_SCHEMAS=1");
    }
}
