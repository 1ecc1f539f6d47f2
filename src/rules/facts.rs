//! What guards of actions are asked about, gathered from closed windows as they come: events and labels by day, and
//! where the source topics stood. Kept for models that some rule with `actions` looks at, one record of the `episodes`
//! topic a day, `MOST_DAYS` days.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::action_request::{ActionFacts, Positions};
use crate::windows::result::{ClosedWindow, Window};

/// Days that are kept.
const MOST_DAYS: i64 = 90;

const DAY_MS: i64 = 86_400_000;

/// Of one window of the model's own size, of one version.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Counted {
    start_ms: i64,
    version: String,
    rows: u64,
    predictions: u64,
    labelled: u64,
}

/// One day of one model: one record of the `episodes` topic.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct DayFacts {
    /// Sums of the windows that can be revised no more.
    rows: u64,
    predictions: u64,
    labelled: u64,
    /// Those that can be, in order.
    open: Vec<Counted>,
    /// When the day's first window of the model's own size closed, and the last time any of its windows did.
    first: Positions,
    last: Positions,
}

/// Key of the record of one day. Not a list, as the keys of rule states are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FactsKey {
    #[serde(rename = "facts")]
    pub model: String,
    /// Days since 1970-01-01.
    pub day: i64,
}

/// Days since 1970-01-01, UTC, each with its facts.
pub type ModelFacts = BTreeMap<i64, DayFacts>;

/// What of a model's windows is counted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Horizon {
    /// Size of the model's own windows.
    pub size_ms: i64,
    /// How long they can be revised, by late events and labels.
    pub revisable_ms: i64,
}

/// Takes a closed window in; answers which days changed. Those that are not there any more are to be forgotten.
pub(super) fn take(facts: &mut ModelFacts, closed: &ClosedWindow, horizon: Horizon) -> Vec<i64> {
    let Window { start_ms, end_ms } = closed.window;
    let is_own = end_ms - start_ms == horizon.size_ms && start_ms.rem_euclid(horizon.size_ms.max(1)) == 0;
    let of_all = || closed.results.iter().filter(|result| result.segment.is_all() && result.baseline.is_none());
    if !is_own || of_all().next().is_none() {
        return Vec::new();
    }
    let day = start_ms.div_euclid(DAY_MS);
    let newest_day = facts.last_key_value().map_or(day, |(newest, _)| *newest).max(day);
    if day <= newest_day - MOST_DAYS {
        return Vec::new();
    }
    let of_day = facts.entry(day).or_default();
    let counted = of_day.counted(start_ms, &closed.version);
    let events: Vec<u64> = of_all().filter(|result| result.performance.is_none()).map(|result| result.rows).collect();
    let judged: Vec<(u64, u64)> = of_all()
        .filter_map(|result| result.performance.as_ref())
        .map(|performance| (performance.predictions, performance.labelled))
        .collect();
    if !events.is_empty() {
        counted.rows = events.iter().sum();
    }
    if !judged.is_empty() {
        counted.predictions = judged.iter().map(|(predictions, _)| predictions).sum();
        counted.labelled = judged.iter().map(|(_, labelled)| labelled).sum();
    }
    let now = Positions { window_end_ms: end_ms, next_offsets: closed.positions.to_vec() };
    if of_day.first.next_offsets.is_empty() {
        of_day.first = now.clone();
    }
    of_day.last = now;
    let mut changed = vec![day];
    changed.extend(settle(facts, newest_day, horizon));
    changed
}

/// Sums up days whose windows can be revised no more, and drops those that are too old.
fn settle(facts: &mut ModelFacts, newest_day: i64, horizon: Horizon) -> Vec<i64> {
    let revisable_days = horizon.revisable_ms.saturating_add(horizon.size_ms).div_euclid(DAY_MS).saturating_add(2);
    let mut changed = Vec::new();
    for (day, of_day) in facts.iter_mut().filter(|(day, _)| **day < newest_day.saturating_sub(revisable_days)) {
        if !of_day.open.is_empty() {
            of_day.settle();
            changed.push(*day);
        }
    }
    let outlived: Vec<i64> = facts.keys().copied().filter(|day| *day <= newest_day - MOST_DAYS).collect();
    outlived.iter().for_each(|day| drop(facts.remove(day)));
    changed.extend(outlived);
    changed
}

impl DayFacts {
    fn counted(&mut self, start_ms: i64, version: &str) -> &mut Counted {
        let key = (start_ms, version);
        let place = self.open.binary_search_by(|one| (one.start_ms, one.version.as_str()).cmp(&key));
        let index = place.unwrap_or_else(|place| {
            self.open.insert(place, Counted { start_ms, version: version.to_string(), ..Counted::default() });
            place
        });
        &mut self.open[index]
    }

    fn settle(&mut self) {
        (self.rows, self.predictions, self.labelled) = self.sums();
        self.open.clear();
    }

    /// Events, predictions that can be met by a label, and those whose label is known.
    fn sums(&self) -> (u64, u64, u64) {
        let sum = |settled: u64, of: fn(&Counted) -> u64| settled + self.open.iter().map(of).sum::<u64>();
        (
            sum(self.rows, |one| one.rows),
            sum(self.predictions, |one| one.predictions),
            sum(self.labelled, |one| one.labelled),
        )
    }
}

/// As a request for an action carries them; who fires is added by whoever asks.
pub(super) fn told(facts: Option<&ModelFacts>) -> ActionFacts {
    let mut told = ActionFacts::default();
    for (day, of_day) in facts.into_iter().flatten() {
        let (rows, predictions, labelled) = of_day.sums();
        told.rows_by_day.push((*day, rows));
        if predictions > 0 {
            told.labels_by_day.push((*day, predictions, labelled));
        }
        told.positions_by_day.push(of_day.first.clone());
    }
    // What stands last is now: revisions of earlier days come later than the windows of today.
    let furthest = |day: &&DayFacts| day.last.next_offsets.iter().map(|(.., next)| *next).sum::<i64>();
    let last = facts.into_iter().flatten().map(|(_, of_day)| of_day).max_by_key(furthest);
    told.positions_by_day.extend(last.map(|of_day| of_day.last.clone()));
    told
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use crate::windows::result::{Segment, WindowPerformance, WindowResult};

    const HOUR_MS: i64 = 3_600_000;
    const HORIZON: Horizon = Horizon { size_ms: HOUR_MS, revisable_ms: 48 * HOUR_MS };

    fn closed(hour: i64, version: &str, rows: u64, labels: Option<(u64, u64)>) -> ClosedWindow {
        let window = Window { start_ms: hour * HOUR_MS, end_ms: (hour + 1) * HOUR_MS };
        let result = WindowResult {
            model: "fraud".into(),
            version: version.into(),
            segment: Segment::default(),
            window,
            revision: 0,
            reference: "training".into(),
            reference_id: "r".into(),
            rows,
            complete: true,
            baseline: None,
            quality: None,
            changes: Vec::new(),
            performance: labels.map(|(predictions, labelled)| WindowPerformance {
                predictions,
                labelled,
                ..WindowPerformance::default()
            }),
            features: BTreeMap::new(),
        };
        ClosedWindow {
            model: "fraud".into(),
            version: version.into(),
            window,
            revision: 0,
            results: vec![result],
            positions: Arc::new(vec![("t".into(), 0, hour * 100)]),
        }
    }

    #[test]
    fn revisions_replace_and_days_add_up_over_versions() {
        let mut facts = ModelFacts::new();
        for (hour, version, rows) in [(0, "1", 10), (0, "2", 5), (1, "1", 20), (1, "1", 22), (24, "2", 7)] {
            take(&mut facts, &closed(hour, version, rows, None), HORIZON);
        }
        take(&mut facts, &closed(0, "1", 10, Some((10, 4))), HORIZON);
        take(&mut facts, &closed(0, "1", 10, Some((10, 9))), HORIZON);
        let told = told(Some(&facts));
        assert_eq!(told.rows_by_day, [(0, 37), (1, 7)]);
        assert_eq!(told.labels_by_day, [(0, 10, 9)]);
        let ends: Vec<i64> = told.positions_by_day.iter().map(|one| one.window_end_ms / HOUR_MS).collect();
        assert_eq!(ends, [1, 25, 25], "the first window of each day, then now");
    }

    #[test]
    fn windows_of_another_size_and_segments_count_for_nothing() {
        let mut facts = ModelFacts::new();
        let mut long = closed(0, "1", 10, None);
        long.window.end_ms = 2 * HOUR_MS;
        assert!(take(&mut facts, &long, HORIZON).is_empty());
        let mut segment = closed(0, "1", 10, None);
        segment.results[0].segment = Segment { column: "country".into(), value: "IT".into() };
        assert!(take(&mut facts, &segment, HORIZON).is_empty() && facts.is_empty());
    }

    #[test]
    fn what_is_kept_is_bounded_and_summed_up() {
        let mut facts = ModelFacts::new();
        for day in 0..200 {
            let changed = take(&mut facts, &closed(day * 24, "1", 10, None), HORIZON);
            assert!(changed.contains(&day) && changed.len() <= 3, "{changed:?}");
        }
        assert_eq!((facts.len(), *facts.keys().next().unwrap()), (90, 110));
        let open: usize = facts.values().map(|of_day| of_day.open.len()).sum();
        assert_eq!(open, 5, "two days of revisions, two of margin, today");
        assert_eq!(told(Some(&facts)).rows_by_day.iter().map(|(_, rows)| rows).sum::<u64>(), 900);
        assert!(take(&mut facts, &closed(0, "1", 10, None), HORIZON).is_empty(), "too old to be counted");
    }
}
