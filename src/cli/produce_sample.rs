//! `driftline produce-sample`: predictions to try a Kafka set-up with.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;

use crate::log::kafka::{KafkaLog, KafkaOptions};
use crate::log::{Log, LogError, OutRecord, TopicSpec};

use super::check::UNDECIDED;
use super::sample::Sampler;
use super::service::now_ms;

#[derive(Debug, Args)]
pub struct ProduceSampleArgs {
    /// host:port, comma separated
    #[arg(long, default_value = "localhost:9092")]
    bootstrap_servers: String,
    /// Created with 4 partitions if it does not exist
    #[arg(long, default_value = "predictions")]
    topic: String,
    /// Events per second
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    rate: u64,
    /// Seconds of healthy events before the drift sets in; 0: never
    #[arg(long, default_value_t = 300)]
    drift_after: u64,
    /// Stop after this many seconds; 0: never
    #[arg(long, default_value_t = 0)]
    duration: u64,
    /// Write this many healthy events to standard output as JSONL instead: data to build a reference from
    #[arg(long)]
    reference: Option<u64>,
}

pub fn run(args: &ProduceSampleArgs) -> ExitCode {
    if let Some(rows) = args.reference {
        return print_reference(rows);
    }
    match produce(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}; is a Kafka broker at {}?", args.bootstrap_servers);
            ExitCode::from(UNDECIDED)
        }
    }
}

/// Flat rows: the features and the outputs by the model's names.
fn print_reference(rows: u64) -> ExitCode {
    use std::io::Write;
    let mut sampler = Sampler::new(1);
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for _ in 0..rows {
        let mut event = sampler.event(0, false);
        let mut row = event["features"].take();
        row["prediction"] = event["prediction"].take();
        row["score"] = event["score"].take();
        if writeln!(out, "{row}").is_err() {
            return ExitCode::FAILURE;
        }
    }
    if out.flush().is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn produce(args: &ProduceSampleArgs) -> Result<(), LogError> {
    let log = KafkaLog::new(KafkaOptions {
        bootstrap_servers: args.bootstrap_servers.clone(),
        client_id: "driftline-sample".into(),
        instance: None,
        properties: BTreeMap::new(),
    })?;
    let spec = TopicSpec { name: args.topic.clone(), partitions: 4, replication: -1, config: vec![] };
    while let Err(error) = log.create_topics(std::slice::from_ref(&spec)) {
        if let LogError::Fatal(_) = error {
            return Err(error);
        }
        eprintln!("waiting for Kafka at {}: {error}", args.bootstrap_servers);
        std::thread::sleep(Duration::from_secs(2));
    }
    let mut sampler = Sampler::new(now_ms().unsigned_abs());
    let started = Instant::now();
    let (mut sent, mut drifting) = (0_u64, false);
    eprintln!("{} events a second to `{}`; Ctrl-C ends it", args.rate, args.topic);
    loop {
        let elapsed = started.elapsed().as_secs_f64();
        if args.duration > 0 && elapsed >= args.duration as f64 {
            return Ok(());
        }
        if !drifting && args.drift_after > 0 && elapsed >= args.drift_after as f64 {
            drifting = true;
            eprintln!("drift sets in: amounts 60% higher, new merchant category `crypto`");
        }
        let due = (elapsed * args.rate as f64) as u64;
        let record = |sampler: &mut Sampler| {
            let event = sampler.event(now_ms(), drifting);
            let key = event["id"].as_str().map(|id| id.as_bytes().to_vec());
            OutRecord {
                topic: args.topic.as_str().into(),
                key,
                value: Some(event.to_string().into_bytes()),
                ..OutRecord::default()
            }
        };
        log.append((sent..due).map(|_| record(&mut sampler)).collect())?;
        sent = due;
        std::thread::sleep(Duration::from_millis(50));
    }
}
