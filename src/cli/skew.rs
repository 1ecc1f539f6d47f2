//! `driftline skew`: the features that a model was served against those that it was, or would be, trained on.
//!
//! `side` reads a file or a folder, `topic` a Kafka topic, `feast` knows the shape of Feast's logs, `plan` decides by which columns rows are
//! matched and which are compared, `matching` matches, `compare` counts, `text` and `json` write. All but this file,
//! `side` and `topic` are pure.

mod compare;
mod feast;
mod json;
mod matching;
mod plan;
mod side;
mod text;
mod topic;

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::cli::check::Format;
use crate::cli::time::{Time, time};
use crate::config::load_model;
use crate::config::model::Model;
use crate::config::units::Span;
use crate::reference::stream::StreamError;
use crate::reference::table::TableError;
use crate::stats::skew::FeatureSkew;

/// The report was written, and no feature is above `--max-rate`.
const EXIT_OK: u8 = 0;
/// A feature's mismatch rate is above `--max-rate`.
const EXIT_SKEW: u8 = 1;
/// The command line does not fit the files: an unknown column, no key.
const EXIT_USAGE: u8 = 2;
/// The files cannot be read, or no row of theirs belongs together.
const EXIT_UNDECIDED: u8 = 4;

/// Compares features as they were served with features as they are trained on, value by value.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  driftline skew --online served.jsonl --offline training.parquet --id prediction_id
  driftline skew --online logs/ --offline driver_stats.parquet --entity driver_id --max-age 2h
  driftline skew --online kafka:served --offline kafka:offline-features --id prediction_id --since 1d
  driftline skew --online served.csv --offline history.csv --entity user,shop --timestamp at --max-rate 1%")]
pub struct SkewArgs {
    /// Features as served: a Parquet, CSV or JSONL file, or a folder of them; Feast's logs are read as they are. Or
    /// `kafka:TOPIC`, of JSON objects.
    #[arg(long, value_name = "PATH")]
    pub online: PathBuf,
    /// Features as trained on: a file, a folder of files, or `kafka:TOPIC`.
    #[arg(long, value_name = "PATH")]
    pub offline: PathBuf,
    /// Column with an id that both sides have, such as the prediction id.
    #[arg(long, value_name = "COLUMN", conflicts_with = "entity")]
    pub id: Option<String>,
    /// Columns that name the entity. With a time, an online row is compared with the entity's latest offline row at or
    /// before it.
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    pub entity: Vec<String>,
    /// Column of the online side with the time of serving. Default, with --entity: `__log_timestamp` of Feast, or the
    /// model's `fields.timestamp`.
    #[arg(long, value_name = "COLUMN")]
    pub timestamp: Option<String>,
    /// Column of the offline side with the time from which a row is valid. Default: the one of --timestamp if there is
    /// one of this name, or `event_timestamp`.
    #[arg(long, value_name = "COLUMN")]
    pub offline_timestamp: Option<String>,
    /// Column of the offline side with the time at which a row was written: of two rows of one time the later counts.
    #[arg(long, value_name = "COLUMN")]
    pub created_timestamp: Option<String>,
    /// An offline row is valid for this long, as `ttl` of a feature view. Default: for ever.
    #[arg(long, value_name = "DURATION", value_parser = Span::parse)]
    pub max_age: Option<Span>,
    /// Relative difference up to which numbers agree, of all features or of one (`amount=0.01`).
    #[arg(long, value_name = "[FEATURE=]T", value_parser = parse_tolerance)]
    pub tolerance: Vec<ToleranceOf>,
    /// Absolute difference up to which numbers agree, of all features or of one; 0 where not given.
    #[arg(long, value_name = "[FEATURE=]T", value_parser = parse_tolerance)]
    pub absolute_tolerance: Vec<ToleranceOf>,
    /// Of topics, only records from this time on: RFC 3339, a date, or how long ago (`7d`).
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub since: Option<Time>,
    /// Of topics, only records before this time.
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub until: Option<Time>,
    /// Most rows of a topic to hold in memory.
    #[arg(long, default_value_t = 2_000_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub max_rows: u64,
    /// Service file that says where Kafka is; default: driftline.yaml here.
    #[arg(long, short, value_name = "FILE", env = "DRIFTLINE_CONFIG")]
    pub config: Option<PathBuf>,
    /// Model file: its features are compared, by its paths and its prediction id.
    #[arg(long, value_name = "FILE")]
    pub model: Option<PathBuf>,
    /// Compare only these features.
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    pub features: Vec<String>,
    /// Compare all but these features.
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    pub exclude: Vec<String>,
    /// Exit with 1 when more than this share of a feature's pairs do not agree, `1%` or `0.01`.
    #[arg(long, value_name = "SHARE", value_parser = parse_share)]
    pub max_rate: Option<f64>,
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// A tolerance of one feature, or of all.
#[derive(Debug, Clone, PartialEq)]
pub struct ToleranceOf {
    pub feature: Option<String>,
    pub value: f64,
}

fn parse_tolerance(text: &str) -> Result<ToleranceOf, String> {
    let (feature, number) = match text.rsplit_once('=') {
        Some((feature, number)) => (Some(feature.to_string()), number),
        None => (None, text),
    };
    match number.parse::<f64>() {
        Ok(value) if value >= 0.0 && value.is_finite() => Ok(ToleranceOf { feature, value }),
        _ => Err(format!("`{number}` is not a tolerance; write a number from 0 up, such as 1e-6 or amount=0.01")),
    }
}

fn parse_share(text: &str) -> Result<f64, String> {
    let share = match text.strip_suffix('%') {
        Some(percent) => percent.trim().parse::<f64>().map(|percent| percent / 100.0),
        None => text.parse(),
    };
    match share {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err(format!("`{text}` is not a share; write for example 1% or 0.01")),
    }
}

#[derive(Debug, thiserror::Error)]
enum SkewError {
    /// A column or option that does not fit: the command line has to change.
    #[error("{0}")]
    Usage(String),
    #[error("{side} {}: {source}", path.display())]
    Column { side: &'static str, path: PathBuf, source: TableError },
    #[error("{side}: {source}")]
    File { side: &'static str, source: TableError },
    #[error("{side} {}: {source}", path.display())]
    Topic { side: &'static str, path: PathBuf, source: StreamError },
    /// The service file does not say where Kafka is.
    #[error("{0}")]
    Service(String),
    /// Nothing to compare.
    #[error("{0}")]
    NothingMatched(String),
    #[error("cannot write the report: {0}")]
    Write(String),
}

impl SkewError {
    fn exit_code(&self) -> u8 {
        match self {
            SkewError::Usage(_)
            | SkewError::Topic { source: StreamError::NoSuchTopic(_), .. }
            | SkewError::Column { source: TableError::NoSuchColumn { .. } | TableError::WrongType { .. }, .. } => {
                EXIT_USAGE
            }
            _ => EXIT_UNDECIDED,
        }
    }
}

/// What was found, before it is written.
struct Report {
    online: (PathBuf, usize),
    offline: (PathBuf, usize),
    plan: matching::Plan,
    counts: matching::Counts,
    /// Highest mismatch rate first, then by name.
    features: Vec<FeatureReport>,
    max_rate: Option<f64>,
    notes: Vec<String>,
}

struct FeatureReport {
    name: String,
    offline_column: String,
    skew: FeatureSkew,
}

impl FeatureReport {
    fn is_above(&self, max_rate: Option<f64>) -> bool {
        max_rate.is_some_and(|most| self.skew.mismatch_rate().is_some_and(|rate| rate > most))
    }
}

pub fn run(arguments: &SkewArgs) -> ExitCode {
    let model = match arguments.model.as_deref().map(load_model).transpose() {
        Ok(model) => model.map(|loaded| loaded.value),
        Err(errors) => {
            eprintln!("{}", errors.text(false).trim_end());
            return ExitCode::FAILURE;
        }
    };
    let outcome = build(arguments, model.as_ref()).and_then(|report| {
        write(arguments, &report)?;
        Ok(report.features.iter().any(|feature| feature.is_above(arguments.max_rate)))
    });
    match outcome {
        Ok(is_above) => ExitCode::from(if is_above { EXIT_SKEW } else { EXIT_OK }),
        Err(error) => {
            eprintln!("driftline skew: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn build(arguments: &SkewArgs, model: Option<&Model>) -> Result<Report, SkewError> {
    let mut notes = Vec::new();
    let mut open = |name, path| match topic::name(path) {
        Some(_) => topic::read(arguments, name, path, &mut notes),
        None => side::Side::open(name, path),
    };
    let online = open("online", &arguments.online)?;
    let offline = open("offline", &arguments.offline)?;
    let (plan, compared, left_out) = plan::plan(arguments, model, &online, &offline)?;
    notes.extend(left_out);
    let matching = matching::find(&plan, &online, &offline)?;
    if matching.counts.matched == 0 {
        return Err(SkewError::NothingMatched(text::nothing_matched(&plan, &matching, &online, &offline)));
    }
    let mut features = Vec::with_capacity(compared.len());
    for feature in compared {
        let skew = compare::compare_feature(&feature, &matching, &online, &offline)?;
        features.push(FeatureReport { name: feature.name, offline_column: feature.offline, skew });
    }
    let rate = |feature: &FeatureReport| feature.skew.mismatch_rate().unwrap_or(0.0);
    features.sort_by(|a, b| rate(b).total_cmp(&rate(a)).then_with(|| a.name.cmp(&b.name)));
    notes.sort();
    Ok(Report {
        online: (online.path, online.rows),
        offline: (offline.path, offline.rows),
        plan,
        counts: matching.counts,
        features,
        max_rate: arguments.max_rate,
        notes,
    })
}

fn write(arguments: &SkewArgs, report: &Report) -> Result<(), SkewError> {
    let stdout = std::io::stdout();
    let colour = stdout.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let text = match arguments.format {
        Format::Text => text::text(report, colour),
        Format::Json => format!("{:#}\n", json::document(report)),
    };
    match stdout.lock().write_all(text.as_bytes()) {
        // the reader has seen enough (`| head`)
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(|error| SkewError::Write(error.to_string())),
    }
}
