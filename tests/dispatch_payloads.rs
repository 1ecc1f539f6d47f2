//! What each receiver is sent, as golden files, and the limits that its service documents. After a wanted change:
//! `DRIFTLINE_WRITE_GOLDEN=1 cargo test --test dispatch_payloads`, then read the difference.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod dispatch_support;

use std::collections::BTreeMap;
use std::path::PathBuf;

use dispatch_support::finding;
use dispatch_support::samples::{
    context, digest, documented, fallback, firing, health, heartbeat, hostile, late, resolved, silent, unreachable,
};
use driftline::config::receivers::PagerDutySeverities;
use driftline::dispatch::body_template::BodyTemplate;
use driftline::dispatch::receiver::{DeliveryContext, Telling};
use driftline::dispatch::webhook::{DigestPayload, WebhookPayload};
use driftline::dispatch::{alertmanager, kafka, pagerduty, slack, teams};
use driftline::rules::episode::Notification;
use serde_json::Value;

const URL: &str = "https://drift.example.com/alerts/9f2c41";

fn news() -> DeliveryContext {
    context(Telling::News)
}

fn compare(receiver: &str, name: &str, payload: &Value) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{receiver}_{name}.json"));
    let actual = format!("{payload:#}\n");
    if std::env::var_os("DRIFTLINE_WRITE_GOLDEN").is_some() {
        std::fs::write(&path, &actual).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(actual, golden, "{receiver}_{name}: expected on the right");
}

fn compare_all(receiver: &str, payload: impl Fn(&Notification) -> Value) {
    for (name, notification) in
        [("firing", firing()), ("resolved", resolved()), ("no_data", silent()), ("hostile", hostile())]
    {
        compare(receiver, name, &payload(&notification));
    }
}

/// The longest that names from events, findings and sentences get, in characters of several bytes that all need
/// escaping somewhere.
fn huge() -> Notification {
    let long = "\u{20ac}<&>\"\\".repeat(2_000);
    let mut huge = hostile();
    huge.rule = long.clone();
    huge.model = long.clone();
    huge.version = long.clone();
    huge.summary = long.clone();
    huge.reference = long.clone();
    huge.segment.value = long.clone();
    huge.findings = (0..300)
        .map(|place| {
            let mut finding = finding(&format!("{place}{long}"), "psi", f64::from(place));
            finding.reason = long.clone();
            finding.condition = long.clone();
            finding
        })
        .collect();
    huge
}

/// Every text in a payload, with the key it stands under.
fn texts<'a>(value: &'a Value, key: &'a str, found: &mut Vec<(&'a str, &'a str)>) {
    match value {
        Value::String(text) => found.push((key, text)),
        Value::Array(items) => items.iter().for_each(|item| texts(item, key, found)),
        Value::Object(object) => object.iter().for_each(|(key, value)| texts(value, key, found)),
        _ => {}
    }
}

#[test]
fn slack_is_sent_block_kit() {
    compare_all("slack", |notification| slack::payload(notification, &news()));
}

#[test]
fn slack_texts_keep_to_block_kits_limits() {
    let payload = slack::payload(&huge(), &news());
    let blocks = payload["blocks"].as_array().unwrap();
    assert!(blocks.len() <= 50, "{} blocks", blocks.len());
    let length = |value: &Value| value.as_str().unwrap().chars().count();
    let mut total = 0;
    for block in blocks {
        let fields = block["fields"].as_array().cloned().unwrap_or_default();
        assert!(fields.len() <= 10, "{} fields", fields.len());
        for field in &fields {
            assert!(length(&field["text"]) <= 2_000, "a field of {}", length(&field["text"]));
            total += length(&field["text"]);
        }
        for element in block["elements"].as_array().into_iter().flatten() {
            total += length(&element["text"]);
        }
        let most = if block["type"] == "header" { 150 } else { 3_000 };
        if let Some(text) = block["text"]["text"].as_str() {
            assert!(text.chars().count() <= most, "{} of {}", text.chars().count(), block["type"]);
            total += text.chars().count();
        }
    }
    assert!(total <= 12_000, "{total} characters in all");
}

#[test]
fn slack_reads_no_markup_in_names_from_events() {
    for notification in [hostile(), huge()] {
        let payload = slack::payload(&notification, &news());
        let mut found = Vec::new();
        for block in payload["blocks"].as_array().unwrap().iter().filter(|block| block["type"] != "header") {
            texts(block, "", &mut found);
        }
        let link = format!("<{URL}|Open the alert>");
        for (_, text) in found.into_iter().filter(|(key, _)| *key == "text") {
            let without_link = text.replacen(&link, "", 1);
            assert!(!without_link.contains(['<', '>']), "{text}");
            for rest in without_link.split('&').skip(1) {
                assert!(["amp;", "lt;", "gt;"].iter().any(|entity| rest.starts_with(entity)), "{text}");
            }
        }
    }
}

#[test]
fn teams_is_sent_an_adaptive_card() {
    compare_all("teams", |notification| teams::payload(notification, &news()));
}

#[test]
fn a_teams_message_is_below_the_documented_size() {
    let size = teams::payload(&huge(), &news()).to_string().len();
    assert!(size <= 28_000, "{size} bytes");
    let plain = teams::payload(&firing(), &news()).to_string();
    assert!(plain.len() <= 20_000 && plain.contains("median"), "{plain}");
}

#[test]
fn teams_shows_names_from_events_where_markdown_is_not_read() {
    let payload = teams::payload(&hostile(), &news());
    let mut kinds = Vec::new();
    texts(&payload["attachments"][0]["content"]["body"], "", &mut kinds);
    let kinds: Vec<&str> = kinds.into_iter().filter(|(key, _)| *key == "type").map(|(_, kind)| kind).collect();
    assert!(kinds.contains(&"TextRun"), "{kinds:?}");
    assert!(kinds.iter().all(|kind| ["Container", "RichTextBlock", "TextRun"].contains(kind)), "{kinds:?}");
}

fn pagerduty_event(notification: &Notification) -> Value {
    pagerduty_told(notification, Telling::News)
}

fn pagerduty_told(notification: &Notification, telling: Telling) -> Value {
    let key = "0123456789abcdef0123456789abcdef";
    let event = pagerduty::event(notification, &context(telling), key, PagerDutySeverities::default());
    serde_json::to_value(event).unwrap()
}

#[test]
fn pagerduty_is_sent_events_v2() {
    compare_all("pagerduty", pagerduty_event);
}

#[test]
fn a_pagerduty_event_keeps_to_the_documented_limits() {
    let event = pagerduty_event(&huge());
    let summary = event["payload"]["summary"].as_str().unwrap().chars().count();
    assert!(summary <= 1_024, "{summary} characters");
    assert!(event.to_string().len() < 512_000, "{} bytes", event.to_string().len());
    assert!(event["dedup_key"].as_str().unwrap().len() <= 255);
}

const MONTH_MS: i64 = 30 * 86_400_000;

fn alertmanager_alerts(notification: &Notification) -> Value {
    let labels = BTreeMap::from([("team".to_string(), "risk".to_string())]);
    serde_json::to_value(alertmanager::alerts(notification, &news(), &labels, MONTH_MS)).unwrap()
}

#[test]
fn alertmanager_is_sent_its_api_v2() {
    compare_all("alertmanager", alertmanager_alerts);
}

#[test]
fn an_alertmanager_alert_has_names_that_are_taken_and_an_end_after_its_start() {
    for notification in [firing(), resolved(), silent(), hostile(), huge()] {
        for alert in alertmanager_alerts(&notification).as_array().unwrap() {
            for part in ["labels", "annotations"] {
                for name in alert[part].as_object().unwrap().keys() {
                    let is_word = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
                    assert!(is_word && !name.starts_with(|c: char| c.is_ascii_digit()), "{name}");
                }
            }
            assert!(alert["startsAt"].as_str() < alert["endsAt"].as_str(), "{alert:#}");
        }
    }
}

/// The body of OpsGenie in the example, as it stands there.
fn opsgenie(at: &str) -> BodyTemplate {
    let text = include_str!("../examples/receivers.yaml");
    let file = driftline::config::parse_rules_str("examples/receivers.yaml", text).map_err(|errors| errors.text(false));
    let webhook = file.unwrap().value.receivers["opsgenie"].webhook.clone().unwrap();
    let body = if at == "resolved" { webhook.resolved.unwrap().body } else { webhook.body };
    BodyTemplate::parse(&body.unwrap()).unwrap()
}

#[test]
fn opsgenie_is_sent_the_body_of_the_example() {
    let firing_body = opsgenie("firing");
    compare("opsgenie", "resolved", &opsgenie("resolved").fill(&resolved(), &news()));
    for (name, notification) in [("firing", firing()), ("no_data", silent()), ("hostile", hostile())] {
        compare("opsgenie", name, &firing_body.fill(&notification, &news()));
    }
    let filled = firing_body.fill(&huge(), &news());
    let length = |key: &str| filled[key].as_str().unwrap().chars().count();
    for (key, most) in [("message", 130), ("alias", 512), ("description", 15_000), ("entity", 512)] {
        assert!(length(key) <= most, "{key} has {} characters", length(key));
    }
    assert!(filled["tags"].as_array().unwrap().iter().all(|tag| tag.as_str().unwrap().chars().count() <= 50));
}

#[test]
fn a_topic_is_sent_cloud_events() {
    let event = |notification: &Notification| -> Value {
        serde_json::from_slice(&kafka::event(notification, &news(), "/driftline/prod").unwrap()).unwrap()
    };
    compare_all("kafka", event);
    for attribute in ["specversion", "id", "source", "type"] {
        assert!(event(&firing())[attribute].is_string(), "required by CloudEvents 1.0: {attribute}");
    }
}

#[test]
fn a_cloud_event_fits_into_a_record_of_kafkas_default_size() {
    let mut many = firing();
    many.findings = (0..10_000).map(|place| finding(&format!("f{place}"), "psi", f64::from(place))).collect();
    let json = kafka::event(&many, &news(), "/driftline/prod").unwrap();
    let event: Value = serde_json::from_slice(&json).unwrap();
    let kept = event["data"]["notification"]["findings"].as_array().unwrap().len();
    assert!(json.len() <= 1_000_000 && kept > 0, "{} bytes, {kept} findings", json.len());
    assert_eq!(event["data"]["findings_omitted"], 10_000 - kept);
}

/// A reminder with everything that a rule can say of itself, and the end of an alert whose beginning never arrived.
#[test]
fn every_receiver_says_why_it_tells_and_what_the_rule_says_of_itself() {
    let reminder = || context(Telling::Reminder { number: 2 });
    let key = "0123456789abcdef0123456789abcdef";
    compare("slack", "reminder", &slack::payload(&documented(), &reminder()));
    compare("teams", "reminder", &teams::payload(&documented(), &reminder()));
    let event = pagerduty::event(&documented(), &reminder(), key, PagerDutySeverities::default());
    compare("pagerduty", "reminder", &serde_json::to_value(event).unwrap());
    let labels = BTreeMap::new();
    let alerts = alertmanager::alerts(&documented(), &reminder(), &labels, MONTH_MS);
    compare("alertmanager", "reminder", &serde_json::to_value(alerts).unwrap());
    let in_place = context(late());
    compare("slack", "late", &slack::payload(&resolved(), &in_place));
    compare("teams", "late", &teams::payload(&resolved(), &in_place));
    compare("webhook", "late", &serde_json::to_value(WebhookPayload::new(&resolved(), &in_place)).unwrap());
    let event = kafka::event(&resolved(), &in_place, "/driftline/prod").unwrap();
    compare("kafka", "late", &serde_json::from_slice(&event).unwrap());
    compare("slack", "fallback", &slack::payload(&firing(), &context(fallback())));
    compare("slack", "receiver_health", &slack::payload(&unreachable(), &context(health())));
    let beat = || Telling::Heartbeat { every_ms: 3_600_000 };
    compare("teams", "heartbeat", &teams::payload(&heartbeat(), &context(beat())));
    compare("pagerduty", "heartbeat", &pagerduty_told(&heartbeat(), beat()));
}

#[test]
fn a_runbook_that_is_no_address_is_no_link() {
    let mut tricked = documented();
    tricked.runbook = Some("javascript:alert(1)".into());
    for payload in [slack::payload(&tricked, &news()), teams::payload(&tricked, &news())] {
        assert!(!payload.to_string().contains("javascript"), "{payload:#}");
    }
}

#[test]
fn a_digest_is_one_message_in_the_form_of_its_receiver() {
    compare("slack", "digest", &slack::digest_payload(&digest(), &news()));
    compare("teams", "digest", &teams::digest_payload(&digest(), &news()));
    compare("webhook", "digest", &serde_json::to_value(DigestPayload::new(&digest())).unwrap());
    let mut many = digest();
    many.notifications = (0..500)
        .map(|place| {
            let mut notification = huge();
            notification.episode_id = format!("e{place}");
            notification
        })
        .collect();
    let slack = slack::digest_payload(&many, &news());
    assert!(
        slack["blocks"].as_array().unwrap().len() <= 50 && slack.to_string().contains("The others are on the page")
    );
    let teams = teams::digest_payload(&many, &news()).to_string();
    assert!(teams.len() <= 28_000, "{} bytes", teams.len());
}
