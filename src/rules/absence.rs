//! `absent: {after: 15m}`: models from which nothing arrives.
//!
//! The episode's first window is [last arrival, last arrival + after): with the log's own clock it is the same on
//! every replica, however often the clock is asked.

use super::action_request::ActionRequest;
use super::compile::{Rule, RuleSet};
use super::engine::{Effect, ModelActivity, episode_id};
use super::episode::{EpisodeStatus, Finding, Notification};
use super::explanation::Explanation;
use super::news::{self, News};
use super::reason;
use super::state::{RuleState, RuleStates, Told};
use super::suppression::About;
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
                let mut state = states.by_key.remove(&key).unwrap_or_else(|| empty.clone());
                let asked = Asked { rule, after: absent.after, severity: absent.severity, last_ms, now_ms };
                let requests = self.ask_clock(states, &asked, &mut state, &mut effects);
                if state != empty {
                    states.by_key.insert(key, state);
                }
                effects.extend(self.with_facts(states, requests));
            }
        }
        effects
    }

    /// One model at one instant; answers what is to be done.
    fn ask_clock(
        &self,
        states: &RuleStates,
        asked: &Asked<'_>,
        state: &mut RuleState,
        effects: &mut Vec<Effect>,
    ) -> Vec<ActionRequest> {
        let Asked { rule, after, severity, last_ms, now_ms } = *asked;
        let is_absent = now_ms.saturating_sub(last_ms) >= after.ms;
        let window = Window { start_ms: last_ms, end_ms: last_ms.saturating_add(after.ms) };
        let suppression = is_absent
            .then(|| {
                // Asked of the time just past, in which nothing arrived either, so that it is told once a silence is over.
                let recent = Window { start_ms: now_ms.saturating_sub(after.ms), end_ms: now_ms };
                let segments = vec![state.segment.to_string()];
                let about = About { rule, state, version: "", severity, features: vec![], segments, window: recent };
                self.suppression(states, &about)
            })
            .flatten();
        let quiet = suppression.is_some();
        let open = state.told.clone().filter(|told| told.firing);
        let news = match (open, is_absent) {
            (None, true) => {
                let begun = Told {
                    episode_id: episode_id(state, window),
                    next_sequence: 0,
                    first: window,
                    severity,
                    receivers: Vec::new(),
                    firing: true,
                    estimated: false,
                    held: false,
                };
                Some(News::of(begun, EpisodeStatus::Firing, severity, true, quiet))
            }
            (Some(told), true) if told.held && !quiet => {
                let severity = told.severity;
                Some(News::of(told, EpisodeStatus::Firing, severity, true, false))
            }
            (Some(told), false) => {
                let (severity, unheard) = (told.severity, told.receivers.is_empty());
                Some(News::of(told, EpisodeStatus::Resolved, severity, false, unheard))
            }
            _ => None,
        };
        let mut requests = Vec::new();
        let mut changed = news.is_some();
        if let Some(mut news) = news {
            let mut notification = absence_notification(asked, state, &news, window);
            if news.quiet {
                notification.suppressed = suppression.clone().or_else(|| state.suppressed.clone());
            }
            news.address(&mut notification, self);
            if notification.status == EpisodeStatus::Firing && !news.quiet {
                notification.actions = rule.actions.clone();
                requests = news::requests(rule, &notification);
            }
            effects.push(Effect::Notify(notification));
            state.told = Some(news.told);
        }
        changed |= state.suppress(suppression);
        if self.is_inhibitor(&rule.name) && changed {
            // By the log's clock, which windows do not know of.
            let first = state.told.as_ref().filter(|told| told.firing).map(|told| told.first);
            state.follow_firing(first, i64::MIN, last_ms);
        }
        if changed {
            effects.push(Effect::StateChanged { key: state.key(), state: Some(state.clone()) });
        }
        requests
    }
}

/// One rule, asked about one model.
#[derive(Clone, Copy)]
struct Asked<'a> {
    rule: &'a Rule,
    after: Span,
    severity: Severity,
    last_ms: i64,
    now_ms: i64,
}

fn absence_notification(asked: &Asked<'_>, state: &RuleState, news: &News, window: Window) -> Notification {
    let Asked { rule, after, now_ms, .. } = *asked;
    let (model, told) = (state.model.as_str(), &news.told);
    let silent_s = now_ms.saturating_sub(window.start_ms) as f64 / 1_000.0;
    let (reason, summary) = match news.status {
        EpisodeStatus::Firing => {
            let word = if told.severity == Severity::Warn { "warn" } else { "critical" };
            let reason = reason::absence(&after.to_string(), window);
            (reason, format!("{} {word}: {model}, no events for {after}", rule.name))
        }
        EpisodeStatus::Resolved => {
            let arrived = reason::instant(window.start_ms);
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
        condition: format!("absent for {after}"),
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
    let mut notification = Notification {
        id: format!("{}-{}", told.episode_id, news.sequence),
        episode_id: told.episode_id.clone(),
        sequence: news.sequence,
        status: news.status,
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
        window,
        windows_breached: u32::from(news.status == EpisodeStatus::Firing),
        windows_considered: 1,
        rows: 0,
        at_ms: now_ms,
        receivers: Vec::new(),
        suppressed: None,
        description: None,
        runbook: None,
        actions: Vec::new(),
    };
    rule.texts.write(&mut notification);
    notification
}
