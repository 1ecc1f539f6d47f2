//! Rules: expressions, evaluation, episodes. Pure: time is an argument, effects are returned.
//!
//! In the order of one closed window's way: `expression` (the language of `when` and `recover`; its words come from
//! `token`, its names from `metrics`) is compiled by `compile`, with `checks` and its like (`cascade` leaves out what only follows from
//! another mistake), into a `RuleSet`; `evaluate` asks it
//! about a window, with `significance`; `threshold` puts `auto` into numbers; `state` moves each group's machine, as
//! `persistence` asks; `suppression` says what keeps it quiet; `engine` turns what changed into `news`, worded by `reason`
//! and the rule's own `texts`, explained by `explanation` and `worst_segment`; `performance`, `performance_metrics` and
//! `performance_reason` hold what rules on performance have of their own, `sql` what those with a query have; `absence`
//! does the same for models from which nothing arrives. `episode` is what rules tell people, `action_request` what they ask
//! to have done, with the `facts` that guards need: one record of the `outbox` topic each. `renames` takes the states of
//! renamed rules over. `gates` tells people what each gate of a rule said. `workspace` loads and checks a whole service.
//!
//! To add a metric: a row in `metrics`, or in `performance_metrics`. To add a key to rules: `config::rules`, then `compile`.

pub mod absence;
mod action_checks;
pub mod action_request;
pub mod cascade;
pub mod chance;
mod change_detectors;
pub mod checks;
pub mod compile;
mod delivery_checks;
pub mod engine;
pub mod episode;
pub mod evaluate;
pub mod explanation;
pub mod expression;
pub mod facts;
pub mod gates;
pub mod judge;
pub mod matching;
pub mod metrics;
mod news;
pub mod performance;
mod performance_checks;
pub mod performance_metrics;
mod performance_reason;
mod persistence;
pub mod reason;
pub mod rename_checks;
mod renames;
pub mod routing;
pub mod significance;
pub mod sql;
pub mod state;
pub mod suppression;
pub mod suppression_checks;
pub mod texts;
pub mod threshold;
mod threshold_checks;
pub mod token;
pub mod value_expression;
pub mod workspace;
pub mod worst_segment;

pub use compile::{FileProblem, RuleSet};
pub use engine::{Effect, ModelActivity};
pub use state::{RuleState, RuleStates};
pub use workspace::Workspace;
