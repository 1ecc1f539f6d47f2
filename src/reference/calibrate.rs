//! A reference's rows cut into windows of its own, to learn how much windows differ when nothing drifts.
//!
//! By event time, in windows of the model's size, where the data have a column of times that covers enough of them.
//! Otherwise in blocks of consecutive rows, of several sizes: rows are then taken to be in the order in which they
//! came.

use std::collections::BTreeMap;

use datafusion::arrow::array::RecordBatch;
use hashbrown::HashMap;

use super::build::{column_of, last_segment, read_column};
use super::column;
use super::table::append_times;
use super::{FeatureReference, ReferenceError};
use crate::config::model::{Kind, Model, Signal};
use crate::event::EVENT_TIME;
use crate::stats::calibration::{self, Cut, Scoring, WindowSums};
use crate::stats::layout::Layout;

/// Windows by time are used from this number on; below, blocks of rows.
const FEWEST_TIME_WINDOWS: usize = 8;
/// Sizes of blocks of rows, each four times the one before, and the fewest blocks of a size.
const SMALLEST_BLOCK: usize = 64;
const BLOCK_GROWTH: usize = 4;
const FEWEST_BLOCKS: usize = 16;

/// Window of each row, one list a cut; `None`: the row belongs to none.
type Cuts = Vec<(Cut, Vec<Option<u32>>)>;

/// Gives every feature its calibration.
pub(super) fn calibrate(
    model: &Model,
    features: &mut BTreeMap<String, FeatureReference>,
    columns: &BTreeMap<String, String>,
    timestamp: Option<&str>,
    batches: &[RecordBatch],
) -> Result<(), ReferenceError> {
    let cuts = cuts(model, timestamp, batches)?;
    let mut studied: Vec<(Cut, BTreeMap<String, Vec<WindowSums>>)> =
        cuts.iter().map(|(cut, _)| (*cut, BTreeMap::new())).collect();
    for signal in model.signals() {
        let Some(feature) = features.get(&signal.name) else { continue };
        if signal.kind == Kind::Vector {
            continue;
        }
        let scoring = Scoring::of(feature);
        let places = places(&signal, feature, &column_of(&signal, columns, batches)?, batches)?;
        for ((_, window_of), (_, sums)) in cuts.iter().zip(&mut studied) {
            sums.insert(signal.name.clone(), windows(&scoring, &places, window_of));
        }
    }
    for (name, calibration) in calibration::learn(&studied) {
        if let Some(feature) = features.get_mut(&name) {
            feature.calibration = calibration;
        }
    }
    Ok(())
}

/// Where a row's value is counted.
enum Place {
    Missing,
    Bin(usize),
    /// A category without a counter of its own.
    Other,
}

fn places(
    signal: &Signal,
    feature: &FeatureReference,
    column: &str,
    batches: &[RecordBatch],
) -> Result<Vec<Place>, ReferenceError> {
    match &feature.layout {
        Layout::Numeric(layout) => {
            let values = read_column(signal, column, batches, column::numbers)?;
            Ok(values.iter().map(|value| value.map_or(Place::Missing, |value| Place::Bin(layout.bin(value)))).collect())
        }
        Layout::Categorical(layout) => {
            let values = read_column(signal, column, batches, column::categories)?;
            let place = |value: &Option<String>| match value {
                None => Place::Missing,
                Some(category) => layout.position(category).map_or(Place::Other, Place::Bin),
            };
            Ok(values.iter().map(place).collect())
        }
        Layout::Vector(_) => Ok(Vec::new()),
    }
}

fn windows(scoring: &Scoring, places: &[Place], window_of: &[Option<u32>]) -> Vec<WindowSums> {
    let count = window_of.iter().flatten().max().map_or(0, |last| *last as usize + 1);
    let mut windows = vec![scoring.window(); count];
    for (place, window) in places.iter().zip(window_of) {
        let Some(sums) = window.and_then(|window| windows.get_mut(window as usize)) else { continue };
        match place {
            Place::Missing => sums.add_missing(1),
            Place::Bin(bin) => sums.add(scoring, *bin, 1),
            Place::Other => sums.add_others(1),
        }
    }
    windows
}

fn cuts(model: &Model, timestamp: Option<&str>, batches: &[RecordBatch]) -> Result<Cuts, ReferenceError> {
    let times = times(model, timestamp, batches)?;
    if let Some(times) = &times {
        let by_time = windows_of_times(times, model.windows.size.ms);
        if by_time.iter().flatten().max().is_some_and(|last| *last as usize + 1 >= FEWEST_TIME_WINDOWS) {
            return Ok(vec![(Cut::Time, by_time)]);
        }
    }
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    let order = rows_in_time(rows, times.as_deref());
    let sizes = std::iter::successors(Some(SMALLEST_BLOCK), |size| size.checked_mul(BLOCK_GROWTH));
    let sizes = sizes.take_while(|size| rows / size >= FEWEST_BLOCKS);
    Ok(sizes.map(|size| (Cut::Rows, blocks(&order, size))).collect())
}

/// Epoch milliseconds of the rows; `None` where the data have no such column. Only one that the model file names has
/// to be there, and has to hold times.
fn times(
    model: &Model,
    timestamp: Option<&str>,
    batches: &[RecordBatch],
) -> Result<Option<Vec<Option<i64>>>, ReferenceError> {
    let named = timestamp.map_or_else(|| last_segment(&model.fields.timestamp), str::to_string);
    let of_events = batches.first().is_some_and(|batch| batch.column_by_name(&named).is_none());
    // Events of the stream carry their time under a name of its own.
    let column = if timestamp.is_none() && of_events { EVENT_TIME.to_string() } else { named };
    let mut times = Vec::new();
    for batch in batches {
        let Some(array) = batch.column_by_name(&column) else {
            let available = batch.schema().fields().iter().map(|field| field.name().clone()).collect();
            let missing = ReferenceError::MissingTimestamp { column, available };
            return if timestamp.is_some() { Err(missing) } else { Ok(None) };
        };
        if let Err(error) = append_times(&mut times, array, &column) {
            let wrong = ReferenceError::Timestamp { reason: error.to_string() };
            return if timestamp.is_some() { Err(wrong) } else { Ok(None) };
        }
    }
    Ok(Some(times))
}

/// Windows numbered without gaps.
fn windows_of_times(times: &[Option<i64>], size_ms: i64) -> Vec<Option<u32>> {
    let mut numbers: HashMap<i64, u32> = HashMap::new();
    let mut number = |window: i64| {
        let next = numbers.len() as u32;
        *numbers.entry(window).or_insert(next)
    };
    times.iter().map(|time| time.map(|time| number(time.div_euclid(size_ms.max(1))))).collect()
}

/// Rows by time where it is known, else in file order; without a time last.
fn rows_in_time(rows: usize, times: Option<&[Option<i64>]>) -> Vec<usize> {
    let mut order: Vec<usize> = (0..rows).collect();
    if let Some(times) = times {
        order.sort_by_key(|row| times.get(*row).copied().flatten().unwrap_or(i64::MAX));
    }
    order
}

/// Whole blocks of `size` rows in this order; what is left at the end belongs to none.
fn blocks(order: &[usize], size: usize) -> Vec<Option<u32>> {
    let mut window_of = vec![None; order.len()];
    for (block, rows) in (0u32..).zip(order.chunks_exact(size)) {
        for row in rows {
            window_of[*row] = Some(block);
        }
    }
    window_of
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{ArrayRef, Float64Array, Int64Array, StringArray};

    use super::*;
    use crate::reference::{Reference, Source};
    use crate::stats::calibration::OwnWindows;

    const HOUR_MS: i64 = 3_600_000;

    fn model(extra: &str) -> Model {
        let yaml = format!(
            "version: 1\nmodel: m\ntopics: [t]\nfields: {{timestamp: meta.at}}\nfeatures: {{swings: numeric, steady: numeric, place: categorical}}\nreferences: {{training: {{path: t.csv{extra}}}}}\n"
        );
        crate::config::parse_model_str("model.yaml", &yaml).unwrap().value
    }

    /// Four days of hours, 100 rows each: `swings` and `place` follow the hour of the day, `steady` does not.
    fn rows(time: &str) -> RecordBatch {
        let count = 4 * 24 * 100;
        let noise = |row: i64| f64::from((row * 7_919 % 1_009) as i32) / 1_009.0;
        let hour = |row: i64| row / 100;
        let at: Vec<i64> = (0..count).map(|row| hour(row) * HOUR_MS + 1_000_000_000_000).collect();
        let swing = |row: i64| (hour(row) as f64 * std::f64::consts::TAU / 24.0).sin();
        let place = |row: i64| if noise(row) < 0.5 + 0.2 * swing(row) { "a" } else { "b" };
        let columns: Vec<(&str, ArrayRef)> = vec![
            (time, Arc::new(Int64Array::from(at))),
            ("swings", Arc::new(Float64Array::from_iter_values((0..count).map(|row| noise(row) + 0.3 * swing(row))))),
            ("steady", Arc::new(Float64Array::from_iter_values((0..count).map(noise)))),
            ("place", Arc::new(StringArray::from_iter_values((0..count).map(place)))),
        ];
        RecordBatch::try_from_iter(columns).unwrap()
    }

    fn built(model: &Model, rows: &RecordBatch) -> Result<Reference, ReferenceError> {
        Reference::build(model, "training", std::slice::from_ref(rows), &BTreeMap::new(), Source::default(), 0)
    }

    fn own(reference: &Reference, feature: &str) -> Vec<OwnWindows> {
        reference.features[feature].calibration.own_windows().to_vec()
    }

    #[test]
    fn a_season_is_learned_by_the_columns_that_follow_it() {
        let reference = built(&model(""), &rows("at")).unwrap();
        let swings = own(&reference, "swings");
        assert_eq!((swings.len(), swings[0].cut, swings[0].windows), (1, Cut::Time, 96), "{swings:?}");
        assert!(swings[0].level > 10.0, "{swings:?}");
        assert!(own(&reference, "place")[0].shape > 3.0);
        assert!(own(&reference, "steady").is_empty(), "{:?}", own(&reference, "steady"));
        assert_eq!(Reference::from_json(&reference.to_json()).unwrap(), reference, "it is kept in the file");
        assert_eq!(reference.id, built(&model(""), &rows("at")).unwrap().id, "and part of the content");
    }

    #[test]
    fn without_times_blocks_of_rows_in_file_order_are_the_windows() {
        let reference = built(&model(""), &rows("when")).unwrap();
        let sizes: Vec<f64> = own(&reference, "swings").iter().map(|own| own.size).collect();
        assert_eq!(sizes, [64.0, 256.0], "of 9 600 rows");
        assert!(own(&reference, "swings").iter().all(|own| own.cut == Cut::Rows && own.level > 5.0));
    }

    #[test]
    fn a_column_of_times_that_the_model_names_has_to_be_there() {
        let named = model(", timestamp: when");
        assert_eq!(own(&built(&named, &rows("when")).unwrap(), "swings")[0].cut, Cut::Time);
        let error = built(&named, &rows("at")).unwrap_err().to_string();
        assert_eq!(
            error,
            "the reference data has no column `when`, which the model file names as their `timestamp`; it has: at, \
             swings, steady, place"
        );
        let error = built(&model(", timestamp: place"), &rows("at")).unwrap_err().to_string();
        assert!(error.contains("`place`") && error.contains("not a time"), "{error}");
    }
}
