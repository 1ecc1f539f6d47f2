//! What a pane keeps of a categorical feature: counts per reference category, and of what the reference never saw.

use std::collections::BTreeMap;

use hashbrown::HashMap;

use super::counts::Counts;
use super::layout::CategoricalLayout;
use super::varint::{self, Reader};

/// Most unseen categories counted one by one; memory is bounded whatever a broken producer writes.
pub const MOST_UNSEEN: usize = 1_000;
/// Longest unseen category kept by name, in bytes; of a longer one its beginning is.
pub const LONGEST_UNSEEN_BYTES: usize = 256;

/// Mergeable by addition in any order, to the bit.
///
/// Of unseen categories those with the [`MOST_UNSEEN`] smallest hashes are kept, and the rest is one mass. Which
/// ones these are is a property of the set, not of the order: a category among the smallest of all was among the
/// smallest of every part it occurred in, so it was never dropped and its count is complete; every other one ends in
/// the rest, sooner or later.
#[derive(Debug, Clone)]
pub struct CategoricalProfile {
    counts: Counts,
    nulls: u64,
    unseen: HashMap<Box<str>, u64>,
    /// The kept categories in the order of their hashes; the last is the next to go.
    by_hash: BTreeMap<(u64, Box<str>), ()>,
    unseen_rest: u64,
}

impl PartialEq for CategoricalProfile {
    fn eq(&self, other: &Self) -> bool {
        self.counts == other.counts
            && self.nulls == other.nulls
            && self.unseen == other.unseen
            && self.unseen_rest == other.unseen_rest
    }
}

impl Eq for CategoricalProfile {}

impl CategoricalProfile {
    pub fn new(layout: &CategoricalLayout) -> Self {
        Self {
            counts: Counts::new(layout.categories().len()),
            nulls: 0,
            unseen: HashMap::new(),
            by_hash: BTreeMap::new(),
            unseen_rest: 0,
        }
    }

    #[inline]
    pub fn add(&mut self, category: &str, layout: &CategoricalLayout) {
        match layout.position(category) {
            Some(position) => self.counts.increment(position),
            None => self.add_unseen(beginning(category), 1),
        }
    }

    /// Adds to a category by its position in the layout.
    #[inline]
    pub fn add_position(&mut self, position: usize) {
        self.counts.increment(position);
    }

    #[inline]
    pub fn add_nulls(&mut self, count: u64) {
        self.nulls += count;
    }

    fn add_unseen(&mut self, category: &str, count: u64) {
        if let Some(counter) = self.unseen.get_mut(category) {
            *counter = counter.saturating_add(count);
            return;
        }
        let hash = stable_hash(category);
        if self.unseen.len() >= MOST_UNSEEN {
            let Some((last, ())) = self.by_hash.last_key_value() else { return };
            if (last.0, &*last.1) < (hash, category) {
                self.unseen_rest = self.unseen_rest.saturating_add(count);
                return;
            }
            if let Some(((_, dropped), ())) = self.by_hash.pop_last() {
                let mass = self.unseen.remove(&dropped).unwrap_or(0);
                self.unseen_rest = self.unseen_rest.saturating_add(mass);
            }
        }
        self.unseen.insert(category.into(), count);
        self.by_hash.insert((hash, category.into()), ());
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.counts.merge(&other.counts);
        self.nulls = self.nulls.saturating_add(other.nulls);
        self.unseen_rest = self.unseen_rest.saturating_add(other.unseen_rest);
        for (category, count) in &other.unseen {
            self.add_unseen(category, *count);
        }
    }

    /// Rows per category of the layout, in its order; laid out anew by every call.
    pub fn counts(&self) -> Vec<u64> {
        self.counts.to_vec()
    }

    /// Number of categories of the layout.
    pub fn categories(&self) -> usize {
        self.counts.size()
    }

    /// Non-missing values.
    pub fn n(&self) -> u64 {
        self.counts.total().saturating_add(self.unseen_mass())
    }

    pub fn missing(&self) -> u64 {
        self.nulls
    }

    /// Rows in categories that the layout does not list.
    pub fn unseen_mass(&self) -> u64 {
        self.unseen.values().fold(self.unseen_rest, |total, count| total.saturating_add(*count))
    }

    /// Unseen categories that are counted one by one, by name.
    pub fn unseen(&self) -> BTreeMap<&str, u64> {
        self.unseen.iter().map(|(category, count)| (&**category, *count)).collect()
    }

    /// Rows of unseen categories beyond the [`MOST_UNSEEN`] kept; 0: all are listed.
    pub fn unseen_rest(&self) -> u64 {
        self.unseen_rest
    }

    /// Memory held outside of the struct, in bytes; an unseen category is its name twice, its counter, and the two
    /// tables' own.
    pub(super) fn allocated_bytes(&self) -> usize {
        self.counts.allocated_bytes() + self.unseen.keys().map(|category| 2 * category.len() + 96).sum::<usize>()
    }

    /// Number of distinct unseen categories: exact while all are listed, else estimated from how densely the kept
    /// hashes lie (k minimum values; Bar-Yossef et al. 2002; relative error about 1/sqrt(1000)).
    pub fn unseen_categories(&self) -> u64 {
        let kept = self.unseen.len() as u64;
        match self.by_hash.last_key_value() {
            Some(((largest, _), ())) if self.unseen_rest > 0 => {
                let estimate = (kept - 1) as f64 / ((*largest as f64 + 1.0) / 2f64.powi(64));
                (estimate as u64).clamp(kept + 1, kept.saturating_add(self.unseen_rest))
            }
            _ => kept,
        }
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        varint::write(self.counts.size() as u64, out);
        varint::write(self.nulls, out);
        self.counts.encode(out);
        varint::write(self.unseen_rest, out);
        let unseen = self.unseen();
        varint::write(unseen.len() as u64, out);
        for (category, count) in unseen {
            varint::write(category.len() as u64, out);
            out.extend_from_slice(category.as_bytes());
            varint::write(count, out);
        }
    }

    /// `None` for bytes that [`CategoricalProfile::encode`] does not emit under this layout.
    pub(super) fn decode(reader: &mut Reader<'_>, layout: &CategoricalLayout) -> Option<Self> {
        let mut profile = Self::new(layout);
        if reader.varint()? != layout.categories().len() as u64 {
            return None;
        }
        profile.nulls = reader.varint()?;
        profile.counts = Counts::decode(reader, layout.categories().len())?;
        profile.unseen_rest = reader.varint()?;
        let kept = reader.varint_up_to(MOST_UNSEEN as u64)? as usize;
        if profile.unseen_rest > 0 && kept < MOST_UNSEEN {
            return None;
        }
        let mut previous: Option<&str> = None;
        for _ in 0..kept {
            let length = reader.varint_up_to(LONGEST_UNSEEN_BYTES as u64)? as usize;
            let category = std::str::from_utf8(reader.bytes(length)?).ok()?;
            let count = reader.varint().filter(|count| *count > 0)?;
            if previous.is_some_and(|previous| previous >= category) {
                return None;
            }
            previous = Some(category);
            profile.add_unseen(category, count);
        }
        Some(profile)
    }
}

/// The first [`LONGEST_UNSEEN_BYTES`] bytes, cut at a character.
fn beginning(category: &str) -> &str {
    &category[..category.floor_char_boundary(LONGEST_UNSEEN_BYTES)]
}

/// FNV-1a, then the finaliser of MurmurHash3 so that the order is that of chance. Written out because it is part of
/// the stored format: a library's hash may change with its version, or be seeded anew in every process.
fn stable_hash(text: &str) -> u64 {
    let mut hash = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stable_hash_never_changes() {
        assert_eq!(stable_hash(""), 0xefd01f60ba992926);
        assert_eq!(stable_hash("zz_new"), 0x58f78558e306986b);
    }

    #[test]
    fn the_number_of_unseen_categories_is_estimated_beyond_those_kept() {
        let layout = CategoricalLayout::of_counts(vec![("a".into(), 1)]);
        let mut profile = CategoricalProfile::new(&layout);
        (0..50_000).for_each(|i| profile.add(&format!("user-{i}"), &layout));
        let estimate = profile.unseen_categories();
        assert!((45_000..=50_000).contains(&estimate), "estimate {estimate} of 50000");
        assert_eq!((profile.n(), profile.unseen().len()), (50_000, MOST_UNSEEN));
    }

    #[test]
    fn a_long_category_is_kept_by_its_beginning() {
        let layout = CategoricalLayout::of_counts(vec![("a".into(), 1)]);
        let mut profile = CategoricalProfile::new(&layout);
        profile.add(&"é".repeat(1_000), &layout);
        profile.add("", &layout);
        let lengths: Vec<usize> = profile.unseen().keys().map(|category| category.len()).collect();
        assert_eq!(lengths, vec![0, LONGEST_UNSEEN_BYTES]);
    }
}
