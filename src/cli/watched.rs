//! What is configured, as pages and metrics want to know it.

use std::sync::Arc;

use crate::config::model::Model;
use crate::config::rules::Severity;
use crate::dispatch::actions::run::RunState;
use crate::event::Reason;
use crate::http::metrics::{Watched, WatchedModel, WatchedRule};
use crate::join::outcome::{LabelOutcome, PredictionOutcome};
use crate::rules::RuleSet;
use crate::rules::compile::Rule;
use crate::rules::expression::{Condition, Expression, Quantity};
use crate::telemetry::KnownLabels;

pub fn of(models: &[Arc<Model>], rules: &RuleSet) -> Watched {
    let model = |model: &Arc<Model>| WatchedModel { name: model.model.clone(), window_size_ms: model.windows.size.ms };
    let rule = |rule: &Rule| WatchedRule {
        name: rule.name.clone(),
        models: models
            .iter()
            .filter(|model| rule.matches_model(&model.model))
            .map(|model| model.model.clone())
            .collect(),
        severities: rule.severities(),
        thresholds: thresholds(rule),
    };
    Watched { models: models.iter().map(model).collect(), rules: rules.rules().iter().map(rule).collect() }
}

/// Levels of plain comparisons (`psi > 0.2`, `roc_auc < 0.9 with 95% confidence`), for lines in charts.
fn thresholds(rule: &Rule) -> Vec<(String, Severity, f64)> {
    let level = |expression: &Option<Expression>, severity: Severity| {
        let (name, level) = plain_level(&expression.as_ref()?.condition)?;
        Some((name, severity, level))
    };
    [level(&rule.warn, Severity::Warn), level(&rule.critical, Severity::Critical)].into_iter().flatten().collect()
}

/// A metric's name in results and the number that it is compared with.
fn plain_level(condition: &Condition) -> Option<(String, f64)> {
    match condition {
        Condition::Confident(confident) => plain_level(&confident.condition),
        Condition::Compare { left: Quantity::Metric(metric), right: Quantity::Number(level), .. } => {
            Some((metric.name.to_string(), *level))
        }
        Condition::Compare { left: Quantity::Figure(figure), right: Quantity::Number(level), .. } if !figure.gap => {
            Some((figure.key(), *level))
        }
        _ => None,
    }
}

/// Whether labels come on a topic of their own.
pub fn has_labels(model: &Model) -> bool {
    model.performance.as_ref().is_some_and(|performance| performance.labels.is_some())
}

/// Label values that counters can start at zero with.
pub fn labels(models: &[Arc<Model>], rules: &RuleSet) -> KnownLabels {
    let words = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
    let mut source_topics: Vec<String> = models.iter().flat_map(|model| model.topics.iter().cloned()).collect();
    source_topics.sort();
    source_topics.dedup();
    KnownLabels {
        roles: words(&["ingest", "join", "windows", "dispatch", "actions"]),
        source_topics,
        models: models.iter().map(|model| model.model.clone()).collect(),
        rules: rules.rules().iter().map(|rule| rule.name.clone()).collect(),
        receivers: rules.receivers().keys().cloned().collect(),
        dead_letter_reasons: Reason::ALL.iter().map(|reason| reason.as_str().to_string()).collect(),
        rule_outcomes: words(&["breached", "insignificant", "no_reference", "quiet", "suppressed"]),
        delivery_outcomes: words(&["delivered", "retry", "permanent"]),
        actions: rules.actions().keys().cloned().collect(),
        action_states: RunState::ALL.map(|state| state.word().to_string()).to_vec(),
        action_outcomes: words(&["accepted", "retry", "permanent"]),
        joined_models: models.iter().filter(|model| has_labels(model)).map(|model| model.model.clone()).collect(),
        join_prediction_outcomes: PredictionOutcome::ALL.map(|outcome| outcome.as_str().to_string()).to_vec(),
        join_label_outcomes: LabelOutcome::ALL.map(|outcome| outcome.as_str().to_string()).to_vec(),
    }
}
