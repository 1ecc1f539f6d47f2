//! How long windows of performance wait.

use super::super::watched::WatchedModel;

/// What is known of time when a flush has been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock {
    /// Event time up to which the model's windows close; `None`: not known yet.
    pub watermark_ms: Option<i64>,
    /// Event time up to which the join has met labels; `None`: not known yet, or there are none to meet.
    pub labels_ms: Option<i64>,
    /// Latest wall clock of any flush, epoch milliseconds.
    pub at_ms: i64,
}

/// How long the windows of one model wait for what is late.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Patience {
    lateness_ms: i64,
    /// `None`: labels come with their predictions, or never.
    label_delay_ms: Option<i64>,
    pub revise_every_ms: i64,
    /// How far before a window's end panes of another version's baseline may begin.
    reach_ms: i64,
}

impl Patience {
    pub fn of(watched: &WatchedModel) -> Self {
        let labels = watched.labels();
        Self {
            lateness_ms: watched.model.windows.allowed_lateness.ms,
            label_delay_ms: labels.map(|labels| labels.delay.ms),
            revise_every_ms: labels.map_or(0, |labels| labels.revise_every.ms),
            reach_ms: watched.performance.reach_ms(),
        }
    }

    /// No label can come any more for a prediction before `end_ms`.
    pub fn labels_are_in(&self, end_ms: i64, clock: &Clock) -> bool {
        let Some(delay_ms) = self.label_delay_ms else { return true };
        clock.labels_ms.is_some_and(|labels_ms| end_ms.saturating_add(delay_ms) <= labels_ms)
    }

    /// Neither a label nor a late prediction can change a window that ends here.
    pub fn is_past(&self, end_ms: i64, clock: &Clock) -> bool {
        let late = |watermark_ms: i64| end_ms.saturating_add(self.lateness_ms) <= watermark_ms;
        clock.watermark_ms.is_some_and(late) && self.labels_are_in(end_ms, clock)
    }

    /// Nothing can be told of any window any more that needs a pane of which the last own window ends at `last_end_ms`.
    pub fn is_outlived(&self, last_end_ms: i64, clock: &Clock) -> bool {
        self.is_past(last_end_ms.saturating_add(self.reach_ms), clock)
    }
}
