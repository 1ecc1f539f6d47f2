//! What people must hear of a group after a window, and the words of it.

use super::action_request::ActionRequest;
use super::compile::{Rule, RuleSet};
use super::engine::{Group, episode_id, looked_at};
use super::episode::{EpisodeStatus, Finding, Notification};
use super::evaluate::Judgement;
use super::reason::{self, Ended, Persisted};
use super::state::{Phase, RuleState, Standing, Told};
use super::suppression::Suppression;
use super::worst_segment::{self, Question};
use crate::config::rules::Severity;
use crate::windows::result::ClosedWindow;

/// A change to tell, without its wording.
pub(super) struct News {
    pub status: EpisodeStatus,
    pub severity: Severity,
    /// What is known of the episode once it is told.
    pub told: Told,
    pub sequence: u32,
    /// Told to those whom routes name, beside those who heard of it before.
    pub routed: bool,
    /// Nobody hears of it: it is suppressed, or those who would hear of its end never heard of its beginning.
    pub quiet: bool,
}

impl News {
    /// `told` one step on.
    pub(super) fn of(told: Told, status: EpisodeStatus, severity: Severity, routed: bool, quiet: bool) -> Self {
        let sequence = told.next_sequence;
        let firing = status == EpisodeStatus::Firing;
        let told = Told { next_sequence: sequence + 1, severity, firing, held: firing && quiet, ..told };
        Self { status, severity, told, sequence, routed, quiet }
    }

    /// Writes the receivers on the notification; who is told of it hears of everything later, the end included.
    pub(super) fn address(&mut self, notification: &mut Notification, rules: &RuleSet) {
        if self.quiet {
            return;
        }
        if self.routed {
            for receiver in rules.routes_of(notification).into_iter().flat_map(|route| &route.to) {
                if !self.told.receivers.contains(receiver) {
                    self.told.receivers.push(receiver.clone());
                }
            }
        }
        notification.receivers = self.told.receivers.clone();
    }
}

/// A group's window, to be told of.
pub(super) struct Telling<'t, 'e, 'a> {
    pub rule: &'t Rule,
    pub closed: &'t ClosedWindow,
    pub group: &'t Group<'e, 'a>,
    pub before: &'t Standing,
    pub after: &'t Standing,
    pub now_ms: i64,
}

/// Whether a rule that stands so asks for its actions: while it fires at its gravest severity.
pub(super) fn asks(rule: &Rule, phase: Phase) -> bool {
    let Phase::Firing { severity, .. } = phase else { return false };
    !rule.actions.is_empty() && severity >= asks_at(rule)
}

/// `critical`, or `warn` where the rule knows no other.
pub(super) fn asks_at(rule: &Rule) -> Severity {
    rule.severities().into_iter().max().unwrap_or(Severity::Critical)
}

impl Telling<'_, '_, '_> {
    /// Compares where the group stands with what was told last.
    pub(super) fn news(&self, state: &RuleState, suppression: Option<&Suppression>) -> Option<News> {
        let Self { closed, group, after, .. } = self;
        let quiet = suppression.is_some();
        let firing = |told: Told, severity: Severity| News::of(told, EpisodeStatus::Firing, severity, true, quiet);
        let open = state.told.clone().filter(|told| told.firing);
        match (open, after.phase.episode()) {
            (None, None) => None,
            (Some(told), Some((severity, _))) if severity > told.severity => {
                let told = Told { estimated: told.estimated && !group.is_realised(), ..told };
                Some(firing(told, severity))
            }
            (Some(_), Some(_)) if quiet => None,
            (Some(told), Some(_)) => {
                let released = told.held && matches!(after.phase, Phase::Firing { .. });
                // People were told of an estimate: that the labels confirm it is worth a word, once.
                let confirmed = told.estimated && closed.window.start_ms >= told.first.start_ms && group.is_realised();
                let severity = told.severity;
                let told = Told { estimated: told.estimated && !confirmed, ..told };
                if released {
                    return Some(firing(told, severity));
                }
                let worth_a_word = confirmed && !told.held;
                worth_a_word.then(|| News::of(told, EpisodeStatus::Firing, severity, false, false))
            }
            (Some(told), None) => {
                let (severity, unheard) = (told.severity, told.receivers.is_empty());
                Some(News::of(told, EpisodeStatus::Resolved, severity, false, unheard))
            }
            (None, Some((severity, first))) => {
                let begun = state.told_of(first).cloned().unwrap_or_else(|| Told {
                    episode_id: episode_id(state, first),
                    next_sequence: 0,
                    first,
                    severity,
                    receivers: Vec::new(),
                    firing: false,
                    estimated: false,
                    held: false,
                });
                // One that a revision revives: whoever heard of it has heard of its end.
                Some(firing(Told { estimated: group.is_estimate(), receivers: Vec::new(), ..begun }, severity))
            }
        }
    }

    /// The record of the outbox, not addressed yet. `state`: before it is told.
    pub(super) fn notification(
        &self,
        state: &RuleState,
        news: &News,
        suppression: Option<&Suppression>,
    ) -> Notification {
        let Self { rule, closed, group, before, after, now_ms } = *self;
        let persisted = match news.status {
            EpisodeStatus::Firing => {
                Persisted { breached: after.windows_breached, considered: after.windows_considered }
            }
            EpisodeStatus::Resolved => Persisted { breached: 0, considered: rule.persistence.needed },
        };
        let was_estimate = state.told.as_ref().is_some_and(|told| told.firing && told.estimated);
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
        let asking = !news.quiet && news.status == EpisodeStatus::Firing && asks(rule, after.phase);
        let mut notification = Notification {
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
            receivers: Vec::new(),
            suppressed: news.quiet.then(|| suppression.or(state.suppressed.as_ref()).cloned()).flatten(),
            description: None,
            runbook: None,
            actions: if asking { rule.actions.clone() } else { Vec::new() },
        };
        rule.texts.write(&mut notification);
        notification
    }

    /// What the open episode of the group asks to have done, without the facts of guards.
    pub(super) fn requests(&self, state: &RuleState) -> Vec<ActionRequest> {
        let Some(told) = state.told.clone() else { return Vec::new() };
        let (severity, sequence) = (told.severity, told.next_sequence);
        let news = News { status: EpisodeStatus::Firing, severity, told, sequence, routed: false, quiet: false };
        requests(self.rule, &self.notification(state, &news, None))
    }
}

/// One request for each action of the rule.
pub(super) fn requests(rule: &Rule, line: &Notification) -> Vec<ActionRequest> {
    let request = |action: &String| ActionRequest {
        action: action.clone(),
        episode_id: line.episode_id.clone(),
        rule: line.rule.clone(),
        model: line.model.clone(),
        version: line.version.clone(),
        segment: line.segment.clone(),
        severity: line.severity,
        summary: line.summary.clone(),
        first_window: line.first_window,
        window: line.window,
        reference: line.reference.clone(),
        reference_id: line.reference_id.clone(),
        facts: Default::default(),
        at_ms: line.at_ms,
    };
    rule.actions.iter().map(request).collect()
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
