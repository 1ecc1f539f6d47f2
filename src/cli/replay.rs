//! `driftline replay`: rules tried on what stands in Kafka, by the machines of production. Reads only.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;

use super::backtest::load::{Failure, WhatArgs, load};
use super::backtest::report::{self, Tried};
use super::backtest::{OutputArgs, progress_bar};
use super::service::now_ms;
use super::time::{Time, time};
use crate::backtest::history::Read;
use crate::backtest::history::stream::{self, StreamError, StreamRange};
use crate::backtest::{Engine, EngineOptions, Trail};
use crate::log::TopicPartition;
use crate::log::kafka::{KafkaLog, KafkaOptions};
use crate::rules::RuleSet;

/// Tries rules on what stands in Kafka, by the machines of production; commits nothing and joins no group.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  driftline replay --from 7d
  driftline replay --from 2026-03-01 --to 2026-03-08 --rules rules/new.yaml --compare rules/old.yaml
  driftline replay --offsets predictions:0=0..50000 --offsets predictions:1=0..50000")]
pub struct ReplayArgs {
    /// Event time from which on events count: RFC 3339, a date, or how long ago (`7d`); default: from the earliest.
    #[arg(long, value_name = "TIME", value_parser = time)]
    from: Option<Time>,
    /// Event time up to which events count, itself not in it; default: to what is the end now.
    #[arg(long, value_name = "TIME", value_parser = time)]
    to: Option<Time>,
    /// Read these offsets of this partition, `TOPIC:PARTITION=FROM..TO` (TO is not in it); may be given several times, and
    /// then no other partition is read.
    #[arg(long, value_name = "RANGE", value_parser = offsets)]
    offsets: Vec<(String, i32, i64, i64)>,
    /// Only this model; may be given several times. Default: every model.
    #[arg(long = "only", value_name = "MODEL")]
    only: Vec<String>,
    #[command(flatten)]
    what: WhatArgs,
    #[command(flatten)]
    output: OutputArgs,
}

fn offsets(text: &str) -> Result<(String, i32, i64, i64), String> {
    let parsed = || {
        let (place, range) = text.split_once('=')?;
        let (topic, partition) = place.rsplit_once(':')?;
        let (from, to) = range.split_once("..")?;
        let (from, to) = (from.parse().ok()?, to.parse().ok()?);
        Some((topic.to_string(), partition.parse().ok()?, from, to))
    };
    parsed()
        .filter(|(topic, partition, from, to)| !topic.is_empty() && *partition >= 0 && *from >= 0 && from < to)
        .ok_or_else(|| {
            format!("`{text}` is no range of offsets; write TOPIC:PARTITION=FROM..TO, such as `rides:0=100..2000`")
        })
}

pub fn run(args: &ReplayArgs) -> ExitCode {
    match tried(args).and_then(|tried| report::write(&tried, &args.output)) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => failure.exit(),
    }
}

fn tried(args: &ReplayArgs) -> Result<Tried, Failure> {
    let incidents = report::incidents(&args.output)?;
    // The service file says where Kafka is, whatever else is given.
    let loaded = load(&args.what, true)?;
    let old = if args.output.compare.is_empty() { None } else { Some(loaded.with_rules(&args.output.compare)?) };
    let all = loaded.model_names();
    if let Some(unknown) = args.only.iter().find(|name| !all.contains(name)) {
        return Err(Failure::usage(format!("no model `{unknown}`; the models are {}", all.join(", "))));
    }
    let chosen = if args.only.is_empty() { &all } else { &args.only };
    let names: Vec<&str> = chosen.iter().map(String::as_str).collect();
    let models = loaded.models_named(&names);
    let references = loaded.references(&names, &args.what)?;
    let range = range(args)?;
    let Some(service) = &loaded.service else { return Err(Failure::usage("no service file")) };
    let log = KafkaLog::new(KafkaOptions {
        bootstrap_servers: service.kafka.bootstrap_servers.clone(),
        client_id: format!("{}-replay", service.app),
        instance: None,
        properties: service.kafka.properties.clone(),
    })
    .map_err(|error| Failure::undecided(format!("kafka: {error}")))?;
    let run = |rules: &Arc<RuleSet>, keep_windows: bool, label: &str| -> Result<(Trail, stream::StreamRead), Failure> {
        let options = EngineOptions { keep_windows, now_ms: Some(now_ms()), ..EngineOptions::default() };
        let mut engine = Engine::new(&models, rules.clone(), &references, options).map_err(Failure::configuration)?;
        let bar = progress_bar(&format!("{label}{}", service.kafka.bootstrap_servers));
        let read = stream::read(&mut engine, &log, &models, &range, &mut |records, total| {
            bar.set_length(total);
            bar.set_position(records);
        });
        bar.finish_and_clear();
        let read = read.map_err(|error| of_stream(&error))?;
        Ok((engine.finish().map_err(Failure::configuration)?, read))
    };
    let (trail, read) = run(&loaded.rules, args.output.suggest, "")?;
    if trail.total_rows() == 0 {
        let reasons: Vec<String> = trail.rejected.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        return Err(Failure::undecided(format!(
            "none of {} records is an event of these models in this stretch{}",
            read.records,
            if reasons.is_empty() { String::new() } else { format!(" (unusable: {})", reasons.join(", ")) }
        )));
    }
    let old = match &old {
        Some(rules) => Some(run(rules, false, "compared: ")?.0),
        None => None,
    };
    let reads = models.iter().map(|model| {
        let rows = trail.rows.get(&model.model).copied().unwrap_or(0);
        (model.model.clone(), Read { rows, in_order: true, notes: Vec::new() })
    });
    Ok(Tried {
        incidents,
        reads: reads.collect(),
        trail,
        old,
        models,
        rules: loaded.rules,
        rule_files: loaded.rule_files,
    })
}

fn of_stream(error: &StreamError) -> Failure {
    match error {
        StreamError::NoTopic { .. } | StreamError::NoPartition { .. } => Failure::usage(error),
        _ => Failure::undecided(error),
    }
}

fn range(args: &ReplayArgs) -> Result<StreamRange, Failure> {
    let now_ms = now_ms();
    let at = |time: Option<Time>| time.map(|time| time.ms(now_ms));
    let (from_ms, to_ms) = (at(args.from), at(args.to));
    if from_ms.zip(to_ms).is_some_and(|(from_ms, to_ms)| from_ms >= to_ms) {
        return Err(Failure::usage("the stretch is empty: --from must be before --to"));
    }
    let mut offsets = BTreeMap::new();
    for (topic, partition, from, to) in &args.offsets {
        if offsets.insert(TopicPartition::new(topic, *partition), (*from, *to)).is_some() {
            return Err(Failure::usage(format!("{topic}:{partition} is given twice")));
        }
    }
    Ok(StreamRange { from_ms, to_ms, offsets })
}
