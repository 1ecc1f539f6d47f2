//! Feature: everything about the features of one model version along time.

use serde_json::Value;

use super::{MODEL, Panel, Row, VERSION, Variable, WINDOW, dashboard as build};

const FEATURE: &str =
    "label_values(driftline_feature_psi{model=~\"$model\", version=~\"$version\", window=~\"$window\"}, feature)";

pub fn dashboard() -> Value {
    build(
        "driftline-feature",
        "Driftline / Feature",
        "Drift, missing values and moments of the features of one model version.",
        &[
            Variable { name: "model", label: "Model", query: MODEL, many: false },
            Variable { name: "version", label: "Version", query: VERSION, many: false },
            Variable { name: "window", label: "Window", query: WINDOW, many: false },
            Variable { name: "feature", label: "Feature", query: FEATURE, many: true },
        ],
        vec![
            Row { title: "Distance to the reference", panels: distances() },
            Row { title: "How sure", panels: certainty() },
            Row { title: "Values", panels: values() },
            Row { title: "Queries of rules", panels: queries() },
        ],
    )
}

/// A gauge of the chosen features, and the thresholds that the model's rules set on it.
fn measure(title: &'static str, about: &'static str, metric: &str, rule_metric: Option<&str>) -> Panel {
    let panel = Panel::lines(title, about).query("{{feature}}", of_feature(metric, "feature"));
    match rule_metric {
        None => panel,
        Some(name) => panel.level(
            "{{rule}} {{severity}}",
            format!(
                "max by (rule, severity) (driftline_rule_threshold{{metric=\"{name}\"}} \
                 and on (rule) driftline_alerts_firing{{model=~\"$model\"}})"
            ),
        ),
    }
}

fn of_feature(metric: &str, by: &str) -> String {
    let chosen = "model=~\"$model\", version=~\"$version\", window=~\"$window\", feature=~\"$feature\"";
    format!("max by ({by}) ({metric}{{{chosen}}})")
}

fn queries() -> Vec<Panel> {
    let chosen = "model=~\"$model\", version=~\"$version\", window=~\"$window\"";
    vec![
        Panel::lines("Values of queries", "Of rules with `sql`; dashed: their thresholds.")
            .width(24)
            .query("{{rule}} {{segment}}", format!("max by (rule, segment) (driftline_query_value{{{chosen}}})"))
            .level(
                "{{rule}} {{severity}}",
                "max by (rule, severity) (driftline_rule_threshold{metric=\"value\"} \
                 and on (rule) driftline_query_value{model=~\"$model\"})",
            ),
    ]
}

fn distances() -> Vec<Panel> {
    vec![
        measure(
            "Population stability index",
            "Below 0.1 little, above 0.25 much, by custom; `_other`: the worst of the features without series.",
            "driftline_feature_psi",
            Some("psi"),
        )
        .width(24),
        measure("Kolmogorov-Smirnov distance", "Numeric features.", "driftline_feature_ks", None),
        measure("Jensen-Shannon distance", "Base 2, from 0 to 1.", "driftline_feature_js", None),
        measure(
            "Wasserstein distance",
            "Numeric features; in standard deviations of the reference.",
            "driftline_feature_wasserstein_norm",
            None,
        ),
        measure("Cramér's V", "Categorical features, from 0 to 1.", "driftline_feature_cramers_v", None),
    ]
}

fn certainty() -> Vec<Panel> {
    vec![
        Panel::lines("p-values", "Chance of such a distance without drift, uncorrected: with many features, some are small.")
            .query("{{feature}} {{test}}", of_feature("driftline_feature_p_value", "feature, test")),
        measure("Chi-square", "Categorical features; grows with the window.", "driftline_feature_chi_square", None),
        measure("Values compared", "Non-missing values in the window.", "driftline_feature_rows", None),
        Panel::lines("Events in the window", "All events of the model version.").query(
            "{{model}}@{{version}}",
            r#"max by (model, version) (driftline_window_rows{model=~"$model", version=~"$version", window=~"$window"})"#,
        ),
    ]
}

fn values() -> Vec<Panel> {
    vec![
        measure("Missing values", "Share of events without a value.", "driftline_feature_null_ratio", None)
            .unit("percentunit"),
        measure(
            "Unseen categories",
            "Share of values in categories that the reference lacks.",
            "driftline_feature_unseen_ratio",
            None,
        )
        .unit("percentunit"),
        measure(
            "Invalid values",
            "The worst share of: wrong type, NaN, infinite, out of range, unseen, one value only, more nulls than in the reference.",
            "driftline_feature_invalid_ratio",
            None,
        )
        .unit("percentunit")
        .width(24),
        measure("Mean", "Numeric features.", "driftline_feature_mean", None),
        measure("Standard deviation", "Numeric features.", "driftline_feature_standard_deviation", None),
    ]
}
