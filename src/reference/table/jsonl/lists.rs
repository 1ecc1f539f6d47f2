//! Lists of numbers, row by row.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Float64Array, LargeListArray};
use datafusion::arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use datafusion::arrow::datatypes::{DataType, Field};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// The lists of a column; rows without one lie between.
#[derive(Debug, Default)]
pub(super) struct Lists {
    /// Null is NaN.
    values: Vec<f64>,
    /// Row and end of each list.
    ends: Vec<(usize, usize)>,
}

impl Lists {
    /// What was read since the last list is the list of this row.
    pub fn end(&mut self, row: usize) {
        self.ends.push((row, self.values.len()));
    }

    pub fn data_type() -> DataType {
        DataType::LargeList(Self::item())
    }

    fn item() -> Arc<Field> {
        Arc::new(Field::new_list_field(DataType::Float64, true))
    }

    /// One list a row, null where there is none.
    pub fn finish(self, rows: usize) -> ArrayRef {
        let mut offsets = Vec::with_capacity(rows + 1);
        let mut valid = vec![false; rows];
        offsets.push(0);
        let mut last = 0;
        for (row, end) in self.ends {
            // Rows before this one without a list end where the last list did.
            offsets.resize(row + 1, last);
            last = end as i64;
            offsets.push(last);
            if let Some(valid) = valid.get_mut(row) {
                *valid = true;
            }
        }
        offsets.resize(rows + 1, last);
        let values = Float64Array::from(self.values);
        let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
        Arc::new(LargeListArray::new(Self::item(), offsets, Arc::new(values), Some(NullBuffer::from(valid))))
    }
}

/// Appends one element if it is a number or null; whether it was.
pub(super) struct NumbersSeed<'a>(pub &'a mut Lists);

impl<'de> DeserializeSeed<'de> for NumbersSeed<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for NumbersSeed<'_> {
    type Value = bool;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "a JSON value")
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<bool, E> {
        self.0.values.push(value);
        Ok(true)
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<bool, E> {
        self.visit_f64(value as f64)
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<bool, E> {
        self.visit_f64(value as f64)
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<bool, E> {
        self.visit_f64(f64::NAN)
    }

    fn visit_bool<E: serde::de::Error>(self, _: bool) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<bool, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(false)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(false)
    }
}
