//! The record of the `partials` topic.
//!
//! A flush writes one record, in parts where it is large, to *every* partition: a JSON header with the progress
//! of the source partitions, then the aggregates of the models that belong to that partition as an Arrow IPC
//! stream in a long, fixed schema, so that later stages need no schema of any model.
//!
//! ```text
//! "DLP1" | header length, u32 little endian | header, JSON | Arrow IPC stream (absent: no aggregates)
//! "DLS1" | header length, u32 little endian | header, JSON | runs of signal values (`signals`)
//! ```
//!
//! Parts with the values of signals, of models that ask for change detectors, come before those with aggregates.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;
use datafusion::arrow::array::{ArrayRef, AsArray, BinaryArray, Int64Array, RecordBatch, StringArray, UInt64Array};
use datafusion::arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, UInt64Type};
use serde::{Deserialize, Serialize};

use super::signals::SignalRun;
use crate::stats::varint::Reader;

const MAGIC: &[u8; 4] = b"DLP1";
const SIGNALS_MAGIC: &[u8; 4] = b"DLS1";

/// A part is closed at about this many bytes of state, well below Kafka's default limit of 1 MiB a message.
const PART_BYTES: usize = 512 * 1024;

/// What a flush says to every partition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FlushHeader {
    /// The process that flushed, for logs.
    pub instance: String,
    /// Wall clock of the flush, epoch milliseconds.
    pub at_ms: i64,
    /// The next flush of this process comes by this wall clock, or the process is gone.
    pub next_by_ms: i64,
    /// Progress of the source partitions this process owns.
    pub sources: Vec<SourceProgress>,
    /// Number of partitions of every source topic.
    pub topics: BTreeMap<String, i32>,
    /// Events accepted in this flush, by model.
    pub rows: BTreeMap<String, u64>,
    /// Progress counts once the last part has been read.
    pub part: u32,
    pub parts: u32,
}

/// How far one source partition has been read.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SourceProgress {
    pub topic: String,
    pub partition: i32,
    /// This flush covers the offsets from `from` up to but without `to`.
    pub from: i64,
    pub to: i64,
    /// Latest event time in this flush, epoch milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_ms: Option<i64>,
    /// Since when the partition has been read to its end with nothing new, epoch milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quiet_since_ms: Option<i64>,
    /// Of a partition of `joins`, by model: the join's event time, epoch milliseconds. Whatever a label delay that ended
    /// before it left open is decided, and told in this flush or an earlier one.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub joined_ms: BTreeMap<String, i64>,
}

/// One aggregate: a profile of one feature, the row count where `feature` is empty, or the quality of all events where
/// it is `event::QUALITY_FEATURE`.
#[derive(Debug, Clone, PartialEq)]
pub struct PartialRow {
    pub model: String,
    pub version: String,
    /// Empty for all events.
    pub segment_column: String,
    pub segment_value: String,
    pub reference_id: String,
    pub pane_start_ms: i64,
    /// Width of the pane, milliseconds.
    pub pane_ms: i64,
    /// Empty: `rows` alone counts.
    pub feature: String,
    pub rows: u64,
    /// Encoded profile.
    pub state: Vec<u8>,
}

#[derive(Debug, thiserror::Error)]
pub enum PartialError {
    #[error("not a record of a flush: {0}")]
    Malformed(&'static str),
    #[error("header of a flush: {0}")]
    Header(#[from] serde_json::Error),
    #[error("body of a flush: {0}")]
    Body(#[from] datafusion::arrow::error::ArrowError),
}

static LONG_SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let field = |name: &str, data_type: DataType| Field::new(name, data_type, false);
    Arc::new(Schema::new(vec![
        field("model", DataType::Utf8),
        field("version", DataType::Utf8),
        field("segment_column", DataType::Utf8),
        field("segment_value", DataType::Utf8),
        field("reference_id", DataType::Utf8),
        field("pane_start_ms", DataType::Int64),
        field("pane_ms", DataType::Int64),
        field("feature", DataType::Utf8),
        field("rows", DataType::UInt64),
        field("state", DataType::Binary),
    ]))
});

/// Encodes one flush for one partition: at least one part, so that progress reaches every partition.
pub fn encode_flush(
    header: &FlushHeader,
    rows: &[PartialRow],
    signals: impl Iterator<Item = SignalRun>,
) -> Result<Vec<Vec<u8>>, PartialError> {
    let slices = slice_by_size(rows);
    let signals = pack_by_size(signals);
    let parts = (signals.len() + slices.len().max(1)) as u32;
    let mut records = Vec::with_capacity(parts as usize);
    let header_of = |part: usize| FlushHeader { part: part as u32, parts, ..header.clone() };
    for runs in &signals {
        let mut record = begin_part(SIGNALS_MAGIC, &header_of(records.len()))?;
        record.extend_from_slice(runs);
        records.push(record);
    }
    for index in 0..slices.len().max(1) {
        let rows = slices.get(index).copied().unwrap_or_default();
        records.push(encode_part(&header_of(records.len()), rows)?);
    }
    Ok(records)
}

/// Encoded runs, put together up to the size of a part.
fn pack_by_size(signals: impl Iterator<Item = SignalRun>) -> Vec<Vec<u8>> {
    let mut packed: Vec<Vec<u8>> = Vec::new();
    for run in signals {
        match packed.last_mut() {
            Some(bytes) if bytes.len() < PART_BYTES / 2 => run.encode(bytes),
            _ => {
                let mut bytes = Vec::new();
                run.encode(&mut bytes);
                packed.push(bytes);
            }
        }
    }
    packed
}

fn slice_by_size(rows: &[PartialRow]) -> Vec<&[PartialRow]> {
    let mut slices = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (index, row) in rows.iter().enumerate() {
        bytes += row.state.len() + row.feature.len() + row.model.len() + row.version.len() + 96;
        if bytes >= PART_BYTES {
            slices.push(&rows[start..=index]);
            (start, bytes) = (index + 1, 0);
        }
    }
    if start < rows.len() {
        slices.push(&rows[start..]);
    }
    slices
}

pub(super) fn begin_part(magic: &[u8; 4], header: &FlushHeader) -> Result<Vec<u8>, PartialError> {
    let header_json = serde_json::to_vec(header)?;
    let mut record = Vec::with_capacity(header_json.len() + 1024);
    record.extend_from_slice(magic);
    record.extend_from_slice(&(header_json.len() as u32).to_le_bytes());
    record.extend_from_slice(&header_json);
    Ok(record)
}

fn encode_part(header: &FlushHeader, rows: &[PartialRow]) -> Result<Vec<u8>, PartialError> {
    let mut record = begin_part(MAGIC, header)?;
    if !rows.is_empty() {
        let mut writer = StreamWriter::try_new(&mut record, &LONG_SCHEMA)?;
        writer.write(&to_batch(rows)?)?;
        writer.finish()?;
    }
    Ok(record)
}

fn to_batch(rows: &[PartialRow]) -> Result<RecordBatch, PartialError> {
    let text = |get: fn(&PartialRow) -> &str| -> ArrayRef {
        Arc::new(rows.iter().map(|row| Some(get(row))).collect::<StringArray>())
    };
    let columns: Vec<ArrayRef> = vec![
        text(|row| &row.model),
        text(|row| &row.version),
        text(|row| &row.segment_column),
        text(|row| &row.segment_value),
        text(|row| &row.reference_id),
        Arc::new(rows.iter().map(|row| row.pane_start_ms).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|row| row.pane_ms).collect::<Int64Array>()),
        text(|row| &row.feature),
        Arc::new(rows.iter().map(|row| row.rows).collect::<UInt64Array>()),
        Arc::new(BinaryArray::from_iter_values(rows.iter().map(|row| &row.state))),
    ];
    Ok(RecordBatch::try_new(LONG_SCHEMA.clone(), columns)?)
}

/// One record of the `partials` topic.
#[derive(Debug, Clone, PartialEq)]
pub struct FlushPart {
    pub header: FlushHeader,
    pub rows: Vec<PartialRow>,
    pub signals: Vec<SignalRun>,
}

/// Decodes one record of the `partials` topic.
pub fn decode_flush(record: &[u8]) -> Result<FlushPart, PartialError> {
    let (has_rows, rest) = match (record.strip_prefix(MAGIC), record.strip_prefix(SIGNALS_MAGIC)) {
        (Some(rest), _) => (true, rest),
        (None, Some(rest)) => (false, rest),
        (None, None) => return Err(PartialError::Malformed("wrong magic")),
    };
    let (header, body) = split_part(rest)?;
    let (mut rows, mut signals) = (Vec::new(), Vec::new());
    if has_rows && !body.is_empty() {
        for batch in StreamReader::try_new(body, None)? {
            from_batch(&batch?, &mut rows)?;
        }
    }
    if !has_rows {
        let mut reader = Reader::new(body);
        while reader.remaining() > 0 {
            signals.push(SignalRun::decode(&mut reader).ok_or(PartialError::Malformed("values of a signal"))?);
        }
    }
    Ok(FlushPart { header, rows, signals })
}

/// Header and body of what follows the magic.
pub(super) fn split_part(rest: &[u8]) -> Result<(FlushHeader, &[u8]), PartialError> {
    let (length, rest) = rest.split_at_checked(4).ok_or(PartialError::Malformed("truncated"))?;
    let length = u32::from_le_bytes([length[0], length[1], length[2], length[3]]) as usize;
    let (header, body) = rest.split_at_checked(length).ok_or(PartialError::Malformed("truncated header"))?;
    Ok((serde_json::from_slice(header)?, body))
}

fn from_batch(batch: &RecordBatch, rows: &mut Vec<PartialRow>) -> Result<(), PartialError> {
    if batch.schema_ref().fields() != LONG_SCHEMA.fields() {
        return Err(PartialError::Malformed("unexpected schema"));
    }
    let text = |index: usize| batch.column(index).as_string::<i32>();
    let (model, version, column, value, reference, feature) = (text(0), text(1), text(2), text(3), text(4), text(7));
    let pane_start = batch.column(5).as_primitive::<Int64Type>();
    let pane_ms = batch.column(6).as_primitive::<Int64Type>();
    let count = batch.column(8).as_primitive::<UInt64Type>();
    let state = batch.column(9).as_binary::<i32>();
    rows.reserve(batch.num_rows());
    for row in 0..batch.num_rows() {
        rows.push(PartialRow {
            model: model.value(row).to_string(),
            version: version.value(row).to_string(),
            segment_column: column.value(row).to_string(),
            segment_value: value.value(row).to_string(),
            reference_id: reference.value(row).to_string(),
            pane_start_ms: pane_start.value(row),
            pane_ms: pane_ms.value(row),
            feature: feature.value(row).to_string(),
            rows: count.value(row),
            state: state.value(row).to_vec(),
        });
    }
    Ok(())
}

/// The partition that holds a model's partials: stable across processes and versions.
pub fn partition_of(model: &str, partitions: i32) -> i32 {
    // FNV-1a: stable by definition, unlike the standard library's hasher.
    let hash = model
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    (hash % partitions.max(1) as u64) as i32
}

#[cfg(test)]
mod tests {
    use super::super::signals::SignalValue;
    use super::*;

    fn header() -> FlushHeader {
        FlushHeader {
            instance: "0".into(),
            at_ms: 1_000,
            next_by_ms: 4_000,
            sources: vec![SourceProgress {
                topic: "predictions".into(),
                partition: 2,
                from: 10,
                to: 30,
                clock_ms: Some(999),
                quiet_since_ms: None,
                joined_ms: BTreeMap::new(),
            }],
            topics: BTreeMap::from([("predictions".into(), 4)]),
            rows: BTreeMap::from([("fraud".into(), 20)]),
            part: 0,
            parts: 1,
        }
    }

    fn row(feature: usize, state: Vec<u8>) -> PartialRow {
        PartialRow {
            model: "fraud".into(),
            version: "3".into(),
            segment_column: "country".into(),
            segment_value: "DE".into(),
            reference_id: "abc".into(),
            pane_start_ms: 0,
            pane_ms: 60_000,
            feature: format!("f{feature}"),
            rows: 20,
            state,
        }
    }

    #[test]
    fn a_flush_reads_back_as_written() {
        let rows = vec![row(0, vec![1, 2, 3]), row(1, vec![])];
        let records = encode_flush(&header(), &rows, std::iter::empty()).unwrap();
        assert_eq!(records.len(), 1);
        assert_eq!(decode_flush(&records[0]).unwrap(), FlushPart { header: header(), rows, signals: vec![] });
    }

    #[test]
    fn progress_without_aggregates_is_one_part() {
        let records = encode_flush(&header(), &[], std::iter::empty()).unwrap();
        assert_eq!(decode_flush(&records[0]).unwrap(), FlushPart { header: header(), rows: vec![], signals: vec![] });
    }

    #[test]
    fn a_large_flush_is_split_below_the_message_limit() {
        let rows: Vec<PartialRow> = (0..40).map(|feature| row(feature, vec![7; 100_000])).collect();
        let records = encode_flush(&header(), &rows, std::iter::empty()).unwrap();
        assert!(records.iter().all(|record| record.len() < 1_000_000));
        let mut read = Vec::new();
        for (index, record) in records.iter().enumerate() {
            let FlushPart { header, rows, .. } = decode_flush(record).unwrap();
            assert_eq!((header.part, header.parts), (index as u32, records.len() as u32));
            read.extend(rows);
        }
        assert_eq!(read, rows);
    }

    #[test]
    fn values_of_signals_come_in_parts_before_the_aggregates() {
        let run = |partition: i32| SignalRun {
            model: "fraud".into(),
            version: "3".into(),
            topic: "predictions".into(),
            partition,
            signal: "prediction.score".into(),
            values: (0..16_000).map(|offset| SignalValue { offset, event_time_ms: offset * 10, value: 0.5 }).collect(),
        };
        let (runs, rows) = ([run(0), run(1), run(2), run(3)], vec![row(0, vec![1])]);
        let records = encode_flush(&header(), &rows, runs.iter().cloned()).unwrap();
        assert!(records.len() > 2 && records.iter().all(|record| record.len() < 1_000_000));
        let parts: Vec<FlushPart> = records.iter().map(|record| decode_flush(record).unwrap()).collect();
        let read: Vec<SignalRun> = parts.iter().flat_map(|part| part.signals.clone()).collect();
        assert_eq!(read, runs);
        let numbers: Vec<(u32, u32)> = parts.iter().map(|part| (part.header.part, part.header.parts)).collect();
        let count = records.len() as u32;
        assert_eq!(numbers, (0..count).map(|part| (part, count)).collect::<Vec<_>>());
        assert_eq!(parts.last().unwrap().rows, rows, "aggregates come last");
        assert!(decode_flush(&records[0][..records[0].len() - 1]).is_err());
    }

    #[test]
    fn damaged_records_are_errors() {
        let written = vec![row(0, vec![1; 50])];
        let record = &encode_flush(&header(), &written, std::iter::empty()).unwrap()[0];
        for length in 0..record.len() {
            // Any cut fails, reads as progress alone (between header and body), or lost only the end-of-stream mark.
            if let Ok(FlushPart { rows, .. }) = decode_flush(&record[..length]) {
                assert!(rows.is_empty() || rows == written, "cut at {length} gave {rows:?}");
            }
        }
    }
}
