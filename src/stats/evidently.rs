//! What Evidently does with empty bins.

/// Each empty bin's share is raised to a value of its own side: a share of a millionth of the smallest one where that is tiny, else 1e-4.
pub fn fill_zeros(shares: &[f64]) -> Vec<f64> {
    let smallest = shares.iter().copied().filter(|&share| share > 0.0).fold(f64::INFINITY, f64::min);
    let fill = if smallest <= 1e-4 { smallest / 1e6 } else { 1e-4 };
    shares.iter().map(|&share| if share == 0.0 { fill } else { share }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fill_is_a_millionth_of_a_tiny_share_and_a_ten_thousandth_otherwise() {
        assert_eq!(fill_zeros(&[0.5, 0.0, 0.5]), [0.5, 1e-4, 0.5]);
        assert_eq!(fill_zeros(&[0.99995, 0.00005, 0.0]), [0.99995, 0.00005, 0.00005 / 1e6]);
    }
}
