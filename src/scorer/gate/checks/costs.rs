//! What a version costs: the time of one row, and the model's bytes.

use super::{check, number, passes_if};
use crate::config::gate::GateFile;
use crate::scorer::gate::measurements::{Measurements, Side};
use crate::scorer::gate::verdict::{Check, Outcome, Stage};

pub fn latency(measurements: &Measurements, gate: &GateFile) -> Vec<Check> {
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

pub fn size(measurements: &Measurements, gate: &GateFile) -> Vec<Check> {
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
