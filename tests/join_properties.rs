//! The join as a pure machine: a restart at any record changes nothing, the order of labels changes nothing, and what is
//! held stays within the budget whatever comes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::Arc;

use driftline::config::parse_model_str;
use driftline::event::Reason;
use driftline::ingest::joins::{JoinLabel, JoinPart, JoinPrediction, join_id};
use driftline::ingest::partial::{FlushHeader, PartialRow, SourceProgress};
use driftline::join::checkpoint::Checkpoint;
use driftline::join::model::JoinModel;
use driftline::join::outcome::{LabelOutcome, Outcome, PredictionOutcome};
use driftline::join::state::JoinState;
use driftline::stats::metric::MetricValue;
use driftline::stats::performance::profile::{Label, PerformanceLayout, PerformanceProfile, Prediction};
use proptest::prelude::*;

const DELAY_MS: i64 = 60_000;
const PANE_MS: i64 = 10_000;

struct Random(u64);

impl Random {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }

    fn ms(&mut self, below: i64) -> i64 {
        self.next(below as u64) as i64
    }
}

fn joined(max_pending: u64, timestamps: bool) -> Vec<JoinModel> {
    let timestamp = if timestamps { ", timestamp: at" } else { "" };
    let yaml = format!(
        "version: 1\nmodel: m\ntopics: [predictions]\nfields: {{prediction_id: id}}\nfeatures: {{x: numeric}}\n\
         score: {{path: score, type: numeric}}\n\
         performance:\n  task: binary\n  labels: {{topics: [labels], delay: 60s, max_pending: {max_pending}, \
         fields: {{prediction_id: id{timestamp}}}}}\n\
         references: {{training: {{path: t.csv}}}}\nwindows: {{idle_after: 2s, watermark_delay: 0s}}\n"
    );
    let model = Arc::new(parse_model_str("model.yaml", &yaml).unwrap().value);
    let layout = PerformanceLayout::of(&model, &[]).unwrap();
    vec![JoinModel { model, layout }]
}

fn prediction(id: &str, event_time_ms: i64, random: &mut Random) -> JoinPrediction {
    JoinPrediction {
        model: "m".into(),
        version: ["1", "2"][random.next(2) as usize].into(),
        reference_id: "r".into(),
        id: join_id("m", id),
        event_time_ms,
        pane_start_ms: event_time_ms.div_euclid(PANE_MS) * PANE_MS,
        pane_ms: PANE_MS,
        segments: vec![("country".into(), ["DE", "FR", "PL"][random.next(3) as usize].into())],
        prediction: Prediction { score: random.next(100) as f64 / 100.0, ..Prediction::default() },
    }
}

fn label(id: &str, given_ms: Option<i64>, class: u32, offset: i64, random: &mut Random) -> JoinLabel {
    JoinLabel {
        model: "m".into(),
        id: join_id("m", id),
        prediction_id: id.into(),
        label: Label::Class(class),
        given_ms,
        topic: "labels".into(),
        partition: random.next(2) as i32,
        offset,
        timestamp_ms: 0,
        key: None,
        raw: vec![b'x'; random.next(400) as usize],
    }
}

/// What one partition of `joins` holds: few ids, so that everything that can happen to one does. Time goes on by about
/// ten delays; sources fall silent and come back.
fn stream(seed: u64, records: i64, timestamps: bool) -> Vec<JoinPart> {
    let mut random = Random(seed);
    let (mut now_ms, mut wall_ms) = (1_000_000, 5_000_000);
    let mut offsets = BTreeMap::<(&str, i32), i64>::new();
    let mut parts = Vec::new();
    let mut label_offset = 0;
    let mut silent_until = 0;
    for record in 0..records {
        now_ms += random.ms(2 * 10 * DELAY_MS / records);
        wall_ms += random.ms(3_000);
        if random.next(40) == 0 {
            silent_until = record + 10;
        }
        let silent = record < silent_until;
        let ids = 60 + record as u64 / 4;
        let mut id = || format!("{}", random.next(ids));
        let ids: Vec<String> = (0..8).map(|_| id()).collect();
        let mut predictions = Vec::new();
        let mut labels = Vec::new();
        for id in ids {
            match random.next(3) {
                0 if !silent => {
                    let age_ms = if random.next(20) == 0 { 2 * DELAY_MS } else { DELAY_MS / 4 };
                    predictions.push(prediction(&id, now_ms - random.ms(age_ms), &mut random));
                }
                0 => {}
                _ => {
                    let given_ms = timestamps.then(|| now_ms - random.ms(DELAY_MS));
                    label_offset += 1;
                    let class = random.next(2) as u32;
                    labels.push(label(&id, given_ms, class, label_offset, &mut random));
                }
            }
        }
        let mut source = |topic: &'static str, partition: i32, clock_ms: Option<i64>, quiet: bool| {
            let from = *offsets.entry((topic, partition)).or_default();
            let to = from + if quiet { 0 } else { 10 };
            offsets.insert((topic, partition), to);
            SourceProgress {
                topic: topic.into(),
                partition,
                from,
                to,
                clock_ms: clock_ms.filter(|_| !quiet),
                quiet_since_ms: quiet.then_some(wall_ms - 3_000),
                ..SourceProgress::default()
            }
        };
        let mut sources = vec![
            source("predictions", 0, Some(now_ms), silent),
            source("predictions", 1, Some(now_ms - DELAY_MS / 10), silent),
            source("labels", 0, Some(now_ms - DELAY_MS / 5), record % 7 == 0),
        ];
        // One partition of the labels is not heard of at first: until then the time is unknown.
        if record >= 15 {
            sources.push(source("labels", 1, Some(now_ms), record % 5 == 0));
        }
        parts.push(JoinPart {
            header: FlushHeader {
                instance: "0".into(),
                at_ms: wall_ms,
                next_by_ms: wall_ms + 10_000,
                sources,
                topics: BTreeMap::from([("predictions".to_string(), 2), ("labels".to_string(), 2)]),
                rows: BTreeMap::new(),
                part: 0,
                parts: 1,
            },
            predictions,
            labels,
        });
    }
    parts
}

/// What a flush after one record would tell.
fn take(state: &mut JoinState) -> (Vec<PartialRow>, Outcome) {
    let (_, join) = state.models_mut().next().unwrap();
    let mut outcome = join.take_outcome();
    outcome.lost.sort_by_key(|lost| lost.label.offset);
    (join.take_rows(), outcome)
}

fn level_changed(state: &mut JoinState) -> bool {
    state.models_mut().next().unwrap().1.take_sampling_changed()
}

/// Kills the process after some of its flushes and starts it again from the last stored checkpoint.
fn restarts_change_nothing(seed: u64, max_pending: u64, timestamps: bool) -> BTreeMap<LabelOutcome, u64> {
    let parts = stream(seed, 250, timestamps);
    let joined = joined(max_pending, timestamps);
    let mut random = Random(seed ^ 0x5eed);
    let mut steady = JoinState::new(&joined, 1, 0);
    let mut killed = JoinState::new(&joined, 1, 0);
    let mut stored: Option<Vec<u8>> = None;
    let mut totals = BTreeMap::new();
    for (offset, part) in parts.iter().enumerate() {
        steady.apply(offset as i64, part.clone());
        killed.apply(offset as i64, part.clone());
        let (expected, found) = (take(&mut steady), take(&mut killed));
        assert_eq!(found.1, expected.1, "outcome of record {offset}, seed {seed}");
        assert!(found.0 == expected.0, "aggregates of record {offset}, seed {seed}");
        for (outcome, count) in expected.1.labels {
            *totals.entry(outcome).or_default() += count;
        }
        level_changed(&mut steady);
        if level_changed(&mut killed) || random.next(6) == 0 {
            stored = Some(killed.checkpoint().encode().unwrap());
        }
        if random.next(9) == 0 {
            let checkpoint = stored.as_ref().map(|bytes| Checkpoint::decode(bytes).unwrap());
            killed = match checkpoint {
                Some(checkpoint) => JoinState::restored(&joined, 1, checkpoint),
                None => JoinState::replayed(&joined, 1, 0),
            };
            for again in killed.next_offset()..=offset as i64 {
                killed.apply(again, parts[again as usize].clone());
            }
            assert_eq!(take(&mut killed), (Vec::new(), Outcome::default()), "a restart tells nothing again");
            killed.go_live();
        }
    }
    totals
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn a_restart_after_any_flush_changes_nothing(seed in any::<u64>(), timestamps in any::<bool>()) {
        restarts_change_nothing(seed, 1_000_000, timestamps);
    }

    #[test]
    fn a_restart_changes_nothing_where_the_budget_is_full(seed in any::<u64>(), budget in 10_u64..80) {
        restarts_change_nothing(seed, budget, true);
    }

    #[test]
    fn what_is_held_stays_within_the_budget(seed in any::<u64>(), budget in 1_u64..200) {
        let joined = joined(budget, true);
        let mut state = JoinState::new(&joined, 1, 0);
        for (offset, part) in stream(seed, 200, true).into_iter().enumerate() {
            state.apply(offset as i64, part);
            let held = state.models().next().unwrap().1.len() as u64;
            prop_assert!(held <= budget, "{held} entries, budget {budget}");
        }
    }
}

#[test]
fn the_streams_of_these_tests_hold_every_outcome() {
    let mut totals = BTreeMap::new();
    for seed in 0..4 {
        for (outcome, count) in restarts_change_nothing(seed, if seed % 2 == 0 { 1_000 } else { 40 }, true) {
            *totals.entry(outcome).or_insert(0) += count;
        }
    }
    for outcome in LabelOutcome::ALL {
        assert!(totals.get(&outcome).is_some_and(|count| *count > 10), "{outcome:?} of {totals:?}");
    }
}

/// Header of a flush in which all sources have reached `clock_ms`.
fn at(clock_ms: i64, flush: i64) -> FlushHeader {
    let source = |topic: &str| SourceProgress {
        topic: topic.into(),
        partition: 0,
        from: flush * 10,
        to: flush * 10 + 10,
        clock_ms: Some(clock_ms),
        ..SourceProgress::default()
    };
    FlushHeader {
        instance: "0".into(),
        at_ms: clock_ms,
        next_by_ms: clock_ms + 5_000,
        sources: vec![source("predictions"), source("labels")],
        topics: BTreeMap::from([("predictions".to_string(), 1), ("labels".to_string(), 1)]),
        rows: BTreeMap::new(),
        part: 0,
        parts: 1,
    }
}

/// The aggregates of the whole, put together.
fn whole(rows: &[PartialRow], layout: &PerformanceLayout) -> BTreeMap<(String, i64), PerformanceProfile> {
    let mut whole: BTreeMap<(String, i64), PerformanceProfile> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.segment_column.is_empty()) {
        let profile = PerformanceProfile::decode(&row.state, layout).unwrap();
        let into = whole.entry((row.version.clone(), row.pane_start_ms));
        into.or_insert_with(|| PerformanceProfile::new(layout)).merge(&profile);
    }
    whole
}

/// Counts and metrics of a profile.
type Figures = (u64, u64, BTreeMap<String, MetricValue>);

/// A profile that was corrected keeps what it took back; what it says must be the same.
fn figures(
    profiles: &BTreeMap<(String, i64), PerformanceProfile>,
    layout: &PerformanceLayout,
) -> BTreeMap<(String, i64), Figures> {
    let figures = |profile: &PerformanceProfile| (profile.sampled(), profile.labelled(), profile.metrics(layout));
    profiles.iter().map(|(place, profile)| (place.clone(), figures(profile))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Predictions and labels, some twice, some corrected, some for nothing, shuffled whole: labels come before and after
    /// their predictions. What is counted is the first prediction of each id with its last label.
    #[test]
    fn any_order_within_the_delay_gives_the_batch(seed in any::<u64>()) {
        let joined = joined(1_000_000, true);
        let layout = joined[0].layout.clone();
        let mut random = Random(seed);
        let mut expected: BTreeMap<(String, i64), PerformanceProfile> = BTreeMap::new();
        let mut predictions = Vec::new();
        let mut labels = Vec::new();
        for index in 0..300 {
            let id = format!("p{index}");
            let made = prediction(&id, 1_000_000 + random.ms(DELAY_MS / 2), &mut random);
            let profile = expected.entry((made.version.clone(), made.pane_start_ms));
            let profile = profile.or_insert_with(|| PerformanceProfile::new(&layout));
            profile.sample_prediction();
            let mut last = None;
            for version in 0..random.next(4) {
                let class = random.next(2) as u32;
                let given_ms = 1_100_000 + version as i64;
                labels.push(label(&id, Some(given_ms), class, 0, &mut random));
                if random.next(3) == 0 {
                    labels.push(label(&id, Some(given_ms), class, 0, &mut random));
                }
                last = Some(Label::Class(class));
            }
            if let Some(last) = last {
                profile.add_labelled(&layout, &made.prediction, &last);
            }
            if random.next(5) == 0 {
                predictions.push(made.clone());
            }
            predictions.push(made);
            labels.push(label(&format!("unknown {index}"), Some(1_100_000), 1, index, &mut random));
        }
        for index in (1..labels.len()).rev() {
            labels.swap(index, random.next(index as u64 + 1) as usize);
        }
        for index in (1..predictions.len()).rev() {
            predictions.swap(index, random.next(index as u64 + 1) as usize);
        }
        let mut state = JoinState::new(&joined, 1, 0);
        let (mut rows, mut lost, mut offset) = (Vec::new(), Vec::new(), 0);
        let (mut predictions, mut labels) = (predictions.into_iter(), labels.into_iter());
        while predictions.len() + labels.len() > 0 {
            let part = JoinPart {
                header: at(1_000_000 + offset, offset),
                predictions: predictions.by_ref().take(random.next(20) as usize).collect(),
                labels: labels.by_ref().take(random.next(40) as usize).collect(),
            };
            state.apply(offset, part);
            let (more, outcome) = take(&mut state);
            rows.extend(more);
            lost.extend(outcome.lost);
            offset += 1;
        }
        prop_assert_eq!(lost.len(), 0, "nothing is given up before the delay");
        for clock_ms in [1_000_000 + 2 * DELAY_MS, 1_000_000 + 4 * DELAY_MS] {
            state.apply(offset, JoinPart { header: at(clock_ms, offset), predictions: vec![], labels: vec![] });
            let (more, outcome) = take(&mut state);
            rows.extend(more);
            lost.extend(outcome.lost);
            offset += 1;
        }
        prop_assert_eq!(figures(&whole(&rows, &layout), &layout), figures(&expected, &layout));
        let mut unknown: Vec<String> = lost.iter().map(|lost| lost.label.prediction_id.clone()).collect();
        unknown.sort();
        let mut all: Vec<String> = (0..300).map(|index| format!("unknown {index}")).collect();
        all.sort();
        prop_assert_eq!(unknown, all, "each label without prediction is given up once");
        prop_assert!(lost.iter().all(|lost| lost.reason == Reason::LabelWithoutPrediction));
        prop_assert_eq!(state.models().next().unwrap().1.len(), 0, "and nothing is held any more");
    }
}

#[test]
fn over_budget_a_fair_sample_is_left_and_nothing_else_counts() {
    let joined = joined(2_000, true);
    let layout = joined[0].layout.clone();
    let mut state = JoinState::new(&joined, 1, 0);
    let mut random = Random(3);
    let mut rows = Vec::new();
    let mut counts: BTreeMap<PredictionOutcome, u64> = BTreeMap::new();
    let mut given_up = 0;
    // Twenty times the budget; a third gets its label at once, the others never.
    for offset in 0..400_i64 {
        let ids: Vec<String> = (0..100).map(|index| format!("{offset}-{index}")).collect();
        let predictions = ids.iter().map(|id| prediction(id, 1_000_000 + offset, &mut random)).collect();
        let labelled = ids.iter().step_by(3).collect::<Vec<_>>();
        let labels = labelled.into_iter().map(|id| label(id, Some(1_000_000), 1, 0, &mut random)).collect();
        state.apply(offset, JoinPart { header: at(1_000_000 + offset, offset), predictions, labels });
        let (more, outcome) = take(&mut state);
        rows.extend(more);
        given_up += outcome.lost.len();
        for (outcome, count) in outcome.predictions {
            *counts.entry(outcome).or_default() += count;
        }
    }
    let join = state.models().next().unwrap().1;
    let kept = counts[&PredictionOutcome::Kept] - counts[&PredictionOutcome::Evicted];
    assert_eq!(join.len() as u64, kept, "what is kept is what is held: {counts:?}");
    assert!((1_000..=2_000).contains(&kept), "{kept} of a budget of 2000");
    assert_eq!(join.sampling().ratio(), 1.0 / 32.0, "40000 predictions, a budget of 2000");
    let profiles = whole(&rows, &layout);
    let sampled: u64 = profiles.values().map(PerformanceProfile::sampled).sum();
    let labelled: u64 = profiles.values().map(PerformanceProfile::labelled).sum();
    assert_eq!(sampled, kept, "the denominator of coverage is what is still joined");
    let coverage = labelled as f64 / sampled as f64;
    // Five standard errors of a third; without taking back labelled ones that were evicted it would be near one.
    assert!((coverage - 0.34).abs() < 5.0 * (0.34 * 0.66 / sampled as f64).sqrt(), "coverage {coverage}");
    assert_eq!(given_up, 0, "a label whose prediction is left out is no dead letter");
    // Once time has passed, everything takes part again.
    for (step, clock_ms) in (0..80).map(|step| (step, 1_000_400 + 2 * DELAY_MS + step)) {
        state.apply(400 + step, JoinPart { header: at(clock_ms, 400 + step), predictions: vec![], labels: vec![] });
        given_up += take(&mut state).1.lost.len();
    }
    let join = state.models().next().unwrap().1;
    assert_eq!((join.len(), join.sampling().ratio(), given_up), (0, 1.0, 0));
}
