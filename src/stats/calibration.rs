//! What a reference's own windows teach about windows that have not drifted.
//!
//! Events are not independent draws: levels follow the hour, batches arrive together. Such windows differ from each
//! other by more than the chance variation of so many rows, and a test that knows only chance calls each of them
//! drift. So the reference is cut into windows of its own, by time or in blocks of rows, and an analysis of variance
//! tells how much they differ. With W windows of m rows, the mean square between them estimates 1 + m rho (in units
//! of the variance of a row); a new window of M rows then differs from the reference of N rows with the variance
//!
//! ```text
//! 1/M + 1/N + rho (1 + 1/W)
//! ```
//!
//! and not 1/M + 1/N. rho is estimated from W windows, no more, so what is said with it follows Student's law.
//! Level, spread, shape and missing values have a rho each: seasons move the level and leave the spread alone.
//!
//! Chance makes half of all estimates positive where rho is 0. Taking them at their word would blunt every test, so a
//! feature is given its rho only where it, or all features together, show more variation than chance brings.
//! What cannot be seen is not learned: rows in random order have no autocorrelation left, and a reference of one day
//! knows no weekend.

mod learn;
mod sums;

use serde::{Deserialize, Serialize};

use super::null::Inflation;
use super::null::drift::Inflations;

pub use learn::{Learned, learn};
pub use sums::{Scoring, WindowSums};

/// How the windows were cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cut {
    /// By event time.
    Time,
    /// Every so many rows.
    Rows,
}

/// What one feature showed in one set of windows: mean squares between windows over those of chance.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnWindows {
    pub cut: Cut,
    /// W, at least 2.
    pub windows: u32,
    /// m, rows (with a value) of a window: the size that counts in an analysis of variance of unequal windows.
    pub size: f64,
    pub level: f64,
    pub spread: f64,
    /// Mean over the cells of the stability index.
    pub shape: f64,
    pub missing: f64,
}

/// The sets of windows in which a feature differed beyond chance, by size; empty: as independent draws.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Calibration {
    own: Vec<OwnWindows>,
}

/// Bits, since references are compared by content; their numbers are finite.
impl Eq for Calibration {}

impl Calibration {
    /// Sorted by size here.
    pub fn new(mut own: Vec<OwnWindows>) -> Self {
        own.sort_by(|left, right| left.size.total_cmp(&right.size));
        Self { own }
    }

    pub fn is_empty(&self) -> bool {
        self.own.is_empty()
    }

    pub fn own_windows(&self) -> &[OwnWindows] {
        &self.own
    }

    /// `None` where numbers are not those of windows.
    pub fn checked(self) -> Option<Self> {
        let tidy = |own: &OwnWindows| {
            let numbers = [own.level, own.spread, own.shape, own.missing];
            own.windows >= 2
                && own.size >= 1.0
                && own.size.is_finite()
                && numbers.iter().all(|n| *n >= 0.0 && n.is_finite())
        };
        self.own.iter().all(tidy).then_some(self)
    }

    /// For a window of `n` rows compared with a reference of `n_reference`.
    pub fn inflations(&self, n_reference: u64, n: u64) -> Inflations {
        let Some(own) = self.nearest(n) else { return Inflations::default() };
        if n_reference == 0 || n == 0 {
            return Inflations::default();
        }
        let chance = 1.0 / n_reference as f64 + 1.0 / n as f64;
        let of = |mean_square| own.inflation(mean_square, chance);
        Inflations { level: of(own.level), spread: of(own.spread), shape: of(own.shape), missing: of(own.missing) }
    }

    /// Windows cut by time, or the largest blocks that are no larger than the window: correlation between
    /// neighbouring rows averages out in larger ones, so that smaller blocks err on the safe side.
    fn nearest(&self, n: u64) -> Option<&OwnWindows> {
        let by_time = self.own.iter().find(|own| own.cut == Cut::Time);
        let smaller = || self.own.iter().rev().find(|own| own.size <= n as f64);
        by_time.or_else(smaller).or_else(|| self.own.first())
    }
}

impl OwnWindows {
    fn inflation(&self, mean_square: f64, chance: f64) -> Inflation {
        let windows = f64::from(self.windows);
        let and_the_reference = (1.0 + 1.0 / windows) / self.size;
        let extra = (mean_square - 1.0).max(0.0) * and_the_reference;
        let estimated = mean_square.max(f64::MIN_POSITIVE) * and_the_reference;
        // Satterthwaite: only the mean square is estimated, the rest is known.
        let dof = (windows - 1.0) * ((chance + extra) / estimated).powi(2);
        Inflation { factor: 1.0 + extra / chance, dof: dof.max(1.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(cut: Cut, size: f64, level: f64) -> OwnWindows {
        OwnWindows { cut, windows: 25, size, level, spread: 1.0, shape: 1.0, missing: 1.0 }
    }

    #[test]
    fn a_window_of_the_calibrated_size_is_as_wide_as_those_were() {
        let calibration = Calibration::new(vec![own(Cut::Time, 1_000.0, 5.0)]);
        let level = calibration.inflations(25_000, 1_000).level;
        // (0.001 + 0.00004 + 0.004 * 1.04) / 0.00104, with 24 degrees of freedom.
        assert!((level.factor - 5.0).abs() < 1e-9, "{level:?}");
        assert!((level.dof - 24.0).abs() < 1e-6, "{level:?}");
        let larger = calibration.inflations(25_000, 100_000).level;
        assert!(larger.factor > 80.0 && larger.dof < 24.0, "{larger:?}");
        assert_eq!(calibration.inflations(25_000, 1_000).spread.factor, 1.0);
        assert_eq!(Calibration::default().inflations(25_000, 1_000), Inflations::default());
    }

    #[test]
    fn blocks_no_larger_than_the_window_are_preferred() {
        let calibration = Calibration::new(vec![
            own(Cut::Rows, 1_024.0, 3.0),
            own(Cut::Rows, 64.0, 9.0),
            own(Cut::Rows, 4_096.0, 2.0),
        ]);
        for (n, size) in [(50, 64.0), (64, 64.0), (2_000, 1_024.0), (1_000_000, 4_096.0)] {
            assert_eq!(calibration.nearest(n).map(|own| own.size), Some(size), "window of {n}");
        }
    }

    #[test]
    fn forged_numbers_are_refused() {
        let forged = [own(Cut::Time, f64::NAN, 1.0), own(Cut::Time, 10.0, -1.0), own(Cut::Rows, 10.0, f64::INFINITY)];
        for own in forged {
            assert_eq!(Calibration::new(vec![own]).checked(), None);
        }
        assert!(Calibration::new(vec![own(Cut::Rows, 64.0, 3.0)]).checked().is_some());
    }
}
