//! A second version scored beside the one that answers: what it says goes to events only, and the caller does not wait.

//!
//! Each version has a queue of its own as a shadow. A request takes its place there before anything is copied for it, so that
//! a shadow that hangs costs a request no more than to see that its queue is full.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::table::ServedVersion;
use crate::scorer::events::{EventSink, ScoredEvent};
use crate::scorer::metrics::Metrics;
use crate::scorer::score::{Arm, Priority, ScoreError};
use crate::scorer::tensor::Tensor;
use crate::scorer::traffic::counters::scores;

/// Rows of a request that are compared.
pub const MAX_COMPARED: usize = 256;
const DROPPED: &str = "dropped";
/// A shadow that has not answered by then has missed its time.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the shadow's scores are compared with.
pub struct Compared {
    pub scores: Vec<f64>,
    /// Scores farther apart than this are counted as different.
    pub tolerance: f64,
}

/// A place among the requests that wait for a shadow; given back when it is dropped.
pub struct Place {
    version: Arc<ServedVersion>,
}

impl Place {
    fn take(version: &Arc<ServedVersion>, most_waiting: usize) -> Option<Self> {
        let place = Self { version: Arc::clone(version) };
        (waiting(version).fetch_add(1, Ordering::Relaxed) < most_waiting).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        waiting(&self.version).fetch_sub(1, Ordering::Relaxed);
    }
}

fn waiting(version: &ServedVersion) -> &AtomicUsize {
    &version.waiting_as_shadow
}

impl Compared {
    fn count(&self, metrics: &Metrics, labels: &[&str; 2], outputs: &[Tensor]) {
        let largest = metrics.shadow_difference_max.with_label_values(labels);
        let differences = metrics.shadow_difference.with_label_values(labels);
        for (score, shadow) in self.scores.iter().zip(scores(outputs)) {
            let apart = (shadow - score).abs();
            // What is no number on one side only differs, but not by any number.
            if apart.is_finite() {
                differences.observe(apart);
                largest.set(largest.get().max(apart));
            }
            if apart > self.tolerance || score.is_nan() != shadow.is_nan() {
                metrics.shadow_differences.with_label_values(labels).inc();
            }
        }
    }
}

pub struct Shadows {
    metrics: Metrics,
    events: Option<Arc<dyn EventSink>>,
}

impl Shadows {
    pub fn new(metrics: Metrics, events: Option<Arc<dyn EventSink>>) -> Self {
        Self { metrics, events }
    }

    /// A place in the queue of a shadow where at most so many wait; `None`, and counted as dropped, if they already do.
    pub fn admit(&self, model: &str, version: &Arc<ServedVersion>, most_waiting: usize) -> Option<Place> {
        let place = Place::take(version, most_waiting);
        if place.is_none() {
            self.metrics.shadow_requests.with_label_values(&[model, &version.version, DROPPED]).inc();
        }
        place
    }

    /// Starts the score of inputs that were just answered.
    pub fn score(&self, place: Place, answered: &Answered<'_>, inputs: Vec<Tensor>, compared: Compared) {
        let outcomes = self.metrics.shadow_requests.clone();
        let model = answered.model.to_string();
        let version = Arc::clone(&place.version);
        let (metrics, events) = (self.metrics.clone(), self.events.clone());
        let (request_id, entity) = (answered.request_id.to_string(), answered.entity.map(str::to_string));
        let event_time_ms = answered.event_time_ms;
        tokio::spawn(async move {
            let started = Instant::now();
            let rows = inputs.first().map_or(1, Tensor::rows);
            let layout = version.layout.clone().filter(|_| events.is_some());
            let copy = layout.as_ref().map(|_| inputs.clone()).unwrap_or_default();
            let outcome = version.backend.score(inputs, Priority::Low, Some(started + PATIENCE)).await;
            drop(place);
            let latency = started.elapsed();
            version.counters(Arm::Shadow).count(outcome.as_ref().map(|_| ()), rows, latency);
            if let Ok(outputs) = &outcome {
                compared.count(&metrics, &[&model, &version.version], outputs);
            }
            let word = match &outcome {
                Ok(_) => "ok",
                // Its queue counts rows, too.
                Err(ScoreError::QueueFull { .. }) => DROPPED,
                Err(_) => "failed",
            };
            outcomes.with_label_values(&[&model, &version.version, word]).inc();
            if let (Ok(outputs), Some(layout), Some(events)) = (outcome, layout, events) {
                let engine = version.backend.engine();
                let arm = Arm::Shadow;
                let inputs = copy;
                events.offer(ScoredEvent {
                    layout,
                    arm,
                    request_id,
                    entity,
                    inputs,
                    outputs,
                    engine,
                    latency,
                    event_time_ms,
                });
            }
        });
    }
}

/// What a shadow's event says of the request.
pub struct Answered<'a> {
    pub model: &'a str,
    pub request_id: &'a str,
    pub entity: Option<&'a str>,
    pub event_time_ms: i64,
}
