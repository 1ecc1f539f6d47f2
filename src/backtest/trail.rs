//! What came of a try, in order of time.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::runs::Run;
use crate::config::rules::Severity;
use crate::rules::RuleState;
use crate::rules::action_request::ActionRequest;
use crate::rules::episode::{EpisodeStatus, Notification};
use crate::windows::result::{ClosedWindow, Segment, Window};

/// Everything that production would have written, less what it needs for itself.
#[derive(Debug, Clone, Default)]
pub struct Trail {
    /// Closed windows and their revisions; empty unless they were to be kept.
    pub windows: Vec<ClosedWindow>,
    /// What every rule said of every window.
    pub evaluations: Vec<Evaluation>,
    pub episodes: Vec<Episode>,
    /// The outbox.
    pub notifications: Vec<Notification>,
    pub action_requests: Vec<ActionRequest>,
    /// How the states of alerts changed; empty unless they were to be kept.
    pub states: Vec<StateChange>,
    /// What would have been sent: after grouping, silences, digests and reminders.
    pub messages: Vec<Message>,
    /// What would have become of the actions that were asked for.
    pub runs: Vec<Run>,
    /// Events taken in, by model.
    pub rows: BTreeMap<String, u64>,
    /// Events that came too late for their window, by model.
    pub late: BTreeMap<String, u64>,
    /// First and last event time by model, epoch milliseconds.
    pub spans: BTreeMap<String, (i64, i64)>,
    /// Windows of features closed for the first time, by model.
    pub windows_closed: BTreeMap<String, u64>,
    /// Events that could not be decoded, by reason.
    pub rejected: BTreeMap<String, u64>,
    /// Events of topics or names that no model takes.
    pub unrouted: u64,
    /// What could not be computed, in words.
    pub problems: Vec<String>,
}

/// The state of one rule on one group from an instant on.
#[derive(Debug, Clone, PartialEq)]
pub struct StateChange {
    /// Epoch milliseconds.
    pub at_ms: i64,
    pub key: String,
    /// `None`: it is forgotten.
    pub state: Option<RuleState>,
}

/// What one rule said of one closed window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Evaluation {
    pub rule: String,
    pub model: String,
    pub version: String,
    pub window: Window,
    pub revision: u32,
    /// Groups (all events, segments, features) by what was said of them: `breached`, `quiet`, `insignificant`,
    /// `insufficient_samples` and so on.
    pub outcomes: BTreeMap<String, u32>,
}

/// An episode from its first breaching window to its end.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Episode {
    pub id: String,
    pub rule: String,
    pub model: String,
    pub version: String,
    #[serde(skip_serializing_if = "Segment::is_all")]
    pub segment: Segment,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub feature: Option<String>,
    /// The highest that it reached.
    pub severity: Severity,
    /// The first window that breached.
    pub first_window: Window,
    /// When it began to fire: the end of the window that made it fire, epoch milliseconds.
    pub fired_ms: i64,
    /// End of the window that ended it; `None`: it still fires at the end of history.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resolved_ms: Option<i64>,
    /// Features that were found at any time.
    pub features: BTreeSet<String>,
    /// The line that was told when it reached its highest severity.
    pub summary: String,
    pub receivers: BTreeSet<String>,
    /// Why nobody would have heard of it at any time: another rule, or a silence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quiet: Option<String>,
    /// Ids of what was told of it, in order.
    pub notifications: Vec<String>,
}

/// One message to one receiver.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Message {
    pub at_ms: i64,
    pub receiver: String,
    pub kind: MessageKind,
    /// Id of the notification, or of the digest.
    pub id: String,
    /// Notifications that it tells of.
    pub notifications: Vec<String>,
    pub summary: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MessageKind {
    News,
    Reminder,
    Digest,
}

/// What the machines of one model came to.
#[derive(Default)]
pub(super) struct LaneOutcome {
    pub model: String,
    pub windows: Vec<ClosedWindow>,
    pub evaluations: Vec<Evaluation>,
    pub notifications: Vec<Notification>,
    pub action_requests: Vec<ActionRequest>,
    pub states: Vec<StateChange>,
    pub rows: u64,
    pub late: u64,
    pub span: Option<(i64, i64)>,
    pub windows_closed: u64,
    pub problems: Vec<String>,
}

impl Trail {
    pub(super) fn take_lane(&mut self, lane: LaneOutcome) {
        self.windows.extend(lane.windows);
        self.evaluations.extend(lane.evaluations);
        self.notifications.extend(lane.notifications);
        self.action_requests.extend(lane.action_requests);
        self.states.extend(lane.states);
        self.rows.insert(lane.model.clone(), lane.rows);
        self.late.insert(lane.model.clone(), lane.late);
        self.spans.extend(lane.span.map(|span| (lane.model.clone(), span)));
        self.windows_closed.insert(lane.model, lane.windows_closed);
        self.problems.extend(lane.problems);
    }

    /// Puts what the models told into the order of time, each model's own order kept.
    pub(super) fn order(&mut self) {
        self.windows.sort_by_key(|closed| closed.window.end_ms);
        self.evaluations.sort_by_key(|evaluation| evaluation.window.end_ms);
        self.notifications.sort_by_key(|told| told.at_ms);
        self.action_requests.sort_by_key(|request| request.at_ms);
        self.episodes = episodes(&self.notifications);
    }

    pub fn total_rows(&self) -> u64 {
        self.rows.values().sum()
    }
}

/// Put together from what was told, in the order in which they began.
fn episodes(notifications: &[Notification]) -> Vec<Episode> {
    let mut order: Vec<Episode> = Vec::new();
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    for told in notifications {
        let place = *places.entry(&told.episode_id).or_insert_with(|| {
            order.push(begun(told));
            order.len() - 1
        });
        let Some(episode) = order.get_mut(place) else { continue };
        if told.severity > episode.severity {
            episode.severity = told.severity;
            episode.summary.clone_from(&told.summary);
        }
        episode.resolved_ms = (told.status == EpisodeStatus::Resolved).then_some(told.window.end_ms);
        episode.features.extend(told.findings.iter().filter_map(|finding| finding.feature.clone()));
        episode.receivers.extend(told.receivers.iter().cloned());
        episode.quiet = match &told.suppressed {
            Some(suppression) if episode.receivers.is_empty() => {
                Some(format!("{} {}", suppression.by.word(), suppression.name))
            }
            _ if episode.receivers.is_empty() => episode.quiet.take(),
            _ => None,
        };
        episode.notifications.push(told.id.clone());
    }
    order
}

fn begun(told: &Notification) -> Episode {
    Episode {
        id: told.episode_id.clone(),
        rule: told.rule.clone(),
        model: told.model.clone(),
        version: told.version.clone(),
        segment: told.segment.clone(),
        feature: told.feature.clone(),
        severity: told.severity,
        first_window: told.first_window,
        fired_ms: told.window.end_ms,
        resolved_ms: None,
        features: BTreeSet::new(),
        summary: told.summary.clone(),
        receivers: BTreeSet::new(),
        quiet: None,
        notifications: Vec::new(),
    }
}
