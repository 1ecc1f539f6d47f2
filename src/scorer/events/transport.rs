//! How events leave the process.

use std::time::Duration;

/// One event, ready to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventRecord<'a> {
    pub topic: &'a str,
    pub key: &'a [u8],
    pub value: &'a [u8],
    pub event_time_ms: i64,
}

impl EventRecord<'_> {
    pub const fn byte_len(&self) -> usize {
        self.key.len() + self.value.len()
    }
}

/// What became of records since the last look, by the tag that they were sent with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeliveryReport {
    pub tag: usize,
    pub sent: u64,
    pub failed: u64,
    /// Of keys and values, of both.
    pub bytes: usize,
}

/// Why a record was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// Look for reports, then send it again.
    #[error("the producer's queue is full")]
    Full,
    /// It will never be taken.
    #[error("{0}")]
    Refused(String),
}

/// Takes records and reports on each of them later, once.
pub trait Transport: Send {
    /// Does not wait for the broker.
    ///
    /// # Errors
    /// The record was not taken, and will not be reported on.
    fn send(&mut self, record: EventRecord<'_>, tag: usize) -> Result<(), SendError>;

    /// Reports so far; where there are none, waits for one at most `wait`.
    fn reports(&mut self, wait: Duration) -> Vec<DeliveryReport>;

    /// Gives up on what is not yet delivered: it is reported as failed at the next look.
    fn abandon(&mut self);
}
