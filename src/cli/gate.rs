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
use crate::reference::table::{Table, TableError};
use crate::scorer::cli::place::{PlaceError, RegistryPlace, Settings};
use crate::scorer::engine::{Engine, OnnxEngine};
use crate::scorer::gate::measure::{MeasureError, Question, measure};
use crate::scorer::gate::scoring::default_metric;
use crate::scorer::gate::version::{Version, VersionError};
use crate::scorer::gate::{GateReport, Outcome, html, json, judge, junit, text};
use crate::scorer::registry::state::ServingState;
use crate::scorer::registry::{Change, ChangeRequest, GateOutcome, Registry, RegistryError, sha256_hex};

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
    #[command(flatten)]
    pub place: RegistryPlace,
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
    /// Who asks; stands in the registry's audit. Default: the user.
    #[arg(long, env = "USER", default_value = "command line", hide_env_values = true)]
    pub by: String,
    /// Does not write the verdict to the registry's audit.
    #[arg(long)]
    pub no_audit: bool,
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

    fn refused(message: impl Into<String>) -> Self {
        Self { code: EXIT_REFUSED, message: message.into() }
    }

    fn undecided(message: impl Into<String>) -> Self {
        Self { code: EXIT_UNDECIDED, message: message.into() }
    }

    /// Of what is compared with: that it is refused says nothing of the candidate.
    fn of_other(self) -> Self {
        if self.code == EXIT_REFUSED { Self::undecided(self.message) } else { self }
    }
}

impl From<RegistryError> for Failure {
    fn from(error: RegistryError) -> Self {
        match error {
            RegistryError::NotFound(_) | RegistryError::Invalid(_) => Self::usage(error.to_string()),
            // Truncated, tampered with or not signed: such a version must not serve.
            RegistryError::Refused(_) => Self::refused(error.to_string()),
            _ => Self::undecided(error.to_string()),
        }
    }
}

impl From<PlaceError> for Failure {
    fn from(error: PlaceError) -> Self {
        match error {
            PlaceError::Usage(message) => Self::usage(message),
            PlaceError::Registry(error) => error.into(),
        }
    }
}

impl From<VersionError> for Failure {
    fn from(error: VersionError) -> Self {
        match error {
            VersionError::Refused { .. } => Self::refused(error.to_string()),
            VersionError::Engine { .. } => Self::undecided(error.to_string()),
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
    let engine = args.place.settings().map_err(Failure::from).and_then(|settings| {
        OnnxEngine::open(&settings.config.engine, &settings.base).map_err(|error| Failure::undecided(error.to_string()))
    });
    let code = match engine {
        Ok(engine) => gate(args, &engine, &mut std::io::stdout().lock(), &mut std::io::stderr()),
        Err(failure) => told(failure, &mut std::io::stderr()),
    };
    ExitCode::from(code)
}

/// Judges by this engine, writes the report to the files, the verdict to the registry's audit and the report to `out`,
/// and returns the exit code.
pub fn gate(args: &GateArgs, engine: &dyn Engine, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
    match judged(args, engine).and_then(|report| written(args, &report, out).map(|()| report.outcome)) {
        Ok(Outcome::Pass) => EXIT_PASS,
        Ok(Outcome::Refused) => EXIT_REFUSED,
        Ok(Outcome::Undecided) => EXIT_UNDECIDED,
        Err(failure) => told(failure, err),
    }
}

fn told(failure: Failure, err: &mut dyn Write) -> u8 {
    // Nothing is left to tell it to where this fails.
    let _ = writeln!(err, "driftline gate: {}", failure.message.trim_end());
    failure.code
}

fn written(args: &GateArgs, report: &GateReport, out: &mut dyn Write) -> Result<(), Failure> {
    let text = args.format.write(report)?;
    match out.write_all(text.as_bytes()) {
        // The reader has seen enough (`| head`).
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Failure::undecided(error.to_string())),
        _ => Ok(()),
    }
}

fn unknown_ending(path: &Path) -> Failure {
    Failure::usage(format!("{}: name a report .json, .html, .xml (JUnit) or .txt", path.display()))
}

/// What the command line and the files of settings say.
struct Asked<'a> {
    args: &'a GateArgs,
    model: Model,
    gate: GateFile,
    /// Asked for where the gate file names no metric.
    metric: &'static str,
    registry: Registry,
    settings: Settings,
    /// Of the model in the registry.
    name: String,
    candidate: String,
    against: Option<String>,
}

impl<'a> Asked<'a> {
    fn of(args: &'a GateArgs) -> Result<Self, Failure> {
        if let Some(path) = args.report.iter().find(|path| Format::of(path).is_none()) {
            return Err(unknown_ending(path));
        }
        // What is wrong with either file is told at once.
        let model = load_model(&args.monitor).map_err(|found| found.text(false));
        let gate = args.gate.as_deref().map_or_else(
            || Ok(GateFile::default()),
            |path| load_gate(path).map(|loaded| loaded.value).map_err(|found| found.text(false)),
        );
        let (model, gate) = match (model, gate) {
            (Ok(model), Ok(gate)) => (model.value, gate),
            (Err(model), Err(gate)) => return Err(Failure::usage(format!("{model}{gate}"))),
            (Err(found), _) | (_, Err(found)) => return Err(Failure::usage(found)),
        };
        let metric =
            model.performance.as_ref().map(|performance| default_metric(performance.task)).ok_or_else(|| {
                let file = args.monitor.display();
                Failure::usage(format!("{file}: `performance` is missing: nothing says what a good score is"))
            })?;
        let (registry, settings) = args.place.open()?;
        let name = args.model.clone().unwrap_or_else(|| model.model.clone());
        let state = registry.state(&name)?;
        let candidate = resolve(&registry, &name, &state, &args.candidate)?.ok_or_else(|| {
            Failure::usage(format!("--candidate {}: model {name} has no such version now", args.candidate))
        })?;
        let against = if args.against == "none" { None } else { resolve(&registry, &name, &state, &args.against)? };
        if against.as_ref() == Some(&candidate) {
            let message = format!("version {candidate} is {} itself: there is nothing to compare", args.against);
            return Err(Failure::usage(message));
        }
        Ok(Self { args, model, gate, metric, registry, settings, name, candidate, against })
    }

    fn version(&self, engine: &dyn Engine, version: &str) -> Result<Version, Failure> {
        let verified = self.registry.open_version(&self.name, version)?;
        Ok(Version::of(&verified, engine, &self.settings.config)?)
    }

    fn report(&self, engine: &dyn Engine) -> Result<GateReport, Failure> {
        let candidate = self.version(engine, &self.candidate)?;
        let against = self.against.as_ref().map(|version| self.version(engine, version).map_err(Failure::of_other));
        let against = against.transpose()?;
        let columns = self.model.references.get("training").map(|source| source.columns.clone()).unwrap_or_default();
        let of_reference = reference(self.args, &self.model)?;
        let question = Question {
            model: &self.model,
            candidate: &candidate,
            against: against.as_ref(),
            against_asked: &self.args.against,
            batch: whole(&self.args.data)?,
            columns,
            reference: of_reference.as_deref(),
        };
        Ok(judge(measure(&question)?, &self.gate, self.metric))
    }

    /// Puts the verdict into the registry's audit, with the digest of the report in JSON.
    fn record(&self, outcome: GateOutcome, report_sha256: Option<String>, reason: &str) -> Result<(), Failure> {
        if self.args.no_audit {
            return Ok(());
        }
        let change =
            Change::Verdict { version: self.candidate.clone(), against: self.against.clone(), outcome, report_sha256 };
        let request = ChangeRequest {
            change,
            expected_generation: None,
            expected_production: None,
            by: self.args.by.clone(),
            reason: shortened(reason),
            request_id: None,
        };
        let now_ms = chrono::Utc::now().timestamp_millis();
        let unwritten = |error: RegistryError| {
            Failure::undecided(format!(
                "the verdict cannot be written to the registry's audit: {error}; --no-audit does without"
            ))
        };
        self.registry.change(&self.name, &request, now_ms).map(drop).map_err(unwritten)
    }
}

/// Longest reason in the audit, characters.
const MAX_REASON_CHARS: usize = 1_000;

fn shortened(reason: &str) -> String {
    let line = reason.trim().replace('\n', " ");
    match line.char_indices().nth(MAX_REASON_CHARS) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line,
    }
}

/// The verdict; it counts once the files and the audit have it.
fn judged(args: &GateArgs, engine: &dyn Engine) -> Result<GateReport, Failure> {
    let asked = Asked::of(args)?;
    let report = match asked.report(engine) {
        Ok(report) => report,
        Err(failure) if failure.code == EXIT_REFUSED => {
            asked.record(GateOutcome::Refused, None, &failure.message)?;
            return Err(failure);
        }
        Err(failure) => return Err(failure),
    };
    for path in &args.report {
        let format = Format::of(path).ok_or_else(|| unknown_ending(path))?;
        let unwritten = |error| Failure::undecided(format!("{}: cannot write the report: {error}", path.display()));
        std::fs::write(path, format.write(&report)?).map_err(unwritten)?;
    }
    let digest = sha256_hex(Format::Json.write(&report)?.as_bytes());
    asked.record(report.outcome.into(), Some(digest), &report.summary())?;
    Ok(report)
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
