//! `driftline deliveries test`.

use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;

use crate::cli::operate::{Common, Failure, Outcome as Done, connect, exit};
use crate::cli::service::now_ms;
use crate::config::nearest::suggest;
use crate::config::rules::Severity;
use crate::dispatch::receiver::{DeliveryContext, Means, Outcome, Telling, Transport, build};
use crate::dispatch::role::public_url;
use crate::rules::Workspace;
use crate::rules::episode::{EpisodeStatus, Finding, Notification};
use crate::rules::explanation::Explanation;
use crate::stats::metric::MetricValue;
use crate::windows::result::{Segment, Window};

const TIMEOUT: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Args)]
pub struct TestArgs {
    /// Name of the receiver, as in the rules files
    pub receiver: String,
    /// Tell the end of the sample, too, so that nothing stays open on the other side
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, value_name = "true|false")]
    pub resolve: bool,
}

pub fn run(args: &TestArgs, common: &Common) -> ExitCode {
    exit(test(args, common))
}

fn test(args: &TestArgs, common: &Common) -> Done {
    let workspace = Workspace::load(common.config.as_deref()).map_err(|errors| Failure::failed(errors.text(false)))?;
    let service = &workspace.service;
    let receivers = workspace.rules.receivers();
    let Some(receiver) = receivers.get(&args.receiver) else {
        let hint = suggest(&args.receiver, receivers.keys().map(String::as_str)).unwrap_or_default();
        return Err(Failure::failed(format!("no receiver `{}`; {hint}", args.receiver)));
    };
    let log = receiver.kafka.as_ref().map(|_| connect(service)).transpose()?;
    let means = Means { smtp: service.smtp.as_ref(), log: log.as_ref().map(|log| (log, service.app.as_str())) };
    let transport = build(&args.receiver, receiver, means).map_err(|error| Failure::failed(error.to_string()))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| Failure::undecided(format!("cannot start: {error}")))?;
    let public_url = public_url(service);
    let context = DeliveryContext { public_url, attempt: 1, telling: Telling::News };
    let mut answers = Vec::new();
    let sample = sample(now_ms());
    answers.push(("firing", attempt(&runtime, &*transport, &sample, &context)));
    if args.resolve && matches!(answers[0].1.0, Outcome::Delivered { .. }) {
        answers.push(("resolved", attempt(&runtime, &*transport, &resolved(&sample), &context)));
    }
    runtime.shutdown_background();
    report(&args.receiver, &answers, common.json())
}

fn attempt(
    runtime: &tokio::runtime::Runtime,
    transport: &dyn Transport,
    notification: &Notification,
    context: &DeliveryContext,
) -> (Outcome, Duration) {
    let started = Instant::now();
    let outcome =
        runtime.block_on(async { tokio::time::timeout(TIMEOUT, transport.deliver(notification, context)).await });
    let outcome = outcome.unwrap_or_else(|_| Outcome::retry(format!("no answer within {} s", TIMEOUT.as_secs())));
    (outcome, started.elapsed())
}

fn report(receiver: &str, answers: &[(&str, (Outcome, Duration))], json: bool) -> Done {
    let mut out = std::io::stdout().lock();
    let mut items = Vec::new();
    let mut failed = false;
    for (status, (outcome, took)) in answers {
        let (word, said) = match outcome {
            Outcome::Delivered { remark } => ("delivered", remark.clone()),
            Outcome::Retry { reason, .. } => ("retry", Some(reason.clone())),
            Outcome::Permanent { reason } => ("permanent", Some(reason.clone())),
        };
        failed |= word != "delivered";
        if json {
            items.push(
                json!({"status": status, "outcome": word, "message": said, "milliseconds": took.as_millis() as u64}),
            );
            continue;
        }
        let meaning = match word {
            "delivered" => "accepted".to_string(),
            "retry" => "not accepted; the service would try again".to_string(),
            _ => "refused; the service would give it up".to_string(),
        };
        let said = said.map_or_else(String::new, |said| format!(": {said}"));
        writeln!(out, "{receiver} ({status}): {meaning} after {} ms{said}", took.as_millis())?;
    }
    if json {
        writeln!(out, "{:#}", json!({"receiver": receiver, "attempts": items}))?;
    }
    if failed { Err(Failure::failed(format!("receiver `{receiver}` did not take the sample"))) } else { Ok(()) }
}

/// What is sent: it says of itself that it is none.
fn sample(now_ms: i64) -> Notification {
    let hour_ms = 3_600_000;
    let end_ms = now_ms - now_ms.rem_euclid(hour_ms);
    let window = Window { start_ms: end_ms - hour_ms, end_ms };
    let episode_id = format!("sample{:010x}", rand::random::<u64>() & 0xff_ffff_ffff);
    let finding = Finding {
        feature: Some("sample_feature".into()),
        segment: Segment::default(),
        severity: Severity::Warn,
        metric: "psi".into(),
        value: MetricValue::exact(0.3),
        condition: "psi > 0.25".into(),
        threshold: None,
        effect_psi: None,
        p_value: Some(1e-9),
        p_adjusted: Some(1e-8),
        inflation: None,
        n: 10_000,
        n_reference: 100_000,
        performance: None,
        moved: Vec::new(),
        explanation: Explanation::default(),
        reason: "`sample_feature`: PSI 0.30 against training. This is a test; nothing drifted".into(),
    };
    Notification {
        id: format!("{episode_id}-0"),
        episode_id,
        sequence: 0,
        status: EpisodeStatus::Firing,
        severity: Severity::Warn,
        rule: "delivery-test".into(),
        model: "sample".into(),
        version: "0".into(),
        segment: Segment::default(),
        feature: None,
        summary: "This is a test of the receiver by `driftline deliveries test`; nothing is wrong".into(),
        description: None,
        runbook: None,
        suppressed: None,
        findings: vec![finding],
        reference: "training".into(),
        reference_id: "0000000000000000".into(),
        first_window: window,
        window,
        windows_breached: 1,
        windows_considered: 1,
        rows: 10_000,
        at_ms: now_ms,
        receivers: Vec::new(),
        actions: Vec::new(),
    }
}

fn resolved(sample: &Notification) -> Notification {
    Notification {
        id: format!("{}-1", sample.episode_id),
        sequence: 1,
        status: EpisodeStatus::Resolved,
        summary: "The test of the receiver is over; nothing is wrong".into(),
        findings: Vec::new(),
        ..sample.clone()
    }
}
