//! Two-sample Cramér-von Mises statistic T with mid-ranks (Anderson, 1962), its law, and what bins leave of it.
//!
//! With nx, ny values on the sides, U = nx Σ (rank - i)² + ny Σ (rank - j)², ranks in the pooled sample less those in
//! the own one, and T = U / (nx ny (nx + ny)) - (4 nx ny - 1) / (6 (nx + ny)).

use statrs::function::gamma::{gamma, ln_gamma};

use super::cells::{Cell, Cells};
use super::metric::MetricValue;

/// Adds to U what `reference` and `window` tied values do that stand above `reference_below` and `window_below`.
pub fn tied(n_reference: f64, n: f64, below: (f64, f64), tied: (f64, f64)) -> f64 {
    let ((reference_below, window_below), (reference, window)) = (below, tied);
    let own_ties = |count: f64| count * (count * count - 1.0) / 12.0;
    n_reference * (reference * (window_below + window / 2.0).powi(2) + own_ties(reference))
        + n * (window * (reference_below + reference / 2.0).powi(2) + own_ties(window))
}

/// T from U.
pub fn statistic(u: f64, n_reference: u64, n: u64) -> f64 {
    let (nx, ny) = (n_reference as f64, n as f64);
    let (product, rows) = (nx * ny, nx + ny);
    u / (product * rows) - (4.0 * product - 1.0) / (6.0 * rows)
}

/// Probability of a statistic at least this large when both sides are samples of one distribution, from the limiting
/// law after matching mean and variance; unreliable below about 1e-6.
pub fn p_value(t: f64, n_reference: u64, n: u64) -> f64 {
    let (nx, ny) = (n_reference as f64, n as f64);
    let (product, rows) = (nx * ny, nx + ny);
    let mean = (1.0 + 1.0 / rows) / 6.0;
    let variance = (rows + 1.0) * (4.0 * product * rows - 3.0 * (nx * nx + ny * ny) - 2.0 * product)
        / (45.0 * rows * rows * 4.0 * product);
    let standardised = 1.0 / 6.0 + (t - mean) / (45.0 * variance).sqrt();
    if standardised < 0.003 { 1.0 } else { (1.0 - limit_cdf(standardised)).max(0.0) }
}

/// T of two profiles: the value is that of values mixed at random inside each bin. `None` where a side has fewer than
/// two values.
pub fn binned(cells: &Cells) -> Option<MetricValue> {
    if cells.n_reference < 2 || cells.n < 2 {
        return None;
    }
    let (nx, ny) = (cells.n_reference as f64, cells.n as f64);
    let (mut least, mut mixed, mut most, mut squares) = (0.0, 0.0, 0.0, 0.0);
    for cell in cells.filled() {
        squares += squared_distances(nx, ny, cell);
        let range = if cell.single { exactly(nx, ny, cell) } else { range(nx, ny, cell) };
        least += range.0;
        mixed += range.1;
        most += range.2;
    }
    let t = |u: f64| statistic(u, cells.n_reference, cells.n);
    let untied = squares / (nx * ny * (nx + ny).powi(2));
    let p_value = p_value(untied, cells.n_reference, cells.n);
    Some(MetricValue::within(t(mixed), t(least), t(most)).with_p(p_value))
}

/// Sum of D² = (ny x - nx y)² over the values of a bin, x and y being the counts up to each, after its ties; of values
/// mixed at random.
///
/// nx ny / (nx + ny)² times the sum of (F - G)² is T where no values tie. Where they do, mid-ranks add the ties of each
/// side with itself, which are no difference of the sides: of a feature of few values T is large without any drift,
/// and its law does not hold. This sum is then what continuous values give or less, so the law errs on the safe side.
fn squared_distances(nx: f64, ny: f64, cell: &Cell) -> f64 {
    let ((x, y), (a, b)) = (cell.below(), cell.counts());
    let size = a + b;
    let (start, end) = (ny * x - nx * y, ny * (x + a) - nx * (y + b));
    if cell.single {
        return size * end * end;
    }
    let slope = end - start;
    let straight = size * start * start
        + start * slope * (size + 1.0)
        + slope * slope * (size + 1.0) * (2.0 * size + 1.0) / (6.0 * size);
    // And how far a random order strays from the straight line: the hypergeometric variance of the counts.
    straight + (nx + ny).powi(2) * a * b * (size + 1.0) / (6.0 * size)
}

fn exactly(nx: f64, ny: f64, cell: &Cell) -> (f64, f64, f64) {
    let u = tied(nx, ny, cell.below(), cell.counts());
    (u, u, u)
}

/// What a bin adds to U at least, with its values mixed at random, and at most.
///
/// Take the order of the a and b values in a bin as a path of steps in the plane of the counts (x, y) below. A step of
/// the reference at height y adds nx y², one of the window at x adds ny x²: the path's line integral of
/// nx y² dx + ny x² dy. By Green's theorem two paths differ by the integral of 2 (ny x - nx y) over the area between
/// them. So the integral is least along the line ny x = nx y, as far as it lies in the bin; and, being convex in how
/// far each column is filled (a point of an order polytope), greatest where all values of one side come first.
/// A tie is a straight step and adds nx a b² / 12 + ny b a² / 12 less than its integral, but nx (a³ - a) / 12 +
/// ny (b³ - b) / 12 for its mid-ranks; both grow faster than the size of the ties, so one tie of all is the extreme.
fn range(nx: f64, ny: f64, cell: &Cell) -> (f64, f64, f64) {
    let ((x, y), (a, b)) = (cell.below(), cell.counts());
    let reference_first = nx * a * y * y + ny * b * (x + a).powi(2);
    let window_first = nx * a * (y + b).powi(2) + ny * b * x * x;
    let own_ties = |count: f64| count * (count * count - 1.0) / 12.0;
    let most = reference_first.max(window_first) + nx * own_ties(a) + ny * own_ties(b);
    let along = least_integral(nx, ny, (x, y), (a, b), (reference_first, window_first));
    let at_least = nx * a * y * y + ny * b * x * x;
    let least = (along - (nx * a * b * b + ny * b * a * a) / 12.0).max(at_least);
    // The number of values of the other side below one is uniform.
    let mean_square = |from: f64, more: f64| from * from + from * more + more * (2.0 * more + 1.0) / 6.0;
    let mixed = nx * a * mean_square(y, b) + ny * b * mean_square(x, a);
    (least, mixed, most)
}

/// The line integral along ny x = nx y inside the box, and along the box's border where the line is not in it.
fn least_integral(nx: f64, ny: f64, (x, y): (f64, f64), (a, b): (f64, f64), firsts: (f64, f64)) -> f64 {
    let (reference_first, window_first) = firsts;
    let excess = |x: f64, y: f64| nx * y - ny * x;
    if excess(x + a, y) >= 0.0 {
        return reference_first;
    }
    if excess(x, y + b) <= 0.0 {
        return window_first;
    }
    // The integral of 2 max(0, excess) over the box, by its corners.
    let third_power = |u: f64| u.max(0.0).powi(3) / 6.0;
    let corners = third_power(excess(x, y + b)) + third_power(excess(x + a, y))
        - third_power(excess(x + a, y + b))
        - third_power(excess(x, y));
    window_first - 2.0 * corners / (nx * ny)
}

/// Distribution function of the limiting law (Csorgo and Faraway, 1996, equation 1.2).
///
/// The series is ended as scipy ends it, at the first term below 1e-7. What is left out is of that size, a little
/// more far out, where p is below 1e-5 and should be read as "very small" only.
fn limit_cdf(x: f64) -> f64 {
    const LAST_TERM: f64 = 1e-7;
    const MAX_TERMS: u32 = 1_000_000;
    let mut total = 0.0;
    for k in 0..MAX_TERMS {
        let index = f64::from(k);
        let y = 4.0 * index + 1.0;
        let q = y * y / (16.0 * x);
        let weight =
            (ln_gamma(index + 0.5) - ln_gamma(index + 1.0)).exp() / (std::f64::consts::PI.powf(1.5) * x.sqrt());
        let term = weight * y.sqrt() * scaled_bessel_k_quarter(q);
        total += term;
        if term < LAST_TERM {
            break;
        }
    }
    total
}

/// exp(-q) K_{1/4}(q), q > 0.
fn scaled_bessel_k_quarter(q: f64) -> f64 {
    if q < 2.0 { bessel_k_quarter_by_series(q) * (-q).exp() } else { scaled_bessel_k_quarter_by_integral(q) }
}

/// K = (I_{-1/4} - I_{1/4}) pi / (2 sin(pi/4)), both I by their power series; below 2 little cancels.
fn bessel_k_quarter_by_series(q: f64) -> f64 {
    const ORDER: f64 = 0.25;
    let quarter_square = q * q / 4.0;
    let power_series = |order: f64| {
        let mut term = (q / 2.0).powf(order) / gamma(order + 1.0);
        let mut sum = term;
        for m in 1..40 {
            term *= quarter_square / (f64::from(m) * (f64::from(m) + order));
            sum += term;
            if term < 1e-17 * sum {
                break;
            }
        }
        sum
    };
    let sine = (std::f64::consts::PI * ORDER).sin();
    std::f64::consts::FRAC_PI_2 * (power_series(-ORDER) - power_series(ORDER)) / sine
}

/// By the trapezoidal rule on `integral exp(-q (1 + cosh t)) cosh(t/4) dt`, which converges exponentially.
fn scaled_bessel_k_quarter_by_integral(q: f64) -> f64 {
    const INTERVALS: u32 = 60;
    let end = (1.0 + 45.0 / q).acosh();
    let width = end / f64::from(INTERVALS);
    let value = |t: f64| (-q * (1.0 + t.cosh())).exp() * (t / 4.0).cosh();
    let inner: f64 = (1..=INTERVALS).map(|i| value(f64::from(i) * width)).sum();
    width * (0.5 * value(0.0) + inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// U of an order of values in one bin: groups of tied values of both sides.
    fn ranked(nx: f64, ny: f64, start: (f64, f64), groups: &[(f64, f64)]) -> f64 {
        let (mut below, mut u) = (start, 0.0);
        for group in groups {
            u += tied(nx, ny, below, *group);
            below = (below.0 + group.0, below.1 + group.1);
        }
        u
    }

    /// Every way to order and tie `a` and `b` values.
    fn orders(a: u32, b: u32) -> Vec<Vec<(f64, f64)>> {
        if a + b == 0 {
            return vec![Vec::new()];
        }
        let mut all = Vec::new();
        for (first_a, first_b) in (0..=a).flat_map(|i| (0..=b).map(move |j| (i, j))).skip(1) {
            for mut rest in orders(a - first_a, b - first_b) {
                rest.insert(0, (f64::from(first_a), f64::from(first_b)));
                all.push(rest);
            }
        }
        all
    }

    #[test]
    fn no_order_of_a_bin_leaves_its_range() {
        for (nx, ny) in [(12.0, 9.0), (40.0, 5.0), (7.0, 30.0)] {
            for (x, y, a, b) in [(0, 0, 3, 3), (2, 1, 3, 2), (4, 0, 2, 4), (0, 4, 4, 1), (3, 3, 0, 3), (1, 1, 4, 0)] {
                let below = (f64::from(x), f64::from(y));
                let cell = Cell::of_counts(below, (a as u64, b as u64));
                let (least, mixed, most) = range(nx, ny, &cell);
                assert!(least <= mixed && mixed <= most, "{least} {mixed} {most}");
                for order in orders(a, b) {
                    let u = ranked(nx, ny, below, &order);
                    let inside = least - 1e-9 <= u && u <= most + 1e-9;
                    assert!(inside, "{order:?} at {below:?}: {u} outside {least} to {most}");
                }
            }
        }
    }

    #[test]
    fn bessel_function_equals_tables() {
        // scipy.special.kv(0.25, q) * exp(-q)
        for (q, expected) in [(0.01, 6.104391113501434), (1.0, 0.15846030751445725), (5.0, 2.501329905299072e-05)] {
            let ours = scaled_bessel_k_quarter(q);
            assert!((ours / expected - 1.0).abs() < 1e-12, "q = {q}: {ours} instead of {expected}");
        }
        let (series, integral) = (bessel_k_quarter_by_series(2.0) * (-2.0_f64).exp(), scaled_bessel_k_quarter(2.0));
        assert!((series / integral - 1.0).abs() < 1e-12, "{series} and {integral}");
    }
}
