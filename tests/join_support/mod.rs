//! What the tests of the join share: the aggregates of performance, put together as the windows role does.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;

use driftline::ingest::partial::decode_flush;
use driftline::log::{ConsumerEvent, ConsumerOptions, Log, StartOffset, TopicPartition};
use driftline::stats::metric::MetricValue;
use driftline::stats::performance::PERFORMANCE_FEATURE;
use driftline::stats::performance::profile::{PerformanceLayout, PerformanceProfile};

/// Version, segment column and value, start of the pane.
pub type Place = (String, String, String, i64);

/// What a pane says: predictions that can be labelled, labels, metrics.
#[derive(Debug, Clone, PartialEq)]
pub struct Figures {
    pub sampled: u64,
    pub labelled: u64,
    pub metrics: BTreeMap<String, MetricValue>,
}

/// Values of all committed records of a topic.
pub fn values(log: &dyn Log, topic: &str) -> Vec<Vec<u8>> {
    let mut values = Vec::new();
    for partition in 0..log.partition_count(topic).unwrap().unwrap() {
        let options =
            ConsumerOptions { group: None, topics: vec![], start: StartOffset::Earliest, read_committed: true };
        let mut consumer = log.consumer(options).unwrap();
        let partition = TopicPartition::new(topic, partition);
        let (mut position, end) = consumer.offsets(&partition).unwrap();
        consumer.assign(&[(partition, None)]).unwrap();
        while position < end {
            let polled = consumer.poll(4096, std::time::Duration::from_secs(1)).unwrap();
            for record in polled.records.iter() {
                position = record.offset + 1;
                values.push(record.value.unwrap_or_default().to_vec());
            }
            for event in polled.events {
                if let ConsumerEvent::EndOfPartition { next_offset, .. } = event {
                    position = position.max(next_offset);
                }
            }
        }
    }
    values
}

/// Every aggregate of performance in the topic `partials`, added up by pane and segment.
pub fn profiles(log: &dyn Log, partials: &str, layout: &PerformanceLayout) -> BTreeMap<Place, PerformanceProfile> {
    let mut profiles: BTreeMap<Place, PerformanceProfile> = BTreeMap::new();
    for value in values(log, partials) {
        for row in decode_flush(&value).unwrap().rows.into_iter().filter(|row| row.feature == PERFORMANCE_FEATURE) {
            let profile = PerformanceProfile::decode(&row.state, layout).unwrap();
            let place = (row.version, row.segment_column, row.segment_value, row.pane_start_ms);
            profiles.entry(place).or_insert_with(|| PerformanceProfile::new(layout)).merge(&profile);
        }
    }
    profiles
}

pub fn figures(profiles: &BTreeMap<Place, PerformanceProfile>, layout: &PerformanceLayout) -> BTreeMap<Place, Figures> {
    let figures = |profile: &PerformanceProfile| Figures {
        sampled: profile.sampled(),
        labelled: profile.labelled(),
        metrics: profile.metrics(layout),
    };
    profiles.iter().map(|(place, profile)| (place.clone(), figures(profile))).collect()
}

/// Labels met in all panes, over all segments that are the whole.
pub fn labelled(profiles: &BTreeMap<Place, PerformanceProfile>) -> u64 {
    let whole = profiles.iter().filter(|((_, column, ..), _)| column.is_empty());
    whole.map(|(_, profile)| profile.labelled()).sum()
}

/// A generator of random numbers: the same for the same seed.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }

    pub fn ms(&mut self, below: i64) -> i64 {
        self.below(below as u64) as i64
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for index in (1..items.len()).rev() {
            items.swap(index, self.below(index as u64 + 1) as usize);
        }
    }
}
