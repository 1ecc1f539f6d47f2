//! Cuts the current rows into windows.

use std::collections::BTreeMap;
use std::str::FromStr;

use chrono::{DateTime, SecondsFormat};

use super::ReportError;
use crate::config::units::Span;
use crate::reference::table::{CategoryIndex, ColumnKind, MISSING, TableError, TableFile};

/// How rows become windows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WindowSpec {
    All,
    /// Rows in file order; the last window may be short.
    Count(usize),
    /// Tumbling windows of event time, aligned to 1970 UTC; empty ones do not appear.
    Time(Span),
    /// One window per value, ascending.
    Column(String),
}

impl FromStr for WindowSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let unknown =
            || format!("`{text}` is not a way to cut windows; write `all`, `count:5000`, `time:1h` or `column:NAME`");
        match text.split_once(':') {
            None if text == "all" => Ok(Self::All),
            Some(("count", rows)) => match rows.replace('_', "").parse() {
                Ok(rows) if rows > 0 => Ok(Self::Count(rows)),
                _ => Err(format!("`{rows}` is not a number of rows; write for example `count:5000`")),
            },
            Some(("time", span)) => match Span::parse(span) {
                Ok(span) if span.ms > 0 => Ok(Self::Time(span)),
                Ok(_) => Err("a window of no length holds no rows; write for example `time:1h`".into()),
                Err(reason) => Err(reason),
            },
            Some(("column", name)) if !name.is_empty() => Ok(Self::Column(name.to_string())),
            _ => Err(unknown()),
        }
    }
}

impl std::fmt::Display for WindowSpec {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::All => write!(formatter, "all"),
            Self::Count(rows) => write!(formatter, "count:{rows}"),
            Self::Time(span) => write!(formatter, "time:{span}"),
            Self::Column(name) => write!(formatter, "column:{name}"),
        }
    }
}

/// One window's name and size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowRows {
    /// For people: `rows 0 to 4999`, `2025-01-02 03:00 to 04:00 UTC`, `month = 2020-04`.
    pub label: String,
    /// [start, end), epoch milliseconds; for windows of time.
    pub time_ms: Option<(i64, i64)>,
    /// The value; for windows by column.
    pub key: Option<String>,
    pub rows: usize,
}

/// Windows, and which rows are in which.
#[derive(Debug)]
pub struct Cut {
    pub windows: Vec<WindowRows>,
    /// Row numbers window after window; absent where that is the file's own order.
    order: Option<Vec<u32>>,
    /// Rows in no window.
    pub note: Option<String>,
}

impl Cut {
    /// A column's values window by window, in file order within each.
    pub fn split<T: Copy>(&self, values: Vec<T>) -> WindowedValues<T> {
        let ordered = match &self.order {
            None => values,
            Some(order) => order.iter().map(|row| values[*row as usize]).collect(),
        };
        WindowedValues { ordered, sizes: self.windows.iter().map(|window| window.rows).collect() }
    }
}

pub struct WindowedValues<T> {
    ordered: Vec<T>,
    sizes: Vec<usize>,
}

impl<T> WindowedValues<T> {
    pub fn iter(&self) -> impl Iterator<Item = &[T]> {
        let mut rest = self.ordered.as_slice();
        self.sizes.iter().map(move |size| {
            let (window, next) = rest.split_at(*size);
            rest = next;
            window
        })
    }
}

/// Fails where the needed column is missing or unreadable.
pub fn cut(spec: &WindowSpec, timestamp: Option<&str>, current: &TableFile) -> Result<Cut, ReportError> {
    match spec {
        WindowSpec::All => Ok(in_file_order(current.rows, current.rows, |_, _| "all rows".to_string())),
        WindowSpec::Count(size) => {
            Ok(in_file_order(current.rows, *size, |first, last| format!("rows {first} to {last}")))
        }
        WindowSpec::Time(span) => {
            let column = timestamp.ok_or_else(|| {
                ReportError::Usage(format!("--windows time:{span} needs --timestamp, the column with the event time"))
            })?;
            by_time(*span, column, current)
        }
        WindowSpec::Column(name) => by_column(name, current),
    }
}

fn in_file_order(rows: usize, size: usize, label: impl Fn(usize, usize) -> String) -> Cut {
    let windows = (0..rows)
        .step_by(size.max(1))
        .map(|first| {
            let rows = size.min(rows - first);
            WindowRows { label: label(first, first + rows - 1), time_ms: None, key: None, rows }
        })
        .collect();
    Cut { windows, order: None, note: None }
}

fn column_error(current: &TableFile) -> impl Fn(TableError) -> ReportError + '_ {
    |source| ReportError::Column { side: "current", path: current.path.clone(), source }
}

fn by_time(span: Span, column: &str, current: &TableFile) -> Result<Cut, ReportError> {
    let read = || current.columns(&[column])?.epoch_ms(column);
    let times = read().map_err(column_error(current))?;
    let keys: Vec<Option<i64>> = times.iter().map(|time| time.map(|ms| ms.div_euclid(span.ms))).collect();
    let (mut cut, values) = group(&keys, &format!("without a time in `{column}`"));
    for (window, key) in cut.windows.iter_mut().zip(values) {
        let (start, end) = (key * span.ms, (key + 1) * span.ms);
        window.time_ms = Some((start, end));
        window.label = time_label(start, end);
    }
    Ok(cut)
}

fn by_column(name: &str, current: &TableFile) -> Result<Cut, ReportError> {
    let table = current.columns(&[name]).map_err(column_error(current))?;
    let note = format!("without a value in `{name}`");
    let with_labels = |mut cut: Cut, labels: Vec<String>| {
        for (window, label) in cut.windows.iter_mut().zip(labels) {
            window.label = format!("{name} = {label}");
            window.key = Some(label);
        }
        cut
    };
    if current.kind(name).map_err(column_error(current))? == ColumnKind::Time {
        let times = table.epoch_ms(name).map_err(column_error(current))?;
        let (cut, values) = group(&times, &note);
        return Ok(with_labels(cut, values.into_iter().map(minute_label).collect()));
    }
    let mut categories = CategoryIndex::default();
    let codes = table.encode(name, &mut categories).map_err(column_error(current))?;
    let mut ascending: Vec<(f64, &String, u32)> = Vec::new();
    let numeric = current.kind(name).is_ok_and(|kind| kind == ColumnKind::Numeric);
    for (code, text) in categories.names().iter().enumerate() {
        let number = if numeric { text.parse().unwrap_or(f64::NAN) } else { 0.0 };
        ascending.push((number, text, code as u32));
    }
    ascending.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.1.cmp(b.1)));
    let mut rank = vec![0_i64; ascending.len()];
    for (position, (_, _, code)) in ascending.iter().enumerate() {
        rank[*code as usize] = position as i64;
    }
    let keys: Vec<Option<i64>> = codes.iter().map(|code| (*code != MISSING).then(|| rank[*code as usize])).collect();
    let (cut, values) = group(&keys, &note);
    let labels = values.into_iter().map(|position| ascending[position as usize].1.clone()).collect();
    Ok(with_labels(cut, labels))
}

/// Windows of equal keys, ascending, with their keys. Rows without a key are in none.
fn group(keys: &[Option<i64>], missing: &str) -> (Cut, Vec<i64>) {
    let mut sizes: BTreeMap<i64, usize> = BTreeMap::new();
    let (mut sorted, mut previous, mut left_out) = (true, i64::MIN, 0);
    for key in keys {
        match key {
            None => left_out += 1,
            Some(key) => {
                *sizes.entry(*key).or_default() += 1;
                sorted &= *key >= previous;
                previous = *key;
            }
        }
    }
    let order = (!sorted || left_out > 0).then(|| {
        let mut next: BTreeMap<i64, usize> = BTreeMap::new();
        let mut start = 0;
        for (key, size) in &sizes {
            next.insert(*key, start);
            start += size;
        }
        let mut order = vec![0_u32; start];
        for (row, key) in keys.iter().enumerate() {
            if let Some(position) = key.and_then(|key| next.get_mut(&key)) {
                order[*position] = row as u32;
                *position += 1;
            }
        }
        order
    });
    let windows =
        sizes.values().map(|rows| WindowRows { label: String::new(), time_ms: None, key: None, rows: *rows }).collect();
    let note = (left_out > 0).then(|| format!("{left_out} rows {missing} are in no window"));
    (Cut { windows, order, note }, sizes.into_keys().collect())
}

fn time_label(start_ms: i64, end_ms: i64) -> String {
    let (start, end) = (minute_label(start_ms), minute_label(end_ms));
    match end.strip_prefix(&start[..11.min(start.len())]) {
        Some(time) => format!("{start} to {time} UTC"),
        None => format!("{start} to {end} UTC"),
    }
}

/// RFC 3339 in UTC, milliseconds where there are any.
pub fn instant(ms: i64) -> String {
    DateTime::from_timestamp_millis(ms)
        .map_or_else(|| format!("{ms} ms"), |time| time.to_rfc3339_opts(SecondsFormat::AutoSi, true))
}

fn minute_label(ms: i64) -> String {
    let format = if ms.rem_euclid(60_000) == 0 { "%Y-%m-%d %H:%M" } else { "%Y-%m-%d %H:%M:%S%.f" };
    DateTime::from_timestamp_millis(ms).map_or_else(|| format!("{ms} ms"), |time| time.format(format).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_written_as_a_sentence_says_it() {
        for text in ["all", "count:5000", "time:1h", "column:month"] {
            assert_eq!(text.parse::<WindowSpec>().map(|spec| spec.to_string()), Ok(text.to_string()));
        }
        for (text, hint) in [
            ("hourly", "`time:1h`"),
            ("count:0", "number of rows"),
            ("time:1 hour", "not a duration"),
            ("time:0s", "no length"),
            ("column:", "`column:NAME`"),
        ] {
            let error = text.parse::<WindowSpec>().unwrap_err();
            assert!(error.contains(hint), "{text}: {error}");
        }
    }

    #[test]
    fn unsorted_keys_are_gathered_in_file_order_and_missing_ones_left_out() {
        let (cut, keys) = group(&[Some(2), Some(1), None, Some(2), Some(1)], "without a key");
        assert_eq!(keys, [1, 2]);
        assert_eq!(cut.note.as_deref(), Some("1 rows without a key are in no window"));
        let split = cut.split(vec!["a", "b", "c", "d", "e"]);
        let windows: Vec<Vec<&str>> = split.iter().map(<[&str]>::to_vec).collect();
        assert_eq!(windows, [vec!["b", "e"], vec!["a", "d"]]);
    }

    #[test]
    fn the_last_window_by_count_may_be_short() {
        let cut = in_file_order(7, 3, |first, last| format!("{first}-{last}"));
        let sizes: Vec<(&str, usize)> = cut.windows.iter().map(|w| (w.label.as_str(), w.rows)).collect();
        assert_eq!(sizes, [("0-2", 3), ("3-5", 3), ("6-6", 1)]);
    }

    #[test]
    fn labels_say_the_day_once() {
        assert_eq!(time_label(1_735_776_000_000, 1_735_779_600_000), "2025-01-02 00:00 to 01:00 UTC");
        assert_eq!(time_label(1_735_858_800_000, 1_735_862_400_000), "2025-01-02 23:00 to 2025-01-03 00:00 UTC");
    }
}
