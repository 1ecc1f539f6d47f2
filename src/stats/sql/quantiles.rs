//! A sketch of quantiles that is the same whatever the split: counts in cells of geometric widths.
//!
//! t-digest and KLL depend on the order of the rows or on chance, and an alert must depend on neither. Every value here
//! is counted in a cell by its own size alone, so that sketches merge by adding counts; a quantile is off by at most
//! [`RELATIVE_ERROR`] of the value at its rank. The cells are those of Masson, Rim and Lee, DDSketch (2019).

use std::collections::BTreeMap;
use std::sync::LazyLock;

use crate::stats::varint::{self, Reader};

/// Largest error of a quantile, as a share of it.
pub const RELATIVE_ERROR: f64 = 0.005;

/// Smaller values are counted as zero.
const SMALLEST: f64 = 1e-12;

/// Signed: the cell of |value| from 1 upward, or its negative; 0 for zero.
type Cell = i64;

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Quantiles {
    counts: BTreeMap<Cell, u64>,
    pub count: u64,
}

/// Each cell is wider than the one before by this factor.
const GROWTH: f64 = (1.0 + RELATIVE_ERROR) / (1.0 - RELATIVE_ERROR);

static LN_GROWTH: LazyLock<f64> = LazyLock::new(|| GROWTH.ln());

/// Cells below that of 1, so that cells of any value are positive.
static OFFSET: LazyLock<f64> = LazyLock::new(|| (SMALLEST.ln() / *LN_GROWTH).floor().abs() + 1.0);

fn cell(value: f64) -> Cell {
    let size = value.abs();
    if size < SMALLEST {
        return 0;
    }
    let place = (size.ln() / *LN_GROWTH).ceil() + *OFFSET;
    // The largest double lies below cell 80 000.
    if value > 0.0 { place as Cell } else { -(place as Cell) }
}

fn middle(cell: Cell) -> f64 {
    if cell == 0 {
        return 0.0;
    }
    let upper = GROWTH.powf(cell.unsigned_abs() as f64 - *OFFSET);
    let middle = (upper * (2.0 / (1.0 + GROWTH))).min(f64::MAX);
    if cell > 0 { middle } else { -middle }
}

impl Quantiles {
    /// NaN is left out; an infinity is larger than any number.
    pub fn add(&mut self, value: f64) {
        if value.is_nan() {
            return;
        }
        *self.counts.entry(cell(value.clamp(f64::MIN, f64::MAX))).or_default() += 1;
        self.count += 1;
    }

    pub fn merge(&mut self, other: &Self) {
        self.count += other.count;
        other.counts.iter().for_each(|(cell, count)| *self.counts.entry(*cell).or_default() += count);
    }

    /// The value at rank `share * (count - 1)`, `share` from 0 to 1; `None` without values.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let rank = (share * self.count.checked_sub(1)? as f64).round() as u64;
        let mut below = 0;
        let found = self.counts.iter().find(|(_, count)| {
            below += **count;
            below > rank
        });
        found.map(|(cell, _)| middle(*cell))
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        varint::write(self.counts.len() as u64, &mut bytes);
        let mut last: Cell = 0;
        for (index, (cell, count)) in self.counts.iter().enumerate() {
            // The first by its size and sign, the others by their distance.
            let step = if index == 0 { zigzag(*cell) } else { cell.abs_diff(last) };
            varint::write(step, &mut bytes);
            varint::write(*count, &mut bytes);
            last = *cell;
        }
        bytes
    }

    /// `None` for bytes that `encode` does not write.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let cells = reader.varint_up_to(bytes.len() as u64)?;
        let mut sketch = Self::default();
        let mut last: Cell = 0;
        for index in 0..cells {
            let step = reader.varint_up_to(1 << 32)?;
            last = if index == 0 { unzigzag(step) } else { last + step as Cell };
            let count = reader.varint()?;
            sketch.count = sketch.count.checked_add(count)?;
            sketch.counts.insert(last, count);
        }
        (reader.remaining() == 0).then_some(sketch)
    }

    pub fn allocated_bytes(&self) -> usize {
        self.counts.len() * 2 * size_of::<(Cell, u64)>()
    }
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

fn unzigzag(value: u64) -> i64 {
    ((value >> 1) as i64) ^ -((value & 1) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_their_error_and_merge_in_any_order() {
        let values: Vec<f64> = (1..=2_000).map(|i| (f64::from(i) - 700.0) * 1.37).collect();
        let mut whole = Quantiles::default();
        values.iter().for_each(|value| whole.add(*value));
        for share in [0.0, 0.05, 0.5, 0.95, 1.0] {
            let exact = values[(share * 1_999.0_f64).round() as usize];
            let found = whole.quantile(share).unwrap();
            assert!((found - exact).abs() <= RELATIVE_ERROR * exact.abs() * 1.000_001, "{share}: {found}, {exact}");
        }
        let mut merged = Quantiles::default();
        for part in values.chunks(71).rev() {
            let mut sketch = Quantiles::default();
            part.iter().for_each(|value| sketch.add(*value));
            merged.merge(&Quantiles::decode(&sketch.encode()).unwrap());
        }
        assert_eq!(merged, whole);
    }

    #[test]
    fn extremes_have_a_cell() {
        for value in [0.0, 1e-300, f64::MIN_POSITIVE, f64::MAX, f64::MIN, f64::INFINITY, -3e-7] {
            let mut sketch = Quantiles::default();
            sketch.add(value);
            let found = sketch.quantile(0.5).unwrap();
            let exact = value.clamp(f64::MIN, f64::MAX);
            assert!(!found.is_nan() && (found - exact).abs() <= exact.abs() * 0.0051 + SMALLEST, "{value}: {found}");
            assert_eq!(Quantiles::decode(&sketch.encode()), Some(sketch));
        }
        assert_eq!(Quantiles::default().quantile(0.5), None);
    }
}
