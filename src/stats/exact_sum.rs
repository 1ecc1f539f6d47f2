//! Sums of doubles without rounding.
//!
//! Floating-point addition is not associative: a plain sum depends on where the stream was cut into flushes and in
//! which order they were merged, and then a replay writes other bytes than the first run. This sum is an integer in
//! units of 2^-1074 (the smallest double), held in 32-bit digits: adding and merging are exact, so any order gives
//! the same bits, and the rounding to a double happens once, when it is read. The form is the small superaccumulator
//! of Neal, Fast exact summation using small and large superaccumulators (2015).

use super::varint::{self, Reader};

const DIGIT_BITS: u32 = 32;
const DIGIT_MASK: u64 = 0xffff_ffff;
/// A finite double spans 2098 bits in units of 2^-1074, 66 digits; two more hold 2^64 additions of the largest.
const DIGITS: usize = 68;
/// An addition changes a digit by less than 2^53, so this many fit a signed 64-bit digit before carries are settled.
const ADDITIONS_BEFORE_CARRY: u32 = 1_000;
/// Most digits an encoded magnitude can have.
const MAGNITUDE_BYTES: usize = DIGITS * 4;

#[derive(Debug, Clone)]
pub struct ExactSum {
    /// Digit i counts units of 2^(32 i - 1074); between carries digits are signed and may exceed 32 bits.
    digits: [i64; DIGITS],
    additions: u32,
}

impl Default for ExactSum {
    fn default() -> Self {
        Self { digits: [0; DIGITS], additions: 0 }
    }
}

impl ExactSum {
    /// Adds a finite value; infinities and NaN are the caller's to count apart and change nothing here.
    #[inline]
    pub fn add(&mut self, value: f64) {
        let bits = value.to_bits();
        let exponent = ((bits >> 52) & 0x7ff) as u32;
        let fraction = bits & 0x000f_ffff_ffff_ffff;
        if exponent == 0x7ff {
            return;
        }
        // Subnormals (exponent 0) have no hidden bit and the weight of exponent 1.
        let (mantissa, shift) = if exponent == 0 { (fraction, 0) } else { (fraction | 1 << 52, exponent - 1) };
        let (digit, within) = ((shift / DIGIT_BITS) as usize, shift % DIGIT_BITS);
        let low = ((mantissa << within) & DIGIT_MASK) as i64;
        // Shifting by at least one keeps the upper part below 2^53 and the shift below 64.
        let high = (mantissa >> (DIGIT_BITS - within)) as i64;
        let sign = if (bits >> 63) == 0 { 1 } else { -1 };
        self.digits[digit] += sign * low;
        self.digits[digit + 1] += sign * high;
        self.additions += 1;
        if self.additions == ADDITIONS_BEFORE_CARRY {
            self.carry();
        }
    }

    pub fn merge(&mut self, other: &ExactSum) {
        let mut other = other.clone();
        other.carry();
        self.carry();
        for (digit, more) in self.digits.iter_mut().zip(other.digits) {
            *digit = digit.wrapping_add(more);
        }
        self.carry();
    }

    /// Settles carries: every digit but the last in [0, 2^32), the last one carries the sign.
    fn carry(&mut self) {
        let mut carried = 0i64;
        for digit in &mut self.digits[..DIGITS - 1] {
            let total = *digit + carried;
            carried = total >> DIGIT_BITS;
            *digit = total & DIGIT_MASK as i64;
        }
        // Only forged bytes can make the last digit leave 64 bits; they must not stop the process.
        self.digits[DIGITS - 1] = self.digits[DIGITS - 1].wrapping_add(carried);
        self.additions = 0;
    }

    /// Sign and magnitude, 32-bit digits lowest first, carries settled.
    fn sign_and_magnitude(&self) -> (bool, [u32; DIGITS]) {
        let mut settled = self.clone();
        settled.carry();
        let negative = settled.digits[DIGITS - 1] < 0;
        if negative {
            for digit in &mut settled.digits {
                *digit = digit.wrapping_neg();
            }
            settled.carry();
        }
        (negative, settled.digits.map(|digit| digit as u32))
    }

    /// The sum, rounded once to the nearest double.
    pub fn value(&self) -> f64 {
        let (negative, digits) = self.sign_and_magnitude();
        let Some(top) = digits.iter().rposition(|digit| *digit != 0) else { return 0.0 };
        let lowest = top.saturating_sub(2);
        let leading = digits[lowest..=top].iter().rev().fold(0u128, |bits, digit| bits << 32 | u128::from(*digit));
        // Three digits hold at least 65 bits: what lies below them can only break a tie.
        let sticky = u128::from(digits[..lowest].iter().any(|digit| *digit != 0));
        let magnitude = times_power_of_two((leading | sticky) as f64, 32 * lowest as i32 - 1074);
        if negative { -magnitude } else { magnitude }
    }

    /// Zero is one byte; otherwise sign and first digit's place, then the magnitude's bytes without zero ends.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let (negative, digits) = self.sign_and_magnitude();
        let mut magnitude = Vec::with_capacity(MAGNITUDE_BYTES);
        for digit in digits {
            magnitude.extend_from_slice(&digit.to_le_bytes());
        }
        let (Some(first), Some(last)) =
            (magnitude.iter().position(|byte| *byte != 0), magnitude.iter().rposition(|byte| *byte != 0))
        else {
            varint::write(0, out);
            return;
        };
        varint::write((last - first + 1) as u64, out);
        varint::write((first as u64) << 1 | u64::from(negative), out);
        out.extend_from_slice(&magnitude[first..=last]);
    }

    /// `None` for bytes that [`ExactSum::encode`] does not emit.
    pub fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        let length = reader.varint_up_to(MAGNITUDE_BYTES as u64)? as usize;
        let mut sum = Self::default();
        if length == 0 {
            return Some(sum);
        }
        let place = reader.varint_up_to(2 * MAGNITUDE_BYTES as u64)?;
        let (first, negative) = ((place >> 1) as usize, place & 1 == 1);
        let bytes = reader.bytes(length)?;
        if bytes.first() == Some(&0) || bytes.last() == Some(&0) || first + length > MAGNITUDE_BYTES {
            return None;
        }
        for (index, byte) in bytes.iter().enumerate() {
            let at = first + index;
            sum.digits[at / 4] |= i64::from(*byte) << (8 * (at % 4));
        }
        if sum.digits[DIGITS - 1] > i64::from(i32::MAX) {
            return None;
        }
        if negative {
            for digit in &mut sum.digits {
                *digit = -*digit;
            }
            sum.carry();
        }
        Some(sum)
    }
}

/// Equal sums are equal whatever carries are pending.
impl PartialEq for ExactSum {
    fn eq(&self, other: &Self) -> bool {
        self.sign_and_magnitude() == other.sign_and_magnitude()
    }
}

impl Eq for ExactSum {}

/// `value` is at most 2^96 and whole, so that the product is rounded only by overflowing.
fn times_power_of_two(value: f64, exponent: i32) -> f64 {
    let power = if exponent >= -1022 {
        f64::from_bits(((exponent + 1023) as u64) << 52)
    } else {
        f64::from_bits(1u64 << (exponent + 1074))
    };
    value * power
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum_of(values: &[f64]) -> ExactSum {
        let mut sum = ExactSum::default();
        for value in values {
            sum.add(*value);
        }
        sum
    }

    #[test]
    fn cancelling_terms_leave_the_small_one() {
        assert_eq!(sum_of(&[1e308, 1.0, -1e308]).value(), 1.0);
        assert_eq!(sum_of(&[f64::MAX, f64::MAX, -f64::MAX]).value(), f64::MAX);
        assert_eq!(sum_of(&[5e-324, -1e-300, 1e-300]).value(), 5e-324);
        assert_eq!(sum_of(&[f64::MAX, f64::MAX]).value(), f64::INFINITY);
    }

    #[test]
    fn the_value_is_rounded_once() {
        // Ten tenths are 1 + 10 * (0.1 as a double - 1/10), which rounds to 1; a plain loop gives 0.9999999999999999.
        assert_eq!(sum_of(&[0.1; 10]).value(), 1.0);
        // 2^53 + 1 lies half way and goes to even; a bit more goes up.
        assert_eq!(sum_of(&[9007199254740992.0, 1.0]).value(), 9007199254740992.0);
        assert_eq!(sum_of(&[9007199254740992.0, 1.0, 1e-300]).value(), 9007199254740994.0);
        assert_eq!(sum_of(&[-9007199254740992.0, -1.0, -1e-300]).value(), -9007199254740994.0);
    }

    #[test]
    fn many_additions_do_not_overflow_a_digit() {
        let mut sum = ExactSum::default();
        for _ in 0..10_000 {
            sum.add(-1.999_999_999_999_999_8);
        }
        assert_eq!(sum.value(), -19_999.999_999_999_998);
    }

    #[test]
    fn single_values_come_back_to_the_bit() {
        for value in [0.0, 1.0, -2.5, 1e-310, 5e-324, f64::MAX, f64::MIN_POSITIVE, -0.1, 1e22] {
            let sum = sum_of(&[value]);
            assert_eq!(sum.value().to_bits(), value.to_bits(), "{value}");
            let mut bytes = Vec::new();
            sum.encode(&mut bytes);
            assert_eq!(ExactSum::decode(&mut Reader::new(&bytes)), Some(sum));
        }
    }
}
