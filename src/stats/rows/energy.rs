//! Energy distance of two samples (Szekely and Rizzo).

use super::ecdf::Step;
use super::wasserstein::integrate;

/// `sqrt(2 * integral (F_reference - F_window)^2)`, in the square root of the feature's unit.
pub fn energy_distance(steps: &[Step]) -> f64 {
    (2.0 * integrate(steps, |distance| distance * distance)).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::rows::ecdf::merge;

    #[test]
    fn two_points_one_apart() {
        let distance = energy_distance(&merge(&[5.0; 20], &[6.0; 10]));
        assert!((distance - 2.0_f64.sqrt()).abs() < 1e-15, "{distance} instead of sqrt 2");
    }
}
