//! The state machine of one rule on one group.
//!
//! ```text
//! inactive --breach--> pending --m of the last n--> firing --clear--> recovering --m clear in a row--> inactive
//!             ^           |                           ^                   |
//!             +-none left-+                           +------breach-------+
//! ```
//!
//! - A window that breaches as critical m times in n makes the episode critical; it keeps its highest severity
//!   until it ends (falling back to warn is no news, and a flapping severity would be).
//! - A firing group is clear in a window if nothing breaches and every pair that breached during the episode has
//!   recovered (`recover`). It ends after as many clear windows in a row as it took breaches to start.
//! - Windows that cannot be judged (too small, incomplete) are not steps at all.
//!
//! The machine is a fold over the group's windows in order of their end. The last windows are kept, so that a
//! revised window replaces its step and the fold is run again; what people were told is compared with the outcome.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::facts::{DayFacts, FactsKey, ModelFacts};
use super::suppression::{FiringSpan, Suppression};
use crate::config::rules::Severity;
use crate::windows::result::{Segment, Window};

/// A segment and a feature; `None`: the segment as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Pair {
    #[serde(default, skip_serializing_if = "Segment::is_all")]
    pub segment: Segment,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feature: Option<String>,
}

/// Why a window was not judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mute {
    InsufficientSamples,
    /// Events are known to be missing.
    Incomplete,
    /// The moving reference has too little to it yet, or the reference says nothing about performance.
    NoReference,
    /// Too few of the predictions have their label yet.
    InsufficientLabels,
    /// The rule's query gave NULL, or no finite number.
    NoValue,
    /// Some events of the window came before the rule's query was asked.
    NotCollected,
    /// The rule's query failed on an event.
    QueryFailed,
    /// The state of the rule's query outgrew its limit.
    StateTooLarge,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "phase")]
pub enum Phase {
    #[default]
    Inactive,
    Pending,
    Firing {
        severity: Severity,
        first: Window,
    },
    Recovering {
        severity: Severity,
        first: Window,
        clear_windows: u32,
    },
}

impl Phase {
    /// Severity and first breaching window, while people should know of it.
    pub fn episode(self) -> Option<(Severity, Window)> {
        match self {
            Phase::Firing { severity, first } | Phase::Recovering { severity, first, .. } => Some((severity, first)),
            Phase::Inactive | Phase::Pending => None,
        }
    }
}

/// How long windows can be revised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// At most so many windows.
    pub windows: usize,
    /// Only while the newest window ends no later than this after theirs.
    pub revisable_ms: i64,
}

/// What became of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It said something new.
    Changed,
    /// A revision that says what was said before.
    Repeated,
    /// It changes nothing: known at this revision, or too old.
    Known,
}

/// `for: m of n windows`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Persistence {
    pub needed: u32,
    pub of: u32,
}

/// What one window says about a group; one part per model version where versions share a group.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Contribution {
    #[serde(default, skip_serializing_if = "is_zero")]
    pub revision: u32,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub breaching: Vec<(Pair, Severity)>,
    /// Pairs that would keep an episode of theirs going.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unrecovered: Vec<Pair>,
}

impl Contribution {
    fn says_the_same(&self, other: &Self) -> bool {
        self.breaching == other.breaching && self.unrecovered == other.unrecovered
    }
}

fn is_zero(revision: &u32) -> bool {
    *revision == 0
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Step {
    window: Window,
    parts: BTreeMap<String, Contribution>,
}

impl Step {
    fn severity(&self) -> Option<Severity> {
        self.parts.values().flat_map(|part| &part.breaching).map(|(_, severity)| *severity).max()
    }
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Machine {
    #[serde(flatten)]
    phase: Phase,
    /// The last windows since the machine was last inactive, at most `Persistence::of`.
    recent: Vec<(Window, Option<Severity>)>,
    /// Every pair that breached in this episode.
    members: BTreeSet<Pair>,
}

impl Machine {
    fn step(&mut self, step: &Step, persistence: Persistence) {
        let severity = step.severity();
        self.recent.push((step.window, severity));
        let surplus = self.recent.len().saturating_sub(persistence.of as usize);
        self.recent.drain(..surplus);
        let breaching = step.parts.values().flat_map(|part| &part.breaching);
        self.members.extend(breaching.map(|(pair, _)| pair.clone()));
        let reached = self.reached(persistence);
        self.phase = match self.phase {
            Phase::Inactive | Phase::Pending => match reached {
                Some((severity, first)) => Phase::Firing { severity, first },
                None if self.recent.iter().any(|(_, severity)| severity.is_some()) => Phase::Pending,
                None => Phase::Inactive,
            },
            Phase::Firing { severity: held, first } | Phase::Recovering { severity: held, first, .. } => {
                let severity_now = reached.map_or(held, |(severity, _)| severity.max(held));
                let holding = || step.parts.values().flat_map(|part| &part.unrecovered);
                if severity.is_some() || holding().any(|pair| self.members.contains(pair)) {
                    Phase::Firing { severity: severity_now, first }
                } else {
                    let clear_windows = match self.phase {
                        Phase::Recovering { clear_windows, .. } => clear_windows + 1,
                        _ => 1,
                    };
                    match clear_windows >= persistence.needed {
                        true => Phase::Inactive,
                        false => Phase::Recovering { severity: severity_now, first, clear_windows },
                    }
                }
            }
        };
        if self.phase == Phase::Inactive {
            self.members.clear();
            // Breaches of an episode that has ended do not count towards the next one.
            if self.recent.iter().any(|(_, severity)| severity.is_some()) {
                self.recent.clear();
            }
        }
    }

    /// Severity that enough of the recent windows have, and the first of them that breached.
    fn reached(&self, persistence: Persistence) -> Option<(Severity, Window)> {
        let at_least = |wanted: Severity| self.recent.iter().filter(|(_, severity)| *severity >= Some(wanted)).count();
        let first = self.recent.iter().find(|(_, severity)| severity.is_some()).map(|(window, _)| *window)?;
        let needed = persistence.needed as usize;
        [Severity::Critical, Severity::Warn]
            .into_iter()
            .find(|severity| at_least(*severity) >= needed)
            .map(|severity| (severity, first))
    }
}

impl Mute {
    /// As in metrics and logs.
    pub fn word(self) -> &'static str {
        match self {
            Mute::InsufficientSamples => "insufficient_samples",
            Mute::Incomplete => "incomplete",
            Mute::NoReference => "no_reference",
            Mute::InsufficientLabels => "insufficient_labels",
            Mute::NoValue => "no_value",
            Mute::NotCollected => "not_collected",
            Mute::QueryFailed => "query_failed",
            Mute::StateTooLarge => "state_too_large",
        }
    }
}

/// Windows that wait for labels are judged long after others: by then a rule has fired several times.
const MOST_FIRING_SPANS: usize = 16;

/// What people were told of an episode.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Told {
    pub episode_id: String,
    /// Of the next notification.
    pub next_sequence: u32,
    pub first: Window,
    pub severity: Severity,
    /// Everyone who heard of it: they hear of its end too.
    pub receivers: Vec<String>,
    /// False once its end was told; kept, so that a revision that revives it goes on counting.
    pub firing: bool,
    /// All that was told of it rests on estimates: whether realised performance confirms them is still to be told.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub estimated: bool,
    /// Nobody was told of it at this severity, because it was suppressed: still to be told.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub held: bool,
}

/// State of one rule on one group: one record of the `episodes` topic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RuleState {
    pub rule: String,
    pub model: String,
    /// `None` where the rule groups across versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    #[serde(default, skip_serializing_if = "Segment::is_all")]
    pub segment: Segment,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feature: Option<String>,
    /// The machine before `steps`; windows that end at or before `settled_until_ms` can no longer be revised.
    settled: Machine,
    settled_until_ms: i64,
    steps: Vec<Step>,
    /// The last window was not judged, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub muted: Option<Mute>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told: Option<Told>,
    /// It fires, and this keeps it quiet; also while what it kept quiet is still to be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suppressed: Option<Suppression>,
    /// Of a rule that inhibits others: when it fired, the last `MOST_FIRING_SPANS` times.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fired: Vec<FiringSpan>,
    /// Earlier episodes whose first window is still known: a revision may revive one, and its notifications must
    /// go on counting, since an id that was used is taken for sent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    past: Vec<Told>,
}

/// Where the machine stands after all windows known.
#[derive(Debug, Clone, PartialEq)]
pub struct Standing {
    pub phase: Phase,
    pub windows_breached: u32,
    pub windows_considered: u32,
    pub members: BTreeSet<Pair>,
}

impl RuleState {
    pub fn new(rule: &str, model: &str, version: Option<&str>, segment: &Segment, feature: Option<&str>) -> Self {
        Self {
            rule: rule.into(),
            model: model.into(),
            version: version.map(Into::into),
            segment: segment.clone(),
            feature: feature.map(Into::into),
            settled: Machine::default(),
            settled_until_ms: i64::MIN,
            steps: Vec::new(),
            muted: None,
            told: None,
            suppressed: None,
            fired: Vec::new(),
            past: Vec::new(),
        }
    }

    /// What was told of the episode that began with this window, now or before; under whatever name the rule had then.
    pub fn told_of(&self, first: Window) -> Option<&Told> {
        self.told.iter().chain(&self.past).find(|told| told.first == first)
    }

    /// The newest window that was judged.
    pub fn newest(&self) -> Option<Window> {
        self.steps.last().map(|step| step.window)
    }

    /// Notes what keeps the open episode quiet now; answers whether that is new. What kept it quiet is known for as long as
    /// what it held back is still to be told.
    pub(super) fn suppress(&mut self, suppression: Option<Suppression>) -> bool {
        let open = self.told.as_ref().filter(|told| told.firing);
        let held = open.is_some_and(|told| told.held);
        let old = self.suppressed.take();
        self.suppressed = match (open, suppression, old.clone()) {
            (None, ..) => None,
            (Some(_), Some(new), Some(old)) if new.by == old.by && new.name == old.name => Some(old),
            (Some(_), Some(new), _) => Some(new),
            (Some(_), None, old) => old.filter(|_| held),
        };
        self.suppressed != old
    }

    /// Notes when the rule fired; `fires_since`: the first breaching window, `known_ms` and
    /// `until_ms`: from when on that is known, where that is news.
    pub(super) fn follow_firing(&mut self, fires_since: Option<Window>, known_ms: i64, until_ms: i64) {
        let open = self.fired.last_mut().filter(|span| span.until_ms.is_none());
        match (open, fires_since) {
            (Some(span), Some(first)) if span.from_ms == first.start_ms => return,
            (Some(span), _) => span.until_ms = Some(until_ms),
            (None, _) => {}
        }
        if let Some(first) = fires_since {
            self.fired.push(FiringSpan { from_ms: first.start_ms, known_ms, until_ms: None });
        }
        let surplus = self.fired.len().saturating_sub(MOST_FIRING_SPANS);
        self.fired.drain(..surplus);
    }

    /// Replaces what was told last; another episode's is kept while it can come back.
    pub fn tell(&mut self, told: Told) {
        self.past.retain(|past| past.episode_id != told.episode_id);
        if let Some(before) = self
            .told
            .replace(told)
            .filter(|before| self.told.as_ref().is_none_or(|told| told.episode_id != before.episode_id))
        {
            self.past.push(before);
        }
        let oldest_ms = self.oldest_start_ms();
        self.past.retain(|past| past.first.start_ms >= oldest_ms);
    }

    /// Start of the oldest window that may still become an episode's first.
    fn oldest_start_ms(&self) -> i64 {
        let settled = self.settled.recent.first().map(|(window, _)| window.start_ms);
        let episode = self.settled.phase.episode().map(|(_, first)| first.start_ms);
        let step = self.steps.first().map(|step| step.window.start_ms);
        [settled, episode, step].into_iter().flatten().min().unwrap_or(i64::MAX)
    }

    /// Unambiguous whatever the names hold.
    pub fn key(&self) -> String {
        let version = self.version.as_deref();
        let feature = self.feature.as_deref();
        serde_json::json!([self.rule, self.model, version, self.segment.column, self.segment.value, feature])
            .to_string()
    }

    pub fn standing(&self, persistence: Persistence) -> Standing {
        let mut machine = self.settled.clone();
        self.steps.iter().for_each(|step| machine.step(step, persistence));
        Standing {
            phase: machine.phase,
            windows_breached: machine.recent.iter().filter(|(_, severity)| severity.is_some()).count() as u32,
            windows_considered: machine.recent.len() as u32,
            members: machine.members,
        }
    }

    /// Takes a window in, unless it is known already at this revision, or too old to be revised.
    pub fn take(
        &mut self,
        window: Window,
        version: &str,
        contribution: Contribution,
        persistence: Persistence,
        keep: Keep,
    ) -> Taken {
        let newest_ms = self.steps.last().map_or(i64::MIN, |step| step.window.end_ms).max(window.end_ms);
        let is_past = |window: Window| newest_ms.saturating_sub(window.end_ms) > keep.revisable_ms;
        if window.end_ms <= self.settled_until_ms || is_past(window) {
            return Taken::Known;
        }
        let mut taken = Taken::Changed;
        let place = self
            .steps
            .binary_search_by_key(&(window.end_ms, window.start_ms), |step| (step.window.end_ms, step.window.start_ms));
        match place {
            Ok(found) => {
                let parts = &mut self.steps[found].parts;
                match parts.get(version) {
                    Some(known) if known.revision >= contribution.revision => return Taken::Known,
                    Some(known) if known.says_the_same(&contribution) => taken = Taken::Repeated,
                    _ => {}
                }
                parts.insert(version.to_string(), contribution);
            }
            Err(place) => {
                let parts = BTreeMap::from([(version.to_string(), contribution)]);
                self.steps.insert(place, Step { window, parts });
            }
        }
        while self.steps.len() > keep.windows.max(1) || self.steps.first().is_some_and(|step| is_past(step.window)) {
            let settled = self.steps.remove(0);
            self.settled_until_ms = settled.window.end_ms;
            self.settled.step(&settled, persistence);
        }
        taken
    }
}

/// A record of the `episodes` topic.
#[derive(Debug, Clone, PartialEq)]
pub enum StoredState {
    Rule(Box<RuleState>),
    /// What guards of actions are asked about.
    Facts(FactsKey, DayFacts),
}

impl StoredState {
    pub fn decode(key: &str, value: &[u8]) -> Result<Self, serde_json::Error> {
        match serde_json::from_str::<FactsKey>(key) {
            Ok(key) => Ok(Self::Facts(key, serde_json::from_slice(value)?)),
            Err(_) => serde_json::from_slice(value).map(Box::new).map(Self::Rule),
        }
    }
}

/// All states of a process, by key.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RuleStates {
    pub by_key: BTreeMap<String, RuleState>,
    /// What guards of actions are asked about, by model.
    pub facts: BTreeMap<String, ModelFacts>,
}

impl RuleStates {
    /// The states of one rule for one model.
    pub fn of_rule<'a>(&'a self, rule: &str, model: &str) -> impl Iterator<Item = &'a RuleState> {
        let pair = serde_json::json!([rule, model]).to_string();
        let prefix = format!("{},", pair.strip_suffix(']').unwrap_or(&pair));
        let from = self.by_key.range(prefix.clone()..);
        from.take_while(move |(key, _)| key.starts_with(&prefix)).map(|(_, state)| state)
    }

    /// Names of the rules whose episodes of this model are open, told or not.
    pub fn firing(&self, model: &str) -> BTreeSet<String> {
        let is_open = |state: &&RuleState| state.told.as_ref().is_some_and(|told| told.firing);
        let of_model = self.by_key.values().filter(|state| state.model == model).filter(is_open);
        of_model.map(|state| state.rule.clone()).collect()
    }

    /// As read back from the `episodes` topic; `None` forgets.
    pub fn restore(&mut self, key: String, state: Option<RuleState>) {
        match state {
            Some(state) => self.by_key.insert(key, state),
            None => self.by_key.remove(&key),
        };
    }

    /// Drops the states of a model whose partition went to another worker.
    pub fn forget_model(&mut self, model: &str) {
        self.by_key.retain(|_, state| state.model != model);
        self.facts.remove(model);
    }
}
