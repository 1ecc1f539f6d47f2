//! Room for one more entry: beyond the budget, predictions are sampled more sparsely.

use crate::ingest::joins::JoinLabel;

use super::super::outcome::{LabelOutcome, PredictionOutcome};
use super::super::sampling::Change;
use super::ModelJoin;

/// Bytes of a waiting label's event that count as one more entry.
pub(super) const BYTES_PER_UNIT: usize = 128;

impl ModelJoin {
    pub(super) fn units(&self) -> usize {
        self.table.len() + self.waiting_units
    }

    /// Samples more sparsely until there is room for one more entry.
    pub(super) fn make_room(&mut self, offset: i64, operation: u32) {
        while self.live
            && self.units() >= self.budget
            && let Some(level) = self.sampling.raised()
        {
            self.change_level(level, offset, operation);
        }
    }

    pub(super) fn change_level(&mut self, level: u8, offset: i64, operation: u32) {
        let time_ms = self.time_ms.unwrap_or(i64::MIN);
        self.sampling.change(Change { offset, operation, level, time_ms });
        self.sampling_changed = true;
        self.evict();
    }

    pub(super) fn replay_changes(&mut self, offset: i64, operation: u32) {
        while self.sampling.replay(offset, operation) {
            self.evict();
        }
    }

    /// Removes what the level leaves out, and takes it back from the windows that are still to be labelled: what is left
    /// of them is a fair sample, though labels of some had come.
    fn evict(&mut self) {
        for number in self.table.numbers() {
            let entry = *self.table.entry(number);
            if self.sampling.keeps(entry.id()) {
                continue;
            }
            if entry.is_predicted() && !self.is_past(self.joinable_until_ms(&entry)) {
                if let Some(label) = self.labels.get(entry.label).map(|known| known.label.clone()) {
                    self.retract_labelled(&entry, &label);
                }
                self.tell(&entry, |_, profile| profile.unsample_prediction());
                self.count_prediction(PredictionOutcome::Evicted);
            }
            for _ in self.remove(number) {
                self.count_label(LabelOutcome::Unsampled);
            }
        }
        self.requeue();
    }
}

/// Beyond the entry itself.
pub(super) fn waiting_units(waiting: &[JoinLabel]) -> usize {
    let of_events: usize = waiting.iter().map(|label| label.raw.len() / BYTES_PER_UNIT).sum();
    of_events + waiting.len().saturating_sub(1)
}
