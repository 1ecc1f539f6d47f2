//! Rows of vectors into profiles: entries from one list column or from a column each, and who the event is.

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, FixedSizeListArray, Float32Array, Float64Array, StringArray,
    TimestampMillisecondArray,
};
use datafusion::arrow::datatypes::{Float32Type, Float64Type, TimestampMillisecondType};
use datafusion::common::{Result, exec_err};

use super::{no_such_group, passes};
use crate::stats::profile::Profile;
use crate::stats::vector::arithmetic::mix;
use crate::stats::vector::layout::VectorLayout;
use crate::stats::vector::measure::Measured;
use crate::stats::vector::profile::VectorProfile;

/// Where the entries of a row are.
enum Entries<'a> {
    List { lists: &'a FixedSizeListArray, values: &'a Float32Array },
    Columns(Vec<&'a Float64Array>),
}

/// What a row has.
enum Found {
    Whole,
    Incomplete,
    Nothing,
}

/// Adds row i to the profile `group_of(i)`, for the rows that `keep` lets pass. `columns`: entries, event time,
/// prediction id.
pub(super) fn add(
    profiles: &mut [Profile],
    layout: &VectorLayout,
    columns: &[ArrayRef],
    group_of: impl Fn(usize) -> usize,
    keep: Option<&BooleanArray>,
) -> Result<()> {
    let Some((entries, [times, ids])) = columns.split_last_chunk::<2>() else {
        return exec_err!("profile_vector takes entries, an event time and a prediction id");
    };
    let (Some(times), Some(ids)) = (times.as_primitive_opt::<TimestampMillisecondType>(), ids.as_string_opt::<i32>())
    else {
        return exec_err!("profile_vector takes an event time in milliseconds and a prediction id as text");
    };
    let entries = Entries::of(entries, layout)?;
    let mut room = Measured::new(layout);
    let mut row = vec![0.0; layout.dimension()];
    for at in 0..times.len() {
        if !passes(keep, at) {
            continue;
        }
        let Some(Profile::Vector(profile)) = profiles.get_mut(group_of(at)) else { return no_such_group() };
        add_row(profile, entries.read(at, &mut row), &row, identity(times, ids, at), layout, &mut room);
    }
    Ok(())
}

fn add_row(
    profile: &mut VectorProfile,
    found: Found,
    row: &[f64],
    identity: u64,
    layout: &VectorLayout,
    room: &mut Measured,
) {
    match found {
        Found::Whole => profile.add(row, identity, layout, room),
        Found::Incomplete => profile.add_incomplete(1),
        Found::Nothing => profile.add_nulls(1),
    }
}

impl<'a> Entries<'a> {
    fn of(columns: &'a [ArrayRef], layout: &VectorLayout) -> Result<Self> {
        if let [column] = columns
            && let Some(lists) = column.as_fixed_size_list_opt()
        {
            let values = lists.values().as_primitive_opt::<Float32Type>();
            return match values {
                Some(values) if lists.value_length() as usize == layout.dimension() => Ok(Self::List { lists, values }),
                _ => exec_err!("profile_vector takes lists of {} Float32", layout.dimension()),
            };
        }
        let numbers: Option<Vec<&Float64Array>> =
            columns.iter().map(|column| column.as_primitive_opt::<Float64Type>()).collect();
        match numbers {
            Some(numbers) if numbers.len() == layout.dimension() => Ok(Self::Columns(numbers)),
            _ => exec_err!("profile_vector takes {} columns of Float64", layout.dimension()),
        }
    }

    /// Fills `row` where all entries are there.
    fn read(&self, at: usize, row: &mut [f64]) -> Found {
        match self {
            Self::List { lists, .. } if lists.is_null(at) => Found::Nothing,
            Self::List { lists, values } => {
                let start = lists.value_offset(at) as usize;
                let of_row = &values.values()[start..start + row.len()];
                row.iter_mut().zip(of_row).for_each(|(into, value)| *into = f64::from(*value));
                let complete = values.nulls().is_none_or(|nulls| nulls.slice(start, row.len()).null_count() == 0);
                if complete { Found::Whole } else { Found::Incomplete }
            }
            Self::Columns(columns) => {
                let mut missing = 0;
                for (into, column) in row.iter_mut().zip(columns) {
                    if column.is_null(at) {
                        missing += 1;
                    } else {
                        *into = column.value(at);
                    }
                }
                match missing {
                    0 => Found::Whole,
                    all if all == columns.len() => Found::Nothing,
                    _ => Found::Incomplete,
                }
            }
        }
    }
}

/// Who the event is, as far as its time and id tell: part of the hash by which rows are sampled.
fn identity(times: &TimestampMillisecondArray, ids: &StringArray, at: usize) -> u64 {
    let mut hash = mix(times.value(at) as u64);
    if ids.is_valid(at) {
        for chunk in ids.value(at).as_bytes().chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            hash = mix(hash ^ u64::from_le_bytes(word));
        }
    }
    hash
}
