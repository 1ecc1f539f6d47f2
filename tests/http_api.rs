//! What can be changed over HTTP and by whom, and whether the OpenAPI document says what the routes do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod http_sample;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use driftline::config::service::Role;
use driftline::dispatch::control::{Command, ControlRecord};
use driftline::http::openapi::{self, OPERATIONS};
use driftline::http::server::{AppState, Configured};
use driftline::http::write::{ReloadRequest, Reloaded};
use driftline::log::read_to_end;
use http_sample::runs::{ASKING, BLOCKED, FAILED, UNDER_WAY};
use http_sample::{Answer, EPISODE, access, ask, get, start, state, view};
use serde_json::{Value, json};

const JSON: (&str, &str) = ("content-type", "application/json");
const OPERATOR: &str = "operator-operator-operator";
const READER: &str = "reader-reader-reader-reader";
const ADMIN: &str = "admin-admin-admin-admin-admin";

fn parsed(answer: &Answer) -> Value {
    serde_json::from_str(&answer.body).unwrap_or_else(|error| panic!("{error}: {}", answer.body))
}

fn post(address: SocketAddr, path: &str, body: &Value) -> Answer {
    ask(address, "POST", path, &[JSON], &body.to_string())
}

/// What stands in the control topic.
fn commands(state: &AppState) -> Vec<ControlRecord> {
    let operations = state.operations.clone().unwrap();
    let mut found = Vec::new();
    read_to_end(&*operations.log, &operations.topics.control, 0, |_, value| {
        found.push(serde_json::from_slice(value.unwrap()).unwrap());
    })
    .unwrap();
    found
}

fn problem(answer: &Answer, status: u16, says: &str) {
    assert_eq!(answer.status, status, "{}", answer.body);
    assert!(answer.head.contains("application/problem+json"), "{}", answer.head);
    let document = parsed(answer);
    assert_eq!(document["status"], status);
    assert!(document["detail"].as_str().unwrap().contains(says), "`{says}` is not in {document}");
}

fn guarded() -> AppState {
    let tokens = [("ana", Role::Operate, OPERATOR), ("grafana", Role::Read, READER), ("ci", Role::Admin, ADMIN)];
    let state = state(view());
    let watched = driftline::http::metrics::Watched::default();
    let configured = Configured { access: access(&tokens), watched, series_budget: 1_000 };
    AppState { configured: configured.shared(), ..state }
}

#[test]
fn an_alert_is_acknowledged_and_the_page_and_the_api_say_so() {
    let state = state(view());
    let address = start(state.clone());
    let path = format!("/api/v1/episodes/{EPISODE}/acknowledge");
    let answer = post(address, &path, &json!({"owner": "ana", "for": "4h", "note": "looking at the feed"}));
    assert_eq!(answer.status, 201, "{}", answer.body);
    let detail = parsed(&get(address, &format!("/api/v1/episodes/{EPISODE}")));
    assert_eq!(detail["acknowledged"]["owner"], "ana", "{detail}");
    let page = get(address, &format!("/alerts/{EPISODE}")).body;
    assert!(page.contains("<b>ana</b> works on it") && page.contains("looking at the feed"), "{page}");
    let written = commands(&state);
    assert!(
        matches!(&written[0].command, Command::Acknowledge { episode_id, until_ms: Some(_), .. } if episode_id == EPISODE)
    );
    assert_eq!(ask(address, "DELETE", &path, &[], "").status, 200);
    assert!(parsed(&get(address, &format!("/api/v1/episodes/{EPISODE}"))).get("acknowledged").is_none());
    problem(&ask(address, "DELETE", &path, &[], ""), 404, "nobody has acknowledged");
    assert_eq!(commands(&state).len(), 2);
}

#[test]
fn a_form_acknowledges_without_script() {
    let state = state(view());
    let address = start(state.clone());
    let path = format!("/alerts/{EPISODE}/acknowledge");
    let form = get(address, &path).body;
    assert!(form.contains("<form") && form.contains("method=\"post\"") && form.contains("name=\"owner\""), "{form}");
    assert!(!form.contains("http-equiv=\"refresh\""), "what is being written must not be lost");
    let content_type = ("content-type", "application/x-www-form-urlencoded");
    let browser = ("sec-fetch-site", "same-origin");
    let body = "owner=Ana+L%C3%B3pez&for=4h&note=";
    let answer = ask(address, "POST", &path, &[content_type, browser], body);
    assert_eq!(answer.status, 303, "{}", answer.body);
    assert!(answer.head.contains(&format!("location: /alerts/{EPISODE}")), "{}", answer.head);
    assert!(get(address, &format!("/alerts/{EPISODE}")).body.contains("<b>Ana López</b> works on it"));
    let answer = ask(address, "POST", &format!("/alerts/{EPISODE}/unacknowledge"), &[content_type, browser], "");
    assert_eq!(answer.status, 303, "{}", answer.body);
    let refused = ask(address, "POST", &path, &[content_type, browser], "owner=ana&for=forever");
    assert!(refused.status == 422 && refused.body.contains("is not a duration"), "{}", refused.body);
    let elsewhere = ask(address, "POST", &path, &[content_type, ("sec-fetch-site", "cross-site")], body);
    problem(&elsewhere, 403, "another site");
    assert_eq!(commands(&state).len(), 2, "what was refused was not written");
}

#[test]
fn silences_come_and_go() {
    let state = state(view());
    let address = start(state.clone());
    let silence =
        json!({"match": {"model": "fraud@*", "severity": "critical"}, "for": "2h", "reason": "backfill", "by": "ana"});
    let answer = post(address, "/api/v1/silences", &silence);
    assert_eq!(answer.status, 201, "{}", answer.body);
    let id = parsed(&answer)["id"].as_str().unwrap().to_string();
    let listed = parsed(&get(address, "/api/v1/silences"));
    assert_eq!(
        (listed["items"][0]["id"].as_str(), listed["items"][0]["holds"].as_bool()),
        (Some(id.as_str()), Some(true))
    );
    assert!(get(address, &format!("/alerts/{EPISODE}")).body.contains("silenced"));
    let one = format!("/api/v1/silences/{id}");
    assert_eq!(ask(address, "DELETE", &one, &[], "").status, 200);
    problem(&ask(address, "DELETE", &one, &[], ""), 409, "has ended already");
    problem(&ask(address, "DELETE", "/api/v1/silences/nope", &[], ""), 404, "/api/v1/silences lists them");
    assert_eq!(parsed(&get(address, "/api/v1/silences"))["items"], json!([]));
    assert_eq!(parsed(&get(address, "/api/v1/silences?state=all"))["items"].as_array().unwrap().len(), 1);
    problem(&get(address, "/api/v1/silences?state=old"), 400, "`active` or `all`");
}

#[test]
fn a_wrong_request_says_what_would_be_right() {
    let state = state(view());
    let address = start(state.clone());
    let silences = "/api/v1/silences";
    problem(&post(address, silences, &json!({"for": "1h", "reason": "x"})), 422, "every alert");
    problem(&post(address, silences, &json!({"match": {"model": "m"}, "reason": "x"})), 422, "needs an end");
    problem(&post(address, silences, &json!({"match": {"model": "m"}, "for": "1h"})), 422, "the reason is empty");
    let both = json!({"match": {"model": "m"}, "for": "1h", "until": "2030-01-01T00:00:00Z", "reason": "x"});
    problem(&post(address, silences, &both), 422, "not both");
    problem(&post(address, silences, &json!({"mtach": {}})), 422, "unknown field `mtach`");
    problem(
        &post(address, silences, &json!({"match": {"model": "m"}, "for": "1 hour", "reason": "x"})),
        422,
        "is not a duration",
    );
    problem(&ask(address, "POST", silences, &[JSON], "{"), 400, "JSON");
    problem(&ask(address, "POST", silences, &[], "{}"), 415, "application/json");
    problem(&ask(address, "POST", silences, &[JSON], &"x".repeat(100_000)), 413, "");
    problem(&ask(address, "PUT", silences, &[JSON], "{}"), 405, "does not take PUT");
    problem(&post(address, "/api/v1/episodes/nope/acknowledge", &json!({})), 404, "/api/v1/episodes lists them");
    problem(&post(address, "/api/v1/episodes/0a77d1c2/acknowledge", &json!({})), 409, "has ended");
    problem(&post(address, "/api/v1/deliveries/nope-0/retry", &json!({})), 404, "`nope-0`");
    assert_eq!(commands(&state), Vec::new(), "what was refused was not written");
}

#[test]
fn a_token_lets_each_do_what_its_role_says() {
    let state = guarded();
    let address = start(state.clone());
    let bearer = |token: &str| format!("Bearer {token}");
    let with = |method: &str, path: &str, authorization: &str, body: &str| {
        ask(address, method, path, &[JSON, ("authorization", authorization)], body)
    };
    for path in ["/", "/metrics", "/api/v1/models", "/api/v1/nothing", &format!("/alerts/{EPISODE}")] {
        let refused = get(address, path);
        problem(&refused, 401, "a token is needed");
        assert!(refused.head.contains("www-authenticate: basic"), "{}", refused.head);
        assert_ne!(with("GET", path, &bearer(READER), "").status, 401, "{path}");
    }
    let basic = format!("Basic {}", STANDARD.encode(format!("me:{READER}")));
    assert_eq!(with("GET", "/", &basic, "").status, 200, "as a browser sends it");
    for path in ["/-/healthy", "/-/ready", "/style.css", "/favicon.svg"] {
        assert_eq!(get(address, path).status, 200, "{path} is for everybody");
    }
    problem(&with("GET", "/", "Bearer wrong-wrong-wrong-wrong", ""), 401, "not known");
    let acknowledge = format!("/api/v1/episodes/{EPISODE}/acknowledge");
    problem(&with("POST", &acknowledge, &bearer(READER), "{}"), 403, "needs the role `operate`");
    assert_eq!(with("POST", &acknowledge, &bearer(OPERATOR), r#"{"owner": "ben"}"#).status, 201);
    assert_eq!(commands(&state)[0].by, "ana", "the token says who it was");
    problem(&with("POST", "/-/reload", &bearer(OPERATOR), ""), 403, "needs the role `admin`");
    problem(&with("POST", "/-/reload", &bearer(ADMIN), ""), 409, "no configuration");
    let page = with("GET", &format!("/alerts/{EPISODE}"), &bearer(READER), "").body;
    assert!(!page.contains("<form"), "who may only read is offered no form");
}

#[test]
fn another_site_and_another_name_of_this_machine_change_nothing() {
    let state = state(view());
    let address = start(state.clone());
    let path = format!("/api/v1/episodes/{EPISODE}/acknowledge");
    for headers in [
        [JSON, ("sec-fetch-site", "cross-site")],
        [JSON, ("origin", "https://evil.example")],
        [JSON, ("host", "rebound.evil.example")],
    ] {
        let answer = ask(address, "POST", &path, &headers, "{}");
        assert_eq!(answer.status, 403, "{headers:?}: {}", answer.body);
    }
    assert_eq!(commands(&state), Vec::new());
}

#[test]
fn a_reload_is_asked_for_and_its_outcome_answered() {
    let (sender, mut requests) = tokio::sync::mpsc::channel::<ReloadRequest>(1);
    let address = start(AppState { reload: Some(sender), ..state(view()) });
    let process = std::thread::spawn(move || {
        let answers =
            [Ok(Reloaded { models: 2, rules: 3, receivers: 1, warnings: 0 }), Err("rules.yaml:3:5: no".into())];
        for outcome in answers {
            requests.blocking_recv().unwrap().answer.send(outcome).unwrap();
        }
    });
    let answer = ask(address, "POST", "/-/reload", &[], "");
    assert_eq!((answer.status, parsed(&answer)["rules"].as_u64()), (200, Some(3)));
    problem(&ask(address, "POST", "/-/reload", &[], ""), 422, "rules.yaml:3:5");
    process.join().unwrap();
    problem(&ask(address, "POST", "/-/reload", &[], ""), 503, "stopping");
}

/// A path with what stands in the sample.
fn filled(path: &str, silence: &str) -> String {
    path.replace("{episode_id}", EPISODE)
        .replace("{notification_id}", &format!("{EPISODE}-0"))
        .replace("{silence_id}", silence)
        .replace("{run}/approve", &format!("{ASKING}/approve"))
        .replace("{run}/deny", &format!("{BLOCKED}/deny"))
        .replace("{run}/report", &format!("{UNDER_WAY}/report"))
        .replace("{run}", FAILED)
}

#[test]
fn the_openapi_document_says_what_the_routes_do() {
    let document = openapi::document();
    let (sender, mut requests) = tokio::sync::mpsc::channel::<ReloadRequest>(1);
    let state = AppState { reload: Some(sender), ..state(view()) };
    let address = start(state);
    std::thread::spawn(move || {
        let answer = requests.blocking_recv().unwrap().answer;
        answer.send(Ok(Reloaded { models: 1, rules: 1, receivers: 1, warnings: 0 })).unwrap();
    });
    let silence = json!({"match": {"model": "other"}, "for": "1h", "reason": "x"});
    let id = parsed(&post(address, "/api/v1/silences", &silence))["id"].as_str().unwrap().to_string();
    for operation in &OPERATIONS {
        let described = &document["paths"][operation.path][operation.method];
        assert!(described.is_object(), "{} {}", operation.method, operation.path);
        let query = if operation.path.ends_with("windows") || operation.path.ends_with("performance") {
            "?model=fraud"
        } else {
            ""
        };
        let path = format!("{}{query}", filled(operation.path, &id));
        let body = match operation.path {
            "/api/v1/silences" if operation.method == "post" => silence.to_string(),
            path if path.ends_with("/deny") => json!({"reason": "a holiday"}).to_string(),
            path if path.ends_with("/report") => json!({"succeeded": true}).to_string(),
            path if path.ends_with("/retry") => json!({"receiver": "oncall"}).to_string(),
            _ => "{}".into(),
        };
        let answer = ask(address, &operation.method.to_uppercase(), &path, &[JSON], &body);
        assert_eq!(answer.status, operation.status, "{} {path}: {}", operation.method, answer.body);
        let schema = &described["responses"][operation.status.to_string()]["content"]["application/json"]["schema"];
        let mut whole = schema.as_object().cloned().unwrap_or_default();
        whole.insert("components".into(), document["components"].clone());
        let validator = jsonschema::validator_for(&Value::Object(whole)).unwrap();
        let errors: Vec<String> = validator
            .iter_errors(&parsed(&answer))
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert_eq!(errors, Vec::<String>::new(), "{} {path}", operation.method);
    }
    let served = parsed(&get(address, "/api/v1/openapi.json"));
    assert_eq!(served, document);
    let ids: Vec<&str> =
        operations_of(&document).iter().map(|(_, _, one)| one["operationId"].as_str().unwrap()).collect();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "ids are unique: {ids:?}");
}

fn operations_of(document: &Value) -> Vec<(&String, &String, &Value)> {
    let paths = document["paths"].as_object().unwrap().iter();
    paths
        .flat_map(|(path, methods)| methods.as_object().unwrap().iter().map(move |(method, one)| (path, method, one)))
        .collect()
}

/// Every route under `/api` that `server` has.
#[test]
fn no_route_is_missing_in_the_openapi_document() {
    let server = include_str!("../src/http/server.rs");
    let routes = server.split(".route(\"").skip(1).map(|rest| rest.split_once("\", ").unwrap());
    let mut missing = Vec::new();
    for (path, handlers) in routes.filter(|(path, _)| path.starts_with("/api/")) {
        let handlers = handlers.split("\n").next().unwrap();
        for method in ["get", "post", "delete", "put", "patch"] {
            let has = handlers.contains(&format!("{method}("));
            let described = OPERATIONS.iter().any(|one| one.path == path && one.method == method);
            if has != described {
                missing.push(format!("{method} {path}: route {has}, described {described}"));
            }
        }
    }
    assert_eq!(missing, Vec::<String>::new());
}

#[test]
fn a_process_whose_log_is_away_says_so() {
    let state = state(view());
    let mut operations = state.operations.clone().unwrap();
    let log = driftline::log::embedded::EmbeddedLog::new();
    log.kill();
    operations.log = Arc::new(log);
    let address = start(AppState { operations: Some(operations), ..state });
    let path = format!("/api/v1/episodes/{EPISODE}/acknowledge");
    problem(&post(address, &path, &json!({})), 503, "Kafka did not take it");
    assert!(parsed(&get(address, &format!("/api/v1/episodes/{EPISODE}"))).get("acknowledged").is_none());
}

#[test]
fn a_run_is_approved_denied_and_reported_only_where_that_means_something() {
    let state = state(view());
    let address = start(state.clone());
    let problem = |path: String, body: &Value, status: u16, word: &str| {
        let answer = post(address, &path, body);
        assert_eq!(answer.status, status, "{path}: {}", answer.body);
        let detail = parsed(&answer)["detail"].as_str().unwrap().to_string();
        assert!(detail.contains(word), "{path}: {detail}");
    };
    let run = |run: &str, what: &str| format!("/api/v1/actions/{run}/{what}");
    problem(run(BLOCKED, "approve"), &json!({}), 409, "awaits confirmation");
    problem(run(FAILED, "deny"), &json!({"reason": "x"}), 409, "has not gone ahead");
    problem(run(BLOCKED, "report"), &json!({"succeeded": true}), 409, "is under way");
    problem(run("none", "approve"), &json!({}), 404, "`none`");
    problem(run(BLOCKED, "deny"), &json!({"why": "x"}), 422, "unknown field");
    problem(run(BLOCKED, "deny"), &json!({"reason": " "}), 422, "reason");
    assert_eq!(commands(&state), []);
    assert_eq!(post(address, &run(ASKING, "approve"), &json!({})).status, 202);
    assert_eq!(post(address, &run(BLOCKED, "deny"), &json!({"reason": "a holiday"})).status, 202);
    let report = json!({"succeeded": false, "message": "no data"});
    assert_eq!(post(address, &run(UNDER_WAY, "report"), &report).status, 202);
    let given: Vec<Command> = commands(&state).into_iter().map(|record| record.command).collect();
    let expected = [
        Command::Approve { run: ASKING.into() },
        Command::Deny { run: BLOCKED.into(), reason: "a holiday".into() },
        Command::Report { run: UNDER_WAY.into(), succeeded: false, message: "no data".into() },
    ];
    assert_eq!(given, expected);
}
