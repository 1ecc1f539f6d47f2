//! Durations and shares as people write them: `90s`, `15m`, `1h`, `7d`; `30%`, `0.3`.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A length of time in milliseconds, written `250ms`, `90s`, `15m`, `1h`, `7d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Span {
    pub ms: i64,
}

impl Span {
    pub const fn from_ms(ms: i64) -> Self {
        Self { ms }
    }

    pub const fn from_days(days: i64) -> Self {
        Self { ms: days * 86_400_000 }
    }

    pub fn to_std(self) -> std::time::Duration {
        std::time::Duration::from_millis(self.ms.max(0) as u64)
    }

    /// Accepts one number and one unit; the error says what would be right.
    pub fn parse(text: &str) -> Result<Self, String> {
        let digits_end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (digits, unit) = text.split_at(digits_end);
        let unit_ms: i64 = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => {
                if let Some(whole) = compound(text) {
                    return Err(format!("`{text}` is not a duration; write `{whole}`"));
                }
                let hint = match unit.trim().to_lowercase().as_str() {
                    known @ ("ms" | "s" | "m" | "h" | "d") => format!("; write `{digits}{known}`"),
                    "min" | "mins" | "minute" | "minutes" => format!("; write `{digits}m`"),
                    "sec" | "secs" | "second" | "seconds" => format!("; write `{digits}s`"),
                    "hr" | "hrs" | "hour" | "hours" => format!("; write `{digits}h`"),
                    "day" | "days" => format!("; write `{digits}d`"),
                    "w" | "week" | "weeks" => format!("; write `{}d`", digits.parse::<i64>().unwrap_or(1) * 7),
                    _ => String::from("; write a number and one of ms, s, m, h, d, such as `15m`"),
                };
                return Err(format!("`{text}` is not a duration{hint}"));
            }
        };
        let count: i64 = digits.parse().map_err(|_| {
            format!("`{text}` is not a duration; write a number and one of ms, s, m, h, d, such as `15m`")
        })?;
        count.checked_mul(unit_ms).map(Self::from_ms).ok_or_else(|| format!("`{text}` is too long a duration"))
    }
}

/// What `1h30m`, `1.5h` or `PT15M` would be as one number and one unit.
fn compound(text: &str) -> Option<Span> {
    let lower = text.trim().to_lowercase();
    let (rest, iso) = match lower.strip_prefix('p') {
        Some(rest) => (rest.replace('t', ""), true),
        None => (lower.replace(' ', ""), false),
    };
    let mut ms = 0.0;
    let mut rest = rest.as_str();
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        let unit = rest[end..].chars().next()?;
        let unit_ms = match unit {
            'd' => 86_400_000.0,
            'h' => 3_600_000.0,
            'm' => 60_000.0,
            's' => 1_000.0,
            _ => return None,
        };
        ms += number * unit_ms;
        rest = &rest[end + unit.len_utf8()..];
    }
    let is_simple = !iso && text.bytes().filter(u8::is_ascii_alphabetic).count() == 1 && !text.contains('.');
    ((1.0..1e15).contains(&ms) && !is_simple).then(|| Span::from_ms(ms.round() as i64))
}

impl std::fmt::Display for Span {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (unit, unit_ms) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)] {
            if self.ms != 0 && self.ms % unit_ms == 0 {
                return write!(formatter, "{}{unit}", self.ms / unit_ms);
            }
        }
        write!(formatter, "{}ms", self.ms)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Span::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// Pattern of a duration in the schemas.
pub const DURATION_PATTERN: &str = "^[0-9]+(ms|s|m|h|d)$";

impl schemars::JsonSchema for Span {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "a number and one of ms, s, m, h, d",
            "pattern": DURATION_PATTERN,
            "examples": ["90s", "15m", "1h", "7d"]
        })
    }
}

/// A share, written as a percentage: `80%`.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Share {
    /// 0 to 100.
    pub percent: f64,
}

impl Share {
    /// 0 to 1.
    pub fn share(self) -> f64 {
        self.percent / 100.0
    }

    /// Accepts a number from 0 to 100 and a `%`; the error says what would be right.
    pub fn parse(text: &str) -> Result<Self, String> {
        let percent = text.strip_suffix('%').and_then(|number| number.parse::<f64>().ok());
        match percent {
            Some(percent) if (0.0..=100.0).contains(&percent) => Ok(Self { percent }),
            Some(_) => Err(format!("`{text}` is no share; write `0%` to `100%`")),
            None => {
                let plain = text.trim().trim_end_matches('%').trim_end().trim_end_matches(" percent");
                let meant = match plain.parse::<f64>() {
                    Ok(number) if (0.0..=1.0).contains(&number) && !text.contains(['%', 'p']) => Some(number * 100.0),
                    Ok(number) if (0.0..=100.0).contains(&number) => Some(number),
                    _ => None,
                };
                Err(match meant {
                    Some(percent) => format!("`{text}` is not a percentage; write `{percent}%`"),
                    None => format!("`{text}` is not a percentage; write a number and `%`, such as `80%`"),
                })
            }
        }
    }
}

impl std::fmt::Display for Share {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}%", self.percent)
    }
}

impl Serialize for Share {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Share::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// Pattern of a share in the schemas.
pub const SHARE_PATTERN: &str = "^([0-9]|[1-9][0-9])(\\.[0-9]+)?%$|^100%$";

impl schemars::JsonSchema for Share {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Share".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "a number from 0 to 100 and %",
            "pattern": SHARE_PATTERN,
            "examples": ["80%"]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_back_as_written() {
        for text in ["250ms", "90s", "15m", "1h", "7d"] {
            assert_eq!(Span::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Span::parse("120s").unwrap().to_string(), "2m");
    }

    #[test]
    fn shares_are_percentages() {
        for text in ["80%", "0%", "100%", "99.5%"] {
            assert_eq!(Share::parse(text).unwrap().to_string(), text);
        }
        assert!(Share::parse("0.8").unwrap_err().contains("`80%`"));
        assert!(Share::parse("120%").unwrap_err().contains("`100%`"));
    }

    #[test]
    fn a_wrong_unit_names_the_right_one() {
        assert!(Span::parse("10min").unwrap_err().contains("`10m`"));
        assert!(Span::parse("2w").unwrap_err().contains("`14d`"));
        assert!(Span::parse("ten").unwrap_err().contains("15m"));
        assert!(Span::parse("1h30m").unwrap_err().contains("`90m`"));
        assert!(Span::parse("1.5h").unwrap_err().contains("`90m`"));
        assert!(Span::parse("PT15M").unwrap_err().contains("`15m`"));
        assert!(Span::parse("15 m").unwrap_err().contains("`15m`"));
    }
}
