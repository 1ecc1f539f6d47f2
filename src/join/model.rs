//! The join of one model in one partition of `joins`.
//!
//! Semantics. A prediction waits until the join's event time passes its own by `labels.delay`. The first label that
//! comes for it is counted; a later one replaces it. A label without prediction waits as long as the delay for one.
//! Of two predictions with one id the first counts.
//!
//! Exactness. A restart starts empty at an earlier record and reads again what followed, so what an entry is must not
//! depend on records before that one. Every record that names an id therefore keeps its entry alive for a time that
//! follows from the record and the clock alone: a prediction until its event time + delay, a label until the delay has
//! passed since it was read, whether it changed anything or not. An entry lives until all of these have passed, and a
//! restart begins at or before the first record of every living entry. Then it finds the same entries: one that it makes
//! from a later record of an id, for want of an earlier one, dies no later than the original did, so before the id can
//! matter again. A prediction past its delay takes no label, though its entry may live on.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::config::model::Model;
use crate::config::performance::{Labels, Task};
use crate::event::Reason;
use crate::ingest::joins::{JoinLabel, JoinPrediction};
use crate::stats::performance::profile::{Label, PerformanceLayout, PerformanceProfile};

use super::compact::Compact;
use super::error::ERROR_SIGNAL;
use super::outcome::{LabelOutcome, Outcome, PredictionOutcome};
use super::sampling::Sampling;
use super::slab::{Interner, NONE, Slab};
use super::table::{Entry, FORGOTTEN, Table};

mod room;
mod telling;

use room::{BYTES_PER_UNIT, waiting_units};

/// Entries are looked at this many times within the delay, to see whether they are past it.
const STEPS_WITHIN_DELAY: i64 = 512;

/// Operations of one record that have distinct offsets in the error signal: more than fit one record.
pub const OFFSET_BITS: u32 = 20;

/// A model whose predictions meet labels.
#[derive(Debug, Clone)]
pub struct JoinModel {
    pub model: Arc<Model>,
    pub layout: Arc<PerformanceLayout>,
}

impl JoinModel {
    /// `None` where the model has no label topic.
    pub fn labels(&self) -> Option<&Labels> {
        self.model.performance.as_ref()?.labels.as_ref()
    }
}

/// Where predictions count.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Context {
    version: String,
    reference_id: String,
    pane_ms: i64,
    /// Without the whole.
    segments: Vec<(String, String)>,
}

/// One segment of it, or the whole where the column is empty.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Group {
    version: String,
    reference_id: String,
    pane_ms: i64,
    segment_column: String,
    segment_value: String,
}

#[derive(Debug)]
struct KnownLabel {
    label: Label,
    given_ms: Option<i64>,
    /// Interned topic and partition.
    source: u32,
    /// The join's event time when a label for this id was last read; `None`: it was not known.
    seen_ms: Option<i64>,
    /// The events themselves, while no prediction has come.
    #[allow(clippy::box_collection)] // 8 bytes instead of 24 in each of the others.
    waiting: Option<Box<Vec<JoinLabel>>>,
}

/// Entries by the time at which they are looked at next.
#[derive(Debug, Default)]
struct Queue {
    step_ms: i64,
    /// By start: the first entry, linked through `Entry::next`, and the least of their first offsets.
    steps: BTreeMap<i64, (u32, i64)>,
}

impl Queue {
    fn push(&mut self, table: &mut Table, number: u32, at_ms: i64) {
        let start_ms = at_ms.div_euclid(self.step_ms).saturating_mul(self.step_ms);
        let entry = table.entry_mut(number);
        let (first, oldest) = self.steps.entry(start_ms).or_insert((NONE, i64::MAX));
        entry.next = *first;
        *first = number;
        *oldest = (*oldest).min(entry.first_offset);
    }

    fn take_due(&mut self, time_ms: i64) -> Option<u32> {
        let first = self.steps.first_entry().filter(|first| *first.key() <= time_ms)?;
        Some(first.remove().0)
    }
}

pub struct ModelJoin {
    name: String,
    layout: Arc<PerformanceLayout>,
    by_value: bool,
    delay_ms: i64,
    /// Most entries.
    budget: usize,
    tells_errors: bool,
    /// False while a restart reads again what was told before.
    live: bool,
    /// The join's event time: everything up to it has been read.
    time_ms: Option<i64>,
    table: Table,
    queue: Queue,
    contexts: Interner<Context>,
    /// By number of the context.
    groups_of: Vec<Vec<u32>>,
    groups: Interner<Group>,
    further: Slab<Box<[f64]>>,
    labels: Slab<KnownLabel>,
    sources: Interner<(String, i32)>,
    /// What waiting labels take beyond their entries.
    waiting_units: usize,
    heap_bytes: usize,
    sampling: Sampling,
    sampling_changed: bool,
    /// By group and start of the pane.
    profiles: HashMap<(u32, i64), (PerformanceProfile, u64)>,
    outcome: Outcome,
}

impl ModelJoin {
    /// `partitions` share the budget. `None` where the model has no label topic.
    pub fn new(joined: &JoinModel, partitions: i32) -> Option<Self> {
        let labels = joined.labels()?;
        let budget = usize::try_from(labels.max_pending / partitions.max(1) as u64).unwrap_or(usize::MAX);
        let model = &joined.model;
        Some(Self {
            name: model.model.clone(),
            layout: joined.layout.clone(),
            by_value: joined.layout.task() == Task::Regression,
            delay_ms: labels.delay.ms,
            budget: budget.max(1),
            tells_errors: model.change_detectors.iter().any(|detector| detector.signal == ERROR_SIGNAL),
            live: true,
            time_ms: None,
            table: Table::default(),
            queue: Queue { step_ms: (labels.delay.ms / STEPS_WITHIN_DELAY).max(1), steps: BTreeMap::new() },
            contexts: Interner::default(),
            groups_of: Vec::new(),
            groups: Interner::default(),
            further: Slab::default(),
            labels: Slab::default(),
            sources: Interner::default(),
            waiting_units: 0,
            heap_bytes: 0,
            sampling: Sampling::default(),
            sampling_changed: false,
            profiles: HashMap::new(),
            outcome: Outcome::default(),
        })
    }

    /// Before the record at `offset` is read again, and those after it up to `go_live`.
    pub fn replay_from(&mut self, offset: i64, time_ms: Option<i64>, mut sampling: Sampling) {
        sampling.rewind(offset);
        self.sampling = sampling;
        self.time_ms = time_ms;
        self.live = false;
    }

    pub fn go_live(&mut self) {
        self.live = true;
    }

    pub fn time_ms(&self) -> Option<i64> {
        self.time_ms
    }

    pub fn delay_ms(&self) -> i64 {
        self.delay_ms
    }

    pub fn sampling(&self) -> &Sampling {
        &self.sampling
    }

    /// Entries held: predictions, and labels without one.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Approximate memory, bytes.
    pub fn allocated_bytes(&self) -> usize {
        let labels = self.labels.len() * size_of::<Option<KnownLabel>>();
        self.table.allocated_bytes() + labels + self.waiting_units * BYTES_PER_UNIT + self.heap_bytes
    }

    /// A restart must read again from this offset at the latest; `None`: nothing is held.
    pub fn oldest_offset(&self) -> Option<i64> {
        self.queue.steps.values().map(|(_, oldest)| *oldest).min()
    }

    pub fn predict(&mut self, prediction: JoinPrediction, offset: i64, operation: u32) {
        self.replay_changes(offset, operation);
        let id = prediction.id;
        let until_ms = prediction.event_time_ms.saturating_add(self.delay_ms);
        if self.is_past(until_ms) {
            return self.count_prediction(PredictionOutcome::TooLate);
        }
        if !self.sampling.keeps(id) {
            return self.count_prediction(PredictionOutcome::Unsampled);
        }
        match self.table.find(id) {
            Some(number) if self.table.entry(number).context != NONE => self.extend(number, until_ms),
            Some(number) => {
                self.attach(number, prediction);
                self.meet_waiting(number, offset, operation);
            }
            None => {
                self.make_room(offset, operation);
                if !self.sampling.keeps(id) {
                    return self.count_prediction(PredictionOutcome::Unsampled);
                }
                let number = self.table.insert(Entry::new(id, offset));
                self.attach(number, prediction);
                self.enqueue(number);
            }
        }
    }

    pub fn label(&mut self, label: JoinLabel, offset: i64, operation: u32) {
        self.replay_changes(offset, operation);
        if !self.sampling.keeps(label.id) {
            return self.count_label(LabelOutcome::Unsampled);
        }
        let Some(number) = self.table.find(label.id) else {
            self.make_room(offset, operation);
            if !self.sampling.keeps(label.id) {
                return self.count_label(LabelOutcome::Unsampled);
            }
            let number = self.table.insert(Entry::new(label.id, offset));
            self.wait(number, label);
            return self.enqueue(number);
        };
        let entry = *self.table.entry(number);
        if entry.context == NONE {
            // Its event takes room, whichever of them counts in the end.
            self.make_room(offset, operation);
            if !self.sampling.keeps(label.id) {
                return self.count_label(LabelOutcome::Unsampled);
            }
            return self.wait(number, label);
        }
        if !entry.is_predicted() || self.is_past(self.joinable_until_ms(&entry)) {
            self.see(number, &label);
            return self.lose(label, Reason::LabelTooLate, LabelOutcome::TooLate);
        }
        self.meet(number, label, offset, operation);
    }

    /// After all operations of a record.
    pub fn end_record(&mut self, offset: i64) {
        self.replay_changes(offset, u32::MAX);
        if self.live
            && self.units() < self.budget / 4
            && let Some(level) = self.sampling.lowered()
        {
            self.change_level(level, offset, u32::MAX);
        }
    }

    /// Everything up to this event time has been read: forgets what is past the delay.
    pub fn advance(&mut self, time_ms: i64) {
        if self.time_ms.is_none() {
            self.start_clock(time_ms);
        }
        let time_ms = self.time_ms.map_or(time_ms, |before_ms| before_ms.max(time_ms));
        self.time_ms = Some(time_ms);
        let mut kept = Vec::new();
        while let Some(first) = self.queue.take_due(time_ms) {
            let mut number = first;
            while number != NONE {
                let entry = *self.table.entry(number);
                if self.is_past(self.remembered_until_ms(&entry)) {
                    self.forget(number);
                } else {
                    if entry.is_predicted() && self.is_past(self.joinable_until_ms(&entry)) {
                        self.detach(number, FORGOTTEN);
                    }
                    kept.push(number);
                }
                number = entry.next;
            }
        }
        kept.into_iter().for_each(|number| self.enqueue(number));
    }

    /// What else is to be told since the last call.
    pub fn take_outcome(&mut self) -> Outcome {
        std::mem::take(&mut self.outcome)
    }

    /// Aggregates not yet taken.
    pub fn open_profiles(&self) -> usize {
        self.profiles.len()
    }

    /// Whether the level has changed since the last call.
    pub fn take_sampling_changed(&mut self) -> bool {
        std::mem::take(&mut self.sampling_changed)
    }

    /// Forgets changes of the level that no restart and no waiting label asks for any more.
    pub fn forget_changes(&mut self, offset: i64) {
        if let Some(since_ms) = self.sampled_since_ms() {
            self.sampling.forget(offset, since_ms);
        }
    }

    /// A label that has waited until now may have missed a prediction since then.
    fn sampled_since_ms(&self) -> Option<i64> {
        self.time_ms.map(|time_ms| time_ms.saturating_sub(self.delay_ms.saturating_mul(2)))
    }

    fn is_past(&self, until_ms: i64) -> bool {
        self.time_ms.is_some_and(|time_ms| until_ms <= time_ms)
    }

    fn joinable_until_ms(&self, entry: &Entry) -> i64 {
        entry.event_time_ms.saturating_add(self.delay_ms)
    }

    fn remembered_until_ms(&self, entry: &Entry) -> i64 {
        let of_prediction = match entry.context {
            NONE => i64::MIN,
            _ => self.joinable_until_ms(entry).saturating_add(i64::from(entry.extension_s) * 1_000),
        };
        let of_label = match self.labels.get(entry.label) {
            Some(known) => known.seen_ms.map_or(i64::MAX, |seen_ms| seen_ms.saturating_add(self.delay_ms)),
            None => i64::MIN,
        };
        of_prediction.max(of_label)
    }

    fn enqueue(&mut self, number: u32) {
        let entry = *self.table.entry(number);
        let at_ms =
            if entry.is_predicted() { self.joinable_until_ms(&entry) } else { self.remembered_until_ms(&entry) };
        self.queue.push(&mut self.table, number, at_ms);
    }

    /// From now on the time at which a label was read is known; those read before count from here.
    fn start_clock(&mut self, time_ms: i64) {
        for known in self.labels.iter_mut() {
            known.seen_ms.get_or_insert(time_ms);
        }
        self.requeue();
    }

    fn requeue(&mut self) {
        self.queue.steps.clear();
        for number in self.table.numbers() {
            self.enqueue(number);
        }
    }

    /// A further prediction with the same id: only its claim on being remembered counts, in whole seconds.
    fn extend(&mut self, number: u32, until_ms: i64) {
        let known_until_ms = self.joinable_until_ms(self.table.entry(number));
        let beyond_s = until_ms.saturating_sub(known_until_ms).max(0).saturating_add(999) / 1_000;
        let entry = self.table.entry_mut(number);
        entry.extension_s = entry.extension_s.max(u32::try_from(beyond_s).unwrap_or(u32::MAX));
        self.count_prediction(PredictionOutcome::Duplicate);
    }

    fn attach(&mut self, number: u32, prediction: JoinPrediction) {
        let context = self.contexts.acquire(Context {
            version: prediction.version,
            reference_id: prediction.reference_id,
            pane_ms: prediction.pane_ms.max(1),
            segments: prediction.segments,
        });
        self.group(context);
        let compact = Compact::new(prediction.prediction, self.by_value);
        let further = match compact.further {
            Some(values) => {
                self.heap_bytes += Compact::heap_bytes(&values);
                self.further.insert(values)
            }
            None => NONE,
        };
        let entry = self.table.entry_mut(number);
        entry.event_time_ms = prediction.event_time_ms;
        (entry.primary, entry.class) = (compact.primary, compact.class);
        (entry.context, entry.further) = (context, further);
        let entry = *entry;
        self.count_prediction(PredictionOutcome::Kept);
        self.tell(&entry, |_, profile| profile.sample_prediction());
    }

    /// Numbers the segments of a context, once.
    fn group(&mut self, number: u32) {
        let index = number as usize;
        if index >= self.groups_of.len() {
            self.groups_of.resize_with(index + 1, Vec::new);
        }
        let Some(context) = self.contexts.get(number).filter(|_| self.groups_of[index].is_empty()) else { return };
        let whole = [(String::new(), String::new())];
        for (segment_column, segment_value) in whole.iter().chain(&context.segments) {
            self.groups_of[index].push(self.groups.acquire(Group {
                version: context.version.clone(),
                reference_id: context.reference_id.clone(),
                pane_ms: context.pane_ms,
                segment_column: segment_column.clone(),
                segment_value: segment_value.clone(),
            }));
        }
    }

    /// Gives up what an entry holds of its prediction.
    fn detach(&mut self, number: u32, context: u32) {
        let entry = self.table.entry_mut(number);
        let (held, further) = (entry.context, entry.further);
        (entry.context, entry.further, entry.class) = (context, NONE, NONE);
        if let Some(values) = self.further.remove(further) {
            self.heap_bytes -= Compact::heap_bytes(&values);
        }
        if held < FORGOTTEN && self.contexts.release(held).is_some() {
            for group in std::mem::take(&mut self.groups_of[held as usize]) {
                self.groups.release(group);
            }
        }
    }

    /// A label for an entry without prediction.
    fn wait(&mut self, number: u32, label: JoinLabel) {
        let units = label.raw.len() / BYTES_PER_UNIT;
        let is_first = self.table.entry(number).label == NONE;
        self.waiting_units += if is_first { units } else { units + 1 };
        self.see(number, &label);
        let slot = self.table.entry(number).label;
        if let Some(known) = self.labels.get_mut(slot) {
            known.waiting.get_or_insert_default().push(label);
        }
        self.count_label(LabelOutcome::Early);
    }

    /// Notes a label as the last one read for the id, and as the known one if it is later than that.
    fn see(&mut self, number: u32, label: &JoinLabel) -> Option<Label> {
        let source = self.sources.acquire((label.topic.to_string(), label.partition));
        let time_ms = self.time_ms;
        let slot = self.table.entry(number).label;
        let Some(known) = self.labels.get_mut(slot) else {
            let known = KnownLabel {
                label: label.label.clone(),
                given_ms: label.given_ms,
                source,
                seen_ms: time_ms,
                waiting: None,
            };
            self.table.entry_mut(number).label = self.labels.insert(known);
            return None;
        };
        known.seen_ms = time_ms;
        let is_later = match (known.given_ms, label.given_ms) {
            (Some(known_ms), Some(given_ms)) if known_ms != given_ms => given_ms > known_ms,
            // Given at one time: the order within a partition of the label topic is kept, any other is arbitrary but
            // must not depend on which was read first.
            (Some(_), Some(_)) if known.source != source => {
                let place = |source: u32| self.sources.get(source).map(|place| (**place).clone());
                place(source) > place(known.source)
            }
            _ => true,
        };
        if !is_later {
            self.sources.release(source);
            return Some(known.label.clone());
        }
        known.given_ms = label.given_ms;
        let source_before = std::mem::replace(&mut known.source, source);
        let before = std::mem::replace(&mut known.label, label.label.clone());
        self.sources.release(source_before);
        Some(before)
    }

    /// A label for a prediction that takes one.
    fn meet(&mut self, number: u32, label: JoinLabel, offset: i64, operation: u32) {
        let before = self.see(number, &label);
        let entry = *self.table.entry(number);
        let Some(known) = self.labels.get(entry.label).map(|known| known.label.clone()) else { return };
        match before {
            None => {
                self.add_labelled(&entry, &known);
                self.tell_error(&entry, &known, offset, operation);
                self.count_label(LabelOutcome::Matched);
            }
            Some(before) if before == label.label => self.count_label(LabelOutcome::Duplicate),
            Some(before) if before == known => self.count_label(LabelOutcome::Outdated),
            Some(before) => {
                self.retract_labelled(&entry, &before);
                self.add_labelled(&entry, &known);
                self.count_label(LabelOutcome::Corrected);
            }
        }
    }

    /// A prediction whose label was there first.
    fn meet_waiting(&mut self, number: u32, offset: i64, operation: u32) {
        let entry = *self.table.entry(number);
        let Some(known) = self.labels.get_mut(entry.label) else { return };
        let (waiting, label) = (known.waiting.take(), known.label.clone());
        self.waiting_units -= waiting.map_or(0, |waiting| waiting_units(&waiting));
        self.add_labelled(&entry, &label);
        self.tell_error(&entry, &label, offset, operation);
        self.count_label(LabelOutcome::Matched);
    }

    /// Removes an entry whose time is over.
    fn forget(&mut self, number: u32) {
        let since_ms = self.sampled_since_ms().unwrap_or(i64::MIN);
        for label in self.remove(number) {
            if self.sampling.kept_since(label.id, since_ms) {
                self.lose(label, Reason::LabelWithoutPrediction, LabelOutcome::Unmatched);
            } else {
                self.count_label(LabelOutcome::Unsampled);
            }
        }
    }

    /// Removes an entry from everything but the queue; returns the labels that were waiting in it.
    fn remove(&mut self, number: u32) -> Vec<JoinLabel> {
        self.detach(number, NONE);
        let slot = self.table.entry(number).label;
        self.table.remove(number);
        let Some(known) = self.labels.remove(slot) else { return Vec::new() };
        self.sources.release(known.source);
        let waiting = known.waiting.map(|waiting| *waiting).unwrap_or_default();
        self.waiting_units -= waiting_units(&waiting);
        waiting
    }
}
