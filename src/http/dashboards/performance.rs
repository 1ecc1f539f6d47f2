//! Performance: how well models do by their labels, what was expected without them, and how many labels are known.

use serde_json::Value;

use super::{MODEL, Panel, Row, VERSION, Variable, WINDOW, dashboard as build};

const METRIC: &str = "label_values(driftline_performance_estimate{model=~\"$model\", version=~\"$version\", window=~\"$window\"}, metric)";

pub fn dashboard() -> Value {
    build(
        "driftline-performance",
        "Driftline / Performance",
        "Figures by labels and estimates without them, of one model.",
        &[
            Variable { name: "model", label: "Model", query: MODEL, many: false },
            Variable { name: "version", label: "Version", query: VERSION, many: true },
            Variable { name: "window", label: "Window", query: WINDOW, many: false },
            Variable { name: "metric", label: "Figure", query: METRIC, many: false },
        ],
        vec![
            Row { title: "How well the model does", panels: figures() },
            Row { title: "Labels", panels: labels() },
            Row { title: "Groups", panels: groups() },
        ],
    )
}

/// The chosen figure, or all of them where `metric` is not asked for.
fn chosen(name: &str, by: &str, more: &str) -> String {
    let model = "model=~\"$model\", version=~\"$version\", window=~\"$window\"";
    format!("max by ({by}) ({name}{{{model}{more}}})")
}

fn of_all_events(name: &str) -> String {
    chosen(name, "version", ", metric=\"$metric\", segment=\"all\"")
}

fn figures() -> Vec<Panel> {
    vec![
        Panel::lines(
            "Realised, estimated, baseline",
            "By labels, of the newest window with enough of them; estimated without labels, of the newest window; of the reference. Dashed: baseline and thresholds of rules. The two windows differ: see their age below.",
        )
        .width(24)
        .query("{{version}} realised", of_all_events("driftline_performance"))
        .query("{{version}} estimate", of_all_events("driftline_performance_estimate"))
        .level("{{version}} baseline", chosen("driftline_performance_baseline", "version", ", metric=\"$metric\""))
        .level(
            "{{rule}} {{severity}}",
            "max by (rule, severity) (driftline_rule_threshold{metric=~\"(est_)?$metric\"} \
             and on (rule) driftline_alerts_firing{model=~\"$model\"})",
        ),
        Panel::lines("Realised with its 95% interval", "Wide where few labels are known.")
            .query("{{version}}", of_all_events("driftline_performance"))
            .level("{{version}} lower", of_all_events("driftline_performance_lower"))
            .level("{{version}} upper", of_all_events("driftline_performance_upper")),
        Panel::lines("Estimate with its 95% interval", "Holds as long as scores mean what they meant in the reference: labels will tell.")
            .query("{{version}}", of_all_events("driftline_performance_estimate"))
            .level("{{version}} lower", of_all_events("driftline_performance_estimate_lower"))
            .level("{{version}} upper", of_all_events("driftline_performance_estimate_upper")),
        Panel::lines("Error of past estimates", "Mean distance of estimates to what labels said later.")
            .query("{{version}} {{metric}}", chosen("driftline_performance_estimate_error", "version, metric", "")),
        Panel::lines("All figures", "Realised, in the newest window with enough labels.")
            .query("{{version}} {{metric}}", chosen("driftline_performance", "version, metric", ", segment=\"all\"")),
    ]
}

fn labels() -> Vec<Panel> {
    let age = |kind: &str| {
        format!(
            "time() - {}",
            chosen("driftline_performance_end_time_seconds", "version", &format!(", kind=\"{kind}\""))
        )
    };
    vec![
        Panel::lines(
            "Label coverage",
            "Share of predictions whose label is known, in the window behind the realised figures. Below what rules ask for, they wait.",
        )
        .unit("percentunit")
        .query("{{version}}", chosen("driftline_label_coverage_ratio", "version", ", segment=\"all\"")),
        Panel::lines("Labels in the window", "Few labels make wide intervals.")
            .query("{{version}}", chosen("driftline_performance_labels", "version", ", segment=\"all\"")),
        Panel::lines("Age of the figures", "Time since the end of the window behind them: realised figures wait for labels.")
            .unit("s")
            .width(24)
            .query("{{version}} realised", age("realised"))
            .query("{{version}} estimate", age("estimate")),
    ]
}

fn groups() -> Vec<Panel> {
    vec![
        Panel::lines("By segment", "The chosen figure, where it is one of the first three.").query(
            "{{version}} {{segment}}",
            chosen("driftline_performance", "version, segment", ", metric=\"$metric\", segment!=\"all\""),
        ),
        Panel::lines("Label coverage by segment", "Groups whose labels stay away are judged on few.")
            .unit("percentunit")
            .query(
                "{{version}} {{segment}}",
                chosen("driftline_label_coverage_ratio", "version, segment", ", segment!=\"all\""),
            ),
        Panel::lines("Gaps between groups", "Largest difference between the values of a segment column.")
            .width(24)
            .query(
                "{{version}} {{column}} {{metric}}",
                chosen("driftline_performance_gap", "version, column, metric", ""),
            ),
    ]
}
