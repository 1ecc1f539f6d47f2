//! The part of a model file that says how the model's output is judged once its labels are known.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::model::{Column, LABEL_COLUMN, TimestampUnit, class_score_column};
use super::units::Span;

/// Name under which rules look at how well the model did.
pub const PERFORMANCE_SIGNAL: &str = "performance";
/// Signal of change detectors: the error of each prediction whose label is known, in the order in which they are met.
pub const ERROR_SIGNAL: &str = "performance.error";

/// How predictions are judged. The label stands in the prediction event (`label`) or comes later on a topic of its own
/// (`labels`), one of the two.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Performance {
    /// What the model does: this decides which metrics it has.
    pub task: Task,
    /// The label, where the prediction event itself carries it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<Column>,
    /// Label events, met with predictions by prediction id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Labels>,
    /// Column of the label in reference data. Default: the column named as the last part of the label's path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_column: Option<String>,
    /// Binary: the class that counts as positive, as text; numbers and truth values compare by what they mean (`1` is
    /// `1.0` and `true`). Default: `1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub positive: Option<String>,
    /// Binary: scores from here up are predicted positive, where the event has no `prediction`. Default: 0.5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
    /// Multiclass: where each class's probability stands in the event, class to dotted path.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub class_scores: BTreeMap<String, String>,
    /// Ranking: the k of `ndcg@k` and `precision@k`. Default: 10.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub top_k: Vec<u32>,
    /// What an outcome is worth to the business.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Value>,
}

impl Performance {
    /// Whether a reference's `columns` may map this name: the label, or the score of a class.
    pub fn has_column(&self, name: &str) -> bool {
        name == LABEL_COLUMN || self.class_scores.keys().any(|class| class_score_column(class) == name)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// Two classes, one of them `positive`.
    Binary,
    Multiclass,
    Regression,
    /// One prediction event is one ranked list; its label is the array of the items' relevances, in the ranked order.
    Ranking,
}

/// Label events.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Labels {
    /// Kafka topics with the labels.
    pub topics: Vec<String>,
    #[serde(default)]
    pub fields: LabelFields,
    /// A label may come this long after its prediction, by event time; a prediction is forgotten after it, and a label
    /// without prediction becomes a dead letter.
    #[serde(default = "default_delay")]
    pub delay: Span,
    /// Most predictions of this model that are kept for their labels, over all processes. Beyond it predictions are
    /// sampled by the hash of their id, more sparsely until they fit.
    #[serde(default = "default_max_pending")]
    pub max_pending: u64,
    /// Share of the predictions that are joined with labels, chosen by the hash of their id; above 0, at most 1.
    #[serde(default = "default_sample")]
    pub sample: f64,
    /// A window's figures are told anew at most this often while its labels come in.
    #[serde(default = "default_revise_every")]
    pub revise_every: Span,
}

/// Dotted paths into a label event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LabelFields {
    /// The prediction that it belongs to.
    pub prediction_id: String,
    /// The label itself.
    pub label: String,
    /// When the label was given: of two labels for one prediction the later one wins. Without it, the one read last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<String>,
    /// How the time is written.
    pub timestamp_unit: TimestampUnit,
    /// Name of the model, where one topic carries labels of several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
}

impl Default for LabelFields {
    fn default() -> Self {
        Self {
            prediction_id: "prediction_id".into(),
            label: "label".into(),
            timestamp: None,
            timestamp_unit: TimestampUnit::Auto,
            model: None,
        }
    }
}

/// Worth of outcomes, in any unit; what is not given is 0. One of the matrix (binary: its four cells; multiclass:
/// `matrix`) and `sql`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Value {
    /// Of each outcome that was predicted positive and is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub true_positive: Option<f64>,
    /// Of each outcome that was predicted positive and is negative.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub false_positive: Option<f64>,
    /// Of each outcome that was predicted negative and is positive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub false_negative: Option<f64>,
    /// Of each outcome that was predicted negative and is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub true_negative: Option<f64>,
    /// Label to prediction to worth.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub matrix: BTreeMap<String, BTreeMap<String, f64>>,
    /// Expression of one row over `label`, `prediction`, `score` and the model's numeric features. Classes are 1
    /// (positive) and 0 of a binary model, text of a multiclass one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sql: Option<String>,
}

fn default_delay() -> Span {
    Span::from_ms(7 * 86_400_000)
}

fn default_max_pending() -> u64 {
    1_000_000
}

fn default_sample() -> f64 {
    1.0
}

fn default_revise_every() -> Span {
    Span::from_ms(60_000)
}
