//! `driftline alerts`: what fires, since when, who was told and who works on it. One file a subcommand.

pub mod ack;
pub mod explain;
mod explain_text;
pub mod history;
pub mod list;
pub mod show;
pub mod unack;

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::operate::{Common, on_kafka};

#[derive(Debug, Args)]
pub struct AlertsArgs {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// What fires; with `--status all` what has fired, too
    List(list::ListArgs),
    /// One alert: what was found, who was told, who works on it
    Show(show::ShowArgs),
    /// Say that you work on it: no reminders until it ends, gets worse, or your time is over
    Ack(ack::AckArgs),
    /// Take an acknowledgement back
    Unack(unack::UnackArgs),
    /// Why a rule did or did not fire or notify: its last windows gate by gate, who suppressed it, who was told
    Explain(explain::ExplainArgs),
    /// What happened: alerts that began, worsened and ended, and what people did about them
    History(history::HistoryArgs),
}

pub fn run(args: &AlertsArgs) -> ExitCode {
    let json = args.common.json();
    on_kafka(&args.common, |desk| match &args.action {
        Action::List(args) => list::run(desk, args, json),
        Action::Show(args) => show::run(desk, args, json),
        Action::Ack(args) => ack::run(desk, args, json),
        Action::Unack(args) => unack::run(desk, args, json),
        Action::Explain(explain_args) => {
            let workspace = explain::load(&args.common)?;
            explain::run(desk, explain_args, &workspace, json)
        }
        Action::History(args) => history::run(desk, args, json),
    })
}
