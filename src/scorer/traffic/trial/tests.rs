//! The machine and its keeper.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::evidence::{LabelReport, LabelSide};
use super::keeper::{BY, Keeper, Turn};
use super::machine::{Outcome, Trial, Verdict};
use crate::config::scorer::traffic::{Better, Guards, LabelGuard, TrafficPolicy};
use crate::config::units::{Share, Span};
use crate::scorer::registry::register::Registration;
use crate::scorer::registry::state::ServingState;
use crate::scorer::registry::{Change, ChangeRequest, Registry, RollbackTo};
use crate::scorer::score::Arm;
use crate::scorer::traffic::counters::{Answer, Block, Counters};
use crate::scorer::traffic::{Choice, Exposure};

struct Place {
    _folder: tempfile::TempDir,
    registry: Arc<Registry>,
}

impl Place {
    /// Version 1 in production, 2 and 3 at hand.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let registry = Registry::open(folder.path()).unwrap();
        for number in 1..=3_u8 {
            let files = BTreeMap::from([("model.onnx".to_string(), vec![number; 64])]);
            let registration = Registration { model: "fraud".into(), files, ..Registration::default() };
            registry.register(&registration, None, 0).unwrap();
        }
        let place = Self { _folder: folder, registry: Arc::new(registry) };
        place.change(Change::Promote { version: "1".into(), force: false }, 0);
        place
    }

    fn change(&self, change: Change, now_ms: i64) -> ServingState {
        let request = ChangeRequest {
            change,
            expected_generation: None,
            expected_production: None,
            by: "ana".into(),
            reason: String::new(),
            request_id: None,
        };
        self.registry.change("fraud", &request, now_ms).unwrap().state
    }

    fn start(&self, version: &str, now_ms: i64) {
        let version = version.to_string();
        self.change(Change::SetCanary { version, buckets: 2_000, salt: None, step: Some(0), force: false }, now_ms);
    }

    fn state(&self) -> ServingState {
        self.registry.state("fraud").unwrap()
    }

    fn keeper(&self) -> Keeper {
        Keeper::new(Arc::clone(&self.registry))
    }
}

fn policy() -> TrafficPolicy {
    let mut policy = TrafficPolicy::default();
    policy.progressive.steps = [20.0, 50.0, 100.0].map(|percent| Share { percent }).to_vec();
    policy.progressive.min_requests = 100;
    policy.progressive.dwell = Span::from_ms(1_000);
    policy.progressive.guards.latency = None;
    policy
}

fn answers(counters: &Counters, version: &str, arm: Arm, answered: u64, failed: u64) {
    let choice = Choice { version: version.into(), arm, shadow: None, exposure: None, counted: true };
    for number in 0..answered + failed {
        let answer = if number < answered { Answer::Scored(&[]) } else { Answer::Failed };
        counters.record(&choice, answer, Duration::from_micros(100));
    }
}

fn verdict(turn: Option<Turn>) -> Option<Verdict> {
    turn.map(|turn| turn.decision.verdict)
}

#[test]
fn a_good_canary_goes_from_step_to_step_into_production_and_each_step_explains_itself() {
    let (place, policy, counters) = (Place::new(), policy(), Counters::default());
    place.start("2", 0);
    let mut seen = Vec::new();
    for second in 1..20 {
        // Another process, or this one after a restart: what was seen before is on disk.
        let turn = place.keeper().turn("fraud", &policy, &counters, second * 1_000).unwrap();
        seen.extend(verdict(turn));
        if place.state().production.as_deref() == Some("2") {
            break;
        }
        answers(&counters, "2", Arm::Canary, 400, 0);
        answers(&counters, "1", Arm::Production, 600, 0);
    }
    let of = |verdict| seen.iter().filter(|&&found| found == verdict).count();
    assert_eq!((of(Verdict::Advance), of(Verdict::Promote), of(Verdict::RollBack)), (1, 1, 0), "{seen:?}");
    assert!(of(Verdict::Hold) + of(Verdict::NotDecided) >= 2, "{seen:?}");
    let audit = place.registry.audit("fraud").unwrap();
    let promoted = audit.last().unwrap();
    assert_eq!((promoted.by.as_str(), promoted.to.production.as_deref()), (BY, Some("2")));
    for part in ["good enough", "errors", "canary 0.00000", "limit 0.01", "ln e"] {
        assert!(promoted.reason.contains(part), "`{part}` in {}", promoted.reason);
    }
    place.keeper().turn("fraud", &policy, &counters, 60_000).unwrap();
    assert_eq!(place.keeper().read("fraud").unwrap().unwrap().outcome, Some(Outcome::Promoted));
    assert_eq!(verdict(place.keeper().turn("fraud", &policy, &counters, 61_000).unwrap()), None);
}

#[test]
fn a_canary_that_fails_loses_its_traffic_before_its_dwell_is_over_and_is_rejected() {
    let (place, policy, counters) = (Place::new(), policy(), Counters::default());
    place.start("2", 0);
    let mut turns = 0;
    while place.state().canary.is_some() {
        turns += 1;
        assert!(turns < 10, "still there");
        place.keeper().turn("fraud", &policy, &counters, turns).unwrap();
        answers(&counters, "2", Arm::Canary, 15, 5);
        answers(&counters, "1", Arm::Production, 200, 1);
    }
    let state = place.state();
    assert_eq!((state.production.as_deref(), state.rejected.as_slice()), (Some("1"), ["2".to_string()].as_slice()));
    place.keeper().turn("fraud", &policy, &counters, 100).unwrap();
    assert_eq!(place.keeper().read("fraud").unwrap().unwrap().outcome, Some(Outcome::RolledBack));
    // A new canary is a new trial.
    place.start("3", 200);
    place.keeper().turn("fraud", &policy, &counters, 300).unwrap();
    let trial = place.keeper().read("fraud").unwrap().unwrap();
    assert_eq!((trial.canary.as_str(), trial.outcome, trial.evidence.totals.canary.requests), ("3", None, 0));
}

#[test]
fn what_somebody_else_changes_stands_and_ends_the_trial() {
    type ByHand = fn(&Place);
    let by_hand: [(&str, ByHand); 3] = [
        ("promotion", |place| drop(place.change(Change::Promote { version: "3".into(), force: false }, 50))),
        ("another canary's end", |place| drop(place.change(Change::ClearCanary { version: None, reject: false }, 50))),
        ("share by hand", |place| {
            let change = Change::SetCanary { version: "2".into(), buckets: 777, salt: None, step: None, force: false };
            place.change(change, 50);
        }),
    ];
    for (what, change) in by_hand {
        let (place, policy, counters) = (Place::new(), policy(), Counters::default());
        place.start("2", 0);
        place.keeper().turn("fraud", &policy, &counters, 1).unwrap();
        change(&place);
        let after = place.state();
        for second in 1..5 {
            answers(&counters, "2", Arm::Canary, 0, 500);
            answers(&counters, "1", Arm::Production, 500, 0);
            place.keeper().turn("fraud", &policy, &counters, second * 10_000).unwrap();
        }
        assert_eq!(place.state(), after, "{what}");
        assert_eq!(place.keeper().read("fraud").unwrap().unwrap().outcome, Some(Outcome::Stopped), "{what}");
    }
}

#[test]
fn a_decision_that_comes_too_late_changes_nothing() {
    let (place, policy) = (Place::new(), policy());
    place.start("2", 0);
    let state = place.state();
    let mut trial = Trial::begin(&state).unwrap();
    let mut block = Block::default();
    (block.canary.requests, block.canary.errors, block.production.requests) = (500, 250, 500);
    trial.advance(&block, &policy.progressive, &state, 10).unwrap();
    let decision = trial.advance(&block, &policy.progressive, &state, 20).unwrap();
    assert_eq!(decision.verdict, Verdict::RollBack);
    place.change(Change::Promote { version: "2".into(), force: false }, 30);
    let request = ChangeRequest {
        change: decision.change(&trial).unwrap(),
        expected_generation: Some(state.generation),
        expected_production: None,
        by: BY.into(),
        reason: decision.says,
        request_id: None,
    };
    let refused = place.registry.change("fraud", &request, 40).unwrap_err().to_string();
    assert!(refused.contains("generation"), "{refused}");
    assert_eq!(place.state().production.as_deref(), Some("2"));
}

#[test]
fn processes_on_one_registry_add_up_their_counts() {
    let (place, policy) = (Place::new(), policy());
    place.start("2", 0);
    let processes: Vec<(Keeper, Counters)> = (0..3).map(|_| (place.keeper(), Counters::default())).collect();
    for turn in 0..4 {
        for (keeper, counters) in &processes {
            keeper.turn("fraud", &policy, counters, turn).unwrap();
            answers(counters, "2", Arm::Canary, 9, 1);
            answers(counters, "1", Arm::Production, 36, 4);
        }
    }
    let totals = place.keeper().read("fraud").unwrap().unwrap().evidence.totals;
    assert_eq!((totals.canary.requests, totals.canary.errors, totals.production.requests), (90, 9, 360));
}

#[test]
fn labels_that_come_later_roll_back_and_are_needed_to_go_on() {
    let (place, mut policy, counters) = (Place::new(), policy(), Counters::default());
    let guard = LabelGuard { metric: "accuracy".into(), better: Better::Higher, max_worse: 0.02, min_labels: 200 };
    policy.progressive.guards = Guards { label_metric: Some(guard), ..Guards::default() };
    place.start("2", 0);
    place.keeper().turn("fraud", &policy, &counters, 1).unwrap();
    answers(&counters, "2", Arm::Canary, 500, 0);
    answers(&counters, "1", Arm::Production, 500, 0);
    let turn = place.keeper().turn("fraud", &policy, &counters, 9_000).unwrap();
    assert_eq!(verdict(turn), Some(Verdict::NotDecided));
    let side = |mean: f64| LabelSide { n: 4_000, mean, variance: mean * (1.0 - mean) }.moments().unwrap();
    let report = LabelReport { metric: "accuracy".into(), canary: side(0.8), production: side(0.9), at_ms: 9_500 };
    let wrong = place.keeper().report_labels("fraud", ("3", "1"), report.clone()).unwrap_err().to_string();
    assert!(wrong.contains("canary 2 against production 1"), "{wrong}");
    place.keeper().report_labels("fraud", ("2", "1"), report).unwrap();
    assert_eq!(verdict(place.keeper().turn("fraud", &policy, &counters, 10_000).unwrap()), Some(Verdict::RollBack));
    assert!(LabelSide { n: 1, mean: f64::NAN, variance: 0.0 }.moments().is_err());
}

#[test]
fn arms_of_an_experiment_are_kept_across_restarts() {
    let (place, mut policy) = (Place::new(), policy());
    policy.experiment =
        Some(crate::config::scorer::traffic::Experiment { name: "tone".into(), salt: None, arms: Vec::new() });
    for _ in 0..2 {
        let counters = Counters::default();
        let exposure = Some(Exposure { experiment: "tone".into(), arm: "bold".into() });
        let choice = Choice { version: "3".into(), arm: Arm::Experiment, shadow: None, exposure, counted: true };
        counters.record(&choice, Answer::Failed, Duration::ZERO);
        place.keeper().turn("fraud", &policy, &counters, 1).unwrap();
    }
    assert_eq!(place.keeper().experiment("fraud").unwrap()["tone"]["bold"].errors, 2);
}

fn any_change() -> impl Strategy<Value = Change> {
    let version = || (1_u8..5).prop_map(|number| number.to_string());
    prop_oneof![
        (version(), any::<bool>()).prop_map(|(version, force)| Change::Promote { version, force }),
        (version(), version())
            .prop_map(|(to, production)| Change::Rollback { to: RollbackTo::Version(to), production }),
        (version(), 0_u32..=10_000).prop_map(|(version, buckets)| Change::SetCanary {
            version,
            buckets,
            salt: None,
            step: Some(0),
            force: false
        }),
        Just(Change::ClearCanary { version: None, reject: true }),
        version().prop_map(|version| Change::SetShadow { version }),
    ]
}

proptest! {
    /// An alert names the version that it is about; by the time it is acted on anything may have been changed.
    #[test]
    fn an_alert_about_an_old_version_never_rolls_back_the_new_one(
        changes in prop::collection::vec(any_change(), 1..30), alert_after in 0_usize..30,
    ) {
        let mut state = ServingState::default();
        let mut alert: Option<String> = None;
        for (number, change) in changes.iter().enumerate() {
            if number == alert_after % changes.len() {
                alert.clone_from(&state.production);
            }
            if let Ok(Some(next)) = change.apply(&state, number as i64) {
                state = next;
            }
            let Some(about) = &alert else { continue };
            let rollback = Change::Rollback { to: RollbackTo::LastGood, production: about.clone() };
            match rollback.apply(&state, 99) {
                Ok(Some(after)) => {
                    prop_assert_eq!(state.production.as_ref(), Some(about), "only the version of the alert goes");
                    prop_assert_ne!(after.production.as_ref(), Some(about));
                    prop_assert!(after.rejected.contains(about));
                }
                Ok(None) => prop_assert!(false, "a rollback changes something or is refused"),
                Err(_) => {}
            }
            if state.production.as_ref() != Some(about) {
                prop_assert!(rollback.apply(&state, 99).is_err());
            }
        }
    }
}
