//! A feature transform (`transform.yaml`): how raw features become the columns of a model's input.
//!
//! Its shape; what follows from the types of its steps is checked by `scorer::transform`, which compiles it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A feature transform.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TransformFile {
    /// Version of this format: 1.
    pub version: u32,
    /// Name of the model's input tensor, which takes one row of all columns. Default: `input`.
    #[serde(default = "default_output")]
    pub output: String,
    /// Type of that tensor; values are computed in 64 bits and rounded once.
    #[serde(default)]
    pub datatype: OutputType,
    /// Raw features by name.
    pub inputs: BTreeMap<String, RawFeature>,
    /// Columns of the model's input, in order.
    pub features: Vec<FeatureColumn>,
}

fn default_output() -> String {
    "input".into()
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OutputType {
    #[default]
    #[serde(rename = "FP32")]
    Fp32,
    #[serde(rename = "FP64")]
    Fp64,
}

/// What a raw feature is: its type, or the long form.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum RawFeature {
    Kind(RawKind),
    Full(RawSpec),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawSpec {
    #[serde(rename = "type")]
    pub kind: RawKind,
    /// Texts that mean that the value is missing, beside the empty one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RawKind {
    /// A number; what is no number is missing.
    Number,
    /// Text; the empty one is missing.
    Text,
    /// True or false; 1 or 0 to every step.
    Boolean,
    /// RFC 3339 text (UTC where it has no offset), or epoch s, ms or µs by its size.
    Time,
}

impl RawFeature {
    pub fn kind(&self) -> RawKind {
        match self {
            Self::Kind(kind) => *kind,
            Self::Full(spec) => spec.kind,
        }
    }

    pub fn missing(&self) -> &[String] {
        match self {
            Self::Kind(_) => &[],
            Self::Full(spec) => &spec.missing,
        }
    }
}

/// One raw feature through steps to one column, or to several by a last step that makes several.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FeatureColumn {
    /// The raw feature.
    pub from: String,
    /// Name of the column. Default: that of the raw feature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What is done with each value, in order; without any, it is taken as it is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Step>,
}

/// What is done with a value. A missing value stays missing but where a step says otherwise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Replaces a missing value, by a number or a text.
    Impute(Literal),
    /// To the nearer of two bounds; either may be left out.
    Clip(Clip),
    /// ln(1 + x); below -1 the result is missing, at -1 it is minus infinity.
    Log1p,
    /// (x - mean) / std.
    Standard(Standard),
    /// (x - min) / (max - min).
    MinMax(MinMax),
    /// Divides by another raw feature that is a number; by zero the result is missing.
    Ratio(Ratio),
    /// Number of edges at or below the value: 0 below the first edge.
    Bin(Bin),
    /// A text to a column for each category, 1 where it is the text and 0 elsewhere; all 0 where it is missing.
    OneHot(OneHot),
    /// A text to the position of its category, from 0.
    Ordinal(Ordinal),
    /// A part of a time, in UTC.
    DatePart(DatePart),
    /// A text to the number that it writes, missing where it writes none; a number to its text, as Python's `str` has it.
    Cast(Cast),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Literal {
    Number(f64),
    Text(String),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Clip {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Standard {
    pub mean: f64,
    /// Above 0.
    pub std: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MinMax {
    pub min: f64,
    /// Above `min`.
    pub max: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ratio {
    /// The raw feature to divide by.
    pub by: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Bin {
    /// Ascending.
    pub edges: Vec<f64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OneHot {
    pub categories: Vec<String>,
    #[serde(default)]
    pub unseen: UnseenOneHot,
}

/// What becomes of a text that is no category.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UnseenOneHot {
    /// 0 in every column.
    #[default]
    Zeros,
    /// 1 in a column of its own, the last.
    Other,
    /// The row is refused.
    Error,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ordinal {
    pub categories: Vec<String>,
    /// Value of a text that is no category; `error` refuses the row. Default: -1.
    #[serde(default)]
    pub unseen: UnseenOrdinal,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum UnseenOrdinal {
    Value(f64),
    Word(ErrorWord),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorWord {
    Error,
}

impl Default for UnseenOrdinal {
    fn default() -> Self {
        Self::Value(-1.0)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DatePart {
    Year,
    /// 1 to 12.
    Month,
    /// 1 to 31.
    Day,
    /// 1 to 366.
    DayOfYear,
    /// 0 to 6 from Monday, as pandas has it.
    DayOfWeek,
    Hour,
    Minute,
    /// Since 1970, with thousandths.
    EpochSeconds,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Cast {
    Number,
    Text,
}
