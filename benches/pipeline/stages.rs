//! The stages that are measured in events a second. Each counts its events and fails if one is missing.

use std::sync::{Arc, OnceLock};
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use datafusion::arrow::array::RecordBatch;
use driftline::config::service::Ingest;
use driftline::event::{Decoder, schema};
use driftline::ingest::aggregate::ModelPlan;
use driftline::ingest::role::{IngestModel, IngestRole, StatusSink};
use driftline::log::topics::Topics;
use driftline::log::{ConsumerOptions, Log, LogError, StartOffset, TopicPartition};
use driftline::rules::judge::RulesJudge;
use driftline::telemetry::Metrics;
use driftline::windows::result::WindowResult;
use driftline::windows::role::{WindowsRole, read_to_end};
use driftline::windows::state::pane_width_ms;
use tokio_util::sync::CancellationToken;

use crate::events::{PARTITIONS, START_MS};
use crate::meter::{Reading, Sample};
use crate::world::{OneReference, TAIL_EVENTS, WINDOWS, World};
use crate::{AnyError, SLAB_EVENTS};

const TIMEOUT: Duration = Duration::from_secs(300);
/// A thousandth of a core at most goes into looking whether a run has ended.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// Decodes the flush of events `flushes` times.
pub fn decode(world: &World, flushes: usize) -> Result<Sample, AnyError> {
    let mut decoder = Decoder::new(std::slice::from_ref(&world.model))?;
    let start = Reading::now();
    let mut rows = 0;
    for slab in (0..flushes).flat_map(|_| &world.slabs) {
        rows += std::hint::black_box(decoder.decode(slab, START_MS)?).row_count();
    }
    let sample = start.until_now(rows as u64);
    assert_eq!(rows, flushes * world.slabs.len() * SLAB_EVENTS, "events decoded");
    Ok(sample)
}

/// The same, and aggregates each flush as the ingest role does.
pub fn aggregate(world: &World, flushes: usize) -> Result<Sample, AnyError> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let mut decoder = Decoder::new(std::slice::from_ref(&world.model))?;
    let pane_ms = pane_width_ms(&world.rules.window_specs(&world.model));
    let plan = ModelPlan::new(&world.model, world.reference.clone(), &schema(&world.model), pane_ms)?;
    let start = Reading::now();
    let mut rows = 0;
    for _ in 0..flushes {
        let mut batches: Vec<RecordBatch> = Vec::new();
        for slab in &world.slabs {
            batches.extend(decoder.decode(slab, START_MS)?.batches.into_iter().map(|decoded| decoded.batch));
        }
        let partials = runtime.block_on(plan.run(&batches))?;
        rows += partials.iter().filter(|row| row.feature.is_empty()).map(|row| row.rows).sum::<u64>();
    }
    let sample = start.until_now(rows);
    assert_eq!(rows as usize, flushes * world.slabs.len() * SLAB_EVENTS, "events aggregated");
    Ok(sample)
}

/// Reads the topic and does nothing with it: no pipeline on this log can be faster. The clock starts with the first
/// records, when the connection stands.
pub fn read(world: &World, log: &dyn Log, events: usize) -> Result<Sample, AnyError> {
    let options = ConsumerOptions { group: None, topics: vec![], start: StartOffset::Earliest, read_committed: true };
    let mut consumer = log.consumer(options)?;
    let all: Vec<_> = (0..PARTITIONS).map(|index| (TopicPartition::new(&world.topic, index as i32), None)).collect();
    consumer.assign(&all)?;
    let (expected, deadline) = (events + TAIL_EVENTS, Instant::now() + TIMEOUT);
    let (mut first, mut seen) = (None, 0);
    while seen < expected {
        if Instant::now() > deadline {
            return Err(format!("{seen} of {expected} events could be read in {TIMEOUT:?}").into());
        }
        let polled = consumer.poll(SLAB_EVENTS, Duration::from_millis(100))?.records.len();
        seen += polled;
        if first.is_none() && polled > 0 {
            first = Some((Reading::now(), seen));
        }
    }
    assert_eq!(seen, expected, "events read");
    let (start, before) = first.ok_or("nothing was read")?;
    Ok(start.until_now((seen - before) as u64))
}

/// Ingest and windows on threads of their own, until all windows have closed. The clock starts when both have been
/// given their partitions. It counts the events ingested until it stops; those decoded for the next flush are paid for
/// but not counted.
pub fn pipeline(world: &World, log: &dyn Log, app: &str, events: usize) -> Result<Sample, AnyError> {
    let topics = Topics::new(app);
    log.create_topics(&topics.specs(PARTITIONS as i32, 1))?;
    let metrics = Metrics::new()?;
    let (windows_ready, windows_status) = on_ready();
    let windows = windows_role(world, app, &metrics, windows_status);
    let (ingest_ready, ingest_status) = on_ready();
    let ingest = ingest_role(world, app, &metrics, ingest_status);

    let sample = std::thread::scope(|scope| {
        let stop = CancellationToken::new();
        // Named, the type would need the scope's lifetime, which only the closure knows.
        #[allow(clippy::type_complexity)]
        let start_role = |role: Box<dyn FnOnce(&CancellationToken) -> Result<(), LogError> + Send>| {
            let stop = stop.clone();
            scope.spawn(move || {
                let outcome = role(&stop);
                stop.cancel();
                outcome
            })
        };
        let mut threads = vec![start_role(Box::new(|stop| windows.run(log, stop)))];
        let outcome = wait_until("windows ready", &stop, || windows_ready.get().is_some()).and_then(|()| {
            threads.push(start_role(Box::new(|stop| ingest.run(log, stop))));
            clock_run(&metrics, &ingest_ready, &stop, events)
        });
        stop.cancel();
        join(threads)?;
        outcome
    })?;
    check_results(log, &topics, events)?;
    Ok(sample)
}

fn clock_run(
    metrics: &Metrics,
    ready: &OnceLock<Reading>,
    stop: &CancellationToken,
    events: usize,
) -> Result<Sample, AnyError> {
    let closed = metrics.windows_closed.with_label_values(&["bench"]);
    let ingested = metrics.events_ingested.with_label_values(&["bench"]);
    wait_until("all windows closed", stop, || closed.get() == WINDOWS as u64)?;
    let start = ready.get().ok_or("windows closed before ingest was ready")?;
    let sample = start.until_now(ingested.get());
    wait_until("all events ingested", stop, || ingested.get() >= (events + TAIL_EVENTS) as u64)?;
    assert_eq!(ingested.get() as usize, events + TAIL_EVENTS, "events ingested");
    Ok(sample)
}

fn wait_until(what: &str, stop: &CancellationToken, mut holds: impl FnMut() -> bool) -> Result<(), AnyError> {
    let deadline = Instant::now() + TIMEOUT;
    while !holds() {
        if stop.is_cancelled() || Instant::now() > deadline {
            return Err(format!("never came: {what}").into());
        }
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(())
}

fn join(threads: Vec<ScopedJoinHandle<'_, Result<(), LogError>>>) -> Result<(), AnyError> {
    for thread in threads {
        thread.join().map_err(|_| "a role panicked")??;
    }
    Ok(())
}

/// The moment at which a role is first at work.
fn on_ready() -> (Arc<OnceLock<Reading>>, StatusSink) {
    let ready = Arc::new(OnceLock::new());
    let moment = ready.clone();
    let status: StatusSink = Arc::new(move |status| {
        if status.is_ok() {
            moment.get_or_init(Reading::now);
        }
    });
    (ready, status)
}

fn ingest_role(world: &World, app: &str, metrics: &Metrics, status: StatusSink) -> IngestRole {
    let pane_ms = pane_width_ms(&world.rules.window_specs(&world.model));
    IngestRole {
        app: app.into(),
        instance: "0".into(),
        topics: Topics::new(app),
        models: vec![IngestModel {
            model: world.model.clone(),
            reference: world.reference.clone(),
            pane_ms,
            sql: Vec::new(),
        }],
        start: StartOffset::Earliest,
        settings: Ingest::default(),
        clock: Arc::new(|| chrono::Utc::now().timestamp_millis()),
        metrics: metrics.clone(),
        status,
    }
}

fn windows_role(world: &World, app: &str, metrics: &Metrics, status: StatusSink) -> WindowsRole {
    let (rules, judge_metrics) = (world.rules.clone(), metrics.clone());
    WindowsRole {
        app: app.into(),
        instance: "0".into(),
        topics: Topics::new(app),
        watched: Arc::new(vec![rules.watched(&world.model)]),
        references: Arc::new(OneReference(world.reference.clone())),
        judge: Arc::new(move || Box::new(RulesJudge::new(rules.clone(), judge_metrics.clone()))),
        checkpoint_interval: Duration::from_secs(10),
        metrics: metrics.clone(),
        status,
    }
}

/// Every event is in one window, every window closed once.
fn check_results(log: &dyn Log, topics: &Topics, events: usize) -> Result<(), AnyError> {
    let mut results: Vec<Result<WindowResult, serde_json::Error>> = Vec::new();
    for partition in 0..PARTITIONS as i32 {
        read_to_end(log, &topics.results, partition, |_, value| {
            results.push(serde_json::from_slice(value.unwrap_or_default()));
        })?;
    }
    let results = results.into_iter().collect::<Result<Vec<_>, _>>()?;
    assert_eq!(results.len(), WINDOWS, "results");
    assert_eq!(results.iter().map(|result| result.rows).sum::<u64>(), events as u64, "events in windows");
    assert!(results.iter().all(|result| result.complete && result.revision == 0), "windows complete at once");
    Ok(())
}
