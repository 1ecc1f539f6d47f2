//! Slabs of raw Kafka records to Arrow batches, one per model, with an outcome per record: a bad record costs
//! one record, never its neighbours.
//!
//! `Decoder` routes each record to the models that read its topic (`route`), walks its JSON once (`json`, `row`)
//! along the model's compiled field `mapping` straight into `columns`, and commits the row or takes it back.
//! To add a format: give it a file with a function that fills the open row of `Columns` as `row` does, and a
//! variant of `config::model::Format`; outcomes, rejection and dead letters are shared. To add a reason: a
//! variant of `Reason`, its row in the table below, its name in `schemas/events/dead-letter.schema.json`.
//!
//! # What becomes of an event
//!
//! | found | outcome |
//! |---|---|
//! | a feature that is absent or null | null: a missing value, counted by the statistics |
//! | a feature marked `required`, or the event time, absent or null | `missing_field` |
//! | a number for a numeric feature | the nearest f64, ties to even, also beyond 2^53; `1e999` is `non_finite` |
//! | text, boolean, object or array for a numeric feature | `wrong_type`; the texts NaN, Inf, Infinity (any case, signed) `non_finite` |
//! | an array of `dimension` numbers for a vector | each to the nearest f64, then to the nearest f32 |
//! | an array of another length, or with anything but numbers; any other value for a vector | `wrong_type`; a number beyond f32, the texts NaN, Inf, Infinity among them `non_finite` |
//! | text for a categorical feature, version, prediction id | as it is; the empty text is a category |
//! | boolean for these | `True`, `False` (pandas' names) |
//! | number for these | integers digit by digit, others as Python's `str`: `1.0`, `1e-05`; `1e999` is `non_finite` |
//! | object or array for these | `wrong_type`; arrays are not traversed |
//! | no version | `unversioned` |
//! | a scalar or array where the mapping goes deeper | `wrong_type`; null counts as absent |
//! | a key beside the features that the model does not list | `unknown_feature`, ignored or reported (`unknown_features`) |
//! | a mapped key, or an object on the way to one, twice | `duplicate_key`: parsers differ on which one counts, so none does. Unmapped keys may repeat |
//! | event time as RFC 3339 with any offset and fraction; without an offset | that instant, rounded down to ms; UTC |
//! | event time as a number, or as text that is one | epoch by `timestamp_unit`; `auto`: below 1e11 s, below 1e14 ms, below 1e17 µs |
//! | any other event time, or outside of the years 1 to 9999 | `bad_timestamp`; a boolean, object or array `wrong_type` |
//! | event time further ahead than `max_future` | `future` |
//! | more than `max_event_bytes` | `oversized`, unread |
//! | a tombstone, an empty, truncated or malformed payload, text after it, a second document, more than 64 levels | `not_json` |
//! | bare `NaN`, `Infinity`, `-Infinity` | `non_finite`: Python's `json.dumps` writes them, JSON has none; for a numeric feature a fault of that value, elsewhere of the document |
//! | an invalid value of a feature with `on_invalid: missing` | null, and a `Flaw` of the row |
//! | bytes that are not UTF-8, or half a surrogate pair escaped in a mapped text | `not_utf8` |
//! | JSON that is no object | `not_an_object` |
//! | a topic that no model reads, a model's name that nobody watches | unrouted: counted, no error |
//!
//! A document that is not JSON is rejected once and under that reason whatever else is wrong with it; among other
//! faults the first one in the text counts, then what is missing, then `future`.
//!
//! # Several models on a topic
//!
//! A model with `fields.model` takes the events that name it; one without takes every event of its topics. Each
//! model that takes an event counts it or rejects it by itself. An event without a name is rejected
//! (`missing_field`, or `wrong_type`) only if nobody takes it. So rows + rejected + unrouted = records wherever at
//! most one model takes an event.

mod columns;
mod dead_letter;
mod flaw;
mod json;
mod labels;
mod mapping;
mod number;
mod reason;
mod route;
mod row;
pub mod time;

use std::sync::Arc;

use datafusion::arrow::error::ArrowError;
use hashbrown::HashMap;

use crate::config::model::{Format, Model};
use crate::log::{RecordRef, Records};

pub use columns::{
    DecodedBatch, EVENT_TIME, PREDICTION_ID, QUALITY_FEATURE, RowFlaw, SourceProgress, UNVERSIONED, VERSION, schema,
};
pub use dead_letter::{MAX_KEY_BYTES, MAX_PAYLOAD_BYTES, dead_letter};
pub use flaw::Flaw;
pub use labels::{DecodedLabel, LabelValue, MAX_LABEL_BYTES};
pub use mapping::DecoderError;
pub use reason::{Reason, Rejected, RejectedPlace};

use columns::Columns;
use labels::LabelDecoder;
use mapping::Mapping;
use reason::Fault;
use route::TopicRoute;
use row::{Limits, Rejection, RowDecoder};

/// The largest `max_event_bytes`: a batch's text columns are addressed by 32 bits.
const MAX_EVENT_BYTES: u64 = 1 << 30;

/// What became of the records of one slab.
#[derive(Debug, Clone, Default)]
pub struct Decoded {
    /// One for each model with rows; several only where a model's text exceeds 1 GiB.
    pub batches: Vec<DecodedBatch>,
    /// In the order of the slab.
    pub labels: Vec<DecodedLabel>,
    /// In the order of the slab.
    pub rejected: Vec<Rejected>,
    /// Records that no model takes, neither as an event nor as a label.
    pub unrouted: u64,
}

impl Decoded {
    /// Rows over all models.
    pub fn row_count(&self) -> usize {
        self.batches.iter().map(|batch| batch.batch.num_rows()).sum()
    }
}

/// Decodes the events of all models. Keep one for the life of a worker: it learns the order of keys.
#[derive(Debug)]
pub struct Decoder {
    routes: HashMap<String, TopicRoute>,
    models: Vec<ModelDecoder>,
    label_routes: HashMap<String, TopicRoute>,
    /// By model.
    labels: Vec<Option<LabelDecoder>>,
    /// Models of the record at hand.
    takers: Vec<usize>,
    /// Unescaped text of the value at hand.
    scratch: String,
}

#[derive(Debug)]
struct ModelDecoder {
    name: Arc<str>,
    model: Arc<Model>,
    mapping: Mapping,
    columns: Columns,
    /// Events met so far.
    events: u64,
}

impl Decoder {
    /// Compiles the mappings of `models`. An error is one of the configuration: no event can cure it.
    pub fn new(models: &[Arc<Model>]) -> Result<Self, DecoderError> {
        let mut routes: HashMap<String, TopicRoute> = HashMap::new();
        let mut decoders = Vec::with_capacity(models.len());
        let mut label_routes: HashMap<String, TopicRoute> = HashMap::new();
        let mut labels = Vec::with_capacity(models.len());
        for (index, model) in models.iter().enumerate() {
            if model.max_event_bytes > MAX_EVENT_BYTES {
                let problem = format!("`max_event_bytes` is {}, the most is {MAX_EVENT_BYTES}", model.max_event_bytes);
                return Err(DecoderError { model: model.model.clone(), problem });
            }
            let mapping = match model.format {
                Format::Json | Format::PredictionEvent => Mapping::compile(model)?,
            };
            for topic in &model.topics {
                let route = routes.entry_ref(topic.as_str()).or_default();
                route.add(index, &model.model, mapping.model_name.as_deref(), model.max_event_bytes);
            }
            let label_decoder = LabelDecoder::compile(model)?;
            if let Some(decoder) = &label_decoder {
                for topic in &decoder.topics {
                    let route = label_routes.entry_ref(topic.as_str()).or_default();
                    route.add(index, &model.model, decoder.mapping.model_name.as_deref(), decoder.max_bytes);
                }
            }
            labels.push(label_decoder);
            decoders.push(ModelDecoder {
                name: model.model.as_str().into(),
                model: model.clone(),
                mapping,
                columns: Columns::new(index, model),
                events: 0,
            });
        }
        Ok(Self { routes, models: decoders, label_routes, labels, takers: Vec::new(), scratch: String::new() })
    }

    /// Decodes a slab. `now_ms`: epoch milliseconds, for the check of event times ahead of the clock. No record
    /// makes this fail; an error means that Arrow refused a finished batch, and nothing of the slab can be used.
    pub fn decode(&mut self, records: &Records, now_ms: i64) -> Result<Decoded, ArrowError> {
        let mut decoded = Decoded::default();
        for (index, record) in records.iter().enumerate() {
            if let Err(fault) = self.decode_record(index, &record, now_ms, &mut decoded)? {
                decoded.reject(index, None, fault, None);
            }
        }
        for decoder in &mut self.models {
            decoded.batches.extend(decoder.columns.take()?);
        }
        Ok(decoded)
    }

    /// The inner error is a fault of the record itself, whoever reads it.
    fn decode_record(
        &mut self,
        index: usize,
        record: &RecordRef<'_>,
        now_ms: i64,
        decoded: &mut Decoded,
    ) -> Result<Result<(), Fault>, ArrowError> {
        let is_of_labels = !self.label_routes.is_empty() && self.label_routes.contains_key(&**record.topic);
        if is_of_labels && let Err(fault) = self.decode_labels(index, record, now_ms, decoded) {
            return Ok(Err(fault));
        }
        let Some(route) = self.routes.get(&**record.topic) else {
            decoded.unrouted += u64::from(!is_of_labels);
            return Ok(Ok(()));
        };
        let text = match readable_text(record, route.max_event_bytes) {
            Ok(text) => text,
            Err(fault) => return Ok(Err(fault)),
        };
        if let Err(fault) = route.models_of(text, &mut self.takers, &mut self.scratch) {
            return Ok(Err(fault));
        }
        if self.takers.is_empty() {
            decoded.unrouted += 1;
        }
        for model_index in &self.takers {
            let decoder = &mut self.models[*model_index];
            match decoder.decode(text, index, record, now_ms, &mut self.scratch) {
                Ok(()) => {}
                Err((fault, _)) if fault.of_document => return Ok(Err(fault)),
                Err((fault, place)) => decoded.reject(index, Some(decoder.name.clone()), fault, place),
            }
            if decoder.columns.is_full() {
                decoded.batches.extend(decoder.columns.take()?);
            }
        }
        Ok(Ok(()))
    }
}

impl Decoder {
    /// The error is a fault of the record itself, whoever reads it.
    fn decode_labels(
        &mut self,
        index: usize,
        record: &RecordRef<'_>,
        now_ms: i64,
        decoded: &mut Decoded,
    ) -> Result<(), Fault> {
        let Some(route) = self.label_routes.get(&**record.topic) else { return Ok(()) };
        let text = readable_text(record, route.max_event_bytes)?;
        route.models_of(text, &mut self.takers, &mut self.scratch)?;
        if self.takers.is_empty() && !self.routes.contains_key(&**record.topic) {
            decoded.unrouted += 1;
        }
        for model_index in &self.takers {
            let Some(labels) = &mut self.labels[*model_index] else { continue };
            match labels.decode(text, now_ms, &mut self.scratch) {
                Ok((prediction_id, value, given_ms)) => decoded.labels.push(DecodedLabel {
                    model_index: *model_index,
                    record: index,
                    prediction_id,
                    value,
                    given_ms,
                }),
                Err(fault) if fault.of_document => return Err(fault),
                Err(fault) => decoded.reject(index, Some(labels.name.clone()), fault, None),
            }
        }
        Ok(())
    }
}

impl Decoded {
    #[cold]
    fn reject(&mut self, record: usize, model: Option<Arc<str>>, fault: Fault, place: Option<Box<RejectedPlace>>) {
        self.rejected.push(Rejected { record, model, reason: fault.reason, detail: fault.detail, place });
    }
}

impl ModelDecoder {
    fn decode(
        &mut self,
        text: &str,
        index: usize,
        record: &RecordRef<'_>,
        now_ms: i64,
        scratch: &mut String,
    ) -> Result<(), (Fault, Option<Box<RejectedPlace>>)> {
        if text.len() as u64 > self.model.max_event_bytes {
            return Err((Fault { of_document: false, ..oversized(text.len(), self.model.max_event_bytes) }, None));
        }
        self.events += 1;
        self.columns.open_row();
        let limits = Limits {
            timestamp_unit: self.model.fields.timestamp_unit,
            now_ms,
            max_future_ms: self.model.max_future.ms,
        };
        let row = RowDecoder::new(text, &mut self.mapping, &mut self.columns, scratch, self.events, limits);
        match row.decode() {
            Ok(event_time_ms) => {
                self.columns.commit_row(event_time_ms, index as u32, record);
                Ok(())
            }
            Err(Rejection { fault, event_time_ms }) => {
                let place = event_time_ms.map(|event_time_ms| self.rejected_place(event_time_ms));
                self.columns.roll_back_row();
                Err((fault, place))
            }
        }
    }

    #[cold]
    fn rejected_place(&mut self, event_time_ms: i64) -> Box<RejectedPlace> {
        let (flaws, unlisted) = self.columns.take_open_notes();
        Box::new(RejectedPlace {
            model_index: self.columns.model_index(),
            event_time_ms,
            version: self.columns.open_version().to_string(),
            flaws: flaws.into_iter().map(|flaw| (flaw.signal, flaw.flaw)).collect(),
            unlisted,
        })
    }
}

/// The payload as text that begins an object, within the limit.
fn readable_text<'a>(record: &RecordRef<'a>, max_bytes: u64) -> Result<&'a str, Fault> {
    let Some(payload) = record.value else {
        return Err(Fault::of_document(Reason::NotJson, "a tombstone: the record has no payload"));
    };
    if payload.len() as u64 > max_bytes {
        return Err(oversized(payload.len(), max_bytes));
    }
    route::event_text(payload)
}

fn oversized(bytes: usize, max_bytes: u64) -> Fault {
    Fault::of_document(Reason::Oversized, format!("{bytes} bytes, {max_bytes} are allowed"))
}
