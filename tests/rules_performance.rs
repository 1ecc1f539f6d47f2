//! Rules on performance: they wait for labels, not for ever, warn by estimates, and say what the labels made of these.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::Arc;

use driftline::config::model::Model;
use driftline::config::{parse_model_str, parse_rules_str};
use driftline::rules::episode::{EpisodeStatus, Notification};
use driftline::rules::{Effect, RuleSet, RuleState, RuleStates};
use driftline::stats::metric::{FeatureStats, MetricValue};
use driftline::windows::result::{
    Change, ClosedWindow, PERFORMANCE_FEATURE, Segment, Window, WindowPerformance, WindowResult,
};
use driftline::windows::state::WindowSpec;
use proptest::prelude::*;

const HOUR_MS: i64 = 3_600_000;

fn model() -> Arc<Model> {
    let text = "version: 1\nmodel: fraud\ntopics: [t]\nfields: {version: version, prediction_id: id}\n\
         features: {amount: numeric, country: categorical, device: categorical}\n\
         score: {path: score, type: numeric}\nsegments: [country, device]\nreferences: {training: {path: t.csv}}\n\
         windows: {size: 1h, allowed_lateness: 0s}\nchange_detectors: [{signal: performance.error, method: ddm}]\n\
         performance: {task: binary, labels: {topics: [labels], delay: 48h}}\n";
    Arc::new(parse_model_str("fraud.yaml", text).unwrap().value)
}

fn rule_set(rules: &str) -> RuleSet {
    let text = format!(
        "version: 1\nrules:\n{rules}\nroutes:\n  - {{match: {{severity: critical}}, to: [pager]}}\n  - {{to: [chat]}}\n\
         receivers:\n  pager: {{webhook: {{url: 'https://pager.example.com'}}}}\n  chat: {{webhook: {{url: 'https://chat.example.com'}}}}\n"
    );
    let file = parse_rules_str("rules.yaml", &text).unwrap().value;
    RuleSet::compile(&[("rules.yaml".into(), file)], &[model()]).unwrap()
}

/// What is known of 4 812 predictions once `labelled` of them have a label.
#[derive(Debug, Clone, Copy)]
struct Known {
    labelled: u64,
    /// Realised and estimated ROC AUC; recall is 0.1 less.
    realised: f64,
    estimated: f64,
}

/// Nothing out of the ordinary, and nothing labelled yet.
const UNLABELLED: Known = Known { labelled: 0, realised: f64::NAN, estimated: 0.925 };
const PREDICTIONS: u64 = 4_812;

fn within(value: f64, reach: f64) -> MetricValue {
    MetricValue::exact(value).with_interval([value - reach, value + reach])
}

fn result(index: i64, revision: u32, segment: Segment, known: Known) -> WindowResult {
    let mut metrics = BTreeMap::from([("est_roc_auc".to_string(), within(known.estimated, 0.011))]);
    if known.labelled > 0 {
        metrics.insert("roc_auc".into(), within(known.realised, 0.013));
        metrics.insert("recall".into(), within(known.realised - 0.1, 0.02));
        metrics.insert("recall@0.7".into(), within(known.realised - 0.3, 0.02));
        let shift = MetricValue::exact(0.03).with_p(if known.realised < 0.9 { 1e-9 } else { 0.4 });
        metrics.insert("calibration_shift".into(), shift);
    }
    let baseline = BTreeMap::from([
        ("roc_auc".to_string(), within(0.926, 0.004)),
        ("recall".to_string(), within(0.83, 0.006)),
        ("recall@0.7".to_string(), within(0.64, 0.006)),
    ]);
    let stats =
        FeatureStats { n: known.labelled, missing: PREDICTIONS - known.labelled, metrics, ..Default::default() };
    WindowResult {
        model: "fraud".into(),
        version: "3".into(),
        segment,
        window: Window { start_ms: index * HOUR_MS, end_ms: (index + 1) * HOUR_MS },
        revision,
        reference: "training".into(),
        reference_id: "ref1".into(),
        rows: PREDICTIONS,
        complete: true,
        baseline: None,
        quality: None,
        changes: Vec::new(),
        performance: Some(WindowPerformance {
            predictions: PREDICTIONS,
            labelled: known.labelled,
            label_coverage: known.labelled as f64 / PREDICTIONS as f64,
            baseline,
            ..WindowPerformance::default()
        }),
        features: BTreeMap::from([(PERFORMANCE_FEATURE.to_string(), stats)]),
    }
}

fn closed(results: Vec<WindowResult>) -> ClosedWindow {
    let WindowResult { model, version, window, revision, .. } = results[0].clone();
    ClosedWindow { model, version, window, revision, results, positions: Arc::default() }
}

fn window(index: i64, revision: u32, known: Known) -> ClosedWindow {
    closed(vec![result(index, revision, Segment::default(), known)])
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

fn outcomes(rules: &RuleSet, window: &ClosedWindow) -> Vec<String> {
    let effects = rules.on_window(&mut RuleStates::default(), window, 1);
    let outcome = effects.into_iter().filter_map(|effect| match effect {
        Effect::Evaluated { rule, outcome } => Some(format!("{rule} {outcome}")),
        _ => None,
    });
    outcome.collect()
}

fn reasons(told: &[Notification]) -> Vec<String> {
    let all = told.iter().flat_map(|one| &one.findings).map(|finding| finding.reason.replace('\u{202f}', " "));
    all.collect()
}

const ESTIMATE: &str =
    "  - {name: expected, model: fraud, signal: performance, when: {warn: est_roc_auc < baseline - 0.03}}";

#[test]
fn an_estimate_warns_the_labels_confirm_it_and_the_alert_tells_both() {
    let rules = rule_set(ESTIMATE);
    let told = run(
        &rules,
        &[
            window(0, 0, UNLABELLED),
            window(1, 0, Known { estimated: 0.881, ..UNLABELLED }),
            window(1, 1, Known { labelled: 1_000, realised: 0.87, estimated: 0.881 }),
            window(1, 2, Known { labelled: 3_994, realised: 0.874, estimated: 0.881 }),
            window(1, 3, Known { labelled: 4_812, realised: 0.873, estimated: 0.881 }),
        ],
    );
    assert_eq!(outline(&told), ["1 Firing Warn -> chat", "1 Firing Warn -> chat"]);
    assert_eq!(
        reasons(&told),
        [
            "all predictions: estimated ROC AUC 0.881 (95% 0.870 to 0.892), 0.045 below the baseline 0.926, labels for \
             0% of 4 812 predictions, 1 of 1 window; an estimate from the scores, until the labels are known",
            "all predictions: ROC AUC 0.874 (95% 0.861 to 0.887), 0.052 below the baseline 0.926, labels for 83% of \
             4 812 predictions, 1 of 1 window; estimated before labels: 0.881 (0.870 to 0.892): the labels confirm it",
        ]
    );
    assert_eq!(told[0].summary, "expected warn: fraud@3, estimated ROC AUC 0.881");
    assert_eq!(told[1].summary, "expected warn: fraud@3, ROC AUC 0.874");
    assert_eq!(told[1].id, format!("{}-1", told[0].episode_id));
    let performance = told[1].findings[0].performance.clone().unwrap();
    assert_eq!((performance.estimated, performance.confirmed, performance.labelled), (false, Some(true), 3_994));
    let difference = performance.difference.unwrap();
    let [low, high] = difference.interval.unwrap();
    assert!((difference.value.unwrap() + 0.052).abs() < 1e-12 && low < -0.065 && high > -0.039, "{difference:?}");
}

#[test]
fn an_estimate_that_the_labels_refute_ends_and_says_so() {
    let told = run(
        &rule_set(ESTIMATE),
        &[
            window(0, 0, Known { estimated: 0.881, ..UNLABELLED }),
            window(0, 1, Known { labelled: 4_000, realised: 0.92, estimated: 0.881 }),
        ],
    );
    assert_eq!(outline(&told), ["0 Firing Warn -> chat", "0 Resolved Warn -> chat"]);
    let end = &reasons(&told)[1];
    let expected = "all predictions: ROC AUC 0.920 (95% 0.907 to 0.933), 0.006 below the baseline 0.926, labels for 83.1% \
                    of 4 812 predictions; estimated before labels: 0.881 (0.870 to 0.892): the labels do not confirm it";
    assert_eq!(end, expected);
    assert_eq!(told[1].findings[0].performance.clone().unwrap().confirmed, Some(false));
}

/// In one rule: the estimate warns, and the realised figure makes it critical.
#[test]
fn the_realised_figure_takes_the_alert_of_the_estimate_further() {
    let rules = rule_set(
        "  - {name: quality, model: fraud, signal: performance, when: {warn: est_roc_auc < baseline - 0.03, critical: \
         roc_auc < baseline - 0.03 with 95% confidence}}",
    );
    let told = run(
        &rules,
        &[
            window(0, 0, Known { estimated: 0.881, ..UNLABELLED }),
            window(0, 1, Known { labelled: 4_000, realised: 0.874, estimated: 0.881 }),
            window(1, 0, UNLABELLED),
        ],
    );
    let expected = ["0 Firing Warn -> chat", "0 Firing Critical -> chat,pager", "1 Resolved Critical -> chat,pager"];
    assert_eq!(outline(&told), expected);
    assert!(reasons(&told)[1].ends_with("estimated before labels: 0.881 (0.870 to 0.892): the labels confirm it"));
}

const REALISED: &str = "  - {name: quality, model: fraud, signal: performance, labels: {min_coverage: 50%}, when: \
                        {critical: roc_auc < baseline - 0.03}, for: 2 windows}";

#[test]
fn a_window_without_its_labels_neither_advances_nor_resets() {
    let bad = |labelled| Known { labelled, realised: 0.85, estimated: 0.92 };
    let good = |labelled| Known { labelled, realised: 0.95, estimated: 0.92 };
    let rules = rule_set(REALISED);
    // The window between says that all is well by too few labels.
    let told = run(&rules, &[window(0, 0, bad(4_000)), window(1, 0, good(2_000)), window(2, 0, bad(4_000))]);
    assert_eq!(outline(&told), ["2 Firing Critical -> pager,chat"]);
    let told = run(&rules, &[window(0, 0, bad(4_000)), window(1, 0, good(2_500)), window(2, 0, bad(4_000))]);
    assert_eq!(outline(&told), Vec::<String>::new());
    assert_eq!(outcomes(&rules, &window(0, 0, bad(2_000))), ["quality insufficient_labels"]);
    assert_eq!(outcomes(&rules, &window(0, 0, bad(2_500))), ["quality breached"]);
    // Labels enough by their share, and too few to judge by.
    let many = rule_set(&REALISED.replace("50%}", "1%}, min_samples: 3000"));
    assert_eq!(outcomes(&many, &window(0, 0, bad(2_500))), ["quality insufficient_samples"]);
    let of_estimates = rule_set(&format!("{}, min_samples: 3000}}", ESTIMATE.trim_end_matches('}').to_string() + "}"));
    assert_eq!(outcomes(&of_estimates, &window(0, 0, UNLABELLED)), ["expected quiet"]);
}

#[test]
fn labels_revise_windows_until_their_delay_is_past_and_not_later() {
    let rules = rule_set(&REALISED.replace("2 windows", "1 window"));
    let bad = Known { labelled: 4_000, realised: 0.85, estimated: 0.92 };
    let mut states = RuleStates::default();
    for newest in [47, 48, 49] {
        states.by_key.clear();
        for index in 0..=newest {
            let known = if index == 0 { UNLABELLED } else { bad };
            rules.on_window(&mut states, &window(index, 0, known), 1);
        }
        let state = states.by_key.values().next().unwrap();
        let first = state.told.as_ref().unwrap().first.start_ms / HOUR_MS;
        assert_eq!(first, 1, "the first window that breaches");
        rules.on_window(&mut states, &window(0, 1, bad), 1);
        let standing =
            states.by_key.values().next().unwrap().standing(driftline::rules::state::Persistence { needed: 1, of: 1 });
        let (_, first) = standing.phase.episode().unwrap();
        let expected = if newest <= 48 { 0 } else { 1 };
        assert_eq!(first.start_ms / HOUR_MS, expected, "labels of window 0 when {newest} has closed");
    }
}

#[test]
fn a_shorter_delay_of_the_rule_settles_its_windows_earlier() {
    let rules = rule_set(
        &REALISED.replace("min_coverage: 50%", "min_coverage: 50%, delay: 6h").replace("2 windows", "1 window"),
    );
    let bad = Known { labelled: 4_000, realised: 0.85, estimated: 0.92 };
    for (newest, taken) in [(6, true), (7, false)] {
        let mut states = RuleStates::default();
        for index in 1..=newest {
            rules.on_window(&mut states, &window(index, 0, bad), 1);
        }
        let effects = rules.on_window(&mut states, &window(0, 1, bad), 1);
        let known = effects.contains(&Effect::Evaluated { rule: "quality".into(), outcome: "known" });
        assert_eq!(!known, taken, "labels of window 0 when {newest} has closed");
    }
}

#[test]
fn rules_on_performance_and_others_never_see_each_others_results() {
    let rules = rule_set(
        "  - {name: quality, model: fraud, signal: performance, when: {critical: roc_auc < 0.99}}\n  \
         - {name: nulls, model: fraud, when: {warn: null_rate >= 0}}\n  - {name: volume, model: fraud, when: {warn: row_count > 0}}",
    );
    let known = Known { labelled: 4_000, realised: 0.85, estimated: 0.92 };
    assert_eq!(outcomes(&rules, &window(0, 0, known)), ["quality breached"]);
    let stats = FeatureStats {
        n: 100,
        metrics: BTreeMap::from([("null_rate".to_string(), MetricValue::exact(0.1))]),
        ..FeatureStats::default()
    };
    let mut of_features = result(0, 0, Segment::default(), known);
    of_features.performance = None;
    of_features.features = BTreeMap::from([("amount".to_string(), stats)]);
    assert_eq!(outcomes(&rules, &closed(vec![of_features])), ["nulls breached", "volume breached"]);
}

#[test]
fn confidence_needs_the_whole_interval_beyond_the_threshold() {
    let fires = |condition: &str, realised: f64| {
        let rules =
            rule_set(&format!("  - {{name: q, model: fraud, signal: performance, when: {{warn: {condition}}}}}"));
        !run(&rules, &[window(0, 0, Known { labelled: 4_000, realised, estimated: 0.92 })]).is_empty()
    };
    for (condition, realised, expected) in [
        // The interval is 0.013 to each side.
        ("roc_auc < 0.9", 0.899, true),
        ("roc_auc < 0.9 with 95% confidence", 0.899, false),
        ("roc_auc < 0.9 with 95% confidence", 0.886, true),
        ("roc_auc > 0.9 with 95% confidence", 0.912, false),
        ("roc_auc > 0.9 with 95% confidence", 0.914, true),
        ("roc_auc between 0.88 and 0.92 with 95% confidence", 0.9, true),
        ("roc_auc between 0.88 and 0.92 with 95% confidence", 0.89, false),
        ("roc_auc not between 0.88 and 0.92 with 95% confidence", 0.87, false),
        ("roc_auc not between 0.88 and 0.92 with 95% confidence", 0.866, true),
        // That of the difference from the baseline, whose own interval is 0.004: 0.0136 together.
        ("roc_auc < baseline - 0.03 with 95% confidence", 0.883, false),
        ("roc_auc < baseline - 0.03 with 95% confidence", 0.882, true),
        ("roc_auc < 95% of baseline with 95% confidence", 0.867, false),
        ("roc_auc < 95% of baseline with 95% confidence", 0.866, true),
        // An estimate that labels have replaced.
        ("est_roc_auc < baseline - 0.03 with 95% confidence", 0.882, true),
        ("recall@0.7 < baseline - 0.02 with 95% confidence", 0.92, false),
        ("recall@0.7 < baseline - 0.02 with 95% confidence", 0.89, true),
        ("calibration_shift > auto", 0.95, false),
        ("calibration_shift > auto", 0.88, true),
        ("calibration_shift > 0.02", 0.95, false),
    ] {
        assert_eq!(fires(condition, realised), expected, "{condition} at {realised}");
    }
}

#[test]
fn another_version_in_the_same_window_is_the_baseline_where_asked() {
    let rules = rule_set(
        "  - {name: canary, model: fraud, signal: performance, reference: {version: '2'}, when: {critical: roc_auc < baseline with 95% confidence}}",
    );
    let known = Known { labelled: 4_000, realised: 0.9, estimated: 0.92 };
    let mut against_two = result(0, 0, Segment::default(), known);
    against_two.reference = "version 2".into();
    against_two.performance.as_mut().unwrap().baseline = BTreeMap::from([("roc_auc".to_string(), within(0.93, 0.013))]);
    let told = run(&rules, &[closed(vec![result(0, 0, Segment::default(), known), against_two])]);
    let expected = "all predictions: ROC AUC 0.900 (95% 0.887 to 0.913), 0.030 below the baseline 0.930 of version 2, labels \
                    for 83.1% of 4 812 predictions, 1 of 1 window; estimated before labels: 0.920 (0.909 to 0.931)";
    assert_eq!(reasons(&told), [expected]);
    let watched = rules.watched(&model());
    assert_eq!(watched.comparisons.len(), 0, "features are not compared for it");
    let [comparison] = watched.performance.comparisons.as_slice() else { panic!("{:?}", watched.performance) };
    assert_eq!(comparison.reference.to_string(), "version 2");
    // The reference says nothing of the metric: no reference, no verdict.
    let mut without = result(0, 0, Segment::default(), known);
    without.reference = "version 2".into();
    without.performance.as_mut().unwrap().baseline.clear();
    assert_eq!(outcomes(&rules, &closed(vec![without])), ["canary no_reference"]);
}

fn groups(recalls: &[(&str, &str, f64, u64)]) -> ClosedWindow {
    let mut results = vec![result(0, 0, Segment::default(), Known { labelled: 4_000, realised: 0.9, estimated: 0.9 })];
    for (column, value, recall, labelled) in recalls {
        let segment = Segment { column: column.to_string(), value: value.to_string() };
        let known = Known { labelled: *labelled, realised: recall + 0.1, estimated: 0.9 };
        results.push(result(0, 0, segment, known));
    }
    closed(results)
}

#[test]
fn a_gap_between_groups_is_told_with_both_of_them() {
    let rule = |condition: &str, segments: &str| {
        rule_set(&format!(
            "  - {{name: fair, model: fraud, signal: performance, segments: {segments}, when: {{warn: {condition}}}}}"
        ))
    };
    let window = groups(&[
        ("country", "DE", 0.81, 4_000),
        ("country", "IT", 0.69, 4_000),
        ("country", "FR", 0.8, 4_000),
        // Too few labels to be judged: has no part in it.
        ("country", "AT", 0.2, 300),
        ("device", "phone", 0.9, 4_000),
        ("device", "tablet", 0.5, 4_000),
    ]);
    let told = run(&rule("gap(recall) > 10%", "[country]"), std::slice::from_ref(&window));
    // Three pairs: 2.39 standard errors instead of 1.96 on each side.
    let expected = "all predictions: recall differs by 0.120 (95% 0.085 to 0.155) between country=DE (0.810) and country=IT \
                    (0.690), labels for 83.1% of 4 812 predictions, 1 of 1 window";
    assert_eq!(reasons(&told), [expected]);
    assert_eq!(told[0].findings[0].metric, "gap(recall)");
    let of_both = run(&rule("gap(recall) > 10%", "[country, device]"), std::slice::from_ref(&window));
    assert!(reasons(&of_both)[0].contains("between device=phone (0.900) and device=tablet (0.500)"), "{of_both:?}");
    for (condition, fires) in [
        ("gap(recall) > 10% with 95% confidence", false),
        ("gap(recall) > 8% with 95% confidence", true),
        ("gap(recall) > 15%", false),
        ("gap(recall@0.7) > 10%", true),
    ] {
        let told = run(&rule(condition, "[country]"), std::slice::from_ref(&window));
        assert_eq!(!told.is_empty(), fires, "{condition}");
    }
}

#[test]
fn windows_are_told_what_rules_on_performance_want() {
    let rules = rule_set(
        "  - {name: a, model: fraud, signal: performance, window: 1d, when: {critical: recall@0.7 < 0.5, warn: recall@0.7 < 0.6}}\n  \
         - {name: b, model: fraud, signal: performance, when: {critical: precision@0.25 < 0.5}}\n  \
         - {name: c, model: fraud, window: 6h, when: {critical: psi > 0.5}}",
    );
    let watched = rules.watched(&model());
    let hours = |specs: &[WindowSpec]| specs.iter().map(|spec| spec.size_ms / HOUR_MS).collect::<Vec<_>>();
    assert_eq!((hours(&watched.specs), hours(&watched.performance.specs)), (vec![1, 6], vec![1, 24]));
    assert_eq!(hours(&rules.window_specs(&model())), [1, 24, 6]);
    assert_eq!(watched.performance.thresholds, [0.25, 0.7]);
    assert_eq!(watched.pane_ms(), HOUR_MS);
}

#[test]
fn how_many_labels_came_is_judged_once_no_more_can_come() {
    let rules = rule_set("  - {name: labels, model: fraud, signal: performance, when: {warn: label_coverage < 50%}}");
    let mut window = window(0, 0, Known { labelled: 1_000, realised: 0.9, estimated: 0.9 });
    assert_eq!(outcomes(&rules, &window), ["labels insufficient_labels"]);
    window.results[0].performance.as_mut().unwrap().is_final = true;
    let told = run(&rules, &[window]);
    assert_eq!(reasons(&told), ["all predictions: label coverage 20.8%, 1 of 1 window"]);
}

#[test]
fn changes_of_the_error_are_judged_however_few_labels_there_are() {
    let rules = rule_set("  - {name: concept, model: fraud, signal: performance, when: {critical: change_points > 0}}");
    let mut window = window(0, 0, Known { labelled: 10, realised: 0.9, estimated: 0.9 });
    let stats = window.results[0].features.get_mut(PERFORMANCE_FEATURE).unwrap();
    stats.metrics.insert("change_points".into(), MetricValue::exact(1.0));
    assert_eq!(outcomes(&rules, &window), ["concept breached"]);
    window.results[0].changes.push(Change {
        event_time_ms: HOUR_MS / 2,
        signal: "performance.error".into(),
        detector: "ddm".into(),
        topic: "driftline.joins".into(),
        partition: 2,
        offset: 4_711,
    });
    let told = run(&rules, &[window]);
    let expected = "all predictions: change points 1, 1 of 1 window, the first seen by ddm at 1970-01-01T00:30:00Z \
                    (driftline.joins[2] offset 4711), 4 812 events";
    assert_eq!(reasons(&told), [expected]);
}

#[test]
fn a_revision_that_says_the_same_is_not_written_again() {
    let rules = rule_set(REALISED);
    let mut states = RuleStates::default();
    let written =
        |effects: Vec<Effect>| effects.iter().filter(|effect| matches!(effect, Effect::StateChanged { .. })).count();
    let labelled = |labelled| Known { labelled, realised: 0.93, estimated: 0.92 };
    assert_eq!(written(rules.on_window(&mut states, &window(0, 0, labelled(3_000)), 1)), 1);
    assert_eq!(written(rules.on_window(&mut states, &window(0, 1, labelled(3_500)), 1)), 0);
    let worse = Known { labelled: 4_000, realised: 0.8, estimated: 0.92 };
    assert_eq!(written(rules.on_window(&mut states, &window(0, 2, worse), 1)), 1);
    assert_eq!(written(rules.on_window(&mut states, &window(0, 2, worse), 1)), 0, "known");
}

/// All states as they are read back after a restart.
fn restarted(states: &RuleStates) -> RuleStates {
    let mut read = RuleStates::default();
    for (key, state) in &states.by_key {
        let stored = serde_json::to_vec(state).unwrap();
        read.restore(key.clone(), Some(serde_json::from_slice::<RuleState>(&stored).unwrap()));
    }
    read
}

/// States as the `episodes` topic holds them: what was not written is what was written before.
#[derive(Default)]
struct Stored(BTreeMap<String, Vec<u8>>);

impl Stored {
    fn write(&mut self, effects: &[Effect]) {
        for effect in effects {
            if let Effect::StateChanged { key, state: Some(state) } = effect {
                self.0.insert(key.clone(), serde_json::to_vec(state).unwrap());
            }
        }
    }

    fn read(&self) -> RuleStates {
        let mut states = RuleStates::default();
        for (key, stored) in &self.0 {
            states.restore(key.clone(), Some(serde_json::from_slice(stored).unwrap()));
        }
        states
    }
}

fn arbitrary_windows() -> impl Strategy<Value = Vec<(i64, Known)>> {
    let known = (0_u64..=PREDICTIONS, 0.85_f64..0.95, 0.87_f64..0.94);
    let known = known.prop_map(|(labelled, realised, estimated)| Known { labelled, realised, estimated });
    proptest::collection::vec((0_i64..8, known), 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// However windows are revised and wherever a process dies, people hear the same.
    #[test]
    fn restarts_between_revisions_change_nothing(updates in arbitrary_windows(), deaths in proptest::collection::vec(any::<bool>(), 40)) {
        let rules = rule_set(&format!("{REALISED}\n{ESTIMATE}"));
        let mut revisions: BTreeMap<i64, u32> = BTreeMap::new();
        let windows: Vec<ClosedWindow> = updates.iter().map(|(index, known)| {
            let revision = revisions.entry(*index).and_modify(|revision| *revision += 1).or_insert(0);
            window(*index, *revision, *known)
        }).collect();
        let expected = run(&rules, &windows);
        let (mut states, mut stored, mut told) = (RuleStates::default(), Stored::default(), Vec::new());
        for (window, dies) in windows.iter().zip(deaths) {
            if dies {
                states = stored.read();
                prop_assert_eq!(&restarted(&states), &states);
            }
            let effects = rules.on_window(&mut states, window, 1);
            stored.write(&effects);
            told.extend(notifications(effects));
        }
        prop_assert_eq!(told, expected);
        // The end of an episode is told after its beginning, and each once.
        let mut open: BTreeMap<String, bool> = BTreeMap::new();
        for one in run(&rules, &windows) {
            let was_open = open.insert(one.rule.clone(), one.status == EpisodeStatus::Firing);
            prop_assert!(one.status == EpisodeStatus::Firing || was_open == Some(true), "{:?}", one);
        }
    }
}
