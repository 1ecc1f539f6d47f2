//! Panes that can no longer change and that some moving reference still needs: kept as encoded, which is what makes
//! weeks of them affordable, and decoded where they are used.
//!
//! A reference of many panes would decode each of them for every window that closes. So the sum of every
//! [`BLOCK_PANES`] of them is remembered once it was asked for; it is the same to the bit, since panes merge exactly in
//! any order, and it is forgotten when one of its panes comes or goes.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Range;

use crate::reference::Reference;

use super::pane::{Pane, PaneError, PaneKey};
use super::result::Segment;

/// Panes whose sum is remembered: with more, less of a reference is whole blocks; with fewer, there are more blocks.
pub const BLOCK_PANES: i64 = 32;

#[derive(Debug, Default)]
pub struct History {
    panes: BTreeMap<PaneKey, Vec<u8>>,
    bytes: usize,
    /// Filled while windows are compared.
    blocks: RefCell<BTreeMap<BlockKey, Block>>,
}

/// Panes of one segment that start in [start, end).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct BlockKey {
    model: String,
    version: String,
    reference_id: String,
    segment: Segment,
    start_ms: i64,
}

#[derive(Debug, Clone)]
struct Block {
    end_ms: i64,
    /// End of the last of its panes.
    last_pane_end_ms: i64,
    /// Encoded pane; `None`: no panes.
    sum: Option<Vec<u8>>,
}

impl History {
    pub fn insert(&mut self, key: PaneKey, pane: Vec<u8>) {
        self.forget_block(&key);
        self.bytes += cost(&key, &pane);
        match self.panes.entry(key) {
            Entry::Vacant(place) => drop(place.insert(pane)),
            Entry::Occupied(mut held) => {
                self.bytes -= cost(held.key(), held.get());
                held.insert(pane);
            }
        }
    }

    pub fn remove(&mut self, key: &PaneKey) {
        self.forget_block(key);
        if let Some((key, pane)) = self.panes.remove_entry(key) {
            self.bytes -= cost(&key, &pane);
        }
    }

    pub fn get(&self, key: &PaneKey) -> Option<&[u8]> {
        self.panes.get(key).map(Vec::as_slice)
    }

    pub fn len(&self) -> usize {
        self.panes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.panes.is_empty()
    }

    /// Memory of all panes, bytes: what is encoded, keys, and their places in the map; with the sums of blocks.
    pub fn bytes(&self) -> usize {
        let sums = |block: &Block| size_of::<BlockKey>() + size_of::<Block>() + block.sum.as_ref().map_or(0, Vec::len);
        self.bytes + self.blocks.borrow().values().map(sums).sum::<usize>()
    }

    /// Adds to `into` what is wanted of the panes of its segment that start in `block`; false, and nothing is added, if
    /// one of them reaches beyond `until_ms`.
    pub fn add_block(
        &self,
        reference: &Reference,
        (version, segment): (&str, &Segment),
        block: Range<i64>,
        until_ms: i64,
        wanted: impl Fn(&str) -> bool,
        into: &mut Pane,
    ) -> Result<bool, PaneError> {
        let key = BlockKey {
            model: reference.model.clone(),
            version: version.to_string(),
            reference_id: reference.id.clone(),
            segment: segment.clone(),
            start_ms: block.start,
        };
        let mut blocks = self.blocks.borrow_mut();
        let held = match blocks.entry(key) {
            Entry::Occupied(held) if held.get().end_ms == block.end => held.into_mut(),
            Entry::Occupied(mut held) => {
                held.insert(self.sum(reference, version, segment, block)?);
                held.into_mut()
            }
            Entry::Vacant(place) => place.insert(self.sum(reference, version, segment, block)?),
        };
        if held.last_pane_end_ms > until_ms {
            return Ok(false);
        }
        if let Some(sum) = &held.sum {
            into.merge(&Pane::decode_some(reference, sum, wanted)?)?;
        }
        Ok(true)
    }

    fn sum(
        &self,
        reference: &Reference,
        version: &str,
        segment: &Segment,
        block: Range<i64>,
    ) -> Result<Block, PaneError> {
        let mut found = Block { end_ms: block.end, last_pane_end_ms: i64::MIN, sum: None };
        let mut sum: Option<Pane> = None;
        for (key, pane) in of_stretch(&self.panes, &reference.model, version, block) {
            if key.segment == *segment && key.reference_id == reference.id {
                found.last_pane_end_ms = found.last_pane_end_ms.max(key.window().end_ms);
                sum.get_or_insert_default().merge(&Pane::decode(reference, pane)?)?;
            }
        }
        found.sum = sum.map(|sum| sum.encode());
        Ok(found)
    }

    /// The block that the pane is in, if it is remembered.
    fn forget_block(&mut self, key: &PaneKey) {
        let blocks = self.blocks.get_mut();
        let last = BlockKey {
            model: key.model.clone(),
            version: key.version.clone(),
            reference_id: key.reference_id.clone(),
            segment: key.segment.clone(),
            start_ms: key.start_ms,
        };
        let before = blocks.range(..=&last).next_back().map(|(found, block)| (found.clone(), block.end_ms));
        if let Some((found, end_ms)) = before
            && (BlockKey { start_ms: key.start_ms, ..found.clone() }) == last
            && end_ms > key.start_ms
        {
            blocks.remove(&found);
        }
    }

    pub fn panes(&self) -> &BTreeMap<PaneKey, Vec<u8>> {
        &self.panes
    }
}

/// Names of one key are short; two pointers of the tree stand for its overhead.
fn cost(key: &PaneKey, pane: &[u8]) -> usize {
    let Segment { column, value } = &key.segment;
    let names = key.model.len() + key.version.len() + key.reference_id.len() + column.len() + value.len();
    size_of::<PaneKey>() + names + size_of::<Vec<u8>>() + pane.len() + 2 * size_of::<usize>()
}

/// Panes of one model in a map of them.
pub fn of_model<'a, T>(panes: &'a BTreeMap<PaneKey, T>, model: &'a str) -> impl Iterator<Item = (&'a PaneKey, &'a T)> {
    panes.range(first_key(model, "", i64::MIN)..).take_while(move |(key, _)| key.model == model)
}

/// Panes of one model version that start in [start, end).
pub fn of_stretch<'a, T>(
    panes: &'a BTreeMap<PaneKey, T>,
    model: &'a str,
    version: &'a str,
    stretch: Range<i64>,
) -> impl Iterator<Item = (&'a PaneKey, &'a T)> {
    panes
        .range(first_key(model, version, stretch.start)..)
        .take_while(move |(key, _)| key.model == model && key.version == version && key.start_ms < stretch.end)
}

/// The next version of the model after this one that has panes; the first for `None`.
pub fn next_version<'a, T>(panes: &'a BTreeMap<PaneKey, T>, model: &str, after: Option<&str>) -> Option<&'a str> {
    let from = match after {
        None => first_key(model, "", i64::MIN),
        // No name stands between a name and that name followed by the smallest character.
        Some(version) => first_key(model, &format!("{version}\0"), i64::MIN),
    };
    panes.range(from..).next().filter(|(key, _)| key.model == model).map(|(key, _)| key.version.as_str())
}

fn first_key(model: &str, version: &str, start_ms: i64) -> PaneKey {
    PaneKey {
        model: model.to_string(),
        version: version.to_string(),
        start_ms,
        pane_ms: i64::MIN,
        reference_id: String::new(),
        segment: Segment::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(version: &str, start_ms: i64) -> PaneKey {
        PaneKey { pane_ms: 10, ..first_key("fraud", version, start_ms) }
    }

    #[test]
    fn panes_are_found_by_version_and_time() {
        let mut history = History::default();
        for (version, start_ms) in [("1", 0), ("1", 10), ("1", 20), ("10", 10), ("2", 10)] {
            history.insert(key(version, start_ms), vec![1, 2, 3]);
        }
        let starts = |version, stretch| -> Vec<i64> {
            of_stretch(history.panes(), "fraud", version, stretch).map(|(key, _)| key.start_ms).collect()
        };
        assert_eq!(starts("1", 0..20), [0, 10]);
        assert_eq!(starts("1", 5..30), [10, 20]);
        assert_eq!(starts("2", 0..10), [0; 0]);
        let mut versions = Vec::new();
        while let Some(version) = next_version(history.panes(), "fraud", versions.last().copied()) {
            versions.push(version);
        }
        assert_eq!(versions, ["1", "10", "2"]);
        assert_eq!(of_model(history.panes(), "frau").count(), 0);
    }

    #[test]
    fn bytes_follow_what_is_held() {
        let mut history = History::default();
        history.insert(key("1", 0), vec![0; 100]);
        let one = history.bytes();
        history.insert(key("1", 0), vec![0; 40]);
        assert_eq!(history.bytes(), one - 60);
        history.remove(&key("1", 0));
        assert_eq!((history.bytes(), history.len()), (0, 0));
    }
}
