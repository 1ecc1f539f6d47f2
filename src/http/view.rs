//! The read model of pages, API and drift gauges: the last closed windows and episodes, in memory.
//!
//! Pure: it is fed records and asked questions. Everything is bounded by `Limits`; what is dropped is the
//! oldest, and segments before the whole.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::runs::Runs;
use crate::dispatch::actions::run::RunRecord;
use crate::dispatch::control::{ControlRecord, ControlState};
use crate::rules::episode::{EpisodeStatus, Finding, Notification};
use crate::stats::metric::FeatureStats;
use crate::stats::sql::is_result_name;
use crate::windows::result::{PERFORMANCE_FEATURE, Segment, Window, WindowResult};

/// What the view keeps at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Windows of one model version and window size, over all events.
    pub windows: usize,
    /// Windows of one segment; their bins are dropped.
    pub segment_windows: usize,
    /// Feature statistics in all windows together; one takes about 2.1 kB (measured: 12 metrics, 10 bins).
    pub cells: usize,
    pub episodes: usize,
    /// Notifications of one episode; the first is always kept.
    pub notifications: usize,
    /// Notifications whose deliveries are kept.
    pub deliveries: usize,
    /// Runs of actions.
    pub runs: usize,
}

/// Feature statistics that a window of performance counts as: about 40 metrics and the baseline of each.
const PERFORMANCE_CELLS: usize = 5;

impl Default for Limits {
    fn default() -> Self {
        // A week of hourly windows; 200 000 cells are 8 models of 150 features over that week, and about 430 MB.
        Self {
            windows: 168,
            segment_windows: 24,
            cells: 200_000,
            episodes: 1_000,
            notifications: 100,
            deliveries: 10_000,
            runs: 1_000,
        }
    }
}

/// One line of windows: everything that can be compared along time.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeriesKey {
    pub model: String,
    pub version: String,
    pub segment: Segment,
    pub size_ms: i64,
    /// Name of the moving reference, or of the other version, compared with; `None`: the stored reference.
    pub moving: Option<String>,
}

/// Windows of one series by their start, epoch milliseconds.
pub type Series = BTreeMap<i64, WindowResult>;

/// Where the delivery of one notification to one receiver stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryStatus {
    /// Not accepted yet; it is tried again.
    Retrying,
    Delivered,
    /// Given up after the expiry, or refused for good.
    Failed,
    /// Not tried while a silence holds it back, or until its digest is sent.
    Held,
    /// Not sent by itself: a later one said it too, or it ended while it was held back.
    Superseded,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Delivery {
    pub notification_id: String,
    pub receiver: String,
    pub status: DeliveryStatus,
    pub attempts: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// Time of the last attempt, epoch milliseconds.
    pub at_ms: i64,
}

/// The notifications of one episode by sequence; never empty.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Episode {
    notifications: BTreeMap<u32, Notification>,
}

impl Episode {
    pub fn notifications(&self) -> impl DoubleEndedIterator<Item = &Notification> {
        self.notifications.values()
    }

    pub fn first(&self) -> Option<&Notification> {
        self.notifications.values().next()
    }

    /// The newest: where the episode stands.
    pub fn last(&self) -> Option<&Notification> {
        self.notifications.values().next_back()
    }

    /// The newest that says what is wrong; a resolution has nothing to find.
    pub fn last_with_findings(&self) -> Option<&Notification> {
        self.notifications.values().rev().find(|notification| !notification.findings.is_empty())
    }

    pub fn is_firing(&self) -> bool {
        self.last().is_some_and(|notification| notification.status == EpisodeStatus::Firing)
    }
}

#[derive(Debug, Default)]
pub struct View {
    limits: Limits,
    series: BTreeMap<SeriesKey, Series>,
    /// Windows of performance, apart from those of features.
    performance: BTreeMap<SeriesKey, Series>,
    cells: usize,
    episodes: BTreeMap<String, Episode>,
    /// By notification, then receiver. Apart from the episodes, as a delivery may be read before its notification.
    deliveries: BTreeMap<String, BTreeMap<String, Delivery>>,
    /// Silences and acknowledgements.
    control: ControlState,
    runs: Runs,
}

impl View {
    pub fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Takes a closed window in. An earlier revision than the one held is ignored.
    pub fn apply_result(&mut self, mut result: WindowResult) {
        let key = SeriesKey {
            model: result.model.clone(),
            version: result.version.clone(),
            segment: result.segment.clone(),
            size_ms: result.window.end_ms - result.window.start_ms,
            moving: result.baseline.is_some().then(|| result.reference.clone()),
        };
        let most = if key.segment.is_all() {
            self.limits.windows
        } else {
            for stats in result.features.values_mut() {
                stats.bins = Vec::new();
            }
            self.limits.segment_windows
        };
        let of_kind = if result.performance.is_some() { &mut self.performance } else { &mut self.series };
        let series = of_kind.entry(key).or_default();
        let start_ms = result.window.start_ms;
        if series.get(&start_ms).is_some_and(|held| held.revision > result.revision) {
            return;
        }
        self.cells += cells_of(&result);
        if let Some(replaced) = series.insert(start_ms, result) {
            self.cells -= cells_of(&replaced);
        }
        while series.len() > most {
            let Some((_, dropped)) = series.pop_first() else { break };
            self.cells -= cells_of(&dropped);
        }
        while self.cells > self.limits.cells && self.drop_oldest_window() {}
    }

    /// Segments first, then the oldest.
    fn drop_oldest_window(&mut self) -> bool {
        let oldest = |of_kind: &BTreeMap<SeriesKey, Series>| {
            let first = of_kind.iter().filter_map(|(key, series)| Some((key, *series.first_key_value()?.0)));
            let victim = first.min_by_key(|(key, start_ms)| (key.segment.is_all(), *start_ms));
            victim.map(|(key, start_ms)| ((key.segment.is_all(), start_ms), key.clone()))
        };
        let (of_features, of_performance) = (oldest(&self.series), oldest(&self.performance));
        let features_first = match (&of_features, &of_performance) {
            (Some((features, _)), Some((performance, _))) => features <= performance,
            (features, _) => features.is_some(),
        };
        let (victim, of_kind) = match features_first {
            true => (of_features, &mut self.series),
            false => (of_performance, &mut self.performance),
        };
        let Some((_, key)) = victim else { return false };
        let Some(series) = of_kind.get_mut(&key) else { return false };
        if let Some((_, dropped)) = series.pop_first() {
            self.cells -= cells_of(&dropped);
        }
        if series.is_empty() {
            of_kind.remove(&key);
        }
        true
    }

    /// Takes a change of an episode in; the same notification read again changes nothing.
    pub fn apply_notification(&mut self, notification: Notification) {
        let id = notification.episode_id.clone();
        let episode = self.episodes.entry(id).or_default();
        episode.notifications.insert(notification.sequence, notification);
        if episode.notifications.len() > self.limits.notifications.max(2) {
            let second = episode.notifications.keys().nth(1).copied();
            if let Some(dropped) = second.and_then(|sequence| episode.notifications.remove(&sequence)) {
                self.deliveries.remove(&dropped.id);
            }
        }
        if self.episodes.len() > self.limits.episodes {
            self.drop_oldest_episode();
        }
    }

    /// Resolved first, then the oldest.
    fn drop_oldest_episode(&mut self) {
        let age = |episode: &Episode| (episode.is_firing(), episode.last().map_or(0, |last| last.at_ms));
        let victim = self.episodes.iter().min_by_key(|(_, episode)| age(episode)).map(|(id, _)| id.clone());
        if let Some(dropped) = victim.and_then(|id| self.episodes.remove(&id)) {
            for notification in dropped.notifications() {
                self.deliveries.remove(&notification.id);
            }
        }
    }

    /// Takes the record of a run of an action in; an older one than the one held is ignored.
    pub fn apply_run(&mut self, record: RunRecord) {
        self.runs.apply(record, self.limits.runs);
    }

    pub fn runs(&self) -> &Runs {
        &self.runs
    }

    /// Takes the state of a delivery in; an older one than the one held is ignored.
    pub fn apply_delivery(&mut self, delivery: Delivery) {
        let by_receiver = self.deliveries.entry(delivery.notification_id.clone()).or_default();
        if by_receiver.get(&delivery.receiver).is_some_and(|held| held.at_ms > delivery.at_ms) {
            return;
        }
        by_receiver.insert(delivery.receiver.clone(), delivery);
        if self.deliveries.len() > self.limits.deliveries {
            let last_at = |deliveries: &BTreeMap<String, Delivery>| deliveries.values().map(|one| one.at_ms).max();
            let victim = self.deliveries.iter().min_by_key(|(_, one)| last_at(one)).map(|(id, _)| id.clone());
            if let Some(id) = victim {
                self.deliveries.remove(&id);
            }
        }
    }

    /// Takes a command in; the same one read again changes nothing.
    pub fn apply_command(&mut self, record: &ControlRecord) {
        self.control.apply(record);
    }

    /// What people have commanded.
    pub fn control(&self) -> &ControlState {
        &self.control
    }

    /// Every series against the stored reference, ordered by model, version, segment (all events first), window size.
    pub fn series(&self) -> impl Iterator<Item = (&SeriesKey, &Series)> {
        self.series.iter().filter(|(key, _)| key.moving.is_none())
    }

    /// Every series against the moving reference of this name.
    pub fn against<'a>(&'a self, moving: &'a str) -> impl Iterator<Item = (&'a SeriesKey, &'a Series)> {
        self.series.iter().filter(move |(key, _)| key.moving.as_deref() == Some(moving))
    }

    /// Every series of performance, ordered as those of features; those compared with another version have it in
    /// `moving`.
    pub fn performance_series(&self) -> impl Iterator<Item = (&SeriesKey, &Series)> {
        self.performance.iter()
    }

    /// The windows of performance of one model version and segment, of this size, against the stored reference.
    pub fn performance(&self, model: &str, version: &str, segment: &Segment, size_ms: i64) -> Option<&Series> {
        let (model, version, segment) = (model.to_string(), version.to_string(), segment.clone());
        self.performance.get(&SeriesKey { model, version, segment, size_ms, moving: None })
    }

    /// Series of one model's performance against the stored reference, ordered by version, segment (all events first),
    /// window size.
    pub fn performance_of<'a>(&'a self, model: &'a str) -> impl Iterator<Item = (&'a SeriesKey, &'a Series)> {
        self.performance_series().filter(move |(key, _)| key.model == model && key.moving.is_none())
    }

    /// Series over all events of one model, against the stored reference.
    pub fn whole<'a>(&'a self, model: &'a str) -> impl Iterator<Item = (&'a SeriesKey, &'a Series)> {
        self.series().filter(move |(key, _)| key.model == model && key.segment.is_all())
    }

    /// Names of all models of which a window or an episode is held.
    pub fn models(&self) -> Vec<String> {
        let keys = self.series.keys().chain(self.performance.keys());
        let mut names: Vec<String> = keys.map(|key| key.model.clone()).collect();
        names.extend(self.episodes.values().filter_map(|episode| episode.first()).map(|first| first.model.clone()));
        names.sort();
        names.dedup();
        names
    }

    pub fn window(&self, model: &str, version: &str, segment: &Segment, window: Window) -> Option<&WindowResult> {
        self.series.get(&self.key_of(model, version, segment, window, None))?.get(&window.start_ms)
    }

    /// The series that a finding of a notification is about: against its moving reference, if it has one.
    pub fn series_of(&self, notification: &Notification, finding: &Finding) -> Option<&Series> {
        let Notification { model, version, window, reference, .. } = notification;
        let of_kind = if is_on_performance(finding) { &self.performance } else { &self.series };
        let moving = self.key_of(model, version, &finding.segment, *window, Some(reference));
        of_kind.get(&moving).or_else(|| of_kind.get(&SeriesKey { moving: None, ..moving }))
    }

    fn key_of(
        &self,
        model: &str,
        version: &str,
        segment: &Segment,
        window: Window,
        moving: Option<&String>,
    ) -> SeriesKey {
        SeriesKey {
            model: model.to_string(),
            version: version.to_string(),
            segment: segment.clone(),
            size_ms: window.end_ms - window.start_ms,
            moving: moving.cloned(),
        }
    }

    pub fn episode(&self, id: &str) -> Option<&Episode> {
        self.episodes.get(id)
    }

    /// Firing first, then the newest change first.
    pub fn episodes(&self) -> Vec<(&str, &Episode)> {
        let mut episodes: Vec<(&str, &Episode)> =
            self.episodes.iter().map(|(id, episode)| (id.as_str(), episode)).collect();
        episodes.sort_by_key(|(id, episode)| {
            (!episode.is_firing(), std::cmp::Reverse(episode.last().map_or(0, |last| last.at_ms)), *id)
        });
        episodes
    }

    /// Deliveries of one notification, by receiver.
    pub fn deliveries(&self, notification_id: &str) -> impl Iterator<Item = &Delivery> {
        self.deliveries.get(notification_id).into_iter().flat_map(BTreeMap::values)
    }

    /// Feature statistics held, in all windows.
    pub fn cells(&self) -> usize {
        self.cells
    }
}

/// What a window counts as, by its memory.
fn cells_of(result: &WindowResult) -> usize {
    if result.performance.is_some() { PERFORMANCE_CELLS } else { result.features.len() }
}

/// Whether a finding is about how well the model did, not about what its features look like.
pub fn is_on_performance(finding: &Finding) -> bool {
    finding.feature.as_deref() == Some(PERFORMANCE_FEATURE)
}

/// One column of a heatmap: a closed window, or the place of one that never closed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Slot<'a> {
    pub start_ms: i64,
    pub result: Option<&'a WindowResult>,
}

/// The last `most` columns of a series, oldest first, with gaps where windows are missing. Windows start one
/// slide apart: the smallest distance met.
pub fn slots(series: &Series, most: usize) -> Vec<Slot<'_>> {
    let starts: Vec<i64> = series.keys().copied().collect();
    let step_ms = starts.windows(2).map(|pair| pair[1] - pair[0]).min().unwrap_or(1).max(1);
    let Some(&last_ms) = starts.last() else { return Vec::new() };
    let Some(&first_ms) = starts.first() else { return Vec::new() };
    let mut slots = Vec::with_capacity(most.min(series.len() * 2));
    let mut start_ms = last_ms;
    while slots.len() < most && start_ms >= first_ms {
        slots.push(Slot { start_ms, result: series.get(&start_ms) });
        start_ms -= step_ms;
    }
    slots.reverse();
    slots
}

/// How far a feature has drifted, for ordering: PSI, which every kind of feature has; 0 where it is undefined.
pub fn drift(result: &WindowResult, feature: &str) -> f64 {
    let psi = result.features.get(feature).and_then(|stats| stats.metrics.get("psi"));
    psi.and_then(|metric| metric.value).filter(|value| value.is_finite()).unwrap_or(0.0)
}

/// Rates that are wrong whatever the reference has, and the growth of the rate of missing values.
const FLAWS: [&str; 7] = [
    "type_mismatch_rate",
    "nan_rate",
    "infinite_rate",
    "out_of_range_rate",
    "unseen_rate",
    "constant",
    "null_rate_change",
];

/// The worst of what is wrong with the values of a feature, 0 to 1.
pub fn worst_flaw(stats: &FeatureStats) -> f64 {
    let values = FLAWS.iter().filter_map(|name| stats.metrics.get(*name)?.value);
    values.filter(|value| value.is_finite()).fold(0.0, f64::max)
}

/// Below this PSI two features of the newest window are alike: noise must not decide which stands higher.
const NOTEWORTHY_PSI: f64 = 0.1;

/// Features of these windows, worst first: those that drift in the newest window, then by the largest drift of
/// all windows, then by name.
pub fn worst_features<'a>(windows: &[&'a WindowResult]) -> Vec<&'a str> {
    let mut worst: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
    for (index, result) in windows.iter().enumerate() {
        for feature in result.features.keys().filter(|name| !is_result_name(name)) {
            let value = drift(result, feature);
            let (newest, largest) = worst.entry(feature).or_insert((0.0, 0.0));
            if index + 1 == windows.len() && value >= NOTEWORTHY_PSI {
                *newest = value;
            }
            *largest = largest.max(value);
        }
    }
    let mut features: Vec<(&str, (f64, f64))> = worst.into_iter().collect();
    features.sort_by(|(left_name, left), (right_name, right)| {
        right.0.total_cmp(&left.0).then(right.1.total_cmp(&left.1)).then(left_name.cmp(right_name))
    });
    features.into_iter().map(|(feature, _)| feature).collect()
}

#[cfg(test)]
#[path = "view_tests.rs"]
mod tests;
