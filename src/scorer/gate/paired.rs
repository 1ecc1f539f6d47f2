//! Two versions on the same rows: how sure a difference of their metrics is.
//!
//! Both scored the same rows, so their errors go together, and the difference is far surer than each figure alone. Its
//! standard error is that of the delete-a-group jackknife (Kott, 2001): rows are dealt into groups, every metric is
//! computed anew without each group, and the spread of the differences says how far the difference may lie from that of
//! the population, for rows drawn independently. It needs no formula for a metric and no random numbers, so that the same
//! rows give the same verdict. It holds for metrics that change smoothly with the rows, not for quantiles of few rows.

use std::collections::BTreeMap;

use super::measurements::{Compared, Difference};
use crate::stats::metric::MetricValue;
use crate::stats::performance::profile::{Label, PerformanceLayout, PerformanceProfile, Prediction};

/// Groups that rows are dealt into: 49 degrees of freedom cost 3% in width against very many.
const GROUPS: usize = 50;

/// A row with what one version says of it; `None`: its label is not known.
pub type Row<'a> = (&'a Prediction, Option<&'a Label>);

/// The metrics of both versions, rows in one order; `against` may be empty.
pub fn compare(layout: &PerformanceLayout, candidate: &[Row], against: Option<&[Row]>) -> BTreeMap<String, Compared> {
    let ours = Jackknife::of(layout, candidate);
    let theirs = against.map(|rows| Jackknife::of(layout, rows));
    let names = ours.whole.keys();
    names.map(|name| (name.clone(), one(name, &ours, theirs.as_ref()))).collect()
}

fn one(name: &str, ours: &Jackknife, theirs: Option<&Jackknife>) -> Compared {
    let of = |side: &Jackknife| side.whole.get(name).copied();
    let candidate = of(ours);
    let against = theirs.and_then(of).and_then(|metric| metric.value);
    let value = candidate.and_then(|metric| metric.value);
    let difference = value.zip(against).zip(theirs).and_then(|((value, against), theirs)| {
        let without: Option<Vec<f64>> = ours
            .without
            .iter()
            .zip(&theirs.without)
            .map(|(ours, theirs)| Some(ours.get(name)? - theirs.get(name)?))
            .collect();
        let without = without.filter(|differences| differences.len() > 1)?;
        let groups = without.len() as f64;
        let mean = without.iter().sum::<f64>() / groups;
        let squares: f64 = without.iter().map(|difference| (difference - mean).powi(2)).sum();
        let standard_error = ((groups - 1.0) / groups * squares).sqrt();
        Some(Difference { value: value - against, standard_error, groups: without.len() as u64 })
    });
    Compared { candidate: value, candidate_interval: candidate.and_then(|metric| metric.interval), against, difference }
}

/// The metrics of all rows, and without each group.
struct Jackknife {
    whole: BTreeMap<String, MetricValue>,
    without: Vec<BTreeMap<String, f64>>,
}

impl Jackknife {
    fn of(layout: &PerformanceLayout, rows: &[Row]) -> Self {
        let labelled = || rows.iter().enumerate().filter_map(|(at, (row, label))| Some((at, *row, (*label)?)));
        let mut profile = PerformanceProfile::new(layout);
        labelled().for_each(|(_, row, label)| profile.add_labelled(layout, row, label));
        let whole = profile.metrics(layout);
        let mut of_groups: Vec<Vec<(&Prediction, &Label)>> = vec![Vec::new(); GROUPS];
        for (at, row, label) in labelled() {
            of_groups[group_of(at)].push((row, label));
        }
        let without = of_groups.iter().filter(|group| !group.is_empty()).map(|group| {
            let mut rest = profile.clone();
            group.iter().for_each(|(row, label)| rest.retract_labelled(layout, row, label));
            let metrics = rest.metrics(layout).into_iter();
            metrics.filter_map(|(name, metric)| Some((name, metric.value?))).collect()
        });
        Self { without: without.collect(), whole }
    }
}

/// Rows of a file come in an order that may mean something, so neighbours go to different groups, and no period of the
/// file meets that of the groups (Steele, Lea and Flood's finaliser, 2014).
fn group_of(row: usize) -> usize {
    let mut mixed = (row as u64).wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((mixed ^ (mixed >> 31)) % GROUPS as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse_model_str;
    use crate::scorer::gate::checks::metrics::interval;

    fn layout() -> std::sync::Arc<PerformanceLayout> {
        let yaml = "version: 1\nmodel: m\ntopics: [t]\nfeatures: {x: numeric}\nscore: {path: s, type: numeric}\n\
                    performance: {task: binary, label: {path: y, type: numeric}}\n";
        let model = parse_model_str("m.yaml", yaml).unwrap().value;
        PerformanceLayout::of(&model, &["0".to_string(), "1".to_string()]).unwrap()
    }

    fn uniform(state: &mut u64) -> f64 {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*state >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Rows with scores that say the more of the label the smaller `noise` is.
    fn draw(
        layout: &PerformanceLayout,
        rows: usize,
        noises: [f64; 2],
        state: &mut u64,
    ) -> (Vec<Label>, [Vec<Prediction>; 2]) {
        let mut labels = Vec::new();
        let mut sides = [Vec::new(), Vec::new()];
        for _ in 0..rows {
            let positive = uniform(state) < 0.3;
            labels.push(Label::Class(layout.class_of(if positive { "1" } else { "0" })));
            let shared = uniform(state) + uniform(state);
            for (side, noise) in sides.iter_mut().zip(noises) {
                let own = uniform(state) * noise;
                let score = (0.3 * f64::from(u8::from(positive)) + 0.3 * shared + own) / (0.9 + noise);
                side.push(Prediction { score, ..Prediction::default() });
            }
        }
        (labels, sides)
    }

    fn compared(layout: &PerformanceLayout, labels: &[Label], sides: &[Vec<Prediction>; 2]) -> Compared {
        let [ours, theirs] = [0, 1].map(|side: usize| -> Vec<Row> {
            sides[side].iter().zip(labels).map(|(row, label)| (row, Some(label))).collect()
        });
        compare(layout, &ours, Some(&theirs))["roc_auc"]
    }

    #[test]
    fn a_version_does_not_differ_from_itself() {
        let layout = layout();
        let (labels, [one, _]) = draw(&layout, 500, [0.2, 0.2], &mut 3);
        let found = compared(&layout, &labels, &[one.clone(), one]).difference.unwrap();
        assert_eq!((found.value, found.standard_error, found.groups), (0.0, 0.0, GROUPS as u64));
    }

    /// Two versions that are equally good: the interval of their difference misses 0 in 5 of 100 draws.
    #[test]
    fn intervals_of_differences_hold_what_they_promise() {
        let layout = layout();
        let (mut missed, draws, mut state) = (0, 120, 11);
        for _ in 0..draws {
            let (labels, sides) = draw(&layout, 300, [0.4, 0.4], &mut state);
            let found = compared(&layout, &labels, &sides).difference.unwrap();
            let [low, high] = interval(&found, 0.05);
            missed += usize::from(low > 0.0 || high < 0.0);
        }
        // 6 are expected; 3.5 standard deviations above, and as many below as there are.
        println!("{missed} of {draws} intervals missed");
        assert!((1..=14).contains(&missed), "{missed} of {draws} intervals missed");
    }

    #[test]
    fn a_worse_version_is_found_and_its_difference_is_surer_than_of_unpaired_rows() {
        let layout = layout();
        let (labels, sides) = draw(&layout, 2_000, [0.6, 0.3], &mut 5);
        let found = compared(&layout, &labels, &sides);
        let [_, high] = interval(&found.difference.unwrap(), 0.05);
        let alone = found.candidate_interval.unwrap();
        assert!(high < 0.0, "{found:?}");
        let reach = (alone[1] - alone[0]) / 2.0;
        // Of two figures that were independent the difference would reach the root of two further than one of them.
        let unpaired = reach * std::f64::consts::SQRT_2;
        assert!(found.difference.unwrap().standard_error * 2.0 < unpaired, "{found:?}: pairs should be surer");
    }

    #[test]
    fn rows_without_a_label_and_a_first_version_are_no_difference() {
        let layout = layout();
        let (labels, [one, _]) = draw(&layout, 100, [0.2, 0.2], &mut 3);
        let rows: Vec<Row> = one.iter().zip(&labels).map(|(row, label)| (row, Some(label))).collect();
        let found = compare(&layout, &rows, None)["roc_auc"];
        assert_eq!((found.against, found.difference), (None, None));
        let unlabelled: Vec<Row> = one.iter().map(|row| (row, None)).collect();
        assert!(compare(&layout, &unlabelled, Some(&unlabelled)).is_empty());
    }
}
