//! `driftline reference build`: from the files that models name, from another file, or from a stretch of the stream.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use datafusion::arrow::array::RecordBatch;
use sha2::{Digest, Sha256};

use crate::cli::check::UNDECIDED;
use crate::cli::service::now_ms;
use crate::cli::time::{Time, time};
use crate::config::model::Model;
use crate::log::kafka::{KafkaLog, KafkaOptions};
use crate::reference::stream::{self, Range, StreamError};
use crate::reference::table::Table;
use crate::reference::{Reference, ReferenceStore, Source, performance};
use crate::rules::Workspace;

use super::{Failure, Outcome, chosen, failed};

const DEFAULT_NAME: &str = "training";

#[derive(Debug, Args)]
pub struct BuildArgs {
    /// Only this model; default: every model of the service file
    #[arg(long)]
    model: Option<String>,
    /// Only the reference of this name
    #[arg(long)]
    name: Option<String>,
    /// Build from this Parquet, CSV or JSONL file instead of the one the model names
    #[arg(long, requires = "model", conflicts_with = "from_stream")]
    from: Option<PathBuf>,
    /// Build from events of the model's topics: those of --since to --until
    #[arg(long, requires_all = ["model", "since", "until"])]
    from_stream: bool,
    /// Start of the stretch of event time: RFC 3339, a date, or how long ago (`7d`)
    #[arg(long, value_parser = time, requires = "from_stream")]
    since: Option<Time>,
    /// End of the stretch, itself not in it
    #[arg(long, value_parser = time, requires = "from_stream")]
    until: Option<Time>,
    /// Read this topic of the model only; may be given several times
    #[arg(long = "topic", requires = "from_stream")]
    topics: Vec<String>,
    /// Most events to hold in memory
    #[arg(long, requires = "from_stream", default_value_t = 2_000_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    max_rows: u64,
    /// Version of the model that the data belong to; from the stream, only its events are taken
    #[arg(long, value_name = "VERSION")]
    for_version: Option<String>,
    /// Store it without putting it in force
    #[arg(long)]
    no_promote: bool,
}

pub fn run(args: &BuildArgs, workspace: &Workspace, store: &ReferenceStore) -> Outcome {
    let models = chosen(workspace, args.model.as_deref())?;
    let mut built = 0;
    for (model, dir) in models {
        built += build_model(args, workspace, store, model, dir)?;
    }
    if built == 0 {
        return Err(failed(
            "nothing to build: no model has `references:`; add them, or use --model with --from or --from-stream",
        ));
    }
    Ok(())
}

fn build_model(
    args: &BuildArgs,
    workspace: &Workspace,
    store: &ReferenceStore,
    model: &Arc<Model>,
    model_dir: &Path,
) -> Result<usize, Failure> {
    let keeper = Keeper { store, model, args };
    let name = args.name.as_deref().unwrap_or(DEFAULT_NAME);
    if args.from_stream {
        keeper.build_from_stream(workspace, name)?;
        return Ok(1);
    }
    if let Some(path) = &args.from {
        let columns = model.references.get(name).map(|source| source.columns.clone()).unwrap_or_default();
        keeper.build_from_file(name, path, &columns)?;
        return Ok(1);
    }
    let wanted = model.references.iter().filter(|(name, _)| args.name.as_ref().is_none_or(|only| only == *name));
    let mut built = 0;
    for (name, source) in wanted {
        keeper.build_from_file(name, &model_dir.join(&source.path), &source.columns)?;
        built += 1;
    }
    Ok(built)
}

/// Builds references of one model and keeps them.
struct Keeper<'a> {
    store: &'a ReferenceStore,
    model: &'a Arc<Model>,
    args: &'a BuildArgs,
}

impl Keeper<'_> {
    fn build_from_file(&self, name: &str, path: &Path, columns: &BTreeMap<String, String>) -> Outcome {
        let table = Table::read(path).map_err(|error| (UNDECIDED, format!("error: {error}")))?;
        let bytes = std::fs::read(path).map_err(|error| (UNDECIDED, format!("error: {}: {error}", path.display())))?;
        let source = Source {
            file: path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
            sha256: Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect(),
            stream: None,
            version: self.args.for_version.clone(),
        };
        self.keep(name, &table.batches, columns, source, &path.display().to_string())
    }

    fn build_from_stream(&self, workspace: &Workspace, name: &str) -> Outcome {
        let now_ms = now_ms();
        let at = |time: &Option<Time>| time.map_or(now_ms, |time| time.ms(now_ms));
        let range = Range {
            topics: self.args.topics.clone(),
            from_ms: at(&self.args.since),
            to_ms: at(&self.args.until),
            version: self.args.for_version.clone(),
            most_rows: self.args.max_rows,
        };
        if range.from_ms >= range.to_ms {
            return Err((2, "error: the stretch is empty: --since must be before --until".into()));
        }
        let kafka = &workspace.service.kafka;
        let log = KafkaLog::new(KafkaOptions {
            bootstrap_servers: kafka.bootstrap_servers.clone(),
            client_id: format!("{}-reference", workspace.service.app),
            instance: None,
            properties: kafka.properties.clone(),
        })
        .map_err(|error| (UNDECIDED, format!("error: kafka: {error}")))?;
        let shown = std::io::stderr().is_terminal();
        let progress = |read: u64| {
            if shown {
                // Nobody misses a line of progress that could not be written.
                let _ = write!(std::io::stderr(), "\r{read} records read");
            }
        };
        let rows = stream::read(&log, self.model, &range, now_ms, progress).map_err(|error| {
            let code = if matches!(error, StreamError::TooManyRows { .. } | StreamError::NoTopic { .. }) {
                1
            } else {
                UNDECIDED
            };
            (code, format!("error: {error}"))
        })?;
        if shown {
            eprintln!();
        }
        println!(
            "{} records read, {} events taken, {} records broken",
            rows.read,
            rows.batch.num_rows(),
            rows.rejected
        );
        let source = Source { stream: Some(rows.stretch), version: range.version, ..Source::default() };
        self.keep(name, &[rows.batch], &BTreeMap::new(), source, "the stream")
    }

    fn keep(
        &self,
        name: &str,
        batches: &[RecordBatch],
        columns: &BTreeMap<String, String>,
        source: Source,
        origin: &str,
    ) -> Outcome {
        let model = &self.model.model;
        let reference = Reference::build(self.model, name, batches, columns, source, now_ms())
            .map_err(|error| (1, format!("error: {origin}: {error}")))?;
        let stored = self.store.save(&reference).map_err(failed)?;
        let promote = !self.args.no_promote;
        if promote {
            self.store.promote(model, name, &reference.id, now_ms()).map_err(failed)?;
        }
        println!(
            "{model}/{name}: {} rows, {} features, id {}{}\n  {}",
            reference.rows,
            reference.features.len(),
            reference.id,
            if promote { ", in force" } else { "" },
            stored.display()
        );
        let unjudged = performance::why_not(self.model, columns, batches);
        for warning in reference.warnings().into_iter().chain(unjudged) {
            eprintln!("warning: {model}/{name}: {warning}");
        }
        let labels_apart = self.model.performance.as_ref().is_some_and(|performance| performance.labels.is_some());
        if self.args.from_stream && labels_apart {
            eprintln!(
                "note: {model}/{name}: labels come on topics of their own and are not read with a stretch of the stream; \
                 build from a file with a column of labels for the model's performance"
            );
        }
        Ok(())
    }
}
