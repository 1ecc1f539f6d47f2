//! Event time as producers write it: RFC 3339 text, or epoch seconds, milliseconds or microseconds.
//!
//! Everything is rounded down to whole milliseconds, and exactly: `1735776000.123` seconds are read as a
//! decimal, because as an f64 they are a little less than that.

use crate::config::model::TimestampUnit;

/// Year 1 to year 9999: the range in which RFC 3339 can write a time.
const MIN_MS: i64 = -62_135_596_800_000;
const MAX_MS: i64 = 253_402_300_799_999;

/// Epoch milliseconds of a timestamp written as text or as a JSON number; `Err` says what was expected.
#[inline]
pub fn event_time_ms(text: &str, is_text: bool, unit: TimestampUnit) -> Result<i64, &'static str> {
    use TimestampUnit::{Auto, Ms, Rfc3339, S, Us};
    let (parsed, expected) = match unit {
        Rfc3339 => (rfc3339_ms(text).filter(|_| is_text), "RFC 3339 text such as 2025-01-02T03:04:05Z"),
        Auto if is_text && text.as_bytes().get(4) == Some(&b'-') => {
            (rfc3339_ms(text), "RFC 3339 text such as 2025-01-02T03:04:05Z")
        }
        Auto => (
            epoch_ms(text, None),
            "RFC 3339 text such as 2025-01-02T03:04:05Z, or epoch seconds, milliseconds or microseconds",
        ),
        S => (epoch_ms(text, Some(3)), "epoch seconds"),
        Ms => (epoch_ms(text, Some(0)), "epoch milliseconds"),
        Us => (epoch_ms(text, Some(-3)), "epoch microseconds"),
    };
    match parsed {
        Some(ms) if (MIN_MS..=MAX_MS).contains(&ms) => Ok(ms),
        Some(_) => Err("a time between the years 1 and 9999"),
        None => Err(expected),
    }
}

/// Digits at `from..from + N`.
#[inline]
fn digits<const N: usize>(bytes: &[u8], from: usize) -> Option<i64> {
    let mut value = 0;
    for digit in bytes.get(from..from + N)? {
        if !digit.is_ascii_digit() {
            return None;
        }
        value = value * 10 + i64::from(digit - b'0');
    }
    Some(value)
}

/// `2025-01-02T03:04:05[.fraction][Z|+01:00|+0100|+01]`, also with a space or a small letter for the `T`; without
/// an offset it is UTC. By hand, because chrono has no one parser that takes all of these; the tests compare the two.
fn rfc3339_ms(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let fixed = bytes.get(..19)?;
    let (year, month, day) = (digits::<4>(fixed, 0)?, digits::<2>(fixed, 5)?, digits::<2>(fixed, 8)?);
    let (hour, minute, second) = (digits::<2>(fixed, 11)?, digits::<2>(fixed, 14)?, digits::<2>(fixed, 17)?);
    let separators = [fixed[4], fixed[7], fixed[13], fixed[16]] == *b"--::" && matches!(fixed[10], b'T' | b't' | b' ');
    // A leap second is the first one of the next minute, as in chrono.
    let in_range =
        (1..=days_in_month(year, month)).contains(&day) && hour <= 23 && minute <= 59 && second <= 60 && year > 0;
    if !separators || !in_range {
        return None;
    }
    let mut at = 19;
    let mut fraction_ms = 0;
    if bytes.get(at) == Some(&b'.') {
        at += 1;
        let start = at;
        while let Some(digit @ b'0'..=b'9') = bytes.get(at) {
            if at - start < 3 {
                fraction_ms += i64::from(digit - b'0') * [100, 10, 1][at - start];
            }
            at += 1;
        }
        if at == start {
            return None;
        }
    }
    let seconds = days_from_civil(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second;
    Some((seconds - offset_seconds(&bytes[at..])?) * 1_000 + fraction_ms)
}

fn offset_seconds(bytes: &[u8]) -> Option<i64> {
    let sign = match bytes.first() {
        None => return Some(0),
        Some(b'Z' | b'z') => return (bytes.len() == 1).then_some(0),
        Some(b'+') => 1,
        Some(b'-') => -1,
        Some(_) => return None,
    };
    let hours = digits::<2>(bytes, 1)?;
    let minutes = match bytes.len() {
        3 => 0,
        5 => digits::<2>(bytes, 3)?,
        6 if bytes[3] == b':' => digits::<2>(bytes, 4)?,
        _ => return None,
    };
    (hours <= 23 && minutes <= 59).then_some(sign * (hours * 3_600 + minutes * 60))
}

/// 0 for a month that does not exist.
fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 0,
    }
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar (H. Hinnant, "chrono-compatible low-level date
/// algorithms", `days_from_civil`).
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// A decimal number times 10^`unit`, rounded down. Without a unit its size tells it: below 1e11 it counts seconds
/// (1e11 s is the year 5138), below 1e14 milliseconds, below 1e17 microseconds.
fn epoch_ms(text: &str, unit: Option<i32>) -> Option<i64> {
    let bytes = text.as_bytes();
    let (negative, mut at) = match bytes.first()? {
        b'-' => (true, 1),
        b'+' => (false, 1),
        _ => (false, 0),
    };
    let mut mantissa = 0_i128;
    let mut scale = 0_i32;
    let mut any = false;
    let mut point = false;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'0'..=b'9' => {
                any = true;
                // 30 digits reach from the year 9999 far below a microsecond: the rest cannot matter.
                if mantissa < 10_i128.pow(29) {
                    mantissa = mantissa * 10 + i128::from(byte - b'0');
                    scale -= i32::from(point);
                } else {
                    scale += i32::from(!point);
                }
            }
            b'.' if !point => point = true,
            _ => break,
        }
        at += 1;
    }
    let exponent = match bytes.get(at) {
        None => 0,
        Some(b'e' | b'E') => text.get(at + 1..)?.parse::<i32>().ok().filter(|exponent| exponent.abs() < 1_000)?,
        Some(_) => return None,
    };
    if !any {
        return None;
    }
    let mantissa = if negative { -mantissa } else { mantissa };
    let scale = scale.checked_add(exponent)?;
    let unit = match unit {
        Some(unit) => unit,
        None => match times_power_of_ten(mantissa, scale)?.unsigned_abs() {
            0..100_000_000_000 => 3,
            100_000_000_000..100_000_000_000_000 => 0,
            100_000_000_000_000..100_000_000_000_000_000 => -3,
            _ => return None,
        },
    };
    i64::try_from(times_power_of_ten(mantissa, scale + unit)?).ok()
}

/// Rounded down; `None` if it does not fit.
fn times_power_of_ten(mantissa: i128, power: i32) -> Option<i128> {
    match 10_i128.checked_pow(power.unsigned_abs()) {
        Some(factor) if power >= 0 => mantissa.checked_mul(factor),
        Some(divisor) => Some(mantissa.div_euclid(divisor)),
        None if mantissa == 0 => Some(0),
        None if power < 0 => Some(if mantissa < 0 { -1 } else { 0 }),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use TimestampUnit::{Auto, Ms, Rfc3339, S, Us};
    use chrono::DateTime;
    use proptest::prelude::*;

    #[test]
    fn one_instant_written_in_every_way_is_one_instant() {
        let expected = 1_735_787_045_123;
        for (text, is_text, unit) in [
            ("2025-01-02T03:04:05.123Z", true, Auto),
            ("2025-01-02T03:04:05.123456789z", true, Rfc3339),
            ("2025-01-02t03:04:05.123", true, Rfc3339),
            ("2025-01-02 03:04:05.1239", true, Auto),
            ("2025-01-02T04:04:05.123+01:00", true, Auto),
            ("2025-01-01T21:34:05.123-0530", true, Auto),
            ("2025-01-02T04:04:05.123+01", true, Auto),
            ("1735787045.123", false, Auto),
            ("1735787045.123", true, Auto),
            ("1.735787045123E9", false, Auto),
            ("1735787045123", false, Auto),
            ("1735787045123456", false, Auto),
            ("1735787045.123", false, S),
            ("1735787045123.9", false, Ms),
            ("1735787045123", true, Ms),
            ("1735787045123999", false, Us),
            ("+1735787045.1230000000000000000000000000000000000000001", true, S),
        ] {
            assert_eq!(event_time_ms(text, is_text, unit), Ok(expected), "{text} as {unit:?}");
        }
        assert_eq!(event_time_ms("2025-01-02T03:04:05", true, Auto), Ok(1_735_787_045_000));
        assert_eq!(event_time_ms("-1.5", false, S), Ok(-1_500));
        assert_eq!(event_time_ms("-0.0001", false, S), Ok(-1));
        assert_eq!(event_time_ms("2016-12-31T23:59:60Z", true, Auto), Ok(1_483_228_800_000));
    }

    #[test]
    fn what_is_no_time_says_what_was_expected() {
        for (text, is_text, unit) in [
            ("", true, Auto),
            ("yesterday", true, Auto),
            ("2025-01-02", true, Auto),
            ("2025-02-29T00:00:00Z", true, Auto),
            ("2025-13-01T00:00:00Z", true, Auto),
            ("2025-01-02T24:00:00Z", true, Auto),
            ("2025-01-02T03:04:05.Z", true, Auto),
            ("2025-01-02T03:04:05+25:00", true, Auto),
            ("2025-01-02T03:04:05Zulu", true, Auto),
            ("2025-01-02T03:04:05é", true, Auto),
            ("2025/01/02T03:04:05Z", true, Rfc3339),
            ("1735787045", false, Rfc3339),
            ("2025-01-02T03:04:05Z", true, S),
            ("1e", true, S),
            ("1.2.3", true, S),
            (".", true, S),
            ("1e5000", false, S),
            ("99999999999999999999999999999999999999999999999", false, S),
            ("1735787045123456789", false, Auto),
            ("1735787045123", false, S),
        ] {
            assert!(event_time_ms(text, is_text, unit).is_err(), "{text} as {unit:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(5_000))]

        #[test]
        fn rfc_3339_reads_as_chrono_reads_it(
            text in "[0-2][0-9]{3}-[01][0-9]-[0-3][0-9][T ][0-2][0-9]:[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,12})?(Z|[+-][0-2][0-9]:[0-5][0-9])"
        ) {
            let expected = DateTime::parse_from_rfc3339(&text).ok().map(|time| time.timestamp_millis());
            let expected = expected.filter(|ms| (MIN_MS..=MAX_MS).contains(ms) && !text.starts_with("0000"));
            prop_assert_eq!(event_time_ms(&text, true, Rfc3339).ok(), expected, "{}", text);
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "[0-9eE+.:TZ -]{0,45}|\\PC{0,30}") {
            for unit in [Auto, Rfc3339, S, Ms, Us] {
                let _ = event_time_ms(&text, true, unit);
            }
        }
    }
}
