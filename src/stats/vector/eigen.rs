//! Leading eigenvectors of a symmetric matrix: Jacobi's rotations for small ones, subspace iteration before them
//! for large ones (Golub and Van Loan, Matrix Computations, 8.2 and 8.5).

use super::arithmetic::Random;

/// Up to this size the rotations run on the matrix itself.
const SMALL: usize = 96;
/// Columns carried beside the wanted ones: convergence goes by the first eigenvalue left out.
const SPARE: usize = 16;
const ITERATIONS: usize = 40;
/// Rotations converge quadratically; ten sweeps reach rounding for any size met here.
const MOST_SWEEPS: usize = 30;

/// A square symmetric matrix, row by row.
#[derive(Debug, Clone, PartialEq)]
pub struct Symmetric {
    pub size: usize,
    pub values: Vec<f64>,
}

/// Eigenvalues, largest first, and their unit vectors; the largest entry of each vector is positive.
#[derive(Debug, Clone, PartialEq)]
pub struct Eigen {
    pub values: Vec<f64>,
    pub vectors: Vec<Vec<f64>>,
}

impl Symmetric {
    pub fn row(&self, row: usize) -> &[f64] {
        &self.values[row * self.size..(row + 1) * self.size]
    }

    /// Covariance of rows of length `size`, denominator n - 1; zero for fewer than two rows.
    pub fn covariance(rows: &[Vec<f64>], size: usize) -> Self {
        let n = rows.len() as f64;
        let mut mean = vec![0.0; size];
        for row in rows {
            mean.iter_mut().zip(row).for_each(|(mean, value)| *mean += value / n);
        }
        let mut values = vec![0.0; size * size];
        let mut centred = vec![0.0; size];
        for row in rows {
            centred.iter_mut().zip(row.iter().zip(&mean)).for_each(|(into, (value, mean))| *into = value - mean);
            for (at, factor) in centred.iter().enumerate() {
                let upper = &mut values[at * size + at..(at + 1) * size];
                upper.iter_mut().zip(&centred[at..]).for_each(|(sum, value)| *sum += factor * value);
            }
        }
        let denominator = (n - 1.0).max(1.0);
        for row in 0..size {
            for column in row..size {
                let value = values[row * size + column] / denominator;
                values[row * size + column] = value;
                values[column * size + row] = value;
            }
        }
        Self { size, values }
    }

    pub fn trace(&self) -> f64 {
        (0..self.size).map(|at| self.values[at * self.size + at]).sum()
    }

    /// Trace of the square and of the cube.
    pub fn traces_of_powers(&self) -> (f64, f64) {
        let square = self.values.iter().map(|value| value * value).sum();
        let mut cube = 0.0;
        for row in 0..self.size {
            for column in row..self.size {
                let entry = dot(self.row(row), self.row(column));
                let weight = if row == column { 1.0 } else { 2.0 };
                cube += weight * entry * self.values[row * self.size + column];
            }
        }
        (square, cube)
    }

    /// The `wanted` largest eigenvalues and their vectors (all of them where there are no more).
    pub fn leading(&self, wanted: usize) -> Eigen {
        let mut eigen = if self.size <= SMALL { rotate(self) } else { self.leading_by_iteration(wanted) };
        eigen.values.truncate(wanted);
        eigen.vectors.truncate(wanted);
        eigen.vectors.iter_mut().for_each(|vector| point_up(vector));
        eigen
    }

    fn leading_by_iteration(&self, wanted: usize) -> Eigen {
        let width = (wanted + SPARE).min(self.size);
        let mut random = Random::new(self.size as u64);
        let mut basis: Vec<Vec<f64>> = (0..width).map(|_| (0..self.size).map(|_| random.normal()).collect()).collect();
        orthonormalise(&mut basis);
        for _ in 0..ITERATIONS {
            basis = basis.iter().map(|vector| self.times(vector)).collect();
            orthonormalise(&mut basis);
        }
        let images: Vec<Vec<f64>> = basis.iter().map(|vector| self.times(vector)).collect();
        let mut small = Symmetric { size: width, values: vec![0.0; width * width] };
        for (row, vector) in basis.iter().enumerate() {
            for (column, image) in images.iter().enumerate().skip(row) {
                let value = dot(vector, image);
                small.values[row * width + column] = value;
                small.values[column * width + row] = value;
            }
        }
        let of_small = rotate(&small);
        let combine = |weights: &Vec<f64>| {
            let mut vector = vec![0.0; self.size];
            for (weight, of_basis) in weights.iter().zip(&basis) {
                vector.iter_mut().zip(of_basis).for_each(|(into, value)| *into += weight * value);
            }
            vector
        };
        Eigen { vectors: of_small.vectors.iter().map(combine).collect(), values: of_small.values }
    }

    fn times(&self, vector: &[f64]) -> Vec<f64> {
        (0..self.size).map(|row| dot(self.row(row), vector)).collect()
    }
}

fn dot(left: &[f64], right: &[f64]) -> f64 {
    left.iter().zip(right).map(|(a, b)| a * b).sum()
}

/// An eigenvector has no sign of its own; this gives it one.
fn point_up(vector: &mut [f64]) {
    let largest =
        vector.iter().copied().fold(0.0, |most: f64, value| if value.abs() > most.abs() { value } else { most });
    if largest < 0.0 {
        vector.iter_mut().for_each(|value| *value = -*value);
    }
}

/// Gram and Schmidt's, twice for rounding; a vector that depends on earlier ones becomes zero.
pub fn orthonormalise(vectors: &mut [Vec<f64>]) {
    for at in 0..vectors.len() {
        let (before, rest) = vectors.split_at_mut(at);
        let Some(vector) = rest.first_mut() else { return };
        let length_before = dot(vector, vector).sqrt();
        for _ in 0..2 {
            for earlier in before.iter() {
                let along = dot(earlier, vector);
                vector.iter_mut().zip(earlier).for_each(|(value, axis)| *value -= along * axis);
            }
        }
        let length = dot(vector, vector).sqrt();
        let factor = if length > 1e-12 * length_before { 1.0 / length } else { 0.0 };
        vector.iter_mut().for_each(|value| *value *= factor);
    }
}

/// Jacobi's method, cyclic.
fn rotate(matrix: &Symmetric) -> Eigen {
    let size = matrix.size;
    let mut a = matrix.values.clone();
    // Row i holds the i-th vector.
    let mut vectors: Vec<f64> = (0..size * size).map(|at| if at / size == at % size { 1.0 } else { 0.0 }).collect();
    let scale: f64 = matrix.values.iter().map(|value| value * value).sum();
    for _ in 0..MOST_SWEEPS {
        let mut off = 0.0;
        for p in 0..size {
            off += a[p * size + p + 1..(p + 1) * size].iter().map(|value| value * value).sum::<f64>();
        }
        if off <= 1e-30 * scale {
            break;
        }
        for p in 0..size {
            for q in p + 1..size {
                let entry = a[p * size + q];
                if entry == 0.0 {
                    continue;
                }
                let theta = (a[q * size + q] - a[p * size + p]) / (2.0 * entry);
                let sign = if theta < 0.0 { -1.0 } else { 1.0 };
                let tangent = sign / (theta.abs() + (theta * theta + 1.0).sqrt());
                let cosine = 1.0 / (tangent * tangent + 1.0).sqrt();
                let sine = tangent * cosine;
                for at in 0..size {
                    turn(&mut a, at * size + p, at * size + q, cosine, sine);
                }
                for at in 0..size {
                    turn(&mut a, p * size + at, q * size + at, cosine, sine);
                    turn(&mut vectors, p * size + at, q * size + at, cosine, sine);
                }
            }
        }
    }
    let mut order: Vec<usize> = (0..size).collect();
    order.sort_by(|&left, &right| a[right * size + right].total_cmp(&a[left * size + left]).then(left.cmp(&right)));
    Eigen {
        values: order.iter().map(|&at| a[at * size + at]).collect(),
        vectors: order.iter().map(|&at| vectors[at * size..(at + 1) * size].to_vec()).collect(),
    }
}

#[inline]
fn turn(values: &mut [f64], first: usize, second: usize, cosine: f64, sine: f64) {
    let (left, right) = (values[first], values[second]);
    values[first] = cosine * left - sine * right;
    values[second] = sine * left + cosine * right;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(matrix: &Symmetric, eigen: &Eigen, tolerance: f64) {
        for (value, vector) in eigen.values.iter().zip(&eigen.vectors) {
            let image = matrix.times(vector);
            for (found, entry) in image.iter().zip(vector) {
                assert!((found - value * entry).abs() < tolerance, "{found} for {}", value * entry);
            }
        }
    }

    #[test]
    fn vectors_are_stretched_by_their_values() {
        let mut random = Random::new(5);
        let rows: Vec<Vec<f64>> = (0..60).map(|_| (0..12).map(|_| random.normal()).collect()).collect();
        let matrix = Symmetric::covariance(&rows, 12);
        let eigen = matrix.leading(12);
        check(&matrix, &eigen, 1e-12);
        let sum: f64 = eigen.values.iter().sum();
        assert!((sum - matrix.trace()).abs() < 1e-12, "{sum} for {}", matrix.trace());
        let (squares, cubes) = matrix.traces_of_powers();
        let power = |exponent| eigen.values.iter().map(|value: &f64| value.powi(exponent)).sum::<f64>();
        assert!((squares - power(2)).abs() < 1e-12 && (cubes - power(3)).abs() < 1e-12);
    }

    #[test]
    fn large_matrices_give_their_leading_vectors() {
        let size = 120;
        let mut random = Random::new(6);
        let rows: Vec<Vec<f64>> = (0..80)
            .map(|_| (0..size).map(|at| random.normal() * if at < 4 { 6.0 - at as f64 } else { 0.5 }).collect())
            .collect();
        let matrix = Symmetric::covariance(&rows, size);
        let eigen = matrix.leading(4);
        assert_eq!(eigen.values.len(), 4);
        check(&matrix, &eigen, 1e-9);
        assert!(eigen.values.windows(2).all(|pair| pair[0] > pair[1]), "{:?}", eigen.values);
    }

    #[test]
    fn known_values_of_a_small_matrix() {
        let eigen = Symmetric { size: 2, values: vec![2.0, 1.0, 1.0, 2.0] }.leading(2);
        assert!((eigen.values[0] - 3.0).abs() < 1e-15 && (eigen.values[1] - 1.0).abs() < 1e-15, "{eigen:?}");
        assert!((eigen.vectors[0][0] - eigen.vectors[0][1]).abs() < 1e-15, "{eigen:?}");
    }
}
