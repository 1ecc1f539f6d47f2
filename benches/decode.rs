//! Events a second that one core decodes: this project's decoder beside serde_json's tree and beside a visitor of
//! serde_json that writes the same columns. 25 features (20 numeric with 6 decimals, 5 categorical),
//! about 610 bytes an event.
//!
//! `cargo bench --bench decode`, or quickly `cargo bench --profile dev --bench decode`. The rounds alternate, so
//! that a noisy machine slows all of them; the median of each is printed. It measures and asserts nothing.

mod events;

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use driftline::config::model::Model;
use driftline::event::Decoder;
use driftline::log::Records;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};

use events::{EventPool, START_MS, categorical, model_file, numeric};

const EVENTS: usize = 8_192;
const ROUNDS: usize = 15;
const TOPIC: &str = "predictions";

type AnyError = Box<dyn std::error::Error>;
/// Decodes the slab once and returns its number of rows.
type Contender<'a> = Box<dyn FnMut() -> Result<usize, AnyError> + 'a>;

fn main() -> Result<(), AnyError> {
    let model: Arc<Model> = Arc::new(serde_json::from_value(model_file(TOPIC))?);
    let records = EventPool::new(EVENTS, 1, 0.0)?.slab(TOPIC, 0, EVENTS);
    let mut decoder = Decoder::new(&[model])?;
    let names: HashMap<String, usize> =
        (0..25).map(|index| (if index < 20 { numeric(index) } else { categorical(index) }, index)).collect();

    let mut contenders: Vec<(&str, Contender<'_>)> = vec![
        ("driftline", Box::new(|| Ok(black_box(decoder.decode(&records, START_MS)?).row_count()))),
        (
            "serde_json visitor",
            Box::new(|| {
                decode_by_visitor(&records, &names, |payload, row| {
                    let mut deserializer = serde_json::Deserializer::from_slice(payload);
                    Ok(row.deserialize(&mut deserializer)?)
                })
            }),
        ),
        ("serde_json::Value", Box::new(|| decode_by_tree(&records, &names))),
    ];
    // `-- driftline` runs that one alone, for a profiler.
    let only: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    contenders.retain(|(name, _)| only.is_empty() || only.iter().any(|wanted| wanted == name));
    let mut seconds = vec![Vec::with_capacity(ROUNDS); contenders.len()];
    for _ in 0..ROUNDS {
        for ((_, decode), times) in contenders.iter_mut().zip(&mut seconds) {
            let start = Instant::now();
            let rows = decode()?;
            times.push(start.elapsed().as_secs_f64());
            if rows != EVENTS {
                return Err(format!("{rows} rows of {EVENTS} events").into());
            }
        }
    }
    println!("{} bytes an event, {EVENTS} events a slab, median of {ROUNDS} rounds", records.byte_len() / EVENTS);
    let medians: Vec<f64> = seconds.into_iter().map(median).collect();
    for ((name, _), median) in contenders.iter().zip(&medians) {
        let rate = EVENTS as f64 / median;
        println!(
            "{name:20} {:6.3} M events/s   {:5.2} times the time of {}",
            rate / 1e6,
            median / medians[0],
            contenders[0].0
        );
    }
    Ok(())
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// The columns of a contender: a value per feature and event, without the safety of the real ones (no roll-back).
#[derive(Default)]
struct PlainColumns {
    /// Unread, and so for free: driftline's time includes reading it.
    times: Vec<[u8; 23]>,
    version: Vec<String>,
    prediction_id: Vec<String>,
    numbers: Vec<Vec<Option<f64>>>,
    texts: Vec<(String, Vec<usize>)>,
}

impl PlainColumns {
    fn new() -> Self {
        Self {
            numbers: (0..21).map(|_| Vec::with_capacity(EVENTS)).collect(),
            texts: (0..25).map(|_| (String::new(), Vec::with_capacity(EVENTS))).collect(),
            ..Self::default()
        }
    }

    fn push_time(&mut self, text: &str) {
        self.times.push(text.as_bytes().first_chunk().copied().unwrap_or([0; 23]));
    }

    fn push_text(&mut self, feature: usize, text: &str) {
        let (bytes, ends) = &mut self.texts[feature];
        bytes.push_str(text);
        ends.push(bytes.len());
    }
}

fn decode_by_tree(records: &Records, names: &HashMap<String, usize>) -> Result<usize, AnyError> {
    let mut columns = PlainColumns::new();
    for record in records.iter() {
        let event: serde_json::Value = serde_json::from_slice(record.value.unwrap_or_default())?;
        columns.push_time(event["timestamp"].as_str().unwrap_or_default());
        columns.version.push(event["model_version"].as_str().unwrap_or_default().into());
        columns.prediction_id.push(event["prediction_id"].as_str().unwrap_or_default().into());
        columns.numbers[20].push(event["score"].as_f64());
        for (name, feature) in names {
            let value = &event["features"][name];
            match *feature {
                0..20 => columns.numbers[*feature].push(value.as_f64()),
                _ => columns.push_text(*feature, value.as_str().unwrap_or_default()),
            }
        }
    }
    Ok(black_box(columns).times.len())
}

fn decode_by_visitor(
    records: &Records,
    names: &HashMap<String, usize>,
    mut parse: impl FnMut(&[u8], EventSeed<'_>) -> Result<(), AnyError>,
) -> Result<usize, AnyError> {
    let mut columns = PlainColumns::new();
    for record in records.iter() {
        parse(record.value.unwrap_or_default(), EventSeed { columns: &mut columns, names })?;
    }
    Ok(black_box(columns).times.len())
}

struct EventSeed<'c> {
    columns: &'c mut PlainColumns,
    names: &'c HashMap<String, usize>,
}

struct FeaturesSeed<'c> {
    columns: &'c mut PlainColumns,
    names: &'c HashMap<String, usize>,
}

impl<'de> DeserializeSeed<'de> for EventSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for EventSeed<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("an event")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<&str>()? {
            match key {
                "timestamp" => self.columns.push_time(map.next_value()?),
                "model_version" => self.columns.version.push(map.next_value()?),
                "prediction_id" => self.columns.prediction_id.push(map.next_value()?),
                "score" => self.columns.numbers[20].push(map.next_value()?),
                "features" => map.next_value_seed(FeaturesSeed { columns: self.columns, names: self.names })?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for FeaturesSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for FeaturesSeed<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("features by name")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<&str>()? {
            match self.names.get(key) {
                Some(feature @ 0..20) => self.columns.numbers[*feature].push(map.next_value()?),
                Some(feature) => self.columns.push_text(*feature, map.next_value()?),
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}
