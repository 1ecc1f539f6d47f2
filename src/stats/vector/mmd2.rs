//! Squared maximum mean discrepancy with the Gaussian kernel (Gretton et al. 2012), by random Fourier features
//! (Rahimi and Recht 2007).
//!
//! Sees any difference between the two distributions that is wide against the bandwidth: means, spreads, correlations,
//! clusters. What moves in a few of many entries only is diluted by the others.

use super::law::SquaredDistanceLaw;

/// Unbiased estimate: zero on average under no drift, and then negative as often as not. `reference` and `window` are
/// mean features over so many rows. `None` for fewer than two rows.
///
/// The features' squares sum to 1 in each row, so the rows' own products, which the unbiased estimate leaves out, are
/// known without the rows.
pub fn mmd2(reference: &[f64], n_reference: u64, window: &[f64], n: u64) -> Option<f64> {
    if n_reference < 2 || n < 2 {
        return None;
    }
    let between: f64 = reference.iter().zip(window).map(|(r, w)| r * w).sum();
    Some(within(reference, n_reference) + within(window, n) - 2.0 * between)
}

/// Mean product of two different rows, from the mean of rows whose squares sum to 1.
pub fn within(mean: &[f64], n: u64) -> f64 {
    let n = n as f64;
    let square: f64 = mean.iter().map(|value| value * value).sum();
    (n * square - 1.0) / (n - 1.0)
}

/// Squared distance between two means.
pub fn squared_distance(reference: &[f64], window: &[f64]) -> f64 {
    reference.iter().zip(window).map(|(r, w)| (r - w) * (r - w)).sum()
}

/// Probability of a discrepancy at least this large under no drift, by [`SquaredDistanceLaw`], scaled to the scatter
/// of the reference that is compared with: a segment's rows lie closer together than those of the whole.
pub fn p_value(law: &SquaredDistanceLaw, reference: &[f64], n_reference: u64, window: &[f64], n: u64) -> Option<f64> {
    if n_reference < 2 || n < 2 {
        return None;
    }
    let law = law.scaled_to(1.0 - within(reference, n_reference));
    law.p_value(squared_distance(reference, window), n_reference, n)
}

#[cfg(test)]
mod tests {
    use super::super::layout::exact_kernel;
    use super::super::layout::tests::{correlated, layout_of};
    use super::super::measure::Measured;
    use super::super::profile::VectorProfile;
    use super::*;

    /// The unbiased estimate from the rows, with the kernel itself.
    fn from_rows(reference: &[Vec<f64>], window: &[Vec<f64>], layout: &super::super::layout::VectorLayout) -> f64 {
        let mean = |left: &[Vec<f64>], right: &[Vec<f64>], same: bool| {
            let mut sum = 0.0;
            for (i, a) in left.iter().enumerate() {
                for (j, b) in right.iter().enumerate() {
                    sum += if same && i == j { 0.0 } else { exact_kernel(a, b, layout) };
                }
            }
            sum / (left.len() * (right.len() - usize::from(same))) as f64
        };
        mean(reference, reference, true) + mean(window, window, true) - 2.0 * mean(reference, window, false)
    }

    #[test]
    fn the_estimate_is_near_the_exact_discrepancy() {
        for (correlation, shift) in [(0.8, 0.0), (-0.8, 0.0), (0.8, 0.5)] {
            let reference = correlated(400, 6, 0.8, 31);
            let mut window = correlated(300, 6, correlation, 32);
            window.iter_mut().for_each(|row| row[0] += shift);
            let layout = layout_of(&reference);
            let mut room = Measured::new(&layout);
            let mut mean = |rows: &[Vec<f64>]| {
                let mut profile = VectorProfile::new(&layout);
                rows.iter().for_each(|row| profile.add(row, 0, &layout, &mut room));
                profile.mean_features()
            };
            let found = mmd2(&mean(&reference), 400, &mean(&window), 300).unwrap();
            let exact = from_rows(&reference, &window, &layout);
            assert!((found - exact).abs() < 0.004 + 0.15 * exact.abs(), "{found} for {exact}");
        }
    }

    #[test]
    fn too_few_rows_have_no_discrepancy() {
        assert_eq!(mmd2(&[1.0], 1, &[1.0], 10), None);
        assert_eq!(mmd2(&[0.6, 0.8], 10, &[0.6, 0.8], 10), Some(0.0));
    }
}
