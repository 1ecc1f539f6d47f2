//! Rows to scores: in batches, and one by one as requests come.

use std::time::Instant;

use crate::config::performance::Task;
use crate::scorer::engine::Session;
use crate::scorer::gate::measurements::Latency;
use crate::scorer::tensor::{Tensor, TensorData};
use crate::stats::performance::intervals::quantile_ranks;

use super::feed::Feed;
use super::outputs::{Outputs, Scores};
use super::rows::Rows;
use super::version::Version;

/// Rows that are scored as one batch.
const BATCH_ROWS: usize = 1_024;
/// Rows that are timed one by one, and on which these scores are compared with those of batches.
const SINGLE_ROWS: usize = 500;
/// How much these may differ, of the score or of 1 if that is more.
const PARITY_TOLERANCE: f64 = 1e-5;
/// Rows before the clock counts.
const WARM_ROWS: usize = 50;

/// A version that cannot score these rows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ScoringError(pub String);

/// The scores of every row, and what single rows took.
#[derive(Debug, Clone, PartialEq)]
pub struct Scored {
    pub scores: Scores,
    pub latency: Latency,
    pub parity: Parity,
}

/// Rows that were computed twice: in batches, as training data are, and one by one, as requests come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Parity {
    pub rows: u64,
    /// Rows whose inputs differ in any bit; `None`: nothing is computed of the features.
    pub features: Option<u64>,
    /// Rows whose scores differ.
    pub scores: u64,
}

/// Scores all rows in batches, and some one by one.
///
/// # Errors
/// The version fails on a batch, or its outputs are no scores.
pub fn score(version: &Version, feed: &Feed, rows: &Rows) -> Result<Scored, ScoringError> {
    let signature = version.loaded.signature();
    let mut session = version.loaded.session().map_err(|error| ScoringError(error.to_string()))?;
    let mut scores = Scores::default();
    let step = if signature.batches { BATCH_ROWS } else { 1 };
    // The inputs of the rows that are looked at twice.
    let mut of_file = Vec::new();
    for from in (0..rows.len()).step_by(step) {
        let to = (from + step).min(rows.len());
        let inputs = feed.inputs(signature, rows, (from, to))?;
        let of_part = run(session.as_mut(), &version.outputs, &inputs, (from, to))?;
        scores.numbers.extend(of_part.numbers);
        match (&mut scores.classes, of_part.classes) {
            (Some(all), Some(more)) => all.extend(more),
            (classes @ None, more) if from == 0 => *classes = more,
            _ => {}
        }
        if feed.is_computed() && from < SINGLE_ROWS {
            of_file.push(inputs);
        }
    }
    let singles = rows.len().min(SINGLE_ROWS);
    for row in 0..singles.min(WARM_ROWS) {
        let inputs = feed.of_request(signature, rows, row)?;
        run(session.as_mut(), &version.outputs, &inputs, (row, row + 1))?;
    }
    let mut took_us = Vec::with_capacity(singles);
    let mut parity = Parity { rows: singles as u64, features: feed.is_computed().then_some(0), ..Parity::default() };
    for row in 0..singles {
        // What serves computes the features, too.
        let started = Instant::now();
        let inputs = feed.of_request(signature, rows, row)?;
        let single = run(session.as_mut(), &version.outputs, &inputs, (row, row + 1))?;
        took_us.push(started.elapsed().as_secs_f64() * 1e6);
        let alike = match (single.numbers.first(), scores.numbers.get(row)) {
            (Some(alone), Some(batched)) => is_alike(*alone, *batched),
            (alone, batched) => alone.is_none() && batched.is_none(),
        };
        parity.scores += u64::from(!alike);
        if let Some(differences) = &mut parity.features {
            let batch = of_file.get(row / step).map_or(&[][..], Vec::as_slice);
            *differences += u64::from(!are_inputs_of(&inputs, batch, row % step));
        }
    }
    Ok(Scored { scores, latency: latency(took_us), parity })
}

/// Whether one row's inputs are, to the bit, those of the row in a batch.
fn are_inputs_of(alone: &[Tensor], batch: &[Tensor], row: usize) -> bool {
    let is_row = |(alone, batched): (&Tensor, &Tensor)| {
        let width = alone.data().len();
        let at = row * width..(row + 1) * width;
        match (alone.data(), batched.data()) {
            (TensorData::Fp32(one), TensorData::Fp32(all)) => {
                all.get(at).is_some_and(|part| part.iter().zip(one).all(|(a, b)| a.to_bits() == b.to_bits()))
            }
            (TensorData::Fp64(one), TensorData::Fp64(all)) => {
                all.get(at).is_some_and(|part| part.iter().zip(one).all(|(a, b)| a.to_bits() == b.to_bits()))
            }
            _ => false,
        }
    };
    alone.len() == batch.len() && alone.iter().zip(batch).all(is_row)
}

/// Whether a row's score alone is that of the row in a batch. A runtime may add up in another order for one row than for
/// many, which moves the last bits of a number of 32 bits; what a mistake moves is more.
fn is_alike(alone: f64, batched: f64) -> bool {
    let most = PARITY_TOLERANCE * batched.abs().max(1.0);
    alone.to_bits() == batched.to_bits() || (alone - batched).abs() <= most
}

fn run(
    session: &mut dyn Session,
    outputs: &Outputs,
    inputs: &[Tensor],
    (from, to): (usize, usize),
) -> Result<Scores, ScoringError> {
    let tensors = session.score(inputs).map_err(|error| ScoringError(format!("rows {} to {to}: {error}", from + 1)))?;
    outputs.read(&tensors, to - from)
}

fn latency(mut took_us: Vec<f64>) -> Latency {
    took_us.sort_by(f64::total_cmp);
    let n = took_us.len();
    let at = |rank: u64| took_us.get(rank.saturating_sub(1) as usize).copied().unwrap_or(f64::NAN);
    Latency {
        rows: n as u64,
        p50_us: at((n as u64).div_ceil(2)),
        p50_interval_us: quantile_ranks(n as u64, 0.5).map(|[low, high]| [at(low), at(high)]),
        p99_us: at((n as f64 * 0.99).ceil() as u64),
    }
}

/// The metric that a gate asks for where its file names none.
pub const fn default_metric(task: Task) -> &'static str {
    match task {
        Task::Binary => "roc_auc",
        Task::Multiclass => "accuracy",
        Task::Regression => "r2",
        Task::Ranking => "mrr",
    }
}
