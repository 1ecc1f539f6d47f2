//! Numbers, times and names, as people read them.

use chrono::DateTime;

use crate::rules::performance_metrics;
use crate::windows::result::Window;

/// Characters of a name or sentence that comes from events.
const MAX_NAME_CHARS: usize = 500;

pub fn metric_title(metric: &str) -> String {
    match metric {
        "psi" => "PSI".into(),
        "ks" => "KS".into(),
        "js" => "JS".into(),
        "kl" => "KL".into(),
        "chi_square" => "chi-square".into(),
        "cramers_v" => "Cram\u{e9}r's V".into(),
        "wasserstein" => "Wasserstein".into(),
        "wasserstein_norm" => "Wasserstein (normed)".into(),
        other => match performance_metrics::find(other) {
            Some(row) => row.metric.label.into(),
            None => clean(other).replace('_', " "),
        },
    }
}

pub fn window(window: Window) -> String {
    let (start, end) = (time(window.start_ms), time(window.end_ms));
    match (start.split_once(' '), end.split_once(' ')) {
        (Some((start_day, start_clock)), Some((end_day, end_clock))) if start_day == end_day => {
            format!("{start_day} {} to {end_clock}", start_clock.trim_end_matches(" UTC"))
        }
        _ => format!("{} to {end}", start.trim_end_matches(" UTC")),
    }
}

/// `2026-03-01 14:00 UTC`; seconds only where they are not zero.
pub fn time(at_ms: i64) -> String {
    match DateTime::from_timestamp_millis(at_ms) {
        Some(at) if at_ms % 60_000 == 0 => at.format("%Y-%m-%d %H:%M UTC").to_string(),
        Some(at) => at.format("%Y-%m-%d %H:%M:%S UTC").to_string(),
        None => format!("{at_ms} ms"),
    }
}

/// Three significant digits; whole numbers whole.
pub fn number(value: f64) -> String {
    if !value.is_finite() {
        return value.to_string();
    }
    if value == value.trunc() && value.abs() < 1e15 {
        let sign = if value < 0.0 { "-" } else { "" };
        return format!("{sign}{}", grouped(value.abs() as u64));
    }
    let magnitude = value.abs().log10().floor();
    if (-4.0..6.0).contains(&magnitude) {
        let decimals = (2.0 - magnitude).max(0.0) as usize;
        format!("{value:.decimals$}")
    } else {
        format!("{value:.2e}")
    }
}

pub const SMALLEST_P: f64 = 1e-6;

pub fn p_value(p: f64) -> String {
    if p < SMALLEST_P { "< 1e-6".into() } else { number(p) }
}

/// `10 240`
pub fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}

/// A name from events, fit for one line: no control characters, bounded length.
pub fn clean(text: &str) -> String {
    let is_unfit = |c: char| {
        c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let mut chars = text.chars().map(|c| if is_unfit(c) { ' ' } else { c });
    let shown: String = chars.by_ref().take(MAX_NAME_CHARS).collect();
    if chars.next().is_some() { format!("{shown}...") } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_people_do() {
        for (value, text) in [(0.41237, "0.412"), (12.0, "12"), (10_240.0, "10 240"), (-3.5, "-3.50")] {
            assert_eq!(number(value), text);
        }
        assert_eq!(number(1.5e-9), "1.50e-9");
        assert_eq!(p_value(3e-9), "< 1e-6");
        assert_eq!(p_value(0.00123), "0.00123");
        assert_eq!(grouped(1_234_567), "1 234 567");
    }

    #[test]
    fn a_window_within_a_day_names_the_day_once() {
        let hour = Window { start_ms: 1_767_225_600_000, end_ms: 1_767_229_200_000 };
        assert_eq!(window(hour), "2026-01-01 00:00 to 01:00 UTC");
        let two_days = Window { start_ms: 1_767_222_000_000, end_ms: 1_767_229_200_000 };
        assert_eq!(window(two_days), "2025-12-31 23:00 to 2026-01-01 01:00 UTC");
    }

    #[test]
    fn a_name_cannot_break_a_line_or_turn_the_text() {
        assert_eq!(clean("a\r\nBcc: x\u{202e}y"), "a  Bcc: x y");
    }
}
