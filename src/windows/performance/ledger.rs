//! Which windows of performance have been told, how often, and which wait to be told again.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::super::result::Window;
use super::time::{Clock, Patience};

/// A window of one model version. Its JSON is part of the key of its record.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct WindowKey {
    pub model: String,
    /// Before the start: the order in which windows are told.
    pub end_ms: i64,
    pub start_ms: i64,
    pub version: String,
}

impl WindowKey {
    pub fn new(model: &str, version: &str, window: Window) -> Self {
        let Window { start_ms, end_ms } = window;
        Self { model: model.to_string(), end_ms, start_ms, version: version.to_string() }
    }

    pub fn window(&self) -> Window {
        Window { start_ms: self.start_ms, end_ms: self.end_ms }
    }

    fn first(model: &str) -> Self {
        Self { model: model.to_string(), end_ms: i64::MIN, start_ms: i64::MIN, version: String::new() }
    }
}

/// What was told of a closed window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Told {
    pub revision: u32,
    /// Wall clock of the log at that revision, epoch milliseconds.
    pub at_ms: i64,
    /// Something has been added since.
    pub pending: bool,
    #[serde(rename = "final")]
    pub is_final: bool,
}

#[derive(Debug, Default)]
pub(super) struct Ledger {
    told: BTreeMap<WindowKey, Told>,
    /// Windows with predictions that have not closed yet.
    open: BTreeSet<WindowKey>,
    unstored: BTreeSet<WindowKey>,
}

impl Ledger {
    /// Notes that something was added to the window.
    pub fn touch(&mut self, key: WindowKey) {
        match self.told.get_mut(&key) {
            Some(told) if told.pending => {}
            Some(told) => {
                told.pending = true;
                self.unstored.insert(key);
            }
            None => {
                self.open.insert(key);
            }
        }
    }

    /// Takes back what was stored.
    pub fn restore(&mut self, key: WindowKey, told: Told) {
        self.told.insert(key, told);
    }

    /// After a restart: a window of a stored pane. All windows that had closed are told.
    pub fn restore_open(&mut self, key: WindowKey, watermark_ms: Option<i64>) {
        if watermark_ms.is_none_or(|watermark_ms| key.end_ms > watermark_ms) {
            self.open.insert(key);
        }
    }

    /// Windows of the model that close now.
    pub fn take_closing(&mut self, model: &str, clock: &Clock) -> BTreeSet<WindowKey> {
        let Some(watermark_ms) = clock.watermark_ms else { return BTreeSet::new() };
        let of_model = self.open.range(WindowKey::first(model)..).take_while(|key| key.model == model);
        let closing: BTreeSet<WindowKey> = of_model.take_while(|key| key.end_ms <= watermark_ms).cloned().collect();
        self.open.retain(|key| !closing.contains(key));
        closing
    }

    /// Closed windows of the model that are due to be told again, the one that has waited longest first.
    pub fn due(&self, model: &str, patience: &Patience, clock: &Clock) -> Vec<WindowKey> {
        let is_due = |key: &WindowKey, told: &Told| {
            let rested = clock.at_ms.saturating_sub(told.at_ms) >= patience.revise_every_ms;
            (told.pending && rested) || (!told.is_final && patience.labels_are_in(key.end_ms, clock))
        };
        let mut due: Vec<(i64, &WindowKey)> =
            self.of_model(model).filter(|(key, told)| is_due(key, told)).map(|(key, told)| (told.at_ms, key)).collect();
        due.sort();
        due.into_iter().map(|(_, key)| key.clone()).collect()
    }

    /// Notes that the window is told now; answers its revision.
    pub fn tell(&mut self, key: &WindowKey, at_ms: i64, is_final: bool) -> u32 {
        let revision = self.told.get(key).map_or(0, |told| told.revision + 1);
        self.told.insert(key.clone(), Told { revision, at_ms, pending: false, is_final });
        self.unstored.insert(key.clone());
        revision
    }

    /// Forgets windows that nothing can change any more. Returns the earliest start of those that are past their time
    /// but still have something to tell.
    pub fn retire(&mut self, model: &str, patience: &Patience, clock: &Clock) -> Option<i64> {
        let past: Vec<(WindowKey, Told)> = self
            .of_model(model)
            .filter(|(key, _)| patience.is_past(key.end_ms, clock))
            .map(|(key, told)| (key.clone(), *told))
            .collect();
        let mut earliest: Option<i64> = None;
        for (key, told) in past {
            if told.pending || !told.is_final {
                earliest = Some(earliest.map_or(key.start_ms, |start_ms| start_ms.min(key.start_ms)));
            } else {
                self.told.remove(&key);
                self.unstored.insert(key);
            }
        }
        earliest
    }

    fn of_model<'a>(&'a self, model: &'a str) -> impl Iterator<Item = (&'a WindowKey, &'a Told)> {
        self.told.range(WindowKey::first(model)..).take_while(move |(key, _)| key.model == model)
    }

    /// Changes since the last call; `None`: forget it.
    pub fn take_stored(&mut self) -> Vec<(WindowKey, Option<Told>)> {
        let unstored = std::mem::take(&mut self.unstored);
        unstored.into_iter().map(|key| (self.told.get(&key).copied(), key)).map(|(told, key)| (key, told)).collect()
    }
}
