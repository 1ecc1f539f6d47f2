//! What people read, as golden files. After a wanted change: `DRIFTLINE_WRITE_GOLDEN=1 cargo test --test
//! dispatch_render`, then look at them, the HTML in a browser.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod dispatch_support;

use std::path::PathBuf;

use dispatch_support::samples::{
    confirmed, context, digest, documented, estimated, fallback, firing, health, heartbeat, hostile, late, resolved,
    silent, unreachable,
};
use dispatch_support::{finding, notification};
use driftline::dispatch::digest_message::DigestMessage;
use driftline::dispatch::receiver::Telling;
use driftline::dispatch::render::{self, Shown};
use driftline::rules::episode::{EpisodeStatus, Notification};

const URL: &str = "https://drift.example.com/alerts/9f2c41";

fn compare(name: &str, actual: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("DRIFTLINE_WRITE_GOLDEN").is_some() {
        std::fs::write(&path, actual).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(actual, golden, "{name}: expected on the right");
}

fn compare_both(name: &str, notification: &Notification) {
    compare_told(name, notification, &Telling::News);
}

fn compare_told(name: &str, notification: &Notification, telling: &Telling) {
    let subject = render::thread_subject(notification, telling);
    let text = format!("Subject: {subject}\n\n{}", render::text(notification, URL, telling));
    compare(&format!("mail_{name}.txt"), &text);
    let chart = Shown { source: "cid:chart", width: 420, height: 84, caption: "What moved most" };
    let chart = (name == "firing").then_some(&chart);
    compare(&format!("mail_{name}.html"), &render::html(notification, URL, telling, chart));
}

#[test]
fn what_is_no_news_says_why_it_comes() {
    compare_told("reminder", &documented(), &Telling::Reminder { number: 2 });
    compare_told("redelivery", &firing(), &Telling::Redelivery);
    compare_told("late", &resolved(), &late());
    compare_told("fallback", &firing(), &fallback());
    compare_told("receiver_health", &unreachable(), &health());
    compare_told("heartbeat", &heartbeat(), &Telling::Heartbeat { every_ms: 3_600_000 });
}

#[test]
fn a_digest_is_one_line_an_alert_worst_first() {
    let message = DigestMessage::of(&digest(), &context(Telling::News));
    compare("mail_digest.txt", &format!("Subject: {}\n\n{}", message.subject(), message.text()));
    compare("mail_digest.html", &message.html());
    let states: Vec<&str> = message.lines.iter().map(|line| line.state.as_str()).collect();
    assert_eq!(states, ["CRITICAL", "CRITICAL", "WARN", "RESOLVED"]);
    assert!(!message.html().contains("<script"), "{}", message.html());
}

#[test]
fn every_message_of_an_episode_has_the_same_subject() {
    let subjects: Vec<String> =
        [firing(), resolved()].iter().map(|n| render::thread_subject(n, &Telling::News)).collect();
    assert_eq!(subjects, ["fraud@3: feature-drift", "fraud@3: feature-drift"]);
    let hostile = render::thread_subject(&hostile(), &Telling::News);
    assert!(!hostile.contains(['\r', '\n', '\u{202e}']), "{hostile:?}");
}

#[test]
fn a_firing_alert_says_what_since_when_how_sure_worst_first() {
    compare_both("firing", &firing());
}

#[test]
fn a_resolved_alert_says_that_it_is_over() {
    compare_both("resolved", &resolved());
}

#[test]
fn a_silent_model_is_told_without_features() {
    compare_both("no_data", &silent());
}

#[test]
fn an_estimate_and_what_the_labels_made_of_it_are_both_told() {
    compare_both("estimate", &estimated());
    compare_both("confirmed", &confirmed());
}

#[test]
fn names_from_events_stay_text() {
    compare_both("hostile", &hostile());
    let html = render::html(&hostile(), URL, &Telling::News, None);
    assert!(!html.contains("<script"), "{html}");
    let subject = render::subject(&hostile());
    assert!(!subject.contains(['\r', '\n', '\u{202e}']), "{subject:?}");
}

#[test]
fn the_subject_names_model_feature_and_rule() {
    assert_eq!(render::subject(&notification("e", 0, &[])), "[critical] fraud@3: amount drifted (feature-drift)");
    assert_eq!(render::subject(&firing()), "[critical] fraud@3: amount and 2 more drifted (feature-drift)");
    let resolved = notification("e", 1, &[]);
    assert_eq!(resolved.status, EpisodeStatus::Resolved);
    assert_eq!(render::subject(&resolved), "[resolved] fraud@3: amount back to normal (feature-drift)");
}

#[test]
fn hundreds_of_findings_are_cut_and_counted() {
    let mut many = firing();
    many.findings = (0..200).map(|place| finding(&format!("f{place}"), "psi", f64::from(place))).collect();
    let text = render::text(&many, URL, &Telling::News);
    assert!(text.contains("and 195 more on the page: f194, f193, f192, "), "{text}");
    assert!(text.contains("`f199`") && !text.contains("`f194`") && !text.contains("f184"), "{text}");
    let html = render::html(&many, URL, &Telling::News, None);
    assert!(html.len() < 102_400, "some clients cut a mail at 102 kB; this has {}", html.len());
}
