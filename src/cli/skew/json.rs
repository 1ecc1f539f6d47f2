//! The report for programs: one document.

use serde_json::{Value, json};

use super::{FeatureReport, Report};
use crate::stats::skew::{Example, Outcome};

/// Version of the document's shape.
const FORMAT_VERSION: u32 = 1;

pub fn document(report: &Report) -> Value {
    let counts = &report.counts;
    json!({
        "version": FORMAT_VERSION,
        "online": {"path": report.online.0, "rows": report.online.1},
        "offline": {"path": report.offline.0, "rows": report.offline.1},
        "matched_by": {
            "keys": report.plan.keys.iter().map(|(online, _)| online).collect::<Vec<_>>(),
            "timestamp": report.plan.time.as_ref().map(|time| &time.online),
            "offline_timestamp": report.plan.time.as_ref().map(|time| &time.offline),
            "max_age_ms": report.plan.time.as_ref().and_then(|time| time.max_age_ms),
        },
        "rows": {
            "matched": counts.matched,
            "online_unmatched": counts.online_unmatched,
            "online_outside_max_age": counts.online_outside_max_age,
            "online_duplicates": counts.online_duplicates,
            "online_without_key": counts.online_without_key,
            "online_without_time": counts.online_without_time,
            "offline_duplicates": counts.offline_duplicates,
            "offline_without_key": counts.offline_without_key,
            "offline_without_time": counts.offline_without_time,
            "offline_keys": counts.offline_keys,
            "offline_unmatched_keys": counts.offline_unmatched_keys,
        },
        "max_rate": report.max_rate,
        "features": report.features.iter().map(|one| feature(one, report.max_rate)).collect::<Vec<_>>(),
        "notes": report.notes,
    })
}

fn feature(feature: &FeatureReport, max_rate: Option<f64>) -> Value {
    let skew = &feature.skew;
    let reasons: serde_json::Map<String, Value> =
        skew.missing_reasons().iter().map(|(reason, count)| (reason.as_str().to_string(), json!(count))).collect();
    json!({
        "feature": feature.name,
        "offline_column": feature.offline_column,
        "pairs": skew.pairs(),
        "compared": skew.compared(),
        "equal": skew.count(Outcome::Equal),
        "within_tolerance": skew.count(Outcome::WithinTolerance),
        "different": skew.count(Outcome::Different),
        "missing_online": skew.count(Outcome::MissingOnline),
        "missing_offline": skew.count(Outcome::MissingOffline),
        "both_missing": skew.count(Outcome::BothMissing),
        "missing_online_reasons": reasons,
        "mismatch_rate": skew.mismatch_rate(),
        "mismatch_rate_interval": skew.mismatch_interval(),
        "above_max_rate": max_rate.map(|_| feature.is_above(max_rate)),
        "mean_absolute_difference": skew.mean_absolute_difference(),
        "mean_relative_difference": skew.mean_relative_difference(),
        "largest_absolute_difference": skew.largest_absolute_difference(),
        "largest_relative_difference": skew.largest_relative_difference(),
        "older_online": skew.older_online().map(|(older, _)| older),
        "examples": skew.examples().iter().map(example).collect::<Vec<_>>(),
    })
}

fn example(example: &Example) -> Value {
    json!({
        "outcome": outcome(example.outcome),
        "key": example.key,
        "time_ms": example.time_ms,
        "online": example.online,
        "offline": example.offline,
    })
}

fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Equal => "equal",
        Outcome::WithinTolerance => "within_tolerance",
        Outcome::Different => "different",
        Outcome::MissingOnline => "missing_online",
        Outcome::MissingOffline => "missing_offline",
        Outcome::BothMissing => "both_missing",
    }
}
