//! Threads of which none is of use without the others: when one ends, all are to stop.

use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::service::Lasting;
use super::supervise::watch_broker;
use crate::log::{Log, LogError};

/// How long a stop waits for them.
const STOP_GRACE: Duration = Duration::from_secs(10);

pub type Body = Box<dyn FnOnce() -> Result<(), LogError> + Send>;

pub struct Threads {
    pub stop: CancellationToken,
    running: Vec<(&'static str, JoinHandle<()>)>,
    failed: mpsc::Sender<String>,
    failures: mpsc::Receiver<String>,
}

impl Default for Threads {
    fn default() -> Self {
        let (failed, failures) = mpsc::channel();
        Self { stop: CancellationToken::new(), running: Vec::new(), failed, failures }
    }
}

impl Threads {
    pub fn start(&mut self, name: &'static str, body: Body) -> Result<(), String> {
        let (failed, stop) = (self.failed.clone(), self.stop.clone());
        let thread = std::thread::Builder::new().name(name.to_string()).spawn(move || {
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
            match outcome {
                Ok(Ok(())) => {}
                Ok(Err(error)) => drop(failed.send(format!("{name}: {error}"))),
                Err(_) => drop(failed.send(format!("{name}: panicked"))),
            }
            // One role alone is of no use: the process stops and is started again whole.
            stop.cancel();
        });
        let thread = thread.map_err(|error| format!("cannot start {name}: {error}"))?;
        self.running.push((name, thread));
        Ok(())
    }

    /// Watches the broker, for readiness and for roles that an outage ends.
    pub fn watch(&mut self, log: &Arc<dyn Log>, lasting: &Lasting) -> Result<(), String> {
        let (log, lasting, stop) = (log.clone(), lasting.clone(), self.stop.clone());
        self.start("broker", Box::new(move || watch_broker(&*log, &lasting.outages, &lasting.readiness, &stop)))
    }

    /// Waits until every thread has ended, at most `STOP_GRACE`; the reasons of those that failed. A role that waits
    /// for a broker is left behind: the next start goes on from its last commit, as after a kill.
    pub fn join(self) -> Result<(), Vec<String>> {
        let until = Instant::now() + STOP_GRACE;
        for (name, thread) in self.running {
            while !thread.is_finished() && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(10));
            }
            if !thread.is_finished() {
                tracing::warn!(role = name, "still waiting for Kafka; left behind, nothing is lost");
            }
        }
        let failures: Vec<String> = self.failures.try_iter().collect();
        if failures.is_empty() { Ok(()) } else { Err(failures) }
    }
}
