//! The role on the embedded log: topics, an outbox to write to, receivers, and a thread that runs it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use driftline::dispatch::delivery::{DeliveryRecord, DeliveryStatus};
use driftline::dispatch::receiver::Receivers;
use driftline::dispatch::restore::read_deliveries;
use driftline::dispatch::role::{DispatchConfig, run};
use driftline::dispatch::schedule::{Limits, Policy};
use driftline::log::embedded::EmbeddedLog;
use driftline::log::topics::Topics;
use driftline::log::{Log, LogError, OutRecord};
use driftline::rules::episode::Notification;
use driftline::telemetry::Metrics;
use tokio_util::sync::CancellationToken;

pub const PARTITIONS: i32 = 2;

/// Fast enough for tests, and no two waits alike.
pub const LIMITS: Limits = Limits {
    first_retry_ms: 5,
    max_retry_ms: 40,
    expire_after_ms: 60_000,
    max_in_flight: 16,
    max_in_flight_per_receiver: 8,
    max_pending: 1_000,
    max_recent: 1_000,
    ..Limits::DEFAULT
};

pub struct Harness {
    pub log: EmbeddedLog,
    pub topics: Topics,
    pub metrics: Metrics,
    pub limits: Limits,
    /// `None`: whatever receivers there are, each told once, at once.
    pub policy: Option<Arc<Policy>>,
    pub runtime: tokio::runtime::Runtime,
}

/// One dispatch role on a thread of its own, in a process of its own.
pub struct Running {
    pub process: EmbeddedLog,
    stop: CancellationToken,
    thread: JoinHandle<Result<(), LogError>>,
}

impl Running {
    pub fn stop(self) -> Result<(), LogError> {
        self.stop.cancel();
        self.thread.join().unwrap()
    }

    /// Waits until the role ends by itself.
    pub fn ended(self) -> Result<(), LogError> {
        self.thread.join().unwrap()
    }

    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }
}

impl Harness {
    pub fn new() -> Self {
        let log = EmbeddedLog::new();
        let topics = Topics::new("driftline");
        log.create_topics(&topics.specs(PARTITIONS, -1)).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        Self { log, topics, metrics: Metrics::new().unwrap(), limits: LIMITS, policy: None, runtime }
    }

    /// Writes notifications to the outbox as the windows role does: one transaction, keyed by episode.
    pub fn publish(&self, notifications: &[Notification]) {
        let mut producer = self.log.producer("windows-0").unwrap();
        producer.begin().unwrap();
        for notification in notifications {
            let record = OutRecord {
                topic: self.topics.outbox.as_str().into(),
                partition: None,
                key: Some(notification.episode_id.clone().into_bytes()),
                value: Some(serde_json::to_vec(notification).unwrap()),
                headers: vec![],
            };
            producer.send(record).unwrap();
        }
        producer.commit().unwrap();
    }

    /// Starts the role in a new process of the log; `calls`: how many calls to the log it lives for.
    pub fn start(&self, instance: &str, receivers: &Arc<Receivers>, calls: Option<u64>) -> Running {
        let process = self.log.process();
        if let Some(calls) = calls {
            process.kill_after(calls);
        }
        let stop = CancellationToken::new();
        let config = DispatchConfig {
            app: "driftline".into(),
            instance: instance.into(),
            public_url: "http://drift.test".into(),
            limits: self.limits,
            policy: self.policy.clone().unwrap_or_else(|| Arc::new(Policy::default().with_transports(receivers))),
            attempt_timeout: Duration::from_secs(10),
            stop_grace: Duration::from_secs(2),
            runtime: self.runtime.handle().clone(),
            status: Arc::new(|_| {}),
        };
        let (topics, metrics) = (self.topics.clone(), self.metrics.clone());
        let (receivers, role_stop, role_log) = (receivers.clone(), stop.clone(), process.clone());
        let thread = std::thread::spawn(move || run(&role_log, &topics, config, receivers, &metrics, &role_stop));
        Running { process, stop, thread }
    }

    /// The last record of every delivery, by its key.
    pub fn deliveries(&self) -> BTreeMap<String, DeliveryRecord> {
        let partitions: Vec<i32> = (0..PARTITIONS).collect();
        let restored =
            read_deliveries(&self.log, &self.topics.deliveries, &partitions, &CancellationToken::new()).unwrap();
        restored.into_iter().map(|restored| (restored.record.key().to_string(), restored.record)).collect()
    }

    /// Waits until `count` deliveries have a final status.
    pub fn wait_until_final(&self, count: usize) -> BTreeMap<String, DeliveryRecord> {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let deliveries = self.deliveries();
            let done = deliveries.values().filter(|record| record.status.is_final()).count();
            if done >= count {
                return deliveries;
            }
            assert!(Instant::now() < deadline, "{done} of {count} deliveries are final: {deliveries:#?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn statuses(&self) -> BTreeMap<String, DeliveryStatus> {
        self.deliveries().into_iter().map(|(key, record)| (key, record.status)).collect()
    }
}
