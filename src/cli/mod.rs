//! The command line: one file per subcommand. To add one: a file with its `Args` and `run`, a variant of
//! `Command` here.
//!
//! Exit codes: 0 ok, 1 failed, 2 usage, 3 warnings under `--deny-warnings`, 4 could not decide (input or output
//! failed, too little data).

pub mod actions;
pub mod alerts;
pub mod backtest;
pub mod check;
pub mod completions;
pub mod config;
pub mod dashboards;
pub mod deliveries;
pub mod demo;
pub mod gate;
pub mod host;
pub mod init;
pub mod loaded;
pub mod operate;
pub mod pages;
pub mod produce_sample;
pub mod reference;
pub mod replay;
pub mod report;
pub mod run;
pub mod sample;
pub mod schema;
pub mod service;
pub mod silence;
pub mod skew;
pub mod supervise;
pub mod test;
pub mod threads;
pub mod time;
pub mod watched;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::config::load_model;

/// Monitoring for machine-learning models whose predictions flow through Kafka.
#[derive(Debug, Parser)]
#[command(name = "driftline", version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the whole service at work on an embedded log, with a drift to be found; needs no Kafka
    Demo(demo::DemoArgs),
    /// Watch the models of a service file
    Run(run::RunArgs),
    /// Check service file, models and rules; prints every error with its place and how to mend it
    Check(check::CheckArgs),
    /// Run tests of rules: what happens, and what people should be told then; needs no Kafka
    Test(test::TestArgs),
    /// Try rules on history in files, by the machines of production; needs no Kafka
    Backtest(Box<backtest::BacktestArgs>),
    /// Try rules on what stands in Kafka, by the machines of production; reads only
    Replay(Box<replay::ReplayArgs>),
    /// Write a service file, a model, rules and a test of them, to start from
    Init(init::InitArgs),
    /// Show the configuration in force
    Config(config::ConfigArgs),
    /// Compare a file with a reference file: what drifted, by windows; needs no Kafka
    Report(Box<report::ReportArgs>),
    /// Build, list, show, promote, roll back and compare references
    Reference(reference::ReferenceArgs),
    /// Compare features as served with features as trained on, value by value; needs no Kafka
    Skew(Box<skew::SkewArgs>),
    /// Judge a version of a scorer's model before it serves: data, features, and the model beside production
    Gate(Box<gate::GateArgs>),
    /// What fires, who was told, who works on it
    Alerts(alerts::AlertsArgs),
    /// Keep alerts quiet for a while
    Silence(silence::SilenceArgs),
    /// What was sent to whom, and what came of it
    Deliveries(deliveries::DeliveriesArgs),
    /// What rules asked to have done: retraining and rollback; approve, deny, report
    Actions(actions::ActionsArgs),
    /// Print the JSON Schema of a configuration file
    Schema(schema::SchemaArgs),
    /// Print a script that completes commands in a shell
    Completions(completions::CompletionsArgs),
    /// Print or write the manual pages
    Man(completions::ManArgs),
    /// Write the Grafana dashboards
    Dashboards(dashboards::Dashboards),
    /// Write sample predictions to a Kafka topic, to try a set-up
    ProduceSample(produce_sample::ProduceSampleArgs),
}

/// Writes to standard output, and returns the exit code; a reader that has seen enough (`| head`) is no failure.
fn print(text: &[u8]) -> ExitCode {
    let mut out = std::io::stdout().lock();
    match std::io::Write::write_all(&mut out, text).and_then(|()| std::io::Write::flush(&mut out)) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            eprintln!("error: {error}");
            ExitCode::from(check::UNDECIDED)
        }
        _ => ExitCode::SUCCESS,
    }
}

/// The command line, for what is generated of it.
pub fn command() -> clap::Command {
    Cli::command()
}

pub fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Demo(args) => demo::run(&args),
        Command::Run(args) => run::run(&args),
        Command::Backtest(args) => backtest::run(&args),
        Command::Replay(args) => replay::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Test(args) => test::run(&args),
        Command::Init(args) => init::run(&args),
        Command::Config(args) => config::run(&args),
        Command::Completions(args) => completions::completions(&args),
        Command::Man(args) => completions::man(&args),
        Command::Report(args) => match args.model.as_deref().map(load_model).transpose() {
            Ok(model) => report::run(&args, model.as_ref().map(|loaded| &loaded.value)),
            Err(errors) => {
                eprintln!("{}", errors.text(false).trim_end());
                ExitCode::FAILURE
            }
        },
        Command::Reference(args) => reference::run(&args),
        Command::Skew(args) => skew::run(&args),
        Command::Gate(args) => gate::run(&args),
        Command::Alerts(args) => alerts::run(&args),
        Command::Silence(args) => silence::run(&args),
        Command::Deliveries(args) => deliveries::run(&args),
        Command::Actions(args) => actions::run(&args),
        Command::Schema(args) => schema::run(&args),
        Command::Dashboards(args) => dashboards::run(&args),
        Command::ProduceSample(args) => produce_sample::run(&args),
    }
}
