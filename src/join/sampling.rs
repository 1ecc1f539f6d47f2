//! How many of the predictions wait, where more come than the budget holds.
//!
//! At level L an id takes part if the first L bits of its hash are 0: one in 2^L. Whether it does depends on the id
//! alone, so a prediction and its labels are kept or left out together, and what is kept is a fair sample. The level
//! goes up when the budget is full and down when three quarters of it are empty. When it changes depends on what is
//! held, which a restart does not know until it has read everything again, so changes are stored.

use serde::{Deserialize, Serialize};

use super::table::mixed;

/// Ids are hashed to 64 bits.
const MOST_LEVELS: u8 = 63;

/// A change of the level, before the given operation of the given record of the partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    pub offset: i64,
    /// Counts predictions, then labels of the record; `u32::MAX`: after all of them.
    pub operation: u32,
    pub level: u8,
    /// The join's event time, epoch milliseconds.
    pub time_ms: i64,
}

/// The level and its changes, as they are stored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sampling {
    /// Before the first of the changes.
    base: u8,
    changes: Vec<Change>,
    /// Changes in force; those behind are still to be replayed.
    #[serde(skip)]
    in_force: usize,
}

impl Sampling {
    pub fn level(&self) -> u8 {
        self.level_before(self.in_force)
    }

    fn level_before(&self, change: usize) -> u8 {
        change.checked_sub(1).and_then(|last| self.changes.get(last)).map_or(self.base, |change| change.level)
    }

    /// Share of the ids that take part: 2^-level.
    pub fn ratio(&self) -> f64 {
        0.5_f64.powi(i32::from(self.level()))
    }

    pub fn keeps(&self, id: u128) -> bool {
        takes_part(id, self.level())
    }

    /// Whether the id has taken part all the time since `since_ms`.
    pub fn kept_since(&self, id: u128, since_ms: i64) -> bool {
        let first = self.changes.iter().take(self.in_force).take_while(|change| change.time_ms < since_ms).count();
        (first..=self.in_force).all(|change| takes_part(id, self.level_before(change)))
    }

    /// `None` at the last level.
    pub fn raised(&self) -> Option<u8> {
        (self.level() < MOST_LEVELS).then(|| self.level() + 1)
    }

    pub fn lowered(&self) -> Option<u8> {
        self.level().checked_sub(1)
    }

    /// A change that has just been decided.
    pub fn change(&mut self, change: Change) {
        self.changes.truncate(self.in_force);
        self.changes.push(change);
        self.in_force = self.changes.len();
    }

    /// Takes the next stored change, if it came at or before this operation; true: the level may have changed.
    pub fn replay(&mut self, offset: i64, operation: u32) -> bool {
        let due = |change: &Change| (change.offset, change.operation) <= (offset, operation);
        if self.changes.get(self.in_force).is_some_and(due) {
            self.in_force += 1;
            return true;
        }
        false
    }

    /// Back to how it stood before the record at `offset`, to replay what followed.
    pub fn rewind(&mut self, offset: i64) {
        self.in_force = self.changes.iter().take_while(|change| change.offset < offset).count();
    }

    /// Forgets changes before both a record and an event time.
    pub fn forget(&mut self, offset: i64, time_ms: i64) {
        let old = |change: &Change| change.offset < offset && change.time_ms < time_ms;
        let gone = self.changes.iter().take(self.in_force).take_while(|change| old(change)).count();
        self.base = self.level_before(gone);
        self.changes.drain(..gone);
        self.in_force -= gone;
    }
}

fn takes_part(id: u128, level: u8) -> bool {
    mixed(id).leading_zeros() >= u32::from(level)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(offset: i64, level: u8) -> Change {
        Change { offset, operation: 0, level, time_ms: offset * 10 }
    }

    #[test]
    fn each_level_keeps_half_of_the_one_before() {
        let mut sampling = Sampling::default();
        let ids: Vec<u128> = (0..100_000_u128).map(|index| index << 64 | 5).collect();
        let mut before: Vec<u128> = ids;
        for level in 1..6 {
            sampling.change(change(i64::from(level), level));
            let kept: Vec<u128> = before.iter().copied().filter(|id| sampling.keeps(*id)).collect();
            let share = kept.len() as f64 / before.len() as f64;
            // Five standard errors.
            assert!((share - 0.5).abs() < 2.5 / (before.len() as f64).sqrt(), "level {level} keeps {share}");
            before = kept;
        }
    }

    #[test]
    fn what_is_stored_replays_and_what_is_old_is_forgotten() {
        let mut sampling = Sampling::default();
        for (offset, level) in [(10, 1), (20, 2), (30, 1)] {
            sampling.change(change(offset, level));
        }
        let mut restored: Sampling = serde_json::from_str(&serde_json::to_string(&sampling).unwrap()).unwrap();
        restored.rewind(20);
        assert_eq!(restored.level(), 1);
        assert!(!restored.replay(19, u32::MAX) && restored.replay(20, 0) && !restored.replay(20, 1));
        assert_eq!(restored.level(), 2);
        assert!(restored.replay(31, 0));
        assert_eq!(restored, sampling);
        let left_out =
            (0..).map(|index: u128| index << 64).find(|id| !takes_part(*id, 2) && takes_part(*id, 1)).unwrap();
        assert!(sampling.keeps(left_out) && !sampling.kept_since(left_out, 250) && sampling.kept_since(left_out, 301));
        sampling.forget(25, 250);
        assert_eq!((sampling.base, sampling.changes.len(), sampling.level()), (2, 1, 1));
    }
}
