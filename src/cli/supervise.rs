//! What a process does about a broker that goes away: it says so, and starts a role anew that the outage has ended.
//!
//! A transaction that is open for longer than its timeout is aborted by the broker and its producer fenced, which
//! looks just like a second process with the same `instance`. After an outage the former is far more likely, so the
//! role is started again in place, from its last commit. Without an outage the process exits, as it must when it
//! has been replaced.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::http::readiness::Readiness;
use crate::log::{ConsumerOptions, Log, LogError, StartOffset};

use super::service::now_ms;

/// An outage explains what happens until this long after it.
const AFTERMATH_MS: i64 = 120_000;
const PAUSE: Duration = Duration::from_secs(1);
const CONDITION: &str = "kafka";

/// When the broker was last away, wall clock; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Outages {
    last_ms: Arc<AtomicI64>,
}

impl Outages {
    fn explain(&self, now_ms: i64) -> bool {
        now_ms - self.last_ms.load(Ordering::Relaxed) <= AFTERMATH_MS
    }
}

/// Watches the broker until the stop, for readiness and for `with_restarts`.
pub fn watch_broker(
    log: &dyn Log,
    outages: &Outages,
    readiness: &Readiness,
    stop: &CancellationToken,
) -> Result<(), LogError> {
    let options = ConsumerOptions { group: None, topics: Vec::new(), start: StartOffset::Latest, read_committed: true };
    let consumer = log.consumer(options)?;
    while !stop.is_cancelled() {
        if consumer.healthy() {
            readiness.met(CONDITION);
        } else {
            outages.last_ms.store(now_ms(), Ordering::Relaxed);
            readiness.wait_for(CONDITION, "no broker can be reached");
        }
        std::thread::sleep(Duration::from_millis(250));
    }
    Ok(())
}

/// Runs a role; again, if an outage of the broker explains its end.
pub fn with_restarts(
    role: &str,
    outages: &Outages,
    stop: &CancellationToken,
    mut run: impl FnMut() -> Result<(), LogError>,
) -> Result<(), LogError> {
    loop {
        match run() {
            Err(LogError::Fatal(reason)) if !stop.is_cancelled() && outages.explain(now_ms()) => {
                tracing::warn!(
                    role,
                    reason,
                    "ended by an outage of the broker; starting it again from its last commit"
                );
                std::thread::sleep(PAUSE);
            }
            outcome => return outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_outage_starts_a_role_again() {
        let (outages, stop) = (Outages::default(), CancellationToken::new());
        let mut runs = 0;
        let mut fenced_once = || {
            runs += 1;
            if runs == 1 { Err(LogError::Fatal("fenced".into())) } else { Ok(()) }
        };
        assert!(with_restarts("ingest", &outages, &stop, &mut fenced_once).is_err(), "replaced by another process");
        runs = 0;
        outages.last_ms.store(now_ms(), Ordering::Relaxed);
        let mut fenced_once = || {
            runs += 1;
            if runs == 1 { Err(LogError::Fatal("fenced".into())) } else { Ok(()) }
        };
        assert!(with_restarts("ingest", &outages, &stop, &mut fenced_once).is_ok(), "ended by the outage");
        assert_eq!(runs, 2);
    }
}
