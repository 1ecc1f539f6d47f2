//! What a version must show before it may serve: the file that `driftline gate` judges by.

use std::collections::BTreeMap;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::diagnostic::{Diagnostics, Problem};
use super::load::{Loaded, Outcome, parse, read, shown};
use super::nearest::suggest;
use super::units::{Share, Span};
use super::yaml::child;

/// One gate file (`gate.yaml`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GateFile {
    /// Version of this file's format: 1.
    pub version: u32,
    /// What the rows to judge by must be like.
    #[serde(default)]
    pub data: DataGate,
    /// What the model must reach, by metric. Default: one metric of the model's task, not worse than production's.
    #[serde(default)]
    pub metrics: BTreeMap<String, MetricGate>,
    /// What holds in each segment of the model file.
    #[serde(default)]
    pub slices: SliceGate,
    /// How long one row may take.
    #[serde(default)]
    pub latency: LatencyGate,
    /// How large the model may be.
    #[serde(default)]
    pub size: SizeGate,
    /// What a version needs that has no other to be compared with.
    #[serde(default)]
    pub require: RequireGate,
}

/// Of the rows to judge by.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DataGate {
    /// Fewest rows with a label; below it nothing is decided.
    pub min_rows: u64,
    /// Population stability index from the reference above which a feature has drifted, if it is significant, too.
    pub max_psi: f64,
    /// Largest adjusted p-value of a drifted feature (Benjamini-Hochberg over all features); above 0, below 1.
    pub significance: f64,
    /// Most by which the share of missing values of a feature may exceed the reference's.
    pub max_more_missing: Share,
    /// Largest share of a numeric feature's values outside of its `range`, or without one of the reference's.
    pub max_out_of_range: Share,
    /// Largest share of a categorical feature's values that the reference has not seen.
    pub max_unseen: Share,
}

impl Default for DataGate {
    fn default() -> Self {
        Self {
            min_rows: 500,
            max_psi: 0.25,
            significance: 0.01,
            max_more_missing: Share { percent: 5.0 },
            max_out_of_range: Share { percent: 5.0 },
            max_unseen: Share { percent: 5.0 },
        }
    }
}

/// Of one metric.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MetricGate {
    /// Least value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// Greatest value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
    /// How much worse than production it may be: in the metric's own unit (`0.01`), or as a share of production's figure
    /// (`2%`). 0: it must be shown to be no worse.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub margin: Option<Margin>,
}

/// A difference that is put up with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Margin {
    Absolute(f64),
    OfProduction(Share),
}

impl Margin {
    /// In the metric's unit.
    pub fn of(self, production: f64) -> f64 {
        match self {
            Self::Absolute(margin) => margin,
            Self::OfProduction(share) => share.share() * production.abs(),
        }
    }
}

impl Serialize for Margin {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Absolute(margin) => serializer.serialize_f64(*margin),
            Self::OfProduction(share) => share.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Margin {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(f64),
            Share(Share),
        }
        Ok(match Written::deserialize(deserializer)? {
            Written::Number(margin) => Self::Absolute(margin),
            Written::Share(share) => Self::OfProduction(share),
        })
    }
}

impl JsonSchema for Margin {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Margin".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": ["number", "string"],
            "description": "a number in the metric's unit, or a share of production's figure",
            "minimum": 0,
            "pattern": super::units::SHARE_PATTERN,
            "examples": [0.01, "2%"]
        })
    }
}

/// Of each segment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SliceGate {
    /// Fewest labelled rows of a segment that is judged; smaller ones are listed.
    pub min_rows: u64,
    /// How much worse than production a segment may be in each metric that has a `margin`. Default: that margin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub margin: Option<Margin>,
}

impl Default for SliceGate {
    fn default() -> Self {
        Self { min_rows: 200, margin: None }
    }
}

/// Of the time that one row takes, alone, in this process on this machine.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LatencyGate {
    /// Longest 99th percentile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_p99: Option<Span>,
    /// Largest median, as a multiple of production's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_ratio: Option<f64>,
}

/// Of the model's bytes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SizeGate {
    /// Most bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<u64>,
    /// Most bytes, as a multiple of production's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_ratio: Option<f64>,
}

/// Of a version that has no other to be compared with: the first one, or one that is judged `--against none`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RequireGate {
    /// Such a version is refused: only one that was compared passes.
    pub comparison: bool,
    /// Some metric must have a `min` or `max`, or such a version is undecided: nothing was asked of its predictions.
    pub limits: bool,
}

impl Default for RequireGate {
    fn default() -> Self {
        Self { comparison: false, limits: true }
    }
}

impl Default for GateFile {
    fn default() -> Self {
        Self {
            version: 1,
            data: DataGate::default(),
            metrics: BTreeMap::new(),
            slices: SliceGate::default(),
            latency: LatencyGate::default(),
            size: SizeGate::default(),
            require: RequireGate::default(),
        }
    }
}

/// Reads and checks a gate file; every error has its line and column.
///
/// # Errors
/// It cannot be read, or is wrong.
pub fn load_gate(path: &Path) -> Result<Loaded<GateFile>, Diagnostics> {
    let text = read(path)?;
    parse_gate_str(&shown(path), &text).into_result()
}

/// All layers of a gate file that is at hand; `name` stands for it in messages.
pub fn parse_gate_str(name: &str, text: &str) -> Outcome<GateFile> {
    let mut outcome = parse(name, text, |_| Vec::new(), meaning);
    let help = "docs/gate.md says what each key takes";
    outcome.found.replace_remedies(&["invalid", "out-of-range", "wrong-type"], help);
    outcome
}

/// Metrics that a gate can judge: better when they are higher, or when they are lower.
pub const HIGHER_IS_BETTER: [&str; 26] = [
    "accuracy",
    "balanced_accuracy",
    "f1",
    "f1_macro",
    "f1_micro",
    "f1_weighted",
    "gini",
    "ks_score",
    "mcc",
    "mrr",
    "ndcg",
    "pr_auc",
    "precision",
    "precision_macro",
    "precision_micro",
    "precision_weighted",
    "r2",
    "recall",
    "recall_macro",
    "recall_micro",
    "recall_weighted",
    "roc_auc",
    "roc_auc_ovr_macro",
    "specificity",
    "value",
    "value_per_prediction",
];
pub const LOWER_IS_BETTER: [&str; 10] =
    ["brier", "ece", "log_loss", "mae", "mape", "medae", "mse", "msle", "rmse", "rmsle"];

/// Whether more of a metric is better; `None`: no metric of this name can be judged.
pub fn higher_is_better(metric: &str) -> Option<bool> {
    let name = metric.split_once('@').map_or(metric, |(name, _)| name);
    if HIGHER_IS_BETTER.contains(&name) {
        return Some(true);
    }
    LOWER_IS_BETTER.contains(&name).then_some(false)
}

fn meaning(file: &GateFile) -> Vec<Problem> {
    let mut problems = Vec::new();
    if file.version != 1 {
        let message = format!("version {} of this format is not known", file.version);
        problems.push(Problem::error("bad-version", "/version", message).help("write `version: 1`"));
    }
    if !(file.data.significance > 0.0 && file.data.significance < 1.0) {
        let message = "a p-value lies between 0 and 1";
        problems.push(Problem::error("out-of-range", "/data/significance", message).help("write 0.01"));
    }
    for (pointer, value) in [
        ("/data/max_psi", Some(file.data.max_psi)),
        ("/latency/max_ratio", file.latency.max_ratio),
        ("/size/max_ratio", file.size.max_ratio),
    ] {
        if value.is_some_and(|value| value <= 0.0) {
            let problem = Problem::error("out-of-range", pointer, "this must be above 0");
            problems.push(problem.help("write a larger number, or leave it out"));
        }
    }
    for (name, metric) in &file.metrics {
        let pointer = child("/metrics", name);
        if higher_is_better(name).is_none() {
            let known = HIGHER_IS_BETTER.into_iter().chain(LOWER_IS_BETTER);
            let problem =
                Problem::error("unknown-metric", &pointer, format!("`{name}` is no metric that can be judged"));
            let help = suggest(name, known).unwrap_or_else(|| "docs/gate.md lists them".into());
            problems.push(problem.key().help(help));
        }
        if metric.min.is_none() && metric.max.is_none() && metric.margin.is_none() {
            let problem = Problem::error("missing-key", &pointer, format!("nothing is asked of `{name}`")).key();
            problems.push(problem.help("add `margin: 0.01`, `min` or `max`"));
        }
        if metric.min.zip(metric.max).is_some_and(|(min, max)| min > max) {
            let problem =
                Problem::error("contradiction", &pointer, format!("no `{name}` is that large and that small"));
            problems.push(problem.key().help("make `min` the smaller one"));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_says_what_each_metric_must_reach() {
        let text = "version: 1\nmetrics:\n  roc_auc: {min: 0.7, margin: 0.01}\n  log_loss: {margin: 2%}\n";
        let gate = parse_gate_str("gate.yaml", text).into_result().unwrap().value;
        assert_eq!(gate.metrics["roc_auc"].margin, Some(Margin::Absolute(0.01)));
        assert_eq!(gate.metrics["log_loss"].margin.map(|margin| margin.of(0.5)), Some(0.01));
        assert_eq!(gate.data, DataGate::default());
    }

    /// Mistakes of shape do not hide those of meaning, nor the other way round; a metric that lost a key is not blamed for
    /// asking nothing.
    #[test]
    fn every_error_of_a_gate_file_has_its_place() {
        let text = "version: 2\ndata: {significance: 1, min_row: 5}\nmetrics:\n  brier: {margin: -1}\n  auc: {margin: 0.01}\n  \
                    mae: {}\n  f1: {min: 0.9, max: 0.1}\nsize: {max_ratio: 0}\n";
        let places = [
            "1:10: error[bad-version]",
            "2:22: error[out-of-range]",
            "2:25: error[unknown-key]",
            "4:19: error[",
            "5:3: error[unknown-metric]",
            "6:3: error[missing-key]",
            "7:3: error[contradiction]",
            "8:19: error[out-of-range]",
        ];
        let found = parse_gate_str("gate.yaml", text).found;
        let text = found.text(false);
        for place in places {
            assert!(text.contains(&format!("gate.yaml:{place}")), "{place} is not in\n{text}");
        }
        assert_eq!(found.errors(), places.len(), "{text}");
        let unversioned = parse_gate_str("gate.yaml", "size: {max_ratio: 0}\n").found.text(false);
        assert!(
            unversioned.contains("1:19: error[out-of-range]") && unversioned.contains("missing-key"),
            "{unversioned}"
        );
    }
}
