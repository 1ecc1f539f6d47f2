//! What becomes of deliveries, as log lines and metrics.

use super::delivery::{DeliveryRecord, DeliveryStatus};
use super::receiver::Telling;
use super::schedule::Schedule;
use crate::telemetry::Metrics;

/// A record that is durable now.
pub fn tell(record: &DeliveryRecord, metrics: &Metrics) {
    let (notification, receiver, attempts) = (&record.notification.id, &record.receiver, record.attempts);
    let error = record.last_error.as_deref().unwrap_or_default();
    let count = |metric: &prometheus::IntCounterVec| metric.with_label_values(&[receiver.as_str()]).inc();
    match record.status {
        DeliveryStatus::Delivered => {
            if error.is_empty() {
                tracing::info!(notification, receiver, attempts, "delivered");
            } else {
                tracing::warn!(notification, receiver, attempts, error, "delivered in part");
            }
            match record.telling {
                Telling::Reminder { .. } => count(&metrics.delivery_reminders),
                Telling::Heartbeat { .. } => {
                    let seconds = record.delivered_at_ms.unwrap_or_default() as f64 / 1_000.0;
                    metrics.heartbeat_time_seconds.with_label_values(&[receiver.as_str()]).set(seconds);
                }
                _ => {}
            }
        }
        DeliveryStatus::Pending if record.attempts == 0 => new_and_pending(record, metrics),
        DeliveryStatus::Pending => tracing::warn!(notification, receiver, attempts, error, "will be tried again"),
        DeliveryStatus::Failed => {
            count(&metrics.deliveries_failed);
            tracing::error!(notification, receiver, attempts, error, "refused for good");
        }
        DeliveryStatus::Expired => {
            count(&metrics.deliveries_expired);
            tracing::error!(notification, receiver, attempts, error, "given up: not delivered in time");
        }
        DeliveryStatus::Superseded => {
            count(&metrics.deliveries_superseded);
            tracing::info!(notification, receiver, reason = error, "not sent by itself");
        }
    }
}

fn new_and_pending(record: &DeliveryRecord, metrics: &Metrics) {
    let (notification, receiver) = (&record.notification.id, &record.receiver);
    match (&record.telling, &record.held_by) {
        (Telling::Fallback { receiver: failed, reason }, None) => {
            metrics.deliveries_fallback.with_label_values(&[failed.as_str()]).inc();
            tracing::warn!(notification, receiver, instead_of = failed, reason, "told to the fallback");
        }
        (Telling::ReceiverHealth { receiver: about }, None) => {
            let summary = &record.notification.summary;
            tracing::warn!(notification, receiver, about, summary, "told about a receiver");
        }
        (_, Some(silence)) => tracing::info!(notification, receiver, silence, "held back"),
        _ => {}
    }
}

/// Gauges of every receiver.
pub fn gauges<'a>(schedule: &Schedule, receivers: impl Iterator<Item = &'a String>, metrics: &Metrics, now_ms: i64) {
    let pending = schedule.pending_by_receiver();
    for receiver in receivers {
        let (count, held) = pending.get(receiver.as_str()).copied().unwrap_or_default();
        let labels = [receiver.as_str()];
        metrics.deliveries_pending.with_label_values(&labels).set(count as i64);
        metrics.deliveries_held.with_label_values(&labels).set(held as i64);
        metrics.receiver_circuit.with_label_values(&labels).set(schedule.circuit(receiver, now_ms) as i64);
    }
}
