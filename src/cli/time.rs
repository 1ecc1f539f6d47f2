//! Times on the command line.

use crate::config::units::Span;
use crate::reference::table::parse_epoch_ms;

/// A moment, or how long before now.
#[derive(Debug, Clone, Copy)]
pub enum Time {
    At(i64),
    Ago(Span),
}

impl Time {
    /// Epoch milliseconds.
    pub fn ms(self, now_ms: i64) -> i64 {
        match self {
            Time::At(ms) => ms,
            Time::Ago(span) => now_ms.saturating_sub(span.ms),
        }
    }
}

/// RFC 3339, a date, or how long ago.
pub fn time(text: &str) -> Result<Time, String> {
    if let Ok(span) = Span::parse(text) {
        return Ok(Time::Ago(span));
    }
    let help = "write RFC 3339 (2026-03-01T00:00:00Z), a date, or how long ago (`7d`)";
    parse_epoch_ms(text).map(Time::At).ok_or_else(|| format!("`{text}` is not a time; {help}"))
}
