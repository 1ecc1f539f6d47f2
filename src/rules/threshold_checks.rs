//! `warn` must be reached before `critical`, and `recover` must lie on the healthy side of both. Seen where the conditions
//! put limits to the same thing; what they have in common beside that (`drift > auto and ...`) is set aside.

use super::compile::Rule;
use super::expression::{Comparison, Condition, Expression, Limit, Quantity};
use crate::config::diagnostic::Problem;

pub fn problems(rule: &Rule, pointer: &str, found: &mut Vec<Problem>) {
    if let (Some(warn), Some(critical)) = (&rule.warn, &rule.critical)
        && let Some(message) = out_of_order(warn, critical)
    {
        let problem = Problem::error("severity-order", format!("{pointer}/when/critical"), message);
        found.push(problem.help("give `critical` the graver threshold"));
    }
    let of = |expression: &Expression| Threshold::of(&expression.condition);
    let Some(recover) = rule.recover.as_ref().and_then(of) else { return };
    let breaches = [rule.warn.as_ref(), rule.critical.as_ref()].into_iter().flatten();
    let limits = breaches.flat_map(|breach| conjuncts(&breach.condition)).filter_map(Threshold::of);
    let Some(breach) = limits.into_iter().find(|breach| breach.is_of(&recover)) else { return };
    let wrong_side = recover.above == breach.above;
    let beyond = if breach.above { recover.limit > breach.limit } else { recover.limit < breach.limit };
    if wrong_side || beyond {
        let message = "`recover` holds while the rule still breaches";
        let sign = if breach.above { '<' } else { '>' };
        let example = format!(", such as `{sign} {}`", breach.limit);
        let example = if breach.baseline_scale == 0.0 { example } else { String::new() };
        let help = format!("write a condition on the healthy side{example}");
        found.push(Problem::error("recover-side", format!("{pointer}/recover"), message).help(help));
    }
}

const CRITICAL_FIRST: &str = "`critical` is reached before `warn`";

fn out_of_order(warn: &Expression, critical: &Expression) -> Option<String> {
    let of_warn = conjuncts(&warn.condition);
    let of_critical = conjuncts(&critical.condition);
    let only_warn: Vec<&Condition> = of_warn.iter().copied().filter(|part| !of_critical.contains(part)).collect();
    let only_critical: Vec<&Condition> = of_critical.iter().copied().filter(|part| !of_warn.contains(part)).collect();
    match (only_warn.as_slice(), only_critical.as_slice()) {
        ([], []) => Some("`warn` and `critical` are the same".into()),
        (_, []) => Some(CRITICAL_FIRST.into()),
        ([warn], [critical]) => limits_out_of_order(warn, critical).or_else(|| ranges_out_of_order(warn, critical)),
        _ => None,
    }
}

fn limits_out_of_order(warn: &Condition, critical: &Condition) -> Option<String> {
    let is_confident = |condition: &Condition| matches!(condition, Condition::Confident(_));
    let asks_to_be_sure = !is_confident(warn) && is_confident(critical);
    let (warn, critical) = (Threshold::of(warn)?, Threshold::of(critical)?);
    if !warn.is_of(&critical) {
        return None;
    }
    match (warn.above == critical.above, warn.limit == critical.limit) {
        (false, _) => Some("`warn` and `critical` look in opposite directions".to_string()),
        // One of them may ask to be sure of it.
        (true, true) => (!asks_to_be_sure).then(|| "`warn` and `critical` are the same".to_string()),
        (true, false) => ((warn.limit > critical.limit) == warn.above).then(|| CRITICAL_FIRST.to_string()),
    }
}

/// `not between`: the range of `critical` must hold that of `warn`.
fn ranges_out_of_order(warn: &Condition, critical: &Condition) -> Option<String> {
    let (warn, critical) = (Outside::of(warn)?, Outside::of(critical)?);
    let narrower = critical.low > warn.low || critical.high < warn.high;
    (warn.value == critical.value && narrower).then(|| CRITICAL_FIRST.to_string())
}

struct Outside<'a> {
    value: &'a Quantity,
    low: f64,
    high: f64,
}

impl<'a> Outside<'a> {
    fn of(condition: &'a Condition) -> Option<Self> {
        let Condition::Not(inner) = condition else { return None };
        let Condition::Between { value, low, high } = inner.as_ref() else { return None };
        Some(Self { value, low: low.constant()?, high: high.constant()? })
    }
}

/// The parts that must all hold.
fn conjuncts(condition: &Condition) -> Vec<&Condition> {
    match condition {
        Condition::And(left, right) => [conjuncts(left), conjuncts(right)].concat(),
        other => vec![other],
    }
}

/// `subject > limit` or `subject < limit`; of performance, `subject - baseline < limit`.
struct Threshold {
    subject: Quantity,
    /// Multiple of the baseline that is added.
    baseline_scale: f64,
    above: bool,
    limit: f64,
}

impl Threshold {
    fn of(condition: &Condition) -> Option<Self> {
        let condition = match condition {
            Condition::Confident(confident) => confident.condition.as_ref(),
            other => other,
        };
        let Condition::Compare { left, comparison, right } = condition else { return None };
        if let Some(Limit { figure, baseline_scale, above, limit }) = Limit::of(left, *comparison, right) {
            return Some(Self { subject: Quantity::Figure(figure), baseline_scale, above, limit });
        }
        let above = match comparison {
            Comparison::Greater | Comparison::GreaterOrEqual => true,
            Comparison::Less | Comparison::LessOrEqual => false,
            Comparison::Equal | Comparison::NotEqual => return None,
        };
        match (left.constant(), right.constant()) {
            (None, Some(limit)) => Some(Self { subject: left.clone(), baseline_scale: 0.0, above, limit }),
            (Some(limit), None) => Some(Self { subject: right.clone(), baseline_scale: 0.0, above: !above, limit }),
            _ => None,
        }
    }

    /// Whether both put a limit to the same thing.
    fn is_of(&self, other: &Self) -> bool {
        self.subject == other.subject && self.baseline_scale == other.baseline_scale
    }
}
