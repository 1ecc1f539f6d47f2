//! Sums, products and counts of one or two columns, without rounding: any split of the rows gives the same bits.

use crate::stats::exact_sum::ExactSum;
use crate::stats::varint::{self, Reader};

/// How many parts of a sum, each what the ones before lose by rounding, products of sums are made of: more bits than
/// any sum of doubles of one size has.
const PARTS: usize = 4;

/// Of pairs (x, y); of one column y is x.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Moments {
    pub count: u64,
    /// Values that are no finite number: NaN, then positive and negative infinity, or squares beyond any double.
    unusual: [u64; 3],
    first: [ExactSum; 2],
    /// Of x squared, y squared, x times y; with what each product loses by rounding.
    second: [ExactSum; 3],
}

/// What is kept beside the sum of x.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Order {
    Sums,
    Squares,
    Products,
}

impl Moments {
    pub fn add(&mut self, order: Order, x: f64, y: f64) {
        self.count += 1;
        let squares = [x * x, y * y, x * y];
        let reached = match order {
            Order::Sums => &[x][..],
            Order::Squares => &[x, squares[0]][..],
            Order::Products => &[x, y, squares[0], squares[1], squares[2]][..],
        };
        if let Some(odd) = reached.iter().find(|value| !value.is_finite()) {
            self.unusual[if odd.is_nan() {
                0
            } else if *odd > 0.0 {
                1
            } else {
                2
            }] += 1;
            return;
        }
        self.first[0].add(x);
        match order {
            Order::Sums => {}
            Order::Squares => add_product(&mut self.second[0], x, x),
            Order::Products => {
                self.first[1].add(y);
                for (sum, (left, right)) in self.second.iter_mut().zip([(x, x), (y, y), (x, y)]) {
                    add_product(sum, left, right);
                }
            }
        }
    }

    pub fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.unusual.iter_mut().zip(other.unusual).for_each(|(mine, theirs)| *mine += theirs);
        self.first.iter_mut().zip(&other.first).for_each(|(mine, theirs)| mine.merge(theirs));
        self.second.iter_mut().zip(&other.second).for_each(|(mine, theirs)| mine.merge(theirs));
    }

    /// What stands for the sum where some values are no finite numbers.
    fn odd(&self) -> Option<f64> {
        match self.unusual {
            [0, 0, 0] => None,
            [0, _, 0] => Some(f64::INFINITY),
            [0, 0, _] => Some(f64::NEG_INFINITY),
            _ => Some(f64::NAN),
        }
    }

    /// `None` without values.
    pub fn sum(&self) -> Option<f64> {
        (self.count > 0).then(|| self.odd().unwrap_or_else(|| self.first[0].value()))
    }

    pub fn mean(&self) -> Option<f64> {
        self.sum().map(|sum| sum / self.count as f64)
    }

    /// Sum of the squared distances from the mean, or of the products of both distances: which of `second` it is, and
    /// which sums it belongs to. NaN where a value is no finite number.
    fn central(&self, product: usize, [left, right]: [usize; 2]) -> f64 {
        if self.odd().is_some() {
            return f64::NAN;
        }
        // n * sum(xy) - sum(x) * sum(y), summed without rounding, so that nothing is lost where both are nearly equal.
        let mut total = ExactSum::default();
        let count = self.count as f64;
        parts(&self.second[product]).into_iter().for_each(|part| add_product(&mut total, count, part));
        let of_right = parts(&self.first[right]);
        for part in parts(&self.first[left]) {
            of_right.iter().for_each(|other| add_product(&mut total, -part, *other));
        }
        total.value() / count
    }

    /// `None` for too few values: none, or of a sample fewer than two.
    pub fn variance(&self, sample: bool) -> Option<f64> {
        let squares = self.central(0, [0, 0]);
        // Not `max`, which would take 0 for what is no number.
        let squares = if squares < 0.0 { 0.0 } else { squares };
        Some(squares / self.degrees(sample)?)
    }

    pub fn covariance(&self, sample: bool) -> Option<f64> {
        Some(self.central(2, [0, 1]) / self.degrees(sample)?)
    }

    fn degrees(&self, sample: bool) -> Option<f64> {
        let degrees = self.count.checked_sub(u64::from(sample))?;
        (degrees > 0).then_some(degrees as f64)
    }

    /// Pearson's; `None` where one of the columns does not vary.
    pub fn correlation(&self) -> Option<f64> {
        if self.count == 0 {
            return None;
        }
        let (of_x, of_y) = (self.central(0, [0, 0]), self.central(1, [1, 1]));
        let correlation = self.central(2, [0, 1]) / of_x.sqrt() / of_y.sqrt();
        (of_x > 0.0 && of_y > 0.0).then_some(correlation.clamp(-1.0, 1.0))
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        varint::write(self.count, &mut bytes);
        self.unusual.iter().for_each(|count| varint::write(*count, &mut bytes));
        self.first.iter().chain(&self.second).for_each(|sum| sum.encode(&mut bytes));
        bytes
    }

    /// `None` for bytes that `encode` does not write.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let mut moments = Self { count: reader.varint()?, ..Self::default() };
        for count in &mut moments.unusual {
            *count = reader.varint()?;
        }
        for sum in moments.first.iter_mut().chain(&mut moments.second) {
            *sum = ExactSum::decode(&mut reader)?;
        }
        (reader.remaining() == 0).then_some(moments)
    }

    pub fn allocated_bytes(&self) -> usize {
        self.first.iter().chain(&self.second).map(ExactSum::allocated_bytes).sum()
    }
}

/// Adds a product and what it loses by rounding.
fn add_product(sum: &mut ExactSum, left: f64, right: f64) {
    let rounded = left * right;
    sum.add(rounded);
    sum.add(left.mul_add(right, -rounded));
}

/// The sum as doubles, each what the ones before lose by rounding.
fn parts(sum: &ExactSum) -> Vec<f64> {
    let mut rest = sum.clone();
    let mut parts = Vec::with_capacity(PARTS);
    while parts.len() < PARTS {
        let part = rest.value();
        if part == 0.0 || !part.is_finite() {
            break;
        }
        parts.push(part);
        rest.add(-part);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(order: Order, pairs: &[(f64, f64)]) -> Moments {
        let mut moments = Moments::default();
        pairs.iter().for_each(|(x, y)| moments.add(order, *x, *y));
        moments
    }

    #[test]
    fn a_small_spread_around_a_large_mean_is_not_lost() {
        let far: Vec<(f64, f64)> = [4.0, 7.0, 13.0, 16.0].map(|x: f64| (1e9 + x, 1e9 + x)).to_vec();
        assert_eq!(of(Order::Squares, &far).variance(true), Some(30.0));
        assert_eq!(of(Order::Products, &far).covariance(false), Some(22.5));
        assert_eq!(of(Order::Products, &far).correlation(), Some(1.0));
    }

    #[test]
    fn too_few_values_and_numbers_that_are_none_have_no_spread() {
        assert_eq!(of(Order::Sums, &[]).sum(), None);
        assert_eq!(of(Order::Squares, &[(3.0, 3.0)]).variance(true), None);
        assert_eq!(of(Order::Squares, &[(3.0, 3.0)]).variance(false), Some(0.0));
        assert_eq!(of(Order::Products, &[(1.0, 5.0), (2.0, 5.0)]).correlation(), None);
        assert!(of(Order::Squares, &[(1.0, 1.0), (f64::NAN, 0.0)]).variance(true).unwrap().is_nan());
        assert_eq!(of(Order::Sums, &[(1.0, 0.0), (f64::INFINITY, 0.0)]).sum(), Some(f64::INFINITY));
        assert!(of(Order::Sums, &[(f64::NEG_INFINITY, 0.0), (f64::INFINITY, 0.0)]).sum().unwrap().is_nan());
    }

    #[test]
    fn halves_merge_to_the_bit_and_read_back() {
        let pairs: Vec<(f64, f64)> = (0..200).map(|i| ((f64::from(i) * 0.1).sin() * 1e3, f64::from(i % 7))).collect();
        let whole = of(Order::Products, &pairs);
        let (left, right) = pairs.split_at(37);
        let mut merged = of(Order::Products, right);
        merged.merge(&of(Order::Products, left));
        assert_eq!(merged.correlation().map(f64::to_bits), whole.correlation().map(f64::to_bits));
        assert_eq!(Moments::decode(&merged.encode()), Some(whole));
        let bytes = merged.encode();
        assert_eq!(Moments::decode(&bytes[..bytes.len() - 1]), None);
        assert_eq!(Moments::decode(&[bytes.as_slice(), &[0]].concat()), None);
    }
}
