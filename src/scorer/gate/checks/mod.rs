//! What a gate asks, one file for each kind of question: a function from measurements and the gate file to `Check`s.
//!
//! To add a check: a file here and its line in `verdict::judge`; what it needs in `measurements`, a key in `config::gate`
//! with a good and a bad fixture, a row in docs/gate.md, and a candidate in `tests/scorer_gate.rs` that fails it alone.

pub mod alone;
pub mod costs;
pub mod data;
pub mod features;
pub mod metrics;
pub mod slices;

use super::verdict::{Check, Outcome, Stage};

pub(super) fn check(stage: Stage, name: impl Into<String>, outcome: Outcome, found: String, wanted: String) -> Check {
    Check { stage, name: name.into(), outcome, found, wanted }
}

pub(super) const fn passes_if(passes: bool) -> Outcome {
    if passes { Outcome::Pass } else { Outcome::Refused }
}

/// Four significant digits, plain where that is short.
pub(super) fn number(value: f64) -> String {
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

pub(super) fn percent(share: f64) -> String {
    format!("{}%", number(100.0 * share))
}
