//! An attempt ends: done, or again later, or given up.

use super::entry::{Entry, shorten};
use super::lines::line_of;
use super::{Effect, Schedule};
use crate::dispatch::delivery::{DeliveryKey, DeliveryStatus};
use crate::dispatch::receiver::Outcome;

/// What an outcome means for the delivery.
pub(super) struct Verdict {
    pub status: DeliveryStatus,
    pub error: Option<String>,
    /// If the status is pending.
    pub next_attempt_ms: i64,
}

impl Schedule {
    pub(super) fn settle(&mut self, key: &DeliveryKey, outcome: Outcome, jitter: f64, now_ms: i64) -> Vec<Effect> {
        if self.digests.is_in_flight(key) {
            return self.settle_digest(key, outcome, jitter, now_ms);
        }
        // It may have gone to somebody else, or be an outcome from before it was dropped and restored.
        if !self.lines.is_in_flight(key) {
            return Vec::new();
        }
        let Some(entry) = self.lines.get(key) else { return Vec::new() };
        let (line, attempts) = (line_of(key, entry), entry.attempts.saturating_add(1));
        let expires_at_ms = entry.expires_at_ms(self.limits.expire_after_ms);
        self.landed(&key.receiver);
        let verdict = self.judge(&key.receiver, outcome, attempts, expires_at_ms, jitter, now_ms);
        let updated = self.lines.update(key, |entry| {
            entry.attempts = attempts;
            entry.last_error = verdict.error;
            entry.next_attempt_ms = verdict.next_attempt_ms;
        });
        let updated = updated.cloned();
        if verdict.status.is_final() {
            let mut effects: Vec<Effect> = self.finish(key, verdict.status, now_ms).into_iter().collect();
            match (verdict.status, updated) {
                (DeliveryStatus::Failed | DeliveryStatus::Expired, Some(entry)) => {
                    effects.extend(self.fall_back(key, &entry, now_ms));
                }
                (DeliveryStatus::Delivered, Some(entry)) => effects.extend(self.owe_the_end(key, &entry)),
                _ => {}
            }
            if verdict.status == DeliveryStatus::Expired {
                effects.extend(self.expire_others(&key.receiver, now_ms));
            }
            return effects;
        }
        self.lines.land(key);
        let mut effects: Vec<Effect> =
            updated.map(|entry| entry.record(key, DeliveryStatus::Pending, now_ms)).into_iter().collect();
        effects.extend(self.tidy(&line, now_ms));
        effects.extend(self.expire_others(&key.receiver, now_ms));
        effects
    }

    /// Takes the outcome to the receiver's circuit, and says what it means for what was sent.
    pub(super) fn judge(
        &mut self,
        receiver: &str,
        outcome: Outcome,
        attempts: u32,
        expires_at_ms: i64,
        jitter: f64,
        now_ms: i64,
    ) -> Verdict {
        let limits = self.limits;
        let breaker = &mut self.receivers.entry(receiver.to_string()).or_default().breaker;
        let done =
            |status, error: Option<String>| Verdict { status, error: error.map(shorten), next_attempt_ms: now_ms };
        match outcome {
            Outcome::Delivered { remark } => {
                breaker.succeeded();
                done(DeliveryStatus::Delivered, remark)
            }
            Outcome::Permanent { reason } => {
                breaker.succeeded(); // whoever refuses is there
                done(DeliveryStatus::Failed, Some(reason))
            }
            Outcome::Retry { reason, after_ms } => {
                let reason = shorten(reason);
                breaker.failed(&limits, &reason, after_ms, jitter, now_ms);
                if now_ms >= expires_at_ms {
                    return done(DeliveryStatus::Expired, Some(reason));
                }
                let wait_ms = limits.backoff_ms(attempts, jitter).max(after_ms.unwrap_or(0));
                // The last attempt is made when the time is up, not before.
                let next_attempt_ms = now_ms.saturating_add(wait_ms).min(expires_at_ms);
                Verdict { status: DeliveryStatus::Pending, error: Some(reason), next_attempt_ms }
            }
        }
    }

    /// One attempt of a receiver that has answered nobody for long speaks for all that wait for it: with one attempt at
    /// a time, thousands could not each have their own.
    fn expire_others(&mut self, receiver: &str, now_ms: i64) -> Vec<Effect> {
        let Some(state) = self.receivers.get(receiver) else { return Vec::new() };
        let since_ms = state.breaker.failing_since_ms();
        let is_long = since_ms.is_some_and(|since_ms| now_ms - since_ms >= self.limits.max_retry_ms);
        let Some(error) = state.breaker.last_error().filter(|_| is_long).map(str::to_string) else { return Vec::new() };
        let is_over = |key: &DeliveryKey, entry: &Entry| {
            entry.digest.is_none()
                && entry.held_by.is_none()
                && entry.expires_at_ms(self.limits.expire_after_ms) <= now_ms
                && !self.lines.is_in_flight(key)
        };
        // In the order of its line: what a silence held back expires later than what came after it.
        let waiting = self.lines.entries().filter(|(key, entry)| {
            key.receiver == receiver && is_over(key, entry) && self.lines.all_before(key, is_over)
        });
        let expired: Vec<DeliveryKey> = waiting.map(|(key, _)| key.clone()).collect();
        let mut effects = Vec::new();
        for key in expired {
            let entry = self.lines.update(&key, |entry| {
                entry.last_error.get_or_insert(error.clone());
            });
            let Some(entry) = entry.cloned() else { continue };
            effects.extend(self.finish(&key, DeliveryStatus::Expired, now_ms));
            effects.extend(self.fall_back(&key, &entry, now_ms));
        }
        effects
    }

    pub(super) fn landed(&mut self, receiver: &str) {
        if let Some(state) = self.receivers.get_mut(receiver) {
            state.in_flight = state.in_flight.saturating_sub(1);
        }
    }
}
