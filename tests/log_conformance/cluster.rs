//! The backends as the suite sees them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use driftline::log::Log;
use driftline::log::embedded::EmbeddedLog;
use driftline::log::kafka::{KafkaLog, KafkaOptions};

use crate::worker::{self, Job};

/// A backend, with what the suite needs besides the log itself.
pub trait Cluster {
    fn log(&self) -> Box<dyn Log>;
    /// A process that runs `worker::transform` until it is stopped or killed.
    fn start(&self, job: Job) -> Box<dyn Worker>;
}

pub trait Worker {
    /// Leaves the group in good order.
    fn stop(self: Box<Self>);
    /// Vanishes between two instructions, as with `kill -9`.
    fn kill(self: Box<Self>);
}

/// A name that no other test and no earlier run has used.
pub fn fresh(stem: &str) -> String {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let started = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos();
    format!("{stem}-{}-{started:x}-{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed))
}

pub struct EmbeddedCluster {
    log: EmbeddedLog,
}

impl EmbeddedCluster {
    pub fn new() -> Self {
        Self { log: EmbeddedLog::new() }
    }
}

impl Cluster for EmbeddedCluster {
    fn log(&self) -> Box<dyn Log> {
        Box::new(self.log.clone())
    }

    fn start(&self, job: Job) -> Box<dyn Worker> {
        let process = self.log.process();
        let stop = Arc::new(AtomicBool::new(false));
        let (log, stopped) = (process.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            let outcome = worker::transform(&log, &job, &|| stopped.load(Ordering::SeqCst));
            assert!(outcome.is_ok() || log.is_killed(), "the worker failed: {outcome:?}");
        });
        Box::new(EmbeddedWorker { process, stop, thread })
    }
}

struct EmbeddedWorker {
    process: EmbeddedLog,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Worker for EmbeddedWorker {
    fn stop(self: Box<Self>) {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().unwrap();
    }

    fn kill(self: Box<Self>) {
        self.process.kill();
        self.thread.join().unwrap();
    }
}

pub struct KafkaCluster {
    bootstrap_servers: String,
}

impl KafkaCluster {
    pub fn from_environment() -> Self {
        let bootstrap_servers =
            std::env::var("DRIFTLINE_TEST_KAFKA").expect("DRIFTLINE_TEST_KAFKA=host:port names the broker to test on");
        Self { bootstrap_servers }
    }

    pub fn connect(bootstrap_servers: &str) -> KafkaLog {
        KafkaLog::new(KafkaOptions {
            bootstrap_servers: bootstrap_servers.to_string(),
            client_id: "log-conformance".into(),
            instance: None,
            // The suite waits for the session of a killed member to end: as short as Kafka's default allows.
            properties: [(
                "session.timeout.ms".to_string(),
                driftline::config::receivers::TextOrSecret::Text("6000".into()),
            )]
            .into(),
        })
        .unwrap()
    }
}

impl Cluster for KafkaCluster {
    fn log(&self) -> Box<dyn Log> {
        Box::new(Self::connect(&self.bootstrap_servers))
    }

    fn start(&self, job: Job) -> Box<dyn Worker> {
        Box::new(worker::Process::start(&self.bootstrap_servers, &job))
    }
}
