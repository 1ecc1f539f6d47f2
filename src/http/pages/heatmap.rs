//! Feature x window: an HTML table, so that every cell is text before it is a colour.

use maud::{Markup, html};

use crate::http::view::{Series, Slot, slots, worst_features};
use crate::http::wording;
use crate::stats::metric::FeatureStats;
use crate::windows::result::WindowResult;

/// Lower ends of the colour steps, in PSI; 0.1 and 0.25 are the customary limits of moderate and large shift.
const STEPS: [f64; 5] = [0.0, 0.05, 0.1, 0.25, 0.5];
const METRICS_IN_TOOLTIP: [(&str, &str); 5] =
    [("psi", "PSI"), ("ks", "KS"), ("js", "JS"), ("wasserstein_norm", "Wasserstein"), ("unseen_rate", "unseen")];

/// How much of a series is shown.
#[derive(Debug, Clone, Copy)]
pub struct Extent {
    pub windows: usize,
    pub features: usize,
}

/// Worst features first, newest window on the right.
pub fn render(series: &Series, size_ms: i64, extent: Extent) -> Markup {
    let slots = slots(series, extent.windows);
    let windows: Vec<&WindowResult> = slots.iter().filter_map(|slot| slot.result).collect();
    let features = worst_features(&windows);
    let hidden = features.len().saturating_sub(extent.features);
    html! {
        div.heat-scroll tabindex="0" role="region" aria-label="Drift by feature and window" {
            table.heat {
                thead {
                    tr {
                        th.corner {}
                        @for (day, columns) in days(&slots) { th.day colspan=(columns) scope="colgroup" { span { (day) } } }
                    }
                    tr {
                        th.corner scope="col" { "PSI by window" }
                        @for slot in &slots { th.at scope="col" { (wording::clock(slot.start_ms, size_ms)) } }
                    }
                }
                tbody {
                    @for feature in features.iter().take(extent.features) {
                        tr {
                            th scope="row" title=(feature) { span { (feature) } }
                            @for slot in &slots { (cell(feature, slot, size_ms)) }
                        }
                    }
                }
                tfoot {
                    tr {
                        th scope="row" { span { "events" } }
                        @for slot in &slots {
                            td { @if let Some(result) = slot.result { (short_count(result.rows)) } }
                        }
                    }
                }
            }
        }
        (legend())
        @if hidden > 0 { p.muted { (hidden) " more features drifted less than these." } }
    }
}

fn cell(feature: &str, slot: &Slot<'_>, size_ms: i64) -> Markup {
    let when = wording::window(slot.start_ms, slot.start_ms + size_ms);
    let Some(result) = slot.result else {
        return html! { td.gap title={ (when) ": no window closed here" } {} };
    };
    let stats = result.features.get(feature);
    let psi = stats.and_then(|stats| stats.metrics.get("psi")?.value).filter(|value| value.is_finite());
    let (Some(stats), Some(psi)) = (stats, psi) else {
        return html! { td.none title={ (feature) ", " (when) ": undefined, no values to compare" } { "–" } };
    };
    let step = STEPS.iter().rposition(|from| psi >= *from).unwrap_or(0);
    let class = format!("q{step}{}", if result.complete { "" } else { " incomplete" });
    html! { td class=(class) title=(tooltip(feature, &when, stats, result.complete)) { (wording::cell(psi)) } }
}

fn tooltip(feature: &str, when: &str, stats: &FeatureStats, complete: bool) -> String {
    let mut text = format!("{feature}, {when}:");
    for (key, name) in METRICS_IN_TOOLTIP {
        if let Some(value) = stats.metrics.get(key).and_then(|metric| metric.value) {
            text.push_str(&format!(" {name} {},", wording::figure(value)));
        }
    }
    text.push_str(&format!(" {} values, {} missing", wording::count(stats.n), wording::count(stats.missing)));
    if !complete {
        text.push_str("; incomplete: events are known to be missing");
    }
    text
}

/// Neighbouring columns of one day: its name and how many there are.
fn days(slots: &[Slot<'_>]) -> Vec<(String, usize)> {
    let mut days: Vec<(String, usize)> = Vec::new();
    for slot in slots {
        let day = wording::day(slot.start_ms);
        match days.last_mut() {
            Some((last, columns)) if *last == day => *columns += 1,
            _ => days.push((day, 1)),
        }
    }
    days
}

fn legend() -> Markup {
    html! {
        div.legend {
            span { "PSI" }
            @for (step, from) in STEPS.iter().enumerate() {
                span {
                    i class={ "q" (step) } {}
                    @match STEPS.get(step + 1) {
                        Some(to) if step == 0 => { "below " (to) }
                        Some(to) => { (from) " to " (to) }
                        None => { (from) " and more" }
                    }
                }
            }
            span { i.gap {} "no window" }
        }
    }
}

/// `950`, `1.2k`, `34k`, `1.2M`: to fit a heatmap's column.
fn short_count(rows: u64) -> String {
    let scaled = |value: f64, unit: &str| {
        if value < 9.95 { format!("{value:.1}{unit}") } else { format!("{value:.0}{unit}") }
    };
    match rows {
        0..=999 => rows.to_string(),
        1_000..=999_499 => scaled(rows as f64 / 1e3, "k"),
        999_500..=999_499_999 => scaled(rows as f64 / 1e6, "M"),
        _ => scaled(rows as f64 / 1e9, "G"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_fit_a_column() {
        let shown = [0, 999, 1_234, 34_400, 999_499, 999_500, 12_000_000].map(short_count);
        assert_eq!(shown, ["0", "999", "1.2k", "34k", "999k", "1.0M", "12M"]);
    }

    #[test]
    fn columns_are_gathered_by_day() {
        let slot = |start_ms| Slot { start_ms, result: None };
        let hour_ms = 3_600_000;
        let slots: Vec<Slot<'_>> = (22..27).map(|hour| slot(hour * hour_ms)).collect();
        assert_eq!(days(&slots), [("Jan 1".to_string(), 2), ("Jan 2".to_string(), 3)]);
    }
}
