//! What callers hold: a loaded model with its queue and workers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::sync::{oneshot, watch};

use super::join::common_rows;
use super::pace::Pace;
use super::queue::{Entry, Queue, QueueLimits};
use super::worker::{Reply, Worker};
use crate::config::scorer::BatchSettings;
use crate::scorer::backend::Backend;
use crate::scorer::engine::{EngineError, LoadedModel, Session, Signature};
use crate::scorer::score::{Priority, ScoreError};
use crate::scorer::tensor::Tensor;

/// One request to a model's queue. Its inputs satisfy the model's signature and stand in its order.
#[derive(Debug, Clone, Default)]
pub struct Job {
    pub inputs: Vec<Tensor>,
    pub priority: Priority,
    /// Dropped if not begun by then; the caller has an answer by then in any case.
    pub deadline: Option<Instant>,
}

/// What happened to requests since the start; counts only grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RunnerStats {
    /// Requests that wait now.
    pub queued_requests: u64,
    /// Rows that wait now.
    pub queued_rows: u64,
    /// Workers that compute or wait for work.
    pub workers: u64,
    pub batches: u64,
    /// Batches by their rows: cell `i` has those of at most `2^i` rows that are in no cell before it, the last all larger.
    pub batches_by_rows: [u64; ROW_CELLS],
    /// Rows of all batches, those that failed included.
    pub batch_rows: u64,
    /// Rows scored.
    pub rows: u64,
    /// Batches that failed as a whole and were computed again in parts.
    pub split_batches: u64,
    /// Requests that failed in the engine.
    pub failed: u64,
    /// Requests refused because the queue was full.
    pub refused: u64,
    /// Requests dropped before they were computed: expired, or nobody waited any more.
    pub dropped: u64,
    /// Time that workers computed, added up.
    pub busy: Duration,
}

/// Cells of the batches' sizes: 1, 2, 4 to 4096 rows, and more.
pub const ROW_CELLS: usize = 14;

#[derive(Debug, Default)]
pub(super) struct Counters {
    batches_by_rows: [AtomicU64; ROW_CELLS],
    batch_rows: AtomicU64,
    pub(super) rows: AtomicU64,
    pub(super) split_batches: AtomicU64,
    pub(super) failed: AtomicU64,
    refused: AtomicU64,
    dropped: AtomicU64,
    pub(super) busy_ns: AtomicU64,
}

impl Counters {
    pub(super) fn began(&self, rows: usize) {
        let cell = rows.max(1).next_power_of_two().trailing_zeros() as usize;
        if let Some(count) = self.batches_by_rows.get(cell.min(ROW_CELLS - 1)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.batch_rows.fetch_add(rows as u64, Ordering::Relaxed);
    }
}

struct State {
    queue: Queue<Reply>,
    /// Nothing new is taken once this is false; what waits is computed.
    open: bool,
    /// Workers that compute or wait.
    workers: usize,
    idle: usize,
    pace: Pace,
}

/// What runner and workers share.
pub(super) struct Shared {
    pub(super) label: String,
    pub(super) counters: Counters,
    state: Mutex<State>,
    wake: Condvar,
    alive: watch::Sender<usize>,
}

/// A model with its workers. Dropping it lets the workers finish what waits and end.
pub struct Runner {
    shared: Arc<Shared>,
    signature: Arc<Signature>,
    engine: &'static str,
    max_rows: usize,
}

impl Runner {
    /// Makes and warms a session for each worker and starts them; this takes as long as loading the model does, so an
    /// async caller does it on a blocking thread. `label` names the model and version in messages and threads.
    ///
    /// # Errors
    /// No session can be made or warmed: nothing was started.
    pub fn start(
        model: Arc<dyn LoadedModel>,
        settings: &BatchSettings,
        label: impl Into<String>,
    ) -> Result<Self, EngineError> {
        let workers = settings.workers.unwrap_or_else(default_workers).max(1);
        let mut sessions: Vec<Box<dyn Session>> = Vec::with_capacity(workers);
        for _ in 0..workers {
            let mut session = model.session()?;
            session.warm()?;
            sessions.push(session);
        }
        let limits = QueueLimits {
            max_requests: settings.max_queue_requests,
            max_rows: settings.max_queue_rows,
            max_batch_rows: settings.max_batch_rows,
            max_delay: Duration::from_micros(settings.max_queue_delay_us),
            joins: model.signature().batches,
        };
        let state = State { queue: Queue::new(limits), open: true, workers, idle: 0, pace: Pace::default() };
        let shared = Arc::new(Shared {
            label: label.into(),
            counters: Counters::default(),
            state: Mutex::new(state),
            wake: Condvar::new(),
            alive: watch::Sender::new(workers),
        });
        let signature = Arc::new(model.signature().clone());
        let runner = Self { shared, signature, engine: model.engine(), max_rows: settings.max_queue_rows };
        for session in sessions {
            let worker = Worker::new(Arc::clone(&runner.shared), Arc::clone(&model), session);
            let thread = std::thread::Builder::new().name(format!("score {}", runner.shared.label));
            // The workers that did start end with the runner.
            thread.spawn(move || worker.run()).map_err(|error| {
                EngineError::Unavailable(format!("no thread to compute {}: {error}", runner.shared.label))
            })?;
        }
        Ok(runner)
    }

    /// Scores the rows of one request, together with others where that helps; gives all outputs.
    ///
    /// # Errors
    /// The queue is full, the deadline passed, the runner is closing, the inputs have no rows in common, or the engine
    /// failed on them.
    pub async fn score(&self, job: Job) -> Result<Vec<Tensor>, ScoreError> {
        let deadline = job.deadline;
        let answer = self.enqueue(job)?;
        let outcome = match deadline {
            None => answer.await,
            Some(deadline) => match tokio::time::timeout_at(deadline.into(), answer).await {
                Ok(outcome) => outcome,
                Err(_) => return Err(ScoreError::Expired),
            },
        };
        outcome.unwrap_or_else(|_| Err(ScoreError::Failed("the worker ended before it answered".into())))
    }

    /// Takes nothing new, computes what waits, and ends the workers; whether they ended within the time.
    pub async fn shut_down(&self, within: Duration) -> bool {
        self.close();
        let mut alive = self.shared.alive.subscribe();
        let ended = tokio::time::timeout(within, alive.wait_for(|workers| *workers == 0)).await;
        ended.is_ok()
    }

    pub fn stats(&self) -> RunnerStats {
        let (queued_requests, queued_rows, workers) = {
            let state = self.shared.lock();
            (state.queue.requests() as u64, state.queue.rows() as u64, state.workers as u64)
        };
        let counters = &self.shared.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let batches_by_rows = counters.batches_by_rows.each_ref().map(read);
        RunnerStats {
            queued_requests,
            queued_rows,
            workers,
            batches: batches_by_rows.iter().sum(),
            batches_by_rows,
            batch_rows: read(&counters.batch_rows),
            rows: read(&counters.rows),
            split_batches: read(&counters.split_batches),
            failed: read(&counters.failed),
            refused: read(&counters.refused),
            dropped: read(&counters.dropped),
            busy: Duration::from_nanos(read(&counters.busy_ns)),
        }
    }

    fn enqueue(&self, job: Job) -> Result<oneshot::Receiver<Result<Vec<Tensor>, ScoreError>>, ScoreError> {
        let rows = self.rows_of(&job.inputs)?;
        let (reply, answer) = oneshot::channel();
        let now = Instant::now();
        if job.deadline.is_some_and(|deadline| deadline <= now) {
            self.shared.counters.dropped.fetch_add(1, Ordering::Relaxed);
            return Err(ScoreError::Expired);
        }
        let entry = Entry {
            waiter: Reply(reply),
            inputs: job.inputs,
            rows,
            priority: job.priority,
            deadline: job.deadline,
            since: now,
        };
        let (swept, retry_after) = {
            let mut state = self.shared.lock();
            if !state.open || state.workers == 0 {
                return Err(ScoreError::Unavailable(format!("{} is not serving any more", self.shared.label)));
            }
            let swept = if state.queue.has_room(rows) { Vec::new() } else { state.queue.sweep(now) };
            let room = state.queue.has_room(rows);
            if room {
                state.queue.push(entry);
                if state.idle > 0 {
                    self.shared.wake.notify_one();
                }
            }
            let retry_after = (!room).then(|| state.pace.until_computed(state.queue.rows(), state.workers));
            (swept, retry_after)
        };
        self.shared.drop_unanswered(swept);
        match retry_after {
            None => Ok(answer),
            Some(retry_after) => {
                self.shared.counters.refused.fetch_add(1, Ordering::Relaxed);
                Err(ScoreError::QueueFull { model: self.shared.label.clone(), retry_after })
            }
        }
    }

    fn rows_of(&self, inputs: &[Tensor]) -> Result<usize, ScoreError> {
        if !self.signature.batches {
            return Ok(inputs.first().map_or(1, Tensor::rows).max(1));
        }
        let rows = common_rows(inputs).ok_or_else(|| {
            let shapes: Vec<String> =
                inputs.iter().map(|input| format!("`{}` {:?}", input.name(), input.shape())).collect();
            ScoreError::Invalid(format!("inputs differ in their number of rows: {}", shapes.join(", ")))
        })?;
        match rows {
            0 => Err(ScoreError::Invalid("the request has no rows".into())),
            _ if rows > self.max_rows => Err(ScoreError::Invalid(format!(
                "the request has {rows} rows, at most {} are taken at once: send it in parts, or raise `max_queue_rows`",
                self.max_rows
            ))),
            _ => Ok(rows),
        }
    }

    fn close(&self) {
        self.shared.lock().open = false;
        self.shared.wake.notify_all();
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        self.close();
    }
}

#[async_trait]
impl Backend for Runner {
    fn signature(&self) -> Option<Arc<Signature>> {
        Some(Arc::clone(&self.signature))
    }

    fn engine(&self) -> &'static str {
        self.engine
    }

    fn ready(&self) -> bool {
        let state = self.shared.lock();
        state.workers > 0 && state.open
    }

    fn batching(&self) -> Option<RunnerStats> {
        Some(self.stats())
    }

    async fn score(
        &self,
        inputs: Vec<Tensor>,
        priority: Priority,
        deadline: Option<Instant>,
    ) -> Result<Vec<Tensor>, ScoreError> {
        Self::score(self, Job { inputs, priority, deadline }).await
    }
}

impl Shared {
    /// What is to be computed next; waits for it. `None`: the queue is closed and empty. `last`: rows of the worker's last
    /// batch and how long they took.
    pub(super) fn next_batch(&self, last: Option<(usize, Duration)>) -> Option<Vec<Entry<Reply>>> {
        let mut state = self.lock();
        if let Some((rows, took)) = last {
            state.pace.computed(rows, took);
        }
        loop {
            let closing = !state.open;
            let taken = state.queue.take(Instant::now(), closing);
            if !taken.batch.is_empty() {
                // Those that came while nobody was idle were not announced to anybody.
                if state.idle > 0 && !state.queue.is_empty() {
                    self.wake.notify_one();
                }
                drop(state);
                self.drop_unanswered(taken.dropped);
                return Some(taken.batch);
            }
            if !taken.dropped.is_empty() {
                drop(state);
                self.drop_unanswered(taken.dropped);
                state = self.lock();
                continue;
            }
            if closing {
                return None;
            }
            state.idle += 1;
            state = match taken.look_again {
                None => self.wake.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(at) => {
                    let pause = at.saturating_duration_since(Instant::now());
                    self.wake.wait_timeout(state, pause).unwrap_or_else(PoisonError::into_inner).0
                }
            };
            state.idle -= 1;
        }
    }

    /// The last one to go leaves nobody waiting.
    pub(super) fn worker_ended(&self) {
        let left_alone = {
            let mut state = self.lock();
            state.workers -= 1;
            self.alive.send_replace(state.workers);
            if state.workers == 0 { state.queue.drain() } else { Vec::new() }
        };
        for entry in left_alone {
            let text = format!("{} is not serving any more", self.label);
            let _ = entry.waiter.0.send(Err(ScoreError::Unavailable(text)));
        }
    }

    fn drop_unanswered(&self, entries: Vec<Entry<Reply>>) {
        self.counters.dropped.fetch_add(entries.len() as u64, Ordering::Relaxed);
        for entry in entries {
            let _ = entry.waiter.0.send(Err(ScoreError::Expired));
        }
    }

    /// What the lock guards is consistent between any two of its changes, so a thread that panicked leaves it usable.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn default_workers() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).max(1))
}
