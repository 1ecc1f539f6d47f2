//! Analysis of variance between windows, and which of it is more than chance.

use std::collections::BTreeMap;

use super::sums::WindowSums;
use super::{Calibration, Cut, OwnWindows};
use crate::stats::chi_square;

/// Fewer windows say nothing.
const FEWEST_WINDOWS: usize = 8;
/// Largest probability, under independent draws, of a feature's mean square that is believed: alone, and that of
/// all the other features together. With 200 features and four mean squares each, less than one of them is taken
/// for more than chance where all of it is chance.
const BELIEVED: f64 = 1e-3;

/// So many features, and a tenth of all, that differ by themselves speak for the others.
const MANY: usize = 3;

/// One feature of one cut: its mean squares, and how sure they are.
struct Studied {
    own: OwnWindows,
    /// Sums of squares between windows and their degrees of freedom: of level and spread, or of the shares of
    /// categories; and of missing values. Each chi-square under independent draws.
    squares: Vec<(f64, f64)>,
}

/// Learned calibrations by feature, for those that have any.
pub type Learned = BTreeMap<String, Calibration>;

/// From one or several cuts of a reference: how it was cut, and for each feature the sums of its windows (in any
/// order). Features without missing values or of one value only are no evidence either way.
pub fn learn(cuts: &[(Cut, BTreeMap<String, Vec<WindowSums>>)]) -> Learned {
    let mut believed: BTreeMap<String, Vec<OwnWindows>> = BTreeMap::new();
    for (cut, features) in cuts {
        let studied: BTreeMap<&String, Studied> =
            features.iter().filter_map(|(name, windows)| Some((name, study(*cut, windows)?))).collect();
        let (alone, rest): (Vec<_>, Vec<_>) = studied.iter().partition(|(_, studied)| studied.is_beyond_chance());
        let of_rest: Vec<(f64, f64)> = rest.iter().flat_map(|(_, studied)| studied.squares.iter().copied()).collect();
        // Where many features differ by themselves, the windows do, and what the others show is no accident either.
        let many = alone.len() >= MANY && alone.len() * 10 >= studied.len();
        let together = many || chance(&of_rest) < BELIEVED;
        for (name, studied) in alone.into_iter().chain(rest.into_iter().filter(|_| together)) {
            believed.entry((*name).clone()).or_default().push(studied.own);
        }
    }
    believed.into_iter().map(|(name, own)| (name, Calibration::new(own))).collect()
}

impl Studied {
    fn is_beyond_chance(&self) -> bool {
        self.squares.iter().any(|squares| chance(&[*squares]) < BELIEVED)
    }
}

/// Probability of sums of squares at least this large together under independent draws.
fn chance(squares: &[(f64, f64)]) -> f64 {
    let (sum, dof) = squares.iter().fold((0.0, 0.0), |(sum, dof), (square, more)| (sum + square, dof + more));
    if dof > 0.0 { chi_square::survival(sum, dof) } else { 1.0 }
}

fn study(cut: Cut, windows: &[WindowSums]) -> Option<Studied> {
    let with_values: Vec<&WindowSums> = windows.iter().filter(|window| window.n > 0).collect();
    if with_values.len() < FEWEST_WINDOWS {
        return None;
    }
    let n: f64 = with_values.iter().map(|window| window.n as f64).sum();
    let dof = (with_values.len() - 1) as f64;
    let of_squares: f64 = with_values.iter().map(|window| (window.n as f64).powi(2)).sum();
    // What n windows of one size would have, in place of these of several.
    let size = (n - of_squares / n) / dof;
    if size < 1.0 {
        return None;
    }
    let between = |sum: fn(&WindowSums) -> f64| {
        let mean = with_values.iter().map(|window| sum(window)).sum::<f64>() / n;
        with_values.iter().map(|window| (sum(window) - mean * window.n as f64).powi(2) / window.n as f64).sum::<f64>()
    };
    let (level, spread) = (between(|window| window.level), between(|window| window.spread));
    let (shape, shape_dof) = shares(&with_values, n);
    let missing = missing(windows);
    let mean_square = |squares: f64, dof: f64| if squares > 0.0 && dof > 0.0 { squares / dof } else { 1.0 };
    let missing_dof = (windows.iter().filter(|window| window.rows > 0).count() - 1) as f64;
    let own = OwnWindows {
        cut,
        windows: u32::try_from(with_values.len()).unwrap_or(u32::MAX),
        size,
        level: mean_square(level, dof),
        spread: mean_square(spread, dof),
        shape: mean_square(shape, shape_dof),
        missing: mean_square(missing, missing_dof),
    };
    let mut squares = vec![(missing, missing_dof)];
    if level > 0.0 {
        squares.extend([(level, dof), (spread, dof)]);
    } else {
        squares.push((shape, shape_dof));
    }
    squares.retain(|(sum, _)| *sum > 0.0);
    Some(Studied { own, squares })
}

/// Pearson's statistic of windows against cells, brought to the mean of its chi-square law, and degrees of freedom.
fn shares(windows: &[&WindowSums], n: f64) -> (f64, f64) {
    let cells = windows.first().map_or(0, |window| window.cells.len());
    let mut total = vec![0.0; cells];
    for window in windows {
        for (sum, count) in total.iter_mut().zip(&window.cells) {
            *sum += *count as f64;
        }
    }
    let filled = total.iter().filter(|sum| **sum > 0.0).count();
    if filled < 2 {
        return (0.0, 0.0);
    }
    let statistic: f64 = windows
        .iter()
        .flat_map(|window| {
            let of_window = window.n as f64 / n;
            total.iter().zip(&window.cells).filter(|(sum, _)| **sum > 0.0).map(move |(sum, count)| {
                let expected = sum * of_window;
                (*count as f64 - expected).powi(2) / expected
            })
        })
        .sum();
    (statistic * (n - 1.0) / n, ((windows.len() - 1) * (filled - 1)) as f64)
}

/// Sum of squares of the shares of missing values between windows; 0 where there are none.
fn missing(windows: &[WindowSums]) -> f64 {
    let rows: f64 = windows.iter().map(|window| window.rows as f64).sum();
    let share = windows.iter().map(|window| (window.rows - window.n) as f64).sum::<f64>() / rows;
    let variance = share * (1.0 - share);
    if variance.is_nan() || variance <= 0.0 {
        return 0.0;
    }
    let deviation = |window: &WindowSums| (window.rows - window.n) as f64 - share * window.rows as f64;
    let filled = windows.iter().filter(|window| window.rows > 0);
    filled.map(|window| deviation(window).powi(2) / (window.rows as f64 * variance)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::calibration::Scoring;
    use crate::stats::layout::{Layout, NumericLayout};
    use crate::stats::numeric_profile::NumericProfile;
    use crate::stats::profile::{FeatureReference, Profile};
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};
    use std::sync::Arc;

    /// Windows of `rows` uniform values, each window moved by up to `sway`.
    fn windows(random: &mut StdRng, count: usize, rows: usize, sway: f64) -> Vec<WindowSums> {
        let drawn: Vec<Vec<f64>> = (0..count)
            .map(|_| {
                let moved = sway * random.random::<f64>();
                (0..rows).map(|_| moved + random.random::<f64>()).collect()
            })
            .collect();
        let mut sorted: Vec<f64> = drawn.iter().flatten().copied().collect();
        sorted.sort_by(f64::total_cmp);
        let layout = Arc::new(NumericLayout::of_sorted(&sorted));
        let profile_of = |values: &[f64]| {
            let mut profile = NumericProfile::new(&layout);
            values.iter().for_each(|value| profile.add(*value, &layout));
            Profile::Numeric(Box::new(profile))
        };
        let reference = FeatureReference {
            name: "x".into(),
            layout: Layout::Numeric(layout.clone()),
            profile: profile_of(&sorted),
            calibration: Calibration::default(),
        };
        let scoring = Scoring::of(&reference);
        drawn.iter().map(|values| scoring.window_of(&profile_of(values))).collect()
    }

    #[test]
    fn independent_draws_teach_nothing() {
        let mut random = StdRng::seed_from_u64(7);
        let features = (0..20).map(|i| (format!("x{i}"), windows(&mut random, 24, 100, 0.0))).collect();
        assert_eq!(learn(&[(Cut::Time, features)]), Learned::new());
    }

    #[test]
    fn windows_that_sway_teach_how_much() {
        let mut random = StdRng::seed_from_u64(8);
        let features = BTreeMap::from([("x".to_string(), windows(&mut random, 100, 200, 0.5))]);
        let learned = learn(&[(Cut::Time, features)]);
        let own = learned["x"].own_windows()[0];
        // A level that is uniform over 0.5 beside values uniform over 1: a fifth of the variance, 1 + 200 / 5 = 41.
        assert!((30.0..55.0).contains(&own.level), "{own:?}");
        assert!((own.size - 200.0).abs() < 1e-9 && own.windows == 100, "{own:?}");
    }

    #[test]
    fn many_small_hints_are_believed_together() {
        let mut random = StdRng::seed_from_u64(9);
        let features: BTreeMap<String, Vec<WindowSums>> =
            (0..40).map(|i| (format!("x{i}"), windows(&mut random, 24, 100, 0.07))).collect();
        let learned = learn(&[(Cut::Rows, features.clone())]);
        assert_eq!(learned.len(), 40, "all of them");
        let alone =
            |(name, windows): (String, Vec<WindowSums>)| learn(&[(Cut::Rows, BTreeMap::from([(name, windows)]))]).len();
        let alone: usize = features.into_iter().map(alone).sum();
        assert!(alone < 15, "{alone} of 40 would be believed alone");
    }
}
