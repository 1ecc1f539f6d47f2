//! Rules keep their promises on any stream of windows: restarts, replays, revisions and duplicates change nothing
//! that people are told.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::Arc;

use driftline::config::{parse_model_str, parse_rules_str};
use driftline::rules::episode::{EpisodeStatus, Notification};
use driftline::rules::expression::Expression;
use driftline::rules::state::StoredState;
use driftline::rules::{Effect, ModelActivity, RuleSet, RuleStates};
use driftline::stats::metric::{BinShare, FeatureStats, MetricValue};
use driftline::stats::null::{Inflation, NullLaw};
use driftline::stats::psi;
use driftline::windows::result::{ClosedWindow, Segment, Window, WindowResult};
use proptest::prelude::*;

const HOUR_MS: i64 = 3_600_000;

fn rule_set(rules: &str) -> RuleSet {
    let mut models = Vec::new();
    for name in ["fraud", "credit"] {
        let text = format!(
            "version: 1\nmodel: {name}\ntopics: [t]\nfeatures: {{amount: numeric, age: numeric, country: categorical}}\n\
             score: {{path: score, type: numeric}}\nsegments: [country]\nreferences: {{training: {{path: t.csv}}}}\n\
             windows: {{size: 1h, allowed_lateness: 4h}}\n"
        );
        models.push(Arc::new(parse_model_str(name, &text).unwrap().value));
    }
    let text = format!(
        "version: 1\nrules:\n{rules}\nroutes:\n  - {{match: {{severity: critical}}, to: [pager]}}\n  - {{to: [chat]}}\n\
         receivers:\n  pager: {{webhook: {{url: 'https://pager.example.com'}}}}\n  chat: {{webhook: {{url: 'https://chat.example.com'}}}}\n"
    );
    let file = parse_rules_str("rules.yaml", &text).unwrap().value;
    RuleSet::compile(&[("rules.yaml".into(), file)], &models).unwrap()
}

fn feature(psi: f64, p_value: f64) -> FeatureStats {
    let metric = |value, p_value| MetricValue { value: Some(value), bound: None, p_value, interval: None };
    FeatureStats {
        n: 10_240,
        missing: 2_560,
        n_reference: 100_000,
        metrics: BTreeMap::from([
            ("psi".to_string(), metric(psi, Some(p_value))),
            ("null_rate".to_string(), metric(0.2, None)),
            ("null_rate_change".to_string(), metric(0.19, None)),
        ]),
        location: None,
        importance: None,
        bins: vec![
            BinShare { label: "< 10".into(), reference: 0.1, window: 0.1 },
            BinShare { label: ">= 10".into(), reference: 0.9, window: 0.5 },
            BinShare { label: "(missing)".into(), reference: 0.0, window: 0.4 },
        ],
        ..FeatureStats::default()
    }
}

fn result(model: &str, index: i64, segment: Segment, features: BTreeMap<String, FeatureStats>) -> WindowResult {
    WindowResult {
        model: model.into(),
        version: "3".into(),
        segment,
        window: Window { start_ms: index * HOUR_MS, end_ms: (index + 1) * HOUR_MS },
        revision: 0,
        reference: "training".into(),
        reference_id: "ref1".into(),
        rows: 10_240,
        complete: true,
        baseline: None,
        quality: None,
        changes: Vec::new(),
        performance: None,
        features,
    }
}

fn closed(results: Vec<WindowResult>, revision: u32) -> ClosedWindow {
    let first = results[0].clone();
    ClosedWindow {
        model: first.model,
        version: first.version,
        window: first.window,
        revision,
        results,
        positions: Arc::default(),
    }
}

/// A window whose features `amount` and `age` have these PSI, all of them significant.
fn window(model: &str, index: i64, amount: f64, age: f64) -> ClosedWindow {
    let features =
        BTreeMap::from([("amount".to_string(), feature(amount, 1e-9)), ("age".to_string(), feature(age, 1e-9))]);
    closed(vec![result(model, index, Segment::default(), features)], 0)
}

fn notifications(effects: Vec<Effect>) -> Vec<Notification> {
    let notified = effects.into_iter().filter_map(|effect| match effect {
        Effect::Notify(notification) => Some(notification),
        _ => None,
    });
    notified.collect()
}

fn run(rules: &RuleSet, windows: &[ClosedWindow]) -> Vec<Notification> {
    let mut states = RuleStates::default();
    windows.iter().flat_map(|window| notifications(rules.on_window(&mut states, window, 1))).collect()
}

fn outline(notifications: &[Notification]) -> Vec<String> {
    let line = |one: &Notification| {
        format!("{} {:?} {:?} -> {}", one.window.start_ms / HOUR_MS, one.status, one.severity, one.receivers.join(","))
    };
    notifications.iter().map(line).collect()
}

const DRIFT: &str = "  - {name: drift, model: fraud, when: {warn: psi > 0.1, critical: psi > 0.25}, for: 2 windows}";

/// Values in two bins, half each in the reference, of which the lower one has this share in the window.
fn in_two_bins(n: u64, lower: f64) -> FeatureStats {
    let bins = vec![
        BinShare { label: "< 10".into(), reference: 0.5, window: lower },
        BinShare { label: ">= 10".into(), reference: 0.5, window: 1.0 - lower },
    ];
    let index = psi::population_stability_index(&[0.5, 0.5], &[lower, 1.0 - lower], psi::SHARE_FLOOR);
    let p_value = psi::p_value(index, 2, 10 * n, n);
    let metrics =
        BTreeMap::from([("psi".to_string(), MetricValue { value: Some(index), bound: None, p_value, interval: None })]);
    FeatureStats { n, n_reference: 10 * n, bins, metrics, ..FeatureStats::default() }
}

#[test]
fn a_finding_about_the_whole_names_the_segment_where_it_is_worst() {
    let rules = rule_set("  - {name: drift, model: fraud, when: {warn: psi > 0.005}}");
    let country = |name: &str| Segment { column: "country".into(), value: name.into() };
    let in_segment = |segment: Segment, n: u64, lower: f64| WindowResult {
        rows: n,
        ..result("fraud", 0, segment, BTreeMap::from([("amount".to_string(), in_two_bins(n, lower))]))
    };
    let mut results = vec![in_segment(Segment::default(), 10_000, 0.46)];
    let steady = ["AT", "BE", "CH", "DE", "ES", "FR", "GB", "NL", "PT"];
    results.extend(steady.map(|name| in_segment(country(name), 1_000, 0.5)));
    results.push(in_segment(country("IT"), 1_000, 0.1));
    let told = run(&rules, &[closed(results, 0)]);
    let search = told[0].findings[0].explanation.segments.as_ref().unwrap();
    let worst: Vec<(String, u64)> = search.worst.iter().map(|one| (one.segment.to_string(), one.rows)).collect();
    assert_eq!((search.segments, worst), (10, vec![("country=IT".to_string(), 1_000)]));
    assert_eq!(
        search.sentence(),
        "worst in country=IT: PSI 0.88, 10% of events, 100% of the drift, adjusted p < 1e-6 (10 segments looked at)"
    );
}

#[test]
fn findings_stand_in_the_order_of_drift_times_importance() {
    let rules = rule_set(DRIFT);
    let mut windows = [window("fraud", 0, 0.4, 0.3), window("fraud", 1, 0.4, 0.3)];
    let features = |told: &[Notification]| -> Vec<String> {
        told[0].findings.iter().filter_map(|finding| finding.feature.clone()).collect()
    };
    assert_eq!(features(&run(&rules, &windows)), ["amount", "age"]);
    for features in windows.iter_mut().map(|window| &mut window.results[0].features) {
        features.get_mut("amount").unwrap().importance = Some(0.1);
        features.get_mut("age").unwrap().importance = Some(0.5);
    }
    let told = run(&rules, &windows);
    assert_eq!(features(&told), ["age", "amount"]);
    let first = &told[0].findings[0].explanation;
    assert_eq!((first.importance, first.priority), (Some(0.5), Some(0.15)));
    // Of unknown importance: as the most important one.
    for features in windows.iter_mut().map(|window| &mut window.results[0].features) {
        features.get_mut("amount").unwrap().importance = None;
    }
    assert_eq!(features(&run(&rules, &windows)), ["amount", "age"]);
}

#[test]
fn a_notification_reads_as_a_person_would_say_it() {
    let rules = rule_set(DRIFT);
    let told = run(&rules, &[window("fraud", 0, 0.4, 0.0), window("fraud", 1, 0.41, 0.0)]);
    assert_eq!(outline(&told), ["1 Firing Critical -> pager,chat"]);
    let thin = '\u{202f}';
    assert_eq!(
        told[0].findings[0].reason,
        format!("`amount`: PSI 0.41 against training, 2 of 2 windows, 10{thin}240 events, adjusted p < 1e-6")
    );
    assert_eq!(told[0].summary, "drift critical: fraud@3, `amount` PSI 0.41");
    let moved: Vec<&str> = told[0].findings[0].moved.iter().map(|bin| bin.label.as_str()).collect();
    assert_eq!(moved, [">= 10", "(missing)"]);
    assert_eq!(told[0].id, format!("{}-0", told[0].episode_id));
    assert_eq!(told[0].first_window.start_ms, 0);
}

#[test]
fn rates_are_percentages_beside_the_reference() {
    let rules =
        rule_set("  - {name: nulls, model: fraud, features: {include: [amount]}, when: {warn: null_rate > 10%}}");
    let told = run(&rules, &[window("fraud", 0, 0.0, 0.0)]);
    let reason = &told[0].findings[0].reason;
    assert!(reason.starts_with("`amount`: null rate 20% (training 1%), 1 of 1 window, "), "{reason}");
}

#[test]
fn severity_only_rises_within_an_episode_and_everyone_told_hears_its_end() {
    let rules = rule_set(DRIFT);
    let psis = [0.2, 0.2, 0.3, 0.3, 0.2, 0.2, 0.0, 0.0, 0.0];
    let windows: Vec<ClosedWindow> =
        psis.iter().enumerate().map(|(index, psi)| window("fraud", index as i64, *psi, 0.0)).collect();
    let told = run(&rules, &windows);
    let expected = ["1 Firing Warn -> chat", "3 Firing Critical -> chat,pager", "7 Resolved Critical -> chat,pager"];
    assert_eq!(outline(&told), expected);
    let ids: Vec<String> = (0..3).map(|sequence| format!("{}-{sequence}", told[0].episode_id)).collect();
    assert_eq!(told.iter().map(|one| one.id.clone()).collect::<Vec<_>>(), ids);
    assert!(told[2].findings[0].reason.starts_with("`amount`: PSI 0 against training"), "{:?}", told[2].findings);
}

#[test]
fn hysteresis_holds_an_alert_until_the_feature_that_raised_it_recovers() {
    let rules = rule_set(
        "  - {name: drift, model: fraud, when: {critical: psi > 0.25}, recover: psi < 0.08, group_by: [model, version]}",
    );
    let psis = [(0.3, 0.0), (0.2, 0.0), (0.09, 0.0), (0.07, 0.2), (0.0, 0.0)];
    let windows: Vec<ClosedWindow> =
        psis.iter().enumerate().map(|(index, (amount, age))| window("fraud", index as i64, *amount, *age)).collect();
    let expected = ["0 Firing Critical -> pager,chat", "3 Resolved Critical -> pager,chat"];
    assert_eq!(outline(&run(&rules, &windows)), expected, "`age` at 0.2 never breached: it holds nothing");
}

#[test]
fn breaches_of_an_ended_episode_do_not_start_the_next() {
    let rules = rule_set("  - {name: drift, model: fraud, when: {critical: psi > 0.25}, for: 2 of 5 windows}");
    let psis = [0.3, 0.3, 0.0, 0.0, 0.0, 0.3, 0.0, 0.3];
    let windows: Vec<ClosedWindow> =
        psis.iter().enumerate().map(|(index, psi)| window("fraud", index as i64, *psi, 0.0)).collect();
    let told = run(&rules, &windows);
    let expected =
        ["1 Firing Critical -> pager,chat", "3 Resolved Critical -> pager,chat", "7 Firing Critical -> pager,chat"];
    assert_eq!(outline(&told), expected);
    assert_eq!(told[2].first_window.start_ms, 5 * HOUR_MS);
    assert_ne!(told[2].episode_id, told[0].episode_id);
}

#[test]
fn an_episode_that_a_revision_revives_goes_on_counting() {
    let rules = rule_set("  - {name: drift, model: fraud, when: {critical: psi > 0.25}}");
    let revised = |window: ClosedWindow| ClosedWindow { revision: 1, ..window };
    let windows = [
        window("fraud", 0, 0.3, 0.0),
        window("fraud", 1, 0.0, 0.0),
        window("fraud", 2, 0.3, 0.0),
        revised(window("fraud", 1, 0.3, 0.0)),
        window("fraud", 3, 0.0, 0.0),
        revised(window("fraud", 3, 0.3, 0.0)),
    ];
    let told = run(&rules, &windows);
    let (first, second) = (&told[0].episode_id, &told[2].episode_id);
    let expected = [(first, 0), (first, 1), (second, 0), (second, 1), (first, 2)];
    let expected = expected.map(|(episode, sequence)| format!("{episode}-{sequence}"));
    assert_eq!(told.iter().map(|one| one.id.clone()).collect::<Vec<_>>(), expected);
}

#[test]
fn chance_among_many_features_is_not_a_finding() {
    let with_p = |p: f64| {
        let mut features: BTreeMap<String, FeatureStats> =
            (0..199).map(|index| (format!("f{index}"), feature(0.0, 0.5))).collect();
        features.insert("amount".into(), feature(0.3, p));
        closed(vec![result("fraud", 0, Segment::default(), features)], 0)
    };
    let rule = |correction: &str| {
        rule_set(&format!(
            "  - {{name: drift, model: fraud, when: {{critical: psi > 0.25}}, significance: {{correction: {correction}}}}}"
        ))
    };
    for (correction, p, fires) in [
        ("benjamini-hochberg", 0.001, false),
        ("benjamini-hochberg", 0.00004, true),
        ("bonferroni", 0.001, false),
        ("none", 0.001, true),
    ] {
        assert_eq!(run(&rule(correction), &[with_p(p)]).len(), usize::from(fires), "{correction} at p {p}");
    }
    let off = rule_set("  - {name: drift, model: fraud, when: {critical: psi > 0.25}, significance: {test: none}}");
    assert_eq!(run(&off, &[with_p(0.9)]).len(), 1);
}

#[test]
fn segments_and_features_have_episodes_of_their_own_where_asked() {
    let rules = rule_set(
        "  - {name: drift, model: fraud, segments: [country], when: {critical: psi > 0.25}, group_by: [model, version, segment, feature]}",
    );
    let features = |amount: f64| {
        BTreeMap::from([("amount".to_string(), feature(amount, 1e-9)), ("age".to_string(), feature(0.3, 1e-9))])
    };
    let germany = Segment { column: "country".into(), value: "DE".into() };
    let other = Segment { column: "device".into(), value: "phone".into() };
    let results = vec![
        result("fraud", 0, Segment::default(), features(0.0)),
        result("fraud", 0, germany, features(0.5)),
        result("fraud", 0, other, features(0.5)),
    ];
    let told = run(&rules, &[closed(results, 0)]);
    let mut groups: Vec<String> =
        told.iter().map(|one| format!("{} {}", one.segment, one.feature.clone().unwrap_or_default())).collect();
    groups.sort();
    assert_eq!(groups, ["all age", "country=DE age", "country=DE amount"]);
    let reasons: Vec<&str> = told.iter().map(|one| one.findings[0].reason.as_str()).collect();
    assert!(
        reasons.iter().any(|reason| reason.starts_with("`amount` where `country` is `DE`: PSI 0.50")),
        "{reasons:?}"
    );
}

#[test]
fn quantifiers_count_features_and_row_counts_need_no_samples() {
    let rules = rule_set(
        "  - {name: dataset, model: fraud, when: {critical: share(psi > 0.2) > 40%}}\n  - {name: volume, model: fraud, when: {warn: row_count < 100}}",
    );
    assert_eq!(run(&rules, &[window("fraud", 0, 0.1, 0.1)]).len(), 0);
    let told = run(&rules, &[window("fraud", 0, 0.3, 0.1)]);
    assert!(told[0].findings[0].reason.starts_with("all events: share(psi > 0.2) is 50%, 1 of 1 window"), "{told:#?}");
    let mut small = window("fraud", 0, 0.9, 0.9);
    small.results[0].rows = 7;
    let told = run(&rules, &[small]);
    assert_eq!(told.iter().map(|one| one.rule.as_str()).collect::<Vec<_>>(), ["volume"]);
    assert_eq!(told[0].findings[0].reason, "all events: row count 7, 1 of 1 window");
}

#[test]
fn a_window_that_only_shares_its_length_is_not_looked_at() {
    let rules = rule_set(DRIFT);
    let mut between = window("fraud", 0, 0.9, 0.9);
    between.window = Window { start_ms: HOUR_MS / 4, end_ms: HOUR_MS + HOUR_MS / 4 };
    assert_eq!(rules.on_window(&mut RuleStates::default(), &between, 1), []);
}

#[test]
fn silence_fires_once_and_resolves_when_events_arrive() {
    let rules = rule_set("  - {name: no-data, model: '*', absent: {after: 15m}}");
    let mut states = RuleStates::default();
    let mut at = |last_arrival_ms: Option<i64>, now_ms: i64| {
        let activity = [ModelActivity { model: "fraud".into(), last_arrival_ms }];
        notifications(rules.on_clock(&mut states, &activity, now_ms))
    };
    let minute = 60_000;
    assert_eq!(at(None, 100 * minute), []);
    assert_eq!(at(Some(0), 14 * minute), []);
    let fired = at(Some(0), 15 * minute);
    assert_eq!(fired[0].findings[0].reason, "no events for 15m; the last one arrived 1970-01-01 00:00:00 UTC");
    assert_eq!(at(Some(0), 60 * minute), []);
    let resolved = at(Some(60 * minute), 61 * minute);
    assert_eq!((resolved[0].status, &resolved[0].receivers), (EpisodeStatus::Resolved, &fired[0].receivers));
    assert_eq!(resolved[0].id, format!("{}-1", fired[0].episode_id));
    let again = at(Some(60 * minute), 80 * minute);
    assert_ne!(again[0].episode_id, fired[0].episode_id);
}

/// One window of a stream: PSI of two features, and whether it can be judged.
#[derive(Debug, Clone, Copy)]
struct Drawn {
    amount: f64,
    age: f64,
    judged: bool,
}

fn drawn() -> impl Strategy<Value = Drawn> {
    let psi = || prop_oneof![3 => Just(0.0), 1 => Just(0.09), 2 => Just(0.15), 2 => Just(0.3)];
    (psi(), psi(), prop::bool::weighted(0.8)).prop_map(|(amount, age, judged)| Drawn { amount, age, judged })
}

fn stream(drawn: &[Drawn]) -> Vec<ClosedWindow> {
    let windows = drawn.iter().enumerate().map(|(index, one)| {
        let mut window = window("fraud", index as i64, one.amount, one.age);
        if !one.judged {
            window.results[0].complete = index % 2 == 0;
            window.results[0].rows = if index % 2 == 0 { 10 } else { 10_240 };
        }
        window
    });
    windows.collect()
}

fn any_rules() -> impl Strategy<Value = RuleSet> {
    let persistence = prop_oneof![
        Just("1 window"),
        Just("2 windows"),
        Just("2 of 3 windows"),
        Just("3 of 5 windows"),
        Just("2 of 5 windows")
    ];
    let recover = prop_oneof![Just(""), Just(", recover: psi < 0.08")];
    let group = prop_oneof![Just(""), Just(", group_by: [model]"), Just(", group_by: [model, version, feature]")];
    (persistence, recover, group).prop_map(|(persistence, recover, group)| {
        rule_set(&format!(
            "  - {{name: drift, model: fraud, when: {{warn: psi > 0.1, critical: psi > 0.25}}, for: {persistence}{recover}{group}}}"
        ))
    })
}

/// Firing, rises and ends alternate as they should, and ids count up without a gap.
fn assert_well_formed(told: &[Notification]) {
    let mut open: BTreeMap<Option<String>, Notification> = BTreeMap::new();
    let mut sequences: BTreeMap<String, u32> = BTreeMap::new();
    for one in told {
        let next = sequences.entry(one.episode_id.clone()).or_insert(0);
        assert_eq!(one.sequence, *next, "{one:?}");
        assert!(!one.findings.is_empty(), "{one:?}");
        *next += 1;
        let before = open.remove(&one.feature);
        match (one.status, before) {
            (EpisodeStatus::Firing, None) => {}
            (EpisodeStatus::Firing, Some(before)) => {
                assert_eq!(before.episode_id, one.episode_id);
                assert!(one.severity > before.severity, "{:?} after {:?}", one.severity, before.severity);
            }
            (EpisodeStatus::Resolved, before) => {
                assert_eq!(before.map(|before| before.episode_id).as_ref(), Some(&one.episode_id));
            }
        }
        if one.status == EpisodeStatus::Firing {
            open.insert(one.feature.clone(), one.clone());
        }
    }
}

/// The `episodes` topic, written by effects and read back as bytes.
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
                    states.facts.entry(key.model).or_default().insert(key.day, facts);
                }
            }
        }
        states
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn a_restart_after_any_window_changes_nothing(rules in any_rules(), drawn in prop::collection::vec(drawn(), 1..20)) {
        let windows = stream(&drawn);
        let unbroken = run(&rules, &windows);
        assert_well_formed(&unbroken);
        let mut topic = EpisodesTopic::default();
        let mut told = Vec::new();
        for window in &windows {
            let mut states = topic.read();
            let effects = rules.on_window(&mut states, window, 1);
            topic.write(&effects);
            prop_assert_eq!(&topic.read(), &states, "the topic must hold all that memory holds");
            told.extend(notifications(effects));
        }
        prop_assert_eq!(told, unbroken);
    }

    #[test]
    fn a_window_seen_again_says_nothing(rules in any_rules(), drawn in prop::collection::vec(drawn(), 1..20), back in 1_usize..6) {
        let windows = stream(&drawn);
        let mut states = RuleStates::default();
        let mut told = Vec::new();
        for (index, window) in windows.iter().enumerate() {
            told.extend(notifications(rules.on_window(&mut states, window, 1)));
            for again in &windows[index.saturating_sub(back)..=index] {
                prop_assert_eq!(notifications(rules.on_window(&mut states, again, 2)), vec![]);
            }
        }
        prop_assert_eq!(told, run(&rules, &windows));
    }

    #[test]
    fn windows_that_cannot_be_judged_neither_advance_nor_reset(rules in any_rules(), drawn in prop::collection::vec(drawn(), 1..20)) {
        let windows = stream(&drawn);
        let judged: Vec<ClosedWindow> =
            windows.iter().zip(&drawn).filter(|(_, one)| one.judged).map(|(window, _)| window.clone()).collect();
        prop_assert_eq!(run(&rules, &windows), run(&rules, &judged));
    }

    #[test]
    fn models_do_not_touch_each_other(drawn in prop::collection::vec(drawn(), 1..20), other in prop::collection::vec(drawn(), 1..20)) {
        let rules = rule_set("  - {name: drift, model: '*', when: {warn: psi > 0.1, critical: psi > 0.25}, for: 2 windows}");
        let windows = stream(&drawn);
        let mut mixed = Vec::new();
        for index in 0..windows.len().max(other.len()) {
            mixed.extend(windows.get(index).cloned());
            mixed.extend(other.get(index).map(|one| window("credit", index as i64, one.amount, one.age)));
        }
        let of_fraud: Vec<Notification> = run(&rules, &mixed).into_iter().filter(|one| one.model == "fraud").collect();
        prop_assert_eq!(of_fraud, run(&rules, &windows));
    }

    /// Revised within the allowed lateness, a stream ends where its last revisions alone would have ended.
    #[test]
    fn revisions_end_where_the_final_windows_end(
        rules in any_rules(),
        drawn in prop::collection::vec((drawn(), drawn(), 0_usize..4), 1..16),
    ) {
        let firsts: Vec<Drawn> = drawn.iter().map(|(first, _, _)| Drawn { judged: true, ..*first }).collect();
        let finals: Vec<Drawn> = drawn.iter().map(|(_, last, _)| Drawn { judged: true, ..*last }).collect();
        let revised: Vec<ClosedWindow> =
            stream(&finals).into_iter().map(|window| ClosedWindow { revision: 1, ..window }).collect();
        let mut order: Vec<(usize, ClosedWindow)> = stream(&firsts).into_iter().enumerate().collect();
        order.extend(revised.iter().enumerate().map(|(index, window)| (index + drawn[index].2, window.clone())));
        order.sort_by_key(|(at, window)| (*at, window.revision));
        let order: Vec<ClosedWindow> = order.into_iter().map(|(_, window)| window).collect();

        let mut states = RuleStates::default();
        let told: Vec<Notification> =
            order.iter().flat_map(|window| notifications(rules.on_window(&mut states, window, 1))).collect();
        assert_well_formed(&told);
        prop_assert_eq!(&told, &run(&rules, &order), "a replay says the same");

        let firing = |told: &[Notification]| {
            let mut firing: BTreeMap<Option<String>, bool> = BTreeMap::new();
            for one in told {
                firing.insert(one.feature.clone(), one.status == EpisodeStatus::Firing);
            }
            firing.retain(|_, firing| *firing);
            firing
        };
        prop_assert_eq!(firing(&told), firing(&run(&rules, &stream(&finals))));
    }

    /// Against the definition, without a machine: the first time that m of the last n windows breach.
    #[test]
    fn the_first_alert_comes_with_the_mth_breach_in_n(breaches in prop::collection::vec(any::<bool>(), 1..30), needed in 1_usize..4, more in 0_usize..3) {
        let of = needed + more;
        let rules = rule_set(&format!("  - {{name: drift, model: fraud, when: {{critical: psi > 0.25}}, for: {needed} of {of} windows}}"));
        let windows: Vec<ClosedWindow> = breaches
            .iter()
            .enumerate()
            .map(|(index, breach)| window("fraud", index as i64, if *breach { 0.3 } else { 0.0 }, 0.0))
            .collect();
        let expected = (0..breaches.len()).find(|end| {
            let begin = (end + 1).saturating_sub(of);
            breaches[begin..=*end].iter().filter(|breach| **breach).count() >= needed
        });
        let told = run(&rules, &windows);
        let found = told.first().map(|one| (one.window.start_ms / HOUR_MS) as usize);
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn the_expression_parser_never_panics(text in "\\PC{0,60}") {
        let _ = Expression::parse(&text);
    }

    #[test]
    fn parts_of_expressions_in_any_order_are_read_or_refused_at_their_place(
        parts in prop::collection::vec(
            prop::sample::select(vec![
                "psi", "ks", "row_count", ">", ">=", "<", "==", "!=", "and", "or", "not", "between", "(", ")", "any",
                "share", "count", "30%", "0.25", "1e3", "-", "+", "*", "/", "baseline", "expected", "of", "with", "é", "%",
            ]),
            0..25,
        ),
    ) {
        let text = parts.join(" ");
        if let Err(error) = Expression::parse(&text) {
            prop_assert!(error.at.start <= error.at.end && error.at.end <= text.len(), "{:?} in `{}`", error.at, text);
            prop_assert!(text.get(error.at.clone()).is_some(), "{:?} cuts a character of `{}`", error.at, text);
        }
    }

    #[test]
    fn yaml_that_is_anything_is_read_or_refused(text in "[a-z:{}\\[\\], \\n\\t\"'*&!|>#-]{0,80}") {
        let _ = parse_rules_str("rules.yaml", &text);
        let _ = parse_model_str("model.yaml", &format!("version: 1\nmodel: m\nfeatures: {text}\n"));
    }
}

/// A feature with 10 bins whose test of shares has this statistic; PSI as 100 000 rows a side give it.
fn tested(statistic: f64) -> FeatureStats {
    let law = NullLaw::new(statistic, 9.0, Inflation::NONE);
    let p = law.p_value();
    let metric = |value| MetricValue { value: Some(value), bound: None, p_value: Some(p), interval: None };
    let metrics = BTreeMap::from([
        ("psi".to_string(), metric(statistic * 2e-5)),
        ("drift".to_string(), metric(-p.log10())),
        ("ks".to_string(), metric(0.01)),
    ]);
    FeatureStats { metrics, law: Some(law), inflation: Some(1.5), ..feature(0.0, 1.0) }
}

fn tested_window(statistics: &[f64]) -> ClosedWindow {
    let features = statistics.iter().enumerate().map(|(index, statistic)| (format!("f{index}"), tested(*statistic)));
    closed(vec![result("fraud", 0, Segment::default(), features.collect())], 0)
}

#[test]
fn an_automatic_threshold_is_shown_as_the_number_it_stood_for() {
    let rules = rule_set("  - {name: drift, model: fraud, when: {warn: psi > auto}}");
    // Chi-square with 9 degrees of freedom: 100 has p = 1.6e-17, of which two questions allow 0.01 / 2: 23.59.
    let told = run(&rules, &[tested_window(&[100.0, 15.0])]);
    let finding = &told[0].findings[0];
    assert_eq!(told[0].findings.len(), 1, "15 has p = 0.09");
    let threshold = finding.threshold.unwrap();
    assert!((threshold - 23.59 * 2e-5).abs() < 1e-7, "{threshold}");
    assert!(
        finding.reason.starts_with(
            "`f0`: PSI 0.002 against training, threshold 4.7e-4 at a false-alarm rate of 1% a window, 1 of 1 window"
        ),
        "{}",
        finding.reason
    );
    assert_eq!((finding.inflation, finding.n, finding.n_reference), (Some(1.5), 10_240, 100_000));
    let (raw, adjusted) = (finding.p_value.unwrap(), finding.p_adjusted.unwrap());
    assert!((adjusted / raw - 2.0).abs() < 1e-12, "{raw} adjusted for two questions is {adjusted}");
}

#[test]
fn size_beside_auto_is_no_second_test() {
    let of = |when: &str| {
        let rules = rule_set(&format!("  - {{name: drift, model: fraud, when: {{warn: {when}}}}}"));
        run(&rules, &[tested_window(&[30.0, 15.0])]).len()
    };
    assert_eq!(of("drift > auto"), 1);
    assert_eq!(of("drift > auto and psi > 0.0001"), 1);
    assert_eq!(of("drift > auto and psi > 0.01"), 0, "too small an effect");
    assert_eq!(of("not drift > auto and psi > 0.0002"), 0, "what is within chance is significant of nothing");
    assert_eq!(of("count(drift > auto) >= 1"), 1);
    assert_eq!(of("count(drift > auto) >= 2"), 0);
}

#[test]
fn a_budget_is_spent_evenly_on_the_windows_of_its_time() {
    let alarms = |false_alarms: f64| {
        let budget = format!("significance: {{budget: {{false_alarms: {false_alarms}, per: 30d}}}}");
        let rules = rule_set(&format!("  - {{name: drift, model: fraud, when: {{warn: psi > auto}}, {budget}}}"));
        // p = 7.0e-4 for each of 720 windows of an hour.
        run(&rules, &[tested_window(&[28.8])]).len()
    };
    assert_eq!((alarms(1.0), alarms(0.5), alarms(0.4)), (1, 0, 0), "1 of 720 is 1.4e-3, half of it 6.9e-4");
}
