//! What stands beside a finding's number so that people can act on it: what moved and by how much, and where.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::metrics;
use super::reason::{number, percent, probability};
use crate::stats::location::Location;
use crate::stats::metric::{BinShare, FeatureStats};
use crate::stats::psi::{self, SHARE_FLOOR};
use crate::windows::result::Segment;

/// At most this many bins or categories stand in a finding.
pub const MOST_MOVED: usize = 5;
/// At most this many segments stand in a finding.
pub const MOST_SEGMENTS: usize = 3;
/// Below this index nothing has moved whose parts are worth telling.
const LEAST_PSI: f64 = 1e-9;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MovedKind {
    /// A range of values of a numeric feature.
    Bin,
    #[default]
    Category,
    /// Categories that are not shown one by one.
    Rest,
    /// Missing values.
    Missing,
}

/// A bin or category whose share moved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Moved {
    /// `< 12.5`, `12.5 to 14`, `>= 14`; a category; `(18 others)`, `(other unseen)`, `(not listed)`; `(missing)`.
    pub label: String,
    #[serde(default)]
    pub kind: MovedKind,
    /// Share of the values, 0 to 1, in the reference and in the window; of missing values, share of all rows.
    pub reference: f64,
    pub window: f64,
    /// Its part of the feature's population stability index, 0 to 1. Absent for missing values, which are no bin of
    /// it, and where the index is 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub psi_share: Option<f64>,
}

impl From<BinShare> for Moved {
    fn from(bin: BinShare) -> Self {
        Self {
            label: bin.label,
            kind: MovedKind::default(),
            reference: bin.reference,
            window: bin.window,
            psi_share: None,
        }
    }
}

/// Further facts about a finding; empty where there are none.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Explanation {
    /// How much the model's output depends on the feature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub importance: Option<f64>,
    /// The value, or the PSI where the finding has one beside it, times the importance: findings of one severity stand in this order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<f64>,
    /// Numeric features: mean and median before and after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<Location>,
    /// Where the feature drifted most; absent where the model has no segments to look at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segments: Option<SegmentSearch>,
}

impl Explanation {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A look at the segments of the window, one by one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SegmentSearch {
    /// Segments with enough rows to be looked at.
    pub segments: u32,
    /// Features whose segments may be looked at; p-values are corrected for segments times features (Bonferroni).
    pub features: u32,
    /// Segments that drifted more than the whole did, the worst first, at most three; empty: none stands out.
    pub worst: Vec<WorstSegment>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorstSegment {
    pub segment: Segment,
    /// What was measured: `psi`, or `null_rate` where the finding is about missing values.
    pub metric: String,
    pub value: f64,
    /// Events of the segment, and their share of the events looked at, 0 to 1.
    pub rows: u64,
    pub share: f64,
    /// Probability that a segment with the drift of the whole shows this much, times the looks taken.
    pub p_adjusted: f64,
    /// How much of the whole's value would be gone had this segment stayed as it was, 0 to 1; absent where the bins
    /// of the two cannot be laid upon each other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carries: Option<f64>,
}

/// Bins and categories of a feature that moved most, largest first.
pub fn moved(stats: &FeatureStats) -> Vec<Moved> {
    let kind = |label: &str| match label {
        "(missing)" => MovedKind::Missing,
        _ if stats.location.is_some() => MovedKind::Bin,
        "(other unseen)" | "(not listed)" => MovedKind::Rest,
        label if label.starts_with('(') && label.ends_with(" others)") => MovedKind::Rest,
        _ => MovedKind::Category,
    };
    let term = |bin: &BinShare| psi::term(bin.reference, bin.window, SHARE_FLOOR);
    let shown: Vec<(MovedKind, &BinShare)> = stats.bins.iter().map(|bin| (kind(&bin.label), bin)).collect();
    let one_by_one = |kind: MovedKind| matches!(kind, MovedKind::Bin | MovedKind::Category);
    let of_shown: f64 = shown.iter().filter(|(kind, _)| one_by_one(*kind)).map(|(_, bin)| term(bin)).sum();
    // Of categories that stand together the index knows the parts; here only what they leave of it is known.
    let index = stats.metrics.get("psi").and_then(|psi| psi.value).unwrap_or(of_shown).max(of_shown);
    let of_rest = index - of_shown;
    let mut moved: Vec<Moved> = shown
        .into_iter()
        .filter(|(_, bin)| bin.window != bin.reference)
        .map(|(kind, bin)| {
            let part = match kind {
                MovedKind::Bin | MovedKind::Category => Some(term(bin)),
                MovedKind::Rest => Some(of_rest),
                MovedKind::Missing => None,
            };
            let psi_share = part.filter(|_| index > LEAST_PSI).map(|part| part / index);
            Moved { kind, psi_share, ..Moved::from(bin.clone()) }
        })
        .collect();
    let change = |moved: &Moved| (moved.window - moved.reference).abs();
    moved.sort_by(|left, right| change(right).total_cmp(&change(left)));
    moved.truncate(MOST_MOVED);
    moved
}

impl Moved {
    pub fn bin(&self) -> BinShare {
        BinShare { label: self.label.clone(), reference: self.reference, window: self.window }
    }

    /// "`crypto` 0.0% -> 9.5% (new, 82% of PSI)", "values >= 120: 10.0% -> 31.2% (41% of PSI)".
    pub fn sentence(&self) -> String {
        let what = match self.kind {
            MovedKind::Bin => format!("values {}:", self.label),
            MovedKind::Category => format!("`{}`", self.label),
            MovedKind::Rest => format!("{}:", self.label.trim_matches(['(', ')'])),
            MovedKind::Missing => "missing:".to_string(),
        };
        let mut notes = Vec::new();
        match self.kind {
            MovedKind::Category if self.reference == 0.0 => notes.push("new".to_string()),
            MovedKind::Category if self.window == 0.0 => notes.push("gone".to_string()),
            _ => {}
        }
        notes.extend(self.psi_share.map(|share| format!("{:.0}% of PSI", share * 100.0)));
        let notes = if notes.is_empty() { String::new() } else { format!(" ({})", notes.join(", ")) };
        format!("{what} {} -> {}{notes}", share(self.reference), share(self.window))
    }
}

/// One decimal, more where the share is smaller than that: 10.0%, 0.02%.
fn share(value: f64) -> String {
    let percent = value * 100.0;
    match percent {
        size if size > 0.0 && size < 0.01 => "< 0.01%".into(),
        size if size > 0.0 && size < 0.1 => format!("{percent:.2}%"),
        _ => format!("{percent:.1}%"),
    }
}

impl Explanation {
    /// Sentences beside those on what moved, in the order in which people ask.
    pub fn sentences(&self) -> Vec<String> {
        // A feature that has nothing to do with the score needs no line that says so.
        let weight = self.importance.filter(|importance| *importance > 0.0).zip(self.priority);
        let weight = weight.map(|(importance, priority)| {
            format!("importance {}: drift x importance {}", number(importance), number(priority))
        });
        let location = self.location.as_ref().and_then(middle);
        let segments = self.segments.as_ref().map(SegmentSearch::sentence);
        [location, segments, weight].into_iter().flatten().collect()
    }
}

/// "median 52.1 -> 88.3, mean 61.0 -> 97.4".
fn middle(location: &Location) -> Option<String> {
    let pair = |name: &str, before: Option<f64>, after: Option<f64>| {
        before.zip(after).map(|(before, after)| format!("{name} {} -> {}", number(before), number(after)))
    };
    let parts = [
        pair("median", location.median_reference, location.median),
        pair("mean", location.mean_reference, location.mean),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

impl SegmentSearch {
    /// "worst in country=IT, device=phone: PSI 0.81, 4% of events, 78% of the drift, adjusted p < 1e-6".
    pub fn sentence(&self) -> String {
        let plural = if self.segments == 1 { "segment" } else { "segments" };
        let looked = format!("{} {plural} looked at", self.segments);
        if self.worst.is_empty() {
            return format!("no single segment stands out ({looked})");
        }
        let told: Vec<String> = self.worst.iter().map(WorstSegment::phrase).collect();
        format!("worst in {} ({looked})", told.join("; then "))
    }
}

impl WorstSegment {
    fn phrase(&self) -> String {
        let metric = metrics::find(&self.metric);
        let label = metric.map_or(self.metric.as_str(), |metric| metric.label);
        let value = if metric.is_some_and(|metric| metric.share) { percent(self.value) } else { number(self.value) };
        let carries = self.carries.map_or(String::new(), |part| format!(", {:.0}% of the drift", part * 100.0));
        format!(
            "{}: {label} {value}, {} of events{carries}, adjusted p {}",
            self.segment,
            percent(self.share),
            probability(self.p_adjusted)
        )
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::stats::metric::MetricValue;

    fn bin(label: &str, reference: f64, window: f64) -> BinShare {
        BinShare { label: label.into(), reference, window }
    }

    fn sentences(stats: &FeatureStats) -> Vec<String> {
        moved(stats).iter().map(Moved::sentence).collect()
    }

    #[test]
    fn categories_say_which_is_new_and_what_it_weighs() {
        let bins =
            vec![bin("card", 0.9, 0.8), bin("cash", 0.1, 0.105), bin("crypto", 0.0, 0.095), bin("(missing)", 0.0, 0.2)];
        let psi = psi::population_stability_index(&[0.9, 0.1, 0.0], &[0.8, 0.105, 0.095], SHARE_FLOOR);
        let metrics = BTreeMap::from([("psi".to_string(), MetricValue::exact(psi))]);
        let stats = FeatureStats { bins, metrics, ..FeatureStats::default() };
        let expected = [
            "missing: 0.0% -> 20.0%",
            "`card` 90.0% -> 80.0% (2% of PSI)",
            "`crypto` 0.0% -> 9.5% (new, 98% of PSI)",
            "`cash` 10.0% -> 10.5% (0% of PSI)",
        ];
        assert_eq!(sentences(&stats), expected);
        let parts: f64 = moved(&stats).iter().filter_map(|moved| moved.psi_share).sum();
        assert!((parts - 1.0).abs() < 1e-12, "the parts sum to {parts}");
    }

    #[test]
    fn categories_that_stand_together_take_what_is_left_of_the_index() {
        let bins = vec![bin("a", 0.6, 0.5), bin("(18 others)", 0.4, 0.5)];
        let metrics = BTreeMap::from([("psi".to_string(), MetricValue::exact(0.1))]);
        let stats = FeatureStats { bins, metrics, ..FeatureStats::default() };
        assert_eq!(sentences(&stats), ["`a` 60.0% -> 50.0% (18% of PSI)", "18 others: 40.0% -> 50.0% (82% of PSI)"]);
    }

    #[test]
    fn numbers_say_their_range_and_their_middle() {
        let location = Location {
            mean_reference: Some(61.0),
            mean: Some(97.42),
            median_reference: Some(52.12),
            median: Some(88.31),
        };
        let bins = vec![bin("< 120", 0.9, 0.688), bin(">= 120", 0.1, 0.312)];
        let stats = FeatureStats { bins, location: Some(location), ..FeatureStats::default() };
        assert_eq!(
            sentences(&stats),
            ["values < 120: 90.0% -> 68.8% (19% of PSI)", "values >= 120: 10.0% -> 31.2% (81% of PSI)"]
        );
        let explanation = Explanation { location: Some(location), ..Explanation::default() };
        assert_eq!(explanation.sentences(), ["median 52.1 -> 88.3, mean 61 -> 97.4"]);
    }

    #[test]
    fn a_search_names_the_worst_segments_or_says_that_none_stands_out() {
        let worst = WorstSegment {
            segment: Segment { column: "country".into(), value: "IT".into() },
            metric: "psi".into(),
            value: 0.812,
            rows: 410,
            share: 0.04,
            p_adjusted: 1e-12,
            carries: Some(0.78),
        };
        let mut search = SegmentSearch { segments: 20, features: 3, worst: vec![worst] };
        assert_eq!(
            search.sentence(),
            "worst in country=IT: PSI 0.81, 4% of events, 78% of the drift, adjusted p < 1e-6 (20 segments looked at)"
        );
        search.worst.clear();
        assert_eq!(search.sentence(), "no single segment stands out (20 segments looked at)");
    }
}
