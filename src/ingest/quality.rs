//! The quality of one model's events, pane by pane, gathered as slabs are decoded and written with the next flush.

use std::collections::BTreeMap;

use datafusion::arrow::array::{Array, AsArray};

use super::partial::PartialRow;
use crate::event::{DecodedBatch, PREDICTION_ID, RejectedPlace, VERSION};
use crate::log::Records;
use crate::stats::quality::{QUALITY_FEATURE, QualityProfile, id_hash};

/// Since the last flush; what is not flushed is read again.
#[derive(Debug)]
pub struct QualityTally {
    model: String,
    reference_id: String,
    pane_ms: i64,
    /// Names of the signals, in the order of `Model::signals`.
    signals: Vec<String>,
    has_ids: bool,
    panes: BTreeMap<PaneOf, QualityProfile>,
}

/// Version and start of the pane, epoch milliseconds.
type PaneOf = (String, i64);

impl QualityTally {
    pub fn new(model: &crate::config::model::Model, reference_id: &str, pane_ms: i64) -> Self {
        Self {
            model: model.model.clone(),
            reference_id: reference_id.to_string(),
            pane_ms,
            signals: model.signals().into_iter().map(|signal| signal.name).collect(),
            has_ids: model.fields.prediction_id.is_some(),
            panes: BTreeMap::new(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.panes.is_empty()
    }

    pub fn clear(&mut self) {
        self.panes.clear();
    }

    /// Takes in the accepted events of a slab.
    pub fn add_batch(&mut self, decoded: &DecodedBatch, records: &Records) {
        let columns = |name: &str| decoded.batch.column_by_name(name).map(|column| column.as_string::<i32>());
        let Some(versions) = columns(VERSION) else { return };
        let ids = columns(PREDICTION_ID).filter(|_| self.has_ids);
        let times = decoded.event_times_ms();
        let mut flaws = decoded.flaws.iter().peekable();
        let mut unlisted = decoded.unlisted.iter().peekable();
        let mut start = 0;
        // Neighbouring rows are nearly always of one pane: it is looked up once a run.
        while start < times.len() {
            let pane_start_ms = self.pane_start_ms(times[start]);
            let version = versions.value(start);
            let same = |row: &usize| {
                let since_ms = times[*row].wrapping_sub(pane_start_ms);
                (0..self.pane_ms).contains(&since_ms) && versions.value(*row) == version
            };
            let end = (start..times.len()).find(|row| !same(row)).unwrap_or(times.len());
            let pane = pane(&mut self.panes, version, pane_start_ms);
            for (time_ms, record_index) in times.iter().zip(&decoded.record_indices).take(end).skip(start) {
                let record = records.get(*record_index as usize);
                pane.add_event(*time_ms, record.map_or(-1, |record| record.timestamp_ms));
            }
            if let Some(ids) = ids {
                for row in (start..end).filter(|row| ids.is_valid(*row)) {
                    pane.add_id(id_hash(ids.value(row).as_bytes()));
                }
            }
            while let Some(flaw) = flaws.next_if(|flaw| (flaw.row as usize) < end) {
                if let Some(signal) = self.signals.get(flaw.signal as usize) {
                    pane.add_flaw(signal, flaw.flaw);
                }
            }
            while let Some((_, key)) = unlisted.next_if(|(row, _)| (*row as usize) < end) {
                pane.add_unlisted(key);
            }
            start = end;
        }
    }

    /// Takes in a rejected event whose pane is known.
    pub fn add_rejected(&mut self, reason: &str, place: &RejectedPlace) {
        let pane_start_ms = self.pane_start_ms(place.event_time_ms);
        let pane = pane(&mut self.panes, &place.version, pane_start_ms);
        pane.add_rejected(reason);
        for (signal, flaw) in &place.flaws {
            if let Some(signal) = self.signals.get(*signal as usize) {
                pane.add_rejected_flaw(signal, *flaw);
            }
        }
        for key in &place.unlisted {
            pane.add_unlisted(key);
        }
    }

    fn pane_start_ms(&self, time_ms: i64) -> i64 {
        time_ms.div_euclid(self.pane_ms) * self.pane_ms
    }

    /// One row a pane, over all events.
    pub fn rows(&self) -> impl Iterator<Item = PartialRow> {
        self.panes.iter().map(|((version, pane_start_ms), profile)| PartialRow {
            model: self.model.clone(),
            version: version.clone(),
            segment_column: String::new(),
            segment_value: String::new(),
            reference_id: self.reference_id.clone(),
            pane_start_ms: *pane_start_ms,
            pane_ms: self.pane_ms,
            feature: QUALITY_FEATURE.to_string(),
            rows: 0,
            state: profile.encode(),
        })
    }
}

fn pane<'a>(
    panes: &'a mut BTreeMap<PaneOf, QualityProfile>,
    version: &str,
    pane_start_ms: i64,
) -> &'a mut QualityProfile {
    panes.entry((version.to_string(), pane_start_ms)).or_default()
}
