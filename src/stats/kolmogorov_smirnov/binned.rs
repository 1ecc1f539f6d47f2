//! The distance of two samples that were counted into the same bins.

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

#[cfg(test)]
mod tests {
    use super::*;

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
