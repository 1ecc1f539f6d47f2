//! What the renderers of messages are shown: an alert, its end, a silent model, and names that would break out of text.

use driftline::config::rules::Severity;
use driftline::rules::episode::{Finding, Notification};
use driftline::rules::explanation::{Explanation, Moved, SegmentSearch, WorstSegment};
use driftline::stats::location::Location;
use driftline::stats::metric::{BinShare, MetricValue};
use driftline::windows::result::Segment;

use super::{finding, notification};

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
