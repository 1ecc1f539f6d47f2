//! Bounds of one rate that hold at all times together: a confidence sequence.
//!
//! For a rate p the ratio B(x + 1/2, n - x + 1/2) / (B(1/2, 1/2) p^x (1 - p)^(n - x)) after x hits of n is a martingale
//! under p: the beta-binomial mixture of Robbins (1970). The rates whose ratio has not reached 1 / alpha are the interval; the
//! true rate is ever outside of it with a chance of at most alpha. It depends on x and n alone, not on the order.

use statrs::function::beta::ln_beta;

use super::bernoulli::Hits;

const PRIOR: f64 = 0.5;

/// Logarithm of the mixture's e-value against a rate.
pub fn log_e(seen: Hits, rate: f64) -> f64 {
    log_mixture(seen) - log_likelihood(seen, rate)
}

/// Logarithm of the likelihood, averaged over rates under the prior.
fn log_mixture(seen: Hits) -> f64 {
    let (hits, misses) = (seen.hits as f64, (seen.n - seen.hits) as f64);
    ln_beta(hits + PRIOR, misses + PRIOR) - ln_beta(PRIOR, PRIOR)
}

fn log_likelihood(seen: Hits, rate: f64) -> f64 {
    let term = |count: u64, chance: f64| if count == 0 { 0.0 } else { count as f64 * chance.ln() };
    term(seen.hits, rate) + term(seen.n - seen.hits, 1.0 - rate)
}

/// The lowest and the highest rate not yet excluded at a level; (0, 1) before anything is seen.
pub fn interval(seen: Hits, alpha: f64) -> (f64, f64) {
    let Some(rate) = seen.rate() else { return (0.0, 1.0) };
    let least = log_mixture(seen) - super::log_threshold(alpha);
    let excluded = |candidate: f64| log_likelihood(seen, candidate) <= least;
    let low = if seen.hits == 0 { 0.0 } else { boundary(rate, 0.0, excluded) };
    let high = if seen.hits == seen.n { 1.0 } else { boundary(rate, 1.0, excluded) };
    (low, high)
}

/// Where `excluded` begins between a rate inside and an end outside, by halving: the e-value grows from `inside` on.
fn boundary(mut inside: f64, mut outside: f64, excluded: impl Fn(f64) -> bool) -> f64 {
    for _ in 0..52 {
        let middle = f64::midpoint(inside, outside);
        if excluded(middle) {
            outside = middle;
        } else {
            inside = middle;
        }
    }
    outside
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_narrows_around_the_rate() {
        assert_eq!(interval(Hits::default(), 0.05), (0.0, 1.0));
        let mut last = 1.0;
        for n in [10, 100, 1_000, 10_000, 1_000_000] {
            let (low, high) = interval(Hits::new(n / 10, n), 0.05);
            assert!(low < 0.1 && 0.1 < high && high - low < last, "{n}: {low} {high}");
            last = high - low;
        }
        let (low, high) = interval(Hits::new(0, 500), 0.05);
        assert!(low == 0.0 && (0.005..0.03).contains(&high), "{high}");
        let (low, high) = interval(Hits::new(500, 500), 0.05);
        assert!(high == 1.0 && (0.97..0.995).contains(&low), "{low}");
    }

    #[test]
    fn hits_and_misses_mirror_each_other() {
        let (low, high) = interval(Hits::new(30, 100), 0.01);
        let (mirrored_low, mirrored_high) = interval(Hits::new(70, 100), 0.01);
        assert!((low - (1.0 - mirrored_high)).abs() < 1e-12 && (high - (1.0 - mirrored_low)).abs() < 1e-12);
    }
}
