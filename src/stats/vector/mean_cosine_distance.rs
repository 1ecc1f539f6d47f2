//! Mean cosine distance between rows of the window and rows of the reference, beyond the mean distance within each:
//! D = mean d(w, r) - mean d(w, w') / 2 - mean d(r, r') / 2 with d = 1 - cosine, which is half the squared distance
//! between the two mean directions.
//!
//! Sees directions that move on average: another topic, another mixture of clusters, a shift of the mean. Does not see
//! lengths, nor a change that leaves the mean direction where it was (spread, correlation). The directions of
//! embeddings are their own; those of joint features are taken from the reference's means.

use super::law::SquaredDistanceLaw;
use super::mmd2::{squared_distance, within};

/// 0 under no drift on average, 2 where all vectors turned round. `reference` and `window` are mean directions over so
/// many rows. `None` for fewer than two rows.
pub fn mean_cosine_distance(reference: &[f64], n_reference: u64, window: &[f64], n: u64) -> Option<f64> {
    if n_reference < 2 || n < 2 {
        return None;
    }
    let between: f64 = reference.iter().zip(window).map(|(r, w)| r * w).sum();
    Some((within(reference, n_reference) + within(window, n)) / 2.0 - between)
}

/// Probability of mean directions at least this far apart under no drift; the law of [`SquaredDistanceLaw`], scaled to
/// the reference that is compared with.
pub fn p_value(law: &SquaredDistanceLaw, reference: &[f64], n_reference: u64, window: &[f64], n: u64) -> Option<f64> {
    if n_reference < 2 || n < 2 {
        return None;
    }
    let law = law.scaled_to(1.0 - within(reference, n_reference));
    law.p_value(squared_distance(reference, window), n_reference, n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_that_turned_round_are_two_apart() {
        // All rows alike on each side: the mean direction is the direction.
        assert!((mean_cosine_distance(&[0.6, 0.8], 50, &[-0.6, -0.8], 50).unwrap() - 2.0).abs() < 1e-12);
        assert!((mean_cosine_distance(&[1.0, 0.0], 50, &[0.0, 1.0], 50).unwrap() - 1.0).abs() < 1e-12);
        assert_eq!(mean_cosine_distance(&[1.0, 0.0], 50, &[1.0, 0.0], 50), Some(0.0));
        assert_eq!(mean_cosine_distance(&[1.0, 0.0], 1, &[1.0, 0.0], 50), None);
    }

    #[test]
    fn it_is_the_mean_over_pairs_of_rows() {
        let unit = |degrees: f64| [degrees.to_radians().cos(), degrees.to_radians().sin()];
        let (reference, window) = ([0.0, 30.0, 80.0].map(unit), [40.0, 170.0].map(unit));
        let distance = |a: &[f64; 2], b: &[f64; 2]| 1.0 - a[0] * b[0] - a[1] * b[1];
        let mean = |rows: &[[f64; 2]]| [0, 1].map(|at| rows.iter().map(|row| row[at]).sum::<f64>() / rows.len() as f64);
        let between: f64 = reference.iter().flat_map(|r| window.iter().map(move |w| distance(r, w))).sum::<f64>() / 6.0;
        let within_reference = (distance(&reference[0], &reference[1])
            + distance(&reference[0], &reference[2])
            + distance(&reference[1], &reference[2]))
            / 3.0;
        let within_window = distance(&window[0], &window[1]);
        let expected = between - within_reference / 2.0 - within_window / 2.0;
        let found = mean_cosine_distance(&mean(&reference), 3, &mean(&window), 2).unwrap();
        assert!((found - expected).abs() < 1e-12, "{found} for {expected}");
    }
}
