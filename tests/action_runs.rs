//! What becomes of runs of actions: their life cycle, what holds them back, and what the role promises on the log
//! through kills. The machine alone is asked first, then the role on the embedded log.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod action_support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use action_support::{DAY_MS, HOUR_MS, LIMITS, START_MS, actions, machine, request};
use async_trait::async_trait;
use driftline::config::actions::Action;
use driftline::dispatch::actions::guard::Registry;
use driftline::dispatch::actions::machine::{Effect, Input, Machine};
use driftline::dispatch::actions::restore::read_runs;
use driftline::dispatch::actions::role::{ActionsConfig, run};
use driftline::dispatch::actions::run::{External, RunRecord, RunState, run_id};
use driftline::dispatch::actions::target::{CallOutcome, Progress, Target, Targets};
use driftline::dispatch::control::{Command, ControlRecord};
use driftline::log::embedded::EmbeddedLog;
use driftline::log::topics::Topics;
use driftline::log::{Log, LogError, OutRecord};
use driftline::rules::action_request::ActionRequest;
use driftline::telemetry::Metrics;
use proptest::prelude::*;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

const WEBHOOK: &str = "webhook: {url: 'https://train.example.com'}";

fn command(command: Command) -> Input {
    Input::Command(control(command))
}

fn control(command: Command) -> ControlRecord {
    // Far ahead: given when it is read.
    let at_ms = START_MS + 365 * DAY_MS;
    ControlRecord { id: format!("{:016x}", rand::random::<u64>()), at_ms, by: "ada".into(), command }
}

fn ask(machine: &mut Machine, request: ActionRequest, now_ms: i64) -> RunRecord {
    let run = run_id(&request);
    machine.step(Input::Request(Box::new(request)), now_ms);
    machine.step(Input::Decide, now_ms);
    state_of(machine, &run)
}

fn state_of(machine: &Machine, run: &str) -> RunRecord {
    machine.runs().find(|record| record.run == run).cloned().expect("the run is held")
}

/// Runs whose target is called now.
fn calls(machine: &mut Machine, now_ms: i64) -> Vec<RunRecord> {
    let effects = machine.step(Input::Tick, now_ms);
    let called = |effect| match effect {
        Effect::Call(record) => Some(*record),
        _ => None,
    };
    effects.into_iter().filter_map(called).collect()
}

fn accepted() -> CallOutcome {
    CallOutcome::Accepted { external: External { id: Some("x".into()), url: None } }
}

/// Goes ahead, is accepted and succeeds, a minute later.
fn succeed(machine: &mut Machine, run: &str, now_ms: i64) {
    assert_eq!(calls(machine, now_ms).len(), 1);
    machine.step(Input::Called { run: run.into(), outcome: accepted(), jitter: 0.5 }, now_ms);
    let progress = Progress::Succeeded { message: "trained".into() };
    machine.step(Input::Progress { run: run.into(), progress }, now_ms + 60_000);
    assert_eq!(state_of(machine, run).state, RunState::Succeeded);
}

#[test]
fn a_run_goes_from_request_to_success() {
    let mut machine = machine(&[("retrain", &format!("{{{WEBHOOK}, cooldown: 72h}}"))]);
    let run = ask(&mut machine, request("retrain", "e1"), START_MS);
    assert_eq!((run.state, run.manifest.is_some()), (RunState::Calling, true));
    succeed(&mut machine, &run.run, START_MS + 1);
    let states: Vec<&str> =
        state_of(&machine, &run.run).history.iter().map(|transition| transition.state.word()).collect();
    assert_eq!(states, ["requested", "calling", "accepted", "succeeded"]);
    // However often it is asked for, it has run.
    let again = ask(&mut machine, request("retrain", "e1"), START_MS + 200 * DAY_MS);
    assert_eq!(again.state, RunState::Succeeded);
    assert!(calls(&mut machine, START_MS + 200 * DAY_MS).is_empty());
}

#[test]
fn a_blocked_run_tells_everything_that_holds_it_back_and_goes_ahead_once_nothing_does() {
    let guard = "guard: {new_rows: '>= 70000', label_coverage: '>= 95%', no_alerts: [no-data]}";
    let mut machine = machine(&[("retrain", &format!("{{{WEBHOOK}, {guard}, cooldown: 72h}}"))]);
    let mut asked = request("retrain", "e1");
    asked.facts.firing.insert("no-data".into());
    let blocked = ask(&mut machine, asked.clone(), START_MS);
    assert_eq!(blocked.state, RunState::Blocked);
    let expected = "new_rows is 60000, wanted >= 70000; label_coverage is 90%, wanted >= 95%; \
         no_alerts is no-data, wanted no alert of no-data";
    assert_eq!(blocked.reason(), expected);
    asked.facts.firing.clear();
    asked.facts.rows_by_day.push((asked.window.end_ms / DAY_MS, 10_000));
    asked.facts.labels_by_day.iter_mut().for_each(|day| day.2 = 1_000);
    asked.at_ms += HOUR_MS;
    let ahead = ask(&mut machine, asked.clone(), START_MS + HOUR_MS);
    assert_eq!((ahead.state, ahead.unmet.len()), (RunState::Calling, 0));
    assert_eq!(ahead.request, asked, "the manifest is made of the newest facts");
}

#[test]
fn a_run_that_waits_ends_with_its_alert() {
    let cases = [
        (format!("{{{WEBHOOK}, guard: {{new_rows: '>= 1000000'}}, cooldown: 72h}}"), RunState::Blocked),
        (format!("{{{WEBHOOK}, confirm: ask, cooldown: 72h}}"), RunState::AwaitingConfirmation),
    ];
    for (yaml, waits) in cases {
        let mut machine = machine(&[("retrain", &yaml)]);
        let run = ask(&mut machine, request("retrain", "e1"), START_MS);
        assert_eq!(run.state, waits);
        machine.step(Input::EpisodeEnded { episode_id: "e1".into() }, START_MS + 1);
        assert_eq!(state_of(&machine, &run.run).state, RunState::Lapsed);
        machine.step(command(Command::Approve { run: run.run.clone() }), START_MS + 2);
        machine.step(Input::Decide, START_MS + 2);
        assert!(calls(&mut machine, START_MS + 2).is_empty());
    }
}

#[test]
fn the_cooldown_is_of_one_model_and_the_budget_of_all() {
    let budget = "budget: {max_runs: 2, per: 30d}";
    let mut machine = machine(&[("retrain", &format!("{{{WEBHOOK}, {budget}, cooldown: 72h}}"))]);
    let of = |model: &str, episode: &str| ActionRequest { model: model.into(), ..request("retrain", episode) };
    assert_eq!(ask(&mut machine, of("fraud", "e1"), START_MS).state, RunState::Calling);
    let too_soon = ask(&mut machine, of("fraud", "e2"), START_MS + HOUR_MS);
    assert!(too_soon.reason().starts_with("cooldown is 1h since"), "{}", too_soon.reason());
    assert_eq!(ask(&mut machine, of("loans", "e3"), START_MS + HOUR_MS).state, RunState::Calling);
    let over = ask(&mut machine, of("churn", "e4"), START_MS + HOUR_MS);
    assert_eq!(over.reason(), "budget is 2 runs, wanted at most 2 runs in 30d");
    // Both have passed; what was asked for last goes ahead with the window after that.
    let later = ActionRequest { at_ms: START_MS + 31 * DAY_MS, ..of("fraud", "e2") };
    assert_eq!(ask(&mut machine, later, START_MS + 31 * DAY_MS).state, RunState::Calling);
}

#[test]
fn a_person_approves_or_denies() {
    let mut machine = machine(&[("retrain", &format!("{{{WEBHOOK}, confirm: ask, cooldown: 1h, timeout: 12h}}"))]);
    let run = ask(&mut machine, request("retrain", "e1"), START_MS);
    assert_eq!(run.state, RunState::AwaitingConfirmation);
    assert!(calls(&mut machine, START_MS).is_empty());
    machine.step(command(Command::Approve { run: run.run.clone() }), START_MS + 5);
    machine.step(Input::Decide, START_MS + 5);
    let run = state_of(&machine, &run.run);
    assert_eq!((run.state, run.approved_by.as_deref()), (RunState::Calling, Some("ada")));

    let later_ms = START_MS + 2 * HOUR_MS;
    let run = ask(&mut machine, request("retrain", "e2"), later_ms);
    machine.step(command(Command::Deny { run: run.run.clone(), reason: "holiday".into() }), later_ms);
    assert_eq!(state_of(&machine, &run.run).reason(), "denied by ada: holiday");
    machine.step(command(Command::Approve { run: run.run.clone() }), later_ms);
    machine.step(Input::Decide, later_ms);
    assert_eq!(state_of(&machine, &run.run).state, RunState::Denied);

    let run = ask(&mut machine, request("retrain", "e3"), later_ms);
    machine.step(Input::Decide, later_ms + 12 * HOUR_MS);
    assert_eq!(state_of(&machine, &run.run).reason(), "nobody confirmed it within 12h");
}

#[test]
fn a_dry_run_goes_through_everything_and_calls_nothing() {
    let yaml = format!("{{{WEBHOOK}, dry_run: true, confirm: ask, cooldown: 72h}}");
    let mut dry = machine(&[("retrain", &yaml)]);
    let run = ask(&mut dry, request("retrain", "e1"), START_MS);
    assert_eq!((run.state, run.manifest.is_some()), (RunState::DryRun, true));
    assert!(dry.step(Input::Tick, START_MS).is_empty());
    assert_eq!(ask(&mut dry, request("retrain", "e2"), START_MS + HOUR_MS).state, RunState::Blocked);
    // Once it is meant, what was only tried does not hold it back.
    let mut meant = machine(&[("retrain", &format!("{{{WEBHOOK}, cooldown: 72h}}"))]);
    dry.runs().for_each(|record| meant.restore(record.clone()));
    assert_eq!(ask(&mut meant, request("retrain", "e2"), START_MS + HOUR_MS).state, RunState::Calling);
}

#[test]
fn an_action_whose_runs_do_not_help_is_suspended_until_a_person_resumes_it() {
    let mut machine = machine(&[("retrain", &format!("{{{WEBHOOK}, cooldown: 24h, suspend_after: 2}}"))]);
    let mut now_ms = START_MS;
    for episode in ["e1", "e2"] {
        let run = ask(&mut machine, request("retrain", episode), now_ms);
        succeed(&mut machine, &run.run, now_ms);
        now_ms += 2 * DAY_MS; // and the alert still fires
        machine.step(Input::Decide, now_ms);
        assert_eq!(state_of(&machine, &run.run).helped, Some(false));
    }
    let run = ask(&mut machine, request("retrain", "e3"), now_ms);
    assert_eq!(run.state, RunState::Suspended);
    assert!(run.reason().contains("driftline actions resume retrain --model fraud"), "{}", run.reason());
    // Other models go on.
    let other = ActionRequest { model: "loans".into(), ..request("retrain", "e4") };
    assert_eq!(ask(&mut machine, other, now_ms).state, RunState::Calling);
    let resume = Command::Resume { action: "retrain".into(), model: "fraud".into() };
    machine.step(command(resume), now_ms);
    machine.step(Input::Decide, now_ms);
    assert_eq!(state_of(&machine, &run.run).state, RunState::Calling);
}

#[test]
fn a_run_has_helped_if_its_alert_ends_and_none_of_its_rule_asks_again_within_the_cooldown() {
    let yaml = format!("{{{WEBHOOK}, cooldown: 24h}}");
    let run_once = |machine: &mut Machine| {
        let run = ask(machine, request("retrain", "e1"), START_MS).run;
        succeed(machine, &run, START_MS);
        run
    };
    let judged_ms = START_MS + 60_000 + DAY_MS + 1;
    // Ended in time.
    let mut ended = machine(&[("retrain", &yaml)]);
    let run = run_once(&mut ended);
    ended.step(Input::EpisodeEnded { episode_id: "e1".into() }, START_MS + HOUR_MS);
    ended.step(Input::Decide, judged_ms - 2_000);
    assert_eq!(state_of(&ended, &run).helped, None, "not before the cooldown has passed");
    ended.step(Input::Decide, judged_ms);
    assert_eq!(state_of(&ended, &run).helped, Some(true));
    // Ended, but another alert of the rule came.
    let mut again = machine(&[("retrain", &yaml)]);
    let run = run_once(&mut again);
    again.step(Input::EpisodeEnded { episode_id: "e1".into() }, START_MS + HOUR_MS);
    ask(&mut again, request("retrain", "e2"), START_MS + 2 * HOUR_MS);
    assert_eq!(state_of(&again, &run).helped, Some(false));
    // Another rule, or another model, says nothing about it.
    let mut others = machine(&[("retrain", &yaml)]);
    let run = run_once(&mut others);
    ask(&mut others, ActionRequest { rule: "score-shift".into(), ..request("retrain", "e3") }, START_MS + 2 * HOUR_MS);
    ask(&mut others, ActionRequest { model: "loans".into(), ..request("retrain", "e4") }, START_MS + 2 * HOUR_MS);
    assert_eq!(state_of(&others, &run).helped, None);
    // Failed.
    let mut failed = machine(&[("retrain", &yaml)]);
    let run = ask(&mut failed, request("retrain", "e1"), START_MS).run;
    calls(&mut failed, START_MS);
    failed.step(
        Input::Called { run: run.clone(), outcome: CallOutcome::permanent("no such DAG"), jitter: 0.0 },
        START_MS,
    );
    let record = state_of(&failed, &run);
    assert_eq!((record.state, record.helped, record.reason()), (RunState::Failed, Some(false), "refused: no such DAG"));
}

#[test]
fn a_call_that_was_refused_can_be_made_again_with_the_same_key_once_its_cause_is_mended() {
    let mut machine = machine(&[("retrain", &format!("{{{WEBHOOK}, cooldown: 72h}}"))]);
    let run = ask(&mut machine, request("retrain", "e1"), START_MS).run;
    assert_eq!(calls(&mut machine, START_MS).len(), 1);
    machine.step(Input::Called { run: run.clone(), outcome: CallOutcome::permanent("401"), jitter: 0.0 }, START_MS);
    machine.step(command(Command::Approve { run: run.clone() }), START_MS + HOUR_MS);
    machine.step(Input::Decide, START_MS + HOUR_MS);
    let called = calls(&mut machine, START_MS + HOUR_MS);
    assert_eq!(called.iter().map(|record| record.run.clone()).collect::<Vec<_>>(), std::slice::from_ref(&run));
    machine.step(Input::Called { run: run.clone(), outcome: accepted(), jitter: 0.0 }, START_MS + HOUR_MS);
    let failed = Progress::Failed { reason: "no data".into() };
    machine.step(Input::Progress { run: run.clone(), progress: failed }, START_MS + 2 * HOUR_MS);
    // What the target took and failed at is over.
    machine.step(command(Command::Approve { run: run.clone() }), START_MS + 3 * HOUR_MS);
    machine.step(Input::Decide, START_MS + 3 * HOUR_MS);
    assert_eq!(state_of(&machine, &run).state, RunState::Failed);
}

#[test]
fn a_command_that_is_read_again_changes_nothing() {
    let mut machine = machine(&[("retrain", &format!("{{{WEBHOOK}, cooldown: 72h}}"))]);
    let run = ask(&mut machine, request("retrain", "e1"), START_MS).run;
    let approve = Input::Command(control(Command::Approve { run: run.clone() }));
    let refuse = |machine: &mut Machine, at_ms: i64| {
        assert_eq!(calls(machine, at_ms).len(), 1);
        machine.step(Input::Called { run: run.clone(), outcome: CallOutcome::permanent("401"), jitter: 0.0 }, at_ms);
    };
    refuse(&mut machine, START_MS);
    machine.step(approve.clone(), START_MS + HOUR_MS);
    machine.step(Input::Decide, START_MS + HOUR_MS);
    refuse(&mut machine, START_MS + HOUR_MS);
    assert_eq!(machine.step(approve, START_MS + 2 * HOUR_MS), []);
    machine.step(Input::Decide, START_MS + 2 * HOUR_MS);
    assert_eq!(state_of(&machine, &run).state, RunState::Failed);
}

#[test]
fn calls_are_repeated_until_the_target_takes_them_or_the_time_is_up() {
    let mut machine = machine(&[("retrain", &format!("{{{WEBHOOK}, cooldown: 72h, timeout: 1h}}"))]);
    let run = ask(&mut machine, request("retrain", "e1"), START_MS).run;
    let mut now_ms = START_MS;
    let mut manifests = BTreeSet::new();
    for attempt in 1..=6 {
        let called = calls(&mut machine, now_ms);
        assert_eq!(called.len(), 1, "attempt {attempt}");
        manifests.insert(serde_json::to_string(&called[0].manifest).unwrap());
        assert!(calls(&mut machine, now_ms).is_empty(), "one call at a time");
        let outcome = CallOutcome::Retry { reason: "503".into(), after_ms: (attempt == 3).then_some(10_000) };
        machine.step(Input::Called { run: run.clone(), outcome, jitter: 1.0 }, now_ms);
        assert!(calls(&mut machine, now_ms).is_empty());
        now_ms += if attempt == 3 { 10_000 } else { LIMITS.max_retry_ms };
    }
    assert_eq!(manifests.len(), 1, "the same manifest at every attempt");
    machine.step(Input::Decide, START_MS + HOUR_MS);
    let record = state_of(&machine, &run);
    assert_eq!((record.state, record.attempts), (RunState::Failed, 6));
    assert_eq!(record.reason(), "not accepted within 1h: 503");
}

#[test]
fn an_accepted_run_is_asked_how_it_goes_until_it_ends_or_its_time_is_up() {
    let mut machine = machine(&[("retrain", &format!("{{{WEBHOOK}, cooldown: 72h, timeout: 1h}}"))]);
    let run = ask(&mut machine, request("retrain", "e1"), START_MS).run;
    calls(&mut machine, START_MS);
    machine.step(Input::Called { run: run.clone(), outcome: accepted(), jitter: 0.5 }, START_MS);
    let asks = |machine: &mut Machine, now_ms: i64| {
        machine.step(Input::Tick, now_ms).iter().filter(|effect| matches!(effect, Effect::AskProgress(_))).count()
    };
    assert_eq!(asks(&mut machine, START_MS), 0);
    assert_eq!(asks(&mut machine, START_MS + LIMITS.progress_ms), 1);
    assert_eq!(asks(&mut machine, START_MS + LIMITS.progress_ms), 0, "one question at a time");
    let effects = machine.step(Input::Progress { run: run.clone(), progress: Progress::Running }, START_MS + 30);
    assert_eq!(effects, [], "nothing new is not worth a record");
    let unknown = Progress::Unknown { reason: "http status 502".into() };
    machine.step(Input::Progress { run: run.clone(), progress: unknown }, START_MS + 60);
    assert_eq!(state_of(&machine, &run).last_error.as_deref(), Some("http status 502"));
    machine.step(Input::Decide, START_MS + HOUR_MS);
    assert_eq!(state_of(&machine, &run).reason(), "it had not ended after 1h");
}

#[test]
fn whoever_runs_it_can_report_how_it_went() {
    let mut machine = machine(&[("retrain", &format!("{{{WEBHOOK}, cooldown: 1h}}"))]);
    let run = ask(&mut machine, request("retrain", "e1"), START_MS).run;
    let report = |run: &str, succeeded| Command::Report { run: run.into(), succeeded, message: "auc 0.91".into() };
    calls(&mut machine, START_MS);
    let outcome = CallOutcome::Accepted { external: External::default() };
    machine.step(Input::Called { run: run.clone(), outcome, jitter: 0.0 }, START_MS);
    assert!(machine.step(Input::Tick, START_MS + DAY_MS / 2).is_empty(), "nobody can be asked");
    machine.step(command(report(&run, true)), START_MS + 5);
    assert_eq!(state_of(&machine, &run).reason(), "reported by ada: auc 0.91");
    machine.step(command(report(&run, false)), START_MS + 6);
    assert_eq!(state_of(&machine, &run).state, RunState::Succeeded, "the first report counts");
    // A report can be faster than the answer to the call.
    let run = ask(&mut machine, request("retrain", "e2"), START_MS + 2 * HOUR_MS).run;
    calls(&mut machine, START_MS + 2 * HOUR_MS);
    machine.step(command(report(&run, false)), START_MS + 2 * HOUR_MS);
    machine.step(Input::Called { run: run.clone(), outcome: accepted(), jitter: 0.0 }, START_MS + 2 * HOUR_MS);
    assert_eq!(state_of(&machine, &run).state, RunState::Failed);
}

#[test]
fn a_rollback_asks_the_scorer_first_and_never_touches_another_version() {
    let yaml = "{rollback: {scorer: 'http://127.0.0.1:9000'}, guard: {within: 72h of promotion}, cooldown: 6h}";
    let registry = |production: &str, promoted_at_ms: i64| Registry {
        production: Some(production.into()),
        previous: Some("2".into()),
        generation: 17,
        promoted_at_ms: Some(promoted_at_ms),
    };
    let mut machine = machine(&[("rollback", yaml)]);
    let mut decide = |episode: &str, answer: Result<Registry, String>, now_ms: i64| {
        let run = ask(&mut machine, request("rollback", episode), now_ms);
        assert_eq!(run.state, RunState::Requested, "nothing is decided before the scorer has answered");
        let asked = machine.step(Input::Tick, now_ms);
        assert!(matches!(asked.as_slice(), [Effect::AskRegistry(_)]), "{asked:?}");
        machine.step(Input::Registry { run: run.run.clone(), answer }, now_ms);
        machine.step(Input::Decide, now_ms);
        state_of(&machine, &run.run)
    };
    let newer = decide("e1", Ok(registry("4", START_MS)), START_MS);
    assert_eq!(newer.reason(), "production is 4, wanted version 3 of the alert");
    let old = decide("e2", Ok(registry("3", START_MS - 4 * DAY_MS)), START_MS);
    assert_eq!(old.reason(), "within is 4d after it, wanted 3d of promotion");
    let away = decide("e3", Err("http status 503".into()), START_MS);
    assert_eq!(away.reason(), "scorer is http status 503, wanted what is in production");
    let ahead = decide("e4", Ok(registry("3", START_MS - DAY_MS)), START_MS);
    let expected = ahead.expected.unwrap();
    assert_eq!((ahead.state, expected.production.as_str(), expected.generation), (RunState::Calling, "3", 17));
    assert!(ahead.manifest.is_none(), "nothing is trained");
    let called = calls(&mut machine, START_MS);
    assert_eq!(called.len(), 1, "only the one that is right is rolled back");
    let done = CallOutcome::Done { message: "2 is in production, not 3".into() };
    machine.step(Input::Called { run: called[0].run.clone(), outcome: done, jitter: 0.0 }, START_MS);
    assert_eq!(state_of(&machine, &called[0].run).state, RunState::Succeeded);
    // The scorer that was away is asked again, without another window.
    machine.step(Input::Decide, START_MS + 2_000);
    let again = state_of(&machine, &away.run);
    assert!(again.reason().starts_with("cooldown is"), "{}", again.reason());
}

#[test]
fn an_action_that_is_gone_blocks_its_runs_and_old_runs_are_forgotten() {
    let yaml = format!("{{{WEBHOOK}, cooldown: 72h}}");
    let mut before = machine(&[("retrain", &yaml)]);
    let run = ask(&mut before, request("retrain", "e1"), START_MS).run;
    succeed(&mut before, &run, START_MS);
    let mut gone = machine(&[]);
    before.step(Input::EpisodeEnded { episode_id: "e1".into() }, START_MS + HOUR_MS);
    before.runs().for_each(|record| gone.restore(record.clone()));
    let blocked = ask(&mut gone, request("retrain", "e2"), START_MS + DAY_MS);
    assert_eq!(blocked.reason(), "action is no longer there, wanted an action of the rules files");
    let effects = gone.step(Input::Decide, START_MS + 100 * DAY_MS);
    assert!(effects.contains(&Effect::Forget { run: run.clone() }), "{effects:?}");
    assert!(gone.runs().all(|record| record.run != run));
    assert_eq!(state_of(&gone, &blocked.run).state, RunState::Lapsed);
}

#[test]
fn old_records_and_unknown_fields_are_read() {
    let run = RunRecord::new(request("retrain", "e1"), START_MS);
    let (key, value) = run.encode().unwrap();
    assert_eq!(key, run.run.as_bytes());
    assert_eq!(RunRecord::decode(&value).unwrap(), run);
    let mut json: Value = serde_json::from_slice(&value).unwrap();
    for gone in ["revision", "attempts"] {
        json.as_object_mut().unwrap().remove(gone);
    }
    json["from_a_later_version"] = Value::from(1);
    assert_eq!(RunRecord::decode(json.to_string().as_bytes()).unwrap(), run);
}

/// One thing that happens to the machine.
#[derive(Debug, Clone)]
enum Event {
    Ask { action: usize, model: usize, episode: usize },
    End { episode: usize },
    Approve { which: usize },
    Report { which: usize, succeeded: bool },
    Resume { model: usize },
    Answer { outcome: usize },
    Pass { ms: i64 },
    Kill,
}

const MODELS: [&str; 2] = ["fraud", "loans"];
const PLANS: [(&str, &str); 2] = [
    (
        "auto",
        "{webhook: {url: 'https://a.example.com'}, cooldown: 10h, budget: {max_runs: 3, per: 40h}, suspend_after: 2}",
    ),
    ("asks", "{webhook: {url: 'https://a.example.com'}, cooldown: 5h, confirm: ask, timeout: 9h}"),
];

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (0..2_usize, 0..2_usize, 0..30_usize)
            .prop_map(|(action, model, episode)| Event::Ask { action, model, episode }),
        2 => (0..30_usize).prop_map(|episode| Event::End { episode }),
        2 => (0..8_usize).prop_map(|which| Event::Approve { which }),
        2 => (0..8_usize, any::<bool>()).prop_map(|(which, succeeded)| Event::Report { which, succeeded }),
        1 => (0..2_usize).prop_map(|model| Event::Resume { model }),
        5 => (0..5_usize).prop_map(|outcome| Event::Answer { outcome }),
        5 => (1..4 * HOUR_MS).prop_map(|ms| Event::Pass { ms }),
        2 => Just(Event::Kill),
    ]
}

/// A machine with a log beside it: what was recorded survives a kill, calls that are not answered yet do not.
struct World {
    machine: Machine,
    now_ms: i64,
    durable: BTreeMap<String, RunRecord>,
    pending: Vec<RunRecord>,
    /// Starts of each run, by the time at which it was decided.
    started: BTreeMap<(String, i64), RunRecord>,
    accepted: BTreeMap<String, u32>,
    /// Runs whose call a person had made again.
    reopened: BTreeMap<String, u32>,
}

impl World {
    fn new() -> Self {
        Self {
            machine: machine(&PLANS),
            now_ms: START_MS,
            durable: BTreeMap::new(),
            pending: Vec::new(),
            started: BTreeMap::new(),
            accepted: BTreeMap::new(),
            reopened: BTreeMap::new(),
        }
    }

    fn step(&mut self, input: Input) {
        let effects = self.machine.step(input, self.now_ms);
        self.write(effects);
    }

    fn write(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Record(record) => {
                    if let Some(before) = self.durable.get(&record.run) {
                        assert!(record.revision > before.revision);
                        let reopened = before.state == RunState::Failed && record.approved_by.is_some();
                        if before.state == RunState::Failed && !record.state.is_final() {
                            *self.reopened.entry(record.run.clone()).or_insert(0) += 1;
                        }
                        assert!(
                            !before.state.is_final() || before.state == record.state || reopened,
                            "{before:?} {record:?}"
                        );
                    }
                    if let Some(at_ms) = record.started_at_ms {
                        self.started.insert((record.run.clone(), at_ms), (*record).clone());
                    }
                    self.durable.insert(record.run.clone(), *record);
                }
                Effect::Forget { run } => drop(self.durable.remove(&run)),
                other => panic!("{other:?} before anything is durable"),
            }
        }
    }

    fn turn(&mut self) {
        self.step(Input::Decide);
        for effect in self.machine.step(Input::Tick, self.now_ms) {
            match effect {
                Effect::Call(record) => {
                    let durable = &self.durable[&record.run];
                    assert_eq!(durable.state, RunState::Calling, "a call before its record: {record:?}");
                    assert_eq!(durable.manifest, record.manifest);
                    self.pending.push(*record);
                }
                Effect::AskProgress(record) => {
                    self.step(Input::Progress { run: record.run, progress: Progress::Running });
                }
                other => panic!("{other:?}"),
            }
        }
    }

    fn which(&self, which: usize) -> Option<String> {
        self.durable.keys().nth(which % self.durable.len().max(1)).cloned()
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Ask { action, model, episode } => {
                let mut asked = request(PLANS[action].0, &format!("e{episode}-{model}"));
                asked.model = MODELS[model].into();
                asked.at_ms = self.now_ms;
                asked.facts = Default::default();
                self.step(Input::Request(Box::new(asked)));
            }
            Event::End { episode } => {
                for model in 0..MODELS.len() {
                    self.step(Input::EpisodeEnded { episode_id: format!("e{episode}-{model}") });
                }
            }
            Event::Approve { which } => {
                if let Some(run) = self.which(which) {
                    self.step(command(Command::Approve { run }));
                }
            }
            Event::Report { which, succeeded } => {
                if let Some(run) = self.which(which) {
                    self.step(command(Command::Report { run, succeeded, message: String::new() }));
                }
            }
            Event::Resume { model } => {
                let (action, model) = (PLANS[0].0.to_string(), MODELS[model].to_string());
                self.step(command(Command::Resume { action, model }));
            }
            Event::Answer { outcome } => {
                let Some(record) = self.pending.pop() else { return };
                let outcome = match outcome {
                    0 => CallOutcome::Retry { reason: "503".into(), after_ms: None },
                    1 => CallOutcome::permanent("400"),
                    2 => CallOutcome::Done { message: String::new() },
                    _ => accepted(),
                };
                if matches!(outcome, CallOutcome::Done { .. } | CallOutcome::Accepted { .. }) {
                    *self.accepted.entry(record.run.clone()).or_insert(0) += 1;
                }
                self.step(Input::Called { run: record.run, outcome, jitter: 0.5 });
            }
            Event::Pass { ms } => self.now_ms += ms,
            Event::Kill => {
                self.machine = machine(&PLANS);
                self.durable.values().for_each(|record| self.machine.restore(record.clone()));
                self.pending.clear();
            }
        }
        self.turn();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn never_two_runs_within_the_cooldown_never_over_budget_never_twice_for_an_episode(
        events in proptest::collection::vec(event(), 1..120)
    ) {
        let mut world = World::new();
        events.into_iter().for_each(|event| world.happen(event));
        let mut starts: Vec<(&RunRecord, i64)> =
            world.started.iter().map(|((_, at_ms), record)| (record, *at_ms)).collect();
        starts.sort_by_key(|(_, at_ms)| *at_ms);
        for (index, (record, at_ms)) in starts.iter().enumerate() {
            let cooldown_ms = if record.action == "auto" { 10 * HOUR_MS } else { 5 * HOUR_MS };
            for (earlier, earlier_ms) in &starts[..index] {
                let is_same_line = earlier.action == record.action && earlier.request.model == record.request.model;
                // A call that the target refused may be made again, for the same run.
                if is_same_line && earlier.run != record.run && world.durable[&earlier.run].started_at_ms == Some(*earlier_ms) {
                    prop_assert!(at_ms - earlier_ms >= cooldown_ms, "{} and {}", earlier.run, record.run);
                }
            }
            if record.action == "auto" {
                let recent = starts[..=index].iter().filter(|(other, other_ms)| {
                    other.action == "auto" && at_ms - other_ms < 40 * HOUR_MS
                        && world.durable[&other.run].started_at_ms == Some(*other_ms)
                });
                let runs: BTreeSet<&str> = recent.map(|(other, _)| other.run.as_str()).collect();
                prop_assert!(runs.len() <= 3, "{runs:?}");
            }
        }
        // One run for each model and episode of an action.
        let mut asked = BTreeSet::new();
        for record in world.durable.values() {
            prop_assert!(asked.insert((&record.action, &record.request.model, &record.request.episode_id)));
        }
        for (run, times) in &world.accepted {
            prop_assert!(*times <= 1 + world.reopened.get(run).copied().unwrap_or(0), "{:?}", world.accepted);
        }
    }
}

/// Notes what it is called with; every third call fails.
#[derive(Clone, Default)]
struct Trainer {
    called: Arc<Mutex<Vec<String>>>,
    attempts: Arc<AtomicU32>,
    fails_every: u32,
    hangs_first: bool,
}

#[async_trait]
impl Target for Trainer {
    async fn call(&self, run: &RunRecord) -> CallOutcome {
        let attempt = self.attempts.fetch_add(1, Ordering::SeqCst) + 1;
        if self.hangs_first && attempt == 1 {
            tokio::time::sleep(Duration::from_secs(600)).await;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
        if self.fails_every > 0 && attempt.is_multiple_of(self.fails_every) {
            return CallOutcome::Retry { reason: "503".into(), after_ms: None };
        }
        assert_eq!(run.manifest.as_ref().unwrap().idempotency_key, run.run);
        self.called.lock().unwrap().push(run.name());
        accepted()
    }

    async fn progress(&self, _run: &RunRecord) -> Progress {
        Progress::Succeeded { message: "trained".into() }
    }
}

impl Trainer {
    fn copies(&self) -> Vec<String> {
        self.called.lock().unwrap().clone()
    }
}

struct Harness {
    log: EmbeddedLog,
    topics: Topics,
    metrics: Metrics,
    runtime: tokio::runtime::Runtime,
    actions: BTreeMap<String, Action>,
}

struct Running {
    process: EmbeddedLog,
    stop: CancellationToken,
    thread: JoinHandle<Result<(), LogError>>,
}

impl Running {
    fn stop(self) {
        self.stop.cancel();
        self.thread.join().unwrap().unwrap();
    }
}

impl Harness {
    fn new(yaml: &str) -> Self {
        let log = EmbeddedLog::new();
        let topics = Topics::new("driftline");
        log.create_topics(&topics.specs(3, -1)).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        Self { log, topics, metrics: Metrics::new().unwrap(), runtime, actions: actions(&[("retrain", yaml)]) }
    }

    fn start(&self, instance: &str, trainer: &Trainer, calls: Option<u64>) -> Running {
        let process = self.log.process();
        if let Some(calls) = calls {
            process.kill_after(calls);
        }
        let stop = CancellationToken::new();
        let config = ActionsConfig {
            app: "driftline".into(),
            instance: instance.into(),
            public_url: "http://drift.test".into(),
            actions: self.actions.clone(),
            limits: LIMITS,
            call_timeout: Duration::from_millis(500),
            stop_grace: Duration::from_secs(2),
            runtime: self.runtime.handle().clone(),
        };
        let target: Box<dyn Target> = Box::new(trainer.clone());
        let targets: Arc<Targets> = Arc::new(BTreeMap::from([("retrain".to_string(), target)]));
        let (topics, metrics) = (self.topics.clone(), self.metrics.clone());
        let (role_stop, role_log) = (stop.clone(), process.clone());
        let thread = std::thread::spawn(move || run(&role_log, &topics, config, targets, &metrics, &role_stop));
        Running { process, stop, thread }
    }

    fn publish(&self, topic: &str, key: &str, value: Vec<u8>) {
        let record = OutRecord {
            topic: topic.into(),
            key: Some(key.as_bytes().to_vec()),
            value: Some(value),
            ..OutRecord::default()
        };
        self.log.append(vec![record]).unwrap();
    }

    fn ask(&self, request: &ActionRequest) {
        let value = serde_json::to_vec(request).unwrap();
        self.publish(&self.topics.outbox.clone(), &request.episode_id, value);
    }

    /// Requests of as many models, so that no cooldown holds them back.
    fn ask_all(&self, count: usize) {
        for number in 0..count {
            let episode = format!("e{number}");
            self.ask(&ActionRequest { model: format!("m{number}"), at_ms: now_ms(), ..request("retrain", &episode) });
        }
    }

    fn command(&self, command: Command) {
        let (key, value) = control(command).encode().unwrap();
        self.publish(&self.topics.control.clone(), std::str::from_utf8(&key).unwrap(), value);
    }

    fn runs(&self) -> Vec<RunRecord> {
        read_runs(&self.log, &self.topics.actions).unwrap()
    }

    fn wait_for(&self, what: &str, is_so: impl Fn(&[RunRecord]) -> bool) -> Vec<RunRecord> {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let runs = self.runs();
            if is_so(&runs) {
                return runs;
            }
            let states: Vec<_> = runs.iter().map(|run| (run.state, run.reason())).collect();
            assert!(Instant::now() < deadline, "{what}: {states:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn wait_for_success_of(&self, count: usize) -> Vec<RunRecord> {
        let succeeded = |runs: &[RunRecord]| runs.iter().filter(|run| run.state == RunState::Succeeded).count();
        self.wait_for("all succeed", |runs| succeeded(runs) >= count)
    }
}

fn now_ms() -> i64 {
    chrono::Utc::now().timestamp_millis()
}

fn auto() -> String {
    format!("{{{WEBHOOK}, cooldown: 72h}}")
}

#[test]
fn requests_become_runs_that_succeed() {
    let harness = Harness::new(&auto());
    let trainer = Trainer { fails_every: 3, ..Trainer::default() };
    let role = harness.start("0", &trainer, None);
    harness.ask_all(5);
    harness.wait_for_success_of(5);
    role.stop();
    let copies = trainer.copies();
    assert_eq!((copies.len(), copies.iter().collect::<BTreeSet<_>>().len()), (5, 5), "{copies:?}");
    let metric = |state: &str| harness.metrics.action_transitions.with_label_values(&["retrain", state]).get();
    assert_eq!([metric("requested"), metric("calling"), metric("accepted"), metric("succeeded")], [5, 5, 5, 5]);
    assert_eq!(harness.metrics.action_runs.with_label_values(&["retrain", "succeeded"]).get(), 5);
}

#[test]
fn kill_nine_at_any_call_loses_no_run_and_repeats_a_call_with_the_same_key() {
    let (mut kills, mut extra_copies) = (0, 0);
    for calls in (1..=140).step_by(3) {
        let harness = Harness::new(&auto());
        let trainer = Trainer { fails_every: 4, ..Trainer::default() };
        harness.ask_all(4);
        let doomed = harness.start("0", &trainer, Some(calls));
        let deadline = Instant::now() + Duration::from_secs(20);
        let all_done = || harness.runs().iter().filter(|run| run.state.is_final()).count() == 4;
        while !doomed.thread.is_finished() && !all_done() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
        kills += usize::from(doomed.thread.is_finished());
        doomed.process.kill();
        assert!(matches!(doomed.thread.join().unwrap(), Err(LogError::Fatal(_))), "a killed process must end");
        let heir = harness.start("0", &trainer, None);
        let runs = harness.wait_for_success_of(4);
        heir.stop();
        let expected: BTreeSet<String> = runs.iter().map(RunRecord::name).collect();
        let copies = trainer.copies();
        let distinct: BTreeSet<String> = copies.iter().cloned().collect();
        assert_eq!(distinct, expected, "killed after {calls} calls");
        extra_copies += copies.len() - distinct.len();
        // All four may have been under way when it was killed, each once.
        assert!(copies.len() - distinct.len() <= 4, "killed after {calls} calls: {copies:?}");
    }
    println!("{kills} kills in the middle of the work, {extra_copies} extra copies");
    assert!(kills >= 15, "only {kills} of 47 kills came while there was work to do");
}

#[test]
fn one_process_decides_and_another_takes_over() {
    let harness = Harness::new(&auto());
    let (first, second) = (Trainer::default(), Trainer::default());
    let role = harness.start("0", &first, None);
    harness.ask_all(3);
    harness.wait_for_success_of(3);
    let heir = harness.start("1", &second, None);
    std::thread::sleep(Duration::from_millis(300));
    role.stop();
    harness.ask_all(6);
    harness.wait_for_success_of(6);
    heir.stop();
    let mut all = [first.copies(), second.copies()].concat();
    all.sort();
    let count = all.len();
    all.dedup();
    assert_eq!((count, all.len()), (6, 6));
    assert!(!second.copies().is_empty());
}

#[test]
fn what_ended_while_nothing_ran_is_not_run_after_the_fact() {
    let harness = Harness::new(&auto());
    let ended = request("retrain", "ended");
    harness.ask(&ended);
    let notification = serde_json::json!({
        "id": "ended-1", "episode_id": "ended", "sequence": 1, "status": "resolved", "severity": "critical",
        "rule": "quality-drop", "model": "fraud", "version": "3", "summary": "over", "findings": [],
        "reference": "training", "reference_id": "x", "first_window": ended.first_window, "window": ended.window,
        "windows_breached": 1, "windows_considered": 1, "rows": 5, "at_ms": START_MS, "receivers": [],
    });
    harness.publish(&harness.topics.outbox.clone(), "ended", notification.to_string().into_bytes());
    harness.ask(&ActionRequest { model: "loans".into(), at_ms: now_ms(), ..request("retrain", "fires") });
    let trainer = Trainer::default();
    let role = harness.start("0", &trainer, None);
    let runs = harness.wait_for_success_of(1);
    role.stop();
    let of = |model: &str| runs.iter().find(|run| run.request.model == model).unwrap();
    assert_eq!((of("fraud").state, of("loans").state), (RunState::Lapsed, RunState::Succeeded));
    assert_eq!(trainer.copies(), [of("loans").name()]);
}

#[test]
fn a_target_that_hangs_is_called_again() {
    let harness = Harness::new(&auto());
    let trainer = Trainer { hangs_first: true, ..Trainer::default() };
    let role = harness.start("0", &trainer, None);
    harness.ask_all(1);
    let runs = harness.wait_for_success_of(1);
    role.stop();
    assert_eq!((runs[0].attempts, trainer.copies().len()), (2, 1));
}

#[test]
fn commands_come_by_the_control_topic_and_survive_a_restart() {
    let harness = Harness::new(&format!("{{{WEBHOOK}, confirm: ask, cooldown: 72h}}"));
    let trainer = Trainer::default();
    let role = harness.start("0", &trainer, None);
    harness.ask_all(2);
    let waits = |runs: &[RunRecord]| runs.iter().filter(|run| run.state == RunState::AwaitingConfirmation).count() == 2;
    let runs = harness.wait_for("both wait", waits);
    role.stop();
    harness.command(Command::Approve { run: runs[0].run.clone() });
    harness.command(Command::Deny { run: runs[1].run.clone(), reason: "not now".into() });
    let role = harness.start("0", &trainer, None);
    let done = |runs: &[RunRecord]| runs.iter().all(|run| run.state.is_final());
    let after = harness.wait_for("both are decided", done);
    role.stop();
    let state = |run: &str| after.iter().find(|record| record.run == run).unwrap().state;
    assert_eq!((state(&runs[0].run), state(&runs[1].run)), (RunState::Succeeded, RunState::Denied));
    assert_eq!(trainer.copies(), [runs[0].name()]);
}

#[test]
fn a_record_that_cannot_be_read_costs_only_itself() {
    let harness = Harness::new(&auto());
    for value in [&b"not json"[..], b"{}", b"{\"action\": 5}"] {
        harness.publish(&harness.topics.outbox.clone(), "x", value.to_vec());
        harness.publish(&harness.topics.control.clone(), "x", value.to_vec());
        harness.publish(&harness.topics.actions.clone(), "x", value.to_vec());
    }
    let trainer = Trainer::default();
    let role = harness.start("0", &trainer, None);
    harness.ask_all(2);
    harness.wait_for_success_of(2);
    role.stop();
}
