//! The machines of one model, from events to verdicts, and the clock that drives them.
//!
//! The clock is the latest event time. Whenever it passes an instant at which a window may close, what was read before is
//! flushed as ingest would have flushed it, and the windows machine is told of the new time. A pause between two events is
//! walked through: the partition is quiet meanwhile, as it would be in production, so windows close at their end and
//! absence is noticed when it is due.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use super::BacktestError;
use super::engine::WindowListener;
use super::labels_join::LabelsJoin;
use super::trail::{Evaluation, LaneOutcome, StateChange};
use crate::config::model::Model;
use crate::event::{DecodedBatch, DecodedLabel, RejectedPlace, RowFlaw};
use crate::ingest::model_ingest::{IngestModel, ModelIngest};
use crate::ingest::partial::{FlushHeader, PartialRow, SourceProgress};
use crate::ingest::performance::Waiting;
use crate::ingest::signals::SignalRun;
use crate::log::{RecordRef, Records};
use crate::reference::Reference;
use crate::rules::action_request::OutboxRecord;
use crate::rules::judge::{Observer, RulesJudge};
use crate::rules::{Effect as RuleEffect, RuleSet};
use crate::telemetry::Metrics;
use crate::windows::judge::Verdict;
use crate::windows::result::ClosedWindow;
use crate::windows::state::{Effect, PartitionState, References, WatchedModel, WindowSpec};

/// Events gathered before they are aggregated, whatever the time: as many as fit a processor's cache well enough.
const FLUSH_ROWS: u64 = 65_536;

/// Problems kept in words.
const MOST_PROBLEMS: usize = 20;

pub(super) struct Lane {
    model: Arc<Model>,
    ingest: ModelIngest,
    state: PartitionState,
    waiting: Waiting,
    join: Option<LabelsJoin>,
    /// Of features and of performance.
    specs: Vec<WindowSpec>,
    label_delay_ms: Option<i64>,
    absent_after_ms: BTreeSet<i64>,
    /// A pause of this length is walked through, if anything is due in it.
    pause_ms: i64,
    /// Latest event time, or later if time has passed without events.
    clock_ms: Option<i64>,
    /// When the clock last stood at an event.
    last_event_ms: i64,
    /// The clock's next instant at which something may be due.
    due_ms: i64,
    /// Labels or rejected events that wait for a flush.
    has_more: bool,
    next_offset: i64,
    read: i64,
    flushed: i64,
    seen: Arc<Mutex<Seen>>,
    keep_states: bool,
    outcome: LaneOutcome,
}

/// What the rules' judge shows of its work.
pub(super) struct Seen {
    keep_windows: bool,
    on_window: Option<WindowListener>,
    windows: Vec<ClosedWindow>,
    evaluations: Vec<Evaluation>,
}

impl Seen {
    pub fn new(keep_windows: bool, on_window: Option<WindowListener>) -> Self {
        Self { keep_windows, on_window, windows: Vec::new(), evaluations: Vec::new() }
    }
}

/// The judge's observer; the lane holds the same `Seen`.
struct Watcher(Arc<Mutex<Seen>>);

impl Observer for Watcher {
    fn judged(&mut self, closed: Option<&ClosedWindow>, effects: &[RuleEffect]) {
        let Some(closed) = closed else { return };
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut by_rule: BTreeMap<&str, BTreeMap<String, u32>> = BTreeMap::new();
        for effect in effects {
            if let RuleEffect::Evaluated { rule, outcome } = effect {
                *by_rule.entry(rule).or_default().entry(outcome.to_string()).or_default() += 1;
            }
        }
        seen.evaluations.extend(by_rule.into_iter().map(|(rule, outcomes)| Evaluation {
            rule: rule.to_string(),
            model: closed.model.clone(),
            version: closed.version.clone(),
            window: closed.window,
            revision: closed.revision,
            outcomes,
        }));
        if let Some(on_window) = &seen.on_window {
            on_window(closed);
        }
        if seen.keep_windows {
            seen.windows.push(closed.clone());
        }
    }
}

struct OneReference(Arc<Reference>);

impl References for OneReference {
    fn find(&self, model: &str, id: &str) -> Option<Arc<Reference>> {
        (self.0.model == model && self.0.id == id).then(|| self.0.clone())
    }
}

impl Lane {
    pub fn new(
        model: &Arc<Model>,
        reference: &Arc<Reference>,
        rules: &Arc<RuleSet>,
        metrics: &Metrics,
        seen: Seen,
        keep_states: bool,
    ) -> Result<Self, BacktestError> {
        let watched = rules.watched(model);
        let pane_ms = watched.pane_ms();
        let sql = watched.sql.clone();
        let ingest = IngestModel { model: model.clone(), reference: reference.clone(), pane_ms, sql };
        let ingest = ModelIngest::new(&ingest).map_err(BacktestError::Configuration)?;
        let join = LabelsJoin::new(model, reference);
        let absent = rules.rules().iter().filter(|rule| rule.matches_model(&model.model));
        let absent_after_ms: BTreeSet<i64> = absent.filter_map(|rule| Some(rule.absent.as_ref()?.after.ms)).collect();
        let idle_ms = model.windows.idle_after.ms;
        let seen = Arc::new(Mutex::new(seen));
        let judge = RulesJudge::new(rules.clone(), metrics.clone()).observed(Box::new(Watcher(seen.clone())));
        let label_delay_ms = model.performance.as_ref().and_then(|performance| performance.labels.as_ref());
        Ok(Self {
            ingest,
            waiting: Waiting::new(i32::from(join.is_some())),
            join,
            specs: all_specs(&watched),
            label_delay_ms: label_delay_ms.map(|labels| labels.delay.ms),
            pause_ms: absent_after_ms.first().copied().unwrap_or(idle_ms).min(idle_ms).max(1),
            absent_after_ms,
            state: PartitionState::new(
                Arc::new(vec![watched]),
                Arc::new(OneReference(reference.clone())),
                Box::new(judge),
            ),
            clock_ms: None,
            last_event_ms: i64::MIN,
            due_ms: i64::MIN,
            has_more: false,
            next_offset: 0,
            read: 0,
            flushed: 0,
            seen,
            keep_states,
            outcome: LaneOutcome { model: model.model.clone(), ..LaneOutcome::default() },
            model: model.clone(),
        })
    }

    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// Events taken in so far.
    pub fn rows(&self) -> u64 {
        self.outcome.rows
    }

    /// Records for rows that never were any: of the model's first topic, in order, written when they happened.
    pub fn records_of(&mut self, times_ms: &[i64]) -> Records {
        let topic = self.model.topics.first().map_or("history", String::as_str);
        let mut records = Records::with_capacity(times_ms.len(), 0);
        for time_ms in times_ms {
            records.push(topic, 0, self.next_offset, *time_ms, None, None);
            self.next_offset += 1;
        }
        records
    }

    /// Takes in events in the order in which they are read.
    pub fn push(
        &mut self,
        decoded: DecodedBatch,
        records: &Records,
        runtime: &tokio::runtime::Runtime,
    ) -> Result<(), BacktestError> {
        let times_ms = decoded.event_times_ms().to_vec();
        let (Some(first_ms), Some(last_ms)) = (times_ms.iter().min(), times_ms.iter().max()) else { return Ok(()) };
        let span = self.outcome.span.get_or_insert((*first_ms, *last_ms));
        *span = (span.0.min(*first_ms), span.1.max(*last_ms));
        self.outcome.rows += times_ms.len() as u64;
        let mut from = 0;
        for (row, time_ms) in times_ms.iter().enumerate() {
            match self.clock_ms {
                None => self.set_clock(*time_ms),
                Some(clock_ms) if *time_ms >= self.due_ms || self.is_missed(clock_ms, *time_ms) => {
                    self.add(&decoded, from, row, records);
                    from = row;
                    self.flush(runtime)?;
                    self.pass(*time_ms)?;
                    if self.is_missed(clock_ms, *time_ms) {
                        // That somebody is back is not kept for the end of a window.
                        self.due_ms = self.due_ms.min(time_ms.saturating_add(1));
                    }
                }
                Some(_) => {}
            }
            self.clock_ms = self.clock_ms.max(Some(*time_ms));
            self.last_event_ms = self.last_event_ms.max(*time_ms);
        }
        self.add(&decoded, from, times_ms.len(), records);
        if self.ingest.rows() >= FLUSH_ROWS { self.flush(runtime) } else { Ok(()) }
    }

    /// Takes in an event that was rejected, and whose time is known.
    pub fn reject(&mut self, reason: &str, place: &RejectedPlace) {
        self.has_more = true;
        self.ingest.add_rejected(reason, place);
    }

    /// Takes in a label; the clock is that of the events, and does not move.
    pub fn label(&mut self, label: DecodedLabel, record: RecordRef<'_>) {
        self.has_more = true;
        self.ingest.add_label(label, record, &mut self.waiting);
    }

    /// Time passes without events.
    pub fn advance(&mut self, until_ms: i64, runtime: &tokio::runtime::Runtime) -> Result<(), BacktestError> {
        if self.clock_ms.is_none_or(|clock_ms| clock_ms >= until_ms) {
            return Ok(());
        }
        self.flush(runtime)?;
        self.pass(until_ms)
    }

    /// Closes what is open, the wall clock standing still.
    pub fn finish(&mut self, runtime: &tokio::runtime::Runtime) -> Result<(), BacktestError> {
        self.flush(runtime)?;
        let Some(clock_ms) = self.clock_ms else { return Ok(()) };
        let last_end_ms = self.specs.iter().flat_map(|spec| ends_over(*spec, clock_ms)).max().unwrap_or(clock_ms);
        let delay_ms = self.model.windows.watermark_delay.ms.saturating_add(self.label_delay_ms.unwrap_or(0));
        let header = self.header(clock_ms, last_end_ms.saturating_add(delay_ms), None);
        self.apply(&header, Vec::new(), &[])
    }

    pub fn into_outcome(self) -> LaneOutcome {
        let mut outcome = self.outcome;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        outcome.windows = std::mem::take(&mut seen.windows);
        outcome.evaluations = std::mem::take(&mut seen.evaluations);
        outcome
    }

    /// Rows `from..to` of a batch.
    fn add(&mut self, decoded: &DecodedBatch, from: usize, to: usize, records: &Records) {
        if from < to {
            self.read += (to - from) as i64;
            self.ingest.add_batch(rows_of(decoded, from, to), records, &mut self.waiting);
        }
    }

    fn set_clock(&mut self, clock_ms: i64) {
        self.clock_ms = self.clock_ms.max(Some(clock_ms));
        let delay_ms = self.model.windows.watermark_delay.ms;
        let next = |spec: &WindowSpec| {
            let passed_ms = clock_ms.saturating_sub(delay_ms);
            ((passed_ms.div_euclid(spec.slide_ms) + 1) * spec.slide_ms).saturating_add(delay_ms)
        };
        self.due_ms = self.specs.iter().map(next).min().unwrap_or(i64::MAX);
    }

    /// Whether somebody is to be missed before the next event.
    fn is_missed(&self, clock_ms: i64, time_ms: i64) -> bool {
        self.absent_after_ms.first().is_some_and(|after_ms| time_ms.saturating_sub(clock_ms) >= *after_ms)
    }

    /// The clock goes on to `to_ms`: through a pause, if it is one. What was read has been flushed.
    fn pass(&mut self, to_ms: i64) -> Result<(), BacktestError> {
        let Some(clock_ms) = self.clock_ms else { return Ok(()) };
        if to_ms.saturating_sub(clock_ms) >= self.pause_ms {
            for at_ms in self.due_in_pause(clock_ms, to_ms) {
                let header = self.header(at_ms, clock_ms, Some(clock_ms));
                self.apply(&header, Vec::new(), &[])?;
                self.join_labels(&header)?;
            }
        }
        self.set_clock(to_ms);
        let header = self.header(to_ms, to_ms, None);
        self.apply(&header, Vec::new(), &[])?;
        self.join_labels(&header)
    }

    /// Instants within a pause at which a window closes, labels are in, or somebody is missed.
    fn due_in_pause(&self, from_ms: i64, to_ms: i64) -> BTreeSet<i64> {
        let windows = &self.model.windows;
        let idle_ms = from_ms.saturating_add(windows.idle_after.ms);
        let mut due: BTreeSet<i64> =
            self.absent_after_ms.iter().map(|after_ms| self.last_event_ms.saturating_add(*after_ms)).collect();
        for end_ms in self.specs.iter().flat_map(|spec| ends_over(*spec, from_ms)) {
            let closed_ms = end_ms.saturating_add(windows.watermark_delay.ms).max(idle_ms);
            due.insert(closed_ms);
            due.extend(self.label_delay_ms.map(|delay_ms| closed_ms.saturating_add(delay_ms)));
        }
        due.retain(|at_ms| (from_ms.saturating_add(1)..to_ms).contains(at_ms));
        due
    }

    /// Aggregates what was read, at the clock's time.
    fn flush(&mut self, runtime: &tokio::runtime::Runtime) -> Result<(), BacktestError> {
        let Some(clock_ms) = self.clock_ms else { return Ok(()) };
        if self.ingest.rows() == 0 && !self.has_more {
            return Ok(());
        }
        self.has_more = false;
        let mut header = self.header(clock_ms, clock_ms, None);
        let rows = self.ingest.rows();
        if rows > 0 {
            header.rows.insert(self.model.model.clone(), rows);
        }
        let failed = |reason: String| BacktestError::Failed { model: self.model.model.clone(), reason };
        let partials = runtime.block_on(self.ingest.take_partial_rows());
        let partials = partials.map_err(|error| failed(error.to_string()))?;
        let signals: Vec<SignalRun> = self.ingest.signal_runs().collect();
        self.ingest.clear();
        self.apply(&header, partials, &signals)?;
        self.join_labels(&header)
    }

    /// What a flush says. `quiet_since_ms`: the history is read to its end, for the time being.
    fn header(&mut self, at_ms: i64, clock_ms: i64, quiet_since_ms: Option<i64>) -> FlushHeader {
        let (from, to) = (self.flushed, self.read);
        self.flushed = self.read;
        let topics: BTreeSet<&String> = self.model.topics.iter().chain(self.model.label_topics()).collect();
        let first = self.model.topics.first();
        let source = |topic: &&String| {
            // All that was read counts as that of one partition; the others only have a clock.
            let (from, to) = if first == Some(topic) { (from, to) } else { (0, 0) };
            SourceProgress {
                topic: topic.to_string(),
                partition: 0,
                from,
                to,
                clock_ms: Some(clock_ms),
                quiet_since_ms,
                joined_ms: BTreeMap::new(),
            }
        };
        FlushHeader {
            instance: "history".into(),
            at_ms,
            next_by_ms: i64::MAX,
            sources: topics.iter().map(source).collect(),
            topics: topics.iter().map(|topic| (topic.to_string(), 1)).collect(),
            rows: BTreeMap::new(),
            part: 0,
            parts: 1,
        }
    }

    fn join_labels(&mut self, header: &FlushHeader) -> Result<(), BacktestError> {
        let Some(join) = &mut self.join else { return Ok(()) };
        let failed = |reason: String| BacktestError::Failed { model: self.model.model.clone(), reason };
        let joined = join.meet(header, &self.waiting).map_err(failed)?;
        self.waiting.clear();
        self.apply(&joined.header, joined.rows, &joined.signals)
    }

    fn apply(
        &mut self,
        header: &FlushHeader,
        rows: Vec<PartialRow>,
        signals: &[SignalRun],
    ) -> Result<(), BacktestError> {
        self.state.observe(header, signals);
        let effects = self.state.apply(header, rows);
        let model = self.model.clone();
        let failed = |reason: String| BacktestError::Failed { model: model.model.clone(), reason };
        self.state.discard_unstored().map_err(|error| failed(error.to_string()))?;
        for effect in effects {
            match effect {
                Effect::Result(result) => {
                    let size_ms = result.window.end_ms - result.window.start_ms;
                    let is_own = result.segment.is_all() && result.baseline.is_none() && result.performance.is_none();
                    let counts = is_own && result.revision == 0 && size_ms == self.model.windows.size.ms;
                    self.outcome.windows_closed += u64::from(counts);
                }
                Effect::Verdict(Verdict::Notify { value, .. }) => {
                    match OutboxRecord::decode(&value).map_err(|error| failed(error.to_string()))? {
                        OutboxRecord::Notification(told) => self.outcome.notifications.push(*told),
                        OutboxRecord::ActionRequest(request) => self.outcome.action_requests.push(*request),
                    }
                }
                Effect::Verdict(Verdict::State { key, value }) => {
                    if self.keep_states {
                        // Other records of the topic are no states of alerts.
                        let state = value.map(|value| serde_json::from_slice(&value)).transpose();
                        let at_ms = header.at_ms;
                        self.outcome.states.extend(state.ok().map(|state| StateChange { at_ms, key, state }));
                    }
                }
                Effect::Late(late) => self.outcome.late += if late.performance { 0 } else { late.rows },
                Effect::Damaged(reason) => self.problem(reason),
                Effect::Gap { topic } => self.problem(format!("offsets of {topic} were skipped")),
                Effect::Duplicate => self.problem("a flush came twice".into()),
            }
        }
        Ok(())
    }

    fn problem(&mut self, reason: String) {
        if self.outcome.problems.len() < MOST_PROBLEMS {
            self.outcome.problems.push(format!("{}: {reason}", self.model.model));
        }
    }
}

fn all_specs(watched: &WatchedModel) -> Vec<WindowSpec> {
    let mut specs = watched.specs.clone();
    specs.extend(watched.performance.specs.iter().filter(|spec| !watched.specs.contains(spec)));
    specs
}

/// Ends of the windows that an event at this time belongs to.
fn ends_over(spec: WindowSpec, time_ms: i64) -> impl Iterator<Item = i64> {
    let last_start_ms = time_ms.div_euclid(spec.slide_ms) * spec.slide_ms;
    let ends = (0..spec.size_ms / spec.slide_ms).map(move |step| last_start_ms - step * spec.slide_ms + spec.size_ms);
    ends.filter(move |end_ms| *end_ms > time_ms)
}

/// Rows `from..to`, with what is known of them.
fn rows_of(decoded: &DecodedBatch, from: usize, to: usize) -> DecodedBatch {
    let (first, last) = (from as u32, to as u32);
    let flaws = decoded.flaws.iter().filter(|flaw| (first..last).contains(&flaw.row));
    let unlisted = decoded.unlisted.iter().filter(|(row, _)| (first..last).contains(row));
    DecodedBatch {
        model_index: decoded.model_index,
        batch: decoded.batch.slice(from, to - from),
        record_indices: decoded.record_indices[from..to].to_vec(),
        sources: Vec::new(),
        flaws: flaws.map(|flaw| RowFlaw { row: flaw.row - first, ..*flaw }).collect(),
        unlisted: unlisted.map(|(row, key)| (row - first, key.clone())).collect(),
    }
}
