//! `driftline demo`: the whole service in one process, on the embedded log, with a drift to be found.
//!
//! Sample predictions flow, a drift sets in, windows close, and the alert arrives at a webhook receiver and in a
//! mail catcher of the demo's own. Nothing needs to be installed, and nothing leaves the machine.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use clap::Args;
use datafusion::arrow::array::{RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Schema};
use datafusion::arrow::error::ArrowError;
use serde_json::{Value, json};

use crate::config::model::Model;
use crate::config::receivers::TextOrSecret;
use crate::config::service::{Dispatch, Http, Ingest, Service, Smtp};
use crate::config::units::Span;
use crate::config::{parse_model_str, parse_rules_str};
use crate::dispatch::actions::target::Targets;
use crate::dispatch::catcher::MailCatcher;
use crate::dispatch::hook_catcher::HookCatcher;
use crate::dispatch::receiver::{Means, build_all};
use crate::event::Decoder;
use crate::log::embedded::EmbeddedLog;
use crate::log::topics::Topics;
use crate::log::{Log, OutRecord, Records, TopicSpec};
use crate::reference::{Reference, Source};
use crate::rules::RuleSet;
use crate::rules::explanation::Moved;
use crate::telemetry::Metrics;

use super::sample::Sampler;
use super::service::{Assembly, Roles, Running, now_ms};
use super::watched;

const MODEL: &str = include_str!("../../examples/demo/model.yaml");
const RULES: &str = include_str!("../../examples/demo/rules.yaml");
const TOPIC: &str = "predictions";
const LABELS_TOPIC: &str = "labels";
/// Labels come from this long after their prediction, up to twice as long.
const LABEL_DELAY: Duration = Duration::from_secs(2);
/// Of one prediction in this many no label ever comes.
const UNLABELLED_EVERY: u64 = 10;
const PARTITIONS: i32 = 4;
const REFERENCE_ROWS: usize = 20_000;
/// Batches a second that the generator appends.
const BATCHES_PER_SECOND: u64 = 20;
/// Records of each partition that the embedded log keeps: hours of demo within bounded memory.
const KEPT_RECORDS: usize = 50_000;

#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Exit 0 once the first alert has been received, and print how long that took
    #[arg(long)]
    until_first_alert: bool,
    /// Events per second
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u64).range(100..=200_000))]
    rate: u64,
    /// Seconds of healthy events before the drift sets in
    #[arg(long, default_value_t = 3)]
    drift_after: u64,
    /// Let labels come two to four seconds after their predictions, so that pages show how well the model does; with
    /// this, take a --rate of 1000 unless the build is optimised
    #[arg(long)]
    labels: bool,
    /// Where pages and metrics are served; port 0 picks a free one
    #[arg(long, default_value = "127.0.0.1:8080")]
    bind: String,
    /// Where e-mails and webhooks received are kept; default: a new directory for temporary files
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Give up after this many seconds without an alert
    #[arg(long, default_value_t = 60)]
    timeout: u64,
}

/// Prints what happens, when, and in which part.
#[derive(Clone, Copy)]
struct Narrator {
    started: Instant,
}

impl Narrator {
    fn say(self, part: &str, text: &str) {
        let mut out = std::io::stdout().lock();
        // A closed pipe ends the demo by its own means; nothing is lost by a line nobody reads.
        let _ = writeln!(out, "{:6.1} s  {part:<8} {text}", self.started.elapsed().as_secs_f64());
    }
}

pub fn run(args: &DemoArgs) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&format!("cannot start: {error}")),
    };
    match runtime.block_on(demo(args)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => failed(&message),
    }
}

fn failed(message: &str) -> ExitCode {
    eprintln!("error: {message}");
    ExitCode::FAILURE
}

/// What the demo is made of, besides the service itself.
struct Stage {
    narrator: Narrator,
    dir: PathBuf,
    mails: MailCatcher,
    hooks: HookCatcher,
    log: Arc<EmbeddedLog>,
    public_url: String,
}

async fn demo(args: &DemoArgs) -> Result<(), String> {
    let narrator = Narrator { started: Instant::now() };
    let dir = match &args.dir {
        Some(dir) => dir.clone(),
        None => std::env::temp_dir().join(format!("driftline-demo-{}", std::process::id())),
    };
    std::fs::create_dir_all(&dir).map_err(|error| format!("cannot create {}: {error}", dir.display()))?;
    println!("Driftline demo: a fraud model's predictions, a drift, and the alert about it. Ctrl-C ends it.\n");

    let listener = listen(&args.bind).await?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    let stage = Stage {
        narrator,
        mails: MailCatcher::start(0, Some(&dir)).await.map_err(|error| format!("mail catcher: {error}"))?,
        hooks: HookCatcher::start(0).await.map_err(|error| format!("webhook receiver: {error}"))?,
        log: Arc::new(EmbeddedLog::with_default_retention(KEPT_RECORDS)),
        public_url: format!("http://{address}"),
        dir,
    };
    let running = start_service(&stage, args.labels, listener).await?;
    let generator = start_generator(&stage, args, running.stop.clone())?;
    let stop = running.stop.clone();
    let outcome = tokio::select! {
        outcome = watch(&stage, &running, args) => outcome,
        _ = tokio::signal::ctrl_c() => { println!(); narrator.say("demo", "stopping"); Ok(()) }
        () = stop.cancelled() => Err("a part of the service stopped; see the log above".to_string()),
    };
    running.stop.cancel();
    let joined = tokio::task::spawn_blocking(move || {
        let _ = generator.join();
        running.join()
    });
    match joined.await {
        Ok(Err(reasons)) => Err(reasons.join("; ")),
        _ => outcome,
    }
}

async fn listen(bind: &str) -> Result<tokio::net::TcpListener, String> {
    match tokio::net::TcpListener::bind(bind).await {
        Ok(listener) => Ok(listener),
        // The demo must not fail because something else has the usual port.
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            tokio::net::TcpListener::bind("127.0.0.1:0").await.map_err(|error| format!("cannot serve pages: {error}"))
        }
        Err(error) => Err(format!("cannot serve pages on {bind}: {error}; choose another with --bind")),
    }
}

async fn start_service(stage: &Stage, labels: bool, listener: tokio::net::TcpListener) -> Result<Running, String> {
    let narrator = stage.narrator;
    let mut model = parse_model_str("examples/demo/model.yaml", MODEL).map_err(|errors| errors.text(false))?.value;
    let mut rules = parse_rules_str("examples/demo/rules.yaml", RULES).map_err(|errors| errors.text(false))?.value;
    for webhook in rules.receivers.values_mut().filter_map(|receiver| receiver.webhook.as_mut()) {
        webhook.url = TextOrSecret::Text(stage.hooks.url());
    }
    if !labels {
        model.performance = None;
    }
    let model = Arc::new(model);
    let service = Service {
        http: Http { public_url: Some(stage.public_url.clone()), ..Http::default() },
        smtp: Some(Smtp {
            url: stage.mails.url(),
            from: "driftline@example.com".into(),
            username: None,
            password: None,
        }),
        ingest: Ingest { flush_interval: Span::from_ms(200), ..Ingest::default() },
        dispatch: Dispatch { first_retry: Span::from_ms(200), ..Dispatch::default() },
        ..Service::default()
    };
    let log: Arc<dyn Log> = stage.log.clone();
    let receivers = build_all(&rules.receivers, Means { smtp: service.smtp.as_ref(), log: Some((&log, &service.app)) })
        .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))?;
    let set = RuleSet::compile(&[("examples/demo/rules.yaml".to_string(), rules)], std::slice::from_ref(&model))
        .map_err(|errors| errors.iter().map(|error| error.problem.message.clone()).collect::<Vec<_>>().join("; "))?;
    let reference = sample_reference(&model)?;
    narrator
        .say("setup", &format!("reference `training` built from {REFERENCE_ROWS} healthy events, id {}", reference.id));

    let spec = |name: &str| TopicSpec { name: name.into(), partitions: PARTITIONS, replication: 1, config: vec![] };
    let create = |specs: &[TopicSpec]| stage.log.create_topics(specs).map_err(|error| error.to_string());
    create(&[spec(TOPIC), spec(LABELS_TOPIC)])?;
    create(&Topics::new(&service.app).specs(1, 1))?;
    narrator.say("setup", &format!("embedded log with topic `{TOPIC}`, {PARTITIONS} partitions; no Kafka needed"));
    narrator.say("setup", &format!("pages on {0}/  metrics on {0}/metrics", stage.public_url));
    narrator.say("setup", &format!("e-mail to {}, kept in {}", stage.mails.url(), stage.dir.display()));
    narrator.say("setup", &format!("webhooks to {}", stage.hooks.url()));

    let models = vec![model.clone()];
    let rules = Arc::new(set);
    let assembly = Assembly {
        log: stage.log.clone(),
        roles: Roles::ALL,
        watched: watched::of(&models, &rules),
        metrics: Metrics::new().map_err(|error| error.to_string())?,
        references: BTreeMap::from([(model.model.clone(), Arc::new(reference))]),
        store: None,
        models,
        rules,
        receivers,
        targets: Targets::new(),
        service,
    };
    assembly.start(&tokio::runtime::Handle::current(), Some(listener))
}

/// A reference from healthy sample events, decoded as live ones are.
fn sample_reference(model: &Arc<Model>) -> Result<Reference, String> {
    let mut sampler = Sampler::new(1);
    let mut records = Records::default();
    let mut labels = Vec::with_capacity(REFERENCE_ROWS);
    for offset in 0..REFERENCE_ROWS {
        let (event, label) = sampler.labelled_event(0, false);
        records.push(TOPIC, 0, offset as i64, 0, None, Some(event.to_string().as_bytes()));
        labels.push(label);
    }
    let mut decoder = Decoder::new(std::slice::from_ref(model)).map_err(|error| error.to_string())?;
    let decoded = decoder.decode(&records, now_ms()).map_err(|error| error.to_string())?;
    let batches: Result<Vec<RecordBatch>, ArrowError> =
        decoded.batches.iter().map(|decoded| with_labels(&decoded.batch, &decoded.record_indices, &labels)).collect();
    let batches = batches.map_err(|error| error.to_string())?;
    let source = Source { file: "sample events".into(), ..Source::default() };
    Reference::build(model, "training", &batches, &BTreeMap::new(), source, now_ms()).map_err(|error| error.to_string())
}

/// The rows with a column `label`; `rows` says which label is whose.
fn with_labels(batch: &RecordBatch, rows: &[u32], labels: &[&str]) -> Result<RecordBatch, ArrowError> {
    let column: StringArray = rows.iter().map(|row| labels.get(*row as usize).copied()).collect();
    let mut fields: Vec<FieldRef> = batch.schema().fields().iter().cloned().collect();
    fields.push(Field::new("label", DataType::Utf8, true).into());
    let mut columns = batch.columns().to_vec();
    columns.push(Arc::new(column));
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
}

/// Labels that are on their way, in order of the time at which they arrive.
#[derive(Default)]
struct LabelsUnderWay {
    due: BTreeMap<(Instant, u64), OutRecord>,
}

impl LabelsUnderWay {
    /// A tenth never comes.
    fn add(&mut self, number: u64, event: &Value, label: &str) {
        if number.is_multiple_of(UNLABELLED_EVERY) {
            return;
        }
        // Spread over the whole delay, so that neighbours do not come together.
        let spread = LABEL_DELAY.mul_f64((number * 7_919 % 1_000) as f64 / 1_000.0);
        let record = json!({"prediction_id": event["id"], "label": label});
        let record = OutRecord {
            topic: LABELS_TOPIC.into(),
            partition: Some((number * 31 % PARTITIONS as u64) as i32),
            value: Some(record.to_string().into_bytes()),
            ..OutRecord::default()
        };
        self.due.insert((Instant::now() + LABEL_DELAY + spread, number), record);
    }

    fn arrived(&mut self) -> Vec<OutRecord> {
        let later = self.due.split_off(&(Instant::now(), 0));
        std::mem::replace(&mut self.due, later).into_values().collect()
    }
}

fn start_generator(
    stage: &Stage,
    args: &DemoArgs,
    stop: tokio_util::sync::CancellationToken,
) -> Result<std::thread::JoinHandle<()>, String> {
    let (log, narrator) = (stage.log.clone(), stage.narrator);
    let (rate, drift_after) = (args.rate, Duration::from_secs(args.drift_after));
    let with_labels = args.labels;
    let body = move || {
        let mut sampler = Sampler::new(2);
        let started = Instant::now();
        let (mut sent, mut drifting) = (0_u64, false);
        let mut labels = LabelsUnderWay::default();
        narrator.say("events", &format!("{rate} predictions a second flow into `{TOPIC}`, all healthy"));
        while !stop.is_cancelled() {
            if !drifting && started.elapsed() >= drift_after {
                drifting = true;
                let what = "amounts 60% higher (an upstream job stopped converting a currency), new category `crypto`";
                narrator.say("events", &format!("DRIFT injected: {what}"));
            }
            let due = (started.elapsed().as_secs_f64() * rate as f64) as u64;
            let mut batch: Vec<OutRecord> = (sent..due)
                .map(|number| {
                    let (event, label) = sampler.labelled_event(now_ms(), drifting);
                    if with_labels {
                        labels.add(number, &event, label);
                    }
                    OutRecord {
                        topic: TOPIC.into(),
                        partition: Some((number % PARTITIONS as u64) as i32),
                        value: Some(event.to_string().into_bytes()),
                        ..OutRecord::default()
                    }
                })
                .collect();
            batch.extend(labels.arrived());
            sent = due;
            if log.append(batch).is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(1000 / BATCHES_PER_SECOND));
        }
    };
    std::thread::Builder::new().name("events".into()).spawn(body).map_err(|error| error.to_string())
}

/// Tells what the service does as it does it, until the alert is there or for good.
async fn watch(stage: &Stage, running: &Running, args: &DemoArgs) -> Result<(), String> {
    let narrator = stage.narrator;
    let mut last_window = 0;
    let (mut mails_seen, mut hooks_seen) = (0, 0);
    loop {
        tokio::time::sleep(Duration::from_millis(50)).await;
        for line in new_windows(running, &mut last_window) {
            narrator.say("window", &line);
        }
        let hooks = stage.hooks.hooks();
        for hook in &hooks[hooks_seen..] {
            narrator.say("WEBHOOK", &format!("received, id {}: {}", hook.id, hook.notification.summary));
            for finding in &hook.notification.findings {
                narrator.say("", &format!("  {}", finding.reason));
                let moved = finding.moved.first().map(Moved::sentence);
                for sentence in moved.into_iter().chain(finding.explanation.sentences()) {
                    narrator.say("", &format!("    {sentence}"));
                }
            }
        }
        let mails = stage.mails.mails();
        for mail in &mails[mails_seen..] {
            narrator.say("E-MAIL", &format!("received: {}", mail.header("Subject").unwrap_or_default()));
            if let Some(path) = &mail.path {
                narrator.say("", &format!("  {}", path.display()));
            }
        }
        let complete_now = !mails.is_empty() && !hooks.is_empty();
        if complete_now && (mails_seen == 0 || hooks_seen == 0) {
            first_alert(stage, args);
            if args.until_first_alert {
                return Ok(());
            }
        }
        (mails_seen, hooks_seen) = (mails.len(), hooks.len());
        if !complete_now && narrator.started.elapsed() > Duration::from_secs(args.timeout) {
            return Err(format!("no alert was received within {} s", args.timeout));
        }
    }
}

fn first_alert(stage: &Stage, args: &DemoArgs) {
    let seconds = stage.narrator.started.elapsed().as_secs_f64();
    let after_drift = seconds - args.drift_after as f64;
    println!();
    stage.narrator.say(
        "demo",
        &format!(
            "first alert received {seconds:.1} s after the start, about {after_drift:.1} s after the drift set in"
        ),
    );
    println!(
        "\n  look at   {0}/                 the model, its worst features, the alert\n            {0}/metrics          what Prometheus scrapes\n            {1}   the e-mails\n  then      README.md, \"Point it at Kafka\"\n",
        stage.public_url,
        stage.dir.display(),
    );
}

/// A line for each window over all events that closed since the last call.
fn new_windows(running: &Running, last_start_ms: &mut i64) -> Vec<String> {
    let view = running.view.read().unwrap_or_else(PoisonError::into_inner);
    let mut lines = Vec::new();
    for (key, series) in view.series().filter(|(key, _)| key.segment.is_all()) {
        for (start_ms, result) in series.range(*last_start_ms + 1..) {
            let psi = |stats: &crate::stats::metric::FeatureStats| {
                stats.metrics.get("psi").and_then(|metric| metric.value).unwrap_or_default()
            };
            let worst = result.features.iter().max_by(|left, right| psi(left.1).total_cmp(&psi(right.1)));
            let worst = worst.map(|(name, stats)| format!("worst `{name}` PSI {:.3}", psi(stats))).unwrap_or_default();
            let time = super::sample::rfc3339(*start_ms);
            lines.push((
                *start_ms,
                format!("{} {}@{} closed: {} events, {worst}", &time[11..19], key.model, key.version, result.rows),
            ));
        }
    }
    lines.sort();
    if let Some((start_ms, _)) = lines.last() {
        *last_start_ms = *start_ms;
    }
    lines.into_iter().map(|(_, line)| line).collect()
}
