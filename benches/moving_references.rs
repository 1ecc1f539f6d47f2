//! What moving references cost: four weeks of hourly panes of 25 features (20 numeric of about a thousand bins, 5 of
//! 50 categories), and the time to close a window that is compared with them.
//!
//! `cargo bench --bench moving_references`; `--events N` in an hour (10 000).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use datafusion::arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray};
use driftline::config::model::Model;
use driftline::config::{parse_model_str, parse_rules_str};
use driftline::ingest::partial::{FlushHeader, PartialRow, SourceProgress};
use driftline::reference::{Reference, Source};
use driftline::rules::RuleSet;
use driftline::stats::categorical_profile::CategoricalProfile;
use driftline::stats::layout::Layout;
use driftline::stats::numeric_profile::NumericProfile;
use driftline::stats::profile::Profile;
use driftline::windows::judge::NoJudge;
use driftline::windows::state::{Effect, PartitionState, References};

const HOUR_MS: i64 = 3_600_000;
const HOURS: i64 = 28 * 24;
const NUMERIC: usize = 20;
const CATEGORICAL: usize = 5;
const CATEGORIES: u64 = 50;

struct One(Arc<Reference>);

impl References for One {
    fn find(&self, _: &str, id: &str) -> Option<Arc<Reference>> {
        (self.0.id == id).then(|| self.0.clone())
    }
}

/// Uniform on [0, 1): splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Log-normal: amounts, ages, durations.
    fn amount(&mut self) -> f64 {
        let normal: f64 = (0..12).map(|_| self.next()).sum::<f64>() - 6.0;
        (normal * 0.8 + 3.0).exp()
    }

    fn category(&mut self) -> String {
        format!("c{}", (self.next() * self.next() * CATEGORIES as f64) as u64)
    }
}

fn model() -> Arc<Model> {
    let mut yaml = "version: 1\nmodel: m\ntopics: [t]\nfeatures:\n".to_string();
    (0..NUMERIC).for_each(|i| yaml.push_str(&format!("  n{i}: numeric\n")));
    (0..CATEGORICAL).for_each(|i| yaml.push_str(&format!("  c{i}: categorical\n")));
    yaml.push_str("windows: {size: 1h, watermark_delay: 0s, allowed_lateness: 1h, idle_after: 10d}\n");
    Arc::new(parse_model_str("model.yaml", &yaml).unwrap().value)
}

fn reference(model: &Model, random: &mut Random) -> Arc<Reference> {
    let rows = 50_000;
    let mut columns: Vec<(String, ArrayRef)> = Vec::new();
    for i in 0..NUMERIC {
        let values: Vec<f64> = (0..rows).map(|_| random.amount()).collect();
        columns.push((format!("n{i}"), Arc::new(Float64Array::from(values))));
    }
    for i in 0..CATEGORICAL {
        let values: Vec<String> = (0..rows).map(|_| random.category()).collect();
        columns.push((format!("c{i}"), Arc::new(StringArray::from(values))));
    }
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    Arc::new(Reference::build(model, "training", &[batch], &BTreeMap::new(), Source::default(), 0).unwrap())
}

fn pane(reference: &Reference, start_ms: i64, events: u64, random: &mut Random) -> Vec<PartialRow> {
    let rows = PartialRow {
        model: "m".into(),
        version: "1".into(),
        segment_column: String::new(),
        segment_value: String::new(),
        reference_id: reference.id.clone(),
        pane_start_ms: start_ms,
        pane_ms: HOUR_MS,
        feature: String::new(),
        rows: events,
        state: Vec::new(),
    };
    let mut all = vec![rows.clone()];
    for (name, feature) in &reference.features {
        let profile = match &feature.layout {
            Layout::Numeric(layout) => {
                let mut profile = NumericProfile::new(layout);
                (0..events).for_each(|_| profile.add(random.amount(), layout));
                Profile::Numeric(Box::new(profile))
            }
            Layout::Categorical(layout) => {
                let mut profile = CategoricalProfile::new(layout);
                (0..events).for_each(|_| profile.add(&random.category(), layout));
                Profile::Categorical(profile)
            }
            Layout::Vector(_) => panic!("the model has no vectors"),
        };
        all.push(PartialRow { feature: name.clone(), state: profile.encode(), ..rows.clone() });
    }
    all
}

fn state(model: &Arc<Model>, reference: &Arc<Reference>, choice: Option<&str>) -> PartitionState {
    let rule = choice.map_or(String::new(), |choice| {
        format!("  - {{name: r, model: m, reference: {choice}, when: {{warn: psi > 0.1}}}}\n")
    });
    let text = format!(
        "version: 1\nrules:\n  - {{name: a, model: m, when: {{warn: psi > 0.1}}}}\n{rule}routes: [{{match: {{}}, to: [h]}}]\n\
         receivers: {{h: {{webhook: {{url: 'https://h.example.com'}}}}}}\n"
    );
    let file = parse_rules_str("rules.yaml", &text).unwrap_or_else(|errors| panic!("{}", errors.text(false))).value;
    let rules = RuleSet::compile(&[("rules.yaml".into(), file)], std::slice::from_ref(model)).unwrap();
    let watched = Arc::new(vec![rules.watched(model)]);
    PartitionState::new(watched, Arc::new(One(reference.clone())), Box::new(NoJudge))
}

fn header(hour: i64) -> FlushHeader {
    FlushHeader {
        instance: "0".into(),
        at_ms: (hour + 1) * HOUR_MS,
        next_by_ms: (hour + 3) * HOUR_MS,
        sources: vec![SourceProgress {
            topic: "t".into(),
            partition: 0,
            from: hour,
            to: hour + 1,
            clock_ms: Some((hour + 1) * HOUR_MS),
            quiet_since_ms: None,
            joined_ms: BTreeMap::new(),
        }],
        topics: BTreeMap::from([("t".into(), 1)]),
        rows: BTreeMap::from([("m".into(), 1)]),
        part: 0,
        parts: 1,
    }
}

fn main() {
    let events = std::env::args().skip_while(|argument| argument != "--events").nth(1);
    let events: u64 = events.map_or(10_000, |text| text.parse().expect("--events takes a number"));
    let mut random = Random(7);
    let model = model();
    let reference = reference(&model, &mut random);
    // A day of different panes, which return: making them takes longer than what is measured.
    let panes: Vec<Vec<PartialRow>> = (0..24).map(|_| pane(&reference, 0, events, &mut random)).collect();
    println!("{HOURS} hourly panes, {events} events each, {NUMERIC} numeric and {CATEGORICAL} categorical features\n");
    println!("{:<44} {:>9} {:>12} {:>10} {:>14}", "reference", "panes", "MB", "kB a pane", "ms to close");
    for choice in [
        None,
        Some("previous"),
        Some("{trailing: 7d}"),
        Some("{trailing: 28d}"),
        Some("{trailing: 28d, same: hour_of_week}"),
    ] {
        let mut state = state(&model, &reference, choice);
        let (mut last, mut compared) = (Vec::new(), 0);
        for hour in 0..HOURS + 24 {
            let mut rows = panes[(hour % 24) as usize].clone();
            rows.iter_mut().for_each(|row| row.pane_start_ms = hour * HOUR_MS);
            let started = Instant::now();
            let effects = state.apply(&header(hour), rows);
            if hour >= HOURS {
                last.push(started.elapsed().as_secs_f64() * 1e3);
                compared += effects
                    .iter()
                    .filter(|effect| matches!(effect, Effect::Result(result) if result.baseline.is_some() && !result.is_wanting()))
                    .count();
            }
            state.take_pane_changes();
        }
        assert!(choice.is_none() || compared == 24, "{compared} of 24 windows were compared");
        last.sort_by(f64::total_cmp);
        let (count, bytes) = (state.history().len(), state.history().bytes());
        println!(
            "{:<44} {count:>9} {:>12.1} {:>10.1} {:>14.1}",
            choice.unwrap_or("training alone"),
            bytes as f64 / 1e6,
            bytes as f64 / 1e3 / count.max(1) as f64,
            last[last.len() / 2]
        );
    }
}
