//! Notifications for the dispatch tests.
#![allow(dead_code, reason = "each test binary uses a part")]

use driftline::config::rules::Severity;
use driftline::rules::episode::{EpisodeStatus, Finding, Notification};
use driftline::rules::explanation::Explanation;
use driftline::stats::metric::{BinShare, MetricValue};
use driftline::windows::result::{Segment, Window};

const HOUR_MS: i64 = 3_600_000;
/// 2026-03-01 12:00 UTC.
const START_MS: i64 = 1_772_366_400_000;

/// The `sequence`-th notification of an episode; odd ones resolve it.
pub fn notification(episode: &str, sequence: u32, receivers: &[&str]) -> Notification {
    let status = if sequence.is_multiple_of(2) { EpisodeStatus::Firing } else { EpisodeStatus::Resolved };
    let first_window = Window { start_ms: START_MS, end_ms: START_MS + HOUR_MS };
    let window = Window { start_ms: START_MS + HOUR_MS, end_ms: START_MS + 2 * HOUR_MS };
    Notification {
        id: format!("{episode}-{sequence}"),
        episode_id: episode.into(),
        sequence,
        status,
        severity: Severity::Critical,
        rule: "feature-drift".into(),
        model: "fraud".into(),
        version: "3".into(),
        segment: Segment::default(),
        feature: None,
        summary: "feature-drift critical: fraud@3, `amount` PSI 0.41".into(),
        findings: vec![finding("amount", "psi", 0.4123)],
        reference: "training".into(),
        reference_id: "sha256:5f2c".into(),
        first_window,
        window,
        windows_breached: 2,
        windows_considered: 2,
        rows: 10_240,
        at_ms: START_MS + 2 * HOUR_MS + 5_000,
        receivers: receivers.iter().map(ToString::to_string).collect(),
        description: None,
        runbook: None,
        suppressed: None,
        actions: Vec::new(),
    }
}

pub fn finding(feature: &str, metric: &str, value: f64) -> Finding {
    Finding {
        feature: Some(feature.into()),
        segment: Segment::default(),
        severity: Severity::Critical,
        metric: metric.into(),
        value: MetricValue { value: Some(value), bound: None, p_value: Some(1e-12), interval: None },
        condition: format!("{metric} > 0.25"),
        threshold: None,
        effect_psi: None,
        p_value: None,
        p_adjusted: Some(3e-11),
        inflation: None,
        n: 10_200,
        n_reference: 100_000,
        performance: None,
        moved: vec![
            BinShare { label: ">= 140.5".into(), reference: 0.1, window: 0.312 }.into(),
            BinShare { label: "< 61".into(), reference: 0.1, window: 0.021 }.into(),
        ],
        explanation: Explanation::default(),
        reason: format!(
            "`{feature}`: PSI {value:.2} against training, 2 of 2 windows, 10 240 events, adjusted p < 1e-6"
        ),
    }
}

pub mod role_harness;
pub mod samples;
