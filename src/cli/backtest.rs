//! `driftline backtest`: rules tried on history in files, by the machines of production.
//!
//! `load` reads rules, models and references; `report` says what came of it, with `text`, `document` (JSON) and `page`
//! (HTML) to write it. `driftline replay` shares all but the reading of rows.

pub mod document;
pub mod load;
pub mod page;
pub mod report;
pub mod text;

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::service::now_ms;
use super::time::{Time, time};
use crate::backtest::history::{self, HistoryError, HistoryFile, RowClock};
use crate::backtest::suggest::AlertBudget;
use crate::backtest::{Engine, EngineOptions, Trail};
use crate::config::units::Span;
use crate::rules::RuleSet;

use load::{Failure, Loaded};
use report::Tried;

/// Tries rules on history in files, by the machines of production; no Kafka needed.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  driftline backtest history.parquet
  driftline backtest --rules rules/new.yaml --compare rules/old.yaml history.parquet
  driftline backtest --model models/taxi.yaml --rules rules/taxi.yaml --reference 2018.parquet rides.parquet
  driftline backtest --start 1998-01-01T00:00:00Z --every 30m elec2.parquet
  driftline backtest --labels incidents.yaml --tolerance 1d --suggest --max-alerts 3/week --html report.html h.jsonl")]
pub struct BacktestArgs {
    /// Rows of a model: Parquet, CSV, or events in JSONL (`-`: on the standard input). `MODEL=FILE` where there are several
    /// models.
    #[arg(value_name = "[MODEL=]FILE", required = true)]
    data: Vec<String>,
    #[command(flatten)]
    what: load::WhatArgs,
    /// Column of a table with the event time; default: the last part of the model's `fields.timestamp`.
    #[arg(long, value_name = "COLUMN", conflicts_with = "start")]
    timestamp: Option<String>,
    /// For a table without event times: when its first row happened (RFC 3339 or a date).
    #[arg(long, value_name = "TIME", value_parser = time, requires = "every")]
    start: Option<Time>,
    /// For a table without event times: how long after a row the next one happened.
    #[arg(long, value_name = "SPAN", value_parser = Span::parse, requires = "start")]
    every: Option<Span>,
    /// Column of a table for a signal, where it has another name: `amount=AMT`, `prediction.score=p`,
    /// `performance.label=y`.
    #[arg(long = "column", value_name = "SIGNAL=COLUMN", value_parser = pair)]
    columns: Vec<(String, String)>,
    /// Version of the model that made the rows of a table; default: the column of `fields.version`, if there is one.
    #[arg(long, value_name = "VERSION")]
    model_version: Option<String>,
    /// Label events in JSONL, of a model with `performance.labels`; `MODEL=FILE` where there are several models.
    #[arg(long, value_name = "[MODEL=]FILE")]
    labels_file: Vec<String>,
    #[command(flatten)]
    output: OutputArgs,
}

/// What to make of a try.
#[derive(Debug, Clone, Args)]
pub struct OutputArgs {
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// Try these rules on the same history, and show what differs from them; may be given several times.
    #[arg(long, value_name = "FILE")]
    pub compare: Vec<PathBuf>,
    /// What really happened, a YAML file of `incidents`: precision, recall and delay of the alerts.
    #[arg(long, value_name = "FILE")]
    pub labels: Option<PathBuf>,
    /// An alert this long before or after an incident still belongs to it.
    #[arg(long, value_name = "SPAN", value_parser = Span::parse, default_value = "0s", requires = "labels")]
    pub tolerance: Span,
    /// Propose thresholds under which at most `--max-alerts` would have begun, for each rule.
    #[arg(long)]
    pub suggest: bool,
    /// Episodes of one rule that are bearable: `3/week`, `1/day`, `10/30d`.
    #[arg(long, value_name = "N/TIME", value_parser = AlertBudget::parse, default_value = "3/week", requires = "suggest")]
    pub max_alerts: AlertBudget,
    /// Also write one page with everything, to be opened in a browser.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// One document.
    Json,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (signal, column) = text
        .split_once('=')
        .filter(|(signal, column)| !signal.is_empty() && !column.is_empty())
        .ok_or_else(|| format!("`{text}`: write SIGNAL=COLUMN, such as `amount=AMT`"))?;
    Ok((signal.to_string(), column.to_string()))
}

pub fn run(args: &BacktestArgs) -> ExitCode {
    match tried(args).and_then(|tried| report::write(&tried, &args.output)) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => failure.exit(),
    }
}

fn tried(args: &BacktestArgs) -> Result<Tried, Failure> {
    let incidents = report::incidents(&args.output)?;
    let loaded = load::load(&args.what, false)?;
    let old = if args.output.compare.is_empty() { None } else { Some(loaded.with_rules(&args.output.compare)?) };
    let files = files(args, &loaded)?;
    let names: Vec<&str> = files.iter().map(|(model, _)| model.as_str()).collect();
    let references = loaded.references(&names, &args.what)?;
    let run = |rules: &Arc<RuleSet>,
               keep_windows: bool,
               label: &str|
     -> Result<(Trail, Vec<(String, history::Read)>), Failure> {
        let models: Vec<_> = loaded.models_named(&names);
        let options = EngineOptions { keep_windows, now_ms: Some(now_ms()), ..EngineOptions::default() };
        let mut engine = Engine::new(&models, rules.clone(), &references, options).map_err(Failure::configuration)?;
        let mut reads = Vec::new();
        for (name, file) in &files {
            let Some(model) = models.iter().find(|model| model.model == *name) else { continue };
            let bar = progress_bar(&format!("{label}{name}"));
            let read = history::read(&mut engine, model, file, &mut |rows, total| {
                bar.set_length(total);
                bar.set_position(rows);
            });
            bar.finish_and_clear();
            reads.push((name.clone(), read.map_err(|error| of_history(&error))?));
        }
        let trail = engine.finish().map_err(Failure::configuration)?;
        Ok((trail, reads))
    };
    let (trail, reads) = run(&loaded.rules, args.output.suggest, "")?;
    let old = match &old {
        Some(rules) => Some(run(rules, false, "compared: ")?.0),
        None => None,
    };
    Ok(Tried {
        incidents,
        trail,
        old,
        reads,
        models: loaded.models_named(&names),
        rules: loaded.rules,
        rule_files: loaded.rule_files,
    })
}

/// A bar on a terminal, nothing elsewhere.
pub(crate) fn progress_bar(what: &str) -> ProgressBar {
    let target =
        if std::io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(Some(0), target);
    if let Ok(style) =
        ProgressStyle::with_template("{msg} {wide_bar} {human_pos}/{human_len} rows, {per_sec}, {eta} left")
    {
        bar.set_style(style);
    }
    bar.set_message(what.to_string());
    bar
}

fn of_history(error: &HistoryError) -> Failure {
    match error.is_usage() {
        true => Failure::usage(error),
        false => Failure::undecided(error),
    }
}

/// The files of each model, in the order given.
fn files(args: &BacktestArgs, loaded: &Loaded) -> Result<Vec<(String, HistoryFile)>, Failure> {
    let clock = match (args.start, args.every) {
        (Some(start), Some(every)) => Some(RowClock { start_ms: start.ms(now_ms()), every_ms: every.ms }),
        _ => None,
    };
    let mut files: Vec<(String, HistoryFile)> = Vec::new();
    for text in &args.data {
        let (model, path) = loaded.model_and_path(text)?;
        if files.iter().any(|(known, _)| *known == model) {
            return Err(Failure::usage(format!(
                "model `{model}` has two files; put them into one, in the order of time"
            )));
        }
        let columns: BTreeMap<String, String> = args.columns.iter().cloned().collect();
        files.push((
            model,
            HistoryFile {
                path,
                timestamp: args.timestamp.clone(),
                clock,
                columns,
                version: args.model_version.clone(),
                labels: None,
            },
        ));
    }
    for text in &args.labels_file {
        let (model, path) = loaded.model_and_path(text)?;
        let Some((_, file)) = files.iter_mut().find(|(known, _)| *known == model) else {
            return Err(Failure::usage(format!("--labels-file {text}: no rows of model `{model}` are given")));
        };
        file.labels = Some(path);
    }
    Ok(files)
}
