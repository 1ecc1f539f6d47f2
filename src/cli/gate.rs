//! `driftline gate`: whether a version may serve; what a pipeline runs between training and traffic.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::compute::concat_batches;

use crate::config::gate::{GateFile, load_gate};
use crate::config::load_model;
use crate::config::model::Model;
use crate::config::scorer::EngineSettings;
use crate::reference::table::{Table, TableError};
use crate::scorer::engine::{Engine, EngineError, OnnxEngine};
use crate::scorer::gate::measure::{MeasureError, Question, Version, measure};
use crate::scorer::gate::scoring::default_metric;
use crate::scorer::gate::{GateReport, Outcome, html, json, judge, junit, text};
use crate::scorer::registry::state::ServingState;
use crate::scorer::registry::{Registry, RegistryError};

/// Every check passed.
const EXIT_PASS: u8 = 0;
/// Some check did not, and the version must not serve.
const EXIT_REFUSED: u8 = 1;
/// The command line or a file of settings is wrong.
const EXIT_USAGE: u8 = 2;
/// Too little data, or the rows, the registry or a version cannot be read.
const EXIT_UNDECIDED: u8 = 4;

/// Judges a version on rows whose labels are known: the data, the features, and the model beside the one in production.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Exit codes: 0 passed, 1 refused, 2 usage, 4 undecided: too little data, or something cannot be read.

Examples:
  driftline gate --registry registry --monitor models/credit.yaml --candidate 7 --data holdout.parquet
  driftline gate --registry registry --monitor models/credit.yaml --candidate 7 --against 5 --data holdout.jsonl \\
    --gate gate.yaml --report gate.html --report gate.xml"
)]
pub struct GateArgs {
    /// The scorer's registry.
    #[arg(long, value_name = "DIR")]
    pub registry: PathBuf,
    /// The monitor's model file: features, label, segments, and what is judged by.
    #[arg(long, value_name = "FILE")]
    pub monitor: PathBuf,
    /// Name of the model in the registry; default: that of the model file.
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// The version that is judged; `canary`, `shadow` and `latest` name one, too.
    #[arg(long, value_name = "VERSION")]
    pub candidate: String,
    /// The version that it is judged by: one by its name, `production`, `previous`, or `none`.
    #[arg(long, value_name = "VERSION", default_value = "production")]
    pub against: String,
    /// Rows with labels that neither version was trained on: Parquet, CSV (with a header) or JSONL.
    #[arg(long, value_name = "FILE")]
    pub data: PathBuf,
    /// Rows from when all was well; default: the model file's reference `training`.
    #[arg(long, value_name = "FILE")]
    pub reference: Option<PathBuf>,
    /// What must be reached; default: one metric of the model's task, at most 0.01 worse.
    #[arg(long, value_name = "FILE")]
    pub gate: Option<PathBuf>,
    /// How the report is written to the standard output.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// Writes the report to a file, too: `.json`, `.html`, `.xml` (JUnit) or `.txt`; may be repeated.
    #[arg(long, value_name = "FILE")]
    pub report: Vec<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// Every number.
    Json,
    /// A page that stands alone.
    Html,
    /// XML that CI systems show.
    Junit,
}

impl Format {
    fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "json" => Some(Self::Json),
            "html" | "htm" => Some(Self::Html),
            "xml" => Some(Self::Junit),
            "txt" => Some(Self::Text),
            _ => None,
        }
    }

    fn write(self, report: &GateReport) -> Result<String, Failure> {
        match self {
            Self::Text => Ok(text::text(report)),
            Self::Json => json::json(report).map_err(|error| Failure::undecided(error.to_string())),
            Self::Html => Ok(html::html(report)),
            Self::Junit => Ok(junit::junit(report)),
        }
    }
}

/// Why there is no verdict, with the exit code.
#[derive(Debug)]
struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    fn usage(message: impl Into<String>) -> Self {
        Self { code: EXIT_USAGE, message: message.into() }
    }

    fn undecided(message: impl Into<String>) -> Self {
        Self { code: EXIT_UNDECIDED, message: message.into() }
    }
}

impl From<RegistryError> for Failure {
    fn from(error: RegistryError) -> Self {
        match error {
            RegistryError::NotFound(_) | RegistryError::Invalid(_) => Self::usage(error.to_string()),
            // Truncated, tampered with or not signed: such a version must not serve.
            RegistryError::Refused(_) => Self { code: EXIT_REFUSED, message: error.to_string() },
            _ => Self::undecided(error.to_string()),
        }
    }
}

impl From<TableError> for Failure {
    fn from(error: TableError) -> Self {
        match error {
            TableError::Missing { .. } | TableError::UnknownFormat { .. } => Self::usage(error.to_string()),
            _ => Self::undecided(error.to_string()),
        }
    }
}

impl From<MeasureError> for Failure {
    fn from(error: MeasureError) -> Self {
        Self::undecided(error.to_string())
    }
}

pub fn run(args: &GateArgs) -> ExitCode {
    let engine = match OnnxEngine::open(&EngineSettings::default(), Path::new(".")) {
        Ok(engine) => engine,
        Err(error) => {
            eprintln!("driftline gate: {error}");
            return ExitCode::from(EXIT_UNDECIDED);
        }
    };
    ExitCode::from(gate(args, &engine, &mut std::io::stdout().lock(), &mut std::io::stderr()))
}

/// Judges by this engine, writes the report to `out` and the files, and returns the exit code.
pub fn gate(args: &GateArgs, engine: &dyn Engine, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
    let verdict = judged(args, engine).and_then(|report| {
        for path in &args.report {
            let format = Format::of(path).ok_or_else(|| unknown_ending(path))?;
            let unwritten = |error| Failure::undecided(format!("{}: cannot write the report: {error}", path.display()));
            std::fs::write(path, format.write(&report)?).map_err(unwritten)?;
        }
        let text = args.format.write(&report)?;
        match out.write_all(text.as_bytes()) {
            // The reader has seen enough (`| head`).
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Failure::undecided(error.to_string())),
            _ => Ok(report.outcome),
        }
    });
    match verdict {
        Ok(Outcome::Pass) => EXIT_PASS,
        Ok(Outcome::Refused) => EXIT_REFUSED,
        Ok(Outcome::Undecided) => EXIT_UNDECIDED,
        Err(failure) => {
            // Nothing is left to tell it to where this fails.
            let _ = writeln!(err, "driftline gate: {}", failure.message.trim_end());
            failure.code
        }
    }
}

fn unknown_ending(path: &Path) -> Failure {
    Failure::usage(format!("{}: name a report .json, .html, .xml (JUnit) or .txt", path.display()))
}

fn judged(args: &GateArgs, engine: &dyn Engine) -> Result<GateReport, Failure> {
    if let Some(path) = args.report.iter().find(|path| Format::of(path).is_none()) {
        return Err(unknown_ending(path));
    }
    let model = load_model(&args.monitor).map_err(|found| Failure::usage(found.text(false)))?.value;
    let settings = match &args.gate {
        Some(path) => load_gate(path).map_err(|found| Failure::usage(found.text(false)))?.value,
        None => GateFile::default(),
    };
    let metric = match &model.performance {
        Some(performance) => default_metric(performance.task),
        None => {
            let file = args.monitor.display();
            return Err(Failure::usage(format!("{file}: `performance` is missing: nothing says what a good score is")));
        }
    };
    let registry = Registry::open(&args.registry)?;
    let name = args.model.as_deref().unwrap_or(&model.model);
    let state = registry.state(name)?;
    let resolve = |wanted: &str| resolve(&registry, name, &state, wanted);
    let candidate = resolve(&args.candidate)?.ok_or_else(|| {
        Failure::usage(format!("--candidate {}: model {name} has no such version now", args.candidate))
    })?;
    let against = if args.against == "none" { None } else { resolve(&args.against)? };
    if against.as_ref() == Some(&candidate) {
        let message = format!("version {candidate} is {} itself: there is nothing to compare", args.against);
        return Err(Failure::usage(message));
    }
    let candidate = load(&registry, engine, name, &candidate)?;
    let against = against.map(|version| load(&registry, engine, name, &version)).transpose()?;
    let columns = model.references.get("training").map(|source| source.columns.clone()).unwrap_or_default();
    let of_reference = reference(args, &model)?;
    let question = Question {
        model: &model,
        candidate: &candidate,
        against: against.as_ref(),
        batch: whole(&args.data)?,
        columns,
        reference: of_reference.as_deref(),
    };
    Ok(judge(measure(&question)?, &settings, metric))
}

/// The version that a word names; `None`: there is none of that kind now.
fn resolve(registry: &Registry, model: &str, state: &ServingState, wanted: &str) -> Result<Option<String>, Failure> {
    Ok(match wanted {
        "production" => state.production.clone(),
        "previous" => state.previous.clone(),
        "canary" => state.canary.as_ref().map(|canary| canary.version.clone()),
        "shadow" => state.shadow.clone(),
        "latest" => registry.versions(model)?.pop(),
        version => Some(version.to_string()),
    })
}

fn load(registry: &Registry, engine: &dyn Engine, model: &str, name: &str) -> Result<Version, Failure> {
    let version = registry.open_version(model, name)?;
    let loaded = engine.load(&version.model).map_err(|error| {
        let code = match error {
            EngineError::Model(_) => EXIT_REFUSED,
            _ => EXIT_UNDECIDED,
        };
        Failure { code, message: format!("version {name}: {error}") }
    })?;
    Ok(Version {
        name: name.to_string(),
        bytes: version.model.len() as u64,
        loaded,
        feature_names: None,
        transform: version.manifest.lineage.transform.clone(),
    })
}

/// All rows of a file as one batch.
fn whole(path: &Path) -> Result<RecordBatch, Failure> {
    let table = Table::read(path)?;
    let unreadable = |error| Failure::undecided(format!("{}: {error}", path.display()));
    concat_batches(&table.schema, &table.batches).map_err(unreadable)
}

/// The rows to look for drift against: the file given, or the one that the model file names, if it is there.
fn reference(args: &GateArgs, model: &Model) -> Result<Option<Vec<RecordBatch>>, Failure> {
    let of_model = || {
        let source = model.references.get("training")?;
        let folder = args.monitor.parent().unwrap_or(Path::new("."));
        Some(folder.join(&source.path)).filter(|path| path.is_file())
    };
    let path = args.reference.clone().or_else(of_model);
    path.map(|path| Ok(Table::read(&path)?.batches)).transpose()
}
