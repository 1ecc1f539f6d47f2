//! What the renderers of messages are shown: an alert, its end, a silent model, and names that would break out of text.

use driftline::config::rules::Severity;
use driftline::rules::episode::{Finding, Notification};
use driftline::rules::explanation::{Explanation, Moved, SegmentSearch, WorstSegment};
use driftline::rules::performance::PerformanceFinding;
use driftline::stats::location::Location;
use driftline::stats::metric::{BinShare, MetricValue};
use driftline::windows::result::Segment;

use driftline::dispatch::digest::Digest;
use driftline::dispatch::receiver::{DeliveryContext, Telling};
use driftline::rules::episode::EpisodeStatus;

use super::{finding, notification};

/// As the first attempt is made.
pub fn context(telling: Telling) -> DeliveryContext {
    DeliveryContext { public_url: "https://drift.example.com".into(), attempt: 1, telling }
}

/// Of a rule that says what it is about, and has something done.
pub fn documented() -> Notification {
    let mut documented = firing();
    documented.description = Some("The amounts come from the payment gateway, in euro.".into());
    documented.runbook = Some("https://wiki.example.com/fraud?rule=feature-drift".into());
    documented.actions = vec!["retrain-fraud".into()];
    documented
}

/// The end of an alert whose beginning could not be delivered.
pub fn late() -> Telling {
    Telling::InPlaceOf { notifications: vec!["9f2c41-0".into()], first_at_ms: resolved().at_ms - 5_400_000 }
}

pub fn fallback() -> Telling {
    Telling::Fallback { receiver: "pager".into(), reason: "HTTP 410: the integration was removed".into() }
}

pub fn health() -> Telling {
    Telling::ReceiverHealth { receiver: "pager".into() }
}

/// What is told of a receiver that does not answer.
pub fn unreachable() -> Notification {
    let mut unreachable = notification("receiver-pager-1767225600000", 0, &["oncall"]);
    unreachable.summary =
        "receiver pager has not answered since 2026-01-01T00:00:00.000Z: HTTP 503; 2 notifications wait for it".into();
    unreachable.rule = "receiver".into();
    (unreachable.model, unreachable.version, unreachable.rows) = (String::new(), String::new(), 0);
    unreachable.findings.clear();
    unreachable
}

pub fn heartbeat() -> Notification {
    let mut beat = unreachable();
    (beat.id, beat.episode_id) = ("heartbeat-1767225600000-oncall".into(), "heartbeat-1767225600000-oncall".into());
    beat.rule = "heartbeat".into();
    beat.severity = Severity::Warn;
    beat.summary = "Driftline works, and can tell you".into();
    beat
}

/// A day's alerts: one that fired and is over, two that fire, and one whose names would break out.
pub fn digest() -> Digest {
    let mut small = notification("aaaa01", 0, &["slack"]);
    small.severity = Severity::Warn;
    small.rule = "score-shift".into();
    small.summary = "score-shift warn: fraud@3, `prediction.score` 0.12".into();
    let mut over = notification("bbbb02", 1, &["slack"]);
    over.status = EpisodeStatus::Resolved;
    over.summary = "nulls-jump resolved: fraud@3, `age_days`".into();
    let began = notification("bbbb02", 0, &["slack"]);
    let (from_ms, until_ms) = (1_767_225_600_000, 1_767_312_000_000);
    Digest {
        id: "digest-slack-1767312000000".into(),
        receiver: "slack".into(),
        from_ms,
        until_ms,
        notifications: vec![small, began, firing(), over, hostile_of("cccc03")],
    }
}

fn hostile_of(episode: &str) -> Notification {
    let mut hostile = hostile();
    (hostile.id, hostile.episode_id) = (format!("{episode}-0"), episode.into());
    hostile
}

pub fn firing() -> Notification {
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

/// The end of what `firing` began.
pub fn resolved() -> Notification {
    let mut resolved = notification("9f2c41", 1, &["oncall"]);
    resolved.summary = "feature-drift resolved: fraud@3".into();
    resolved.findings.clear();
    resolved
}

/// A model without events.
pub fn silent() -> Notification {
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
    silent
}

/// Everything that came from events, in one notification.
pub fn hostile() -> Notification {
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

/// An estimate that warns before labels are known.
pub fn estimated() -> Notification {
    let mut finding = finding("", "est_roc_auc", 0.8812);
    finding.feature = None;
    finding.severity = Severity::Warn;
    finding.condition = "est_roc_auc < baseline - 0.03".into();
    finding.moved.clear();
    (finding.p_adjusted, finding.n, finding.n_reference) = (None, 0, 0);
    finding.value = MetricValue::exact(0.8812).with_interval([0.8702, 0.8921]);
    finding.performance = Some(PerformanceFinding {
        estimated: true,
        estimate: Some(finding.value),
        baseline: Some(MetricValue::exact(0.9263).with_interval([0.9221, 0.9304])),
        difference: Some(MetricValue::exact(-0.0451).with_interval([-0.0569, -0.0334])),
        predictions: 4_812,
        ..PerformanceFinding::default()
    });
    finding.reason = "all predictions: estimated ROC AUC 0.881 (95% 0.870 to 0.892), 0.045 below the baseline 0.926, labels \
                      for 0% of 4 812 predictions, 1 of 1 window; an estimate from the scores, until the labels are known"
        .into();
    let mut notification = notification("41c07b", 0, &["oncall"]);
    notification.rule = "expected-drop".into();
    notification.severity = Severity::Warn;
    notification.summary = "expected-drop warn: fraud@3, estimated ROC AUC 0.881".into();
    (notification.windows_breached, notification.windows_considered, notification.rows) = (1, 1, 4_812);
    notification.findings = vec![finding];
    notification
}

/// What the labels made of it.
pub fn confirmed() -> Notification {
    let mut confirmed = estimated();
    let finding = &mut confirmed.findings[0];
    finding.metric = "roc_auc".into();
    finding.n = 3_994;
    finding.value = MetricValue::exact(0.8741).with_interval([0.8612, 0.8869]);
    finding.performance = finding.performance.take().map(|performance| PerformanceFinding {
        estimated: false,
        confirmed: Some(true),
        difference: Some(MetricValue::exact(-0.0522).with_interval([-0.0657, -0.0388])),
        labelled: 3_994,
        label_coverage: 0.83,
        ..performance
    });
    finding.reason = "all predictions: ROC AUC 0.874 (95% 0.861 to 0.887), 0.052 below the baseline 0.926, labels for 83% of \
                      4 812 predictions, 1 of 1 window; estimated before labels: 0.881 (0.870 to 0.892): the labels confirm it"
        .into();
    (confirmed.sequence, confirmed.id) = (1, "41c07b-1".into());
    confirmed.summary = "expected-drop warn: fraud@3, ROC AUC 0.874".into();
    confirmed
}
