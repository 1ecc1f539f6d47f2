//! Moving references: for each closed window, the union of the panes that a rule compares it with.
//!
//! All panes are binned by the model's `training` reference, so that they merge; panes of an earlier one do not, and
//! after its promotion a baseline starts again. A baseline is computed once per window and shared by the rules that
//! name it. It holds whatever stands in its panes when the window closes or is revised; a late event that comes into
//! one of its panes afterwards revises the windows that cover that pane, and no other.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::glob;
use crate::reference::{MovingReference, Reference};

use super::history::{BLOCK_PANES, History, next_version, of_model, of_stretch};
use super::pane::{Pane, PaneError, PaneKey};
use super::result::{Segment, Window};
use super::state::WindowSpec;

/// Fewer events than this are no reference: ten bins would hold less than 50 each.
pub const FEWEST_ROWS: u64 = 500;

/// A moving reference that rules name, of windows of one size and slide.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    pub reference: MovingReference,
    pub spec: WindowSpec,
    /// Globs of the versions under test; any of them.
    pub versions: BTreeSet<String>,
    /// Segment columns to compare beside the whole.
    pub segments: BTreeSet<String>,
    /// Signals to compare.
    pub features: BTreeSet<String>,
}

impl Comparison {
    pub fn tests(&self, version: &str) -> bool {
        self.versions.iter().any(|pattern| glob::matches(pattern, version))
    }

    pub(super) fn looks_at(&self, segment: &Segment) -> bool {
        segment.is_all() || self.segments.contains(&segment.column)
    }
}

/// What a moving reference is made of in one window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Baseline {
    /// From its first pane's start to its last one's end.
    pub reach: Window,
    /// Events in it.
    pub rows: u64,
    /// Panes of event time that are known, of those it would have: not from before the first event, nor in a gap.
    pub panes: u32,
    pub panes_expected: u32,
    /// Why nothing is compared with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wanting: Option<String>,
}

impl Baseline {
    /// Rows that a window of this length has at the pace of the known panes; `None` where less than half is known.
    pub fn expected_rows(&self, window: Window, pane_ms: i64) -> Option<f64> {
        let enough = self.panes > 0 && 2 * self.panes >= self.panes_expected;
        let panes_of_window = (window.end_ms - window.start_ms) as f64 / pane_ms as f64;
        enough.then(|| self.rows as f64 / f64::from(self.panes) * panes_of_window)
    }
}

/// Where the panes are, and which stretches of time are known to lack events.
pub(super) struct Held<'a> {
    pub model: &'a str,
    pub open: &'a BTreeMap<PaneKey, Pane>,
    pub history: &'a History,
    /// Width of the model's panes, milliseconds.
    pub pane_ms: i64,
    pub has_gap: &'a dyn Fn(Window) -> bool,
}

/// The baseline of one segment, with its profiles unless it is wanting.
pub(super) struct Merged {
    pub baseline: Baseline,
    pub pane: Pane,
}

impl Held<'_> {
    /// Baselines of `window` by segment, for those of `segments` that the comparison looks at. `None`: the version
    /// under test is itself the one that others are compared with.
    pub fn baselines(
        &self,
        comparison: &Comparison,
        reference: &Reference,
        version: &str,
        window: Window,
        segments: &BTreeSet<Segment>,
    ) -> Result<Option<BTreeMap<Segment, Merged>>, PaneError> {
        let versions = self.versions(&comparison.reference, version);
        let is_yardstick = comparison.reference.version.as_deref().is_some_and(|glob| glob::matches(glob, version));
        if versions.is_empty() && is_yardstick {
            return Ok(None);
        }
        let stretches = comparison.reference.stretches(window.start_ms..window.end_ms);
        let known = self.known(&versions, &reference.id, &stretches);
        let mut panes: BTreeMap<Segment, Pane> = segments
            .iter()
            .filter(|segment| comparison.looks_at(segment))
            .map(|segment| (segment.clone(), Pane::default()))
            .collect();
        if known.enough() {
            for version in &versions {
                for stretch in &known.stretches {
                    self.merge(comparison, reference, version, stretch.clone(), &mut panes)?;
                }
            }
        }
        let reach = Window {
            start_ms: stretches.first().map_or(window.start_ms, |stretch| stretch.start),
            end_ms: stretches.last().map_or(window.start_ms, |stretch| stretch.end),
        };
        let merged = panes.into_iter().map(|(segment, pane)| {
            let wanting = known.wanting(&comparison.reference, &versions, pane.rows);
            let baseline =
                Baseline { reach, rows: pane.rows, panes: known.panes, panes_expected: known.expected, wanting };
            (segment, Merged { baseline, pane })
        });
        Ok(Some(merged.collect()))
    }

    /// Versions whose panes a window of `tested` is compared with, in order.
    fn versions(&self, reference: &MovingReference, tested: &str) -> Vec<String> {
        if reference.version.is_none() {
            return vec![tested.to_string()];
        }
        let mut versions = versions_in(self.open, self.model);
        versions.extend(versions_in(self.history.panes(), self.model));
        versions.into_iter().filter(|version| reference.takes_version(tested, version)).map(str::to_string).collect()
    }

    /// The parts of `stretches` of which all is known: since the first pane of these versions, and without gaps.
    fn known(&self, versions: &[String], reference_id: &str, stretches: &[Range<i64>]) -> Known {
        let begun_ms = versions.iter().filter_map(|version| self.begun_ms(version, reference_id)).min();
        let mut known = Known { stretches: Vec::new(), panes: 0, expected: 0 };
        for stretch in stretches {
            let mut start_ms = stretch.start;
            while start_ms < stretch.end {
                let pane = Window { start_ms, end_ms: (start_ms + self.pane_ms).min(stretch.end) };
                known.expected += 1;
                if begun_ms.is_some_and(|begun_ms| begun_ms <= pane.start_ms) && !(self.has_gap)(pane) {
                    known.push(pane);
                }
                start_ms = pane.end_ms;
            }
        }
        known
    }

    /// Start of the first pane of the version that is held under this reference.
    fn begun_ms(&self, version: &str, reference_id: &str) -> Option<i64> {
        let matches = |key: &&PaneKey| key.reference_id == reference_id;
        let all = i64::MIN..i64::MAX;
        let mut in_history = of_stretch(self.history.panes(), self.model, version, all.clone()).map(|(key, _)| key);
        let mut open = of_stretch(self.open, self.model, version, all).map(|(key, _)| key);
        let first = [in_history.find(matches), open.find(matches)];
        first.into_iter().flatten().map(|key| key.start_ms).min()
    }

    /// Adds the panes that lie in `stretch`. One that reaches beyond it, from before a change of the configuration,
    /// is left out.
    fn merge(
        &self,
        comparison: &Comparison,
        reference: &Reference,
        version: &str,
        stretch: Range<i64>,
        panes: &mut BTreeMap<Segment, Pane>,
    ) -> Result<(), PaneError> {
        let wanted = |name: &str| comparison.features.contains(name);
        let fits = |key: &PaneKey| key.reference_id == reference.id && key.window().end_ms <= stretch.end;
        for part in self.parts(stretch.clone()) {
            let mut one_by_one: BTreeSet<Segment> = panes.keys().cloned().collect();
            if part.is_block {
                one_by_one.clear();
                for (segment, into) in panes.iter_mut() {
                    let place = (version, segment);
                    if !self.history.add_block(reference, place, part.time.clone(), stretch.end, wanted, into)? {
                        one_by_one.insert(segment.clone());
                    }
                }
            }
            if one_by_one.is_empty() {
                continue;
            }
            for (key, encoded) in of_stretch(self.history.panes(), self.model, version, part.time) {
                if let Some(into) =
                    panes.get_mut(&key.segment).filter(|_| one_by_one.contains(&key.segment) && fits(key))
                {
                    into.merge(&Pane::decode_some(reference, encoded, wanted)?)?;
                }
            }
        }
        for (key, pane) in of_stretch(self.open, self.model, version, stretch.clone()) {
            if let Some(into) = panes.get_mut(&key.segment).filter(|_| fits(key)) {
                into.merge_some(pane, wanted)?;
            }
        }
        Ok(())
    }

    /// Whole blocks of panes, and what is left before and after them.
    fn parts(&self, stretch: Range<i64>) -> Vec<Part> {
        let block_ms = self.pane_ms.saturating_mul(BLOCK_PANES);
        let first = stretch.start.div_euclid(block_ms).saturating_mul(block_ms);
        let first = if first < stretch.start { first.saturating_add(block_ms) } else { first };
        let last = stretch.end.div_euclid(block_ms).saturating_mul(block_ms);
        if first >= last {
            return vec![Part { time: stretch, is_block: false }];
        }
        let mut parts = vec![Part { time: stretch.start..first, is_block: false }];
        let blocks = (0..(last - first) / block_ms).map(|index| first + index * block_ms);
        parts.extend(blocks.map(|start_ms| Part { time: start_ms..start_ms + block_ms, is_block: true }));
        parts.push(Part { time: last..stretch.end, is_block: false });
        parts
    }
}

/// A part of a stretch of time.
struct Part {
    time: Range<i64>,
    is_block: bool,
}

fn versions_in<'a, T>(panes: &'a BTreeMap<PaneKey, T>, model: &str) -> BTreeSet<&'a str> {
    let mut versions = BTreeSet::new();
    let mut last = None;
    while let Some(version) = next_version(panes, model, last) {
        versions.insert(version);
        last = Some(version);
    }
    versions
}

/// The known part of a moving reference.
struct Known {
    /// Whole panes, neighbours joined.
    stretches: Vec<Range<i64>>,
    panes: u32,
    expected: u32,
}

impl Known {
    fn push(&mut self, pane: Window) {
        self.panes += 1;
        match self.stretches.last_mut().filter(|last| last.end == pane.start_ms) {
            Some(last) => last.end = pane.end_ms,
            None => self.stretches.push(pane.start_ms..pane.end_ms),
        }
    }

    /// At least half: less would be a reference to another season than the one that was asked for.
    fn enough(&self) -> bool {
        self.panes > 0 && 2 * self.panes >= self.expected
    }

    fn wanting(&self, reference: &MovingReference, versions: &[String], rows: u64) -> Option<String> {
        if let Some(version) = reference.version.as_ref().filter(|_| versions.is_empty()) {
            return Some(format!("no other version matches `{version}`"));
        }
        if !self.enough() {
            return Some(format!(
                "{} of {} panes are known, at least half of them are needed",
                self.panes, self.expected
            ));
        }
        (rows < FEWEST_ROWS).then(|| format!("{rows} events, at least {FEWEST_ROWS} are needed"))
    }
}

/// Watermark from which on no window is compared with this pane any more; `None`: none is from the start.
pub(super) fn needed_until_ms(comparisons: &[Comparison], key: &PaneKey, allowed_lateness_ms: i64) -> Option<i64> {
    let needed = |comparison: &Comparison| {
        let reach_ms = comparison.reference.reach_ms(comparison.spec.size_ms);
        let takes_version = comparison
            .reference
            .version
            .as_ref()
            .map_or_else(|| comparison.tests(&key.version), |pattern| glob::matches(pattern, &key.version));
        (reach_ms > 0 && takes_version && comparison.looks_at(&key.segment)).then(|| {
            let last_start_ms = key.start_ms.saturating_add(reach_ms);
            last_start_ms.saturating_add(comparison.spec.size_ms).saturating_add(allowed_lateness_ms)
        })
    };
    comparisons.iter().filter_map(needed).max()
}

/// Signals that panes of the model are kept for once they cannot change any more.
pub(super) fn kept_features(comparisons: &[Comparison]) -> BTreeSet<&str> {
    comparisons.iter().flat_map(|comparison| &comparison.features).map(String::as_str).collect()
}

/// Keys of a model's panes in history that have outlived their use.
pub(super) fn outlived(
    history: &History,
    model: &str,
    comparisons: &[Comparison],
    allowed_lateness_ms: i64,
    watermark_ms: i64,
) -> Vec<PaneKey> {
    of_model(history.panes(), model)
        .map(|(key, _)| key)
        .filter(|key| {
            needed_until_ms(comparisons, key, allowed_lateness_ms).is_none_or(|until_ms| until_ms <= watermark_ms)
        })
        .cloned()
        .collect()
}
