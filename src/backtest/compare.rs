//! Two sets of rules on the same history: which episodes only one of them has, and which begin, end or weigh otherwise.

use std::collections::BTreeSet;

use serde::Serialize;

use super::trail::Episode;
use crate::config::rules::Severity;
use crate::windows::result::Segment;

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Comparison {
    /// Episodes of the other rules that these do not have.
    pub only_old: Vec<Episode>,
    pub only_new: Vec<Episode>,
    pub changed: Vec<Change>,
    /// Episodes in both, with the same severity, beginning and end.
    pub same: u64,
}

/// An episode that both have, and what differs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    pub old: Episode,
    pub new: Episode,
    pub differences: Vec<&'static str>,
}

/// Episodes of the same rule and group belong together where they overlap in time; the first pair in time counts.
pub fn compare(old: &[Episode], new: &[Episode]) -> Comparison {
    let mut comparison = Comparison::default();
    let mut paired: BTreeSet<usize> = BTreeSet::new();
    for before in old {
        let partner = new
            .iter()
            .enumerate()
            .find(|(index, after)| !paired.contains(index) && group(before) == group(after) && overlap(before, after));
        let Some((index, after)) = partner else {
            comparison.only_old.push(before.clone());
            continue;
        };
        paired.insert(index);
        let differences = differences(before, after);
        if differences.is_empty() {
            comparison.same += 1;
        } else {
            comparison.changed.push(Change { old: before.clone(), new: after.clone(), differences });
        }
    }
    let unpaired = new.iter().enumerate().filter(|(index, _)| !paired.contains(index));
    comparison.only_new = unpaired.map(|(_, episode)| episode.clone()).collect();
    comparison
}

fn group(episode: &Episode) -> (&str, &str, &str, &Segment, Option<&str>) {
    (&episode.rule, &episode.model, &episode.version, &episode.segment, episode.feature.as_deref())
}

fn overlap(left: &Episode, right: &Episode) -> bool {
    let end = |episode: &Episode| episode.resolved_ms.unwrap_or(i64::MAX);
    left.first_window.start_ms < end(right) && right.first_window.start_ms < end(left)
}

fn differences(old: &Episode, new: &Episode) -> Vec<&'static str> {
    let severity: (Severity, Severity) = (old.severity, new.severity);
    [
        ("severity", severity.0 != severity.1),
        ("begin", old.fired_ms != new.fired_ms),
        ("end", old.resolved_ms != new.resolved_ms),
    ]
    .into_iter()
    .filter_map(|(what, differs)| differs.then_some(what))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::windows::result::Window;

    const HOUR_MS: i64 = 3_600_000;

    fn episode(rule: &str, from: i64, until: Option<i64>, severity: Severity) -> Episode {
        Episode {
            id: format!("{rule}-{from}"),
            rule: rule.into(),
            model: "m".into(),
            version: "1".into(),
            segment: Segment::default(),
            feature: None,
            severity,
            first_window: Window { start_ms: from * HOUR_MS, end_ms: (from + 1) * HOUR_MS },
            fired_ms: (from + 1) * HOUR_MS,
            resolved_ms: until.map(|hour| hour * HOUR_MS),
            features: BTreeSet::new(),
            summary: String::new(),
            receivers: BTreeSet::new(),
            quiet: None,
            notifications: Vec::new(),
        }
    }

    #[test]
    fn what_differs_is_told_and_what_does_not_is_counted() {
        let old = [
            episode("a", 0, Some(5), Severity::Warn),
            episode("a", 10, Some(12), Severity::Warn),
            episode("gone", 3, None, Severity::Critical),
        ];
        let new = [
            episode("a", 0, Some(5), Severity::Warn),
            episode("a", 9, Some(12), Severity::Critical),
            episode("a", 20, Some(21), Severity::Warn),
        ];
        let compared = compare(&old, &new);
        assert_eq!(compared.same, 1);
        let ids = |episodes: &[Episode]| episodes.iter().map(|episode| episode.id.clone()).collect::<Vec<_>>();
        assert_eq!(ids(&compared.only_old), ["gone-3"]);
        assert_eq!(ids(&compared.only_new), ["a-20"]);
        assert_eq!(compared.changed.len(), 1);
        assert_eq!(compared.changed[0].differences, ["severity", "begin"]);
    }

    #[test]
    fn the_same_rules_have_no_difference() {
        let episodes = [episode("a", 0, Some(5), Severity::Warn), episode("b", 2, None, Severity::Critical)];
        let compared = compare(&episodes, &episodes);
        assert_eq!(compared, Comparison { same: 2, ..Comparison::default() });
    }
}
