//! `absent: {after: 15m}`: models from which nothing arrives.
//!
//! The episode's first window is [last arrival, last arrival + after): with the log's own clock it is the same on
//! every replica, however often the clock is asked.

use super::compile::{Rule, RuleSet};
use super::engine::{Effect, ModelActivity, episode_id};
use super::episode::{EpisodeStatus, Finding, Notification};
use super::explanation::Explanation;
use super::reason;
use super::state::{RuleState, RuleStates, Told};
use crate::config::rules::Severity;
use crate::config::units::Span;
use crate::stats::metric::MetricValue;
use crate::windows::result::{Segment, Window};

impl RuleSet {
    /// Asks every `absent` rule about every model; silent where nothing changed since the last call.
    pub fn on_clock(&self, states: &mut RuleStates, activity: &[ModelActivity], now_ms: i64) -> Vec<Effect> {
        let mut effects = Vec::new();
        for rule in &self.rules {
            let Some(absent) = &rule.absent else { continue };
            for model in activity.iter().filter(|model| rule.matches_model(&model.model)) {
                let Some(last_ms) = model.last_arrival_ms else { continue };
                let empty = RuleState::new(&rule.name, &model.model, None, &Segment::default(), None);
                let key = empty.key();
                let told = states.by_key.get(&key).and_then(|state| state.told.clone());
                let is_absent = now_ms.saturating_sub(last_ms) >= absent.after.ms;
                let window = Window { start_ms: last_ms, end_ms: last_ms.saturating_add(absent.after.ms) };
                let news = match (told.filter(|told| told.firing), is_absent) {
                    (None, true) => (EpisodeStatus::Firing, self.begun(rule, &empty, absent.severity, window)),
                    (Some(told), false) => (EpisodeStatus::Resolved, Told { firing: false, ..told }),
                    _ => continue,
                };
                let (status, told) = news;
                let heard = Heard { status, window, after: absent.after, now_ms };
                effects.push(Effect::Notify(absence_notification(rule, &model.model, &told, &heard)));
                let told = Told { next_sequence: told.next_sequence + 1, ..told };
                let mut state = empty;
                state.told = Some(told);
                states.by_key.insert(key.clone(), state.clone());
                effects.push(Effect::StateChanged { key, state: Some(state) });
            }
        }
        effects
    }

    fn begun(&self, rule: &Rule, state: &RuleState, severity: Severity, first: Window) -> Told {
        Told {
            episode_id: episode_id(state, first),
            next_sequence: 0,
            first,
            severity,
            receivers: self.route(&rule.name, &state.model, severity),
            firing: true,
            estimated: false,
        }
    }
}

struct Heard {
    status: EpisodeStatus,
    window: Window,
    after: Span,
    now_ms: i64,
}

fn absence_notification(rule: &Rule, model: &str, told: &Told, heard: &Heard) -> Notification {
    let silent_s = heard.now_ms.saturating_sub(heard.window.start_ms) as f64 / 1_000.0;
    let (reason, summary) = match heard.status {
        EpisodeStatus::Firing => {
            let word = if told.severity == Severity::Warn { "warn" } else { "critical" };
            let reason = reason::absence(&heard.after.to_string(), heard.window);
            (reason, format!("{} {word}: {model}, no events for {}", rule.name, heard.after))
        }
        EpisodeStatus::Resolved => {
            let arrived = reason::instant(heard.window.start_ms);
            (
                format!("events arrive again, the last one {arrived}"),
                format!("{} resolved: {model}, events arrive again", rule.name),
            )
        }
    };
    let finding = Finding {
        feature: None,
        segment: Segment::default(),
        severity: told.severity,
        metric: "seconds_since_last_event".into(),
        value: MetricValue::exact(silent_s),
        condition: format!("absent for {}", heard.after),
        threshold: None,
        effect_psi: None,
        p_value: None,
        p_adjusted: None,
        inflation: None,
        n: 0,
        n_reference: 0,
        performance: None,
        moved: Vec::new(),
        explanation: Explanation::default(),
        reason,
    };
    Notification {
        id: format!("{}-{}", told.episode_id, told.next_sequence),
        episode_id: told.episode_id.clone(),
        sequence: told.next_sequence,
        status: heard.status,
        severity: told.severity,
        rule: rule.name.clone(),
        model: model.to_string(),
        version: String::new(),
        segment: Segment::default(),
        feature: None,
        summary,
        findings: vec![finding],
        reference: String::new(),
        reference_id: String::new(),
        first_window: told.first,
        window: heard.window,
        windows_breached: u32::from(heard.status == EpisodeStatus::Firing),
        windows_considered: 1,
        rows: 0,
        at_ms: heard.now_ms,
        receivers: told.receivers.clone(),
        description: None,
        runbook: None,
        actions: Vec::new(),
    }
}
