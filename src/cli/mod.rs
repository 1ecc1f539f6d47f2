//! The command line: one file per subcommand.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub mod report;

/// Watches machine-learning models whose predictions flow through Kafka.
#[derive(Debug, Parser)]
#[command(name = "driftline", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Report(report::ReportArgs),
}

pub fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Report(arguments) => report::run(&arguments, None),
    }
}
