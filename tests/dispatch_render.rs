//! What people read, as golden files. After a wanted change: `DRIFTLINE_WRITE_GOLDEN=1 cargo test --test
//! dispatch_render`, then look at them, the HTML in a browser.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod dispatch_support;

use std::path::PathBuf;

use dispatch_support::{finding, notification};
use driftline::config::rules::Severity;
use driftline::dispatch::render;
use driftline::rules::episode::{EpisodeStatus, Finding, Notification};
use driftline::rules::explanation::{Explanation, Moved, SegmentSearch, WorstSegment};
use driftline::stats::location::Location;
use driftline::stats::metric::{BinShare, MetricValue};
use driftline::windows::result::Segment;

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
    let text = format!("Subject: {}\n\n{}", render::subject(notification), render::text(notification, URL));
    compare(&format!("mail_{name}.txt"), &text);
    compare(&format!("mail_{name}.html"), &render::html(notification, URL));
}

fn firing() -> Notification {
    let mut country = finding("country", "chi_square", 812.0);
    country.severity = Severity::Warn;
    country.condition = "cramers_v > 0.1".into();
    country.metric = "cramers_v".into();
    country.value = MetricValue::exact(0.1834);
    country.p_adjusted = Some(0.00231);
    let germany = BinShare { label: "DE".into(), reference: 0.12, window: 0.31 };
    country.moved = vec![Moved { psi_share: Some(0.62), ..Moved::from(germany) }];
    country.reason = "`country`: Cram\u{e9}r's V 0.18 against training, 2 of 2 windows, adjusted p = 0.00231".into();
    let mut notification = notification("9f2c41", 0, &["oncall"]);
    let mut amount = finding("amount", "psi", 0.4123);
    amount.explanation = Explanation {
        location: Some(Location {
            mean_reference: Some(101.2),
            mean: Some(148.04),
            median_reference: Some(98.7),
            median: Some(121.3),
        }),
        segments: Some(SegmentSearch {
            segments: 24,
            features: 25,
            worst: vec![WorstSegment {
                segment: Segment { column: "country,device".into(), value: "IT,phone".into() },
                metric: "psi".into(),
                value: 0.81,
                rows: 410,
                share: 0.04,
                p_adjusted: 1e-9,
                carries: Some(0.31),
            }],
        }),
        ..Explanation::default()
    };
    let mut age = finding("age", "psi", 0.2611);
    for (finding, importance) in [(&mut age, 0.12), (&mut country, 0.05), (&mut amount, 0.31)] {
        finding.explanation.importance = Some(importance);
        finding.explanation.priority = finding.value.value.map(|value| value * importance);
    }
    notification.findings = vec![country, age, amount];
    notification
}

#[test]
fn a_firing_alert_says_what_since_when_how_sure_worst_first() {
    compare_both("firing", &firing());
}

#[test]
fn a_resolved_alert_says_that_it_is_over() {
    let mut resolved = notification("9f2c41", 1, &["oncall"]);
    resolved.summary = "feature-drift resolved: fraud@3".into();
    resolved.findings.clear();
    compare_both("resolved", &resolved);
}

#[test]
fn a_silent_model_is_told_without_features() {
    let mut silent = notification("9f2c41", 0, &["oncall"]);
    silent.rule = "no-data".into();
    silent.summary = "no-data critical: fraud@3, no event for 15m".into();
    silent.rows = 0;
    silent.reference.clear();
    silent.windows_considered = 0;
    silent.findings = vec![Finding {
        feature: None,
        metric: "absent".into(),
        value: MetricValue::undefined(),
        condition: "absent for 15m".into(),
        threshold: None,
        effect_psi: None,
        p_value: None,
        p_adjusted: None,
        inflation: None,
        n: 0,
        n_reference: 0,
        moved: vec![],
        reason: "no event has arrived since 11:45 UTC".into(),
        ..finding("", "absent", 0.0)
    }];
    compare_both("no_data", &silent);
}

/// Everything that came from events, in one notification.
fn hostile() -> Notification {
    let evil = "<script>alert(1)</script>\r\nBcc: everyone@example.com\u{202e}\"'&";
    let mut hostile = notification("9f2c41", 0, &["oncall"]);
    hostile.model = evil.into();
    hostile.version = evil.into();
    hostile.rule = evil.into();
    hostile.summary = evil.into();
    hostile.reference = evil.into();
    hostile.segment = Segment { column: evil.into(), value: evil.into() };
    hostile.feature = Some(evil.into());
    hostile.findings = vec![Finding {
        segment: hostile.segment.clone(),
        condition: evil.into(),
        reason: evil.into(),
        moved: vec![BinShare { label: evil.into(), reference: 0.0, window: 1.0 }.into()],
        ..finding(evil, evil, f64::INFINITY)
    }];
    hostile
}

#[test]
fn names_from_events_stay_text() {
    compare_both("hostile", &hostile());
    let html = render::html(&hostile(), URL);
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
    let text = render::text(&many, URL);
    assert!(text.contains("and 195 more on the page: f194, f193, f192, "), "{text}");
    assert!(text.contains("`f199`") && !text.contains("`f194`") && !text.contains("f184"), "{text}");
    let html = render::html(&many, URL);
    assert!(html.len() < 102_400, "some clients cut a mail at 102 kB; this has {}", html.len());
}
