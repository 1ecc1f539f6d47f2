//! The rows decoded so far, as growing Arrow columns with one open row at their end that can be taken back.

use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, FixedSizeListArray, Float32Array, Float64Array, ListArray, RecordBatch, StringArray,
    TimestampMillisecondArray,
};
use datafusion::arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::arrow::error::ArrowError;

use super::flaw::Flaw;
use crate::config::model::{Kind, Model};
use crate::log::{RecordRef, TopicPartition};

pub const EVENT_TIME: &str = "event_time";
pub const VERSION: &str = "version";
pub const PREDICTION_ID: &str = "prediction_id";
/// What stands in place of a feature's name where a profile is that of the quality of all features.
pub const QUALITY_FEATURE: &str = "\0quality";

/// Version of events that carry none.
pub const UNVERSIONED: &str = "unversioned";

/// Text columns are addressed by 32 bits; a batch that holds this much is closed.
const FULL_BYTES: usize = 1 << 30;

/// Columns of a model's batches: `event_time` (milliseconds, UTC), `version`, `prediction_id`, then
/// `Model::signals` and `Model::outcome_columns` in order; numeric ones Float64, categorical ones Utf8, vectors fixed-size lists of Float32, ranked
/// lists lists of Float32, null where the value is missing.
pub fn schema(model: &Model) -> SchemaRef {
    let mut fields = vec![
        Field::new(EVENT_TIME, DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())), false),
        Field::new(VERSION, DataType::Utf8, false),
        Field::new(PREDICTION_ID, DataType::Utf8, true),
    ];
    fields.extend(model.signals().into_iter().chain(model.outcome_columns()).map(|signal| {
        let data_type = match signal.kind {
            Kind::Numeric => DataType::Float64,
            Kind::Categorical => DataType::Utf8,
            Kind::Vector if signal.dimension == 0 => DataType::List(vector_item()),
            Kind::Vector => DataType::FixedSizeList(vector_item(), signal.dimension as i32),
        };
        Field::new(signal.name, data_type, true)
    }));
    Arc::new(Schema::new(fields))
}

fn vector_item() -> Arc<Field> {
    Arc::new(Field::new_list_field(DataType::Float32, false))
}

/// What a slab brought of one source partition, for one model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceProgress {
    pub partition: TopicPartition,
    /// Latest event time among the accepted rows, epoch milliseconds.
    pub max_event_time_ms: i64,
    pub rows: u64,
}

/// The accepted events of one model, in the order of the slab.
#[derive(Debug, Clone)]
pub struct DecodedBatch {
    /// Index in the slice given to `Decoder::new`.
    pub model_index: usize,
    /// Columns of `schema(model)`.
    pub batch: RecordBatch,
    /// For each row the index of its record in the slab (`Records::get`: partition and offset).
    pub record_indices: Vec<u32>,
    /// One entry per source partition with rows.
    pub sources: Vec<SourceProgress>,
    /// Why values are null, by row: nulls, and invalid values that are kept as missing. A null that is not among
    /// these has no key in the event.
    pub flaws: Vec<RowFlaw>,
    /// Keys beside the features that the model does not list, by row, where `unknown_features` is `report`.
    pub unlisted: Vec<(u32, String)>,
}

/// Why a row has no value of a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowFlaw {
    pub row: u32,
    /// Index in `Model::signals`.
    pub signal: u32,
    pub flaw: Flaw,
}

impl DecodedBatch {
    /// Event time of every row, epoch milliseconds.
    pub fn event_times_ms(&self) -> &[i64] {
        let column = self.batch.column(0).as_any().downcast_ref::<TimestampMillisecondArray>();
        column.map(|times| times.values().as_ref()).unwrap_or_default()
    }
}

#[derive(Debug)]
pub(super) struct Columns {
    model_index: usize,
    schema: SchemaRef,
    rows: usize,
    /// Rows that the fixed-width columns have room for; at least `rows + 1` while a row is open.
    capacity: usize,
    /// Rows of the previous batch: the room to start with.
    usual_rows: usize,
    text_bytes: usize,
    event_times_ms: Vec<i64>,
    version: Texts,
    prediction_id: Texts,
    signals: Vec<SignalColumn>,
    /// The first of them that are watched: their flaws are noted.
    watched: usize,
    record_indices: Vec<u32>,
    sources: Vec<SourceProgress>,
    /// Index of the last row's source.
    last_source: usize,
    /// The last ones may be of the open row.
    flaws: Vec<RowFlaw>,
    unlisted: Vec<(u32, String)>,
}

#[derive(Debug)]
enum SignalColumn {
    Numeric(Numbers),
    Categorical(Texts),
    Vector(Vectors),
    List(Lists),
}

#[derive(Debug, Default)]
struct Numbers {
    values: Vec<f64>,
    valid: Bits,
}

#[derive(Debug)]
struct Vectors {
    dimension: usize,
    /// Of all committed rows, zeros where there is no vector, and of the open row where it has one.
    values: Vec<f32>,
    valid: Bits,
}

#[derive(Debug, Default)]
struct Lists {
    values: Vec<f32>,
    /// End of each committed row.
    ends: Vec<i32>,
    valid: Bits,
}

#[derive(Debug, Default)]
struct Texts {
    bytes: Vec<u8>,
    /// End of each committed row.
    ends: Vec<i32>,
    valid: Bits,
}

/// One bit per row, least significant first.
#[derive(Debug, Default)]
struct Bits {
    bytes: Vec<u8>,
}

impl Bits {
    fn set(&mut self, row: usize) {
        self.bytes[row / 8] |= 1 << (row % 8);
    }

    fn clear(&mut self, row: usize) {
        self.bytes[row / 8] &= !(1 << (row % 8));
    }

    fn get(&self, row: usize) -> bool {
        self.bytes[row / 8] & (1 << (row % 8)) != 0
    }

    fn take(&mut self, rows: usize) -> Option<NullBuffer> {
        let bits = BooleanBuffer::new(Buffer::from_vec(std::mem::take(&mut self.bytes)), 0, rows);
        Some(NullBuffer::new(bits)).filter(|nulls| nulls.null_count() > 0)
    }
}

impl Texts {
    fn set(&mut self, row: usize, text: &str) {
        self.bytes.extend_from_slice(text.as_bytes());
        self.valid.set(row);
    }

    fn take(&mut self, rows: usize) -> Result<ArrayRef, ArrowError> {
        let mut offsets = Vec::with_capacity(rows + 1);
        offsets.push(0);
        offsets.append(&mut self.ends);
        let values = Buffer::from_vec(std::mem::take(&mut self.bytes));
        let array =
            StringArray::try_new(OffsetBuffer::new(ScalarBuffer::from(offsets)), values, self.valid.take(rows))?;
        Ok(Arc::new(array))
    }
}

impl Vectors {
    fn new(dimension: usize) -> Self {
        Self { dimension, values: Vec::new(), valid: Bits::default() }
    }

    fn take(&mut self, rows: usize) -> Result<ArrayRef, ArrowError> {
        let values = Float32Array::new(ScalarBuffer::from(std::mem::take(&mut self.values)), None);
        let nulls = self.valid.take(rows);
        let array = FixedSizeListArray::try_new(vector_item(), self.dimension as i32, Arc::new(values), nulls)?;
        Ok(Arc::new(array))
    }
}

impl Lists {
    fn take(&mut self, rows: usize) -> Result<ArrayRef, ArrowError> {
        let mut offsets = Vec::with_capacity(rows + 1);
        offsets.push(0);
        offsets.append(&mut self.ends);
        let values = Float32Array::new(ScalarBuffer::from(std::mem::take(&mut self.values)), None);
        let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
        Ok(Arc::new(ListArray::try_new(vector_item(), offsets, Arc::new(values), self.valid.take(rows))?))
    }
}

impl Columns {
    pub fn new(model_index: usize, model: &Model) -> Self {
        let watched = model.signals().len();
        let signals = model.signals().into_iter().chain(model.outcome_columns()).map(|signal| match signal.kind {
            Kind::Numeric => SignalColumn::Numeric(Numbers::default()),
            Kind::Categorical => SignalColumn::Categorical(Texts::default()),
            Kind::Vector if signal.dimension == 0 => SignalColumn::List(Lists::default()),
            Kind::Vector => SignalColumn::Vector(Vectors::new(signal.dimension)),
        });
        Self {
            model_index,
            schema: schema(model),
            rows: 0,
            capacity: 0,
            usual_rows: 0,
            text_bytes: 0,
            event_times_ms: Vec::new(),
            version: Texts::default(),
            prediction_id: Texts::default(),
            signals: signals.collect(),
            watched,
            record_indices: Vec::new(),
            sources: Vec::new(),
            last_source: 0,
            flaws: Vec::new(),
            unlisted: Vec::new(),
        }
    }

    pub fn model_index(&self) -> usize {
        self.model_index
    }

    /// Makes room for one more row. Columns double, so that memory follows the rows that a model really has.
    pub fn open_row(&mut self) {
        if self.rows < self.capacity {
            return;
        }
        self.capacity = (self.capacity * 2).max(self.usual_rows.next_multiple_of(64)).max(64);
        let bit_bytes = self.capacity / 8;
        for texts in [&mut self.version, &mut self.prediction_id] {
            texts.valid.bytes.resize(bit_bytes, 0);
        }
        for column in &mut self.signals {
            match column {
                SignalColumn::Numeric(numbers) => {
                    numbers.values.resize(self.capacity, 0.0);
                    numbers.valid.bytes.resize(bit_bytes, 0);
                }
                SignalColumn::Categorical(texts) => texts.valid.bytes.resize(bit_bytes, 0),
                SignalColumn::Vector(vectors) => vectors.valid.bytes.resize(bit_bytes, 0),
                SignalColumn::List(lists) => lists.valid.bytes.resize(bit_bytes, 0),
            }
        }
    }

    pub fn set_version(&mut self, text: &str) {
        self.version.set(self.rows, text);
    }

    pub fn set_prediction_id(&mut self, text: &str) {
        self.prediction_id.set(self.rows, text);
    }

    /// `signal` must be numeric; at most once a row.
    #[inline]
    pub fn set_number(&mut self, signal: usize, value: f64) {
        if let SignalColumn::Numeric(numbers) = &mut self.signals[signal] {
            numbers.values[self.rows] = value;
            numbers.valid.set(self.rows);
        }
    }

    /// `signal` must be categorical; at most once a row.
    #[inline]
    pub fn set_category(&mut self, signal: usize, text: &str) {
        if let SignalColumn::Categorical(texts) = &mut self.signals[signal] {
            texts.set(self.rows, text);
        }
    }

    /// The open row has no value of `signal`, and why.
    pub fn note_flaw(&mut self, signal: usize, flaw: Flaw) {
        if signal < self.watched {
            self.flaws.push(RowFlaw { row: self.rows as u32, signal: signal as u32, flaw });
        }
    }

    /// The open row has a key beside the features that the model does not list.
    pub fn note_unlisted(&mut self, key: &str) {
        self.unlisted.push((self.rows as u32, key.to_string()));
    }

    /// Version of the open row.
    pub fn open_version(&self) -> &str {
        let from = self.version.ends.last().map_or(0, |end| *end as usize);
        match self.version.valid.get(self.rows) {
            true => std::str::from_utf8(&self.version.bytes[from..]).unwrap_or(UNVERSIONED),
            false => UNVERSIONED,
        }
    }

    /// Flaws and unlisted keys of the open row, taken out.
    pub fn take_open_notes(&mut self) -> (Vec<RowFlaw>, Vec<String>) {
        let row = self.rows as u32;
        let first_flaw = self.flaws.partition_point(|flaw| flaw.row < row);
        let first_key = self.unlisted.partition_point(|(of, _)| *of < row);
        (self.flaws.split_off(first_flaw), self.unlisted.split_off(first_key).into_iter().map(|(_, key)| key).collect())
    }

    /// Numbers that a vector of `signal` has; 0 where it is no vector.
    pub fn dimension(&self, signal: usize) -> usize {
        match &self.signals[signal] {
            SignalColumn::Vector(vectors) => vectors.dimension,
            SignalColumn::Numeric(_) | SignalColumn::Categorical(_) | SignalColumn::List(_) => 0,
        }
    }

    /// `signal` must be a vector, `values` as many as its dimension; at most once a row.
    pub fn set_vector(&mut self, signal: usize, values: &[f32]) {
        if let SignalColumn::Vector(vectors) = &mut self.signals[signal] {
            vectors.values.extend_from_slice(values);
            vectors.valid.set(self.rows);
        }
    }

    /// `signal` must be a ranked list; at most once a row.
    pub fn set_list(&mut self, signal: usize, values: &[f32]) {
        if let SignalColumn::List(lists) = &mut self.signals[signal] {
            lists.values.extend_from_slice(values);
            lists.valid.set(self.rows);
        }
    }

    /// Whether the open row has a value.
    pub fn is_set(&self, signal: usize) -> bool {
        match &self.signals[signal] {
            SignalColumn::Numeric(numbers) => numbers.valid.get(self.rows),
            SignalColumn::Categorical(texts) => texts.valid.get(self.rows),
            SignalColumn::Vector(vectors) => vectors.valid.get(self.rows),
            SignalColumn::List(lists) => lists.valid.get(self.rows),
        }
    }

    /// Keeps the open row.
    pub fn commit_row(&mut self, event_time_ms: i64, record_index: u32, record: &RecordRef<'_>) {
        if !self.version.valid.get(self.rows) {
            self.version.set(self.rows, UNVERSIONED);
        }
        self.text_bytes = 0;
        for texts in Self::texts(&mut self.version, &mut self.prediction_id, &mut self.signals) {
            self.text_bytes = self.text_bytes.max(texts.bytes.len());
            // `is_full` and the limit on events keep this far below 2^31.
            texts.ends.push(texts.bytes.len() as i32);
        }
        for column in &mut self.signals {
            match column {
                SignalColumn::Vector(vectors) => vectors.values.resize((self.rows + 1) * vectors.dimension, 0.0),
                SignalColumn::List(lists) => {
                    self.text_bytes = self.text_bytes.max(size_of_val(lists.values.as_slice()));
                    lists.ends.push(lists.values.len() as i32);
                }
                SignalColumn::Numeric(_) | SignalColumn::Categorical(_) => {}
            }
        }
        self.event_times_ms.push(event_time_ms);
        self.record_indices.push(record_index);
        self.rows += 1;
        self.note_source(event_time_ms, record);
    }

    fn note_source(&mut self, event_time_ms: i64, record: &RecordRef<'_>) {
        let is_of = |source: &SourceProgress| {
            source.partition.partition == record.partition
                && (Arc::ptr_eq(&source.partition.topic, record.topic) || source.partition.topic == *record.topic)
        };
        // Records of one partition come in runs: the source of the last row is nearly always this one's too.
        if !self.sources.get(self.last_source).is_some_and(is_of) {
            self.last_source = self.sources.iter().position(is_of).unwrap_or_else(|| {
                self.sources.push(SourceProgress {
                    partition: TopicPartition { topic: record.topic.clone(), partition: record.partition },
                    max_event_time_ms: event_time_ms,
                    rows: 0,
                });
                self.sources.len() - 1
            });
        }
        let source = &mut self.sources[self.last_source];
        source.max_event_time_ms = source.max_event_time_ms.max(event_time_ms);
        source.rows += 1;
    }

    /// Forgets everything that was set in the open row.
    pub fn roll_back_row(&mut self) {
        let row = self.rows;
        drop(self.take_open_notes());
        for texts in Self::texts(&mut self.version, &mut self.prediction_id, &mut self.signals) {
            texts.bytes.truncate(texts.ends.last().map_or(0, |end| *end as usize));
            texts.valid.clear(row);
        }
        for column in &mut self.signals {
            match column {
                SignalColumn::Numeric(numbers) => {
                    numbers.values[row] = 0.0;
                    numbers.valid.clear(row);
                }
                SignalColumn::Vector(vectors) => {
                    vectors.values.truncate(row * vectors.dimension);
                    vectors.valid.clear(row);
                }
                SignalColumn::List(lists) => {
                    lists.values.truncate(lists.ends.last().map_or(0, |end| *end as usize));
                    lists.valid.clear(row);
                }
                SignalColumn::Categorical(_) => {}
            }
        }
    }

    fn texts<'a>(
        version: &'a mut Texts,
        prediction_id: &'a mut Texts,
        signals: &'a mut [SignalColumn],
    ) -> impl Iterator<Item = &'a mut Texts> {
        let categorical = signals.iter_mut().filter_map(|column| match column {
            SignalColumn::Categorical(texts) => Some(texts),
            SignalColumn::Numeric(_) | SignalColumn::Vector(_) | SignalColumn::List(_) => None,
        });
        [version, prediction_id].into_iter().chain(categorical)
    }

    /// No further row must be opened before `take`.
    pub fn is_full(&self) -> bool {
        self.text_bytes >= FULL_BYTES
    }

    /// The committed rows, if any; the columns are empty afterwards.
    pub fn take(&mut self) -> Result<Option<DecodedBatch>, ArrowError> {
        if self.rows == 0 {
            return Ok(None);
        }
        let rows = std::mem::take(&mut self.rows);
        self.capacity = 0;
        self.usual_rows = rows;
        self.text_bytes = 0;
        let times = TimestampMillisecondArray::from(std::mem::take(&mut self.event_times_ms)).with_timezone("UTC");
        let version = self.version.take(rows)?;
        let mut arrays: Vec<ArrayRef> = vec![Arc::new(times), version, self.prediction_id.take(rows)?];
        for column in &mut self.signals {
            arrays.push(match column {
                SignalColumn::Numeric(numbers) => {
                    numbers.values.truncate(rows);
                    let values = ScalarBuffer::from(std::mem::take(&mut numbers.values));
                    Arc::new(Float64Array::try_new(values, numbers.valid.take(rows))?)
                }
                SignalColumn::Categorical(texts) => texts.take(rows)?,
                SignalColumn::Vector(vectors) => vectors.take(rows)?,
                SignalColumn::List(lists) => lists.take(rows)?,
            });
        }
        Ok(Some(DecodedBatch {
            model_index: self.model_index,
            batch: RecordBatch::try_new(self.schema.clone(), arrays)?,
            record_indices: std::mem::take(&mut self.record_indices),
            sources: std::mem::take(&mut self.sources),
            flaws: std::mem::take(&mut self.flaws),
            unlisted: std::mem::take(&mut self.unlisted),
        }))
    }
}
