//! The shape in which Feast logs served features.
//!
//! For a feature service Feast writes Parquet with the join keys and request data under their own names, per feature
//! the columns `VIEW__FEATURE` (the value), `VIEW__FEATURE__timestamp` (when the value is from, in seconds) and
//! `VIEW__FEATURE__status`, and `__log_timestamp`, `__log_date`, `__request_id` (feast-dev/feast,
//! `sdk/python/feast/feature_logging.py` and `go/internal/feast/server/logging/memorybuffer.go`). The status is the
//! number of `FieldStatus` in `protos/feast/serving/ServingService.proto`. A file store writes many files into one
//! folder.

use crate::stats::skew::{MissingReason, Value};

/// When the row was served.
pub const LOG_TIMESTAMP: &str = "__log_timestamp";
/// Feast's name for the time in the results of a historical retrieval.
pub const EVENT_TIMESTAMP: &str = "event_timestamp";
const SYSTEM_COLUMNS: [&str; 3] = [LOG_TIMESTAMP, "__log_date", "__request_id"];

/// The served features of a log of this shape; empty where it is another.
pub fn features<'a>(columns: &[&'a str]) -> Vec<&'a str> {
    if !columns.contains(&LOG_TIMESTAMP) {
        return Vec::new();
    }
    columns.iter().copied().filter(|name| columns.contains(&status_column(name).as_str())).collect()
}

pub fn status_column(feature: &str) -> String {
    format!("{feature}__status")
}

pub fn timestamp_column(feature: &str) -> String {
    format!("{feature}__timestamp")
}

/// Join keys and request data: what is neither a feature, nor said about one, nor about the row.
pub fn keys<'a>(columns: &[&'a str], features: &[&str]) -> Vec<&'a str> {
    let is_about_feature = |name: &str| {
        features
            .iter()
            .any(|feature| name == *feature || name == status_column(feature) || name == timestamp_column(feature))
    };
    columns.iter().copied().filter(|name| !SYSTEM_COLUMNS.contains(name) && !is_about_feature(name)).collect()
}

/// Names under which offline data may hold a feature: in full, as a historical retrieval with full feature names has
/// it, then without the view, as the view's source has it.
pub fn offline_names(feature: &str) -> Vec<&str> {
    let mut names = vec![feature];
    let mut rest = feature;
    while let Some((_, after)) = rest.split_once("__") {
        names.push(after);
        rest = after;
    }
    names
}

/// Why a value is missing by its status; `None`: it is present. A value outside its maximum age is written beside the
/// status, but no training would use it.
pub fn missing_reason(status: Value) -> Option<MissingReason> {
    let number = match status {
        Value::Integer(number) => number,
        Value::Number(number) => number as i64,
        // Readable exports write the names.
        Value::Text("PRESENT") => 1,
        Value::Text("NULL_VALUE") => 2,
        Value::Text("NOT_FOUND") => 3,
        Value::Text("OUTSIDE_MAX_AGE") => 4,
        _ => 0,
    };
    match number {
        1 => None,
        2 => Some(MissingReason::Null),
        3 => Some(MissingReason::NotFound),
        4 => Some(MissingReason::OutsideMaxAge),
        _ => Some(MissingReason::Invalid),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_recognised_and_its_columns_are_told_apart() {
        let columns = [
            "driver_id",
            "stats__conv_rate",
            "stats__conv_rate__timestamp",
            "stats__conv_rate__status",
            LOG_TIMESTAMP,
            "__log_date",
            "__request_id",
        ];
        let found = features(&columns);
        assert_eq!(found, ["stats__conv_rate"]);
        assert_eq!(keys(&columns, &found), ["driver_id"]);
        assert_eq!(features(&["driver_id", "a", "a__status"]), Vec::<&str>::new());
        assert_eq!(offline_names("stats__conv_rate"), ["stats__conv_rate", "conv_rate"]);
    }

    #[test]
    fn any_status_but_present_is_missing_with_its_reason() {
        assert_eq!(missing_reason(Value::Integer(1)), None);
        assert_eq!(missing_reason(Value::Integer(2)), Some(MissingReason::Null));
        assert_eq!(missing_reason(Value::Text("NOT_FOUND")), Some(MissingReason::NotFound));
        assert_eq!(missing_reason(Value::Integer(4)), Some(MissingReason::OutsideMaxAge));
        assert_eq!(missing_reason(Value::Missing), Some(MissingReason::Invalid));
    }
}
