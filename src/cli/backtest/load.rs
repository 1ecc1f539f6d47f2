//! Rules, models and references for a try.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;

use crate::backtest::BacktestError;
use crate::cli::check::{FAILED, UNDECIDED};
use crate::config::diagnostic::{Diagnostics, Level};
use crate::config::glob;
use crate::config::load::{Loaded as LoadedFile, open_model, open_rules};
use crate::config::model::Model;
use crate::config::rules::RuleFile;
use crate::config::service::Service;
use crate::reference::table::Table;
use crate::reference::{Reference, ReferenceStore, Source, StoreError};
use crate::rules::checks::model_problems;
use crate::rules::compile::{DEFAULT_REFERENCE, string_problems};
use crate::rules::{RuleSet, Workspace};

const USAGE: u8 = 2;

/// What is tried, and compared with what.
#[derive(Debug, Clone, Args)]
pub struct WhatArgs {
    /// Service file, for what is not given otherwise; default: driftline.yaml here.
    #[arg(long, short, value_name = "FILE", env = "DRIFTLINE_CONFIG")]
    pub config: Option<PathBuf>,
    /// Rules to try, instead of the service's; may be given several times.
    #[arg(long, value_name = "FILE")]
    pub rules: Vec<PathBuf>,
    /// Models, instead of the service's; may be given several times.
    #[arg(long = "model", value_name = "FILE")]
    pub models: Vec<PathBuf>,
    /// Rows to compare with: Parquet, CSV or JSONL. `MODEL=FILE` where there are several models. Default: the file that the
    /// model names as its `training` reference.
    #[arg(long, value_name = "[MODEL=]FILE", conflicts_with = "from_store")]
    pub reference: Vec<String>,
    /// Compare with the references in force, as the service does.
    #[arg(long)]
    pub from_store: bool,
}

/// Why nothing was tried, with the exit code.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    pub fn usage(message: impl std::fmt::Display) -> Self {
        Self { code: USAGE, message: format!("error: {message}") }
    }

    pub fn undecided(message: impl std::fmt::Display) -> Self {
        Self { code: UNDECIDED, message: format!("error: {message}") }
    }

    pub fn failed(message: impl std::fmt::Display) -> Self {
        Self { code: FAILED, message: format!("error: {message}") }
    }

    pub fn configuration(error: BacktestError) -> Self {
        match error {
            BacktestError::Failed { .. } => Self::undecided(error),
            BacktestError::UnknownModel { .. } => Self::usage(error),
            error => Self::failed(error),
        }
    }

    pub fn files(found: &Diagnostics) -> Self {
        let code = if found.unreadable() { UNDECIDED } else { FAILED };
        Self { code, message: found.text(false) }
    }

    pub fn exit(self) -> ExitCode {
        eprintln!("{}", self.message.trim_end());
        ExitCode::from(self.code)
    }
}

/// Valid rules and models.
pub struct Loaded {
    /// With the directory of its file, where the paths of its references start.
    models: Vec<(Arc<Model>, PathBuf)>,
    pub rules: Arc<RuleSet>,
    pub rule_files: Vec<RuleFile>,
    /// Of the service file, where one was needed.
    pub service: Option<Service>,
    store: Option<PathBuf>,
}

/// `needs_service`: even if models and rules are given.
pub fn load(args: &WhatArgs, needs_service: bool) -> Result<Loaded, Failure> {
    let needs_service = needs_service || args.models.is_empty() || args.rules.is_empty() || args.from_store;
    let workspace = match needs_service {
        true => Some(Workspace::load(args.config.as_deref()).map_err(|found| Failure::files(&found))?),
        false => None,
    };
    let models = match (&workspace, args.models.is_empty()) {
        (Some(workspace), true) => workspace.models.iter().cloned().zip(workspace.model_dirs.iter().cloned()).collect(),
        _ => models(&args.models)?,
    };
    let rule_paths = match (&workspace, args.rules.is_empty()) {
        (Some(workspace), true) => rule_paths(workspace),
        _ => args.rules.clone(),
    };
    let (rules, rule_files) = rules(&rule_paths, &models)?;
    let store = workspace.as_ref().map(|workspace| workspace.base_dir.join(&workspace.service.references));
    Ok(Loaded { models, rules, rule_files, store, service: workspace.map(|workspace| workspace.service) })
}

fn models(paths: &[PathBuf]) -> Result<Vec<(Arc<Model>, PathBuf)>, Failure> {
    let mut models: Vec<(Arc<Model>, PathBuf)> = Vec::new();
    let mut found = Diagnostics::default();
    for path in paths {
        match open_model(path, &path.display().to_string(), model_problems).into_result() {
            Ok(model) => {
                let directory = path.parent().unwrap_or(Path::new("")).to_path_buf();
                if models.iter().any(|(known, _)| known.model == model.value.model) {
                    return Err(Failure::usage(format!("model `{}` stands in two files", model.value.model)));
                }
                models.push((Arc::new(model.value), directory));
            }
            Err(errors) => found.extend(errors),
        }
    }
    if found.is_empty() { Ok(models) } else { Err(Failure::files(&found)) }
}

fn rule_paths(workspace: &Workspace) -> Vec<PathBuf> {
    let patterns = workspace.service.rules.iter();
    let mut paths: Vec<PathBuf> =
        patterns.flat_map(|pattern| glob::files(&workspace.base_dir, pattern).unwrap_or_default()).collect();
    paths.retain(|path| !path.to_string_lossy().ends_with(".test.yaml"));
    paths.sort();
    paths.dedup();
    paths
}

fn rules(paths: &[PathBuf], models: &[(Arc<Model>, PathBuf)]) -> Result<(Arc<RuleSet>, Vec<RuleFile>), Failure> {
    let mut found = Diagnostics::default();
    let mut files: Vec<LoadedFile<RuleFile>> = Vec::new();
    for path in paths {
        match open_rules(path, &path.display().to_string(), string_problems).into_result() {
            Ok(file) => files.push(file),
            Err(errors) => found.extend(errors),
        }
    }
    if !found.is_empty() {
        return Err(Failure::files(&found));
    }
    let shared: Vec<Arc<Model>> = models.iter().map(|(model, _)| model.clone()).collect();
    let contents: Vec<&RuleFile> = files.iter().map(|file| &file.value).collect();
    let (set, problems) = RuleSet::analyse(&contents, &shared);
    for problem in problems {
        // Rules may be about models whose history is not at hand.
        if problem.problem.level == Level::Error && problem.problem.code != "unknown-model" {
            found.push(files[problem.file].locate(problem.problem));
        }
    }
    if found.errors() > 0 {
        return Err(Failure::files(&found));
    }
    if set.rules().is_empty() {
        return Err(Failure::usage("there are no rules to try; name a file with --rules FILE"));
    }
    Ok((Arc::new(set), files.into_iter().map(|file| file.value).collect()))
}

impl Loaded {
    /// Other rules for the same models.
    pub fn with_rules(&self, paths: &[PathBuf]) -> Result<Arc<RuleSet>, Failure> {
        rules(paths, &self.models).map(|(set, _)| set)
    }

    pub fn models_named(&self, names: &[&str]) -> Vec<Arc<Model>> {
        let named = self.models.iter().filter(|(model, _)| names.contains(&model.model.as_str()));
        named.map(|(model, _)| model.clone()).collect()
    }

    pub fn model_names(&self) -> Vec<String> {
        self.models.iter().map(|(model, _)| model.model.clone()).collect()
    }

    /// `MODEL=FILE`, or a file of the only model.
    pub fn model_and_path(&self, text: &str) -> Result<(String, PathBuf), Failure> {
        let names = self.model_names();
        if let Some((model, path)) = text.split_once('=')
            && names.iter().any(|name| name == model)
        {
            return Ok((model.to_string(), PathBuf::from(path)));
        }
        match names.as_slice() {
            [only] => Ok((only.clone(), PathBuf::from(text))),
            [] => Err(Failure::usage("there is no model; name its file with --model FILE")),
            names => Err(Failure::usage(format!(
                "`{text}`: say which model it is of, MODEL={text}; the models are {}",
                names.join(", ")
            ))),
        }
    }

    /// What each of these models is compared with.
    pub fn references(&self, names: &[&str], args: &WhatArgs) -> Result<BTreeMap<String, Arc<Reference>>, Failure> {
        let mut given: BTreeMap<String, PathBuf> = BTreeMap::new();
        for text in &args.reference {
            let (model, path) = self.model_and_path(text)?;
            given.insert(model, path);
        }
        let mut references = BTreeMap::new();
        for (model, directory) in self.models.iter().filter(|(model, _)| names.contains(&model.model.as_str())) {
            let reference = match (given.get(&model.model), args.from_store) {
                (Some(path), _) => built(model, path)?,
                (None, true) => self.stored(model)?,
                (None, false) => match model.references.get(DEFAULT_REFERENCE) {
                    Some(source) => built(model, &directory.join(&source.path))?,
                    None => {
                        return Err(Failure::usage(format!(
                            "model `{}` names no reference; give its rows with --reference FILE, or use --from-store",
                            model.model
                        )));
                    }
                },
            };
            for warning in reference.warnings() {
                eprintln!("warning: {}/{}: {warning}", model.model, reference.name);
            }
            references.insert(model.model.clone(), Arc::new(reference));
        }
        Ok(references)
    }

    fn stored(&self, model: &Model) -> Result<Reference, Failure> {
        let directory = self.store.clone().unwrap_or_else(|| PathBuf::from("references"));
        let store = ReferenceStore::open(&directory).map_err(Failure::undecided)?;
        store.load(&model.model, DEFAULT_REFERENCE, "current").map_err(|error| match error {
            StoreError::Missing { .. } => Failure::failed(format!(
                "model `{0}` has no reference in {1}; build it: driftline reference build --model {0}",
                model.model,
                directory.display()
            )),
            error => Failure::undecided(error),
        })
    }
}

fn built(model: &Model, path: &Path) -> Result<Reference, Failure> {
    let table = Table::read(path).map_err(Failure::undecided)?;
    let columns = model.references.get(DEFAULT_REFERENCE).map(|source| source.columns.clone()).unwrap_or_default();
    Reference::build(model, DEFAULT_REFERENCE, &table.batches, &columns, Source::default(), 0)
        .map_err(|error| Failure::failed(format!("{}: {error}", path.display())))
}
