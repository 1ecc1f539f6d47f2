//! Computes every feature in every window: one feature at a time on each core, so that memory holds a few columns.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::ReportError;
use super::plan::PlannedFeature;
use super::profile;
use super::windows::Cut;
use crate::config::model::Kind;
use crate::reference::table::{CategoryIndex, MISSING, TableError, TableFile};
use crate::stats::layout::Layout;
use crate::stats::metric::BinShare;
use crate::stats::profile::{FeatureReference, Profile};
use crate::stats::rows::categorical::{CategoryCounts, compare_categories};
use crate::stats::rows::histogram::shares;
use crate::stats::rows::numeric::{Depth, Metrics, NumericReference};
use crate::stats::rows::sample::Sample;

/// A text column with more categories than this, and fewer than two rows to each, is taken for an identifier.
const IDENTIFIER_CATEGORIES: usize = 1_000;
/// Bins shown per window of a categorical feature: the largest ones.
const SHOWN_CATEGORIES: usize = 10;

#[derive(Debug)]
pub struct FeatureReport {
    pub name: String,
    pub kind: Kind,
    pub windows: Vec<FeatureWindow>,
}

#[derive(Debug)]
pub struct FeatureWindow {
    /// With and without a value.
    pub rows: u64,
    pub reference_rows: u64,
    pub metrics: Metrics,
    /// Largest distance of a metric to that of the rows, of those that have one: from profiles only.
    pub bounds: BTreeMap<&'static str, f64>,
    /// Shares of the deciles or the largest categories; empty where a side has no values.
    pub bins: Vec<BinShare>,
    /// Median of the reference; for numeric features with values.
    pub reference_median: Option<f64>,
}

impl FeatureWindow {
    /// `None`: not computed, or undefined here.
    pub fn metric(&self, key: &str) -> Option<f64> {
        self.metrics.iter().find(|(name, _)| *name == key).and_then(|(_, value)| *value)
    }

    pub fn count(&self, key: &str) -> u64 {
        self.metric(key).unwrap_or(0.0) as u64
    }
}

/// The features in the order planned, and notes on those left out as identifiers.
pub fn compute(
    planned: &[PlannedFeature],
    reference: &TableFile,
    current: &TableFile,
    cut: &Cut,
    depth: Depth,
    from_profiles: bool,
) -> Result<(Vec<FeatureReport>, Vec<String>), ReportError> {
    let work = Work { reference, current, cut, depth, from_profiles };
    let next = AtomicUsize::new(0);
    let finished: Mutex<Vec<(usize, Result<Outcome, ReportError>)>> = Mutex::new(Vec::new());
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(planned.len());
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some((position, feature)) = take(&next, planned) {
                    let outcome = work.feature(feature);
                    if let Ok(mut finished) = finished.lock() {
                        finished.push((position, outcome));
                    }
                }
            });
        }
    });
    let mut outcomes = finished.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    outcomes.sort_by_key(|(position, _)| *position);
    let (mut features, mut notes) = (Vec::new(), Vec::new());
    for (_, outcome) in outcomes {
        match outcome? {
            Outcome::Computed(feature) => features.push(feature),
            Outcome::Identifier(note) => notes.push(note),
        }
    }
    Ok((features, notes))
}

fn take<'a>(next: &AtomicUsize, planned: &'a [PlannedFeature]) -> Option<(usize, &'a PlannedFeature)> {
    let position = next.fetch_add(1, Ordering::Relaxed);
    planned.get(position).map(|feature| (position, feature))
}

enum Outcome {
    Computed(FeatureReport),
    Identifier(String),
}

struct Work<'a> {
    reference: &'a TableFile,
    current: &'a TableFile,
    cut: &'a Cut,
    depth: Depth,
    from_profiles: bool,
}

impl Work<'_> {
    fn feature(&self, feature: &PlannedFeature) -> Result<Outcome, ReportError> {
        match feature.kind {
            Kind::Numeric => self.numeric(feature).map(Outcome::Computed),
            Kind::Categorical => self.categorical(feature),
            Kind::Vector => {
                Err(ReportError::Usage(format!("`{}` is a vector: it has no column statistics", feature.name)))
            }
        }
    }

    fn on_reference(&self, source: TableError) -> ReportError {
        ReportError::Column { side: "reference", path: self.reference.path.clone(), source }
    }

    fn on_current(&self, source: TableError) -> ReportError {
        ReportError::Column { side: "current", path: self.current.path.clone(), source }
    }

    fn numeric(&self, feature: &PlannedFeature) -> Result<FeatureReport, ReportError> {
        let name = feature.name.as_str();
        let numbers = |file: &TableFile| file.columns(&[name])?.numeric(name);
        let reference = numbers(self.reference).map_err(|source| self.on_reference(source))?;
        let current = self.cut.split(numbers(self.current).map_err(|source| self.on_current(source))?);
        if self.from_profiles {
            let reference: Vec<Option<f64>> = reference.into_iter().map(Some).collect();
            let reference = FeatureReference::of_numbers(name, &reference, None);
            let windows = current.iter().map(|values| from_profiles(&reference, numbers_profile(&reference, values)));
            return Ok(FeatureReport { name: name.to_string(), kind: Kind::Numeric, windows: windows.collect() });
        }
        let reference = NumericReference::new(Sample::new(reference), self.depth);
        let reference_median = Some(reference.sample.quantile(1, 2)).filter(|median| !median.is_nan());
        let mut steps = Vec::new();
        let windows = current
            .iter()
            .map(|values| {
                let window = Sample::new(values.iter().copied());
                let metrics = reference.compare(&window, &mut steps);
                let bins = if window.n() > 0 && reference.sample.n() > 0 {
                    decile_shares(&reference, &window)
                } else {
                    Vec::new()
                };
                FeatureWindow {
                    rows: window.rows,
                    reference_rows: reference.sample.rows,
                    metrics,
                    bounds: BTreeMap::new(),
                    bins,
                    reference_median,
                }
            })
            .collect();
        Ok(FeatureReport { name: name.to_string(), kind: Kind::Numeric, windows })
    }

    fn categorical(&self, feature: &PlannedFeature) -> Result<Outcome, ReportError> {
        let name = feature.name.as_str();
        let mut categories = CategoryIndex::default();
        let mut encode = |file: &TableFile| file.columns(&[name])?.encode(name, &mut categories);
        let reference_codes = encode(self.reference).map_err(|source| self.on_reference(source))?;
        let reference_rows = reference_codes.len() as u64;
        let distinct = reference_codes.iter().max().map_or(0, |_| categories.len());
        if !feature.named && distinct > IDENTIFIER_CATEGORIES && distinct * 2 > reference_codes.len() {
            return Ok(Outcome::Identifier(format!(
                "`{name}` has {distinct} categories in {reference_rows} rows, it looks like an identifier: not \
                 compared (--features {name} compares it)"
            )));
        }
        let mut encode = |file: &TableFile| file.columns(&[name])?.encode(name, &mut categories);
        let current = self.cut.split(encode(self.current).map_err(|source| self.on_current(source))?);
        if self.from_profiles {
            let of = |codes: &[u32]| -> Vec<Option<&str>> {
                codes.iter().map(|code| categories.names().get(*code as usize).map(String::as_str)).collect()
            };
            let reference = FeatureReference::of_categories(name, &of(&reference_codes));
            let windows =
                current.iter().map(|codes| from_profiles(&reference, categories_profile(&reference, &of(codes))));
            let windows = windows.collect();
            return Ok(Outcome::Computed(FeatureReport { name: name.to_string(), kind: Kind::Categorical, windows }));
        }
        let reference = count(&reference_codes, categories.len());
        let windows = current
            .iter()
            .map(|codes| {
                let window = count(codes, categories.len());
                let counts = CategoryCounts {
                    reference: &reference,
                    window: &window,
                    reference_rows,
                    window_rows: codes.len() as u64,
                };
                let metrics = compare_categories(counts, self.depth);
                FeatureWindow {
                    rows: codes.len() as u64,
                    reference_rows,
                    metrics,
                    bounds: BTreeMap::new(),
                    bins: category_shares(&reference, &window, &categories),
                    reference_median: None,
                }
            })
            .collect();
        Ok(Outcome::Computed(FeatureReport { name: name.to_string(), kind: Kind::Categorical, windows }))
    }
}

/// One window of a feature, from its profile alone.
fn from_profiles(reference: &FeatureReference, window: Profile) -> FeatureWindow {
    let found = profile::compare(reference, &window);
    let median = match (&reference.layout, &reference.profile) {
        (Layout::Numeric(layout), Profile::Numeric(_)) => layout.percentiles().get(49).copied(),
        _ => None,
    };
    let bins = found.stats.bins.into_iter().filter(|bin| bin.label != "(missing)").collect();
    FeatureWindow {
        rows: window.rows(),
        reference_rows: reference.profile.rows(),
        metrics: found.metrics,
        bounds: found.bounds,
        bins,
        reference_median: median,
    }
}

fn numbers_profile(reference: &FeatureReference, values: &[f64]) -> Profile {
    let mut window = Profile::new(&reference.layout);
    if let (Profile::Numeric(profile), Layout::Numeric(layout)) = (&mut window, &reference.layout) {
        values.iter().for_each(|value| profile.add(*value, layout));
    }
    window
}

fn categories_profile(reference: &FeatureReference, values: &[Option<&str>]) -> Profile {
    let mut window = Profile::new(&reference.layout);
    if let (Profile::Categorical(profile), Layout::Categorical(layout)) = (&mut window, &reference.layout) {
        for value in values {
            match value {
                Some(category) => profile.add(category, layout),
                None => profile.add_nulls(1),
            }
        }
    }
    window
}

fn count(codes: &[u32], categories: usize) -> Vec<u64> {
    let mut counts = vec![0; categories];
    for code in codes.iter().filter(|code| **code != MISSING) {
        counts[*code as usize] += 1;
    }
    counts
}

fn decile_shares(reference: &NumericReference, window: &Sample) -> Vec<BinShare> {
    let (reference_counts, window_counts) = reference.decile_counts(window);
    let edges = reference.decile_edges();
    let label = |bin: usize| match (bin.checked_sub(1).map(|lower| edges[lower]), edges.get(bin)) {
        (None, Some(upper)) => format!("< {}", short(*upper)),
        (Some(lower), Some(upper)) => format!("{} to {}", short(lower), short(*upper)),
        (Some(lower), None) => format!(">= {}", short(lower)),
        (None, None) => "all".to_string(),
    };
    let (p, q) = (shares(&reference_counts, reference.sample.n()), shares(&window_counts, window.n()));
    p.into_iter()
        .zip(q)
        .enumerate()
        .map(|(bin, (reference, window))| BinShare { label: label(bin), reference, window })
        .collect()
}

/// The categories with the most rows on both sides together, by share.
fn category_shares(reference: &[u64], window: &[u64], categories: &CategoryIndex) -> Vec<BinShare> {
    let (n_ref, n): (u64, u64) = (reference.iter().sum(), window.iter().sum());
    if n_ref == 0 || n == 0 {
        return Vec::new();
    }
    let mut bins: Vec<BinShare> = reference
        .iter()
        .zip(window)
        .zip(categories.names())
        .filter(|((reference, window), _)| **reference + **window > 0)
        .map(|((reference, window), name)| BinShare {
            label: name.clone(),
            reference: *reference as f64 / n_ref as f64,
            window: *window as f64 / n as f64,
        })
        .collect();
    let weight = |bin: &BinShare| (bin.reference - bin.window).abs() + bin.reference.max(bin.window) * 1e-3;
    bins.sort_by(|a, b| weight(b).total_cmp(&weight(a)));
    bins.truncate(SHOWN_CATEGORIES);
    bins
}

/// A number as a person reads it: four significant digits, plain where that is short.
pub fn short(value: f64) -> String {
    if value == 0.0 {
        return "0".into();
    }
    let magnitude = value.abs().log10().floor() as i32;
    if !(-4..9).contains(&magnitude) {
        return format!("{value:.3e}");
    }
    let decimals = (3 - magnitude).max(0) as usize;
    let text = format!("{value:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_string() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        for (value, text) in [
            (0.0, "0"),
            (12.5, "12.5"),
            (1234.56, "1235"),
            (-0.012345, "-0.01235"),
            (20.0, "20"),
            (1e12, "1.000e12"),
            (0.5, "0.5"),
        ] {
            assert_eq!(short(value), text);
        }
    }
}
