//! Runs of actions for the pages, in several states.

use driftline::config::rules::Severity;
use driftline::dispatch::actions::manifest::Manifest;
use driftline::dispatch::actions::run::{Expected, External, RunRecord, RunState, Unmet};
use driftline::rules::action_request::{ActionFacts, ActionRequest, Positions};
use driftline::windows::result::{Segment, Window};

use super::{EPISODE, HOUR_MS, NOW_MS};

pub const BLOCKED: &str = "4f6d1c3be2d94c07aa12b3c4d5e6f708";
pub const ROLLED_BACK: &str = "0b3c7d2f9a8e4c61bb23c4d5e6f70819";
pub const ASKING: &str = "77a0b1c2d3e4f5061728394a5b6c7d8e";
pub const UNDER_WAY: &str = "c1d2e3f405162738495a6b7c8d9e0f1a";
pub const FAILED: &str = "9e8d7c6b5a4f3e2d1c0b9a8f7e6d5c4b";

fn run(id: &str, action: &str, episode: &str) -> RunRecord {
    let window = Window { start_ms: NOW_MS - 2 * HOUR_MS, end_ms: NOW_MS - HOUR_MS };
    let request = ActionRequest {
        action: action.into(),
        episode_id: episode.into(),
        rule: "feature-drift".into(),
        model: "fraud".into(),
        version: "3".into(),
        segment: Segment::default(),
        severity: Severity::Critical,
        summary: "feature-drift critical: fraud@3, `amount` PSI 0.41".into(),
        first_window: window,
        window,
        reference: "training".into(),
        reference_id: "sha256:5f2c".into(),
        facts: ActionFacts {
            positions_by_day: vec![Positions {
                window_end_ms: window.end_ms,
                next_offsets: vec![("predictions".into(), 0, 48_211), ("predictions".into(), 1, 48_007)],
            }],
            ..ActionFacts::default()
        },
        at_ms: NOW_MS - HOUR_MS,
    };
    let mut run = RunRecord::new(request, NOW_MS - HOUR_MS);
    run.run = id.into();
    run
}

pub fn runs() -> Vec<RunRecord> {
    let mut blocked = run(BLOCKED, "retrain-fraud", EPISODE);
    let unmet = |guard: &str, wanted: &str, found: &str| Unmet {
        guard: guard.into(),
        wanted: wanted.into(),
        found: found.into(),
    };
    let holds = vec![
        unmet("new_rows", ">= 50000", "31204"),
        unmet("label_coverage", ">= 80%", "64.2%"),
        unmet("cooldown", "3d since the last run", "26h since 9e8d7c6b5a4f3e2d1c0b9a8f7e6d5c4b"),
    ];
    let reason = holds.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    blocked.enter(RunState::Blocked, reason, NOW_MS - HOUR_MS + 40);
    blocked.unmet = holds;

    let mut rolled_back = run(ROLLED_BACK, "rollback-fraud", EPISODE);
    rolled_back.started_at_ms = Some(NOW_MS - HOUR_MS + 300);
    rolled_back.expected = Some(Expected { production: "3".into(), generation: 17 });
    rolled_back.attempts = 1;
    rolled_back.enter(RunState::Calling, "", NOW_MS - HOUR_MS + 300);
    rolled_back.enter(RunState::Accepted, "", NOW_MS - HOUR_MS + 420);
    rolled_back.enter(RunState::Succeeded, "2 is in production, not 3", NOW_MS - HOUR_MS + 420);

    let mut failed = run(FAILED, "retrain-fraud", "0a77d1c2");
    failed.manifest = Some(Manifest::new(
        &failed.request,
        &driftline::config::actions::Action::default(),
        "https://drift.example.com",
        NOW_MS - 26 * HOUR_MS,
    ));
    failed.approved_by = Some("ada".into());
    failed.attempts = 2;
    failed.external = Some(External {
        id: Some("driftline-9e8d".into()),
        url: Some("https://airflow.example.com/dags/retrain_fraud/runs/driftline-9e8d".into()),
    });
    failed.started_at_ms = Some(NOW_MS - 26 * HOUR_MS);
    for (state, reason, hours) in [
        (RunState::AwaitingConfirmation, "approved by ada", 27),
        (RunState::Calling, "", 26),
        (RunState::Accepted, "", 26),
        (RunState::Failed, "the DAG run failed", 25),
    ] {
        failed.enter(state, reason, NOW_MS - hours * HOUR_MS);
    }
    failed.helped = Some(false);

    let mut asking = run(ASKING, "retrain-fraud", "a5c1");
    asking.enter(RunState::AwaitingConfirmation, "a person must approve it", NOW_MS - 30 * HOUR_MS);
    let mut under_way = run(UNDER_WAY, "retrain-churn", "a5c2");
    under_way.external = Some(External::default());
    under_way.enter(RunState::Calling, "", NOW_MS - 40 * HOUR_MS);
    under_way.enter(RunState::Accepted, "", NOW_MS - 40 * HOUR_MS);
    vec![blocked, rolled_back, failed, asking, under_way]
}
