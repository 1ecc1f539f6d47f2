use super::*;
use crate::http::view::Limits;
use crate::stats::metric::MetricValue;
use crate::windows::result::{Segment, Window};

const HOUR_MS: i64 = 3_600_000;

fn result(model: &str, version: &str, hour: i64, psi: &[(&str, Option<f64>)]) -> WindowResult {
    let features = psi.iter().map(|(name, value)| {
        let mut stats = FeatureStats { n: 10, n_reference: 100, ..FeatureStats::default() };
        stats.metrics.insert("psi".into(), MetricValue { value: *value, bound: None, p_value: None, interval: None });
        (name.to_string(), stats)
    });
    WindowResult {
        model: model.into(),
        version: version.into(),
        segment: Segment::default(),
        window: Window { start_ms: hour * HOUR_MS, end_ms: (hour + 1) * HOUR_MS },
        revision: 0,
        reference: "training".into(),
        reference_id: "abc".into(),
        rows: 10,
        complete: true,
        baseline: None,
        quality: None,
        changes: Vec::new(),
        performance: None,
        features: features.collect(),
    }
}

fn watched(models: &[&str]) -> Watched {
    let models = models.iter().map(|name| WatchedModel { name: name.to_string(), window_size_ms: HOUR_MS });
    Watched { models: models.collect(), rules: Vec::new() }
}

fn rendered(view: &View, watched: &Watched, budget: usize) -> String {
    render(&Metrics::new().unwrap(), view, watched, budget).unwrap()
}

fn lines<'a>(text: &'a str, prefix: &str) -> Vec<&'a str> {
    text.lines().filter(|line| line.starts_with(prefix)).collect()
}

#[test]
fn the_series_budget_keeps_the_worst_features_of_every_model_and_counts_the_rest() {
    let mut view = View::new(Limits::default());
    view.apply_result(result(
        "wide",
        "1",
        0,
        &[("a", Some(0.1)), ("b", Some(0.9)), ("c", Some(0.5)), ("d", Some(0.2))],
    ));
    view.apply_result(result("small", "1", 0, &[("x", Some(0.01))]));
    // Three series a feature (psi, rows, invalid), one `_other` for each of the two windows.
    let text = rendered(&view, &watched(&["wide", "small"]), 11);
    assert_eq!(
        lines(&text, "driftline_feature_psi{"),
        [
            r#"driftline_feature_psi{feature="_other",model="wide",version="1",window="1h"} 0.2"#,
            r#"driftline_feature_psi{feature="b",model="wide",version="1",window="1h"} 0.9"#,
            r#"driftline_feature_psi{feature="c",model="wide",version="1",window="1h"} 0.5"#,
            r#"driftline_feature_psi{feature="x",model="small",version="1",window="1h"} 0.01"#,
        ]
    );
    assert_eq!(lines(&text, "driftline_series_dropped "), ["driftline_series_dropped 6"]);
    assert!(lines(&text, "driftline_feature_").len() <= 11, "{text}");
}

#[test]
fn models_not_configured_and_versions_long_silent_have_no_series() {
    let mut view = View::new(Limits::default());
    view.apply_result(result("fraud", "1", 0, &[("a", Some(0.1))]));
    view.apply_result(result("fraud", "2", 24, &[("a", Some(0.2))]));
    view.apply_result(result("gone", "1", 24, &[("a", Some(0.3))]));
    let text = rendered(&view, &watched(&["fraud"]), 100);
    assert_eq!(
        lines(&text, "driftline_window_rows{"),
        [r#"driftline_window_rows{model="fraud",version="2",window="1h"} 10"#]
    );
}

#[test]
fn undefined_values_have_no_sample_and_a_label_cannot_break_the_format() {
    let mut view = View::new(Limits::default());
    view.apply_result(result("fraud", "a\"b\n", 0, &[("null", None), ("nan", Some(f64::NAN)), ("ok", Some(0.5))]));
    let text = rendered(&view, &watched(&["fraud"]), 100);
    assert_eq!(
        lines(&text, "driftline_feature_psi{"),
        [r#"driftline_feature_psi{feature="ok",model="fraud",version="a\"b\n",window="1h"} 0.5"#]
    );
    assert!(!text.contains("NaN"), "{text}");
}

#[test]
fn a_configured_rule_that_does_not_fire_is_a_zero() {
    let mut watched = watched(&["fraud"]);
    watched.rules.push(WatchedRule {
        name: "drift".into(),
        models: vec!["fraud".into()],
        severities: vec![Severity::Warn],
        thresholds: vec![("psi".into(), Severity::Warn, 0.1)],
    });
    let text = rendered(&View::default(), &watched, 100);
    assert_eq!(
        lines(&text, "driftline_alerts_firing{"),
        [r#"driftline_alerts_firing{model="fraud",rule="drift",severity="warn"} 0"#]
    );
    assert_eq!(
        lines(&text, "driftline_rule_threshold{"),
        [r#"driftline_rule_threshold{metric="psi",rule="drift",severity="warn"} 0.1"#]
    );
}
