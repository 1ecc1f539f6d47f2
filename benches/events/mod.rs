//! Events of the benchmarks' model: 20 numeric features with 6 decimals, 5 categorical ones and a score, about
//! 610 bytes of JSON each.

use std::fmt::Write;

use driftline::log::Records;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

pub const PARTITIONS: usize = 4;
/// 2025-01-01T00:00:00Z, epoch milliseconds: the start of a window of any usual size.
pub const START_MS: i64 = 1_735_689_600_000;

pub fn numeric(index: usize) -> String {
    format!("num_{index:02}")
}

pub fn categorical(index: usize) -> String {
    format!("cat_{index:02}")
}

/// The model file; its windows last an hour and close with the event that ends them.
pub fn model_file(topic: &str) -> serde_json::Value {
    let features: serde_json::Map<String, serde_json::Value> = (0..20)
        .map(|index| (numeric(index), "numeric".into()))
        .chain((20..25).map(|index| (categorical(index), "categorical".into())))
        .collect();
    serde_json::json!({
        "version": 1, "model": "bench", "topics": [topic],
        "fields": {"version": "model_version", "prediction_id": "prediction_id"},
        "features": features,
        "score": {"path": "score", "type": "numeric"},
        "references": {"training": {"path": "training.jsonl"}},
        "windows": {"size": "1h", "watermark_delay": "0s"},
    })
}

/// Features and scores drawn once; events are these with a time of their own, repeated as often as needed.
pub struct EventPool {
    /// What follows the prediction id in an event.
    bodies: Vec<String>,
}

impl EventPool {
    /// `shift` moves the first numeric feature, which is uniform on -3..3 otherwise.
    pub fn new(size: usize, seed: u64, shift: f64) -> Result<Self, std::fmt::Error> {
        let mut random = StdRng::seed_from_u64(seed);
        let mut bodies = Vec::with_capacity(size);
        for _ in 0..size {
            let mut body = String::from(r#""features":{"#);
            for feature in 0..20 {
                let moved = if feature == 0 { shift } else { 0.0 };
                let value = (random.random_range(-3.0..3.0_f64) + moved) * 10_f64.powi(feature % 5);
                write!(body, r#""{}":{},"#, numeric(feature as usize), (value * 1e6).round() / 1e6)?;
            }
            for feature in 20..25 {
                write!(body, r#""{}":"value_{}","#, categorical(feature), random.random_range(0..12))?;
            }
            body.pop();
            write!(body, r#"}},"score":{:.6}}}"#, random.random::<f64>())?;
            bodies.push(body);
        }
        Ok(Self { bodies })
    }

    /// Event number `index` at `time_ms`, epoch milliseconds.
    pub fn event(&self, index: usize, version: &str, time_ms: i64) -> Vec<u8> {
        let time = chrono::DateTime::from_timestamp_millis(time_ms).unwrap_or_default();
        let time = time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
        let body = &self.bodies[index % self.bodies.len()];
        format!(r#"{{"timestamp":"{time}","model_version":"{version}","prediction_id":"p-{index:08}",{body}"#)
            .into_bytes()
    }

    /// A slab as a poll returns it: `len` events from number `first` on, of the first few seconds.
    pub fn slab(&self, topic: &str, first: usize, len: usize) -> Records {
        let mut records = Records::default();
        for index in first..first + len {
            let event = self.event(index, "v7", START_MS + (index % 5_000) as i64);
            records.push(topic, (index % PARTITIONS) as i32, index as i64, START_MS, None, Some(&event));
        }
        records
    }
}
