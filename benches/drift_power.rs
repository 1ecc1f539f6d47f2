//! How many windows a drift takes to be found, every rule at the same rate of false alarms.
//!
//! `cargo bench --bench drift_power`, or quickly `CARGO_PROFILE_DEV_OPT_LEVEL=3 cargo bench --profile dev --bench
//! drift_power`. 25 features without drift give each rule the threshold at which it alarms in 1% of windows; then one
//! feature drifts from some window on. Windows are independent, so the delay is geometric: its mean is one over the
//! chance to find the drift in one window. Prints Markdown; seeds are fixed. It fails where a rule of another tool is
//! faster by more than chance explains.

mod drift;

use drift::peers::{Peers, Scores};
use drift::{AnyError, Change, Kind, Random, STRICT, Stream, World, interval};
use driftline::stats::metric::FeatureStats;

const FEATURES: usize = 25;
/// Chance of an alarm in a window of all features.
const RATE: f64 = 0.01;
const REFERENCE: usize = 50_000;
const WORLDS: u64 = 4;
/// Numeric, without missing values; categorical; numeric, one in 128 missing.
const NUMBER: usize = 1;
const CATEGORY: usize = 4;
const WITH_MISSING: usize = 5;
/// Segments of the last scenario, of one size.
const SEGMENTS: usize = 20;

/// The larger, the more alarming.
#[derive(Debug, Clone, Copy)]
struct Marks {
    /// Ours: `drift`, and the same of missing values.
    drift: f64,
    missing: f64,
    psi: f64,
    scouter: f64,
    evidently: f64,
    nannyml: f64,
    /// NannyML's: distance of the missing rate from that of the reference.
    missing_rate: f64,
}

fn marks(stats: &FeatureStats, scores: &Scores) -> Marks {
    let metric = |name: &str| stats.metrics.get(name);
    let p = |name: &str| metric(name).and_then(|metric| metric.p_value).unwrap_or(1.0);
    Marks {
        drift: -p("drift").max(1e-300).log10(),
        missing: -p("null_rate_change").max(1e-300).log10(),
        psi: scores.psi,
        scouter: scores.scouter,
        evidently: scores.evidently,
        nannyml: scores.nannyml,
        missing_rate: metric("null_rate_change").and_then(|metric| metric.value).unwrap_or(0.0).abs(),
    }
}

struct Setting {
    stream: Stream,
    worlds: Vec<(World, Peers)>,
    m: usize,
    random: Random,
}

impl Setting {
    fn new(m: usize, segments: usize) -> Result<Self, AnyError> {
        let stream = Stream::new(Kind::Normal, 6, 1, 1);
        let mut random = Random::new(m as u64 + segments as u64);
        let worlds = (0..WORLDS).map(|_| {
            let world = World::new(&stream, REFERENCE / segments, &mut random)?;
            let peers = Peers::new(&world, m);
            Ok((world, peers))
        });
        let worlds = worlds.collect::<Result<_, AnyError>>()?;
        Ok(Self { stream, worlds, m, random })
    }

    /// Marks of a feature in `windows` windows, over all worlds.
    fn sample(&mut self, feature: usize, change: Change, windows: usize) -> Result<Vec<Marks>, AnyError> {
        let each = windows / self.worlds.len();
        let mut sampled = Vec::with_capacity(windows);
        for (world, peers) in &self.worlds {
            for _ in 0..each {
                let seen = world.seen(&self.stream, feature, 0, self.m, change, &mut self.random)?;
                sampled.push(marks(&seen.stats, &peers.scores(feature, &seen.values, &seen.stats)?));
            }
        }
        Ok(sampled)
    }
}

/// The value that `questions` quiet features exceed together in [`RATE`] of windows.
fn threshold(quiet: &[Marks], mark: fn(&Marks) -> f64, questions: usize) -> f64 {
    let mut values: Vec<f64> = quiet.iter().map(mark).collect();
    values.sort_by(f64::total_cmp);
    let each = 1.0 - (1.0 - RATE).powf(1.0 / questions as f64);
    let above = (each * values.len() as f64).round() as usize;
    values[values.len() - 1 - above]
}

struct Rule {
    name: &'static str,
    mark: fn(&Marks) -> f64,
    questions: usize,
}

fn rules(change: Change) -> Vec<Rule> {
    let rule = |name, mark| Rule { name, mark, questions: FEATURES };
    if matches!(change, Change::Missing(_)) {
        return vec![rule("driftline", |marks| marks.missing), rule("NannyML", |marks| marks.missing_rate)];
    }
    vec![
        rule("driftline", |marks| marks.drift),
        rule("PSI", |marks| marks.psi),
        rule("Scouter", |marks| marks.scouter),
        rule("Evidently", |marks| marks.evidently),
        rule("NannyML", |marks| marks.nannyml),
    ]
}

/// A share of the windows, for a machine with other work: `DRIFTLINE_BENCH_SHARE=0.1` takes a tenth.
fn shared(windows: usize) -> usize {
    let share: f64 = std::env::var("DRIFTLINE_BENCH_SHARE").ok().and_then(|text| text.parse().ok()).unwrap_or(1.0);
    (windows as f64 * share).ceil() as usize
}

fn main() -> Result<(), AnyError> {
    let scenarios = [
        ("mean + 0.1 sd", NUMBER, Change::Shift(0.1)),
        ("mean + 0.25 sd", NUMBER, Change::Shift(0.25)),
        ("mean + 0.5 sd", NUMBER, Change::Shift(0.5)),
        ("variance x 1.5", NUMBER, Change::Spread(1.5f64.sqrt())),
        ("category + 5 points", CATEGORY, Change::Category(0.05)),
        ("nulls + 2 points", WITH_MISSING, Change::Missing(0.02)),
    ];
    let mut slower = Vec::new();
    println!("| drift | M | driftline | PSI | Scouter | Evidently | NannyML |\n|---|---|---|---|---|---|---|");
    for (m, quiet_windows, windows) in [(100, 60_000, 8_000), (500, 40_000, 4_000), (2_000, 16_000, 2_000)] {
        let mut setting = Setting::new(m, 1)?;
        for feature in [NUMBER, CATEGORY, WITH_MISSING] {
            let quiet = setting.sample(feature, Change::None, shared(quiet_windows))?;
            for (name, _, change) in scenarios.iter().filter(|(_, of, _)| *of == feature) {
                let drifted = setting.sample(feature, *change, shared(windows))?;
                let found = rules(*change).into_iter().map(|rule| {
                    let limit = threshold(&quiet, rule.mark, rule.questions);
                    let hits = drifted.iter().filter(|marks| (rule.mark)(marks) > limit).count();
                    (rule.name, hits)
                });
                report(name, m, &found.collect::<Vec<_>>(), drifted.len(), &mut slower);
            }
        }
    }
    segment(&mut slower)?;
    if slower.is_empty() { Ok(()) } else { Err(slower.join("\n").into()) }
}

/// One of twenty segments moves by half a standard deviation. Ours looks at every segment too and pays for asking
/// 21 times as much; the others have no segments and see a twentieth of their rows move.
fn segment(slower: &mut Vec<String>) -> Result<(), AnyError> {
    for (m, quiet_windows, windows) in [(2_000, 16_000, 2_000), (10_000, 8_000, 1_000)] {
        let mut whole = Setting::new(m, 1)?;
        let quiet = whole.sample(NUMBER, Change::None, shared(quiet_windows))?;
        let drifted = whole.sample(NUMBER, Change::OfOneIn(SEGMENTS as f64, 0.5), shared(windows))?;
        let mut part = Setting::new(m / SEGMENTS, SEGMENTS)?;
        let quiet_part = part.sample(NUMBER, Change::None, shared(120_000))?;
        let drifted_part = part.sample(NUMBER, Change::Shift(0.5), shared(windows))?;
        let mut found = Vec::new();
        for rule in rules(Change::Shift(0.5)) {
            let hits = if rule.name == "driftline" {
                let limit = threshold(&quiet_part, rule.mark, FEATURES * (SEGMENTS + 1));
                drifted_part.iter().filter(|marks| (rule.mark)(marks) > limit).count()
            } else {
                let limit = threshold(&quiet, rule.mark, rule.questions);
                drifted.iter().filter(|marks| (rule.mark)(marks) > limit).count()
            };
            found.push((rule.name, hits));
        }
        report("one segment of 20, + 0.5 sd", m, &found, drifted.len(), slower);
    }
    Ok(())
}

fn report(name: &str, m: usize, found: &[(&str, usize)], windows: usize, slower: &mut Vec<String>) {
    let delay = |hits: usize| match hits {
        0 => format!("> {windows}"),
        hits => format!("{:.2}", windows as f64 / hits as f64),
    };
    let of = |tool: &str| found.iter().find(|(name, _)| *name == tool).map(|(_, hits)| *hits);
    let cells = ["driftline", "PSI", "Scouter", "Evidently", "NannyML"].map(|tool| of(tool).map_or("-".into(), delay));
    println!("| {name} | {m} | {} |", cells.join(" | "));
    let ours = interval(of("driftline").unwrap_or(0), windows, STRICT).1;
    let faster = found.iter().filter(|(_, hits)| interval(*hits, windows, STRICT).0 > ours);
    slower.extend(faster.map(|(tool, hits)| format!("{name}, M {m}: {tool} finds it in {} windows", delay(*hits))));
}
