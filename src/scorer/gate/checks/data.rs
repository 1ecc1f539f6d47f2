//! The rows: their columns, how many can be judged by, and what changed since the reference.

use super::{check, number, passes_if, percent};
use crate::config::gate::GateFile;
use crate::scorer::gate::measurements::Measurements;
use crate::scorer::gate::verdict::{Check, Outcome, Stage};
use crate::stats::multiple_testing::benjamini_hochberg;

pub fn checks(measurements: &Measurements, gate: &GateFile, notes: &mut Vec<String>) -> Vec<Check> {
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
