//! Attempts in flight: started on the runtime, watched by the role's thread.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use prometheus::Histogram;
use tokio::task::AbortHandle;

use super::delivery::DeliveryKey;
use super::receiver::{DeliveryContext, Outcome, Receivers};
use super::schedule::Parcel;

/// How an attempt ended, on its way from the runtime to the role's thread.
pub struct Ended {
    pub key: DeliveryKey,
    pub outcome: Outcome,
    attempt_id: u64,
}

pub struct Attempts {
    receivers: Arc<Receivers>,
    runtime: tokio::runtime::Handle,
    /// An attempt that takes longer than this is stopped and counts as a timeout.
    limit: Duration,
    seconds: Histogram,
    running: HashMap<DeliveryKey, (u64, AbortHandle)>,
    started: u64,
    sender: mpsc::Sender<Ended>,
    ended: mpsc::Receiver<Ended>,
}

impl Attempts {
    pub fn new(
        receivers: Arc<Receivers>,
        runtime: tokio::runtime::Handle,
        limit: Duration,
        seconds: Histogram,
    ) -> Self {
        let (sender, ended) = mpsc::channel();
        Self { receivers, runtime, limit, seconds, running: HashMap::new(), started: 0, sender, ended }
    }

    pub fn start(&mut self, key: DeliveryKey, parcel: Parcel, context: DeliveryContext) {
        self.started += 1;
        let attempt_id = self.started;
        let receivers = self.receivers.clone();
        let sender = self.sender.clone();
        let (limit, seconds) = (self.limit, self.seconds.clone());
        let running_key = key.clone();
        let task = self.runtime.spawn(async move {
            let started = Instant::now();
            let outcome = match receivers.get(&key.receiver) {
                Some(receiver) => {
                    let delivery = async {
                        match &parcel {
                            Parcel::One(notification) => receiver.deliver(notification, &context).await,
                            Parcel::Digest(digest) => receiver.deliver_digest(digest, &context).await,
                        }
                    };
                    match tokio::time::timeout(limit, AssertUnwindSafe(delivery).catch_unwind()).await {
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

    pub fn is_idle(&self) -> bool {
        self.running.is_empty()
    }

    /// The next that has ended, if one has; those that were stopped are passed over.
    pub fn try_next(&mut self) -> Option<Ended> {
        while let Ok(ended) = self.ended.try_recv() {
            if self.is_expected(&ended) {
                return Some(ended);
            }
        }
        None
    }

    /// The same, after a wait of at most `patience`.
    pub fn next_within(&mut self, patience: Duration) -> Option<Ended> {
        let deadline = Instant::now() + patience;
        loop {
            let ended = self.ended.recv_timeout(deadline.saturating_duration_since(Instant::now())).ok()?;
            if self.is_expected(&ended) {
                return Some(ended);
            }
        }
    }

    fn is_expected(&mut self, ended: &Ended) -> bool {
        let is_expected = self.running.get(&ended.key).is_some_and(|(attempt_id, _)| *attempt_id == ended.attempt_id);
        if is_expected {
            self.running.remove(&ended.key);
        }
        is_expected
    }

    pub fn stop(&mut self, is_meant: impl Fn(&DeliveryKey) -> bool) {
        self.running.retain(|key, (_, task)| {
            let is_stopped = is_meant(key);
            if is_stopped {
                task.abort();
            }
            !is_stopped
        });
    }
}
