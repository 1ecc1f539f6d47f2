//! Columns that grow row by row and widen their type when a value does not fit.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, LargeStringArray, NullArray};
use datafusion::arrow::datatypes::DataType;

use super::lists::{Lists, NumbersSeed};
use hashbrown::HashMap;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::super::columns::python_float;

#[derive(Debug, Clone, PartialEq)]
enum Value<'a> {
    Null,
    Boolean(bool),
    Integer(i64),
    Float(f64),
    Text(&'a str),
}

/// The widest type met so far; each later one holds all earlier ones, booleans apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Width {
    Nothing,
    Boolean,
    Integer,
    Float,
    Text,
}

impl Width {
    fn join(self, other: Self) -> Self {
        match (self.min(other), self.max(other)) {
            // true next to 1: only their texts have both
            (Width::Boolean, Width::Integer | Width::Float) => Width::Text,
            (_, wider) => wider,
        }
    }
}

#[derive(Debug, Clone)]
enum Values {
    Nothing(usize),
    Boolean(Vec<Option<bool>>),
    Integer(Vec<Option<i64>>),
    /// NaN is null.
    Float(Vec<f64>),
    Text(Vec<Option<Box<str>>>),
}

impl Values {
    fn len(&self) -> usize {
        match self {
            Values::Nothing(count) => *count,
            Values::Boolean(values) => values.len(),
            Values::Integer(values) => values.len(),
            Values::Float(values) => values.len(),
            Values::Text(values) => values.len(),
        }
    }

    fn width(&self) -> Width {
        match self {
            Values::Nothing(_) => Width::Nothing,
            Values::Boolean(_) => Width::Boolean,
            Values::Integer(_) => Width::Integer,
            Values::Float(_) => Width::Float,
            Values::Text(_) => Width::Text,
        }
    }

    fn push(&mut self, value: Value<'_>) {
        match (&mut *self, value) {
            (Values::Nothing(count), Value::Null) => *count += 1,
            (Values::Boolean(values), Value::Null) => values.push(None),
            (Values::Integer(values), Value::Null) => values.push(None),
            (Values::Float(values), Value::Null) => values.push(f64::NAN),
            (Values::Text(values), Value::Null) => values.push(None),
            (Values::Boolean(values), Value::Boolean(value)) => values.push(Some(value)),
            (Values::Integer(values), Value::Integer(value)) => values.push(Some(value)),
            (Values::Float(values), Value::Float(value)) => values.push(value),
            (Values::Float(values), Value::Integer(value)) => values.push(value as f64),
            (Values::Text(values), value) => values.push(text_of(&value)),
            (_, value) => {
                let width = match value {
                    Value::Null => Width::Nothing,
                    Value::Boolean(_) => Width::Boolean,
                    Value::Integer(_) => Width::Integer,
                    Value::Float(_) => Width::Float,
                    Value::Text(_) => Width::Text,
                };
                self.widen(self.width().join(width));
                self.push(value);
            }
        }
    }

    fn pad_to(&mut self, rows: usize) {
        while self.len() < rows {
            self.push(Value::Null);
        }
    }

    fn widen(&mut self, width: Width) {
        if self.width() == width {
            return;
        }
        let rows = self.len();
        let texts = |values: &mut dyn Iterator<Item = Value<'_>>| values.map(|value| text_of(&value)).collect();
        *self = match (&*self, width) {
            (Values::Nothing(_), Width::Boolean) => Values::Boolean(vec![None; rows]),
            (Values::Nothing(_), Width::Integer) => Values::Integer(vec![None; rows]),
            (Values::Nothing(_), Width::Float) => Values::Float(vec![f64::NAN; rows]),
            (Values::Nothing(_), _) => Values::Text(vec![None; rows]),
            (Values::Integer(values), Width::Float) => {
                Values::Float(values.iter().map(|value| value.map_or(f64::NAN, |value| value as f64)).collect())
            }
            (Values::Boolean(values), _) => {
                Values::Text(texts(&mut values.iter().map(|value| value.map_or(Value::Null, Value::Boolean))))
            }
            (Values::Integer(values), _) => {
                Values::Text(texts(&mut values.iter().map(|value| value.map_or(Value::Null, Value::Integer))))
            }
            (Values::Float(values), _) => Values::Text(texts(
                &mut values.iter().map(|value| if value.is_nan() { Value::Null } else { Value::Float(*value) }),
            )),
            (Values::Text(values), _) => Values::Text(values.clone()),
        };
    }

    fn finish(self) -> ArrayRef {
        match self {
            Values::Nothing(rows) => Arc::new(NullArray::new(rows)),
            Values::Boolean(values) => Arc::new(BooleanArray::from(values)),
            Values::Integer(values) => Arc::new(Int64Array::from(values)),
            Values::Float(values) => Arc::new(Float64Array::from(values)),
            Values::Text(values) => Arc::new(LargeStringArray::from_iter(values)),
        }
    }
}

fn text_of(value: &Value<'_>) -> Option<Box<str>> {
    match value {
        Value::Null => None,
        Value::Boolean(value) => Some(if *value { "True" } else { "False" }.into()),
        Value::Integer(value) => Some(value.to_string().into()),
        Value::Float(value) => Some(python_float(*value).into()),
        Value::Text(text) => Some((*text).into()),
    }
}

#[derive(Debug)]
struct Column {
    name: String,
    values: Values,
    /// Some row holds an object or a list here, which is no value of this column.
    structured: bool,
    /// Lists of numbers; `None` once a row held an object or another list.
    lists: Option<Lists>,
}

/// All columns of a piece of a file.
#[derive(Debug, Default)]
pub struct Builders {
    columns: Vec<Column>,
    positions: HashMap<String, usize>,
    rows: usize,
    /// Column after the last one set: keys mostly come in the same order.
    expected: usize,
}

impl Builders {
    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn end_row(&mut self) {
        self.rows += 1;
        self.expected = 0;
    }

    fn position(&mut self, name: &str) -> usize {
        let position = match self.columns.get(self.expected) {
            Some(column) if column.name == name => self.expected,
            _ => match self.positions.get(name) {
                Some(position) => *position,
                None => {
                    self.columns.push(Column {
                        name: name.to_string(),
                        values: Values::Nothing(self.rows),
                        structured: false,
                        lists: Some(Lists::default()),
                    });
                    self.positions.insert(name.to_string(), self.columns.len() - 1);
                    self.columns.len() - 1
                }
            },
        };
        self.expected = position + 1;
        position
    }

    /// Fails where the row has a value for this column already.
    fn set(&mut self, position: usize, value: Value<'_>) -> Result<(), String> {
        let rows = self.rows;
        let column = &mut self.columns[position];
        if column.values.len() > rows {
            return Err(format!("key `{}` stands twice in one object", column.name));
        }
        column.values.pad_to(rows);
        column.values.push(value);
        Ok(())
    }

    /// One array per common column, in its order and of its type.
    pub fn finish(mut self, common: &[CommonColumn]) -> Vec<ArrayRef> {
        common
            .iter()
            .map(|column| {
                if column.lists {
                    let position = self.positions.get(&column.name);
                    let lists = position.and_then(|position| self.columns[*position].lists.take());
                    return lists.unwrap_or_default().finish(self.rows);
                }
                let mut values = match self.positions.get(&column.name) {
                    Some(position) => std::mem::replace(&mut self.columns[*position].values, Values::Nothing(0)),
                    None => Values::Nothing(0),
                };
                values.pad_to(self.rows);
                values.widen(column.width);
                values.finish()
            })
            .collect()
    }
}

/// A column of the whole file.
#[derive(Debug)]
pub struct CommonColumn {
    pub name: String,
    pub(super) width: Width,
    /// It holds lists of numbers, and nothing else.
    lists: bool,
}

impl CommonColumn {
    pub fn data_type(&self) -> DataType {
        if self.lists {
            return Lists::data_type();
        }
        match self.width {
            Width::Nothing => DataType::Null,
            Width::Boolean => DataType::Boolean,
            Width::Integer => DataType::Int64,
            Width::Float => DataType::Float64,
            Width::Text => DataType::LargeUtf8,
        }
    }
}

/// The columns of all pieces in order of first appearance, without those that only ever hold objects or lists.
pub fn common_columns(parts: &[Builders]) -> Vec<CommonColumn> {
    // With each column whether some row holds an object or a list.
    let mut common: Vec<(CommonColumn, bool)> = Vec::new();
    let mut positions: HashMap<&str, usize> = HashMap::new();
    for column in parts.iter().flat_map(|part| &part.columns) {
        let width = column.values.width();
        match positions.get(column.name.as_str()) {
            Some(&position) => {
                let (known, structured) = &mut common[position];
                known.width = known.width.join(width);
                known.lists &= column.lists.is_some();
                *structured |= column.structured;
            }
            None => {
                positions.insert(&column.name, common.len());
                let lists = column.lists.is_some();
                common.push((CommonColumn { name: column.name.clone(), width, lists }, column.structured));
            }
        }
    }
    for (column, structured) in &mut common {
        column.lists &= *structured && column.width == Width::Nothing;
    }
    common
        .into_iter()
        .filter(|(column, structured)| column.lists || !(*structured && column.width == Width::Nothing))
        .map(|(column, _)| column)
        .collect()
}

/// Reads numbers until the end (true) or until something else (false).
fn seq_of_numbers<'de, A: SeqAccess<'de>>(seq: &mut A, lists: &mut Lists) -> Result<bool, A::Error> {
    loop {
        match seq.next_element_seed(NumbersSeed(lists))? {
            None => return Ok(true),
            Some(true) => {}
            Some(false) => return Ok(false),
        }
    }
}

/// Reads one object into the builders.
pub struct RowSeed<'a>(pub &'a mut Builders);

impl<'de> DeserializeSeed<'de> for RowSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(ObjectVisitor { builders: self.0, prefix: "" })
    }
}

struct ObjectVisitor<'a> {
    builders: &'a mut Builders,
    /// Dotted path of the object, with a dot at its end; empty for the row itself.
    prefix: &'a str,
}

impl<'de> Visitor<'de> for ObjectVisitor<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(position) = map.next_key_seed(KeySeed { builders: self.builders, prefix: self.prefix })? {
            map.next_value_seed(ValueSeed { builders: self.builders, position })?;
        }
        Ok(())
    }
}

struct KeySeed<'a> {
    builders: &'a mut Builders,
    prefix: &'a str,
}

impl<'de> DeserializeSeed<'de> for KeySeed<'_> {
    type Value = usize;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<usize, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for KeySeed<'_> {
    type Value = usize;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "a key")
    }

    fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<usize, E> {
        Ok(if self.prefix.is_empty() {
            self.builders.position(key)
        } else {
            self.builders.position(&format!("{}{key}", self.prefix))
        })
    }
}

struct ValueSeed<'a> {
    builders: &'a mut Builders,
    position: usize,
}

impl ValueSeed<'_> {
    fn set<E: serde::de::Error>(self, value: Value<'_>) -> Result<(), E> {
        self.builders.set(self.position, value).map_err(E::custom)
    }
}

impl<'de> DeserializeSeed<'de> for ValueSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValueSeed<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "a JSON value")
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        self.set(Value::Null)
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<(), E> {
        self.set(Value::Boolean(value))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<(), E> {
        self.set(Value::Integer(value))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<(), E> {
        match i64::try_from(value) {
            Ok(value) => self.set(Value::Integer(value)),
            Err(_) => self.set(Value::Float(value as f64)),
        }
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<(), E> {
        self.set(Value::Float(value))
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<(), E> {
        self.set(Value::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let rows = self.builders.rows;
        let column = &mut self.builders.columns[self.position];
        column.structured = true;
        if let Some(lists) = &mut column.lists {
            if seq_of_numbers(&mut seq, lists)? {
                lists.end(rows);
                return Ok(());
            }
            column.lists = None;
        }
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        let column = &mut self.builders.columns[self.position];
        column.structured = true;
        column.lists = None;
        let prefix = format!("{}.", column.name);
        ObjectVisitor { builders: self.builders, prefix: &prefix }.visit_map(map)
    }
}
