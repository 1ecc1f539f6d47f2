//! A transactional producer. The calls that librdkafka may hang in run on a thread of their own, under a
//! watchdog.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, Producer as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::consumer::KafkaGroup;
use super::write::{Delivery, write};
use crate::log::{GroupMetadata, LogError, MAX_RECORD_BYTES, OutRecord, Producer, Result, TopicPartition};

/// What each call to librdkafka is given. A commit that runs into it is resumed.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);
/// A call that has not come back after this never will (librdkafka #5456, #5511): the process exits with
/// `WATCHDOG_EXIT_CODE`, and its successor's `init_transactions` settles what was open. A commit takes at most
/// three of `CALL_TIMEOUT`: waiting for the records, rdkafka's flush, and the call itself.
pub const WATCHDOG_LIMIT: Duration = Duration::from_secs(60);
/// Of `sysexits.h`, EX_SOFTWARE.
pub const WATCHDOG_EXIT_CODE: i32 = 70;
/// How long the outcome of a commit or an abort is asked for while the brokers do not answer.
const OUTCOME_LIMIT: Duration = Duration::from_secs(600);
/// How long other calls are tried again, and a full queue waited for.
const RETRY_LIMIT: Duration = Duration::from_secs(30);
const RETRY_PAUSE: Duration = Duration::from_millis(200);
/// What an abort waits for the records that it throws away. They stay behind where the transaction has failed.
const ABORT_DRAIN: Duration = Duration::from_secs(2);
/// While a call is waited for, its outcome and delivery reports are looked for in turn.
const OUTCOME_WAIT: Duration = Duration::from_millis(10);
const REPORTS_WAIT: Duration = Duration::from_millis(1);
/// While idle, librdkafka's log lines and errors are fetched this often.
const IDLE_POLL_INTERVAL: Duration = Duration::from_secs(1);

type Client = BaseProducer<Delivery>;

pub(super) struct KafkaProducer {
    client: Arc<Client>,
    calls: Sender<Call>,
    outcomes: Receiver<KafkaResult<()>>,
    transactional_id: String,
    open: bool,
}

#[derive(Clone)]
enum Call {
    Init,
    Begin,
    SendOffsets(Arc<TopicPartitionList>, Arc<ConsumerGroupMetadata>),
    Commit,
    Abort,
}

impl Call {
    fn name(&self) -> &'static str {
        match self {
            Call::Init => "init_transactions",
            Call::Begin => "begin_transaction",
            Call::SendOffsets(..) => "send_offsets_to_transaction",
            Call::Commit => "commit_transaction",
            Call::Abort => "abort_transaction",
        }
    }

    fn run(&self, client: &Client) -> KafkaResult<()> {
        match self {
            Call::Init => client.init_transactions(CALL_TIMEOUT),
            Call::Begin => client.begin_transaction(),
            Call::SendOffsets(offsets, group) => client.send_offsets_to_transaction(offsets, group, CALL_TIMEOUT),
            Call::Commit => {
                drain(client, CALL_TIMEOUT);
                client.commit_transaction(CALL_TIMEOUT)
            }
            Call::Abort => {
                drain(client, ABORT_DRAIN);
                client.abort_transaction(CALL_TIMEOUT)
            }
        }
    }
}

/// Waits until everything queued is written or refused, at most `limit`.
///
/// Before a commit, because rdkafka's own flush looks every 100 ms only. Before an abort, because librdkafka
/// counts a partition as registered with the transaction when it has *asked* for that: an abort that overtakes
/// the answer ends a transaction of which the coordinator knows nothing, and that error is fatal (librdkafka
/// #4849; met in 3 of 10 runs of the conformance suite's quick aborts). A record that is written was registered.
fn drain(client: &Client, limit: Duration) {
    let deadline = Instant::now() + limit;
    while client.in_flight_count() > 0 && Instant::now() < deadline {
        client.poll(REPORTS_WAIT);
    }
}

/// What every transactional producer is configured with, before the user's own properties.
fn defaults(config: &mut ClientConfig) {
    for (key, value) in [
        // A crashed producer's open transaction blocks readers for this long.
        ("transaction.timeout.ms", "10000"),
        ("linger.ms", "5"),
        ("compression.type", "lz4"),
        ("batch.size", "1000000"),
        ("queue.buffering.max.kbytes", "65536"),
        ("delivery.report.only.error", "true"),
    ] {
        config.set(key, value);
    }
}

impl KafkaProducer {
    pub fn new(base: &ClientConfig, transactional_id: &str) -> Result<Self> {
        let mut config = ClientConfig::new();
        defaults(&mut config);
        for (key, value) in base.config_map() {
            config.set(key, value);
        }
        config.set("transactional.id", transactional_id).set("enable.idempotence", "true");
        let client: Client = config
            .create_with_context(Delivery::default())
            .map_err(|error| LogError::Fatal(format!("no producer: {error}")))?;
        let client = Arc::new(client);
        let (calls, inbox) = channel();
        let (outbox, outcomes) = channel();
        let worker = client.clone();
        std::thread::Builder::new()
            .name("kafka-transactions".into())
            .spawn(move || work(&worker, &inbox, &outbox))
            .map_err(|error| LogError::Retry(format!("no thread for the producer: {error}")))?;
        let producer = Self { client, calls, outcomes, transactional_id: transactional_id.to_string(), open: false };
        match producer.settle(&Call::Init, RETRY_LIMIT) {
            // Nothing is open yet: an unreachable cluster is a matter of trying again.
            Err(LogError::Abort(reason)) => Err(LogError::Retry(reason)),
            outcome => outcome.map(|()| producer),
        }
    }

    /// Has one call made on the other thread. Meanwhile this one serves delivery reports: an abort purges what
    /// is queued, and does not end before the reports of it have been taken, which rdkafka leaves to its caller.
    fn call(&self, call: &Call) -> KafkaResult<()> {
        let started = Instant::now();
        if self.calls.send(call.clone()).is_err() {
            return Err(KafkaError::Canceled);
        }
        while started.elapsed() < WATCHDOG_LIMIT {
            match self.outcomes.recv_timeout(OUTCOME_WAIT) {
                Ok(outcome) => return outcome,
                Err(RecvTimeoutError::Disconnected) => return Err(KafkaError::Canceled),
                Err(RecvTimeoutError::Timeout) => self.client.poll(REPORTS_WAIT),
            }
        }
        let (call, id, limit_s) = (call.name(), &self.transactional_id, WATCHDOG_LIMIT.as_secs());
        tracing::error!(call, id, limit_s, "a call to librdkafka does not return; the process exits");
        std::process::exit(WATCHDOG_EXIT_CODE);
    }

    /// Makes a call again until its outcome is known. librdkafka resumes a commit or an abort that timed out
    /// when it is called once more.
    fn settle(&self, call: &Call, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        loop {
            let error = match self.call(call) {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            let text = || format!("{} of {}: {error}", call.name(), self.transactional_id);
            match Verdict::of(&error) {
                Verdict::Fatal => return Err(LogError::Fatal(text())),
                Verdict::Abort => return Err(LogError::Abort(text())),
                Verdict::Retry if Instant::now() >= deadline => {
                    return Err(match call {
                        // Neither done nor undone: only a successor's init_transactions can tell.
                        Call::Commit | Call::Abort => LogError::Fatal(format!("{}: outcome unknown", text())),
                        _ => LogError::Abort(text()),
                    });
                }
                Verdict::Retry => {
                    tracing::warn!(%error, call = call.name(), id = self.transactional_id, "trying again");
                    std::thread::sleep(RETRY_PAUSE);
                }
            }
        }
    }
}

/// The other thread.
fn work(client: &Client, inbox: &Receiver<Call>, outbox: &Sender<KafkaResult<()>>) {
    loop {
        match inbox.recv_timeout(IDLE_POLL_INTERVAL) {
            Ok(call) => {
                if outbox.send(call.run(client)).is_err() {
                    return;
                }
            }
            Err(RecvTimeoutError::Timeout) => client.poll(Duration::ZERO),
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// What an error means for the transaction.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Retry,
    Abort,
    Fatal,
}

impl Verdict {
    fn of(error: &KafkaError) -> Self {
        match error {
            KafkaError::Transaction(error) if error.is_fatal() => Verdict::Fatal,
            KafkaError::Transaction(error) if error.txn_requires_abort() => Verdict::Abort,
            KafkaError::Transaction(error) if error.is_retriable() => Verdict::Retry,
            KafkaError::Canceled => Verdict::Fatal,
            other => match other.rdkafka_error_code() {
                Some(RDKafkaErrorCode::Fatal | RDKafkaErrorCode::Fenced) => Verdict::Fatal,
                // Among them `Flush`, which commit_transaction returns before it has begun to commit.
                _ => Verdict::Abort,
            },
        }
    }
}

impl Producer for KafkaProducer {
    fn begin(&mut self) -> Result<()> {
        if self.open {
            return Err(LogError::Abort("a transaction is open already".into()));
        }
        self.settle(&Call::Begin, RETRY_LIMIT)?;
        self.open = true;
        Ok(())
    }

    fn send(&mut self, record: OutRecord) -> Result<()> {
        if !self.open {
            return Err(LogError::Abort("no transaction is open".into()));
        }
        if record.byte_len() > MAX_RECORD_BYTES {
            return Err(LogError::Abort(format!("a record of {} bytes is too large", record.byte_len())));
        }
        let outcome = write(&self.client, &record, RETRY_LIMIT);
        outcome.map_err(|error| {
            let text = format!("record for {}: {error}", record.topic);
            if Verdict::of(&error) == Verdict::Fatal { LogError::Fatal(text) } else { LogError::Abort(text) }
        })
    }

    fn send_offsets(&mut self, offsets: &[(TopicPartition, i64)], group: &dyn GroupMetadata) -> Result<()> {
        let Some(group) = group.as_any().downcast_ref::<KafkaGroup>() else {
            return Err(LogError::Fatal("group metadata of another log".into()));
        };
        if !self.open {
            return Err(LogError::Abort("no transaction is open".into()));
        }
        let mut list = TopicPartitionList::with_capacity(offsets.len());
        for (at, offset) in offsets {
            list.add_partition_offset(&at.topic, at.partition, Offset::Offset(*offset))
                .map_err(|error| LogError::Abort(format!("offset {offset} of {at}: {error}")))?;
        }
        self.settle(&Call::SendOffsets(Arc::new(list), group.metadata.clone()), RETRY_LIMIT)
    }

    fn commit(&mut self) -> Result<()> {
        if !self.open {
            return Err(LogError::Abort("no transaction is open".into()));
        }
        self.settle(&Call::Commit, OUTCOME_LIMIT)?;
        self.open = false;
        Ok(())
    }

    fn abort(&mut self) -> Result<()> {
        if !self.open {
            return Ok(());
        }
        match self.settle(&Call::Abort, OUTCOME_LIMIT) {
            // An abort that is to be aborted would go round for ever.
            Err(LogError::Abort(reason)) => Err(LogError::Fatal(reason)),
            outcome => outcome.map(|()| self.open = false),
        }
    }
}

impl Drop for KafkaProducer {
    fn drop(&mut self) {
        if self.open
            && !std::thread::panicking()
            && let Err(error) = self.call(&Call::Abort)
        {
            tracing::warn!(%error, id = self.transactional_id, "an open transaction is left to its timeout");
        }
    }
}
