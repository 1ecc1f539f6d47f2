//! Sine, cosine, logarithm and normal draws with the same bits on every machine.
//!
//! The standard library's come from the platform and differ in the last digit from one C library to the next; sums
//! of random features would then differ between two replicas of one service. These use additions, multiplications,
//! divisions and square roots alone, which IEEE 754 fixes to the bit.

/// 1.5 * 2^52: adding it rounds a double below 2^51 to a whole number.
const ROUNDER: f64 = 6_755_399_441_055_744.0;

/// The whole number nearest to `value`, ties to even, for magnitudes below 2^51: it stands in the low bits of the sum.
/// `round` is a call on the oldest processors of the target, and `as i64` checks for what cannot be here.
#[inline]
pub fn nearest_integer(value: f64) -> i64 {
    (value + ROUNDER).to_bits().wrapping_sub(ROUNDER.to_bits()) as i64
}

/// Sine and cosine of an angle in turns (1 turn = 360 degrees), within 1e-11.
///
/// The Taylor polynomials of degree 11 and 12 at an eighth of a turn or less (remainder below 4e-12); quarter turns
/// are swaps and signs.
#[inline]
pub fn sine_cosine_of_turns(turns: f64) -> (f64, f64) {
    let shifted = turns * 4.0 + ROUNDER;
    let quarters = shifted.to_bits();
    let angle = (turns - (shifted - ROUNDER) * 0.25) * std::f64::consts::TAU;
    let square = angle * angle;
    let sine = angle
        * (1.0
            + square
                * (-1.0 / 6.0
                    + square
                        * (1.0 / 120.0
                            + square
                                * (-1.0 / 5_040.0 + square * (1.0 / 362_880.0 + square * (-1.0 / 39_916_800.0))))));
    let cosine = 1.0
        + square
            * (-0.5
                + square
                    * (1.0 / 24.0
                        + square
                            * (-1.0 / 720.0
                                + square
                                    * (1.0 / 40_320.0
                                        + square * (-1.0 / 3_628_800.0 + square * (1.0 / 479_001_600.0))))));
    // Without branches: quarters are as good as random. The second bit, moved to the sign, negates the sine; the sum of
    // both bits the cosine.
    let (of_sine, of_cosine) = if quarters & 1 == 0 { (sine, cosine) } else { (cosine, sine) };
    let signed = |value: f64, quarters: u64| f64::from_bits(value.to_bits() ^ ((quarters & 2) << 62));
    (signed(of_sine, quarters), signed(of_cosine, quarters.wrapping_add(1)))
}

/// Natural logarithm of a positive normal double, within 1e-14 of its size or 1e-15.
fn logarithm(value: f64) -> f64 {
    let bits = value.to_bits();
    let exponent = ((bits >> 52) & 0x7ff) as i64 - 1_023;
    let mantissa = f64::from_bits((bits & 0x000f_ffff_ffff_ffff) | (1_023 << 52));
    // ln m = 2 artanh((m - 1) / (m + 1)), |.| at most 0.18 once the mantissa lies around one.
    let (mantissa, exponent) =
        if mantissa > std::f64::consts::SQRT_2 { (mantissa / 2.0, exponent + 1) } else { (mantissa, exponent) };
    let ratio = (mantissa - 1.0) / (mantissa + 1.0);
    let square = ratio * ratio;
    let mut series = 0.0;
    for odd in (1..=21).rev().step_by(2) {
        series = series * square + 1.0 / f64::from(odd);
    }
    exponent as f64 * std::f64::consts::LN_2 + 2.0 * ratio * series
}

/// A well mixed image of `value`: the finaliser of SplitMix64 (Steele, Lea and Flood 2014).
#[inline]
pub fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// SplitMix64: a seed's stream of random numbers, the same everywhere and for ever.
#[derive(Debug, Clone)]
pub struct Random {
    state: u64,
}

impl Random {
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.state)
    }

    /// Uniform in (0, 1).
    pub fn uniform(&mut self) -> f64 {
        ((self.next_u64() >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    /// Standard normal (Box and Muller 1958).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * logarithm(self.uniform())).sqrt();
        radius * sine_cosine_of_turns(self.uniform()).1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sine_and_cosine_are_those_of_the_library() {
        let mut random = Random::new(1);
        for _ in 0..20_000 {
            let turns = (random.uniform() - 0.5) * 2_000.0;
            let (sine, cosine) = sine_cosine_of_turns(turns);
            // In two steps: the library's own argument reduction of 2000 turns in radians loses digits.
            let (expected_sine, expected_cosine) = ((turns - turns.round()) * std::f64::consts::TAU).sin_cos();
            assert!((sine - expected_sine).abs() < 1e-11, "{turns}: {sine} against {expected_sine}");
            assert!((cosine - expected_cosine).abs() < 1e-11, "{turns}: {cosine} against {expected_cosine}");
        }
    }

    #[test]
    fn logarithms_are_those_of_the_library() {
        let mut random = Random::new(2);
        for _ in 0..20_000 {
            let value = random.uniform().powi(9);
            let (found, expected) = (logarithm(value), value.ln());
            assert!((found - expected).abs() <= 1e-14 * expected.abs().max(0.1), "{value}: {found} against {expected}");
        }
    }

    #[test]
    fn normal_draws_have_the_moments_of_the_law() {
        let mut random = Random::new(3);
        let draws: Vec<f64> = (0..100_000).map(|_| random.normal()).collect();
        let moment = |power: i32| draws.iter().map(|value| value.powi(power)).sum::<f64>() / draws.len() as f64;
        for (power, expected, tolerance) in [(1, 0.0, 0.02), (2, 1.0, 0.02), (3, 0.0, 0.06), (4, 3.0, 0.15)] {
            assert!((moment(power) - expected).abs() < tolerance, "moment {power}: {} for {expected}", moment(power));
        }
    }
}
