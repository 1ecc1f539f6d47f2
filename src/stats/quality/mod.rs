//! Data quality: what a pane keeps of the values that were none, of rejected events and of prediction ids, and the
//! rates that follow from it.
//!
//! [`QualityProfile`] is the mergeable state, one for each pane over all events; `distinct_ids` counts repeated
//! prediction ids in bounded memory, `names` keeps a bounded list of names, `rates` turns profiles into the metrics
//! of a feature, `window` into those of a window. To add a kind of flaw: a variant of `event::Flaw` and its rate in
//! `rates`; a row in `rules::metrics`, docs/rules.md and docs/statistics.md.

mod distinct_ids;
mod names;
mod rates;
mod window;

use std::collections::BTreeMap;

pub use distinct_ids::{DistinctIds, MOST_IDS, id_hash};
pub use names::{MOST_NAMES, Names};
pub use rates::{from_flaws, from_profiles};
pub use window::WindowQuality;

pub use crate::event::{Flaw, QUALITY_FEATURE};

use super::varint::{self, Reader};

/// Version of the encoding, its first byte.
const ENCODING: u8 = 1;
/// Reasons of rejection that a profile can hold; there are fewer.
const MOST_REASONS: u64 = 64;
/// Features that a profile can hold.
const MOST_FEATURES: u64 = 100_000;

/// Events per flaw.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FlawCounts([u64; Flaw::ALL.len()]);

impl FlawCounts {
    pub fn of(&self, flaw: Flaw) -> u64 {
        self.0[flaw.index()]
    }

    fn add(&mut self, flaw: Flaw, count: u64) {
        let counter = &mut self.0[flaw.index()];
        *counter = counter.saturating_add(count);
    }

    fn total(&self) -> u64 {
        self.0.iter().fold(0, |total, count| total.saturating_add(*count))
    }

    fn merge(&mut self, other: &Self) {
        for flaw in Flaw::ALL {
            self.add(flaw, other.of(flaw));
        }
    }
}

/// Flaws of one feature. Absent keys of accepted events are not counted here: they are the missing values of the
/// feature's own profile that no other flaw explains, so an event that is whole costs nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FeatureFlaws {
    /// In events that were counted.
    pub accepted: FlawCounts,
    /// In events that went to the dead letter, whatever for.
    pub rejected: FlawCounts,
}

/// What a pane knows of the quality of its events. Mergeable by addition, in any order, to the bit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QualityProfile {
    /// Events in the dead letter whose event time could be read, by reason.
    rejected: BTreeMap<String, u64>,
    features: BTreeMap<String, FeatureFlaws>,
    /// Keys beside the features that the model does not list.
    unlisted: Names,
    ids: DistinctIds,
    /// Latest event time of the accepted events, epoch milliseconds.
    newest_ms: Option<i64>,
    delay: Delay,
}

/// From the event's time to the log's record timestamp, summed over events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Delay {
    events: u64,
    sum_ms: i128,
}

/// Bytes that [`QualityProfile::encode`] does not emit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{length} bytes are not an encoded quality profile")]
pub struct QualityError {
    pub length: usize,
}

impl QualityProfile {
    /// Takes in an accepted event. `recorded_ms`: the log's timestamp of the record, negative where it has none.
    #[inline]
    pub fn add_event(&mut self, event_time_ms: i64, recorded_ms: i64) {
        self.newest_ms = self.newest_ms.max(Some(event_time_ms));
        if recorded_ms >= 0 {
            self.delay.events += 1;
            self.delay.sum_ms += i128::from(recorded_ms) - i128::from(event_time_ms);
        }
    }

    #[inline]
    pub fn add_id(&mut self, hash: u64) {
        self.ids.add(hash, 1);
    }

    /// A flaw in an accepted event; for [`Flaw::Absent`] none of these is needed.
    pub fn add_flaw(&mut self, feature: &str, flaw: Flaw) {
        self.feature(feature).accepted.add(flaw, 1);
    }

    pub fn add_rejected(&mut self, reason: &str) {
        add_to(&mut self.rejected, reason, 1);
    }

    pub fn add_rejected_flaw(&mut self, feature: &str, flaw: Flaw) {
        self.feature(feature).rejected.add(flaw, 1);
    }

    /// A key beside the features that the model does not list, in an event that is counted or rejected.
    pub fn add_unlisted(&mut self, name: &str) {
        self.unlisted.add(name, 1);
    }

    fn feature(&mut self, feature: &str) -> &mut FeatureFlaws {
        if !self.features.contains_key(feature) {
            self.features.insert(feature.to_string(), FeatureFlaws::default());
        }
        self.features.entry(feature.to_string()).or_default()
    }

    pub fn merge(&mut self, other: &Self) {
        for (reason, count) in &other.rejected {
            add_to(&mut self.rejected, reason, *count);
        }
        for (feature, flaws) in &other.features {
            let mine = self.feature(feature);
            mine.accepted.merge(&flaws.accepted);
            mine.rejected.merge(&flaws.rejected);
        }
        self.unlisted.merge(&other.unlisted);
        self.ids.merge(&other.ids);
        self.newest_ms = self.newest_ms.max(other.newest_ms);
        self.delay.events = self.delay.events.saturating_add(other.delay.events);
        self.delay.sum_ms = self.delay.sum_ms.saturating_add(other.delay.sum_ms);
    }

    pub fn rejected(&self) -> &BTreeMap<String, u64> {
        &self.rejected
    }

    /// Rejected events, whatever for.
    pub fn rejected_events(&self) -> u64 {
        self.rejected.values().fold(0, |total, count| total.saturating_add(*count))
    }

    pub fn flaws(&self, feature: &str) -> FeatureFlaws {
        self.features.get(feature).copied().unwrap_or_default()
    }

    pub fn unlisted(&self) -> &Names {
        &self.unlisted
    }

    pub fn ids(&self) -> &DistinctIds {
        &self.ids
    }

    pub fn newest_ms(&self) -> Option<i64> {
        self.newest_ms
    }

    /// Mean time from an event to its record in the log, seconds; `None` where no record has a timestamp.
    pub fn mean_delay_seconds(&self) -> Option<f64> {
        let Delay { events, sum_ms } = self.delay;
        (events > 0).then(|| sum_ms as f64 / events as f64 / 1_000.0)
    }

    /// Memory held, in bytes, without what the allocator adds.
    pub fn allocated_bytes(&self) -> usize {
        let of_features: usize = self.features.keys().map(|name| name.len() + size_of::<FeatureFlaws>() + 48).sum();
        size_of::<Self>() + of_features + self.unlisted.allocated_bytes() + self.ids.allocated_bytes()
    }

    /// Canonical: equal profiles have equal bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![ENCODING];
        varint::write(self.rejected.len() as u64, &mut out);
        for (reason, count) in &self.rejected {
            varint::write_text(reason, &mut out);
            varint::write(*count, &mut out);
        }
        varint::write(self.features.len() as u64, &mut out);
        for (feature, flaws) in &self.features {
            varint::write_text(feature, &mut out);
            for count in flaws.accepted.0.iter().chain(&flaws.rejected.0) {
                varint::write(*count, &mut out);
            }
        }
        self.unlisted.encode(&mut out);
        self.ids.encode(&mut out);
        match self.newest_ms {
            None => out.push(0),
            Some(newest_ms) => {
                out.push(1);
                out.extend_from_slice(&newest_ms.to_le_bytes());
            }
        }
        varint::write(self.delay.events, &mut out);
        out.extend_from_slice(&self.delay.sum_ms.to_le_bytes());
        out
    }

    /// Reads what [`QualityProfile::encode`] wrote; what is allocated is bounded by the length of the bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, QualityError> {
        let mut reader = Reader::new(bytes);
        let profile = Self::read(&mut reader).filter(|_| reader.remaining() == 0);
        profile.ok_or(QualityError { length: bytes.len() })
    }

    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        if reader.byte()? != ENCODING {
            return None;
        }
        let mut profile = Self::default();
        for _ in 0..reader.varint_up_to(MOST_REASONS)? {
            let reason = reader.text()?;
            let count = reader.varint()?;
            profile.rejected.insert(reason.to_string(), count);
        }
        for _ in 0..reader.varint_up_to(MOST_FEATURES)? {
            let feature = reader.text()?;
            let mut flaws = FeatureFlaws::default();
            for counter in flaws.accepted.0.iter_mut().chain(&mut flaws.rejected.0) {
                *counter = reader.varint()?;
            }
            profile.features.insert(feature.to_string(), flaws);
        }
        profile.unlisted = Names::decode(reader)?;
        profile.ids = DistinctIds::decode(reader)?;
        profile.newest_ms = match reader.byte()? {
            0 => None,
            1 => Some(i64::from_le_bytes(reader.bytes(8)?.try_into().ok()?)),
            _ => return None,
        };
        let events = reader.varint()?;
        let sum_ms = i128::from_le_bytes(reader.bytes(16)?.try_into().ok()?);
        profile.delay = Delay { events, sum_ms };
        Some(profile)
    }
}

fn add_to(counts: &mut BTreeMap<String, u64>, name: &str, count: u64) {
    match counts.get_mut(name) {
        Some(counter) => *counter = counter.saturating_add(count),
        None => {
            counts.insert(name.to_string(), count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// One happening in a stream of events.
    #[derive(Debug, Clone)]
    enum Step {
        Event(i64, i64, u64),
        Flaw(u8, usize),
        Rejected(u8, u8, usize),
        Unlisted(u16),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (-1_000i64..1_000, -1i64..5_000, 0u64..20_000).prop_map(|(at, logged, id)| Step::Event(at, logged, id)),
            (0u8..4, 0usize..5).prop_map(|(feature, flaw)| Step::Flaw(feature, flaw)),
            (0u8..3, 0u8..4, 0usize..5).prop_map(|(reason, feature, flaw)| Step::Rejected(reason, feature, flaw)),
            (0u16..60).prop_map(Step::Unlisted),
        ]
    }

    fn take(profile: &mut QualityProfile, step: &Step) {
        match step {
            Step::Event(at, logged, id) => {
                profile.add_event(*at, *logged);
                profile.add_id(id_hash(&id.to_le_bytes()));
            }
            Step::Flaw(feature, flaw) => profile.add_flaw(&format!("f{feature}"), Flaw::ALL[*flaw]),
            Step::Rejected(reason, feature, flaw) => {
                profile.add_rejected(&format!("reason{reason}"));
                profile.add_rejected_flaw(&format!("f{feature}"), Flaw::ALL[*flaw]);
            }
            Step::Unlisted(name) => profile.add_unlisted(&format!("new{name}")),
        }
    }

    proptest! {
        /// Any split over partitions and flushes, merged in any order, gives the bytes of the whole.
        #[test]
        fn any_split_merged_in_any_order_equals_the_whole(
            steps in prop::collection::vec((step(), 0usize..5), 0..400),
            order in Just((0usize..5).collect::<Vec<_>>()).prop_shuffle(),
        ) {
            let mut whole = QualityProfile::default();
            let mut parts = vec![QualityProfile::default(); 5];
            for (step, part) in &steps {
                take(&mut whole, step);
                take(&mut parts[*part], step);
            }
            let mut merged = QualityProfile::default();
            for part in order {
                merged.merge(&QualityProfile::decode(&parts[part].encode()).unwrap());
            }
            prop_assert_eq!(merged.encode(), whole.encode());
            prop_assert_eq!(&merged, &whole);
            prop_assert_eq!(QualityProfile::decode(&whole.encode()).unwrap(), whole);
        }

        #[test]
        fn damaged_bytes_are_an_error_and_no_panic(
            steps in prop::collection::vec(step(), 0..60), cut in 0usize..4_000, at in 0usize..4_000, byte: u8,
        ) {
            let mut profile = QualityProfile::default();
            steps.iter().for_each(|step| take(&mut profile, step));
            let mut bytes = profile.encode();
            if cut < bytes.len() {
                prop_assert!(QualityProfile::decode(&bytes[..cut]).is_err());
            }
            let at = at % bytes.len();
            bytes[at] = byte;
            let _ = QualityProfile::decode(&bytes);
        }
    }

    #[test]
    fn the_mean_delay_leaves_out_records_without_a_timestamp() {
        let mut profile = QualityProfile::default();
        profile.add_event(10_000, 11_000);
        profile.add_event(10_000, 13_000);
        profile.add_event(12_000, -1);
        assert_eq!((profile.mean_delay_seconds(), profile.newest_ms()), (Some(2.0), Some(12_000)));
    }
}
