//! One rule asked about one closed window: which features of which segments breach it.
//!
//! Three-valued: a metric that is undefined here (empty feature, wrong type) makes a comparison neither true nor
//! false, and only what is true breaches. Thresholds meet the value itself, not value minus `bound`: a coarse
//! bound would mute the largest shifts. `==` and `!=` allow for the bound, since equality of an approximate
//! value has no other meaning.

use std::collections::{BTreeMap, BTreeSet};

use super::compile::Rule;
use super::expression::{Comparison, Condition, Expression, Figure, Quantifier, Quantity};
use super::metrics::{Metric, Subject};
use super::performance::{PerformanceFinding, Sight, gate};
use super::performance_metrics;
use super::significance::{adjust, cut};
use super::sql;
use super::state::{Mute, Pair};
use super::threshold;
use crate::config::rules::{Family, Severity, SignificanceTest};
use crate::stats::metric::{FeatureStats, MetricValue};
use crate::windows::result::{Segment, WindowResult};

/// What a rule says about one segment and feature (or the segment as a whole) of a window.
#[derive(Debug, Clone)]
pub struct Judgement<'a> {
    pub pair: Pair,
    pub result: &'a WindowResult,
    pub stats: Option<&'a FeatureStats>,
    /// `None`: no breach.
    pub breach: Option<Breach>,
    /// Effect size alone would breach, chance may explain it.
    pub insignificant: bool,
    /// A firing alert on this pair does not recover by this window.
    pub unrecovered: bool,
    /// What `warn` and `critical` answered; `None`: not there, or not to be asked yet.
    pub asked: [Option<Asked>; 2],
}

/// What one condition said of one pair.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Asked {
    /// Effect size alone; `None`: something in it is undefined here.
    pub holds: Option<bool>,
    /// Raw and adjusted; `None`: no test applies.
    pub p_value: Option<f64>,
    pub p_adjusted: Option<f64>,
    /// The level that the adjusted p-value is held against.
    pub alpha: f64,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Breach {
    pub severity: Severity,
    pub decider: Decider,
    /// The condition as written.
    pub condition: String,
    /// Raw and adjusted; `None`: no test applies.
    pub p_value: Option<f64>,
    pub p_adjusted: Option<f64>,
}

/// The measured thing that a sentence about a breach names.
#[derive(Debug, Clone, PartialEq)]
pub struct Decider {
    /// A metric's name, or a quantifier as written.
    pub name: String,
    pub metric: Option<&'static Metric>,
    pub value: MetricValue,
    pub threshold: Option<Automatic>,
    /// Of a figure of performance.
    pub performance: Option<Box<PerformanceFinding>>,
}

/// What `auto` stood for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Automatic {
    /// In the metric's unit.
    pub value: f64,
    /// Chance of a false alarm of the whole family in one window.
    pub rate: f64,
}

impl Decider {
    fn new(name: impl Into<String>, metric: Option<&'static Metric>, value: MetricValue) -> Self {
        Self { name: name.into(), metric, value, threshold: None, performance: None }
    }

    /// Whether it rests on an estimate: labels may show it to be wrong.
    pub fn is_estimate(&self) -> bool {
        self.performance.as_ref().is_some_and(|performance| performance.estimated)
    }
}

/// The rate that a rule promises for a window, and the largest p-value that is significant at it.
#[derive(Debug, Clone, Copy)]
struct Level {
    rate: f64,
    cut: f64,
}

impl Level {
    fn of(rule: &Rule, rate: f64, p_values: &[Option<f64>]) -> Self {
        let present: Vec<f64> = p_values.iter().flatten().copied().collect();
        // So that rounding does not part what is equal: 0.03 * 4 / 3 against 0.04 * 3 / 4.
        Self { rate, cut: cut(rule.significance.correction, rate, &present) * (1.0 + 1e-12) }
    }
}

/// Questions corrected for each other.
struct Families {
    /// In the order of the questions.
    adjusted: Vec<Option<f64>>,
    /// By segment.
    levels: BTreeMap<usize, Level>,
}

impl Families {
    /// `segments`: of each question, its segment's number.
    fn of(rule: &Rule, rate: f64, segments: &[usize], p_values: &[Option<f64>]) -> Self {
        let apart = rule.significance.family == Family::Segment;
        let mut families: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (question, segment) in segments.iter().enumerate() {
            families.entry(if apart { *segment } else { 0 }).or_default().push(question);
        }
        let mut found = Self { adjusted: vec![None; segments.len()], levels: BTreeMap::new() };
        for questions in families.values() {
            let of_family: Vec<Option<f64>> = questions.iter().map(|question| p_values[*question]).collect();
            let level = Level::of(rule, rate, &of_family);
            for (question, p_adjusted) in questions.iter().zip(adjust_present(rule, &of_family)) {
                found.adjusted[*question] = p_adjusted;
                found.levels.insert(segments[*question], level);
            }
        }
        found
    }
}

#[derive(Debug, Clone)]
pub struct Evaluation<'a> {
    pub judgements: Vec<Judgement<'a>>,
    /// Segments that could not be judged.
    pub muted: Vec<(Segment, Mute)>,
}

/// One segment's view of a window.
struct Scope<'a> {
    result: &'a WindowResult,
    selected: Vec<(&'a str, &'a FeatureStats)>,
    /// Of rules on performance.
    sight: Option<Sight<'a>>,
}

impl<'a> Scope<'a> {
    fn of(rule: &Rule, result: &'a WindowResult, family: &[&'a WindowResult]) -> Self {
        let sight = Sight::of(rule, result, family);
        Self { result, selected: rule.selected(result), sight }
    }
}

/// Why a rule cannot be asked of this result at all.
fn muted(rule: &Rule, result: &WindowResult) -> Option<Mute> {
    if !result.complete {
        return Some(Mute::Incomplete);
    }
    if rule.performance.is_some() {
        let expressions = [&rule.warn, &rule.critical].into_iter().flatten();
        let mutes: Vec<Option<Mute>> = expressions.map(|expression| closed_to(rule, result, expression)).collect();
        return mutes.into_iter().reduce(|first, next| first.and_then(|first| next.and(Some(first)))).flatten();
    }
    if rule.sample(result) < rule.min_samples {
        return Some(Mute::InsufficientSamples);
    }
    if let Some(mute) = sql::muted(rule, result) {
        return Some(mute);
    }
    (result.is_wanting() && !rule.counts_rows_only).then_some(Mute::NoReference)
}

/// Why one condition of a rule on performance cannot be asked of this result yet.
fn closed_to(rule: &Rule, result: &WindowResult, expression: &Expression) -> Option<Mute> {
    rule.performance.and_then(|needs| gate(rule, needs, result, expression))
}

/// `results` are those of the rule's reference and segments, the whole first.
pub fn evaluate<'a>(rule: &Rule, results: &[&'a WindowResult]) -> Evaluation<'a> {
    let mut muted = Vec::new();
    let mut scopes = Vec::new();
    for result in results {
        match self::muted(rule, result) {
            Some(mute) => muted.push((result.segment.clone(), mute)),
            None => scopes.push(Scope::of(rule, result, results)),
        }
    }
    let mut judgements: BTreeMap<(usize, Option<&str>), Judgement<'a>> = BTreeMap::new();
    for (severity, expression) in [(Severity::Warn, &rule.warn), (Severity::Critical, &rule.critical)] {
        let Some(expression) = expression else { continue };
        judge(rule, &scopes, severity, expression, &mut judgements);
    }
    Evaluation { judgements: judgements.into_values().collect(), muted }
}

/// Adds what `expression` says; of two severities the later, higher one stands.
fn judge<'a>(
    rule: &Rule,
    scopes: &[Scope<'a>],
    severity: Severity,
    expression: &Expression,
    judgements: &mut BTreeMap<(usize, Option<&'a str>), Judgement<'a>>,
) {
    let Some(rate) = scopes.first().map(|scope| rule.false_alarm_rate(scope.result)) else { return };
    let significant = QuantifiedSignificance::new(rule, scopes, &expression.condition, rate);
    let mut asked = Vec::new();
    let open = |scope: &Scope<'_>| closed_to(rule, scope.result, expression).is_none();
    for (index, scope) in scopes.iter().enumerate().filter(|(_, scope)| open(scope)) {
        let view = |stats| View { scope, index, stats, significant: Some(&significant), level: None };
        if let Some(sight) = &scope.sight {
            asked.push((None, view(Some(sight.stats))));
        } else if expression.is_about_window() {
            asked.push((None, view(None)));
        } else {
            asked.extend(scope.selected.iter().map(|(name, stats)| (Some(*name), view(Some(*stats)))));
        }
    }
    let p_values: Vec<Option<f64>> =
        asked.iter().map(|(_, view)| test(rule, &expression.condition, view.stats)).collect();
    let segments: Vec<usize> = asked.iter().map(|(_, view)| view.index).collect();
    let families = Families::of(rule, rate, &segments, &p_values);
    for (((feature, view), p_value), p_adjusted) in asked.into_iter().zip(p_values).zip(families.adjusted) {
        let view = View { level: families.levels.get(&view.index).copied(), ..view };
        let truth = view.truth(&expression.condition);
        let holds = truth == Some(true);
        let convincing = p_adjusted.is_none_or(|p| p <= rate);
        let pair = Pair { segment: view.scope.result.segment.clone(), feature: feature.map(str::to_string) };
        let judgement = judgements.entry((view.index, feature)).or_insert_with(|| Judgement {
            pair,
            result: view.scope.result,
            stats: view.stats,
            breach: None,
            insignificant: false,
            asked: [None, None],
            unrecovered: rule.recover.as_ref().is_some_and(|recover| {
                closed_to(rule, view.scope.result, recover).is_some() || view.truth(&recover.condition) == Some(false)
            }),
        });
        judgement.asked[severity as usize] = Some(Asked { holds: truth, p_value, p_adjusted, alpha: rate });
        judgement.insignificant |= holds && !convincing;
        if holds && convincing {
            let decider = view.decider(&expression.condition);
            let condition = expression.text.clone();
            judgement.breach = Some(Breach { severity, decider, condition, p_value, p_adjusted });
        }
    }
}

/// What the deciding metric of `rule` is in this window, whether or not it breaches: for sentences on recovery.
/// `family`: everything that the rule looks at in this window.
pub fn decider<'a>(rule: &Rule, judgement: &Judgement<'a>, family: &[&'a WindowResult]) -> Option<Decider> {
    let expression = rule.warn.as_ref().or(rule.critical.as_ref())?;
    let scope = Scope::of(rule, judgement.result, family);
    let view = View { scope: &scope, index: 0, stats: judgement.stats, significant: None, level: None };
    Some(view.decider(&expression.condition))
}

/// Adjusts over those that have a p-value; the others stay without.
fn adjust_present(rule: &Rule, p_values: &[Option<f64>]) -> Vec<Option<f64>> {
    let present: Vec<f64> = p_values.iter().flatten().copied().collect();
    let mut adjusted = adjust(rule.significance.correction, &present).into_iter();
    p_values.iter().map(|p| p.and_then(|_| adjusted.next())).collect()
}

/// p-value of a condition on one feature; `None` where no part of it has a test (a null rate, a row count).
///
/// `and` needs every part, so its p is the largest (intersection-union); beside a part with `auto`, which is there to
/// be the test, parts that compare with a number only ask for size, and its p is that of the test. `or` takes the
/// smallest, doubled (Bonferroni). It does not depend on which part held: a family's values must not be picked by
/// outcome.
fn test(rule: &Rule, condition: &Condition, stats: Option<&FeatureStats>) -> Option<f64> {
    if rule.significance.test == SignificanceTest::None {
        return None;
    }
    let stats = stats?;
    match condition {
        Condition::Compare { left, right, .. } => largest([metric_p(left, stats), metric_p(right, stats)]),
        Condition::Between { value, low, high } => {
            largest([metric_p(value, stats), metric_p(low, stats), metric_p(high, stats)])
        }
        Condition::And(left, right) => match (left.has_auto(), right.has_auto()) {
            (true, false) => test(rule, left, Some(stats)),
            (false, true) => test(rule, right, Some(stats)),
            _ => largest([test(rule, left, Some(stats)), test(rule, right, Some(stats))]),
        },
        Condition::Or(left, right) => match (test(rule, left, Some(stats)), test(rule, right, Some(stats))) {
            (Some(left), Some(right)) => Some((2.0 * left.min(right)).min(1.0)),
            (one, other) => one.or(other),
        },
        Condition::Not(inner) => test(rule, inner, Some(stats)),
        Condition::BeyondChance(metric) => metric_law(metric, stats),
        // An interval that lies beyond the threshold is the test.
        Condition::Any(_) | Condition::Confident(_) => None,
    }
}

fn largest<const N: usize>(p_values: [Option<f64>; N]) -> Option<f64> {
    p_values.into_iter().flatten().reduce(f64::max)
}

fn metric_p(quantity: &Quantity, stats: &FeatureStats) -> Option<f64> {
    match quantity {
        Quantity::Metric(metric) => metric_law(metric, stats),
        Quantity::Figure(figure) => metric_law(&figure.metric.metric, stats).filter(|_| !figure.gap),
        Quantity::Negative(inner) => metric_p(inner, stats),
        Quantity::Arithmetic(_, left, right) => largest([metric_p(left, stats), metric_p(right, stats)]),
        Quantity::Number(_) | Quantity::Baseline(_) | Quantity::Share(_) | Quantity::Count(_) => None,
    }
}

/// p-value by which a metric is judged.
fn metric_law(metric: &Metric, stats: &FeatureStats) -> Option<f64> {
    let of = |name: &str| stats.metrics.get(name).and_then(|value| value.p_value);
    // Their textbook law is too sure of rare categories; `psi` asks the same and is tested for them.
    let own = match metric.name {
        "chi_square" | "chi_square_yates" | "chi_square_gof" | "cramers_v" => of("psi").or_else(|| of(metric.name)),
        _ => metric.of_feature(stats).and_then(|value| value.p_value),
    };
    if own.is_some() || !metric.distribution {
        return own;
    }
    // A distance that nothing can test is not evidence.
    Some(["drift", "ks", "chi_square"].iter().find_map(|name| of(name)).unwrap_or(1.0))
}

/// Which features count inside `any`, `share` and `count`: those that are significant, over the family of all
/// segments and features that the quantifier looks at.
struct QuantifiedSignificance<'a> {
    insignificant: BTreeSet<(String, usize, &'a str)>,
    /// By quantifier, as written, and segment.
    levels: BTreeMap<(String, usize), Level>,
}

impl<'a> QuantifiedSignificance<'a> {
    fn new(rule: &Rule, scopes: &[Scope<'a>], condition: &Condition, rate: f64) -> Self {
        let (mut insignificant, mut levels) = (BTreeSet::new(), BTreeMap::new());
        for quantifier in condition.quantifiers() {
            let asked: Vec<(usize, &'a str, &'a FeatureStats)> = scopes
                .iter()
                .enumerate()
                .flat_map(|(index, scope)| scope.selected.iter().map(move |(name, stats)| (index, *name, *stats)))
                .collect();
            let p_values: Vec<Option<f64>> =
                asked.iter().map(|(_, _, stats)| test(rule, &quantifier.condition, Some(stats))).collect();
            let segments: Vec<usize> = asked.iter().map(|(index, ..)| *index).collect();
            let families = Families::of(rule, rate, &segments, &p_values);
            let of_segments = families.levels.into_iter();
            levels.extend(of_segments.map(|(index, level)| ((quantifier.text.clone(), index), level)));
            for ((index, name, _), p_adjusted) in asked.iter().zip(families.adjusted) {
                if p_adjusted.is_some_and(|p| p > rate) {
                    insignificant.insert((quantifier.text.clone(), *index, *name));
                }
            }
        }
        Self { insignificant, levels }
    }
}

/// A value and the largest distance to the exact one.
#[derive(Debug, Clone, Copy)]
struct Measured {
    value: f64,
    bound: f64,
}

impl Measured {
    fn of(value: MetricValue) -> Option<Self> {
        Some(Self { value: value.value?, bound: value.bound.unwrap_or(0.0) })
    }
}

/// What a condition sees.
struct View<'a, 'b> {
    scope: &'b Scope<'a>,
    index: usize,
    stats: Option<&'a FeatureStats>,
    significant: Option<&'b QuantifiedSignificance<'a>>,
    /// Of the family at hand; `None`: nothing is beyond chance.
    level: Option<Level>,
}

impl<'a> View<'a, '_> {
    fn truth(&self, condition: &Condition) -> Option<bool> {
        match condition {
            Condition::Compare { left, comparison, right } => {
                Some(compare(*comparison, self.number(left)?, self.number(right)?))
            }
            Condition::Between { value, low, high } => {
                let (value, low, high) = (self.number(value)?, self.number(low)?, self.number(high)?);
                Some(low.value <= value.value && value.value <= high.value)
            }
            Condition::And(left, right) => match (self.truth(left), self.truth(right)) {
                (Some(false), _) | (_, Some(false)) => Some(false),
                (Some(true), Some(true)) => Some(true),
                _ => None,
            },
            Condition::Or(left, right) => match (self.truth(left), self.truth(right)) {
                (Some(true), _) | (_, Some(true)) => Some(true),
                (Some(false), Some(false)) => Some(false),
                _ => None,
            },
            Condition::Not(inner) => self.truth(inner).map(|truth| !truth),
            Condition::BeyondChance(metric) => {
                let (value, p) = (self.metric(metric)?.value?, metric_law(metric, self.stats?)?);
                Some(value > 0.0 && self.level.is_some_and(|level| p <= level.cut))
            }
            Condition::Any(quantifier) => Some(self.holding(quantifier) > 0),
            Condition::Confident(confident) => {
                let sight = self.scope.sight.as_ref()?;
                let beyond: Option<Vec<bool>> = confident.limits.iter().map(|limit| sight.is_beyond(limit)).collect();
                let mut beyond = beyond?.into_iter();
                Some(if confident.all { beyond.all(|beyond| beyond) } else { beyond.any(|beyond| beyond) })
            }
        }
    }

    /// `auto` as a number, for the sentence about this metric.
    fn automatic(&self, metric: &Metric) -> Option<Automatic> {
        let (level, stats) = (self.level?, self.stats?);
        let (value, p) = (self.metric(metric)?.value?, metric_law(metric, stats)?);
        let value = threshold::automatic(metric.name, value, p, level.cut, stats)?;
        Some(Automatic { value, rate: level.rate })
    }

    fn number(&self, quantity: &Quantity) -> Option<Measured> {
        let measured = match quantity {
            Quantity::Number(number) => Measured { value: *number, bound: 0.0 },
            Quantity::Metric(metric) => Measured::of(self.metric(metric)?)?,
            Quantity::Figure(figure) => Measured::of(self.scope.sight.as_ref()?.value(figure))?,
            Quantity::Baseline(figure) => Measured::of(self.scope.sight.as_ref()?.baseline(figure.as_ref()?))?,
            Quantity::Negative(inner) => {
                let inner = self.number(inner)?;
                Measured { value: -inner.value, bound: inner.bound }
            }
            Quantity::Arithmetic(operation, left, right) => {
                let (left, right) = (self.number(left)?, self.number(right)?);
                let value = operation.apply(left.value, right.value);
                let corners = [-1.0, 1.0].iter().flat_map(|up| [-1.0, 1.0].iter().map(move |down| (*up, *down)));
                let bound = corners
                    .map(|(up, down)| {
                        let moved = operation.apply(left.value + up * left.bound, right.value + down * right.bound);
                        (moved - value).abs()
                    })
                    .fold(0.0, f64::max);
                Measured { value, bound }
            }
            Quantity::Count(quantifier) => Measured { value: self.holding(quantifier) as f64, bound: 0.0 },
            Quantity::Share(quantifier) => {
                let asked = self.asked(quantifier);
                Measured { value: self.holding(quantifier) as f64 / asked as f64, bound: 0.0 }
            }
        };
        measured.value.is_finite().then_some(measured)
    }

    fn metric(&self, metric: &Metric) -> Option<MetricValue> {
        match metric.subject {
            Subject::Window => self.scope.result.window_metric(metric.name),
            _ => metric.of_feature(self.stats?),
        }
    }

    fn of_feature(&self, stats: &'a FeatureStats, quantifier: &Quantifier) -> View<'a, '_> {
        let level = self
            .significant
            .and_then(|significant| significant.levels.get(&(quantifier.text.clone(), self.index)).copied());
        View { scope: self.scope, index: self.index, stats: Some(stats), significant: None, level }
    }

    /// Selected features that the quantifier's condition can be asked of: its metrics are defined there.
    fn asked(&self, quantifier: &Quantifier) -> usize {
        let selected = self.scope.selected.iter();
        selected.filter(|(_, stats)| self.of_feature(stats, quantifier).truth(&quantifier.condition).is_some()).count()
    }

    fn holding(&self, quantifier: &Quantifier) -> usize {
        let counts = |name: &str| {
            let key = (quantifier.text.clone(), self.index, name);
            self.significant.is_none_or(|significant| !significant.insignificant.contains(&(key.0, key.1, key.2)))
        };
        let selected = self.scope.selected.iter();
        selected
            .filter(|(name, stats)| {
                self.of_feature(stats, quantifier).truth(&quantifier.condition) == Some(true) && counts(name)
            })
            .count()
    }

    /// The first comparison that holds names the metric; the first at all where none does.
    fn decider(&self, condition: &Condition) -> Decider {
        self.named(condition, true)
            .or_else(|| self.named(condition, false))
            .unwrap_or_else(|| Decider::new("condition", None, MetricValue::undefined()))
    }

    fn named(&self, condition: &Condition, holding: bool) -> Option<Decider> {
        match condition {
            Condition::And(left, right) | Condition::Or(left, right) => {
                self.named(left, holding).or_else(|| self.named(right, holding))
            }
            Condition::Not(inner) => self.named(inner, false),
            Condition::BeyondChance(metric) => {
                let wanted = !holding || self.truth(condition) == Some(true);
                let value = self.metric(metric).unwrap_or_else(MetricValue::undefined);
                let threshold = self.automatic(metric);
                let found = Decider { threshold, ..Decider::new(metric.name, Some(metric), value) };
                wanted.then(|| Decider { performance: self.performance(metric), ..found })
            }
            Condition::Confident(confident) => {
                let wanted = !holding || self.truth(condition) == Some(true);
                wanted.then(|| self.named(&confident.condition, false)).flatten()
            }
            Condition::Any(quantifier) => {
                let count = MetricValue::exact(self.holding(quantifier) as f64);
                Some(Decider::new(quantifier.text.clone(), None, count))
            }
            Condition::Compare { left, right, .. } => {
                let wanted = !holding || self.truth(condition) == Some(true);
                wanted.then(|| self.measured(left).or_else(|| self.measured(right))).flatten()
            }
            Condition::Between { value, .. } => {
                let wanted = !holding || self.truth(condition) == Some(true);
                wanted.then(|| self.measured(value)).flatten()
            }
        }
    }

    /// A figure of performance; where an estimate has been replaced, the realised one.
    fn figure(&self, figure: &Figure) -> Option<Decider> {
        let sight = self.scope.sight.as_ref()?;
        let reading = sight.reading(figure);
        let realised = Figure { metric: reading.metric, ..*figure };
        let shown = if figure.gap { figure } else { &realised };
        let found = Decider::new(shown.written(), Some(&shown.metric.metric), sight.value(figure));
        Some(Decider { performance: Some(Box::new(sight.finding(figure))), ..found })
    }

    /// What stands beside a metric that has a test of its own.
    fn performance(&self, metric: &Metric) -> Option<Box<PerformanceFinding>> {
        let metric = performance_metrics::find(metric.name)?;
        let figure = Figure { metric, at: None, gap: false };
        Some(Box::new(self.scope.sight.as_ref()?.finding(&figure)))
    }

    fn measured(&self, quantity: &Quantity) -> Option<Decider> {
        match quantity {
            Quantity::Number(_) | Quantity::Baseline(_) => None,
            Quantity::Figure(figure) => self.figure(figure),
            Quantity::Metric(metric) => {
                let value = self.metric(metric).unwrap_or_else(MetricValue::undefined);
                Some(Decider::new(metric.name, Some(metric), value))
            }
            Quantity::Negative(inner) => self.measured(inner),
            Quantity::Arithmetic(_, left, right) => self.measured(left).or_else(|| self.measured(right)),
            Quantity::Share(quantifier) | Quantity::Count(quantifier) => {
                let value = self
                    .number(quantity)
                    .map_or_else(MetricValue::undefined, |number| MetricValue::exact(number.value));
                Some(Decider::new(quantifier.text.clone(), None, value))
            }
        }
    }
}

/// Smallest difference that `==` sees in exact values.
const EQUALITY_TOLERANCE: f64 = 1e-12;

fn compare(comparison: Comparison, left: Measured, right: Measured) -> bool {
    let equal = (left.value - right.value).abs() <= left.bound + right.bound + EQUALITY_TOLERANCE;
    match comparison {
        Comparison::Greater => left.value > right.value,
        Comparison::GreaterOrEqual => left.value >= right.value,
        Comparison::Less => left.value < right.value,
        Comparison::LessOrEqual => left.value <= right.value,
        Comparison::Equal => equal,
        Comparison::NotEqual => !equal,
    }
}
