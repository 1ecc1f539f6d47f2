//! `driftline schema`: the JSON Schema of the files that users write, for editors.

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde_json::Value;

use crate::config::gate::GateFile;
use crate::config::model::Model;
use crate::config::rule_tests::RuleTestFile;
use crate::config::rules::RuleFile;
use crate::config::schema;
use crate::config::scorer::ScorerConfig;
use crate::config::service::Service;

#[derive(Debug, Clone, Args)]
pub struct SchemaArgs {
    /// Which file's schema.
    #[arg(value_enum)]
    pub of: SchemaOf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SchemaOf {
    Model,
    Rules,
    Service,
    RuleTests,
    Scorer,
    Gate,
}

impl SchemaOf {
    pub const ALL: [SchemaOf; 6] =
        [SchemaOf::Model, SchemaOf::Rules, SchemaOf::Service, SchemaOf::RuleTests, SchemaOf::Scorer, SchemaOf::Gate];

    pub fn schema(self) -> Value {
        match self {
            SchemaOf::Model => schema::of::<Model>(),
            SchemaOf::Rules => schema::of::<RuleFile>(),
            SchemaOf::Service => schema::of::<Service>(),
            SchemaOf::RuleTests => schema::of::<RuleTestFile>(),
            SchemaOf::Scorer => schema::of::<ScorerConfig>(),
            SchemaOf::Gate => schema::of::<GateFile>(),
        }
    }

    /// Its file in `schemas/`.
    pub fn file_name(self) -> &'static str {
        match self {
            SchemaOf::Model => "model.schema.json",
            SchemaOf::Rules => "rules.schema.json",
            SchemaOf::Service => "service.schema.json",
            SchemaOf::RuleTests => "rule-tests.schema.json",
            SchemaOf::Scorer => "scorer.schema.json",
            SchemaOf::Gate => "gate.schema.json",
        }
    }
}

pub fn run(args: &SchemaArgs) -> ExitCode {
    super::print(format!("{:#}\n", args.of.schema()).as_bytes())
}
