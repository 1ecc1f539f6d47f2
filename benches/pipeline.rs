//! What an event costs on its way through the pipeline, and how long an alert takes. The model has 25 features (20
//! numeric, 5 categorical) and a score, an event about 610 bytes of JSON.
//!
//! `cargo bench --bench pipeline`, or without the release build `cargo bench --profile dev --bench pipeline`. After
//! `--`: `--events N`, and names of stages to run these alone:
//!
//! | stage | what is measured |
//! |---|---|
//! | `decode` | `event::Decoder` on slabs of 8192 events |
//! | `aggregate` | the same, and `ingest::aggregate::ModelPlan` on every 65 536 events |
//! | `embedded` | the ingest and windows roles on the embedded log, until all windows have closed |
//! | `kafka-read` | a consumer alone reading the topic: the ceiling of the next stage |
//! | `kafka` | as `embedded`, on a Kafka |
//! | `alert` | from the events that end a drifting window to the webhook received, on the embedded log |
//!
//! The two Kafka stages need `DRIFTLINE_BENCH_KAFKA=host:port`; the topics they make stay there. Rounds of the stages
//! alternate, so that a noisy machine slows all of them. CPU time is that of this process: a broker's is not in it.
//! Every count is asserted, no time is.

#[path = "pipeline/alert.rs"]
mod alert;
mod events;
#[path = "pipeline/meter.rs"]
mod meter;
#[path = "pipeline/stages.rs"]
mod stages;
#[path = "pipeline/world.rs"]
mod world;

use std::collections::BTreeMap;

use driftline::config::units::Span;
use driftline::log::embedded::EmbeddedLog;
use driftline::log::kafka::{KafkaLog, KafkaOptions};

use meter::{Row, Sample, median, peak_mib, print_table};
use world::{FilledLog, TAIL_EVENTS, WINDOWS, World};

/// Events of one poll and of one flush of the ingest role.
const SLAB_EVENTS: usize = 8_192;
const FLUSH_EVENTS: usize = 65_536;
const DEFAULT_EVENTS: usize = 400_000;
const ROUNDS: usize = 5;
const STAGES: [&str; 6] = ["decode", "aggregate", "embedded", "kafka-read", "kafka", "alert"];
const KAFKA_VARIABLE: &str = "DRIFTLINE_BENCH_KAFKA";

type AnyError = Box<dyn std::error::Error>;
/// Runs a stage once; its argument is the number of the round.
type Stage<'a> = Box<dyn Fn(usize) -> Result<Sample, AnyError> + 'a>;

struct Options {
    events: usize,
    /// Empty: all.
    stages: Vec<String>,
    kafka: Option<String>,
}

impl Options {
    fn parse(arguments: impl Iterator<Item = String>) -> Result<Self, AnyError> {
        let kafka = std::env::var(KAFKA_VARIABLE).ok();
        let mut options = Self { events: DEFAULT_EVENTS, stages: vec![], kafka };
        // Cargo itself adds `--bench`.
        let mut arguments = arguments.filter(|argument| argument != "--bench");
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--events" => options.events = arguments.next().ok_or("--events needs a number")?.parse()?,
                stage if STAGES.contains(&stage) => options.stages.push(argument),
                other => return Err(format!("no stage `{other}`; the stages are {}", STAGES.join(", ")).into()),
            }
        }
        if options.events < WINDOWS {
            return Err(format!("--events must be at least {WINDOWS}, one for each window").into());
        }
        if options.kafka.is_none() && options.stages.iter().any(|stage| stage.starts_with("kafka")) {
            return Err(format!("the stages on Kafka need {KAFKA_VARIABLE}=host:port").into());
        }
        Ok(options)
    }

    fn wants(&self, stage: &str) -> bool {
        self.stages.is_empty() || self.stages.iter().any(|wanted| wanted == stage)
    }
}

fn main() -> Result<(), AnyError> {
    let options = Options::parse(std::env::args().skip(1))?;
    let world = World::new()?;
    print_setting(&world, &options);
    print_table(&measure(&world, &options)?);
    if options.wants("alert") {
        println!();
        measure_alerts(&world)?;
    }
    Ok(())
}

fn print_setting(world: &World, options: &Options) {
    let profile = if cfg!(debug_assertions) { "dev" } else { "release" };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    println!("{cores} cores ({}), profile {profile}, median of {ROUNDS} alternating rounds", processor());
    let bytes = world.slabs.iter().map(|slab| slab.byte_len()).sum::<usize>() / FLUSH_EVENTS;
    let held_mib = bytes * (options.events + TAIL_EVENTS) / (1 << 20);
    println!(
        "{bytes} bytes an event; peak memory is that of the process so far: {:.0} MiB before the first stage; from \
         `embedded` on it includes the {held_mib} MiB of events that the embedded log holds",
        peak_mib()
    );
    if options.kafka.is_none() {
        println!("no stage on Kafka: set {KAFKA_VARIABLE}=host:port");
    }
    println!();
}

fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("model name")?.split(':').nth(1));
    name.map_or("unknown processor", str::trim).to_string()
}

/// Stages in the order of the memory they need, since the peak is that of the process so far.
fn measure(world: &World, options: &Options) -> Result<Vec<Row>, AnyError> {
    let flushes = options.events.div_ceil(FLUSH_EVENTS);
    let events = options.events;
    let embedded = FilledLog::new(Box::new(EmbeddedLog::new()), world, events);
    let kafka = match &options.kafka {
        Some(servers) => Some(FilledLog::new(Box::new(connect(servers)?), world, events)),
        None => None,
    };
    // Each round is a service of its own, which reads the topic from its start.
    let app = |kind: &str, round: usize| format!("{}-{kind}-{round}", world.topic);
    let mut stages: Vec<(&'static str, Stage<'_>)> = vec![
        ("decode", Box::new(|_| stages::decode(world, flushes))),
        ("aggregate", Box::new(|_| stages::aggregate(world, flushes))),
        ("embedded", Box::new(|round| stages::pipeline(world, embedded.get()?, &app("embedded", round), events))),
    ];
    if let Some(kafka) = &kafka {
        stages.push(("kafka-read", Box::new(|_| stages::read(world, kafka.get()?, events))));
        stages.push(("kafka", Box::new(|round| stages::pipeline(world, kafka.get()?, &app("kafka", round), events))));
    }
    stages.retain(|(name, _)| options.wants(name));
    let mut rows: Vec<Row> =
        stages.iter().map(|(name, _)| Row { name, samples: Vec::with_capacity(ROUNDS), peak_mib: 0.0 }).collect();
    for round in 0..ROUNDS {
        for ((_, run), row) in stages.iter().zip(&mut rows) {
            row.samples.push(run(round)?);
            if round == 0 {
                row.peak_mib = peak_mib();
            }
        }
    }
    Ok(rows)
}

fn connect(servers: &str) -> Result<KafkaLog, AnyError> {
    Ok(KafkaLog::new(KafkaOptions {
        bootstrap_servers: servers.to_string(),
        client_id: "driftline-bench".into(),
        instance: None,
        properties: BTreeMap::new(),
    })?)
}

/// With the default flush interval, and with one that leaves little but the work itself.
fn measure_alerts(world: &World) -> Result<(), AnyError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    for flush_interval in [Span::from_ms(1_000), Span::from_ms(50)] {
        let seconds = runtime.block_on(alert::seconds_to_alert(world, flush_interval))?;
        println!(
            "watermark to alert received, flush_interval {:<5} median {:.3} s, max {:.3} s, {} episodes",
            flush_interval.to_string() + ":",
            median(seconds.iter().copied()),
            seconds.iter().copied().fold(0.0, f64::max),
            seconds.len()
        );
    }
    println!("peak memory after all: {:.0} MiB", peak_mib());
    Ok(())
}
