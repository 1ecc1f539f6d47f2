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
const ADDITIONS_BEFORE_CARRY: u16 = 1_000;
/// Most digits an encoded magnitude can have.
const MAGNITUDE_BYTES: usize = DIGITS * 4;

/// Only the digits that values have reached are kept: those of one feature span a few of the 68.
#[derive(Debug, Clone, Default)]
pub struct ExactSum {
    /// Digit i counts units of 2^(32 (first + i) - 1074); between carries digits are signed and may exceed 32 bits.
    digits: Vec<i64>,
    first: u16,
    additions: u16,
}

/// Whether negative, the place of the lowest digit, and 32-bit digits from there, lowest first, neither end 0.
type Settled = (bool, usize, Vec<u32>);

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
        let (place, within) = ((shift / DIGIT_BITS) as usize, shift % DIGIT_BITS);
        let low = ((mantissa << within) & DIGIT_MASK) as i64;
        // Shifting by at least one keeps the upper part below 2^53 and the shift below 64.
        let high = (mantissa >> (DIGIT_BITS - within)) as i64;
        let sign = if (bits >> 63) == 0 { 1 } else { -1 };
        // A place below the first one wraps around to far beyond the last.
        let at = place.wrapping_sub(usize::from(self.first));
        if let Some([lower, upper]) = self.digits.get_mut(at..at.wrapping_add(2)) {
            *lower += sign * low;
            *upper += sign * high;
        } else {
            self.add_beyond(place, sign * low, sign * high);
        }
        self.additions += 1;
        if self.additions == ADDITIONS_BEFORE_CARRY {
            self.carry();
        }
    }

    #[cold]
    fn add_beyond(&mut self, place: usize, low: i64, high: i64) {
        self.reach(place, place + 2);
        let at = place - usize::from(self.first);
        self.digits[at] += low;
        self.digits[at + 1] += high;
    }

    /// Makes room for the digits from `from` up to but without `to`, at most [`DIGITS`].
    fn reach(&mut self, from: usize, to: usize) {
        if self.digits.is_empty() {
            self.first = from as u16;
        }
        let first = usize::from(self.first);
        let below = first.saturating_sub(from);
        self.digits.splice(0..0, std::iter::repeat_n(0, below));
        self.first -= below as u16;
        let wanted = to.max(first + self.digits.len() - below) - usize::from(self.first);
        if wanted > self.digits.len() {
            self.digits.reserve_exact(wanted - self.digits.len());
            self.digits.resize(wanted, 0);
        }
    }

    pub fn merge(&mut self, other: &ExactSum) {
        if other.digits.is_empty() {
            return;
        }
        self.carry();
        self.reach(usize::from(other.first), usize::from(other.first) + other.digits.len());
        // What `other` has not carried stays below 2^63 less what a settled digit can add.
        let at = usize::from(other.first - self.first);
        for (digit, more) in self.digits[at..].iter_mut().zip(&other.digits) {
            *digit = digit.wrapping_add(*more);
        }
        self.carry();
    }

    /// Settles carries: every digit but the last in [0, 2^32), the last one carries the sign and is, but for forged
    /// bytes, within 32 bits too.
    fn carry(&mut self) {
        self.additions = 0;
        let Some(last) = self.digits.len().checked_sub(1) else { return };
        let mut carried = 0i64;
        for digit in &mut self.digits[..last] {
            let total = *digit + carried;
            carried = total >> DIGIT_BITS;
            *digit = total & DIGIT_MASK as i64;
        }
        // Only forged bytes can make the last digit leave 64 bits; they must not stop the process.
        self.digits[last] = self.digits[last].wrapping_add(carried);
        while usize::from(self.first) + self.digits.len() < DIGITS
            && let Some(top) = self.digits.last_mut()
            && i32::try_from(*top).is_err()
        {
            let more = *top >> DIGIT_BITS;
            *top &= DIGIT_MASK as i64;
            self.digits.reserve_exact(1);
            self.digits.push(more);
        }
    }

    fn settled(&self) -> Settled {
        let mut settled = self.clone();
        settled.carry();
        let negative = settled.digits.last().is_some_and(|digit| *digit < 0);
        if negative {
            for digit in &mut settled.digits {
                *digit = digit.wrapping_neg();
            }
            settled.carry();
        }
        let low = settled.digits.iter().position(|digit| *digit != 0).unwrap_or(settled.digits.len());
        let high = settled.digits.iter().rposition(|digit| *digit != 0).map_or(low, |last| last + 1);
        let digits: Vec<u32> = settled.digits[low..high].iter().map(|digit| *digit as u32).collect();
        let place = if digits.is_empty() { 0 } else { usize::from(settled.first) + low };
        (negative, place, digits)
    }

    /// The sum, rounded once to the nearest double.
    pub fn value(&self) -> f64 {
        let (negative, first, digits) = self.settled();
        let Some(top) = digits.len().checked_sub(1).map(|last| first + last) else { return 0.0 };
        let lowest = top.saturating_sub(2);
        let digit = |place: usize| place.checked_sub(first).and_then(|at| digits.get(at)).copied().unwrap_or(0);
        let leading = (lowest..=top).rev().fold(0u128, |bits, place| bits << 32 | u128::from(digit(place)));
        // Three digits hold at least 65 bits: what lies below them can only break a tie.
        let sticky = u128::from(digits.iter().take(lowest.saturating_sub(first)).any(|digit| *digit != 0));
        let magnitude = times_power_of_two((leading | sticky) as f64, 32 * lowest as i32 - 1074);
        if negative { -magnitude } else { magnitude }
    }

    /// Memory held outside of the struct, in bytes.
    pub fn allocated_bytes(&self) -> usize {
        self.digits.capacity() * size_of::<i64>()
    }

    /// Zero is one byte; otherwise sign and first digit's place, then the magnitude's bytes without zero ends.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let (negative, place, digits) = self.settled();
        let magnitude: Vec<u8> = digits.iter().flat_map(|digit| digit.to_le_bytes()).collect();
        let (Some(first), Some(last)) =
            (magnitude.iter().position(|byte| *byte != 0), magnitude.iter().rposition(|byte| *byte != 0))
        else {
            varint::write(0, out);
            return;
        };
        varint::write((last - first + 1) as u64, out);
        varint::write(((4 * place + first) as u64) << 1 | u64::from(negative), out);
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
        // A digit more, for the sign.
        let end = ((first + length).div_ceil(4) + 1).min(DIGITS);
        sum.reach(first / 4, end);
        for (index, byte) in bytes.iter().enumerate() {
            let at = first + index;
            sum.digits[at / 4 - first / 4] |= i64::from(*byte) << (8 * (at % 4));
        }
        if sum.digits.last().is_some_and(|digit| *digit > i64::from(i32::MAX)) {
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
        self.settled() == other.settled()
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
