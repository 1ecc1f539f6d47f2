//! A transactional producer of the embedded log.

use std::collections::BTreeSet;

use super::consumer::EmbeddedGroup;
use super::partition::TransactionNumber;
use super::{EmbeddedLog, State, lock};
use crate::log::{GroupMetadata, LogError, OutRecord, Producer, Result, TopicPartition};

/// What the log knows of one transactional id.
#[derive(Default)]
pub(super) struct ProducerState {
    /// Of the newest producer with this id; older ones are fenced.
    epoch: i32,
    open: Option<Transaction>,
}

struct Transaction {
    number: TransactionNumber,
    written: BTreeSet<TopicPartition>,
    /// Group, partition, offset.
    offsets: Vec<(String, TopicPartition, i64)>,
}

impl State {
    /// Ends the open transaction of a transactional id, if there is one.
    fn finish(&mut self, transactional_id: &str, commit: bool, now_ms: i64) {
        let open = self.producers.get_mut(transactional_id).and_then(|producer| producer.open.take());
        let Some(transaction) = open else { return };
        for at in &transaction.written {
            let retention = self.topics.get(&at.topic).map(|topic| topic.retention).unwrap_or_default();
            if let Some(partition) = self.partition_mut(at) {
                partition.finish(transaction.number, commit, now_ms);
                partition.retain(retention, now_ms);
            }
        }
        for (group, at, offset) in &transaction.offsets {
            if let Some(group) = self.groups.get_mut(group) {
                group.finish_pending(at, transaction.number, commit.then_some(*offset));
            }
        }
    }

    /// The producer is gone: its open transaction is aborted, unless a newer producer has taken over the id.
    pub(super) fn drop_producer(&mut self, transactional_id: &str, epoch: i32, now_ms: i64) {
        if self.producers.get(transactional_id).is_some_and(|producer| producer.epoch == epoch) {
            self.finish(transactional_id, false, now_ms);
        }
    }
}

pub(super) struct EmbeddedProducer {
    log: EmbeddedLog,
    transactional_id: String,
    epoch: i32,
}

impl EmbeddedProducer {
    pub fn new(log: EmbeddedLog, transactional_id: &str) -> Result<Self> {
        let mut state = log.enter()?;
        state.finish(transactional_id, false, log.shared.now_ms());
        let producer = state.producers.entry(transactional_id.to_string()).or_default();
        producer.epoch += 1;
        let epoch = producer.epoch;
        lock(&log.process.transactional_ids).push((transactional_id.to_string(), epoch));
        log.shared.changed.notify_all();
        drop(state);
        Ok(Self { log, transactional_id: transactional_id.to_string(), epoch })
    }

    /// This producer's state, or `Fatal` if a newer producer has the id.
    fn own<'a>(&self, state: &'a mut State) -> Result<&'a mut ProducerState> {
        match state.producers.get_mut(&self.transactional_id) {
            Some(producer) if producer.epoch == self.epoch => Ok(producer),
            _ => Err(LogError::Fatal(format!("a newer producer with id {} has taken over", self.transactional_id))),
        }
    }

    fn open<'a>(&self, state: &'a mut State) -> Result<&'a mut Transaction> {
        let none_open = || LogError::Abort("no transaction is open".into());
        self.own(state)?.open.as_mut().ok_or_else(none_open)
    }
}

impl Producer for EmbeddedProducer {
    fn begin(&mut self) -> Result<()> {
        let mut state = self.log.enter()?;
        if self.own(&mut state)?.open.is_some() {
            return Err(LogError::Abort("a transaction is open already".into()));
        }
        state.last_transaction += 1;
        let transaction = Transaction { number: state.last_transaction, written: BTreeSet::new(), offsets: Vec::new() };
        self.own(&mut state)?.open = Some(transaction);
        Ok(())
    }

    fn send(&mut self, record: OutRecord) -> Result<()> {
        let mut state = self.log.enter()?;
        let number = self.open(&mut state)?.number;
        let at = state.append(record, Some(number), self.log.shared.now_ms())?;
        self.open(&mut state)?.written.insert(at);
        // Readers of uncommitted data see it at once.
        self.log.shared.changed.notify_all();
        Ok(())
    }

    fn send_offsets(&mut self, offsets: &[(TopicPartition, i64)], group: &dyn GroupMetadata) -> Result<()> {
        let Some(membership) = group.as_any().downcast_ref::<EmbeddedGroup>() else {
            return Err(LogError::Fatal("group metadata of another log".into()));
        };
        let mut state = self.log.enter()?;
        let number = self.open(&mut state)?.number;
        let current = state
            .groups
            .get_mut(&membership.group)
            .filter(|group| group.generation == membership.generation && group.has_member(membership.member));
        let Some(current) = current else {
            return Err(LogError::Abort(format!(
                "generation {} of group {} is over",
                membership.generation, membership.group
            )));
        };
        for (at, _) in offsets {
            current.add_pending(at, number);
        }
        let sent = offsets.iter().map(|(at, offset)| (membership.group.clone(), at.clone(), *offset));
        self.open(&mut state)?.offsets.extend(sent);
        Ok(())
    }

    fn commit(&mut self) -> Result<()> {
        let mut state = self.log.enter()?;
        self.open(&mut state)?;
        state.finish(&self.transactional_id, true, self.log.shared.now_ms());
        self.log.shared.changed.notify_all();
        Ok(())
    }

    fn abort(&mut self) -> Result<()> {
        let mut state = self.log.enter()?;
        self.own(&mut state)?;
        state.finish(&self.transactional_id, false, self.log.shared.now_ms());
        self.log.shared.changed.notify_all();
        Ok(())
    }
}

impl Drop for EmbeddedProducer {
    fn drop(&mut self) {
        let mut state = self.log.shared.lock();
        lock(&self.log.process.transactional_ids).retain(|own| *own != (self.transactional_id.clone(), self.epoch));
        state.drop_producer(&self.transactional_id, self.epoch, self.log.shared.now_ms());
        self.log.shared.changed.notify_all();
    }
}
