//! Canaries that never were: what they are is chosen here, so that it can be counted how often they are judged wrongly.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::machine::{Trial, Verdict, buckets};
use crate::config::scorer::traffic::{ErrorGuard, Guards, LatencyGuard, Progressive, ScoreDriftGuard, ScoreMeanGuard};
use crate::config::units::Span;
use crate::scorer::registry::state::{Canary, ServingState};
use crate::scorer::traffic::cells::{latency_cell, score_cell};
use crate::scorer::traffic::counters::{Block, Counts};
use crate::scorer::traffic::sequential::log_threshold;
use crate::scorer::traffic::sequential::normal_mixture::{Difference, Moments};

/// What a version is like.
#[derive(Debug, Clone, Copy)]
struct Truth {
    error_rate: f64,
    /// Share of the answers that take ten times as long.
    slow_rate: f64,
    /// Scores are normal with deviation 1.
    score_mean: f64,
}

const GOOD: Truth = Truth { error_rate: 0.01, slow_rate: 0.008, score_mean: 0.0 };

/// Requests of both sides between two looks, and looks at most.
const REQUESTS_A_LOOK: u64 = 20_000;
const MOST_LOOKS: u32 = 100;

#[derive(Debug, Default)]
struct Tally {
    rolled_back: usize,
    promoted: usize,
    undecided: usize,
    /// Of both sides, until rolled back or promoted.
    requests: Vec<u64>,
    canary_requests: Vec<u64>,
}

impl Tally {
    fn quantile(sorted: &mut [u64], share: f64) -> u64 {
        sorted.sort_unstable();
        let last = sorted.len().saturating_sub(1);
        sorted.get((last as f64 * share) as usize).copied().unwrap_or(0)
    }
}

fn policy() -> Progressive {
    Progressive {
        dwell: Span::from_ms(0),
        guards: Guards {
            errors: Some(ErrorGuard::default()),
            latency: Some(LatencyGuard::default()),
            score_mean: Some(ScoreMeanGuard::default()),
            score_drift: Some(ScoreDriftGuard::default()),
            label_metric: None,
        },
        ..Progressive::default()
    }
}

/// How many of so many requests meet a rate, by the gaps between them.
fn hits(random: &mut StdRng, n: u64, rate: f64) -> u64 {
    let (mut place, mut hits) = (0_u64, 0);
    loop {
        let uniform: f64 = random.random::<f64>().max(1e-300);
        place = place.saturating_add(1 + (uniform.ln() / (-rate).ln_1p()) as u64);
        if place > n {
            return hits;
        }
        hits += 1;
    }
}

fn normal(random: &mut StdRng) -> f64 {
    let (radius, angle): (f64, f64) = (random.random::<f64>().max(1e-300), random.random());
    (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
}

fn counts(random: &mut StdRng, truth: Truth, requests: u64) -> Counts {
    let errors = hits(random, requests, truth.error_rate);
    let answered = requests - errors;
    let slow = hits(random, answered, truth.slow_rate);
    let mut counts = Counts { requests, errors, ..Counts::default() };
    counts.latency.push_many(latency_cell(std::time::Duration::from_micros(100)), answered - slow);
    counts.latency.push_many(latency_cell(std::time::Duration::from_micros(1_000)), slow);
    // The scores of some: enough to judge by, and quick.
    for _ in 0..answered.min(200) {
        let score = truth.score_mean + normal(random);
        counts.scores.push(score);
        score_cell(score).into_iter().for_each(|cell| counts.score_cells.push(cell));
    }
    counts
}

fn state_at(step: u32, policy: &Progressive) -> ServingState {
    ServingState {
        production: Some("1".into()),
        canary: Some(Canary {
            version: "2".into(),
            buckets: buckets(policy, step).unwrap(),
            salt: "2".into(),
            step: Some(step),
            started_at_ms: 0,
            step_at_ms: 0,
        }),
        ..ServingState::default()
    }
}

fn run(seed: u64, truth: Truth, policy: &Progressive, tally: &mut Tally) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut state = state_at(0, policy);
    let mut trial = Trial::begin(&state).unwrap();
    for look in 0..MOST_LOOKS {
        let share = state.canary.as_ref().unwrap().buckets;
        let canary = hits(&mut random, REQUESTS_A_LOOK, f64::from(share) / 10_000.0);
        let block = Block {
            canary: counts(&mut random, truth, canary),
            production: counts(&mut random, GOOD, REQUESTS_A_LOOK - canary),
        };
        let decision = trial.advance(&block, policy, &state, i64::from(look) * 1_000).unwrap();
        match decision.verdict {
            Verdict::Hold | Verdict::NotDecided => continue,
            Verdict::Advance => {
                state = state_at(decision.to_step.unwrap(), policy);
                continue;
            }
            Verdict::Promote => tally.promoted += 1,
            Verdict::RollBack => tally.rolled_back += 1,
            Verdict::Stop => panic!("nobody else changes anything here"),
        }
        tally.requests.push(decision.canary_requests + decision.production_requests);
        tally.canary_requests.push(decision.canary_requests);
        return;
    }
    tally.undecided += 1;
}

fn simulate(canaries: u64, truth: Truth) -> Tally {
    let policy = policy();
    let mut tally = Tally::default();
    for seed in 0..canaries {
        run(seed, truth, &policy, &mut tally);
    }
    tally
}

const CASES: [(&str, Truth); 7] = [
    ("no difference", GOOD),
    ("errors 1% -> 1.5%", Truth { error_rate: 0.015, ..GOOD }),
    ("errors 1% -> 2.5%", Truth { error_rate: 0.025, ..GOOD }),
    ("errors 1% -> 10%", Truth { error_rate: 0.1, ..GOOD }),
    ("slow answers 0.8% -> 3%", Truth { slow_rate: 0.03, ..GOOD }),
    ("mean score + 0.4 deviations", Truth { score_mean: 0.4, ..GOOD }),
    ("mean score + 0.7 deviations", Truth { score_mean: 0.7, ..GOOD }),
];

/// Whether a case is beyond a limit of the default guards: then it must not be promoted.
fn beyond_a_limit(truth: Truth) -> bool {
    truth.error_rate > 0.02 || truth.slow_rate > 0.018 || truth.score_mean > 0.25
}

fn check(name: &str, truth: Truth, tally: &Tally, canaries: u64) {
    let share = |count: usize| count as f64 / canaries as f64;
    let policy = policy();
    // Three standard deviations of a share that is exactly as promised.
    let room = |rate: f64| 3.0 * (rate * (1.0 - rate) / canaries as f64).sqrt();
    if name == "no difference" {
        let most = policy.false_rollback_rate + room(policy.false_rollback_rate);
        assert!(share(tally.rolled_back) <= most, "{name}: {} rolled back, promised {most}", share(tally.rolled_back));
        assert!(share(tally.promoted) >= 0.9, "{name}: only {} promoted", share(tally.promoted));
    } else if beyond_a_limit(truth) {
        let most = policy.false_promotion_rate + room(policy.false_promotion_rate);
        assert!(share(tally.promoted) <= most, "{name}: {} promoted, promised {most}", share(tally.promoted));
    }
}

#[test]
fn two_hundred_canaries_are_judged_as_promised() {
    for (name, truth) in CASES.into_iter().filter(|(name, _)| ["no difference", "errors 1% -> 10%"].contains(name)) {
        check(name, truth, &simulate(200, truth), 200);
    }
}

#[test]
#[ignore = "minutes: a thousand canaries of each kind, and the table of docs/scorer-traffic.md"]
fn a_thousand_canaries_are_judged_as_promised() {
    println!(
        "| canary | rolled back | promoted | not decided | canary's requests, median / 95% | all requests, median / 95% |"
    );
    println!("|---|---|---|---|---|---|");
    for (name, truth) in CASES {
        let mut tally = simulate(1_000, truth);
        let percent = |count: usize| format!("{:.1}%", count as f64 / 10.0);
        let (canary, all) = (&mut tally.canary_requests, &mut tally.requests);
        println!(
            "| {name} | {} | {} | {} | {} / {} | {} / {} |",
            percent(tally.rolled_back),
            percent(tally.promoted),
            percent(tally.undecided),
            Tally::quantile(canary, 0.5),
            Tally::quantile(canary, 0.95),
            Tally::quantile(all, 0.5),
            Tally::quantile(all, 0.95)
        );
        check(name, truth, &tally, 1_000);
    }
}

/// Requests of each side between two looks.
const REQUESTS_OF_A_SIDE: u64 = 100;

/// How many of the runs had a test at 5% wrong at some look so far, where nothing differs.
#[derive(Debug, Clone, Copy)]
struct EverWrong {
    requests: u64,
    z: f64,
    /// The mixture test for effects spread by 0.1 and by 0.3 deviations.
    mixtures: [f64; 2],
}

const SPREADS: [f64; 2] = [0.1, 0.3];

/// Looked at every 200 requests; what had gone wrong by each of these looks.
fn ever_wrong(runs: u64, looks: &[u64]) -> Vec<EverWrong> {
    let last = looks.iter().copied().max().unwrap_or(0);
    let mut found: Vec<EverWrong> = looks
        .iter()
        .map(|look| EverWrong { requests: look * 2 * REQUESTS_OF_A_SIDE, z: 0.0, mixtures: [0.0; 2] })
        .collect();
    let share = 1.0 / runs as f64;
    for seed in 0..runs {
        let mut random = StdRng::seed_from_u64(seed);
        let (mut canary, mut production) = (Moments::default(), Moments::default());
        let (mut z, mut mixtures) = (false, [false; 2]);
        for look in 1..=last {
            for _ in 0..REQUESTS_OF_A_SIDE {
                canary.push(normal(&mut random));
                production.push(normal(&mut random));
            }
            let difference = Difference::of(canary, production).unwrap();
            z |= difference.mean.abs() > 1.959_964 * difference.variance.sqrt();
            for (wrong, spread) in mixtures.iter_mut().zip(SPREADS) {
                *wrong |= difference.log_e(0.0, spread) >= log_threshold(0.05);
            }
            for (found, _) in found.iter_mut().zip(looks).filter(|(_, of)| **of == look) {
                found.z += share * f64::from(u8::from(z));
                for (sum, wrong) in found.mixtures.iter_mut().zip(mixtures) {
                    *sum += share * f64::from(u8::from(wrong));
                }
            }
        }
    }
    found
}

#[test]
fn a_z_test_that_is_looked_at_again_and_again_is_wrong_often_and_the_mixture_test_is_not() {
    let found = ever_wrong(200, &[100])[0];
    assert!(found.z > 0.25, "{found:?}");
    let most = 0.05 + 3.0 * (0.05_f64 * 0.95 / 200.0).sqrt();
    assert!(found.mixtures.iter().all(|&wrong| wrong <= most), "{found:?}");
}

#[test]
#[ignore = "a minute: the figures of docs/scorer-traffic.md"]
fn a_thousand_repeated_looks() {
    println!("| requests | z-test | mixture test, effects of 0.1 | of 0.3 |");
    println!("|---|---|---|---|");
    for EverWrong { requests, z, mixtures: [narrow, wide] } in ever_wrong(1_000, &[50, 100, 200, 400]) {
        println!("| {requests} | {:.1}% | {:.1}% | {:.1}% |", z * 100.0, narrow * 100.0, wide * 100.0);
        assert!(z > 0.25 && narrow < 0.05 && wide < 0.05);
    }
}
