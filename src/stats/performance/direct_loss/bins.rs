//! Values as one of at most 64 bins, so that a split of a tree is a set of bins in one word.

use std::collections::BTreeMap;

use hashbrown::HashMap;
use serde::{Deserialize, Serialize};

use super::Values;

/// Bin of missing values; the others count from 1.
const MISSING: u8 = 0;
/// Most edges, and most categories with a bin of their own: with the missing and the other ones, 64 bins.
const MOST: usize = 62;
/// Of the edges of a number so many are at evenly spaced quantiles, and so many at each end halve what is left of the
/// rows beyond the last of them: where inputs drift to what was rare, the rare must not all be in one bin.
const EVEN: usize = 42;
const HALVINGS: u32 = 10;

/// How one signal is cut.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case", tag = "type")]
pub enum Binning {
    /// Bin of a value: 1 + how many edges it reaches.
    Numeric { edges: Vec<f64> },
    /// The most frequent categories; all others share the bin after them.
    Categorical { categories: Vec<String> },
}

impl Binning {
    /// Edges at quantiles of these rows, or their most frequent categories.
    pub(super) fn of(values: &Values, rows: &[u32]) -> Self {
        match values {
            Values::Numeric(values) => {
                let known = rows.iter().map(|row| values[*row as usize]).filter(|value| !value.is_nan());
                let mut sorted: Vec<f64> = known.collect();
                sorted.sort_unstable_by(f64::total_cmp);
                let n = sorted.len();
                let even = (1..=EVEN).map(|part| part * n / (EVEN + 1));
                let rare = (1..=HALVINGS).map(|halved| n / ((EVEN + 1) << halved));
                let ranks = even.chain(rare.flat_map(|rank| [rank, n.saturating_sub(rank)]));
                let mut edges: Vec<f64> = ranks.filter_map(|rank| sorted.get(rank).copied()).collect();
                edges.sort_unstable_by(f64::total_cmp);
                edges.dedup();
                // Below the least value there is nothing to part from.
                if edges.first() == sorted.first() && !edges.is_empty() {
                    edges.remove(0);
                }
                Self::Numeric { edges }
            }
            Values::Categorical(values) => {
                let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
                for category in rows.iter().filter_map(|row| values[*row as usize]) {
                    *counts.entry(category).or_default() += 1;
                }
                let mut by_count: Vec<(u64, &str)> = counts.into_iter().map(|(name, count)| (count, name)).collect();
                by_count.sort_by(|left, right| right.0.cmp(&left.0).then_with(|| left.1.cmp(right.1)));
                by_count.truncate(MOST);
                Self::Categorical { categories: by_count.into_iter().map(|(_, name)| name.to_string()).collect() }
            }
        }
    }

    /// Whether neighbouring bins hold neighbouring values.
    pub(super) fn is_ordered(&self) -> bool {
        matches!(self, Self::Numeric { .. })
    }

    pub(super) fn in_order(&self) -> bool {
        match self {
            Self::Numeric { edges } => {
                edges.len() <= MOST && edges.is_sorted_by(|a, b| a < b) && edges.iter().all(|edge| edge.is_finite())
            }
            Self::Categorical { categories } => categories.len() <= MOST,
        }
    }

    pub(super) fn bin(&self, values: &Values, row: usize) -> u8 {
        match (self, values) {
            (Self::Numeric { edges }, Values::Numeric(values)) => numeric_bin(edges, values[row]),
            (Self::Categorical { categories }, Values::Categorical(values)) => match values[row] {
                None => MISSING,
                Some(value) => categories.iter().position(|known| known == value).unwrap_or(categories.len()) as u8 + 1,
            },
            _ => MISSING,
        }
    }

    /// The bin of every row; of values of the other kind all are missing.
    pub(super) fn bins(&self, values: &Values) -> Vec<u8> {
        match (self, values) {
            (Self::Numeric { edges }, Values::Numeric(values)) => {
                values.iter().map(|value| numeric_bin(edges, *value)).collect()
            }
            (Self::Categorical { categories }, Values::Categorical(values)) => {
                let known: HashMap<&str, u8> = categories.iter().map(String::as_str).zip(1u8..).collect();
                let other = categories.len() as u8 + 1;
                let bin = |value: &str| known.get(value).copied().unwrap_or(other);
                values.iter().map(|value| value.map_or(MISSING, bin)).collect()
            }
            _ => vec![MISSING; values.rows()],
        }
    }
}

fn numeric_bin(edges: &[f64], value: f64) -> u8 {
    if value.is_nan() { MISSING } else { edges.partition_point(|edge| *edge <= value) as u8 + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_cut_at_quantiles_and_ties_share_a_bin() {
        let values: Vec<f64> = (0..1000).map(|i| f64::from(i / 2)).chain([f64::NAN]).collect();
        let rows: Vec<u32> = (0..values.len() as u32).collect();
        let values = Values::Numeric(&values);
        let binning = Binning::of(&values, &rows);
        let bins = binning.bins(&values);
        assert!(binning.in_order() && bins[1000] == MISSING && bins[..1000].is_sorted());
        assert!(bins[0] == 1 && (45..64).contains(&bins[999]), "{}", bins[999]);
        assert!(bins.chunks(2).take(500).all(|pair| pair[0] == pair[1]));
        assert_eq!(Binning::of(&Values::Numeric(&[7.0; 9]), &[0, 1, 2]), Binning::Numeric { edges: Vec::new() });
    }

    #[test]
    fn rare_and_new_categories_share_a_bin() {
        let names: Vec<String> = (0..100).map(|i| format!("c{i:02}")).collect();
        let many: Vec<Option<&str>> = (0..100).flat_map(|i| vec![Some(names[i].as_str()); 100 - i]).collect();
        let rows: Vec<u32> = (0..many.len() as u32).collect();
        let binning = Binning::of(&Values::Categorical(&many), &rows);
        let of = [Some("c00"), Some("c61"), Some("c62"), Some("new"), None];
        assert_eq!(binning.bins(&Values::Categorical(&of)), [1, 62, 63, 63, 0]);
    }
}
