//! At most so many messages in any stretch of time: what lies beyond waits.

use std::collections::VecDeque;

use crate::config::receivers::RateLimit;

#[derive(Debug, Clone, Default)]
pub struct RateLimiter {
    /// When the last messages were sent, oldest first; at most as many as are allowed.
    sent_ms: VecDeque<i64>,
}

impl RateLimiter {
    /// When the next message may be sent, epoch milliseconds.
    pub fn next_ms(&self, limit: Option<RateLimit>) -> i64 {
        let Some(limit) = limit else { return i64::MIN };
        let Some(place) = self.sent_ms.len().checked_sub(limit.max.max(1) as usize) else { return i64::MIN };
        self.sent_ms.get(place).map_or(i64::MIN, |sent_ms| sent_ms.saturating_add(limit.per.ms))
    }

    /// A message is sent, or was by a predecessor.
    pub fn sent(&mut self, limit: Option<RateLimit>, at_ms: i64) {
        let Some(limit) = limit else { return };
        let place = self.sent_ms.partition_point(|sent_ms| *sent_ms <= at_ms);
        self.sent_ms.insert(place, at_ms);
        while self.sent_ms.len() > limit.max.max(1) as usize {
            self.sent_ms.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::units::Span;

    #[test]
    fn any_stretch_holds_no_more_than_allowed() {
        let limit = Some(RateLimit { max: 3, per: Span::from_ms(100) });
        let mut limiter = RateLimiter::default();
        let mut sent = Vec::new();
        for now_ms in (0..1_000).step_by(7) {
            while limiter.next_ms(limit) <= now_ms {
                limiter.sent(limit, now_ms);
                sent.push(now_ms);
            }
        }
        for (place, start_ms) in sent.iter().enumerate() {
            let within = sent[place..].iter().take_while(|at_ms| **at_ms < start_ms + 100).count();
            assert!(within <= 3, "{within} messages from {start_ms} on: {sent:?}");
        }
        assert!(sent.len() >= 27, "and nearly as many as allowed: {}", sent.len());
        assert_eq!(RateLimiter::default().next_ms(None), i64::MIN);
    }
}
