//! The thread that writes events out. It takes what has gathered every few milliseconds, so that requests neither wake
//! it one by one nor wait for it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::queue::Queued;
use super::transport::{DeliveryReport, EventRecord, SendError, Transport};
use super::{EventCounts, EventQueue};

/// How long events gather while requests come.
const GATHER: Duration = Duration::from_millis(5);
/// After this many rounds without an event the thread sleeps until one comes.
const QUIET_ROUNDS: u32 = 20;
/// While asleep, reports and the producer's log are looked for this often.
const ASLEEP: Duration = Duration::from_millis(500);
/// How long a full producer is waited for between two looks.
const FULL_WAIT: Duration = Duration::from_millis(20);
/// Losses are told to the log at most this often.
const TELL_INTERVAL: Duration = Duration::from_secs(30);
/// How long the reports of abandoned events are waited for.
const ABANDON_WAIT: Duration = Duration::from_secs(2);

/// A running writer.
pub struct EventWriter {
    queue: Arc<EventQueue>,
    thread: Mutex<Option<JoinHandle<()>>>,
    close_limit: Arc<Mutex<Duration>>,
}

impl EventWriter {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn start(queue: Arc<EventQueue>, transport: Box<dyn Transport>) -> std::io::Result<Self> {
        let close_limit = Arc::new(Mutex::new(Duration::ZERO));
        let writing = Writing {
            queue: queue.clone(),
            transport,
            close_limit: close_limit.clone(),
            give_up_at: None,
            text: Vec::with_capacity(1024),
            prediction_id: String::new(),
            told: EventCounts::default(),
            told_at: None,
            last_refusal: None,
            written_out: WrittenOut::default(),
        };
        let thread = std::thread::Builder::new().name("scorer-events".into()).spawn(move || writing.run())?;
        Ok(Self { queue, thread: Mutex::new(Some(thread)), close_limit })
    }

    /// Takes no more events, writes out what waits for at most `limit`, and gives the final counts: nothing is in flight
    /// then. What could not be written is counted as failed. Blocks.
    pub fn close(&self, limit: Duration) -> EventCounts {
        *self.close_limit.lock().unwrap_or_else(PoisonError::into_inner) = limit;
        self.queue.close();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the thread that writes prediction events panicked");
        }
        self.queue.counts()
    }
}

/// The thread's own.
struct Writing {
    queue: Arc<EventQueue>,
    transport: Box<dyn Transport>,
    close_limit: Arc<Mutex<Duration>>,
    /// Set once the queue is closed.
    give_up_at: Option<Instant>,
    text: Vec<u8>,
    prediction_id: String,
    /// Counts when losses were last told.
    told: EventCounts,
    told_at: Option<Instant>,
    last_refusal: Option<String>,
    written_out: WrittenOut,
}

/// What the queue is yet to be told of events that became records: its lock is that of the requests, and is not taken for
/// each row.
#[derive(Default)]
struct WrittenOut {
    rows: usize,
    bytes_before: usize,
    bytes_after: usize,
}

/// Rows after which the queue is told.
const TOLD_ROWS: usize = 256;

impl Writing {
    fn run(mut self) {
        let mut quiet_rounds = 0;
        loop {
            let sleep = quiet_rounds >= QUIET_ROUNDS;
            let taken = self.queue.take(if sleep { ASLEEP } else { GATHER }, sleep);
            if taken.is_closed && self.give_up_at.is_none() {
                let limit = *self.close_limit.lock().unwrap_or_else(PoisonError::into_inner);
                self.give_up_at = Some(Instant::now() + limit);
            }
            quiet_rounds = if taken.events.is_empty() { quiet_rounds.saturating_add(1) } else { 0 };
            let had_events = !taken.events.is_empty();
            self.write_all(taken.events);
            self.settle(Duration::ZERO);
            self.tell_losses();
            if self.give_up_at.is_some() {
                self.finish();
                return;
            }
            if had_events {
                // Lets more gather: the next look finds a batch, and is not woken for each event.
                std::thread::sleep(GATHER);
            }
        }
    }

    fn write_all(&mut self, events: VecDeque<Queued>) {
        for queued in events {
            self.write(&queued);
        }
    }

    /// All rows of one event.
    fn write(&mut self, queued: &Queued) {
        let event = &queued.event;
        let rows = event.rows();
        let topic = event.layout.topic(event.arm).clone();
        // The event's memory is given back bit by bit as its rows become records.
        let mut left = queued.bytes;
        for row in 0..rows {
            self.text.clear();
            event.layout.write_id(event, row, rows, &mut self.prediction_id);
            event.layout.write_row(event, row, &self.prediction_id, &mut self.text);
            let text = std::mem::take(&mut self.text);
            let key = event.entity.as_ref().unwrap_or(&event.request_id);
            let record =
                EventRecord { topic: &topic, key: key.as_bytes(), value: &text, event_time_ms: event.event_time_ms };
            let before = if row + 1 == rows { left } else { queued.bytes / rows };
            left -= before;
            self.written_out.rows += 1;
            self.written_out.bytes_before += before;
            self.written_out.bytes_after += record.byte_len();
            if self.written_out.rows >= TOLD_ROWS {
                self.tell_queue();
            }
            self.send(record, queued.model);
            self.text = text;
        }
    }

    fn send(&mut self, record: EventRecord<'_>, tag: usize) {
        let refusal = loop {
            match self.transport.send(record, tag) {
                Ok(()) => return,
                Err(SendError::Refused(reason)) => break reason,
                Err(SendError::Full) if self.is_over() => break "shut down before the broker took it".into(),
                Err(SendError::Full) => {
                    self.settle(FULL_WAIT);
                    self.tell_losses();
                    self.notice_close();
                }
            }
        };
        self.last_refusal = Some(refusal);
        self.tell_queue();
        self.queue.settle(&[DeliveryReport { tag, sent: 0, failed: 1, bytes: record.byte_len() }]);
    }

    fn is_over(&self) -> bool {
        self.give_up_at.is_some_and(|at| Instant::now() >= at)
    }

    /// While the producer is full the queue is not looked at, and may have been closed.
    fn notice_close(&mut self) {
        if self.give_up_at.is_none() && self.queue.is_closed() {
            let limit = *self.close_limit.lock().unwrap_or_else(PoisonError::into_inner);
            self.give_up_at = Some(Instant::now() + limit);
        }
    }

    fn settle(&mut self, wait: Duration) {
        // First what a record weighs, then that it is gone.
        self.tell_queue();
        let reports = self.transport.reports(wait);
        self.queue.settle(&reports);
    }

    fn tell_queue(&mut self) {
        let WrittenOut { rows, bytes_before, bytes_after } = std::mem::take(&mut self.written_out);
        if rows > 0 {
            self.queue.resize(bytes_before, bytes_after);
        }
    }

    /// The queue is closed and empty: waits for what is with the transport.
    fn finish(&mut self) {
        while self.queue.counts().in_flight > 0 && !self.is_over() {
            self.settle(FULL_WAIT);
        }
        self.transport.abandon();
        let until = Instant::now() + ABANDON_WAIT;
        while self.queue.counts().in_flight > 0 && Instant::now() < until {
            self.settle(FULL_WAIT);
        }
        let EventCounts { sent, failed, dropped, in_flight, .. } = self.queue.counts();
        tracing::info!(sent, failed, dropped, in_flight, "prediction events are closed");
    }

    fn tell_losses(&mut self) {
        if self.told_at.is_some_and(|at| at.elapsed() < TELL_INTERVAL) {
            return;
        }
        let counts = self.queue.counts();
        let (dropped, failed) = (counts.dropped - self.told.dropped, counts.failed - self.told.failed);
        if dropped + failed == 0 {
            return;
        }
        let reason = self.last_refusal.take().unwrap_or_default();
        tracing::warn!(
            dropped,
            failed,
            in_flight = counts.in_flight,
            reason,
            "prediction events were lost; scoring goes on"
        );
        self.told = counts;
        self.told_at = Some(Instant::now());
    }
}
