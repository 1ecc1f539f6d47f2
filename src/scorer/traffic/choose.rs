//! Which version answers one request: a function of the registry's state, the policy and the request.

use super::assign::{bucket, weighted};
use crate::config::scorer::traffic::{Experiment, TrafficPolicy};
use crate::scorer::registry::state::ServingState;
use crate::scorer::score::Arm;

/// What a request says about who is to answer it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask<'a> {
    pub model: &'a str,
    /// A version by name.
    pub version: Option<&'a str>,
    /// An arm by name.
    pub arm: Option<&'a str>,
    /// Meets the same version again.
    pub entity: Option<&'a str>,
    /// Stands in for a missing entity: each request is then dealt on its own.
    pub request_id: &'a str,
}

/// What traffic policy says of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The version that answers.
    pub version: String,
    pub arm: Arm,
    /// A version that is scored beside it, and whose answer only goes to events and comparisons.
    pub shadow: Option<String>,
    /// The arm of the experiment that the request met.
    pub exposure: Option<Exposure>,
    /// Whether chance chose: only such requests count in trials and experiments.
    pub counted: bool,
}

/// An arm of an experiment, met by a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exposure {
    pub experiment: String,
    pub arm: String,
}

/// Why nobody answers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChoiceError {
    /// Not ready.
    #[error("model {model} has no version in production: promote one")]
    NoProduction { model: String },
    /// The request's mistake.
    #[error("model {model} has no arm `{arm}` now: it has {}", known.join(", "))]
    UnknownArm { model: String, arm: String, known: Vec<String> },
    /// The request's mistake.
    #[error("requests may not name an arm: set `arm_override: true` under models.{model}.traffic to allow it")]
    OverrideNotAllowed { model: String },
}

/// Chooses.
///
/// # Errors
/// Nothing is in production, or the request names an arm that is not there or not for it to name.
pub fn choose(state: &ServingState, policy: &TrafficPolicy, ask: Ask<'_>) -> Result<Choice, ChoiceError> {
    if let Some(version) = ask.version {
        return Ok(named(version, Arm::Pinned));
    }
    let Some(production) = state.production.as_deref() else {
        return Err(ChoiceError::NoProduction { model: ask.model.into() });
    };
    if let Some(arm) = ask.arm {
        return overridden(state, policy, ask.model, production, arm);
    }
    let key = ask.entity.unwrap_or(ask.request_id);
    let exposure = policy.experiment.as_ref().and_then(|experiment| dealt(experiment, ask.model, key));
    if let Some((version, exposure)) = exposure.as_ref().filter(|(version, _)| *version != PRODUCTION) {
        let exposure = Some(exposure.clone());
        return Ok(Choice { version: (*version).into(), arm: Arm::Experiment, shadow: None, exposure, counted: true });
    }
    let exposure = exposure.map(|(_, exposure)| exposure);
    if let Some(canary) = &state.canary
        && bucket(ask.model, &canary.salt, key) < canary.buckets
    {
        return Ok(Choice { exposure, counted: true, ..named(&canary.version, Arm::Canary) });
    }
    let shadow = state.shadow.as_ref().filter(|version| gets_shadow(policy, ask.model, version, key)).cloned();
    Ok(Choice { shadow, exposure, counted: true, ..named(production, Arm::Production) })
}

/// The version of an experiment's arm that takes what is in production.
pub const PRODUCTION: &str = "production";

/// The versions that experiments ask for, beside those of the state.
pub fn experiment_versions(policy: &TrafficPolicy) -> impl Iterator<Item = &str> {
    let arms = policy.experiment.iter().flat_map(|experiment| &experiment.arms);
    arms.map(|arm| arm.version.as_str()).filter(|&version| version != PRODUCTION)
}

fn named(version: &str, arm: Arm) -> Choice {
    Choice { version: version.into(), arm, shadow: None, exposure: None, counted: false }
}

fn dealt<'a>(experiment: &'a Experiment, model: &str, key: &str) -> Option<(&'a str, Exposure)> {
    let salt = experiment.salt.as_deref().unwrap_or(&experiment.name);
    let bucket = bucket(model, salt, key);
    let arm = experiment.arms.get(weighted(bucket, experiment.arms.iter().map(|arm| arm.weight))?)?;
    Some((&arm.version, Exposure { experiment: experiment.name.clone(), arm: arm.name.clone() }))
}

fn gets_shadow(policy: &TrafficPolicy, model: &str, version: &str, key: &str) -> bool {
    let share = policy.shadow.share.percent;
    share >= 100.0 || f64::from(bucket(model, version, key)) < share * 100.0
}

fn overridden(
    state: &ServingState,
    policy: &TrafficPolicy,
    model: &str,
    production: &str,
    arm: &str,
) -> Result<Choice, ChoiceError> {
    if !policy.arm_override {
        return Err(ChoiceError::OverrideNotAllowed { model: model.into() });
    }
    let canary = state.canary.as_ref().map(|canary| ("canary", canary.version.as_str(), Arm::Canary));
    let of_state = [Some((PRODUCTION, production, Arm::Production)), canary];
    let of_experiment = policy.experiment.iter().flat_map(|experiment| &experiment.arms).map(|arm| {
        let version = if arm.version == PRODUCTION { production } else { arm.version.as_str() };
        (arm.name.as_str(), version, Arm::Experiment)
    });
    let mut arms = of_state.into_iter().flatten().chain(of_experiment);
    match arms.clone().find(|(name, ..)| *name == arm) {
        Some((_, version, arm)) => Ok(named(version, arm)),
        None => {
            let shown = arm.chars().take(40).flat_map(char::escape_debug).collect();
            let known = arms.by_ref().map(|(name, ..)| name.to_string()).collect();
            Err(ChoiceError::UnknownArm { model: model.into(), arm: shown, known })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::scorer::traffic::ExperimentArm;
    use crate::config::units::Share;
    use crate::scorer::registry::state::Canary;

    fn state(share: u32) -> ServingState {
        ServingState {
            production: Some("1".into()),
            canary: Some(Canary {
                version: "2".into(),
                buckets: share,
                salt: "2".into(),
                step: None,
                started_at_ms: 0,
                step_at_ms: 0,
            }),
            shadow: Some("3".into()),
            ..ServingState::default()
        }
    }

    fn ask(entity: &str) -> Ask<'_> {
        Ask { model: "fraud", version: None, arm: None, entity: Some(entity), request_id: "r" }
    }

    fn experiment() -> TrafficPolicy {
        let arm =
            |name: &str, version: &str, weight| ExperimentArm { name: name.into(), version: version.into(), weight };
        let arms = vec![arm("control", PRODUCTION, 70), arm("bold", "7", 30)];
        TrafficPolicy {
            arm_override: true,
            experiment: Some(Experiment { name: "tone".into(), salt: None, arms }),
            ..TrafficPolicy::default()
        }
    }

    #[test]
    fn an_entity_meets_the_same_version_until_the_share_changes() {
        let policy = TrafficPolicy::default();
        for share in [0, 100, 5_000, 10_000] {
            let state = state(share);
            let canaries = (0..2_000).filter(|n| {
                let entity = format!("customer-{n}");
                let first = choose(&state, &policy, ask(&entity)).unwrap();
                let again = Ask { request_id: "another", ..ask(&entity) };
                assert_eq!(first, choose(&state, &policy, again).unwrap());
                assert_eq!(first.version, if first.arm == Arm::Canary { "2" } else { "1" });
                // A shadow is compared with production, so it is scored beside production only.
                assert_eq!(first.shadow.is_some(), first.arm == Arm::Production);
                first.arm == Arm::Canary
            });
            let (canaries, expected) = (canaries.count(), share as usize / 5);
            assert!(canaries.abs_diff(expected) <= 70, "{canaries} of 2 000 at {share}, expected {expected}");
        }
    }

    #[test]
    fn without_an_entity_each_request_is_dealt_on_its_own() {
        let (state, policy) = (state(5_000), TrafficPolicy::default());
        let canaries = (0..1_000).filter(|n| {
            let id = format!("request-{n}");
            let ask = Ask { entity: None, request_id: &id, ..ask("") };
            choose(&state, &policy, ask).unwrap().arm == Arm::Canary
        });
        let canaries = canaries.count();
        assert!(canaries.abs_diff(500) < 80, "{canaries}");
    }

    #[test]
    fn a_version_by_name_is_answered_by_it_and_counts_nowhere() {
        let ask = Ask { version: Some("9"), ..ask("a") };
        let choice = choose(&ServingState::default(), &TrafficPolicy::default(), ask).unwrap();
        assert_eq!((choice.version.as_str(), choice.arm, choice.counted), ("9", Arm::Pinned, false));
    }

    #[test]
    fn an_arm_by_name_needs_leave_and_has_to_be_there() {
        let named = |arm| Ask { arm: Some(arm), ..ask("a") };
        let refused = choose(&state(100), &TrafficPolicy::default(), named("canary")).unwrap_err();
        assert!(refused.to_string().contains("models.fraud.traffic"), "{refused}");
        for (arm, version) in [("production", "1"), ("canary", "2"), ("control", "1"), ("bold", "7")] {
            let choice = choose(&state(0), &experiment(), named(arm)).unwrap();
            assert_eq!((choice.version.as_str(), choice.counted), (version, false), "{arm}");
        }
        let unknown = choose(&state(0), &experiment(), named("x\n")).unwrap_err().to_string();
        assert_eq!(unknown, "model fraud has no arm `x\\n` now: it has production, canary, control, bold");
    }

    #[test]
    fn an_experiment_deals_by_weight_and_its_production_arm_has_the_canary() {
        let (policy, state) = (experiment(), state(5_000));
        let mut counts = [0_usize; 3];
        for n in 0..10_000 {
            let choice = choose(&state, &policy, ask(&format!("customer-{n}"))).unwrap();
            let exposure = choice.exposure.unwrap();
            let place = match (exposure.arm.as_str(), choice.arm) {
                ("control", Arm::Production) => 0,
                ("control", Arm::Canary) => 1,
                ("bold", Arm::Experiment) => 2,
                other => panic!("{other:?}"),
            };
            counts[place] += 1;
        }
        for (count, expected) in counts.into_iter().zip([3_500, 3_500, 3_000]) {
            assert!(count.abs_diff(expected) < 250, "{counts:?}");
        }
        assert_eq!(experiment_versions(&policy).collect::<Vec<_>>(), ["7"]);
    }

    #[test]
    fn a_shadow_may_get_a_share_only() {
        let mut policy = TrafficPolicy::default();
        policy.shadow.share = Share { percent: 10.0 };
        let shadowed =
            (0..5_000).filter(|n| choose(&state(0), &policy, ask(&format!("customer-{n}"))).unwrap().shadow.is_some());
        let shadowed = shadowed.count();
        assert!(shadowed.abs_diff(500) < 100, "{shadowed}");
    }

    #[test]
    fn nothing_in_production_is_said() {
        let error = choose(&ServingState::default(), &TrafficPolicy::default(), ask("a")).unwrap_err();
        assert_eq!(error, ChoiceError::NoProduction { model: "fraud".into() });
    }
}
