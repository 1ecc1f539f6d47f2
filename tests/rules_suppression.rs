//! What is kept quiet is not lost: who was told of a beginning is told of the end, nobody is told of the end of what they
//! never heard of, and what still fires once nothing keeps it quiet is told.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use driftline::config::{parse_model_str, parse_rules_str};
use driftline::rules::action_request::ActionRequest;
use driftline::rules::episode::{EpisodeStatus, Notification};
use driftline::rules::state::StoredState;
use driftline::rules::{Effect, ModelActivity, RuleSet, RuleStates};
use driftline::stats::metric::{FeatureStats, MetricValue};
use driftline::windows::result::{ClosedWindow, Segment, Window, WindowResult};
use proptest::prelude::*;

const HOUR_MS: i64 = 3_600_000;

fn rule_set(text: &str) -> RuleSet {
    let model = "version: 1\nmodel: fraud\ntopics: [t]\nfeatures: {amount: numeric, age: numeric, country: categorical}\n\
                 segments: [country]\nreferences: {training: {path: t.csv}}\nwindows: {size: 1h, allowed_lateness: 4h}\n";
    let model = Arc::new(parse_model_str("model.yaml", model).unwrap().value);
    let text = format!(
        "version: 1\n{text}\nroutes:\n  - {{match: {{severity: critical}}, to: [pager]}}\n  - {{to: [chat]}}\n\
         receivers:\n  pager: {{webhook: {{url: 'https://pager.example.com'}}}}\n  chat: {{webhook: {{url: 'https://chat.example.com'}}}}\n"
    );
    let file = parse_rules_str("rules.yaml", &text).unwrap_or_else(|found| panic!("{found}")).value;
    RuleSet::compile(&[("rules.yaml".into(), file)], &[model]).unwrap_or_else(|found| panic!("{found:#?}"))
}

/// A window in which `amount` and `age` have these PSI.
fn window(index: i64, amount: f64, age: f64) -> ClosedWindow {
    window_of("3", index, amount, age)
}

fn window_of(version: &str, index: i64, amount: f64, age: f64) -> ClosedWindow {
    let feature = |psi: f64| {
        let value = MetricValue { value: Some(psi), bound: None, p_value: Some(1e-9), interval: None };
        let metrics = BTreeMap::from([("psi".to_string(), value)]);
        FeatureStats { n: 10_000, n_reference: 100_000, metrics, ..FeatureStats::default() }
    };
    let window = Window { start_ms: index * HOUR_MS, end_ms: (index + 1) * HOUR_MS };
    let result = WindowResult {
        model: "fraud".into(),
        version: version.into(),
        segment: Segment::default(),
        window,
        revision: 0,
        reference: "training".into(),
        reference_id: "ref1".into(),
        rows: 10_000,
        complete: true,
        baseline: None,
        quality: None,
        changes: Vec::new(),
        performance: None,
        features: BTreeMap::from([("amount".to_string(), feature(amount)), ("age".to_string(), feature(age))]),
    };
    ClosedWindow {
        model: "fraud".into(),
        version: version.into(),
        window,
        revision: 0,
        results: vec![result],
        positions: Arc::new(vec![("t".into(), 0, 10_000 * (index + 1))]),
    }
}

fn notifications(effects: &[Effect]) -> Vec<Notification> {
    let notified = effects.iter().filter_map(|effect| match effect {
        Effect::Notify(notification) => Some(notification.clone()),
        _ => None,
    });
    notified.collect()
}

fn requests(effects: &[Effect]) -> Vec<ActionRequest> {
    let asked = effects.iter().filter_map(|effect| match effect {
        Effect::Ask(request) => Some((**request).clone()),
        _ => None,
    });
    asked.collect()
}

fn run(rules: &RuleSet, windows: &[ClosedWindow]) -> Vec<Effect> {
    let mut states = RuleStates::default();
    windows.iter().flat_map(|window| rules.on_window(&mut states, window, window.window.end_ms)).collect()
}

/// `hour rule status severity -> receivers (by what it is kept quiet)`.
fn outline(effects: &[Effect]) -> Vec<String> {
    let line = |one: &Notification| {
        let quiet = one.suppressed.as_ref();
        let quiet = quiet.map(|by| format!(" ({} {})", by.by.word(), by.name)).unwrap_or_default();
        let (hour, receivers) = (one.window.start_ms / HOUR_MS, one.receivers.join(","));
        format!("{hour} {} {:?} {:?} -> {receivers}{quiet}", one.rule, one.status, one.severity).replace(" -> (", " (")
    };
    notifications(effects).iter().map(line).collect()
}

const CAUSE_AND_EFFECT: &str = "rules:
  - {name: effect, model: fraud, features: {include: [amount]}, when: {warn: psi > 0.1, critical: psi > 0.25}}
  - {name: cause, model: fraud, features: {include: [age]}, when: {critical: psi > 0.25}, for: 2 windows}
inhibit: [{if: cause, mute: [effect]}]";

#[test]
fn a_rule_that_explains_another_keeps_it_quiet_from_the_window_it_begins_with() {
    let rules = rule_set(CAUSE_AND_EFFECT);
    let told = run(&rules, &[window(0, 0.0, 0.3), window(1, 0.3, 0.3), window(2, 0.3, 0.0), window(3, 0.0, 0.0)]);
    let expected = [
        "1 cause Firing Critical -> pager,chat",
        "1 effect Firing Critical ->  (inhibition cause)",
        // The cause ends with its second quiet window; by then its effect has ended, unheard of.
        "3 cause Resolved Critical -> pager,chat",
        "3 effect Resolved Critical ->  (inhibition cause)",
    ];
    assert_eq!(outline(&told), expected);
}

#[test]
fn what_still_fires_when_its_explanation_is_gone_is_told() {
    let rules = rule_set(CAUSE_AND_EFFECT);
    let amounts = [0.0, 0.3, 0.3, 0.3, 0.3, 0.0];
    let ages = [0.3, 0.3, 0.0, 0.0, 0.0, 0.0];
    let windows: Vec<ClosedWindow> = (0..6).map(|index| window(index as i64, amounts[index], ages[index])).collect();
    let told = run(&rules, &windows);
    let expected = [
        "1 cause Firing Critical -> pager,chat",
        "1 effect Firing Critical ->  (inhibition cause)",
        "3 cause Resolved Critical -> pager,chat",
        "3 effect Firing Critical -> pager,chat",
        "5 effect Resolved Critical -> pager,chat",
    ];
    assert_eq!(outline(&told), expected);
    let ids: BTreeSet<String> = notifications(&told).iter().map(|one| one.id.clone()).collect();
    assert_eq!(ids.len(), 5, "each has an id of its own");
}

#[test]
fn who_was_told_before_it_was_kept_quiet_is_told_of_the_end() {
    let rules = rule_set(CAUSE_AND_EFFECT);
    let amounts = [0.2, 0.2, 0.3, 0.0];
    let ages = [0.0, 0.3, 0.3, 0.3];
    let windows: Vec<ClosedWindow> = (0..4).map(|index| window(index as i64, amounts[index], ages[index])).collect();
    let expected = [
        "0 effect Firing Warn -> chat",
        "2 cause Firing Critical -> pager,chat",
        "2 effect Firing Critical ->  (inhibition cause)",
        "3 effect Resolved Critical -> chat",
    ];
    assert_eq!(outline(&run(&rules, &windows)), expected, "the pager never heard of it");
}

#[test]
fn what_both_must_have_in_common_is_asked() {
    let rules = rule_set(
        "rules:
  - {name: effect, model: fraud, features: {include: [amount]}, when: {warn: psi > 0.1}}
  - {name: cause, model: fraud, features: {include: [age]}, when: {warn: psi > 0.1}}
inhibit: [{if: cause, mute: [effect], same: [model, version]}]",
    );
    let told = run(&rules, &[window_of("3", 0, 0.0, 0.3), window_of("4", 0, 0.3, 0.0), window_of("3", 1, 0.3, 0.3)]);
    let expected =
        ["0 cause Firing Warn -> chat", "0 effect Firing Warn -> chat", "1 effect Firing Warn ->  (inhibition cause)"];
    assert_eq!(outline(&told), expected, "version 4 has no cause of its own");
}

#[test]
fn a_model_that_is_absent_explains_the_windows_of_that_time_and_is_itself_silenced_by_the_clock() {
    let rules = rule_set(
        "rules:
  - {name: drift, model: fraud, when: {warn: psi > 0.1}}
  - {name: no-data, model: fraud, absent: {after: 15m}}
inhibit: [{if: no-data, mute: [drift]}]
silences: [{match: {rule: no-data}, from: '1970-01-01T10:00:00Z', until: '1970-01-01T11:00:00Z', reason: upgrade}]",
    );
    let minute = 60_000;
    let mut states = RuleStates::default();
    let mut effects = Vec::new();
    let ask = |states: &mut RuleStates, last: i64, now: i64| {
        let activity = [ModelActivity { model: "fraud".into(), last_arrival_ms: Some(last * minute) }];
        rules.on_clock(states, &activity, now * minute)
    };
    // Silent from 9:50: told at no time before 11:15, when a quarter of an hour lies behind the silence.
    for now in [600, 606, 630, 660, 674, 675, 676] {
        effects.extend(ask(&mut states, 590, now));
    }
    effects.extend(rules.on_window(&mut states, &window(10, 0.3, 0.0), 0));
    effects.extend(ask(&mut states, 680, 680));
    effects.extend(rules.on_window(&mut states, &window(11, 0.3, 0.0), 0));
    effects.extend(rules.on_window(&mut states, &window(12, 0.3, 0.0), 0));
    let expected = [
        "9 no-data Firing Critical ->  (silence upgrade)",
        "9 no-data Firing Critical -> pager,chat",
        "10 drift Firing Warn ->  (inhibition no-data)",
        "11 no-data Resolved Critical -> pager,chat",
        "12 drift Firing Warn -> chat",
    ];
    assert_eq!(outline(&effects), expected, "at 11 events were absent for a part of the window");
    let at: Vec<i64> = notifications(&effects).iter().take(2).map(|one| one.at_ms / minute).collect();
    assert_eq!(at, [606, 675]);
}

#[test]
fn a_silence_is_asked_of_the_time_of_the_window_and_what_goes_on_is_told_behind_it() {
    let rules = rule_set(
        "rules:
  - {name: drift, model: fraud, when: {warn: psi > 0.1, critical: psi > 0.25}}
silences: [{match: {severity: warn}, every: 'Thu 02:00-04:00 Europe/Paris', reason: backfill}]",
    );
    // 1 January 1970 was a Thursday, and Paris an hour ahead: 01:00 to 03:00 UTC.
    let psis = [0.0, 0.2, 0.2, 0.2, 0.0, 0.0];
    let windows: Vec<ClosedWindow> = (0..6).map(|index| window(index as i64, psis[index], 0.0)).collect();
    let expected =
        ["1 drift Firing Warn ->  (silence backfill)", "3 drift Firing Warn -> chat", "4 drift Resolved Warn -> chat"];
    assert_eq!(outline(&run(&rules, &windows)), expected);
    let psis = [0.0, 0.2, 0.3, 0.0];
    let windows: Vec<ClosedWindow> = (0..4).map(|index| window(index as i64, psis[index], 0.0)).collect();
    let expected = [
        "1 drift Firing Warn ->  (silence backfill)",
        "2 drift Firing Critical -> pager,chat",
        "3 drift Resolved Critical -> pager,chat",
    ];
    assert_eq!(outline(&run(&rules, &windows)), expected, "what is critical is not silenced");
}

const ACTS: &str = "rules:
  - {name: quality, model: fraud, features: {include: [amount]}, when: {warn: psi > 0.1, critical: psi > 0.25}, actions: [retrain]}
  - {name: other, model: fraud, features: {include: [age]}, when: {warn: psi > 0.1}}
silences: [{match: {rule: quality}, from: '1970-01-01T03:00:00Z', until: '1970-01-01T04:00:00Z', reason: backfill}]
actions:
  retrain: {webhook: {url: 'https://train.example.com', secret: {env: SECRET}}, cooldown: 1h}";

#[test]
fn an_episode_asks_for_its_actions_with_every_window_that_fires_as_gravely_as_it_can() {
    let rules = rule_set(ACTS);
    let psis = [0.0, 0.2, 0.3, 0.3, 0.3, 0.0];
    let windows: Vec<ClosedWindow> = (0..6).map(|index| window(index as i64, psis[index], 0.2)).collect();
    let effects = run(&rules, &windows);
    let asked = requests(&effects);
    let hours: Vec<i64> = asked.iter().map(|request| request.window.start_ms / HOUR_MS).collect();
    assert_eq!(hours, [2, 4], "not at warn, not while it is silenced, not once it is over");
    let told = notifications(&effects);
    let critical = told.iter().find(|one| one.rule == "quality" && one.window.start_ms == 2 * HOUR_MS).unwrap();
    assert_eq!(critical.actions, ["retrain"]);
    let first = &asked[0];
    assert_eq!((&first.episode_id, &first.summary), (&critical.episode_id, &critical.summary));
    assert_eq!((first.action.as_str(), first.reference_id.as_str()), ("retrain", "ref1"));
    assert_eq!(first.facts.rows_by_day, [(0, 30_000)], "three windows of ten thousand events");
    let firing: Vec<&str> = first.facts.firing.iter().map(String::as_str).collect();
    assert_eq!(firing, ["other", "quality"]);
    let positions: Vec<i64> = first.facts.positions_by_day.iter().map(|one| one.next_offsets[0].2).collect();
    assert_eq!(positions, [10_000, 30_000], "after the day's first window, and now");
}

#[test]
fn the_words_of_a_rule_are_those_that_people_read() {
    let rules = rule_set(
        "rules:
  - name: drift
    model: fraud
    when: {warn: psi > 0.1}
    summary: '{feature} of {model}@{version} is at {value}'
    description: 'Since {since}. {summary}.'
    runbook: 'https://wiki.example.com/{rule}?where={reference}%20{metric}'
  - {name: no-data, model: fraud, absent: {after: 15m}, summary: '{model} is {status}: {reason}'}",
    );
    let told = notifications(&run(&rules, &[window(0, 0.2, 0.0)]));
    assert_eq!(told[0].summary, "amount of fraud@3 is at 0.20");
    let description = "Since 1970-01-01T00:00:00.000Z. amount of fraud@3 is at 0.20.";
    assert_eq!(told[0].description.as_deref(), Some(description));
    assert_eq!(told[0].runbook.as_deref(), Some("https://wiki.example.com/drift?where=training%20psi"));
    let activity = [ModelActivity { model: "fraud".into(), last_arrival_ms: Some(0) }];
    let absent = notifications(&rules.on_clock(&mut RuleStates::default(), &activity, HOUR_MS));
    assert_eq!(absent[0].summary, "fraud is firing: no events for 15m; the last one arrived 1970-01-01 00:00:00 UTC");
}

#[test]
fn a_renamed_rule_goes_on_with_its_episodes() {
    let before = rule_set("rules: [{name: drift, model: fraud, when: {warn: psi > 0.1}}]");
    let mut states = RuleStates::default();
    let begun = notifications(&before.on_window(&mut states, &window(0, 0.2, 0.0), 1));
    let after = rule_set("rules: [{name: moved, model: fraud, when: {warn: psi > 0.1}, formerly: drift}]");
    let (mut gone, mut kept) = (Vec::new(), Vec::new());
    for effect in after.rename(&mut states) {
        match effect {
            Effect::StateChanged { key, state: None } => gone.push(key),
            Effect::StateChanged { key, state: Some(_) } => kept.push(key),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((gone.len(), kept.len()), (1, 1));
    assert!(gone[0].starts_with("[\"drift\"") && kept[0].starts_with("[\"moved\""), "{gone:?} {kept:?}");
    assert_eq!(after.rename(&mut states), Vec::new(), "once");
    let ended = notifications(&after.on_window(&mut states, &window(1, 0.0, 0.0), 1));
    assert_eq!(ended.len(), 1);
    assert_eq!((&ended[0].episode_id, ended[0].rule.as_str()), (&begun[0].episode_id, "moved"));
    assert_eq!((ended[0].sequence, ended[0].status), (1, EpisodeStatus::Resolved));
    let next = notifications(&after.on_window(&mut states, &window(2, 0.2, 0.0), 1));
    assert_ne!(next[0].episode_id, begun[0].episode_id);
}

/// Of random streams: a rule that explains another, one that is silenced for a while, both at once.
fn any_rules() -> impl Strategy<Value = String> {
    let persistence = prop::sample::select(vec!["1 window", "2 windows", "2 of 3 windows"]);
    let silence = (0_i64..12, 1_i64..8, prop::sample::select(vec!["", ", severity: warn", ", feature: amount"]));
    (persistence.clone(), persistence, silence, any::<bool>()).prop_map(|(effect, cause, (from, hours, what), mute)| {
        let mute = if mute { "inhibit: [{if: cause, mute: ['eff*']}]\n" } else { "" };
        let until = from + hours;
        format!(
            "rules:
  - {{name: effect, model: fraud, features: {{include: [amount, country]}}, when: {{warn: psi > 0.1, critical: psi > 0.25}}, for: {effect}, recover: psi < 0.05, actions: [retrain]}}
  - {{name: cause, model: fraud, features: {{include: [age]}}, when: {{warn: psi > 0.1}}, for: {cause}}}
{mute}silences: [{{match: {{rule: effect{what}}}, from: '1970-01-01T{from:02}:00:00Z', until: '1970-01-01T{until:02}:00:00Z', reason: backfill}}]
actions:
  retrain: {{webhook: {{url: 'https://train.example.com', secret: {{env: SECRET}}}}, cooldown: 1h}}"
        )
    })
}

fn psi() -> impl Strategy<Value = f64> {
    prop::sample::select(vec![0.0, 0.07, 0.2, 0.3])
}

/// The `episodes` topic.
#[derive(Default)]
struct EpisodesTopic {
    records: BTreeMap<String, Vec<u8>>,
}

impl EpisodesTopic {
    fn write(&mut self, effects: &[Effect]) {
        for effect in effects {
            let (key, value) = match effect {
                Effect::StateChanged { key, state } => {
                    (key.clone(), state.as_ref().map(|state| serde_json::to_vec(state).unwrap()))
                }
                Effect::FactsChanged { key, facts } => (
                    serde_json::to_string(key).unwrap(),
                    facts.as_ref().map(|facts| serde_json::to_vec(facts).unwrap()),
                ),
                _ => continue,
            };
            match value {
                Some(value) => self.records.insert(key, value),
                None => self.records.remove(&key),
            };
        }
    }

    fn read(&self) -> RuleStates {
        let mut states = RuleStates::default();
        for (key, bytes) in &self.records {
            match StoredState::decode(key, bytes).unwrap() {
                StoredState::Rule(state) => states.restore(key.clone(), Some(*state)),
                StoredState::Facts(key, facts) => {
                    drop(states.facts.entry(key.model).or_default().insert(key.day, facts))
                }
            }
        }
        states
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn suppression_loses_no_end_and_tells_none_that_nobody_heard_begin(
        text in any_rules(),
        drawn in prop::collection::vec((psi(), psi(), prop::option::of((psi(), psi()))), 1..16),
    ) {
        let rules = rule_set(&text);
        let mut windows = Vec::new();
        for (index, (amount, age, revised)) in drawn.iter().enumerate() {
            windows.push(window(index as i64, *amount, *age));
            if let Some((amount, age)) = revised.filter(|_| index > 0) {
                windows.push(ClosedWindow { revision: 1, ..window(index as i64 - 1, amount, age) });
            }
        }
        // Quiet for as long as it takes everything to end.
        let length = drawn.len() as i64;
        windows.extend((length..length + 8).map(|index| window(index, 0.0, 0.0)));
        let effects = run(&rules, &windows);
        let told = notifications(&effects);
        let mut ids = BTreeSet::new();
        let mut heard: BTreeMap<(String, String), EpisodeStatus> = BTreeMap::new();
        let mut open: BTreeMap<String, EpisodeStatus> = BTreeMap::new();
        for one in &told {
            prop_assert!(ids.insert(one.id.clone()), "{} twice", one.id);
            prop_assert!(one.receivers.is_empty() == one.suppressed.is_some(), "{one:?}");
            open.insert(one.episode_id.clone(), one.status);
            for receiver in &one.receivers {
                let before = heard.insert((one.episode_id.clone(), receiver.clone()), one.status);
                let first = one.status == EpisodeStatus::Firing;
                prop_assert!(first || before == Some(EpisodeStatus::Firing), "{receiver} hears of an end alone: {one:?}");
            }
        }
        prop_assert!(open.values().all(|status| *status == EpisodeStatus::Resolved), "{open:?}");
        prop_assert!(heard.values().all(|status| *status == EpisodeStatus::Resolved), "{heard:?}");

        let mut topic = EpisodesTopic::default();
        let mut again = Vec::new();
        for window in &windows {
            let mut states = topic.read();
            let effects = rules.on_window(&mut states, window, window.window.end_ms);
            topic.write(&effects);
            again.extend(effects);
        }
        let lasting = |effects: &[Effect]| (notifications(effects), requests(effects));
        prop_assert_eq!(lasting(&again), lasting(&effects), "a restart after any window changes nothing");
    }

    /// Whatever suppresses: the episodes are those of the same rules without it.
    #[test]
    fn suppression_changes_who_is_told_and_not_what_happens(
        text in any_rules(),
        drawn in prop::collection::vec((psi(), psi()), 1..20),
    ) {
        let lines = text.lines().filter(|line| !line.starts_with("inhibit:") && !line.starts_with("silences:"));
        let plain = rule_set(&lines.collect::<Vec<_>>().join("\n"));
        let windows: Vec<ClosedWindow> =
            drawn.iter().enumerate().map(|(index, (amount, age))| window(index as i64, *amount, *age)).collect();
        let spans = |rules: &RuleSet| {
            let mut spans: BTreeMap<String, Vec<(EpisodeStatus, i64)>> = BTreeMap::new();
            for one in notifications(&run(rules, &windows)) {
                let of_episode = spans.entry(one.episode_id.clone()).or_default();
                let ends = one.status == EpisodeStatus::Resolved;
                if of_episode.is_empty() || ends {
                    of_episode.push((one.status, one.window.start_ms));
                }
            }
            spans
        };
        prop_assert_eq!(spans(&rule_set(&text)), spans(&plain));
    }
}
