//! From measurements and a gate file to verdicts. Pure: the same numbers give the same verdict.
//!
//! A figure passes where its 95% confidence interval lies on the right side of what is asked, is refused where it lies on
//! the wrong side, and is undecided in between: then more rows are needed, and nothing was shown. All checks must pass,
//! so no correction for their number is needed for a pass to be one (an intersection-union test: Berger, 1982). Segments
//! are another question, whether any of them is surely harmed: they pass unless that is shown, at 5% over all of them
//! (Bonferroni).

use serde::Serialize;
use statrs::distribution::{ContinuousCDF, StudentsT};

use super::measurements::{Compared, Difference, Measurements, Side};
use crate::config::gate::{GateFile, Margin, MetricGate, higher_is_better};
use crate::stats::multiple_testing::benjamini_hochberg;

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
    let mut checks = data_checks(&measurements, gate, &mut notes);
    checks.extend(feature_checks(&measurements));
    let default = MetricGate { margin: Some(Margin::Absolute(0.01)), ..MetricGate::default() };
    let mut metrics: Vec<(&str, &MetricGate)> =
        gate.metrics.iter().map(|(name, metric)| (name.as_str(), metric)).collect();
    if metrics.is_empty() {
        metrics.push((default_metric, &default));
    }
    for (name, metric) in &metrics {
        checks.extend(metric_checks(&measurements, name, metric));
    }
    checks.extend(slice_checks(&measurements, gate, &metrics, &mut notes));
    checks.extend(latency_checks(&measurements, gate));
    checks.extend(size_checks(&measurements, gate));
    if measurements.against.is_none() {
        notes.push("nothing was compared with: no version was in production".into());
    }
    let outcome = checks.iter().map(|check| check.outcome).max().unwrap_or(Outcome::Undecided);
    GateReport { outcome, checks, notes, measurements }
}

fn check(stage: Stage, name: impl Into<String>, outcome: Outcome, found: String, wanted: String) -> Check {
    Check { stage, name: name.into(), outcome, found, wanted }
}

const fn passes_if(passes: bool) -> Outcome {
    if passes { Outcome::Pass } else { Outcome::Refused }
}

fn data_checks(measurements: &Measurements, gate: &GateFile, notes: &mut Vec<String>) -> Vec<Check> {
    let (data, wanted) = (&measurements.data, &gate.data);
    let schema = match &data.schema_error {
        Some(error) => check(Stage::Data, "schema", Outcome::Refused, error.clone(), "what the model file says".into()),
        None => {
            let found = format!("{} rows with every column of the model file", data.rows);
            check(Stage::Data, "schema", Outcome::Pass, found, "what the model file says".into())
        }
    };
    let usable = data.labelled.saturating_sub(data.incomplete);
    let enough = if usable >= wanted.min_rows { Outcome::Pass } else { Outcome::Undecided };
    let found = format!("{usable} with label and score, of {}", data.rows);
    let rows = check(Stage::Data, "labelled rows", enough, found, format!("at least {}", wanted.min_rows));
    let mut checks = vec![schema, rows];
    if data.schema_error.is_some() {
        return checks;
    }
    if data.reference_rows.is_none() {
        notes.push("drift and quality of the rows were not looked at: there is no reference".into());
        return checks;
    }
    let p_values: Vec<f64> = data.features.iter().map(|feature| feature.p_value.unwrap_or(f64::NAN)).collect();
    for (feature, p) in data.features.iter().zip(benjamini_hochberg(&p_values)) {
        let name = &feature.name;
        let drifted = feature.psi.is_some_and(|psi| psi > wanted.max_psi) && p < wanted.significance;
        let psi =
            feature.psi.map_or("no value".to_string(), |psi| format!("psi {}, adjusted p {}", number(psi), number(p)));
        let asked =
            format!("psi at most {}, or adjusted p from {} up", number(wanted.max_psi), number(wanted.significance));
        let outcome = if feature.psi.is_none() { Outcome::Undecided } else { passes_if(!drifted) };
        checks.push(check(Stage::Data, format!("drift of {name}"), outcome, psi, asked));
        let more = feature.missing - feature.reference_missing;
        let found =
            format!("{} missing, {} in the reference", percent(feature.missing), percent(feature.reference_missing));
        let asked = format!("at most {} more", wanted.max_more_missing);
        let outcome = passes_if(more <= wanted.max_more_missing.share());
        checks.push(check(Stage::Data, format!("missing values of {name}"), outcome, found, asked));
        for (rate, most, what) in [
            (feature.out_of_range, wanted.max_out_of_range, "values out of range of"),
            (feature.unseen, wanted.max_unseen, "unseen categories of"),
        ] {
            if let Some(rate) = rate {
                let outcome = passes_if(rate <= most.share());
                checks.push(check(
                    Stage::Data,
                    format!("{what} {name}"),
                    outcome,
                    percent(rate),
                    format!("at most {most}"),
                ));
            }
        }
    }
    checks
}

fn feature_checks(measurements: &Measurements) -> Vec<Check> {
    let features = &measurements.features;
    let found = match features.mismatches.is_empty() {
        true => format!("takes {}", features.candidate.join(", ")),
        false => features.mismatches.join("; "),
    };
    let outcome = passes_if(features.mismatches.is_empty());
    let mut checks =
        vec![check(Stage::Features, "names and types", outcome, found, "features of the model file".into())];
    if features.mismatches.is_empty() {
        let outcome = match (features.parity_rows, features.parity_differences) {
            (0, _) => Outcome::Undecided,
            (_, differences) => passes_if(differences == 0),
        };
        let found = format!("{} of {} rows differ", features.parity_differences, features.parity_rows);
        let wanted = "rows scored alone and in batches are equal to 0.00001".to_string();
        checks.push(check(Stage::Features, "parity", outcome, found, wanted));
    }
    checks
}

/// What is asked of one metric over all rows.
fn metric_checks(measurements: &Measurements, name: &str, gate: &MetricGate) -> Vec<Check> {
    let found = measurements.metrics.get(name).copied().unwrap_or_default();
    let mut checks = Vec::new();
    for (limit, is_least, word) in [(gate.min, true, "at least"), (gate.max, false, "at most")] {
        let Some(limit) = limit else { continue };
        let outcome = match (found.candidate, found.candidate_interval) {
            (Some(_), Some([low, high])) => beyond(low, high, limit, is_least),
            // A figure without interval is taken as it is.
            (Some(value), None) => passes_if(if is_least { value >= limit } else { value <= limit }),
            (None, _) => Outcome::Undecided,
        };
        checks.push(check(Stage::Model, name, outcome, figure(&found), format!("{word} {}", number(limit))));
    }
    if let (Some(margin), Some(against)) = (gate.margin, &measurements.against) {
        let margin = margin.of(found.against.unwrap_or(0.0));
        let outcome = found.difference.map_or(Outcome::Undecided, |difference| {
            let [low, high] = interval(&difference, 0.05);
            match higher_is_better(name) {
                Some(false) => beyond(low, high, margin, false),
                _ => beyond(low, high, -margin, true),
            }
        });
        let wanted = format!("at most {} worse than version {}", number(margin), against.version);
        checks.push(check(Stage::Model, format!("{name} against production"), outcome, compared(&found, 0.05), wanted));
    }
    checks
}

/// An interval against a limit.
fn beyond(low: f64, high: f64, limit: f64, is_least: bool) -> Outcome {
    let (shown, denied) = if is_least { (low >= limit, high < limit) } else { (high <= limit, low > limit) };
    match (shown, denied) {
        (true, _) => Outcome::Pass,
        (_, true) => Outcome::Refused,
        _ => Outcome::Undecided,
    }
}

/// Whether a segment is surely worse than the margin allows.
fn slice_checks(
    measurements: &Measurements,
    gate: &GateFile,
    metrics: &[(&str, &MetricGate)],
    notes: &mut Vec<String>,
) -> Vec<Check> {
    let judged: Vec<_> = metrics.iter().filter_map(|(name, metric)| Some((*name, metric.margin?))).collect();
    if measurements.against.is_none() || judged.is_empty() {
        return Vec::new();
    }
    let (large, small): (Vec<_>, Vec<_>) =
        measurements.slices.iter().partition(|slice| slice.labelled >= gate.slices.min_rows);
    if !small.is_empty() {
        let names: Vec<String> = small.iter().map(|slice| format!("{} ({})", slice.name, slice.labelled)).collect();
        let least = gate.slices.min_rows;
        notes.push(format!("not judged, as they have fewer than {least} labelled rows: {}", names.join(", ")));
    }
    let questions = (large.len() * judged.len()).max(1) as f64;
    let mut checks = Vec::new();
    for slice in large {
        for (name, margin) in &judged {
            let found = slice.metrics.get(*name).copied().unwrap_or_default();
            // A segment of one class has no such figure: there is nothing to be worse at.
            let (Some(difference), Some(against)) = (found.difference, found.against) else { continue };
            let margin = gate.slices.margin.unwrap_or(*margin).of(against);
            // One side of the interval is asked about.
            let level = 2.0 * 0.05 / questions;
            let [low, high] = interval(&difference, level);
            let harmed = match higher_is_better(name) {
                Some(false) => low > margin,
                _ => high < -margin,
            };
            let wanted = format!("not surely more than {} worse", number(margin));
            let name = format!("{name} where {}", slice.name);
            checks.push(check(Stage::Model, name, passes_if(!harmed), compared(&found, level), wanted));
        }
    }
    checks
}

fn latency_checks(measurements: &Measurements, gate: &GateFile) -> Vec<Check> {
    let mut checks = Vec::new();
    let latency = measurements.candidate.latency;
    if let Some(most) = gate.latency.max_p99 {
        let outcome =
            latency.map_or(Outcome::Undecided, |latency| passes_if(latency.p99_us <= most.ms as f64 * 1_000.0));
        let found = latency
            .map_or("none".into(), |latency| format!("{} us over {} rows", number(latency.p99_us), latency.rows));
        checks.push(check(Stage::Model, "latency, 99th percentile", outcome, found, format!("at most {most}")));
    }
    let of = |side: &Side| side.latency;
    if let (Some(most), Some(against)) = (gate.latency.max_ratio, measurements.against.as_ref().and_then(of)) {
        let (outcome, found) = match latency {
            None => (Outcome::Undecided, "none".into()),
            Some(latency) => {
                let ratio = latency.p50_us / against.p50_us;
                let surely = latency.p50_interval_us.zip(against.p50_interval_us);
                let least = surely.map_or(ratio, |(ours, theirs)| ours[0] / theirs[1]);
                let outcome = match (ratio <= most, least > most) {
                    (true, _) => Outcome::Pass,
                    (false, true) => Outcome::Refused,
                    (false, false) => Outcome::Undecided,
                };
                let found = format!(
                    "{} us against {} us, {} times",
                    number(latency.p50_us),
                    number(against.p50_us),
                    number(ratio)
                );
                (outcome, found)
            }
        };
        let wanted = format!("at most {} times production's", number(most));
        checks.push(check(Stage::Model, "latency, median", outcome, found, wanted));
    }
    checks
}

fn size_checks(measurements: &Measurements, gate: &GateFile) -> Vec<Check> {
    let bytes = measurements.candidate.bytes;
    let mut checks = Vec::new();
    if let Some(most) = gate.size.max_bytes {
        let outcome = passes_if(bytes <= most);
        checks.push(check(Stage::Model, "size", outcome, format!("{bytes} bytes"), format!("at most {most} bytes")));
    }
    if let (Some(most), Some(against)) = (gate.size.max_ratio, &measurements.against) {
        let ratio = bytes as f64 / against.bytes.max(1) as f64;
        let found = format!("{bytes} bytes against {}, {} times", against.bytes, number(ratio));
        let wanted = format!("at most {} times production's", number(most));
        checks.push(check(Stage::Model, "size against production", passes_if(ratio <= most), found, wanted));
    }
    checks
}

/// Two-sided confidence interval of a difference: with probability `level` it misses.
pub fn interval(difference: &Difference, level: f64) -> [f64; 2] {
    let freedom = difference.groups.saturating_sub(1).max(1) as f64;
    let reach = StudentsT::new(0.0, 1.0, freedom).map_or(f64::INFINITY, |law| law.inverse_cdf(1.0 - level / 2.0));
    // 0 times infinity: equal figures are equal however unsure.
    let half = if difference.standard_error == 0.0 { 0.0 } else { reach * difference.standard_error };
    [difference.value - half, difference.value + half]
}

fn figure(found: &Compared) -> String {
    match (found.candidate, found.candidate_interval) {
        (Some(value), Some([low, high])) => format!("{} [{}, {}]", number(value), number(low), number(high)),
        (Some(value), None) => number(value),
        (None, _) => "no value".into(),
    }
}

fn compared(found: &Compared, level: f64) -> String {
    let (Some(candidate), Some(against), Some(difference)) = (found.candidate, found.against, found.difference) else {
        return "no value".into();
    };
    let [low, high] = interval(&difference, level);
    let signed = |value: f64| if value > 0.0 { format!("+{}", number(value)) } else { number(value) };
    format!(
        "{} against {}, {} [{}, {}]",
        number(candidate),
        number(against),
        signed(difference.value),
        signed(low),
        signed(high)
    )
}

/// Four significant digits, plain where that is short.
fn number(value: f64) -> String {
    if !value.is_finite() {
        return "no number".into();
    }
    if value == 0.0 {
        return "0".into();
    }
    let magnitude = value.abs().log10().floor() as i32;
    if !(-4..9).contains(&magnitude) {
        return format!("{value:.2e}");
    }
    let decimals = (3 - magnitude).max(0) as usize;
    let text = format!("{value:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_string() } else { text }
}

fn percent(share: f64) -> String {
    format!("{}%", number(100.0 * share))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::gate::parse_gate_str;
    use crate::scorer::gate::measurements::{Data, FeatureData, Features, Latency, Slice};

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
        parse_gate_str("gate.yaml", &format!("version: 1\n{text}")).unwrap().value
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
        found.features.parity_differences = 1;
        assert_eq!(outcome_of(&found, "", "parity"), Outcome::Refused);
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
    fn a_schema_that_does_not_fit_is_refused_and_a_first_version_is_judged_alone() {
        let mut found = measurements();
        found.data.schema_error = Some("no column `amount`".into());
        assert_eq!(judge(found, &GateFile::default(), "roc_auc").outcome, Outcome::Refused);
        let mut first = measurements();
        first.against = None;
        let report = judge(first, &GateFile::default(), "roc_auc");
        assert_eq!(report.outcome, Outcome::Pass);
        assert!(report.checks.iter().all(|check| !check.name.contains("production")), "{:?}", report.checks);
    }
}
