//! `driftline-scorer check`: everything wrong with a settings file, as `driftline check FILE` finds it.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::cli::check::{CheckArgs, CheckFormat, run as check_files};

#[derive(Debug, Args)]
pub struct ScorerCheckArgs {
    /// Settings files; `-` reads standard input
    #[arg(value_name = "FILES", default_value = "scorer.yaml")]
    files: Vec<PathBuf>,
    #[arg(long, value_enum, default_value_t = CheckFormat::Text)]
    format: CheckFormat,
}

pub fn run(args: &ScorerCheckArgs) -> ExitCode {
    check_files(&CheckArgs { files: args.files.clone(), format: args.format, ..CheckArgs::default() })
}
