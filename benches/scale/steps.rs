//! What happens to a flush and to a window, step by step, with what each step took.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use driftline::event::schema;
use driftline::ingest::aggregate::ModelPlan;
use driftline::ingest::partial::{FlushHeader, PartialRow, SourceProgress, decode_flush, encode_flush};
use driftline::reference::Reference;
use driftline::rules::RuleStates;
use driftline::windows::judge::NoJudge;
use driftline::windows::result::{ClosedWindow, WindowResult};
use driftline::windows::state::{Effect, PaneChange, PartitionState, References};

use crate::AnyError;
use crate::heap;
use crate::shape::{HOUR_MS, START_MS, World, build_reference};

/// What was measured, and the figure with its unit.
pub type Figures = Vec<(String, String)>;

struct OneReference(Arc<Reference>);

impl References for OneReference {
    fn find(&self, model: &str, id: &str) -> Option<Arc<Reference>> {
        (self.0.model == model && self.0.id == id).then(|| self.0.clone())
    }
}

/// Profiles of one window: all features of the whole, and of each segment.
fn profiles(world: &World) -> usize {
    match world.shape.segments {
        1 => world.shape.features,
        segments => world.shape.features * (segments + 1),
    }
}

pub fn measure(world: &World, flushes: usize) -> Result<Figures, AnyError> {
    let mut figures = Figures::new();
    reference(world, &mut figures)?;
    let rows = aggregate(world, flushes, &mut figures)?;
    let rows = transport(world, &rows, &mut figures)?;
    let mut state = new_state(world);
    panes(world, &mut state, rows, flushes, &mut figures);
    checkpoint(world, &mut state, &mut figures)?;
    close(world, &mut state, flushes, &mut figures)?;
    Ok(figures)
}

fn ns_each(seconds: f64, count: usize) -> String {
    format!("{:.1} ns", seconds * 1e9 / count as f64)
}

fn bytes_each(bytes: usize, count: usize) -> String {
    format!("{:.0} B", bytes as f64 / count as f64)
}

fn mib(bytes: usize) -> String {
    format!("{:.1} MiB", bytes as f64 / (1 << 20) as f64)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The kernel counts CPU time by the tick; what takes less than some of them is better told by the wall clock.
const LEAST_CPU_SECONDS: f64 = 0.008;

/// Seconds of CPU time this thread has used. 0 without /proc.
fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split_whitespace().next().and_then(|ns| ns.parse::<f64>().ok()).unwrap_or(0.0) / 1e9
}

/// What `work` answers, and the seconds of CPU time it took.
fn timed<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let (started, before) = (Instant::now(), cpu_seconds());
    let answer = work();
    let (wall, cpu) = (started.elapsed().as_secs_f64(), cpu_seconds() - before);
    (answer, if cpu < LEAST_CPU_SECONDS { wall } else { cpu })
}

fn reference(world: &World, figures: &mut Figures) -> Result<(), AnyError> {
    let before = heap::held();
    let (built, seconds) = timed(|| build_reference(&world.model, &world.batches));
    let built = built?;
    let profiles = profiles(world);
    figures.push(("reference: build, a value".into(), ns_each(seconds, values(world))));
    figures.push(("reference: memory".into(), mib(heap::held() - before)));
    let file = built.to_json().len();
    figures.push(("reference: file".into(), mib(file)));
    figures.push(("reference: file, a profile".into(), bytes_each(file, profiles)));
    Ok(())
}

fn values(world: &World) -> usize {
    world.shape.features * world.shape.flush_events
}

/// The plan of ingest on one flush, again and again.
fn aggregate(world: &World, flushes: usize, figures: &mut Figures) -> Result<Vec<PartialRow>, AnyError> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let plan = ModelPlan::new(&world.model, world.reference.clone(), &schema(&world.model), HOUR_MS)?;
    let mut seconds = Vec::new();
    let mut rows = Vec::new();
    let before = heap::held();
    heap::take_peak();
    for _ in 0..flushes {
        drop(rows);
        let (answer, took) = timed(|| runtime.block_on(plan.run(&world.batches)));
        rows = answer?;
        seconds.push(took);
    }
    let peak = heap::take_peak() - before;
    assert_eq!(rows.iter().filter(|row| !row.feature.is_empty()).count(), profiles(world), "profiles of a flush");
    figures.push(("ingest: aggregate and roll up, a value".into(), ns_each(median(seconds), values(world))));
    figures.push(("ingest: most memory in a flush".into(), mib(peak)));
    Ok(rows)
}

fn header(world: &World, flush: usize, clock_ms: i64) -> FlushHeader {
    let events = world.shape.flush_events as i64;
    FlushHeader {
        instance: "0".into(),
        at_ms: START_MS + flush as i64 * 1_000,
        next_by_ms: START_MS + flush as i64 * 1_000 + 5_000,
        sources: vec![SourceProgress {
            topic: "events".into(),
            partition: 0,
            from: flush as i64 * events,
            to: (flush as i64 + 1) * events,
            clock_ms: Some(clock_ms),
            quiet_since_ms: None,
            joined_ms: BTreeMap::new(),
        }],
        topics: BTreeMap::from([("events".into(), 1)]),
        rows: BTreeMap::from([("scale".into(), events as u64)]),
        part: 0,
        parts: 1,
    }
}

/// To the records of `partials` and back.
fn transport(world: &World, rows: &[PartialRow], figures: &mut Figures) -> Result<Vec<PartialRow>, AnyError> {
    let profiles = profiles(world);
    let (records, writing) = timed(|| encode_flush(&header(world, 0, START_MS), rows, std::iter::empty()));
    let records = records?;
    let bytes: usize = records.iter().map(Vec::len).sum();
    let (read, reading) = timed(|| records.iter().map(|record| decode_flush(record)).collect::<Result<Vec<_>, _>>());
    let read: Vec<PartialRow> = read?.into_iter().flat_map(|part| part.rows).collect();
    assert_eq!(read, rows, "rows of a flush");
    figures.push(("partials: a profile of a flush".into(), bytes_each(bytes, profiles)));
    figures.push(("partials: write and read, a profile".into(), ns_each(writing + reading, profiles)));
    Ok(read)
}

fn new_state(world: &World) -> PartitionState {
    let watched = Arc::new(vec![world.rules.watched(&world.model)]);
    PartitionState::new(watched, Arc::new(OneReference(world.reference.clone())), Box::new(NoJudge))
}

/// The same flush merged into one pane again and again.
fn panes(world: &World, state: &mut PartitionState, rows: Vec<PartialRow>, flushes: usize, figures: &mut Figures) {
    let profiles = profiles(world);
    let before = heap::held();
    let mut seconds = Vec::new();
    let mut held = Vec::new();
    for flush in 0..flushes {
        let rows = rows.clone();
        let (effects, took) = timed(|| state.apply(&header(world, flush, START_MS), rows));
        assert_eq!(effects, vec![], "nothing closes yet");
        seconds.push(took);
        // What the rows themselves hold is given back by now.
        held.push(heap::held() - before);
    }
    figures.push(("pane: merge, a profile of a flush".into(), ns_each(median(seconds), profiles)));
    let (first, last) = (held.first().copied().unwrap_or(0), held.last().copied().unwrap_or(0));
    figures.push(("pane: memory after one flush, a profile".into(), bytes_each(first, profiles)));
    figures.push((format!("pane: memory after {flushes} flushes, a profile"), bytes_each(last, profiles)));
    figures.push((format!("pane: memory after {flushes} flushes, all of it"), mib(last)));
    figures
        .push(("pane: memory as the gauge tells it, a profile".into(), bytes_each(state.allocated_bytes(), profiles)));
}

/// Writing the panes, and reading them after a restart.
fn checkpoint(world: &World, state: &mut PartitionState, figures: &mut Figures) -> Result<(), AnyError> {
    let profiles = profiles(world);
    let (changes, writing): (Vec<PaneChange>, f64) = timed(|| state.take_pane_changes());
    let bytes = |change: &PaneChange| change.value.as_ref().map_or(0, Vec::len);
    figures.push(("checkpoint: write, a profile".into(), ns_each(writing, profiles)));
    figures.push(("checkpoint: stored, a profile".into(), bytes_each(changes.iter().map(bytes).sum(), profiles)));
    let largest = changes.iter().map(bytes).max().unwrap_or(0);
    figures.push(("checkpoint: largest record".into(), mib(largest)));
    let mut restored = new_state(world);
    let (outcome, reading) = timed(|| {
        changes.into_iter().try_for_each(|change| restored.restore_pane(change.key, &change.value.unwrap_or_default()))
    });
    outcome?;
    assert_eq!(restored.pane_count(), state.pane_count(), "panes restored");
    figures.push(("checkpoint: read, a profile".into(), ns_each(reading, profiles)));
    Ok(())
}

/// The window closes: statistics, the rules, and the records of results.
fn close(world: &World, state: &mut PartitionState, flushes: usize, figures: &mut Figures) -> Result<(), AnyError> {
    let profiles = profiles(world);
    let passing = FlushHeader { rows: BTreeMap::new(), ..header(world, flushes, START_MS + HOUR_MS) };
    let (effects, seconds) = timed(|| state.apply(&passing, Vec::new()));
    let results: Vec<WindowResult> = effects
        .into_iter()
        .filter_map(|effect| match effect {
            Effect::Result(result) => Some(*result),
            _ => None,
        })
        .collect();
    let expected = if world.shape.segments == 1 { 1 } else { world.shape.segments + 1 };
    assert_eq!(results.len(), expected, "results of a window");
    figures.push(("window: merge panes and evaluate, a profile".into(), ns_each(seconds, profiles)));
    let (json, writing) = timed(|| results.iter().map(serde_json::to_vec).collect::<Result<Vec<_>, _>>());
    let json = json?;
    let bytes: usize = json.iter().map(Vec::len).sum();
    figures.push(("results: write, a profile".into(), ns_each(writing, profiles)));
    figures.push(("results: stored, a profile".into(), bytes_each(bytes, profiles)));
    figures.push(("results: largest record".into(), mib(json.iter().map(Vec::len).max().unwrap_or(0))));
    let first = results.first().ok_or("no results")?.clone();
    let closed = ClosedWindow {
        model: first.model,
        version: first.version,
        window: first.window,
        revision: 0,
        results,
        positions: Default::default(),
    };
    let mut states = RuleStates::default();
    let (effects, seconds) = timed(|| world.rules.on_window(&mut states, &closed, 0));
    assert!(!effects.is_empty(), "the rules looked at the window");
    figures.push(("rules: one rule over everything, a profile".into(), ns_each(seconds, profiles)));
    Ok(())
}
