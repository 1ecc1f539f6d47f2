//! JSON Lines: one object a line. Nested objects become columns with dotted names; lists of numbers become columns of
//! lists, others are left out.
//!
//! Read with serde_json and its `float_roundtrip`, because a reader that rounds wrongly in the last digit moves
//! values between equal and unequal, and so whole distributions of coarse columns. Types are inferred from all rows.

mod builder;
mod lists;

use std::path::Path;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{Field, Schema};
use datafusion::arrow::error::ArrowError;
use serde::de::DeserializeSeed;

use self::builder::{Builders, RowSeed};
use super::{Table, TableError};

pub fn read(path: &Path) -> Result<Table, TableError> {
    let bytes = std::fs::read(path).map_err(|error| super::io_error(path, &error))?;
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let pieces = split_at_lines(&bytes, workers.min(1 + bytes.len() / (1 << 20)));
    let parsed: Vec<Result<Builders, LineError>> = std::thread::scope(|scope| {
        let handles: Vec<_> = pieces.iter().map(|piece| scope.spawn(move || parse(piece))).collect();
        handles.into_iter().map(|handle| handle.join().unwrap_or_else(|_| Err(LineError::worker_died()))).collect()
    });
    let mut parts = Vec::with_capacity(parsed.len());
    let mut lines_before = 0;
    for (piece, part) in pieces.iter().zip(parsed) {
        parts.push(part.map_err(|error| TableError::Malformed {
            path: path.to_path_buf(),
            place: format!("line {}: ", lines_before + error.line),
            reason: error.reason,
        })?);
        lines_before += piece.iter().filter(|byte| **byte == b'\n').count();
    }
    assemble(parts).map_err(|reason| TableError::Malformed { path: path.to_path_buf(), place: String::new(), reason })
}

/// Rows that come one by one, each a JSON object.
#[derive(Default)]
pub struct Rows(Builders);

impl Rows {
    /// Fails, and takes nothing, where the text is no JSON object.
    pub fn push(&mut self, object: &[u8]) -> Result<(), String> {
        // Read once for nothing: a row that fails half-way would leave its first values behind.
        read_row(&mut Builders::default(), object)?;
        read_row(&mut self.0, object)
    }
}

fn read_row(builders: &mut Builders, object: &[u8]) -> Result<(), String> {
    let mut deserializer = serde_json::Deserializer::from_slice(object);
    let outcome = RowSeed(builders).deserialize(&mut deserializer).and_then(|()| deserializer.end());
    outcome.map_err(|error| explain(object, &error))?;
    builders.end_row();
    Ok(())
}

/// The rows of all parts, one after the other.
pub fn table(parts: Vec<Rows>) -> Result<Table, ArrowError> {
    assemble(parts.into_iter().map(|part| part.0).collect()).map_err(ArrowError::SchemaError)
}

struct LineError {
    /// From 1, within the piece.
    line: usize,
    reason: String,
}

impl LineError {
    fn worker_died() -> Self {
        Self { line: 1, reason: "the reader stopped unexpectedly".into() }
    }
}

/// Pieces of about equal size that end with a line.
fn split_at_lines(bytes: &[u8], pieces: usize) -> Vec<&[u8]> {
    let mut rest = bytes;
    let mut parts = Vec::with_capacity(pieces);
    for left in (2..=pieces).rev() {
        let target = rest.len() / left;
        let Some(end) = rest[target..].iter().position(|byte| *byte == b'\n') else { break };
        let (piece, next) = rest.split_at(target + end + 1);
        parts.push(piece);
        rest = next;
    }
    parts.push(rest);
    parts
}

fn parse(piece: &[u8]) -> Result<Builders, LineError> {
    let mut builders = Builders::default();
    for (number, line) in piece.split(|byte| *byte == b'\n').enumerate() {
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        read_row(&mut builders, line).map_err(|reason| LineError { line: number + 1, reason })?;
    }
    Ok(builders)
}

fn explain(line: &[u8], error: &serde_json::Error) -> String {
    if line.first() == Some(&b'[') {
        return "a JSON list; write one object a line instead".into();
    }
    let text = error.to_string();
    let reason = text.split(" at line ").next().unwrap_or(&text);
    format!("column {}: {reason}", error.column())
}

fn assemble(parts: Vec<Builders>) -> Result<Table, String> {
    let columns = builder::common_columns(&parts);
    let schema = Arc::new(Schema::new(
        columns.iter().map(|column| Field::new(&column.name, column.data_type(), true)).collect::<Vec<_>>(),
    ));
    let mut batches = Vec::with_capacity(parts.len());
    for part in parts {
        if part.rows() == 0 {
            continue;
        }
        let arrays = part.finish(&columns);
        batches.push(RecordBatch::try_new(schema.clone(), arrays).map_err(|error| error.to_string())?);
    }
    Ok(Table { schema, batches })
}
