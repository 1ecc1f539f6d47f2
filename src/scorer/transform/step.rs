//! What a step makes of a value. Nothing here knows where the value comes from.

use std::borrow::Cow;
use std::collections::HashMap;

use chrono::{DateTime, Datelike, Timelike};

use crate::config::transform::{Cast, DatePart};

use super::RawColumn;

/// A value on its way through the steps.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value<'a> {
    /// NaN: missing.
    Number(f64),
    Text(Option<Cow<'a, str>>),
    /// Epoch ms.
    Time(Option<i64>),
    /// It has become columns already.
    Spread,
}

/// A compiled step.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Step {
    ImputeNumber(f64),
    ImputeText(String),
    Clip {
        min: f64,
        max: f64,
    },
    Log1p,
    Standard {
        mean: f64,
        std: f64,
    },
    MinMax {
        min: f64,
        range: f64,
    },
    /// Index of the raw feature.
    Ratio(usize),
    Bin(Vec<f64>),
    OneHot {
        positions: HashMap<String, usize>,
        width: usize,
        unseen: Unseen,
    },
    Ordinal {
        positions: HashMap<String, f64>,
        unseen: Unseen,
    },
    DatePart(DatePart),
    Cast(Cast),
}

/// What becomes of a text that is no category.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Unseen {
    Zeros,
    /// A column.
    Other(usize),
    Value(f64),
    Error,
}

impl Step {
    /// The value after the step. `OneHot` appends its columns to `out`. Types fit: `compile` has seen to it.
    pub(super) fn apply<'a>(
        &self,
        value: Value<'a>,
        raw: &[RawColumn],
        row: usize,
        out: &mut Vec<f64>,
    ) -> Result<Value<'a>, String> {
        Ok(match (self, value) {
            (Self::Cast(Cast::Text), Value::Number(number)) => Value::Text(number_text(number).map(Cow::Owned)),
            (_, Value::Number(number)) => Value::Number(self.number(number, raw, row)),
            (_, Value::Text(text)) => self.text(text, out)?,
            (Self::DatePart(part), Value::Time(time)) => Value::Number(date_part(*part, time)),
            (_, other) => other,
        })
    }

    fn number(&self, x: f64, raw: &[RawColumn], row: usize) -> f64 {
        match self {
            Self::ImputeNumber(other) if x.is_nan() => *other,
            // A comparison with NaN is false: what is missing stays so.
            Self::Clip { min, .. } if x < *min => *min,
            Self::Clip { max, .. } if x > *max => *max,
            Self::Log1p => x.ln_1p(),
            Self::Standard { mean, std } => (x - mean) / std,
            Self::MinMax { min, range } => (x - min) / range,
            Self::Ratio(by) => match raw.get(*by) {
                Some(RawColumn::Number(values)) => match values.get(row) {
                    Some(by) if *by != 0.0 => x / by,
                    _ => f64::NAN,
                },
                _ => f64::NAN,
            },
            Self::Bin(edges) if !x.is_nan() => edges.partition_point(|edge| *edge <= x) as f64,
            _ => x,
        }
    }

    fn text<'a>(&self, text: Option<Cow<'a, str>>, out: &mut Vec<f64>) -> Result<Value<'a>, String> {
        Ok(match self {
            Self::ImputeText(other) if text.is_none() => Value::Text(Some(Cow::Owned(other.clone()))),
            Self::OneHot { positions, width, unseen } => {
                let start = out.len();
                out.resize(start + width, 0.0);
                let column = match (text.as_deref().map(|text| (text, positions.get(text))), unseen) {
                    (Some((_, Some(column))), _) => Some(*column),
                    (Some((_, None)), Unseen::Other(column)) => Some(*column),
                    (Some((text, None)), Unseen::Error) => return Err(unknown(text)),
                    _ => None,
                };
                if let Some(one) = column.and_then(|column| out.get_mut(start + column)) {
                    *one = 1.0;
                }
                Value::Spread
            }
            Self::Ordinal { positions, unseen } => Value::Number(match text {
                None => f64::NAN,
                Some(text) => match (positions.get(&*text), unseen) {
                    (Some(position), _) => *position,
                    (None, Unseen::Value(value)) => *value,
                    (None, _) => return Err(unknown(&text)),
                },
            }),
            Self::Cast(Cast::Number) => Value::Number(text.and_then(|text| text_number(&text)).unwrap_or(f64::NAN)),
            _ => Value::Text(text),
        })
    }
}

fn unknown(text: &str) -> String {
    let shown: String = text.chars().take(40).flat_map(char::escape_debug).collect();
    format!("`{shown}` is none of its categories")
}

/// A decimal number with or without an exponent; no other spelling, so that `nan` and `inf` are missing.
fn text_number(text: &str) -> Option<f64> {
    let text = text.trim();
    let is_decimal = text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.' | b'e' | b'E'));
    text.parse().ok().filter(|number: &f64| is_decimal && number.is_finite())
}

/// As Python's `str` writes a number: whole ones of up to 16 digits with `.0`.
fn number_text(number: f64) -> Option<String> {
    if number.is_nan() {
        return None;
    }
    if number.is_infinite() {
        return Some(if number > 0.0 { "inf" } else { "-inf" }.into());
    }
    let size = number.abs();
    Some(match size == 0.0 || (1e-4..1e16).contains(&size) {
        true => format!("{number:?}"),
        false => {
            let text = format!("{number:e}");
            let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
            let (sign, exponent) = exponent.strip_prefix('-').map_or(("+", exponent), |exponent| ("-", exponent));
            format!("{digits}e{sign}{exponent:0>2}")
        }
    })
}

fn date_part(part: DatePart, time: Option<i64>) -> f64 {
    let Some(at) = time.and_then(DateTime::from_timestamp_millis) else { return f64::NAN };
    match part {
        DatePart::Year => f64::from(at.year()),
        DatePart::Month => f64::from(at.month()),
        DatePart::Day => f64::from(at.day()),
        DatePart::DayOfYear => f64::from(at.ordinal()),
        DatePart::DayOfWeek => f64::from(at.weekday().num_days_from_monday()),
        DatePart::Hour => f64::from(at.hour()),
        DatePart::Minute => f64::from(at.minute()),
        DatePart::EpochSeconds => at.timestamp_millis() as f64 / 1000.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(step: &Step, x: f64) -> f64 {
        step.number(x, &[], 0)
    }

    /// By numpy 2: log1p, digitize, clip; pandas: dayofweek; Python: str.
    #[test]
    fn steps_do_as_numpy_pandas_and_python_do() {
        assert_eq!(number(&Step::Log1p, 1e-10), 9.999_999_999_500_001e-11);
        assert!(number(&Step::Log1p, -1.5).is_nan());
        assert_eq!(number(&Step::Log1p, -1.0), f64::NEG_INFINITY);
        let bin = Step::Bin(vec![0.0, 10.0, 20.0]);
        assert_eq!([-1.0, 0.0, 9.9, 10.0, 25.0].map(|x| number(&bin, x)), [0.0, 1.0, 1.0, 2.0, 3.0]);
        assert!(number(&bin, f64::NAN).is_nan());
        let clip = Step::Clip { min: -1.0, max: 1.0 };
        assert_eq!([f64::NEG_INFINITY, 0.5, 7.0].map(|x| number(&clip, x)), [-1.0, 0.5, 1.0]);
        assert!(number(&clip, f64::NAN).is_nan());
        // 2026-11-24 is a Tuesday.
        let time = Some(1_795_537_000_250);
        let part = |part| date_part(part, time);
        assert_eq!((part(DatePart::Year), part(DatePart::Month), part(DatePart::Day)), (2026.0, 11.0, 24.0));
        assert_eq!((part(DatePart::DayOfWeek), part(DatePart::DayOfYear)), (1.0, 328.0));
        assert_eq!(part(DatePart::EpochSeconds), 1_795_537_000.25);
        let shown = [1.0, 0.1, 1e16, 1.5e-5, 1e22, -0.0, 123_456_789.0].map(|x| number_text(x).unwrap());
        assert_eq!(shown, ["1.0", "0.1", "1e+16", "1.5e-05", "1e+22", "-0.0", "123456789.0"]);
        let read = ["12", " -1.5e3 ", "inf", "nan", "", "0x10", "1e999"].map(text_number);
        assert_eq!(read, [Some(12.0), Some(-1500.0), None, None, None, None, None]);
    }
}
