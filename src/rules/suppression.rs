//! Why nobody is told of an alert: another one explains it (`inhibit`), or nobody wants to hear of it now (`silences`).
//!
//! An alert that is suppressed exists as any other: its episode begins and ends, its notifications stand in the outbox,
//! without receivers. Both are asked of the time of the window, not of the clock, so that a replay comes to the same.

use serde::{Deserialize, Serialize};

use super::compile::{Rule, RuleSet};
use super::state::{RuleState, RuleStates};
use crate::config::glob;
use crate::config::matcher::Subject;
use crate::config::rules::{GroupKey, Inhibition, Matcher, Severity, Silence};
use crate::config::silences::SilenceTime;
use crate::windows::result::{Segment, Window};

/// What keeps an alert quiet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Suppressor {
    Inhibition,
    Silence,
}

impl Suppressor {
    /// As in metrics.
    pub fn word(self) -> &'static str {
        match self {
            Suppressor::Inhibition => "inhibition",
            Suppressor::Silence => "silence",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Suppression {
    pub by: Suppressor,
    /// The rule that inhibits, or the reason of the silence.
    pub name: String,
    /// Start of the first window that it kept quiet, epoch milliseconds.
    pub since_ms: i64,
}

/// Event time in which a rule that inhibits others was firing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FiringSpan {
    /// Start of the first breaching window.
    pub from_ms: i64,
    /// End of the window with which it began to fire: what ended before that could not know of it.
    pub known_ms: i64,
    /// Start of the window that ended it; `None`: it fires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<i64>,
}

impl FiringSpan {
    /// Whether it explains what happened in this window.
    fn explains(&self, window: Window) -> bool {
        self.known_ms <= window.end_ms
            && self.from_ms < window.end_ms
            && self.until_ms.is_none_or(|until_ms| until_ms > window.start_ms)
    }
}

/// An alert that may be suppressed.
pub(super) struct About<'a> {
    pub rule: &'a Rule,
    pub state: &'a RuleState,
    pub version: &'a str,
    pub severity: Severity,
    pub features: Vec<&'a str>,
    pub segments: Vec<String>,
    /// The time that is asked about.
    pub window: Window,
}

/// A silence of a rules file whose time could be read.
#[derive(Debug, Clone, PartialEq)]
pub struct TimedSilence {
    pub matcher: Matcher,
    pub time: SilenceTime,
    pub reason: String,
}

impl TimedSilence {
    /// `None`: its time cannot be read, which is an error of `check`.
    pub(super) fn of(silence: &Silence) -> Option<Self> {
        let time = SilenceTime::of(silence).ok()?;
        Some(Self { matcher: silence.matcher.clone(), time, reason: silence.reason.clone() })
    }
}

impl RuleSet {
    /// Of every file.
    pub fn silences(&self) -> &[TimedSilence] {
        &self.silences
    }

    /// Of every file.
    pub fn inhibitions(&self) -> &[Inhibition] {
        &self.inhibitions
    }

    /// The first that keeps it quiet: inhibitions in the order of the files, then silences.
    pub(super) fn suppression(&self, states: &RuleStates, about: &About<'_>) -> Option<Suppression> {
        let found = |by, name: &str| Suppression { by, name: name.to_string(), since_ms: about.window.start_ms };
        let inhibition = self.inhibitions.iter().find(|inhibition| inhibits(inhibition, states, about));
        if let Some(inhibition) = inhibition {
            return Some(found(Suppressor::Inhibition, &inhibition.if_));
        }
        let subject = Subject {
            rule: &about.rule.name,
            model: &about.state.model,
            version: about.version,
            severity: about.severity,
            features: about.features.clone(),
            segments: about.segments.clone(),
        };
        let Window { start_ms, end_ms } = about.window;
        let silence = self
            .silences
            .iter()
            .find(|silence| silence.matcher.covers(&subject) && silence.time.overlap(start_ms, end_ms).is_some())?;
        Some(found(Suppressor::Silence, &silence.reason))
    }

    /// Whether anything is kept quiet while this rule fires.
    pub(super) fn is_inhibitor(&self, rule: &str) -> bool {
        self.inhibitions.iter().any(|inhibition| inhibition.if_ == rule)
    }
}

/// Whether `inhibition` names this rule among those to mute. A rule does not mute itself.
pub(super) fn mutes(inhibition: &Inhibition, rule: &str) -> bool {
    inhibition.if_ != rule && inhibition.mute.iter().any(|pattern| glob::matches(pattern, rule))
}

fn inhibits(inhibition: &Inhibition, states: &RuleStates, about: &About<'_>) -> bool {
    mutes(inhibition, &about.rule.name)
        && states
            .of_rule(&inhibition.if_, &about.state.model)
            .filter(|inhibitor| has_in_common(&inhibition.same, inhibitor, about))
            .any(|inhibitor| inhibitor.fired.iter().any(|span| span.explains(about.window)))
}

/// What one of the two does not tell apart, it has in common with all.
fn has_in_common(same: &[GroupKey], inhibitor: &RuleState, about: &About<'_>) -> bool {
    let segment = |segment: &Segment| (!segment.is_all()).then(|| segment.clone());
    same.iter().all(|key| match key {
        GroupKey::Model => inhibitor.model == about.state.model,
        GroupKey::Version => {
            about.version.is_empty() || inhibitor.version.as_deref().is_none_or(|version| version == about.version)
        }
        GroupKey::Segment => agree(segment(&inhibitor.segment), segment(&about.state.segment)),
        GroupKey::Feature => agree(inhibitor.feature.as_deref(), about.state.feature.as_deref()),
    })
}

fn agree<T: PartialEq>(one: Option<T>, other: Option<T>) -> bool {
    one.is_none() || other.is_none() || one == other
}

/// Rules in an order in which each comes behind those that inhibit it; otherwise as they stand. In a cycle, which `check`
/// refuses, as they stand.
pub(super) fn inhibitors_first(rules: Vec<Rule>, inhibitions: &[Inhibition]) -> Vec<Rule> {
    let mut left = rules;
    let mut ordered = Vec::with_capacity(left.len());
    while !left.is_empty() {
        let waits = |rule: &Rule| {
            let mut muted_by = inhibitions.iter().filter(|inhibition| mutes(inhibition, &rule.name));
            muted_by.any(|inhibition| left.iter().any(|other| other.name == inhibition.if_))
        };
        let next = left.iter().position(|rule| !waits(rule)).unwrap_or(0);
        ordered.push(left.remove(next));
    }
    ordered
}
