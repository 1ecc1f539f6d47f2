//! The command line of `driftline-scorer`: one file per subcommand, as in `crate::cli`.

use std::process::ExitCode;

use clap::Parser;

/// Serves versions of machine-learning models, and writes what it predicts to Kafka.
#[derive(Debug, Parser)]
#[command(name = "driftline-scorer", version, about, max_term_width = 100)]
struct Cli {}

pub fn main() -> ExitCode {
    let Cli {} = Cli::parse();
    ExitCode::SUCCESS
}
