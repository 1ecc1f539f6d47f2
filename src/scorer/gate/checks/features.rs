//! Features: whether the version takes those that the monitor watches, and gets the same ones however rows come.

use super::{check, passes_if};
use crate::scorer::gate::measurements::{Features, Measurements};
use crate::scorer::gate::verdict::{Check, Outcome, Stage};

pub fn checks(measurements: &Measurements, notes: &mut Vec<String>) -> Vec<Check> {
    let features = &measurements.features;
    let found = match features.mismatches.is_empty() {
        true => format!("takes {}", features.candidate.join(", ")),
        false => features.mismatches.join("; "),
    };
    let outcome = passes_if(features.mismatches.is_empty());
    let mut checks =
        vec![check(Stage::Features, "names and types", outcome, found, "features of the model file".into())];
    if let (Some(against), true) = (&measurements.against, features.transform != features.against_transform) {
        let id = |transform: &Option<String>| transform.clone().unwrap_or_else(|| "none".into());
        notes.push(format!(
            "the transform is {}, that of version {} is {}",
            id(&features.transform),
            against.version,
            id(&features.against_transform)
        ));
    }
    if !features.mismatches.is_empty() {
        return checks;
    }
    if let Some(differences) = features.feature_differences {
        let wanted = "rows of a request and of a file have equal features, to the bit".to_string();
        checks.push(parity("parity of features", features, differences, wanted));
    }
    let wanted = "rows scored alone and in batches are equal to 0.00001".to_string();
    checks.push(parity("parity of scores", features, features.score_differences, wanted));
    checks
}

fn parity(name: &str, features: &Features, differences: u64, wanted: String) -> Check {
    let outcome = if features.parity_rows == 0 { Outcome::Undecided } else { passes_if(differences == 0) };
    let found = format!("{differences} of {} rows differ", features.parity_rows);
    check(Stage::Features, name, outcome, found, wanted)
}
