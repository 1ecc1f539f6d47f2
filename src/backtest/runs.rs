//! Which runs of actions would have gone ahead: the requests of rules through the machine of actions, with targets that
//! succeed at once, the time of the requests as the clock, and nobody who approves.

use std::sync::Arc;

use serde::Serialize;

use super::trail::Trail;
use crate::dispatch::actions::machine::{Effect, Input, Limits, Machine};
use crate::dispatch::actions::run::RunRecord;
use crate::dispatch::actions::target::{CallOutcome, Progress};
use crate::rules::RuleSet;
use crate::rules::action_request::ActionRequest;
use crate::rules::episode::{EpisodeStatus, Notification};

/// What would have become of one run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Run {
    pub run: String,
    pub action: String,
    pub model: String,
    pub version: String,
    pub rule: String,
    pub episode_id: String,
    /// When it was first asked for, epoch milliseconds.
    pub requested_ms: i64,
    /// When it would have gone ahead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_ms: Option<i64>,
    /// As in the life of a run: `succeeded`, `blocked`, `awaiting_confirmation`, `lapsed`.
    pub state: String,
    /// Why it stands there, or stood before it ended without having run; empty where the state says it all.
    pub reason: String,
}

/// Calls and questions of one instant that are answered at most, so that a machine that asks for ever ends.
const MOST_ROUNDS: usize = 100;

/// One record of the outbox.
enum Asked<'a> {
    Told(&'a Notification),
    Request(&'a ActionRequest),
}

/// The error is one of the configuration, which `check` finds as well.
pub(super) fn runs(trail: &Trail, rules: &Arc<RuleSet>) -> Result<Vec<Run>, String> {
    if trail.action_requests.is_empty() {
        return Ok(Vec::new());
    }
    let mut machine = Machine::new(rules.actions(), "", Limits::default())?;
    let mut outbox: Vec<(i64, bool, Asked<'_>)> =
        trail.notifications.iter().map(|told| (told.at_ms, false, Asked::Told(told))).collect();
    outbox.extend(trail.action_requests.iter().map(|request| (request.at_ms, true, Asked::Request(request))));
    outbox.sort_by_key(|(at_ms, is_request, _)| (*at_ms, *is_request));
    for (at_ms, _, asked) in outbox {
        let input = match asked {
            Asked::Request(request) => Input::Request(Box::new(request.clone())),
            Asked::Told(told) if told.status == EpisodeStatus::Resolved => {
                Input::EpisodeEnded { episode_id: told.episode_id.clone() }
            }
            Asked::Told(_) => continue,
        };
        machine.step(input, at_ms);
        settle(&mut machine, at_ms);
    }
    let mut runs: Vec<Run> = machine.runs().map(run_of).collect();
    runs.sort_by(|left, right| (left.requested_ms, &left.run).cmp(&(right.requested_ms, &right.run)));
    Ok(runs)
}

/// Decides what is to be decided, and answers every call, until nothing more happens at this instant.
fn settle(machine: &mut Machine, now_ms: i64) {
    for _ in 0..MOST_ROUNDS {
        let mut effects = machine.step(Input::Decide, now_ms);
        effects.extend(machine.step(Input::Tick, now_ms));
        let mut is_quiet = true;
        for effect in effects {
            let answer = match effect {
                Effect::Record(_) | Effect::Forget { .. } => continue,
                Effect::AskRegistry(record) => Input::Registry {
                    run: record.run,
                    answer: Err("a try asks no scorer what is in production".into()),
                },
                Effect::Call(record) => {
                    let outcome = CallOutcome::Done { message: String::new() };
                    Input::Called { run: record.run, outcome, jitter: 0.0 }
                }
                Effect::AskProgress(record) => {
                    Input::Progress { run: record.run, progress: Progress::Succeeded { message: String::new() } }
                }
            };
            is_quiet = false;
            machine.step(answer, now_ms);
        }
        if is_quiet {
            return;
        }
    }
}

fn run_of(record: &RunRecord) -> Run {
    let unmet: Vec<String> = record.unmet.iter().map(ToString::to_string).collect();
    // Of a run that ended without having run, what held it back says more than that its alert has ended.
    let before = record.history.iter().rev().skip(1).find(|step| !step.reason.is_empty());
    let reason = match (record.started_at_ms, before) {
        _ if !unmet.is_empty() => unmet.join("; "),
        (None, Some(step)) if record.state.is_final() => format!("{}; before: {}", record.reason(), step.reason),
        _ => record.reason().to_string(),
    };
    Run {
        run: record.run.clone(),
        action: record.action.clone(),
        model: record.request.model.clone(),
        version: record.request.version.clone(),
        rule: record.request.rule.clone(),
        episode_id: record.request.episode_id.clone(),
        requested_ms: record.requested_at_ms(),
        started_ms: record.started_at_ms,
        state: record.state.word().to_string(),
        reason,
    }
}
