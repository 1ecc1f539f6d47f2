//! Says in a few words what moved, in the units of the feature.

use super::compute::{FeatureReport, FeatureWindow, short};
use super::verdict::Cause;
use crate::config::model::Kind;
use crate::stats::metric::BinShare;

/// A median that moved by less than this share of the reference's standard deviation is not what moved.
const MEDIAN_SHIFT: f64 = 0.2;
/// A standard deviation that changed by a smaller factor is not what moved.
const SPREAD_FACTOR: f64 = 1.2;

/// One phrase: `median 20341 -> 25120`, `missing 1.0% -> 20.1%`, "`a` 60.2% -> 9.8%".
pub fn what_moved(feature: &FeatureReport, window: usize, cause: Cause) -> String {
    let values = &feature.windows[window];
    let rate = |key| values.metric(key).unwrap_or(0.0);
    match (cause, feature.kind) {
        (Cause::Missing, _) => {
            format!("missing {} -> {}", percent(rate("missing_rate_ref")), percent(rate("missing_rate")))
        }
        (Cause::Distribution, Kind::Numeric) => number(values).unwrap_or_default(),
        (Cause::Distribution, Kind::Categorical) => category(values).unwrap_or_default(),
        (Cause::Distribution, Kind::Vector) => String::new(),
    }
}

fn number(values: &FeatureWindow) -> Option<String> {
    let (median_before, median) = (values.reference_median?, values.metric("p50")?);
    let (spread_before, spread) = (values.metric("std_ref_ddof0")?, values.metric("std_ddof0")?);
    if (median - median_before).abs() > MEDIAN_SHIFT * spread_before {
        return Some(format!("median {} -> {}", short(median_before), short(median)));
    }
    if spread > spread_before * SPREAD_FACTOR || spread < spread_before / SPREAD_FACTOR {
        return Some(format!("standard deviation {} -> {}", short(spread_before), short(spread)));
    }
    let bin = most_moved(&values.bins)?;
    Some(format!("values {} {} -> {}", bin.label, percent(bin.reference), percent(bin.window)))
}

fn category(values: &FeatureWindow) -> Option<String> {
    let bin = most_moved(&values.bins)?;
    let unseen = values.metric("unseen_rate").unwrap_or(0.0);
    let new = if unseen > 0.0 && bin.reference > 0.0 {
        format!("; {} in categories the reference does not have", percent(unseen))
    } else {
        String::new()
    };
    let adjective = if bin.reference == 0.0 { "new " } else { "" };
    Some(format!("{adjective}`{}` {} -> {}{new}", bin.label, percent(bin.reference), percent(bin.window)))
}

fn most_moved(bins: &[BinShare]) -> Option<&BinShare> {
    let distance = |bin: &BinShare| (bin.reference - bin.window).abs();
    bins.iter().max_by(|a, b| distance(a).total_cmp(&distance(b)))
}

pub fn percent(share: f64) -> String {
    format!("{:.1}%", share * 100.0)
}

/// Probabilities below one in a million are not told apart.
pub fn probability(p: f64) -> String {
    if p < 1e-6 {
        "< 1e-6".into()
    } else if p < 1e-3 {
        format!("{p:.0e}")
    } else {
        format!("{p:.3}")
    }
}
