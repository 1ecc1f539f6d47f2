//! Where a feature drifted most: a search over the segments that closed with the same window.
//!
//! A segment stands out if it drifted more than the whole did, beyond chance and beyond the number of looks taken. The
//! index of a segment that drifted like the whole follows a noncentral chi-square law: its noncentrality is the whole's
//! index, less what chance adds to it, over 1/N + 1/M of the segment (taken by its first two moments: Patnaik, The
//! non-central chi-square and F-distributions and their applications, 1949). Small segments show large indexes by
//! chance alone; this is what keeps them from being named. The p-value is corrected by Bonferroni for all segments
//! looked at times all features of the rule: which feature is asked about was decided by its drift.

use std::collections::BTreeMap;

use super::explanation::{MOST_SEGMENTS, SegmentSearch, WorstSegment};
use crate::stats::chi_square;
use crate::stats::metric::{BinShare, FeatureStats};
use crate::stats::psi::{self, SHARE_FLOOR};
use crate::windows::result::{ClosedWindow, WindowResult};

/// Fewer values than this in the window or in the reference leave fewer than ten in each of ten bins.
const FEWEST_VALUES: u64 = 100;

/// What is looked for.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    pub feature: &'a str,
    /// Missing values drifted, not the values.
    pub about_missing: bool,
    /// Features that the rule looks at.
    pub features: usize,
    pub alpha: f64,
}

/// How far one segment drifted beyond the whole.
struct Look<'a> {
    result: &'a WindowResult,
    value: f64,
    /// The value less what chance adds to it: what segments are ranked by.
    beyond_chance: f64,
    /// Uncorrected.
    p: f64,
    carries: Option<f64>,
}

/// Looks at the segments within `whole`. `None`: there are none that are large enough.
pub fn search(closed: &ClosedWindow, whole: &WindowResult, question: &Question<'_>) -> Option<SegmentSearch> {
    let of_whole = whole.features.get(question.feature)?;
    let mut looks: Vec<Look<'_>> = closed
        .results
        .iter()
        .filter(|result| result.reference_id == whole.reference_id && result.reference == whole.reference)
        .filter(|result| result.complete && result.segment.is_within(&whole.segment))
        .filter_map(|result| look(result, whole, result.features.get(question.feature)?, of_whole, question))
        .collect();
    if looks.is_empty() {
        return None;
    }
    let segments = looks.len();
    let looks_taken = (segments * question.features.max(1)) as f64;
    looks.retain(|look| look.p * looks_taken <= question.alpha);
    looks.sort_by(|left, right| {
        let by_value = right.beyond_chance.total_cmp(&left.beyond_chance);
        by_value.then_with(|| left.result.segment.cmp(&right.result.segment))
    });
    let worst = looks.into_iter().take(MOST_SEGMENTS).map(|look| WorstSegment {
        segment: look.result.segment.clone(),
        metric: if question.about_missing { "null_rate" } else { "psi" }.to_string(),
        value: look.value,
        rows: look.result.rows,
        share: look.result.rows as f64 / whole.rows.max(1) as f64,
        p_adjusted: (look.p * looks_taken).min(1.0),
        carries: look.carries,
    });
    Some(SegmentSearch { segments: segments as u32, features: question.features as u32, worst: worst.collect() })
}

fn look<'a>(
    result: &'a WindowResult,
    whole_result: &WindowResult,
    segment: &FeatureStats,
    whole: &FeatureStats,
    question: &Question<'_>,
) -> Option<Look<'a>> {
    if question.about_missing {
        return look_at_missing(result, whole_result, segment, whole);
    }
    if segment.n.min(segment.n_reference) < FEWEST_VALUES {
        return None;
    }
    let (index, of_whole) = (Index::of(segment)?, Index::of(whole)?);
    let noncentrality = of_whole.beyond_chance().max(0.0) / index.scale;
    let value = segment.metrics.get("psi").and_then(|psi| psi.value).unwrap_or(index.value);
    // Of rare categories the law of the index is not to be trusted; the segment must have drifted by its own test too.
    let own = segment.metrics.get("psi").and_then(|psi| psi.p_value).unwrap_or(0.0);
    Some(Look {
        result,
        value,
        beyond_chance: index.beyond_chance(),
        p: noncentral_survival(index.value / index.scale, index.dof, noncentrality).max(own),
        carries: carried(segment, whole),
    })
}

/// The population stability index over the bins or categories that are shown.
struct Index {
    value: f64,
    dof: f64,
    /// 1/N + 1/M, times the inflation of the reference's own windows.
    scale: f64,
}

impl Index {
    fn of(stats: &FeatureStats) -> Option<Self> {
        let bins = values(stats);
        if bins.len() < 2 || stats.n == 0 || stats.n_reference == 0 {
            return None;
        }
        let value = bins.iter().map(|bin| psi::term(bin.reference, bin.window, SHARE_FLOOR)).sum();
        let inflation = stats.inflation.unwrap_or(1.0);
        let scale = inflation * (1.0 / stats.n as f64 + 1.0 / stats.n_reference as f64);
        Some(Self { value, dof: (bins.len() - 1) as f64, scale })
    }

    /// The index less its expectation under no drift.
    fn beyond_chance(&self) -> f64 {
        self.value - self.dof * self.scale
    }
}

/// All bins but that of missing values.
fn values(stats: &FeatureStats) -> Vec<&BinShare> {
    stats.bins.iter().filter(|bin| bin.label != "(missing)").collect()
}

/// Probability of a value of at least `value`, by the central law of equal mean and variance.
fn noncentral_survival(value: f64, dof: f64, noncentrality: f64) -> f64 {
    let (mean, spread) = (dof + noncentrality, dof + 2.0 * noncentrality);
    chi_square::survival(value * mean / spread, mean * mean / spread)
}

/// The whole's index is recomputed as if the segment's values were spread as in the segment's reference.
fn carried(segment: &FeatureStats, whole: &FeatureStats) -> Option<f64> {
    let shown_together = |bin: &&BinShare| {
        let label = bin.label.as_str();
        label.ends_with(" others)") || label == "(other unseen)" || label == "(not listed)"
    };
    let (of_segment, of_whole) = (values(segment), values(whole));
    if of_segment.iter().chain(&of_whole).any(shown_together) || whole.n == 0 {
        return None;
    }
    let weight = segment.n as f64 / whole.n as f64;
    let mut shares: BTreeMap<&str, (f64, f64)> =
        of_whole.iter().map(|bin| (bin.label.as_str(), (bin.reference, bin.window))).collect();
    for bin in of_segment {
        let (_, window) = shares.entry(&bin.label).or_insert((0.0, 0.0));
        *window = (*window + weight * (bin.reference - bin.window)).max(0.0);
    }
    let without: f64 = shares.values().map(|(reference, window)| psi::term(*reference, *window, SHARE_FLOOR)).sum();
    let with: f64 = of_whole.iter().map(|bin| psi::term(bin.reference, bin.window, SHARE_FLOOR)).sum();
    (with > 0.0).then(|| (1.0 - without / with).clamp(0.0, 1.0))
}

/// Whether the rate of missing values changed more than in the whole, in the same direction; by the normal law.
fn look_at_missing<'a>(
    result: &'a WindowResult,
    whole_result: &WindowResult,
    segment: &FeatureStats,
    whole: &FeatureStats,
) -> Option<Look<'a>> {
    let metric = |stats: &FeatureStats, name: &str| stats.metrics.get(name).and_then(|metric| metric.value);
    let (rate, change) = (metric(segment, "null_rate")?, metric(segment, "null_rate_change")?);
    let of_whole = metric(whole, "null_rate_change")?;
    let before = (rate - change).clamp(0.0, 1.0);
    let rows = (segment.n + segment.missing) as f64;
    let rows_before = segment.n_reference as f64 / (1.0 - before).max(f64::EPSILON);
    if rows.min(rows_before) < FEWEST_VALUES as f64 {
        return None;
    }
    // One row more of either kind: a rate of exactly 0 is not known that well.
    let variance = |rate: f64, rows: f64| {
        let rate = (rate * rows + 1.0) / (rows + 2.0);
        rate * (1.0 - rate) / rows
    };
    let spread = (variance(rate, rows) + variance(before, rows_before)).sqrt();
    let direction = if of_whole < 0.0 { -1.0 } else { 1.0 };
    let excess = (direction * change - of_whole.abs()) / spread;
    let upper = if excess > 0.0 { chi_square::survival(excess * excess, 1.0) / 2.0 } else { 1.0 };
    let own = segment.metrics.get("null_rate").and_then(|metric| metric.p_value).unwrap_or(0.0);
    let weight = result.rows as f64 / whole_result.rows.max(1) as f64;
    Some(Look {
        result,
        value: rate,
        beyond_chance: direction * change,
        p: upper.max(own),
        carries: (of_whole != 0.0).then(|| (weight * change / of_whole).clamp(0.0, 1.0)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::metric::MetricValue;
    use crate::windows::result::{Segment, Window};

    const ALPHA: f64 = 0.01;
    /// Ten bins, a tenth each, of which the last one grows to `last` at the cost of the others.
    fn stats(n: u64, last: f64) -> FeatureStats {
        let others = (1.0 - last) / 9.0;
        let window = |bin: usize| if bin == 9 { last } else { others };
        let bins: Vec<BinShare> =
            (0..10).map(|bin| BinShare { label: format!("bin {bin}"), reference: 0.1, window: window(bin) }).collect();
        let index: f64 = bins.iter().map(|bin| psi::term(bin.reference, bin.window, SHARE_FLOOR)).sum();
        let p_value = psi::p_value(index, 10, 10 * n, n);
        let metrics = BTreeMap::from([(
            "psi".to_string(),
            MetricValue { value: Some(index), bound: None, p_value, interval: None },
        )]);
        FeatureStats { n, n_reference: 10 * n, bins, metrics, ..FeatureStats::default() }
    }

    fn result(segment: Segment, stats: FeatureStats) -> WindowResult {
        WindowResult {
            model: "m".into(),
            version: "1".into(),
            segment,
            window: Window { start_ms: 0, end_ms: 1 },
            revision: 0,
            reference: "training".into(),
            reference_id: "r".into(),
            rows: stats.n,
            complete: true,
            baseline: None,
            quality: None,
            changes: Vec::new(),
            performance: None,
            features: BTreeMap::from([("amount".to_string(), stats)]),
        }
    }

    /// Twenty places of `n` values each, whose last bin has the share that `last` gives.
    fn places(n: u64, last: impl Fn(usize) -> f64) -> ClosedWindow {
        let mean = (0..20).map(&last).sum::<f64>() / 20.0;
        let mut results = vec![result(Segment::default(), stats(20 * n, mean))];
        results.extend((0..20).map(|place| {
            let segment = Segment { column: "place".into(), value: format!("p{place:02}") };
            result(segment, stats(n, last(place)))
        }));
        ClosedWindow {
            model: "m".into(),
            version: "1".into(),
            window: results[0].window,
            revision: 0,
            results,
            positions: Default::default(),
        }
    }

    fn found(closed: &ClosedWindow) -> SegmentSearch {
        let question = Question { feature: "amount", about_missing: false, features: 25, alpha: ALPHA };
        search(closed, &closed.results[0], &question).unwrap()
    }

    #[test]
    fn the_one_segment_that_moved_is_named_with_its_weight() {
        let search = found(&places(500, |place| if place == 7 { 0.4 } else { 0.1 }));
        assert_eq!((search.segments, search.features), (20, 25));
        let [worst] = search.worst.as_slice() else { panic!("{search:?}") };
        assert_eq!(worst.segment.value, "p07");
        assert!((worst.share - 0.05).abs() < 1e-12 && worst.p_adjusted < 1e-6, "{worst:?}");
        assert!(worst.carries.is_some_and(|part| (part - 1.0).abs() < 1e-9), "all of it: {worst:?}");
    }

    #[test]
    fn none_stands_out_where_all_moved_alike() {
        let search = found(&places(500, |_| 0.25));
        assert_eq!(search.worst, vec![], "{search:?}");
    }

    #[test]
    fn small_segments_are_not_looked_at() {
        let closed = places(60, |place| if place == 7 { 0.9 } else { 0.1 });
        let question = Question { feature: "amount", about_missing: false, features: 1, alpha: ALPHA };
        assert_eq!(search(&closed, &closed.results[0], &question), None);
    }

    #[test]
    fn at_most_three_are_named_the_worst_first() {
        let search = found(&places(2_000, |place| 0.1 + 0.1 * (place % 5) as f64));
        let named: Vec<&str> = search.worst.iter().map(|worst| worst.segment.value.as_str()).collect();
        assert_eq!(named, ["p04", "p09", "p14"]);
    }

    #[test]
    fn missing_values_are_searched_by_their_rate() {
        let mut closed = places(1_000, |_| 0.1);
        for (place, result) in closed.results.iter_mut().enumerate() {
            // The whole, then the places; the eighth lost a fifth of its values.
            let rate = [0.01, 0.2][usize::from(place == 8)];
            let rate = if place == 0 { 0.0195 } else { rate };
            let stats = result.features.get_mut("amount").unwrap();
            let metric = |value| MetricValue { value: Some(value), bound: None, p_value: Some(1e-12), interval: None };
            stats.metrics.insert("null_rate".into(), metric(rate));
            stats.metrics.insert("null_rate_change".into(), metric(rate - 0.01));
        }
        let question = Question { feature: "amount", about_missing: true, features: 1, alpha: ALPHA };
        let search = search(&closed, &closed.results[0], &question).unwrap();
        let [worst] = search.worst.as_slice() else { panic!("{search:?}") };
        assert_eq!((worst.segment.value.as_str(), worst.metric.as_str(), worst.value), ("p07", "null_rate", 0.2));
        assert!(worst.carries.is_some_and(|part| part > 0.95), "{worst:?}");
    }
}
