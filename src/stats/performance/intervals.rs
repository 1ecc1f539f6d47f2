//! 95% confidence intervals of performance figures.
//!
//! They say how far a figure of so many rows may lie from that of the population that the rows were drawn from,
//! independently. The interval of a metric without a closed form is found from its variance, which is the sum of squares
//! of what each row changes (the infinitesimal jackknife: Efron, 1982; the delta method on counts).

use statrs::distribution::{ContinuousCDF, StudentsT};

use super::confusion::Confusion;

/// 97.5% point of the normal law.
pub const Z: f64 = 1.959_963_984_540_054;
/// From here on Student's law is the normal one to a thousandth.
const NORMAL_FROM: f64 = 1_000.0;
/// Fewest rows from which a variance is taken.
const FEWEST: f64 = 2.0;

/// Of a share of `hits` among `n` independent rows (Wilson, 1927), within [0, 1]; `None` without rows.
pub fn wilson(hits: f64, n: f64) -> Option<[f64; 2]> {
    if n.is_nan() || n <= 0.0 {
        return None;
    }
    let share = (hits / n).clamp(0.0, 1.0);
    let widened = 1.0 + Z * Z / n;
    let centre = (share + Z * Z / (2.0 * n)) / widened;
    let half = Z / widened * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
    // At the ends rounding can leave out the share itself.
    Some([(centre - half).clamp(0.0, share), (centre + half).clamp(share, 1.0)])
}

/// Of any figure within [0, 1] whose sampling variance is known: Wilson's interval for as many rows as would give a
/// share that variance (the effective sample size of survey statistics: Korn and Graubard, 1998). Where the variance is
/// 0, because nothing went wrong or everything did, it is that of `fewest_rows`.
pub fn share_with_variance(value: f64, variance: f64, fewest_rows: f64) -> Option<[f64; 2]> {
    let rows = value * (1.0 - value) / variance;
    let rows = if rows.is_finite() && rows > 0.0 { rows } else { fewest_rows };
    wilson(value * rows, rows)
}

/// Of a mean of `n` numbers with this variance (ddof 1), by Student's law; `None` below two numbers.
pub fn of_mean(mean: f64, variance: f64, n: f64) -> Option<[f64; 2]> {
    if n < FEWEST || !variance.is_finite() {
        return None;
    }
    let half = student(n - 1.0) * (variance.max(0.0) / n).sqrt();
    Some([mean - half, mean + half])
}

/// 97.5% point of Student's law.
fn student(freedom: f64) -> f64 {
    if freedom >= NORMAL_FROM {
        return Z;
    }
    StudentsT::new(0.0, 1.0, freedom).map_or(Z, |law| law.inverse_cdf(0.975))
}

/// Of a figure whose sampling variance is known.
pub fn normal(value: f64, variance: f64) -> Option<[f64; 2]> {
    let half = Z * variance.max(0.0).sqrt();
    half.is_finite().then_some([value - half, value + half])
}

/// Cut off at what the figure can be.
pub fn within(interval: Option<[f64; 2]>, least: f64, most: f64) -> Option<[f64; 2]> {
    interval.map(|ends| ends.map(|end| end.clamp(least, most)))
}

/// Of the difference a - b of two independent figures, from the interval of each (MOVER: Zou and Donner, 2008; of two
/// Wilson intervals it is Newcombe's tenth method, 1998).
pub fn difference_interval(a: (f64, [f64; 2]), b: (f64, [f64; 2])) -> [f64; 2] {
    let ((a, [a_least, a_most]), (b, [b_least, b_most])) = (a, b);
    let difference = a - b;
    [difference - f64::hypot(a - a_least, b_most - b), difference + f64::hypot(a_most - a, b - b_least)]
}

/// Of f1: TP / (TP + FP + FN) is a share of rows, with Wilson's interval, and f1 is 2 share / (1 + share).
pub fn of_f1(table: &Confusion) -> Option<[f64; 2]> {
    let rows = table.true_positives + table.false_positives + table.false_negatives;
    let ends = wilson(table.true_positives, rows)?;
    Some(ends.map(|share| 2.0 * share / (1.0 + share)))
}

/// Of Matthews' correlation: by the delta method on the four counts, each half a row larger (so that none is 0), on the
/// scale of Fisher's z.
pub fn of_matthews_correlation(table: &Confusion) -> Option<[f64; 2]> {
    if table.rows() < FEWEST {
        return None;
    }
    let value = table.matthews_correlation();
    let [tp, fp, r#fn, tn] =
        [table.true_positives, table.false_positives, table.false_negatives, table.true_negatives].map(|n| n + 0.5);
    let raised = Confusion { true_positives: tp, false_positives: fp, false_negatives: r#fn, true_negatives: tn };
    let centre = raised.matthews_correlation();
    let root = ((tp + fp) * (tp + r#fn)).sqrt() * ((tn + fp) * (tn + r#fn)).sqrt();
    let per = |first: f64, second: f64| centre / 2.0 * (1.0 / first + 1.0 / second);
    let changes = [
        (tp, tn / root - per(tp + fp, tp + r#fn)),
        (tn, tp / root - per(tn + fp, tn + r#fn)),
        (fp, -r#fn / root - per(tp + fp, tn + fp)),
        (r#fn, -fp / root - per(tp + r#fn, tn + r#fn)),
    ];
    let variance: f64 = changes.iter().map(|(rows, change)| rows * change * change).sum();
    let half = Z * variance.sqrt() / (1.0 - centre * centre);
    let [least, most] = [centre.atanh() - half, centre.atanh() + half].map(f64::tanh);
    Some([least.min(value), most.max(value)])
}

/// The ranks, 1 the least, of the two of `n` sorted values between which the quantile of the population lies (the
/// interval of order statistics, with the binomial law's normal approximation); `None` where there are too few values
/// for that side.
pub fn quantile_ranks(n: u64, quantile: f64) -> Option<[u64; 2]> {
    let mean = n as f64 * quantile;
    let half = Z * (mean * (1.0 - quantile)).sqrt();
    let (least, most) = ((mean - half).floor(), (mean + half).ceil() + 1.0);
    (least >= 1.0 && most <= n as f64).then_some([least as u64, most as u64])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(ours: [f64; 2], expected: [f64; 2], tolerance: f64) {
        let close = ours.iter().zip(expected).all(|(a, b)| (a - b).abs() <= tolerance);
        assert!(close, "{ours:?} instead of {expected:?}");
    }

    #[test]
    fn shares_have_newcombes_published_intervals() {
        // Newcombe, Two-sided confidence intervals for the single proportion (1998), table I, method 3
        near(wilson(81.0, 263.0).unwrap(), [0.2553, 0.3662], 5e-5);
        near(wilson(15.0, 148.0).unwrap(), [0.0624, 0.1605], 5e-5);
        near(wilson(0.0, 20.0).unwrap(), [0.0, 0.1611], 5e-5);
        near(wilson(1.0, 29.0).unwrap(), [0.0061, 0.1718], 5e-5);
        assert_eq!(wilson(0.0, 0.0), None);
    }

    #[test]
    fn differences_have_newcombes_published_intervals() {
        // Newcombe, Interval estimation for the difference between independent proportions (1998), table II, method 10
        let difference = |a: f64, n: f64, b: f64, m: f64| {
            difference_interval((a / n, wilson(a, n).unwrap()), (b / m, wilson(b, m).unwrap()))
        };
        near(difference(56.0, 70.0, 48.0, 80.0), [0.0524, 0.3339], 5e-5);
        near(difference(9.0, 10.0, 3.0, 10.0), [0.1705, 0.8090], 5e-5);
        near(difference(10.0, 10.0, 0.0, 20.0), [0.6791, 1.0], 5e-5);
    }

    #[test]
    fn a_share_with_a_binomial_variance_has_wilsons_interval() {
        let variance = 0.3 * 0.7 / 50.0;
        near(share_with_variance(0.3, variance, 10.0).unwrap(), wilson(15.0, 50.0).unwrap(), 1e-12);
        near(share_with_variance(1.0, 0.0, 50.0).unwrap(), wilson(50.0, 50.0).unwrap(), 1e-12);
    }

    #[test]
    fn means_of_few_numbers_have_students_interval() {
        // 12, 15, 9: mean 12, variance 9; t(2) = 4.302653
        near(of_mean(12.0, 9.0, 3.0).unwrap(), [12.0 - 4.302653 * 3_f64.sqrt(), 12.0 + 4.302653 * 3_f64.sqrt()], 1e-5);
        assert_eq!(of_mean(12.0, 0.0, 1.0), None);
    }

    #[test]
    fn few_values_have_no_interval_of_their_tails() {
        // mean 50, half 9.8
        assert_eq!(quantile_ranks(100, 0.5), Some([40, 61]));
        assert_eq!(quantile_ranks(20, 0.05), None);
    }

    #[test]
    fn a_correlation_of_one_still_has_an_interval() {
        let table =
            Confusion { true_positives: 10.0, false_positives: 0.0, false_negatives: 0.0, true_negatives: 10.0 };
        let [least, most] = of_matthews_correlation(&table).unwrap();
        assert!(least < 0.95 && least > 0.3 && most > 0.999, "{least} to {most}");
    }
}
