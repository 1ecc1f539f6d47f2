//! `driftline report`: what drifted between a reference file and a current file, window by window, without Kafka.
//!
//! `windows` cuts the current rows, `plan` decides which columns are compared as what, `compute` computes them (with
//! `profile` from profiles),
//! `performance` how well the model did, `joint` all numeric features together, `changes` where a signal changed;
//! `verdict` judges, `explain` says what moved, `text` and `json` write. All but this file are pure apart from reading
//! the two tables.

mod changes;
mod compute;
mod explain;
mod joint;
mod json;
mod performance;
mod plan;
mod profile;
mod text;
mod verdict;
mod windows;

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use crate::config::model::Model;
use crate::reference::table::{TableError, TableFile};
use crate::stats::change::method::{Method, parse_list};
use crate::stats::rows::numeric::{Depth, Metrics};

pub(super) use compute::short;
pub(super) use text::counted;
pub use verdict::Thresholds;
pub use windows::WindowSpec;
pub(super) use windows::instant;

/// The report was written, and with `--fail-on-drift` nothing has drifted.
const EXIT_OK: u8 = 0;
/// Something has drifted, and `--fail-on-drift` was given.
const EXIT_DRIFT: u8 = 1;
/// The command line does not fit the files: an unknown column, an unknown window.
const EXIT_USAGE: u8 = 2;
/// The files cannot be read or judged.
const EXIT_UNDECIDED: u8 = 4;

/// Says what drifted between a reference file and a current file; no Kafka needed.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  driftline report --reference train.parquet --current live.parquet --windows count:5000
  driftline report --reference train.csv --current live.csv --windows time:1h --timestamp event_time
  driftline report --reference train.parquet --current live.parquet --windows column:month --format jsonl
  driftline report --reference train.csv --current live.csv --task binary --label y --prediction p --score s
  driftline report --reference train.csv --current live.csv --detectors 'adwin,page_hinkley(threshold=20)' --signal amount")]
pub struct ReportArgs {
    /// Rows from when all was well: Parquet, CSV (with a header) or JSONL.
    #[arg(long, value_name = "FILE")]
    pub reference: PathBuf,
    /// Rows to compare with it.
    #[arg(long, value_name = "FILE")]
    pub current: PathBuf,
    /// How the current rows are cut: `all`, `count:5000` rows in file order, `time:1h` of event time (needs
    /// --timestamp), or `column:month`, one window per value.
    #[arg(long, value_name = "SPEC", default_value = "all")]
    pub windows: WindowSpec,
    /// Column with the event time: a timestamp, RFC 3339 text, or seconds, ms or µs since 1970.
    #[arg(long, value_name = "COLUMN")]
    pub timestamp: Option<String>,
    /// Model file that says which columns are numeric and which categorical.
    #[arg(long, value_name = "FILE")]
    pub model: Option<PathBuf>,
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// Compare only these columns.
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    pub features: Vec<String>,
    /// Compare all but these columns.
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    pub exclude: Vec<String>,
    /// What the model does; names what its columns mean.
    #[arg(long, value_enum, requires = "label")]
    pub task: Option<Task>,
    /// Column with the true outcome.
    #[arg(long, value_name = "COLUMN", requires = "task")]
    pub label: Option<String>,
    /// Column with the model's answer.
    #[arg(long, value_name = "COLUMN", requires = "task")]
    pub prediction: Option<String>,
    /// Column with the model's score; for a multiclass model once per class.
    #[arg(long, value_name = "[CLASS=]COLUMN", requires = "task")]
    pub score: Vec<String>,
    /// The label that a binary score speaks of.
    #[arg(long, value_name = "LABEL", default_value = "1")]
    pub positive: String,
    /// Below this many values in a window a feature is not judged.
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub min_samples: u64,
    /// Population stability index above which a feature may count as drifted.
    #[arg(long, value_name = "PSI", default_value_t = 0.1)]
    pub psi_above: f64,
    /// Largest adjusted p-value of a drifted feature (Benjamini-Hochberg over the tests of a window).
    #[arg(long, value_name = "P", default_value_t = 0.01)]
    pub significance: f64,
    /// Also compute the exact law of KS (`ks_p_exact`) where both sides have at most 10 000 values; slow.
    #[arg(long)]
    pub exact: bool,
    /// Also compare all numeric features together: squared maximum mean discrepancy of the first 500 complete rows.
    #[arg(long)]
    pub mmd: bool,
    /// Change detectors that read the current rows in file order: adwin, page_hinkley, ddm, eddm, hddm_a, hddm_w, fhddm,
    /// kswin; parameters in parentheses, `adwin(delta=0.05,clock=1)`.
    #[arg(long, value_name = "LIST", requires = "signal", value_parser = parse_detectors)]
    pub detectors: Option<Detectors>,
    /// Columns that the detectors read. `error`, where no column has this name: 1 where prediction and label differ (of
    /// a regression model the absolute error); needs --task.
    #[arg(long, value_name = "A,B", value_delimiter = ',', requires = "detectors")]
    pub signal: Vec<String>,
    /// Compute from profiles, as the service does, not from the rows: what bins hide comes with a bound, and what
    /// needs the rows is absent.
    #[arg(long)]
    pub profile: bool,
    /// Exit with 1 when a feature has drifted in any window.
    #[arg(long)]
    pub fail_on_drift: bool,
    /// Where to write; `-` is the standard output.
    #[arg(long, value_name = "FILE", default_value = "-")]
    pub output: PathBuf,
}

/// Change detectors, as `--detectors` lists them.
#[derive(Debug, Clone, PartialEq)]
pub struct Detectors(pub Vec<Method>);

fn parse_detectors(text: &str) -> Result<Detectors, String> {
    parse_list(text).map(Detectors)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// One document.
    Json,
    /// One value a line: window, feature, metric, value.
    Jsonl,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Task {
    Binary,
    Regression,
    Multiclass,
}

#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A column or option that does not fit: the command line has to change.
    #[error("{0}")]
    Usage(String),
    #[error("{side} file {}: {source}", path.display())]
    Column { side: &'static str, path: PathBuf, source: TableError },
    #[error("{0}")]
    File(#[from] TableError),
    #[error("{}: cannot write the report: {reason}", path.display())]
    Write { path: PathBuf, reason: String },
}

impl ReportError {
    fn exit_code(&self) -> u8 {
        match self {
            ReportError::Usage(_) => EXIT_USAGE,
            ReportError::Column { source: TableError::NoSuchColumn { .. } | TableError::WrongType { .. }, .. } => {
                EXIT_USAGE
            }
            _ => EXIT_UNDECIDED,
        }
    }
}

/// The columns that say how well the model does.
#[derive(Debug, Clone, PartialEq)]
pub struct Performance {
    pub task: Task,
    pub label: String,
    pub prediction: Option<String>,
    /// By class; a binary score stands under the empty name.
    pub scores: BTreeMap<String, String>,
    pub positive: String,
}

/// What a report holds, before it is written.
#[derive(Debug)]
pub struct Report {
    pub reference: Source,
    pub current: Source,
    pub spec: WindowSpec,
    pub thresholds: Thresholds,
    pub windows: Vec<windows::WindowRows>,
    pub features: Vec<compute::FeatureReport>,
    /// One per window.
    pub verdicts: Vec<verdict::WindowVerdict>,
    /// What was left out, and why.
    pub notes: Vec<String>,
    pub performance: Option<performance::PerformanceReport>,
    /// By window; empty where not asked for.
    pub joint: Vec<Metrics>,
    /// By signal and detector.
    pub changes: Vec<changes::SignalChanges>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    pub path: PathBuf,
    pub rows: usize,
}

/// Runs the command. A model, where given, decides the types of the columns that it names.
pub fn run(arguments: &ReportArgs, model: Option<&Model>) -> ExitCode {
    let outcome = build(arguments, model).and_then(|report| {
        write(arguments, &report)?;
        Ok(report)
    });
    match outcome {
        Ok(report) => {
            let drifted = report.verdicts.iter().any(verdict::WindowVerdict::has_drift);
            ExitCode::from(if drifted && arguments.fail_on_drift { EXIT_DRIFT } else { EXIT_OK })
        }
        Err(error) => {
            eprintln!("driftline report: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

/// Reads both files and computes everything.
pub fn build(arguments: &ReportArgs, model: Option<&Model>) -> Result<Report, ReportError> {
    let outcomes = outcome_columns(arguments)?;
    let reference = TableFile::open(&arguments.reference)?;
    let current = TableFile::open(&arguments.current)?;
    let depth = match (arguments.format, arguments.exact) {
        (_, true) => Depth::FullExact,
        (Format::Text, false) => Depth::Summary,
        (Format::Json | Format::Jsonl, false) => Depth::Full,
    };
    let cut = windows::cut(&arguments.windows, arguments.timestamp.as_deref(), &current)?;
    let mut plan = plan::plan(arguments, model, outcomes.as_ref(), &reference, &current)?;
    plan.notes.extend(cut.note.clone());
    let (features, identifiers) =
        compute::compute(&plan.features, &reference, &current, &cut, depth, arguments.profile)?;
    plan.notes.extend(identifiers);
    let performance = match &outcomes {
        Some(columns) => Some(performance::compute(columns, &reference, &current, &cut)?),
        None => None,
    };
    plan.notes.extend(performance.iter().filter_map(|(_, note)| note.clone()));
    let joint = match arguments.mmd {
        true => joint::compute(&plan.features, outcomes.as_ref(), &reference, &current, &cut)?,
        false => Vec::new(),
    };
    let request = changes::Request {
        methods: arguments.detectors.as_ref().map_or(&[], |detectors| &detectors.0),
        signals: &arguments.signal,
        timestamp: arguments.timestamp.as_deref(),
        performance: outcomes.as_ref(),
    };
    let changes = changes::find(&request, &current, &cut)?;
    let thresholds = Thresholds {
        psi_above: arguments.psi_above,
        significance: arguments.significance,
        min_samples: arguments.min_samples,
    };
    let verdicts = (0..cut.windows.len()).map(|window| verdict::judge(window, &features, &thresholds)).collect();
    let source = |file: &TableFile| Source { path: file.path.clone(), rows: file.rows };
    Ok(Report {
        reference: source(&reference),
        current: source(&current),
        spec: arguments.windows.clone(),
        thresholds,
        windows: cut.windows,
        features,
        verdicts,
        notes: plan.notes,
        performance: performance.map(|(performance, _)| performance),
        joint,
        changes,
    })
}

fn outcome_columns(arguments: &ReportArgs) -> Result<Option<Performance>, ReportError> {
    let (Some(task), Some(label)) = (arguments.task, &arguments.label) else { return Ok(None) };
    let usage = |text: &str| Err(ReportError::Usage(text.to_string()));
    let mut scores = BTreeMap::new();
    for score in &arguments.score {
        let (class, column) = score.split_once('=').unwrap_or(("", score));
        if (task == Task::Multiclass) == class.is_empty() {
            return usage(&match task {
                Task::Multiclass => format!("--score {score}: name the class too, --score CLASS={score}"),
                _ => format!("--score {score}: only a multiclass model has scores by class; write --score {column}"),
            });
        }
        if scores.insert(class.to_string(), column.to_string()).is_some() {
            return usage(&format!("--score {score}: this class has a score already"));
        }
    }
    if task == Task::Regression && !scores.is_empty() {
        return usage("--score: a regression model has none; its output is --prediction");
    }
    if arguments.prediction.is_none() && scores.is_empty() {
        return usage("--task: name the model's output too, with --prediction or --score");
    }
    Ok(Some(Performance {
        task,
        label: label.clone(),
        prediction: arguments.prediction.clone(),
        scores,
        positive: arguments.positive.clone(),
    }))
}

fn write(arguments: &ReportArgs, report: &Report) -> Result<(), ReportError> {
    let to_terminal = arguments.output == Path::new("-") && std::io::stdout().is_terminal();
    let colour = to_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let mut bytes = Vec::new();
    let failed = |reason: String| ReportError::Write { path: arguments.output.clone(), reason };
    match arguments.format {
        Format::Text => text::write(&mut bytes, report, colour).map_err(|error| failed(error.to_string()))?,
        Format::Json => json::write_document(&mut bytes, report).map_err(failed)?,
        Format::Jsonl => json::write_lines(&mut bytes, report).map_err(|error| failed(error.to_string()))?,
    }
    let written = if arguments.output == Path::new("-") {
        std::io::stdout().lock().write_all(&bytes)
    } else {
        std::fs::write(&arguments.output, &bytes)
    };
    match written {
        // the reader has seen enough (`| head`)
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(|error| failed(error.to_string())),
    }
}
