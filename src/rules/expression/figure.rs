//! Figures of performance as conditions name them, and what `with 95% confidence` makes of a comparison.

use super::{Comparison, Condition, Quantity};
use crate::rules::performance_metrics::PerformanceMetric;
use crate::windows::watched::name_at;

/// A metric of performance, at the model's own threshold or another one; or how far it is apart between segments.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figure {
    pub metric: &'static PerformanceMetric,
    /// `recall@0.7`, `ndcg@10`.
    pub at: Option<f64>,
    /// `gap(recall)`: the largest difference between the values of a segment column.
    pub gap: bool,
}

impl Figure {
    /// Its name in results, without `gap`.
    pub fn key(&self) -> String {
        self.at.map_or_else(|| self.metric.metric.name.to_string(), |at| name_at(self.metric.metric.name, at))
    }

    /// As in rules: `gap(recall@0.7)`.
    pub fn written(&self) -> String {
        if self.gap { format!("gap({})", self.key()) } else { self.key() }
    }
}

/// A comparison that holds only if a whole confidence interval lies beyond the threshold.
#[derive(Debug, Clone, PartialEq)]
pub struct Confident {
    pub limits: Vec<Limit>,
    /// `between`: every limit is kept. Otherwise, as in `not between`, one is enough.
    pub all: bool,
    /// The comparison alone.
    pub condition: Box<Condition>,
}

/// `figure + baseline_scale * baseline > limit`, or `<`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limit {
    pub figure: Figure,
    pub baseline_scale: f64,
    pub above: bool,
    pub limit: f64,
}

/// `scale * figure + baseline_scale * baseline + constant`.
#[derive(Debug, Clone, Copy)]
struct Linear {
    figure: Option<Figure>,
    scale: f64,
    baseline_scale: f64,
    constant: f64,
}

impl Linear {
    const fn constant(constant: f64) -> Self {
        Self { figure: None, scale: 0.0, baseline_scale: 0.0, constant }
    }

    fn times(self, factor: f64) -> Self {
        let (scale, baseline_scale) = (self.scale * factor, self.baseline_scale * factor);
        Self { scale, baseline_scale, constant: self.constant * factor, ..self }
    }

    fn plus(self, other: Self) -> Option<Self> {
        let figure = match (self.figure, other.figure) {
            (Some(left), Some(right)) if left != right => return None,
            (left, right) => left.or(right),
        };
        Some(Self {
            figure,
            scale: self.scale + other.scale,
            baseline_scale: self.baseline_scale + other.baseline_scale,
            constant: self.constant + other.constant,
        })
    }

    /// `None`: not a multiple of one figure and of its baseline.
    fn of(quantity: &Quantity) -> Option<Self> {
        use super::Arithmetic::{Add, Divide, Multiply, Subtract};
        match quantity {
            Quantity::Number(number) => Some(Self::constant(*number)),
            Quantity::Figure(figure) => Some(Self { figure: Some(*figure), scale: 1.0, ..Self::constant(0.0) }),
            Quantity::Baseline(figure) => Some(Self { figure: *figure, baseline_scale: 1.0, ..Self::constant(0.0) }),
            Quantity::Negative(inner) => Some(Self::of(inner)?.times(-1.0)),
            Quantity::Arithmetic(Add, left, right) => Self::of(left)?.plus(Self::of(right)?),
            Quantity::Arithmetic(Subtract, left, right) => Self::of(left)?.plus(Self::of(right)?.times(-1.0)),
            Quantity::Arithmetic(Multiply, left, right) => match (left.constant(), right.constant()) {
                (Some(factor), _) => Some(Self::of(right)?.times(factor)),
                (None, Some(factor)) => Some(Self::of(left)?.times(factor)),
                (None, None) => None,
            },
            Quantity::Arithmetic(Divide, left, right) => Some(Self::of(left)?.times(1.0 / right.constant()?)),
            Quantity::Metric(_) | Quantity::Share(_) | Quantity::Count(_) => None,
        }
    }
}

impl Limit {
    /// `left` compared with `right`, solved for the figure. `None`: that cannot be done, or it is not `<` or `>`.
    pub fn of(left: &Quantity, comparison: Comparison, right: &Quantity) -> Option<Self> {
        let above = match comparison {
            Comparison::Greater | Comparison::GreaterOrEqual => true,
            Comparison::Less | Comparison::LessOrEqual => false,
            Comparison::Equal | Comparison::NotEqual => return None,
        };
        let difference = Linear::of(left)?.plus(Linear::of(right)?.times(-1.0))?;
        let figure = difference.figure.filter(|_| difference.scale != 0.0)?;
        let solved = difference.times(1.0 / difference.scale.abs());
        let sign = difference.scale.signum();
        Some(Self {
            figure,
            baseline_scale: solved.baseline_scale * sign,
            above: above == (sign > 0.0),
            limit: 0.0 - solved.constant * sign,
        })
    }
}

impl Confident {
    /// `None`: the comparison is of no kind that an interval can decide.
    pub fn of(condition: &Condition) -> Option<Self> {
        let (between, negated) = match condition {
            Condition::Not(inner) => (inner.as_ref(), true),
            other => (other, false),
        };
        let limits = match between {
            Condition::Compare { left, comparison, right } if !negated => vec![Limit::of(left, *comparison, right)?],
            Condition::Between { value, low, high } => {
                let (from_low, from_high) = match negated {
                    false => (Comparison::Greater, Comparison::Less),
                    true => (Comparison::Less, Comparison::Greater),
                };
                vec![Limit::of(value, from_low, low)?, Limit::of(value, from_high, high)?]
            }
            _ => return None,
        };
        Some(Self { limits, all: !negated, condition: Box::new(condition.clone()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::expression::Expression;

    #[test]
    fn comparisons_are_solved_for_their_figure() {
        for (text, baseline_scale, above, limit) in [
            ("recall < 0.8", 0.0, false, 0.8),
            ("0.8 > recall", 0.0, false, 0.8),
            ("recall < baseline - 0.03", -1.0, false, -0.03),
            ("baseline - recall > 0.03", -1.0, false, -0.03),
            ("recall < 90% of baseline", -0.9, false, 0.0),
            ("2 * recall / 4 >= baseline", -2.0, true, 0.0),
            ("1 - recall > 0.2", 0.0, false, 0.8),
        ] {
            let expression = Expression::parse(text).unwrap();
            let Condition::Compare { left, comparison, right } = &expression.condition else { panic!("{text}") };
            let found = Limit::of(left, *comparison, right).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(found.figure.written(), "recall", "{text}");
            assert_eq!((found.baseline_scale, found.above), (baseline_scale, above), "{text}");
            assert!((found.limit - limit).abs() < 1e-12, "{text}: {} against {limit}", found.limit);
        }
    }
}
