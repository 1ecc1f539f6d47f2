//! One partition: records and control records by offset, open and aborted transactions, retention.

use std::collections::{HashMap, HashSet, VecDeque};

use crate::log::{OutRecord, Records, TopicPartition};

/// Number of a transaction, unique in one log.
pub(super) type TransactionNumber = u64;

/// A partition is compacted when it has grown by this factor since the last time, but not below this length.
const COMPACT_GROWTH: usize = 2;
const COMPACT_MIN_RECORDS: usize = 1_024;

/// How a topic forgets.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Retention {
    /// Most records kept.
    pub records: Option<usize>,
    /// Longest time kept.
    pub age_ms: Option<i64>,
    /// Keep the latest record of each key only.
    pub compact: bool,
}

struct Entry {
    offset: i64,
    timestamp_ms: i64,
    transaction: Option<TransactionNumber>,
    body: Body,
}

enum Body {
    Data {
        key: Option<Box<[u8]>>,
        value: Option<Box<[u8]>>,
    },
    /// The end of a transaction. It takes an offset, as in Kafka, and is never shown.
    Control,
}

#[derive(Default)]
pub(super) struct Partition {
    /// Ascending by offset, with holes where compaction took something away.
    entries: VecDeque<Entry>,
    start_offset: i64,
    next_offset: i64,
    /// Open transactions with the first offset that each has here.
    open: HashMap<TransactionNumber, i64>,
    /// Aborted transactions with the offset of their control record here.
    aborted: HashMap<TransactionNumber, i64>,
    compacted_len: usize,
    compacted_to: i64,
}

impl Partition {
    /// Earliest offset held.
    pub fn start_offset(&self) -> i64 {
        self.start_offset
    }

    /// The offset of the next record to be written.
    pub fn high_watermark(&self) -> i64 {
        self.next_offset
    }

    /// Where a reader stops: the last stable offset for read_committed, the high watermark otherwise.
    pub fn end(&self, read_committed: bool) -> i64 {
        match self.open.values().min() {
            Some(first_open) if read_committed => *first_open,
            _ => self.next_offset,
        }
    }

    pub fn append(&mut self, record: OutRecord, transaction: Option<TransactionNumber>, timestamp_ms: i64) {
        let offset = self.next_offset;
        if let Some(transaction) = transaction {
            self.open.entry(transaction).or_insert(offset);
        }
        let body =
            Body::Data { key: record.key.map(Vec::into_boxed_slice), value: record.value.map(Vec::into_boxed_slice) };
        self.entries.push_back(Entry { offset, timestamp_ms, transaction, body });
        self.next_offset += 1;
    }

    /// Ends a transaction that wrote here: a control record, and what it wrote becomes visible or never does.
    pub fn finish(&mut self, transaction: TransactionNumber, commit: bool, timestamp_ms: i64) {
        self.open.remove(&transaction);
        let offset = self.next_offset;
        self.entries.push_back(Entry { offset, timestamp_ms, transaction: Some(transaction), body: Body::Control });
        self.next_offset += 1;
        if !commit {
            self.aborted.insert(transaction, offset);
        }
    }

    /// Copies up to `max_records` visible records from `position` on; returns the position after them and after
    /// whatever is hidden behind them.
    pub fn read(
        &self,
        position: i64,
        read_committed: bool,
        max_records: usize,
        of: &TopicPartition,
        into: &mut Records,
    ) -> i64 {
        let end = self.end(read_committed);
        let first = self.entries.partition_point(|entry| entry.offset < position);
        let full = into.len() + max_records;
        for entry in self.entries.range(first..) {
            if entry.offset >= end {
                break;
            }
            if let Some((key, value)) = self.visible(entry, read_committed) {
                if into.len() >= full {
                    return entry.offset;
                }
                into.push(&of.topic, of.partition, entry.offset, entry.timestamp_ms, key, value);
            }
        }
        position.max(end)
    }

    #[allow(clippy::type_complexity)]
    fn visible<'a>(&self, entry: &'a Entry, read_committed: bool) -> Option<(Option<&'a [u8]>, Option<&'a [u8]>)> {
        let Body::Data { key, value } = &entry.body else { return None };
        let hidden = read_committed && entry.transaction.is_some_and(|number| self.aborted.contains_key(&number));
        (!hidden).then_some((key.as_deref(), value.as_deref()))
    }

    /// Forgets what `retention` allows, never anything at or after the last stable offset.
    pub fn retain(&mut self, retention: Retention, now_ms: i64) {
        if retention.compact && self.entries.len() >= COMPACT_MIN_RECORDS.max(COMPACT_GROWTH * self.compacted_len) {
            self.compact();
        }
        let stable = self.end(true);
        let too_many = |len: usize| retention.records.is_some_and(|most| len > most);
        let too_old = |entry: &Entry| retention.age_ms.is_some_and(|age_ms| entry.timestamp_ms < now_ms - age_ms);
        while let Some(first) = self.entries.front()
            && first.offset < stable
            && (too_many(self.entries.len()) || too_old(first))
        {
            self.start_offset = first.offset + 1;
            self.entries.pop_front();
        }
        let start_offset = self.start_offset;
        self.aborted.retain(|_, control_offset| *control_offset >= start_offset);
    }

    /// Keeps the latest committed record of each key. A tombstone outlives one compaction, so that a reader on
    /// its way still meets it.
    fn compact(&mut self) {
        let stable = self.end(true);
        let mut seen: HashSet<Box<[u8]>> = HashSet::new();
        let mut kept: VecDeque<Entry> = VecDeque::new();
        while let Some(entry) = self.entries.pop_back() {
            if entry.offset >= stable {
                kept.push_front(entry);
                continue;
            }
            let aborted = entry.transaction.is_some_and(|number| self.aborted.contains_key(&number));
            let keep = match &entry.body {
                Body::Control => false,
                Body::Data { .. } if aborted => false,
                Body::Data { key: None, .. } => true,
                Body::Data { key: Some(key), value } => {
                    seen.insert(key.clone()) && (value.is_some() || entry.offset >= self.compacted_to)
                }
            };
            if keep {
                kept.push_front(entry);
            }
        }
        self.entries = kept;
        self.compacted_len = self.entries.len();
        self.compacted_to = stable;
        // All control records below `stable` are gone, and with them everything that they had hidden.
        self.aborted.retain(|_, control_offset| *control_offset >= stable);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: &str, value: Option<&str>) -> OutRecord {
        OutRecord {
            key: Some(key.as_bytes().to_vec()),
            value: value.map(|value| value.as_bytes().to_vec()),
            ..OutRecord::default()
        }
    }

    fn read(partition: &Partition, read_committed: bool) -> (Vec<i64>, i64) {
        let mut records = Records::default();
        let next = partition.read(
            partition.start_offset(),
            read_committed,
            usize::MAX >> 1,
            &TopicPartition::new("t", 0),
            &mut records,
        );
        (records.iter().map(|record| record.offset).collect(), next)
    }

    #[test]
    fn the_last_stable_offset_is_the_first_of_the_oldest_open_transaction() {
        let mut partition = Partition::default();
        partition.append(record("a", Some("1")), None, 0);
        partition.append(record("b", Some("1")), Some(1), 0);
        partition.append(record("c", Some("1")), Some(2), 0);
        partition.finish(2, true, 0);
        assert_eq!(read(&partition, true), (vec![0], 1));
        assert_eq!(read(&partition, false), (vec![0, 1, 2], 4));
        partition.finish(1, false, 0);
        assert_eq!(read(&partition, true), (vec![0, 2], 5));
        assert_eq!(read(&partition, false), (vec![0, 1, 2], 5));
    }

    #[test]
    fn a_reader_that_takes_one_at_a_time_sees_what_a_greedy_one_sees() {
        let mut partition = Partition::default();
        for number in 0..20 {
            partition.append(record("k", Some("v")), Some(number), 0);
            partition.finish(number, number % 3 != 0, 0);
        }
        let (greedy, end) = read(&partition, true);
        let (mut single, mut position) = (Vec::new(), 0);
        while position < end {
            let mut records = Records::default();
            position = partition.read(position, true, 1, &TopicPartition::new("t", 0), &mut records);
            single.extend(records.iter().map(|record| record.offset));
        }
        assert_eq!(single, greedy);
    }

    #[test]
    fn compaction_keeps_the_latest_of_each_key_and_forgets_old_tombstones() {
        let mut partition = Partition::default();
        let retention = Retention { compact: true, ..Retention::default() };
        for round in 0..400 {
            for key in ["a", "b", "gone"] {
                partition.append(record(key, Some(&round.to_string())), None, 0);
            }
        }
        partition.append(record("gone", None), None, 0);
        partition.append(record("open", Some("1")), Some(7), 0);
        partition.retain(retention, 0);
        assert_eq!(read(&partition, false).0, vec![1197, 1198, 1200, 1201]);
        partition.finish(7, true, 0);
        for _ in 0..COMPACT_MIN_RECORDS {
            partition.append(record("a", Some("x")), None, 0);
        }
        partition.retain(retention, 0);
        assert_eq!(read(&partition, true).0, vec![1198, 1201, 1202 + COMPACT_MIN_RECORDS as i64]);
    }

    #[test]
    fn retention_bounds_the_records_kept_but_never_cuts_an_open_transaction() {
        let mut partition = Partition::default();
        let retention = Retention { records: Some(10), ..Retention::default() };
        for offset in 0..100 {
            partition.append(record("k", Some("v")), None, offset);
            partition.retain(retention, offset);
        }
        assert_eq!((partition.start_offset(), partition.high_watermark(), partition.entries.len()), (90, 100, 10));
        for offset in 0..30 {
            partition.append(record("k", Some("v")), Some(1), offset);
            partition.retain(retention, offset);
        }
        assert_eq!((partition.start_offset(), partition.end(true)), (100, 100));
        partition.finish(1, false, 0);
        partition.retain(retention, 0);
        assert_eq!(partition.entries.len(), 10);
        assert_eq!(read(&partition, true), (vec![], 131));
    }

    #[test]
    fn records_older_than_the_retention_go() {
        let mut partition = Partition::default();
        for timestamp_ms in 0..100 {
            partition.append(record("k", Some("v")), None, timestamp_ms);
        }
        partition.retain(Retention { age_ms: Some(20), ..Retention::default() }, 100);
        assert_eq!(partition.start_offset(), 80);
    }
}
