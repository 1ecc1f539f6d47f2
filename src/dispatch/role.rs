//! The dispatch role: reads `outbox`, records in `deliveries`, has attempts made.
//!
//! One transaction takes the offsets of what was read together with a pending record for each delivery; later ones
//! carry what became of the attempts. An attempt starts only after the pending record is durable. Every
//! transaction names offsets of the group, records of outcomes too: a predecessor that has lost its partitions
//! without noticing is fenced, and cannot write over what its successor has recorded.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures::FutureExt;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use super::delivery::{DeliveryKey, DeliveryRecord, DeliveryStatus};
use super::receiver::{DeliveryContext, Outcome, Receivers, Telling};
use super::restore::read_deliveries;
use super::schedule::{Effect, Input, Limits, Schedule};
use crate::config::service::Service;
use crate::log::topics::Topics;
use crate::log::{
    Consumer, ConsumerEvent, ConsumerOptions, Log, LogError, OutRecord, Producer, Records, Result, StartOffset,
    TopicPartition,
};
use crate::rules::action_request::OutboxRecord;
use crate::rules::episode::Notification;
use crate::telemetry::Metrics;

const ROLE: &str = "dispatch";
const RECORDS_PER_POLL: usize = 200;
/// Longest wait for outbox records; outcomes of attempts wait as long as that.
const IDLE_POLL: Duration = Duration::from_millis(100);
/// The same while attempts are in flight.
const BUSY_POLL: Duration = Duration::from_millis(10);
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// Tries of one call to the log before the transaction is given up (30 s).
const MAX_CALLS: u32 = 300;
const LAG_EVERY: Duration = Duration::from_secs(10);

#[derive(Debug, Clone)]
pub struct DispatchConfig {
    pub app: String,
    pub instance: String,
    /// What links in notifications start with.
    pub public_url: String,
    pub limits: Limits,
    /// An attempt that takes longer than this is stopped and counts as a timeout.
    pub attempt_timeout: Duration,
    /// How long a stop waits for attempts in flight, so that what was sent is recorded.
    pub stop_grace: Duration,
    /// Where attempts run.
    pub runtime: tokio::runtime::Handle,
}

impl DispatchConfig {
    pub fn new(service: &Service, runtime: tokio::runtime::Handle) -> Self {
        let public_url = service.http.public_url.clone().unwrap_or_else(|| format!("http://{}", service.http.bind));
        Self {
            app: service.app.clone(),
            instance: service.instance.clone(),
            public_url: public_url.trim_end_matches('/').to_string(),
            limits: Limits {
                first_retry_ms: service.dispatch.first_retry.ms,
                max_retry_ms: service.dispatch.max_retry.ms,
                expire_after_ms: service.dispatch.expire_after.ms,
                ..Limits::default()
            },
            attempt_timeout: Duration::from_secs(60),
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
    config: DispatchConfig,
    receivers: Arc<Receivers>,
    metrics: &Metrics,
    stop: &CancellationToken,
) -> Result<()> {
    match try_run(log, topics, config, receivers, metrics, stop) {
        Err(LogError::Fatal(reason)) => Err(LogError::Fatal(reason)),
        Err(_) if stop.is_cancelled() => Ok(()),
        other => other,
    }
}

fn try_run(
    log: &dyn Log,
    topics: &Topics,
    config: DispatchConfig,
    receivers: Arc<Receivers>,
    metrics: &Metrics,
    stop: &CancellationToken,
) -> Result<()> {
    let group = format!("{}-{ROLE}", config.app);
    let transactional_id = format!("{}-{ROLE}-{}", config.app, config.instance);
    let producer = insist(stop, || log.producer(&transactional_id))?;
    let consumer = insist(stop, || {
        log.consumer(ConsumerOptions {
            group: Some(group.clone()),
            topics: vec![topics.outbox.clone()],
            start: StartOffset::Earliest,
            read_committed: true,
        })
    })?;
    let (ended_sender, ended) = mpsc::channel();
    let mut role = Role {
        log,
        topics,
        schedule: Schedule::new(config.limits),
        config,
        receivers,
        metrics,
        stop,
        consumer,
        producer,
        positions: BTreeMap::new(),
        must_resume: false,
        running: HashMap::new(),
        attempts_started: 0,
        ended_sender,
        ended,
        lag_reported: Instant::now(),
    };
    let result = role.run();
    role.stop_attempts(|_| true);
    result
}

/// How an attempt ended, on its way from the runtime to the role's thread.
struct Ended {
    key: DeliveryKey,
    attempt_id: u64,
    outcome: Outcome,
}

struct Role<'a> {
    log: &'a dyn Log,
    topics: &'a Topics,
    config: DispatchConfig,
    receivers: Arc<Receivers>,
    metrics: &'a Metrics,
    stop: &'a CancellationToken,
    consumer: Box<dyn Consumer>,
    producer: Box<dyn Producer>,
    schedule: Schedule,
    /// Next outbox offset of every partition owned.
    positions: BTreeMap<i32, i64>,
    /// Everything was dropped; it is taken up again after the next poll has told who owns what.
    must_resume: bool,
    running: HashMap<DeliveryKey, (u64, AbortHandle)>,
    attempts_started: u64,
    ended_sender: mpsc::Sender<Ended>,
    ended: mpsc::Receiver<Ended>,
    lag_reported: Instant,
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
                    self.start_over();
                    std::thread::sleep(RETRY_PAUSE);
                }
            }
        }
        self.finish_attempts()
    }

    fn turn(&mut self) -> Result<()> {
        let polled = self.consumer.poll(RECORDS_PER_POLL, self.patience())?;
        for event in polled.events {
            self.handle(event)?;
        }
        let mut records = Vec::new();
        let mut moved = BTreeSet::new();
        if self.must_resume {
            self.resume()?; // seeks back: what was polled will come again
        } else if self.schedule.is_full() {
            self.put_back(&polled.records)?;
        } else {
            self.read_outbox(&polled.records, &mut records, &mut moved);
        }
        self.take_outcomes(&mut records);
        let has_changed = !records.is_empty();
        self.write(records, moved)?;
        for effect in self.schedule.step(Input::Tick, now_ms()) {
            if let Effect::Attempt { key, notification, attempt } = effect {
                self.start(key, notification, attempt);
            }
        }
        if has_changed {
            self.report_pending();
        }
        self.report_lag();
        Ok(())
    }

    fn patience(&self) -> Duration {
        if self.schedule.in_flight() > 0 {
            return BUSY_POLL;
        }
        let wait_ms = self.schedule.next_due_ms().map_or(i64::MAX, |due_ms| due_ms - now_ms());
        IDLE_POLL.min(Duration::from_millis(wait_ms.max(0) as u64))
    }

    fn handle(&mut self, event: ConsumerEvent) -> Result<()> {
        match event {
            ConsumerEvent::Assigned(partitions) => {
                let partitions = partitions.iter().map(|place| place.partition).collect::<Vec<_>>();
                tracing::info!(role = ROLE, ?partitions, "partitions assigned");
                if self.must_resume { Ok(()) } else { self.adopt(&partitions) }
            }
            ConsumerEvent::Revoked(partitions) => {
                let lost: BTreeSet<i32> = partitions.iter().map(|place| place.partition).collect();
                tracing::info!(role = ROLE, partitions = ?lost, "partitions revoked");
                self.metrics.rebalances.with_label_values(&[ROLE]).inc();
                self.positions.retain(|partition, _| !lost.contains(partition));
                let abandoned = self.schedule.drop_partitions(|partition| lost.contains(&partition));
                self.stop_attempts(|key| abandoned.contains(key));
                self.report_pending();
                Ok(())
            }
            ConsumerEvent::EndOfPartition { .. } => Ok(()),
        }
    }

    /// Goes on where the group stands in these partitions, with the deliveries recorded there.
    fn adopt(&mut self, partitions: &[i32]) -> Result<()> {
        let restored = insist(self.stop, || read_deliveries(self.log, &self.topics.deliveries, partitions, self.stop))?;
        for &partition in partitions {
            let place = TopicPartition::new(&self.topics.outbox, partition);
            let position = match insist(self.stop, || self.consumer.committed(&place))? {
                Some(committed) => committed,
                None => insist(self.stop, || self.consumer.offsets(&place))?.0,
            };
            self.positions.insert(partition, position);
        }
        for delivery in restored {
            self.schedule.restore(delivery.record, delivery.partition);
        }
        self.report_pending();
        Ok(())
    }

    /// Drops everything that is not committed; `resume` takes up the rest.
    fn start_over(&mut self) {
        self.stop_attempts(|_| true);
        self.schedule = Schedule::new(self.config.limits);
        self.positions.clear();
        self.must_resume = true;
    }

    fn resume(&mut self) -> Result<()> {
        let mut partitions: Vec<i32> = self.consumer.assignment().iter().map(|place| place.partition).collect();
        partitions.sort_unstable();
        self.adopt(&partitions)?;
        for (&partition, &position) in &self.positions {
            let place = TopicPartition::new(&self.topics.outbox, partition);
            insist(self.stop, || self.consumer.seek(&place, position))?;
        }
        self.must_resume = false;
        Ok(())
    }

    /// More deliveries are pending than may be held: these records are read again later.
    fn put_back(&mut self, polled: &Records) -> Result<()> {
        let read: BTreeSet<i32> = polled.iter().map(|record| record.partition).collect();
        for (&partition, &position) in self.positions.iter().filter(|(partition, _)| read.contains(partition)) {
            let place = TopicPartition::new(&self.topics.outbox, partition);
            insist(self.stop, || self.consumer.seek(&place, position))?;
        }
        if !read.is_empty() {
            std::thread::sleep(RETRY_PAUSE);
        }
        Ok(())
    }

    fn read_outbox(&mut self, polled: &Records, records: &mut Vec<OutRecord>, moved: &mut BTreeSet<i32>) {
        for record in polled.iter() {
            let Some(position) = self.positions.get_mut(&record.partition) else { continue };
            if record.offset < *position {
                continue;
            }
            *position = record.offset + 1;
            moved.insert(record.partition);
            let Some(value) = record.value else { continue };
            let notification: Notification = match OutboxRecord::decode(value) {
                Ok(OutboxRecord::Notification(notification)) => *notification,
                Ok(OutboxRecord::ActionRequest(_)) => continue,
                Err(error) => {
                    tracing::error!(
                        topic = %record.topic,
                        partition = record.partition,
                        offset = record.offset,
                        %error,
                        "a notification cannot be read; it is passed over"
                    );
                    continue;
                }
            };
            let input = Input::Notification { notification: Arc::new(notification), partition: record.partition };
            let effects = self.schedule.step(input, now_ms());
            self.record(effects, records);
        }
    }

    fn take_outcomes(&mut self, records: &mut Vec<OutRecord>) {
        while let Ok(ended) = self.ended.try_recv() {
            self.settle(ended, records);
        }
    }

    fn settle(&mut self, ended: Ended, records: &mut Vec<OutRecord>) {
        if self.running.get(&ended.key).is_none_or(|(attempt_id, _)| *attempt_id != ended.attempt_id) {
            return; // stopped when its partition was revoked
        }
        self.running.remove(&ended.key);
        self.metrics.delivery_attempts.with_label_values(&[ended.key.receiver.as_str(), ended.outcome.label()]).inc();
        let input = Input::Attempted { key: ended.key, outcome: ended.outcome, jitter: rand::random() };
        let effects = self.schedule.step(input, now_ms());
        for effect in &effects {
            if let Effect::Record { record, .. } = effect {
                self.tell(record);
            }
        }
        self.record(effects, records);
    }

    fn tell(&self, record: &DeliveryRecord) {
        let (notification, receiver, attempts) = (&record.notification.id, &record.receiver, record.attempts);
        let error = record.last_error.as_deref().unwrap_or_default();
        match record.status {
            DeliveryStatus::Delivered if error.is_empty() => {
                tracing::info!(notification, receiver, attempts, "delivered");
            }
            DeliveryStatus::Delivered => tracing::warn!(notification, receiver, attempts, error, "delivered in part"),
            DeliveryStatus::Pending => tracing::warn!(notification, receiver, attempts, error, "will be tried again"),
            DeliveryStatus::Failed => tracing::error!(notification, receiver, attempts, error, "refused for good"),
            DeliveryStatus::Expired => {
                self.metrics.deliveries_expired.with_label_values(&[receiver.as_str()]).inc();
                tracing::error!(notification, receiver, attempts, error, "given up: not delivered in time");
            }
            DeliveryStatus::Superseded => {}
        }
    }

    fn record(&self, effects: Vec<Effect>, records: &mut Vec<OutRecord>) {
        for effect in effects {
            let Effect::Record { record, partition } = effect else { continue };
            match serde_json::to_vec(&record) {
                Ok(value) => records.push(OutRecord {
                    topic: self.topics.deliveries.as_str().into(),
                    partition: Some(partition),
                    key: Some(record.key().to_string().into_bytes()),
                    value: Some(value),
                    headers: Vec::new(),
                }),
                Err(error) => tracing::error!(key = %record.key(), %error, "a delivery cannot be written as json"),
            }
        }
    }

    /// One transaction: records, and where the group stands in every partition they or the reading touched.
    fn write(&mut self, records: Vec<OutRecord>, moved: BTreeSet<i32>) -> Result<()> {
        let mut touched = moved;
        touched.extend(records.iter().filter_map(|record| record.partition));
        if touched.is_empty() {
            return Ok(());
        }
        let offsets: Vec<(TopicPartition, i64)> = touched
            .iter()
            .filter_map(|partition| self.positions.get(partition).map(|position| (*partition, *position)))
            .map(|(partition, position)| (TopicPartition::new(&self.topics.outbox, partition), position))
            .collect();
        match self.transact(&records, &offsets) {
            Ok(()) => Ok(()),
            Err(LogError::Fatal(reason)) => Err(LogError::Fatal(reason)),
            Err(error) => {
                self.metrics.transactions_aborted.with_label_values(&[ROLE]).inc();
                insist(self.stop, || self.producer.abort())?;
                Err(error)
            }
        }
    }

    fn transact(&mut self, records: &[OutRecord], offsets: &[(TopicPartition, i64)]) -> Result<()> {
        let (stop, producer) = (self.stop, &mut self.producer);
        insist(stop, || producer.begin())?;
        for record in records {
            insist(stop, || producer.send(record.clone()))?;
        }
        let group = self.consumer.group()?;
        insist(stop, || producer.send_offsets(offsets, &*group))?;
        insist(stop, || producer.commit())
    }

    fn start(&mut self, key: DeliveryKey, notification: Arc<Notification>, attempt: u32) {
        self.attempts_started += 1;
        let attempt_id = self.attempts_started;
        let context = DeliveryContext { public_url: self.config.public_url.clone(), attempt, telling: Telling::News };
        let receivers = self.receivers.clone();
        let sender = self.ended_sender.clone();
        let limit = self.config.attempt_timeout;
        let seconds = self.metrics.delivery_seconds.clone();
        let running_key = key.clone();
        let task = self.config.runtime.spawn(async move {
            let started = Instant::now();
            let outcome = match receivers.get(&key.receiver) {
                Some(receiver) => {
                    let delivery = AssertUnwindSafe(receiver.deliver(&notification, &context)).catch_unwind();
                    match tokio::time::timeout(limit, delivery).await {
                        Ok(Ok(outcome)) => outcome,
                        Ok(Err(_)) => Outcome::retry("the receiver's code panicked"),
                        Err(_) => Outcome::retry(format!("no answer within {} s", limit.as_secs_f32())),
                    }
                }
                None => Outcome::permanent(format!("receiver `{}` is not configured", key.receiver)),
            };
            seconds.observe(started.elapsed().as_secs_f64());
            // Nobody listens any more only when the role has ended.
            let _ = sender.send(Ended { key, attempt_id, outcome });
        });
        self.running.insert(running_key, (attempt_id, task.abort_handle()));
    }

    fn stop_attempts(&mut self, is_meant: impl Fn(&DeliveryKey) -> bool) {
        self.running.retain(|key, (_, task)| {
            let is_stopped = is_meant(key);
            if is_stopped {
                task.abort();
            }
            !is_stopped
        });
    }

    /// On a stop: waits a little for attempts in flight, so that what arrives is recorded and not sent again.
    fn finish_attempts(&mut self) -> Result<()> {
        let deadline = Instant::now() + self.config.stop_grace;
        while !self.running.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(ended) = self.ended.recv_timeout(left) else { break };
            let mut records = Vec::new();
            self.settle(ended, &mut records);
            match self.write(records, BTreeSet::new()) {
                Err(LogError::Fatal(reason)) => return Err(LogError::Fatal(reason)),
                Err(_) => break, // the next owner sends it again, with the same id
                Ok(()) => {}
            }
        }
        Ok(())
    }

    fn report_pending(&self) {
        let pending = self.schedule.pending_by_receiver();
        for receiver in self.receivers.keys() {
            let count = pending.get(receiver.as_str()).copied().unwrap_or(0);
            self.metrics.deliveries_pending.with_label_values(&[receiver.as_str()]).set(count as i64);
        }
    }

    fn report_lag(&mut self) {
        if self.lag_reported.elapsed() < LAG_EVERY {
            return;
        }
        self.lag_reported = Instant::now();
        let mut lag = 0;
        for (&partition, &position) in &self.positions {
            let place = TopicPartition::new(&self.topics.outbox, partition);
            let Ok((_, high)) = self.consumer.offsets(&place) else { return };
            lag += (high - position).max(0);
        }
        let labels = [ROLE, self.topics.outbox.as_str()];
        self.metrics.consumer_lag_records.with_label_values(&labels).set(lag);
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
