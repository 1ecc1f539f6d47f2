//! Gives each model's trial its turn, once a second, on a thread that may wait for the disk.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::Scorer;
use super::follow::FollowHandle;
use crate::scorer::metrics::Metrics;
use crate::scorer::registry::Registry;
use crate::scorer::traffic::trial::keeper::{self, Keeper, Turn};
use crate::scorer::traffic::trial::machine::Verdict;

const EVERY: Duration = Duration::from_secs(1);

/// The thread; what was counted last is written when it is stopped.
pub struct Trials {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl Trials {
    /// Starts the thread. `now_ms` is the wall clock, epoch milliseconds.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn start(
        registry: Arc<Registry>,
        scorer: Arc<Scorer>,
        follow: FollowHandle,
        now_ms: fn() -> i64,
    ) -> std::io::Result<Self> {
        let (stop, stopped) = channel();
        let mut turns = Turns::new(registry, scorer, follow, now_ms);
        let thread = std::thread::Builder::new().name("trials".into()).spawn(move || turns.run(&stopped))?;
        Ok(Self { stop, thread })
    }

    /// Takes a last turn, and waits for its end.
    pub fn stop(self) {
        drop(self.stop);
        if self.thread.join().is_err() {
            tracing::error!("the thread of the trials had died");
        }
    }
}

/// What the thread does, once a second.
pub struct Turns {
    keeper: Keeper,
    scorer: Arc<Scorer>,
    follow: FollowHandle,
    now_ms: fn() -> i64,
    /// What failed last, by model: it is logged once, not each second.
    failed: HashMap<String, String>,
}

impl Turns {
    /// `now_ms` is the wall clock, epoch milliseconds.
    pub fn new(registry: Arc<Registry>, scorer: Arc<Scorer>, follow: FollowHandle, now_ms: fn() -> i64) -> Self {
        Self { keeper: Keeper::new(registry), scorer, follow, now_ms, failed: HashMap::new() }
    }

    fn run(&mut self, stopped: &Receiver<()>) {
        loop {
            let ending = !matches!(stopped.recv_timeout(EVERY), Err(RecvTimeoutError::Timeout));
            self.all();
            if ending {
                return;
            }
        }
    }

    /// Each model's trial, once.
    pub fn all(&mut self) {
        for (name, model) in &self.scorer.table().models {
            match self.keeper.turn(name, &model.settings.traffic, &model.counters, (self.now_ms)()) {
                Ok(turn) => {
                    self.failed.remove(name);
                    let Some(turn) = turn else { continue };
                    tell(self.scorer.metrics(), name, &turn);
                    if turn.changed {
                        self.follow.notify();
                    }
                }
                Err(error) => {
                    let reason = error.to_string();
                    if self.failed.get(name) != Some(&reason) {
                        tracing::warn!(model = name, %reason, "the trial could not take its turn; nothing counted is lost");
                        self.failed.insert(name.clone(), reason);
                    }
                }
            }
        }
    }
}

fn tell(metrics: &Metrics, model: &str, turn: &Turn) {
    keeper::log(model, turn);
    let decision = &turn.decision;
    let made = turn.changed || matches!(decision.verdict, Verdict::Hold | Verdict::NotDecided | Verdict::Stop);
    if made {
        metrics.trial_decisions.with_label_values(&[model, decision.verdict.name()]).inc();
    }
    let needed = decision.requests_needed.map_or(-1, |needed| i64::try_from(needed).unwrap_or(i64::MAX));
    metrics.trial_requests_needed.with_label_values(&[model]).set(needed);
    for judgement in &decision.guards {
        let labels = [model, judgement.guard.as_str()];
        metrics.trial_log_e.with_label_values(&labels).set(judgement.log_e / judgement.log_e_to_roll_back);
    }
}
