//! Two values of one feature: equal, within tolerance, different, missing on a side.

use std::fmt;

/// A feature's value on one side.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    Missing,
    /// Kept apart from `Number`, because doubles do not tell integers beyond 2^53 apart.
    Integer(i64),
    /// Not NaN, which is a missing value; may be infinite.
    Number(f64),
    Text(&'a str),
    Vector(&'a [f64]),
}

impl fmt::Display for Value<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// Numbers of a vector written out.
        const SHOWN: usize = 4;
        match self {
            Value::Missing => write!(formatter, "missing"),
            Value::Integer(value) => write!(formatter, "{value}"),
            Value::Number(value) => write!(formatter, "{value}"),
            Value::Text(text) => write!(formatter, "{text:?}"),
            Value::Vector(values) => {
                let shown: Vec<String> = values.iter().take(SHOWN).map(f64::to_string).collect();
                let rest = if values.len() > SHOWN { format!(", … {} numbers", values.len()) } else { String::new() };
                write!(formatter, "[{}{rest}]", shown.join(", "))
            }
        }
    }
}

/// Why a value is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MissingReason {
    /// Null, NaN, or no such column in this file.
    Null,
    /// The online store had nothing for the entity.
    NotFound,
    /// The online store's value was older than the feature may be.
    OutsideMaxAge,
    /// A status that says nothing.
    Invalid,
}

impl MissingReason {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::NotFound => "not_found",
            Self::OutsideMaxAge => "outside_max_age",
            Self::Invalid => "invalid",
        }
    }
}

/// How far numbers may be apart: |a - b| <= max(relative * max(|a|, |b|), absolute), as Python's `math.isclose` has
/// it. Both at least 0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tolerance {
    pub relative: f64,
    pub absolute: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outcome {
    Equal,
    WithinTolerance,
    Different,
    /// Only the offline value is there.
    MissingOnline,
    /// Only the online value is there.
    MissingOffline,
    BothMissing,
}

impl Outcome {
    pub const ALL: [Outcome; 6] = [
        Outcome::Equal,
        Outcome::WithinTolerance,
        Outcome::Different,
        Outcome::MissingOnline,
        Outcome::MissingOffline,
        Outcome::BothMissing,
    ];

    /// A model that is served this was not trained on it.
    pub fn is_mismatch(self) -> bool {
        matches!(self, Outcome::Different | Outcome::MissingOnline | Outcome::MissingOffline)
    }
}

/// How far apart two finite numbers are; of two vectors the number where it is most, relative to the largest.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Difference {
    /// |a - b|.
    pub absolute: f64,
    /// |a - b| / max(|a|, |b|), in [0, 2]; 0 where both are 0.
    pub relative: f64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Comparison {
    pub outcome: Outcome,
    /// Where both are finite numbers.
    pub difference: Option<Difference>,
}

impl Comparison {
    fn plain(outcome: Outcome) -> Self {
        Self { outcome, difference: None }
    }
}

/// A text that is a number is compared with a number as one: a producer that writes numbers as text serves the same
/// values.
pub fn compare(online: Value, offline: Value, tolerance: Tolerance) -> Comparison {
    use Value::{Integer, Missing, Text, Vector};
    match (online, offline) {
        (Missing, Missing) => Comparison::plain(Outcome::BothMissing),
        (Missing, _) => Comparison::plain(Outcome::MissingOnline),
        (_, Missing) => Comparison::plain(Outcome::MissingOffline),
        (Text(a), Text(b)) => Comparison::plain(if a == b { Outcome::Equal } else { Outcome::Different }),
        (Vector(a), Vector(b)) => vectors(a, b, tolerance),
        (Integer(a), Integer(b)) => {
            let absolute = (i128::from(a) - i128::from(b)).unsigned_abs() as f64;
            judge(absolute, (a as f64).abs().max((b as f64).abs()), tolerance)
        }
        _ => match (number(online), number(offline)) {
            (Some(a), Some(b)) => numbers(a, b, tolerance),
            _ => Comparison::plain(Outcome::Different),
        },
    }
}

fn number(value: Value) -> Option<f64> {
    match value {
        Value::Integer(value) => Some(value as f64),
        Value::Number(value) => Some(value),
        Value::Text(text) => match text.trim() {
            "true" | "True" | "TRUE" => Some(1.0),
            "false" | "False" | "FALSE" => Some(0.0),
            text => text.parse().ok().filter(|value: &f64| !value.is_nan()),
        },
        Value::Missing | Value::Vector(_) => None,
    }
}

fn numbers(a: f64, b: f64, tolerance: Tolerance) -> Comparison {
    match (a == b, (a - b).abs()) {
        (true, _) if a.is_infinite() => Comparison::plain(Outcome::Equal),
        (false, absolute) if !absolute.is_finite() => Comparison::plain(Outcome::Different),
        (_, absolute) => judge(absolute, a.abs().max(b.abs()), tolerance),
    }
}

fn vectors(a: &[f64], b: &[f64], tolerance: Tolerance) -> Comparison {
    if a.len() != b.len() {
        return Comparison::plain(Outcome::Different);
    }
    if a.iter().zip(b).any(|(a, b)| !(a - b).is_finite()) {
        let same = a.iter().zip(b).all(|(a, b)| a == b || (a.is_nan() && b.is_nan()));
        return Comparison::plain(if same { Outcome::Equal } else { Outcome::Different });
    }
    let absolute = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    judge(absolute, a.iter().chain(b).map(|value| value.abs()).fold(0.0, f64::max), tolerance)
}

fn judge(absolute: f64, size: f64, tolerance: Tolerance) -> Comparison {
    let outcome = if absolute == 0.0 {
        Outcome::Equal
    } else if absolute <= (tolerance.relative * size).max(tolerance.absolute) {
        Outcome::WithinTolerance
    } else {
        Outcome::Different
    };
    let relative = if absolute == 0.0 { 0.0 } else { absolute / size };
    Comparison { outcome, difference: Some(Difference { absolute, relative }) }
}

#[cfg(test)]
mod tests {
    use super::Value::{Integer, Missing, Number, Text, Vector};
    use super::*;

    const TOLERANCE: Tolerance = Tolerance { relative: 1e-6, absolute: 0.0 };

    fn outcome(online: Value, offline: Value) -> Outcome {
        compare(online, offline, TOLERANCE).outcome
    }

    #[test]
    fn values_are_compared_by_what_they_mean() {
        assert_eq!(outcome(Number(1.0), Integer(1)), Outcome::Equal);
        assert_eq!(outcome(Text(" 1.50 "), Number(1.5)), Outcome::Equal);
        assert_eq!(outcome(Integer(1), Text("true")), Outcome::Equal);
        assert_eq!(outcome(Text("one"), Integer(1)), Outcome::Different);
        assert_eq!(outcome(Text("de"), Text("DE")), Outcome::Different);
        assert_eq!(outcome(Missing, Integer(0)), Outcome::MissingOnline);
        assert_eq!(outcome(Text(""), Missing), Outcome::MissingOffline);
        assert_eq!(outcome(Missing, Missing), Outcome::BothMissing);
    }

    #[test]
    fn a_tolerance_is_relative_to_the_larger_value() {
        // A float that went through 32 bits.
        assert_eq!(outcome(Number(f64::from(0.1_f32)), Number(0.1)), Outcome::WithinTolerance);
        assert_eq!(outcome(Number(1e-9), Number(2e-9)), Outcome::Different);
        assert_eq!(outcome(Number(0.0), Number(1e-300)), Outcome::Different);
        let absolute = Tolerance { relative: 0.0, absolute: 0.5 };
        assert_eq!(compare(Number(-0.25), Number(0.25), absolute).outcome, Outcome::WithinTolerance);
        let difference = compare(Number(-1.0), Number(1.0), TOLERANCE).difference.unwrap();
        assert_eq!((difference.absolute, difference.relative), (2.0, 2.0));
    }

    #[test]
    fn integers_that_doubles_confuse_are_told_apart() {
        let large = 1 << 53;
        assert_eq!(outcome(Integer(large), Integer(large)), Outcome::Equal);
        let exact = Tolerance { relative: 0.0, absolute: 0.0 };
        assert_eq!(compare(Integer(large), Integer(large + 1), exact).outcome, Outcome::Different);
        assert_eq!(compare(Integer(i64::MIN), Integer(i64::MAX), exact).outcome, Outcome::Different);
    }

    #[test]
    fn infinities_and_vectors_have_an_answer() {
        assert_eq!(outcome(Number(f64::INFINITY), Number(f64::INFINITY)), Outcome::Equal);
        assert_eq!(outcome(Number(f64::INFINITY), Number(1.0)), Outcome::Different);
        assert_eq!(outcome(Number(f64::MAX), Number(f64::MIN)), Outcome::Different);
        assert_eq!(outcome(Vector(&[1.0, 2.0]), Vector(&[1.0, 2.0])), Outcome::Equal);
        assert_eq!(outcome(Vector(&[1.0, 2.0]), Vector(&[1.0])), Outcome::Different);
        assert_eq!(outcome(Vector(&[1.0, 1e-7]), Vector(&[1.0, 2e-7])), Outcome::WithinTolerance);
        assert_eq!(outcome(Vector(&[f64::NAN]), Vector(&[f64::NAN])), Outcome::Equal);
        assert_eq!(outcome(Vector(&[1.0]), Number(1.0)), Outcome::Different);
    }
}
