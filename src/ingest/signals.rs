//! Values of watched signals in the order of their source partition, for the change detectors of the windows role.
//!
//! Detectors are sequential, so profiles are of no use to them: of models that ask for one, a flush carries every value
//! of the signal with its offset and event time, apart for each source partition and model version. A value takes
//! about eleven bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray};
use datafusion::arrow::datatypes::Float64Type;

use crate::config::model::Model;
use crate::event::{DecodedBatch, VERSION};
use crate::log::{Records, TopicPartition};
use crate::stats::varint::{self, Reader};

/// Values of one run at most, so that a run fits a part of a flush.
pub const MOST_VALUES: usize = 16_384;

/// Longest name in an encoded run, bytes.
const MOST_NAME_BYTES: u64 = 1 << 20;

/// Values of one signal of one model version in one source partition, by ascending offset. Missing values are left out.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SignalRun {
    pub model: String,
    pub version: String,
    pub topic: String,
    pub partition: i32,
    pub signal: String,
    pub values: Vec<SignalValue>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SignalValue {
    pub offset: i64,
    /// Epoch milliseconds.
    pub event_time_ms: i64,
    pub value: f64,
}

impl SignalRun {
    /// Names, then per value the steps of offset and event time as varints and the value in eight bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        for name in [&self.model, &self.version, &self.topic, &self.signal] {
            varint::write(name.len() as u64, out);
            out.extend_from_slice(name.as_bytes());
        }
        varint::write(zigzag(i64::from(self.partition)), out);
        varint::write(self.values.len() as u64, out);
        let (mut offset, mut time_ms) = (0_i64, 0_i64);
        for value in &self.values {
            varint::write(zigzag(value.offset.wrapping_sub(offset)), out);
            varint::write(zigzag(value.event_time_ms.wrapping_sub(time_ms)), out);
            out.extend_from_slice(&value.value.to_le_bytes());
            (offset, time_ms) = (value.offset, value.event_time_ms);
        }
    }

    /// `None`: not what `encode` writes.
    pub fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        let mut name = || {
            let length = reader.varint_up_to(MOST_NAME_BYTES)? as usize;
            std::str::from_utf8(reader.bytes(length)?).ok().map(str::to_string)
        };
        let (model, version, topic, signal) = (name()?, name()?, name()?, name()?);
        let partition = i32::try_from(unzigzag(reader.varint()?)).ok()?;
        let count = reader.varint_up_to(MOST_VALUES as u64)?;
        let mut values = Vec::with_capacity(count as usize);
        let (mut offset, mut event_time_ms) = (0_i64, 0_i64);
        for _ in 0..count {
            offset = offset.wrapping_add(unzigzag(reader.varint()?));
            event_time_ms = event_time_ms.wrapping_add(unzigzag(reader.varint()?));
            values.push(SignalValue { offset, event_time_ms, value: reader.double()? });
        }
        Some(Self { model, version, topic, partition, signal, values })
    }
}

pub(super) fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

pub(super) fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// Version, topic and partition.
type Place<'a> = (&'a str, Arc<str>, i32);

/// Gathers the runs of one model between two flushes.
#[derive(Debug)]
pub struct SignalCollector {
    model: String,
    /// Without doubles: two detectors may watch one signal.
    signals: BTreeSet<String>,
    /// By version, partition and signal.
    runs: BTreeMap<(String, TopicPartition, String), Vec<SignalValue>>,
}

impl SignalCollector {
    pub fn new(model: &Arc<Model>) -> Self {
        let signals = model.change_detectors.iter().map(|detector| detector.signal.clone()).collect();
        Self { model: model.model.clone(), signals, runs: BTreeMap::new() }
    }

    /// Takes in the rows of a slab, which stand in the order of the slab.
    pub fn add_batch(&mut self, decoded: &DecodedBatch, records: &Records) {
        let times = decoded.event_times_ms();
        let Some(versions) = decoded.batch.column_by_name(VERSION).and_then(|column| column.as_string_opt::<i32>())
        else {
            return;
        };
        for signal in &self.signals {
            let Some(column) = decoded.batch.column_by_name(signal) else { continue };
            let Some(values) = column.as_primitive_opt::<Float64Type>() else { continue };
            let rows = decoded.record_indices.iter().enumerate().filter_map(|(row, record)| {
                let record = records.get(*record as usize).filter(|_| values.is_valid(row))?;
                let value = SignalValue { offset: record.offset, event_time_ms: times[row], value: values.value(row) };
                Some(((versions.value(row), record.topic.clone(), record.partition), value))
            });
            let rows: Vec<(Place<'_>, SignalValue)> = rows.collect();
            // Rows of one partition and version mostly stand together: one look-up for all of them.
            for together in rows.chunk_by(|left, right| left.0 == right.0) {
                let Some(((version, topic, partition), _)) = together.first() else { continue };
                let partition = TopicPartition { topic: topic.clone(), partition: *partition };
                let run = self.runs.entry((version.to_string(), partition, signal.clone())).or_default();
                run.extend(together.iter().map(|(_, value)| *value));
            }
        }
    }

    /// What was gathered, in runs that fit a part.
    pub fn runs(&self) -> impl Iterator<Item = SignalRun> + '_ {
        self.runs.iter().flat_map(move |((version, partition, signal), values)| {
            values.chunks(MOST_VALUES).map(move |values| SignalRun {
                model: self.model.clone(),
                version: version.clone(),
                topic: partition.topic.to_string(),
                partition: partition.partition,
                signal: signal.clone(),
                values: values.to_vec(),
            })
        })
    }

    pub fn clear(&mut self) {
        self.runs.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(values: &[(i64, i64, f64)]) -> SignalRun {
        SignalRun {
            model: "fraud".into(),
            version: "3".into(),
            topic: "predictions".into(),
            partition: 7,
            signal: "prediction.score".into(),
            values: values
                .iter()
                .map(|(offset, event_time_ms, value)| SignalValue {
                    offset: *offset,
                    event_time_ms: *event_time_ms,
                    value: *value,
                })
                .collect(),
        }
    }

    #[test]
    fn a_run_reads_back_as_written() {
        let runs = [
            run(&[]),
            run(&[(10, 1_767_225_600_000, 0.25), (11, 1_767_225_599_000, -0.0), (40, -5, f64::MAX)]),
            run(&[(i64::MAX, i64::MIN, 1.0), (0, i64::MAX, 2.0)]),
        ];
        let mut bytes = Vec::new();
        runs.iter().for_each(|run| run.encode(&mut bytes));
        let mut reader = Reader::new(&bytes);
        for run in &runs {
            assert_eq!(SignalRun::decode(&mut reader).as_ref(), Some(run));
        }
        for length in 0..bytes.len() {
            let mut reader = Reader::new(&bytes[..length]);
            // A cut fails at the run that it is in.
            let read = runs.iter().map_while(|_| SignalRun::decode(&mut reader)).count();
            assert!(read < runs.len(), "cut at {length}");
        }
    }

    #[test]
    fn a_value_takes_about_eleven_bytes() {
        let values: Vec<(i64, i64, f64)> = (0..1_000).map(|index| (1_000_000 + index, index * 37, 0.5)).collect();
        let mut bytes = Vec::new();
        run(&values).encode(&mut bytes);
        assert!(bytes.len() < 11_100, "{} bytes for 1 000 values", bytes.len());
    }
}
