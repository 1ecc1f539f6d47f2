//! The promises, each a function over a backend.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use driftline::log::{
    Consumer, ConsumerEvent, ConsumerOptions, Log, LogError, OutRecord, Producer, StartOffset, TopicPartition,
    TopicSpec,
};

use crate::cluster::{Cluster, Worker, fresh};
use crate::worker::{Job, member_options};

/// Longest wait for something that must happen. A killed member's session and transaction take 10 s to end.
const PATIENCE: Duration = Duration::from_secs(45);
/// How long something that must not happen is given to happen.
const QUIET: Duration = Duration::from_millis(700);
const TICK: Duration = Duration::from_millis(100);

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Read {
    partition: i32,
    offset: i64,
    key: Option<String>,
    value: Option<String>,
}

fn topic(log: &dyn Log, stem: &str, partitions: i32) -> String {
    let name = fresh(stem);
    log.create_topics(&[TopicSpec { name: name.clone(), partitions, replication: 1, config: Vec::new() }]).unwrap();
    name
}

fn record(topic: &str, partition: i32, value: &str) -> OutRecord {
    OutRecord {
        topic: topic.into(),
        partition: Some(partition),
        value: Some(value.as_bytes().to_vec()),
        ..OutRecord::default()
    }
}

fn append(log: &dyn Log, topic: &str, values: &[&str]) {
    log.append(values.iter().map(|value| record(topic, 0, value)).collect()).unwrap();
}

fn reader(log: &dyn Log, read_committed: bool) -> Box<dyn Consumer> {
    log.consumer(ConsumerOptions { group: None, topics: Vec::new(), start: StartOffset::Earliest, read_committed })
        .unwrap()
}

fn member(log: &dyn Log, group: &str, topic: &str) -> Box<dyn Consumer> {
    log.consumer(member_options(group, topic)).unwrap()
}

/// Polls until `enough` of (records so far, events so far) holds; panics when patience ends.
fn poll_until(
    consumer: &mut dyn Consumer,
    what: &str,
    enough: impl Fn(&[Read], &[ConsumerEvent]) -> bool,
) -> (Vec<Read>, Vec<ConsumerEvent>) {
    let (mut records, mut events) = (Vec::new(), Vec::new());
    let deadline = Instant::now() + PATIENCE;
    while !enough(&records, &events) {
        assert!(Instant::now() < deadline, "no {what} within {PATIENCE:?}; got {records:?}, {events:?}");
        poll_into(consumer, TICK, &mut records, &mut events);
    }
    (records, events)
}

fn poll_into(consumer: &mut dyn Consumer, timeout: Duration, records: &mut Vec<Read>, events: &mut Vec<ConsumerEvent>) {
    let polled = consumer.poll(1_000, timeout).unwrap();
    events.extend(polled.events);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    records.extend(polled.records.iter().map(|record| Read {
        partition: record.partition,
        offset: record.offset,
        key: record.key.map(text),
        value: record.value.map(text),
    }));
}

/// What arrives while nothing should.
fn poll_quietly(consumer: &mut dyn Consumer) -> Vec<Read> {
    let (mut records, mut events) = (Vec::new(), Vec::new());
    let deadline = Instant::now() + QUIET;
    while Instant::now() < deadline {
        poll_into(consumer, TICK, &mut records, &mut events);
    }
    records
}

fn values(records: &[Read]) -> Vec<&str> {
    records.iter().map(|record| record.value.as_deref().unwrap_or("(null)")).collect()
}

fn ends(events: &[ConsumerEvent], partition: &TopicPartition) -> Vec<i64> {
    let end = |event: &ConsumerEvent| match event {
        ConsumerEvent::EndOfPartition { partition: at, next_offset } if at == partition => Some(*next_offset),
        _ => None,
    };
    events.iter().filter_map(end).collect()
}

fn assigned(events: &[ConsumerEvent]) -> Option<usize> {
    let share = |event: &ConsumerEvent| match event {
        ConsumerEvent::Assigned(share) => Some(share.len()),
        _ => None,
    };
    events.iter().rev().find_map(share)
}

/// All partitions of a topic from the start to the end that a reader is told of, and until `at_least` records
/// are there: a broker writes a transaction's control records a moment after it has confirmed the commit.
fn read_all(log: &dyn Log, topic: &str, read_committed: bool, at_least: usize) -> Vec<Read> {
    let partitions = log.partition_count(topic).unwrap().unwrap();
    let all: Vec<_> = (0..partitions).map(|partition| (TopicPartition::new(topic, partition), None)).collect();
    let mut consumer = reader(log, read_committed);
    consumer.assign(&all).unwrap();
    let (records, _) = poll_until(&mut *consumer, "end of every partition", |records, events| {
        records.len() >= at_least && all.iter().all(|(partition, _)| !ends(events, partition).is_empty())
    });
    records
}

fn committed(consumer: &dyn Consumer, partition: &TopicPartition) -> Option<i64> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match consumer.committed(partition) {
            Err(LogError::Retry(_)) if Instant::now() < deadline => std::thread::sleep(TICK),
            other => return other.unwrap(),
        }
    }
}

pub fn a_created_topic_is_found_and_creating_it_again_changes_nothing(cluster: &dyn Cluster) {
    let log = cluster.log();
    let name = topic(&*log, "created", 3);
    append(&*log, &name, &["kept"]);
    log.create_topics(&[TopicSpec { name: name.clone(), partitions: 7, replication: 1, config: Vec::new() }]).unwrap();
    assert_eq!(log.partition_count(&name).unwrap(), Some(3));
    assert_eq!(values(&read_all(&*log, &name, true, 1)), ["kept"]);
    assert_eq!(log.partition_count(&fresh("never-created")).unwrap(), None);
}

pub fn appended_records_are_read_in_order(cluster: &dyn Cluster) {
    let log = cluster.log();
    let name = topic(&*log, "appended", 1);
    let sent: Vec<String> = (0..5_000).map(|number| number.to_string()).collect();
    append(&*log, &name, &sent.iter().map(String::as_str).collect::<Vec<_>>());
    let read = read_all(&*log, &name, true, sent.len());
    assert_eq!(values(&read), sent);
    assert_eq!(read.iter().map(|record| record.offset).collect::<Vec<_>>(), (0..5_000).collect::<Vec<i64>>());
}

pub fn an_aborted_transaction_is_invisible_to_read_committed(cluster: &dyn Cluster) {
    let log = cluster.log();
    let name = topic(&*log, "aborted", 1);
    let mut producer = log.producer(&fresh("id")).unwrap();
    for (value, commit) in [("first", true), ("aborted", false), ("second", true)] {
        producer.begin().unwrap();
        producer.send(record(&name, 0, value)).unwrap();
        if commit {
            producer.commit().unwrap();
        } else {
            // The record must have reached the log, or the test would prove nothing.
            wait_for_high_watermark(&*log, &TopicPartition::new(&name, 0), 3);
            producer.abort().unwrap();
        }
    }
    assert_eq!(values(&read_all(&*log, &name, true, 2)), ["first", "second"]);
    assert_eq!(values(&read_all(&*log, &name, false, 3)), ["first", "aborted", "second"]);
}

fn wait_for_high_watermark(log: &dyn Log, partition: &TopicPartition, at_least: i64) {
    let consumer = reader(log, true);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let high = consumer.offsets(partition).unwrap().1;
        if high >= at_least {
            return;
        }
        assert!(Instant::now() < deadline, "high watermark {high}, expected at least {at_least}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub fn an_open_transaction_blocks_read_committed_until_it_ends(cluster: &dyn Cluster) {
    let log = cluster.log();
    let name = topic(&*log, "open", 1);
    let partition = TopicPartition::new(&name, 0);
    append(&*log, &name, &["before"]);
    let mut producer = log.producer(&fresh("id")).unwrap();
    producer.begin().unwrap();
    producer.send(record(&name, 0, "inside")).unwrap();
    wait_for_high_watermark(&*log, &partition, 2);
    append(&*log, &name, &["behind"]);

    let mut committed = reader(&*log, true);
    committed.assign(&[(partition.clone(), None)]).unwrap();
    let (first, _) = poll_until(&mut *committed, "record before the transaction", |records, _| !records.is_empty());
    let more = poll_quietly(&mut *committed);
    assert_eq!(values(&[first, more].concat()), ["before"]);
    assert_eq!(values(&read_all(&*log, &name, false, 3)), ["before", "inside", "behind"]);

    producer.commit().unwrap();
    let (rest, _) = poll_until(&mut *committed, "records after the commit", |records, _| records.len() >= 2);
    assert_eq!(values(&rest), ["inside", "behind"]);
}

pub fn the_high_watermark_counts_open_transactions(cluster: &dyn Cluster) {
    let log = cluster.log();
    let name = topic(&*log, "watermark", 1);
    let partition = TopicPartition::new(&name, 0);
    append(&*log, &name, &["one", "two"]);
    let mut producer = log.producer(&fresh("id")).unwrap();
    producer.begin().unwrap();
    producer.send(record(&name, 0, "open")).unwrap();
    wait_for_high_watermark(&*log, &partition, 3);
    let consumer = reader(&*log, true);
    assert_eq!(consumer.offsets(&partition).unwrap(), (0, 3));
    producer.commit().unwrap();
    // The commit writes a control record.
    wait_for_high_watermark(&*log, &partition, 4);
    assert_eq!(consumer.offsets(&partition).unwrap(), (0, 4));
}

pub fn a_fenced_producer_cannot_commit(cluster: &dyn Cluster) {
    let log = cluster.log();
    let name = topic(&*log, "fenced", 1);
    let id = fresh("id");
    let mut zombie = log.producer(&id).unwrap();
    zombie.begin().unwrap();
    zombie.send(record(&name, 0, "zombie")).unwrap();
    wait_for_high_watermark(&*log, &TopicPartition::new(&name, 0), 1);

    let mut successor = log.producer(&id).unwrap();
    successor.begin().unwrap();
    successor.send(record(&name, 0, "successor")).unwrap();
    let outcome = zombie.commit();
    assert!(matches!(outcome, Err(LogError::Fatal(_))), "expected a fatal error, got {outcome:?}");
    successor.commit().unwrap();
    assert_eq!(values(&read_all(&*log, &name, true, 1)), ["successor"]);
    assert_eq!(values(&read_all(&*log, &name, false, 2)), ["zombie", "successor"]);
}

pub fn an_abort_without_a_transaction_is_harmless(cluster: &dyn Cluster) {
    let log = cluster.log();
    let name = topic(&*log, "no-transaction", 1);
    let mut producer = log.producer(&fresh("id")).unwrap();
    producer.abort().unwrap();
    producer.begin().unwrap();
    producer.commit().unwrap();
    producer.abort().unwrap();
    producer.begin().unwrap();
    producer.send(record(&name, 0, "after")).unwrap();
    producer.commit().unwrap();
    assert_eq!(values(&read_all(&*log, &name, true, 1)), ["after"]);
}

pub fn an_abort_right_after_a_send_leaves_the_producer_usable(cluster: &dyn Cluster) {
    let log = cluster.log();
    let name = topic(&*log, "aborts", 1);
    let mut producer = log.producer(&fresh("id")).unwrap();
    let mut expected = Vec::new();
    for number in 0..60 {
        producer.begin().unwrap();
        producer.send(record(&name, 0, &number.to_string())).unwrap();
        // The broker may still be at work on the transaction before.
        if number % 3 == 0 {
            producer.commit().unwrap();
            expected.push(number.to_string());
        } else {
            std::thread::sleep(Duration::from_millis(number % 4));
            producer.abort().unwrap();
        }
    }
    assert_eq!(values(&read_all(&*log, &name, true, expected.len())), expected);
}

pub fn a_transaction_that_was_refused_can_be_aborted_and_followed_by_another(cluster: &dyn Cluster) {
    let log = cluster.log();
    let name = topic(&*log, "refused", 1);
    let mut producer = log.producer(&fresh("id")).unwrap();
    producer.begin().unwrap();
    producer.send(record(&name, 0, "lost")).unwrap();
    // The refusal may come from the call itself or from the commit.
    let outcome = producer.send(record(&name, 9, "to no partition")).and_then(|()| producer.commit());
    assert!(matches!(outcome, Err(LogError::Abort(_))), "expected an abort, got {outcome:?}");
    producer.abort().unwrap();
    producer.begin().unwrap();
    producer.send(record(&name, 0, "kept")).unwrap();
    producer.commit().unwrap();
    assert_eq!(values(&read_all(&*log, &name, true, 1)), ["kept"]);
}

/// A member that has read `count` records of the topic's only partition.
fn member_that_read(log: &dyn Log, group: &str, topic: &str, count: usize) -> Box<dyn Consumer> {
    let mut consumer = member(log, group, topic);
    poll_until(&mut *consumer, "records", |records, _| records.len() >= count);
    consumer
}

/// A transaction with one output record and an offset, ended as `end` says.
fn move_offset(
    producer: &mut dyn Producer,
    consumer: &dyn Consumer,
    output: &str,
    offset: (&TopicPartition, i64),
    end: impl FnOnce(&mut dyn Producer) -> Result<(), LogError>,
) -> Result<(), LogError> {
    producer.begin()?;
    producer.send(record(output, 0, "output"))?;
    producer.send_offsets(&[(offset.0.clone(), offset.1)], &*consumer.group()?)?;
    end(producer)
}

pub fn offsets_move_with_the_transaction(cluster: &dyn Cluster) {
    let log = cluster.log();
    let (input, output, group) = (topic(&*log, "input", 1), topic(&*log, "output", 1), fresh("group"));
    let partition = TopicPartition::new(&input, 0);
    append(&*log, &input, &["a", "b", "c"]);
    let consumer = member_that_read(&*log, &group, &input, 3);
    assert_eq!(committed(&*consumer, &partition), None);
    let mut producer = log.producer(&fresh("id")).unwrap();
    move_offset(&mut *producer, &*consumer, &output, (&partition, 2), |producer| producer.commit()).unwrap();
    assert_eq!(committed(&*consumer, &partition), Some(2));
    assert_eq!(values(&read_all(&*log, &output, true, 1)), ["output"]);

    drop(consumer);
    let mut next = member(&*log, &group, &input);
    let (records, _) = poll_until(&mut *next, "rest of the input", |records, _| !records.is_empty());
    assert_eq!(values(&records), ["c"]);
}

pub fn offsets_of_an_aborted_transaction_do_not_move(cluster: &dyn Cluster) {
    let log = cluster.log();
    let (input, output, group) = (topic(&*log, "input", 1), topic(&*log, "output", 1), fresh("group"));
    let partition = TopicPartition::new(&input, 0);
    append(&*log, &input, &["a", "b", "c"]);
    let mut consumer = member_that_read(&*log, &group, &input, 3);
    let mut producer = log.producer(&fresh("id")).unwrap();
    move_offset(&mut *producer, &*consumer, &output, (&partition, 1), |producer| producer.commit()).unwrap();
    move_offset(&mut *producer, &*consumer, &output, (&partition, 3), |producer| producer.abort()).unwrap();
    assert_eq!(committed(&*consumer, &partition), Some(1));
    assert_eq!(values(&read_all(&*log, &output, true, 1)), ["output"]);
    consumer.seek(&partition, 1).unwrap();
    let (records, _) = poll_until(&mut *consumer, "what was not committed", |records, _| records.len() >= 2);
    assert_eq!(values(&records), ["b", "c"]);
}

pub fn a_successor_waits_for_its_predecessors_pending_offsets(cluster: &dyn Cluster) {
    let log = cluster.log();
    let (input, output, group) = (topic(&*log, "input", 1), topic(&*log, "output", 1), fresh("group"));
    let partition = TopicPartition::new(&input, 0);
    append(&*log, &input, &["a", "b", "c"]);
    let consumer = member_that_read(&*log, &group, &input, 3);
    let mut producer = log.producer(&fresh("id")).unwrap();
    producer.begin().unwrap();
    producer.send(record(&output, 0, "a+b")).unwrap();
    producer.send_offsets(&[(partition.clone(), 2)], &*consumer.group().unwrap()).unwrap();
    drop(consumer);

    let mut successor = member(&*log, &group, &input);
    poll_until(&mut *successor, "assignment", |_, events| assigned(events) == Some(1));
    assert_eq!(values(&poll_quietly(&mut *successor)), [""; 0]);
    producer.commit().unwrap();
    let (records, _) =
        poll_until(&mut *successor, "records behind the pending offset", |records, _| !records.is_empty());
    assert_eq!(values(&records), ["c"]);
}

pub fn a_member_with_a_stale_generation_cannot_commit(cluster: &dyn Cluster) {
    let log = cluster.log();
    let (input, output, group) = (topic(&*log, "input", 2), topic(&*log, "output", 1), fresh("group"));
    let partition = TopicPartition::new(&input, 0);
    log.append(vec![record(&input, 0, "a"), record(&input, 1, "b")]).unwrap();
    let mut first = member_that_read(&*log, &group, &input, 2);
    let stale = first.group().unwrap();
    let mut second = member(&*log, &group, &input);

    // The first member finds out without polling, and is refused before it can commit with a new generation
    // what it read under the old one.
    let deadline = Instant::now() + PATIENCE;
    while first.group().is_ok() {
        assert!(Instant::now() < deadline, "the first member's group() never told of the rebalance");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(matches!(first.group().err(), Some(LogError::Rebalanced)));
    let (mut records, mut events, mut second_events) = (Vec::new(), Vec::new(), Vec::new());
    while assigned(&second_events) != Some(1) || assigned(&events) != Some(1) {
        assert!(Instant::now() < deadline, "the group did not settle: {events:?}, {second_events:?}");
        poll_into(&mut *first, TICK, &mut records, &mut events);
        poll_into(&mut *second, TICK, &mut Vec::new(), &mut second_events);
    }
    let revoked = events.iter().position(|event| matches!(event, ConsumerEvent::Revoked(all) if all.len() == 2));
    let given = events.iter().position(|event| matches!(event, ConsumerEvent::Assigned(_)));
    assert!(revoked.is_some() && revoked < given, "expected a revoke, then an assignment, got {events:?}");

    let mut producer = log.producer(&fresh("id")).unwrap();
    producer.begin().unwrap();
    producer.send(record(&output, 0, "stale")).unwrap();
    let outcome = producer.send_offsets(&[(partition.clone(), 1)], &*stale).and_then(|()| producer.commit());
    assert!(matches!(outcome, Err(LogError::Abort(_))), "expected an abort, got {outcome:?}");
    producer.abort().unwrap();
    assert_eq!(committed(&*first, &partition), None);
    assert_eq!(values(&read_all(&*log, &output, true, 0)), [""; 0]);

    // With its present generation it can.
    let own = first.assignment()[0].clone();
    move_offset(&mut *producer, &*first, &output, (&own, 1), |producer| producer.commit()).unwrap();
    assert_eq!(committed(&*first, &own), Some(1));
}

pub fn a_rebalance_loses_and_duplicates_nothing(cluster: &dyn Cluster) {
    let log = cluster.log();
    let (input, output, group) = (topic(&*log, "input", 4), topic(&*log, "output", 4), fresh("group"));
    let sent: Vec<String> = (0..4_000).map(|number| format!("{number:05}")).collect();
    let keyed = |value: &String| OutRecord {
        topic: input.as_str().into(),
        key: Some(format!("key-{}", &value[3..]).into_bytes()),
        value: Some(value.clone().into_bytes()),
        ..OutRecord::default()
    };
    log.append(sent.iter().map(keyed).collect()).unwrap();

    let mut output_reader = reader(&*log, true);
    let all: Vec<_> = (0..4).map(|partition| (TopicPartition::new(&output, partition), None)).collect();
    output_reader.assign(&all).unwrap();
    let mut copied: Vec<Read> = Vec::new();
    let mut wait_for = |count: usize| {
        let missing = count.saturating_sub(copied.len());
        let (more, _) = poll_until(&mut *output_reader, "output", |records, _| records.len() >= missing);
        copied.extend(more);
        copied.clone()
    };
    let start = |name: &str| -> Box<dyn Worker> {
        cluster.start(Job {
            group: group.clone(),
            input: input.clone(),
            output: output.clone(),
            transactional_id: format!("{group}-{name}"),
        })
    };
    let first = start("first");
    wait_for(400);
    let second = start("second");
    wait_for(1_200);
    second.kill();
    wait_for(1_600);
    let third = start("third");
    wait_for(2_400);
    first.stop();
    let second_again = start("second");
    let mut copied = wait_for(sent.len());
    third.stop();
    second_again.stop();
    poll_into(&mut *output_reader, QUIET, &mut copied, &mut Vec::new());

    let mut by_value: Vec<&str> = values(&copied);
    by_value.sort_unstable();
    assert_eq!(by_value.len(), sent.len());
    assert_eq!(by_value, sent);
    for key in copied.iter().map(|record| record.key.clone()).collect::<BTreeSet<_>>() {
        let of_key: Vec<&Read> = copied.iter().filter(|record| record.key == key).collect();
        let mut in_order = of_key.clone();
        in_order.sort_by_key(|record| &record.value);
        assert_eq!(of_key, in_order, "records of {key:?} changed their order");
    }
}

pub fn the_end_is_found_past_a_control_record(cluster: &dyn Cluster) {
    let log = cluster.log();
    let name = topic(&*log, "end", 2);
    let (written, empty) = (TopicPartition::new(&name, 0), TopicPartition::new(&name, 1));
    let mut producer = log.producer(&fresh("id")).unwrap();
    for commit in [true, false] {
        producer.begin().unwrap();
        producer.send(record(&name, 0, "value")).unwrap();
        wait_for_high_watermark(&*log, &written, if commit { 1 } else { 3 });
        if commit { producer.commit() } else { producer.abort() }.unwrap();
    }
    wait_for_high_watermark(&*log, &written, 4);
    for read_committed in [true, false] {
        let mut consumer = reader(&*log, read_committed);
        consumer.assign(&[(written.clone(), None), (empty.clone(), None)]).unwrap();
        let high = consumer.offsets(&written).unwrap().1;
        assert_eq!(high, 4, "a record and a control record for each transaction");
        let (records, events) = poll_until(&mut *consumer, "both ends", |_, events| {
            ends(events, &written).contains(&high) && !ends(events, &empty).is_empty()
        });
        assert_eq!(records.len(), if read_committed { 1 } else { 2 });
        assert_eq!(ends(&events, &empty), [0]);
    }

    // What comes later moves the end, even if there is nothing in it to show.
    let mut consumer = reader(&*log, true);
    consumer.assign(&[(empty.clone(), None)]).unwrap();
    poll_until(&mut *consumer, "first end", |_, events| ends(events, &empty).contains(&0));
    producer.begin().unwrap();
    producer.send(record(&name, 1, "late")).unwrap();
    wait_for_high_watermark(&*log, &empty, 1);
    producer.abort().unwrap();
    let (records, _) = poll_until(&mut *consumer, "new end", |_, events| ends(events, &empty).contains(&2));
    assert_eq!(values(&records), [""; 0]);
}

pub fn a_seek_moves_the_next_record_and_nothing_read_ahead_is_shown(cluster: &dyn Cluster) {
    let log = cluster.log();
    let name = topic(&*log, "seek", 2);
    let (sought, other) = (TopicPartition::new(&name, 0), TopicPartition::new(&name, 1));
    let sent: Vec<OutRecord> =
        (0..2_000).flat_map(|number| [0, 1].map(|partition| record(&name, partition, &number.to_string()))).collect();
    log.append(sent).unwrap();
    for group in [None, Some(fresh("group"))] {
        let mut consumer = match &group {
            None => {
                let mut consumer = reader(&*log, true);
                consumer.assign(&[(sought.clone(), None), (other.clone(), None)]).unwrap();
                consumer
            }
            Some(group) => member(&*log, group, &name),
        };
        let mut read = Vec::new();
        let mut next = [0_i64; 2];
        let mut take = |consumer: &mut dyn Consumer, expect_first: Option<i64>| {
            let mut expect_first = expect_first;
            let deadline = Instant::now() + PATIENCE;
            loop {
                assert!(Instant::now() < deadline, "no record of {sought} within {PATIENCE:?}");
                let polled = consumer.poll(50, TICK).unwrap();
                let mut met = false;
                for record in polled.records.iter() {
                    let at = record.partition as usize;
                    if at == 0
                        && let Some(first) = expect_first.take()
                    {
                        next[0] = first;
                    }
                    assert_eq!(record.offset, next[at], "next record of partition {at}");
                    next[at] += 1;
                    met |= at == 0;
                    read.push((record.partition, record.offset));
                }
                if met {
                    break;
                }
            }
        };
        take(&mut *consumer, None);
        for offset in [0, 1_990, 3, 3, 500] {
            consumer.seek(&sought, offset).unwrap();
            take(&mut *consumer, Some(offset));
        }
        let of_other: Vec<i64> =
            read.iter().filter(|(partition, _)| *partition == 1).map(|(_, offset)| *offset).collect();
        assert_eq!(of_other, (0..of_other.len() as i64).collect::<Vec<_>>(), "the other partition is not disturbed");
    }
}

pub fn a_slow_reader_misses_nothing_and_does_not_hold_up_its_group(cluster: &dyn Cluster) {
    const EACH: i64 = 100_000;
    // Long enough for a backend to give up waiting for its reader.
    const PAUSE: Duration = Duration::from_millis(2_500);
    let log = cluster.log();
    let (name, group) = (topic(&*log, "slow", 2), fresh("group"));
    let value = "x".repeat(50);
    for _ in 0..EACH / 10_000 {
        let batch = (0..20_000).map(|number| record(&name, number % 2, &value));
        log.append(batch.collect()).unwrap();
    }
    let mut slow = member(&*log, &group, &name);
    let mut next = [0_i64; 2];
    let deadline = Instant::now() + PATIENCE;
    let mut pauses = 2;
    while next != [EACH, EACH] {
        assert!(Instant::now() < deadline, "read up to {next:?}, expected {EACH} each");
        for record in slow.poll(5_000, TICK).unwrap().records.iter() {
            let at = record.partition as usize;
            assert_eq!(record.offset, next[at], "next record of partition {at}");
            next[at] += 1;
        }
        let seen = next[0] + next[1];
        if (pauses == 2 && seen > 0) || (pauses == 1 && seen > EACH) {
            pauses -= 1;
            std::thread::sleep(PAUSE);
        }
    }
    assert_eq!(pauses, 0);

    // Once more without reading, this time with a second member at the door.
    let other = fresh("group");
    let mut slow = member(&*log, &other, &name);
    while slow.poll(1, TICK).unwrap().records.is_empty() {}
    std::thread::sleep(PAUSE);
    let mut second = member(&*log, &other, &name);
    let (records, events) = poll_until(&mut *second, "share", |records, _| records.len() >= 1_000);
    assert_eq!(assigned(&events), Some(1));
    assert_eq!(records.iter().map(|record| record.partition).collect::<BTreeSet<_>>().len(), 1);
    assert!(matches!(slow.group().err(), Some(LogError::Rebalanced)));
}

pub fn an_assignment_by_hand_starts_where_it_says(cluster: &dyn Cluster) {
    let log = cluster.log();
    let name = topic(&*log, "by-hand", 2);
    let sent = (0..10).flat_map(|number| [0, 1].map(|partition| record(&name, partition, &number.to_string())));
    log.append(sent.collect()).unwrap();
    let (first, second) = (TopicPartition::new(&name, 0), TopicPartition::new(&name, 1));
    let mut consumer = reader(&*log, true);
    consumer.assign(&[(first.clone(), Some(7))]).unwrap();
    assert_eq!(consumer.assignment(), std::slice::from_ref(&first));
    let (records, _) = poll_until(&mut *consumer, "end", |_, events| !ends(events, &first).is_empty());
    assert_eq!(values(&records), ["7", "8", "9"]);

    consumer.assign(&[(second.clone(), None)]).unwrap();
    assert_eq!(consumer.assignment(), std::slice::from_ref(&second));
    let (records, _) = poll_until(&mut *consumer, "end", |_, events| !ends(events, &second).is_empty());
    assert_eq!(
        records.iter().map(|record| (record.partition, record.offset)).collect::<Vec<_>>(),
        (0..10).map(|offset| (1, offset)).collect::<Vec<_>>()
    );
}

pub fn a_group_that_starts_at_the_latest_skips_what_was_there(cluster: &dyn Cluster) {
    let log = cluster.log();
    let name = topic(&*log, "latest", 1);
    append(&*log, &name, &["old", "older"]);
    let options = ConsumerOptions { start: StartOffset::Latest, ..member_options(&fresh("group"), &name) };
    let mut consumer = log.consumer(options).unwrap();
    let partition = TopicPartition::new(&name, 0);
    poll_until(&mut *consumer, "end", |_, events| ends(events, &partition).contains(&2));
    append(&*log, &name, &["new"]);
    let (records, _) = poll_until(&mut *consumer, "new record", |records, _| !records.is_empty());
    assert_eq!(values(&records), ["new"]);
}

pub fn a_key_goes_to_the_partition_that_other_clients_choose(cluster: &dyn Cluster) {
    let log = cluster.log();
    let name = topic(&*log, "keys", 5);
    // Murmur2 as Kafka's UtilsTest gives it, made non-negative, modulo 5.
    let expected = [("21", -973_932_308_i32), ("foobar", -790_332_482), ("a-little-bit-long-string", -985_981_536)]
        .map(|(key, hash)| (key, (hash & 0x7fff_ffff) % 5));
    let keyed = |key: &str| OutRecord {
        topic: name.as_str().into(),
        key: Some(key.as_bytes().to_vec()),
        value: Some(b"value".to_vec()),
        ..OutRecord::default()
    };
    log.append(expected.iter().map(|(key, _)| keyed(key)).collect()).unwrap();
    let mut producer = log.producer(&fresh("id")).unwrap();
    producer.begin().unwrap();
    for (key, _) in &expected {
        producer.send(keyed(key)).unwrap();
    }
    producer.commit().unwrap();
    let read = read_all(&*log, &name, true, 6);
    for (key, partition) in expected {
        let found: Vec<i32> =
            read.iter().filter(|record| record.key.as_deref() == Some(key)).map(|record| record.partition).collect();
        assert_eq!(found, [partition; 2], "partitions of {key}");
    }
}

pub fn tombstones_empty_values_and_headers_pass(cluster: &dyn Cluster) {
    let log = cluster.log();
    let name = topic(&*log, "shapes", 1);
    let some = |text: &str| Some(text.as_bytes().to_vec());
    let shapes = [(some("key"), None), (None, some("value")), (some(""), some("")), (some("key"), some("value"))];
    let out = |(key, value): (Option<Vec<u8>>, Option<Vec<u8>>)| OutRecord {
        topic: name.as_str().into(),
        partition: Some(0),
        key,
        value,
        headers: vec![("reason".into(), b"why".to_vec()), ("empty".into(), Vec::new())],
    };
    log.append(shapes.iter().cloned().map(out).collect()).unwrap();
    let mut producer = log.producer(&fresh("id")).unwrap();
    producer.begin().unwrap();
    for shape in shapes.iter().cloned() {
        producer.send(out(shape)).unwrap();
    }
    producer.commit().unwrap();
    let bytes = |text: &Option<String>| text.clone().map(String::into_bytes);
    let read: Vec<_> =
        read_all(&*log, &name, true, 8).iter().map(|record| (bytes(&record.key), bytes(&record.value))).collect();
    assert_eq!(read, [shapes.clone(), shapes].concat());
}

pub fn a_record_of_nine_hundred_kilobytes_passes(cluster: &dyn Cluster) {
    let log = cluster.log();
    let name = topic(&*log, "large", 1);
    let value: Vec<u8> =
        (0..900_000_u64).map(|index| (index.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 57) as u8).collect();
    let large = |_| OutRecord { topic: name.as_str().into(), value: Some(value.clone()), ..OutRecord::default() };
    let mut producer = log.producer(&fresh("id")).unwrap();
    producer.begin().unwrap();
    for record in (0..5).map(large) {
        producer.send(record).unwrap();
    }
    producer.commit().unwrap();
    let read = read_all(&*log, &name, true, 5);
    assert_eq!(
        read.iter().map(|record| record.value.as_ref().map_or(0, String::len)).collect::<Vec<_>>(),
        [900_000; 5]
    );
    assert!(read.iter().all(|record| record.value.as_deref().map(str::as_bytes) == Some(&value)));
}
