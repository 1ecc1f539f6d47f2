//! Panels about retraining and rollback, a row of the overview.

use serde_json::{Value, json};

use super::{Panel, source};

/// Marks where a run of an action went ahead or ended, so that a change in the lines can be told from a retraining.
pub fn annotation() -> Value {
    json!({
        "name": "Retraining and rollback", "enable": true, "iconColor": "blue", "datasource": source(), "step": "60s",
        "expr": "sum by (action, state) (increase(driftline_action_transitions_total{state=~\"calling|succeeded|failed\"}[1m]))",
        "titleFormat": "{{action}} {{state}}", "tagKeys": "action,state",
    })
}

pub fn panels() -> Vec<Panel> {
    vec![
        Panel::lines(
            "Runs by state",
            "Runs of the last 90 days. Blocked and suspended ones say on their page what would let them go ahead.",
        )
        .query("{{action}} {{state}}", "sum by (action, state) (driftline_action_runs)"),
        Panel::lines("Changes of state", "An hour, by action and the state that was entered.").query(
            "{{action}} {{state}}",
            "3600 * sum by (action, state) (rate(driftline_action_transitions_total[$__rate_interval]))",
        ),
        Panel::lines(
            "Calls of targets",
            "Since the process started, by outcome; those to be tried again are made again.",
        )
        .query("{{action}} {{outcome}}", "sum by (action, outcome) (driftline_action_calls_total)"),
        Panel::lines("Time since the last success", "By action and model; runs of the last 90 days.").unit("s").query(
            "{{action}} {{model}}",
            r#"time() - max by (action, model) (driftline_action_last_success_time_seconds{model=~"$model"})"#,
        ),
    ]
}
