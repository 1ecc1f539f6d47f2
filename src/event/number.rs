//! A JSON number as written: to the nearest f64, and to the text of a category.

use std::fmt::Write;

/// A number token. It stays text until somebody needs a value: most of an event's numbers are features, but
/// identifiers must keep every digit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Number<'a> {
    /// As it stands in the document.
    pub text: &'a str,
    /// Neither fraction nor exponent.
    pub integer: bool,
    pub negative: bool,
    /// All digits as one integer; `None` if they do not fit in 64 bits.
    pub mantissa: Option<u64>,
    /// Power of ten that scales the mantissa.
    pub exponent: i32,
}

/// Powers of ten that are exact in an f64.
const EXACT_POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22,
];

impl Number<'_> {
    /// The nearest f64, ties to even; `None` beyond the largest one.
    #[inline]
    pub fn to_f64(self) -> Option<f64> {
        // Clinger (1990): both operands are exact, so the one multiplication or division rounds correctly.
        if let Some(mantissa) = self.mantissa
            && mantissa <= 1 << 53
            && let Some(power) = EXACT_POWERS.get(self.exponent.unsigned_abs() as usize)
        {
            let mantissa = mantissa as f64;
            let magnitude = if self.exponent < 0 { mantissa / power } else { mantissa * power };
            return Some(if self.negative { -magnitude } else { magnitude });
        }
        self.text.parse().ok().filter(|value: &f64| value.is_finite())
    }

    /// The text of a category or an identifier: integers digit by digit, other numbers as Python's `str` writes
    /// them (references are built by pandas users); `None` beyond the largest f64.
    pub fn write_text(&self, out: &mut String) -> Option<()> {
        if self.integer {
            out.push_str(if self.text == "-0" { "0" } else { self.text });
            return Some(());
        }
        write_float(out, self.to_f64()?)
    }
}

/// `value` as Python's `str` writes it: the shortest digits that read back, `1.0`, `1e-05`, `1e+16`.
fn write_float(out: &mut String, value: f64) -> Option<()> {
    let magnitude = value.abs();
    if magnitude == 0.0 || (1e-4..1e16).contains(&magnitude) {
        write!(out, "{value:?}").ok()
    } else {
        let scientific = format!("{value:e}");
        let (digits, exponent) = scientific.split_once('e')?;
        let (sign, exponent) = match exponent.strip_prefix('-') {
            Some(exponent) => ('-', exponent),
            None => ('+', exponent),
        };
        write!(out, "{digits}e{sign}{exponent:0>2}").ok()
    }
}

#[cfg(test)]
mod tests {
    use super::super::json::{Reader, Value};
    use super::*;
    use proptest::prelude::*;

    fn number(text: &str) -> Number<'_> {
        match Reader::new(text).value() {
            Ok(Value::Number(number)) => number,
            other => panic!("{text}: {other:?}"),
        }
    }

    fn assert_rounds_like_std(text: &str) {
        let expected: f64 = text.parse().unwrap();
        let found = number(text).to_f64();
        if expected.is_finite() {
            assert_eq!(found.map(f64::to_bits), Some(expected.to_bits()), "{text}: {found:?}, std says {expected:?}");
        } else {
            assert_eq!(found, None, "{text}");
        }
    }

    #[test]
    fn hard_decimals_round_to_the_nearest_double() {
        for text in [
            "0",
            "-0",
            "-0.0",
            "0.1",
            "0.3",
            "1e22",
            "1e23",
            "9007199254740993",
            "9007199254740992",
            "9007199254740991",
            "18446744073709551615",
            "18446744073709551616",
            "123456789012345678901234567890",
            "2.2250738585072014e-308",
            "2.2250738585072011e-308",
            "4.9e-324",
            "2.4703282292062327e-324",
            "2.4703282292062328e-324",
            "1.7976931348623157e308",
            "1.7976931348623159e308",
            "1e309",
            "1e999",
            "-1e999",
            "1e-999",
            "1e99999999999",
            "1e-99999999999",
            "0e99999999999",
            "0.000000000000000000000000000000000000012345",
            "8.5e15",
            "1.00000000000000011102230246251565404236316680908203125",
            "0.30000000000000004",
            "67.35",
            "6.035e-05",
            "7.2057594037927933e16",
            "100000000000000000000000e-10",
        ] {
            assert_rounds_like_std(text);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn decimals_of_any_length_round_like_std(text in "-?(0|[1-9][0-9]{0,24})(\\.[0-9]{1,24})?([eE][+-]?[0-9]{1,3})?") {
            assert_rounds_like_std(&text);
        }

        #[test]
        fn six_decimals_round_like_std(text in "-?(0|[1-9][0-9]{0,6})\\.[0-9]{1,6}") {
            assert_rounds_like_std(&text);
        }

        #[test]
        fn the_shortest_text_of_a_double_reads_back(bits in any::<u64>()) {
            let value = f64::from_bits(bits);
            prop_assume!(value.is_finite());
            assert_rounds_like_std(&format!("{value:?}"));
            assert_rounds_like_std(&format!("{value:e}"));
        }
    }

    /// Right side: Python 3.11, `str(json.loads(left))`.
    #[test]
    fn numbers_become_the_category_that_python_would_name() {
        for (text, category) in [
            ("1", "1"),
            ("-0", "0"),
            ("12345678901234567890123", "12345678901234567890123"),
            ("1.0", "1.0"),
            ("-0.0", "-0.0"),
            ("1e2", "100.0"),
            ("0.1", "0.1"),
            ("1e15", "1000000000000000.0"),
            ("9999999999999998.0", "9999999999999998.0"),
            ("1e16", "1e+16"),
            ("1.5e300", "1.5e+300"),
            ("0.0001", "0.0001"),
            ("0.00001", "1e-05"),
            ("-1.25e-7", "-1.25e-07"),
            ("5e-324", "5e-324"),
            ("2.50", "2.5"),
        ] {
            let mut out = String::new();
            assert_eq!(number(text).write_text(&mut out), Some(()));
            assert_eq!(out, category, "{text}");
        }
        assert_eq!(number("1e999").write_text(&mut String::new()), None);
    }
}
