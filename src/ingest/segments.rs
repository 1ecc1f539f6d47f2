//! Which segments an event counts in: the whole, and one value of each split.
//!
//! Values that are not kept apart are one value before rows are grouped, so that a column of a million values makes no
//! more groups than one of `max_segments`.

use datafusion::arrow::array::{AsArray, RecordBatch};
use datafusion::arrow::datatypes::Schema;
use hashbrown::HashMap;

use crate::config::model::Model;
use crate::config::segment::{self, SegmentColumns};
use crate::reference::Reference;
use crate::reference::segments::{MISSING_SEGMENT, OTHER_SEGMENT};

/// The key columns of a model, and the splits made of them.
pub struct SegmentKeys {
    key_columns: Vec<KeyColumn>,
    splits: Vec<Split>,
}

/// A segment, by the index of its split and of its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Membership {
    Whole,
    Part { split: usize, value: usize },
}

/// A column that segments are made of, and what its values are called while rows are grouped.
pub struct KeyColumn {
    name: String,
    /// Where its values stand in decoded batches.
    column: usize,
    /// Codes of the values that some segment keeps apart, from 0; then all others, then missing ones.
    codes: HashMap<String, i32>,
}

/// One split of the events: by one key column, or by two together.
struct Split {
    /// As in the reference.
    name: String,
    /// Indices of the key columns, one or two.
    key_columns: Vec<usize>,
    /// Values that the reference keeps apart; then [`OTHER_SEGMENT`] and [`MISSING_SEGMENT`].
    values: Vec<String>,
    /// By the codes of the key columns, the index in `values`.
    index: HashMap<Vec<i32>, usize>,
}

impl SegmentKeys {
    /// `schema` is that of the model's decoded batches.
    pub fn new(model: &Model, reference: &Reference, schema: &Schema) -> Result<Self, String> {
        let mut key_columns: Vec<KeyColumn> = Vec::new();
        for name in model.segments.iter().flat_map(SegmentColumns::columns) {
            if key_columns.iter().all(|known| known.name != name) {
                let column = schema.index_of(name).map_err(|_| format!("no column `{name}`"))?;
                key_columns.push(KeyColumn::new(name, column, model, reference));
            }
        }
        let splits = model.segments.iter().map(|segment| Split::new(segment, &key_columns, reference)).collect();
        Ok(Self { key_columns, splits })
    }

    pub fn key_columns(&self) -> &[KeyColumn] {
        &self.key_columns
    }

    /// Whether nothing is split.
    pub fn is_whole(&self) -> bool {
        self.splits.is_empty()
    }

    /// The segments of rows whose key columns have these codes: the whole, and one value of each split.
    pub fn memberships(&self, codes: &[i32]) -> impl Iterator<Item = Membership> {
        let of_split = move |(split, segment): (usize, &Split)| {
            let codes: Vec<i32> = segment.key_columns.iter().map(|key| codes[*key]).collect();
            Membership::Part { split, value: segment.place(&codes, &self.key_columns) }
        };
        std::iter::once(Membership::Whole).chain(self.splits.iter().enumerate().map(of_split))
    }

    /// The split of this name, for `places`.
    pub fn split_named(&self, name: &str) -> Option<usize> {
        self.splits.iter().position(|split| split.name == name)
    }

    /// For every row of a decoded batch the index of its value in a split, as memberships have it.
    pub fn places(&self, split: usize, batch: &RecordBatch) -> Vec<i32> {
        let Some(split) = self.splits.get(split) else { return Vec::new() };
        let keys = split.key_columns.iter().filter_map(|key| self.key_columns.get(*key));
        let codes: Vec<Vec<i32>> = keys.map(|key| key.codes(batch).collect()).collect();
        let mut of_row = Vec::with_capacity(codes.len());
        let place = |row: usize| {
            of_row.clear();
            of_row.extend(codes.iter().map(|column| column[row]));
            split.place(&of_row, &self.key_columns) as i32
        };
        (0..batch.num_rows()).map(place).collect()
    }

    /// Column and value of a segment, empty for the whole.
    pub fn segment(&self, membership: Membership) -> (&str, &str) {
        let Membership::Part { split, value } = membership else { return ("", "") };
        let split = self.splits.get(split);
        let value = split.and_then(|split| split.values.get(value));
        split.zip(value).map_or(("", ""), |(split, value)| (split.name.as_str(), value.as_str()))
    }
}

impl KeyColumn {
    /// Kept apart is every value that a segment of the reference is made of.
    fn new(name: &str, column: usize, model: &Model, reference: &Reference) -> Self {
        let mut codes = HashMap::new();
        for segment in &model.segments {
            let (split_name, columns) = (segment.name(), segment.columns());
            let Some(place) = columns.iter().position(|column| *column == name) else { continue };
            for (_, value) in reference.segments.keys().filter(|(column, _)| *column == split_name) {
                let value = parts(value, columns.len()).and_then(|parts| parts.into_iter().nth(place));
                if let Some(value) = value.filter(|value| value != MISSING_SEGMENT) {
                    let next = codes.len() as i32;
                    codes.entry(value).or_insert(next);
                }
            }
        }
        Self { name: name.to_string(), column, codes }
    }

    /// Name of the column that holds the codes.
    pub fn key(&self) -> String {
        format!("segment {}", self.name)
    }

    fn other(&self) -> i32 {
        self.codes.len() as i32
    }

    fn missing(&self) -> i32 {
        self.other() + 1
    }

    /// The code of every row of a decoded batch.
    pub fn codes<'a>(&'a self, batch: &'a RecordBatch) -> impl Iterator<Item = i32> + 'a {
        batch.column(self.column).as_string::<i32>().iter().map(|value| self.code(value))
    }

    fn code(&self, value: Option<&str>) -> i32 {
        match value {
            None | Some(MISSING_SEGMENT) => self.missing(),
            Some(value) => self.codes.get(value).copied().unwrap_or(self.other()),
        }
    }
}

impl Split {
    fn new(segment: &SegmentColumns, key_columns: &[KeyColumn], reference: &Reference) -> Self {
        let (name, columns) = (segment.name(), segment.columns());
        let place = |column: &&str| key_columns.iter().position(|key| key.name == **column);
        let of_split: Vec<usize> = columns.iter().filter_map(place).collect();
        let (mut values, mut index) = (Vec::new(), HashMap::new());
        for (_, value) in reference.segments.keys().filter(|(column, _)| *column == name) {
            let Some(parts) = parts(value, columns.len()) else { continue };
            let codes = of_split.iter().zip(&parts).map(|(key, part)| key_columns[*key].code(Some(part))).collect();
            index.insert(codes, values.len());
            values.push(value.clone());
        }
        values.extend([OTHER_SEGMENT, MISSING_SEGMENT].map(str::to_string));
        Self { name, key_columns: of_split, values, index }
    }

    /// Index of the value that these codes of its key columns make.
    fn place(&self, codes: &[i32], key_columns: &[KeyColumn]) -> usize {
        let missing = self.values.len() - 1;
        let is_missing = |key: &usize, code: i32| key_columns.get(*key).is_some_and(|key| key.missing() == code);
        match (self.index.get(codes), self.key_columns.as_slice(), codes) {
            (Some(place), _, _) => *place,
            (None, [key], [code]) if is_missing(key, *code) => missing,
            (None, _, _) => missing - 1,
        }
    }
}

/// The values of each column in a segment's value; `None` for what stands for all others.
fn parts(value: &str, columns: usize) -> Option<Vec<String>> {
    match columns {
        _ if value == OTHER_SEGMENT => None,
        1 => Some(vec![value.to_string()]),
        _ => segment::split(value).map(|(first, second)| vec![first, second]),
    }
}
