//! A version scores the rows of a file: features to tensors, tensors to what performance is judged by.

use std::time::Instant;

use crate::config::performance::Task;
use crate::reference::window::Values;
use crate::scorer::engine::{LoadedModel, Session, Signature, TensorSpec};
use crate::scorer::gate::measurements::Latency;
use crate::scorer::tensor::{DataType, Tensor, TensorData, TensorLimits};
use crate::stats::performance::intervals::quantile_ranks;

/// Rows that are scored as one batch.
const BATCH_ROWS: usize = 1_024;
/// Rows that are timed one by one, and on which these scores are compared with those of batches.
const SINGLE_ROWS: usize = 500;
/// How much these may differ, of the score or of 1 if that is more.
const PARITY_TOLERANCE: f64 = 1e-5;
/// Rows before the clock counts.
const WARM_ROWS: usize = 50;

/// A named column of raw features.
pub type Column<'a> = (&'a str, &'a Values);

/// What a version says of every row.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scores {
    /// Of the positive class, or the number that is predicted; NaN: none.
    pub numbers: Vec<f64>,
    /// The predicted class as text, where the model gives one.
    pub classes: Option<Vec<String>>,
}

/// How a version's inputs are made of features.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Feed {
    /// One input with a column for each of these.
    Matrix(Vec<String>),
    /// An input of its own for each feature, of the same name.
    Named(Vec<String>),
}

impl Feed {
    pub fn features(&self) -> &[String] {
        match self {
            Self::Matrix(names) | Self::Named(names) => names,
        }
    }
}

/// A version that cannot score these rows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ScoringError(pub String);

/// How the inputs are fed; `names` are the features of one matrix in their order, where the version says them. Otherwise
/// it is fed with the numbers among `features`, the model file's in the order of their names.
///
/// # Errors
/// Every way in which inputs and features do not fit.
pub fn feed(signature: &Signature, names: Option<&[String]>, features: &[Column]) -> Result<Feed, Vec<String>> {
    let has = |name: &str| features.iter().find(|(feature, _)| *feature == name);
    let mut mismatches = Vec::new();
    let feed = match signature.inputs.as_slice() {
        [input] if input.shape.len() == 2 && has(&input.name).is_none() => {
            let numeric = features.iter().filter(|(_, values)| matches!(values, Values::Numbers(_)));
            let all = || numeric.map(|(name, _)| name.to_string()).collect();
            let names: Vec<String> = names.map_or_else(all, <[String]>::to_vec);
            if let Some(width) = input.shape[1].filter(|width| *width != names.len()) {
                mismatches.push(format!(
                    "input `{}` has {width} columns, the features are {}",
                    input.name,
                    names.len()
                ));
            }
            Feed::Matrix(names)
        }
        inputs => Feed::Named(inputs.iter().map(|input| input.name.clone()).collect()),
    };
    for name in feed.features() {
        match (has(name), &feed) {
            (None, _) => mismatches.push(format!("it takes `{name}`, which is no feature of the model file")),
            (Some((_, Values::Numbers(_))), Feed::Matrix(_)) => {}
            (Some(_), Feed::Matrix(_)) => {
                mismatches.push(format!("`{name}` is no number, as a column of a matrix must be"))
            }
            (Some((_, values)), Feed::Named(_)) => {
                let input = signature.inputs.iter().find(|input| input.name == *name);
                mismatches.extend(input.and_then(|input| unfit(input, values)));
            }
        }
    }
    if mismatches.is_empty() { Ok(feed) } else { Err(mismatches) }
}

fn unfit(input: &TensorSpec, values: &Values) -> Option<String> {
    let name = &input.name;
    let is_text = input.datatype == DataType::Bytes;
    match values {
        Values::Texts(_) if !is_text => {
            Some(format!("`{name}` is categorical, its input takes {}", input.datatype.name()))
        }
        Values::Numbers(_) | Values::Vectors { .. } if is_text => {
            Some(format!("`{name}` is numeric, its input takes text"))
        }
        _ => None,
    }
}

/// The tensors of rows [from, to).
fn tensors(
    signature: &Signature,
    feed: &Feed,
    features: &[Column],
    (from, to): (usize, usize),
) -> Result<Vec<Tensor>, ScoringError> {
    let values_of = |name: &str| features.iter().find(|(feature, _)| *feature == name).map(|(_, values)| *values);
    let rows = to - from;
    let limits = TensorLimits::default();
    let failed = |error: &dyn std::fmt::Display| ScoringError(error.to_string());
    match (feed, signature.inputs.as_slice()) {
        (Feed::Matrix(names), [input]) => {
            let columns: Vec<&[f64]> = names
                .iter()
                .filter_map(|name| match values_of(name) {
                    Some(Values::Numbers(values)) => values.get(from..to),
                    _ => None,
                })
                .collect();
            let row_major = (0..rows).flat_map(|row| columns.iter().map(move |column| column[row]));
            let data = numbers_as(input.datatype, row_major.collect()).map_err(|error| failed(&error))?;
            let shape = vec![rows, columns.len()];
            Ok(vec![Tensor::new(input.name.clone(), shape, data, &limits).map_err(|error| failed(&error))?])
        }
        (_, inputs) => inputs
            .iter()
            .map(|input| {
                let missing = || ScoringError(format!("nothing to feed input `{}` with", input.name));
                let (data, width) = match values_of(&input.name).ok_or_else(missing)? {
                    Values::Numbers(values) => (numbers_as(input.datatype, values[from..to].to_vec())?, 1),
                    Values::Texts(values) => {
                        let texts = values[from..to].iter().map(|text| text.clone().unwrap_or_default().into_bytes());
                        (TensorData::Bytes(texts.collect()), 1)
                    }
                    Values::Vectors { dimension, entries } => {
                        let entries = entries[from * dimension..to * dimension].to_vec();
                        (numbers_as(input.datatype, entries)?, *dimension)
                    }
                };
                let shape = if input.shape.len() == 1 { vec![rows] } else { vec![rows, width] };
                Tensor::new(input.name.clone(), shape, data, &limits).map_err(|error| failed(&error))
            })
            .collect(),
    }
}

fn numbers_as(datatype: DataType, numbers: Vec<f64>) -> Result<TensorData, ScoringError> {
    Ok(match datatype {
        DataType::Fp32 => TensorData::Fp32(numbers.into_iter().map(|number| number as f32).collect()),
        DataType::Fp64 => TensorData::Fp64(numbers),
        DataType::Int64 => TensorData::Int64(numbers.into_iter().map(|number| number as i64).collect()),
        DataType::Int32 => TensorData::Int32(numbers.into_iter().map(|number| number as i32).collect()),
        other => return Err(ScoringError(format!("inputs of type {} cannot be fed with numbers", other.name()))),
    })
}

/// Which output holds what: the score is the only one of floating point, or the one called `probabilities` or `score`; the
/// class an output of text or integers.
fn scores_of(outputs: &[Tensor], rows: usize) -> Result<Scores, ScoringError> {
    let floats: Vec<&Tensor> =
        outputs.iter().filter(|output| matches!(output.datatype(), DataType::Fp32 | DataType::Fp64)).collect();
    let named = |wanted: &str| floats.iter().copied().find(|output| output.name().contains(wanted));
    let chosen = match floats.as_slice() {
        [] => None,
        [only] => Some(*only),
        _ => named("probabilit").or_else(|| named("score")),
    };
    let names = || outputs.iter().map(|output| format!("`{}`", output.name())).collect::<Vec<_>>().join(", ");
    let classes = outputs.iter().find_map(|output| match output.data() {
        TensorData::Int64(values) => Some(values.iter().map(ToString::to_string).collect()),
        TensorData::Int32(values) => Some(values.iter().map(ToString::to_string).collect()),
        TensorData::Bytes(values) => {
            Some(values.iter().map(|text| String::from_utf8_lossy(text).into_owned()).collect())
        }
        _ => None,
    });
    let Some(chosen) = chosen else {
        let error = ScoringError(format!("none of the outputs {} is a score", names()));
        return if classes.is_some() { Ok(Scores { numbers: vec![f64::NAN; rows], classes }) } else { Err(error) };
    };
    let numbers: Vec<f64> = match chosen.data() {
        TensorData::Fp32(values) => values.iter().map(|value| f64::from(*value)).collect(),
        TensorData::Fp64(values) => values.clone(),
        _ => Vec::new(),
    };
    let width = numbers.len() / rows.max(1);
    if width == 0 || numbers.len() != width * rows {
        let (name, shape) = (chosen.name(), chosen.shape());
        return Err(ScoringError(format!("output `{name}` has the shape {shape:?} for {rows} rows")));
    }
    // Of the probabilities of two classes the last one is the positive's.
    let last = numbers.chunks_exact(width).filter_map(|row| row.last().copied()).collect();
    Ok(Scores { numbers: last, classes })
}

/// The scores of every row, and what single rows took.
#[derive(Debug, Clone, PartialEq)]
pub struct Scored {
    pub scores: Scores,
    pub latency: Latency,
    pub parity_rows: u64,
    pub parity_differences: u64,
}

/// Scores all rows in batches, and some one by one.
///
/// # Errors
/// The version fails on a batch, or its outputs are no scores.
pub fn score(loaded: &dyn LoadedModel, feed: &Feed, features: &[Column], rows: usize) -> Result<Scored, ScoringError> {
    let signature = loaded.signature();
    let mut session = loaded.session().map_err(|error| ScoringError(error.to_string()))?;
    let mut run = |from: usize, to: usize| part(session.as_mut(), signature, feed, features, (from, to));
    let mut scores = Scores::default();
    let step = if signature.batches { BATCH_ROWS } else { 1 };
    for from in (0..rows).step_by(step) {
        let to = (from + step).min(rows);
        let of_part = run(from, to)?.0;
        scores.numbers.extend(of_part.numbers);
        match (&mut scores.classes, of_part.classes) {
            (Some(all), Some(more)) => all.extend(more),
            (classes @ None, more) if from == 0 => *classes = more,
            _ => {}
        }
    }
    let singles = rows.min(SINGLE_ROWS);
    for row in 0..singles.min(WARM_ROWS) {
        run(row, row + 1)?;
    }
    let (mut took_us, mut differences) = (Vec::with_capacity(singles), 0);
    for row in 0..singles {
        let (single, micros) = run(row, row + 1)?;
        took_us.push(micros);
        let alike = match (single.numbers.first(), scores.numbers.get(row)) {
            (Some(alone), Some(batched)) => is_alike(*alone, *batched),
            (alone, batched) => alone.is_none() && batched.is_none(),
        };
        differences += u64::from(!alike);
    }
    let parity_rows = singles as u64;
    Ok(Scored { scores, latency: latency(took_us), parity_rows, parity_differences: differences })
}

/// Whether a row's score alone is that of the row in a batch. A runtime may add up in another order for one row than for
/// many, which moves the last bits of a number of 32 bits; what a mistake moves is more.
fn is_alike(alone: f64, batched: f64) -> bool {
    let most = PARITY_TOLERANCE * batched.abs().max(1.0);
    alone.to_bits() == batched.to_bits() || (alone - batched).abs() <= most
}

/// Scores of some rows, and the microseconds that the engine took for them.
fn part(
    session: &mut dyn Session,
    signature: &Signature,
    feed: &Feed,
    features: &[Column],
    rows: (usize, usize),
) -> Result<(Scores, f64), ScoringError> {
    let inputs = tensors(signature, feed, features, rows)?;
    let started = Instant::now();
    let outputs =
        session.score(&inputs).map_err(|error| ScoringError(format!("rows {} to {}: {error}", rows.0 + 1, rows.1)))?;
    let micros = started.elapsed().as_secs_f64() * 1e6;
    Ok((scores_of(&outputs, rows.1 - rows.0)?, micros))
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
