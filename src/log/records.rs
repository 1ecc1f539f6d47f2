//! The slab of records that one poll returns.

use std::sync::Arc;

/// A slab of records of one poll: keys and values stand in one buffer, so that a slab costs a handful of
/// allocations however many records it holds.
#[derive(Debug, Clone, Default)]
pub struct Records {
    topics: Vec<Arc<str>>,
    metas: Vec<RecordMeta>,
    bytes: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
struct RecordMeta {
    topic: u32,
    partition: i32,
    offset: i64,
    timestamp_ms: i64,
    key_start: usize,
    key_len: Option<u32>,
    value_len: Option<u32>,
}

/// One record of a slab. `timestamp_ms` is the broker's record timestamp (epoch milliseconds), not event time.
#[derive(Debug, Clone, Copy)]
pub struct RecordRef<'a> {
    pub topic: &'a Arc<str>,
    pub partition: i32,
    pub offset: i64,
    pub timestamp_ms: i64,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
}

impl Records {
    pub fn len(&self) -> usize {
        self.metas.len()
    }

    pub fn is_empty(&self) -> bool {
        self.metas.is_empty()
    }

    /// Room for `records` records with `bytes` bytes of keys and values.
    pub fn with_capacity(records: usize, bytes: usize) -> Self {
        Self { topics: Vec::new(), metas: Vec::with_capacity(records), bytes: Vec::with_capacity(bytes) }
    }

    /// Bytes of keys and values held.
    pub fn byte_len(&self) -> usize {
        self.bytes.len()
    }

    pub fn push(
        &mut self,
        topic: &str,
        partition: i32,
        offset: i64,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
    ) {
        let topic_index = match self.topics.iter().position(|known| &**known == topic) {
            Some(index) => index,
            None => {
                self.topics.push(topic.into());
                self.topics.len() - 1
            }
        };
        let key_start = self.bytes.len();
        self.bytes.extend_from_slice(key.unwrap_or_default());
        self.bytes.extend_from_slice(value.unwrap_or_default());
        self.metas.push(RecordMeta {
            topic: topic_index as u32,
            partition,
            offset,
            timestamp_ms,
            key_start,
            key_len: key.map(|key| key.len() as u32),
            value_len: value.map(|value| value.len() as u32),
        });
    }

    /// Appends a record of another slab.
    pub fn push_ref(&mut self, record: RecordRef<'_>) {
        self.push(record.topic, record.partition, record.offset, record.timestamp_ms, record.key, record.value);
    }

    /// Appends records `range` of another slab.
    pub fn extend_from(&mut self, other: &Records, range: std::ops::Range<usize>) {
        for meta in other.metas.get(range).unwrap_or_default() {
            self.push_ref(other.view(meta));
        }
    }

    /// The records for which `keep` holds, in the same order.
    pub fn filtered(&self, mut keep: impl FnMut(&RecordRef<'_>) -> bool) -> Self {
        let mut kept = Self::default();
        for record in self.iter().filter(|record| keep(record)) {
            kept.push_ref(record);
        }
        kept
    }

    pub fn get(&self, index: usize) -> Option<RecordRef<'_>> {
        self.metas.get(index).map(|meta| self.view(meta))
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = RecordRef<'_>> {
        self.metas.iter().map(|meta| self.view(meta))
    }

    fn view(&self, meta: &RecordMeta) -> RecordRef<'_> {
        let value_start = meta.key_start + meta.key_len.unwrap_or(0) as usize;
        let slice = |start: usize, len: Option<u32>| len.map(|len| &self.bytes[start..start + len as usize]);
        RecordRef {
            topic: &self.topics[meta.topic as usize],
            partition: meta.partition,
            offset: meta.offset,
            timestamp_ms: meta.timestamp_ms,
            key: slice(meta.key_start, meta.key_len),
            value: slice(value_start, meta.value_len),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_as_pushed_and_null_differs_from_empty() {
        type Pushed = (&'static str, i32, i64, Option<&'static [u8]>, Option<&'static [u8]>);
        let pushed: [Pushed; 5] = [
            ("a", 0, 10, Some(b"key"), Some(b"value")),
            ("b", 3, 0, None, Some(b"value only")),
            ("a", 1, 11, Some(b"tombstone"), None),
            ("b", 3, 1, Some(b""), Some(b"")),
            ("a", 0, 12, None, None),
        ];
        let mut records = Records::default();
        for (topic, partition, offset, key, value) in pushed {
            records.push(topic, partition, offset, 1_000 + offset, key, value);
        }
        let read: Vec<_> = records
            .iter()
            .map(|record| (&**record.topic, record.partition, record.offset, record.key, record.value))
            .collect();
        assert_eq!(read, pushed);
        assert_eq!(records.len(), 5);
        assert_eq!(records.byte_len(), 3 + 5 + 10 + 9);
        assert_eq!(records.get(2).map(|record| record.timestamp_ms), Some(1_011));
        assert!(records.get(5).is_none());
    }

    #[test]
    fn a_topic_name_is_stored_once_a_slab() {
        let mut records = Records::with_capacity(1_000, 1_000);
        for offset in 0..1_000 {
            records.push("only", 0, offset, 0, None, Some(b"x"));
        }
        assert_eq!(records.topics.len(), 1);
        assert_eq!(records.iter().map(|record| record.offset).sum::<i64>(), 499_500);
    }

    #[test]
    fn a_filtered_slab_keeps_order_and_bytes() {
        let mut records = Records::default();
        for offset in 0..10 {
            records.push(if offset % 2 == 0 { "even" } else { "odd" }, 0, offset, 0, None, Some(&[offset as u8]));
        }
        let kept = records.filtered(|record| &**record.topic == "odd");
        let values: Vec<_> = kept.iter().map(|record| (record.offset, record.value.map(<[u8]>::to_vec))).collect();
        let expected: Vec<_> =
            [1_i64, 3, 5, 7, 9].into_iter().map(|offset| (offset, Some(vec![offset as u8]))).collect();
        assert_eq!(values, expected);
    }
}
