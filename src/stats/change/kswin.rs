//! KSWIN: the newest values against a sample of the older ones in a sliding window, by the Kolmogorov-Smirnov test
//! (Raab, Heusinger and Schleif, Reactive soft prototype computing for concept drift streams, 2020).
//!
//! The sample is drawn by a fixed generator from `seed`, so that a replay draws the same one.

use std::collections::VecDeque;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Verdict;
use crate::stats::rows::ecdf::merge;
use crate::stats::rows::kolmogorov_smirnov::kolmogorov_smirnov;
use crate::stats::rows::kolmogorov_smirnov_exact::p_value_exact;

/// A distance no larger than this is no change, however improbable.
const LEAST_DISTANCE: f64 = 0.1;

/// How sensitive KSWIN is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct KswinParameters {
    /// Largest p-value of a change. A test is made at every value, so small: below 0.01.
    pub alpha: f64,
    /// Values in the window; none is judged before it is full.
    pub window_size: u64,
    /// Newest values that are compared with as many older ones.
    pub stat_size: u64,
    /// Start of the random numbers that draw the sample.
    pub seed: u64,
}

impl Default for KswinParameters {
    fn default() -> Self {
        Self { alpha: 0.005, window_size: 100, stat_size: 30, seed: 1 }
    }
}

/// State of one stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Kswin {
    pub parameters: KswinParameters,
    /// The last values, oldest first.
    window: VecDeque<f64>,
    random: u64,
}

impl Kswin {
    pub fn new(parameters: KswinParameters) -> Self {
        Self { random: parameters.seed, parameters, window: VecDeque::new() }
    }

    pub fn update(&mut self, value: f64) -> Verdict {
        let (size, newest) = (self.parameters.window_size as usize, self.parameters.stat_size as usize);
        self.window.push_back(value);
        if self.window.len() < size {
            return Verdict::default();
        }
        while self.window.len() > size {
            self.window.pop_front();
        }
        let mut older = self.draw(size - newest, newest);
        let mut newer: Vec<f64> = self.window.iter().skip(size - newest).copied().collect();
        older.sort_unstable_by(f64::total_cmp);
        newer.sort_unstable_by(f64::total_cmp);
        let distance = kolmogorov_smirnov(&merge(&older, &newer)).map_or(0.0, |found| found.statistic);
        let p = p_value_exact(distance, older.len() as u64, newer.len() as u64);
        Verdict { change: distance > LEAST_DISTANCE && p <= self.parameters.alpha, warning: false }
    }

    /// `count` of the first `among` values, without putting back: the first places of a Fisher-Yates shuffle.
    fn draw(&mut self, among: usize, count: usize) -> Vec<f64> {
        let mut places: Vec<usize> = (0..among).collect();
        for place in 0..count.min(among) {
            let chosen = place + (self.next_random() % (among - place) as u64) as usize;
            places.swap(place, chosen);
        }
        places.truncate(count);
        places.into_iter().map(|place| self.window[place]).collect()
    }

    /// SplitMix64 (Steele, Lea and Flood, Fast splittable pseudorandom number generators, 2014).
    fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.random;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }
}
