//! `driftline silence preview`.

use clap::Args;
use serde_json::{Value, json};

use super::add::Match;
use super::words;
use crate::cli::operate::ledger::{Alert, Ledger};
use crate::cli::operate::{Desk, Outcome};
use crate::config::silences::Stretch;
use crate::http::metrics::severity_name;
use crate::http::wording;
use crate::rules::matching;
use crate::rules::suppression::TimedSilence;

/// Times that are shown of each silence of the rules files.
const NEXT: usize = 3;

#[derive(Debug, Clone, Args)]
pub struct PreviewArgs {
    #[command(flatten)]
    pub matching: Match,
}

/// With `--match`, what it would hold back now. Without, the silences of the rules files with their next times, and what
/// each is about now.
pub fn run(desk: &mut Desk<'_>, args: &PreviewArgs, of_rules: &[TimedSilence], json: bool) -> Outcome {
    let ledger = Ledger::read(desk)?;
    let alerts = ledger.alerts(desk.now_ms);
    let firing: Vec<&Alert> = alerts.iter().filter(|alert| alert.firing).collect();
    if args.matching.parts.is_empty() && !args.matching.all {
        return scheduled(desk, of_rules, json);
    }
    let matcher = args.matching.matcher()?;
    let matched: Vec<&&Alert> = firing
        .iter()
        .filter(|alert| ledger.last(&alert.id).is_some_and(|last| matching::matches(&matcher, last)))
        .collect();
    if json {
        let matched: Vec<_> = matched.iter().map(|alert| alert.json()).collect();
        return desk.json(&json!({"match": matcher, "would_hold_back": matched, "firing": firing.len()}));
    }
    writeln!(desk.out, "{}: {} of {} alerts that fire now", words(&matcher), matched.len(), firing.len())?;
    for alert in matched {
        let (id, rule, severity) = (&alert.id, &alert.rule, severity_name(alert.severity));
        writeln!(desk.out, "  {id}  {severity}  {rule}  {}", alert.subject())?;
    }
    Ok(())
}

fn scheduled(desk: &mut Desk<'_>, of_rules: &[TimedSilence], json: bool) -> Outcome {
    let next = |silence: &TimedSilence| silence.time.next(desk.now_ms, NEXT);
    if json {
        let stretch = |one: Stretch| json!({"from_ms": one.from_ms, "until_ms": one.until_ms});
        let silence = |silence: &TimedSilence| {
            let next: Vec<Value> = next(silence).into_iter().map(stretch).collect();
            json!({"match": silence.matcher, "reason": silence.reason, "next": next})
        };
        return desk.json(&json!({"silences": of_rules.iter().map(silence).collect::<Vec<_>>()}));
    }
    if of_rules.is_empty() {
        writeln!(desk.out, "the rules files have no `silences`; give `--match` to see what one would hold back now")?;
    }
    for silence in of_rules {
        writeln!(desk.out, "{}: {}", words(&silence.matcher), silence.reason)?;
        let stretches = next(silence);
        if stretches.is_empty() {
            writeln!(desk.out, "  over for good")?;
        }
        for Stretch { from_ms, until_ms } in stretches {
            let now = if from_ms <= desk.now_ms { ", now" } else { "" };
            writeln!(desk.out, "  {} UTC{now}", wording::window(from_ms, until_ms))?;
        }
    }
    Ok(())
}
