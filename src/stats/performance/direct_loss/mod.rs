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
        (bins_in_order && self.boosting.in_order(self.inputs.len()) && self.held_out.in_order()).then_some(self)
    }
}
