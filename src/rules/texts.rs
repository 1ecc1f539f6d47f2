//! `summary`, `description` and `runbook` of a rule: what people read of its alerts, with `{placeholders}` of the
//! notification.

use serde_json::Value;

use super::episode::{EpisodeStatus, Notification};
use super::reason;
use crate::config::diagnostic::Problem;
use crate::config::rules::{Rule, Severity};
use crate::config::template::{Placeholder, Template};

/// Of one rule, as read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Texts {
    summary: Option<Template>,
    description: Option<Template>,
    runbook: Option<Template>,
}

/// What only whoever delivers knows, and the texts themselves.
const UNKNOWN_HERE: [Placeholder; 5] =
    [Placeholder::Subject, Placeholder::Text, Placeholder::Url, Placeholder::Description, Placeholder::Runbook];

impl Texts {
    pub(super) fn of(rule: &Rule, pointer: &str) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut read = |key: &str, text: &Option<String>| {
            let template = template(key, text.as_deref()?, pointer);
            template.map_err(|problem| problems.push(problem)).ok()
        };
        let summary = read("summary", &rule.summary);
        let description = read("description", &rule.description);
        let runbook = read("runbook", &rule.runbook);
        if problems.is_empty() { Ok(Self { summary, description, runbook }) } else { Err(problems) }
    }

    /// Writes the rule's own words on a notification that has everything else. `{summary}` in the
    /// summary is the default line, in the other two the rule's own.
    pub(super) fn write(&self, notification: &mut Notification) {
        if let Some(summary) = &self.summary {
            let line = summary.fill(|placeholder| value_of(placeholder, notification).unwrap_or_default());
            // One line, whatever a value of the events holds.
            let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
            if !line.is_empty() {
                notification.summary = line;
            }
        }
        let value = |placeholder| value_of(placeholder, notification).unwrap_or_default();
        let description = self.description.as_ref().map(|description| description.fill(value));
        let runbook = self.runbook.as_ref().map(|runbook| runbook.fill_encoded(value, |value| percent_encode(&value)));
        (notification.description, notification.runbook) = (description, runbook);
    }
}

/// What is wrong with the texts of a raw rule.
pub(super) fn problems(rule: &Value, pointer: &str) -> Vec<Problem> {
    let text = |key| rule.get(key).and_then(Value::as_str);
    let read = |key| text(key).and_then(|text| template(key, text, pointer).err());
    ["summary", "description", "runbook"].into_iter().filter_map(read).collect()
}

fn template(key: &str, text: &str, pointer: &str) -> Result<Template, Problem> {
    let pointer = format!("{pointer}/{key}");
    if text.trim().is_empty() {
        let message = format!("`{key}` says nothing");
        return Err(Problem::error("empty-text", pointer, message).help("write a text, or leave the key out"));
    }
    if key == "runbook" && !text.starts_with("https://") && !text.starts_with("http://") {
        let message = format!("`{text}` is not the address of a page");
        let help = "write `https://wiki.example.com/drift/{rule}`";
        return Err(Problem::error("bad-url", pointer, message).help(help));
    }
    Template::parse_without(text, &UNKNOWN_HERE).map_err(|error| {
        Problem::error("bad-placeholder", pointer, error.message).within(error.within).help(error.help)
    })
}

/// What a placeholder stands for; times are RFC 3339, UTC. Empty where the notification has none; `None`: only whoever
/// delivers it knows.
pub fn value_of(placeholder: Placeholder, notification: &Notification) -> Option<String> {
    use chrono::{DateTime, SecondsFormat};
    let time = |at_ms: i64| {
        DateTime::from_timestamp_millis(at_ms).unwrap_or_default().to_rfc3339_opts(SecondsFormat::Millis, true)
    };
    let first = notification.findings.first();
    let word = |warn: &str, critical: &str| match notification.severity {
        Severity::Warn => warn.to_string(),
        Severity::Critical => critical.to_string(),
    };
    Some(match placeholder {
        Placeholder::Id => notification.id.clone(),
        Placeholder::EpisodeId => notification.episode_id.clone(),
        Placeholder::Sequence => notification.sequence.to_string(),
        Placeholder::Status => match notification.status {
            EpisodeStatus::Firing => "firing".into(),
            EpisodeStatus::Resolved => "resolved".into(),
        },
        Placeholder::Severity => word("warn", "critical"),
        Placeholder::Priority => word("P3", "P1"),
        Placeholder::Rule => notification.rule.clone(),
        Placeholder::Model => notification.model.clone(),
        Placeholder::Version => notification.version.clone(),
        Placeholder::Segment if notification.segment.is_all() => String::new(),
        Placeholder::Segment => notification.segment.to_string(),
        Placeholder::Feature => {
            let found = first.and_then(|finding| finding.feature.clone());
            notification.feature.clone().or(found).unwrap_or_default()
        }
        Placeholder::Metric => first.map(|finding| finding.metric.clone()).unwrap_or_default(),
        Placeholder::Value => first.and_then(|finding| finding.value.value).map(reason::number).unwrap_or_default(),
        Placeholder::Condition => first.map(|finding| finding.condition.clone()).unwrap_or_default(),
        Placeholder::Reason => first.map(|finding| finding.reason.clone()).unwrap_or_default(),
        Placeholder::Reference => notification.reference.clone(),
        Placeholder::Rows => notification.rows.to_string(),
        Placeholder::Summary => notification.summary.clone(),
        Placeholder::Description => notification.description.clone().unwrap_or_default(),
        Placeholder::Runbook => notification.runbook.clone().unwrap_or_default(),
        Placeholder::Since => time(notification.first_window.start_ms),
        Placeholder::WindowStart => time(notification.window.start_ms),
        Placeholder::WindowEnd => time(notification.window.end_ms),
        Placeholder::At => time(notification.at_ms),
        Placeholder::Subject | Placeholder::Text | Placeholder::Url => return None,
    })
}

/// Everything but letters, digits and `-._~`.
fn percent_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(byte as char),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
