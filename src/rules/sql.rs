//! Rules on a query of their own: what they ask of each model, and what is wrong with it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::checks::Placed;
use super::compile::{FileProblem, Rule};
use super::expression::Expression;
use super::metrics::Subject;
use super::state::Mute;
use crate::config::diagnostic::{Level, Problem};
use crate::config::model::Model;
use crate::config::rules;
use crate::stats::sql::state::NoValue;
use crate::stats::sql::{BASELINE_VALUE, SqlMetric, SqlProblem, SqlQuery, VALUE, is_result_name, result_name};
use crate::windows::result::WindowResult;

/// `sql:` of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnQuery {
    /// As written.
    pub text: String,
    /// Where its value stands among the features of a result.
    pub feature: String,
}

impl OnQuery {
    pub fn of(rule: &str, text: &str) -> Self {
        Self { text: text.to_string(), feature: result_name(rule) }
    }
}

/// Queries by model: each rule's, for every model that it matches.
pub type Queries = BTreeMap<String, Vec<SqlMetric>>;

/// Plans every query for every model that its rule matches, and tells rules which segment they are grouped by.
pub(super) fn plan(placed: &mut [Placed], models: &[Arc<Model>]) -> (Queries, Vec<FileProblem>) {
    let (mut queries, mut problems) = (Queries::new(), Vec::new());
    for (file, pointer, rule) in placed {
        let Some(on_query) = rule.sql.clone() else { continue };
        let matching: Vec<&Arc<Model>> = models.iter().filter(|model| rule.matches_model(&model.model)).collect();
        for model in &matching {
            let of_model = (matching.len() > 1).then_some(model.model.as_str());
            match SqlQuery::plan(&on_query.text, model) {
                Ok(query) => {
                    rule.segments = query.segment.iter().cloned().collect();
                    let found = query.warnings.iter().map(|found| located(pointer, found, of_model));
                    problems.extend(found.map(|problem| FileProblem { file: *file, problem }));
                    let query = Arc::new(query);
                    let metric = SqlMetric { feature: on_query.feature.clone(), query };
                    queries.entry(model.model.clone()).or_default().push(metric);
                }
                Err(found) => {
                    let found = found.iter().map(|found| located(pointer, found, of_model));
                    problems.extend(found.map(|problem| FileProblem { file: *file, problem }));
                }
            }
        }
    }
    problems.dedup();
    (queries, problems)
}

/// `of_model`: where the rule is for several models, the one that it is wrong for.
fn located(pointer: &str, found: &SqlProblem, of_model: Option<&str>) -> Problem {
    let message = match of_model {
        Some(model) => format!("for model `{model}`: {}", found.message),
        None => found.message.clone(),
    };
    let level = if found.is_warning { Level::Warning } else { Level::Error };
    let problem = Problem { level, ..Problem::error(found.code, format!("{pointer}/sql"), message) };
    Problem { within: found.at.clone(), ..problem }.help_if(found.help.clone())
}

/// Keys and conditions that have no meaning beside a query.
pub(super) fn shape_problems(source: &rules::Rule, rule: &Rule, pointer: &str) -> Vec<Problem> {
    if rule.sql.is_none() {
        return Vec::new();
    }
    let mut found = Vec::new();
    let of_query = "the rule judges the `value` of its query: take one of the two out";
    let group_by = "write the columns behind `GROUP BY` in the query, and take `segments` out";
    let no_test = "nothing says how the value of a query varies: the threshold and `for` alone decide";
    for (key, is_there, help) in [
        ("features", source.features.is_some(), of_query),
        ("signal", source.signal.is_some(), of_query),
        ("absent", source.absent.is_some(), of_query),
        ("labels", source.labels.is_some(), "labels belong to `signal: performance`: take `labels` out"),
        ("segments", !source.segments.is_empty(), group_by),
        ("significance", source.significance.is_some(), no_test),
    ] {
        if is_there {
            let message = format!("`{key}` does not go with `sql`");
            found.push(Problem::error("unsuited-key", format!("{pointer}/{key}"), message).key().help(help));
        }
    }
    if source.reference.is_some() && !asks_for_baseline([&rule.warn, &rule.critical, &rule.recover]) {
        let message = "no condition of this rule asks for `baseline`";
        let help = "take `reference` out, or compare with it: `value < 90% of baseline`";
        found.push(Problem::error("unsuited-key", format!("{pointer}/reference"), message).key().help(help));
    }
    let conditions = || [&rule.warn, &rule.critical].into_iter().flatten();
    for (expression, key) in [(&rule.warn, "when/warn"), (&rule.critical, "when/critical")] {
        if let Some(expression) = expression.as_ref().filter(|expression| !names(expression, VALUE)) {
            let message = format!("`{}` does not ask for the `value` of the query", expression.text);
            let help = "such as `value not between 0.55 and 0.75`";
            found.push(Problem::error("expression", format!("{pointer}/{key}"), message).help(help));
        }
    }
    if rule.moving.is_none() && conditions().any(|expression| names(expression, BASELINE_VALUE)) {
        let message = "`baseline` is the value over a moving reference, and this rule has none";
        let help = "add `reference: {trailing: 7d}`, or compare with a number";
        found.push(Problem::error("no-baseline", format!("{pointer}/when"), message).key().help(help));
    }
    found
}

/// A feature that is called as queries' values are.
pub(super) fn model_problems(model: &Model) -> Vec<Problem> {
    let taken = model.features.keys().filter(|name| is_result_name(name));
    let problem = |name: &String| {
        let message = format!("`{name}` is how the value of a rule's query is called");
        let pointer = crate::config::yaml::child("/features", name);
        Problem::error("bad-name", pointer, message).key().help("name the feature otherwise and give its `path`")
    };
    taken.map(problem).collect()
}

fn names(expression: &Expression, metric: &str) -> bool {
    expression.metrics.iter().any(|(named, _)| named.subject == Subject::Query && named.name == metric)
}

/// Whether a condition asks for the value of a moving reference.
pub(super) fn asks_for_baseline(expressions: [&Option<Expression>; 3]) -> bool {
    expressions.into_iter().flatten().any(|expression| names(expression, BASELINE_VALUE))
}

/// Why a rule on a query cannot be asked of this result.
pub(super) fn muted(rule: &Rule, result: &WindowResult) -> Option<Mute> {
    let stats = result.features.get(&rule.sql.as_ref()?.feature)?;
    if let Some(reason) = stats.no_value {
        return Some(match reason {
            NoValue::Undefined => Mute::NoValue,
            NoValue::NotCollected => Mute::NotCollected,
            NoValue::QueryFailed => Mute::QueryFailed,
            NoValue::StateTooLarge => Mute::StateTooLarge,
        });
    }
    let baseline = stats.metrics.get(BASELINE_VALUE).and_then(|baseline| baseline.value);
    (rule.moving.is_some() && baseline.is_none()).then_some(Mute::NoReference)
}

/// Whether the result is of the segment that the rule's query is grouped by.
pub(super) fn is_about(rule: &Rule, result: &WindowResult) -> bool {
    rule.sql.as_ref().is_none_or(|on_query| result.features.contains_key(&on_query.feature))
}
