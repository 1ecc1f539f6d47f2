//! Differences of figures with their 95% confidence intervals: of a window and its baseline, and between groups. The
//! two sides are taken to be independent ([`difference_interval`]).
//!
//! The largest difference among several groups is the largest of many, which chance alone makes large. Its interval
//! holds for all pairs of groups at once (Bonferroni): each pair's is widened as the normal law widens from 95% to the
//! confidence that so many pairs need, and the interval of the largest goes from the largest lower limit to the largest
//! upper one. With two groups nothing is widened.

use crate::stats::metric::MetricValue;
use crate::stats::null::normal::quantile;
use crate::stats::performance::intervals::difference_interval;

/// Half of what a 95% interval leaves out.
const TAIL: f64 = 0.025;

/// `left - right`. Undefined where either is; without an interval where the left one has none. A right one without
/// interval is taken as known.
pub fn difference(left: &MetricValue, right: &MetricValue) -> MetricValue {
    widened_difference(left, right, 1.0)
}

/// `value + scale * other`, the general form of it.
pub fn combination(value: &MetricValue, scale: f64, other: &MetricValue) -> MetricValue {
    difference(value, &times(other, -scale))
}

fn times(value: &MetricValue, factor: f64) -> MetricValue {
    let ends = |[low, high]: [f64; 2]| {
        let (low, high) = (low * factor, high * factor);
        [low.min(high), low.max(high)]
    };
    MetricValue {
        value: value.value.map(|value| value * factor),
        bound: value.bound.map(|bound| bound * factor.abs()),
        p_value: None,
        interval: value.interval.map(ends),
    }
}

/// `widening`: factor on the distance from the difference to its limits.
fn widened_difference(left: &MetricValue, right: &MetricValue, widening: f64) -> MetricValue {
    let (Some(left_value), Some(right_value)) = (left.value, right.value) else { return MetricValue::undefined() };
    let value = left_value - right_value;
    let bound = left.bound.unwrap_or(0.0) + right.bound.unwrap_or(0.0);
    let interval = left.interval.map(|left_ends| {
        let right_ends = right.interval.unwrap_or([right_value; 2]);
        let ends = difference_interval((left_value, left_ends), (right_value, right_ends));
        ends.map(|end| value + widening * (end - value))
    });
    MetricValue { value: Some(value), bound: Some(bound), p_value: None, interval }.tidy()
}

/// The largest difference between two groups of one column.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gap {
    /// Of the column, and of the two groups in it.
    pub column: usize,
    pub highest: usize,
    pub lowest: usize,
    /// The difference, with its interval where every group has one.
    pub value: MetricValue,
}

/// The largest gap within any of the columns; groups whose value is undefined stand for nothing. `None` where no
/// column has two.
pub fn largest_gap(columns: &[Vec<MetricValue>]) -> Option<Gap> {
    let pairs = |groups: &[MetricValue]| {
        let known: Vec<usize> = (0..groups.len()).filter(|group| groups[*group].value.is_some()).collect();
        let pair = |left: usize| known.iter().map(move |right| (left, *right)).filter(|(left, right)| left < right);
        known.iter().flat_map(|left| pair(*left)).collect::<Vec<(usize, usize)>>()
    };
    let looks: usize = columns.iter().map(|groups| pairs(groups).len()).sum();
    let widening = quantile(1.0 - TAIL / looks.max(1) as f64) / quantile(1.0 - TAIL);
    let (mut largest, mut interval) = (None::<Gap>, Some([f64::NEG_INFINITY; 2]));
    for (column, groups) in columns.iter().enumerate() {
        for (left, right) in pairs(groups) {
            let (highest, lowest) =
                if groups[left].value >= groups[right].value { (left, right) } else { (right, left) };
            let found = widened_difference(&groups[highest], &groups[lowest], widening);
            // A pair's own gap is the difference without its sign.
            let limits = found.interval.filter(|_| groups[lowest].interval.is_some());
            let limits = limits.map(|[low, high]| [low.max(0.0), high.max(-low)]);
            interval = interval.zip(limits).map(|(so_far, new)| [so_far[0].max(new[0]), so_far[1].max(new[1])]);
            if largest.is_none_or(|largest| found.value > largest.value.value) {
                largest = Some(Gap { column, highest, lowest, value: found });
            }
        }
    }
    largest.map(|gap| Gap { value: MetricValue { interval, ..gap.value }.tidy(), ..gap })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::performance::intervals::wilson;

    fn value(value: f64, low: f64, high: f64) -> MetricValue {
        MetricValue::exact(value).with_interval([low, high])
    }

    fn assert_close(found: [f64; 2], expected: [f64; 2]) {
        let close = found.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 5e-5);
        assert!(close, "{found:?} against {expected:?}");
    }

    /// Newcombe 1998, table II, method 10: 56/70 - 48/80 from the Wilson intervals of both.
    #[test]
    fn a_difference_of_rates_is_newcombes() {
        let found = difference(&value(0.8, 0.691_8, 0.877_0), &value(0.6, 0.490_5, 0.700_4));
        assert_close(found.interval.unwrap(), [0.0524, 0.3339]);
        let baseline = MetricValue::exact(0.6);
        assert_close(difference(&value(0.8, 0.7, 0.9), &baseline).interval.unwrap(), [0.1, 0.3]);
        assert_eq!(difference(&baseline, &value(0.8, 0.7, 0.9)).interval, None);
        assert_eq!(difference(&MetricValue::undefined(), &baseline), MetricValue::undefined());
    }

    #[test]
    fn a_share_of_the_baseline_is_scaled_with_its_interval() {
        let found = combination(&value(0.8, 0.7, 0.9), -0.5, &value(0.6, 0.5, 0.8));
        assert_close([found.value.unwrap(), 0.0], [0.5, 0.0]);
        assert_close(found.interval.unwrap(), [0.5 - 0.1_f64.hypot(0.1), 0.5 + 0.1_f64.hypot(0.05)]);
    }

    #[test]
    fn the_largest_gap_of_many_pairs_is_less_sure_than_that_of_two_groups() {
        let two = vec![value(0.9, 0.88, 0.92), value(0.8, 0.78, 0.82)];
        let gap = largest_gap(std::slice::from_ref(&two)).unwrap();
        assert_eq!((gap.highest, gap.lowest), (0, 1));
        let reach = 0.02_f64.hypot(0.02);
        assert_close(gap.value.interval.unwrap(), [0.1 - reach, 0.1 + reach]);
        let mut five = two.clone();
        five.extend([
            MetricValue::undefined(),
            value(0.85, 0.83, 0.87),
            value(0.84, 0.82, 0.86),
            value(0.83, 0.81, 0.85),
        ]);
        let of_many = largest_gap(&[vec![], five]).unwrap();
        assert_eq!((of_many.column, of_many.highest, of_many.lowest), (1, 0, 1));
        // Ten pairs: 2.8070 instead of 1.9600 standard errors.
        let reach = reach * 2.8070 / 1.9600;
        assert_close(of_many.value.interval.unwrap(), [0.1 - reach, 0.1 + reach]);
        assert_eq!(largest_gap(&[vec![value(0.9, 0.88, 0.92), MetricValue::undefined()]]), None);
    }

    /// Groups that do not differ: the interval of their largest gap holds 0 in at least 95 of 100 draws.
    #[test]
    fn groups_that_are_alike_rarely_show_a_sure_gap() {
        let (groups, size, rate) = (8, 400, 0.8);
        let mut state = 7_u64;
        let mut uniform = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1_u64 << 53) as f64
        };
        let (mut sure, mut plain) = (0, 0);
        let draws = 2_000;
        for _ in 0..draws {
            let hits: Vec<f64> = (0..groups).map(|_| (0..size).filter(|_| uniform() < rate).count() as f64).collect();
            let share = |hits: &f64| MetricValue::exact(hits / 400.0).with_interval(wilson(*hits, 400.0));
            let drawn: Vec<MetricValue> = hits.iter().map(share).collect();
            let gap = largest_gap(std::slice::from_ref(&drawn)).unwrap();
            sure += usize::from(gap.value.interval.unwrap()[0] > 0.0);
            plain += usize::from(difference(&drawn[gap.highest], &drawn[gap.lowest]).interval.unwrap()[0] > 0.0);
        }
        println!("{sure} of {draws} gaps of {groups} like groups were sure, {plain} without the correction");
        assert!(sure <= draws / 20, "{sure} of {draws} gaps were sure, {plain} without the correction");
        assert!(plain > draws / 4, "without the correction {plain} of {draws}: the draws show nothing");
    }
}
