//! Delivery: which receivers answer, what waits for them and why, and what was given up.

use serde_json::Value;

use super::{Drawing, MODEL, Panel, Row, Variable, dashboard as build};

const RECEIVER: &str = "label_values(driftline_deliveries_pending, receiver)";

pub fn dashboard() -> Value {
    build(
        "driftline-delivery",
        "Driftline / Delivery",
        "Receivers: which answer, what waits for them and why, what was given up.",
        &[
            Variable { name: "model", label: "Model", query: MODEL, many: true },
            Variable { name: "receiver", label: "Receiver", query: RECEIVER, many: true },
        ],
        vec![Row { title: "Receivers", panels: receivers() }, Row { title: "Notifications", panels: notifications() }],
    )
}

fn by_receiver(metric: &str) -> String {
    format!("sum by (receiver) ({metric}{{receiver=~\"$receiver\"}})")
}

fn receivers() -> Vec<Panel> {
    vec![
        Panel::lines(
            "Circuit",
            "0: attempts go ahead. 1: one at a time, after failures in a row. 2: left alone for a while.",
        )
        .query(
            "{{receiver}}",
            "max by (receiver) (driftline_receiver_circuit_state{receiver=~\"$receiver\"})",
        ),
        Panel::lines("Attempts", "An hour, by outcome. `retry` is made again, `permanent` was refused for good.").query(
            "{{receiver}} {{outcome}}",
            "3600 * sum by (receiver, outcome) (rate(driftline_delivery_attempts_total{receiver=~\"$receiver\"}[$__rate_interval]))",
        ),
        Panel::new(Drawing::Heatmap, "Time of an attempt", "Until the receiver answered or the attempt was given up.")
            .unit("s")
            .query("{{le}}", "sum by (le) (rate(driftline_delivery_seconds_bucket[$__rate_interval]))"),
    ]
}

fn notifications() -> Vec<Panel> {
    vec![
        Panel::lines("Waiting", "Not yet accepted: all, and those of them that a silence holds back.")
            .query("{{receiver}}", by_receiver("driftline_deliveries_pending"))
            .query("{{receiver}} silenced", by_receiver("driftline_deliveries_held")),
        Panel::lines(
            "Given up",
            "Since the process started: refused for good, or not taken before the expiry. Their fallback is told.",
        )
        .query("{{receiver}} refused", by_receiver("driftline_deliveries_failed_total"))
        .query("{{receiver}} expired", by_receiver("driftline_deliveries_expired_total"))
        .query("{{receiver}} told to its fallback", by_receiver("driftline_deliveries_fallback_total")),
        Panel::lines(
            "Not sent by themselves",
            "Since the process started: a later one of the episode said it too, or it ended while it was held back.",
        )
        .query("{{receiver}}", by_receiver("driftline_deliveries_superseded_total")),
        Panel::lines("Reminders and digests", "Since the process started: reminders delivered, digests tried.")
            .query("{{receiver}} reminders", by_receiver("driftline_delivery_reminders_total"))
            .query("{{receiver}} digests", by_receiver("driftline_delivery_digests_total")),
    ]
}
