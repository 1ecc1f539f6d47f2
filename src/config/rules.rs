//! Rules: who is watched, what is wrong, how sure one must be, who is told.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::actions::Action;
use super::receivers::Receiver;
use super::segment::SegmentColumns;
use super::units::{Share, Span};

/// One rules file (`rules/*.yaml`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RuleFile {
    /// Version of this file's format: 1.
    pub version: u32,
    /// What the rules of this file use where they say nothing.
    #[serde(default)]
    pub defaults: Defaults,
    /// What is watched, and when it is wrong.
    #[serde(default)]
    pub rules: Vec<Rule>,
    /// Which notifications go where; every matching route applies.
    #[serde(default)]
    pub routes: Vec<Route>,
    /// Where notifications go, by name.
    #[serde(default)]
    pub receivers: BTreeMap<String, Receiver>,
    /// Rules that are kept quiet while another one fires, because that explains them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inhibit: Vec<Inhibition>,
    /// When nobody wants to hear of what.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub silences: Vec<Silence>,
    /// What rules may have done: retraining, rollback.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub actions: BTreeMap<String, Action>,
    /// A message that comes while all is well, so that somebody else notices when it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat: Option<Heartbeat>,
}

/// What rules use where they say nothing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Defaults {
    /// Size of windows.
    pub window: Option<Span>,
    /// Windows with fewer rows are not judged.
    pub min_samples: Option<u64>,
    /// What windows are compared with.
    pub reference: Option<ReferenceChoice>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Unique name; part of every alert.
    pub name: String,
    /// `model@version`, either may be a glob: `fraud@*`, `*`.
    #[schemars(extend("examples" = ["fraud@*", "*"]))]
    pub model: String,
    /// Which features; default all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub features: Option<FeatureSelector>,
    /// One signal instead of features: `prediction.score`, `prediction.value`, `joint`; or `performance`: how well the
    /// model did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
    /// Evaluate each value of these segment columns apart, beside the whole; `[country, device]` for two together.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub segments: Vec<SegmentColumns>,
    /// Size of windows; default: `defaults.window`, else the model's `windows.size`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Span>,
    /// Distance between window starts; default: the window's size (tumbling).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slide: Option<Span>,
    /// What windows are compared with; default: `training`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<ReferenceChoice>,
    /// Effect sizes that are wrong, by severity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<When>,
    /// Hysteresis: a firing alert recovers once this holds; default: once `when` no longer holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("examples" = ["psi < 0.08"]))]
    pub recover: Option<String>,
    /// How sure one must be that it is no chance; on by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub significance: Option<Significance>,
    /// `3 of 5 windows`, `2 windows` for two in a row, or a time that is a whole number of windows: `2h`; default: 1 window.
    #[serde(rename = "for", default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("examples" = ["2 windows", "3 of 5 windows"]))]
    pub for_: Option<String>,
    /// With `signal: performance`: how many labels must be known, and how long they are waited for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<LabelNeeds>,
    /// A window with fewer rows (of realised performance: labelled ones) neither advances nor resets `for`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_samples: Option<u64>,
    /// One episode per combination of these: model, version, segment, feature. Default: model, version, segment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_by: Option<Vec<GroupKey>>,
    /// Fires when no event of the model has arrived for a while. Excludes `when`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub absent: Option<Absent>,
    /// A metric of one's own instead of features: one aggregation over the window's events, `SELECT ... AS value FROM
    /// events`, by DataFusion. Its conditions ask for `value`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sql: Option<String>,
    /// Names of actions that a firing episode asks for: at `critical`, or at `warn` where the rule knows no other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub actions: Vec<String>,
    /// The line that people read first, with `{placeholders}`; default: a sentence made of rule, model and what decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// What people should know beside that, with `{placeholders}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Address of the page that says what to do, with `{placeholders}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runbook: Option<String>,
    /// The rule's name before it was renamed: its alerts go on under the new one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub formerly: Option<String>,
}

/// When the labels of a window are enough to judge it by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LabelNeeds {
    /// Labels that come later than this after their window no longer change what the rule made of it; default: the
    /// model's `performance.labels.delay`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay: Option<Span>,
    /// Share of a window's predictions whose label must be known before realised figures are judged; default: 80%.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_coverage: Option<Share>,
}

/// What windows are compared with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum ReferenceChoice {
    /// Name of a reference of the model, or `previous`: the window before.
    Name(String),
    Moving(MovingChoice),
}

/// A reference that moves along with the windows: earlier windows, or those of another version.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MovingChoice {
    /// Everything in this time before the window's start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trailing: Option<Span>,
    /// Of that, only what lies at the same place in its day or week as the window, UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub same: Option<Season>,
    /// Of other versions of the model that match this name or glob, instead of the window's own; without `trailing`
    /// in the window's own time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Season {
    HourOfDay,
    HourOfWeek,
}

impl Season {
    pub const fn period_ms(self) -> i64 {
        match self {
            Season::HourOfDay => 86_400_000,
            Season::HourOfWeek => 7 * 86_400_000,
        }
    }

    pub const fn word(self) -> &'static str {
        match self {
            Season::HourOfDay => "hour_of_day",
            Season::HourOfWeek => "hour_of_week",
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FeatureSelector {
    /// `all`, or a list of names and globs.
    pub include: Include,
    /// Names and globs of those that are left out again.
    pub exclude: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Include {
    Word(String),
    Names(Vec<String>),
}

impl Default for Include {
    fn default() -> Self {
        Include::Word("all".into())
    }
}

/// Expressions such as `psi > 0.25`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct When {
    /// Worth a look: `psi > 0.1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("examples" = ["psi > 0.1", "drift > auto and psi > 0.001"]))]
    pub warn: Option<String>,
    /// Worth waking somebody: `psi > 0.25`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("examples" = ["psi > 0.25", "share(psi > 0.2) > 30%"]))]
    pub critical: Option<String>,
}

/// A finding must also be unlikely under no drift.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Significance {
    /// Which test gives the p-value.
    pub test: SignificanceTest,
    /// Highest adjusted p-value accepted; default: 0.01. Excludes `budget`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alpha: Option<f64>,
    /// What is done about many features having many chances.
    pub correction: Correction,
    /// Over what is corrected.
    pub family: Family,
    /// False alarms that may be expected in a stretch of time, instead of a rate a window.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
}

impl Default for Significance {
    fn default() -> Self {
        let (alpha, budget) = (None, None);
        let (correction, family) = (Correction::BenjaminiHochberg, Family::Model);
        Self { test: SignificanceTest::Auto, alpha, correction, family, budget }
    }
}

/// A budget of false alarms, spent evenly on the windows of its time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// Windows with a false alarm, of one rule and model version, that are expected at most; may be below 1.
    pub false_alarms: f64,
    /// In any stretch of this length.
    pub per: Span,
}

/// `alpha` where a rule gives neither it nor a budget.
const DEFAULT_ALPHA: f64 = 0.01;

impl Significance {
    /// Level of one window, where windows start every `slide_ms`: `alpha`, or the window's share of the budget.
    pub fn alpha(&self, slide_ms: i64) -> f64 {
        match self.budget {
            Some(budget) => budget.false_alarms * slide_ms as f64 / budget.per.ms as f64,
            None => self.alpha.unwrap_or(DEFAULT_ALPHA),
        }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SignificanceTest {
    /// The law of the rule's own statistic where it has one, Kolmogorov-Smirnov or chi-square otherwise.
    #[default]
    Auto,
    /// No test: effect size alone.
    None,
}

/// Questions that are asked together: the correction allows for all of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// All features and segments that the rule looks at in one window of one model version.
    #[default]
    Model,
    /// The features of each segment apart: every segment has its own false alarms.
    Segment,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Correction {
    /// Bounds the share of false findings among those of the family.
    #[default]
    BenjaminiHochberg,
    /// The same, valid however the p-values depend on each other.
    BenjaminiYekutieli,
    Bonferroni,
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GroupKey {
    Model,
    Version,
    Segment,
    Feature,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Absent {
    /// How long nothing may arrive.
    pub after: Span,
    /// How grave that is.
    #[serde(default = "default_absent_severity")]
    pub severity: Severity,
}

fn default_absent_severity() -> Severity {
    Severity::Critical
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    Warn,
    Critical,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Route {
    #[serde(rename = "match")]
    pub matcher: Matcher,
    /// Names of receivers.
    pub to: Vec<String>,
    /// Told again this often while it fires and nobody has acknowledged it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeat: Option<Span>,
    /// Collected, and sent as one message this often, counted from 1970-01-01T00:00:00Z.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<Span>,
}

/// Every key given must match; globs are allowed in names.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Matcher {
    /// `warn` or `critical`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub severity: Option<Severity>,
    /// `model`, or `model@version`; a glob.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Name or glob of a rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Name or glob of a feature that drifted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub feature: Option<String>,
    /// Segment as in alerts: `country=IT`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub segment: Option<String>,
}

/// While rule `if` fires, rules `mute` are not told of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Inhibition {
    /// Name of the rule that explains the others.
    #[serde(rename = "if")]
    pub if_: String,
    /// Names of rules, or globs.
    pub mute: Vec<String>,
    /// What both must have in common; default: the model. A rule that has no version, or looks at no segment, has it in
    /// common with all.
    #[serde(default = "same_model")]
    pub same: Vec<GroupKey>,
}

fn same_model() -> Vec<GroupKey> {
    vec![GroupKey::Model]
}

/// A stretch of time, once or every week, in which alerts that match are not told of. It is asked of the time of the
/// window, not of the clock, so that a replay comes to the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Silence {
    #[serde(rename = "match", default)]
    pub matcher: Matcher,
    /// `Sun 02:00-04:00 Europe/Paris`, `Mon-Fri 22:00-06:00 UTC`, `daily 03:00-03:30 America/New_York`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("examples" = ["Sun 02:00-04:00 Europe/Paris", "daily 03:00-03:30 UTC"]))]
    pub every: Option<String>,
    /// Once: from this instant, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Once: until this instant, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// Why, for those who wonder.
    pub reason: String,
}

/// A dead man's switch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Heartbeat {
    /// Names of receivers.
    pub to: Vec<String>,
    /// How often.
    pub every: Span,
}
