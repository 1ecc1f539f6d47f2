//! The report as one JSON document.

use serde_json::{Value, json};

use super::report::Report;

pub fn of(report: &Report<'_>) -> Result<String, String> {
    let trail = &report.tried.trail;
    let history: Vec<Value> = report
        .tried
        .reads
        .iter()
        .map(|(model, read)| {
            let span = trail.spans.get(model);
            json!({
                "model": model,
                "rows": read.rows,
                "rows_used": trail.rows.get(model),
                "first_event_ms": span.map(|span| span.0),
                "last_event_ms": span.map(|span| span.1),
                "in_order": read.in_order,
                "late": trail.late.get(model),
                "windows_closed": trail.windows_closed.get(model),
                "notes": read.notes,
            })
        })
        .collect();
    let mut document = json!({
        "history": history,
        "rejected": trail.rejected,
        "unrouted": trail.unrouted,
        "episodes": trail.episodes,
        "messages": trail.messages,
        "receivers": report.receivers,
        "runs": trail.runs,
        "rules": report.rules,
        "problems": trail.problems,
    });
    let more = [
        ("comparison", report.comparison.as_ref().map(serde_json::to_value)),
        ("incidents", report.score.as_ref().map(serde_json::to_value)),
        ("suggestions", report.suggestions.as_ref().map(serde_json::to_value)),
    ];
    for (key, value) in more {
        if let Some(value) = value {
            document[key] = value.map_err(|error| error.to_string())?;
        }
    }
    Ok(format!("{document:#}\n"))
}
