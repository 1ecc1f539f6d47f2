//! `driftline silence add`.

use clap::Args;
use serde_json::json;

use super::{matcher, part, words};
use crate::cli::operate::ledger::Ledger;
use crate::cli::operate::{By, Desk, Failure, Outcome, Until, instant};
use crate::config::rules::Matcher;
use crate::dispatch::control::Command;
use crate::http::wording;
use crate::rules::matching;

#[derive(Debug, Clone, Args)]
pub struct Match {
    /// What is held back: `model=fraud@*`, `rule=...`, `severity=warn`, `feature=...`, `segment=country=IT`; every one must match
    #[arg(long = "match", value_name = "KEY=VALUE", value_parser = part)]
    pub parts: Vec<(String, String)>,
    /// Hold every alert back
    #[arg(long, conflicts_with = "parts")]
    pub all: bool,
}

impl Match {
    pub fn matcher(&self) -> Result<Matcher, Failure> {
        let matcher = matcher(&self.parts).map_err(Failure::usage)?;
        if matcher.is_empty() && !self.all {
            return Err(Failure::usage(
                "this would silence every alert; narrow it down with `--match model=...`, or say `--all` if you mean it",
            ));
        }
        Ok(matcher)
    }
}

#[derive(Debug, Clone, Args)]
pub struct AddArgs {
    #[command(flatten)]
    pub matching: Match,
    #[command(flatten)]
    pub until: Until,
    /// From when: RFC 3339, or a date; default: now
    #[arg(long, value_name = "TIME", value_parser = instant)]
    pub from: Option<i64>,
    /// Why, for those who wonder
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    #[command(flatten)]
    pub by: By,
}

pub fn run(desk: &mut Desk<'_>, args: &AddArgs, json: bool) -> Outcome {
    let by = args.by.name()?;
    let matcher = args.matching.matcher()?;
    let from_ms = args.from.unwrap_or(desk.now_ms);
    let until_ms = args
        .until
        .ms(from_ms)
        .ok_or_else(|| Failure::usage("a silence needs an end: `--for 2h`, or `--until 2026-03-01T18:00:00Z`"))?;
    let command = Command::Silence { matcher: matcher.clone(), from_ms, until_ms, reason: args.reason.clone() };
    let given = desk.give(&by, command)?;
    if json {
        return desk.json(&json!(given));
    }
    let (id, what) = (&given.id, words(&matcher));
    let from = if from_ms > desk.now_ms { format!("from {} ", wording::minute(from_ms)) } else { String::new() };
    writeln!(desk.out, "silence {id}: {what}, {from}until {} UTC", wording::minute(until_ms))?;
    let ledger = Ledger::read(desk)?;
    let alerts = ledger.alerts(desk.now_ms);
    let firing = alerts.iter().filter(|alert| alert.firing);
    let matched = firing.filter(|alert| ledger.last(&alert.id).is_some_and(|last| matching::matches(&matcher, last)));
    let count = matched.count();
    let plural = if count == 1 { "" } else { "s" };
    writeln!(desk.out, "{count} alert{plural} that fire now match; end it early: driftline silence expire {id}")?;
    Ok(())
}
