//! A transport that keeps records in memory, for tests: it can be made to hold back, refuse and fail.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::transport::{DeliveryReport, EventRecord, SendError, Transport};

/// A record that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptRecord {
    pub topic: String,
    pub key: Vec<u8>,
    pub value: Vec<u8>,
    pub event_time_ms: i64,
}

/// What the transport does with records; shared with the test.
#[derive(Debug, Default)]
pub struct MemoryState {
    /// Records that were delivered.
    pub delivered: Vec<KeptRecord>,
    /// As while no broker can be reached: records are taken up to `room` and not reported on.
    pub is_away: bool,
    /// Records that are taken while `is_away`.
    pub room: usize,
    waiting: Vec<(usize, KeptRecord)>,
    reports: Vec<DeliveryReport>,
}

/// Clones share their state.
#[derive(Debug, Clone, Default)]
pub struct MemoryTransport(Arc<Mutex<MemoryState>>);

impl MemoryTransport {
    /// Looks at the state, or changes it.
    pub fn with<T>(&self, look: impl FnOnce(&mut MemoryState) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Transport for MemoryTransport {
    fn send(&mut self, record: EventRecord<'_>, tag: usize) -> Result<(), SendError> {
        self.with(|state| {
            if state.is_away && state.waiting.len() >= state.room {
                return Err(SendError::Full);
            }
            let kept = KeptRecord {
                topic: record.topic.into(),
                key: record.key.into(),
                value: record.value.into(),
                event_time_ms: record.event_time_ms,
            };
            state.waiting.push((tag, kept));
            Ok(())
        })
    }

    fn reports(&mut self, wait: Duration) -> Vec<DeliveryReport> {
        let reports = self.with(|state| {
            if !state.is_away {
                for (tag, kept) in std::mem::take(&mut state.waiting) {
                    let bytes = kept.key.len() + kept.value.len();
                    state.reports.push(DeliveryReport { tag, sent: 1, failed: 0, bytes });
                    state.delivered.push(kept);
                }
            }
            std::mem::take(&mut state.reports)
        });
        if reports.is_empty() {
            std::thread::sleep(wait.min(Duration::from_millis(5)));
        }
        reports
    }

    fn abandon(&mut self) {
        self.with(|state| {
            for (tag, kept) in std::mem::take(&mut state.waiting) {
                let bytes = kept.key.len() + kept.value.len();
                state.reports.push(DeliveryReport { tag, sent: 0, failed: 1, bytes });
            }
        });
    }
}
