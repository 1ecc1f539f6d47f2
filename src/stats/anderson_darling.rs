//! Two-sample Anderson-Darling statistic, mid-rank version (Scholz and Stephens, 1987), its law, and what bins leave
//! of it.
//!
//! With N values in all, a tie that reaches from pooled rank s to e, and D the distance ny x - nx y of the counts below
//! its middle, A2 = (N - 1) / (N nx ny) times the sum over ties of (e - s) D² / [`weight`].

use super::cells::{Cell, Cells};
use super::metric::MetricValue;

/// Critical values of the normalised statistic for two samples are `B0 + B1 + B2` at these significance levels
/// (Scholz and Stephens, table 1, with one degree of freedom).
const LEVELS: [f64; 7] = [0.25, 0.1, 0.05, 0.025, 0.01, 0.005, 0.001];
const B0: [f64; 7] = [0.675, 1.281, 1.645, 1.96, 2.326, 2.573, 3.085];
const B1: [f64; 7] = [-0.245, 0.25, 0.678, 1.149, 1.822, 2.364, 3.615];
const B2: [f64; 7] = [-0.105, -0.305, -0.362, -0.391, -0.396, -0.345, -0.154];

/// B (N - B) - N (e - s) / 4 with B = (s + e) / 2.
pub fn weight(rows: f64, from: f64, to: f64) -> f64 {
    (from * (rows - from) + to * (rows - to) + 2.0 * from * (rows - to)) / 4.0
}

/// (A2 - 1) / sigma, from the sum over ties.
pub fn normalised(sum: f64, n_reference: u64, n: u64) -> f64 {
    let (nx, ny) = (n_reference as f64, n as f64);
    let rows = nx + ny;
    let a2 = (rows - 1.0) / (rows * nx * ny) * sum;
    (a2 - 1.0) / deviation(n_reference, n)
}

/// Whether the statistic is defined: values on both sides, four in all.
pub fn is_defined(n_reference: u64, n: u64) -> bool {
    n_reference > 0 && n > 0 && n_reference + n >= 4
}

/// The statistic of two profiles; the value is that of values spread evenly in each bin. `None` where it is not
/// defined, and where all values are equal.
pub fn binned(cells: &Cells) -> Option<MetricValue> {
    let constant = cells.all().first()?.from == cells.all().last()?.to;
    let one_value = cells.filled().count() == 1 && cells.filled().all(|cell| cell.single);
    if !is_defined(cells.n_reference, cells.n) || constant || one_value {
        return None;
    }
    let (mut least, mut even, mut most) = (0.0, 0.0, 0.0);
    for cell in cells.filled() {
        let ranks = Ranks::new(cells.n_reference as f64, cells.n as f64, cell);
        let range = if cell.single { [ranks.tied(); 3] } else { ranks.range() };
        least += range[0];
        even += range[1];
        most += range[2];
    }
    let of = |sum: f64| normalised(sum, cells.n_reference, cells.n);
    let value = MetricValue::within(of(even), of(least), of(most));
    Some(value.with_p(value.value.map(p_value)))
}

/// The pooled ranks of one bin: `below` values before it, `size` in it.
struct Ranks {
    nx: f64,
    ny: f64,
    below: f64,
    size: u64,
    reference: f64,
    window: f64,
    /// D below the bin.
    start: f64,
    /// D at its end.
    end: f64,
}

/// Least and greatest D.
type Range = (f64, f64);

impl Ranks {
    fn new(nx: f64, ny: f64, cell: &Cell) -> Self {
        let ((x, y), (reference, window)) = (cell.below(), cell.counts());
        let start = ny * x - nx * y;
        let end = ny * (x + reference) - nx * (y + window);
        Self { nx, ny, below: x + y, size: cell.reference + cell.window, reference, window, start, end }
    }

    fn rows(&self) -> f64 {
        self.nx + self.ny
    }

    /// All values of the bin are one.
    fn tied(&self) -> f64 {
        let middle = 0.5 * (self.start + self.end);
        let size = self.size as f64;
        size * middle * middle / weight(self.rows(), self.below, self.below + size)
    }

    /// What the bin adds to the sum at least, with its values spread evenly, and at most.
    ///
    /// Whatever the order and ties, each rank u of the bin belongs to one tie that begins at s < u and ends at e >= u,
    /// and adds D² / weight of that tie. D at its middle is the mean of D at s and at e, and both are limited by how
    /// many values of either side there are to come first. So each rank adds at most the greatest, and at least the
    /// least, of D² / weight over all s and e around it; ranks, s and e are looked at in stretches.
    fn range(&self) -> [f64; 3] {
        let cuts = self.cuts();
        let stretches = cuts.len() - 1;
        let mut extremes = vec![(f64::INFINITY, 0.0f64); stretches];
        for first in 0..stretches {
            for last in first..stretches {
                let (least, most) = self.of_ties((cuts[first], cuts[first + 1]), (cuts[last], cuts[last + 1]));
                for extreme in &mut extremes[first..=last] {
                    *extreme = (extreme.0.min(least), extreme.1.max(most));
                }
            }
        }
        let mut range = [0.0; 3];
        for (index, (least, most)) in extremes.into_iter().enumerate() {
            let (from, to) = (cuts[index] as f64, cuts[index + 1] as f64);
            let ranks = to - from;
            range[0] += ranks * least;
            range[1] += ranks * self.even(from, to);
            range[2] += ranks * most;
        }
        range
    }

    /// Where the bin's ranks are cut into stretches: the nearer to either end of all ranks, where the weight is small,
    /// the finer. Offsets from the bin's beginning, 0 and `size` among them.
    fn cuts(&self) -> Vec<u64> {
        let above = self.rows() - self.below - self.size as f64;
        let middle = self.size / 2;
        let half = |outside: f64, limit: u64| {
            let (mut cuts, mut at) = (vec![0], 0);
            while at < limit {
                at = (at + 1 + ((outside + at as f64) / 2.0) as u64).min(limit);
                cuts.push(at);
            }
            cuts
        };
        let mut cuts = half(self.below, middle);
        cuts.extend(half(above, self.size - middle).into_iter().map(|offset| self.size - offset));
        cuts.sort_unstable();
        cuts.dedup();
        cuts
    }

    /// D² / weight, least and greatest, of ties that begin in one stretch and end in another (or the same) one.
    fn of_ties(&self, begin: (u64, u64), end: (u64, u64)) -> (f64, f64) {
        let begins = (begin.0 as f64, (begin.1 - 1) as f64);
        let ends = ((end.0 + 1) as f64, end.1 as f64);
        let (at_begin, at_end) = (self.distances(begins), self.distances(ends));
        let (low, high) = (0.5 * (at_begin.0 + at_end.0), 0.5 * (at_begin.1 + at_end.1));
        let nearest = low.max(-high).max(0.0);
        let furthest = high.max(-low);
        let (lightest, heaviest) = self.weights(begins, ends);
        (nearest * nearest / heaviest, furthest * furthest / lightest)
    }

    /// Least and greatest D after between `from` and `to` values of the bin: as many of one side as there are come
    /// first.
    fn distances(&self, (from, to): (f64, f64)) -> Range {
        let reference_first = |count: f64| {
            let reference = count.min(self.reference);
            self.start + self.ny * reference - self.nx * (count - reference)
        };
        let window_first = |count: f64| {
            let window = count.min(self.window);
            self.start - self.nx * window + self.ny * (count - window)
        };
        (window_first(self.window.clamp(from, to)), reference_first(self.reference.clamp(from, to)))
    }

    /// Least and greatest weight: it is concave, so least at a corner; each of its terms is greatest by itself.
    fn weights(&self, begins: (f64, f64), ends: (f64, f64)) -> (f64, f64) {
        let rows = self.rows();
        let corners = [(begins.0, ends.0), (begins.0, ends.1), (begins.1, ends.0), (begins.1, ends.1)];
        let of = |(from, to): (f64, f64)| weight(rows, self.below + from, self.below + to);
        let least = corners.into_iter().filter(|(from, to)| from < to).map(of).fold(f64::INFINITY, f64::min);
        let parabola = |(from, to): (f64, f64)| {
            let top = (0.5 * rows).clamp(self.below + from, self.below + to);
            top * (rows - top)
        };
        let crossed = 2.0 * (self.below + begins.1) * (rows - self.below - ends.0);
        (least, (parabola(begins) + parabola(ends) + crossed) / 4.0)
    }

    /// Mean of D² / (t (N - t)) over a stretch, with D on a straight line.
    fn even(&self, from: f64, to: f64) -> f64 {
        let at = |offset: f64| self.start + (self.end - self.start) * offset / self.size as f64;
        let (first, last) = (at(from), at(to));
        let middle = self.below + 0.5 * (from + to);
        (first * first + first * last + last * last) / (3.0 * middle * (self.rows() - middle))
    }
}

/// Standard deviation of A2 under no difference, k = 2 samples (Scholz and Stephens, equation 4).
fn deviation(n_reference: u64, n: u64) -> f64 {
    const K: f64 = 2.0;
    let rows = n_reference + n;
    let capital_h = 1.0 / n_reference as f64 + 1.0 / n as f64;
    let size = rows as f64;
    let (first, second) = harmonic_numbers(rows);
    let h = first - 1.0 / size;
    // The sum over i < j < rows of 1 / ((rows - i) j), by the sum over k < rows of H_(rows - k) / k, which is
    // H_rows² less the harmonic number of order 2.
    let g = h * h - first * first + second;
    let a = (4.0 * g - 6.0) * (K - 1.0) + (10.0 - 6.0 * g) * capital_h;
    let b = (2.0 * g - 4.0) * K * K + 8.0 * h * K + (2.0 * g - 14.0 * h - 4.0) * capital_h - 8.0 * h + 4.0 * g - 6.0;
    let c = (6.0 * h + 2.0 * g - 2.0) * K * K + (4.0 * h - 4.0 * g + 6.0) * K + (2.0 * h - 6.0) * capital_h + 4.0 * h;
    let d = (2.0 * h + 6.0) * K * K - 4.0 * h * K;
    let variance = (a * size.powi(3) + b * size.powi(2) + c * size + d) / ((size - 1.0) * (size - 2.0) * (size - 3.0));
    variance.sqrt()
}

/// Sums of 1 / i and of 1 / i² up to `rows`; beyond a thousand by Euler and Maclaurin, exact to 1e-17.
fn harmonic_numbers(rows: u64) -> (f64, f64) {
    const SUMMED: u64 = 1_000;
    const EULER_GAMMA: f64 = 0.577_215_664_901_532_9;
    if rows <= SUMMED {
        let of = |power: i32| (1..=rows).rev().map(|i| (i as f64).powi(-power)).sum();
        return (of(1), of(2));
    }
    let n = rows as f64;
    let first = n.ln() + EULER_GAMMA + 0.5 / n - 1.0 / (12.0 * n * n);
    let second = std::f64::consts::PI * std::f64::consts::PI / 6.0 - 1.0 / n + 0.5 / (n * n) - 1.0 / (6.0 * n * n * n);
    (first, second)
}

/// Probability of a statistic at least this large under no drift, in [0.001, 0.25]: ln p as a quadratic in the
/// statistic, fitted by least squares through the published levels.
pub fn p_value(statistic: f64) -> f64 {
    let critical: [f64; 7] = std::array::from_fn(|i| B0[i] + B1[i] + B2[i]);
    if statistic < critical[0] {
        return LEVELS[0];
    }
    if statistic > critical[6] {
        return LEVELS[6];
    }
    let mean = critical.iter().sum::<f64>() / 7.0;
    let centred = critical.map(|x| x - mean);
    let ln_levels = LEVELS.map(f64::ln);
    let power = |k: i32| centred.iter().map(|x| x.powi(k)).sum::<f64>();
    let moment = |k: i32| centred.iter().zip(ln_levels).map(|(x, y)| x.powi(k) * y).sum::<f64>();
    let rows = [[power(0), power(1), power(2)], [power(1), power(2), power(3)], [power(2), power(3), power(4)]];
    let right = [moment(0), moment(1), moment(2)];
    let total = determinant(rows);
    let coefficient = |column: usize| {
        let mut replaced = rows;
        for (row, value) in replaced.iter_mut().zip(right) {
            row[column] = value;
        }
        determinant(replaced) / total
    };
    let x = statistic - mean;
    (coefficient(0) + coefficient(1) * x + coefficient(2) * x * x).exp()
}

fn determinant(m: [[f64; 3]; 3]) -> f64 {
    m[0][0] * (m[1][1] * m[2][2] - m[1][2] * m[2][1]) - m[0][1] * (m[1][0] * m[2][2] - m[1][2] * m[2][0])
        + m[0][2] * (m[1][0] * m[2][1] - m[1][1] * m[2][0])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sum over ties of an order of values in one bin.
    fn summed(nx: f64, ny: f64, start: (u64, u64), groups: &[(u64, u64)]) -> f64 {
        let (mut below, mut sum) = (start, 0.0);
        for (reference, window) in groups {
            let cell = Cell::of_counts((below.0 as f64, below.1 as f64), (*reference, *window));
            sum += Ranks::new(nx, ny, &cell).tied();
            below = (below.0 + reference, below.1 + window);
        }
        sum
    }

    /// Every way to order and tie `a` and `b` values.
    fn orders(a: u64, b: u64) -> Vec<Vec<(u64, u64)>> {
        if a + b == 0 {
            return vec![Vec::new()];
        }
        let mut all = Vec::new();
        for (first_a, first_b) in (0..=a).flat_map(|i| (0..=b).map(move |j| (i, j))).skip(1) {
            for mut rest in orders(a - first_a, b - first_b) {
                rest.insert(0, (first_a, first_b));
                all.push(rest);
            }
        }
        all
    }

    #[test]
    fn no_order_of_a_bin_leaves_its_range() {
        for (nx, ny) in [(12, 9), (40, 5), (7, 30)] {
            let corner = [(0, 0, 3, 3), (2, 1, 3, 2), (4, 0, 2, 4), (0, 4, 4, 1), (3, 3, 0, 2), (1, 1, 4, 0)];
            let top = [(nx - 3, ny - 2, 3, 2), (nx - 4, ny - 3, 2, 3)];
            for (x, y, a, b) in corner.into_iter().chain(top) {
                let cell = Cell::of_counts((x as f64, y as f64), (a, b));
                let [least, _, most] = Ranks::new(nx as f64, ny as f64, &cell).range();
                for order in orders(a, b) {
                    let sum = summed(nx as f64, ny as f64, (x, y), &order);
                    let inside = least * (1.0 - 1e-12) <= sum && sum <= most * (1.0 + 1e-12);
                    assert!(inside, "{order:?} at {x}, {y} of {nx}, {ny}: {sum} outside {least} to {most}");
                }
            }
        }
    }

    #[test]
    fn harmonic_sums_by_formula_meet_those_of_a_loop() {
        let rows = 1_500_u64;
        let (first, second) = harmonic_numbers(rows);
        let loop_first: f64 = (1..=rows).rev().map(|i| 1.0 / i as f64).sum();
        let loop_second: f64 = (1..=rows).rev().map(|i| 1.0 / (i as f64 * i as f64)).sum();
        assert!((first - loop_first).abs() < 1e-14 && (second - loop_second).abs() < 1e-14, "{first} {second}");
    }
}
