//! A figure of a model's performance along time: what the labels say, what was expected without them, and how many
//! labels are known.

use maud::{Markup, html};

use super::wording;
use super::{LINE_COLOUR, REFERENCE_COLOUR, TEXT_COLOUR, WIDTH, WINDOW_COLOUR, frame, nice_ceiling, round, tick};

/// One window. What is not known is `None`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct PerformancePoint {
    pub start_ms: i64,
    /// From labels.
    pub realised: Option<f64>,
    pub realised_interval: Option<[f64; 2]>,
    /// Without labels.
    pub estimate: Option<f64>,
    pub estimate_interval: Option<[f64; 2]>,
    /// Share of the predictions whose label is known.
    pub coverage: Option<f64>,
    /// No label can change it any more.
    pub is_final: bool,
    /// In the episode.
    pub marked: bool,
}

const LEFT: f64 = 44.0;
const RIGHT: f64 = 8.0;
const TOP: f64 = 24.0;
const PLOT_HEIGHT: f64 = 150.0;
const COVERAGE_TOP: f64 = TOP + PLOT_HEIGHT + 12.0;
const COVERAGE_HEIGHT: f64 = 26.0;
const HEIGHT: f64 = COVERAGE_TOP + COVERAGE_HEIGHT + 20.0;

struct Axes {
    first_ms: i64,
    span_ms: f64,
    least: f64,
    most: f64,
    step: f64,
}

impl Axes {
    fn of(points: &[PerformancePoint], levels: &[f64]) -> Self {
        let values = points.iter().flat_map(|point| {
            let ends = [point.realised_interval, point.estimate_interval].into_iter().flatten().flatten();
            [point.realised, point.estimate].into_iter().flatten().chain(ends)
        });
        let values = values.chain(levels.iter().copied()).filter(|value| value.is_finite());
        let (least, most) =
            values.fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), value| (least.min(value), most.max(value)));
        let (least, most) = if least > most { (0.0, 1.0) } else { (least, most) };
        // Two to five steps; a flat line stands in the middle.
        let height = if most > least { most - least } else { least.abs().max(1.0) / 10.0 };
        let step = nice_ceiling(height / 4.0);
        let first_ms = points.first().map_or(0, |point| point.start_ms);
        let last_ms = points.last().map_or(0, |point| point.start_ms);
        let floor = (least / step).floor() * step;
        let ceiling = (most / step).ceil() * step;
        Self {
            first_ms,
            span_ms: (last_ms - first_ms).max(1) as f64,
            least: floor,
            most: if ceiling > floor { ceiling } else { floor + step },
            step,
        }
    }

    fn x(&self, start_ms: i64) -> f64 {
        // A single window stands in the middle.
        if self.span_ms <= 1.0 {
            return round((LEFT + WIDTH - RIGHT) / 2.0);
        }
        let inset = 4.0;
        let width = WIDTH - LEFT - RIGHT - 2.0 * inset;
        round(LEFT + inset + width * (start_ms - self.first_ms) as f64 / self.span_ms)
    }

    fn y(&self, value: f64) -> f64 {
        let share = ((value - self.least) / (self.most - self.least)).clamp(0.0, 1.0);
        round(TOP + PLOT_HEIGHT * (1.0 - share))
    }

    fn ticks(&self) -> Vec<f64> {
        let count = ((self.most - self.least) / self.step).round() as usize;
        (0..=count.min(8)).map(|index| self.least + self.step * index as f64).collect()
    }
}

/// A figure and its interval, of one kind, as (time, value, interval).
type Known = (i64, f64, Option<[f64; 2]>);

/// Oldest window first. `baseline`: what the reference had; `thresholds`: levels of rules. `title` is what a screen
/// reader says.
pub fn performance(points: &[PerformancePoint], baseline: Option<f64>, thresholds: &[f64], title: &str) -> Markup {
    let baseline = baseline.filter(|value| value.is_finite());
    let levels: Vec<f64> = thresholds.iter().copied().chain(baseline).collect();
    let axes = Axes::of(points, &levels);
    let finite = |value: Option<f64>| value.filter(|value| value.is_finite());
    let realised = runs(points, |point| finite(point.realised).map(|value| (value, point.realised_interval)));
    let estimates = runs(points, |point| finite(point.estimate).map(|value| (value, point.estimate_interval)));
    frame(
        HEIGHT,
        title,
        &html! {
            (legend(!realised.is_empty(), !estimates.is_empty(), baseline.is_some()))
            @for value in axes.ticks() {
                line class="grid" x1=(LEFT) x2=(WIDTH - RIGHT) y1=(axes.y(value)) y2=(axes.y(value)) stroke=(LINE_COLOUR)
                    stroke-width="0.5" {}
                text class="figure" x=(LEFT - 6.0) y=(axes.y(value) + 4.0) text-anchor="end" font-size="10.5"
                    fill=(TEXT_COLOUR) { (tick_on(value, axes.step)) }
            }
            @for threshold in thresholds {
                line class="threshold" x1=(LEFT) x2=(WIDTH - RIGHT) y1=(axes.y(*threshold)) y2=(axes.y(*threshold))
                    stroke=(WINDOW_COLOUR) stroke-width="1" stroke-dasharray="1 3" {}
            }
            @if let Some(value) = baseline {
                line class="baseline" x1=(LEFT) x2=(WIDTH - RIGHT) y1=(axes.y(value)) y2=(axes.y(value)) stroke=(TEXT_COLOUR)
                    stroke-width="1" stroke-dasharray="8 3 2 3" { title { "baseline " (wording::figure(value)) } }
            }
            @for run in &estimates { (band(&axes, run, "estimate-band", WINDOW_COLOUR)) }
            @for run in &realised { (band(&axes, run, "realised-band", REFERENCE_COLOUR)) }
            @for run in &estimates { (line(&axes, run, "estimate", WINDOW_COLOUR, Some("5 3"))) }
            @for run in &realised { (line(&axes, run, "value", REFERENCE_COLOUR, None)) }
            @for point in points { (mark(&axes, point)) }
            (coverage(&axes, points))
            @if let (Some(first), Some(last)) = (points.first(), points.last()) {
                text x=(LEFT) y=(HEIGHT - 5.0) font-size="10.5" fill=(TEXT_COLOUR) { (wording::minute(first.start_ms)) }
                @if points.len() > 1 {
                    text x=(WIDTH - RIGHT) y=(HEIGHT - 5.0) text-anchor="end" font-size="10.5" fill=(TEXT_COLOUR) {
                        (wording::minute(last.start_ms))
                    }
                }
            }
        },
    )
}

fn legend(has_realised: bool, has_estimate: bool, has_baseline: bool) -> Markup {
    let sample = |x: f64, class: &str, colour: &str, dash: Option<&str>| {
        html! { line class=(class) x1=(x) x2=(x + 18.0) y1="9" y2="9" stroke=(colour) stroke-width="2" stroke-dasharray=[dash] {} }
    };
    html! {
        g font-size="11" fill=(TEXT_COLOUR) {
            @if has_realised {
                (sample(LEFT, "value", REFERENCE_COLOUR, None))
                text x=(LEFT + 23.0) y="13" { "realised" }
            }
            @if has_estimate {
                (sample(LEFT + 92.0, "estimate", WINDOW_COLOUR, Some("5 3")))
                text x=(LEFT + 115.0) y="13" { "estimate" }
            }
            @if has_baseline {
                (sample(LEFT + 184.0, "baseline", TEXT_COLOUR, Some("8 3 2 3")))
                text x=(LEFT + 207.0) y="13" { "baseline" }
            }
        }
    }
}

/// The 95% intervals of neighbouring windows as an area; of a lone window as an upright line.
fn band(axes: &Axes, run: &[Known], class: &str, colour: &str) -> Markup {
    let with_ends: Vec<(i64, [f64; 2])> =
        run.iter().filter_map(|(start_ms, _, interval)| interval.map(|ends| (*start_ms, ends))).collect();
    let corner = |start_ms: i64, value: f64| format!("{},{}", axes.x(start_ms), axes.y(value));
    let upper = with_ends.iter().map(|(start_ms, ends)| corner(*start_ms, ends[1]));
    let lower = with_ends.iter().rev().map(|(start_ms, ends)| corner(*start_ms, ends[0]));
    html! {
        @match with_ends.as_slice() {
            [] => {}
            [(start_ms, ends)] => {
                line class=(class) x1=(axes.x(*start_ms)) x2=(axes.x(*start_ms)) y1=(axes.y(ends[0])) y2=(axes.y(ends[1]))
                    stroke=(colour) stroke-width="3" stroke-opacity="0.3" {}
            }
            _ => polygon class=(class) fill=(colour) fill-opacity="0.18" points=(upper.chain(lower).collect::<Vec<_>>().join(" ")) {}
        }
    }
}

fn line(axes: &Axes, run: &[Known], class: &str, colour: &str, dash: Option<&str>) -> Markup {
    let points: Vec<String> =
        run.iter().map(|(start_ms, value, _)| format!("{},{}", axes.x(*start_ms), axes.y(*value))).collect();
    html! {
        @if points.len() > 1 {
            polyline class=(class) fill="none" stroke=(colour) stroke-width="1.5" stroke-dasharray=[dash] points=(points.join(" ")) {}
        }
    }
}

/// Filled: final. Hollow: labels may still come. Large: in the episode.
fn mark(axes: &Axes, point: &PerformancePoint) -> Markup {
    let figure = |name: &str, value: Option<f64>, interval: Option<[f64; 2]>| {
        value.map(|value| match interval {
            Some([least, most]) => {
                format!("{name} {} ({} to {})", wording::figure(value), wording::figure(least), wording::figure(most))
            }
            None => format!("{name} {}", wording::figure(value)),
        })
    };
    let parts = [
        figure("realised", point.realised, point.realised_interval),
        figure("estimate", point.estimate, point.estimate_interval),
        point.coverage.map(|coverage| format!("labels {}", wording::share(coverage))),
        point.realised.map(|_| if point.is_final { "final" } else { "not final" }.to_string()),
    ];
    let said = parts.into_iter().flatten().collect::<Vec<_>>().join(", ");
    let radius = if point.marked { 4.0 } else { 2.2 };
    let known = |value: Option<f64>| value.filter(|value| value.is_finite());
    html! {
        @if let Some(value) = known(point.estimate) {
            circle class=(if point.marked { "marked" } else { "estimate-dot" }) cx=(axes.x(point.start_ms)) cy=(axes.y(value))
                r=(if point.marked { radius } else { 1.4 }) fill=(WINDOW_COLOUR) { title { (wording::minute(point.start_ms)) ": " (said) } }
        }
        @if let Some(value) = known(point.realised) {
            circle class=(if point.is_final { "dot" } else { "open" }) cx=(axes.x(point.start_ms)) cy=(axes.y(value)) r=(radius)
                fill=(if point.is_final { REFERENCE_COLOUR } else { "#ffffff" }) stroke=(REFERENCE_COLOUR) stroke-width="1.2" {
                title { (wording::minute(point.start_ms)) ": " (said) }
            }
        }
    }
}

/// Bars from 0 to all labels.
fn coverage(axes: &Axes, points: &[PerformancePoint]) -> Markup {
    let slots = points.len().max(1) as f64;
    let width = round(((WIDTH - LEFT - RIGHT) / slots * 0.7).clamp(1.0, 14.0));
    html! {
        line class="grid" x1=(LEFT) x2=(WIDTH - RIGHT) y1=(COVERAGE_TOP) y2=(COVERAGE_TOP) stroke=(LINE_COLOUR) stroke-width="0.5" {}
        line class="grid" x1=(LEFT) x2=(WIDTH - RIGHT) y1=(COVERAGE_TOP + COVERAGE_HEIGHT) y2=(COVERAGE_TOP + COVERAGE_HEIGHT)
            stroke=(LINE_COLOUR) stroke-width="0.5" {}
        text class="figure" x=(LEFT - 6.0) y=(COVERAGE_TOP + 11.0) text-anchor="end" font-size="10.5" fill=(TEXT_COLOUR) { "labels" }
        text class="figure" x=(LEFT - 6.0) y=(COVERAGE_TOP + 24.0) text-anchor="end" font-size="10.5" fill=(TEXT_COLOUR) { "0–1" }
        @for point in points {
            @if let Some(share) = point.coverage.filter(|share| share.is_finite()) {
                @let height = round(COVERAGE_HEIGHT * share.clamp(0.0, 1.0));
                rect class=(if point.is_final { "coverage final" } else { "coverage" }) x=(round(axes.x(point.start_ms) - width / 2.0))
                    y=(round(COVERAGE_TOP + COVERAGE_HEIGHT - height)) width=(width) height=(height) fill=(LINE_COLOUR)
                    fill-opacity=(if point.is_final { "1" } else { "0.55" }) {
                    title { (wording::minute(point.start_ms)) ": labels of " (wording::share(share)) @if !point.is_final { ", not final" } }
                }
            }
        }
    }
}

/// Stretches of neighbouring windows that have the figure.
fn runs(
    points: &[PerformancePoint],
    value: impl Fn(&PerformancePoint) -> Option<(f64, Option<[f64; 2]>)>,
) -> Vec<Vec<Known>> {
    let mut runs: Vec<Vec<Known>> = vec![Vec::new()];
    for point in points {
        match (value(point), runs.last_mut()) {
            (Some((value, interval)), Some(run)) => run.push((point.start_ms, value, interval)),
            _ => runs.push(Vec::new()),
        }
    }
    runs.retain(|run| !run.is_empty());
    runs
}

/// As many decimals as the step needs.
fn tick_on(value: f64, step: f64) -> String {
    let decimals = (1.0 - step.log10().floor()).clamp(0.0, 6.0) as usize;
    if !(1e-6..1e6).contains(&step) {
        return tick(value);
    }
    let text = format!("{value:.decimals$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    if text == "-0" { "0".into() } else { text.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(start_ms: i64, realised: Option<f64>, estimate: Option<f64>) -> PerformancePoint {
        PerformancePoint {
            start_ms,
            realised,
            realised_interval: realised.map(|value| [value - 0.02, value + 0.02]),
            estimate,
            estimate_interval: estimate.map(|value| [value - 0.01, value + 0.01]),
            coverage: Some(if realised.is_some() { 0.8 } else { 0.0 }),
            is_final: start_ms < 2,
            marked: false,
        }
    }

    #[test]
    fn labels_draw_a_band_and_estimates_a_dashed_line() {
        let points = [
            point(0, Some(0.75), Some(0.74)),
            point(1, Some(0.74), Some(0.74)),
            point(2, Some(0.70), Some(0.71)),
            point(3, None, Some(0.69)),
        ];
        let svg = performance(&points, Some(0.76), &[0.7], "ROC AUC by window").into_string();
        assert_eq!(svg.matches("<polygon").count(), 2, "{svg}");
        assert_eq!(svg.matches("<polyline").count(), 2, "{svg}");
        assert_eq!(svg.matches("class=\"dot\"").count(), 2, "two final: {svg}");
        assert_eq!(svg.matches("class=\"open\"").count(), 1, "{svg}");
        assert_eq!(svg.matches("<rect").count(), 4, "{svg}");
        assert!(
            svg.contains("realised 0.700 (0.680 to 0.720), estimate 0.710 (0.700 to 0.720), labels 80.0%, not final"),
            "{svg}"
        );
        assert!(svg.contains("baseline 0.760"), "{svg}");
    }

    #[test]
    fn an_axis_holds_every_figure_negative_ones_too() {
        let axes = Axes::of(&[point(0, Some(-0.31), None), point(1, Some(0.42), None)], &[]);
        assert!(axes.least <= -0.33 && axes.most >= 0.44, "{} to {}", axes.least, axes.most);
        let labels: Vec<String> = axes.ticks().into_iter().map(|value| tick_on(value, axes.step)).collect();
        assert_eq!(labels, ["-0.4", "-0.2", "0", "0.2", "0.4", "0.6"]);
        let narrow = Axes::of(&[point(0, None, Some(0.7421)), point(1, None, Some(0.7433))], &[]);
        assert!(narrow.step <= 0.01 && narrow.ticks().len() <= 7, "{:?}", narrow.ticks());
    }

    #[test]
    fn nothing_known_and_a_lone_window_divide_by_nothing() {
        for points in [vec![], vec![PerformancePoint::default()], vec![point(5, Some(f64::NAN), None)]] {
            let svg = performance(&points, None, &[], "accuracy").into_string();
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
        let lone = performance(&[point(5, Some(0.5), None)], None, &[], "accuracy").into_string();
        assert!(lone.contains("<circle") && !lone.contains("<polyline"), "{lone}");
    }
}
