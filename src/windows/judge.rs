//! The seam to the rules, which stand later in the flow of data: whoever judges closed windows keeps state of
//! its own, hands every change of it back to be stored, and says what people are to be told.

use super::result::ClosedWindow;

/// When a model was last heard of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelActivity {
    pub model: String,
    /// Wall clock of the log at the last event of the model, or, before the first one, when watching began.
    pub last_arrival_ms: i64,
}

/// What judging led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Store this state (`None`: forget it); `restore` receives it after a restart.
    State { key: String, value: Option<Vec<u8>> },
    /// A record for the outbox, keyed by episode.
    Notify { key: String, value: Vec<u8> },
}

/// Judges the windows of one partition. Deterministic in its arguments.
pub trait Judge: Send {
    fn restore(&mut self, key: &str, value: &[u8]);
    /// Windows of one model version come in order of their end; a revision may come again.
    fn on_window(&mut self, closed: &ClosedWindow, now_ms: i64) -> Vec<Verdict>;
    fn on_clock(&mut self, activity: &[ModelActivity], now_ms: i64) -> Vec<Verdict>;
}

/// Finds nothing wrong with anything: for windows without rules.
pub struct NoJudge;

impl Judge for NoJudge {
    fn restore(&mut self, _: &str, _: &[u8]) {}

    fn on_window(&mut self, _: &ClosedWindow, _: i64) -> Vec<Verdict> {
        Vec::new()
    }

    fn on_clock(&mut self, _: &[ModelActivity], _: i64) -> Vec<Verdict> {
        Vec::new()
    }
}
