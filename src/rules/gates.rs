//! What each gate of a rule says of one window, for people who wonder why it fired or did not. Evaluated as in
//! production, by the same code; nothing is stored for it.

use super::checks;
use super::compile::{Rule, RuleSet};
use super::engine::looked_at;
use super::evaluate::{Asked, decider, evaluate};
use super::state::{Mute, Pair};
use crate::config::rules::Severity;
use crate::stats::metric::MetricValue;
use crate::windows::result::{ClosedWindow, Segment, WindowResult};

/// One rule in one window.
#[derive(Debug, Clone)]
pub struct Gates {
    /// Segments that are not judged, and what they lack.
    pub muted: Vec<Muted>,
    pub pairs: Vec<PairGates>,
    /// Nothing in the window has the rule's reference.
    pub no_reference: bool,
}

/// A gate that is shut for a whole segment.
#[derive(Debug, Clone, PartialEq)]
pub struct Muted {
    pub segment: Segment,
    pub mute: Mute,
    pub samples: Samples,
}

/// What a judgement would rest on.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Samples {
    /// Events, or of realised performance labelled predictions.
    pub has: u64,
    pub needs: u64,
    /// Share of the predictions whose label is known, and the share that is needed, 0 to 1.
    pub label_coverage: Option<(f64, f64)>,
    /// Why the moving reference says nothing yet.
    pub wanting: Option<String>,
}

/// One feature of one segment, or a segment as a whole.
#[derive(Debug, Clone)]
pub struct PairGates {
    pub pair: Pair,
    pub samples: Samples,
    /// The metric that the rule's first condition names, and its value.
    pub metric: String,
    pub value: MetricValue,
    /// The condition of each severity that could be asked.
    pub conditions: Vec<ConditionGate>,
    pub breach: Option<Severity>,
    /// A firing alert on this pair would not recover by this window.
    pub unrecovered: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct ConditionGate {
    pub severity: Severity,
    /// As written.
    pub condition: String,
    pub asked: Asked,
}

impl RuleSet {
    /// Receivers of every route that an alert of this rule takes, whatever features and segments it is about.
    pub fn receivers_of(&self, rule: &str, model: &str, severity: Severity) -> Vec<String> {
        let mut receivers: Vec<String> = Vec::new();
        for route in self.routes.iter().filter(|route| checks::route_matches(route, rule, model, severity)) {
            for receiver in route.to.iter().filter(|name| !receivers.contains(name)).cloned().collect::<Vec<_>>() {
                receivers.push(receiver);
            }
        }
        receivers
    }

    /// `rule` is one of this set, and `closed` one of its windows.
    pub fn gates(&self, rule: &Rule, closed: &ClosedWindow) -> Gates {
        let results = looked_at(rule, closed);
        let evaluation = evaluate(rule, &results);
        let result_of = |segment: &Segment| results.iter().find(|result| result.segment == *segment);
        let muted = evaluation.muted.iter().map(|(segment, mute)| {
            let samples = result_of(segment).map(|result| samples(rule, result)).unwrap_or_default();
            Muted { segment: segment.clone(), mute: *mute, samples }
        });
        let pairs = evaluation.judgements.iter().map(|judgement| {
            let decider = decider(rule, judgement, &results);
            let severities = [(Severity::Warn, &rule.warn), (Severity::Critical, &rule.critical)];
            let conditions =
                severities.into_iter().zip(judgement.asked).filter_map(|((severity, expression), asked)| {
                    Some(ConditionGate { severity, condition: expression.as_ref()?.text.clone(), asked: asked? })
                });
            PairGates {
                pair: judgement.pair.clone(),
                samples: samples(rule, judgement.result),
                metric: decider.as_ref().map(|decider| decider.name.clone()).unwrap_or_default(),
                value: decider.map_or_else(MetricValue::undefined, |decider| decider.value),
                conditions: conditions.collect(),
                breach: judgement.breach.as_ref().map(|breach| breach.severity),
                unrecovered: judgement.unrecovered,
            }
        });
        Gates { muted: muted.collect(), pairs: pairs.collect(), no_reference: results.is_empty() }
    }
}

fn samples(rule: &Rule, result: &WindowResult) -> Samples {
    let performance = result.performance.as_ref().zip(rule.performance);
    Samples {
        has: performance.as_ref().map_or_else(|| rule.sample(result), |(performance, _)| performance.labelled),
        needs: rule.min_samples,
        label_coverage: performance.map(|(performance, needs)| (performance.label_coverage, needs.min_coverage)),
        wanting: result.baseline.as_ref().and_then(|baseline| baseline.wanting.clone()),
    }
}
