//! The command line of `driftline-scorer`: one file per subcommand, as in `crate::cli`.

mod check;
mod featurize;
pub mod place;
mod registry;
mod score;
mod serve;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Serves versions of machine-learning models, and writes what it predicts to Kafka.
#[derive(Debug, Parser)]
#[command(name = "driftline-scorer", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

// One is made in the life of a process: its size costs nothing.
#[allow(clippy::large_enum_variant)]
#[derive(Debug, Subcommand)]
enum Command {
    /// Write training data: raw features through the transform that will serve
    Featurize(featurize::FeaturizeArgs),
    /// Score a file or a topic, by the engine and the transform that serve
    Score(Box<score::ScoreArgs>),
    /// Serve the models of a registry
    Serve(serve::ServeArgs),
    /// Check settings files; prints every error with its place and how to mend it
    Check(check::ScorerCheckArgs),
    #[command(flatten)]
    Registry(Box<registry::RegistryCommand>),
}

pub fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Featurize(args) => featurize::run(&args),
        Command::Score(args) => score::run(&args),
        Command::Serve(args) => serve::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Registry(command) => registry::run(&command),
    }
}
