//! Predictions and labels of one model as slabs are decoded: counted by version, segment and pane where the label is
//! there or not needed, and set aside for the join where a label is to come.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray, Float64Array, ListArray, RecordBatch, StringArray};
use datafusion::arrow::datatypes::{Float32Type, Float64Type};
use hashbrown::HashMap;

use super::joins::{JoinLabel, JoinPlace, PlacedPrediction, is_sampled, join_id, partition_of_id};
use super::partial::PartialRow;
use super::segments::{KeyColumn, Membership, SegmentKeys};
use super::signals::{MOST_VALUES, SignalRun, SignalValue};
use crate::config::model::{LABEL_COLUMN, Model, PREDICTION_SIGNAL, SCORE_SIGNAL, class_score_column};
use crate::config::performance::{ERROR_SIGNAL, Task};
use crate::event::{DecodedBatch, DecodedLabel, LabelValue, MAX_KEY_BYTES, PREDICTION_ID, VERSION, schema};
use crate::log::{RecordRef, Records, TopicPartition};
use crate::reference::Reference;
use crate::reference::performance::Completion;
use crate::stats::performance::PERFORMANCE_FEATURE;
use crate::stats::performance::error::error;
use crate::stats::performance::profile::{Label, PerformanceLayout, PerformanceProfile, Prediction};

/// What is to be written to `joins` with the next flush, over all models.
#[derive(Debug, Default)]
pub struct Waiting {
    pub places: Vec<JoinPlace>,
    /// By partition of `joins`.
    pub predictions: Vec<Vec<PlacedPrediction>>,
    pub labels: Vec<Vec<JoinLabel>>,
}

impl Waiting {
    /// No partitions: no model has label topics.
    pub fn new(partitions: i32) -> Self {
        let partitions = usize::try_from(partitions).unwrap_or(0);
        Self { places: Vec::new(), predictions: vec![Vec::new(); partitions], labels: vec![Vec::new(); partitions] }
    }

    pub fn partitions(&self) -> i32 {
        self.predictions.len() as i32
    }

    pub fn clear(&mut self) {
        self.places.clear();
        self.predictions.iter_mut().for_each(Vec::clear);
        self.labels.iter_mut().for_each(Vec::clear);
    }
}

/// One model's predictions since the last flush; what is not flushed is read again.
pub struct PerformanceTally {
    model: String,
    reference_id: String,
    pane_ms: i64,
    layout: Arc<PerformanceLayout>,
    /// Gives a prediction what estimates without labels need of it.
    completion: Option<Completion>,
    segments: SegmentKeys,
    columns: OutcomeColumns,
    /// Share of the predictions that wait for a label from a topic; `None`: the event carries it.
    sample: Option<f64>,
    versions: Vec<String>,
    /// By version, pane and codes of the key columns: the index in `groups`.
    index: HashMap<GroupKey, usize>,
    groups: Vec<Group>,
    /// Whether a change detector watches the errors, and they are known here: the event carries the label.
    tells_errors: bool,
    /// By version and partition.
    errors: BTreeMap<(String, TopicPartition), Vec<SignalValue>>,
}

type GroupKey = (usize, i64, Box<[i32]>);

struct Group {
    version: usize,
    pane_start_ms: i64,
    codes: Box<[i32]>,
    predictions: u64,
    profile: PerformanceProfile,
    /// Index in `Waiting::places`, once a prediction of the group waits.
    place: Option<u32>,
}

/// Where outputs and labels stand in decoded batches.
struct OutcomeColumns {
    score: Option<usize>,
    prediction: Option<usize>,
    label: Option<usize>,
    /// In the order of the layout's classes.
    class_scores: Vec<usize>,
    /// In the order of the layout's carried features.
    carried: Vec<usize>,
}

impl OutcomeColumns {
    fn new(model: &Model, layout: &PerformanceLayout) -> Self {
        let schema = schema(model);
        let column = |name: &str| schema.index_of(name).ok();
        let class_scores = model.performance.iter().flat_map(|performance| performance.class_scores.keys());
        // Classes with scores are the layout's classes, in the same order.
        let class_scores =
            class_scores.take(layout.classes().len()).filter_map(|class| column(&class_score_column(class)));
        Self {
            score: column(SCORE_SIGNAL),
            prediction: column(PREDICTION_SIGNAL),
            label: column(LABEL_COLUMN),
            class_scores: class_scores.collect(),
            carried: layout.carried().iter().filter_map(|name| column(name)).collect(),
        }
    }
}

impl PerformanceTally {
    /// `None` where the model file has no `performance`.
    pub fn new(model: &Model, reference: &Reference, pane_ms: i64) -> Result<Option<Self>, String> {
        let (Some(performance), Some(layout)) = (&model.performance, reference.performance_layout(model)) else {
            return Ok(None);
        };
        Ok(Some(Self {
            model: model.model.clone(),
            reference_id: reference.id.clone(),
            pane_ms,
            completion: Completion::of(reference, model),
            segments: SegmentKeys::new(model, reference, &schema(model))?,
            columns: OutcomeColumns::new(model, &layout),
            layout,
            sample: performance.labels.as_ref().map(|labels| labels.sample),
            versions: Vec::new(),
            index: HashMap::new(),
            groups: Vec::new(),
            tells_errors: performance.labels.is_none()
                && model.change_detectors.iter().any(|detector| detector.signal == ERROR_SIGNAL),
            errors: BTreeMap::new(),
        }))
    }

    pub fn clear(&mut self) {
        self.versions.clear();
        self.index.clear();
        self.groups.clear();
        self.errors.clear();
    }

    /// Takes in the accepted events of a slab.
    pub fn add_batch(&mut self, decoded: &DecodedBatch, records: &Records, waiting: &mut Waiting) {
        let batch = &decoded.batch;
        let texts = |name: &str| batch.column_by_name(name).and_then(|column| column.as_string_opt::<i32>());
        let (Some(versions), Some(ids)) = (texts(VERSION), texts(PREDICTION_ID)) else { return };
        let mut predictions = self.predictions(batch);
        if let Some(completion) = &self.completion {
            completion.complete(batch, &mut predictions);
        }
        let codes: Vec<Vec<i32>> =
            self.segments.key_columns().iter().map(|key: &KeyColumn| key.codes(batch).collect()).collect();
        let labels = self.columns.label.and_then(|column| InEvent::of(batch, column));
        let mut of_row = vec![0; codes.len()];
        for (row, (prediction, time_ms)) in predictions.into_iter().zip(decoded.event_times_ms()).enumerate() {
            of_row.iter_mut().zip(&codes).for_each(|(code, column)| *code = column[row]);
            let pane_start_ms = time_ms.div_euclid(self.pane_ms) * self.pane_ms;
            let group = self.group(versions.value(row), pane_start_ms, &of_row);
            let layout = &self.layout;
            let Group { profile, predictions, .. } = &mut self.groups[group];
            *predictions += 1;
            profile.add_prediction(layout, &prediction);
            match self.sample {
                None => {
                    profile.sample_prediction();
                    if let Some(label) = labels.as_ref().and_then(|labels| labels.label(layout, row)) {
                        profile.add_labelled(layout, &prediction, &label);
                        if self.tells_errors
                            && let Some(value) = error(layout, &prediction, &label)
                            && let Some(record) = records.get(decoded.record_indices[row] as usize)
                        {
                            let partition = TopicPartition { topic: record.topic.clone(), partition: record.partition };
                            let run = self.errors.entry((versions.value(row).to_string(), partition)).or_default();
                            run.push(SignalValue { offset: record.offset, event_time_ms: *time_ms, value });
                        }
                    }
                }
                Some(sample) if ids.is_valid(row) && !ids.value(row).is_empty() => {
                    let id = join_id(&self.model, ids.value(row));
                    if is_sampled(id, sample) {
                        self.set_aside(group, id, *time_ms, prediction, waiting);
                    }
                }
                // Nothing can name a prediction without id.
                Some(_) => {}
            }
        }
    }

    /// The label that an event of a label topic carries, if it is one that the join takes.
    pub fn add_label(&self, decoded: DecodedLabel, record: RecordRef<'_>, waiting: &mut Waiting) {
        let id = join_id(&self.model, &decoded.prediction_id);
        if !self.sample.is_some_and(|sample| is_sampled(id, sample)) {
            return;
        }
        let label = match decoded.value {
            LabelValue::Class(class) => Label::Class(self.layout.class_of(&class)),
            LabelValue::Number(number) => Label::Number(number),
            LabelValue::Relevance(items) => Label::Relevance(items),
        };
        let partition = partition_of_id(id, waiting.partitions());
        let Some(labels) = waiting.labels.get_mut(partition as usize) else { return };
        labels.push(JoinLabel {
            model: self.model.clone(),
            id,
            prediction_id: decoded.prediction_id,
            label,
            given_ms: decoded.given_ms,
            topic: record.topic.to_string(),
            partition: record.partition,
            offset: record.offset,
            timestamp_ms: record.timestamp_ms,
            // One byte more than a dead letter keeps, so that it tells of the cut.
            key: record.key.map(|key| key[..key.len().min(MAX_KEY_BYTES + 1)].to_vec()),
            raw: record.value.unwrap_or_default().to_vec(),
        });
    }

    fn set_aside(&mut self, group: usize, id: u128, time_ms: i64, prediction: Prediction, waiting: &mut Waiting) {
        let group = &mut self.groups[group];
        let place = *group.place.get_or_insert_with(|| {
            // The first membership is the whole.
            let parts = self.segments.memberships(&group.codes).skip(1);
            let segment = |membership: Membership| {
                let (column, value) = self.segments.segment(membership);
                (column.to_string(), value.to_string())
            };
            waiting.places.push(JoinPlace {
                model: self.model.clone(),
                version: self.versions[group.version].clone(),
                reference_id: self.reference_id.clone(),
                pane_start_ms: group.pane_start_ms,
                pane_ms: self.pane_ms,
                segments: parts.map(segment).collect(),
            });
            waiting.places.len() as u32 - 1
        });
        let partition = partition_of_id(id, waiting.partitions());
        if let Some(predictions) = waiting.predictions.get_mut(partition as usize) {
            predictions.push(PlacedPrediction { place, id, event_time_ms: time_ms, prediction });
        }
    }

    fn group(&mut self, version: &str, pane_start_ms: i64, codes: &[i32]) -> usize {
        // Few versions are at work at once, and the last one mostly is the one.
        let version = self.versions.iter().rposition(|known| known == version).unwrap_or_else(|| {
            self.versions.push(version.to_string());
            self.versions.len() - 1
        });
        let key = BorrowedKey(version, pane_start_ms, codes);
        if let Some(group) = self.index.get(&key) {
            return *group;
        }
        self.groups.push(Group {
            version,
            pane_start_ms,
            codes: codes.into(),
            predictions: 0,
            profile: PerformanceProfile::new(&self.layout),
            place: None,
        });
        self.index.insert((version, pane_start_ms, codes.into()), self.groups.len() - 1);
        self.groups.len() - 1
    }

    /// The outputs of every row.
    fn predictions(&self, batch: &RecordBatch) -> Vec<Prediction> {
        let mut predictions = vec![Prediction::default(); batch.num_rows()];
        let numbers = |column: usize| batch.column(column).as_primitive_opt::<Float64Type>();
        let given = |values: &Float64Array, row: usize| if values.is_valid(row) { values.value(row) } else { f64::NAN };
        if let Some(scores) = self.columns.score.and_then(numbers) {
            for (row, prediction) in predictions.iter_mut().enumerate() {
                prediction.score = given(scores, row);
            }
        }
        if let Some(column) = self.columns.prediction {
            let texts = batch.column(column).as_string_opt::<i32>();
            for (row, prediction) in predictions.iter_mut().enumerate() {
                match (self.layout.task(), numbers(column), texts) {
                    (Task::Regression, Some(values), _) => prediction.value = given(values, row),
                    (Task::Binary | Task::Multiclass, Some(values), _) => {
                        prediction.class = values.is_valid(row).then(|| self.layout.class_of_number(values.value(row)));
                    }
                    (Task::Binary | Task::Multiclass, None, Some(texts)) => {
                        prediction.class = texts.is_valid(row).then(|| self.layout.class_of(texts.value(row)));
                    }
                    _ => {}
                }
            }
        }
        for (list, columns) in [(0, &self.columns.class_scores), (1, &self.columns.carried)] {
            for values in columns.iter().filter_map(|column| numbers(*column)) {
                for (row, prediction) in predictions.iter_mut().enumerate() {
                    let into = if list == 0 { &mut prediction.class_scores } else { &mut prediction.carried };
                    into.push(given(values, row));
                }
            }
        }
        predictions
    }

    /// Errors of the predictions whose label the event carries, in runs that fit a part of a flush.
    pub fn error_runs(&self) -> impl Iterator<Item = SignalRun> + '_ {
        self.errors.iter().flat_map(move |((version, partition), values)| {
            values.chunks(MOST_VALUES).map(move |values| SignalRun {
                model: self.model.clone(),
                version: version.clone(),
                topic: partition.topic.to_string(),
                partition: partition.partition,
                signal: ERROR_SIGNAL.to_string(),
                values: values.to_vec(),
            })
        })
    }

    /// One row for each version, pane and segment.
    pub fn rows(&self) -> Vec<PartialRow> {
        let mut rolled: BTreeMap<(&str, i64, Membership), (u64, PerformanceProfile)> = BTreeMap::new();
        for group in &self.groups {
            for membership in self.segments.memberships(&group.codes) {
                let key = (self.versions[group.version].as_str(), group.pane_start_ms, membership);
                match rolled.get_mut(&key) {
                    Some((predictions, profile)) => {
                        *predictions += group.predictions;
                        profile.merge(&group.profile);
                    }
                    None => drop(rolled.insert(key, (group.predictions, group.profile.clone()))),
                }
            }
        }
        let row = |((version, pane_start_ms, membership), (predictions, profile)): (_, (u64, PerformanceProfile))| {
            let (segment_column, segment_value) = self.segments.segment(membership);
            PartialRow {
                model: self.model.clone(),
                version: String::from(version),
                segment_column: segment_column.to_string(),
                segment_value: segment_value.to_string(),
                reference_id: self.reference_id.clone(),
                pane_start_ms,
                pane_ms: self.pane_ms,
                feature: PERFORMANCE_FEATURE.to_string(),
                rows: predictions,
                state: profile.encode(),
            }
        };
        rolled.into_iter().map(row).collect()
    }
}

/// A [`GroupKey`] that owns nothing, to look up with.
#[derive(Hash)]
struct BorrowedKey<'a>(usize, i64, &'a [i32]);

impl hashbrown::Equivalent<GroupKey> for BorrowedKey<'_> {
    fn equivalent(&self, key: &GroupKey) -> bool {
        (self.0, self.1, self.2) == (key.0, key.1, &*key.2)
    }
}

/// The labels that the events of a batch carry.
enum InEvent<'a> {
    Numbers(&'a Float64Array),
    Texts(&'a StringArray),
    Lists(&'a ListArray),
}

impl<'a> InEvent<'a> {
    fn of(batch: &'a RecordBatch, column: usize) -> Option<Self> {
        let column = batch.column(column);
        let numbers = column.as_primitive_opt::<Float64Type>().map(Self::Numbers);
        let texts = || column.as_string_opt::<i32>().map(Self::Texts);
        numbers.or_else(texts).or_else(|| column.as_list_opt::<i32>().map(Self::Lists))
    }

    /// `None`: it is not known yet.
    fn label(&self, layout: &PerformanceLayout, row: usize) -> Option<Label> {
        match self {
            Self::Numbers(values) if values.is_valid(row) => Some(match layout.task() {
                Task::Binary | Task::Multiclass => Label::Class(layout.class_of_number(values.value(row))),
                Task::Regression | Task::Ranking => Label::Number(values.value(row)),
            }),
            Self::Texts(texts) if texts.is_valid(row) && !texts.value(row).is_empty() => {
                Some(Label::Class(layout.class_of(texts.value(row))))
            }
            Self::Lists(lists) if lists.is_valid(row) => {
                Some(Label::Relevance(lists.value(row).as_primitive::<Float32Type>().values().to_vec()))
            }
            _ => None,
        }
    }
}
