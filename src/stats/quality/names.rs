//! A bounded list of names with their counts.

use std::collections::BTreeMap;

use crate::stats::varint::{self, Reader};

use super::distinct_ids::id_hash;

/// Names kept; events with another name are one count.
pub const MOST_NAMES: usize = 20;
/// Of a longer name its beginning is kept, in bytes.
const LONGEST_NAME_BYTES: usize = 128;

/// Names by how often they were met; of many those with the [`MOST_NAMES`] smallest hashes, which is a property of
/// the set and not of the order in which it was met.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// By hash, then name.
    kept: BTreeMap<(u64, String), u64>,
    rest: u64,
}

impl Names {
    pub fn add(&mut self, name: &str, count: u64) {
        let name = &name[..name.floor_char_boundary(LONGEST_NAME_BYTES)];
        let key = (id_hash(name.as_bytes()), name.to_string());
        if let Some(counter) = self.kept.get_mut(&key) {
            *counter = counter.saturating_add(count);
            return;
        }
        self.kept.insert(key, count);
        if self.kept.len() > MOST_NAMES
            && let Some((_, dropped)) = self.kept.pop_last()
        {
            self.rest = self.rest.saturating_add(dropped);
        }
    }

    pub fn merge(&mut self, other: &Self) {
        self.rest = self.rest.saturating_add(other.rest);
        for ((_, name), count) in &other.kept {
            self.add(name, *count);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    pub fn counts(&self) -> BTreeMap<String, u64> {
        self.kept.iter().map(|((_, name), count)| (name.clone(), *count)).collect()
    }

    /// Occurrences of names that are not kept; 0: all are listed.
    pub fn rest(&self) -> u64 {
        self.rest
    }

    pub(super) fn allocated_bytes(&self) -> usize {
        self.kept.keys().map(|(_, name)| name.len() + 64).sum()
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        varint::write(self.rest, out);
        varint::write(self.kept.len() as u64, out);
        for ((_, name), count) in &self.kept {
            varint::write_text(name, out);
            varint::write(*count, out);
        }
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        let mut names = Self { rest: reader.varint()?, ..Self::default() };
        for _ in 0..reader.varint_up_to(MOST_NAMES as u64)? {
            let name = reader.text().filter(|name| name.len() <= LONGEST_NAME_BYTES)?;
            let count = reader.varint()?;
            names.add(name, count);
        }
        Some(names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twenty_names_are_kept_and_every_occurrence_is_counted() {
        let mut names = Names::default();
        for round in 0..3 {
            (0..50).for_each(|i| names.add(&format!("feature_{}", (i * 7 + round) % 50), 1));
        }
        let kept: u64 = names.counts().values().sum();
        assert_eq!((names.counts().len(), kept + names.rest()), (MOST_NAMES, 150));
        assert!(names.counts().values().all(|count| *count == 3), "{:?}", names.counts());
    }

    #[test]
    fn a_long_name_is_kept_by_its_beginning() {
        let mut names = Names::default();
        names.add(&"ä".repeat(500), 1);
        assert_eq!(names.counts().keys().map(String::len).collect::<Vec<_>>(), [LONGEST_NAME_BYTES]);
    }
}
