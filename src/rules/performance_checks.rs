//! What rules on performance get wrong together with the models they name, and other rules about performance.

use std::collections::BTreeSet;
use std::ops::Range;

use super::compile::{Rule, label_delay_ms};
use super::engine::MAX_LABELLED_STEPS;
use super::expression::{Expression, Figure};
use super::metrics::{Metric, Subject};
use super::performance_metrics::{At, Basis, PERFORMANCE_METRICS};
use crate::config::diagnostic::Problem;
use crate::config::model::Model;
use crate::config::nearest::suggest;
use crate::config::performance::{ERROR_SIGNAL, Performance, Task};
use crate::config::units::Span;
use crate::reference::moving::ReferenceTime;
use crate::stats::change::CHANGE_POINTS;

/// Places of a rule where conditions stand.
fn conditions(rule: &Rule) -> impl Iterator<Item = (&Expression, &'static str)> {
    let places = [(&rule.warn, "when/warn"), (&rule.critical, "when/critical"), (&rule.recover, "recover")];
    places.into_iter().filter_map(|(expression, key)| Some((expression.as_ref()?, key)))
}

/// Of a rule that looks at features: what belongs to performance.
pub fn misplaced(rule: &Rule, pointer: &str, found: &mut Vec<Problem>) {
    if rule.labels.is_some() {
        let problem = Problem::error("unsuited-key", format!("{pointer}/labels"), "only performance waits for labels");
        found.push(problem.key().help("add `signal: performance`, or leave `labels` out; routes match severities"));
    }
    for (expression, key) in conditions(rule) {
        for (figure, at) in &expression.figures {
            let message = format!("`{}` is how well the model did, not what its features are", figure.written());
            let problem = Problem::error("unsuited-metric", format!("{pointer}/{key}"), message).within(at.clone());
            found.push(problem.help("add `signal: performance` to the rule"));
        }
    }
}

/// Of a rule on performance.
pub fn rule_problems(rule: &Rule, pointer: &str, models: &[&Model], found: &mut Vec<Problem>) {
    let judged: Vec<(&Model, &Performance)> =
        models.iter().filter_map(|model| Some((*model, model.performance.as_ref()?))).collect();
    if judged.is_empty() {
        let message = "no model of this rule says how its predictions are judged";
        let problem = Problem::error("unknown-signal", format!("{pointer}/signal"), message);
        found.push(problem.help("add `performance: {task: ..., labels: {topics: [...]}}` to the model file"));
        return;
    }
    if rule.features != Default::default() {
        let message = "performance is of the model, not of its features";
        found.push(Problem::error("unsuited-key", format!("{pointer}/features"), message).key());
    }
    if rule.moving.as_ref().is_some_and(|moving| moving.time != ReferenceTime::Same) {
        let message = "performance is compared with the stored reference or with another version in the same window";
        let problem = Problem::error("unsupported-reference", format!("{pointer}/reference"), message).key();
        found.push(problem.help("leave `reference` out, or write `reference: {version: \"3\"}`"));
    }
    labels(rule, pointer, &judged, found);
    for (expression, key) in conditions(rule) {
        let place = format!("{pointer}/{key}");
        let mut report = |at: &Range<usize>, message: String, help: Option<String>| {
            found.push(Problem::error("unsuited-metric", &place, message).within(at.clone()).help_if(help));
        };
        for (metric, at) in expression.metrics.iter().filter(|(metric, _)| metric.subject != Subject::Performance) {
            if let Some((message, help)) = other_metric(metric, models) {
                report(at, message, Some(help));
            }
        }
        for at in &expression.quantifiers {
            let message = "this asks about features; performance is of the model".to_string();
            report(at, message, Some("`gap(recall) > 10%` compares segments".into()));
        }
        for (figure, at) in &expression.figures {
            if figure.gap && rule.segments.is_empty() {
                let message = "`gap` compares segments, and this rule has none".to_string();
                report(at, message, Some("add `segments: [...]` to the rule".into()));
            }
            // One model that has the figure is enough.
            let misfits: Option<Vec<Misfit>> =
                judged.iter().map(|(model, about)| misfit(figure, model, about)).collect();
            if let Some(Misfit { message, help }) = misfits.and_then(|misfits| misfits.into_iter().next()) {
                report(at, message, help);
            }
        }
    }
}

/// Why a figure has no value for a model, and what would help.
struct Misfit {
    message: String,
    help: Option<String>,
}

fn misfit(figure: &Figure, model: &Model, about: &Performance) -> Option<Misfit> {
    let row = figure.metric;
    let (name, task) = (row.metric.name, about.task);
    let misfit = |message: String, help: &str| Some(Misfit { message, help: Some(help.into()) });
    if !row.suits(task) {
        let of_task = PERFORMANCE_METRICS.iter().filter(|row| row.suits(task)).map(|row| row.metric.name);
        let help = suggest(name, of_task).unwrap_or_else(|| format!("such a model has {}", customary(task)));
        let message = format!("`{}` is {}: it has no `{name}`", model.model, predicate(task));
        return misfit(message, &help);
    }
    if name.starts_with("value") && about.value.is_none() {
        let message = format!("`{}` does not say what an outcome is worth", model.model);
        return misfit(
            message,
            "add `performance: {value: {true_positive: ..., false_positive: ...}}` to the model file",
        );
    }
    let is_of_scores = row.basis == Basis::Estimate || OF_SCORES.contains(&name);
    match task {
        Task::Binary if (is_of_scores || figure.at.is_some()) && model.score.is_none() => {
            let message = format!("`{}` has no score, which `{}` is of", model.model, figure.written());
            misfit(message, "add `score: {path: ..., type: numeric}` to the model file")
        }
        Task::Multiclass if is_of_scores && about.class_scores.is_empty() => {
            let message = format!("`{}` has no scores of its classes, which `{name}` is of", model.model);
            misfit(message, "add `performance: {class_scores: {...}}` to the model file")
        }
        Task::Multiclass if figure.at.is_some() => {
            let message = format!("`{}` has many classes, and no threshold of the score", model.model);
            misfit(message, &format!("write `{name}`"))
        }
        Task::Ranking if row.at != At::Nothing => places(figure, model, about),
        _ => None,
    }
}

/// Metrics of the score, not of the predicted class.
const OF_SCORES: [&str; 9] =
    ["roc_auc", "pr_auc", "log_loss", "brier", "ece", "ks_score", "gini", "calibration_shift", "roc_auc_ovr_macro"];

/// Of a ranking: are so many first places looked at?
fn places(figure: &Figure, model: &Model, about: &Performance) -> Option<Misfit> {
    let name = figure.metric.metric.name;
    let of: Vec<u32> = if about.top_k.is_empty() { vec![10] } else { about.top_k.clone() };
    if figure.at.is_some_and(|at| of.iter().any(|k| f64::from(*k) == at)) {
        return None;
    }
    let written: Vec<String> = of.iter().map(|k| format!("`{name}@{k}`")).collect();
    let message = match figure.at {
        Some(at) => format!("`{}` does not look at the first {at} places", model.model),
        None => format!("`{name}` of a ranking is of its first places: of how many?"),
    };
    let help = format!("write {}, or add to `performance: {{top_k: [...]}}` in the model file", written.join(" or "));
    Some(Misfit { message, help: Some(help) })
}

fn predicate(task: Task) -> &'static str {
    match task {
        Task::Binary => "a binary classifier",
        Task::Multiclass => "a classifier of many classes",
        Task::Regression => "a regression",
        Task::Ranking => "a ranking",
    }
}

fn customary(task: Task) -> &'static str {
    match task {
        Task::Binary => "`roc_auc`, `recall` and `precision`",
        Task::Multiclass => "`accuracy`, `f1_macro` and `log_loss`",
        Task::Regression => "`mae`, `rmse` and `bias`",
        Task::Ranking => "`ndcg@10` and `mrr`",
    }
}

/// What a metric that is not of performance has no business with in such a rule.
fn other_metric(metric: &Metric, models: &[&Model]) -> Option<(String, String)> {
    match metric.name {
        "row_count" => None,
        CHANGE_POINTS => {
            let mut detectors = models.iter().flat_map(|model| &model.change_detectors);
            let is_watched = detectors.any(|detector| detector.signal == ERROR_SIGNAL);
            let help = format!("add `change_detectors: [{{signal: {ERROR_SIGNAL}, method: ddm}}]` to the model file");
            (!is_watched).then(|| ("no model of this rule has its errors watched for changes".to_string(), help))
        }
        name => {
            let message = format!("`{name}` is of features and events, not of performance");
            Some((message, "make another rule of it, without `signal: performance`".to_string()))
        }
    }
}

/// How long labels are waited for.
fn labels(rule: &Rule, pointer: &str, judged: &[(&Model, &Performance)], found: &mut Vec<Problem>) {
    let own_delay_ms = rule.labels.and_then(|labels| labels.delay).map(|delay| delay.ms);
    let longest_ms = judged.iter().map(|(model, _)| label_delay_ms(model)).max().unwrap_or(0);
    let place = format!("{pointer}/labels/delay");
    match own_delay_ms {
        Some(_) if longest_ms == 0 => {
            let message = "labels come with the predictions of this rule's models: there is nothing to wait for";
            found.push(Problem::error("unsuited-key", place, message).key().help("leave `delay` out"));
            return;
        }
        Some(0) => {
            let message = "labels that are not waited for never count";
            found.push(Problem::error("out-of-range", place, message).help("leave `delay` out"));
            return;
        }
        Some(delay_ms) if delay_ms > longest_ms => {
            let longest = Span::from_ms(longest_ms);
            let message = format!("predictions are kept for {longest}: later labels meet none");
            let help = format!(
                "write at most `{longest}`, or a longer `performance: {{labels: {{delay: ...}}}}` in the model file"
            );
            found.push(Problem::error("out-of-range", place, message).help(help));
            return;
        }
        _ => {}
    }
    let most: BTreeSet<i64> = (judged.iter())
        .map(|(model, _)| {
            let slide_ms = rule.window_spec(model.windows.size.ms).slide_ms.max(1);
            let delay_ms = own_delay_ms.unwrap_or(i64::MAX).min(label_delay_ms(model));
            (delay_ms.saturating_add(model.windows.allowed_lateness.ms)) / slide_ms + i64::from(rule.persistence.of) + 1
        })
        .collect();
    if let Some(most) = most.last().filter(|most| **most > MAX_LABELLED_STEPS) {
        let message = format!("labels may come for {most} windows at once, and {MAX_LABELLED_STEPS} are kept");
        let place = if rule.window.is_some() { "window" } else { "signal" };
        let problem = Problem::error("out-of-range", format!("{pointer}/{place}"), message);
        found.push(problem.help("give the rule a longer `window`, or a shorter `labels: {delay: ...}`"));
    }
}
