//! One mistake is one finding: what only follows from another is left out.

use super::compile::FileProblem;
use crate::config::diagnostic::{Level, Problem};
use crate::config::load::Outcome;
use crate::config::rules::RuleFile;

/// What is known to be missing from what is checked together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Damage {
    /// A model, or a part of one.
    pub models: bool,
    /// A whole rules file.
    pub files: bool,
    /// Rules, or a part of one.
    pub rules: bool,
    /// Routes, or a part of one.
    pub routes: bool,
}

impl Damage {
    pub const ALL: Self = Self { models: true, files: true, rules: true, routes: true };

    /// With what is missing from this rules file.
    pub fn of_rules(self, file: &Outcome<RuleFile>) -> Self {
        let Some(loaded) = &file.loaded else {
            return Self { files: true, rules: true, routes: true, ..self };
        };
        Self { rules: self.rules || loaded.lost("/rules"), routes: self.routes || loaded.lost("/routes"), ..self }
    }
}

/// Names that rules take from models.
const OF_MODELS: [&str; 9] = [
    "unknown-model",
    "unknown-feature",
    "unknown-signal",
    "unknown-segment",
    "unknown-reference",
    "unknown-column",
    "unsuited-metric",
    "no-detector",
    "unknown-version",
];
/// Names that rules files take from each other.
const OF_FILES: [&str; 4] = ["unknown-receiver", "unknown-action", "unknown-rule", "no-route"];
/// Names of rules.
const OF_RULES: [&str; 1] = ["unknown-rule"];
/// Codes whose findings take a rule out of the set.
const OF_BROKEN_RULES: [&str; 3] = ["expression", "bad-for", "bad-reference"];

/// The problems without those that may come of something that could not be read. A warning that nothing uses or reaches
/// a thing needs all rules.
pub fn without_consequences(problems: Vec<FileProblem>, damage: Damage) -> Vec<FileProblem> {
    let breaks = |problem: &Problem| {
        let is_query = problem.code.starts_with("sql") && problem.level == Level::Error;
        is_query || OF_BROKEN_RULES.contains(&problem.code)
    };
    let is_broken = problems.iter().any(|found| breaks(&found.problem));
    let damage = Damage { rules: damage.rules || is_broken, ..damage };
    problems.into_iter().filter(|found| !damage.explains(&found.problem)).collect()
}

impl Damage {
    /// Whether a finding may come of what is missing alone.
    pub fn explains(self, problem: &Problem) -> bool {
        let code = problem.code;
        let is_absence = ["unused-", "unreached-", "untested-"].iter().any(|start| code.starts_with(start));
        (self.models && OF_MODELS.contains(&code))
            || (self.files && OF_FILES.contains(&code))
            || (self.rules && OF_RULES.contains(&code))
            || (self.routes && code == "no-route")
            || ((self.files || self.rules || self.routes) && is_absence && problem.level == Level::Warning)
    }
}
