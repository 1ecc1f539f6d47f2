//! `driftline actions`: what rules asked to have done, and what people say to it. One file a subcommand.

pub mod approve;
pub mod deny;
pub mod list;
pub mod report;
pub mod resume;
pub mod show;

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::operate::ledger::resolve;
use super::operate::{Common, Desk, Failure, on_kafka, read};
use crate::dispatch::actions::run::RunRecord;

#[derive(Debug, Args)]
pub struct ActionsArgs {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Runs that wait or work; with `--status all` ended ones, too
    List(list::ListArgs),
    /// One run: why it waits, what it was given, how it went
    Show(show::ShowArgs),
    /// Let a run that asks go ahead
    Approve(approve::ApproveArgs),
    /// Say no to a run that has not begun
    Deny(deny::DenyArgs),
    /// Say how a run ended, where its target does not
    Report(report::ReportArgs),
    /// Let an action that was suspended for a model run again
    Resume(resume::ResumeArgs),
}

pub fn run(args: &ActionsArgs) -> ExitCode {
    let json = args.common.json();
    on_kafka(&args.common, |desk| match &args.action {
        Action::List(args) => list::run(desk, args, json),
        Action::Show(args) => show::run(desk, args, json),
        Action::Approve(args) => approve::run(desk, args, json),
        Action::Deny(args) => deny::run(desk, args, json),
        Action::Report(args) => report::run(desk, args, json),
        Action::Resume(args) => resume::run(desk, args, json),
    })
}

/// The last record of every run, by its id.
pub fn runs(desk: &Desk<'_>) -> Result<BTreeMap<String, RunRecord>, Failure> {
    let mut runs = BTreeMap::new();
    read::read(desk.log, &desk.topics.actions, None, |record| {
        let Some(key) = record.key.and_then(|key| std::str::from_utf8(key).ok()) else { return };
        match record.value.map(RunRecord::decode) {
            Some(Ok(run)) => drop(runs.insert(key.to_string(), run)),
            // Of a newer version.
            Some(Err(_)) => {}
            None => drop(runs.remove(key)),
        }
    })?;
    Ok(runs)
}

/// The run of this id, or of the only id that begins so.
pub fn find(desk: &Desk<'_>, wanted: &str) -> Result<RunRecord, Failure> {
    let mut runs = runs(desk)?;
    let ids: Vec<&str> = runs.keys().map(String::as_str).collect();
    let id = resolve(wanted, &ids, "run", "driftline actions list --status all")?.to_string();
    runs.remove(&id).ok_or_else(|| Failure::failed("the run is gone"))
}

/// `retrain-fraud for fraud@3`.
pub fn subject(run: &RunRecord) -> String {
    format!("{} for {}@{}", run.action, run.request.model, run.request.version)
}
