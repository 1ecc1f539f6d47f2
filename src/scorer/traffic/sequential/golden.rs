//! The tests against SciPy, which goes other ways to the same figures: tests/fixtures/scorer/sequential.py.

use std::time::Duration;

use serde::Deserialize;

use super::bernoulli::{Hits, TwoStreams};
use super::beta_binomial;
use super::categorical::TwoDistributions;
use super::normal_mixture::{Difference, Moments};
use crate::scorer::traffic::cells::{Cells, latency_cell, latency_ms};

#[derive(Deserialize)]
struct Golden {
    two_means: Vec<TwoMeans>,
    one_rate: Vec<OneRate>,
    two_rates: Vec<TwoRates>,
    two_distributions: Vec<Distributions>,
    latencies: Vec<Latencies>,
}

#[derive(Deserialize)]
struct TwoMeans {
    first: Moments,
    second: Moments,
    spread: f64,
    alpha: f64,
    mean: f64,
    variance: f64,
    log_e: f64,
    half_width: f64,
}

#[derive(Deserialize)]
struct OneRate {
    hits: u64,
    n: u64,
    rate: f64,
    alpha: f64,
    log_e: f64,
    low: f64,
    high: f64,
}

#[derive(Deserialize)]
struct TwoRates {
    /// Hits and number of the canary, then of production.
    blocks: Vec<[u64; 4]>,
    log_e: f64,
}

#[derive(Deserialize)]
struct Distributions {
    /// Counts by category of the canary, then of production.
    blocks: Vec<[Vec<u64>; 2]>,
    log_e: f64,
}

#[derive(Deserialize)]
struct Latencies {
    micros: Vec<u64>,
    quantile: f64,
    top_ms: f64,
    beyond: u64,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("../../../../tests/fixtures/scorer/sequential.json")).unwrap()
}

fn assert_close(what: &str, found: f64, expected: f64) {
    let apart = (found - expected).abs();
    assert!(apart <= 1e-8 * (1.0 + expected.abs()), "{what}: {found} here, {expected} by SciPy");
}

#[test]
fn two_means_are_compared_as_the_integral_over_effects_says() {
    for case in golden().two_means {
        let difference = Difference::of(case.first, case.second).unwrap();
        assert_close("difference", difference.mean, case.mean);
        assert_close("variance", difference.variance, case.variance);
        assert_close("ln e", difference.log_e(0.0, case.spread), case.log_e);
        assert_close("half width", difference.half_width(case.alpha, case.spread), case.half_width);
    }
}

#[test]
fn one_rate_is_bounded_as_the_beta_binomial_distribution_says() {
    for case in golden().one_rate {
        let seen = Hits::new(case.hits, case.n);
        assert_close("ln e", beta_binomial::log_e(seen, case.rate), case.log_e);
        let (low, high) = beta_binomial::interval(seen, case.alpha);
        assert_close("low", low, case.low);
        assert_close("high", high, case.high);
    }
}

#[test]
fn two_rates_are_compared_as_binomial_distributions_say() {
    for case in golden().two_rates {
        let mut streams = TwoStreams::default();
        for [hits, n, others, m] in case.blocks {
            streams.observe(Hits::new(hits, n), Hits::new(others, m));
        }
        assert_close("ln e", streams.log_e(), case.log_e);
    }
}

#[test]
fn two_distributions_are_compared_as_multinomial_distributions_say() {
    for case in golden().two_distributions {
        let mut streams = TwoDistributions::new(4);
        for [canary, production] in &case.blocks {
            streams.observe(canary, production);
        }
        assert_close("ln e", streams.log_e(), case.log_e);
    }
}

#[test]
fn the_yardstick_of_latencies_is_the_cell_of_their_quantile() {
    for case in golden().latencies {
        let mut cells = Cells::default();
        case.micros.iter().for_each(|&micros| cells.push(latency_cell(Duration::from_micros(micros))));
        let cell = cells.quantile(case.quantile).unwrap();
        assert_close("the cell's end, ms", latency_ms(cell), case.top_ms);
        assert_eq!(cells.above(cell), case.beyond, "answers beyond {} ms", case.top_ms);
    }
}
