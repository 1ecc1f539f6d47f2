//! Whether two distributions over the same categories differ: an e-process over two streams.
//!
//! As `bernoulli`, for any number of categories and both directions: the likelihood of a block under foreseen
//! distributions a and b, over that under their mean weighted by the block's sizes (Turner, Ly and Gruenwald, 2024). What is
//! foreseen are the posterior means under a Dirichlet prior that is worth one observation, spread like all that was seen.

use serde::{Deserialize, Serialize};

/// Observations of each side before the first bet.
const LEAST_SEEN: u64 = 100;

/// The e-process, and what it has seen in each category.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TwoDistributions {
    canary: Vec<u64>,
    production: Vec<u64>,
    log_e: f64,
}

impl TwoDistributions {
    pub fn new(categories: usize) -> Self {
        Self { canary: vec![0; categories], production: vec![0; categories], log_e: 0.0 }
    }

    /// Takes a block: counts by category, as many as there are.
    pub fn observe(&mut self, canary: &[u64], production: &[u64]) {
        let sizes = (total(canary), total(production));
        let known = total(&self.canary).min(total(&self.production)) >= LEAST_SEEN;
        if known && sizes.0 > 0 && sizes.1 > 0 {
            self.log_e += self.log_bet(canary, production, sizes);
        }
        for (seen, new) in self.canary.iter_mut().zip(canary).chain(self.production.iter_mut().zip(production)) {
            *seen += new;
        }
    }

    /// Logarithm of the e-value.
    pub const fn log_e(&self) -> f64 {
        self.log_e
    }

    pub fn canary(&self) -> &[u64] {
        &self.canary
    }

    pub fn production(&self) -> &[u64] {
        &self.production
    }

    fn log_bet(&self, canary: &[u64], production: &[u64], sizes: (u64, u64)) -> f64 {
        let weight = sizes.0 as f64 / (sizes.0 + sizes.1) as f64;
        let seen = (total(&self.canary) as f64, total(&self.production) as f64);
        let categories = self.canary.len() as f64;
        let mut log = 0.0;
        for index in 0..self.canary.len() {
            let (a, b) = (self.canary[index] as f64, self.production[index] as f64);
            let prior = (a + b + 1.0) / (seen.0 + seen.1 + categories);
            let (a, b) = ((a + prior) / (seen.0 + 1.0), (b + prior) / (seen.1 + 1.0));
            let between = weight * a + (1.0 - weight) * b;
            let (new, other) = (canary.get(index), production.get(index));
            log += new.map_or(0.0, |&count| count as f64 * (a / between).ln());
            log += other.map_or(0.0, |&count| count as f64 * (b / between).ln());
        }
        log
    }
}

fn total(counts: &[u64]) -> u64 {
    counts.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shifted_distribution_is_found_and_the_same_one_is_not() {
        let (mut same, mut shifted) = (TwoDistributions::new(4), TwoDistributions::new(4));
        for _ in 0..50 {
            same.observe(&[5, 5, 5, 5], &[25, 25, 25, 25]);
            shifted.observe(&[2, 4, 5, 9], &[25, 25, 25, 25]);
        }
        assert!(same.log_e() <= 1e-9, "{}", same.log_e());
        assert!(shifted.log_e() > 20.0, "{}", shifted.log_e());
    }

    proptest::proptest! {
        #[test]
        fn neither_side_is_favoured(blocks in proptest::collection::vec(proptest::array::uniform6(0_u64..60), 1..30)) {
            let (mut one, mut other) = (TwoDistributions::new(3), TwoDistributions::new(3));
            for block in blocks {
                one.observe(&block[..3], &block[3..]);
                other.observe(&block[3..], &block[..3]);
            }
            proptest::prop_assert!((one.log_e() - other.log_e()).abs() < 1e-6, "{} {}", one.log_e(), other.log_e());
        }
    }
}
