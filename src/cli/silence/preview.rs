//! `driftline silence preview`.

use clap::Args;
use serde_json::json;

use super::add::Match;
use super::words;
use crate::cli::operate::ledger::{Alert, Ledger};
use crate::cli::operate::{Desk, Outcome};
use crate::http::metrics::severity_name;
use crate::rules::matching;

#[derive(Debug, Clone, Args)]
pub struct PreviewArgs {
    #[command(flatten)]
    pub matching: Match,
}

pub fn run(desk: &mut Desk<'_>, args: &PreviewArgs, json: bool) -> Outcome {
    let matcher = args.matching.matcher()?;
    let ledger = Ledger::read(desk)?;
    let alerts = ledger.alerts(desk.now_ms);
    let firing: Vec<&Alert> = alerts.iter().filter(|alert| alert.firing).collect();
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
