//! A model: where its events are, what stands in them, which features are watched.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::performance::Performance;
use super::segment::SegmentColumns;
use super::units::Span;

/// One model file (`models/*.yaml`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// Version of this file's format: 1.
    pub version: u32,
    /// Name of the model; letters, digits, `_`, `.` and `-`.
    pub model: String,
    /// Kafka topics with this model's prediction or feature events.
    pub topics: Vec<String>,
    /// How events are written.
    #[serde(default)]
    pub format: Format,
    /// Where the standard fields stand in an event.
    #[serde(default)]
    pub fields: Fields,
    /// The features to watch, by name.
    pub features: BTreeMap<String, Feature>,
    /// The model's output: a class or a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prediction: Option<Column>,
    /// The model's score or probability.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<Column>,
    /// Numeric features watched together, as one signal named `joint`: sees correlations, which no feature shows alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub joint: Option<Joint>,
    /// Categorical features whose values split every statistic; `[country, device]` for two together.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub segments: Vec<SegmentColumns>,
    /// At most this many values of a segment (pairs of values, of two together) are kept apart, the rest is counted in
    /// `_other`.
    #[serde(default = "default_max_segments")]
    pub max_segments: u32,
    /// How much the model's output depends on each feature, such as its mean absolute SHAP value, in any unit; alerts
    /// rank findings by drift times importance. Default: learned from the reference's rows where these hold the score or
    /// the prediction.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub importance: BTreeMap<String, f64>,
    /// What becomes of an event with a feature that is not listed here. Default: `dead_letter` where `fields.features`
    /// has a prefix (`features.*`), `ignore` where it is a bare `*`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown_features: Option<UnknownFeatures>,
    /// What becomes of an event with a value of a feature that is none: of another type, NaN, infinite. A feature may
    /// say otherwise.
    #[serde(default)]
    pub on_invalid: OnInvalid,
    /// Largest event accepted, in bytes.
    #[serde(default = "default_max_event_bytes")]
    pub max_event_bytes: u64,
    /// Events further ahead of the wall clock than this are quarantined in the dead-letter topic.
    #[serde(default = "default_max_future")]
    pub max_future: Span,
    /// Detectors that read a signal value by value, in the order of each source partition.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub change_detectors: Vec<ChangeDetector>,
    /// How predictions are judged once their labels are known, and what is expected of them before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub performance: Option<Performance>,
    /// Reference data by name; rules compare with `training` unless they say otherwise.
    #[serde(default)]
    pub references: BTreeMap<String, ReferenceSource>,
    #[serde(default)]
    pub windows: Windowing,
    /// Statistics in results beside the default ones and those that rules name: a list of metrics, or `all`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<MetricNames>,
}

/// `all`, or names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum MetricNames {
    Word(String),
    Names(Vec<String>),
}

/// The word for every statistic.
pub const ALL_METRICS: &str = "all";

fn default_max_segments() -> u32 {
    200
}

fn default_max_event_bytes() -> u64 {
    1_048_576
}

fn default_max_future() -> Span {
    Span::from_ms(300_000)
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Any JSON object; `fields` says where what stands.
    #[default]
    Json,
    /// JSON as `driftline-scorer` writes it: `fields` need not say where model, version and prediction id stand.
    PredictionEvent,
}

/// Dotted paths into an event. A key that holds a dot is written with a backslash before it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Fields {
    /// Event time.
    pub timestamp: String,
    /// How event time is written.
    pub timestamp_unit: TimestampUnit,
    /// Name of the model, where one topic carries several: events that name another model are not this model's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Version of the model that made the prediction. Without it, and where it is missing, the version is `unversioned`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Unique name of each prediction: labels find theirs by it, and duplicates are counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prediction_id: Option<String>,
    /// Where features stand: `features.*`, `inputs.row.*`, or `*` for flat events.
    pub features: String,
}

impl Default for Fields {
    fn default() -> Self {
        Self {
            timestamp: "timestamp".into(),
            timestamp_unit: TimestampUnit::Auto,
            model: None,
            version: None,
            prediction_id: None,
            features: "features.*".into(),
        }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TimestampUnit {
    /// Text is RFC 3339; a number is epoch s, ms or µs by its size.
    #[default]
    Auto,
    Rfc3339,
    S,
    Ms,
    Us,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Numeric,
    Categorical,
    /// An array of `dimension` numbers, such as an embedding. Features only.
    Vector,
}

impl Kind {
    /// What a feature of this kind is, in sentences.
    pub fn predicate(self) -> &'static str {
        match self {
            Kind::Numeric => "numeric",
            Kind::Categorical => "categorical",
            Kind::Vector => "a vector",
        }
    }
}

/// `numeric`, `categorical`, or the long form with a path, a vector's dimension and whether a value is required.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Feature {
    Kind(Kind),
    Full(FeatureSpec),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FeatureSpec {
    /// Whether values are numbers, categories or vectors.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// Numbers in a vector; only for `type: vector`, which needs it. At most 2048.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dimension: Option<u32>,
    /// Dotted path in the event, where it is not at `fields.features`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// An event without this feature, or with null, goes to the dead-letter topic instead of counting as missing.
    #[serde(default)]
    pub required: bool,
    /// Least and greatest value that the feature should have, both included; numeric features only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<[f64; 2]>,
    /// What becomes of an event with a value of this feature that is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_invalid: Option<OnInvalid>,
}

impl Feature {
    pub fn kind(&self) -> Kind {
        match self {
            Feature::Kind(kind) => *kind,
            Feature::Full(spec) => spec.kind,
        }
    }

    pub fn path(&self) -> Option<&str> {
        match self {
            Feature::Kind(_) => None,
            Feature::Full(spec) => spec.path.as_deref(),
        }
    }

    /// Least and greatest value that the model file gives.
    pub fn range(&self) -> Option<(f64, f64)> {
        match self {
            Feature::Kind(_) => None,
            Feature::Full(spec) => spec.range.map(|[min, max]| (min, max)),
        }
    }

    pub fn on_invalid(&self) -> Option<OnInvalid> {
        match self {
            Feature::Kind(_) => None,
            Feature::Full(spec) => spec.on_invalid,
        }
    }

    /// Numbers in a vector; 0 where it is none, or where the file does not say.
    pub fn dimension(&self) -> usize {
        match self {
            Feature::Full(FeatureSpec { kind: Kind::Vector, dimension: Some(dimension), .. }) => *dimension as usize,
            _ => 0,
        }
    }

    pub fn required(&self) -> bool {
        matches!(self, Feature::Full(FeatureSpec { required: true, .. }))
    }
}

/// Which features stand in the joint signal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Joint {
    /// `all` numeric features, or a list of names, at least two. An event that lacks one of them is counted apart.
    pub features: JointFeatures,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum JointFeatures {
    Word(String),
    Names(Vec<String>),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Column {
    /// Dotted path in the event.
    pub path: String,
    /// Whether values are numbers or categories.
    #[serde(rename = "type")]
    pub kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UnknownFeatures {
    DeadLetter,
    /// The event counts, and nothing is known of the key.
    Ignore,
    /// The event counts, and the key is named among the new features of its window.
    Report,
}

/// What becomes of an event with a value of a feature that is none: of another type, NaN, infinite.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnInvalid {
    /// The event goes to the dead-letter topic.
    #[default]
    DeadLetter,
    /// The event counts, the value is missing, and what was wrong with it is counted.
    Missing,
}

/// Watches one signal for changes; what each method takes and sees is in docs/statistics.md.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ChangeDetector {
    /// A numeric feature, `prediction.value` or `prediction.score`.
    pub signal: String,
    /// The detector; docs/statistics.md says what each sees.
    pub method: ChangeMethod,
    /// Parameters of the method by name, such as `delta`; what is not given has its default.
    #[serde(flatten)]
    pub parameters: BTreeMap<String, serde_json::Value>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChangeMethod {
    Adwin,
    PageHinkley,
    Ddm,
    Eddm,
    HddmA,
    HddmW,
    Fhddm,
    Kswin,
}

/// Where a reference comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReferenceSource {
    /// Parquet, CSV or JSONL file, relative to the model file.
    pub path: String,
    /// Columns whose name in the file differs from the feature's: feature name to column name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub columns: BTreeMap<String, String>,
    /// Column with the time of each row, to learn from how much windows differ. Default: the column named as the last
    /// part of `fields.timestamp`, if there is one; else rows are taken to be in order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<String>,
}

/// How event time becomes windows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Windowing {
    /// The windows shown on pages and metrics; rules may name others.
    pub size: Span,
    /// How far events of one partition may be out of order before a window closes without them.
    pub watermark_delay: Span,
    /// Within this time after its end a closed window is revised by late events; later ones go to the `late` topic.
    pub allowed_lateness: Span,
    /// A source partition that is read to its end and quiet for this long no longer holds back the others.
    pub idle_after: Span,
}

impl Default for Windowing {
    fn default() -> Self {
        Self {
            size: Span::from_ms(3_600_000),
            watermark_delay: Span::from_ms(5_000),
            allowed_lateness: Span::from_ms(3_600_000),
            idle_after: Span::from_ms(60_000),
        }
    }
}

/// Name of the column and signal that holds the model's output.
pub const PREDICTION_SIGNAL: &str = "prediction.value";
/// Name of the column and signal that holds the model's score.
pub const SCORE_SIGNAL: &str = "prediction.score";
/// Name of the column that holds the label, where the prediction event carries it.
pub const LABEL_COLUMN: &str = "performance.label";
/// Most numbers in a vector, and features in a joint signal.
pub const MOST_DIMENSIONS: usize = 2_048;
/// Name of the signal that holds numeric features together.
pub const JOINT_SIGNAL: &str = "joint";

/// Name of the column that holds the score of a class.
pub fn class_score_column(class: &str) -> String {
    format!("performance.class_scores.{class}")
}

/// Anything of an event that has a distribution: a feature, the prediction, the score, features together.
#[derive(Debug, Clone, PartialEq)]
pub struct Signal {
    pub name: String,
    pub kind: Kind,
    /// Dotted path in the event.
    pub path: String,
    pub required: bool,
    /// An invalid value is missing, and does not cost the event.
    pub keeps_invalid: bool,
    /// Least and greatest value that the model file gives.
    pub range: Option<(f64, f64)>,
    /// Numbers in a vector, otherwise 0.
    pub dimension: usize,
    /// The signals that this one is put together from; empty: it stands in the event itself.
    pub members: Vec<String>,
}

impl Model {
    /// Every signal that stands in an event, features first by name, then `prediction.value` and `prediction.score`. The order
    /// is the order of columns in decoded batches.
    pub fn signals(&self) -> Vec<Signal> {
        let prefix = self.fields.features.trim_end_matches('*');
        let mut signals: Vec<Signal> = self
            .features
            .iter()
            .map(|(name, feature)| Signal {
                name: name.clone(),
                kind: feature.kind(),
                path: match feature.path() {
                    Some(path) => path.to_string(),
                    None => format!("{prefix}{}", name.replace('.', "\\.")),
                },
                required: feature.required(),
                keeps_invalid: !feature.required()
                    && feature.on_invalid().unwrap_or(self.on_invalid) == OnInvalid::Missing,
                range: feature.range(),
                dimension: feature.dimension(),
                members: Vec::new(),
            })
            .collect();
        for (name, column) in [(PREDICTION_SIGNAL, &self.prediction), (SCORE_SIGNAL, &self.score)] {
            if let Some(column) = column {
                signals.push(Signal {
                    name: name.to_string(),
                    kind: column.kind,
                    path: column.path.clone(),
                    required: false,
                    keeps_invalid: self.on_invalid == OnInvalid::Missing,
                    range: None,
                    dimension: 0,
                    members: Vec::new(),
                });
            }
        }
        signals
    }

    /// What else is read of an event: the label where the event carries it (of a ranking an array of any length, with
    /// dimension 0), then the score of each class in the order of `class_scores`. Columns of decoded batches after those
    /// of the signals, and watched by nobody but performance.
    pub fn outcome_columns(&self) -> Vec<Signal> {
        let Some(performance) = &self.performance else { return Vec::new() };
        let column = |name: String, kind: Kind, path: &str| Signal {
            name,
            kind,
            path: path.to_string(),
            required: false,
            keeps_invalid: self.on_invalid == OnInvalid::Missing,
            range: None,
            dimension: 0,
            members: Vec::new(),
        };
        let label = performance.label.iter().map(|label| column(LABEL_COLUMN.to_string(), label.kind, &label.path));
        let scores = performance.class_scores.iter();
        label.chain(scores.map(|(class, path)| column(class_score_column(class), Kind::Numeric, path))).collect()
    }

    /// Every watched signal: those that stand in an event, and the joint one.
    pub fn watched_signals(&self) -> Vec<Signal> {
        let mut signals = self.signals();
        if let Some(joint) = &self.joint {
            let numeric = self.features.iter().filter(|(_, feature)| feature.kind() == Kind::Numeric);
            let members: Vec<String> = match &joint.features {
                JointFeatures::Word(_) => numeric.map(|(name, _)| name.clone()).collect(),
                JointFeatures::Names(names) => names.clone(),
            };
            signals.push(Signal {
                name: JOINT_SIGNAL.to_string(),
                kind: Kind::Vector,
                path: String::new(),
                required: false,
                keeps_invalid: false,
                range: None,
                dimension: members.len(),
                members,
            });
        }
        signals
    }

    /// Topics with label events, where labels come apart from predictions.
    pub fn label_topics(&self) -> impl Iterator<Item = &String> {
        let labels = self.performance.iter().filter_map(|performance| performance.labels.as_ref());
        labels.flat_map(|labels| &labels.topics)
    }

    /// Whether results are split by these columns; `name` as `SegmentColumns::name` writes it.
    pub fn has_segment(&self, name: &str) -> bool {
        self.segments.iter().any(|segment| segment.name() == name)
    }

    pub fn unknown_features(&self) -> UnknownFeatures {
        self.unknown_features.unwrap_or(if self.fields.features == "*" {
            UnknownFeatures::Ignore
        } else {
            UnknownFeatures::DeadLetter
        })
    }
}
