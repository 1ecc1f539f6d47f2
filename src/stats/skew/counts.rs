//! One feature's pairs, counted.

use std::collections::BTreeMap;

use super::compare::{Comparison, MissingReason, Outcome};
use super::examples::{Example, Examples};
use crate::stats::exact_sum::ExactSum;
use crate::stats::performance::intervals;

/// Counts of pairs of an online and an offline value of one feature. Mergeable by addition in any order, to the bit.
#[derive(Debug, Clone, Default)]
pub struct FeatureSkew {
    outcomes: [u64; Outcome::ALL.len()],
    /// Pairs of two finite numbers.
    numeric: u64,
    absolute_sum: ExactSum,
    relative_sum: ExactSum,
    largest_absolute: f64,
    largest_relative: f64,
    missing_reasons: BTreeMap<MissingReason, u64>,
    /// Pairs of which both sides say when the value is from, and those of which the online one is older.
    dated: u64,
    older_online: u64,
    examples: Examples,
}

impl FeatureSkew {
    /// `example` is called only where the pair may be kept.
    pub fn add(&mut self, comparison: Comparison, example: impl FnOnce() -> Example) {
        let outcome = comparison.outcome;
        self.outcomes[outcome as usize] += 1;
        if let Some(difference) = comparison.difference {
            self.numeric += 1;
            self.absolute_sum.add(difference.absolute);
            self.relative_sum.add(difference.relative);
            self.largest_absolute = self.largest_absolute.max(difference.absolute);
            self.largest_relative = self.largest_relative.max(difference.relative);
        }
        let relative = comparison.difference.map_or(f64::INFINITY, |difference| difference.relative);
        if outcome.is_mismatch() && self.examples.wants(outcome, relative) {
            self.examples.add(Example { outcome, relative, ..example() });
        }
    }

    /// Why the online value of a pair is missing, whether or not the offline one is there.
    pub fn add_missing_reason(&mut self, reason: MissingReason) {
        *self.missing_reasons.entry(reason).or_insert(0) += 1;
    }

    /// Whether the online value is from before the offline one, where both say when they are from: then the online
    /// store lagged behind.
    pub fn add_age(&mut self, is_older_online: bool) {
        self.dated += 1;
        self.older_online += u64::from(is_older_online);
    }

    pub fn merge(&mut self, other: &Self) {
        for (count, more) in self.outcomes.iter_mut().zip(other.outcomes) {
            *count += more;
        }
        self.numeric += other.numeric;
        self.absolute_sum.merge(&other.absolute_sum);
        self.relative_sum.merge(&other.relative_sum);
        self.largest_absolute = self.largest_absolute.max(other.largest_absolute);
        self.largest_relative = self.largest_relative.max(other.largest_relative);
        for (reason, count) in &other.missing_reasons {
            *self.missing_reasons.entry(*reason).or_insert(0) += count;
        }
        self.dated += other.dated;
        self.older_online += other.older_online;
        self.examples.merge(&other.examples);
    }

    pub fn count(&self, outcome: Outcome) -> u64 {
        self.outcomes[outcome as usize]
    }

    /// Rows of both sides that belong together.
    pub fn pairs(&self) -> u64 {
        self.outcomes.iter().sum()
    }

    /// Pairs with a value on both sides.
    pub fn compared(&self) -> u64 {
        [Outcome::Equal, Outcome::WithinTolerance, Outcome::Different].map(|outcome| self.count(outcome)).iter().sum()
    }

    /// Pairs that differ beyond the tolerance or lack the value on one side only.
    pub fn mismatches(&self) -> u64 {
        Outcome::ALL.into_iter().filter(|outcome| outcome.is_mismatch()).map(|outcome| self.count(outcome)).sum()
    }

    /// Mismatches among the pairs; `None` without any.
    pub fn mismatch_rate(&self) -> Option<f64> {
        let pairs = self.pairs();
        (pairs > 0).then(|| self.mismatches() as f64 / pairs as f64)
    }

    /// Wilson's 95% interval of the rate, as if the pairs were a sample of more.
    pub fn mismatch_interval(&self) -> Option<[f64; 2]> {
        intervals::wilson(self.mismatches() as f64, self.pairs() as f64)
    }

    /// Over all pairs of finite numbers, the equal ones too.
    pub fn mean_absolute_difference(&self) -> Option<f64> {
        (self.numeric > 0).then(|| self.absolute_sum.value() / self.numeric as f64)
    }

    pub fn mean_relative_difference(&self) -> Option<f64> {
        (self.numeric > 0).then(|| self.relative_sum.value() / self.numeric as f64)
    }

    pub fn largest_absolute_difference(&self) -> Option<f64> {
        (self.numeric > 0).then_some(self.largest_absolute)
    }

    pub fn largest_relative_difference(&self) -> Option<f64> {
        (self.numeric > 0).then_some(self.largest_relative)
    }

    pub fn missing_reasons(&self) -> &BTreeMap<MissingReason, u64> {
        &self.missing_reasons
    }

    /// Pairs whose online value is older than the offline one, of those where both say when they are from.
    pub fn older_online(&self) -> Option<(u64, u64)> {
        (self.dated > 0).then_some((self.older_online, self.dated))
    }

    pub fn examples(&self) -> &Examples {
        &self.examples
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::compare::{Tolerance, Value, compare};
    use super::*;

    type Pair = (Option<f64>, Option<f64>, u8);

    fn counted(pairs: &[Pair]) -> FeatureSkew {
        let mut skew = FeatureSkew::default();
        for (online, offline, key) in pairs {
            let value = |side: &Option<f64>| side.map_or(Value::Missing, Value::Number);
            let comparison = compare(value(online), value(offline), Tolerance { relative: 0.01, absolute: 0.0 });
            skew.add(comparison, || Example {
                outcome: comparison.outcome,
                relative: 0.0,
                key: key.to_string(),
                time_ms: None,
                online: value(online).to_string(),
                offline: value(offline).to_string(),
            });
            if online.is_none() {
                skew.add_missing_reason(MissingReason::NotFound);
            }
            skew.add_age(*key > 128);
        }
        skew
    }

    /// All that it says, bits included.
    fn told(skew: &FeatureSkew) -> String {
        let means =
            [skew.mean_absolute_difference(), skew.mean_relative_difference()].map(|mean| mean.map(f64::to_bits));
        let largest = [skew.largest_absolute_difference(), skew.largest_relative_difference()];
        let counts = (skew.outcomes, skew.older_online(), skew.mismatch_interval(), &skew.missing_reasons);
        format!("{counts:?} {means:?} {largest:?} {:?}", skew.examples)
    }

    #[test]
    fn every_pair_has_one_outcome_and_the_rate_counts_those_that_do_not_agree() {
        let pairs = [
            (Some(1.0), Some(1.0), 1),
            (Some(1.0), Some(1.005), 2),
            (Some(1.0), Some(3.0), 3),
            (None, Some(1.0), 4),
            (Some(1.0), None, 5),
            (None, None, 6),
        ];
        let skew = counted(&pairs);
        assert_eq!(Outcome::ALL.map(|outcome| skew.count(outcome)), [1; 6]);
        assert_eq!((skew.pairs(), skew.compared(), skew.mismatches()), (6, 3, 3));
        assert_eq!(skew.mismatch_rate(), Some(0.5));
        assert_eq!(skew.largest_absolute_difference(), Some(2.0));
        let examples: Vec<&str> = skew.examples().iter().map(|example| example.key.as_str()).collect();
        assert_eq!(examples, ["3", "4", "5"]);
        assert_eq!(FeatureSkew::default().mismatch_rate(), None);
    }

    fn value() -> impl Strategy<Value = Option<f64>> {
        prop_oneof![Just(None), (-8i32..8).prop_map(|value| Some(f64::from(value) / 3.0))]
    }

    proptest! {
        #[test]
        fn any_split_in_any_order_says_the_same(
            pairs in prop::collection::vec((value(), value(), any::<u8>()), 0..60),
            at in 0usize..60,
        ) {
            let (first, second) = pairs.split_at(at.min(pairs.len()));
            let mut merged = counted(second);
            merged.merge(&counted(first));
            prop_assert_eq!(told(&merged), told(&counted(&pairs)));
        }
    }
}
