//! What is told of predictions and labels that have met: to the profiles of their segments, to the signal of errors, and
//! as counts.

use crate::event::Reason;
use crate::ingest::joins::JoinLabel;
use crate::ingest::partial::PartialRow;
use crate::ingest::signals::SignalValue;
use crate::stats::performance::PERFORMANCE_FEATURE;
use crate::stats::performance::profile::{Label, PerformanceLayout, PerformanceProfile, Prediction};

use super::super::compact::Compact;
use super::super::error::error;
use super::super::outcome::{LabelOutcome, LostLabel, PredictionOutcome};
use super::super::table::Entry;
use super::{ModelJoin, OFFSET_BITS};

impl ModelJoin {
    /// Aggregates of what was met since the last call.
    pub fn take_rows(&mut self) -> Vec<PartialRow> {
        let mut rows = Vec::new();
        for ((number, pane_start_ms), (profile, count)) in std::mem::take(&mut self.profiles) {
            if let Some(group) = self.groups.get(number) {
                rows.push(PartialRow {
                    model: self.name.clone(),
                    version: group.version.clone(),
                    segment_column: group.segment_column.clone(),
                    segment_value: group.segment_value.clone(),
                    reference_id: group.reference_id.clone(),
                    pane_start_ms,
                    pane_ms: group.pane_ms,
                    feature: PERFORMANCE_FEATURE.to_string(),
                    rows: count,
                    state: profile.encode(),
                });
            }
            self.groups.release(number);
        }
        let place = |row: &PartialRow| {
            let segment = (row.segment_column.clone(), row.segment_value.clone());
            (row.version.clone(), row.reference_id.clone(), row.pane_start_ms, row.pane_ms, segment)
        };
        rows.sort_by_cached_key(place);
        rows
    }

    pub(super) fn add_labelled(&mut self, entry: &Entry, label: &Label) {
        let Some(prediction) = self.prediction_to_tell(entry) else { return };
        self.tell(entry, |layout, profile| profile.add_labelled(layout, &prediction, label));
    }

    pub(super) fn retract_labelled(&mut self, entry: &Entry, label: &Label) {
        let Some(prediction) = self.prediction_to_tell(entry) else { return };
        self.tell(entry, |layout, profile| profile.retract_labelled(layout, &prediction, label));
    }

    fn prediction_to_tell(&self, entry: &Entry) -> Option<Prediction> {
        let further = self.further.get(entry.further).map(|values| &**values);
        self.live.then(|| Compact::expand(entry.primary, entry.class, further, self.by_value))
    }

    /// Does something to the profile of every segment in which the prediction of the entry counts.
    pub(super) fn tell(&mut self, entry: &Entry, mut with: impl FnMut(&PerformanceLayout, &mut PerformanceProfile)) {
        if !self.live {
            return;
        }
        let Some(context) = self.contexts.get(entry.context) else { return };
        let pane_start_ms = entry.event_time_ms.div_euclid(context.pane_ms) * context.pane_ms;
        for group in &self.groups_of[entry.context as usize] {
            let (profile, count) = self.profiles.entry((*group, pane_start_ms)).or_insert_with(|| {
                self.groups.hold(*group);
                (PerformanceProfile::new(&self.layout), 0)
            });
            *count += 1;
            with(&self.layout, profile);
        }
    }

    pub(super) fn tell_error(&mut self, entry: &Entry, label: &Label, offset: i64, operation: u32) {
        if !self.tells_errors {
            return;
        }
        let Some(value) = self.prediction_to_tell(entry).and_then(|made| error(&self.layout, &made, label)) else {
            return;
        };
        let Some(context) = self.contexts.get(entry.context) else { return };
        let offset = offset << OFFSET_BITS | i64::from(operation);
        let value = SignalValue { offset, event_time_ms: entry.event_time_ms, value };
        self.outcome.errors.entry(context.version.clone()).or_default().push(value);
    }

    pub(super) fn lose(&mut self, label: JoinLabel, reason: Reason, outcome: LabelOutcome) {
        if self.live {
            self.count_label(outcome);
            self.outcome.lost.push(LostLabel { label, reason });
        }
    }

    pub(super) fn count_prediction(&mut self, outcome: PredictionOutcome) {
        if self.live {
            *self.outcome.predictions.entry(outcome).or_default() += 1;
        }
    }

    pub(super) fn count_label(&mut self, outcome: LabelOutcome) {
        if self.live {
            *self.outcome.labels.entry(outcome).or_default() += 1;
        }
    }
}
