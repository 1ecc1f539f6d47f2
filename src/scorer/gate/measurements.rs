//! What is known of a candidate before it is judged.

use std::collections::BTreeMap;

use serde::Serialize;

/// All numbers that a verdict rests on.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measurements {
    pub model: String,
    pub candidate: Side,
    /// `None`: nothing to compare with.
    pub against: Option<Side>,
    /// How that was asked for: `production`, `previous`, `none`, or a version.
    pub against_asked: String,
    pub data: Data,
    pub features: Features,
    /// By name of the metric, over all rows.
    pub metrics: BTreeMap<String, Compared>,
    pub slices: Vec<Slice>,
}

/// One of the two versions.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Side {
    pub version: String,
    pub bytes: u64,
    /// `None`: it could not score the rows.
    pub latency: Option<Latency>,
}

/// Of single rows, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Latency {
    pub rows: u64,
    pub p50_us: f64,
    /// 95% confidence interval of the median; `None`: too few rows.
    pub p50_interval_us: Option<[f64; 2]>,
    pub p99_us: f64,
}

/// The rows that are judged by.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Data {
    pub rows: u64,
    pub labelled: u64,
    /// Labelled rows that are in no metric: the score is missing, or the label is none of the task.
    pub incomplete: u64,
    /// Why the rows do not fit the model file; `None`: they do.
    pub schema_error: Option<String>,
    /// Rows of the reference; `None`: there is none to compare with.
    pub reference_rows: Option<u64>,
    pub features: Vec<FeatureData>,
}

/// One feature of the rows against the reference.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct FeatureData {
    pub name: String,
    /// Values that are not missing.
    pub values: u64,
    /// Population stability index with its p-value under no drift.
    pub psi: Option<f64>,
    pub p_value: Option<f64>,
    /// 0 to 1.
    pub missing: f64,
    pub reference_missing: f64,
    pub out_of_range: Option<f64>,
    pub unseen: Option<f64>,
}

/// Whether both versions, and the monitor, mean the same by a feature.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Features {
    /// Features that the candidate takes, in its order.
    pub candidate: Vec<String>,
    /// Id of the candidate's transform, where it has one, and of the other version's.
    pub transform: Option<String>,
    pub against_transform: Option<String>,
    /// Why the candidate cannot be fed with the model file's features; empty: it can.
    pub mismatches: Vec<String>,
    /// Rows on which features and scores were computed twice, in batches as of a file and row by row as of requests.
    pub parity_rows: u64,
    /// How many of them had other features in any bit; `None`: without a transform nothing is computed of features.
    pub feature_differences: Option<u64>,
    /// How many of them had another score.
    pub score_differences: u64,
}

/// One metric of both versions on the same rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Compared {
    pub candidate: Option<f64>,
    /// 95% confidence interval.
    pub candidate_interval: Option<[f64; 2]>,
    pub against: Option<f64>,
    pub difference: Option<Difference>,
}

/// Candidate less the other version, of the same rows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Difference {
    pub value: f64,
    pub standard_error: f64,
    /// Groups of rows that the standard error was found from: one fewer degrees of freedom.
    pub groups: u64,
}

/// One segment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Slice {
    /// `country=DE`.
    pub name: String,
    pub labelled: u64,
    pub metrics: BTreeMap<String, Compared>,
}
