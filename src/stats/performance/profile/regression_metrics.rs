//! The metrics of a model that predicts a number that need the errors in order.

use super::binary_metrics::Named;
use super::value_counts::Group;
use crate::stats::metric::MetricValue;
use crate::stats::performance::intervals::quantile_ranks;

/// Published quantiles of the signed error.
const QUANTILES: [(&str, f64); 5] =
    [("error_p05", 0.05), ("error_p25", 0.25), ("error_p50", 0.5), ("error_p75", 0.75), ("error_p95", 0.95)];

/// The root of a mean of squares, and of its interval and bound.
pub(super) fn root(squares: MetricValue) -> MetricValue {
    MetricValue {
        value: squares.value.map(f64::sqrt),
        interval: squares.interval.map(|ends| ends.map(|end| end.max(0.0).sqrt())),
        ..squares
    }
}

/// Median and largest absolute error, quantiles of the signed error.
pub(super) fn of_errors(groups: &[Group<1>]) -> Named {
    let errors = Sorted::of(groups.iter().map(|group| (group.least, group.value(), group.most, group.rows())));
    let sizes = Sorted::of(groups.iter().map(|group| {
        let (least, most) = (group.least.abs(), group.most.abs());
        let nearest = if group.least < 0.0 && group.most > 0.0 { 0.0 } else { least.min(most) };
        (nearest, group.value().abs(), least.max(most), group.rows())
    }));
    let mut metrics = vec![("medae", sizes.quantile(0.5)), ("max_error", sizes.largest())];
    metrics.extend(QUANTILES.map(|(name, quantile)| (name, errors.quantile(quantile))));
    metrics
}

/// Values that are each known within a range. The least values, sorted, are below the sorted values rank by rank, and
/// the most above.
struct Sorted {
    least: Ranked,
    value: Ranked,
    most: Ranked,
    n: u64,
}

impl Sorted {
    fn of(rows: impl Iterator<Item = (f64, f64, f64, u64)> + Clone) -> Self {
        Self {
            least: Ranked::of(rows.clone().map(|(least, _, _, n)| (least, n))),
            value: Ranked::of(rows.clone().map(|(_, value, _, n)| (value, n))),
            most: Ranked::of(rows.clone().map(|(_, _, most, n)| (most, n))),
            n: rows.map(|(.., n)| n).sum(),
        }
    }

    /// Of type 7, with the interval of order statistics.
    fn quantile(&self, quantile: f64) -> MetricValue {
        let Some(last) = self.n.checked_sub(1) else { return MetricValue::undefined() };
        let position = last as f64 * quantile;
        let of = |ranked: &Ranked| ranked.between(position, last);
        let value = MetricValue::within(of(&self.value), of(&self.least), of(&self.most));
        let ranks = quantile_ranks(self.n, quantile);
        value.with_interval(ranks.map(|[least, most]| [self.value.at(least - 1), self.value.at(most - 1)]))
    }

    fn largest(&self) -> MetricValue {
        let Some(last) = self.n.checked_sub(1) else { return MetricValue::undefined() };
        MetricValue::within(self.value.at(last), self.least.at(last), self.most.at(last))
    }
}

/// Values in ascending order, with the number of rows up to each.
struct Ranked(Vec<(f64, u64)>);

impl Ranked {
    fn of(rows: impl Iterator<Item = (f64, u64)>) -> Self {
        let mut rows: Vec<(f64, u64)> = rows.collect();
        rows.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut up_to = 0;
        for (_, n) in &mut rows {
            up_to += *n;
            *n = up_to;
        }
        Self(rows)
    }

    /// The value of this rank, 0 the least; NaN beyond the last.
    fn at(&self, rank: u64) -> f64 {
        let place = self.0.partition_point(|(_, up_to)| *up_to <= rank);
        self.0.get(place).map_or(f64::NAN, |(value, _)| *value)
    }

    fn between(&self, position: f64, last: u64) -> f64 {
        let lower = (position.floor() as u64).min(last);
        let (from, to) = (self.at(lower), self.at((lower + 1).min(last)));
        from + (to - from) * (position - lower as f64)
    }
}
