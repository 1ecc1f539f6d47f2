//! `driftline reference`: build, list, show and promote what models are compared with.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use sha2::{Digest, Sha256};

use crate::config::model::Model;
use crate::reference::table::Table;
use crate::reference::{Reference, ReferenceStore, Source};
use crate::rules::Workspace;
use crate::stats::layout::Layout;

use super::check::UNDECIDED;
use super::service::now_ms;

#[derive(Debug, Args)]
pub struct ReferenceArgs {
    /// Service file; default: driftline.yaml here
    #[arg(long, short, env = "DRIFTLINE_CONFIG", global = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Build references from the files that models name, and put them in force
    Build {
        /// Only this model; default: every model of the service file
        #[arg(long)]
        model: Option<String>,
        /// Only the reference of this name
        #[arg(long)]
        name: Option<String>,
        /// Build from this Parquet, CSV or JSONL file instead of the one the model names
        #[arg(long, requires = "model")]
        from: Option<PathBuf>,
        /// Store it without putting it in force
        #[arg(long)]
        no_promote: bool,
    },
    /// What is stored, and which references are in force
    List,
    /// One reference: its source and its features
    Show {
        model: String,
        #[arg(default_value = "training")]
        name: String,
        /// Content address; default: the one in force
        #[arg(default_value = "current")]
        id: String,
    },
    /// Put a stored reference in force; `run` takes it up at its next start
    Promote { model: String, name: String, id: String },
}

type Outcome = Result<(), (u8, String)>;

pub fn run(args: &ReferenceArgs) -> ExitCode {
    match act(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, message)) => {
            eprintln!("{}", message.trim_end());
            ExitCode::from(code)
        }
    }
}

fn failed(error: impl std::fmt::Display) -> (u8, String) {
    (1, format!("error: {error}"))
}

fn act(args: &ReferenceArgs) -> Outcome {
    let workspace = Workspace::load(args.config.as_deref()).map_err(|errors| (1, errors.text(false)))?;
    let store = ReferenceStore::open(workspace.base_dir.join(&workspace.service.references)).map_err(failed)?;
    match &args.action {
        Action::Build { model, name, from, no_promote } => {
            let models = chosen(&workspace, model.as_deref())?;
            let mut built = 0;
            for (model, dir) in models {
                built += build_model(dir, &store, model, name.as_deref(), from.as_deref(), !no_promote)?;
            }
            if built == 0 {
                return Err(failed(
                    "nothing to build: no model has `references:`; add them, or use --model and --from",
                ));
            }
            Ok(())
        }
        Action::List => {
            for listed in store.list().map_err(failed)? {
                let mark = if listed.current { "in force" } else { "" };
                println!("{}  {}  {}  {mark}", listed.model, listed.name, listed.id);
            }
            Ok(())
        }
        Action::Show { model, name, id } => {
            show(&store.load(model, name, id).map_err(failed)?);
            Ok(())
        }
        Action::Promote { model, name, id } => {
            store.promote(model, name, id, now_ms()).map_err(failed)?;
            println!("{model}/{name}: {id} is in force; `driftline run` takes it up at its next start");
            Ok(())
        }
    }
}

/// The models wanted, with the directories of their files.
fn chosen<'a>(workspace: &'a Workspace, wanted: Option<&str>) -> Result<Vec<(&'a Model, &'a Path)>, (u8, String)> {
    let models = workspace.models.iter().zip(&workspace.model_dirs).map(|(model, dir)| (&**model, dir.as_path()));
    let found: Vec<_> = models.filter(|(model, _)| wanted.is_none_or(|wanted| model.model == wanted)).collect();
    match wanted {
        Some(wanted) if found.is_empty() => {
            let known: Vec<&str> = workspace.models.iter().map(|model| model.model.as_str()).collect();
            Err((2, format!("error: no model `{wanted}`; the models are: {}", known.join(", "))))
        }
        _ => Ok(found),
    }
}

fn build_model(
    model_dir: &Path,
    store: &ReferenceStore,
    model: &Model,
    only: Option<&str>,
    from: Option<&Path>,
    promote: bool,
) -> Result<usize, (u8, String)> {
    let mut built = 0;
    if let Some(path) = from {
        let name = only.unwrap_or("training");
        let columns = model.references.get(name).map(|source| source.columns.clone()).unwrap_or_default();
        build_one(store, model, name, path, &columns, promote)?;
        return Ok(1);
    }
    for (name, source) in model.references.iter().filter(|(name, _)| only.is_none_or(|only| only == name.as_str())) {
        let path = model_dir.join(&source.path);
        build_one(store, model, name, &path, &source.columns, promote)?;
        built += 1;
    }
    Ok(built)
}

fn build_one(
    store: &ReferenceStore,
    model: &Model,
    name: &str,
    path: &Path,
    columns: &std::collections::BTreeMap<String, String>,
    promote: bool,
) -> Outcome {
    let table = Table::read(path).map_err(|error| (UNDECIDED, format!("error: {error}")))?;
    let bytes = std::fs::read(path).map_err(|error| (UNDECIDED, format!("error: {}: {error}", path.display())))?;
    let source = Source {
        file: path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
        sha256: Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect(),
        ..Source::default()
    };
    let reference = Reference::build(model, name, &table.batches, columns, source, now_ms())
        .map_err(|error| (1, format!("error: {}: {error}", path.display())))?;
    let stored = store.save(&reference).map_err(failed)?;
    if promote {
        store.promote(&model.model, name, &reference.id, now_ms()).map_err(failed)?;
    }
    println!(
        "{}/{name}: {} rows, {} features, id {}{}\n  {}",
        model.model,
        reference.rows,
        reference.features.len(),
        reference.id,
        if promote { ", in force" } else { "" },
        stored.display()
    );
    for warning in reference.warnings() {
        eprintln!("warning: {}/{name}: {warning}", model.model);
    }
    Ok(())
}

fn show(reference: &Reference) {
    println!("{}/{}  id {}", reference.model, reference.name, reference.id);
    println!("built    {}", super::sample::rfc3339(reference.created_ms));
    println!("from     {}  sha256 {}", reference.source.file, reference.source.sha256);
    println!("rows     {}", reference.rows);
    for (name, feature) in &reference.features {
        let shape = match &feature.layout {
            Layout::Numeric(layout) => format!("numeric, {} bins", layout.bins()),
            Layout::Categorical(layout) => format!("categorical, {} categories", layout.categories().len()),
        };
        println!("  {name:<24} {shape}, {} values, {} missing", feature.profile.n(), feature.profile.missing());
    }
    for warning in reference.warnings() {
        println!("warning: {warning}");
    }
}
