//! What people are told, before it takes the form of a receiver: the mail's words, without its layout. Pure; every
//! name from events is fit for one line, but not yet escaped for the form it goes into.

use super::receiver::Telling;
use super::{render, telling};
use crate::config::rules::Severity;
use crate::rules::episode::{EpisodeStatus, Notification};

/// Longest text of one finding in a chat message, in characters: five of them, and the rest, fit into what Slack and
/// Teams take.
const MAX_FINDING_CHARS: usize = 1_200;
const MAX_SUMMARY_CHARS: usize = 500;
const MAX_FACT_CHARS: usize = 200;
const MAX_NAMES_CHARS: usize = 500;

#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    pub tone: Tone,
    /// `CRITICAL`, `WARN`, `RESOLVED`.
    pub state: String,
    /// `fraud@3: amount drifted`.
    pub headline: String,
    pub summary: String,
    /// Why this comes, where it is not news; what the rule says of itself.
    pub notes: Vec<String>,
    /// The page that says what to do.
    pub runbook: Option<String>,
    /// What the link to the page is called.
    pub open_words: &'static str,
    /// What, since when, how sure: names and values.
    pub facts: Vec<(&'static str, String)>,
    pub findings_title: &'static str,
    /// Worst first, one text of one or more lines each.
    pub findings: Vec<String>,
    /// Findings that are only named.
    pub more: Option<String>,
    pub next_steps: Vec<&'static str>,
    pub footer: String,
}

/// How grave it looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    Good,
    Warning,
    Critical,
}

impl Message {
    pub fn of(notification: &Notification, telling: &Telling) -> Self {
        let findings = render::worst_first(notification);
        let text = |finding: &&_| {
            let finding: &crate::rules::episode::Finding = finding;
            let mut lines = vec![render::clean(&finding.reason)];
            if finding.value.value.is_some() {
                let (measured, evidence) = (render::measured(finding), render::evidence(finding));
                lines.push(format!("{} {measured}; {evidence}", render::subject_of(finding)));
            }
            lines.extend(render::explained(finding));
            cut(&lines.join("\n"), MAX_FINDING_CHARS)
        };
        let notes = telling::note(telling, notification).into_iter();
        let notes = notes.chain(notification.description.as_deref().map(render::clean));
        let notes = notes.map(|note| cut(&note, MAX_SUMMARY_CHARS));
        Self {
            tone: match (telling, notification.status, notification.severity) {
                (Telling::Heartbeat { .. }, ..) | (_, EpisodeStatus::Resolved, _) => Tone::Good,
                (_, EpisodeStatus::Firing, Severity::Warn) => Tone::Warning,
                (_, EpisodeStatus::Firing, Severity::Critical) => Tone::Critical,
            },
            state: render::state(notification, telling),
            headline: cut(&render::title(notification, telling), MAX_SUMMARY_CHARS),
            summary: cut(&render::clean(&notification.summary), MAX_SUMMARY_CHARS),
            notes: notes.collect(),
            runbook: notification.runbook.clone().filter(|runbook| render::is_link(runbook)),
            open_words: render::open_words(telling),
            facts: render::facts(notification, telling)
                .into_iter()
                .map(|(name, value)| (name, cut(&value, MAX_FACT_CHARS)))
                .collect(),
            findings_title: render::findings_title(notification),
            findings: findings.iter().take(render::MAX_FINDINGS).map(text).collect(),
            more: render::more(&findings).map(|more| cut(&more, MAX_NAMES_CHARS)),
            next_steps: render::next_steps(notification, telling),
            footer: cut(&render::footer(notification), MAX_FACT_CHARS),
        }
    }

    /// `CRITICAL  fraud@3: amount drifted`.
    pub fn title(&self) -> String {
        format!("{}  {}", self.state, self.headline)
    }
}

/// The first `most` characters, with `...` as the last three if there were more.
pub fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_string(),
        Some(_) => text.chars().take(most.saturating_sub(3)).chain("...".chars()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_text_is_as_long_as_allowed_and_says_so() {
        assert_eq!(cut("abcde", 5), "abcde");
        assert_eq!(cut("abcdef", 5), "ab...");
        assert_eq!(cut("\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}", 5), "\u{e9}\u{e9}...");
    }
}
