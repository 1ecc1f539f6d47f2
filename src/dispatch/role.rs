//! The dispatch role: reads `outbox`, records in `deliveries`, has attempts made.
//!
//! One transaction takes the offsets of what was read together with a pending record for each delivery; later ones
//! carry what became of the attempts. An attempt starts only after the pending record is durable. Every
//! transaction names offsets of the group, records of outcomes too: a predecessor that has lost its partitions
//! without noticing is fenced, and cannot write over what its successor has recorded.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio_util::sync::CancellationToken;

use super::attempts::{Attempts, Ended};
use super::control::ControlRecord;
use super::control_follower::ControlFollower;
use super::delivery::DeliveryKey;
use super::receiver::{DeliveryContext, Receivers};
use super::reporting;
use super::restore::read_deliveries;
use super::schedule::{Effect, Input, Limits, Parcel, Policy, Schedule};
use crate::config::service::Service;
use crate::ingest::role::StatusSink;
use crate::log::topics::Topics;
use crate::log::{
    Consumer, ConsumerEvent, ConsumerOptions, Log, LogError, OutRecord, Producer, Records, Result, StartOffset,
    TopicPartition,
};
use crate::rules::action_request::OutboxRecord;
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
/// How often gauges are set, though no record was written.
const GAUGES_EVERY: Duration = Duration::from_secs(1);

#[derive(Clone)]
pub struct DispatchConfig {
    pub app: String,
    pub instance: String,
    /// What links in notifications start with.
    pub public_url: String,
    pub limits: Limits,
    /// What the rules files say of receivers and routes.
    pub policy: Arc<Policy>,
    /// An attempt that takes longer than this is stopped and counts as a timeout.
    pub attempt_timeout: Duration,
    /// How long a stop waits for attempts in flight, so that what was sent is recorded.
    pub stop_grace: Duration,
    /// Where attempts run.
    pub runtime: tokio::runtime::Handle,
    /// Hears once all commands have been read and deliveries go on.
    pub status: StatusSink,
}

impl DispatchConfig {
    pub fn new(service: &Service, policy: Arc<Policy>, runtime: tokio::runtime::Handle) -> Self {
        Self {
            app: service.app.clone(),
            instance: service.instance.clone(),
            public_url: public_url(service),
            limits: Limits {
                first_retry_ms: service.dispatch.first_retry.ms,
                max_retry_ms: service.dispatch.max_retry.ms,
                expire_after_ms: service.dispatch.expire_after.ms,
                ..Limits::default()
            },
            policy,
            attempt_timeout: Duration::from_secs(60),
            stop_grace: Duration::from_secs(5),
            runtime,
            status: Arc::new(|_| {}),
        }
    }
}

/// What links in notifications start with, without a slash at the end.
pub fn public_url(service: &Service) -> String {
    let url = service.http.public_url.clone().unwrap_or_else(|| format!("http://{}", service.http.bind));
    url.trim_end_matches('/').to_string()
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
    let (control, commands) = insist(stop, || ControlFollower::start(log, &topics.control, stop))?;
    let mut schedule = Schedule::new(config.limits, config.policy.clone());
    for record in commands {
        schedule.step(Input::Control { record: Box::new(record) }, now_ms());
    }
    (config.status)(&Ok(()));
    let seconds = metrics.delivery_seconds.clone();
    let mut role = Role {
        log,
        topics,
        schedule,
        control,
        attempts: Attempts::new(receivers.clone(), config.runtime.clone(), config.attempt_timeout, seconds),
        config,
        receivers,
        metrics,
        stop,
        consumer,
        producer,
        positions: BTreeMap::new(),
        must_resume: false,
        lag_reported: Instant::now(),
        gauges_set: Instant::now(),
    };
    let result = role.run();
    role.attempts.stop(|_| true);
    result
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
    control: ControlFollower,
    schedule: Schedule,
    attempts: Attempts,
    /// Next outbox offset of every partition owned.
    positions: BTreeMap<i32, i64>,
    /// Everything was dropped; it is taken up again after the next poll has told who owns what.
    must_resume: bool,
    lag_reported: Instant,
    gauges_set: Instant,
}

/// What one turn writes: records, what they say in effect, and partitions that were read further.
#[derive(Default)]
struct Turn {
    effects: Vec<Effect>,
    moved: BTreeSet<i32>,
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
        let mut turn = Turn::default();
        if self.must_resume {
            self.resume()?; // seeks back: what was polled will come again
        } else if self.schedule.is_full() {
            self.put_back(&polled.records)?;
        } else {
            self.read_outbox(&polled.records, &mut turn);
        }
        self.follow_control(&mut turn)?;
        while let Some(ended) = self.attempts.try_next() {
            self.settle(ended, &mut turn);
        }
        self.find(&turn)?;
        turn.effects.extend(self.schedule.step(Input::Plan, now_ms()));
        let has_changed = !turn.effects.is_empty();
        self.write(turn)?;
        for effect in self.schedule.step(Input::Tick, now_ms()) {
            if let Effect::Attempt { key, parcel, telling, attempt } = effect {
                let context = DeliveryContext { public_url: self.config.public_url.clone(), attempt, telling };
                self.start(key, parcel, context);
            }
        }
        if has_changed || self.gauges_set.elapsed() >= GAUGES_EVERY {
            self.gauges_set = Instant::now();
            self.set_gauges();
        }
        self.report_lag();
        Ok(())
    }

    fn start(&mut self, key: DeliveryKey, parcel: Parcel, context: DeliveryContext) {
        if matches!(parcel, Parcel::Digest(_)) {
            self.metrics.delivery_digests.with_label_values(&[key.receiver.as_str()]).inc();
        }
        self.attempts.start(key, parcel, context);
    }

    /// Commands of people.
    fn follow_control(&mut self, turn: &mut Turn) -> Result<()> {
        let commands: Vec<ControlRecord> = match self.control.poll() {
            Ok(commands) => commands,
            Err(LogError::Fatal(reason)) => return Err(LogError::Fatal(reason)),
            Err(error) => {
                tracing::warn!(role = ROLE, %error, "commands cannot be read; trying again");
                return Ok(());
            }
        };
        for record in commands {
            tracing::info!(role = ROLE, id = record.id, by = record.by, command = ?record.command, "commanded");
            turn.effects.extend(self.schedule.step(Input::Control { record: Box::new(record) }, now_ms()));
        }
        Ok(())
    }

    /// Deliveries that are done and are to be sent again are read back.
    fn find(&mut self, turn: &Turn) -> Result<()> {
        let mut wanted: BTreeMap<i32, BTreeSet<&DeliveryKey>> = BTreeMap::new();
        for effect in &turn.effects {
            if let Effect::Find { key, partition } = effect {
                wanted.entry(*partition).or_default().insert(key);
            }
        }
        for (partition, keys) in wanted {
            let read = || read_deliveries(self.log, &self.topics.deliveries, &[partition], self.stop);
            for found in insist(self.stop, read)? {
                if keys.contains(&found.record.key()) {
                    self.schedule.restore(found.record, found.partition);
                }
            }
        }
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
                self.attempts.stop(|key| abandoned.contains(key));
                self.set_gauges();
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
        self.schedule.own(partitions);
        for delivery in restored {
            self.schedule.restore(delivery.record, delivery.partition);
        }
        self.set_gauges();
        Ok(())
    }

    /// Drops everything that is not committed; `resume` takes up the rest.
    fn start_over(&mut self) {
        self.attempts.stop(|_| true);
        self.schedule.clear();
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

    fn read_outbox(&mut self, polled: &Records, turn: &mut Turn) {
        for record in polled.iter() {
            let Some(position) = self.positions.get_mut(&record.partition) else { continue };
            if record.offset < *position {
                continue;
            }
            *position = record.offset + 1;
            turn.moved.insert(record.partition);
            let Some(value) = record.value else { continue };
            let notification = match OutboxRecord::decode(value) {
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
            turn.effects.extend(self.schedule.step(input, now_ms()));
        }
    }

    fn settle(&mut self, ended: Ended, turn: &mut Turn) {
        let Ended { key, outcome, .. } = ended;
        self.metrics.delivery_attempts.with_label_values(&[key.receiver.as_str(), outcome.label()]).inc();
        let input = Input::Attempted { key, outcome, jitter: rand::random() };
        turn.effects.extend(self.schedule.step(input, now_ms()));
    }

    /// The record of an effect, for the `deliveries` topic.
    fn record(&self, effect: &Effect) -> Option<OutRecord> {
        let (key, value, partition) = match effect {
            Effect::Record { record, partition } => {
                let value = serde_json::to_vec(record);
                let value = value.inspect_err(|error| {
                    tracing::error!(key = %record.key(), %error, "a delivery cannot be written as json");
                });
                (record.key(), Some(value.ok()?), *partition)
            }
            Effect::Forget { key, partition } => (key.clone(), None, *partition),
            Effect::Find { .. } | Effect::Attempt { .. } => return None,
        };
        Some(OutRecord {
            topic: self.topics.deliveries.as_str().into(),
            partition: Some(partition),
            key: Some(key.to_string().into_bytes()),
            value,
            headers: Vec::new(),
        })
    }

    /// One transaction: records, and where the group stands in every partition they or the reading touched.
    fn write(&mut self, turn: Turn) -> Result<()> {
        let records: Vec<OutRecord> = turn.effects.iter().filter_map(|effect| self.record(effect)).collect();
        let mut touched = turn.moved;
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
            Ok(()) => {
                for effect in &turn.effects {
                    if let Effect::Record { record, .. } = effect {
                        reporting::tell(record, self.metrics);
                    }
                }
                Ok(())
            }
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

    /// On a stop: waits a little for attempts in flight, so that what arrives is recorded and not sent again.
    fn finish_attempts(&mut self) -> Result<()> {
        let deadline = Instant::now() + self.config.stop_grace;
        while !self.attempts.is_idle() {
            let left = deadline.saturating_duration_since(Instant::now());
            let Some(ended) = self.attempts.next_within(left) else { break };
            let mut turn = Turn::default();
            self.settle(ended, &mut turn);
            match self.write(turn) {
                Err(LogError::Fatal(reason)) => return Err(LogError::Fatal(reason)),
                Err(_) => break, // the next owner sends it again, with the same id
                Ok(()) => {}
            }
        }
        Ok(())
    }

    fn set_gauges(&self) {
        reporting::gauges(&self.schedule, self.receivers.keys(), self.metrics, now_ms());
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
