//! A consumer's event queue, read through librdkafka's own functions.
//!
//! This is the one unsafe file. `BaseConsumer::poll` reports the end of a partition without its topic and its
//! offset (`KafkaError::PartitionEOF` holds the partition's number alone), and both restores and idle sources
//! need them; the same loop spares an allocation a record. And rdkafka keeps the generation in
//! `ConsumerGroupMetadata` to itself, without which an expired membership cannot be told from a live one.

#![allow(unsafe_code)]

use std::ffi::{CStr, c_char};
use std::ptr::NonNull;
use std::time::Duration;

use rdkafka::bindings as sys;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::types::RDKafkaRespErr;

use crate::log::TopicPartition;

/// One message, borrowed from its event.
pub(super) struct Message<'a> {
    pub topic: &'a str,
    pub partition: i32,
    pub offset: i64,
    pub timestamp_ms: i64,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
}

pub(super) enum Event<'a> {
    Message(Message<'a>),
    Assign(Vec<TopicPartition>),
    Revoke(Vec<TopicPartition>),
    EndOfPartition {
        partition: TopicPartition,
        next_offset: i64,
    },
    Error {
        code: RDKafkaErrorCode,
        fatal: bool,
        reason: String,
    },
    /// A line of librdkafka's log; `level` as in syslog.
    Log {
        level: i32,
        facility: String,
        line: String,
    },
    Other,
}

/// The queue on which a consumer's messages, rebalances, errors and log lines arrive, in order.
pub(super) struct EventQueue {
    queue: NonNull<sys::rd_kafka_queue_t>,
}

// SAFETY: librdkafka's queues may be used from any thread.
unsafe impl Send for EventQueue {}

/// Destroys its event when it goes out of scope.
struct OwnedEvent(NonNull<sys::rd_kafka_event_t>);

impl Drop for OwnedEvent {
    fn drop(&mut self) {
        // SAFETY: the event came from rd_kafka_queue_poll and is destroyed nowhere else.
        unsafe { sys::rd_kafka_event_destroy(self.0.as_ptr()) }
    }
}

impl EventQueue {
    /// `None` if the consumer has no group id. The queue must be dropped before the consumer.
    pub fn new<C: ConsumerContext>(consumer: &BaseConsumer<C>) -> Option<Self> {
        // SAFETY: the client pointer is valid while `consumer` lives; the queue returned is a counted reference.
        let queue = unsafe { sys::rd_kafka_queue_get_consumer(consumer.client().native_ptr()) };
        NonNull::new(queue).map(|queue| Self { queue })
    }

    /// Waits for at most `timeout`; hands the next event to `visit`, or returns `None`.
    pub fn poll<R>(&self, timeout: Duration, visit: impl FnOnce(Event<'_>) -> R) -> Option<R> {
        // SAFETY: `self.queue` is a counted reference to a live queue.
        let event = unsafe { sys::rd_kafka_queue_poll(self.queue.as_ptr(), timeout.as_millis() as i32) };
        let event = OwnedEvent(NonNull::new(event)?);
        Some(visit(event.read()))
    }
}

impl Drop for EventQueue {
    fn drop(&mut self) {
        // SAFETY: gives back the reference that `new` took.
        unsafe { sys::rd_kafka_queue_destroy(self.queue.as_ptr()) }
    }
}

impl OwnedEvent {
    fn read(&self) -> Event<'_> {
        let event = self.0.as_ptr();
        // SAFETY: in all of these `event` is alive, and each accessor is called on the type of event it is for.
        unsafe {
            match sys::rd_kafka_event_type(event) {
                sys::RD_KAFKA_EVENT_FETCH => self.message().map_or(Event::Other, Event::Message),
                sys::RD_KAFKA_EVENT_REBALANCE => {
                    let partitions = partitions_of(sys::rd_kafka_event_topic_partition_list(event));
                    match sys::rd_kafka_event_error(event) {
                        RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => Event::Assign(partitions),
                        _ => Event::Revoke(partitions),
                    }
                }
                sys::RD_KAFKA_EVENT_ERROR => self.error(),
                sys::RD_KAFKA_EVENT_LOG => {
                    let (mut facility, mut line, mut level) = (std::ptr::null(), std::ptr::null(), 0);
                    sys::rd_kafka_event_log(event, &mut facility, &mut line, &mut level);
                    Event::Log { level, facility: text(facility), line: text(line) }
                }
                _ => Event::Other,
            }
        }
    }

    /// # Safety
    /// The event must be of type FETCH.
    unsafe fn message(&self) -> Option<Message<'_>> {
        // SAFETY: by contract; the message and all that it points to live as long as the event.
        unsafe {
            let message = sys::rd_kafka_event_message_next(self.0.as_ptr()).as_ref()?;
            if message.err != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
                return None;
            }
            let bytes = |start: *mut std::ffi::c_void, len: usize| {
                NonNull::new(start.cast::<u8>()).map(|start| std::slice::from_raw_parts(start.as_ptr(), len))
            };
            let mut kind = sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
            Some(Message {
                // Kafka allows ASCII letters, digits, `.`, `_` and `-` in a topic's name.
                topic: CStr::from_ptr(sys::rd_kafka_topic_name(message.rkt)).to_str().ok()?,
                partition: message.partition,
                offset: message.offset,
                timestamp_ms: sys::rd_kafka_message_timestamp(message, &mut kind),
                key: bytes(message.key, message.key_len),
                value: bytes(message.payload, message.len),
            })
        }
    }

    /// # Safety
    /// The event must be of type ERROR.
    unsafe fn error(&self) -> Event<'_> {
        let event = self.0.as_ptr();
        // SAFETY: by contract; the partition returned is ours to destroy.
        unsafe {
            let code: RDKafkaErrorCode = sys::rd_kafka_event_error(event).into();
            if code == RDKafkaErrorCode::PartitionEOF
                && let Some(partition) = NonNull::new(sys::rd_kafka_event_topic_partition(event))
            {
                let at = partition.as_ref();
                let end = Event::EndOfPartition {
                    partition: TopicPartition { topic: text(at.topic).as_str().into(), partition: at.partition },
                    next_offset: at.offset,
                };
                sys::rd_kafka_topic_partition_destroy(partition.as_ptr());
                return end;
            }
            let fatal = sys::rd_kafka_event_error_is_fatal(event) != 0;
            Event::Error { code, fatal, reason: text(sys::rd_kafka_event_error_string(event)) }
        }
    }
}

/// # Safety
/// `start` is null or a string that ends with a zero byte.
unsafe fn text(start: *const c_char) -> String {
    // SAFETY: by contract.
    if start.is_null() { String::new() } else { unsafe { CStr::from_ptr(start) }.to_string_lossy().trim().to_string() }
}

/// # Safety
/// `list` is null or a valid list.
unsafe fn partitions_of(list: *const sys::rd_kafka_topic_partition_list_t) -> Vec<TopicPartition> {
    // SAFETY: by contract; a list of `cnt` elements has that many at `elems`, or none.
    unsafe {
        let Some(list) = list.as_ref().filter(|list| list.cnt > 0) else { return Vec::new() };
        std::slice::from_raw_parts(list.elems, list.cnt as usize)
            .iter()
            .map(|at| TopicPartition { topic: text(at.topic).as_str().into(), partition: at.partition })
            .collect()
    }
}

/// Who a consumer is in its group at one instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Membership {
    pub generation: i32,
    pub member: String,
}

impl Membership {
    /// `None` while the consumer is no member: librdkafka then answers generation -1 and no member id, which a
    /// broker takes for "not a member of a group" and does not fence.
    pub fn of<C: ConsumerContext>(consumer: &BaseConsumer<C>) -> Option<Self> {
        // SAFETY: the client pointer is valid while `consumer` lives; the metadata is ours to destroy, after
        // its member id was copied.
        unsafe {
            let metadata = NonNull::new(sys::rd_kafka_consumer_group_metadata(consumer.client().native_ptr()))?;
            let membership = Self {
                generation: sys::rd_kafka_consumer_group_metadata_generation_id(metadata.as_ptr()),
                member: text(sys::rd_kafka_consumer_group_metadata_member_id(metadata.as_ptr())),
            };
            sys::rd_kafka_consumer_group_metadata_destroy(metadata.as_ptr());
            Some(membership).filter(|membership| membership.generation >= 0 && !membership.member.is_empty())
        }
    }
}
