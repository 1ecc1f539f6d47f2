//! `driftline-scorer score`: scores of a file or a topic, by the engine and the transform that serve.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use indicatif::ProgressBar;
use tokio_util::sync::CancellationToken;

use crate::cli::backtest::progress_bar;
use crate::config::scorer::{ScorerConfig, load_scorer};
use crate::log::Log;
use crate::log::kafka::{KafkaLog, KafkaOptions};
use crate::scorer::batch::topic::{TopicCounts, TopicJob, run_topic};
use crate::scorer::batch::{FileOptions, RowScorer, run_file};
use crate::scorer::engine::{Engine, OnnxEngine};
use crate::scorer::events::layout_options;
use crate::scorer::registry::Registry;
use crate::scorer::registry::signing::Trust;
use crate::scorer::transform::backend::of_version;

/// What is scored with what.
#[derive(Debug, Args)]
pub struct ScoreArgs {
    /// Settings of the scorer: its registry, engine, Kafka, and what is special about the model.
    #[arg(long, short, value_name = "FILE", default_value = "scorer.yaml")]
    config: PathBuf,
    /// The model.
    #[arg(long)]
    model: String,
    /// Its version. Default: the one in production.
    #[arg(long)]
    version: Option<String>,
    /// Names of the columns of the model's input, comma separated, where it has no feature transform. Default:
    /// `events.features` of the model, else the inputs' own names.
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    features: Vec<String>,
    /// Before the names of the new columns.
    #[arg(long, default_value = "", value_name = "TEXT")]
    prefix: String,
    /// Score this topic instead of a file.
    #[arg(long, value_name = "TOPIC", requires = "to", conflicts_with_all = ["input", "output"])]
    topic: Option<String>,
    /// Topic of the scored rows.
    #[arg(long, value_name = "TOPIC", requires = "topic")]
    to: Option<String>,
    /// Topic of rows that cannot be scored. Default: that of the scored rows with `.dead-letter` after it.
    #[arg(long, value_name = "TOPIC", requires = "topic")]
    dead_letter: Option<String>,
    /// Consumer group: processes with the same share the topic. Default: `driftline-scorer-` and the model.
    #[arg(long, requires = "topic")]
    group: Option<String>,
    /// Unique and stable per process of a group.
    #[arg(long, default_value = "0", requires = "topic")]
    instance: String,
    /// Stop at the end of the topic.
    #[arg(long, requires = "topic")]
    until_end: bool,
    /// Rows: Parquet or JSONL.
    #[arg(required_unless_present = "topic", requires = "output")]
    input: Option<PathBuf>,
    /// Where the scored rows go, in the same kind of file.
    output: Option<PathBuf>,
}

pub fn run(args: &ScoreArgs) -> ExitCode {
    match score(args) {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

fn score(args: &ScoreArgs) -> Result<String, String> {
    let config = load_scorer(&args.config).map_err(|found| found.to_string())?.value;
    let mut scorer = open(args, &config)?;
    let version = scorer.version().to_string();
    let bar = progress_bar(&format!("{} {version}", args.model));
    let done = match (&args.topic, &args.input, &args.output) {
        (Some(from), ..) => of_topic(args, &config, from, &mut scorer, &bar),
        (None, Some(input), Some(output)) => {
            let progress = |done, total: Option<u64>| {
                bar.set_length(total.unwrap_or(done));
                bar.set_position(done);
            };
            let rows = run_file(&mut scorer, input, output, &FileOptions::default(), &progress);
            rows.map(|rows| format!("{rows} rows")).map_err(|error| error.to_string())
        }
        _ => Err("give an input and an output, or --topic and --to".into()),
    };
    bar.finish_and_clear();
    done.map(|done| format!("{done} scored by version {version} of {}", args.model))
}

/// The version, verified and loaded as `serve` does.
fn open(args: &ScoreArgs, config: &ScorerConfig) -> Result<RowScorer, String> {
    let base = args.config.parent().unwrap_or(Path::new("."));
    let trust = Trust::of(&config.signatures).map_err(|error| error.to_string())?;
    let registry = Registry::open(&base.join(&config.registry)).map_err(|error| error.to_string())?.with_trust(trust);
    let version = match &args.version {
        Some(version) => version.clone(),
        None => {
            let state = registry.state(&args.model).map_err(|error| error.to_string())?;
            let nothing =
                || format!("nothing is in production of {}: promote a version, or name one with --version", args.model);
            state.production.ok_or_else(nothing)?
        }
    };
    let verified = registry.open_version(&args.model, &version).map_err(|error| error.to_string())?;
    let settings = config.models.get(&args.model).cloned().unwrap_or_default();
    let transform = of_version(&verified, settings.transform.as_ref())?;
    let engine = OnnxEngine::open(&config.engine, base).map_err(|error| error.to_string())?;
    let loaded = engine.load(&verified.model).map_err(|error| error.to_string())?;
    let mut options = layout_options(config, &args.model, transform.as_ref().map(|transform| transform.id()));
    if !args.features.is_empty() {
        options.feature_names.clone_from(&args.features);
    }
    RowScorer::new(&*loaded, transform, (&args.model, &version), options, &args.prefix)
        .map_err(|error| error.to_string())
}

fn of_topic(
    args: &ScoreArgs,
    config: &ScorerConfig,
    from: &str,
    scorer: &mut RowScorer,
    bar: &ProgressBar,
) -> Result<String, String> {
    let to = args.to.clone().unwrap_or_default();
    let log: Arc<dyn Log> = Arc::new(
        KafkaLog::new(KafkaOptions {
            bootstrap_servers: config.kafka.bootstrap_servers.clone(),
            client_id: "driftline-scorer-score".into(),
            instance: None,
            properties: config.kafka.properties.clone(),
        })
        .map_err(|error| error.to_string())?,
    );
    let job = TopicJob {
        from: from.into(),
        dead_letter: args.dead_letter.clone().unwrap_or_else(|| format!("{to}.dead-letter")),
        to,
        group: args.group.clone().unwrap_or_else(|| format!("driftline-scorer-{}", args.model)),
        instance: args.instance.clone(),
        until_end: args.until_end,
    };
    let stop = CancellationToken::new();
    stop_on_signal(stop.clone())?;
    let progress = |counts: TopicCounts| bar.set_position(counts.scored + counts.dead_lettered);
    let counts = run_topic(&*log, scorer, &job, &stop, &progress).map_err(|error| error.to_string())?;
    Ok(format!("{} rows, {} to {};", counts.scored, counts.dead_lettered, job.dead_letter))
}

/// SIGTERM and Ctrl-C end it after the transaction at hand.
fn stop_on_signal(stop: CancellationToken) -> Result<(), String> {
    use tokio::signal::unix::{SignalKind, signal};
    let no_signals = |error: std::io::Error| format!("signals cannot be waited for: {error}");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(no_signals)?;
    let wait = move || {
        runtime.block_on(async move {
            let (Ok(mut terminate), Ok(mut interrupt)) =
                (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
            else {
                return;
            };
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            stop.cancel();
        });
    };
    std::thread::Builder::new().name("signals".into()).spawn(wait).map(drop).map_err(no_signals)
}
