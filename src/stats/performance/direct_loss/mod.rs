//! Direct loss estimation: how wrong a regression model's predictions should be, before labels come.
//!
//! A second model learns on the reference, from the features and the prediction, how large the first one's error is:
//! the expected absolute and squared error of a row (NannyML's idea). It sees that inputs have moved to where the
//! model errs more; it cannot see that the same inputs have got other labels, and where no row of the reference was it
//! says what the nearest rows said.
//!
//! `bins` turns values into at most 64 bins a feature, `tree` grows one regression tree on them, `boosting` adds trees
//! (Friedman, Greedy function approximation: a gradient boosting machine, 2001; by histograms of bins, as LightGBM), and
//! `held_out` measures what was learned on rows that it was not learned from. `estimate` sums the expectations of a
//! window's rows to metrics with a band. All of it is deterministic: the same rows in the same order give the same bits.
//!
//! It is worth what the reference is: errors on rows that the model was trained on are smaller than any it will make
//! again, and so are the expectations learned from them.

pub mod bins;
pub mod boosting;
pub mod estimate;
mod held_out;
pub mod tree;

use serde::{Deserialize, Serialize};

use bins::Binning;
use boosting::Boosting;
pub use held_out::HeldOut;

/// Most rows that it learns from, spread evenly over the reference; more make it slower and hardly better.
const MOST_ROWS: usize = 65_536;
/// Fewest rows to learn from: two halves of these, with leaves of at least twenty.
const FEWEST_ROWS: usize = 200;

/// A feature that the expectation is learned from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Name of the signal.
    pub name: String,
    pub binning: Binning,
}

/// What was learned of one model's errors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DirectLoss {
    inputs: Vec<Input>,
    boosting: Boosting,
    held_out: HeldOut,
}

/// Values of one signal, row by row.
#[derive(Debug, Clone, Copy)]
pub enum Values<'a> {
    /// NaN: missing.
    Numeric(&'a [f64]),
    Categorical(&'a [Option<&'a str>]),
}

impl Values<'_> {
    fn rows(&self) -> usize {
        match self {
            Self::Numeric(values) => values.len(),
            Self::Categorical(values) => values.len(),
        }
    }
}

impl DirectLoss {
    /// Learns from labelled rows. `signals` are the features and the prediction by name, `errors` prediction minus
    /// label, NaN where one of them is missing. `None` for fewer than 200 such rows, or for columns of unequal length.
    pub fn learn(signals: &[(&str, Values)], errors: &[f64]) -> Option<Self> {
        if signals.is_empty() || signals.iter().any(|(_, values)| values.rows() != errors.len()) {
            return None;
        }
        let known: Vec<u32> = (0u32..).zip(errors).filter(|(_, error)| error.is_finite()).map(|(row, _)| row).collect();
        if known.len() < FEWEST_ROWS {
            return None;
        }
        let step = known.len().div_ceil(MOST_ROWS);
        let rows: Vec<u32> = known.into_iter().step_by(step).collect();
        let inputs: Vec<Input> = (signals.iter())
            .map(|(name, values)| Input { name: name.to_string(), binning: Binning::of(values, &rows) })
            .collect();
        let codes: Vec<Vec<u8>> = (inputs.iter().zip(signals))
            .map(|(input, (_, values))| rows.iter().map(|row| input.binning.bin(values, *row as usize)).collect())
            .collect();
        let errors: Vec<f64> = rows.iter().map(|row| errors[*row as usize]).collect();
        let ordered: Vec<bool> = inputs.iter().map(|input| input.binning.is_ordered()).collect();
        let (boosting, held_out) = held_out::learn(&codes, &ordered, &errors);
        Some(Self { inputs, boosting, held_out })
    }

    /// The signals that [`DirectLoss::expected`] asks for, in its order.
    pub fn inputs(&self) -> impl ExactSizeIterator<Item = &str> {
        self.inputs.iter().map(|input| input.name.as_str())
    }

    /// How good it is where it was not learned.
    pub fn held_out(&self) -> &HeldOut {
        &self.held_out
    }

    pub fn trees(&self) -> usize {
        self.boosting.trees()
    }

    /// Expected absolute and squared error of every row; `columns` in the order of [`DirectLoss::inputs`]. Empty where
    /// they are not as many, or not of one length.
    pub fn expected(&self, columns: &[Values]) -> Vec<[f64; 2]> {
        let rows = columns.first().map_or(0, Values::rows);
        if columns.len() != self.inputs.len() || columns.iter().any(|values| values.rows() != rows) {
            return Vec::new();
        }
        let codes: Vec<Vec<u8>> =
            self.inputs.iter().zip(columns).map(|(input, values)| input.binning.bins(values)).collect();
        self.boosting.expected(&codes, rows)
    }

    /// What was read from a file; `None` where its parts do not fit each other.
    pub fn checked(self) -> Option<Self> {
        let bins_in_order = self.inputs.iter().all(|input| input.binning.in_order());
        (!self.inputs.is_empty()
            && bins_in_order
            && self.boosting.in_order(self.inputs.len())
            && self.held_out.in_order())
        .then_some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Errors that grow with `size`, more so in one of three groups; `noise` tells nothing.
    struct Rows {
        size: Vec<f64>,
        noise: Vec<f64>,
        group: Vec<Option<&'static str>>,
        errors: Vec<f64>,
    }

    fn level(size: f64, group: Option<&str>) -> f64 {
        (1.0 + size) * if group == Some("b") { 3.0 } else { 1.0 }
    }

    fn rows(count: u64, of_size: impl Fn(f64) -> f64) -> Rows {
        let uniform = |seed: u64, row: u64| {
            let bits = (row + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(seed as u32 * 11);
            (bits.wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 11) as f64 / 2f64.powi(53)
        };
        let size: Vec<f64> = (0..count).map(|row| of_size(uniform(1, row))).collect();
        let group: Vec<Option<&str>> = (0..count).map(|row| [Some("a"), Some("b"), None][(row % 3) as usize]).collect();
        let error = |row: usize| level(size[row], group[row]) * (2.0 * uniform(3, row as u64) - 1.0);
        let errors = (0..count as usize).map(error).collect();
        Rows { noise: (0..count).map(|row| uniform(2, row)).collect(), size, group, errors }
    }

    fn signals(rows: &Rows) -> Vec<(&'static str, Values<'_>)> {
        vec![
            ("group", Values::Categorical(&rows.group)),
            ("noise", Values::Numeric(&rows.noise)),
            ("size", Values::Numeric(&rows.size)),
        ]
    }

    fn expected(learned: &DirectLoss, rows: &Rows) -> Vec<[f64; 2]> {
        let columns: Vec<Values> = signals(rows).into_iter().map(|(_, values)| values).collect();
        learned.expected(&columns)
    }

    #[test]
    fn the_expected_loss_follows_inputs_that_have_moved() {
        let learned = rows(12_000, |u| 4.0 * u);
        let learned = DirectLoss::learn(&signals(&learned), &learned.errors).unwrap();
        assert!(learned.held_out().correlation > 0.5, "{:?}", learned.held_out());
        // Only large rows, which were a quarter of those learned from.
        let moved = rows(4_000, |u| 3.0 + u);
        let found = expected(&learned, &moved);
        let mean = |values: &dyn Fn(usize) -> f64| (0..4_000).map(values).sum::<f64>() / 4_000.0;
        // An error is uniform within its level: half of it in the mean, a third of its square.
        let absolute = mean(&|row| level(moved.size[row], moved.group[row]) / 2.0);
        let squared = mean(&|row| level(moved.size[row], moved.group[row]).powi(2) / 3.0);
        let (ours, ours_squared) = (mean(&|row| found[row][0]), mean(&|row| found[row][1]));
        assert!((ours / absolute - 1.0).abs() < 0.04, "{ours} for {absolute}");
        assert!((ours_squared / squared - 1.0).abs() < 0.07, "{ours_squared} for {squared}");
        assert!(found.iter().all(|[absolute, squared]| *absolute >= 0.0 && *squared >= absolute * absolute));
    }

    #[test]
    fn the_same_rows_give_the_same_bits_and_read_back() {
        let data = rows(3_000, |u| u);
        let learned = DirectLoss::learn(&signals(&data), &data.errors).unwrap();
        assert_eq!(Some(&learned), DirectLoss::learn(&signals(&data), &data.errors).as_ref());
        let text = serde_json::to_string(&learned).unwrap();
        let read: DirectLoss = serde_json::from_str(&text).unwrap();
        assert_eq!(read.checked().as_ref(), Some(&learned));
        assert!(text.len() < 120_000, "{} bytes", text.len());
        // A batch at a time gives what all at once give.
        let whole = expected(&learned, &data);
        let part = Rows {
            size: data.size[500..700].to_vec(),
            noise: data.noise[500..700].to_vec(),
            group: data.group[500..700].to_vec(),
            errors: Vec::new(),
        };
        assert_eq!(expected(&learned, &part), whole[500..700]);
    }

    #[test]
    fn errors_that_nothing_explains_have_their_mean() {
        let data = rows(6_000, |_| 0.0);
        let plain = Rows { group: vec![None; 6_000], ..rows(6_000, |u| u) };
        let errors: Vec<f64> = data.noise.iter().map(|noise| if *noise < 0.5 { -2.0 } else { 2.0 }).collect();
        let learned = DirectLoss::learn(&signals(&plain), &errors).unwrap();
        assert!((expected(&learned, &plain)[0][0] - 2.0).abs() < 1e-6);
        assert!(learned.held_out().correlation.abs() < 0.1, "{:?}", learned.held_out());
    }

    #[test]
    fn too_few_labels_and_columns_that_do_not_fit_teach_nothing() {
        let data = rows(250, |u| u);
        let mut errors = data.errors.clone();
        errors[..60].fill(f64::NAN);
        assert_eq!(DirectLoss::learn(&signals(&data), &errors), None);
        assert_eq!(DirectLoss::learn(&signals(&data), &errors[..200]), None);
        let learned = DirectLoss::learn(&signals(&data), &data.errors).unwrap();
        assert_eq!(learned.expected(&[Values::Numeric(&data.size)]), Vec::<[f64; 2]>::new());
    }
}
