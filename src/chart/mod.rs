//! Charts: pure functions from numbers to SVG, shared by pages, reports and e-mail; `picture` makes a PNG of one, `wording`
//! writes times and figures as people read them.
//!
//! Each is a complete document (namespace, fill attributes) that stands alone in an e-mail or a file; a page's
//! style sheet recolours it by class. Widths are those of a phone, so that text stays readable when scaled.

mod performance;
pub mod picture;
pub mod wording;

use maud::{Markup, html};

pub use performance::{PerformancePoint, performance};

use crate::stats::metric::BinShare;

const WIDTH: f64 = 420.0;
/// Okabe and Ito's blue and vermilion: told apart with any colour vision.
const REFERENCE_COLOUR: &str = "#0072b2";
const WINDOW_COLOUR: &str = "#d55e00";
const TEXT_COLOUR: &str = "#3c4650";
const LINE_COLOUR: &str = "#98a2ad";

/// Shares of each bin or category, reference above window, as pairs of bars with their figures.
/// `title` is what a screen reader says.
pub fn shares(bins: &[BinShare], title: &str) -> Markup {
    const LABEL_WIDTH: f64 = 130.0;
    const FIGURE_WIDTH: f64 = 48.0;
    const ROW: f64 = 32.0;
    let widest = bins.iter().flat_map(|bin| [bin.reference, bin.window]).fold(1e-9, f64::max);
    let bar_width = |share: f64| (WIDTH - LABEL_WIDTH - FIGURE_WIDTH) * (share / widest).clamp(0.0, 1.0);
    let bar = |share: f64, y: f64, class: &str, colour: &str| {
        html! {
            rect class=(class) x=(LABEL_WIDTH) y=(y) width=(round(bar_width(share).max(0.5))) height="12" fill=(colour) {}
            text class="figure" x=(round(LABEL_WIDTH + bar_width(share) + 4.0)) y=(y + 10.0) font-size="10.5"
                fill=(TEXT_COLOUR) { (wording::share(share)) }
        }
    };
    frame(
        20.0 + ROW * bins.len() as f64,
        title,
        &html! {
            g font-size="11" fill=(TEXT_COLOUR) {
                rect class="reference" x=(LABEL_WIDTH) y="2" width="10" height="10" fill=(REFERENCE_COLOUR) {}
                text x=(LABEL_WIDTH + 15.0) y="11" { "reference" }
                rect class="window" x=(LABEL_WIDTH + 85.0) y="2" width="10" height="10" fill=(WINDOW_COLOUR) {}
                text x=(LABEL_WIDTH + 100.0) y="11" { "window" }
            }
            @for (index, bin) in bins.iter().enumerate() {
                @let y = 22.0 + ROW * index as f64;
                g {
                    title { (bin.label) ": reference " (wording::share(bin.reference)) ", window " (wording::share(bin.window)) }
                    text class="label" x=(LABEL_WIDTH - 8.0) y=(y + 16.0) text-anchor="end" font-size="12" fill=(TEXT_COLOUR) {
                        (shorten(&bin.label, 20))
                    }
                    (bar(bin.reference, y, "reference", REFERENCE_COLOUR))
                    (bar(bin.window, y + 13.0, "window", WINDOW_COLOUR))
                }
            }
        },
    )
}

/// One value along time. `None` leaves a gap.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    pub start_ms: i64,
    pub value: Option<f64>,
    /// Drawn as a filled mark: it is in the episode, it breached.
    pub marked: bool,
}

/// Values of a non-negative metric along time, oldest first, with thresholds as dashed lines.
pub fn timeline(points: &[Point], thresholds: &[f64], title: &str) -> Markup {
    const HEIGHT: f64 = 170.0;
    const LEFT: f64 = 38.0;
    const RIGHT: f64 = 8.0;
    const TOP: f64 = 8.0;
    const BOTTOM: f64 = 22.0;
    let highest = points.iter().filter_map(|point| point.value).chain(thresholds.iter().copied());
    let top_value = nice_ceiling(highest.filter(|value| value.is_finite()).fold(0.0, f64::max));
    let first_ms = points.first().map_or(0, |point| point.start_ms);
    let span_ms = (points.last().map_or(0, |point| point.start_ms) - first_ms).max(1) as f64;
    let x = |start_ms: i64| round(LEFT + (WIDTH - LEFT - RIGHT) * (start_ms - first_ms) as f64 / span_ms);
    let y = |value: f64| round(TOP + (HEIGHT - TOP - BOTTOM) * (1.0 - (value / top_value).clamp(0.0, 1.0)));
    let known = || points.iter().filter_map(|point| point.value.filter(|value| value.is_finite()).map(|v| (point, v)));
    frame(
        HEIGHT,
        title,
        &html! {
            @for step in [0.0, 0.5, 1.0] {
                line class="grid" x1=(LEFT) x2=(WIDTH - RIGHT) y1=(y(step * top_value)) y2=(y(step * top_value))
                    stroke=(LINE_COLOUR) stroke-width="0.5" {}
                text class="figure" x=(LEFT - 6.0) y=(y(step * top_value) + 4.0) text-anchor="end" font-size="10.5"
                    fill=(TEXT_COLOUR) { (tick(step * top_value)) }
            }
            @for threshold in thresholds {
                line class="threshold" x1=(LEFT) x2=(WIDTH - RIGHT) y1=(y(*threshold)) y2=(y(*threshold))
                    stroke=(WINDOW_COLOUR) stroke-width="1" stroke-dasharray="4 3" {}
            }
            @for run in runs(points) {
                polyline class="value" fill="none" stroke=(REFERENCE_COLOUR) stroke-width="1.5"
                    points=(run.iter().map(|(start_ms, value)| format!("{},{}", x(*start_ms), y(*value))).collect::<Vec<_>>().join(" ")) {}
            }
            @for (point, value) in known() {
                circle class=(if point.marked { "marked" } else { "dot" }) cx=(x(point.start_ms)) cy=(y(value))
                    r=(if point.marked { 4.0 } else { 2.0 })
                    fill=(if point.marked { WINDOW_COLOUR } else { REFERENCE_COLOUR }) {
                    title { (wording::minute(point.start_ms)) ": " (wording::figure(value)) }
                }
            }
            @if let (Some(first), Some(last)) = (points.first(), points.last()) {
                text x=(LEFT) y=(HEIGHT - 6.0) font-size="10.5" fill=(TEXT_COLOUR) { (wording::minute(first.start_ms)) }
                @if points.len() > 1 {
                    text x=(WIDTH - RIGHT) y=(HEIGHT - 6.0) text-anchor="end" font-size="10.5" fill=(TEXT_COLOUR) {
                        (wording::minute(last.start_ms))
                    }
                }
            }
        },
    )
}

/// Stretches of neighbouring points that have a value, as (time, value).
fn runs(points: &[Point]) -> Vec<Vec<(i64, f64)>> {
    let mut runs = vec![Vec::new()];
    for point in points {
        match point.value.filter(|value| value.is_finite()) {
            Some(value) => {
                if let Some(run) = runs.last_mut() {
                    run.push((point.start_ms, value));
                }
            }
            None => runs.push(Vec::new()),
        }
    }
    runs.retain(|run| run.len() > 1);
    runs
}

fn frame(height: f64, title: &str, content: &Markup) -> Markup {
    html! {
        svg class="chart" xmlns="http://www.w3.org/2000/svg" viewBox=(format!("0 0 {WIDTH} {height}")) role="img"
            font-family="system-ui, sans-serif" {
            title { (title) }
            (content)
        }
    }
}

/// The smallest of 1, 2, 2.5, 5 times a power of ten that is not below `value`.
fn nice_ceiling(value: f64) -> f64 {
    if value <= 0.0 {
        return 1.0;
    }
    let power = 10f64.powf(value.log10().floor());
    [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().map(|step| step * power).find(|top| *top >= value).unwrap_or(value)
}

/// A round figure without the zeros that say nothing.
fn tick(value: f64) -> String {
    let text = wording::figure(value);
    if text.contains('.') && !text.contains('e') {
        return text.trim_end_matches('0').trim_end_matches('.').to_string();
    }
    text
}

fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// At most `most` characters; what was cut shows as an ellipsis.
fn shorten(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_string();
    }
    text.chars().take(most - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_as_long_as_its_share_and_a_label_cannot_break_out() {
        let bins = [
            BinShare { label: "<script>".into(), reference: 0.2, window: 0.4 },
            BinShare { label: "b".into(), reference: 0.1, window: 0.0 },
        ];
        let svg = shares(&bins, "amount").into_string();
        assert!(!svg.contains("<script>"), "{svg}");
        assert!(svg.contains("&lt;script&gt;"), "{svg}");
        let widths: Vec<&str> = svg
            .split("height=\"12\"")
            .filter_map(|before| before.rsplit("width=\"").next()?.split('"').next())
            .take(4)
            .collect();
        assert_eq!(widths, ["121", "242", "60.5", "0.5"]);
    }

    #[test]
    fn a_missing_window_breaks_the_line() {
        let point = |start_ms, value| Point { start_ms, value, marked: false };
        let points =
            [point(0, Some(0.1)), point(1, Some(0.2)), point(2, None), point(3, Some(0.3)), point(4, Some(0.1))];
        let svg = timeline(&points, &[0.25], "psi").into_string();
        assert_eq!(svg.matches("<polyline").count(), 2, "{svg}");
        assert_eq!(svg.matches("<circle").count(), 4, "{svg}");
        assert_eq!(svg.matches("threshold").count(), 1, "{svg}");
    }

    #[test]
    fn an_axis_ends_at_a_round_figure_above_the_values() {
        let tops = [0.0, 0.07, 0.21, 0.25, 0.9, 3.2].map(nice_ceiling);
        for (top, expected) in tops.into_iter().zip([1.0, 0.1, 0.25, 0.25, 1.0, 5.0]) {
            assert!((top - expected).abs() < 1e-12, "{top} is not {expected}");
        }
    }

    #[test]
    fn nothing_known_draws_no_mark_and_does_not_divide_by_zero() {
        let svg = timeline(&[Point { start_ms: 5, value: None, marked: false }], &[], "psi").into_string();
        assert!(!svg.contains("NaN") && !svg.contains("circle"), "{svg}");
    }
}
