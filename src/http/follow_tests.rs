use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Instant;

use super::*;
use crate::http::view::{DeliveryStatus, Limits};
use crate::log::{GroupMetadata, Polled, Producer, Records, Result, TopicSpec};
use crate::windows::result::{Segment, Window};

type Held = Arc<Mutex<BTreeMap<TopicPartition, Vec<Vec<u8>>>>>;

/// One partition a topic, all committed. Enough for a reader without a group.
struct Shelf {
    held: Held,
}

struct Reader {
    held: Held,
    positions: BTreeMap<TopicPartition, usize>,
}

impl Log for Shelf {
    fn append(&self, _: Vec<crate::log::OutRecord>) -> Result<()> {
        Err(LogError::Fatal("this log is read only".into()))
    }

    fn create_topics(&self, _: &[TopicSpec]) -> Result<()> {
        Ok(())
    }
    fn partition_count(&self, topic: &str) -> Result<Option<i32>> {
        Ok(self.held.lock().unwrap().contains_key(&TopicPartition::new(topic, 0)).then_some(1))
    }
    fn consumer(&self, options: ConsumerOptions) -> Result<Box<dyn Consumer>> {
        assert!(options.read_committed && options.group.is_none(), "{options:?}");
        Ok(Box::new(Reader { held: self.held.clone(), positions: BTreeMap::new() }))
    }
    fn producer(&self, _: &str) -> Result<Box<dyn Producer>> {
        Err(LogError::Fatal("read only".into()))
    }
}

impl Consumer for Reader {
    fn poll(&mut self, max_records: usize, _: Duration) -> Result<Polled> {
        std::thread::sleep(Duration::from_millis(1));
        let mut polled = Polled { events: Vec::new(), records: Records::default() };
        let held = self.held.lock().unwrap();
        for (partition, position) in &mut self.positions {
            let values = &held[partition];
            for value in values.iter().skip(*position).take(max_records) {
                polled.records.push(&partition.topic, 0, *position as i64, 0, None, Some(value));
                *position += 1;
            }
            if *position == values.len() {
                let next_offset = *position as i64;
                polled.events.push(ConsumerEvent::EndOfPartition { partition: partition.clone(), next_offset });
            }
        }
        Ok(polled)
    }
    fn assign(&mut self, partitions: &[(TopicPartition, Option<i64>)]) -> Result<()> {
        let at = |offset: Option<i64>| offset.unwrap_or(0) as usize;
        self.positions = partitions.iter().map(|(partition, offset)| (partition.clone(), at(*offset))).collect();
        Ok(())
    }
    fn assignment(&self) -> Vec<TopicPartition> {
        self.positions.keys().cloned().collect()
    }
    fn seek(&mut self, _: &TopicPartition, _: i64) -> Result<()> {
        Ok(())
    }
    fn committed(&self, _: &TopicPartition) -> Result<Option<i64>> {
        Ok(None)
    }
    fn offsets(&self, partition: &TopicPartition) -> Result<(i64, i64)> {
        Ok((0, self.held.lock().unwrap()[partition].len() as i64))
    }
    fn group(&self) -> Result<Box<dyn GroupMetadata>> {
        Err(LogError::Rebalanced)
    }
    fn healthy(&self) -> bool {
        true
    }
}

fn result(rows: u64) -> Vec<u8> {
    let result = WindowResult {
        model: "fraud".into(),
        version: "3".into(),
        segment: Segment::default(),
        window: Window { start_ms: 0, end_ms: 1_000 },
        revision: rows as u32,
        reference: "training".into(),
        reference_id: "abc".into(),
        rows,
        complete: true,
        baseline: None,
        quality: None,
        changes: Vec::new(),
        performance: None,
        features: BTreeMap::new(),
    };
    serde_json::to_vec(&result).unwrap()
}

fn wait_for(what: &str, condition: impl Fn() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < Duration::from_secs(20), "{what} did not happen");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn the_view_catches_up_follows_on_and_survives_unreadable_records() {
    let topics = Topics::new("driftline");
    let partition = |topic: &str| TopicPartition::new(topic, 0);
    let old = CATCH_UP_RECORDS as u64 + 50;
    let delivery = Delivery {
        notification_id: "e-0".into(),
        receiver: "oncall".into(),
        status: DeliveryStatus::Delivered,
        attempts: 1,
        last_error: None,
        at_ms: 1,
    };
    let held: Held = Arc::new(Mutex::new(BTreeMap::from([
        (partition(&topics.results), (0..old).map(result).collect()),
        (partition(&topics.outbox), vec![b"{".to_vec()]),
        (partition(&topics.deliveries), vec![serde_json::to_vec(&delivery).unwrap()]),
        (partition(&topics.control), Vec::new()),
        (partition(&topics.actions), Vec::new()),
    ])));
    let view = Arc::new(RwLock::new(View::new(Limits::default())));
    let metrics = Metrics::new().unwrap();
    let (handle, thread) = spawn(Follow {
        log: Arc::new(Shelf { held: held.clone() }),
        topics: topics.clone(),
        view: view.clone(),
        decode_delivery: Box::new(|value| serde_json::from_slice(value).map(Some).map_err(|error| error.to_string())),
        metrics: metrics.clone(),
    })
    .unwrap();

    let rows = || view.read().unwrap().whole("fraud").next().map(|(_, series)| series[&0].rows);
    wait_for("catching up", || handle.is_caught_up());
    assert_eq!(rows(), Some(old - 1));
    assert_eq!(view.read().unwrap().deliveries("e-0").count(), 1);
    let counted = |topic: &str, outcome: &str| metrics.view_records.with_label_values(&[topic, outcome]).get();
    assert_eq!(counted(&topics.results, "applied"), CATCH_UP_RECORDS as u64, "older records are not read");
    assert_eq!(counted(&topics.outbox, "undecodable"), 1);

    held.lock().unwrap().get_mut(&partition(&topics.results)).unwrap().push(result(old));
    wait_for("the new window", || rows() == Some(old));
    handle.stop();
    assert!(thread.join().unwrap().is_ok());
}
