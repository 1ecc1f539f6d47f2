//! Rows of a vector signal in reference data: a column of lists, or the columns of a joint signal's members.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;

use super::FeatureReference;
use super::build::{ReferenceError, column_of, read_column};
use super::column;
use crate::config::model::{Model, Signal};
use crate::stats::calibration::Calibration;
use crate::stats::layout::Layout;
use crate::stats::profile::Profile;
use crate::stats::vector::layout::{VectorLayout, fitted_rows};
use crate::stats::vector::measure::Measured;
use crate::stats::vector::profile::VectorProfile;

/// Entries of all rows, one after the other, NaN where one is missing.
pub(super) struct VectorRows {
    dimension: usize,
    entries: Vec<f64>,
}

impl VectorRows {
    pub(super) fn read(
        model: &Model,
        signal: &Signal,
        columns: &BTreeMap<String, String>,
        batches: &[RecordBatch],
    ) -> Result<Self, ReferenceError> {
        let dimension = signal.dimension;
        if signal.members.is_empty() {
            let column = column_of(signal, columns, batches)?;
            let lists = read_column(signal, &column, batches, |array| column::vectors(array, dimension))?;
            let missing = vec![f64::NAN; dimension];
            let entries = lists.iter().flat_map(|list| list.as_ref().unwrap_or(&missing).iter().copied()).collect();
            return Ok(Self { dimension, entries });
        }
        let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
        let mut entries = vec![f64::NAN; rows * dimension];
        let signals = model.signals();
        for (at, member) in signal.members.iter().enumerate() {
            // The configuration was checked: every member is a numeric feature.
            let Some(member) = signals.iter().find(|signal| signal.name == *member) else { continue };
            let column = column_of(member, columns, batches)?;
            for (row, value) in read_column(member, &column, batches, column::numbers)?.into_iter().enumerate() {
                entries[row * dimension + at] = value.unwrap_or(f64::NAN);
            }
        }
        Ok(Self { dimension, entries })
    }

    fn rows(&self) -> impl Iterator<Item = &[f64]> {
        self.entries.chunks_exact(self.dimension.max(1))
    }

    pub(super) fn into_entries(self) -> Vec<f64> {
        self.entries
    }

    /// Layout and profile of these rows.
    pub(super) fn feature(&self, signal: &Signal) -> FeatureReference {
        let whole: Vec<&[f64]> = self.rows().filter(|row| row.iter().all(|entry| !entry.is_nan())).collect();
        let layout = Arc::new(VectorLayout::of_rows(&whole, self.dimension, signal.members.clone()));
        let mut profile = VectorProfile::new(&layout);
        self.count(&layout, |_, add| add(&mut profile));
        FeatureReference {
            name: signal.name.clone(),
            layout: Layout::Vector(layout),
            profile: Profile::Vector(Box::new(profile)),
            calibration: Calibration::default(),
        }
    }

    /// Calls `of_row` for every row with its number and what adds it to a profile.
    pub(super) fn count(
        &self,
        layout: &VectorLayout,
        mut of_row: impl FnMut(usize, &mut dyn FnMut(&mut VectorProfile)),
    ) {
        let mut room = Measured::new(layout);
        let missing_in = |row: &[f64]| row.iter().filter(|entry| entry.is_nan()).count();
        let whole = self.rows().filter(|row| missing_in(row) == 0).count();
        let mut is_fitted = fitted_rows(whole).into_iter();
        for (at, row) in self.rows().enumerate() {
            let missing = missing_in(row);
            let fitted = missing == 0 && is_fitted.next() == Some(true);
            of_row(at, &mut |profile| match missing {
                0 if fitted => profile.add_fitted(row, layout, &mut room),
                0 => profile.add(row, at as u64, layout, &mut room),
                all if all == row.len() => profile.add_nulls(1),
                _ => profile.add_incomplete(1),
            });
        }
    }
}
