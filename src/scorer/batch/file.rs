//! A file in, the same file with more columns out: Parquet or JSON Lines, read and written piece by piece. The output is
//! written beside its place and renamed at the end: it is whole, or it is not there.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read as _, Write};
use std::path::Path;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{FieldRef, Schema};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Map, Value};

use super::{BatchError, CHUNK_ROWS, NewColumn, Work};
use crate::scorer::transform::{arrow, rows};

/// Longest line, bytes.
const MAX_LINE_BYTES: u64 = 4 << 20;

/// What becomes of the input's own columns.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileOptions {
    /// Columns of the input that stay; `None`: all.
    pub keep: Option<Vec<String>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Parquet,
    JsonLines,
}

impl Kind {
    fn of(path: &Path) -> Result<Self, BatchError> {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("parquet") => Ok(Self::Parquet),
            Some("jsonl" | "ndjson") => Ok(Self::JsonLines),
            _ => Err(failed(path, "name it .parquet or .jsonl after what it holds")),
        }
    }
}

fn failed(path: &Path, reason: impl std::fmt::Display) -> BatchError {
    BatchError::Failed(format!("{}: {reason}", path.display()))
}

/// Works on all rows of `input`, writes `output`, and gives the number of rows. `progress` is told rows done and, where
/// it is known, rows in all.
///
/// # Errors
/// A file cannot be read or written, or a row cannot be worked on: nothing is written then.
pub fn run_file(
    work: &mut dyn Work,
    input: &Path,
    output: &Path,
    options: &FileOptions,
    progress: &dyn Fn(u64, Option<u64>),
) -> Result<u64, BatchError> {
    let kind = Kind::of(input)?;
    if Kind::of(output)? != kind {
        return Err(failed(output, "the output is of the input's kind: give both the same extension"));
    }
    let directory = output.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let temporary = tempfile::Builder::new()
        .prefix(".driftline-scorer-")
        .tempfile_in(directory)
        .map_err(|error| failed(output, format!("cannot be written: {error}")))?;
    let file = File::open(input).map_err(|error| failed(input, format!("cannot be read: {error}")))?;
    let count = match kind {
        Kind::Parquet => parquet_rows(work, (input, file), (output, temporary.as_file()), options, progress)?,
        Kind::JsonLines => json_rows(work, (input, file), (output, temporary.as_file()), options, progress)?,
    };
    let unwritten = |error: std::io::Error| failed(output, format!("cannot be written: {error}"));
    temporary.as_file().sync_all().map_err(unwritten)?;
    temporary.persist(output).map_err(|error| unwritten(error.error))?;
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(unwritten)?;
    Ok(count)
}

/// Names that would be there twice.
fn refuse_twice<'a>(path: &Path, own: impl Iterator<Item = &'a str>, new: &BTreeSet<String>) -> Result<(), BatchError> {
    let mut own = own;
    match own.find(|name| new.contains(*name)) {
        Some(name) => {
            Err(failed(path, format!("has a column `{name}` already: keep it out, or give new ones a --prefix")))
        }
        None => Ok(()),
    }
}

fn parquet_rows(
    work: &mut dyn Work,
    (input, file): (&Path, File),
    (output, out): (&Path, &File),
    options: &FileOptions,
    progress: &dyn Fn(u64, Option<u64>),
) -> Result<u64, BatchError> {
    let unreadable = |error: &dyn std::fmt::Display| failed(input, format!("not a Parquet file: {error}"));
    let unwritten = |error: &dyn std::fmt::Display| failed(output, format!("cannot be written: {error}"));
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| unreadable(&error))?;
    let total = u64::try_from(builder.metadata().file_metadata().num_rows()).ok();
    let stored = builder.schema().clone();
    let kept: Vec<usize> = match &options.keep {
        None => (0..stored.fields().len()).collect(),
        Some(names) => {
            let index =
                |name: &String| stored.index_of(name).map_err(|_| failed(input, format!("has no column `{name}`")));
            names.iter().map(index).collect::<Result<_, _>>()?
        }
    };
    let new_fields = work.fields();
    let new_names = new_fields.iter().map(|field| field.name().clone()).collect();
    refuse_twice(input, kept.iter().map(|index| stored.field(*index).name().as_str()), &new_names)?;
    let own = kept.iter().map(|index| Arc::clone(&stored.fields()[*index]));
    let fields: Vec<FieldRef> = own.chain(new_fields.into_iter().map(Arc::new)).collect();
    let schema = Arc::new(Schema::new(fields));
    let mut writer = ArrowWriter::try_new(out, schema.clone(), None).map_err(|error| unwritten(&error))?;
    let mut done = 0;
    progress(0, total);
    for batch in builder.with_batch_size(CHUNK_ROWS).build().map_err(|error| unreadable(&error))? {
        let batch = batch.map_err(|error| unreadable(&error))?;
        let in_place = |error: BatchError| at_row(input, done, error);
        let raw = arrow::raw_columns(work.inputs(), &batch).map_err(BatchError::from).map_err(in_place)?;
        let new = work.run(&raw, batch.num_rows()).map_err(in_place)?;
        let own = kept.iter().map(|index| Arc::clone(batch.column(*index)));
        let columns = own.chain(new.iter().map(NewColumn::array)).collect();
        let written = RecordBatch::try_new(schema.clone(), columns).map_err(|error| unwritten(&error))?;
        writer.write(&written).map_err(|error| unwritten(&error))?;
        done += batch.num_rows() as u64;
        progress(done, total);
    }
    writer.close().map_err(|error| unwritten(&error))?;
    Ok(done)
}

/// Says where the piece begins in which a row is wrong.
fn at_row(path: &Path, first: u64, error: BatchError) -> BatchError {
    match error {
        BatchError::Rows(reason) => failed(path, format!("{reason} (counted from row {first})")),
        failed => failed,
    }
}

fn json_rows(
    work: &mut dyn Work,
    (input, file): (&Path, File),
    (output, out): (&Path, &File),
    options: &FileOptions,
    progress: &dyn Fn(u64, Option<u64>),
) -> Result<u64, BatchError> {
    let unwritten = |error: std::io::Error| failed(output, format!("cannot be written: {error}"));
    let names: Vec<String> = work.fields().iter().map(|field| field.name().clone()).collect();
    let mut reader = BufReader::new(file);
    let mut writer = BufWriter::new(out);
    let (mut done, mut line) = (0_u64, 0_u64);
    loop {
        let chunk = read_chunk(input, &mut reader, &mut line)?;
        if chunk.is_empty() {
            break;
        }
        let objects: Vec<&Map<String, Value>> = chunk.iter().map(|(_, object)| object).collect();
        let in_place = |error: BatchError| at_row(input, done, error);
        let raw = rows::raw_columns(work.inputs(), &objects).map_err(BatchError::from).map_err(in_place)?;
        let new = work.run(&raw, objects.len()).map_err(in_place)?;
        let mut text = Vec::new();
        for (row, (own, object)) in chunk.iter().enumerate() {
            let own = match &options.keep {
                None => own.clone(),
                Some(keep) => kept_text(object, keep),
            };
            let twice = names.iter().find(|name| match &options.keep {
                None => object.contains_key(*name),
                Some(keep) => keep.contains(name),
            });
            if let Some(name) = twice {
                let reason =
                    format!("row {} has `{name}` already: keep it out, or give new ones a --prefix", done + row as u64);
                return Err(failed(input, reason));
            }
            append_fields(&own, names.iter().map(String::as_str), &new, row, &mut text);
            text.push(b'\n');
        }
        writer.write_all(&text).map_err(unwritten)?;
        done += objects.len() as u64;
        progress(done, None);
    }
    writer.flush().map_err(unwritten)?;
    Ok(done)
}

/// A line's text, and its object.
type Line = (String, Map<String, Value>);

/// The next rows with their text; empty lines are passed over.
fn read_chunk(input: &Path, reader: &mut BufReader<File>, line: &mut u64) -> Result<Vec<Line>, BatchError> {
    let mut chunk = Vec::new();
    let mut text = String::new();
    while chunk.len() < CHUNK_ROWS {
        text.clear();
        let read = reader.by_ref().take(MAX_LINE_BYTES).read_line(&mut text);
        let read = read.map_err(|error| failed(input, format!("cannot be read: {error}")))?;
        if read == 0 {
            break;
        }
        *line += 1;
        if read as u64 == MAX_LINE_BYTES {
            return Err(failed(input, format!("line {line} is longer than {MAX_LINE_BYTES} bytes")));
        }
        let own = text.trim();
        if own.is_empty() {
            continue;
        }
        let object = serde_json::from_str(own)
            .map_err(|error| failed(input, format!("line {line} is no JSON object: {error}")))?;
        chunk.push((own.to_string(), object));
    }
    Ok(chunk)
}

fn kept_text(object: &Map<String, Value>, keep: &[String]) -> String {
    let kept: Map<String, Value> =
        keep.iter().map(|name| (name.clone(), object.get(name).cloned().unwrap_or(Value::Null))).collect();
    Value::Object(kept).to_string()
}

/// A JSON object with fields after its own; its text stays as it is.
pub(super) fn append_fields<'a>(
    object: &str,
    names: impl Iterator<Item = &'a str>,
    values: &[NewColumn],
    row: usize,
    out: &mut Vec<u8>,
) {
    let body = object.trim_end().strip_suffix('}').unwrap_or(object).trim_end();
    out.extend_from_slice(body.as_bytes());
    let mut separator: &[u8] = if body.ends_with('{') { b"" } else { b"," };
    for (name, value) in names.zip(values) {
        out.extend_from_slice(separator);
        separator = b",";
        // Writing to memory does not fail.
        let _ = serde_json::to_writer(&mut *out, name);
        out.push(b':');
        value.write_json(row, out);
    }
    out.push(b'}');
}
