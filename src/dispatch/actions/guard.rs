//! What does not hold although an action asks for it. Pure: facts come with the request, the registry from the scorer.

use super::run::Unmet;
use crate::config::action_guards::Guards;
use crate::config::units::Span;
use crate::rules::action_request::ActionRequest;

pub(super) const DAY_MS: i64 = 86_400_000;

/// What the scorer has in production.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registry {
    pub production: Option<String>,
    /// What was in production before: where a rollback leads.
    pub previous: Option<String>,
    pub generation: u64,
    pub promoted_at_ms: Option<i64>,
}

fn unmet(guard: &str, wanted: impl Into<String>, found: impl Into<String>) -> Unmet {
    Unmet { guard: guard.into(), wanted: wanted.into(), found: found.into() }
}

/// What the facts of the request do not allow. `last`: the request of the last run that succeeded, of the same action
/// and model; `training_data_ms`: how far the data to train on reach back.
pub fn unmet_facts(
    guards: &Guards,
    request: &ActionRequest,
    last: Option<&ActionRequest>,
    training_data_ms: i64,
) -> Vec<Unmet> {
    let mut found = Vec::new();
    if let Some(least) = guards.new_rows {
        let rows = new_rows(request, last);
        if rows < least {
            found.push(unmet("new_rows", format!(">= {least}"), rows.to_string()));
        }
    }
    if let Some(least) = guards.label_coverage {
        match label_coverage(request, training_data_ms) {
            Some(coverage) if coverage >= least.share() => {}
            Some(coverage) => {
                // Rounded down: 79.99% is not the 80% that was asked for.
                let percent = (coverage * 1_000.0).floor() / 10.0;
                found.push(unmet("label_coverage", format!(">= {least}"), format!("{percent}%")));
            }
            None => found.push(unmet("label_coverage", format!(">= {least}"), "no prediction that awaits a label")),
        }
    }
    let firing: Vec<&str> =
        guards.no_alerts.iter().map(String::as_str).filter(|rule| request.facts.firing.contains(*rule)).collect();
    if !firing.is_empty() {
        found.push(unmet("no_alerts", format!("no alert of {}", guards.no_alerts.join(", ")), firing.join(", ")));
    }
    found
}

/// What the registry does not allow: a rollback is of the version that the alert is about, and never of another.
pub fn unmet_registry(guards: &Guards, request: &ActionRequest, registry: &Registry, now_ms: i64) -> Vec<Unmet> {
    let mut found = Vec::new();
    if registry.production.as_deref() != Some(request.version.as_str()) {
        let in_production = registry.production.clone().unwrap_or_else(|| "no version".into());
        found.push(unmet("production", format!("version {} of the alert", request.version), in_production));
    }
    if registry.previous.is_none() {
        found.push(unmet("previous", "a version that was in production before", "none"));
    }
    if let Some(within) = guards.within {
        let wanted = format!("{within} of promotion");
        match registry.promoted_at_ms {
            None => found.push(unmet("within", wanted, "not known")),
            Some(promoted_ms) if now_ms - promoted_ms > within.ms => {
                found.push(unmet("within", wanted, format!("{} after it", rounded(now_ms - promoted_ms))));
            }
            Some(_) => {}
        }
    }
    found
}

/// Events that the last run has not seen: of later days, and what has come since of the day on which its data end.
/// Without such a run, all that are known.
pub fn new_rows(request: &ActionRequest, last: Option<&ActionRequest>) -> u64 {
    let rows = &request.facts.rows_by_day;
    let Some(last) = last else { return rows.iter().map(|(_, count)| count).sum() };
    let last_day = last.facts.rows_by_day.iter().map(|(day, _)| *day).max().unwrap_or(i64::MIN);
    let seen = |day: i64| last.facts.rows_by_day.iter().filter(|(of, _)| *of == day).map(|(_, count)| count).sum();
    let unseen = rows.iter().filter(|(day, _)| *day >= last_day);
    unseen.map(|(day, count)| if *day == last_day { count.saturating_sub(seen(*day)) } else { *count }).sum()
}

/// Share of the predictions to train on whose label is known, 0 to 1; `None` without predictions that await one.
pub fn label_coverage(request: &ActionRequest, training_data_ms: i64) -> Option<f64> {
    let first_day = request.window.end_ms.saturating_sub(training_data_ms).div_euclid(DAY_MS);
    let of_days = request.facts.labels_by_day.iter().filter(|(day, _, _)| *day >= first_day);
    let (predictions, labelled) =
        of_days.fold((0_u64, 0_u64), |(all, known), (_, predictions, labels)| (all + predictions, known + labels));
    (predictions > 0).then(|| labelled as f64 / predictions as f64)
}

/// A length of time for people: whole days, hours, minutes or seconds, rounded down.
pub fn rounded(ms: i64) -> Span {
    let unit_ms = [DAY_MS, 3_600_000, 60_000, 1_000].into_iter().find(|unit_ms| ms >= 2 * unit_ms).unwrap_or(1_000);
    Span::from_ms(ms.max(0) / unit_ms * unit_ms)
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeSet;

    use super::{Guards, Registry, Span, label_coverage, new_rows, rounded, unmet_facts, unmet_registry};
    use crate::config::rules::Severity;
    use crate::config::units::Share;
    use crate::rules::action_request::{ActionFacts, ActionRequest, Positions};
    use crate::windows::result::{Segment, Window};

    pub const DAY_MS: i64 = super::DAY_MS;

    /// A request of day 100 about `fraud@3`, with 1 000 events and 900 of 1 000 labels a day for 40 days.
    pub fn request(action: &str, episode: &str) -> ActionRequest {
        let window = Window { start_ms: 100 * DAY_MS - 3_600_000, end_ms: 100 * DAY_MS };
        ActionRequest {
            action: action.into(),
            episode_id: episode.into(),
            rule: "quality-drop".into(),
            model: "fraud".into(),
            version: "3".into(),
            segment: Segment::default(),
            severity: Severity::Critical,
            summary: "quality-drop critical: fraud@3, roc_auc 0.81".into(),
            first_window: window,
            window,
            reference: "training".into(),
            reference_id: "sha256:5f2c".into(),
            facts: ActionFacts {
                rows_by_day: (60..100).map(|day| (day, 1_000)).collect(),
                labels_by_day: (60..100).map(|day| (day, 1_000, 900)).collect(),
                firing: BTreeSet::from(["quality-drop".to_string()]),
                positions_by_day: vec![
                    Positions { window_end_ms: 60 * DAY_MS, next_offsets: vec![("tx".into(), 0, 10)] },
                    Positions { window_end_ms: 100 * DAY_MS, next_offsets: vec![("tx".into(), 0, 40_010)] },
                ],
            },
            at_ms: 100 * DAY_MS + 5_000,
        }
    }

    #[test]
    fn new_rows_are_those_that_the_last_run_has_not_seen() {
        let mut now = request("retrain", "e2");
        assert_eq!(new_rows(&now, None), 40_000);
        let last = request("retrain", "e1");
        assert_eq!(new_rows(&now, Some(&last)), 0);
        now.facts.rows_by_day = vec![(98, 1_000), (99, 1_400), (100, 1_000), (101, 30)];
        assert_eq!(new_rows(&now, Some(&last)), 400 + 1_000 + 30);
    }

    #[test]
    fn coverage_is_of_the_data_to_train_on_alone() {
        let mut now = request("retrain", "e");
        assert_eq!(label_coverage(&now, 30 * DAY_MS), Some(0.9));
        now.facts.labels_by_day = vec![(60, 1_000, 0), (98, 100, 50), (99, 100, 100)];
        assert_eq!(label_coverage(&now, 2 * DAY_MS), Some(0.75));
        assert_eq!(label_coverage(&now, 40 * DAY_MS), Some(150.0 / 1_200.0));
        now.facts.labels_by_day.clear();
        assert_eq!(label_coverage(&now, DAY_MS), None);
    }

    #[test]
    fn every_guard_that_does_not_hold_is_told_with_its_two_values() {
        let mut now = request("retrain", "e");
        now.facts.firing.insert("no-data".into());
        let guards = Guards {
            new_rows: Some(50_000),
            label_coverage: Some(Share { percent: 95.0 }),
            no_alerts: vec!["no-data".into(), "volume".into()],
            within: None,
        };
        let told: Vec<String> = unmet_facts(&guards, &now, None, 30 * DAY_MS).iter().map(ToString::to_string).collect();
        let expected = [
            "new_rows is 40000, wanted >= 50000",
            "label_coverage is 90%, wanted >= 95%",
            "no_alerts is no-data, wanted no alert of no-data, volume",
        ];
        assert_eq!(told, expected);
        let weaker =
            Guards { new_rows: Some(40_000), label_coverage: Some(Share { percent: 90.0 }), ..Guards::default() };
        assert_eq!(unmet_facts(&weaker, &now, None, 30 * DAY_MS), []);
    }

    #[test]
    fn only_the_version_of_the_alert_is_rolled_back() {
        let now = request("rollback", "e");
        let guards = Guards { within: Some(Span::from_days(3)), ..Guards::default() };
        let registry = |production: &str, promoted_at_ms: i64| Registry {
            production: Some(production.into()),
            previous: Some("2".into()),
            generation: 7,
            promoted_at_ms: Some(promoted_at_ms),
        };
        let guards_unmet = |registry: &Registry| -> Vec<String> {
            unmet_registry(&guards, &now, registry, 10 * DAY_MS).into_iter().map(|unmet| unmet.guard).collect()
        };
        assert!(guards_unmet(&registry("3", 7 * DAY_MS)).is_empty());
        assert_eq!(guards_unmet(&registry("4", 7 * DAY_MS)), ["production"]);
        assert_eq!(guards_unmet(&registry("3", 7 * DAY_MS - 1)), ["within"]);
        let new = Registry { production: None, previous: None, generation: 0, promoted_at_ms: None };
        assert_eq!(guards_unmet(&new), ["production", "previous", "within"]);
    }

    #[test]
    fn times_are_rounded_down_for_people() {
        for (ms, text) in [(400, "0s"), (90_000, "90s"), (3_600_000 * 30, "30h"), (DAY_MS * 9 + 5, "9d")] {
            assert_eq!(rounded(ms).to_string().replace("0ms", "0s"), text);
        }
    }
}
