//! The language of `when` and `recover`: comparisons of metrics, joined by `and`, `or` and `not`.
//!
//! ```text
//! condition  = conjunction { "or" conjunction }
//! conjunction = negation { "and" negation }
//! negation   = "not" negation | comparison
//! comparison = metric (">" | ">=") "auto"
//!            | sum ( (">" | ">=" | "<" | "<=" | "==" | "!=") sum | ["not"] "between" sum "and" sum ) [confidence]
//! confidence = "with" "95%" "confidence"
//! sum        = product { ("+" | "-") product }
//! product    = signed { ("*" | "/") signed }
//! signed     = "-" signed | metric | number ["%"] ["of" usual] | usual | "(" condition ")" | quantifier | gap
//! usual      = "expected" | "baseline"
//! metric     = name ["@" number]
//! quantifier = ("any" | "share" | "count") "(" condition ")"
//! gap        = "gap" "(" metric ")"
//! ```
//!
//! The text is read by `parse`; `figure` holds what conditions on performance have of their own. Every part is typed as it is read: a condition cannot be added, a number cannot be negated by `not`. Errors
//! carry the bytes of the text they are about. To add a function: `Parser::word`.

mod figure;
mod parse;

use std::ops::Range;

use super::metrics::{Metric, Subject};
use super::token::ExpressionError;

pub use figure::{Confident, Figure, Limit};

/// Something that holds or does not.
#[derive(Debug, Clone, PartialEq)]
pub enum Condition {
    Compare {
        left: Quantity,
        comparison: Comparison,
        right: Quantity,
    },
    Between {
        value: Quantity,
        low: Quantity,
        high: Quantity,
    },
    And(Box<Condition>, Box<Condition>),
    Or(Box<Condition>, Box<Condition>),
    Not(Box<Condition>),
    /// `psi > auto`: larger than chance explains at the rule's false-alarm rate.
    BeyondChance(&'static Metric),
    /// Holds for at least one selected feature.
    Any(Box<Quantifier>),
    /// `with 95% confidence`.
    Confident(Confident),
}

/// A number.
#[derive(Debug, Clone, PartialEq)]
pub enum Quantity {
    Number(f64),
    Metric(&'static Metric),
    /// Of the model's performance.
    Figure(Figure),
    /// The reference's value of the figure that the comparison names; `None` while that is not read yet.
    Baseline(Option<Figure>),
    Negative(Box<Quantity>),
    Arithmetic(Arithmetic, Box<Quantity>, Box<Quantity>),
    /// Share of the selected features for which it holds, 0 to 1.
    Share(Box<Quantifier>),
    /// Number of the selected features for which it holds.
    Count(Box<Quantifier>),
}

/// A condition asked of every selected feature.
#[derive(Debug, Clone, PartialEq)]
pub struct Quantifier {
    pub condition: Condition,
    /// As written: `share(psi > 0.2)`.
    pub text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
    Equal,
    NotEqual,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
}

/// A condition as written, whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Expression {
    pub condition: Condition,
    pub text: String,
    /// Metrics named, with their bytes; those of performance are `figures`, too.
    pub metrics: Vec<(&'static Metric, Range<usize>)>,
    pub figures: Vec<(Figure, Range<usize>)>,
    /// Where `baseline` stands.
    pub baselines: Vec<Range<usize>>,
    /// Where confidence is asked for.
    pub confidences: Vec<Range<usize>>,
    /// Where `any`, `share` and `count` stand.
    pub quantifiers: Vec<Range<usize>>,
}

impl Expression {
    /// The error is the first of the text; [`Expression::parse_all`] has every one.
    pub fn parse(text: &str) -> Result<Self, ExpressionError> {
        Self::parse_all(text, false).map_err(first)
    }

    /// Every mistake of the text, in its order; never none. `of_query`: see [`Expression::parse_of_query`].
    pub fn parse_all(text: &str, of_query: bool) -> Result<Self, Vec<ExpressionError>> {
        parse::expression(text, of_query)
    }

    /// A condition of a rule with a query: about its `value`, its `baseline` and the window as a whole.
    pub fn parse_of_query(text: &str) -> Result<Self, ExpressionError> {
        Self::parse_all(text, true).map_err(first)
    }

    /// True if the window as a whole is judged: no feature's metric stands outside `any`, `share` and `count`.
    pub fn is_about_window(&self) -> bool {
        !self.condition.names_feature_metric()
    }
}

fn first(errors: Vec<ExpressionError>) -> ExpressionError {
    let unreadable = || ExpressionError { at: 0..0, message: "this cannot be read".into(), help: None };
    errors.into_iter().next().unwrap_or_else(unreadable)
}

impl Condition {
    fn names_feature_metric(&self) -> bool {
        match self {
            Condition::Compare { left, right, .. } => left.names_feature_metric() || right.names_feature_metric(),
            Condition::Between { value, low, high } => {
                [value, low, high].iter().any(|part| part.names_feature_metric())
            }
            Condition::And(left, right) | Condition::Or(left, right) => {
                left.names_feature_metric() || right.names_feature_metric()
            }
            Condition::Not(inner) => inner.names_feature_metric(),
            Condition::BeyondChance(metric) => is_of_feature(metric),
            Condition::Any(_) | Condition::Confident(_) => false,
        }
    }

    /// Whether `auto` stands anywhere in it.
    pub fn has_auto(&self) -> bool {
        match self {
            Condition::BeyondChance(_) => true,
            Condition::And(left, right) | Condition::Or(left, right) => left.has_auto() || right.has_auto(),
            Condition::Not(inner) => inner.has_auto(),
            Condition::Compare { .. } | Condition::Between { .. } => {
                self.quantifiers().iter().any(|quantifier| quantifier.condition.has_auto())
            }
            Condition::Any(quantifier) => quantifier.condition.has_auto(),
            Condition::Confident(_) => false,
        }
    }

    /// Every quantifier in it.
    pub fn quantifiers(&self) -> Vec<&Quantifier> {
        match self {
            Condition::Compare { left, right, .. } => [left.quantifiers(), right.quantifiers()].concat(),
            Condition::Between { value, low, high } => {
                [value.quantifiers(), low.quantifiers(), high.quantifiers()].concat()
            }
            Condition::And(left, right) | Condition::Or(left, right) => {
                [left.quantifiers(), right.quantifiers()].concat()
            }
            Condition::Not(inner) => inner.quantifiers(),
            Condition::BeyondChance(_) | Condition::Confident(_) => Vec::new(),
            Condition::Any(quantifier) => vec![quantifier],
        }
    }
}

impl Quantity {
    fn names_feature_metric(&self) -> bool {
        match self {
            Quantity::Metric(metric) => is_of_feature(metric),
            Quantity::Negative(inner) => inner.names_feature_metric(),
            Quantity::Arithmetic(_, left, right) => left.names_feature_metric() || right.names_feature_metric(),
            Quantity::Figure(_) | Quantity::Baseline(_) => false,
            Quantity::Number(_) | Quantity::Share(_) | Quantity::Count(_) => false,
        }
    }

    fn quantifiers(&self) -> Vec<&Quantifier> {
        match self {
            Quantity::Share(quantifier) | Quantity::Count(quantifier) => vec![quantifier],
            Quantity::Negative(inner) => inner.quantifiers(),
            Quantity::Arithmetic(_, left, right) => [left.quantifiers(), right.quantifiers()].concat(),
            Quantity::Number(_) | Quantity::Metric(_) | Quantity::Figure(_) | Quantity::Baseline(_) => Vec::new(),
        }
    }

    /// The value, if no metric is needed to know it.
    pub fn constant(&self) -> Option<f64> {
        match self {
            Quantity::Number(number) => Some(*number),
            Quantity::Negative(inner) => inner.constant().map(|value| -value),
            Quantity::Arithmetic(operation, left, right) => Some(operation.apply(left.constant()?, right.constant()?)),
            Quantity::Metric(_) | Quantity::Figure(_) | Quantity::Baseline(_) => None,
            Quantity::Share(_) | Quantity::Count(_) => None,
        }
    }

    /// Every figure of performance in it.
    pub fn figures(&self) -> Vec<Figure> {
        match self {
            Quantity::Figure(figure) | Quantity::Baseline(Some(figure)) => vec![*figure],
            Quantity::Negative(inner) => inner.figures(),
            Quantity::Arithmetic(_, left, right) => [left.figures(), right.figures()].concat(),
            Quantity::Baseline(None) | Quantity::Number(_) | Quantity::Metric(_) => Vec::new(),
            Quantity::Share(_) | Quantity::Count(_) => Vec::new(),
        }
    }
}

fn is_of_feature(metric: &Metric) -> bool {
    !matches!(metric.subject, Subject::Window | Subject::Performance)
}

impl Arithmetic {
    pub fn apply(self, left: f64, right: f64) -> f64 {
        match self {
            Arithmetic::Add => left + right,
            Arithmetic::Subtract => left - right,
            Arithmetic::Multiply => left * right,
            Arithmetic::Divide => left / right,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_error(text: &str) -> ExpressionError {
        Expression::parse(text).expect_err(text)
    }

    #[test]
    fn conditions_of_the_grammar_are_read() {
        for text in [
            "psi > 0.25",
            "psi > 0.1 and not (ks <= 1e-3 or js == 0)",
            "row_count not between 10 and 500",
            "mean between -1.5 and 1.5",
            "share(psi > 0.2) > 30%",
            "any(null_rate > 5%) or count(unseen_rate > 1%) >= 3",
            "(mean + 2 * std) / 2 > max - 1",
            "row_count < 50% of expected",
            "row_count not between 10% and 500% of expected",
            "row_count < expected / 2 or rejected_rate > 1%",
            "psi > auto and psi > 0.02",
            "share(drift >= auto) > 30%",
            "null_rate_change > auto or (ks > auto)",
        ] {
            assert!(Expression::parse(text).is_ok(), "{text}: {:?}", Expression::parse(text));
        }
    }

    #[test]
    fn quantified_and_window_metrics_are_about_the_window() {
        for (text, expected) in
            [("row_count < 10", true), ("share(psi > 0.2) > 0.3", true), ("psi > 0.1 and row_count > 10", false)]
        {
            assert_eq!(Expression::parse(text).unwrap().is_about_window(), expected, "{text}");
        }
    }

    #[test]
    fn an_error_points_at_its_own_bytes() {
        for (text, at, message) in [
            ("pis > 0.25", 0..3, "`pis` is not a metric"),
            ("psi > ", 6..6, "missing here"),
            ("psi > 0.1 ks > 0.2", 10..12, "not expected here"),
            ("psi = 0.1", 4..5, "`=` is not a comparison"),
            ("psi > 0.1 && ks > 0.2", 10..12, "`&&` is not known"),
            ("psi > 10min", 6..11, "no unit"),
            ("(psi > 0.1", 0..1, "not closed"),
            ("psi > 0.1)", 9..10, "not expected"),
            ("psi", 0..3, "not a condition"),
            ("psi + (ks > 0.1) > 1", 6..16, "a number is needed"),
            ("share(any(psi > 1)) > 1", 6..9, "cannot stand inside"),
            ("mean between 3 and 1", 13..20, "above the upper"),
            ("psi / 0 > 1", 6..7, "division by zero"),
            ("1 < psi < 2", 8..9, "not expected"),
            ("psi < auto", 0..10, "upper limit"),
            ("auto < psi", 0..4, "stands alone"),
            ("2 * psi > auto", 0..7, "one metric"),
            ("psi > auto + 1", 11..12, "not expected"),
            ("mean > auto", 0..4, "no `auto`"),
            ("row_count > auto", 0..9, "no `auto`"),
        ] {
            let found = parse_error(text);
            assert_eq!(found.at, at, "{text}: {found}");
            assert!(found.message.contains(message), "{text}: {} against {message}", found.message);
        }
    }

    #[test]
    fn conditions_on_performance_are_read() {
        for text in [
            "roc_auc < baseline - 0.03 with 95% confidence",
            "recall < 90% of baseline",
            "accuracy not between 95% and 105% of baseline with 95% confidence",
            "est_roc_auc < 0.9 or label_coverage < 20%",
            "recall@0.7 < 0.8 and not (precision@0.7 > 0.5 with 95% confidence)",
            "gap(recall@0.7) > 10% with 95% confidence",
            "ndcg@10 < baseline",
            "calibration_shift > auto and calibration_shift > 0.02",
            "change_points > 0",
            "(baseline - mae) * 2 < -3 with 95% confidence",
        ] {
            assert!(Expression::parse(text).is_ok(), "{text}: {:?}", Expression::parse(text));
        }
    }

    #[test]
    fn an_error_on_performance_points_at_its_own_bytes() {
        for (text, at, message) in [
            ("null_rate < baseline - 0.03", 12..20, "no metric of that is compared"),
            ("row_count < 50% of baseline", 19..27, "no metric of that is compared"),
            ("row_count < 50% of rows", 19..23, "a share is one of"),
            ("recall + precision < baseline", 21..29, "`recall` and `precision`"),
            ("gap(recall) > baseline", 14..22, "has no baseline"),
            ("value < baseline", 8..16, "has no baseline"),
            ("psi > 0.1 with 95% confidence", 0..9, "one metric of performance"),
            ("recall < 0.8 with 90% confidence", 18..21, "95% confidence, not of 90%"),
            ("recall < 0.8 with confidence", 18..28, "how sure is missing"),
            ("recall < 0.8 with 95%", 21..21, "`confidence` is missing"),
            ("recall == 0.8 with 95% confidence", 0..13, "one metric of performance"),
            ("recall * precision < 0.8 with 95% confidence", 0..24, "one metric of performance"),
            ("label_coverage < 0.8 with 95% confidence", 21..40, "no confidence interval"),
            ("with 95% confidence", 0..4, "missing before `with`"),
            ("recal@0.7 < 0.8", 0..5, "`recal` is not a metric"),
            ("recall@high < 0.8", 7..11, "not a number"),
            ("psi@0.7 < 0.8", 0..3, "no threshold of the score"),
            ("roc_auc@0.7 < 0.8", 8..11, "no threshold of the score"),
            ("ndcg < 0.8", 0..4, "of how many"),
            ("ndcg@0.7 < 0.8", 5..8, "no number of places"),
            ("gap recall > 0.1", 0..3, "needs a metric in brackets"),
            ("gap(recall - 0.1) > 0.1", 4..16, "one metric of performance"),
            ("gap(gap(recall)) > 0.1", 4..15, "one metric of performance"),
            ("share(recall < 0.8) > 0.3", 6..18, "asks about features"),
            ("recall > auto", 0..6, "no `auto`"),
        ] {
            let found = parse_error(text);
            assert_eq!(found.at, at, "{text}: {found}");
            assert!(found.message.contains(message), "{text}: {} against {message}", found.message);
        }
    }

    #[test]
    #[allow(clippy::single_range_in_vec_init, reason = "one mistake is one range")]
    fn every_mistake_of_a_text_is_found_at_its_own_bytes() {
        for (text, expected) in [
            ("pis > 0.1 and ks > 10min or recal < baseline", vec![0..3, 19..24, 28..33]),
            ("psi = 0.1 && js = 0.2", vec![4..5, 10..12, 16..17]),
            ("psi > 0.1 ks > 0.2 and muen > 1", vec![10..12, 23..27]),
            ("share(pis > 0.2) > 30% and psi / 0 > 1", vec![6..9, 33..34]),
            ("psi between of and 3 or ks >", vec![12..14, 28..28]),
            ("(pis > 1 or psy < 2) and psi", vec![1..4, 12..15, 25..28]),
            ("psi and ks > much", vec![0..3, 13..17]),
            ("psi \u{2265} 0.1 and ks => 0.2", vec![4..7, 19..21]),
            ("psi > 1.2.3 and not pis > 0", vec![6..11, 20..23]),
            ("recal < baseline - 3% with 95% confidence and recall < 0.5 with 9% confidence", vec![0..5, 64..66]),
            ("gap(recal) > 10% and psi < auto", vec![4..9, 21..31]),
            ("psi # 0.1 and pis > 1", vec![4..5]),
        ] {
            let errors = Expression::parse_all(text, false).expect_err(text);
            let found: Vec<Range<usize>> = errors.iter().map(|error| error.at.clone()).collect();
            assert_eq!(found, expected, "{text}: {errors:?}");
        }
    }

    #[test]
    fn deep_nesting_is_refused_not_overflowed() {
        let text = format!("{}psi > 1{}", "(".repeat(5_000), ")".repeat(5_000));
        assert!(parse_error(&text).message.contains("too long"));
    }
}
