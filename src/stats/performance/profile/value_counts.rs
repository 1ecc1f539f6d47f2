//! Rows counted by a real value: exact while few values are different, coarser the more there are.
//!
//! Values are kept as integers in their order (the bits of a double, with the sign turned). Once more than a cap of them
//! are different, the lowest bit of every key is dropped, and again, until they fit: a key then stands for all values
//! that share its upper bits, and what is computed from the counts has a bound. The number of dropped bits is the least
//! that fits the set of values, so it depends on that set alone, and adding and merging in any order give the same to
//! the bit. What is taken back has to be counted in counts of its own, because a set that shrinks would depend on when.

use crate::stats::varint::{self, Reader};

/// New values are added to a list of this many before they are sorted in, or of this part of the keys.
const FEWEST_PENDING: usize = 32;
const MOST_PENDING: usize = 512;
const PENDING_PART: usize = 4;
/// Dropping more would leave the sign alone.
const MOST_LEVEL: u32 = 63;
const SIGN: u64 = 1 << 63;

/// Counts of `C` kinds of rows (`C` at most 7) by value.
#[derive(Debug, Clone)]
pub struct ValueCounts<const C: usize> {
    /// Most different keys.
    cap: usize,
    /// Lowest bits dropped from every key.
    level: u32,
    /// Ascending, different keys, none with all counts 0.
    entries: Vec<Entry<C>>,
    /// In any order, at the same level, keys may repeat.
    pending: Vec<Entry<C>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry<const C: usize> {
    key: u64,
    counts: [u64; C],
}

/// Rows whose value lies in [least, most]; both are equal while counts are exact.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Group<const C: usize> {
    pub least: f64,
    pub most: f64,
    pub counts: [u64; C],
}

impl<const C: usize> Group<C> {
    /// The value, or the middle of where it may be.
    pub fn value(&self) -> f64 {
        if self.least == self.most { self.least } else { self.least / 2.0 + self.most / 2.0 }
    }

    pub fn rows(&self) -> u64 {
        self.counts.iter().sum()
    }
}

/// In the order of the values; zeros of either sign are one.
fn key_of(value: f64) -> u64 {
    let bits = if value == 0.0 { 0 } else { value.to_bits() };
    if bits & SIGN == 0 { bits | SIGN } else { !bits }
}

fn value_of(key: u64) -> f64 {
    let bits = if key & SIGN == 0 { !key } else { key & !SIGN };
    // The ends of a coarse key may be no number: values themselves are finite.
    let value = f64::from_bits(bits);
    let end = if bits & SIGN == 0 { f64::MAX } else { f64::MIN };
    if value.is_finite() { value } else { end }
}

impl<const C: usize> ValueCounts<C> {
    /// Exact up to `cap` different values, at least 2.
    pub fn new(cap: usize) -> Self {
        Self { cap: cap.max(2), level: 0, entries: Vec::new(), pending: Vec::new() }
    }

    /// Adds rows with this value, which must be finite: others change nothing.
    pub fn add(&mut self, value: f64, counts: [u64; C]) {
        if !value.is_finite() || counts == [0; C] {
            return;
        }
        let key = key_of(value) >> self.level;
        if let Ok(at) = self.entries.binary_search_by_key(&key, |entry| entry.key) {
            add_counts(&mut self.entries[at].counts, &counts);
            return;
        }
        self.pending.push(Entry { key, counts });
        let wait = (self.entries.len() / PENDING_PART).clamp(FEWEST_PENDING, MOST_PENDING);
        if self.pending.len() >= wait {
            self.settle();
        }
    }

    /// Adds one row of a kind.
    #[inline]
    pub fn increment(&mut self, value: f64, kind: usize) {
        let mut counts = [0; C];
        if let Some(count) = counts.get_mut(kind) {
            *count = 1;
            self.add(value, counts);
        }
    }

    pub fn merge(&mut self, other: &Self) {
        self.raise(other.level);
        let shift = self.level - other.level;
        let theirs = other.entries.iter().chain(&other.pending);
        self.pending.extend(theirs.map(|entry| Entry { key: entry.key >> shift, counts: entry.counts }));
        self.settle();
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.pending.is_empty()
    }

    /// Whether every value is kept as it was.
    pub fn is_exact(&self) -> bool {
        self.settled().level == 0
    }

    /// Rows of each kind.
    pub fn totals(&self) -> [u64; C] {
        let mut totals = [0; C];
        for entry in self.entries.iter().chain(&self.pending) {
            add_counts(&mut totals, &entry.counts);
        }
        totals
    }

    /// Ascending.
    pub fn groups(&self) -> Vec<Group<C>> {
        let settled = self.settled();
        settled.entries.iter().map(|entry| group(entry, settled.level)).collect()
    }

    /// The groups of what is here and not in `retracted`, which must be a part of it.
    pub fn groups_without(&self, retracted: &Self) -> Vec<Group<C>> {
        let (mut kept, mut taken) = (self.settled(), retracted.settled());
        let level = kept.level.max(taken.level);
        kept.raise(level);
        taken.raise(level);
        let mut taken = taken.entries.iter().peekable();
        let mut groups = Vec::with_capacity(kept.entries.len());
        for mut entry in kept.entries {
            while taken.next_if(|other| other.key < entry.key).is_some() {}
            if let Some(other) = taken.next_if(|other| other.key == entry.key) {
                for (count, less) in entry.counts.iter_mut().zip(other.counts) {
                    *count = count.saturating_sub(less);
                }
            }
            if entry.counts != [0; C] {
                groups.push(group(&entry, level));
            }
        }
        groups
    }

    /// Memory held outside of the struct, in bytes.
    pub fn allocated_bytes(&self) -> usize {
        (self.entries.capacity() + self.pending.capacity()) * size_of::<Entry<C>>()
    }

    fn settled(&self) -> Self {
        let mut settled = self.clone();
        settled.settle();
        settled
    }

    /// Sorts in what is pending.
    fn settle(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        self.pending.sort_unstable_by_key(|entry| entry.key);
        self.pending.dedup_by(join);
        self.entries.append(&mut self.pending);
        // A stable sort finds the two runs and merges them.
        self.entries.sort_by_key(|entry| entry.key);
        self.entries.dedup_by(join);
        if self.entries.len() > self.cap {
            self.raise(self.level + self.bits_too_many());
        }
    }

    /// The least number of further bits to drop for the keys to fit.
    fn bits_too_many(&self) -> u32 {
        // Neighbours become one when all bits in which they differ are gone.
        let mut parted = [0_usize; 65];
        for pair in self.entries.windows(2) {
            let differ = u64::BITS - (pair[0].key ^ pair[1].key).leading_zeros();
            parted[differ as usize] += 1;
        }
        let mut keys = self.entries.len();
        let mut bits = 0;
        while keys > self.cap && self.level + bits < MOST_LEVEL {
            bits += 1;
            keys -= parted[bits as usize];
        }
        bits
    }

    /// Drops bits up to `level`.
    fn raise(&mut self, level: u32) {
        let bits = level.saturating_sub(self.level);
        if bits == 0 {
            return;
        }
        for entry in self.entries.iter_mut().chain(&mut self.pending) {
            entry.key >>= bits;
        }
        self.entries.dedup_by(join);
        self.level = level;
    }

    /// Level, number of keys, zero bits at the end of all keys; then by key its distance to the one before, which
    /// counts are not 0, and those counts.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let settled = self.settled();
        varint::write(u64::from(settled.level), out);
        varint::write(settled.entries.len() as u64, out);
        if settled.entries.is_empty() {
            return;
        }
        // Scores that came as single precision, or with few digits, end in zeros.
        let zeros = settled.entries.iter().map(|entry| entry.key.trailing_zeros()).min().unwrap_or(0).min(63);
        varint::write(u64::from(zeros), out);
        let mut before = 0;
        for entry in &settled.entries {
            let key = entry.key >> zeros;
            varint::write(key - before, out);
            before = key;
            encode_counts(&entry.counts, out);
        }
    }

    /// `None` for bytes that [`ValueCounts::encode`] does not emit under the same cap.
    pub fn decode(reader: &mut Reader<'_>, cap: usize) -> Option<Self> {
        let mut read = Self::new(cap);
        read.level = reader.varint_up_to(u64::from(MOST_LEVEL))? as u32;
        let keys = reader.varint_up_to(read.cap as u64)? as usize;
        if keys == 0 {
            return (read.level == 0).then_some(read);
        }
        let zeros = reader.varint_up_to(63)? as u32;
        let most = (u64::MAX >> read.level) >> zeros;
        read.entries = Vec::with_capacity(keys.min(reader.remaining() / 2 + 1));
        let mut before: Option<u64> = None;
        for _ in 0..keys {
            let step = reader.varint()?;
            let key = match before {
                Some(_) if step == 0 => return None,
                Some(before) => before.checked_add(step)?,
                None => step,
            };
            if key > most {
                return None;
            }
            before = Some(key);
            read.entries.push(Entry { key: key << zeros, counts: decode_counts(reader)? });
        }
        let least_zeros = read.entries.iter().map(|entry| entry.key.trailing_zeros()).min().unwrap_or(0).min(63);
        (least_zeros == zeros).then_some(read)
    }
}

impl<const C: usize> PartialEq for ValueCounts<C> {
    fn eq(&self, other: &Self) -> bool {
        let (mine, theirs) = (self.settled(), other.settled());
        (mine.level, &mine.entries) == (theirs.level, &theirs.entries)
    }
}

fn group<const C: usize>(entry: &Entry<C>, level: u32) -> Group<C> {
    let lowest = entry.key << level;
    Group { least: value_of(lowest), most: value_of(lowest | ((1 << level) - 1)), counts: entry.counts }
}

fn add_counts<const C: usize>(sums: &mut [u64; C], counts: &[u64; C]) {
    for (sum, count) in sums.iter_mut().zip(counts) {
        *sum = sum.saturating_add(*count);
    }
}

/// For `dedup_by`, which hands the later one first.
fn join<const C: usize>(later: &mut Entry<C>, earlier: &mut Entry<C>) -> bool {
    let same = later.key == earlier.key;
    if same {
        add_counts(&mut earlier.counts, &later.counts);
    }
    same
}

/// A byte with a bit for each count that is not 0, and the highest bit where all those are 1; else they follow.
fn encode_counts<const C: usize>(counts: &[u64; C], out: &mut Vec<u8>) {
    let present = (0..C).filter(|kind| counts[*kind] > 0).fold(0_u8, |bits, kind| bits | 1 << kind);
    let ones = counts.iter().all(|count| *count <= 1);
    out.push(present | u8::from(ones) << 7);
    if !ones {
        counts.iter().filter(|count| **count > 0).for_each(|count| varint::write(*count, out));
    }
}

fn decode_counts<const C: usize>(reader: &mut Reader<'_>) -> Option<[u64; C]> {
    let head = reader.byte()?;
    let (present, ones) = (head & 0x7f, head & 0x80 != 0);
    if present == 0 || u32::from(present) >> C != 0 {
        return None;
    }
    let mut counts = [0; C];
    for (kind, count) in counts.iter_mut().enumerate() {
        if present & 1 << kind != 0 {
            *count = if ones { 1 } else { reader.varint().filter(|count| *count > 0)? };
        }
    }
    (ones || counts.iter().any(|count| *count > 1)).then_some(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(cap: usize, values: impl IntoIterator<Item = f64>) -> ValueCounts<2> {
        let mut counts = ValueCounts::new(cap);
        values.into_iter().enumerate().for_each(|(row, value)| counts.increment(value, row % 2));
        counts
    }

    fn spread(seed: u32, rows: u32) -> impl Iterator<Item = f64> {
        (0..rows).map(move |row| (f64::from(row) * 0.754_877_666 + f64::from(seed) * 0.1).fract() - 0.3)
    }

    #[test]
    fn values_come_back_in_order_while_they_are_few() {
        let values = [0.5, -0.0, 0.0, -2.5, 1e300, 0.5];
        let groups = counted(10, values).groups();
        let plain: Vec<(f64, [u64; 2])> = groups.iter().map(|group| (group.value(), group.counts)).collect();
        assert_eq!(plain, [(-2.5, [0, 1]), (0.0, [1, 1]), (0.5, [1, 1]), (1e300, [1, 0])]);
        assert!(groups.iter().all(|group| group.least == group.most));
    }

    #[test]
    fn coarse_groups_hold_their_values() {
        let counts = counted(64, spread(1, 5_000));
        let groups = counts.groups();
        assert!(groups.len() <= 64 && groups.len() > 20, "{} groups", groups.len());
        assert_eq!(counts.totals(), [2_500, 2_500]);
        for value in spread(1, 5_000) {
            let around = groups.iter().filter(|group| group.least <= value && value <= group.most);
            assert_eq!(around.count(), 1, "{value}");
        }
    }

    #[test]
    fn order_and_parts_do_not_show() {
        let whole = counted(64, spread(1, 1_001).chain(spread(2, 300)));
        let mut merged = counted(64, []);
        for part in 0..7 {
            let mut counts = ValueCounts::<2>::new(64);
            let rows = spread(1, 1_001).chain(spread(2, 300)).enumerate().filter(|(row, _)| row % 7 == part);
            rows.for_each(|(row, value)| counts.increment(value, row % 2));
            let mut bytes = Vec::new();
            counts.encode(&mut bytes);
            merged.merge(&ValueCounts::decode(&mut Reader::new(&bytes), 64).unwrap());
        }
        assert_eq!(merged, whole);
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        merged.encode(&mut ours);
        whole.encode(&mut theirs);
        assert_eq!(ours, theirs);
    }

    #[test]
    fn what_is_taken_back_is_gone() {
        let (kept, gone) = (counted(5_000, spread(1, 400)), counted(5_000, spread(2, 400)));
        let mut all = kept.clone();
        all.merge(&gone);
        assert_eq!(all.groups_without(&gone), kept.groups());
        assert!(all.groups_without(&all).is_empty());
    }

    #[test]
    fn damaged_bytes_are_refused() {
        let mut bytes = Vec::new();
        counted(64, spread(1, 40)).encode(&mut bytes);
        for length in 0..bytes.len() {
            assert_eq!(ValueCounts::<2>::decode(&mut Reader::new(&bytes[..length]), 64), None, "{length} bytes");
        }
        for forged in [&[64, 1][..], &[3, 0], &[0, 1, 0, 5, 0], &[0, 1, 0, 5, 0x84], &[0, 1, 0, 4, 0x81], &[0, 65]] {
            assert_eq!(ValueCounts::<2>::decode(&mut Reader::new(forged), 64), None, "{forged:?}");
        }
    }
}
