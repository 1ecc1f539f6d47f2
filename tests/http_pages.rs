//! What people and programs get from the HTTP server, through a real socket.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod http_sample;

use driftline::http::follow::FollowHandle;
use driftline::http::view::{Limits, View};
use driftline::rules::episode::EpisodeStatus;
use http_sample::runs::{BLOCKED, FAILED, ROLLED_BACK};
use http_sample::{EPISODE, HOUR_MS, get, notification, start, state, view, window};
use serde_json::Value;

fn json(body: &str) -> Value {
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {body}"))
}

#[test]
fn the_home_page_shows_models_worst_features_and_alerts() {
    let address = start(state(view()));
    let page = get(address, "/");
    assert_eq!(page.status, 200);
    let body = &page.body;
    assert!(body.contains("href=\"/models/fraud\""), "{body}");
    assert!(body.contains(&format!("href=\"/alerts/{EPISODE}\"")), "{body}");
    assert!(body.contains("2 alerts are firing"), "{body}");
    let row = |feature: &str| body.find(&format!("title=\"{feature}\"")).unwrap();
    assert!(row("amount") < row("items"), "the drifted feature stands above a calm one");
    assert!(body.contains("class=\"q4\" title=\"amount, 2026-03-03 11:00 to 12:00: PSI 0.670"), "{body}");
    assert!(body.contains("class=\"gap\""), "a window that never closed is a gap");
    assert!(body.contains("incomplete"), "a muted window is marked");
    assert!(body.contains("pricing") && body.contains("No window has closed yet"), "a silent model says what to do");
    assert!(body.contains("Worst segment"), "{body}");
}

#[test]
fn an_empty_service_says_what_to_do_next() {
    let mut empty = state(View::new(Limits::default()));
    empty.configured = Default::default();
    let address = start(empty);
    let body = get(address, "/").body;
    assert!(body.contains("No model is configured") && body.contains("driftline reference build"), "{body}");
    assert!(body.contains("No rule has fired"), "{body}");
}

#[test]
fn an_alert_page_says_what_since_when_how_sure_and_who_was_told() {
    let address = start(state(view()));
    let page = get(address, &format!("/alerts/{EPISODE}"));
    assert_eq!(page.status, 200);
    for expected in [
        "firing · critical",
        "<code>amount</code>: PSI 0.41 against training, 2 of 2 windows",
        "2026-03-03 08:00",
        "2 of 2 windows",
        "&lt; 1e-6",
        "<svg",
        "being retried",
        "connection refused",
        "/api/v1/episodes/5f0c6a1be2d94c07",
    ] {
        assert!(page.body.contains(expected), "`{expected}` is not in {}", page.body);
    }
    let resolved = get(address, "/alerts/0a77d1c2").body;
    assert!(resolved.contains("resolved") && resolved.contains("<code>country</code>: PSI 0.13"), "{resolved}");
}

#[test]
fn a_model_page_shows_each_feature_and_segment() {
    let address = start(state(view()));
    let page = get(address, "/models/fraud?version=3&window=1h");
    assert_eq!(page.status, 200);
    for expected in [
        "Segments in the last window",
        "country=BR",
        "<details",
        "<svg",
        "p of PSI",
        "version=2",
        "adwin(delta=0.01)",
        "offset 48211",
    ] {
        assert!(page.body.contains(expected), "`{expected}` is not in {}", page.body);
    }
    assert_eq!(get(address, "/models/pricing").status, 200, "configured, though without a window");
    assert_eq!(get(address, "/models/nobody").status, 404);
}

#[test]
fn a_model_page_shows_what_is_wrong_with_the_data_worst_first() {
    let address = start(state(view()));
    let body = get(address, "/models/fraud?version=3&window=1h").body;
    let (_, quality) = body.split_once("Data quality in the last window").unwrap();
    let quality = quality.split("Features in the last window").next().unwrap();
    for expected in [
        "<code>wrong_type</code> 1\u{202f}204",
        "<code>coupon</code>",
        "Vanished features",
        "3.4% ± 0.4%",
        "one value only",
        "Wrong type",
        "10.2%",
    ] {
        assert!(quality.contains(expected), "`{expected}` is not in {quality}");
    }
    let table = quality.split_once("<tbody>").unwrap().1;
    let row = |feature: &str| table.find(&format!("<code>{feature}</code>")).unwrap_or_else(|| panic!("{table}"));
    assert!(row("device") < row("amount") && row("velocity_24h") < row("amount") && row("amount") < row("items"));
    assert!(!table.contains("<code>account_age_days</code>"), "a feature in order is not listed: {table}");
    let calm = get(address, "/models/fraud?version=2&window=1h").body;
    assert!(calm.contains("Rejected events"), "{calm}");
}

#[test]
fn names_from_outside_cannot_become_markup() {
    const EVIL: &str = "\"><script>alert(1)</script><p class='";
    let mut view = View::new(Limits::default());
    let mut result = window("fraud", EVIL, 0, HOUR_MS);
    let (_, mut stats) = result.features.pop_first().unwrap();
    for bin in &mut stats.bins {
        bin.label = EVIL.into();
    }
    result.features.insert(EVIL.into(), stats);
    result.reference = EVIL.into();
    view.apply_result(result.clone());
    result.segment.column = EVIL.into();
    result.segment.value = EVIL.into();
    view.apply_result(result);
    let mut alert = notification("evil", 0, EpisodeStatus::Firing, 0);
    for text in [&mut alert.rule, &mut alert.version, &mut alert.summary, &mut alert.reference, &mut alert.reference_id]
    {
        *text = EVIL.into();
    }
    alert.receivers = vec![EVIL.into()];
    alert.findings[0].feature = Some(EVIL.into());
    alert.findings[0].reason = format!("`{EVIL}` {EVIL}");
    alert.findings[0].condition = EVIL.into();
    alert.findings[0].moved[0].label = EVIL.into();
    view.apply_notification(alert);
    let address = start(state(view));
    for path in ["/", "/models/fraud", "/alerts/evil", "/models/%3Cscript%3E"] {
        let body = get(address, path).body;
        assert!(!body.contains("<script"), "{path}: {body}");
        assert!(path.starts_with("/models/%") || body.contains("&lt;script&gt;"), "{path}: {body}");
    }
}

#[test]
fn every_answer_forbids_scripts_and_sniffing() {
    let address = start(state(view()));
    for path in ["/", "/nowhere", "/api/v1/models", "/style.css", "/metrics"] {
        let head = get(address, path).head;
        assert!(head.contains("content-security-policy: default-src 'none'; style-src 'self'"), "{path}: {head}");
        assert!(head.contains("x-content-type-options: nosniff"), "{path}: {head}");
    }
    for path in ["/", "/models/fraud", &format!("/alerts/{EPISODE}")] {
        let body = get(address, path).body;
        assert!(!body.contains(" style="), "{path}: the policy forbids inline styles");
    }
}

#[test]
fn a_page_that_is_not_there_yet_is_503_and_one_that_never_was_is_404() {
    let mut reading = state(View::new(Limits::default()));
    reading.follow = FollowHandle::default();
    let address = start(reading);
    let page = get(address, "/alerts/some");
    assert_eq!(page.status, 503);
    assert!(
        page.body.contains("Still reading the log") && page.body.contains("http-equiv=\"refresh\""),
        "{}",
        page.body
    );
    let address = start(state(view()));
    assert_eq!(get(address, "/alerts/some").status, 404);
    assert_eq!(get(address, "/nowhere").status, 404);
}

#[test]
fn health_and_readiness_answer_with_reasons() {
    let state = state(view());
    let readiness = state.readiness.clone();
    let address = start(state);
    assert_eq!((get(address, "/-/healthy").status, get(address, "/-/ready").status), (200, 200));
    readiness.wait_for("kafka", "no broker can be reached");
    let answer = get(address, "/-/ready");
    assert_eq!((answer.status, answer.body.as_str()), (503, "kafka: no broker can be reached\n"));
    assert_eq!(get(address, "/-/healthy").status, 200, "a process that waits for Kafka is not to be restarted");
}

#[test]
fn the_api_lists_models_windows_and_episodes() {
    let address = start(state(view()));
    let models = json(&get(address, "/api/v1/models").body);
    let names: Vec<&str> =
        models["items"].as_array().unwrap().iter().map(|item| item["model"].as_str().unwrap()).collect();
    assert_eq!(names, ["churn", "fraud", "pricing"]);
    assert_eq!(models["items"][1]["firing"], 2);
    let windows = json(&get(address, "/api/v1/windows?model=fraud&version=3&limit=2").body);
    let starts: Vec<i64> =
        windows["items"].as_array().unwrap().iter().map(|item| item["window"]["start_ms"].as_i64().unwrap()).collect();
    assert_eq!(starts, [http_sample::FIRST_MS + 29 * HOUR_MS, http_sample::FIRST_MS + 28 * HOUR_MS]);
    let segment = json(&get(address, "/api/v1/windows?model=fraud&segment=country%3DBR&limit=1").body);
    assert_eq!(segment["items"][0]["segment"]["value"], "BR");
    let firing = json(&get(address, "/api/v1/episodes?status=firing").body);
    assert_eq!(firing["items"].as_array().unwrap().len(), 2);
    let detail = json(&get(address, &format!("/api/v1/episodes/{EPISODE}")).body);
    assert_eq!(detail["notifications"][1]["deliveries"][0]["status"], "retrying");
}

#[test]
fn a_cursor_walks_the_whole_list_once() {
    let address = start(state(view()));
    let (mut cursor, mut seen) = (String::new(), Vec::new());
    loop {
        let page = json(&get(address, &format!("/api/v1/windows?model=fraud&limit=7{cursor}")).body);
        seen.extend(page["items"].as_array().unwrap().iter().map(|item| item["window"]["start_ms"].as_i64().unwrap()));
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    let versions = 29 + 7; // version 3 with one gap, version 2
    assert_eq!(seen.len(), versions);
    assert!(seen.windows(2).all(|pair| pair[0] >= pair[1]), "newest first: {seen:?}");
}

#[test]
fn errors_of_the_api_are_problem_documents() {
    let address = start(state(view()));
    for (path, status, word) in [
        ("/api/v1/windows", 400, "`model` is required"),
        ("/api/v1/windows?model=nobody", 404, "nobody"),
        ("/api/v1/windows?model=fraud&limit=0", 400, "from 1 to 500"),
        ("/api/v1/windows?model=fraud&cursor=xyz", 400, "next_cursor"),
        ("/api/v1/windows?model=fraud&model=churn", 400, "duplicate"),
        ("/api/v1/episodes?status=open", 400, "`firing` or `resolved`"),
        ("/api/v1/episodes/none", 404, "`none`"),
        ("/api/v1/nothing", 404, "/api/v1/openapi.json"),
    ] {
        let answer = get(address, path);
        assert_eq!(answer.status, status, "{path}");
        assert!(answer.head.contains("content-type: application/problem+json"), "{path}: {}", answer.head);
        let problem = json(&answer.body);
        assert_eq!(problem["status"], status, "{path}");
        assert!(problem["detail"].as_str().unwrap().contains(word), "{path}: {problem}");
    }
}

#[test]
fn requests_are_counted_by_route_not_by_path() {
    let address = start(state(view()));
    get(address, "/alerts/one");
    get(address, "/alerts/two");
    get(address, "/wp-login.php");
    let text = get(address, "/metrics").body;
    assert!(text.contains(r#"driftline_http_requests_total{route="/alerts",status="404"} 2"#), "{text}");
    assert!(text.contains(r#"driftline_http_requests_total{route="other",status="404"} 1"#), "{text}");
}

#[test]
fn a_model_page_shows_what_labels_say_beside_what_was_expected() {
    let address = start(state(view()));
    let body = get(address, "/models/fraud?version=3&window=1h").body;
    let (_, section) = body.split_once("<h2>Performance</h2>").unwrap();
    let section = section.split("Drift by window").next().unwrap();
    for expected in [
        "<b>ROC AUC</b>",
        "realised <b>",
        "estimate <b>",
        "baseline 0.786",
        "class=\"realised-band\"",
        "class=\"estimate-band\"",
        "class=\"baseline\"",
        "class=\"coverage final\"",
        "class=\"open\"",
        "Past estimates were off by",
        "within the band",
        "Confusion matrix",
        "Predicted positive",
        "Versions, in their last window with enough labels",
        "country=BR",
        "p of calibration shift",
        "version=2",
        "Gaps between groups",
    ] {
        assert!(section.contains(expected), "`{expected}` is not in {section}");
    }
    let features = body.split_once("Features in the last window").unwrap().1;
    assert!(!features.contains("_performance"), "performance is no feature");
    let other = get(address, "/models/churn").body;
    assert!(!other.contains("<h2>Performance</h2>"), "{other}");
}

#[test]
fn an_alert_on_performance_shows_the_estimate_and_the_realised_figure() {
    let address = start(state(view()));
    let body = get(address, &format!("/alerts/{}", http_sample::PERFORMANCE_EPISODE)).body;
    for expected in [
        "estimated before labels: 0.727",
        "the labels confirm it",
        "class=\"realised-band\"",
        "class=\"estimate-band\"",
        "not final",
        "r=\"4\"",
        "-0.0680 (-0.0850 to -0.0510)",
        "confirmed by labels",
        "61.5% of 10\u{202f}400",
    ] {
        assert!(body.contains(expected), "`{expected}` is not in {body}");
    }
}

#[test]
fn the_api_lists_windows_of_performance_apart() {
    let address = start(state(view()));
    let items = |path: &str| json(&get(address, path).body)["items"].as_array().unwrap().clone();
    let performance = items("/api/v1/performance?model=fraud&version=3&limit=3");
    assert_eq!(performance.len(), 3);
    for item in &performance {
        assert!(item["performance"]["label_coverage"].is_number(), "{item}");
        assert!(item["features"]["_performance"]["metrics"]["est_roc_auc"]["interval"].is_array(), "{item}");
    }
    assert_eq!(items("/api/v1/performance?model=fraud&segment=country%3DBR&limit=1")[0]["segment"]["value"], "BR");
    for item in items("/api/v1/windows?model=fraud&limit=500") {
        assert!(item.get("performance").is_none(), "{item}");
    }
    assert_eq!(get(address, "/api/v1/performance?model=fraud&reference=trailing").status, 400);
}

#[test]
fn the_page_of_actions_lists_runs_with_their_states_and_reasons() {
    let address = start(state(view()));
    let page = get(address, "/actions");
    assert_eq!(page.status, 200);
    for expected in [
        "Under way",
        "blocked",
        "new_rows is 31204, wanted &gt;= 50000",
        "succeeded",
        "2 is in production, not 3",
        "the DAG run failed",
    ] {
        assert!(page.body.contains(expected), "`{expected}` is not in {}", page.body);
    }
    let empty = get(start(state(View::new(Limits::default()))), "/actions").body;
    assert!(empty.contains("Nothing has been asked for") && empty.contains("actions: [NAME]"), "{empty}");
}

#[test]
fn a_runs_page_says_what_holds_it_back_and_what_it_was_given() {
    let address = start(state(view()));
    let blocked = get(address, &format!("/actions/{BLOCKED}")).body;
    for expected in ["What holds it back", "label_coverage", "64.2%", "&gt;= 80%", &format!("/alerts/{EPISODE}")] {
        assert!(blocked.contains(expected), "`{expected}` is not in {blocked}");
    }
    let failed = get(address, &format!("/actions/{FAILED}")).body;
    for expected in [
        "href=\"https://airflow.example.com/dags/retrain_fraud/runs/driftline-9e8d\"",
        "approved by ada",
        "Data to train on",
        "48211",
        "earliest",
        "/manifest",
        "<dt>Helped</dt><dd>no</dd>",
    ] {
        assert!(failed.contains(expected), "`{expected}` is not in {failed}");
    }
    let rolled_back = get(address, &format!("/actions/{ROLLED_BACK}")).body;
    assert!(rolled_back.contains("3, generation 17") && !rolled_back.contains("Data to train on"), "{rolled_back}");
    assert_eq!(get(address, "/actions/none").status, 404);
}

#[test]
fn an_alerts_page_shows_what_it_asked_to_have_done() {
    let body = get(start(state(view())), &format!("/alerts/{EPISODE}")).body;
    for expected in [format!("/actions/{BLOCKED}"), format!("/actions/{ROLLED_BACK}")] {
        assert!(body.contains(&expected), "`{expected}` is not in {body}");
    }
    assert!(!body.contains(FAILED) || !body.contains(&format!("/actions/{FAILED}")), "that is another alert's");
}

#[test]
fn the_api_lists_runs_by_state_page_by_page() {
    let address = start(state(view()));
    let all = json(&get(address, "/api/v1/actions").body);
    let states: Vec<&str> = all["items"].as_array().unwrap().iter().map(|run| run["state"].as_str().unwrap()).collect();
    assert_eq!(
        states,
        ["succeeded", "blocked", "failed", "awaiting_confirmation", "accepted"],
        "the newest change first"
    );
    let first = json(&get(address, "/api/v1/actions?limit=2").body);
    let cursor = first["next_cursor"].as_str().unwrap();
    let second = json(&get(address, &format!("/api/v1/actions?limit=2&cursor={cursor}")).body);
    assert_eq!((second["items"].as_array().unwrap().len(), second["items"][0]["run"].as_str()), (2, Some(FAILED)));
    let blocked = json(&get(address, "/api/v1/actions?state=blocked&model=fraud&action=retrain-fraud").body);
    assert_eq!(blocked["items"][0]["unmet"][0]["guard"], "new_rows");
    let detail = json(&get(address, &format!("/api/v1/actions/{FAILED}")).body);
    assert_eq!(
        (detail["history"][1]["state"].as_str(), detail["attempts"].as_u64()),
        (Some("awaiting_confirmation"), Some(2))
    );
    let manifest = json(&get(address, &format!("/api/v1/actions/{FAILED}/manifest")).body);
    assert_eq!(manifest["data"]["offsets"][1]["until_offset"], 48_007);
    for (path, status, detail) in [
        ("/api/v1/actions?state=open", 400, "awaiting_confirmation"),
        ("/api/v1/actions?cursor=x", 400, "next_cursor"),
        ("/api/v1/actions/none", 404, "`none`"),
        (&format!("/api/v1/actions/{ROLLED_BACK}/manifest"), 404, "trains nothing"),
    ] {
        let answer = get(address, path);
        let problem = json(&answer.body);
        assert_eq!((answer.status, problem["status"].as_u64()), (status, Some(u64::from(status))), "{path}");
        assert!(problem["detail"].as_str().unwrap().contains(detail), "{path}: {problem}");
    }
}
