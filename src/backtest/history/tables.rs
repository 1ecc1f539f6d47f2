//! Tables: which column is what, batch by batch into the schema of decoded events.

use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, AsArray, RecordBatch, StringArray, TimestampMillisecondArray, UInt32Array, new_null_array,
};
use datafusion::arrow::compute::{concat_batches, filter_record_batch, take_record_batch};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimestampMillisecondType};

use super::super::Engine;
use super::convert::{self, Rejections};
use super::{HistoryError, HistoryFile, OnProgress, Read};
use crate::config::model::{LABEL_COLUMN, Model, Signal};
use crate::config::nearest::nearest;
use crate::event::{UNVERSIONED, schema};
use crate::reference::table::{Table, TableFile};

/// Rows that are pushed at once when all of them are in memory.
const PUSH_ROWS: usize = 65_536;

/// Which columns of the file are read as what.
struct Plan<'a> {
    file: &'a HistoryFile,
    schema: SchemaRef,
    /// In the order in which they are read from the file.
    names: Vec<String>,
    /// Positions in `names`.
    time: Option<usize>,
    version: Option<usize>,
    prediction_id: Option<usize>,
    signals: Vec<(Signal, Option<usize>)>,
    notes: Vec<String>,
}

pub(super) fn read(
    engine: &mut Engine,
    model: &Arc<Model>,
    file: &HistoryFile,
    progress: OnProgress<'_>,
) -> Result<Read, HistoryError> {
    if let Some(labels) = &file.labels {
        let reason = format!("labels of {} go with events in JSONL; a table holds its label as a column", model.model);
        return Err(HistoryError::Misfit { path: labels.clone(), reason });
    }
    let table = TableFile::open(&file.path)?;
    let plan = Plan::new(model, file, &table)?;
    let in_order = plan.is_in_order(&table)?;
    let names: Vec<&str> = plan.names.iter().map(String::as_str).collect();
    let total = table.rows as u64;
    let (mut rows, mut unordered) = (0, Vec::new());
    for batch in table.stream(&names)? {
        let batch = batch?;
        let converted = plan.convert(&batch, rows, engine)?;
        rows += batch.num_rows() as u64;
        match in_order {
            true => engine.push(&model.model, &converted)?,
            false => unordered.push(converted),
        }
        progress(rows, total);
    }
    if !in_order {
        let sorted = by_time(&plan.schema, &unordered).map_err(|reason| plan.misfit(reason))?;
        drop(unordered);
        for from in (0..sorted.num_rows()).step_by(PUSH_ROWS) {
            engine.push(&model.model, &sorted.slice(from, PUSH_ROWS.min(sorted.num_rows() - from)))?;
        }
    }
    Ok(Read { rows, in_order, notes: plan.notes })
}

impl<'a> Plan<'a> {
    fn new(model: &Model, file: &'a HistoryFile, table: &TableFile) -> Result<Self, HistoryError> {
        let mut plan = Self {
            file,
            schema: schema(model),
            names: Vec::new(),
            time: None,
            version: None,
            prediction_id: None,
            signals: Vec::new(),
            notes: Vec::new(),
        };
        let columns = table.column_names();
        let has = |name: &str| columns.contains(&name);
        let fields = &model.fields;
        if file.clock.is_none() {
            let wanted = file.timestamp.clone().unwrap_or_else(|| last_part(&fields.timestamp));
            if !has(&wanted) {
                let near = nearest(&wanted, columns.iter().copied());
                return Err(plan.misfit(format!(
                    "no column `{wanted}` with the event time{}; name it with --timestamp COLUMN, or say when the rows \
                     happened with --start TIME --every SPAN; the columns are: {}",
                    near.map(|name| format!(" (did you mean `{name}`?)")).unwrap_or_default(),
                    columns.join(", ")
                )));
            }
            plan.time = Some(plan.place(&wanted));
        }
        let optional = |path: &Option<String>| path.as_deref().map(last_part).filter(|name| has(name));
        plan.version = optional(&fields.version).filter(|_| file.version.is_none()).map(|name| plan.place(&name));
        plan.prediction_id = optional(&fields.prediction_id).map(|name| plan.place(&name));
        let known: Vec<String> =
            model.signals().into_iter().chain(model.outcome_columns()).map(|signal| signal.name).collect();
        if let Some(unknown) = file.columns.keys().find(|name| !known.contains(name)) {
            return Err(plan.misfit(format!(
                "--column {unknown}=...: model `{}` has no signal `{unknown}`; its signals are: {}",
                model.model,
                known.join(", ")
            )));
        }
        let of_reference = model.references.values().next().map(|source| source.columns.clone()).unwrap_or_default();
        for signal in model.signals().into_iter().chain(model.outcome_columns()) {
            let named = file.columns.get(&signal.name);
            let usual =
                [of_reference.get(&signal.name).cloned(), Some(signal.name.clone()), Some(last_part(&signal.path))];
            let found = match named {
                Some(column) => Some(column.clone()),
                None => usual.into_iter().flatten().find(|column| has(column)),
            };
            let place = match found {
                Some(column) if has(&column) => Some(plan.place(&column)),
                None if signal.name == LABEL_COLUMN => {
                    plan.notes
                        .push(format!("no column with the label of {}: its performance is not judged", model.model));
                    None
                }
                missing => {
                    let wanted = missing.unwrap_or_else(|| signal.name.clone());
                    let near = nearest(&wanted, columns.iter().copied());
                    return Err(plan.misfit(format!(
                        "no column `{wanted}` for `{}`{}; name it with --column {}=COLUMN; the columns are: {}",
                        signal.name,
                        near.map(|name| format!(" (did you mean `{name}`?)")).unwrap_or_default(),
                        signal.name,
                        columns.join(", ")
                    )));
                }
            };
            plan.signals.push((signal, place));
        }
        Ok(plan)
    }

    /// Position of a column among those that are read.
    fn place(&mut self, column: &str) -> usize {
        let known = self.names.iter().position(|name| name == column);
        known.unwrap_or_else(|| {
            self.names.push(column.to_string());
            self.names.len() - 1
        })
    }

    fn misfit(&self, reason: String) -> HistoryError {
        HistoryError::Misfit { path: self.file.path.clone(), reason }
    }

    /// Whether rows stand in the order of their event time; those without one do not count.
    fn is_in_order(&self, table: &TableFile) -> Result<bool, HistoryError> {
        let Some(time) = self.time else { return Ok(true) };
        let Some(column) = self.names.get(time) else { return Ok(true) };
        let mut latest_ms = i64::MIN;
        for batch in table.stream(&[column])? {
            let batch = batch?;
            let mut rejections = Rejections::new(batch.num_rows());
            let times = self.times(batch.column(0), column, &mut rejections)?;
            let kept = rejections.kept();
            for (_, time_ms) in times.into_iter().enumerate().filter(|(row, _)| kept.value(*row)) {
                if time_ms < latest_ms {
                    return Ok(false);
                }
                latest_ms = time_ms;
            }
        }
        Ok(true)
    }

    fn times(&self, array: &ArrayRef, column: &str, rejections: &mut Rejections) -> Result<Vec<i64>, HistoryError> {
        let numbers = |array: &ArrayRef| {
            let field = Field::new(column, array.data_type().clone(), true);
            let schema: SchemaRef = Arc::new(Schema::new(vec![field]));
            let batch = RecordBatch::try_new(schema.clone(), vec![array.clone()]).map_err(|error| error.to_string())?;
            Table { schema, batches: vec![batch] }.epoch_ms(column).map_err(|error| error.to_string())
        };
        convert::times(array, column, numbers, rejections).map_err(|reason| self.misfit(reason))
    }

    /// A batch in the schema of decoded events, without the rows that cannot be used. `first_row` counts from 0.
    fn convert(&self, batch: &RecordBatch, first_row: u64, engine: &mut Engine) -> Result<RecordBatch, HistoryError> {
        let rows = batch.num_rows();
        let mut rejections = Rejections::new(rows);
        let times: Vec<i64> = match (self.time, self.file.clock) {
            (Some(time), _) => self.times(batch.column(time), &self.names[time], &mut rejections)?,
            (None, Some(clock)) => {
                (0..rows as i64).map(|row| clock.start_ms + (first_row as i64 + row) * clock.every_ms).collect()
            }
            (None, None) => Vec::new(),
        };
        let texts = |place: usize| {
            let column = batch.column(place);
            convert::texts(column).map_err(|_| {
                let (name, found) = (&self.names[place], column.data_type());
                self.misfit(format!("column `{name}` holds {found}, wanted text or numbers"))
            })
        };
        let version: StringArray = match (self.version, &self.file.version) {
            (Some(place), _) => texts(place)?.iter().map(|text| Some(text.unwrap_or(UNVERSIONED))).collect(),
            (None, version) => {
                let version = version.as_deref().unwrap_or(UNVERSIONED);
                std::iter::repeat_n(Some(version), rows).collect()
            }
        };
        let ids: ArrayRef = match self.prediction_id {
            Some(place) => Arc::new(texts(place)?),
            None => new_null_array(&DataType::Utf8, rows),
        };
        let times = TimestampMillisecondArray::from(times).with_timezone("UTC");
        let mut columns: Vec<ArrayRef> = vec![Arc::new(times), Arc::new(version), ids];
        for (index, (signal, place)) in self.signals.iter().enumerate() {
            columns.push(match place {
                Some(place) => convert::signal(batch.column(*place), signal, &self.names[*place], &mut rejections)
                    .map_err(|reason| self.misfit(reason))?,
                None => new_null_array(self.schema.field(3 + index).data_type(), rows),
            });
        }
        for reason in rejections.reasons() {
            engine.note_rejected(reason.as_str(), 1);
        }
        let converted = RecordBatch::try_new(self.schema.clone(), columns);
        let kept = converted.and_then(|batch| match rejections.is_empty() {
            true => Ok(batch),
            false => filter_record_batch(&batch, &rejections.kept()),
        });
        kept.map_err(|error| self.misfit(error.to_string()))
    }
}

/// Rows in order of event time; equal ones stay in the file's order.
fn by_time(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<RecordBatch, String> {
    let whole = concat_batches(schema, batches).map_err(|error| error.to_string())?;
    let times = whole.column(0).as_primitive::<TimestampMillisecondType>().values();
    let mut order: Vec<u32> = (0..whole.num_rows() as u32).collect();
    order.sort_by_key(|row| times.get(*row as usize).copied());
    take_record_batch(&whole, &UInt32Array::from(order)).map_err(|error| error.to_string())
}

/// What follows the last dot of a path.
fn last_part(path: &str) -> String {
    path.rsplit('.').next().unwrap_or(path).to_string()
}
