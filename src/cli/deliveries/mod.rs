//! `driftline deliveries`: what was sent to whom, and what came of it. One file a subcommand.

pub mod list;
pub mod retry;
pub mod show;
pub mod test;

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::operate::{Common, on_kafka};

#[derive(Debug, Args)]
pub struct DeliveriesArgs {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// What is not delivered yet or was given up; with `--status all` everything
    List(list::ListArgs),
    /// Every delivery of one notification, or of all notifications of one alert
    Show(show::ShowArgs),
    /// Have a notification sent again, whatever became of it
    Retry(retry::RetryArgs),
    /// Send a sample notification to a receiver now, from here, and say what came back
    Test(test::TestArgs),
}

pub fn run(args: &DeliveriesArgs) -> ExitCode {
    let json = args.common.json();
    match &args.action {
        Action::Test(test_args) => test::run(test_args, &args.common),
        action => on_kafka(&args.common, |desk| match action {
            Action::List(args) => list::run(desk, args, json),
            Action::Show(args) => show::run(desk, args, json),
            Action::Retry(args) => retry::run(desk, args, json),
            Action::Test(_) => Ok(()),
        }),
    }
}
