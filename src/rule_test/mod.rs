//! Tests of rules: what `driftline test` does with a file of `config::rule_tests`.
//!
//! `suite` finds the rules and models that a file is about, `events` makes the events of a test from the distributions
//! that it names (`draw`), `run` sends them through `backtest::Engine` (the machines of production, with event time as the
//! clock) and notes where every alert stands after each window (`observed`), `expect` compares, and `text`, `json` and
//! `junit` tell.
//!
//! To add a key of an expectation: its field in `config::rule_tests::Expectation`, its line in `expect::differences` and in
//! `expect::wanted`, its row in docs/testing-rules.md.

pub mod draw;
pub mod events;
pub mod expect;
pub mod implied;
pub mod observed;
pub mod report;
pub mod run;
pub mod suite;
