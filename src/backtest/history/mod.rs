//! History from files: tables (Parquet, CSV) column by column, events (JSONL) as they would be read from a topic; and, in
//! `stream`, from the topics themselves.
//!
//! Rows are tried in the order of their event time; a file in another order is sorted in memory first. A row that cannot be
//! used costs itself and is counted by reason, as an event is. To add a kind of file: a file here that turns it into what
//! `Engine` takes, and its arm in `read`.

mod convert;
mod events;
pub mod stream;
mod tables;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{BacktestError, Engine};
use crate::config::model::Model;
use crate::event::Decoder;
use crate::log::Records;
use crate::reference::table::TableError;

/// Where the rows of one model are, and how they are to be read.
#[derive(Debug, Clone, Default)]
pub struct HistoryFile {
    /// `-`: events, as lines on the standard input.
    pub path: PathBuf,
    /// Column with the event time, of a table; `None`: the one named as the model's timestamp.
    pub timestamp: Option<String>,
    /// A table without event times: when its rows happened.
    pub clock: Option<RowClock>,
    /// By signal: the column of a table, where it has another name.
    pub columns: BTreeMap<String, String>,
    /// Version of every row, where the table does not say.
    pub version: Option<String>,
    /// Label events of the model, in lines of JSON.
    pub labels: Option<PathBuf>,
}

/// Rows at equal distances: the first at `start_ms`, each next one `every_ms` later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowClock {
    pub start_ms: i64,
    pub every_ms: i64,
}

/// How a file was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// Rows of the file, used or not.
    pub rows: u64,
    /// False: rows were not in the order of their event time, and were sorted.
    pub in_order: bool,
    /// What a person should know.
    pub notes: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    #[error("{0}")]
    File(#[from] TableError),
    /// A column that does not fit the model: the command line or a file has to change.
    #[error("{}: {reason}", path.display())]
    Misfit { path: PathBuf, reason: String },
    #[error("{}: {reason}", path.display())]
    Unreadable { path: PathBuf, reason: String },
    #[error("{}: none of its {rows} rows can be used: {reasons}", path.display())]
    NothingUsable { path: PathBuf, rows: u64, reasons: String },
    #[error("{0}")]
    Engine(#[from] BacktestError),
}

impl HistoryError {
    /// Whether another command line would mend it, rather than another file.
    pub fn is_usage(&self) -> bool {
        match self {
            HistoryError::Misfit { .. } => true,
            HistoryError::File(error) => {
                matches!(error, TableError::NoSuchColumn { .. } | TableError::WrongType { .. })
            }
            HistoryError::Engine(BacktestError::UnknownModel { .. }) => true,
            _ => false,
        }
    }
}

/// Hears how many rows were read, of how many (0: not known).
pub type OnProgress<'a> = &'a mut dyn FnMut(u64, u64);

/// Feeds the engine with the rows of one model.
pub fn read(
    engine: &mut Engine,
    model: &Arc<Model>,
    file: &HistoryFile,
    progress: OnProgress<'_>,
) -> Result<Read, HistoryError> {
    let before = engine.rejected().clone();
    let rows_before = engine.rows();
    let read = if is_events(&file.path) {
        events::read(engine, model, file, progress)?
    } else {
        tables::read(engine, model, file, progress)?
    };
    if engine.rows() == rows_before {
        let counted = engine.rejected().iter().map(|(reason, count)| {
            let earlier = before.get(reason).copied().unwrap_or(0);
            (reason, count - earlier)
        });
        let reasons: Vec<String> =
            counted.filter(|(_, count)| *count > 0).map(|(reason, count)| format!("{count} {reason}")).collect();
        return Err(HistoryError::NothingUsable {
            path: file.path.clone(),
            rows: read.rows,
            reasons: if reasons.is_empty() { "no event is of this model".into() } else { reasons.join(", ") },
        });
    }
    Ok(read)
}

/// Whether a file holds events as they stand in a topic, rather than a table.
pub fn is_events(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str()).map(str::to_ascii_lowercase);
    path == Path::new("-") || matches!(extension.as_deref(), Some("jsonl" | "ndjson" | "json"))
}

/// Event time of every record, or when its label was given, epoch milliseconds; `None` where it cannot be told.
fn times_of(decoder: &mut Decoder, records: &Records) -> Result<Vec<Option<i64>>, String> {
    let decoded = decoder.decode(records, i64::MAX / 4).map_err(|error| error.to_string())?;
    let mut times = vec![None; records.len()];
    let mut note = |record: usize, time_ms: Option<i64>| {
        if let Some(time) = times.get_mut(record) {
            *time = time_ms;
        }
    };
    for batch in &decoded.batches {
        let of_rows = batch.record_indices.iter().zip(batch.event_times_ms());
        of_rows.for_each(|(record, time_ms)| note(*record as usize, Some(*time_ms)));
    }
    for label in &decoded.labels {
        let written_ms = records.get(label.record).map(|record| record.timestamp_ms).filter(|time_ms| *time_ms >= 0);
        note(label.record, label.given_ms.or(written_ms));
    }
    for rejected in &decoded.rejected {
        note(rejected.record, rejected.place.as_ref().map(|place| place.event_time_ms));
    }
    Ok(times)
}
