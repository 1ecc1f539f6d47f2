//! What makes a reference a weak yardstick, in sentences for people: too few values for its bins, too many categories,
//! one value for nearly all.

use super::{FeatureReference, Reference};
use crate::stats::layout::{CategoricalLayout, Layout, MOST_CATEGORIES, NumericLayout};
use crate::stats::profile::Profile;

/// Fewer values than this leave less than 50 in each of ten bins: their shares are then known to no better than 14%
/// of themselves, and the index moves by chance as much as by drift.
pub const FEWEST_VALUES: u64 = 500;

/// The law of chi-square is not to be believed where more than a fifth of the counts expected are below 5 (Cochran,
/// Some methods for strengthening the common chi-square tests, 1954).
const FEWEST_EXPECTED: u64 = 5;
const MOST_SPARSE_SHARE: f64 = 0.2;

/// Bins of the population stability index.
const BINS: u64 = 10;

/// Fewer rows than this for each entry of a vector leave its covariance, and so its principal axes, to chance.
const FEWEST_ROWS_AN_ENTRY: u64 = 5;

/// Segments named in one warning.
const NAMED_SEGMENTS: usize = 3;

impl Reference {
    /// One sentence per finding: features first, then segment columns.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings: Vec<String> =
            self.features.values().filter_map(|feature| of_feature(feature, self.rows)).collect();
        let mut columns: Vec<&String> = self.segments.keys().map(|(column, _)| column).collect();
        columns.dedup();
        warnings.extend(columns.into_iter().filter_map(|column| self.of_segments(column)));
        warnings
    }

    /// Segments are compared with their own rows: those with few are weak by themselves.
    fn of_segments(&self, column: &str) -> Option<String> {
        let of_column = self.segments.iter().filter(|((name, _), _)| name == column);
        let rows = |features: &std::collections::BTreeMap<String, FeatureReference>| {
            features.values().map(|feature| feature.profile.rows()).max().unwrap_or(0)
        };
        let all: Vec<(&str, u64)> = of_column.map(|((_, value), features)| (value.as_str(), rows(features))).collect();
        let mut small: Vec<(&str, u64)> = all.iter().copied().filter(|(_, rows)| *rows < FEWEST_VALUES).collect();
        if small.is_empty() {
            return None;
        }
        small.sort_by_key(|(value, rows)| (std::cmp::Reverse(*rows), *value));
        let named: Vec<String> =
            small.iter().take(NAMED_SEGMENTS).map(|(value, rows)| format!("`{value}` {rows}")).collect();
        let more = if small.len() > NAMED_SEGMENTS { ", ..." } else { "" };
        Some(format!(
            "segments of `{column}`: {} of {} have fewer than {FEWEST_VALUES} rows ({}{more}); their drift is told only \
             when it is large: give more rows, or lower `max_segments`",
            small.len(),
            all.len(),
            named.join(", ")
        ))
    }
}

fn of_feature(feature: &FeatureReference, rows: u64) -> Option<String> {
    let (name, n) = (&feature.name, feature.profile.n());
    if n == 0 {
        return Some(format!("`{name}`: all {rows} values are missing; only its null rate can be watched"));
    }
    match (&feature.layout, &feature.profile) {
        (Layout::Categorical(layout), _) if layout.truncated() => Some(format!(
            "`{name}`: more than {MOST_CATEGORIES} categories; the rarer ones are counted together and unseen ones \
             are not told apart: is it an identifier?"
        )),
        (Layout::Numeric(_), _) if n < FEWEST_VALUES => Some(few_values(name, n)),
        (Layout::Numeric(layout), _) => one_value(name, layout),
        (Layout::Categorical(layout), Profile::Categorical(profile)) => {
            sparse_categories(name, layout, &profile.counts())
                .or_else(|| (n < FEWEST_VALUES).then(|| few_categorical(name, n)))
        }
        (Layout::Vector(layout), _) => few_vectors(name, n, layout.dimension() as u64),
        (Layout::Categorical(_), Profile::Numeric(_) | Profile::Vector(_)) => None,
    }
}

fn few_values(name: &str, n: u64) -> String {
    let each = n / BINS;
    let test = if each < FEWEST_EXPECTED {
        format!("fewer than {FEWEST_EXPECTED} in a bin: p-values of its index are not to be believed")
    } else {
        "drift below chance variation is not seen".to_string()
    };
    format!("`{name}`: {n} values, about {each} in each of {BINS} bins; {test}: give at least {FEWEST_VALUES}")
}

fn few_categorical(name: &str, n: u64) -> String {
    format!("`{name}`: {n} values; drift below chance variation is not seen: give at least {FEWEST_VALUES}")
}

fn few_vectors(name: &str, n: u64, entries: u64) -> Option<String> {
    let fewest = FEWEST_VALUES.max(FEWEST_ROWS_AN_ENTRY * entries);
    (n < fewest).then(|| {
        format!(
            "`{name}`: {n} rows for {entries} entries; its principal axes follow chance, and less drift is seen: give \
             at least {fewest}"
        )
    })
}

fn one_value(name: &str, layout: &NumericLayout) -> Option<String> {
    match (layout.percentiles().first(), layout.percentiles().last()) {
        (Some(low), Some(high)) if low == high => {
            Some(format!("`{name}`: nearly all values are {low}; the stability index sees moves downward only"))
        }
        _ => None,
    }
}

fn sparse_categories(name: &str, layout: &CategoricalLayout, counts: &[u64]) -> Option<String> {
    let of = layout.categories().len();
    let sparse = counts.iter().filter(|count| **count < FEWEST_EXPECTED).count();
    (sparse as f64 > MOST_SPARSE_SHARE * of as f64).then(|| {
        format!(
            "`{name}`: {sparse} of {of} categories have fewer than {FEWEST_EXPECTED} values; p-values of chi-square are \
             not to be believed: give more rows, or group rare categories before they reach the model"
        )
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use datafusion::arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray};

    use super::*;
    use crate::reference::Source;

    fn warnings(amounts: Vec<Option<f64>>, cities: Vec<String>) -> Vec<String> {
        let model = serde_json::from_value(serde_json::json!({
            "version": 1, "model": "fraud", "topics": ["t"],
            "features": {"amount": "numeric", "city": "categorical"}, "segments": ["city"]
        }))
        .unwrap();
        let columns: Vec<(&str, ArrayRef)> =
            vec![("amount", Arc::new(Float64Array::from(amounts))), ("city", Arc::new(StringArray::from(cities)))];
        let rows = RecordBatch::try_from_iter(columns).unwrap();
        Reference::build(&model, "training", &[rows], &BTreeMap::new(), Source::default(), 0).unwrap().warnings()
    }

    fn cities(rows: usize, rare: usize) -> Vec<String> {
        (0..rows).map(|i| if i < rare { format!("rare{i}") } else { "town".to_string() }).collect()
    }

    #[test]
    fn a_large_reference_is_no_weak_one() {
        let amounts = (0..5_000).map(|i| Some(f64::from(i))).collect();
        assert_eq!(warnings(amounts, cities(5_000, 0)), [""; 0]);
    }

    #[test]
    fn a_reference_too_small_for_its_bins_says_so() {
        let few = warnings((0..120).map(|i| Some(f64::from(i))).collect(), cities(120, 0));
        assert!(few[0].starts_with("`amount`: 120 values, about 12 in each of 10 bins"), "{few:?}");
        let fewer = warnings((0..40).map(|i| Some(f64::from(i))).collect(), cities(40, 0));
        assert!(fewer[0].contains("about 4 in each of 10 bins; fewer than 5 in a bin"), "{fewer:?}");
        let missing = warnings(vec![None; 1_000], cities(1_000, 0));
        assert!(missing[0].contains("all 1000 values are missing"), "{missing:?}");
        let constant = warnings(vec![Some(3.0); 1_000], cities(1_000, 0));
        assert!(constant[0].contains("nearly all values are 3"), "{constant:?}");
    }

    #[test]
    fn rare_categories_and_small_segments_are_counted() {
        let found = warnings((0..5_000).map(|i| Some(f64::from(i))).collect(), cities(5_000, 6));
        assert!(found[0].starts_with("`city`: 6 of 7 categories have fewer than 5 values"), "{found:?}");
        assert!(
            found[1].starts_with(
                "segments of `city`: 6 of 7 have fewer than 500 rows (`rare0` 1, `rare1` 1, `rare2` 1, ...)"
            ),
            "{found:?}"
        );
    }
}
