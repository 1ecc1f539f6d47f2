//! What the section `traffic` of a model can get wrong beyond its shape.

use std::collections::BTreeSet;

use super::checks::is_name;
use super::traffic::{Experiment, Guards, Progressive, ShadowSettings, TrafficPolicy};
use crate::config::diagnostic::Problem;

/// Names of arms that the policy itself has.
const TAKEN_ARMS: [&str; 4] = ["production", "canary", "shadow", "pinned"];
const MOST_ARMS: usize = 16;
const MOST_STEPS: usize = 20;
const MOST_QUEUED: usize = 1 << 16;

pub fn traffic(pointer: &str, policy: &TrafficPolicy) -> Vec<Problem> {
    let mut problems = Vec::new();
    if let Some(an_experiment) = &policy.experiment {
        experiment(&mut problems, &format!("{pointer}/experiment"), an_experiment);
    }
    shadow(&mut problems, &format!("{pointer}/shadow"), &policy.shadow);
    progressive(&mut problems, &format!("{pointer}/progressive"), &policy.progressive);
    problems
}

fn out_of_range(pointer: String, message: impl Into<String>, help: &str) -> Problem {
    Problem::error("out-of-range", pointer, message).help(help)
}

fn name(problems: &mut Vec<Problem>, pointer: String, what: &str, text: &str) {
    if !is_name(text) {
        let message = format!("`{text}` is not a name of {what}: 1 to 128 letters, digits, `_`, `.` and `-`");
        problems.push(Problem::error("bad-name", pointer, message).help("use letters, digits, `_`, `.` and `-`"));
    }
}

fn experiment(problems: &mut Vec<Problem>, pointer: &str, experiment: &Experiment) {
    name(problems, format!("{pointer}/name"), "an experiment", &experiment.name);
    if let Some(salt) = &experiment.salt {
        name(problems, format!("{pointer}/salt"), "a salt", salt);
    }
    if !(2..=MOST_ARMS).contains(&experiment.arms.len()) {
        let message = format!("an experiment has 2 to {MOST_ARMS} arms, this one {}", experiment.arms.len());
        problems.push(out_of_range(
            format!("{pointer}/arms"),
            message,
            "add an arm `{name: control, version: production, weight: 50}`",
        ));
    }
    if experiment.arms.iter().all(|arm| arm.weight == 0) {
        let help = "give each arm its weight: `weight: 50`";
        problems.push(out_of_range(format!("{pointer}/arms"), "no arm has a weight, so nobody would meet one", help));
    }
    let mut seen = BTreeSet::new();
    for (index, arm) in experiment.arms.iter().enumerate() {
        let at = |key: &str| format!("{pointer}/arms/{index}/{key}");
        name(problems, at("name"), "an arm", &arm.name);
        name(problems, at("version"), "a version", &arm.version);
        if TAKEN_ARMS.contains(&arm.name.as_str()) {
            let message = format!("`{}` is an arm of every model already", arm.name);
            problems
                .push(Problem::error("duplicate", at("name"), message).help("take another name, such as `control`"));
        } else if !seen.insert(&arm.name) {
            let message = format!("two arms are called `{}`", arm.name);
            problems.push(Problem::error("duplicate", at("name"), message).help("give each arm its own name"));
        }
        if arm.weight > 1_000_000 {
            problems.push(out_of_range(at("weight"), "a weight is at most 1000000", "write weights such as 50 and 50"));
        }
    }
}

fn shadow(problems: &mut Vec<Problem>, pointer: &str, shadow: &ShadowSettings) {
    if !(1..=MOST_QUEUED).contains(&shadow.queue_requests) {
        let message = format!("`queue_requests` is {}; it can be 1 to {MOST_QUEUED}", shadow.queue_requests);
        problems.push(out_of_range(format!("{pointer}/queue_requests"), message, "leave it out for 256"));
    }
    if !(shadow.tolerance.is_finite() && shadow.tolerance >= 0.0) {
        let message = "a tolerance is a number from 0 on";
        problems.push(out_of_range(format!("{pointer}/tolerance"), message, "leave it out for 0.0001"));
    }
}

fn progressive(problems: &mut Vec<Problem>, pointer: &str, progressive: &Progressive) {
    let steps: Vec<f64> = progressive.steps.iter().map(|share| share.percent).collect();
    let grows = steps.first().is_some_and(|&first| first > 0.0) && steps.windows(2).all(|pair| pair[0] < pair[1]);
    if !(2..=MOST_STEPS).contains(&steps.len()) || !grows || steps.last() != Some(&100.0) {
        let message = format!("steps are 2 to {MOST_STEPS} shares that grow and end with 100%");
        let help = "write `steps: [1%, 5%, 25%, 50%, 100%]`, or leave it out";
        problems.push(out_of_range(format!("{pointer}/steps"), message, help));
    } else if steps.iter().any(|percent| percent * 100.0 < 1.0) {
        let message = "the smallest share is 0.01%";
        problems.push(out_of_range(format!("{pointer}/steps"), message, "begin with a larger share, such as `1%`"));
    }
    if progressive.min_requests < 100 {
        let message = format!("`min_requests` is {}; fewer than 100 say nothing", progressive.min_requests);
        problems.push(out_of_range(format!("{pointer}/min_requests"), message, "leave it out for 500"));
    }
    for (key, rate) in [
        ("false_rollback_rate", progressive.false_rollback_rate),
        ("false_promotion_rate", progressive.false_promotion_rate),
    ] {
        if !(1e-9..=0.5).contains(&rate) {
            let message = format!("`{key}` is {rate}; it can be 1e-9 to 0.5");
            problems.push(out_of_range(format!("{pointer}/{key}"), message, "write a small chance, such as 0.01"));
        }
    }
    guards(problems, &format!("{pointer}/guards"), &progressive.guards);
}

fn guards(problems: &mut Vec<Problem>, pointer: &str, guards: &Guards) {
    let mut positive = |key: &str, number: f64, most: f64| {
        if !(number > 0.0 && number <= most) {
            let last = key.rsplit('/').next().unwrap_or(key);
            let message = format!("`{last}` is {number}; it can be above 0, to {most}");
            let help = "write what is too much to accept, or leave it out";
            problems.push(out_of_range(format!("{pointer}/{key}"), message, help));
        }
    };
    if let Some(errors) = &guards.errors {
        positive("errors/max_increase", errors.max_increase.percent, 100.0);
    }
    if let Some(latency) = &guards.latency {
        positive("latency/quantile", latency.quantile, 0.999);
        positive("latency/max_ratio", latency.max_ratio, 1_000.0);
        positive("latency/max_increase", latency.max_increase.percent, 100.0);
    }
    if let Some(score_mean) = &guards.score_mean {
        positive("score_mean/max_change", score_mean.max_change, 100.0);
    }
    if let Some(score_drift) = &guards.score_drift {
        positive("score_drift/max_psi", score_drift.max_psi, 10.0);
    }
    if let Some(label_metric) = &guards.label_metric {
        positive("label_metric/max_worse", label_metric.max_worse, 1e12);
        name(problems, format!("{pointer}/label_metric/metric"), "a metric", &label_metric.metric);
    }
}
