//! The rules as the judge of the windows role: their states go to the `episodes` topic, their notifications to the
//! `outbox`.

use std::sync::Arc;

use crate::telemetry::Metrics;
use crate::windows::judge::{self, Judge, Verdict};
use crate::windows::result::ClosedWindow;

use super::state::StoredState;
use super::{Effect, ModelActivity, RuleSet, RuleStates};

/// Sees what the rules say before it becomes records; changes nothing.
pub trait Observer: Send {
    /// `None`: they were asked about the time, not about a window.
    fn judged(&mut self, closed: Option<&ClosedWindow>, effects: &[Effect]);
}

pub struct RulesJudge {
    rules: Arc<RuleSet>,
    states: RuleStates,
    metrics: Metrics,
    observer: Option<Box<dyn Observer>>,
    /// States of renamed rules have been looked for.
    renamed: bool,
}

impl RulesJudge {
    pub fn new(rules: Arc<RuleSet>, metrics: Metrics) -> Self {
        Self { rules, states: RuleStates::default(), metrics, observer: None, renamed: false }
    }

    pub fn observed(self, observer: Box<dyn Observer>) -> Self {
        Self { observer: Some(observer), ..self }
    }

    fn show(&mut self, closed: Option<&ClosedWindow>, effects: &[Effect]) {
        if let Some(observer) = &mut self.observer {
            observer.judged(closed, effects);
        }
    }

    /// Once, when everything has been read back.
    fn renames(&mut self) -> Vec<Effect> {
        if std::mem::replace(&mut self.renamed, true) { Vec::new() } else { self.rules.rename(&mut self.states) }
    }

    fn verdicts(&self, effects: Vec<Effect>) -> Vec<Verdict> {
        effects.into_iter().filter_map(|effect| self.verdict(effect)).collect()
    }

    fn verdict(&self, effect: Effect) -> Option<Verdict> {
        match effect {
            Effect::Notify(notification) if notification.suppressed.is_some() => {
                let by = notification.suppressed.as_ref().map_or("", |suppression| suppression.by.word());
                self.metrics.notifications_suppressed.with_label_values(&[notification.rule.as_str(), by]).inc();
                let value = unless_broken(serde_json::to_vec(&notification))?;
                Some(Verdict::Notify { key: notification.episode_id, value })
            }
            Effect::Ask(request) => {
                let value = unless_broken(serde_json::to_vec(&request))?;
                Some(Verdict::Notify { key: request.episode_id, value })
            }
            Effect::FactsChanged { key, facts } => {
                let key = String::from_utf8(unless_broken(serde_json::to_vec(&key))?).ok()?;
                let value = match facts {
                    Some(facts) => Some(unless_broken(serde_json::to_vec(&facts))?),
                    None => None,
                };
                Some(Verdict::State { key, value })
            }
            Effect::Notify(notification) => {
                let status = match notification.status {
                    super::episode::EpisodeStatus::Firing => "firing",
                    super::episode::EpisodeStatus::Resolved => "resolved",
                };
                self.metrics.notifications.with_label_values(&[notification.rule.as_str(), status]).inc();
                let value = unless_broken(serde_json::to_vec(&notification))?;
                Some(Verdict::Notify { key: notification.episode_id, value })
            }
            Effect::StateChanged { key, state: None } => Some(Verdict::State { key, value: None }),
            Effect::StateChanged { key, state: Some(state) } => {
                Some(Verdict::State { key, value: Some(unless_broken(serde_json::to_vec(&state))?) })
            }
            Effect::Evaluated { rule, outcome } => {
                self.metrics.rule_evaluations.with_label_values(&[rule.as_str(), outcome]).inc();
                None
            }
        }
    }
}

fn unless_broken(json: Result<Vec<u8>, serde_json::Error>) -> Option<Vec<u8>> {
    json.inspect_err(|error| tracing::error!(%error, "a rule's state could not be written")).ok()
}

impl Judge for RulesJudge {
    fn restore(&mut self, key: &str, value: &[u8]) {
        match StoredState::decode(key, value) {
            Ok(StoredState::Rule(state)) => self.states.restore(key.to_string(), Some(*state)),
            Ok(StoredState::Facts(key, facts)) => {
                self.states.facts.entry(key.model).or_default().insert(key.day, facts);
            }
            Err(error) => tracing::error!(%key, %error, "a rule's state could not be read and starts anew"),
        }
    }

    fn on_window(&mut self, closed: &ClosedWindow, now_ms: i64) -> Vec<Verdict> {
        let mut effects = self.renames();
        effects.extend(self.rules.on_window(&mut self.states, closed, now_ms));
        self.show(Some(closed), &effects);
        self.verdicts(effects)
    }

    fn on_clock(&mut self, activity: &[judge::ModelActivity], now_ms: i64) -> Vec<Verdict> {
        let activity: Vec<ModelActivity> = activity
            .iter()
            .map(|activity| ModelActivity {
                model: activity.model.clone(),
                last_arrival_ms: Some(activity.last_arrival_ms),
            })
            .collect();
        let mut effects = self.renames();
        effects.extend(self.rules.on_clock(&mut self.states, &activity, now_ms));
        self.show(None, &effects);
        self.verdicts(effects)
    }
}
