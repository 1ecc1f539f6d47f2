//! The waiting predictions of one model in one partition, found by their id.
//!
//! A hash table of numbers, five bytes a slot, points into chunks of entries of 64 bytes: as it fills from 0.44 to 0.88
//! an entry takes 76 to 70 bytes. A map from ids to entries would take up to 184, and twice its size while it grows.

use hashbrown::HashTable;

use super::slab::NONE;

/// Entries of a chunk: memory grows by 64 KiB at a time.
const CHUNK: usize = 1024;

/// A prediction, or what is remembered of one, or a label without prediction yet.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    id: [u64; 2],
    /// Of the record that made the entry.
    pub first_offset: i64,
    /// Of the prediction, epoch milliseconds.
    pub event_time_ms: i64,
    /// Score, or value of a regression; NaN: missing.
    pub primary: f64,
    /// Where the prediction counts: a number, `NONE` before the prediction has come, or `FORGOTTEN`.
    pub context: u32,
    /// Predicted class; `NONE` without.
    pub class: u32,
    /// Further values of the prediction: a number in a slab, or `NONE`.
    pub further: u32,
    /// The label and when it came: a number in a slab, or `NONE`.
    pub label: u32,
    /// Seconds that the entry is remembered beyond the prediction's own delay.
    pub extension_s: u32,
    /// Next entry of the same queue, or of the free list.
    pub next: u32,
}

/// The context of an entry whose prediction is past its delay: kept so that its labels are told apart from labels
/// without prediction.
pub const FORGOTTEN: u32 = NONE - 1;

impl Entry {
    pub fn new(id: u128, first_offset: i64) -> Self {
        Self {
            id: [id as u64, (id >> 64) as u64],
            first_offset,
            event_time_ms: 0,
            primary: f64::NAN,
            context: NONE,
            class: NONE,
            further: NONE,
            label: NONE,
            extension_s: 0,
            next: NONE,
        }
    }

    pub fn id(&self) -> u128 {
        u128::from(self.id[0]) | u128::from(self.id[1]) << 64
    }

    /// A prediction waits here, or is kept for a corrected label.
    pub fn is_predicted(&self) -> bool {
        self.context < FORGOTTEN
    }
}

/// Spreads an id over 64 bits that say nothing of the partition or of `labels.sample`: the finaliser of SplitMix64
/// (Steele, Lea and Flood 2014) over both halves.
pub fn mixed(id: u128) -> u64 {
    let mut bits = (id as u64) ^ ((id >> 64) as u64).rotate_left(32);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

fn entry(chunks: &[Vec<Entry>], number: u32) -> &Entry {
    &chunks[number as usize / CHUNK][number as usize % CHUNK]
}

#[derive(Debug)]
pub struct Table {
    chunks: Vec<Vec<Entry>>,
    free: u32,
    numbers: HashTable<u32>,
}

impl Default for Table {
    fn default() -> Self {
        Self { chunks: Vec::new(), free: NONE, numbers: HashTable::new() }
    }
}

impl Table {
    pub fn len(&self) -> usize {
        self.numbers.len()
    }

    pub fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }

    /// Memory of entries and index, bytes.
    pub fn allocated_bytes(&self) -> usize {
        self.chunks.len() * CHUNK * size_of::<Entry>() + self.numbers.allocation_size()
    }

    pub fn entry(&self, number: u32) -> &Entry {
        entry(&self.chunks, number)
    }

    pub fn entry_mut(&mut self, number: u32) -> &mut Entry {
        &mut self.chunks[number as usize / CHUNK][number as usize % CHUNK]
    }

    pub fn find(&self, id: u128) -> Option<u32> {
        self.numbers.find(mixed(id), |number| entry(&self.chunks, *number).id() == id).copied()
    }

    /// Takes in an entry whose id is not there yet.
    pub fn insert(&mut self, new: Entry) -> u32 {
        let number = self.place(new);
        let chunks = &self.chunks;
        self.numbers.insert_unique(mixed(new.id()), number, |number| mixed(entry(chunks, *number).id()));
        number
    }

    fn place(&mut self, entry: Entry) -> u32 {
        if self.free != NONE {
            let number = self.free;
            self.free = self.entry(number).next;
            *self.entry_mut(number) = entry;
            return number;
        }
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        let before = (self.chunks.len() - 1) * CHUNK;
        let Some(chunk) = self.chunks.last_mut() else { return NONE };
        chunk.push(entry);
        (before + chunk.len() - 1) as u32
    }

    pub fn remove(&mut self, number: u32) {
        let hash = mixed(self.entry(number).id());
        if let Ok(slot) = self.numbers.find_entry(hash, |held| *held == number) {
            slot.remove();
            let free = self.free;
            self.entry_mut(number).next = free;
            self.free = number;
        }
    }

    /// Numbers of all entries.
    pub fn numbers(&self) -> Vec<u32> {
        self.numbers.iter().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn it_finds_what_a_map_finds_after_any_inserts_and_removals() {
        let (mut table, mut expected) = (Table::default(), BTreeMap::new());
        let mut random = 7_u64;
        for step in 0..40_000_i64 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // Few distinct ids, so that they come and go; equal low bits, as within one partition.
            let id = u128::from(random >> 52) << 70 | 3;
            match table.find(id) {
                Some(number) => {
                    assert_eq!(expected.remove(&id), Some(table.entry(number).first_offset));
                    table.remove(number);
                }
                None => {
                    assert_eq!(expected.insert(id, step), None);
                    table.insert(Entry::new(id, step));
                }
            }
            assert_eq!(table.len(), expected.len());
        }
        assert!(expected.len() > 1_000, "{} ids left", expected.len());
        for (id, first_offset) in &expected {
            assert_eq!(table.find(*id).map(|number| table.entry(number).first_offset), Some(*first_offset));
        }
        let mut held: Vec<u128> = table.numbers().iter().map(|number| table.entry(*number).id()).collect();
        held.sort_unstable();
        assert_eq!(held, expected.into_keys().collect::<Vec<_>>());
    }

    #[test]
    fn an_entry_takes_at_most_seventy_seven_bytes() {
        let mut table = Table::default();
        for count in 1..=300_000_u128 {
            table.insert(Entry::new(count << 64, 0));
            if count >= 50_000 {
                let bytes = table.allocated_bytes() as f64 / count as f64;
                assert!(bytes <= 77.0, "{bytes} bytes an entry at {count}");
            }
        }
    }
}
