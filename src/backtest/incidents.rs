//! What really happened, against what would have been told: precision, recall and delay.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::trail::Episode;
use crate::config::diagnostic::Problem;
use crate::config::glob;
use crate::reference::table::parse_epoch_ms;

/// A file of incidents.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IncidentFile {
    pub incidents: Vec<Incident>,
}

/// A stretch of time in which something was wrong.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Incident {
    pub name: String,
    /// When it began: RFC 3339, or a date.
    pub from: String,
    /// When it was over; not before `from`.
    pub until: String,
    /// Model that it was about, or a glob; default: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Rules that should have seen it, or globs; default: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<String>,
}

impl Incident {
    fn span_ms(&self) -> Option<(i64, i64)> {
        parse_epoch_ms(&self.from).zip(parse_epoch_ms(&self.until))
    }

    fn is_about(&self, episode: &Episode) -> bool {
        self.model.as_ref().is_none_or(|model| glob::matches(model, &episode.model))
            && (self.rules.is_empty() || self.rules.iter().any(|rule| glob::matches(rule, &episode.rule)))
    }
}

/// What is wrong with the file beyond its shape.
pub fn problems(file: &IncidentFile) -> Vec<Problem> {
    let mut found = Vec::new();
    if file.incidents.is_empty() {
        found.push(Problem::error("no-incident", "/incidents", "no incident is listed"));
    }
    for (index, incident) in file.incidents.iter().enumerate() {
        for (key, text) in [("from", &incident.from), ("until", &incident.until)] {
            if parse_epoch_ms(text).is_none() {
                let problem =
                    Problem::error("bad-time", format!("/incidents/{index}/{key}"), format!("`{text}` is not a time"));
                found.push(problem.help("write RFC 3339 (2026-03-01T00:00:00Z) or a date"));
            }
        }
        if incident.span_ms().is_some_and(|(from_ms, until_ms)| until_ms < from_ms) {
            let message = format!("`{}` is over before it began", incident.name);
            found.push(Problem::error("reversed", format!("/incidents/{index}/until"), message));
        }
    }
    found
}

/// How well the episodes tell of the incidents.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Score {
    /// Episodes that began during an incident, or within the tolerance before or after it.
    pub true_alerts: u64,
    pub false_alerts: u64,
    /// `true_alerts` over all episodes; absent without episodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub precision: Option<f64>,
    /// Incidents that an episode began in, over all incidents.
    pub recall: f64,
    /// Median over the incidents that were told, milliseconds from the incident's beginning; below 0: told before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub median_delay_ms: Option<i64>,
    pub incidents: Vec<Outcome>,
    /// Ids of the episodes that belong to no incident.
    pub false_episodes: Vec<String>,
}

/// What was told of one incident.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcome {
    pub name: String,
    /// From the incident's beginning to the first episode of it, milliseconds; absent: missed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<i64>,
    /// Ids of its episodes, in order of time.
    pub episodes: Vec<String>,
}

/// An episode belongs to an incident if it began to fire between the incident's beginning and end, stretched by
/// `tolerance_ms` on both sides.
pub fn score(file: &IncidentFile, episodes: &[Episode], tolerance_ms: i64) -> Score {
    // What nobody would have heard of is no alert.
    let episodes: Vec<&Episode> = episodes.iter().filter(|episode| episode.quiet.is_none()).collect();
    let belongs = |incident: &Incident, episode: &Episode| {
        incident.span_ms().is_some_and(|(from_ms, until_ms)| {
            let stretch = from_ms.saturating_sub(tolerance_ms)..=until_ms.saturating_add(tolerance_ms);
            incident.is_about(episode) && stretch.contains(&episode.fired_ms)
        })
    };
    let outcome = |incident: &Incident| {
        let mine: Vec<&Episode> = episodes.iter().copied().filter(|episode| belongs(incident, episode)).collect();
        let first_ms = mine.iter().map(|episode| episode.fired_ms).min();
        Outcome {
            name: incident.name.clone(),
            delay_ms: first_ms.zip(incident.span_ms()).map(|(first_ms, (from_ms, _))| first_ms - from_ms),
            episodes: mine.into_iter().map(|episode| episode.id.clone()).collect(),
        }
    };
    let outcomes: Vec<Outcome> = file.incidents.iter().map(outcome).collect();
    let is_false = |episode: &&&Episode| !file.incidents.iter().any(|incident| belongs(incident, episode));
    let false_episodes: Vec<String> = episodes.iter().filter(is_false).map(|episode| episode.id.clone()).collect();
    let mut delays: Vec<i64> = outcomes.iter().filter_map(|outcome| outcome.delay_ms).collect();
    delays.sort_unstable();
    let (all, wrong) = (episodes.len() as u64, false_episodes.len() as u64);
    Score {
        true_alerts: all - wrong,
        false_alerts: wrong,
        precision: (all > 0).then(|| (all - wrong) as f64 / all as f64),
        recall: delays.len() as f64 / outcomes.len().max(1) as f64,
        median_delay_ms: delays.get(delays.len().saturating_sub(1) / 2).copied(),
        incidents: outcomes,
        false_episodes,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::config::rules::Severity;
    use crate::windows::result::{Segment, Window};

    const HOUR_MS: i64 = 3_600_000;

    fn episode(rule: &str, fired_hour: i64) -> Episode {
        let fired_ms = fired_hour * HOUR_MS;
        Episode {
            id: format!("{rule}-{fired_hour}"),
            rule: rule.into(),
            model: "m".into(),
            version: "1".into(),
            segment: Segment::default(),
            feature: None,
            severity: Severity::Warn,
            first_window: Window { start_ms: fired_ms - HOUR_MS, end_ms: fired_ms },
            fired_ms,
            resolved_ms: None,
            features: BTreeSet::new(),
            summary: String::new(),
            receivers: BTreeSet::new(),
            quiet: None,
            notifications: Vec::new(),
        }
    }

    fn incident(name: &str, hours: [u32; 2], rules: &[&str]) -> Incident {
        Incident {
            name: name.into(),
            from: format!("1970-01-01T{:02}:00:00Z", hours[0]),
            until: format!("1970-01-01T{:02}:00:00Z", hours[1]),
            model: None,
            rules: rules.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn precision_recall_and_delay_are_those_counted_by_hand() {
        let file = IncidentFile {
            incidents: vec![
                incident("told", [2, 4], &[]),
                incident("missed", [10, 11], &[]),
                incident("of-a", [15, 18], &["a*"]),
            ],
        };
        let episodes = [episode("a", 3), episode("b", 4), episode("b", 7), episode("b", 16), episode("a1", 17)];
        let score = score(&file, &episodes, 0);
        assert_eq!((score.true_alerts, score.false_alerts), (3, 2));
        assert_eq!(score.precision, Some(0.6));
        assert!((score.recall - 2.0 / 3.0).abs() < 1e-12, "{}", score.recall);
        let delays: Vec<Option<i64>> = score.incidents.iter().map(|outcome| outcome.delay_ms).collect();
        assert_eq!(delays, [Some(HOUR_MS), None, Some(2 * HOUR_MS)]);
        assert_eq!(score.median_delay_ms, Some(HOUR_MS));
        assert_eq!(score.false_episodes, ["b-7", "b-16"]);
        // Two hours and a half around each: the episode at 7 is near enough to the first, told an hour late.
        let tolerant = super::score(&file, &episodes, 3 * HOUR_MS);
        assert_eq!(tolerant.false_episodes, ["b-16"]);
    }

    #[test]
    fn without_episodes_nothing_is_precise() {
        let score = score(&IncidentFile { incidents: vec![incident("missed", [1, 2], &[])] }, &[], 0);
        assert_eq!((score.precision, score.recall, score.median_delay_ms), (None, 0.0, None));
    }

    #[test]
    fn mistakes_of_the_file_are_found() {
        let file = IncidentFile {
            incidents: vec![
                Incident { until: "soon".into(), ..incident("a", [1, 2], &[]) },
                incident("b", [5, 2], &[]),
            ],
        };
        let codes: Vec<&str> = problems(&file).iter().map(|problem| problem.code).collect();
        assert_eq!(codes, ["bad-time", "reversed"]);
    }
}
