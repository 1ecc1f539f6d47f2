//! A worker that copies records from one topic to another, exactly once: the loop that every role has.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use driftline::log::{
    Consumer, ConsumerOptions, Log, LogError, OutRecord, Polled, Producer, Result, StartOffset, TopicPartition,
};

use crate::cluster::{KafkaCluster, Worker};

#[derive(Debug, Clone)]
pub struct Job {
    pub group: String,
    pub input: String,
    pub output: String,
    pub transactional_id: String,
}

pub fn member_options(group: &str, topic: &str) -> ConsumerOptions {
    ConsumerOptions {
        group: Some(group.to_string()),
        topics: vec![topic.to_string()],
        start: StartOffset::Earliest,
        read_committed: true,
    }
}

/// Copies until `stop` says so. Small batches and pauses, so that rebalances and kills fall inside of them.
pub fn transform(log: &dyn Log, job: &Job, stop: &dyn Fn() -> bool) -> Result<()> {
    let mut consumer = log.consumer(member_options(&job.group, &job.input))?;
    let mut producer = log.producer(&job.transactional_id)?;
    while !stop() {
        let polled = consumer.poll(10, Duration::from_millis(50))?;
        if polled.records.is_empty() {
            continue;
        }
        match copy(&mut *consumer, &mut *producer, &polled, job) {
            Ok(()) => {}
            Err(LogError::Fatal(reason)) => return Err(LogError::Fatal(reason)),
            Err(_) => {
                producer.abort()?;
                return_to_committed(&mut *consumer)?;
            }
        }
    }
    Ok(())
}

fn copy(consumer: &mut dyn Consumer, producer: &mut dyn Producer, polled: &Polled, job: &Job) -> Result<()> {
    producer.begin()?;
    let mut next: BTreeMap<TopicPartition, i64> = BTreeMap::new();
    for record in polled.records.iter() {
        next.insert(TopicPartition { topic: record.topic.clone(), partition: record.partition }, record.offset + 1);
        producer.send(OutRecord {
            topic: job.output.as_str().into(),
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            ..OutRecord::default()
        })?;
        std::thread::sleep(Duration::from_micros(300));
    }
    let next: Vec<_> = next.into_iter().collect();
    producer.send_offsets(&next, &*consumer.group()?)?;
    producer.commit()
}

/// Everything read and not committed is read again.
fn return_to_committed(consumer: &mut dyn Consumer) -> Result<()> {
    for partition in consumer.assignment() {
        let offset = loop {
            match consumer.committed(&partition) {
                Ok(offset) => break offset.unwrap_or(0),
                Err(LogError::Retry(_)) => std::thread::sleep(Duration::from_millis(20)),
                Err(other) => return Err(other),
            }
        };
        match consumer.seek(&partition, offset) {
            // The next poll tells what has become of the assignment.
            Err(LogError::Rebalanced) => return Ok(()),
            outcome => outcome?,
        }
    }
    Ok(())
}

const JOB: &str = "DRIFTLINE_TEST_WORKER";

/// A worker in a process of its own, so that it can be killed with SIGKILL: librdkafka's own threads would go
/// on sending heartbeats for a consumer that is merely forgotten.
pub struct Process {
    child: Child,
}

impl Process {
    pub fn start(bootstrap_servers: &str, job: &Job) -> Self {
        let job = [bootstrap_servers, &job.group, &job.input, &job.output, &job.transactional_id].join(" ");
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "worker_process", "--ignored", "--nocapture"])
            .env(JOB, job)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        Self { child }
    }
}

impl Worker for Process {
    fn stop(mut self: Box<Self>) {
        self.child.stdin.take().unwrap().write_all(b"stop\n").unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "the worker process ended with {status}");
    }

    fn kill(mut self: Box<Self>) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A failed test must not leave its workers behind; both fail harmlessly where the worker has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn run_if_asked() {
    let Ok(job) = std::env::var(JOB) else { return };
    let parts: Vec<&str> = job.split(' ').collect();
    let [bootstrap_servers, group, input, output, transactional_id] = parts[..] else {
        panic!("{JOB} holds {} words, expected 5", parts.len());
    };
    let job = Job {
        group: group.into(),
        input: input.into(),
        output: output.into(),
        transactional_id: transactional_id.into(),
    };
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    std::thread::spawn(move || {
        // One line, or the end of the pipe when the parent is gone.
        let _ = std::io::stdin().read(&mut [0; 16]);
        stopped.store(true, Ordering::SeqCst);
    });
    let log = KafkaCluster::connect(bootstrap_servers);
    transform(&log, &job, &|| stop.load(Ordering::SeqCst)).unwrap();
}
