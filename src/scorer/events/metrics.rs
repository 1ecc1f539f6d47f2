//! The counts on `/metrics`, all of one moment: they add up in every scrape.

use std::sync::Arc;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntCounterVec, IntGauge, IntGaugeVec, Opts};

use super::{EventCounts, EventQueue};

type CountOf = fn(&EventCounts) -> u64;

const COUNTERS: [(&str, &str, CountOf); 6] = [
    ("offered", "Rows scored, of each of which an event could be written.", |counts| counts.offered),
    ("sampled_out", "Events left out by `sample`.", |counts| counts.sampled_out),
    ("enqueued", "Events taken into the queue.", |counts| counts.enqueued),
    ("dropped", "Events not taken because the queue was full.", |counts| counts.dropped),
    ("sent", "Events acknowledged by the broker.", |counts| counts.sent),
    ("failed", "Events taken, and not acknowledged in time or refused.", |counts| counts.failed),
];

/// A collector of `driftline_scorer_events_*`.
pub struct EventCollector {
    queue: Arc<EventQueue>,
    families: Families,
}

/// Made anew at each scrape, so that counters can be set to the counts.
struct Families {
    counters: Vec<IntCounterVec>,
    in_flight: IntGaugeVec,
    bytes: IntGauge,
}

impl Families {
    fn new() -> prometheus::Result<Self> {
        let counter = |(name, help, _): &(&str, &str, CountOf)| {
            IntCounterVec::new(Opts::new(format!("driftline_scorer_events_{name}_total"), *help), &["model"])
        };
        let in_flight = Opts::new("driftline_scorer_events_in_flight", "Events taken, neither sent nor failed yet.");
        Ok(Self {
            counters: COUNTERS.iter().map(counter).collect::<prometheus::Result<_>>()?,
            in_flight: IntGaugeVec::new(in_flight, &["model"])?,
            bytes: IntGauge::new("driftline_scorer_events_queue_bytes", "Bytes of the events in flight.")?,
        })
    }

    fn descriptions(&self) -> Vec<&Desc> {
        let counters = self.counters.iter().flat_map(Collector::desc);
        counters.chain(self.in_flight.desc()).chain(self.bytes.desc()).collect()
    }
}

impl EventCollector {
    /// # Errors
    /// None: the names are right.
    pub fn new(queue: Arc<EventQueue>) -> prometheus::Result<Self> {
        Ok(Self { queue, families: Families::new()? })
    }

    /// Names of the families, for the dashboard's checks.
    pub fn names() -> Vec<String> {
        let counters = COUNTERS.iter().map(|(name, ..)| format!("driftline_scorer_events_{name}_total"));
        let gauges = ["driftline_scorer_events_in_flight", "driftline_scorer_events_queue_bytes"];
        counters.chain(gauges.map(String::from)).collect()
    }
}

impl Collector for EventCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.families.descriptions()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let Ok(families) = Families::new() else { return Vec::new() };
        for (model, counts) in self.queue.counts_by_model() {
            for ((_, _, count), family) in COUNTERS.iter().zip(&families.counters) {
                family.with_label_values(&[&*model]).inc_by(count(&counts));
            }
            families.in_flight.with_label_values(&[&*model]).set(counts.in_flight as i64);
        }
        families.bytes.set(self.queue.bytes() as i64);
        let counters = families.counters.iter().flat_map(Collector::collect);
        counters.chain(families.in_flight.collect()).chain(families.bytes.collect()).collect()
    }
}
