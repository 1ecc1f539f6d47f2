//! Kolmogorov-Smirnov distance of two samples that were counted into the same bins, and its p-value.

use std::f64::consts::PI;

/// A distance read off at the bin edges: the distance of the rows lies in [value, value + bound].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BinnedDistance {
    pub value: f64,
    pub bound: f64,
}

/// Largest difference of the two distribution functions at the edges of the bins, and how much larger it can be
/// between them.
///
/// Within a bin both functions rise from their share below it to their share up to its end, at places unknown. They
/// differ there by at most max(F(end) - G(start), G(end) - F(start)), which exceeds an edge's difference by at most
/// the smaller of the two masses in the bin. A bin empty on one side, or with room for one value only (`atoms`),
/// hides nothing: there the difference is monotone, so its largest value is at an end. All slices have one entry per
/// bin, in order; `None` where a side is empty.
pub fn binned_distance(reference: &[u64], window: &[u64], atoms: &[bool]) -> Option<BinnedDistance> {
    debug_assert!(reference.len() == window.len() && reference.len() == atoms.len());
    let (n_reference, n) = (reference.iter().sum::<u64>(), window.iter().sum::<u64>());
    if n_reference == 0 || n == 0 {
        return None;
    }
    let (n_reference, n) = (n_reference as f64, n as f64);
    let (mut value, mut most) = (0.0f64, 0.0f64);
    let (mut below_reference, mut below) = (0u64, 0u64);
    for ((&in_reference, &in_window), &atom) in reference.iter().zip(window).zip(atoms) {
        let (start_reference, start) = (below_reference as f64 / n_reference, below as f64 / n);
        below_reference += in_reference;
        below += in_window;
        let (end_reference, end) = (below_reference as f64 / n_reference, below as f64 / n);
        value = value.max((end_reference - end).abs());
        if in_reference > 0 && in_window > 0 && !atom {
            most = most.max(end_reference - start).max(end - start_reference);
        }
    }
    Some(BinnedDistance { value, bound: (most - value).max(0.0) })
}

/// Probability of a distance at least this large under one continuous distribution, by the limiting law at
/// sqrt(en) D, en = n_reference n / (n_reference + n).
pub fn p_value_limit(statistic: f64, n_reference: u64, n: u64) -> f64 {
    kolmogorov_survival(effective_size(n_reference, n).sqrt() * statistic)
}

/// The same with Stephens' (1970) correction for small samples: (sqrt(en) + 0.12 + 0.11 / sqrt(en)) D. Too large
/// (safe) for distributions with ties.
pub fn p_value_stephens(statistic: f64, n_reference: u64, n: u64) -> f64 {
    let root = effective_size(n_reference, n).sqrt();
    kolmogorov_survival((root + 0.12 + 0.11 / root) * statistic)
}

fn effective_size(n_reference: u64, n: u64) -> f64 {
    let (n_reference, n) = (n_reference as f64, n as f64);
    n_reference * n / (n_reference + n)
}

/// Q(z) = 2 sum (-1)^(k-1) exp(-2 k^2 z^2); below 1 by Jacobi's transform of it, which converges at once where the
/// first series is slow and cancels.
fn kolmogorov_survival(z: f64) -> f64 {
    if z.is_nan() {
        return f64::NAN;
    }
    if z <= 0.0 {
        return 1.0;
    }
    if z < 1.0 {
        let cumulative: f64 = (0..6)
            .map(|k| {
                let odd = f64::from(2 * k + 1);
                (-odd * odd * PI * PI / (8.0 * z * z)).exp()
            })
            .sum();
        return 1.0 - (2.0 * PI).sqrt() / z * cumulative;
    }
    let tail: f64 = (1..=6)
        .map(|k| {
            let sign = if k % 2 == 1 { 1.0 } else { -1.0 };
            sign * (-2.0 * f64::from(k * k) * z * z).exp()
        })
        .sum();
    (2.0 * tail).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limiting_law_equals_scipy() {
        for (z, scipy) in [
            (0.3, 0.9999906941986655),
            (0.7, 0.7112351950296893),
            (1.0, 0.26999967167735456),
            (1.36, 0.049485876755377876),
            (2.5, 7.453306344157342e-06),
            (6.0, 1.0760372320042276e-31),
        ] {
            let ours = kolmogorov_survival(z);
            assert!((ours / scipy - 1.0).abs() < 1e-12, "Q({z}): ours {ours}, scipy {scipy}");
        }
    }

    #[test]
    fn a_distance_at_the_edges_is_exact_where_bins_hold_one_value() {
        // Values 1, 2, 3 with counts 4, 2, 2 against 1, 1, 6: F = .5, .75, 1; G = .125, .25, 1.
        let distance = binned_distance(&[4, 2, 2], &[1, 1, 6], &[true; 3]).unwrap();
        assert_eq!(distance, BinnedDistance { value: 0.5, bound: 0.0 });
    }

    #[test]
    fn the_bound_covers_what_a_shared_bin_can_hide() {
        // All in one bin: anything from 0 to 1 is possible. The second: F(end) - G(start) = 1 - 0.5 at most.
        assert_eq!(binned_distance(&[3], &[4], &[false]).unwrap(), BinnedDistance { value: 0.0, bound: 1.0 });
        assert_eq!(
            binned_distance(&[2, 2], &[2, 2], &[true, false]).unwrap(),
            BinnedDistance { value: 0.0, bound: 0.5 }
        );
        assert_eq!(binned_distance(&[0, 0], &[2, 2], &[false, false]), None);
    }
}
