//! A thread that computes: takes a batch, scores it, answers each request.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use tokio::sync::oneshot;

use super::join::{join, split};
use super::queue::{Entry, Waiter};
use super::runner::Shared;
use crate::scorer::engine::{EngineError, LoadedModel, Session};
use crate::scorer::score::ScoreError;
use crate::scorer::tensor::Tensor;

pub(super) type Answer = Result<Vec<Tensor>, ScoreError>;

/// Where the answer goes. A reply that is dropped unanswered reaches its caller too: the channel closes.
#[derive(Debug)]
pub(super) struct Reply(pub(super) oneshot::Sender<Answer>);

impl Waiter for Reply {
    fn abandoned(&self) -> bool {
        self.0.is_closed()
    }
}

pub(super) struct Worker {
    shared: Arc<Shared>,
    model: Arc<dyn LoadedModel>,
    session: Box<dyn Session>,
}

impl Worker {
    pub(super) fn new(shared: Arc<Shared>, model: Arc<dyn LoadedModel>, session: Box<dyn Session>) -> Self {
        Self { shared, model, session }
    }

    /// Until the queue is closed and empty, or no session can be had after a failure.
    pub(super) fn run(mut self) {
        let mut last = None;
        while let Some(batch) = self.shared.next_batch(last) {
            let started = Instant::now();
            let rows = batch.iter().map(|entry| entry.rows).sum();
            self.shared.counters.began(rows);
            // A panic outside the session is a mistake of ours: those who wait are told by their closed channels.
            let whole = catch_unwind(AssertUnwindSafe(|| self.compute(batch)));
            let took = started.elapsed();
            self.shared.counters.busy_ns.fetch_add(took.as_nanos() as u64, Ordering::Relaxed);
            last = Some((rows, took));
            if !whole.unwrap_or(false) && !self.renew_session() {
                break;
            }
        }
        self.shared.worker_ended();
    }

    /// Computes and answers; false: the session must not be used again.
    fn compute(&mut self, mut batch: Vec<Entry<Reply>>) -> bool {
        let inputs: Vec<&[Tensor]> = batch.iter().map(|entry| entry.inputs.as_slice()).collect();
        let outcome = match inputs.as_slice() {
            [single] => self.score(single).map(|outputs| vec![outputs]),
            many => {
                let rows: Vec<usize> = batch.iter().map(|entry| entry.rows).collect();
                let joined = join(many).map_err(|error| Failure::of(EngineError::Input(error.to_string())));
                let outputs = joined.and_then(|joined| self.score(&joined));
                outputs.and_then(|outputs| {
                    split(&outputs, &rows).map_err(|error| Failure::of(EngineError::Compute(error.to_string())))
                })
            }
        };
        match outcome {
            Ok(outputs) => {
                for (entry, outputs) in batch.into_iter().zip(outputs) {
                    self.shared.counters.rows.fetch_add(entry.rows as u64, Ordering::Relaxed);
                    let _ = entry.waiter.0.send(Ok(outputs));
                }
                true
            }
            // One row may have been the cause: it must not cost the others their answers.
            Err(failure) if batch.len() > 1 && failure.may_be_of_one_row() => {
                self.shared.counters.split_batches.fetch_add(1, Ordering::Relaxed);
                if failure.panicked && !self.renew_session() {
                    self.refuse(batch, &failure);
                    return false;
                }
                let second = batch.split_off(batch.len() / 2);
                let first_is_whole = self.compute(batch);
                if !first_is_whole && !self.renew_session() {
                    self.refuse(second, &failure);
                    return false;
                }
                self.compute(second)
            }
            Err(failure) => {
                let whole = !failure.panicked;
                self.refuse(batch, &failure);
                whole
            }
        }
    }

    fn score(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, Failure> {
        match catch_unwind(AssertUnwindSafe(|| self.session.score(inputs))) {
            Ok(outcome) => outcome.map_err(Failure::of),
            Err(_) => {
                let error = EngineError::Compute("the engine ended unexpectedly on this input".into());
                Err(Failure { error, panicked: true })
            }
        }
    }

    fn refuse(&self, batch: Vec<Entry<Reply>>, failure: &Failure) {
        self.shared.counters.failed.fetch_add(batch.len() as u64, Ordering::Relaxed);
        for entry in batch {
            let _ = entry.waiter.0.send(Err(failure.as_answer()));
        }
    }

    fn renew_session(&mut self) -> bool {
        match catch_unwind(AssertUnwindSafe(|| self.model.session())) {
            Ok(Ok(session)) => {
                self.session = session;
                true
            }
            Ok(Err(error)) => {
                tracing::error!(model = self.shared.label, %error, "a worker ends: no new session after a failure");
                false
            }
            Err(_) => {
                tracing::error!(model = self.shared.label, "a worker ends: a new session cannot be made");
                false
            }
        }
    }
}

/// A batch that was not computed.
struct Failure {
    error: EngineError,
    /// What the session holds is not to be trusted any more.
    panicked: bool,
}

impl Failure {
    fn of(error: EngineError) -> Self {
        Self { error, panicked: false }
    }

    fn may_be_of_one_row(&self) -> bool {
        matches!(self.error, EngineError::Input(_) | EngineError::Compute(_))
    }

    fn as_answer(&self) -> ScoreError {
        match &self.error {
            EngineError::Input(text) => ScoreError::Invalid(text.clone()),
            EngineError::Unavailable(text) => ScoreError::Unavailable(text.clone()),
            EngineError::Model(text) | EngineError::Compute(text) => ScoreError::Failed(text.clone()),
        }
    }
}
