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

#[test]
fn performance_has_series_of_the_window_that_stands_and_segments_have_a_quarter_of_the_budget() {
    let on_performance = |hour: i64, rows: u64, segment: &str, realised: Option<f64>, is_final: bool| {
        let mut window = result("fraud", "1", hour, &[]);
        let metric = |value: f64| MetricValue::exact(value).with_interval([value - 0.01, value + 0.01]);
        let mut stats = FeatureStats::default();
        stats.metrics.insert("est_roc_auc".into(), metric(0.8 + hour as f64 / 100.0));
        stats.metrics.extend(realised.map(|value| ("roc_auc".to_string(), metric(value))));
        window.rows = rows;
        if !segment.is_empty() {
            window.segment = Segment { column: "country".into(), value: segment.into() };
        }
        window.performance = Some(crate::windows::result::WindowPerformance {
            predictions: 10,
            labelled: if realised.is_some() { 6 } else { 0 },
            label_coverage: if realised.is_some() { 0.6 } else { 0.0 },
            is_final,
            baseline: BTreeMap::from([("roc_auc".to_string(), MetricValue::exact(0.9))]),
            ..Default::default()
        });
        window.features = BTreeMap::from([(crate::windows::result::PERFORMANCE_FEATURE.to_string(), stats)]);
        window
    };
    let mut view = View::new(Limits::default());
    for (rows, segment) in [(100, ""), (60, "DE"), (40, "FR")] {
        view.apply_result(on_performance(0, rows, segment, Some(0.7), true));
        view.apply_result(on_performance(1, rows, segment, None, false));
    }
    // Twelve for all events, eight for the larger segment; there is no room for the other.
    let text = rendered(&view, &watched(&["fraud"]), 48);
    assert_eq!(
        lines(&text, "driftline_performance{"),
        [
            r#"driftline_performance{metric="roc_auc",model="fraud",segment="all",version="1",window="1h"} 0.7"#,
            r#"driftline_performance{metric="roc_auc",model="fraud",segment="country=DE",version="1",window="1h"} 0.7"#,
        ]
    );
    assert_eq!(lines(&text, "driftline_performance_estimate{")[0].rsplit(' ').next(), Some("0.81"), "of the newest");
    assert_eq!(lines(&text, "driftline_performance_lower{")[0].rsplit(' ').next(), Some("0.69"));
    assert_eq!(lines(&text, "driftline_performance_baseline{")[0].rsplit(' ').next(), Some("0.9"));
    assert_eq!(lines(&text, "driftline_label_coverage_ratio{")[0].rsplit(' ').next(), Some("0.6"));
    assert_eq!(lines(&text, "driftline_series_dropped"), ["driftline_series_dropped 8"]);
    let ends: Vec<&str> = lines(&text, "driftline_performance_end_time_seconds{")
        .into_iter()
        .filter_map(|line| line.rsplit(' ').next())
        .collect();
    assert_eq!(ends, ["7200", "3600"], "estimates are of a later window");
}
