//! Overview: is anything firing, what drifts most, is the pipeline keeping up, does mail go out.

use serde_json::Value;

use super::{Drawing, MODEL, Panel, Row, Variable, actions, dashboard as build};

pub fn dashboard() -> Value {
    build(
        "driftline-overview",
        "Driftline / Overview",
        "Alerts, drift of all models, and the health of Driftline itself.",
        &[Variable { name: "model", label: "Model", query: MODEL, many: true }],
        vec![
            Row { title: "Now", panels: now() },
            Row { title: "Drift", panels: drift() },
            Row { title: "Data quality", panels: quality() },
            Row { title: "Windows", panels: windows() },
            Row { title: "Events", panels: events() },
            Row { title: "Labels", panels: labels() },
            Row { title: "Rules and delivery", panels: delivery() },
            Row { title: "Retraining and rollback", panels: actions::panels() },
            Row { title: "Process", panels: process() },
        ],
    )
}

fn now() -> Vec<Panel> {
    vec![
        Panel::stat("Firing, critical", "Episodes that fire at severity critical.").query(
            "critical",
            r#"sum(max by (model, rule) (driftline_alerts_firing{model=~"$model", severity="critical"}))"#,
        ),
        Panel::stat("Firing, all", "Episodes that fire, at any severity.")
            .query("firing", r#"sum(max by (model, rule, severity) (driftline_alerts_firing{model=~"$model"}))"#),
        Panel::stat("Worst PSI", "Largest population stability index in the last closed windows.")
            .query("PSI", r#"max(driftline_feature_psi{model=~"$model"})"#),
        Panel::stat("Events a second", "Events counted in windows.")
            .query("events/s", r#"sum(rate(driftline_events_ingested_total{model=~"$model"}[$__rate_interval]))"#),
        Panel::stat("Dead letters", "Events that could not be used since the process started; reasons below.")
            .query("events", "sum(driftline_events_dead_lettered_total)"),
        Panel::stat("Undelivered", "Notifications not yet accepted by their receiver.")
            .query("notifications", "sum(driftline_deliveries_pending)"),
    ]
}

fn drift() -> Vec<Panel> {
    vec![
        Panel::new(Drawing::Table, "Worst features", "Ten largest PSI of the last closed windows.").query(
            "",
            r#"topk(10, max by (model, version, window, feature) (driftline_feature_psi{model=~"$model"}))"#,
        ),
        Panel::lines("Worst PSI by model", "The worst feature of each model version; dashed: thresholds of rules.")
            .query("{{model}}@{{version}}", r#"max by (model, version) (driftline_feature_psi{model=~"$model"})"#)
            .level("{{rule}} {{severity}}", r#"max by (rule, severity) (driftline_rule_threshold{metric="psi"})"#),
        Panel::lines("Firing alerts", "By rule and severity.").query(
            "{{model}} {{rule}} {{severity}}",
            r#"max by (model, rule, severity) (driftline_alerts_firing{model=~"$model"})"#,
        ),
        Panel::lines("Features watched", "In the last window, by model; series left out by the series budget.")
            .query("{{model}}@{{version}}", r#"max by (model, version) (driftline_window_features{model=~"$model"})"#)
            .query("series left out", "max(driftline_series_dropped)"),
    ]
}

fn quality() -> Vec<Panel> {
    let by_window = |metric: &str| format!(r#"max by (model, version, window) ({metric}{{model=~"$model"}})"#);
    let legend = "{{model}}@{{version}} {{window}}";
    vec![
        Panel::lines(
            "Worst feature, by what is wrong",
            "Largest share of any feature in the last closed windows; which one it is stands on the model's page.",
        )
        .unit("percentunit")
        .query("{{model}} {{flaw}}", r#"max by (model, flaw) (driftline_window_worst_feature_ratio{model=~"$model"})"#),
        Panel::lines(
            "Rejected and repeated events",
            "Shares of the last window: events in the dead letter, and events with the prediction id of another.",
        )
        .unit("percentunit")
        .query("{{model}}@{{version}} {{window}} rejected", by_window("driftline_window_rejected_ratio"))
        .query("{{model}}@{{version}} {{window}} repeated", by_window("driftline_window_duplicate_ratio")),
        Panel::lines(
            "Events against what is usual",
            "Events of the last window divided by the mean of the windows before it; 1 is usual.",
        )
        .unit("percentunit")
        .query(
            legend,
            format!("{} / {}", by_window("driftline_window_rows"), by_window("driftline_window_expected_rows")),
        ),
        Panel::lines(
            "Age and delay of events",
            "Age of the newest event when its window closed, and mean time from an event to its record in Kafka.",
        )
        .unit("s")
        .query("{{model}}@{{version}} {{window}} age", by_window("driftline_window_freshness_seconds"))
        .query("{{model}}@{{version}} {{window}} delay", by_window("driftline_window_delay_seconds")),
        Panel::lines(
            "Schema changes",
            "Keys beside the features that the model does not list, and features that no event has any more.",
        )
        .width(24)
        .query("{{model}}@{{version}} {{window}} new", by_window("driftline_window_new_features"))
        .query("{{model}}@{{version}} {{window}} vanished", by_window("driftline_window_vanished_features")),
    ]
}

fn windows() -> Vec<Panel> {
    vec![
        Panel::lines("Events in the last window", "A sudden fall is a broken producer, not drift.").query(
            "{{model}}@{{version}} {{window}}",
            r#"max by (model, version, window) (driftline_window_rows{model=~"$model"})"#,
        ),
        Panel::lines("Age of the last window", "Time since the end of the newest closed window. It saw-tooths by the window's size; a straight climb means no window closes.")
            .unit("s")
            .query(
                "{{model}}@{{version}} {{window}}",
                r#"time() - max by (model, version, window) (driftline_window_end_time_seconds{model=~"$model"})"#,
            ),
        Panel::lines("Watermark behind now", "How far event time, up to which windows are closed, is behind the clock.")
            .unit("s")
            .query("{{model}}", r#"time() - max by (model) (driftline_watermark_seconds{model=~"$model"})"#),
        Panel::lines("Windows closed and revised", "A minute; revisions come from late events within the allowed lateness.")
            .query("{{model}} closed", r#"60 * sum by (model) (rate(driftline_windows_closed_total{model=~"$model"}[$__rate_interval]))"#)
            .query("{{model}} revised", r#"60 * sum by (model) (rate(driftline_windows_revised_total{model=~"$model"}[$__rate_interval]))"#),
        Panel::lines("Incomplete windows", "Windows with a known gap in their input: their alerts are muted. 0 in the second line: the newest window is one.")
            .query("{{model}} so far", r#"sum by (model) (driftline_windows_incomplete_total{model=~"$model"})"#)
            .query("{{model}}@{{version}} complete", r#"min by (model, version) (driftline_window_complete{model=~"$model"})"#),
        Panel::lines("Panes held", "State in memory: open panes, and feature statistics kept for the pages.")
            .query("open panes", "sum(driftline_open_panes)")
            .query("panes of moving references", "sum(driftline_history_panes)")
            .query("panes of performance", "sum(driftline_performance_panes)")
            .query("feature statistics for pages", "max(driftline_view_cells)"),
    ]
}

fn events() -> Vec<Panel> {
    vec![
        Panel::lines("Events read", "A second, by source topic.")
            .query("{{topic}}", "sum by (topic) (rate(driftline_events_read_total[$__rate_interval]))"),
        Panel::lines(
            "Events counted",
            "A second, by model; late ones are written to the topic `late` and not counted.",
        )
        .query(
            "{{model}}",
            r#"sum by (model) (rate(driftline_events_ingested_total{model=~"$model"}[$__rate_interval]))"#,
        )
        .query(
            "{{model}} late",
            r#"sum by (model) (rate(driftline_events_late_total{model=~"$model"}[$__rate_interval]))"#,
        )
        .query(
            "{{model}} too late for performance",
            r#"sum by (model) (rate(driftline_performance_late_total{model=~"$model"}[$__rate_interval]))"#,
        ),
        Panel::lines(
            "Dead letters by reason",
            "A second. The events stand in the dead-letter topic with their reason.",
        )
        .query(
            "{{topic}} {{reason}}",
            "sum by (topic, reason) (rate(driftline_events_dead_lettered_total[$__rate_interval]))",
        ),
        Panel::lines(
            "Lag",
            "Records not yet read and committed. Growing: start more processes with the same configuration.",
        )
        .query("{{role}} {{topic}}", "sum by (role, topic) (driftline_consumer_lag_records)"),
        Panel::new(Drawing::Heatmap, "Time of a flush", "From the first row to the committed transaction.")
            .unit("s")
            .query("{{le}}", "sum by (le) (rate(driftline_flush_seconds_bucket[$__rate_interval]))"),
        Panel::lines("Flushes, aborted transactions, rebalances", "A minute. Aborts cost time, never events.")
            .query("flushes", "60 * sum(rate(driftline_flushes_total[$__rate_interval]))")
            .query(
                "{{role}} aborted",
                "60 * sum by (role) (rate(driftline_transactions_aborted_total[$__rate_interval]))",
            )
            .query("{{role}} rebalances", "60 * sum by (role) (rate(driftline_rebalances_total[$__rate_interval]))"),
    ]
}

fn labels() -> Vec<Panel> {
    let rate =
        |metric: &str| format!(r#"60 * sum by (model, outcome) (rate({metric}{{model=~"$model"}}[$__rate_interval]))"#);
    vec![
        Panel::lines(
            "What became of labels",
            "A minute. unmatched and too_late are in the dead letter; early ones wait for their prediction.",
        )
        .query("{{model}} {{outcome}}", rate("driftline_join_labels_total")),
        Panel::lines(
            "What became of predictions that await labels",
            "A minute. unsampled and evicted: the budget of pending predictions is full, and a share of them is joined.",
        )
        .query("{{model}} {{outcome}}", rate("driftline_join_predictions_total")),
        Panel::lines("Share of predictions joined within the budget", "1 unless more wait than labels.max_pending.")
            .unit("percentunit")
            .query("{{model}}", r#"min by (model) (driftline_join_sample_ratio{model=~"$model"})"#),
        Panel::lines("Behind real time", "Event time up to which predictions and labels have been joined, against the clock.")
            .unit("s")
            .query("{{model}}", r#"time() - min by (model) (driftline_join_time_seconds{model=~"$model"})"#),
        Panel::lines("Predictions kept for their labels", "Over all processes.")
            .query("{{model}}", r#"sum by (model) (driftline_join_pending_predictions{model=~"$model"})"#),
        Panel::lines("Memory of predictions kept for their labels", "Approximate.")
            .unit("bytes")
            .query("{{model}}", r#"sum by (model) (driftline_join_pending_bytes{model=~"$model"})"#),
    ]
}

fn delivery() -> Vec<Panel> {
    vec![
        Panel::lines("Rule evaluations", "A minute, by outcome.").query(
            "{{rule}} {{outcome}}",
            "60 * sum by (rule, outcome) (rate(driftline_rule_evaluations_total[$__rate_interval]))",
        ),
        Panel::lines(
            "Notifications",
            "Derived from rules since the process started, and those that nobody was told of.",
        )
        .query("{{rule}} {{status}}", "sum by (rule, status) (driftline_notifications_total)")
        .query("{{rule}} kept quiet: {{by}}", "sum by (rule, by) (driftline_notifications_suppressed_total)"),
        Panel::lines("Delivery attempts", "Since the process started, by receiver and outcome.")
            .query("{{receiver}} {{outcome}}", "sum by (receiver, outcome) (driftline_delivery_attempts_total)"),
        Panel::lines(
            "Waiting and given up",
            "Notifications that wait for their next attempt, and those given up after the expiry.",
        )
        .query("{{receiver}} waiting", "sum by (receiver) (driftline_deliveries_pending)")
        .query("{{receiver}} given up", "sum by (receiver) (driftline_deliveries_expired_total)"),
        Panel::new(
            Drawing::Heatmap,
            "Time of a delivery attempt",
            "Until the receiver answered or the attempt was given up.",
        )
        .unit("s")
        .query("{{le}}", "sum by (le) (rate(driftline_delivery_seconds_bucket[$__rate_interval]))"),
    ]
}

fn process() -> Vec<Panel> {
    vec![
        Panel::lines("Memory", "Resident, and the part that panes take.")
            .unit("bytes")
            .query("{{instance}}", "driftline_process_resident_memory_bytes")
            .query("{{instance}} panes", "driftline_pane_bytes")
            .query("{{instance}} panes of moving references", "driftline_history_bytes")
            .query("{{instance}} panes of performance", "driftline_performance_bytes"),
        Panel::lines("CPU", "Cores in use.")
            .query("{{instance}}", "rate(driftline_process_cpu_seconds_total[$__rate_interval])"),
        Panel::lines("Up for", "Since the process started.")
            .unit("s")
            .query("{{instance}}", "time() - driftline_process_start_time_seconds"),
        Panel::lines("Pages", "HTTP requests, and log records taken in for the pages, a second.")
            .query(
                "{{route}} {{status}}",
                "sum by (route, status) (rate(driftline_http_requests_total[$__rate_interval]))",
            )
            .query(
                "{{topic}} {{outcome}}",
                "sum by (topic, outcome) (rate(driftline_view_records_total[$__rate_interval]))",
            ),
    ]
}
