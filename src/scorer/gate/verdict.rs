//! From measurements and a gate file to verdicts. Pure: the same numbers give the same verdict.
//!
//! A figure passes where its 95% confidence interval lies on the right side of what is asked, is refused where it lies on
//! the wrong side, and is undecided in between: then more rows are needed, and nothing was shown. All checks must pass,
//! so no correction for their number is needed for a pass to be one (an intersection-union test: Berger, 1982). Segments
//! are another question, whether any of them is surely harmed: they pass unless that is shown, at 5% over all of them
//! (Bonferroni).

use serde::Serialize;

use super::checks;
use super::measurements::Measurements;
use crate::config::gate::{GateFile, Margin, MetricGate};
use crate::scorer::registry::GateOutcome;

/// Of a check, and of the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Pass,
    /// Too little data to say.
    Undecided,
    Refused,
}

impl Outcome {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Undecided => "undecided",
            Self::Refused => "refused",
        }
    }
}

impl From<Outcome> for GateOutcome {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Pass => Self::Pass,
            Outcome::Undecided => Self::Undecided,
            Outcome::Refused => Self::Refused,
        }
    }
}

/// What a check is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    Data,
    Features,
    Model,
}

impl Stage {
    pub const ALL: [Self; 3] = [Self::Data, Self::Features, Self::Model];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Features => "features",
            Self::Model => "model",
        }
    }
}

/// One question, with the numbers that answer it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Check {
    pub stage: Stage,
    /// `drift of amount`, `roc_auc against production`.
    pub name: String,
    pub outcome: Outcome,
    pub found: String,
    pub wanted: String,
}

/// What a gate found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GateReport {
    pub outcome: Outcome,
    pub checks: Vec<Check>,
    /// What was not looked at, and why.
    pub notes: Vec<String>,
    pub measurements: Measurements,
}

/// Judges; `default_metric` is asked for where the gate file names none.
pub fn judge(measurements: Measurements, gate: &GateFile, default_metric: &str) -> GateReport {
    let mut notes = Vec::new();
    let default = MetricGate { margin: Some(Margin::Absolute(0.01)), ..MetricGate::default() };
    let mut metrics: Vec<(&str, &MetricGate)> =
        gate.metrics.iter().map(|(name, metric)| (name.as_str(), metric)).collect();
    if metrics.is_empty() {
        metrics.push((default_metric, &default));
    }
    let mut found = checks::data::checks(&measurements, gate, &mut notes);
    found.extend(checks::features::checks(&measurements, &mut notes));
    found.extend(checks::alone::checks(&measurements, gate, &metrics, &mut notes));
    for (name, metric) in &metrics {
        found.extend(checks::metrics::checks(&measurements, name, metric));
    }
    found.extend(checks::slices::checks(&measurements, gate, &metrics, &mut notes));
    found.extend(checks::costs::latency(&measurements, gate));
    found.extend(checks::costs::size(&measurements, gate));
    let outcome = found.iter().map(|check| check.outcome).max().unwrap_or(Outcome::Undecided);
    GateReport { outcome, checks: found, notes, measurements }
}

impl GateReport {
    /// `refused: drift of amount, parity of scores`: the verdict, and the checks that it is for.
    pub fn summary(&self) -> String {
        let at_fault = self.checks.iter().filter(|check| check.outcome == self.outcome);
        let names: Vec<&str> = at_fault.map(|check| check.name.as_str()).collect();
        match self.outcome {
            Outcome::Pass => format!("pass: {} checks", self.checks.len()),
            outcome => format!("{}: {}", outcome.name(), names.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::gate::parse_gate_str;
    use crate::scorer::gate::measurements::{Compared, Data, Difference, FeatureData, Features, Latency, Side, Slice};

    fn side(version: &str) -> Side {
        let latency = Latency { rows: 500, p50_us: 10.0, p50_interval_us: Some([9.5, 10.5]), p99_us: 40.0 };
        Side { version: version.into(), bytes: 1_000, latency: Some(latency) }
    }

    fn auc(difference: f64, standard_error: f64) -> Compared {
        Compared {
            candidate: Some(0.8 + difference),
            candidate_interval: Some([0.79 + difference, 0.81 + difference]),
            against: Some(0.8),
            difference: Some(Difference { value: difference, standard_error, groups: 50 }),
        }
    }

    fn measurements() -> Measurements {
        let amount = FeatureData {
            name: "amount".into(),
            values: 2_000,
            psi: Some(0.01),
            p_value: Some(0.4),
            ..FeatureData::default()
        };
        Measurements {
            model: "credit".into(),
            candidate: side("2"),
            against: Some(side("1")),
            against_asked: "production".into(),
            data: Data {
                rows: 2_000,
                labelled: 2_000,
                reference_rows: Some(5_000),
                features: vec![amount],
                ..Data::default()
            },
            features: Features { candidate: vec!["amount".into()], parity_rows: 100, ..Features::default() },
            metrics: [("roc_auc".to_string(), auc(0.01, 0.004))].into(),
            slices: Vec::new(),
        }
    }

    fn gate(text: &str) -> GateFile {
        parse_gate_str("gate.yaml", &format!("version: 1\n{text}")).into_result().unwrap().value
    }

    fn outcome_of(measurements: &Measurements, text: &str, name: &str) -> Outcome {
        let report = judge(measurements.clone(), &gate(text), "roc_auc");
        let found = report.checks.iter().find(|check| check.name == name);
        found.unwrap_or_else(|| panic!("no check `{name}` in {:#?}", report.checks)).outcome
    }

    #[test]
    fn a_candidate_that_is_no_worse_passes() {
        let report = judge(measurements(), &GateFile::default(), "roc_auc");
        assert_eq!(report.outcome, Outcome::Pass, "{:#?}", report.checks);
    }

    #[test]
    fn one_that_is_surely_worse_is_refused_and_one_that_may_be_is_undecided() {
        // 50 groups: t(0.975, 49) = 2.0096.
        for (difference, error, outcome) in [
            (-0.001, 0.004, Outcome::Pass),
            (-0.001, 0.005, Outcome::Undecided),
            (-0.02, 0.006, Outcome::Undecided),
            (-0.02, 0.004, Outcome::Refused),
            (0.0, 0.0, Outcome::Pass),
        ] {
            let mut found = measurements();
            found.metrics.insert("roc_auc".into(), auc(difference, error));
            assert_eq!(outcome_of(&found, "", "roc_auc against production"), outcome, "{difference} +- {error}");
        }
    }

    #[test]
    fn of_a_loss_less_is_better() {
        let mut found = measurements();
        found.metrics.insert("log_loss".into(), auc(-0.1, 0.001));
        let text = "metrics: {log_loss: {margin: 0.01}}";
        assert_eq!(outcome_of(&found, text, "log_loss against production"), Outcome::Pass);
        found.metrics.insert("log_loss".into(), auc(0.1, 0.001));
        assert_eq!(outcome_of(&found, text, "log_loss against production"), Outcome::Refused);
    }

    #[test]
    fn a_floor_must_be_shown_by_the_interval() {
        for (least, outcome) in [(0.75, Outcome::Pass), (0.81, Outcome::Undecided), (0.9, Outcome::Refused)] {
            let text = format!("metrics: {{roc_auc: {{min: {least}}}}}");
            assert_eq!(outcome_of(&measurements(), &text, "roc_auc"), outcome, "{least}");
        }
        assert_eq!(outcome_of(&measurements(), "metrics: {f1: {min: 0.5}}", "f1"), Outcome::Undecided);
    }

    #[test]
    fn too_few_rows_decide_nothing() {
        let mut found = measurements();
        found.data.incomplete = 1_600;
        assert_eq!(outcome_of(&found, "", "labelled rows"), Outcome::Undecided);
        assert_eq!(judge(found, &GateFile::default(), "roc_auc").outcome, Outcome::Undecided);
    }

    #[test]
    fn drift_needs_effect_and_significance() {
        for (psi, p, outcome) in [(0.4, 1e-9, Outcome::Refused), (0.4, 0.2, Outcome::Pass), (0.1, 1e-9, Outcome::Pass)]
        {
            let mut found = measurements();
            found.data.features[0].psi = Some(psi);
            found.data.features[0].p_value = Some(p);
            assert_eq!(outcome_of(&found, "", "drift of amount"), outcome, "psi {psi}, p {p}");
        }
    }

    #[test]
    fn quality_is_judged_against_the_reference() {
        let mut found = measurements();
        found.data.features[0].missing = 0.12;
        found.data.features[0].reference_missing = 0.05;
        found.data.features[0].out_of_range = Some(0.2);
        found.data.features[0].unseen = Some(0.01);
        assert_eq!(outcome_of(&found, "", "missing values of amount"), Outcome::Refused);
        assert_eq!(outcome_of(&found, "", "values out of range of amount"), Outcome::Refused);
        assert_eq!(outcome_of(&found, "", "unseen categories of amount"), Outcome::Pass);
        assert_eq!(outcome_of(&found, "data: {max_more_missing: 10%}", "missing values of amount"), Outcome::Pass);
    }

    #[test]
    fn a_segment_that_is_surely_harmed_refuses_however_good_the_whole_is() {
        let slice = |name: &str, labelled, difference, error| Slice {
            name: name.into(),
            labelled,
            metrics: [("roc_auc".to_string(), auc(difference, error))].into(),
        };
        let mut found = measurements();
        found.slices = vec![
            slice("country=DE", 900, -0.1, 0.01),
            slice("country=FR", 900, -0.1, 0.2),
            slice("country=MT", 3, -0.9, 0.0),
        ];
        assert_eq!(outcome_of(&found, "", "roc_auc where country=DE"), Outcome::Refused);
        assert_eq!(outcome_of(&found, "", "roc_auc where country=FR"), Outcome::Pass);
        assert_eq!(outcome_of(&found, "slices: {margin: 0.2}", "roc_auc where country=DE"), Outcome::Pass);
        let report = judge(found, &GateFile::default(), "roc_auc");
        assert!(report.notes.iter().any(|note| note.contains("country=MT (3)")), "{:?}", report.notes);
    }

    #[test]
    fn features_that_do_not_fit_or_differ_are_refused() {
        let mut found = measurements();
        found.features.score_differences = 1;
        found.features.feature_differences = Some(0);
        assert_eq!(outcome_of(&found, "", "parity of scores"), Outcome::Refused);
        assert_eq!(outcome_of(&found, "", "parity of features"), Outcome::Pass);
        found.features.feature_differences = Some(3);
        assert_eq!(outcome_of(&found, "", "parity of features"), Outcome::Refused);
        found.features.mismatches = vec!["it takes `income`, which the model file does not have".into()];
        assert_eq!(outcome_of(&found, "", "names and types"), Outcome::Refused);
    }

    #[test]
    fn latency_and_size_have_limits_of_their_own_and_beside_production() {
        let mut found = measurements();
        found.candidate.bytes = 5_000;
        found.candidate.latency =
            Some(Latency { rows: 500, p50_us: 30.0, p50_interval_us: Some([29.0, 31.0]), p99_us: 2_000.0 });
        assert_eq!(outcome_of(&found, "size: {max_bytes: 4999}", "size"), Outcome::Refused);
        assert_eq!(outcome_of(&found, "size: {max_ratio: 5}", "size against production"), Outcome::Pass);
        assert_eq!(outcome_of(&found, "latency: {max_p99: 1ms}", "latency, 99th percentile"), Outcome::Refused);
        assert_eq!(outcome_of(&found, "latency: {max_ratio: 2}", "latency, median"), Outcome::Refused);
        assert_eq!(outcome_of(&found, "latency: {max_ratio: 2.9}", "latency, median"), Outcome::Undecided);
        assert_eq!(outcome_of(&found, "latency: {max_ratio: 3}", "latency, median"), Outcome::Pass);
    }

    #[test]
    fn a_schema_that_does_not_fit_is_refused() {
        let mut found = measurements();
        found.data.schema_error = Some("no column `amount`".into());
        assert_eq!(judge(found, &GateFile::default(), "roc_auc").outcome, Outcome::Refused);
    }

    #[test]
    fn a_first_version_passes_by_limits_and_not_in_silence() {
        let mut first = measurements();
        first.against = None;
        for (text, name, outcome) in [
            ("", "limits", Outcome::Undecided),
            ("metrics: {roc_auc: {margin: 0.1}}", "limits", Outcome::Undecided),
            ("metrics: {roc_auc: {min: 0.7}}", "limits", Outcome::Pass),
            ("metrics: {roc_auc: {min: 0.95}}", "roc_auc", Outcome::Refused),
            ("require: {comparison: true}", "comparison", Outcome::Refused),
            ("require: {limits: false}", "schema", Outcome::Pass),
        ] {
            assert_eq!(outcome_of(&first, text, name), outcome, "{text}");
            let wanted =
                if text.contains("min: 0.7") || text.contains("limits: false") { Outcome::Pass } else { outcome };
            let report = judge(first.clone(), &gate(text), "roc_auc");
            assert_eq!(report.outcome, wanted, "{text}: {}", report.summary());
            assert!(report.notes.iter().any(|note| note.contains("no version is in production")), "{:?}", report.notes);
            assert!(report.checks.iter().all(|check| !check.name.contains("against")), "{:?}", report.checks);
        }
        let notes = judge(first, &gate("metrics: {roc_auc: {min: 0.7}}"), "roc_auc").notes;
        assert!(notes.iter().any(|note| note.ends_with("Judged by: roc_auc at least 0.7")), "{notes:?}");
    }
}
