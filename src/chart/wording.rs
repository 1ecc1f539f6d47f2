//! Times, counts and figures as people read them. Times are UTC.

use chrono::{DateTime, Utc};

fn utc(at_ms: i64) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_millis(at_ms)
}

/// `2026-01-31 14:05`.
pub fn minute(at_ms: i64) -> String {
    utc(at_ms).map_or_else(|| format!("{at_ms} ms"), |time| time.format("%Y-%m-%d %H:%M").to_string())
}

/// `2026-01-31T14:05:09Z`, for `datetime` attributes.
pub fn rfc3339(at_ms: i64) -> String {
    utc(at_ms).map_or_else(String::new, |time| time.format("%Y-%m-%dT%H:%M:%SZ").to_string())
}

/// `Jan 31`.
pub fn day(at_ms: i64) -> String {
    utc(at_ms).map_or_else(String::new, |time| time.format("%b %-d").to_string())
}

/// `14:05`, or with seconds where a window is shorter than a minute.
pub fn clock(at_ms: i64, size_ms: i64) -> String {
    let pattern = if size_ms < 60_000 { "%H:%M:%S" } else { "%H:%M" };
    utc(at_ms).map_or_else(String::new, |time| time.format(pattern).to_string())
}

/// `2026-01-31 14:00 to 15:00`; both dates where they differ.
pub fn window(start_ms: i64, end_ms: i64) -> String {
    let size_ms = end_ms - start_ms;
    let date = |at_ms: i64| utc(at_ms).map_or_else(String::new, |time| time.format("%Y-%m-%d").to_string());
    // The end is exclusive: midnight still belongs to the day before.
    let to = if date(start_ms) == date(end_ms - 1) {
        clock(end_ms, size_ms)
    } else {
        format!("{} {}", date(end_ms), clock(end_ms, size_ms))
    };
    format!("{} {} to {to}", date(start_ms), clock(start_ms, size_ms))
}

/// `12 s ago`, `3 min ago`, `5 h ago`, `2 days ago`; `in 3 min` for what lies ahead.
pub fn ago(at_ms: i64, now_ms: i64) -> String {
    let seconds = (now_ms - at_ms).abs() / 1_000;
    let length = match seconds {
        0..=89 => format!("{seconds} s"),
        90..=5_399 => format!("{} min", (seconds + 30) / 60),
        5_400..=172_799 => format!("{} h", (seconds + 1_800) / 3_600),
        _ => format!("{} days", (seconds + 43_200) / 86_400),
    };
    if at_ms > now_ms { format!("in {length}") } else { format!("{length} ago") }
}

/// Thousands apart by a thin space: `10 240`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() * 2);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push('\u{202f}');
        }
        grouped.push(digit);
    }
    grouped
}

/// `41.3%`; more digits where it is small.
pub fn share(value: f64) -> String {
    let percent = value * 100.0;
    if percent != 0.0 && percent.abs() < 0.1 { format!("{percent:.3}%") } else { format!("{percent:.1}%") }
}

/// Three significant digits: `0.413`, `12.3`, `4.1e-7`.
pub fn figure(value: f64) -> String {
    let size = value.abs();
    if !value.is_finite() {
        "undefined".into()
    } else if size == 0.0 {
        "0".into()
    } else if !(1e-3..1e6).contains(&size) {
        format!("{value:.1e}")
    } else {
        let decimals = (2 - size.log10().floor() as i32).clamp(0, 5) as usize;
        format!("{value:.decimals$}")
    }
}

/// A p-value: `0.032`, `< 1e-6`.
pub fn probability(value: f64) -> String {
    if value < 1e-6 { "< 1e-6".into() } else { figure(value) }
}

/// Two decimals without the leading zero, to fit a heatmap's cell: `.41`, `1.3`, `12`.
pub fn cell(value: f64) -> String {
    if value >= 9.95 {
        format!("{value:.0}")
    } else if value >= 0.995 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}").trim_start_matches('0').to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_keep_three_digits_and_fit_their_place() {
        let figures: Vec<String> = [0.0, 0.4126, 12.34, 1234.5, 4.07e-7, f64::NAN].map(figure).to_vec();
        assert_eq!(figures, ["0", "0.413", "12.3", "1234", "4.1e-7", "undefined"]);
        assert_eq!(
            [0.0, 0.004, 0.414, 0.996, 1.34, 12.6].map(cell).to_vec(),
            [".00", ".00", ".41", "1.0", "1.3", "13"]
        );
        assert_eq!(count(1_234_567), "1\u{202f}234\u{202f}567");
        assert_eq!([0.413, 0.0004, 0.0].map(share).to_vec(), ["41.3%", "0.040%", "0.0%"]);
        assert_eq!(probability(3e-9), "< 1e-6");
    }

    #[test]
    fn a_window_names_its_second_day_only_where_it_has_one() {
        let hour_ms = 3_600_000;
        let midnight_ms = 1_767_225_600_000; // 2026-01-01 00:00
        assert_eq!(window(midnight_ms, midnight_ms + hour_ms), "2026-01-01 00:00 to 01:00");
        assert_eq!(window(midnight_ms - hour_ms, midnight_ms), "2025-12-31 23:00 to 00:00");
        assert_eq!(window(midnight_ms - hour_ms, midnight_ms + hour_ms), "2025-12-31 23:00 to 2026-01-01 01:00");
        assert_eq!(clock(midnight_ms + 5_000, 5_000), "00:00:05");
    }

    #[test]
    fn ages_are_told_in_their_own_unit() {
        let ages = [12_000, 180_000, 18_000_000, 400_000_000].map(|age_ms| ago(0, age_ms));
        assert_eq!(ages, ["12 s ago", "3 min ago", "5 h ago", "5 days ago"]);
        assert_eq!(ago(180_000, 0), "in 3 min");
    }
}
