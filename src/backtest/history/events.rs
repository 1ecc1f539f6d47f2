//! Events in lines of JSON, as they stand in a topic, and labels that come apart from them.

use std::collections::VecDeque;
use std::io::Read as _;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::super::{BacktestError, Engine};
use super::{HistoryError, HistoryFile, OnProgress, Read};
use crate::config::model::Model;
use crate::event::Decoder;
use crate::log::Records;

/// Lines that are decoded at once.
const SLAB_LINES: usize = 8_192;
/// The same where labels are met in between.
const SLAB_LINES_WITH_LABELS: usize = 512;

/// Lines in the order of their time.
struct Lines {
    bytes: Vec<u8>,
    /// Place and time of each, epoch milliseconds; a line without one has that of the line before it.
    lines: VecDeque<(i64, Range<usize>)>,
    in_order: bool,
}

pub(super) fn read(
    engine: &mut Engine,
    model: &Arc<Model>,
    file: &HistoryFile,
    progress: OnProgress<'_>,
) -> Result<Read, HistoryError> {
    let misfit = |reason: String| HistoryError::Misfit { path: file.path.clone(), reason };
    if file.timestamp.is_some() || file.clock.is_some() || !file.columns.is_empty() || file.version.is_some() {
        return Err(misfit(
            "events are read by the model's `fields`; --timestamp, --start, --column and --model-version are for tables".into(),
        ));
    }
    let topic = model.topics.first().map_or("history", String::as_str);
    let mut events = Lines::open(&file.path, model, topic)?;
    let label_topic = model.label_topics().next().cloned();
    let mut labels = match (&file.labels, &label_topic) {
        (Some(path), Some(topic)) => Some(Lines::open(path, model, topic)?),
        (Some(path), None) => {
            let reason = format!("model `{}` has no `performance.labels`: its labels stand in its events", model.model);
            return Err(HistoryError::Misfit { path: path.clone(), reason });
        }
        (None, _) => None,
    };
    let mut notes = Vec::new();
    if labels.is_none() && label_topic.is_some() {
        notes.push(format!(
            "labels of {} come on a topic of their own; give them with --labels-file, else its realised performance is not \
             judged",
            model.model
        ));
    }
    let total = events.lines.len() as u64;
    let slab_lines = if labels.is_some() { SLAB_LINES_WITH_LABELS } else { SLAB_LINES };
    let mut rows = 0;
    while !events.lines.is_empty() {
        let slab: Vec<(i64, Range<usize>)> = events.lines.drain(..slab_lines.min(events.lines.len())).collect();
        let until_ms = slab.last().map_or(i64::MIN, |(time_ms, _)| *time_ms);
        push(engine, topic, &events.bytes, rows, &slab)?;
        rows += slab.len() as u64;
        if let (Some(labels), Some(topic)) = (&mut labels, &label_topic) {
            labels.push_until(engine, topic, until_ms)?;
        }
        progress(rows, total);
    }
    if let (Some(labels), Some(topic)) = (&mut labels, &label_topic) {
        labels.push_until(engine, topic, i64::MAX)?;
    }
    Ok(Read { rows, in_order: events.in_order, notes })
}

fn push(
    engine: &mut Engine,
    topic: &str,
    bytes: &[u8],
    first: u64,
    lines: &[(i64, Range<usize>)],
) -> Result<(), BacktestError> {
    let mut records = Records::with_capacity(lines.len(), lines.iter().map(|(_, line)| line.len()).sum());
    for (offset, (time_ms, line)) in (first as i64..).zip(lines) {
        records.push(topic, 0, offset, *time_ms, None, bytes.get(line.clone()));
    }
    engine.push_events(&records)
}

impl Lines {
    fn open(path: &Path, model: &Arc<Model>, topic: &str) -> Result<Self, HistoryError> {
        let unreadable = |reason: String| HistoryError::Unreadable { path: path.to_path_buf(), reason };
        let mut bytes = Vec::new();
        if path == Path::new("-") {
            std::io::stdin().lock().read_to_end(&mut bytes).map_err(|error| unreadable(error.to_string()))?;
        } else {
            bytes = std::fs::read(path).map_err(|error| match error.kind() {
                std::io::ErrorKind::NotFound => {
                    unreadable("no such file; give the path of a Parquet, CSV or JSONL file".into())
                }
                _ => unreadable(format!("cannot be read: {error}")),
            })?;
        }
        let mut places: Vec<Range<usize>> = Vec::new();
        let mut start = 0;
        for line in bytes.split(|byte| *byte == b'\n') {
            if !line.trim_ascii().is_empty() {
                places.push(start..start + line.len());
            }
            start += line.len() + 1;
        }
        if places.is_empty() {
            return Err(unreadable("holds no rows".into()));
        }
        let mut decoder = Decoder::new(std::slice::from_ref(model)).map_err(|error| unreadable(error.to_string()))?;
        let mut lines: Vec<(i64, Range<usize>)> = Vec::with_capacity(places.len());
        for slab in places.chunks(SLAB_LINES) {
            let mut records = Records::with_capacity(slab.len(), 0);
            for line in slab {
                records.push(topic, 0, 0, -1, None, bytes.get(line.clone()));
            }
            let times = super::times_of(&mut decoder, &records).map_err(unreadable)?;
            for (line, time_ms) in slab.iter().zip(times) {
                let time_ms = time_ms.or(lines.last().map(|(time_ms, _)| *time_ms)).unwrap_or(i64::MIN);
                lines.push((time_ms, line.clone()));
            }
        }
        let in_order = lines.is_sorted_by_key(|(time_ms, _)| *time_ms);
        if !in_order {
            lines.sort_by_key(|(time_ms, _)| *time_ms);
        }
        Ok(Self { bytes, lines: lines.into(), in_order })
    }

    fn push_until(&mut self, engine: &mut Engine, topic: &str, until_ms: i64) -> Result<(), BacktestError> {
        let due = self.lines.partition_point(|(time_ms, _)| *time_ms <= until_ms);
        let slab: Vec<(i64, Range<usize>)> = self.lines.drain(..due).collect();
        if slab.is_empty() { Ok(()) } else { push(engine, topic, &self.bytes, 0, &slab) }
    }
}
