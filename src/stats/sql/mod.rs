//! Metrics of one's own: one SQL aggregation over the events of a window, planned by DataFusion and split so that it
//! can be computed on a stream.
//!
//! `check` reads the text and says what is wrong with it, where; `query` plans it: what of it runs on the events of a
//! flush (`Partial`), what merges states, and what makes a number of them once a window closes (`Final`). `state` is
//! what a pane keeps; `functions` holds the aggregates that are replaced because DataFusion's own give other bits on
//! another split, `quantiles` the sketch of one of them. To allow another aggregate: a name in `functions`, which says
//! whether it merges as it is, and a query in `tests/sql_metrics.rs`.

pub mod check;
pub mod functions;
mod moments;
mod quantiles;
pub mod query;
pub mod state;

use std::sync::Arc;

pub use check::SqlProblem;
pub use query::SqlQuery;

/// The one table of a query.
pub const TABLE: &str = "events";

/// Name of the metric in rules and results.
pub const VALUE: &str = "value";

/// Name of the baseline's value in results, where a rule compares with a moving reference.
pub const BASELINE_VALUE: &str = "baseline_value";

/// Stands before the name of a rule where the value of its query stands among the features of a result.
const RESULT_PREFIX: &str = "sql:";

/// Stands before the id of a query where its state stands among the profiles of features.
const STATE_PREFIX: &str = "\0sql:";

/// What a state of a pane may take, bytes: one that grows with the number of distinct values is given up beyond it.
pub const MAX_STATE_BYTES: usize = 64 * 1024;

/// What one rule wants of one model.
#[derive(Debug, Clone, PartialEq)]
pub struct SqlMetric {
    /// Where its value stands among the features of a result: `sql:approval-rate`.
    pub feature: String,
    pub query: Arc<SqlQuery>,
}

/// Where the value of a rule's query stands among the features of a result.
pub fn result_name(rule: &str) -> String {
    format!("{RESULT_PREFIX}{rule}")
}

/// The rule whose query's value stands under this name; `None`: it is a feature.
pub fn rule_of(name: &str) -> Option<&str> {
    name.strip_prefix(RESULT_PREFIX)
}

/// Whether this is the name of a query's value, not of a feature.
pub fn is_result_name(name: &str) -> bool {
    name.starts_with(RESULT_PREFIX)
}

/// Whether this is the name of a query's state, not of a feature.
pub fn is_state_name(name: &str) -> bool {
    name.starts_with(STATE_PREFIX)
}

fn state_name(id: &str) -> String {
    format!("{STATE_PREFIX}{id}")
}
