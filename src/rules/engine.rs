//! Closed windows in, effects out: evaluates every rule that the window concerns, moves its groups, and says what
//! people must hear.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest, Sha256};

use super::compile::{ModelWindows, Rule, RuleSet};
use super::episode::{EpisodeStatus, Finding, Notification};
use super::evaluate::{Decider, Judgement, evaluate};
use super::reason::{self, Ended, Persisted};
use super::sql;
use super::state::{Contribution, Keep, Pair, RuleState, RuleStates, Standing, Taken, Told};
use super::worst_segment::{self, Question};
use crate::config::rules::{GroupKey, Severity};
use crate::windows::result::{ClosedWindow, Segment, Window, WindowResult};

/// What the caller must do, in this order.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Write to the outbox.
    Notify(Notification),
    /// Write to the `episodes` topic under `key`; `None` is a tombstone.
    StateChanged { key: String, state: Option<RuleState> },
    /// Count: `breached`, `quiet`, `insignificant`, the words of [`super::state::Mute`], `known`.
    Evaluated { rule: String, outcome: &'static str },
}

/// When a model last had an event, by the log's clock.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelActivity {
    pub model: String,
    /// `None`: never; a model that has not begun is not absent.
    pub last_arrival_ms: Option<i64>,
}

/// One group of a rule in one window.
#[derive(Debug, Default)]
struct Group<'e, 'a> {
    judgements: Vec<&'e Judgement<'a>>,
}

/// A change to tell, without its wording.
struct News {
    status: EpisodeStatus,
    severity: Severity,
    told: Told,
    sequence: u32,
}

impl RuleSet {
    /// Evaluates a closed (or revised) window. Windows of one model version must come in order of their end;
    /// the same window at the same revision changes nothing. `now_ms` stands in notifications and nowhere else.
    pub fn on_window(&self, states: &mut RuleStates, closed: &ClosedWindow, now_ms: i64) -> Vec<Effect> {
        let mut effects = Vec::new();
        let Some(model) = self.models.get(&closed.model) else { return effects };
        let size_ms = closed.window.end_ms - closed.window.start_ms;
        for rule in self.rules.iter().filter(|rule| rule.absent.is_none()) {
            let spec = rule.window_spec(model.size_ms);
            let its_window = spec.size_ms == size_ms && closed.window.start_ms.rem_euclid(spec.slide_ms.max(1)) == 0;
            if its_window && rule.matches(&closed.model, &closed.version) && is_about(rule, closed) {
                let keep = keep(rule, *model, spec.slide_ms);
                self.evaluate_rule(rule, states, closed, keep, now_ms, &mut effects);
            }
        }
        effects
    }

    fn evaluate_rule(
        &self,
        rule: &Rule,
        states: &mut RuleStates,
        closed: &ClosedWindow,
        keep: Keep,
        now_ms: i64,
        effects: &mut Vec<Effect>,
    ) {
        let outcome = |outcome| Effect::Evaluated { rule: rule.name.clone(), outcome };
        let results = looked_at(rule, closed);
        if results.is_empty() {
            effects.push(outcome("no_reference"));
            return;
        }
        let evaluation = evaluate(rule, &results);
        for (segment, mute) in &evaluation.muted {
            let empty = empty_state(rule, closed, &Pair { segment: segment.clone(), feature: None });
            if let Some(state) = states.by_key.get_mut(&empty.key()).filter(|state| state.muted != Some(*mute)) {
                state.muted = Some(*mute);
                effects.push(Effect::StateChanged { key: state.key(), state: Some(state.clone()) });
            }
            effects.push(outcome(mute.word()));
        }
        let mut groups: BTreeMap<String, (RuleState, Group<'_, '_>)> = BTreeMap::new();
        for judgement in &evaluation.judgements {
            let state = empty_state(rule, closed, &judgement.pair);
            let (_, group) = groups.entry(state.key()).or_insert_with(|| (state, Group::default()));
            group.judgements.push(judgement);
        }
        for (key, (empty, group)) in groups {
            let state = states.by_key.entry(key.clone()).or_insert(empty);
            let contribution = group.contribution(rule, closed.revision);
            let word = group.outcome();
            let before = state.standing(rule.persistence);
            let taken = state.take(closed.window, &closed.version, contribution, rule.persistence, keep);
            if taken == Taken::Known {
                effects.push(outcome("known"));
                continue;
            }
            let mut changed = taken == Taken::Changed;
            changed |= state.muted.take().is_some();
            let after = state.standing(rule.persistence);
            if let Some(news) = self.news(rule, closed, state, &group, &after) {
                effects.push(Effect::Notify(notification(
                    rule,
                    closed,
                    state,
                    &group,
                    &news,
                    (&before, &after),
                    now_ms,
                )));
                state.tell(news.told);
                changed = true;
            }
            effects.push(outcome(word));
            if changed {
                effects.push(Effect::StateChanged { key, state: Some(state.clone()) });
            }
        }
    }

    /// Compares where the group stands with what was told last.
    fn news(
        &self,
        rule: &Rule,
        closed: &ClosedWindow,
        state: &RuleState,
        group: &Group<'_, '_>,
        after: &Standing,
    ) -> Option<News> {
        let open = state.told.clone().filter(|told| told.firing);
        match (open, after.phase.episode()) {
            (None, None) => None,
            (Some(told), Some((severity, _))) if severity <= told.severity => {
                // People were told of an estimate: that the labels confirm it is worth a word, once.
                let confirmed = told.estimated && closed.window.start_ms >= told.first.start_ms && group.is_realised();
                let severity = told.severity;
                let told = Told { estimated: false, ..told };
                confirmed.then(|| told_more(told, EpisodeStatus::Firing, severity, Vec::new()))
            }
            (Some(told), Some((severity, _))) => {
                let receivers = self.route(&rule.name, &closed.model, severity);
                let told = Told { estimated: told.estimated && !group.is_realised(), ..told };
                Some(told_more(told, EpisodeStatus::Firing, severity, receivers))
            }
            (Some(told), None) => {
                let severity = told.severity;
                Some(told_more(told, EpisodeStatus::Resolved, severity, Vec::new()))
            }
            (None, Some((severity, first))) => {
                let episode_id = episode_id(state, first);
                let receivers = self.route(&rule.name, &closed.model, severity);
                let begun = state.told_of(&episode_id).cloned().unwrap_or(Told {
                    episode_id,
                    next_sequence: 0,
                    first,
                    severity,
                    receivers: Vec::new(),
                    firing: false,
                    estimated: false,
                });
                let begun = Told { estimated: group.is_estimate(), ..begun };
                Some(told_more(begun, EpisodeStatus::Firing, severity, receivers))
            }
        }
    }
}

/// A limit on what one state holds, whatever the lateness allowed.
const MAX_STEPS: i64 = 256;
/// The same of rules on performance, whose windows are revised until the labels are in.
pub(super) const MAX_LABELLED_STEPS: i64 = 1_024;

/// How long the windows of a rule can be revised.
fn keep(rule: &Rule, model: ModelWindows, slide_ms: i64) -> Keep {
    let slide_ms = slide_ms.max(1);
    let (of, lateness_ms) = (i64::from(rule.persistence.of), model.allowed_lateness_ms);
    let Some(needs) = rule.performance else {
        let windows = (of + lateness_ms / slide_ms + 1).clamp(1, MAX_STEPS) as usize;
        return Keep { windows, revisable_ms: i64::MAX };
    };
    let delay_ms = needs.delay_ms.unwrap_or(i64::MAX).min(model.label_delay_ms);
    let revisable_ms = delay_ms.saturating_add(lateness_ms);
    let windows = (of + revisable_ms / slide_ms + 1).clamp(1, MAX_LABELLED_STEPS) as usize;
    Keep { windows, revisable_ms: revisable_ms.max(of * slide_ms) }
}

/// Whether what has closed is of the kind that the rule looks at: performance, or everything else.
fn is_about(rule: &Rule, closed: &ClosedWindow) -> bool {
    closed.results.iter().any(|result| result.performance.is_some() == rule.performance.is_some())
}

fn told_more(told: Told, status: EpisodeStatus, severity: Severity, receivers: Vec<String>) -> News {
    let sequence = told.next_sequence;
    let mut told = Told { next_sequence: sequence + 1, severity, firing: status == EpisodeStatus::Firing, ..told };
    for receiver in receivers {
        if !told.receivers.contains(&receiver) {
            told.receivers.push(receiver);
        }
    }
    News { status, severity, told, sequence }
}

/// First 16 hexadecimal digits of the SHA-256 of rule, model, version, group and first breaching window: the same
/// on any replica and in any replay.
pub(super) fn episode_id(state: &RuleState, first: Window) -> String {
    let digest = Sha256::digest(format!("{}@{}", state.key(), first.start_ms).as_bytes());
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// Results of the rule's reference and segments, the whole first.
fn looked_at<'a>(rule: &Rule, closed: &'a ClosedWindow) -> Vec<&'a WindowResult> {
    let mut seen: BTreeSet<&Segment> = BTreeSet::new();
    closed
        .results
        .iter()
        .filter(|result| result.performance.is_some() == rule.performance.is_some())
        .filter(|result| {
            let needs_none = (rule.counts_rows_only || rule.sql.is_some()) && rule.moving.is_none();
            needs_none || result.reference == rule.reference
        })
        .filter(|result| sql::is_about(rule, result))
        .filter(|result| result.segment.is_all() || rule.segments.contains(&result.segment.column))
        .filter(|result| seen.insert(&result.segment))
        .collect()
}

/// The state of a pair's group before its first window.
fn empty_state(rule: &Rule, closed: &ClosedWindow, pair: &Pair) -> RuleState {
    let by = |key| rule.group_by.contains(&key);
    let version = by(GroupKey::Version).then_some(closed.version.as_str());
    let segment = if by(GroupKey::Segment) { pair.segment.clone() } else { Segment::default() };
    let feature = pair.feature.as_deref().filter(|_| by(GroupKey::Feature));
    RuleState::new(&rule.name, &closed.model, version, &segment, feature)
}

impl Group<'_, '_> {
    fn contribution(&self, rule: &Rule, revision: u32) -> Contribution {
        let breaching = self
            .judgements
            .iter()
            .filter_map(|judgement| judgement.breach.as_ref().map(|breach| (judgement.pair.clone(), breach.severity)));
        let unrecovered = self.judgements.iter().filter(|judgement| rule.recover.is_some() && judgement.unrecovered);
        Contribution {
            revision,
            breaching: breaching.collect(),
            unrecovered: unrecovered.map(|judgement| judgement.pair.clone()).collect(),
        }
    }

    fn deciders(&self) -> impl Iterator<Item = &Decider> {
        self.judgements.iter().filter_map(|judgement| judgement.breach.as_ref()).map(|breach| &breach.decider)
    }

    /// Whether it breaches by estimates alone.
    fn is_estimate(&self) -> bool {
        self.deciders().next().is_some() && self.deciders().all(Decider::is_estimate)
    }

    /// Whether it breaches by a figure that rests on labels.
    fn is_realised(&self) -> bool {
        self.deciders().any(|decider| decider.performance.is_some() && !decider.is_estimate())
    }

    fn outcome(&self) -> &'static str {
        if self.judgements.iter().any(|judgement| judgement.breach.is_some()) {
            "breached"
        } else if self.judgements.iter().any(|judgement| judgement.insignificant) {
            "insignificant"
        } else {
            "quiet"
        }
    }
}

fn notification(
    rule: &Rule,
    closed: &ClosedWindow,
    state: &RuleState,
    group: &Group<'_, '_>,
    news: &News,
    (before, after): (&Standing, &Standing),
    now_ms: i64,
) -> Notification {
    let persisted = match news.status {
        EpisodeStatus::Firing => Persisted { breached: after.windows_breached, considered: after.windows_considered },
        EpisodeStatus::Resolved => Persisted { breached: 0, considered: rule.persistence.needed },
    };
    let was_estimate = before_news(state).is_some_and(|told| told.estimated);
    let mut findings: Vec<Finding> = match news.status {
        EpisodeStatus::Firing => reason::breaches(rule, &group.judgements, persisted, was_estimate),
        EpisodeStatus::Resolved => Vec::new(),
    };
    findings.iter_mut().for_each(|finding| locate(rule, closed, group, finding));
    if findings.is_empty() {
        // The end of an episode, or a revision that revived one although its own window breaches nothing.
        let members = before.members.union(&after.members);
        let family = looked_at(rule, closed);
        let ended = Ended { family: &family, severity: news.severity, was_estimate };
        findings = reason::recoveries(rule, &group.judgements, members, &ended);
    }
    let result = group.judgements.first().map(|judgement| judgement.result);
    let who = reason::who(&closed.model, &closed.version, &state.segment);
    Notification {
        id: format!("{}-{}", news.told.episode_id, news.sequence),
        episode_id: news.told.episode_id.clone(),
        sequence: news.sequence,
        status: news.status,
        severity: news.severity,
        rule: rule.name.clone(),
        model: closed.model.clone(),
        version: closed.version.clone(),
        segment: state.segment.clone(),
        feature: state.feature.clone(),
        summary: reason::summary(rule, &who, news.status, news.severity, &findings),
        findings,
        reference: result.map(|result| result.reference.clone()).unwrap_or_default(),
        reference_id: result.map(|result| result.reference_id.clone()).unwrap_or_default(),
        first_window: news.told.first,
        window: closed.window,
        windows_breached: persisted.breached,
        windows_considered: persisted.considered,
        rows: result.map_or(0, |result| result.rows),
        at_ms: now_ms,
        receivers: news.told.receivers.clone(),
        description: None,
        runbook: None,
        actions: Vec::new(),
    }
}

/// What people know of the episode that the news is about.
fn before_news(state: &RuleState) -> Option<&Told> {
    state.told.as_ref().filter(|told| told.firing)
}

/// Says in which segments a finding is worst.
fn locate(rule: &Rule, closed: &ClosedWindow, group: &Group<'_, '_>, finding: &mut Finding) {
    let Some(feature) = finding.feature.as_deref() else { return };
    let of_finding = |judgement: &&&Judgement<'_>| {
        judgement.pair.segment == finding.segment && judgement.pair.feature.as_deref() == Some(feature)
    };
    let Some(judgement) = group.judgements.iter().find(of_finding) else { return };
    let question = Question {
        feature,
        about_missing: finding.metric.starts_with("null_rate"),
        features: rule.selected(judgement.result).len(),
        alpha: rule.false_alarm_rate(judgement.result),
    };
    finding.explanation.segments = worst_segment::search(closed, judgement.result, &question);
}
