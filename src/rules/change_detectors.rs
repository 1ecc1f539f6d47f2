//! What a model file, and rules on `change_points`, get wrong about change detectors.

use super::compile::Rule;
use crate::config::diagnostic::Problem;
use crate::config::model::{Kind, Model};
use crate::config::nearest::suggest;
use crate::config::performance::{ERROR_SIGNAL, Task};
use crate::stats::change::{CHANGE_POINTS, Method};

/// Detectors of one model: each has a state for every version and source partition.
const MOST_DETECTORS: usize = 32;

pub fn model_problems(model: &Model) -> Vec<Problem> {
    let mut found = Vec::new();
    let signals = model.signals();
    for (index, detector) in model.change_detectors.iter().enumerate() {
        let pointer = format!("/change_detectors/{index}");
        let signal = &detector.signal;
        match signals.iter().find(|known| known.name == *signal) {
            None if signal == ERROR_SIGNAL && model.performance.is_some() => error_signal(model, &pointer, &mut found),
            None => {
                let message = format!("this model has no signal `{signal}`");
                let help = match signal == ERROR_SIGNAL {
                    true => Some("add `performance: {task: ..., labels: {topics: [...]}}`".to_string()),
                    false => suggest(signal, signals.iter().map(|known| known.name.as_str()).chain([ERROR_SIGNAL])),
                };
                let help = help.unwrap_or_else(|| "name a numeric feature, or `prediction.score`".into());
                found.push(Problem::error("unknown-signal", format!("{pointer}/signal"), message).help(help));
            }
            Some(known) if known.kind != Kind::Numeric => {
                let message = format!("`{signal}` is categorical: change detectors read numbers");
                found.push(Problem::error("unsuited-signal", format!("{pointer}/signal"), message));
            }
            Some(_) => {}
        }
        match Method::configured(detector) {
            Err(reason) => {
                let known = detector.parameters.keys().find(|name| reason.contains(&format!("`{name}`")));
                let pointer = known.map_or_else(|| format!("{pointer}/method"), |name| format!("{pointer}/{name}"));
                found.push(Problem::error("bad-parameter", pointer, reason).help("docs/statistics.md lists them"));
            }
            Ok(_) if model.change_detectors[..index].contains(detector) => {
                found.push(Problem::error("duplicate", pointer, "this detector stands here twice"));
            }
            Ok(_) => {}
        }
    }
    if model.change_detectors.len() > MOST_DETECTORS {
        let message = format!("{} change detectors, {MOST_DETECTORS} are the most", model.change_detectors.len());
        found.push(Problem::error("out-of-range", "/change_detectors", message).key());
    }
    found
}

/// Errors of rankings are no numbers that a detector could read.
fn error_signal(model: &Model, pointer: &str, found: &mut Vec<Problem>) {
    if model.performance.as_ref().is_some_and(|performance| performance.task == Task::Ranking) {
        let message = "a ranking has no error of each prediction";
        found.push(Problem::error("unsuited-signal", format!("{pointer}/signal"), message));
    }
}

/// Where rules ask for changes of signals that nobody watches.
pub fn rule_problems(rule: &Rule, pointer: &str, models: &[&Model], found: &mut Vec<Problem>) {
    for (expression, key) in [(&rule.warn, "when/warn"), (&rule.critical, "when/critical"), (&rule.recover, "recover")]
    {
        let asked = expression.iter().flat_map(|expression| &expression.metrics);
        for (_, at) in asked.filter(|(metric, _)| metric.name == CHANGE_POINTS) {
            let mut watched = models.iter().flat_map(|model| &model.change_detectors);
            let mut signals = models.iter().flat_map(|model| model.signals());
            let could_be = signals.any(|signal| signal.kind == Kind::Numeric && rule.selects(&signal.name));
            if !could_be || watched.any(|detector| rule.selects(&detector.signal)) {
                continue;
            }
            let message = format!("no signal of this rule is watched for changes: `{CHANGE_POINTS}` has no value");
            let help = match &rule.signal {
                Some(signal) => {
                    format!("add `change_detectors: [{{signal: {signal}, method: adwin}}]` to the model file")
                }
                None => "add `change_detectors: [{signal: ..., method: adwin}]` to the model file".to_string(),
            };
            let problem = Problem::error("no-detector", format!("{pointer}/{key}"), message).within(at.clone());
            found.push(problem.help(help));
        }
    }
}
