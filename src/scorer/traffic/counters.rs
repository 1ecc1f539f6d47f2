//! What the serving threads add to: requests, errors, latencies and scores of each side of a trial and each arm of an
//! experiment.
//!
//! Adding takes one lock of one side for some hundred nanoseconds, and only while something is counted.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Choice;
use super::cells::{Cells, latency_cell, score_cell};
use super::sequential::bernoulli::Hits;
use super::sequential::normal_mixture::Moments;
use crate::scorer::score::Arm;
use crate::scorer::tensor::{Tensor, TensorData};

/// Rows of one request whose scores are counted; the rest are not, so that a large batch holds no lock for long.
const MAX_ROWS: usize = 256;

/// Counts of one version's answers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Counts {
    /// Answered or failed.
    pub requests: u64,
    pub errors: u64,
    /// Of the answered, by `cells::latency_cell`.
    pub latency: Cells,
    /// Of the rows answered.
    pub scores: Moments,
    /// The same, by `cells::score_cell`.
    pub score_cells: Cells,
}

impl Counts {
    pub fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.errors += other.errors;
        self.latency.add(&other.latency);
        self.scores.add(other.scores);
        self.score_cells.add(&other.score_cells);
    }

    pub fn errors_of_requests(&self) -> Hits {
        Hits::new(self.errors, self.requests)
    }

    fn push(&mut self, answer: Answer<'_>, latency: Duration) {
        self.requests += 1;
        match answer {
            Answer::Failed => self.errors += 1,
            Answer::Scored(outputs) => {
                self.latency.push(latency_cell(latency));
                for score in scores(outputs).take(MAX_ROWS) {
                    if let Some(cell) = score_cell(score) {
                        self.scores.push(score);
                        self.score_cells.push(cell);
                    }
                }
            }
        }
    }
}

/// What became of a request.
#[derive(Debug, Clone, Copy)]
pub enum Answer<'a> {
    Failed,
    Scored(&'a [Tensor]),
}

/// The two sides of a trial.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Block {
    pub canary: Counts,
    pub production: Counts,
}

impl Block {
    pub fn add(&mut self, other: &Self) {
        self.canary.add(&other.canary);
        self.production.add(&other.production);
    }
}

/// One side, and the version that it is of: answers of others, from before a change, are not counted.
#[derive(Debug, Default)]
struct Side {
    version: Option<String>,
    counts: Counts,
}

/// Counters of one model.
#[derive(Debug, Default)]
pub struct Counters {
    canary: Mutex<Side>,
    production: Mutex<Side>,
    /// By arm of the experiment.
    arms: Mutex<BTreeMap<String, Counts>>,
}

impl Counters {
    /// Counts what became of a request. Requests that named their version or arm are not counted.
    pub fn record(&self, choice: &Choice, answer: Answer<'_>, latency: Duration) {
        if !choice.counted {
            return;
        }
        let side = match choice.arm {
            Arm::Canary => Some(&self.canary),
            Arm::Production => Some(&self.production),
            Arm::Shadow | Arm::Experiment | Arm::Pinned => None,
        };
        if let Some(side) = side {
            let mut side = locked(side);
            if side.version.as_ref() == Some(&choice.version) {
                side.counts.push(answer, latency);
            }
        }
        if let Some(exposure) = &choice.exposure {
            let mut arms = locked(&self.arms);
            match arms.get_mut(&exposure.arm) {
                Some(counts) => counts.push(answer, latency),
                None => arms.entry(exposure.arm.clone()).or_default().push(answer, latency),
            }
        }
    }

    /// Counts for these two versions from now on, from nothing if they are others than before; without them, for none.
    pub fn follow(&self, versions: Option<(&str, &str)>) {
        let (canary, production) = versions.unzip();
        for (side, version) in [(&self.canary, canary), (&self.production, production)] {
            let mut side = locked(side);
            if side.version.as_deref() != version {
                *side = Side { version: version.map(Into::into), counts: Counts::default() };
            }
        }
    }

    /// Takes what was counted since the last time.
    pub fn take(&self) -> Block {
        let take = |side: &Mutex<Side>| std::mem::take(&mut locked(side).counts);
        Block { canary: take(&self.canary), production: take(&self.production) }
    }

    /// Puts back what could not be kept elsewhere.
    pub fn put_back(&self, block: &Block) {
        locked(&self.canary).counts.add(&block.canary);
        locked(&self.production).counts.add(&block.production);
    }

    /// Takes what was counted of the experiment's arms since the last time.
    pub fn take_arms(&self) -> BTreeMap<String, Counts> {
        std::mem::take(&mut *locked(&self.arms))
    }

    pub fn put_back_arms(&self, taken: &BTreeMap<String, Counts>) {
        let mut arms = locked(&self.arms);
        for (arm, counts) in taken {
            arms.entry(arm.clone()).or_default().add(counts);
        }
    }
}

/// Counts stay whole if a thread dies while it adds to them.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const SCORE_OUTPUTS: [&str; 5] = ["probabilities", "probability", "output_probability", "scores", "score"];

/// The score of each row: the last column of the output that is called like a score, else of the first with numbers.
///
/// Prediction events take the same one unless their settings name another.
pub fn scores(outputs: &[Tensor]) -> impl Iterator<Item = f64> + '_ {
    let named = SCORE_OUTPUTS.iter().find_map(|name| outputs.iter().find(|output| output.name() == *name));
    let floating = |output: &&Tensor| matches!(output.data(), TensorData::Fp32(_) | TensorData::Fp64(_));
    let output = named.filter(floating).or_else(|| outputs.iter().find(floating));
    output.into_iter().flat_map(|output| {
        let rows = output.rows();
        let columns = output.data().len().checked_div(rows).unwrap_or(0);
        let last = columns.saturating_sub(1);
        (0..rows).filter_map(move |row| match output.data() {
            TensorData::Fp32(values) => values.get(row * columns + last).map(|&value| f64::from(value)),
            TensorData::Fp64(values) => values.get(row * columns + last).copied(),
            _ => None,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scorer::tensor::TensorLimits;
    use crate::scorer::traffic::Exposure;

    fn choice(version: &str, arm: Arm) -> Choice {
        Choice { version: version.into(), arm, shadow: None, exposure: None, counted: true }
    }

    fn output(name: &str, shape: Vec<usize>, data: TensorData) -> Tensor {
        Tensor::new(name, shape, data, &TensorLimits::default()).unwrap()
    }

    #[test]
    fn the_score_is_the_last_column_of_the_output_called_so() {
        let label = output("label", vec![2], TensorData::Int64(vec![0, 1]));
        let other = output("other", vec![2], TensorData::Fp32(vec![9.0, 9.0]));
        let probabilities = output("probabilities", vec![2, 2], TensorData::Fp32(vec![0.75, 0.25, 0.5, 0.5]));
        let found: Vec<f64> = scores(&[label.clone(), other.clone(), probabilities]).collect();
        assert_eq!(found, [0.25, 0.5]);
        assert_eq!(scores(&[label.clone(), other]).collect::<Vec<_>>(), [9.0, 9.0]);
        assert_eq!(scores(&[label]).count(), 0);
    }

    #[test]
    fn only_the_versions_on_trial_and_only_what_chance_chose_is_counted() {
        let counters = Counters::default();
        let latency = Duration::from_micros(80);
        counters.record(&choice("2", Arm::Canary), Answer::Failed, latency);
        assert_eq!(counters.take(), Block::default(), "nothing is followed yet");
        counters.follow(Some(("2", "1")));
        counters.record(&choice("2", Arm::Canary), Answer::Failed, latency);
        counters.record(&choice("3", Arm::Canary), Answer::Failed, latency);
        counters.record(&choice("1", Arm::Pinned), Answer::Failed, latency);
        counters.record(&Choice { counted: false, ..choice("2", Arm::Canary) }, Answer::Failed, latency);
        let scored = [output("score", vec![2], TensorData::Fp32(vec![0.5, f32::NAN]))];
        counters.record(&choice("1", Arm::Production), Answer::Scored(&scored), latency);
        counters.follow(Some(("2", "1")));
        let block = counters.take();
        assert_eq!((block.canary.requests, block.canary.errors), (1, 1));
        assert_eq!((block.production.requests, block.production.errors, block.production.scores.n), (1, 0, 1));
        assert_eq!(counters.take(), Block::default());
        counters.put_back(&block);
        assert_eq!(counters.take(), block);
        counters.put_back(&block);
        counters.follow(Some(("3", "1")));
        let after = counters.take();
        assert_eq!((after.canary.requests, after.production.requests), (0, 1), "the canary is another version now");
    }

    #[test]
    fn arms_of_an_experiment_are_counted_by_name() {
        let counters = Counters::default();
        for (arm, version) in [("control", "1"), ("bold", "7"), ("bold", "7")] {
            let exposure = Some(Exposure { experiment: "tone".into(), arm: arm.into() });
            let choice = Choice { exposure, ..choice(version, Arm::Experiment) };
            counters.record(&choice, Answer::Failed, Duration::ZERO);
        }
        let arms = counters.take_arms();
        assert_eq!((arms["control"].requests, arms["bold"].requests), (1, 2));
        assert!(counters.take_arms().is_empty());
    }
}
