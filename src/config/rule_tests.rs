//! Tests of rules (`rules/*.test.yaml`): what happens, and what people should be told then. Their checks are in
//! `rule_test_checks`; `rule_test` runs them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::distribution::Drawn;
use super::rules::Severity;
use super::units::{Share, Span};

/// How the names of these files end.
pub const TEST_FILE_ENDING: &str = ".test.yaml";

/// One file of tests (`rules/*.test.yaml`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RuleTestFile {
    /// Version of this file's format: 1.
    #[serde(default = "first_version")]
    pub version: u32,
    /// The rules files under test, relative to this file; default: the one beside it (`starter.yaml` beside
    /// `starter.test.yaml`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<String>,
    /// Model files, relative to this file; default: those of the service file. Where there is neither, the model is one
    /// with the features that the test names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<String>,
    /// What tests of this file begin with where they say nothing.
    #[serde(default)]
    pub defaults: TestDefaults,
    /// Each is run by itself.
    pub tests: Vec<RuleTest>,
}

const fn first_version() -> u32 {
    1
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TestDefaults {
    /// `model@version` of the events.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// When the first window begins, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<String>,
    /// Length of windows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<Span>,
    /// What the model was trained on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<GivenReference>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RuleTest {
    /// Unique in its file; also the seed of what is drawn.
    pub name: String,
    /// What happens.
    pub given: Given,
    /// What must be so then.
    pub expect: Vec<Expectation>,
}

/// What happens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Given {
    /// `model@version` of the events; the version may be left out where the model's events carry none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// When the first window begins, RFC 3339; default: 2026-01-05T00:00:00Z, a Monday.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<String>,
    /// Length of the windows listed below; default: that of the model's windows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Span>,
    /// What the model was trained on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<GivenReference>,
    /// One after the other, without gaps.
    pub windows: Vec<GivenWindow>,
}

/// What the model was trained on: any other key is a feature (or `prediction`, `score`, `label`) and its distribution.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct GivenReference {
    /// Rows to draw; default: 10 000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    /// Real rows instead: a Parquet, CSV or JSONL file, relative to this file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    #[serde(flatten)]
    pub features: BTreeMap<String, Drawn>,
}

/// A stretch of event time, `repeat` times.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GivenWindow {
    /// How many windows in a row are like this; default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeat: Option<u32>,
    /// Several windows in turn, in place of one: a day and a night, to be repeated.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub windows: Vec<GivenWindow>,
    /// Further events of the same window, with distributions of their own: one segment, another version.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<GivenRows>,
    #[serde(flatten)]
    pub rows: GivenRows,
}

/// Events to draw: any other key is a feature (or `prediction`, `score`, `label`) and its distribution; what is not
/// named is distributed as in the reference.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct GivenRows {
    /// Events, spread evenly over the window; 0 for silence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    /// Version in these events, in place of that of the test's `model`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Event times lie this much before the window in which the events come.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub late_by: Option<Span>,
    /// Labels come this long after their predictions, where the model's labels come on a topic of their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label_delay: Option<Span>,
    /// Share of the events in which a feature is null.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub nulls: BTreeMap<String, Share>,
    /// Share of the events in which a feature has a value of a wrong type.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub invalid: BTreeMap<String, Share>,
    /// Features that are in no event.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub without: Vec<String>,
    /// Events as they stand in the topic; what they lack of event time, model, version and prediction id is filled in.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<Map<String, Value>>,
    /// JSONL file with such events, relative to this file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    #[serde(flatten)]
    pub features: BTreeMap<String, Drawn>,
}

/// What should be so at a time. All keys that are given must hold of one alert.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Expectation {
    /// Once this window has closed: `window 6`, `windows 4-7` for each of them, `end` for the last.
    pub at: String,
    /// No alert is like this; without other keys: none at all fires.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub none: bool,
    /// No other alert fires then than those expected at the same time.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub exactly: bool,
    /// Name of the rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// `warn` or `critical`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub severity: Option<Severity>,
    /// Default: `firing`, and told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<ExpectedStatus>,
    /// Version of the model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// As in alerts: `country=IT`, `all` for all events.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub segment: Option<String>,
    /// Features that the last notification of the alert names, among others.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<String>,
    /// A part of the line that people read first, or `/a regular expression/`; so too the next two.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// As `summary`, of the description.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// As `summary`, of the runbook.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runbook: Option<String>,
    /// Receivers that were told of the alert, among others.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub receivers: Vec<String>,
    /// Actions that the alert has asked for, among others.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub actions: Vec<String>,
    /// Notifications of the alert so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notifications: Option<u32>,
    /// What holds its news back: the name of the rule, or the reason of the silence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suppressed_by: Option<String>,
    /// Messages that each receiver has got by then, digests and reminders counted as one each.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub messages: BTreeMap<String, u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExpectedStatus {
    /// It has breached, and not yet often enough.
    Pending,
    /// People were told.
    Firing,
    /// It has fired and ended.
    Resolved,
    /// It fires, and a silence or another alert keeps that back.
    Suppressed,
}

impl ExpectedStatus {
    pub fn word(self) -> &'static str {
        match self {
            ExpectedStatus::Pending => "pending",
            ExpectedStatus::Firing => "firing",
            ExpectedStatus::Resolved => "resolved",
            ExpectedStatus::Suppressed => "suppressed",
        }
    }
}

impl Expectation {
    /// Whether it says what an alert should be like.
    pub fn is_of_an_alert(&self) -> bool {
        let anything =
            Self { at: String::new(), none: false, exactly: false, messages: BTreeMap::new(), ..self.clone() };
        anything != Self::default()
    }

    /// First and last window, from 1, where there are `windows` of them; otherwise what is wrong and how to mend it.
    pub fn windows(&self, windows: usize) -> Result<(usize, usize), (String, String)> {
        let help = "write `window 6`, `windows 4-7` or `end`".to_string();
        let words: Vec<&str> = self.at.split_whitespace().collect();
        let range = match words.as_slice() {
            ["end"] => Some((windows, windows)),
            ["window", number] => number.parse().ok().map(|number: usize| (number, number)),
            ["windows", range] => {
                range.split_once('-').and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?)))
            }
            _ => None,
        };
        match range {
            None => Err((format!("`{}` is no time of a test", self.at), help)),
            Some((0, _)) => Err(("windows count from 1".into(), help)),
            Some((first, last)) if first > last => {
                Err((format!("windows {first} to {last} are none"), format!("write `windows {last}-{first}`")))
            }
            Some((_, last)) if last > windows => {
                let there_are = match windows {
                    1 => "the test has 1 window".to_string(),
                    _ => format!("the test has {windows} windows"),
                };
                Err((format!("there is no window {last}: {there_are}"), "give it more, or ask earlier".into()))
            }
            Some(range) => Ok(range),
        }
    }
}

impl Given {
    /// Windows with their repetitions.
    pub fn window_count(&self) -> usize {
        self.windows.iter().map(GivenWindow::count).fold(0, usize::saturating_add)
    }

    /// Every window in order, with its repetitions. To be asked once their count is known to be bearable.
    pub fn expanded(&self) -> Vec<&GivenWindow> {
        let mut expanded = Vec::new();
        self.windows.iter().for_each(|window| window.expand(&mut expanded));
        expanded
    }

    /// Every entry that says what events there are, with its place below `windows`.
    pub fn entries(&self) -> Vec<(String, &GivenWindow)> {
        let mut entries = Vec::new();
        entries_of(&self.windows, "", &mut entries);
        entries
    }
}

fn entries_of<'g>(windows: &'g [GivenWindow], place: &str, entries: &mut Vec<(String, &'g GivenWindow)>) {
    for (index, window) in windows.iter().enumerate() {
        let place = format!("{place}/{index}");
        entries_of(&window.windows, &format!("{place}/windows"), entries);
        entries.push((place, window));
    }
}

impl GivenWindow {
    fn repetitions(&self) -> usize {
        self.repeat.unwrap_or(1) as usize
    }

    fn count(&self) -> usize {
        let once = match self.windows.is_empty() {
            true => 1,
            false => self.windows.iter().map(Self::count).fold(0, usize::saturating_add),
        };
        once.saturating_mul(self.repetitions())
    }

    fn expand<'g>(&'g self, expanded: &mut Vec<&'g GivenWindow>) {
        for _ in 0..self.repetitions() {
            match self.windows.is_empty() {
                true => expanded.push(self),
                false => self.windows.iter().for_each(|window| window.expand(expanded)),
            }
        }
    }
}

impl RuleTestFile {
    /// Rules files under test; `path` is that of this file.
    pub fn rule_files(&self, path: &Path) -> Vec<PathBuf> {
        let folder = path.parent().unwrap_or(Path::new(""));
        if self.rules.is_empty() {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let stem = name.strip_suffix(TEST_FILE_ENDING).unwrap_or(&name);
            return vec![folder.join(format!("{stem}.yaml"))];
        }
        self.rules.iter().map(|name| folder.join(name)).collect()
    }

    /// Names of the rules that its tests expect something of.
    pub fn covered(&self) -> impl Iterator<Item = &str> {
        let expectations = self.tests.iter().flat_map(|test| &test.expect);
        expectations.filter_map(|expectation| expectation.rule.as_deref())
    }
}
