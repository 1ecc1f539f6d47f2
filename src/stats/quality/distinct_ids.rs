//! How many prediction ids repeat another, in bounded memory: a sample of ids, chosen by their hash.
//!
//! Every id whose hash lies below a threshold is kept with the number of its events; where more than [`MOST_IDS`]
//! distinct ones lie below it, the threshold is halved (adaptive sampling: Wegman; Flajolet 1990, "On adaptive
//! sampling"). Which ids are kept depends on the set of ids alone, not on the order or on how it was split: the
//! threshold of a part is never below that of the whole, so an id that the whole keeps was counted completely.

use hashbrown::HashMap;

use crate::stats::metric::MetricValue;
use crate::stats::varint::{self, Reader};

/// Distinct ids kept at most; up to this many the duplicate rate is exact.
pub const MOST_IDS: usize = 4_096;
/// Thresholds are 2^64, 2^63, ...: beyond this one nothing would be left.
const MOST_HALVINGS: u8 = 63;
/// Standard errors in the bound of an estimate: one estimate in 370 lies further off.
const BOUND_ERRORS: f64 = 3.0;
/// Where no id of the sample repeats, a share of up to this over the sampled events is still likely in one case of 370:
/// -ln(1/370), the rule of three at that level.
const NONE_FOUND: f64 = 5.9;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DistinctIds {
    /// How often the threshold was halved.
    halvings: u8,
    /// Events per hash below the threshold.
    counts: HashMap<u64, u32>,
}

impl DistinctIds {
    #[inline]
    pub fn add(&mut self, hash: u64, events: u32) {
        if !below(hash, self.halvings) {
            return;
        }
        let counter = self.counts.entry(hash).or_insert(0);
        *counter = counter.saturating_add(events);
        if self.counts.len() > MOST_IDS {
            self.halve();
        }
    }

    #[cold]
    fn halve(&mut self) {
        while self.counts.len() > MOST_IDS && self.halvings < MOST_HALVINGS {
            self.halvings += 1;
            let halvings = self.halvings;
            self.counts.retain(|hash, _| below(*hash, halvings));
        }
    }

    pub fn merge(&mut self, other: &Self) {
        if other.halvings > self.halvings {
            self.halvings = other.halvings;
            self.counts.retain(|hash, _| below(*hash, other.halvings));
        }
        for (hash, events) in &other.counts {
            self.add(*hash, *events);
        }
    }

    /// Share of the events with an id that repeat the id of another: 1 - distinct ids / events. Exact while there are
    /// at most [`MOST_IDS`] distinct ids; beyond that a ratio estimate over the sampled ids, whose bound is three
    /// standard errors (Cochran 1977, "Sampling Techniques", 2.39). `None` without ids.
    pub fn duplicate_rate(&self) -> Option<MetricValue> {
        if self.counts.is_empty() {
            return None;
        }
        let distinct = self.counts.len() as f64;
        let events = self.counts.values().map(|events| f64::from(*events)).sum::<f64>();
        let rate = (events - distinct) / events;
        let mut value = MetricValue::exact(rate);
        if self.halvings > 0 {
            let squares: f64 = self
                .counts
                .values()
                .map(|events| {
                    let residual = f64::from(*events) - 1.0 - rate * f64::from(*events);
                    residual * residual
                })
                .sum();
            value.bound = Some((BOUND_ERRORS * squares.sqrt() / events).max(NONE_FOUND / events));
        }
        Some(value)
    }

    pub(super) fn allocated_bytes(&self) -> usize {
        self.counts.capacity() * (size_of::<(u64, u32)>() + 1)
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.halvings);
        let mut sorted: Vec<(u64, u32)> = self.counts.iter().map(|(hash, events)| (*hash, *events)).collect();
        sorted.sort_unstable();
        varint::write(sorted.len() as u64, out);
        let mut previous = 0;
        for (hash, events) in sorted {
            varint::write(hash - previous, out);
            varint::write(u64::from(events), out);
            previous = hash;
        }
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        let halvings = reader.byte().filter(|halvings| *halvings <= MOST_HALVINGS)?;
        let kept = reader.varint_up_to(MOST_IDS as u64)?;
        let mut ids = Self { halvings, counts: HashMap::new() };
        let mut hash = 0u64;
        for _ in 0..kept {
            hash = hash.checked_add(reader.varint()?)?;
            let events = u32::try_from(reader.varint()?).ok().filter(|events| *events > 0)?;
            if !below(hash, halvings) || ids.counts.insert(hash, events).is_some() {
                return None;
            }
        }
        Some(ids)
    }
}

/// Whether the hash lies below 2^(64 - halvings).
#[inline]
fn below(hash: u64, halvings: u8) -> bool {
    halvings == 0 || hash >> (64 - u32::from(halvings)) == 0
}

/// A hash of 64 bits: eight bytes a step, multiplied and folded, then the finaliser of MurmurHash3. Written out because
/// it is part of the stored format: a library's hash may change with its version, or be seeded anew in every process.
#[inline]
pub fn id_hash(id: &[u8]) -> u64 {
    const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
    let fold = |hash: u64, word: u64| {
        let product = u128::from(hash ^ word) * u128::from(MULTIPLIER);
        (product as u64) ^ (product >> 64) as u64
    };
    let (words, tail) = id.as_chunks::<8>();
    let mut hash = MULTIPLIER.rotate_left(17) ^ id.len() as u64;
    for word in words {
        hash = fold(hash, u64::from_le_bytes(*word)).wrapping_add(MULTIPLIER);
    }
    let rest = tail.iter().rev().fold(0u64, |word, byte| (word << 8) | u64::from(*byte));
    hash = fold(hash, rest);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(from: u64, to: u64, events: u32) -> DistinctIds {
        let mut ids = DistinctIds::default();
        (from..to).for_each(|id| ids.add(id_hash(format!("prediction-{id}").as_bytes()), events));
        ids
    }

    #[test]
    fn the_hash_of_ids_never_changes() {
        let found: Vec<String> =
            ["", "a", "12345678", "prediction-1"].iter().map(|id| format!("{:016x}", id_hash(id.as_bytes()))).collect();
        assert_eq!(found, HASHES);
    }

    const HASHES: [&str; 4] = ["5d0d6cd15f79e4a3", "394647ba06f82ab7", "01e1cd96267450c3", "8b7f22f546d84b69"];

    #[test]
    fn few_ids_are_counted_exactly_wherever_the_second_one_comes_from() {
        let mut all = ids(0, 4_000, 1);
        assert_eq!(all.duplicate_rate(), Some(MetricValue::exact(0.0)));
        all.merge(&ids(3_000, 4_000, 1));
        assert_eq!(all.duplicate_rate(), Some(MetricValue::exact(0.2)));
        assert_eq!(DistinctIds::default().duplicate_rate(), None);
    }

    #[test]
    fn many_ids_are_estimated_within_the_bound() {
        // Every tenth id comes twice: 1 of 11 events is a repetition.
        let exact = 1.0 - 10.0 / 11.0;
        let mut beyond = 0;
        for seed in 0..200u64 {
            let mut sample = DistinctIds::default();
            for id in 0..30_000u64 {
                let events = if id % 10 == 0 { 2 } else { 1 };
                sample.add(id_hash(format!("{seed}-{id}").as_bytes()), events);
            }
            assert!(sample.counts.len() <= MOST_IDS && sample.counts.len() > MOST_IDS / 3, "{}", sample.counts.len());
            let rate = sample.duplicate_rate().unwrap();
            let (value, bound) = (rate.value.unwrap(), rate.bound.unwrap());
            assert!(bound < 0.03, "bound {bound}");
            beyond += usize::from((value - exact).abs() > bound);
        }
        // One in 370 is expected, so 0.5 of 200; five or more have a probability of 2e-4.
        assert!(beyond < 5, "{beyond} of 200 estimates lie beyond their bound");
    }

    #[test]
    fn a_sample_without_repetition_still_has_a_bound() {
        let rate = ids(0, 100_000, 1).duplicate_rate().unwrap();
        assert_eq!(rate.value, Some(0.0));
        assert!((0.001..0.005).contains(&rate.bound.unwrap()), "{rate:?}");
    }
}
