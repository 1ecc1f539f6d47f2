//! Gauges of the values of rules' queries, of all events and of segments.

use prometheus::{GaugeVec, Opts};

use super::{Watched, last_of_versions};
use crate::config::units::Span;
use crate::http::view::View;
use crate::stats::sql::{VALUE, rule_of};
use crate::telemetry::Families;

/// Value of the label `segment` for all events.
const ALL: &str = "all";
const LABELS: [&str; 5] = ["model", "version", "window", "segment", "rule"];

/// Sets the gauges of all models. Series made, and series left out to keep the budget.
pub fn derive(
    families: &Families,
    view: &View,
    watched: &Watched,
    series_budget: usize,
) -> Result<(usize, usize), prometheus::Error> {
    let help = "Value of a rule's query in the last closed window.";
    let values = families.register("query_value", |name| GaugeVec::new(Opts::new(name, help), &LABELS))?;
    let (mut used, mut dropped) = (0, 0);
    for model in &watched.models {
        // All events of each version come before its segments.
        for (key, series) in last_of_versions(view.series().filter(|(key, _)| key.model == model.name)) {
            let Some(last) = series.values().next_back() else { continue };
            for (name, stats) in &last.features {
                let value = stats.metrics.get(VALUE).and_then(|value| value.value);
                let Some((rule, value)) = rule_of(name).zip(value) else { continue };
                if used >= series_budget {
                    dropped += 1;
                    continue;
                }
                used += 1;
                let segment = if key.segment.is_all() { ALL.to_string() } else { key.segment.to_string() };
                let window = Span::from_ms(key.size_ms).to_string();
                values.with_label_values(&[&key.model, &key.version, &window, &segment, rule]).set(value);
            }
        }
    }
    Ok((used, dropped))
}
