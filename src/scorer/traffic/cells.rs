//! Counts of values on a fixed grid, the same in every process: they merge by addition, and nothing has to be agreed on first.
//!
//! A cell is what binary floating point numbers share whose first bits are the same: latencies have 16 cells for each
//! doubling, scores 128. Cells are in the order of their values.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Counts by cell.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cells {
    counts: BTreeMap<u16, u64>,
}

impl Cells {
    pub fn push(&mut self, cell: u16) {
        self.push_many(cell, 1);
    }

    pub fn push_many(&mut self, cell: u16, count: u64) {
        if count > 0 {
            *self.counts.entry(cell).or_default() += count;
        }
    }

    pub fn add(&mut self, other: &Self) {
        for (&cell, count) in &other.counts {
            *self.counts.entry(cell).or_default() += count;
        }
    }

    pub fn n(&self) -> u64 {
        self.counts.values().sum()
    }

    /// Values in cells above this one.
    pub fn above(&self, cell: u16) -> u64 {
        self.counts.range(cell..).skip_while(|(found, _)| **found == cell).map(|(_, count)| count).sum()
    }

    /// The lowest cell that at least this share of the values do not exceed; `None` of nothing.
    pub fn quantile(&self, share: f64) -> Option<u16> {
        let wanted = share * self.n() as f64;
        let mut seen = 0;
        self.counts.iter().find_map(|(&cell, count)| {
            seen += count;
            (seen as f64 >= wanted).then_some(cell)
        })
    }

    /// Cells that part the values into so many bins of about equal size: a bin ends with its cell. Ties may leave fewer.
    pub fn bin_ends(&self, bins: usize) -> Vec<u16> {
        let mut ends: Vec<u16> = (1..bins).filter_map(|bin| self.quantile(bin as f64 / bins as f64)).collect();
        ends.dedup();
        ends
    }

    /// Counts in the bins that `bin_ends` gave, and beyond the last.
    pub fn in_bins(&self, ends: &[u16]) -> Vec<u64> {
        let mut bins = vec![0; ends.len() + 1];
        for (cell, count) in &self.counts {
            let bin = ends.partition_point(|end| end < cell);
            if let Some(total) = bins.get_mut(bin) {
                *total += count;
            }
        }
        bins
    }
}

/// The cell of a latency.
pub fn latency_cell(latency: Duration) -> u16 {
    let micros = latency.as_secs_f64() * 1e6;
    ((micros.max(1.0) as f32).to_bits() >> 19) as u16
}

/// The longest latency of a cell, milliseconds.
pub fn latency_ms(cell: u16) -> f64 {
    f64::from(f32::from_bits((u32::from(cell) + 1) << 19)) / 1e3
}

/// The cell that a latency so many times as long falls into.
pub fn times(cell: u16, ratio: f64) -> u16 {
    let micros = f64::from(f32::from_bits(u32::from(cell) << 19)) * ratio;
    ((micros.clamp(1.0, 1e15) as f32).to_bits() >> 19) as u16
}

/// The cell of a score; `None` where it is not a finite number.
pub fn score_cell(score: f64) -> Option<u16> {
    if !score.is_finite() {
        return None;
    }
    let top = ((score as f32).to_bits() >> 16) as u16;
    // Bits of negative numbers grow downwards: turned round, all cells are in the order of their values.
    Some(if top & 0x8000 == 0 { top | 0x8000 } else { !top })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(values: &[f64]) -> Cells {
        let mut cells = Cells::default();
        values.iter().filter_map(|&value| score_cell(value)).for_each(|cell| cells.push(cell));
        cells
    }

    proptest! {
        #[test]
        fn cells_are_in_the_order_of_scores(one in -1e6_f64..1e6, other in -1e6_f64..1e6) {
            let (low, high) = if one < other { (one, other) } else { (other, one) };
            prop_assert!(score_cell(low) <= score_cell(high));
        }

        #[test]
        fn cells_are_in_the_order_of_latencies_and_narrow(micros in 1_u64..10_000_000_000) {
            let cell = latency_cell(Duration::from_micros(micros));
            let top_ms = latency_ms(cell);
            prop_assert!(micros as f64 / 1e3 <= top_ms * 1.000_001 && top_ms <= micros as f64 / 1e3 * 1.07, "{top_ms}");
            prop_assert!(cell <= latency_cell(Duration::from_micros(micros + 1)));
            prop_assert!(times(cell, 1.0) == cell && times(cell, 2.0) == cell + 16);
        }

        #[test]
        fn any_split_merges_to_the_whole(values in prop::collection::vec(-5.0_f64..5.0, 0..80), cut in 0_usize..80) {
            let cut = cut.min(values.len());
            let mut merged = of(&values[cut..]);
            merged.add(&of(&values[..cut]));
            prop_assert_eq!(merged, of(&values));
        }

        #[test]
        fn bins_hold_every_value_once(values in prop::collection::vec(-5.0_f64..5.0, 1..80), bins in 2_usize..12) {
            let cells = of(&values);
            let ends = cells.bin_ends(bins);
            prop_assert_eq!(cells.in_bins(&ends).iter().sum::<u64>(), cells.n());
            let below: u64 = cells.in_bins(&ends)[..ends.len()].iter().sum();
            prop_assert_eq!(cells.n() - below, ends.last().map_or(cells.n(), |&end| cells.above(end)));
        }
    }

    #[test]
    fn what_is_no_number_has_no_cell() {
        assert_eq!([f64::NAN, f64::INFINITY, f64::NEG_INFINITY].map(score_cell), [None; 3]);
        assert_eq!(of(&[]).quantile(0.5), None);
    }
}
