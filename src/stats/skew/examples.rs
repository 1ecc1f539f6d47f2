//! A handful of pairs that do not agree, the same whatever the order they came in.

use std::cmp::Ordering;

use super::compare::Outcome;

/// Pairs kept of each kind of mismatch.
const KEPT: usize = 3;

/// One pair, as people read it.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    pub outcome: Outcome,
    /// Relative difference; infinite where the values are not two finite numbers.
    pub relative: f64,
    /// The id, or the entity's keys.
    pub key: String,
    /// When it was served, epoch milliseconds.
    pub time_ms: Option<i64>,
    pub online: String,
    pub offline: String,
}

impl Example {
    /// By kind of mismatch, then the largest difference, then by key and time.
    fn order(&self, other: &Self) -> Ordering {
        (self.outcome.cmp(&other.outcome))
            .then_with(|| other.relative.total_cmp(&self.relative))
            .then_with(|| self.key.cmp(&other.key))
            .then_with(|| self.time_ms.cmp(&other.time_ms))
            .then_with(|| self.online.cmp(&other.online))
            .then_with(|| self.offline.cmp(&other.offline))
    }
}

/// At most three pairs of each kind of mismatch.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Examples {
    sorted: Vec<Example>,
}

impl Examples {
    /// Whether a pair of this kind and difference may still get in: saves the writing of those that do not.
    pub fn wants(&self, outcome: Outcome, relative: f64) -> bool {
        let mut kept = self.sorted.iter().filter(|example| example.outcome == outcome);
        kept.nth(KEPT - 1).is_none_or(|last| relative.total_cmp(&last.relative) != Ordering::Less)
    }

    pub fn add(&mut self, example: Example) {
        let outcome = example.outcome;
        let at = self.sorted.partition_point(|kept| kept.order(&example) == Ordering::Less);
        self.sorted.insert(at, example);
        let beyond = self.sorted.iter().enumerate().filter(|(_, kept)| kept.outcome == outcome).nth(KEPT);
        if let Some((index, _)) = beyond {
            self.sorted.remove(index);
        }
    }

    pub fn merge(&mut self, other: &Self) {
        for example in &other.sorted {
            self.add(example.clone());
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = &Example> {
        self.sorted.iter()
    }
}
