//! Attempts start: the longest waiting first, within the limits.

use super::lines::Line;
use super::{Effect, Parcel, Schedule};
use crate::dispatch::delivery::DeliveryKey;

/// What a receiver could be sent next.
enum Next {
    Line(Line),
    Digest,
}

impl Schedule {
    pub(super) fn start_due(&mut self, now_ms: i64) -> Vec<Effect> {
        let mut effects = Vec::new();
        while self.in_flight() < self.limits.max_in_flight {
            let Some((receiver, next)) = self.next_to_start(now_ms) else { break };
            let limit = self.policy.receiver(&receiver).and_then(|policy| policy.rate_limit);
            let state = self.receivers.entry(receiver.clone()).or_default();
            state.in_flight += 1;
            state.limiter.sent(limit, now_ms);
            let started = match next {
                Next::Line(line) => self.start_line(&line, now_ms),
                Next::Digest => self.start_digest(&receiver),
            };
            match started {
                Some(effect) => effects.push(effect),
                None => {
                    self.landed(&receiver);
                    break; // cannot be: what is due is there
                }
            }
        }
        effects
    }

    fn next_to_start(&self, now_ms: i64) -> Option<(String, Next)> {
        let is_free = |receiver: &str| self.free_at_ms(receiver).is_some_and(|free_ms| free_ms <= now_ms);
        let lines = self.lines.due().filter(|(receiver, at_ms)| *at_ms <= now_ms && is_free(receiver));
        let line = lines.min_by_key(|(_, at_ms)| *at_ms);
        let digests = self.digests.due().filter(|(receiver, at_ms)| *at_ms <= now_ms && is_free(receiver));
        let digest = digests.min_by_key(|(_, at_ms)| *at_ms);
        match (line, digest) {
            (Some((receiver, at_ms)), digest) if digest.is_none_or(|(_, digest_ms)| at_ms <= digest_ms) => {
                let (_, line) = self.lines.due_of(receiver, now_ms).next()?;
                Some((receiver.to_string(), Next::Line(line)))
            }
            (_, Some((receiver, _))) => Some((receiver.to_string(), Next::Digest)),
            _ => None,
        }
    }

    /// When the receiver may be sent something, epoch milliseconds; `None`: once an attempt in flight has ended.
    pub(super) fn free_at_ms(&self, receiver: &str) -> Option<i64> {
        let Some(state) = self.receivers.get(receiver) else { return Some(i64::MIN) };
        if state.in_flight >= state.breaker.allowed(self.limits.max_in_flight_per_receiver) {
            return None;
        }
        let limit = self.policy.receiver(receiver).and_then(|policy| policy.rate_limit);
        Some(state.breaker.not_before_ms().max(state.limiter.next_ms(limit)))
    }

    fn start_line(&mut self, line: &Line, now_ms: i64) -> Option<Effect> {
        let key: DeliveryKey = self.lines.first(line)?.0.clone();
        self.lines.update(&key, |entry| {
            if entry.held_by.take().is_some() {
                entry.released_at_ms = Some(now_ms);
            }
        });
        let (key, entry) = self.lines.take_off(line)?;
        Some(Effect::Attempt {
            key,
            parcel: Parcel::One(entry.notification.clone()),
            telling: entry.telling.clone(),
            attempt: entry.attempts.saturating_add(1),
        })
    }
}
