//! What is known without labels, tried on data whose truth is known: of windows without concept drift about 95% of the
//! realised values lie within the band of their estimate, and the test of the calibration raises no more false alarms
//! than it says. Seeded; figures are printed with `--nocapture` and stand in docs/statistics.md.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use driftline::stats::performance::binary::{BinaryRows, binary_performance};
use driftline::stats::performance::calibration_shift::{LabelledCell, calibration_shift};
use driftline::stats::performance::confidence_based::binary::{ScoreCell, estimates};
use driftline::stats::performance::isotonic::Isotonic;

struct Random(u64);

impl Random {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ (bits >> 31)) >> 11) as f64 / 2f64.powi(53)
    }

    fn normal(&mut self) -> f64 {
        (-2.0 * self.next().max(1e-300).ln()).sqrt() * (std::f64::consts::TAU * self.next()).cos()
    }
}

/// A model whose score is off: the chance of a positive is not the score but rises with it.
#[derive(Clone, Copy)]
struct Truth {
    /// Mean of the logits of the scores.
    centre: f64,
    spread: f64,
    digits: i32,
}

impl Truth {
    fn draw(self, random: &mut Random, rows: usize, chance: impl Fn(f64) -> f64) -> (Vec<f64>, Vec<bool>) {
        let logit = |random: &mut Random| self.centre + self.spread * random.normal();
        let unit = 10f64.powi(self.digits);
        let scores: Vec<f64> = (0..rows).map(|_| (unit / (1.0 + (-logit(random)).exp())).round() / unit).collect();
        let labels = scores.iter().map(|score| random.next() < chance(*score)).collect();
        (scores, labels)
    }
}

/// Over-confident scores.
fn chance(score: f64) -> f64 {
    let score = score.clamp(1e-6, 1.0 - 1e-6);
    let logit = (score / (1.0 - score)).ln();
    1.0 / (1.0 + (-0.7 * logit + 0.2).exp())
}

const TRUTHS: [(&str, Truth); 3] = [
    ("balanced", Truth { centre: 0.0, spread: 1.5, digits: 9 }),
    ("rare", Truth { centre: -3.0, spread: 1.2, digits: 9 }),
    ("two digits", Truth { centre: 0.5, spread: 2.5, digits: 2 }),
];

fn cells(scores: &[f64]) -> Vec<ScoreCell> {
    let cell = |score: &f64| ScoreCell {
        low: *score,
        high: *score,
        predicted_negative: u64::from(*score < 0.5),
        predicted_positive: u64::from(*score >= 0.5),
    };
    scores.iter().map(cell).collect()
}

fn labelled(scores: &[f64], labels: &[bool]) -> Vec<LabelledCell> {
    let cell = |(score, label): (&f64, &bool)| LabelledCell {
        low: *score,
        high: *score,
        negatives: u64::from(!label),
        positives: u64::from(*label),
    };
    scores.iter().zip(labels).map(cell).collect()
}

const BOTH: [(&str, &str); 7] = [
    ("est_accuracy", "accuracy"),
    ("est_precision", "precision"),
    ("est_recall", "recall"),
    ("est_f1", "f1"),
    ("est_specificity", "specificity"),
    ("est_roc_auc", "roc_auc"),
    ("est_pr_auc", "pr_auc"),
];

/// Rows of the reference and of the window.
const FEW: [(usize, usize); 1] = [(2_000, 500)];
const SIZES: [(usize, usize); 4] = [(2_000, 500), (10_000, 1_000), (10_000, 10_000), (1_000, 20_000)];

#[test]
fn realised_metrics_lie_within_the_band_of_their_estimate() {
    coverage_of_bands(&FEW, 200);
}

#[test]
#[ignore = "minutes; CI runs it"]
fn realised_metrics_lie_within_the_band_of_their_estimate_at_every_size() {
    // Without the last: a thousand rows with few positives tell too little of a curve's upper end.
    coverage_of_bands(&SIZES[..3], 400);
}

fn coverage_of_bands(sizes: &[(usize, usize)], runs: u32) {
    let mut random = Random(7);
    let (mut all_within, mut all_given) = (0, 0);
    for (name, truth) in TRUTHS {
        for (reference_rows, rows) in sizes.iter().copied() {
            let mut within = [0u32; BOTH.len()];
            let mut given = [0u32; BOTH.len()];
            for _ in 0..runs {
                let (scores, labels) = truth.draw(&mut random, reference_rows, chance);
                let calibration = Isotonic::fit(&scores, &labels).unwrap();
                // The inputs drift, what a score means does not.
                let drifted = Truth { centre: truth.centre + random.normal() * 0.3, ..truth };
                let (scores, labels) = drifted.draw(&mut random, rows, chance);
                let estimated = estimates(&calibration, cells(&scores));
                let predicted = scores.iter().map(|score| *score >= 0.5).collect();
                let realised = binary_performance(&BinaryRows { positive: labels, predicted, scores });
                for (place, (estimate, metric)) in BOTH.iter().enumerate() {
                    let interval = estimated.iter().find(|(name, _)| name == estimate).unwrap().1.interval;
                    let value = realised.iter().find(|(name, _)| name == metric).and_then(|(_, value)| *value);
                    if let (Some([least, most]), Some(value)) = (interval, value) {
                        given[place] += 1;
                        within[place] += u32::from((least..=most).contains(&value));
                    }
                }
            }
            for (place, (estimate, _)) in BOTH.iter().enumerate() {
                let share = f64::from(within[place]) / f64::from(given[place].max(1));
                println!(
                    "{name}, reference {reference_rows}, window {rows}: {estimate} {share:.3} of {}",
                    given[place]
                );
                assert!(given[place] < runs / 2 || share >= 0.86, "{name} {reference_rows}/{rows} {estimate}: {share}");
                all_within += within[place];
                all_given += given[place];
            }
        }
    }
    let share = f64::from(all_within) / f64::from(all_given);
    println!("all: {share:.4} of {all_given}");
    assert!((0.92..=0.98).contains(&share), "{share}");
}

#[test]
fn scores_that_mean_what_they_meant_raise_no_more_alarms_than_stated() {
    false_alarms(&FEW, 300);
}

#[test]
#[ignore = "minutes; CI runs it"]
fn scores_that_mean_what_they_meant_raise_no_more_alarms_than_stated_at_every_size() {
    false_alarms(&SIZES, 1_000);
}

fn false_alarms(sizes: &[(usize, usize)], runs: u32) {
    let mut random = Random(11);
    let (mut all_at_five, mut all_at_one) = (0, 0);
    for (name, truth) in TRUTHS {
        for (reference_rows, rows) in sizes.iter().copied() {
            let (mut at_five, mut at_one) = (0, 0);
            for _ in 0..runs {
                let (scores, labels) = truth.draw(&mut random, reference_rows, chance);
                let calibration = Isotonic::fit(&scores, &labels).unwrap();
                let reference = labelled(&scores, &labels);
                let drifted = Truth { centre: truth.centre + random.normal() * 0.3, ..truth };
                let (scores, labels) = drifted.draw(&mut random, rows, chance);
                let found = calibration_shift(&calibration, &reference, &labelled(&scores, &labels));
                let p = found.p_value.unwrap();
                at_five += u32::from(p < 0.05);
                at_one += u32::from(p < 0.01);
            }
            let share = |alarms: u32| f64::from(alarms) / f64::from(runs);
            println!(
                "{name}, reference {reference_rows}, window {rows}: {:.3} at 5%, {:.4} at 1%",
                share(at_five),
                share(at_one)
            );
            assert!(share(at_five) <= 0.1 && share(at_one) <= 0.04, "{name} {reference_rows}/{rows}");
            all_at_five += at_five;
            all_at_one += at_one;
        }
    }
    let all = f64::from(runs) * (TRUTHS.len() * sizes.len()) as f64;
    let (at_five, at_one) = (f64::from(all_at_five) / all, f64::from(all_at_one) / all);
    println!("all: {at_five:.4} at 5%, {at_one:.4} at 1%");
    assert!(at_five <= 0.075 && at_one <= 0.025, "{at_five} at 5%, {at_one} at 1%");
}

#[test]
fn labels_that_flip_in_a_part_of_the_rows_are_seen() {
    let mut random = Random(13);
    for (rows, flipped, fewest) in [(1_000, 0.1, 0.35), (2_000, 0.1, 0.7), (10_000, 0.05, 0.5)] {
        let runs = 100;
        let mut seen = 0;
        for _ in 0..runs {
            let (scores, labels) = TRUTHS[0].1.draw(&mut random, 10_000, chance);
            let calibration = Isotonic::fit(&scores, &labels).unwrap();
            let reference = labelled(&scores, &labels);
            let (scores, mut labels) = TRUTHS[0].1.draw(&mut random, rows, chance);
            for label in &mut labels {
                *label ^= random.next() < flipped;
            }
            let found = calibration_shift(&calibration, &reference, &labelled(&scores, &labels));
            seen += u32::from(found.p_value.unwrap() < 0.01);
        }
        println!("{rows} rows, {flipped} flipped: seen at 1% in {seen} of {runs}");
        assert!(f64::from(seen) >= fewest * f64::from(runs), "{rows} rows, {flipped} flipped: {seen}");
    }
}
