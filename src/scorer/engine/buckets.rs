//! Sizes to which batches are filled up on a device that wants few of them, and which batches are too small for it.

use std::ops::Range;

/// Rows of a batch that are computed at once, filled up to a size that was warmed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    pub rows: Range<usize>,
    pub bucket: usize,
}

/// Sorted sizes, none of them 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Buckets(Vec<usize>);

impl Buckets {
    /// Of sizes in any order; without any, there is one of a single row.
    pub fn new(sizes: &[usize]) -> Self {
        let mut sizes: Vec<usize> = sizes.iter().copied().filter(|size| *size > 0).collect();
        sizes.sort_unstable();
        sizes.dedup();
        if sizes.is_empty() {
            sizes.push(1);
        }
        Self(sizes)
    }

    pub fn sizes(&self) -> &[usize] {
        &self.0
    }

    /// The parts of a batch: as many of the largest size as there are, then the smallest that holds the rest.
    pub fn parts(&self, rows: usize) -> Vec<Part> {
        let largest = self.0.last().copied().unwrap_or(1);
        let mut parts = Vec::with_capacity(rows.div_ceil(largest));
        let mut start = 0;
        while start < rows {
            let count = (rows - start).min(largest);
            let bucket = self.0.iter().copied().find(|size| *size >= count).unwrap_or(largest);
            parts.push(Part { rows: start..start + count, bucket });
            start += count;
        }
        parts
    }
}

/// Whether a batch is quicker on the CPU than on its way to the device and back.
pub const fn runs_on_cpu(rows: usize, cpu_below_rows: usize) -> bool {
    rows < cpu_below_rows
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_batch_takes_the_smallest_size_that_holds_it() {
        let buckets = Buckets::new(&[512, 8, 1, 64, 8, 0, 4096]);
        assert_eq!(buckets.sizes(), [1, 8, 64, 512, 4096]);
        for (rows, bucket) in [(1, 1), (2, 8), (8, 8), (9, 64), (4095, 4096), (4096, 4096)] {
            assert_eq!(buckets.parts(rows), [Part { rows: 0..rows, bucket }]);
        }
        let parts = buckets.parts(4096 + 4096 + 5);
        assert_eq!(parts.iter().map(|part| part.bucket).collect::<Vec<_>>(), [4096, 4096, 8]);
        assert_eq!(Buckets::new(&[]).parts(2).len(), 2);
    }

    #[test]
    fn the_crossover_is_the_first_size_for_the_device() {
        assert!(runs_on_cpu(63, 64) && !runs_on_cpu(64, 64) && !runs_on_cpu(1, 0));
    }

    proptest! {
        #[test]
        fn parts_cover_each_row_once_and_fit(rows in 0_usize..20_000, sizes in prop::collection::vec(0_usize..5000, 0..6)) {
            let mut next = 0;
            for part in Buckets::new(&sizes).parts(rows) {
                prop_assert_eq!(part.rows.start, next);
                prop_assert!(!part.rows.is_empty() && part.rows.len() <= part.bucket);
                next = part.rows.end;
            }
            prop_assert_eq!(next, rows);
        }
    }
}
