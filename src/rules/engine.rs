//! Closed windows in, effects out: evaluates every rule that the window concerns, moves its groups, and says what
//! people must hear, and what is to be done. The words of it are `news`.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest, Sha256};

use super::action_request::ActionRequest;
use super::compile::{ModelWindows, Rule, RuleSet};
use super::episode::Notification;
use super::evaluate::{Decider, Judgement, evaluate};
use super::facts::{self, DayFacts, FactsKey, Horizon};
use super::news::{Telling, asks};
use super::sql;
use super::state::{Contribution, Keep, Pair, RuleState, RuleStates, Standing, Taken};
use super::suppression::{About, Suppression};
use crate::config::rules::GroupKey;
use crate::windows::result::{ClosedWindow, Segment, Window, WindowResult};

/// What the caller must do, in this order.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Write to the outbox.
    Notify(Notification),
    /// Write to the outbox, too.
    Ask(Box<ActionRequest>),
    /// Write to the `episodes` topic under `key`; `None` is a tombstone.
    StateChanged { key: String, state: Option<RuleState> },
    /// Write to the `episodes` topic under the key's JSON; `None` is a tombstone.
    FactsChanged { key: FactsKey, facts: Option<DayFacts> },
    /// Count: `breached`, `quiet`, `insignificant`, the words of [`super::state::Mute`], `known`; `suppressed`: its episode
    /// is open, and something keeps it quiet.
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
pub(super) struct Group<'e, 'a> {
    pub judgements: Vec<&'e Judgement<'a>>,
}

/// One rule, asked about one window.
struct Question<'a> {
    rule: &'a Rule,
    closed: &'a ClosedWindow,
    keep: Keep,
    now_ms: i64,
}

/// What it led to; requests wait until every rule was asked, since guards ask who fires.
#[derive(Default)]
struct Answers {
    effects: Vec<Effect>,
    requests: Vec<ActionRequest>,
}

impl RuleSet {
    /// Evaluates a closed (or revised) window. Windows of one model version must come in order of their end;
    /// the same window at the same revision changes nothing. `now_ms` stands in notifications and nowhere else.
    pub fn on_window(&self, states: &mut RuleStates, closed: &ClosedWindow, now_ms: i64) -> Vec<Effect> {
        let mut answers = Answers::default();
        let Some(model) = self.models.get(&closed.model) else { return answers.effects };
        self.take_facts(states, closed, *model, &mut answers.effects);
        let size_ms = closed.window.end_ms - closed.window.start_ms;
        for rule in self.rules.iter().filter(|rule| rule.absent.is_none()) {
            let spec = rule.window_spec(model.size_ms);
            let its_window = spec.size_ms == size_ms && closed.window.start_ms.rem_euclid(spec.slide_ms.max(1)) == 0;
            if its_window && rule.matches(&closed.model, &closed.version) && is_about(rule, closed) {
                let keep = keep(rule, *model, spec.slide_ms);
                self.evaluate_rule(states, &Question { rule, closed, keep, now_ms }, &mut answers);
            }
        }
        let Answers { mut effects, requests } = answers;
        effects.extend(self.with_facts(states, requests));
        effects
    }

    /// Adds to requests of one model what their guards are asked about.
    pub(super) fn with_facts(&self, states: &RuleStates, requests: Vec<ActionRequest>) -> Vec<Effect> {
        let Some(first) = requests.first() else { return Vec::new() };
        let known = |rule: &String| self.rules.iter().any(|one| one.name == *rule);
        let firing = states.firing(&first.model).into_iter().filter(known).collect();
        let facts = facts::told(states.facts.get(&first.model));
        let facts = super::action_request::ActionFacts { firing, ..facts };
        requests
            .into_iter()
            .map(|request| Effect::Ask(Box::new(ActionRequest { facts: facts.clone(), ..request })))
            .collect()
    }

    fn take_facts(
        &self,
        states: &mut RuleStates,
        closed: &ClosedWindow,
        model: ModelWindows,
        effects: &mut Vec<Effect>,
    ) {
        if !self.rules.iter().any(|rule| !rule.actions.is_empty() && rule.matches_model(&closed.model)) {
            return;
        }
        let revisable_ms = model.allowed_lateness_ms.saturating_add(model.label_delay_ms);
        let horizon = Horizon { size_ms: model.size_ms, revisable_ms };
        let of_model = states.facts.entry(closed.model.clone()).or_default();
        for day in facts::take(of_model, closed, horizon) {
            let key = FactsKey { model: closed.model.clone(), day };
            effects.push(Effect::FactsChanged { key, facts: of_model.get(&day).cloned() });
        }
    }

    fn evaluate_rule(&self, states: &mut RuleStates, question: &Question<'_>, answers: &mut Answers) {
        let Question { rule, closed, .. } = *question;
        let outcome = |outcome| Effect::Evaluated { rule: rule.name.clone(), outcome };
        let results = looked_at(rule, closed);
        if results.is_empty() {
            answers.effects.push(outcome("no_reference"));
            return;
        }
        let evaluation = evaluate(rule, &results);
        for (segment, mute) in &evaluation.muted {
            let empty = empty_state(rule, closed, &Pair { segment: segment.clone(), feature: None });
            if let Some(state) = states.by_key.get_mut(&empty.key()).filter(|state| state.muted != Some(*mute)) {
                state.muted = Some(*mute);
                answers.effects.push(Effect::StateChanged { key: state.key(), state: Some(state.clone()) });
            }
            answers.effects.push(outcome(mute.word()));
        }
        let mut groups: BTreeMap<String, (RuleState, Group<'_, '_>)> = BTreeMap::new();
        for judgement in &evaluation.judgements {
            let state = empty_state(rule, closed, &judgement.pair);
            let (_, group) = groups.entry(state.key()).or_insert_with(|| (state, Group::default()));
            group.judgements.push(judgement);
        }
        for (key, (empty, group)) in groups {
            // Taken out, since what may suppress it stands among the others.
            let mut state = states.by_key.remove(&key).unwrap_or(empty);
            self.step(states, question, &mut state, &group, answers);
            states.by_key.insert(key, state);
        }
    }

    /// One group takes one window in.
    fn step(
        &self,
        states: &RuleStates,
        question: &Question<'_>,
        state: &mut RuleState,
        group: &Group<'_, '_>,
        answers: &mut Answers,
    ) {
        let Question { rule, closed, keep, now_ms } = *question;
        let outcome = |outcome| Effect::Evaluated { rule: rule.name.clone(), outcome };
        let before = state.standing(rule.persistence);
        let contribution = group.contribution(rule, closed.revision);
        let taken = state.take(closed.window, &closed.version, contribution, rule.persistence, keep);
        if taken == Taken::Known {
            answers.effects.push(outcome("known"));
            return;
        }
        let mut changed = taken == Taken::Changed;
        changed |= state.muted.take().is_some();
        let after = state.standing(rule.persistence);
        let newest = state.newest().unwrap_or(closed.window);
        if self.is_inhibitor(&rule.name) {
            let first = after.phase.episode().map(|(_, first)| first);
            state.follow_firing(first, newest.end_ms, newest.start_ms);
        }
        let suppression = self.kept_quiet(states, question, state, &after, newest);
        let telling = Telling { rule, closed, group, before: &before, after: &after, now_ms };
        if let Some(mut news) = telling.news(state, suppression.as_ref()) {
            let mut notification = telling.notification(state, &news, suppression.as_ref());
            news.address(&mut notification, self);
            answers.effects.push(Effect::Notify(notification));
            state.tell(news.told);
            changed = true;
        }
        changed |= state.suppress(suppression.clone());
        answers.effects.push(outcome(if suppression.is_some() { "suppressed" } else { group.outcome() }));
        if taken == Taken::Changed && suppression.is_none() && asks(rule, after.phase) {
            answers.requests.extend(telling.requests(state));
        }
        if changed {
            answers.effects.push(Effect::StateChanged { key: state.key(), state: Some(state.clone()) });
        }
    }

    /// What keeps the group's episode quiet; nothing does where none is open.
    fn kept_quiet(
        &self,
        states: &RuleStates,
        question: &Question<'_>,
        state: &RuleState,
        after: &Standing,
        window: Window,
    ) -> Option<Suppression> {
        let (severity, _) = after.phase.episode()?;
        let features: BTreeSet<&str> = after.members.iter().filter_map(|pair| pair.feature.as_deref()).collect();
        let segments: BTreeSet<String> = after.members.iter().map(|pair| pair.segment.to_string()).collect();
        let about = About {
            rule: question.rule,
            state,
            version: &question.closed.version,
            severity,
            features: features.into_iter().collect(),
            segments: segments.into_iter().collect(),
            window,
        };
        self.suppression(states, &about)
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

/// First 16 hexadecimal digits of the SHA-256 of rule, model, version, group and first breaching window: the same
/// on any replica and in any replay.
pub(super) fn episode_id(state: &RuleState, first: Window) -> String {
    let digest = Sha256::digest(format!("{}@{}", state.key(), first.start_ms).as_bytes());
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// Results of the rule's reference and segments, the whole first.
pub(super) fn looked_at<'a>(rule: &Rule, closed: &'a ClosedWindow) -> Vec<&'a WindowResult> {
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
    pub(super) fn is_estimate(&self) -> bool {
        self.deciders().next().is_some() && self.deciders().all(Decider::is_estimate)
    }

    /// Whether it breaches by a figure that rests on labels.
    pub(super) fn is_realised(&self) -> bool {
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
