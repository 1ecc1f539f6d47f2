//! `driftline init`: a service file, a model, rules and a test of them, to start from. `infer` reads sample events,
//! `templates` writes the files.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;

use crate::config::glob;
use crate::log::kafka::{KafkaLog, KafkaOptions};
use crate::log::{ConsumerOptions, Log, LogError, StartOffset, TopicPartition};

use super::check::{FAILED, UNDECIDED};

mod infer;
mod templates;

pub use infer::{InferError, Inferred, infer};
pub use templates::{Plan, files, text as yaml_text};

/// Events that are looked at: enough to tell an identifier from a category.
const MOST_EVENTS: usize = 10_000;
/// Bytes of a sample file that are read.
const MOST_BYTES: u64 = 64 << 20;
/// How long a topic may be silent before what was read of it is the sample.
const QUIET: Duration = Duration::from_secs(3);
/// How long a broker is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug, Args)]
pub struct InitArgs {
    /// Where the files go; created if it does not exist
    #[arg(default_value = ".")]
    pub dir: PathBuf,
    /// Sample events to learn fields and types from: a file with one JSON object a line, `-`, or `kafka:TOPIC`
    #[arg(long, value_name = "FILE|kafka:TOPIC")]
    pub from_sample: Option<PathBuf>,
    /// Name of the model; default: what the events say, else `fraud`
    #[arg(long)]
    pub model: Option<String>,
    /// Topic with the model's predictions; default: that of the sample, else `predictions`
    #[arg(long)]
    pub topic: Option<String>,
    /// host:port of Kafka, comma separated
    #[arg(long, default_value = "localhost:9092")]
    pub bootstrap_servers: String,
}

/// Why there are no files, for people, and the exit code.
struct Failure(u8, String);

pub fn run(args: &InitArgs) -> ExitCode {
    match init(args) {
        Ok(lines) => super::print(format!("{}\n", lines.join("\n")).as_bytes()),
        Err(Failure(code, message)) => {
            eprintln!("error: {message}");
            ExitCode::from(code)
        }
    }
}

fn init(args: &InitArgs) -> Result<Vec<String>, Failure> {
    let sample = args.from_sample.as_deref().map(|path| sample(path, args)).transpose()?;
    let inferred = match &sample {
        Some(sample) => {
            Some(infer(&sample.events).map_err(|error| Failure(FAILED, format!("{}: {error}", sample.name)))?)
        }
        None => None,
    };
    let plan = Plan {
        model: model_name(args, inferred.as_ref())?,
        topic: args.topic.clone().or(sample.and_then(|sample| sample.topic)).unwrap_or_else(|| "predictions".into()),
        bootstrap_servers: args.bootstrap_servers.clone(),
        inferred,
    };
    let files = files(&plan);
    // All or nothing: a half-written set of files would be worse than none.
    let existing: Vec<String> = files
        .iter()
        .map(|(name, _)| args.dir.join(name))
        .filter(|path| path.exists())
        .map(|path| path.display().to_string())
        .collect();
    if !existing.is_empty() {
        let message =
            format!("{} would be overwritten; choose another directory, or remove it first", existing.join(", "));
        return Err(Failure(FAILED, message));
    }
    let mut lines = Vec::new();
    for (name, content) in &files {
        let path = args.dir.join(name);
        write(&path, content).map_err(|error| Failure(UNDECIDED, format!("{}: {error}", path.display())))?;
        lines.push(format!("wrote {}", path.display()));
    }
    lines.extend(plan.inferred.iter().flat_map(|inferred| inferred.notes.iter().map(|note| format!("note: {note}"))));
    lines.extend(next_steps(args, &plan));
    Ok(lines)
}

fn next_steps(args: &InitArgs, plan: &Plan) -> Vec<String> {
    let config = args.dir.join("driftline.yaml").display().to_string();
    let config = if config == "./driftline.yaml" { String::new() } else { format!(" --config {config}") };
    vec![
        String::new(),
        "Next:".to_string(),
        format!("  driftline check{config}"),
        format!(
            "  driftline reference build{config} --model {} --from-stream --since 7d --until 0d   # or --from training.parquet",
            plan.model
        ),
        format!("  driftline run{config}"),
    ]
}

fn model_name(args: &InitArgs, inferred: Option<&Inferred>) -> Result<String, Failure> {
    let from_events = inferred.and_then(|inferred| inferred.model.as_ref()).map(|(_, name)| name.clone());
    let name = args.model.clone().or(from_events).unwrap_or_else(|| "fraud".into());
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'));
    if is_name && !glob::is_glob(&name) {
        return Ok(name);
    }
    let message = format!("`{name}` is not a model name: letters, digits, `_`, `.` and `-`; give another with --model");
    Err(Failure(2, message))
}

fn write(path: &Path, content: &str) -> std::io::Result<()> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).open(path)?;
    std::io::Write::write_all(&mut file, content.as_bytes())
}

/// Events as they were found, and the topic that they come from.
struct Sample {
    name: String,
    topic: Option<String>,
    events: Vec<Vec<u8>>,
}

fn sample(path: &Path, args: &InitArgs) -> Result<Sample, Failure> {
    let name = path.display().to_string();
    if let Some(topic) = name.strip_prefix("kafka:") {
        let events = of_topic(topic, args).map_err(|error| {
            Failure(UNDECIDED, format!("{error}; is a Kafka broker at {}?", args.bootstrap_servers))
        })?;
        return match events {
            Some(events) => Ok(Sample { name: format!("topic `{topic}`"), topic: Some(topic.to_string()), events }),
            None => Err(Failure(FAILED, format!("there is no topic `{topic}` at {}", args.bootstrap_servers))),
        };
    }
    let mut bytes = Vec::new();
    let read = |reader: &mut dyn std::io::Read, bytes: &mut Vec<u8>| {
        std::io::Read::read_to_end(&mut std::io::Read::take(reader, MOST_BYTES), bytes)
    };
    let outcome = match path == Path::new("-") {
        true => read(&mut std::io::stdin().lock(), &mut bytes),
        false => std::fs::File::open(path).and_then(|mut file| read(&mut file, &mut bytes)),
    };
    outcome.map_err(|error| Failure(UNDECIDED, format!("{name}: {error}")))?;
    let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
    Ok(Sample { name, topic: None, events: lines.take(MOST_EVENTS).map(<[u8]>::to_vec).collect() })
}

/// The newest events of each partition; `None`: there is no such topic.
fn of_topic(topic: &str, args: &InitArgs) -> Result<Option<Vec<Vec<u8>>>, LogError> {
    let log = KafkaLog::new(KafkaOptions {
        bootstrap_servers: args.bootstrap_servers.clone(),
        client_id: "driftline-init".into(),
        instance: None,
        properties: Default::default(),
    })?;
    let Some(count) = log.partition_count(topic)? else { return Ok(None) };
    let mut consumer = log.consumer(ConsumerOptions {
        group: None,
        topics: Vec::new(),
        start: StartOffset::Earliest,
        read_committed: true,
    })?;
    let share = (MOST_EVENTS / count.max(1) as usize).max(1) as i64;
    let mut from = Vec::new();
    for partition in (0..count).map(|partition| TopicPartition::new(topic, partition)) {
        let (earliest, end) = consumer.offsets(&partition)?;
        if earliest < end {
            from.push((partition, Some(earliest.max(end - share))));
        }
    }
    if from.is_empty() {
        return Ok(Some(Vec::new()));
    }
    consumer.assign(&from)?;
    let mut events: Vec<Vec<u8>> = Vec::new();
    let (started, mut heard) = (Instant::now(), Instant::now());
    while events.len() < MOST_EVENTS && heard.elapsed() < QUIET.max(if events.is_empty() { PATIENCE } else { QUIET }) {
        let polled = consumer.poll(4_096, Duration::from_millis(500))?;
        for value in polled.records.iter().filter_map(|record| record.value) {
            heard = Instant::now();
            events.push(value.to_vec());
        }
        if events.is_empty() && started.elapsed() > PATIENCE {
            break;
        }
    }
    Ok(Some(events))
}
