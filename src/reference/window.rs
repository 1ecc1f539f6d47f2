//! Rows of a file as one window of the model: its features' values, and their profiles under a reference's layouts.

use std::collections::BTreeMap;

use datafusion::arrow::array::RecordBatch;

use super::Reference;
use super::build::{ReferenceError, column_of, read_column};
use super::column;
use super::vectors::VectorRows;
use crate::config::model::{Kind, Model, Signal};
use crate::stats::layout::Layout;
use crate::stats::profile::Profile;

/// One feature's values, row by row.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// NaN: missing.
    Numbers(Vec<f64>),
    Texts(Vec<Option<String>>),
    /// One after the other, `dimension` of each row; NaN: missing.
    Vectors {
        dimension: usize,
        entries: Vec<f64>,
    },
}

/// The values of a feature of the model file, from the column that a reference of these `columns` would read.
///
/// # Errors
/// There is no such column, or it holds another type.
pub fn values(
    model: &Model,
    feature: &Signal,
    columns: &BTreeMap<String, String>,
    batches: &[RecordBatch],
) -> Result<Values, ReferenceError> {
    Ok(match feature.kind {
        Kind::Numeric => {
            let column = column_of(feature, columns, batches)?;
            let values = read_column(feature, &column, batches, column::numbers)?;
            Values::Numbers(values.into_iter().map(|value| value.unwrap_or(f64::NAN)).collect())
        }
        Kind::Categorical => {
            let column = column_of(feature, columns, batches)?;
            Values::Texts(read_column(feature, &column, batches, column::categories)?)
        }
        Kind::Vector => {
            let rows = VectorRows::read(model, feature, columns, batches)?;
            Values::Vectors { dimension: feature.dimension, entries: rows.into_entries() }
        }
    })
}

/// Every watched signal of the reference, counted into its layouts.
///
/// # Errors
/// A column is missing, or holds another type than the model file says.
pub fn profiles(
    model: &Model,
    reference: &Reference,
    columns: &BTreeMap<String, String>,
    batches: &[RecordBatch],
) -> Result<BTreeMap<String, Profile>, ReferenceError> {
    let mut profiles = BTreeMap::new();
    for signal in &model.watched_signals() {
        let Some(feature) = reference.features.get(&signal.name) else { continue };
        let mut profile = Profile::new(&feature.layout);
        match (&mut profile, &feature.layout) {
            (Profile::Vector(profile), Layout::Vector(layout)) => {
                let rows = VectorRows::read(model, signal, columns, batches)?;
                rows.count(layout, |_, add| add(profile));
            }
            (Profile::Numeric(profile), Layout::Numeric(layout)) => {
                if let Values::Numbers(values) = values(model, signal, columns, batches)? {
                    values.iter().for_each(|value| profile.add(*value, layout));
                }
            }
            (Profile::Categorical(profile), Layout::Categorical(layout)) => {
                if let Values::Texts(values) = values(model, signal, columns, batches)? {
                    for value in values {
                        match value {
                            Some(value) => profile.add(&value, layout),
                            None => profile.add_nulls(1),
                        }
                    }
                }
            }
            _ => {}
        }
        profiles.insert(signal.name.clone(), profile);
    }
    Ok(profiles)
}
