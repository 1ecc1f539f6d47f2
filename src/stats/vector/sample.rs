//! A bounded sample of rows that does not depend on the order in which they came: the rows with the smallest hashes
//! (bottom-k sampling, Cohen and Kaplan 2007).
//!
//! The hash takes in what tells one event from another (its time and id) beside the vector, so that equal vectors are
//! drawn one by one, in the proportion in which they occur.

use super::measure::SAMPLE_WIDTH;
use crate::stats::varint::{self, Reader};

/// Rows of a sample.
pub const SAMPLE_ROWS: usize = 500;
/// Rows held before those that cannot stay are dropped.
const HELD_ROWS: usize = 2 * SAMPLE_ROWS;

/// Hash first: the order of rows is that of the draw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SampledRow {
    pub hash: u64,
    pub row: [i8; SAMPLE_WIDTH],
}

/// The rows with the smallest hashes; a multiset, so that merging counts every row as often as it came.
#[derive(Debug, Clone, Default)]
pub struct Sample {
    /// At most [`HELD_ROWS`], unsorted beyond the settled ones.
    rows: Vec<SampledRow>,
    /// Rows with a larger hash than this cannot be among the smallest.
    largest: u64,
    full: bool,
}

impl Sample {
    #[inline]
    pub fn add(&mut self, hash: u64, row: &[i8; SAMPLE_WIDTH]) {
        if self.full && hash > self.largest {
            return;
        }
        self.rows.push(SampledRow { hash, row: *row });
        if self.rows.len() >= HELD_ROWS {
            settle(&mut self.rows);
            self.full = true;
            self.largest = self.rows.last().map_or(u64::MAX, |row| row.hash);
        }
    }

    pub fn merge(&mut self, other: &Sample) {
        for row in &other.rows {
            self.add(row.hash, &row.row);
        }
    }

    /// The sample, smallest hash first.
    pub fn rows(&self) -> Vec<SampledRow> {
        let mut rows = self.rows.clone();
        settle(&mut rows);
        rows
    }

    pub fn allocated_bytes(&self) -> usize {
        self.rows.capacity() * size_of::<SampledRow>()
    }

    /// Row count, then hashes as differences and rows byte by byte, `width` of them.
    pub fn encode(&self, width: usize, out: &mut Vec<u8>) {
        let rows = self.rows();
        varint::write(rows.len() as u64, out);
        let mut before = 0;
        for row in &rows {
            varint::write(row.hash - before, out);
            before = row.hash;
            out.extend(row.row[..width].iter().map(|entry| *entry as u8));
        }
    }

    /// `None` for bytes that [`Sample::encode`] does not emit.
    pub fn decode(reader: &mut Reader<'_>, width: usize, n: u64) -> Option<Self> {
        let length = reader.varint_up_to(SAMPLE_ROWS as u64)?;
        if length != n.min(SAMPLE_ROWS as u64) {
            return None;
        }
        let mut rows: Vec<SampledRow> = Vec::with_capacity((length as usize).min(reader.remaining()));
        let mut hash = 0u64;
        for _ in 0..length {
            hash = hash.checked_add(reader.varint()?)?;
            let mut row = [0; SAMPLE_WIDTH];
            for (into, byte) in row.iter_mut().zip(reader.bytes(width)?) {
                *into = *byte as i8;
            }
            let row = SampledRow { hash, row };
            if rows.last().is_some_and(|last| *last > row) {
                return None;
            }
            rows.push(row);
        }
        let full = rows.len() == SAMPLE_ROWS;
        let largest = rows.last().map_or(u64::MAX, |row| row.hash);
        Some(Self { rows, largest, full })
    }
}

fn settle(rows: &mut Vec<SampledRow>) {
    rows.sort_unstable();
    rows.truncate(SAMPLE_ROWS);
}

/// Equal samples are equal whatever is still held beside them.
impl PartialEq for Sample {
    fn eq(&self, other: &Self) -> bool {
        self.rows() == other.rows()
    }
}

impl Eq for Sample {}
