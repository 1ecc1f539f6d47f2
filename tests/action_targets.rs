//! Each target of actions against a server that checks the documented request: method, path, headers, body; and what
//! each answer means for the run. After a wanted change of a request:
//! `DRIFTLINE_WRITE_GOLDEN=1 cargo test --test action_targets`, then read the difference.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod action_support;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use action_support::{Answer, Request, Service, action, going_ahead, secret};
use axum::http::Method;
use driftline::dispatch::actions::run::{External, RunRecord};
use driftline::dispatch::actions::target::{CallOutcome, Means, Progress, Target, build};
use driftline::dispatch::signature::SigningKey;
use driftline::log::embedded::EmbeddedLog;
use driftline::log::{ConsumerOptions, Log, StartOffset, TopicPartition, TopicSpec};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
/// What GitHub lists where no run of the workflow is new enough.
const NO_RUNS: &str = r#"{"total_count": 0, "workflow_runs": []}"#;
const NAME: &str = "driftline-21dbebbc54c3dc7e1f74797b3abd0145";

/// One kind of target, as a rules file has it; `{url}` and `{secret}` are filled in.
struct Kind {
    name: &'static str,
    yaml: &'static str,
    /// Statuses that mean success, with their bodies.
    accepts: &'static [(u16, &'static str)],
}

const KINDS: [Kind; 7] = [
    Kind {
        name: "webhook",
        yaml: "{webhook: {url: '{url}/retrain', secret: {secret}, allow_private: true}, cooldown: 72h}",
        accepts: &[(200, ""), (202, "queued"), (204, "")],
    },
    Kind {
        name: "airflow",
        yaml: "{airflow: {url: '{url}/airflow/', dag: retrain_fraud, token: {secret}, allow_private: true}, cooldown: 72h}",
        accepts: &[(200, r#"{"state": "queued"}"#), (201, "{}"), (409, r#"{"detail": "DAGRun already exists"}"#)],
    },
    Kind {
        name: "argo",
        yaml: "{argo: {url: '{url}', namespace: ml, template: retrain-fraud, token: {secret}, allow_private: true}, cooldown: 72h}",
        accepts: &[(200, r#"{"metadata": {"name": "x"}}"#), (409, r#"{"code": 6, "message": "already exists"}"#)],
    },
    Kind {
        name: "sagemaker",
        yaml: "{sagemaker: {region: eu-central-1, pipeline: retrain-fraud, access_key_id: {secret}, secret_access_key: {secret}, session_token: {secret}, url: '{url}', allow_private: true}, cooldown: 72h}",
        accepts: &[(
            200,
            r#"{"PipelineExecutionArn": "arn:aws:sagemaker:eu-central-1:1:pipeline/retrain-fraud/execution/x"}"#,
        )],
    },
    Kind {
        name: "github",
        yaml: "{github: {repository: acme/models, workflow: retrain.yml, ref: main, token: {secret}, url: '{url}', allow_private: true}, cooldown: 72h}",
        accepts: &[
            (
                200,
                r#"{"workflow_run_id": 123456, "run_url": "https://api.github.com/repos/acme/models/actions/runs/123456", "html_url": "https://github.com/acme/models/actions/runs/123456"}"#,
            ),
            (204, ""),
        ],
    },
    Kind {
        name: "kubernetes",
        yaml: "{kubernetes: {url: '{url}', namespace: ml, token: {secret}, allow_private: true, job: {backoffLimit: 2, template: {spec: {restartPolicy: Never, containers: [{name: train, image: 'registry.example.com/train:3'}]}}}}, cooldown: 72h}",
        accepts: &[(201, r#"{"kind": "Job"}"#), (409, r#"{"kind": "Status", "reason": "AlreadyExists", "code": 409}"#)],
    },
    Kind {
        name: "rollback",
        yaml: "{rollback: {scorer: '{url}', to: last_good, token: {secret}}, guard: {within: 72h of promotion}, cooldown: 6h}",
        accepts: &[(200, r#"{"production": "2", "previous": "3", "generation": 18}"#)],
    },
];

/// A target of this kind that calls `url`, a run for it, and the file of its secret.
fn target(kind: &Kind, url: &str) -> (Box<dyn Target>, RunRecord, NamedTempFile) {
    let (file, named) = secret(KEY);
    let action = action(&kind.yaml.replace("{url}", url).replace("{secret}", &named));
    let target = build("retrain-fraud", &action, Means::default()).map_err(|error| error.to_string()).unwrap();
    let mut run = going_ahead(&action);
    // The hash of the action has the test's port and file in it.
    if let Some(manifest) = &mut run.manifest {
        manifest.config_hash = "sha256:0".into();
    }
    (target, run, file)
}

fn kind(name: &str) -> &'static Kind {
    KINDS.iter().find(|kind| kind.name == name).unwrap()
}

/// What is the same at every call.
fn shown(request: &Request) -> Value {
    let mut headers: BTreeMap<String, String> =
        request.headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_string())).collect();
    for name in ["host", "user-agent", "content-length"] {
        headers.remove(name);
    }
    for (name, shown) in [("webhook-timestamp", "SECONDS"), ("webhook-signature", "v1,..."), ("x-amz-date", "DATE")] {
        headers.entry(name.into()).and_modify(|value| *value = shown.into());
    }
    for value in headers.values_mut() {
        *value = value.replace(KEY, "SECRET");
        if value.starts_with("AWS4") {
            *value = "AWS4-HMAC-SHA256 ...".into();
        }
    }
    json!({"method": request.method.as_str(), "path": request.path, "headers": headers, "body": request.json()})
}

fn compare(name: &str, value: &Value) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/action_{name}.json"));
    let actual = format!("{value:#}\n");
    if std::env::var_os("DRIFTLINE_WRITE_GOLDEN").is_some() {
        std::fs::write(&path, &actual).unwrap();
    }
    assert_eq!(actual, std::fs::read_to_string(&path).unwrap_or_default(), "{name}: expected on the right");
}

#[tokio::test]
async fn each_target_is_sent_the_documented_request_and_its_successes_are_known() {
    for kind in &KINDS {
        let service = Service::default();
        let (target, run, _secret) = target(kind, &service.start().await);
        for (status, body) in kind.accepts {
            if kind.name == "github" {
                service.answer(200, NO_RUNS);
            }
            service.answer(*status, body);
            let outcome = target.call(&run).await;
            let accepted = matches!(outcome, CallOutcome::Accepted { .. } | CallOutcome::Done { .. });
            assert!(accepted, "{} {status}: {outcome:?}", kind.name);
        }
        let calls = service.requests();
        let requests: Vec<Value> = calls.iter().filter(|call| call.method == Method::POST).map(shown).collect();
        assert_eq!(requests.len(), kind.accepts.len(), "{}", kind.name);
        assert!(
            requests.windows(2).all(|pair| pair[0] == pair[1]),
            "{}: a call differs from the one before",
            kind.name
        );
        compare(kind.name, &requests[0]);
    }
}

#[tokio::test]
async fn every_other_answer_says_whether_to_call_again() {
    for kind in &KINDS {
        let service = Service::default();
        let (target, run, _secret) = target(kind, &service.start().await);
        service.push(Answer { status: 429, headers: vec![("retry-after", "7".into())], ..Answer::default() });
        match target.call(&run).await {
            CallOutcome::Retry { after_ms: Some(7_000), .. } => {}
            other => panic!("{}: {other:?}", kind.name),
        }
        for status in [408, 500, 502, 503, 504] {
            service.answer(status, "upstream\nis tired");
            match target.call(&run).await {
                CallOutcome::Retry { reason, after_ms: None } => {
                    assert_eq!(reason, format!("http status {status}: upstream is tired"), "{}", kind.name);
                }
                other => panic!("{} {status}: {other:?}", kind.name),
            }
        }
        for status in [400, 401, 403, 404, 422] {
            service.answer(status, "no");
            match target.call(&run).await {
                CallOutcome::Permanent { reason } => assert!(reason.contains(&format!("status {status}: no"))),
                other => panic!("{} {status}: {other:?}", kind.name),
            }
        }
        let elsewhere = vec![("location", "http://127.0.0.1:1/elsewhere".to_string())];
        service.push(Answer { status: 307, headers: elsewhere, ..Answer::default() });
        assert!(matches!(target.call(&run).await, CallOutcome::Permanent { .. }), "{} follows a redirect", kind.name);
    }
}

#[tokio::test]
async fn an_api_that_hangs_or_is_away_is_called_again() {
    let hanging = KINDS.iter().map(|kind| async move {
        let service = Service::default();
        let (target, run, _secret) = target(kind, &service.start().await);
        service.push(Answer { status: 200, hangs: true, ..Answer::default() });
        let outcome = tokio::time::timeout(Duration::from_secs(40), target.call(&run)).await;
        assert!(matches!(outcome, Ok(CallOutcome::Retry { .. })), "{} hangs: {outcome:?}", kind.name);
    });
    futures::future::join_all(hanging).await;
    for kind in &KINDS {
        let (target, run, _secret) = target(kind, "http://127.0.0.1:1");
        let outcome = target.call(&run).await;
        assert!(matches!(outcome, CallOutcome::Retry { .. }), "{} is away: {outcome:?}", kind.name);
        assert!(!format!("{outcome:?}").contains(KEY), "{}: {outcome:?}", kind.name);
    }
}

#[tokio::test]
async fn private_addresses_need_leave_and_names_are_looked_at_when_connecting() {
    let service = Service::default();
    let url = service.start().await;
    for kind in KINDS.iter().filter(|kind| kind.name != "rollback") {
        let (_file, named) = secret(KEY);
        let without_leave =
            kind.yaml.replace("allow_private: true", "allow_private: false").replace("{secret}", &named);
        let mut literal = action(&kind.yaml.replace("{url}", &url).replace("{secret}", &named));
        let mut by_name = literal.clone();
        for (of, url) in [(&mut literal, url.clone()), (&mut by_name, url.replace("127.0.0.1", "localhost"))] {
            // As the file would be read; `check` refuses a private address that it can see.
            let text = without_leave.replace("{url}", "https://example.com");
            let mut yaml = serde_json::to_value(action(&text)).unwrap();
            let place = yaml.pointer_mut(&format!("/{}/url", kind.name)).unwrap();
            let path = place.as_str().unwrap().trim_start_matches("https://example.com").to_string();
            *place = json!(format!("{url}{path}"));
            *of = serde_json::from_value(yaml).unwrap();
        }
        let refused = build("it", &literal, Means::default()).err().expect("a literal address is refused").to_string();
        assert!(refused.contains("loopback") && refused.contains("allow_private"), "{}: {refused}", kind.name);
        let target = build("it", &by_name, Means::default()).map_err(|error| error.to_string()).unwrap();
        match target.call(&going_ahead(&by_name)).await {
            CallOutcome::Permanent { reason } => assert!(reason.contains("loopback"), "{}: {reason}", kind.name),
            other => panic!("{}: {other:?}", kind.name),
        }
    }
    assert_eq!(service.requests().len(), 0);
}

#[tokio::test]
async fn a_webhook_is_signed_over_the_bytes_that_are_sent() {
    let service = Service::default();
    let (target, run, _secret) = target(kind("webhook"), &service.start().await);
    service.answer(200, "");
    target.call(&run).await;
    let request = service.last();
    let timestamp_s: i64 = request.header("webhook-timestamp").parse().unwrap();
    let (id, signature) = (request.header("webhook-id"), request.header("webhook-signature"));
    assert_eq!(id, run.name());
    assert!(SigningKey::parse(KEY).unwrap().verifies(signature, id, timestamp_s, &request.body));
}

#[tokio::test]
async fn the_manifest_that_is_sent_is_the_published_one() {
    let schema: Value = serde_json::from_str(include_str!("../schemas/retraining-manifest.schema.json")).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let service = Service::default();
    let (target, run, _secret) = target(kind("webhook"), &service.start().await);
    service.answer(200, "");
    target.call(&run).await;
    let sent = service.last().json()["data"].clone();
    let errors: Vec<String> = validator.iter_errors(&sent).map(|error| error.to_string()).collect();
    assert_eq!(errors, Vec::<String>::new());
    assert!(!validator.is_valid(&json!({"version": 1})), "the schema takes anything");
}

/// Signature Version 4 as AWS documents it, from what the server has seen.
fn signature_v4(
    request: &Request,
    secret_key: &str,
    date: &str,
    region: &str,
    service: &str,
    signed_headers: &[&str],
) -> String {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let hmac = |key: &[u8], text: &str| {
        let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
        mac.update(text.as_bytes());
        mac.finalize().into_bytes().to_vec()
    };
    let headers: String =
        signed_headers.iter().map(|name| format!("{name}:{}\n", request.header(name).trim())).collect();
    let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
    let canonical = format!(
        "{}\n{path}\n{query}\n{headers}\n{}\n{}",
        request.method,
        signed_headers.join(";"),
        hex(&Sha256::digest(&request.body))
    );
    let day = &date[..8];
    let scope = format!("{day}/{region}/{service}/aws4_request");
    let to_sign = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", hex(&Sha256::digest(canonical.as_bytes())));
    let key = hmac(&hmac(&hmac(&hmac(format!("AWS4{secret_key}").as_bytes(), day), region), service), "aws4_request");
    hex(&hmac(&key, &to_sign))
}

#[test]
fn the_tests_own_signature_is_that_of_awss_published_example() {
    // `post-vanilla` of AWS's Signature Version 4 test suite.
    let headers = [("host", "example.amazonaws.com"), ("x-amz-date", "20150830T123600Z")];
    let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
    let request = Request {
        method: axum::http::Method::POST,
        path: "/".into(),
        headers: headers.collect(),
        body: axum::body::Bytes::new(),
    };
    let (secret, date) = ("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "20150830T123600Z");
    let signature = signature_v4(&request, secret, date, "us-east-1", "service", &["host", "x-amz-date"]);
    assert_eq!(signature, "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b");
}

#[tokio::test]
async fn sagemaker_gets_a_signature_that_can_be_computed_again() {
    let service = Service::default();
    let (target, run, _secret) = target(kind("sagemaker"), &service.start().await);
    service.answer(200, kind("sagemaker").accepts[0].1);
    target.call(&run).await;
    let request = service.last();
    let authorization = request.header("authorization").to_string();
    let part = |name: &str| {
        let (_, rest) = authorization.split_once(&format!("{name}=")).unwrap();
        rest.split(',').next().unwrap().trim().to_string()
    };
    let date = request.header("x-amz-date").to_string();
    assert_eq!(part("Credential"), format!("{KEY}/{}/eu-central-1/sagemaker/aws4_request", &date[..8]));
    let signed = part("SignedHeaders");
    let signed: Vec<&str> = signed.split(';').collect();
    for required in ["host", "x-amz-date", "x-amz-target", "x-amz-security-token", "content-type"] {
        assert!(signed.contains(&required), "{required} is not signed: {signed:?}");
    }
    assert_eq!(part("Signature"), signature_v4(&request, KEY, &date, "eu-central-1", "sagemaker", &signed));
    let token = request.json()["ClientRequestToken"].as_str().unwrap().to_string();
    assert!((32..=128).contains(&token.len()), "{token}");
    for parameter in request.json()["PipelineParameters"].as_array().unwrap() {
        assert!(parameter["Value"].as_str().unwrap().len() <= 1_024);
    }
}

#[tokio::test]
async fn aws_throttles_with_status_400() {
    let service = Service::default();
    let (target, run, _secret) = target(kind("sagemaker"), &service.start().await);
    service
        .answer(400, r#"{"__type": "com.amazon.coral.availability#ThrottlingException", "message": "Rate exceeded"}"#);
    assert!(matches!(target.call(&run).await, CallOutcome::Retry { .. }));
    service.answer(400, r#"{"__type": "ValidationException", "message": "no such parameter"}"#);
    assert!(matches!(target.call(&run).await, CallOutcome::Permanent { .. }));
}

#[tokio::test]
async fn githubs_rate_limits_come_as_403() {
    let service = Service::default();
    let (target, run, _secret) = target(kind("github"), &service.start().await);
    let limited = |headers: Vec<(&'static str, String)>| Answer { status: 403, headers, ..Answer::default() };
    service.push(limited(vec![("retry-after", "60".into())]));
    assert!(matches!(target.call(&run).await, CallOutcome::Retry { after_ms: Some(60_000), .. }));
    let reset_s = chrono::Utc::now().timestamp() + 120;
    service.push(limited(vec![("x-ratelimit-remaining", "0".into()), ("x-ratelimit-reset", reset_s.to_string())]));
    match target.call(&run).await {
        CallOutcome::Retry { after_ms: Some(after_ms), .. } => assert!((110_000..=120_000).contains(&after_ms)),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_workflow_that_runs_already_by_its_name_is_not_started_again() {
    let service = Service::default();
    let (target, run, _secret) = target(kind("github"), &service.start().await);
    let listed = |title: &str| {
        let run = json!({"id": 7, "display_title": title, "html_url": "https://github.com/acme/models/actions/runs/7"});
        json!({"total_count": 1, "workflow_runs": [run]}).to_string()
    };
    service.answer(200, &listed(&run.name()));
    let external = External { id: Some("7".into()), url: Some("https://github.com/acme/models/actions/runs/7".into()) };
    assert_eq!(target.call(&run).await, CallOutcome::Accepted { external });
    let looked = service.last();
    assert_eq!((looked.method.as_str(), service.requests().len()), ("GET", 1));
    // The run went ahead at 12:00:06; clocks may differ by an hour.
    assert_eq!(
        looked.path,
        "/repos/acme/models/actions/workflows/retrain.yml/runs?event=workflow_dispatch&created=%3E%3D2026-03-01T11%3A00%3A06Z&per_page=100"
    );
    // Somebody else's run is not taken for it.
    service.answer(200, &listed("driftline-0"));
    service.answer(204, "");
    assert!(matches!(target.call(&run).await, CallOutcome::Accepted { external } if external.id.is_none()));
    assert_eq!(service.last().method, Method::POST);
    // Where it cannot be seen whether it runs, it is not started.
    let before = service.requests().len();
    for body in ["not json", "{}"] {
        service.answer(200, body);
        assert!(matches!(target.call(&run).await, CallOutcome::Retry { .. }), "{body}");
    }
    assert_eq!(service.requests().len(), before + 2);
}

#[tokio::test]
async fn a_conflict_about_a_quota_is_not_a_job_that_is_there() {
    let service = Service::default();
    let (target, run, _secret) = target(kind("kubernetes"), &service.start().await);
    service.answer(409, r#"{"kind": "Status", "reason": "Conflict", "message": "resourcequotas changed"}"#);
    assert!(matches!(target.call(&run).await, CallOutcome::Retry { .. }));
}

#[tokio::test]
async fn a_scorer_that_has_changed_meanwhile_is_left_as_it_is() {
    let service = Service::default();
    let (target, run, _secret) = target(kind("rollback"), &service.start().await);
    service.answer(409, r#"{"production": "4", "generation": 18}"#);
    match target.call(&run).await {
        CallOutcome::Permanent { reason } => assert!(reason.contains("nothing was rolled back"), "{reason}"),
        other => panic!("{other:?}"),
    }
    service
        .answer(200, r#"{"production": "3", "previous": "2", "canary": null, "generation": 17, "promoted_at_ms": 5}"#);
    let registry = target.registry(&run).await.unwrap();
    assert_eq!(
        (registry.production.as_deref(), registry.generation, registry.promoted_at_ms),
        (Some("3"), 17, Some(5))
    );
    assert_eq!((service.last().method.as_str(), service.last().path.as_str()), ("GET", "/admin/v1/models/fraud"));
    service.answer(200, r#"{"production": "3"}"#);
    assert!(target.registry(&run).await.unwrap_err().contains("generation"));
    service.answer(503, "");
    assert_eq!(target.registry(&run).await, Err("http status 503".into()));
}

#[tokio::test]
async fn how_an_accepted_run_goes_is_read_as_each_api_says_it() {
    type Is = fn(&Progress) -> bool;
    type Says = (&'static str, Is);
    let (running, succeeded, failed): (Is, Is, Is) = (
        |progress| *progress == Progress::Running,
        |progress| matches!(progress, Progress::Succeeded { .. }),
        |progress| matches!(progress, Progress::Failed { .. }),
    );
    let cases: [(&str, String, Vec<Says>); 5] = [
        (
            "airflow",
            "GET /airflow/api/v2/dags/retrain_fraud/dagRuns/{name}".into(),
            vec![
                (r#"{"state": "queued"}"#, running),
                (r#"{"state": "running"}"#, running),
                (r#"{"state": "success"}"#, succeeded),
                (r#"{"state": "failed"}"#, failed),
            ],
        ),
        (
            "argo",
            "GET /api/v1/workflows/ml/{name}?fields=status.phase%2Cstatus.message".into(),
            vec![
                ("{}", running),
                (r#"{"status": {"phase": "Running"}}"#, running),
                (r#"{"status": {"phase": "Succeeded"}}"#, succeeded),
                (r#"{"status": {"phase": "Error", "message": "no pod"}}"#, failed),
            ],
        ),
        (
            "sagemaker",
            "POST /".into(),
            vec![
                (r#"{"PipelineExecutionStatus": "Executing"}"#, running),
                (r#"{"PipelineExecutionStatus": "Stopping"}"#, running),
                (r#"{"PipelineExecutionStatus": "Succeeded"}"#, succeeded),
                (r#"{"PipelineExecutionStatus": "Stopped"}"#, failed),
                (r#"{"PipelineExecutionStatus": "Failed", "FailureReason": "no quota"}"#, failed),
            ],
        ),
        (
            "github",
            "GET /repos/acme/models/actions/runs/77".into(),
            vec![
                (r#"{"status": "in_progress", "conclusion": null}"#, running),
                (r#"{"status": "completed", "conclusion": "success"}"#, succeeded),
                (r#"{"status": "completed", "conclusion": "cancelled"}"#, failed),
            ],
        ),
        (
            "kubernetes",
            "GET /apis/batch/v1/namespaces/ml/jobs/{name}".into(),
            vec![
                (r#"{"status": {}}"#, running),
                (r#"{"status": {"conditions": [{"type": "Complete", "status": "False"}]}}"#, running),
                (
                    r#"{"status": {"conditions": [{"type": "SuccessCriteriaMet", "status": "True"}, {"type": "Complete", "status": "True"}]}}"#,
                    succeeded,
                ),
                (
                    r#"{"status": {"conditions": [{"type": "Failed", "status": "True", "message": "too often"}]}}"#,
                    failed,
                ),
            ],
        ),
    ];
    for (name, asked, answers) in cases {
        let service = Service::default();
        let (target, mut run, _secret) = target(kind(name), &service.start().await);
        run.external = Some(External { id: Some(if name == "github" { "77".into() } else { run.name() }), url: None });
        for (body, is_right) in answers {
            service.answer(200, body);
            let progress = target.progress(&run).await;
            assert!(is_right(&progress), "{name} {body}: {progress:?}");
        }
        let last = service.last();
        assert_eq!(format!("{} {}", last.method, last.path), asked.replace("{name}", &run.name()), "{name}");
        for status in [401, 404, 500] {
            service.answer(status, "?");
            let progress = target.progress(&run).await;
            assert!(matches!(progress, Progress::Unknown { .. }), "{name} {status}: {progress:?}");
        }
        service.answer(200, "not json");
        let progress = target.progress(&run).await;
        assert!(!matches!(progress, Progress::Succeeded { .. } | Progress::Failed { .. }), "{name}: {progress:?}");
    }
}

#[tokio::test]
async fn a_token_that_is_replaced_in_its_file_is_used_at_the_next_call() {
    let service = Service::default();
    let (target, run, file) = target(kind("airflow"), &service.start().await);
    for token in ["first", "second"] {
        std::fs::write(file.path(), token).unwrap();
        service.answer(200, "{}");
        target.call(&run).await;
        assert_eq!(service.last().header("authorization"), format!("Bearer {token}"));
    }
}

#[test]
fn an_action_without_its_secret_says_which() {
    let action =
        action("{airflow: {url: 'https://a.example.com', dag: d, token: {env: DRIFTLINE_NO_SUCH}}, cooldown: 1h}");
    let error = build("retrain", &action, Means::default()).err().unwrap().to_string();
    assert_eq!(error, "action `retrain`: environment variable `DRIFTLINE_NO_SUCH` is not set");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_gets_a_cloud_event_keyed_by_model() {
    let log: Arc<dyn Log> = Arc::new(EmbeddedLog::new());
    let action = action("{kafka: {topic: ml.retraining}, cooldown: 72h}");
    let own = action_support::action("{kafka: {topic: driftline.control}, cooldown: 72h}");
    let means = Means { log: Some((&log, "driftline")) };
    assert!(build("it", &own, means).err().unwrap().to_string().contains("Driftline's own"));
    let target = build("retrain-fraud", &action, means).map_err(|error| error.to_string()).unwrap();
    let run = going_ahead(&action);
    match target.call(&run).await {
        CallOutcome::Retry { reason, .. } => assert_eq!(reason, "topic `ml.retraining` does not exist; create it"),
        other => panic!("{other:?}"),
    }
    let spec = TopicSpec { name: "ml.retraining".into(), partitions: 1, replication: 1, config: vec![] };
    log.create_topics(&[spec]).unwrap();
    assert!(matches!(target.call(&run).await, CallOutcome::Accepted { .. }));
    let options = ConsumerOptions { group: None, topics: vec![], start: StartOffset::Earliest, read_committed: true };
    let mut consumer = log.consumer(options).unwrap();
    consumer.assign(&[(TopicPartition::new("ml.retraining", 0), None)]).unwrap();
    let polled = consumer.poll(10, Duration::from_secs(5)).unwrap();
    let record = polled.records.iter().next().unwrap();
    assert_eq!(record.key, Some(&b"fraud"[..]));
    let mut event: Value = serde_json::from_slice(record.value.unwrap()).unwrap();
    for required in ["specversion", "id", "source", "type"] {
        assert!(event[required].as_str().is_some_and(|value| !value.is_empty()), "{required}: {event:#}");
    }
    event["data"]["config_hash"] = json!("sha256:0");
    compare("kafka", &event);
}

#[test]
fn the_name_of_the_sample_run_never_changes() {
    let (_, named) = secret(KEY);
    let run =
        going_ahead(&action(&kind("webhook").yaml.replace("{url}", "http://127.0.0.1:1").replace("{secret}", &named)));
    assert_eq!(run.name(), NAME);
}
