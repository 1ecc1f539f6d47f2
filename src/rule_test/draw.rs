//! Values drawn from distributions, evenly: of n values one lies in each nth part of the distribution, in random order.
//!
//! So a window says what its distribution says, and hardly anything by chance: a test of a hundred windows has no false
//! alarm that another name would not have. The stream of numbers is SplitMix64 (Steele, Lea and Flood, 2014) and not one
//! of the crate `rand`, since that may change with its version and a test that passed must go on passing.

use sha2::{Digest, Sha256};
use statrs::distribution::{ContinuousCDF, DiscreteCDF, Normal, Poisson};

use crate::config::distribution::Shape;

/// A stream of random numbers, the same for the same seed on any machine.
pub struct Random {
    state: u64,
}

impl Random {
    /// `path` says what the numbers are for: streams with different paths have nothing to do with each other.
    pub fn of(path: &[&str]) -> Self {
        let mut hash = Sha256::new();
        for part in path {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part.as_bytes());
        }
        let digest = hash.finalize();
        Self { state: digest.iter().take(8).fold(0, |state, byte| state << 8 | u64::from(*byte)) }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 up to 1, 1 excluded.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A random order of 0 to n - 1 (Fisher and Yates).
    pub fn order(&mut self, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        for last in (1..n).rev() {
            let other = (self.unit() * (last + 1) as f64) as usize;
            order.swap(last, other);
        }
        order
    }

    /// n numbers between 0 and 1, one in each nth part, in random order.
    pub fn spread(&mut self, n: usize) -> Vec<f64> {
        let parts = self.order(n);
        parts.into_iter().map(|part| ((part as f64 + self.unit()) / n as f64).clamp(1e-12, 1.0 - 1e-12)).collect()
    }

    /// n numbers of the shape; of one that draws text, and of what only labels can be, nothing.
    pub fn numbers(&mut self, shape: &Shape, n: usize) -> Vec<f64> {
        let spread = self.spread(n);
        let map = |value: &dyn Fn(f64) -> f64| spread.iter().map(|u| value(*u)).collect();
        let normal = |mean: f64, sd: f64| Normal::new(mean, sd).ok();
        match shape {
            Shape::Normal { mean, sd } => normal(*mean, *sd).map_or_else(Vec::new, |law| map(&|u| law.inverse_cdf(u))),
            Shape::LogNormal { mean, sd } => {
                normal(*mean, *sd).map_or_else(Vec::new, |law| map(&|u| law.inverse_cdf(u).exp()))
            }
            Shape::Uniform { low, high } => map(&|u| low + u * (high - low)),
            Shape::Exponential { mean } => map(&|u| -mean * (1.0 - u).ln()),
            Shape::Poisson { mean } => {
                Poisson::new(*mean).ok().map_or_else(Vec::new, |law| map(&|u| law.inverse_cdf(u) as f64))
            }
            Shape::Bernoulli { share } => map(&|u| f64::from(u < *share)),
            Shape::Constant(number) => vec![*number; n],
            Shape::Category(_) | Shape::Choice(_) | Shape::Calibrated | Shape::Prediction { .. } => Vec::new(),
        }
    }

    /// n texts of the shape; numbers are written out.
    pub fn categories(&mut self, shape: &Shape, n: usize) -> Vec<String> {
        match shape {
            Shape::Category(name) => vec![name.clone(); n],
            Shape::Choice(choices) => {
                let spread = self.spread(n);
                spread.into_iter().map(|u| pick(choices, u).to_string()).collect()
            }
            numeric => self.numbers(numeric, n).into_iter().map(|number| number.to_string()).collect(),
        }
    }

    /// Which of n events are the `share` of them: as many as that is, rounded.
    pub fn chosen(&mut self, share: f64, n: usize) -> Vec<bool> {
        match share > 0.0 {
            true => self.order(n).into_iter().map(|place| (place as f64) < (share * n as f64).round()).collect(),
            false => vec![false; n],
        }
    }
}

fn pick(choices: &[(String, f64)], u: f64) -> &str {
    let mut left = u;
    for (name, share) in choices {
        left -= share;
        if left < 0.0 {
            return name;
        }
    }
    choices.last().map_or("", |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mean_and_sd(values: &[f64]) -> (f64, f64) {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        (mean, (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / n).sqrt())
    }

    #[test]
    fn what_is_drawn_has_the_mean_and_spread_of_its_distribution() {
        for (shape, mean, sd) in [
            (Shape::Normal { mean: 100.0, sd: 20.0 }, 100.0, 20.0),
            (Shape::LogNormal { mean: 0.0, sd: 0.5 }, (0.125_f64).exp(), 0.604),
            (Shape::Uniform { low: -1.0, high: 3.0 }, 1.0, 4.0 / 12_f64.sqrt()),
            (Shape::Exponential { mean: 5.0 }, 5.0, 5.0),
            (Shape::Poisson { mean: 3.0 }, 3.0, 3_f64.sqrt()),
            (Shape::Bernoulli { share: 0.2 }, 0.2, 0.4),
            (Shape::Constant(7.0), 7.0, 0.0),
        ] {
            let found = mean_and_sd(&Random::of(&["test"]).numbers(&shape, 2_000));
            let scale = 0.01 * (1.0 + mean.abs() + sd);
            assert!((found.0 - mean).abs() < scale && (found.1 - sd).abs() < 2.0 * scale, "{shape:?}: {found:?}");
        }
    }

    #[test]
    fn categories_come_as_often_as_their_shares_say() {
        let shape = Shape::Choice(vec![("a".into(), 0.5), ("b".into(), 0.3), ("c".into(), 0.2)]);
        let drawn = Random::of(&["test"]).categories(&shape, 1_000);
        let count = |name: &str| drawn.iter().filter(|drawn| *drawn == name).count();
        assert_eq!((count("a"), count("b"), count("c")), (500, 300, 200));
        assert_eq!(Random::of(&["x"]).chosen(0.1, 1_000).into_iter().filter(|chosen| *chosen).count(), 100);
    }

    #[test]
    fn a_stream_depends_on_its_path_and_on_nothing_else() {
        let stream = |path: &[&str]| Random::of(path).spread(5);
        assert_eq!(stream(&["a", "b"]), stream(&["a", "b"]));
        assert_ne!(stream(&["a", "b"]), stream(&["ab"]));
        // Fixed for good: a test of a rule that passed must go on passing.
        let first = Random::of(&["a"]).next();
        assert_eq!(first, Random::of(&["a"]).next());
    }
}
