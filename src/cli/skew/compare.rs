//! One feature's pairs: its column of both sides, read, compared along the matching, and let go.

use super::SkewError;
use super::feast;
use super::matching::{Matching, NONE};
use super::plan::ComparedFeature;
use super::side::{Column, Side};
use crate::stats::skew::{Example, FeatureSkew, MissingReason, Value, compare};

pub fn compare_feature(
    feature: &ComparedFeature,
    matching: &Matching,
    online: &Side,
    offline: &Side,
) -> Result<FeatureSkew, SkewError> {
    let online_column = online.column(&feature.online)?;
    let offline_column = offline.column(&feature.offline)?;
    let statuses = feature.status.as_ref().map(|name| online.column(name)).transpose()?;
    let online_times = feature.timestamp.as_ref().map(|name| online.epoch_ms(name)).transpose()?;

    let mut skew = FeatureSkew::default();
    let pairs = matching.partners.iter().enumerate().filter(|(_, partner)| **partner != NONE);
    for (row, partner) in pairs {
        let partner = *partner as usize;
        let (value, reason) = online_value(&online_column, statuses.as_ref(), row);
        let offline_value = offline_column.value(partner);
        let comparison = compare(value, offline_value, feature.tolerance);
        skew.add(comparison, || Example {
            outcome: comparison.outcome,
            relative: 0.0,
            key: matching.key(row),
            time_ms: matching.online_times.as_ref().and_then(|times| times[row]),
            online: match reason {
                Some(reason) if reason != MissingReason::Null => format!("missing ({})", reason.as_str()),
                _ => value.to_string(),
            },
            offline: offline_value.to_string(),
        });
        if let Some(reason) = reason {
            skew.add_missing_reason(reason);
        }
        let online_time = online_times.as_ref().and_then(|times| times[row]);
        let offline_time = matching.offline_times.as_ref().and_then(|times| times[partner]);
        if let (Value::Integer(_) | Value::Number(_) | Value::Text(_) | Value::Vector(_), Some(from), Some(valid)) =
            (value, online_time, offline_time)
        {
            // Feast logs these times in whole seconds.
            skew.add_age(from.div_euclid(1_000) < valid.div_euclid(1_000));
        }
    }
    Ok(skew)
}

/// The value that the model was served, or why there was none.
fn online_value<'a>(column: &'a Column, statuses: Option<&Column>, row: usize) -> (Value<'a>, Option<MissingReason>) {
    if let Some(reason) = statuses.and_then(|statuses| feast::missing_reason(statuses.value(row))) {
        return (Value::Missing, Some(reason));
    }
    match column.value(row) {
        Value::Missing => (Value::Missing, Some(MissingReason::Null)),
        value => (value, None),
    }
}
