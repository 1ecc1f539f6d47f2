//! The role of actions: reads `outbox` and `control`, records in `actions`, has targets called.
//!
//! Cooldowns and budgets are over all episodes of a model and all models of an action, wherever their requests stand, so
//! one process alone decides: the one that has the only partition of `control` in the group. It reads every partition of
//! the outbox by hand, and keeps both places in the group's offsets. Each transaction takes those offsets together with
//! the records of runs, so that a predecessor that has lost its place without noticing is fenced. A target is called only
//! after the record that says so is durable.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures::FutureExt;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use super::machine::{Effect, Input, Limits, Machine};
use super::restore::read_runs;
use super::run::{RunRecord, RunState, Transition};
use super::target::{CallOutcome, Progress, Targets};
use crate::config::actions::Action;
use crate::config::service::Service;
use crate::dispatch::control::ControlRecord;
use crate::log::topics::Topics;
use crate::log::{
    Consumer, ConsumerEvent, ConsumerOptions, Log, LogError, OutRecord, Producer, Records, Result, StartOffset,
    TopicPartition,
};
use crate::rules::action_request::OutboxRecord;
use crate::rules::episode::EpisodeStatus;
use crate::telemetry::Metrics;

const ROLE: &str = "actions";
const RECORDS_PER_POLL: usize = 200;
/// Longest wait for records; answers of targets wait as long as that.
const IDLE_POLL: Duration = Duration::from_millis(100);
/// The same while calls are under way.
const BUSY_POLL: Duration = Duration::from_millis(10);
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// Tries of one call to the log before the transaction is given up (30 s).
const MAX_CALLS: u32 = 300;

#[derive(Debug, Clone)]
pub struct ActionsConfig {
    pub app: String,
    pub instance: String,
    /// What links in manifests start with, without a slash at the end.
    pub public_url: String,
    pub actions: BTreeMap<String, Action>,
    pub limits: Limits,
    /// A call that takes longer than this is stopped and counts as unanswered.
    pub call_timeout: Duration,
    /// How long a stop waits for calls under way, so that what was accepted is recorded.
    pub stop_grace: Duration,
    /// Where calls run.
    pub runtime: tokio::runtime::Handle,
}

impl ActionsConfig {
    pub fn new(service: &Service, actions: BTreeMap<String, Action>, runtime: tokio::runtime::Handle) -> Self {
        let public_url = service.http.public_url.clone().unwrap_or_else(|| format!("http://{}", service.http.bind));
        Self {
            app: service.app.clone(),
            instance: service.instance.clone(),
            public_url: public_url.trim_end_matches('/').to_string(),
            actions,
            limits: Limits {
                first_retry_ms: service.dispatch.first_retry.ms,
                max_retry_ms: service.dispatch.max_retry.ms,
                ..Limits::default()
            },
            call_timeout: Duration::from_secs(60),
            stop_grace: Duration::from_secs(5),
            runtime,
        }
    }
}

/// Runs until `stop` is cancelled, on the calling thread, which must not be one of the runtime's. What heals by
/// starting over is healed inside: after an error the process must exit.
pub fn run(
    log: &dyn Log,
    topics: &Topics,
    config: ActionsConfig,
    targets: Arc<Targets>,
    metrics: &Metrics,
    stop: &CancellationToken,
) -> Result<()> {
    match try_run(log, topics, config, targets, metrics, stop) {
        Err(LogError::Fatal(reason)) => Err(LogError::Fatal(reason)),
        Err(_) if stop.is_cancelled() => Ok(()),
        other => other,
    }
}

fn try_run(
    log: &dyn Log,
    topics: &Topics,
    config: ActionsConfig,
    targets: Arc<Targets>,
    metrics: &Metrics,
    stop: &CancellationToken,
) -> Result<()> {
    let group = format!("{}-{ROLE}", config.app);
    let transactional_id = format!("{}-{ROLE}-{}", config.app, config.instance);
    let options = |group: Option<String>, topics: Vec<String>| ConsumerOptions {
        group,
        topics,
        start: StartOffset::Earliest,
        read_committed: true,
    };
    let producer = insist(stop, || log.producer(&transactional_id))?;
    let control = insist(stop, || log.consumer(options(Some(group.clone()), vec![topics.control.clone()])))?;
    let outbox = insist(stop, || log.consumer(options(None, Vec::new())))?;
    let machine = new_machine(&config)?;
    let (ended_sender, ended) = mpsc::channel();
    let mut role = Role {
        log,
        topics,
        machine,
        config,
        targets,
        metrics,
        stop,
        control,
        outbox,
        producer,
        leads: false,
        must_resume: false,
        positions: BTreeMap::new(),
        behind: BTreeSet::new(),
        counted: HashMap::new(),
        running: HashMap::new(),
        started: 0,
        ended_sender,
        ended,
    };
    let result = role.run();
    role.stop_running();
    result
}

fn new_machine(config: &ActionsConfig) -> Result<Machine> {
    Machine::new(&config.actions, &config.public_url, config.limits).map_err(LogError::Fatal)
}

/// What a target said, on its way from the runtime to the role's thread.
struct Ended {
    run: String,
    number: u64,
    said: Said,
}

enum Said {
    Call(CallOutcome),
    Progress(Progress),
    Registry(std::result::Result<super::guard::Registry, String>),
}

struct Role<'a> {
    log: &'a dyn Log,
    topics: &'a Topics,
    config: ActionsConfig,
    targets: Arc<Targets>,
    metrics: &'a Metrics,
    stop: &'a CancellationToken,
    /// In the group; who has its partition leads.
    control: Box<dyn Consumer>,
    /// Assigned by hand.
    outbox: Box<dyn Consumer>,
    producer: Box<dyn Producer>,
    machine: Machine,
    leads: bool,
    /// Everything was dropped; it is taken up again after the next poll has told who leads.
    must_resume: bool,
    /// Next offset of every partition read.
    positions: BTreeMap<TopicPartition, i64>,
    /// Partitions of which not everything has been read that was there at the start: nothing is decided before.
    behind: BTreeSet<TopicPartition>,
    /// Transitions of each run that have been counted.
    counted: HashMap<String, usize>,
    running: HashMap<String, (u64, AbortHandle)>,
    started: u64,
    ended_sender: mpsc::Sender<Ended>,
    ended: mpsc::Receiver<Ended>,
}

impl Role<'_> {
    fn run(&mut self) -> Result<()> {
        while !self.stop.is_cancelled() {
            match self.turn() {
                Ok(()) => {}
                Err(LogError::Fatal(reason)) => return Err(LogError::Fatal(reason)),
                Err(error) => {
                    if self.stop.is_cancelled() {
                        break;
                    }
                    tracing::warn!(role = ROLE, %error, "starting over from what is committed");
                    self.must_resume = true;
                    self.stop_running();
                    std::thread::sleep(RETRY_PAUSE);
                }
            }
        }
        self.finish_running()
    }

    fn turn(&mut self) -> Result<()> {
        let patience = if self.machine.in_flight() > 0 { BUSY_POLL } else { IDLE_POLL };
        let polled = self.control.poll(RECORDS_PER_POLL, if self.leads { Duration::ZERO } else { patience })?;
        let mut commands = polled.records;
        for event in polled.events {
            commands = if self.handle(event)? { Records::default() } else { commands };
        }
        if !self.leads {
            return Ok(());
        }
        if self.must_resume {
            return self.resume(); // seeks back: what was polled will come again
        }
        let polled = self.outbox.poll(RECORDS_PER_POLL, patience)?;
        for event in &polled.events {
            if let ConsumerEvent::EndOfPartition { partition, .. } = event {
                self.behind.remove(partition);
            }
        }
        let mut effects = Vec::new();
        let mut moved = BTreeSet::new();
        self.read(&polled.records, &mut moved, &mut effects);
        self.read(&commands, &mut moved, &mut effects);
        self.take_answers(&mut effects);
        if self.behind.is_empty() {
            effects.extend(self.machine.step(Input::Decide, now_ms()));
        }
        let has_changed = !effects.is_empty();
        self.write(effects, &moved)?;
        for effect in self.machine.step(Input::Tick, now_ms()) {
            self.start(effect);
        }
        if has_changed {
            self.report();
        }
        Ok(())
    }

    /// True if what was polled together with this event is to be dropped.
    fn handle(&mut self, event: ConsumerEvent) -> Result<bool> {
        match event {
            ConsumerEvent::Assigned(partitions) => {
                self.leads = !partitions.is_empty();
                if self.leads {
                    tracing::info!(role = ROLE, "this process decides on actions");
                    self.must_resume = true;
                }
                Ok(true)
            }
            ConsumerEvent::Revoked(_) => {
                if self.leads {
                    tracing::info!(role = ROLE, "another process may decide on actions");
                    self.metrics.rebalances.with_label_values(&[ROLE]).inc();
                }
                self.leads = false;
                self.stop_running();
                self.machine = new_machine(&self.config)?;
                self.positions.clear();
                self.report();
                Ok(true)
            }
            ConsumerEvent::EndOfPartition { partition, .. } => {
                self.behind.remove(&partition);
                Ok(false)
            }
        }
    }

    /// Goes on where the group stands, with the runs that are recorded.
    fn resume(&mut self) -> Result<()> {
        self.stop_running();
        let mut machine = new_machine(&self.config)?;
        let (log, stop) = (self.log, self.stop);
        self.counted.clear();
        for record in insist(stop, || read_runs(log, &self.topics.actions))? {
            self.counted.insert(record.run.clone(), record.history.len());
            machine.restore(record);
        }
        let partitions = insist(stop, || log.partition_count(&self.topics.outbox))?.unwrap_or(0);
        let mut positions = BTreeMap::new();
        let mut from = Vec::new();
        for partition in 0..partitions {
            let place = TopicPartition::new(&self.topics.outbox, partition);
            let position = self.position(&place)?;
            from.push((place.clone(), Some(position)));
            positions.insert(place, position);
        }
        let control = TopicPartition::new(&self.topics.control, 0);
        let position = self.position(&control)?;
        insist(stop, || self.control.seek(&control, position))?;
        insist(stop, || self.outbox.assign(&from))?;
        positions.insert(control, position);
        self.behind = positions.keys().cloned().collect();
        self.positions = positions;
        self.machine = machine;
        self.must_resume = false;
        self.report();
        Ok(())
    }

    /// Where the group stands, or the earliest record that is still there.
    fn position(&self, place: &TopicPartition) -> Result<i64> {
        let earliest = insist(self.stop, || self.control.offsets(place))?.0;
        Ok(insist(self.stop, || self.control.committed(place))?.map_or(earliest, |position| position.max(earliest)))
    }

    fn read(&mut self, polled: &Records, moved: &mut BTreeSet<TopicPartition>, effects: &mut Vec<Effect>) {
        for record in polled.iter() {
            let place = TopicPartition { topic: record.topic.clone(), partition: record.partition };
            let Some(position) = self.positions.get_mut(&place) else { continue };
            if record.offset < *position {
                continue;
            }
            *position = record.offset + 1;
            moved.insert(place);
            let Some(value) = record.value else { continue };
            let input = if **record.topic == self.topics.control {
                serde_json::from_slice::<ControlRecord>(value).map(|command| Some(Input::Command(command)))
            } else {
                OutboxRecord::decode(value).map(|record| match record {
                    OutboxRecord::ActionRequest(request) => Some(Input::Request(request)),
                    OutboxRecord::Notification(notification) if notification.status == EpisodeStatus::Resolved => {
                        Some(Input::EpisodeEnded { episode_id: notification.episode_id })
                    }
                    OutboxRecord::Notification(_) => None,
                })
            };
            match input {
                Ok(Some(input)) => effects.extend(self.machine.step(input, now_ms())),
                Ok(None) => {}
                Err(error) => tracing::error!(
                    topic = %record.topic,
                    partition = record.partition,
                    offset = record.offset,
                    %error,
                    "a record cannot be read; it is passed over"
                ),
            }
        }
    }

    fn take_answers(&mut self, effects: &mut Vec<Effect>) {
        while let Ok(ended) = self.ended.try_recv() {
            self.settle(ended, effects);
        }
    }

    fn settle(&mut self, ended: Ended, effects: &mut Vec<Effect>) {
        let Ended { run, number, said } = ended;
        if self.running.get(&run).is_none_or(|(current, _)| *current != number) {
            return; // stopped when another process took over
        }
        self.running.remove(&run);
        let input = match said {
            Said::Call(outcome) => {
                let action = self.machine.runs().find(|record| record.run == run).map(|record| record.action.clone());
                let labels = [action.as_deref().unwrap_or_default(), outcome.label()];
                self.metrics.action_calls.with_label_values(&labels).inc();
                Input::Called { run, outcome, jitter: rand::random() }
            }
            Said::Progress(progress) => Input::Progress { run, progress },
            Said::Registry(answer) => Input::Registry { run, answer },
        };
        effects.extend(self.machine.step(input, now_ms()));
    }

    /// One transaction: records, and where the group stands in every partition that was read, `control` always.
    fn write(&mut self, effects: Vec<Effect>, moved: &BTreeSet<TopicPartition>) -> Result<()> {
        let mut records = Vec::new();
        let mut changed = Vec::new();
        for effect in effects {
            let (key, value) = match effect {
                Effect::Record(record) => {
                    let Ok((key, value)) = record.encode() else {
                        tracing::error!(run = record.run, "a run cannot be written as json");
                        continue;
                    };
                    changed.push(record);
                    (key, Some(value))
                }
                Effect::Forget { run } => (run.into_bytes(), None),
                Effect::Call(_) | Effect::AskProgress(_) | Effect::AskRegistry(_) => continue,
            };
            let topic = self.topics.actions.as_str().into();
            records.push(OutRecord { topic, partition: None, key: Some(key), value, headers: Vec::new() });
        }
        if records.is_empty() && moved.is_empty() {
            return Ok(());
        }
        let is_meant = |place: &TopicPartition| moved.contains(place) || *place.topic == *self.topics.control;
        let offsets: Vec<(TopicPartition, i64)> = self
            .positions
            .iter()
            .filter(|(place, _)| is_meant(place))
            .map(|(place, position)| (place.clone(), *position))
            .collect();
        if let Err(error) = self.transact(&records, &offsets) {
            if !matches!(error, LogError::Fatal(_)) {
                self.metrics.transactions_aborted.with_label_values(&[ROLE]).inc();
                insist(self.stop, || self.producer.abort())?;
            }
            return Err(error);
        }
        for record in changed {
            self.tell(&record);
        }
        Ok(())
    }

    fn transact(&mut self, records: &[OutRecord], offsets: &[(TopicPartition, i64)]) -> Result<()> {
        let (stop, producer) = (self.stop, &mut self.producer);
        insist(stop, || producer.begin())?;
        for record in records {
            insist(stop, || producer.send(record.clone()))?;
        }
        let group = self.control.group()?;
        insist(stop, || producer.send_offsets(offsets, &*group))?;
        insist(stop, || producer.commit())
    }

    /// Changes of state are counted and told once they are durable.
    fn tell(&mut self, record: &RunRecord) {
        let (run, action, model) = (&record.run, &record.action, &record.request.model);
        let counted = self.counted.insert(run.clone(), record.history.len()).unwrap_or(0);
        for Transition { state, reason, .. } in record.history.iter().skip(counted) {
            let word = state.word();
            self.metrics.action_transitions.with_label_values(&[action.as_str(), word]).inc();
            match state {
                RunState::Failed => tracing::error!(run, action, model, reason, "action: {word}"),
                RunState::Suspended => tracing::warn!(run, action, model, reason, "action: {word}"),
                _ => tracing::info!(run, action, model, reason, "action: {word}"),
            }
        }
        if let (RunState::Calling, Some(error)) = (record.state, &record.last_error) {
            tracing::warn!(run, action, model, error, attempts = record.attempts, "action: to be called again");
        }
    }

    fn start(&mut self, effect: Effect) {
        self.started += 1;
        let number = self.started;
        let (Effect::Call(record) | Effect::AskProgress(record) | Effect::AskRegistry(record)) = &effect else {
            return;
        };
        let run = record.run.clone();
        let (targets, sender, limit) = (self.targets.clone(), self.ended_sender.clone(), self.config.call_timeout);
        let running_run = run.clone();
        let task = self.config.runtime.spawn(async move {
            let answer = AssertUnwindSafe(ask(&targets, &effect)).catch_unwind();
            let said = match tokio::time::timeout(limit, answer).await {
                Ok(Ok(said)) => said,
                Ok(Err(_)) => unanswered(&effect, "the target's code panicked".into()),
                Err(_) => unanswered(&effect, format!("no answer within {} s", limit.as_secs_f32())),
            };
            // Nobody listens any more only when the role has ended.
            let _ = sender.send(Ended { run, number, said });
        });
        self.running.insert(running_run, (number, task.abort_handle()));
    }

    fn stop_running(&mut self) {
        for (_, (_, task)) in self.running.drain() {
            task.abort();
        }
    }

    /// On a stop: waits a little for calls under way, so that what was accepted is recorded and not called again.
    fn finish_running(&mut self) -> Result<()> {
        let deadline = Instant::now() + self.config.stop_grace;
        while self.leads && !self.must_resume && !self.running.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(ended) = self.ended.recv_timeout(left) else { break };
            let mut effects = Vec::new();
            self.settle(ended, &mut effects);
            match self.write(effects, &BTreeSet::new()) {
                Err(LogError::Fatal(reason)) => return Err(LogError::Fatal(reason)),
                Err(_) => break, // the next leader calls again, with the same key
                Ok(()) => {}
            }
        }
        Ok(())
    }

    /// Gauges of what is held. A process that does not lead shows none.
    fn report(&self) {
        let mut counts: BTreeMap<(&str, RunState), i64> = BTreeMap::new();
        let mut last_success: BTreeMap<(&str, &str), i64> = BTreeMap::new();
        for action in self.config.actions.keys() {
            for state in RunState::ALL {
                counts.insert((action, state), 0);
            }
        }
        for record in self.machine.runs() {
            *counts.entry((&record.action, record.state)).or_insert(0) += 1;
            if let (RunState::Succeeded, Some(ended_ms)) = (record.state, record.ended_at_ms) {
                let newest = last_success.entry((&record.action, &record.request.model)).or_insert(ended_ms);
                *newest = ended_ms.max(*newest);
            }
        }
        for ((action, state), count) in counts {
            self.metrics.action_runs.with_label_values(&[action, state.word()]).set(count);
        }
        for ((action, model), ended_ms) in last_success {
            let labels = [action, model];
            self.metrics.action_last_success_seconds.with_label_values(&labels).set(ended_ms as f64 / 1_000.0);
        }
    }
}

async fn ask(targets: &Targets, effect: &Effect) -> Said {
    let (Effect::Call(record) | Effect::AskProgress(record) | Effect::AskRegistry(record)) = effect else {
        return unanswered(effect, "nothing was asked".into());
    };
    let Some(target) = targets.get(&record.action) else {
        let reason = format!("action `{}` is no longer configured", record.action);
        return match effect {
            Effect::Call(_) => Said::Call(CallOutcome::Permanent { reason }),
            other => unanswered(other, reason),
        };
    };
    match effect {
        Effect::AskProgress(record) => Said::Progress(target.progress(record).await),
        Effect::AskRegistry(record) => Said::Registry(target.registry(record).await),
        _ => Said::Call(target.call(record).await),
    }
}

fn unanswered(effect: &Effect, reason: String) -> Said {
    match effect {
        Effect::AskProgress(_) => Said::Progress(Progress::Unknown { reason }),
        Effect::AskRegistry(_) => Said::Registry(Err(reason)),
        _ => Said::Call(CallOutcome::Retry { reason, after_ms: None }),
    }
}

/// Makes a call again while its error says that this may help. After that the transaction is given up.
fn insist<T>(stop: &CancellationToken, mut call: impl FnMut() -> Result<T>) -> Result<T> {
    let mut calls = 1;
    loop {
        match call() {
            Err(LogError::Retry(reason)) if calls >= MAX_CALLS || stop.is_cancelled() => {
                return Err(LogError::Abort(reason));
            }
            Err(LogError::Retry(_)) => {
                calls += 1;
                std::thread::sleep(RETRY_PAUSE);
            }
            other => return other,
        }
    }
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}
