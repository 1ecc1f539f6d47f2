//! Counters by position, in as little memory as what they hold allows.
//!
//! A profile has a thousand bins and more, and a segment's pane often a few dozen rows: most counters are 0. While few
//! are not, their positions are kept with them; then every counter has a place of its own, of 32 bits until one
//! outgrows that. What is counted never depends on which of these it is.

use super::varint::{self, Reader};

/// Most counters that positions of 16 bits can tell apart.
pub const MOST_COUNTERS: usize = 1 << 16;
/// Counting row by row shifts the entries behind a new one, so that few are worth it: this part of the counters.
const SPARSE_WHILE_COUNTING: usize = 8;
/// Merging goes through both sides once in any case: sparse as long as it takes less memory, and a little is left to
/// grow, 3 in 4.
const SPARSE_WHILE_MERGING: (usize, usize) = (3, 4);
const LARGEST_SPARSE: u64 = u16::MAX as u64;

#[derive(Debug, Clone)]
pub struct Counts {
    size: usize,
    store: Store,
}

#[derive(Debug, Clone)]
enum Store {
    /// Ascending: the position in the upper 16 bits, its count (1 to 65535) in the lower ones.
    Sparse(Vec<u32>),
    Narrow(Box<[u32]>),
    Wide(Box<[u64]>),
}

fn entry(position: usize, count: u64) -> u32 {
    (position as u32) << 16 | count as u32
}

fn position_of(entry: u32) -> usize {
    (entry >> 16) as usize
}

fn count_of(entry: u32) -> u64 {
    u64::from(entry & 0xffff)
}

impl Counts {
    /// `size` counters, all 0.
    pub fn new(size: usize) -> Self {
        let store = if size <= MOST_COUNTERS { Store::Sparse(Vec::new()) } else { Store::Wide(vec![0; size].into()) };
        Self { size, store }
    }

    /// Number of counters.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Counts one more at `position`, which must be below the size.
    #[inline]
    pub fn increment(&mut self, position: usize) {
        match &mut self.store {
            Store::Narrow(counts) if counts[position] < u32::MAX => counts[position] += 1,
            _ => self.increment_slowly(position),
        }
    }

    #[inline(never)]
    fn increment_slowly(&mut self, position: usize) {
        debug_assert!(position < self.size, "position {position} of {} counters", self.size);
        if let Store::Sparse(entries) = &mut self.store {
            match entries.binary_search_by_key(&position, |entry| position_of(*entry)) {
                Ok(at) if count_of(entries[at]) < LARGEST_SPARSE => {
                    entries[at] += 1;
                    return;
                }
                Err(at) if entries.len() < self.size / SPARSE_WHILE_COUNTING => {
                    entries.insert(at, entry(position, 1));
                    return;
                }
                _ => {}
            }
        }
        self.add(position, 1);
    }

    /// Adds `more` at `position` to a table that is not, or no longer, sparse.
    fn add(&mut self, position: usize, more: u64) {
        if let Store::Sparse(_) = self.store {
            self.spread();
        }
        if let Store::Narrow(counts) = &mut self.store {
            let sum = u64::from(counts[position]).saturating_add(more);
            match u32::try_from(sum) {
                Ok(sum) => {
                    counts[position] = sum;
                    return;
                }
                Err(_) => self.store = Store::Wide(counts.iter().map(|count| u64::from(*count)).collect()),
            }
        }
        if let Store::Wide(counts) = &mut self.store {
            // Only forged counts reach the end of 64 bits; stopping there keeps merging associative.
            counts[position] = counts[position].saturating_add(more);
        }
    }

    /// From sparse to a place for every counter.
    fn spread(&mut self) {
        if let Store::Sparse(entries) = &self.store {
            let mut counts = vec![0u32; self.size].into_boxed_slice();
            for entry in entries {
                counts[position_of(*entry)] = count_of(*entry) as u32;
            }
            self.store = Store::Narrow(counts);
        }
    }

    /// Adds the counters of `other`, which has as many.
    pub fn merge(&mut self, other: &Counts) {
        if let (Store::Sparse(mine), Store::Sparse(others)) = (&self.store, &other.store) {
            let (numerator, denominator) = SPARSE_WHILE_MERGING;
            if let Some(merged) = merge_sparse(mine, others, self.size * numerator / denominator) {
                self.store = Store::Sparse(merged);
                return;
            }
        }
        other.each(|position, count| self.add(position, count));
    }

    /// Calls `visit` with the position and count of every counter that is not 0, in order.
    #[inline]
    pub fn each(&self, mut visit: impl FnMut(usize, u64)) {
        match &self.store {
            Store::Sparse(entries) => entries.iter().for_each(|entry| visit(position_of(*entry), count_of(*entry))),
            Store::Narrow(counts) => {
                for (position, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
                    visit(position, u64::from(*count));
                }
            }
            Store::Wide(counts) => {
                for (position, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
                    visit(position, *count);
                }
            }
        }
    }

    /// All counters in order.
    pub fn to_vec(&self) -> Vec<u64> {
        let mut all = vec![0; self.size];
        self.each(|position, count| all[position] = count);
        all
    }

    pub fn total(&self) -> u64 {
        let mut total = 0u64;
        self.each(|_, count| total = total.saturating_add(count));
        total
    }

    /// Memory held outside of the struct, in bytes.
    pub fn allocated_bytes(&self) -> usize {
        match &self.store {
            Store::Sparse(entries) => entries.capacity() * size_of::<u32>(),
            Store::Narrow(counts) => size_of_val(&**counts),
            Store::Wide(counts) => size_of_val(&**counts),
        }
    }

    /// Number of counters that are not 0, then for each the distance to the one before and the count.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut filled = 0;
        self.each(|_, _| filled += 1);
        varint::write(filled, out);
        let mut next = 0;
        self.each(|position, count| {
            varint::write((position - next) as u64, out);
            varint::write(count, out);
            next = position + 1;
        });
    }

    /// Reads `size` counters; `None` where a position lies outside or a count is 0.
    pub fn decode(reader: &mut Reader<'_>, size: usize) -> Option<Self> {
        let filled = reader.varint_up_to(size as u64)? as usize;
        let mut counts = Self::new(size);
        let (numerator, denominator) = SPARSE_WHILE_MERGING;
        match &mut counts.store {
            Store::Sparse(entries) if filled <= size * numerator / denominator => entries.reserve_exact(filled),
            _ => counts.spread(),
        }
        let mut next = 0usize;
        for _ in 0..filled {
            let gap = usize::try_from(reader.varint()?).ok()?;
            let position = next.checked_add(gap).filter(|position| *position < size)?;
            let count = reader.varint().filter(|count| *count > 0)?;
            match &mut counts.store {
                Store::Sparse(entries) if count <= LARGEST_SPARSE => entries.push(entry(position, count)),
                _ => counts.add(position, count),
            }
            next = position + 1;
        }
        Some(counts)
    }
}

/// `None` where more than `most` entries or a count beyond 16 bits would come of it.
fn merge_sparse(left: &[u32], right: &[u32], most: usize) -> Option<Vec<u32>> {
    let mut merged = Vec::with_capacity((left.len() + right.len()).min(most));
    let (mut lefts, mut rights) = (left.iter().copied().peekable(), right.iter().copied().peekable());
    loop {
        let next = match (lefts.peek().copied(), rights.peek().copied()) {
            (Some(a), Some(b)) if position_of(a) == position_of(b) => {
                lefts.next();
                rights.next();
                let count = count_of(a) + count_of(b);
                if count > LARGEST_SPARSE {
                    return None;
                }
                entry(position_of(a), count)
            }
            (Some(a), b) if b.is_none_or(|b| a < b) => {
                lefts.next();
                a
            }
            (_, Some(b)) => {
                rights.next();
                b
            }
            (_, None) => break,
        };
        if merged.len() == most {
            return None;
        }
        merged.push(next);
    }
    // Where many positions were in both, half of what was reserved is spare.
    if merged.capacity() > merged.len() + merged.len() / 4 {
        merged.shrink_to_fit();
    }
    Some(merged)
}

/// Equal if they count the same, however it is kept.
impl PartialEq for Counts {
    fn eq(&self, other: &Self) -> bool {
        self.size == other.size
            && match (&self.store, &other.store) {
                (Store::Sparse(left), Store::Sparse(right)) => left == right,
                (Store::Narrow(left), Store::Narrow(right)) => left == right,
                _ => self.to_vec() == other.to_vec(),
            }
    }
}

impl Eq for Counts {}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(size: usize, positions: impl IntoIterator<Item = usize>) -> Counts {
        let mut counts = Counts::new(size);
        positions.into_iter().for_each(|position| counts.increment(position));
        counts
    }

    fn read_back(counts: &Counts) -> Counts {
        let mut bytes = Vec::new();
        counts.encode(&mut bytes);
        Counts::decode(&mut Reader::new(&bytes), counts.size()).unwrap()
    }

    #[test]
    fn the_way_of_keeping_does_not_show() {
        let size = 1_000;
        for rows in [0, 1, 100, 130, 500, 5_000] {
            let places = |seed: usize| (0..rows).map(move |row| (row * row * 7 + seed * 13) % size);
            let mut plain = vec![0u64; size];
            places(1).chain(places(2)).for_each(|place| plain[place] += 1);
            let together = counted(size, places(1).chain(places(2)));
            let mut merged = counted(size, places(1));
            merged.merge(&read_back(&counted(size, places(2))));
            for counts in [&together, &merged, &read_back(&merged)] {
                assert_eq!(counts.to_vec(), plain, "{rows} rows");
                assert_eq!(*counts, together);
                assert_eq!(counts.total(), 2 * rows as u64);
            }
        }
    }

    #[test]
    fn counts_beyond_16_and_32_bits_are_kept() {
        let mut counts = counted(10, std::iter::repeat_n(3, 65_536));
        assert_eq!(counts.to_vec()[3], 65_536);
        for _ in 0..17 {
            let twin = counts.clone();
            counts.merge(&twin);
        }
        counts.increment(3);
        assert_eq!(counts.to_vec()[3], (1 << 33) + 1);
        assert_eq!(read_back(&counts), counts);
        let mut small = counted(10, [3, 3, 9]);
        let mut many = counted(10, std::iter::repeat_n(3, 65_535));
        many.merge(&small);
        small.merge(&counted(10, std::iter::repeat_n(3, 65_535)));
        assert_eq!((many.to_vec()[3], many.to_vec()[9]), (65_537, 1));
        assert_eq!(small, many);
    }

    #[test]
    fn few_rows_take_little_memory() {
        let few = counted(1_000, (0..60).map(|row| row * 16));
        assert!(few.allocated_bytes() <= 256, "{} bytes for 60 rows", few.allocated_bytes());
        let full = counted(1_000, 0..1_000);
        assert_eq!(full.allocated_bytes(), 4_000);
    }

    #[test]
    fn bytes_that_name_no_counter_are_refused() {
        for bytes in [&[2u8, 0, 1][..], &[1, 10, 1], &[1, 0, 0], &[11]] {
            assert_eq!(Counts::decode(&mut Reader::new(bytes), 10), None, "{bytes:?}");
        }
    }
}
