//! Whether one rate is above another: an e-process over two streams of yes and no.
//!
//! Null hypothesis: the canary's rate is at most production's, whatever both are. Observations come in blocks that hold
//! both sides. For rates a and b, foreseen before a block, with b < a, and c their mean weighted by the block's sizes, the
//! likelihood under (a, b) over that under (c, c) has an expectation of at most 1 under the null hypothesis (Turner, Ly and
//! Gruenwald, 2024, theorem 1): the product over blocks is an e-process. b is the posterior mean of production's rate under
//! a Beta(1/2, 1/2) prior. For a there are seven answers, and the e-process is the mean over them: the posterior mean of
//! the canary's own rate (the beta-binomial one), and b with its odds 1.25, 1.5, 2, 3, 5 and 10 times as high.

use serde::{Deserialize, Serialize};

use super::log_mean_exp;

/// Odds of the canary over production's that are bet on.
const ODDS_RATIOS: [f64; 6] = [1.25, 1.5, 2.0, 3.0, 5.0, 10.0];
/// Production's observations before the first bet: a bet on a rate that nobody knows yet only loses.
const LEAST_PRODUCTION: u64 = 100;

/// Hits of a number of trials.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hits {
    pub hits: u64,
    pub n: u64,
}

impl Hits {
    pub const fn new(hits: u64, n: u64) -> Self {
        Self { hits, n }
    }

    pub fn add(&mut self, other: Self) {
        self.hits += other.hits;
        self.n += other.n;
    }

    /// Share of hits; `None` of nothing.
    pub fn rate(self) -> Option<f64> {
        (self.n > 0).then(|| self.hits as f64 / self.n as f64)
    }

    /// Posterior mean under a Beta(1/2, 1/2) prior: never 0 nor 1.
    fn posterior_mean(self) -> f64 {
        (self.hits as f64 + 0.5) / (self.n as f64 + 1.0)
    }

    /// Logarithm of the likelihood under a rate.
    fn log_likelihood(self, rate: f64) -> f64 {
        self.hits as f64 * rate.ln() + (self.n - self.hits) as f64 * (-rate).ln_1p()
    }
}

/// The e-process, and what it has seen.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TwoStreams {
    canary: Hits,
    production: Hits,
    /// Logarithms of the e-values: of the posterior mean, then of each odds ratio.
    logs: [f64; 1 + ODDS_RATIOS.len()],
}

impl TwoStreams {
    /// Takes a block. Its sizes must not have been chosen by its hits; a block that lacks a side has nothing to compare.
    pub fn observe(&mut self, canary: Hits, production: Hits) {
        if canary.n > 0 && production.n > 0 && self.production.n >= LEAST_PRODUCTION {
            let base = self.production.posterior_mean();
            for (log, rate) in self.logs.iter_mut().zip(foreseen(self.canary, base)) {
                *log += log_bet(canary, production, rate, base);
            }
        }
        self.canary.add(canary);
        self.production.add(production);
    }

    /// Logarithm of the e-value.
    pub fn log_e(&self) -> f64 {
        log_mean_exp(&self.logs)
    }

    pub const fn canary(&self) -> Hits {
        self.canary
    }

    pub const fn production(&self) -> Hits {
        self.production
    }
}

/// Rates of the canary to bet on.
fn foreseen(canary: Hits, base: f64) -> impl Iterator<Item = f64> {
    let odds = base / (1.0 - base);
    let at_odds = move |ratio: f64| odds * ratio / (1.0 + odds * ratio);
    std::iter::once(canary.posterior_mean()).chain(ODDS_RATIOS.into_iter().map(at_odds))
}

/// Logarithm of what a bet on rates (`rate`, `base`) yields; 0 without a bet, where the canary is not foreseen to be worse.
fn log_bet(canary: Hits, production: Hits, rate: f64, base: f64) -> f64 {
    if rate <= base {
        return 0.0;
    }
    let weight = canary.n as f64 / (canary.n + production.n) as f64;
    let between = weight * rate + (1.0 - weight) * base;
    canary.log_likelihood(rate) - canary.log_likelihood(between) + production.log_likelihood(base)
        - production.log_likelihood(between)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The exact expectation of one block's e-value.
    fn expectation(sizes: (u64, u64), truth: (f64, f64), bet: (f64, f64)) -> f64 {
        let choose = |n: u64, k: u64| (1..=k).fold(1.0, |product, i| product * (n - k + i) as f64 / i as f64);
        let chance = |k: u64, n: u64, p: f64| choose(n, k) * p.powi(k as i32) * (1.0 - p).powi((n - k) as i32);
        let mut sum = 0.0;
        for x in 0..=sizes.0 {
            for y in 0..=sizes.1 {
                let log = log_bet(Hits::new(x, sizes.0), Hits::new(y, sizes.1), bet.0, bet.1);
                sum += chance(x, sizes.0, truth.0) * chance(y, sizes.1, truth.1) * log.exp();
            }
        }
        sum
    }

    proptest::proptest! {
        #[test]
        fn under_the_null_a_block_is_expected_to_yield_at_most_what_was_bet(
            sizes in (1_u64..12, 1_u64..12),
            production in 0.01_f64..0.99,
            better in 0.0_f64..=1.0,
            bet in (0.01_f64..0.99, 0.01_f64..0.99),
        ) {
            let found = expectation(sizes, (production * better, production), bet);
            proptest::prop_assert!(found <= 1.0 + 1e-9, "{found}");
        }

        #[test]
        fn what_is_seen_adds_up(blocks in proptest::collection::vec((0_u64..50, 0_u64..5, 0_u64..200, 0_u64..9), 1..40)) {
            let mut streams = TwoStreams::default();
            let (mut canary, mut production) = (Hits::default(), Hits::default());
            for (n, hits, m, others) in blocks {
                let block = (Hits::new(hits.min(n), n), Hits::new(others.min(m), m));
                streams.observe(block.0, block.1);
                canary.add(block.0);
                production.add(block.1);
            }
            proptest::prop_assert_eq!((streams.canary(), streams.production()), (canary, production));
            proptest::prop_assert!(streams.log_e().is_finite());
        }
    }

    #[test]
    fn a_rate_three_times_as_high_is_found_and_a_lower_one_is_never_held_against_it() {
        let (mut worse, mut better) = (TwoStreams::default(), TwoStreams::default());
        for _ in 0..60 {
            worse.observe(Hits::new(3, 50), Hits::new(1, 50));
            better.observe(Hits::new(0, 50), Hits::new(1, 50));
        }
        assert!(worse.log_e() > 15.0, "{}", worse.log_e());
        assert!(better.log_e() < 0.0, "{}", better.log_e());
    }
}
