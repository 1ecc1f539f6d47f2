//! `driftline reference`: build, list, show, promote, roll back and compare what models are compared with.
//!
//! `build` makes references from files and from the stream, `show` lists and describes them, `diff` compares two.

mod build;
mod diff;
mod performance;
mod show;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::config::model::Model;
use crate::reference::ReferenceStore;
use crate::rules::Workspace;

use super::check::Format;
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
    /// Build references from the files that models name, another file or the stream, and put them in force
    Build(build::BuildArgs),
    /// What is stored, of what, and which references are in force
    List {
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// One reference: its source, what was in force when, and its features
    Show {
        model: String,
        #[arg(default_value = "training")]
        name: String,
        /// Content address; default: the one in force
        #[arg(default_value = "current")]
        id: String,
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// Put a stored reference in force; `run` takes it up at its next start or reload
    Promote { model: String, name: String, id: String },
    /// Put the reference in force that was before the last promotion; `run` takes it up at its next start or reload
    Rollback {
        model: String,
        #[arg(default_value = "training")]
        name: String,
    },
    /// What changed from one reference to another, feature by feature
    Diff(diff::DiffArgs),
}

/// An exit code and what to say.
type Failure = (u8, String);
type Outcome = Result<(), Failure>;

pub fn run(args: &ReferenceArgs) -> ExitCode {
    match act(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, message)) => {
            eprintln!("{}", message.trim_end());
            ExitCode::from(code)
        }
    }
}

fn failed(error: impl std::fmt::Display) -> Failure {
    (1, format!("error: {error}"))
}

fn act(args: &ReferenceArgs) -> Outcome {
    let workspace = Workspace::load(args.config.as_deref()).map_err(|errors| (1, errors.text(false)))?;
    let store = ReferenceStore::open(workspace.base_dir.join(&workspace.service.references)).map_err(failed)?;
    match &args.action {
        Action::Build(args) => build::run(args, &workspace, &store),
        Action::List { format } => show::list(&store, *format),
        Action::Show { model, name, id, format } => show::show(&store, (model, name, id), *format),
        Action::Promote { model, name, id } => {
            store.promote(model, name, id, now_ms()).map_err(failed)?;
            println!("{model}/{name}: {id} is in force; `driftline run` takes it up at its next start or reload");
            Ok(())
        }
        Action::Rollback { model, name } => {
            let left = store.current(model, name).map_err(failed)?;
            let id = store.roll_back(model, name, now_ms()).map_err(failed)?;
            println!(
                "{model}/{name}: {id} is in force instead of {left}; `driftline run` takes it up at its next start or reload"
            );
            Ok(())
        }
        Action::Diff(args) => diff::run(args, &store),
    }
}

/// The models wanted, with the directories of their files.
fn chosen<'a>(
    workspace: &'a Workspace,
    wanted: Option<&str>,
) -> Result<Vec<(&'a std::sync::Arc<Model>, &'a Path)>, Failure> {
    let models = workspace.models.iter().zip(&workspace.model_dirs).map(|(model, dir)| (model, dir.as_path()));
    let found: Vec<_> = models.filter(|(model, _)| wanted.is_none_or(|wanted| model.model == wanted)).collect();
    match wanted {
        Some(wanted) if found.is_empty() => {
            let known: Vec<&str> = workspace.models.iter().map(|model| model.model.as_str()).collect();
            Err((2, format!("error: no model `{wanted}`; the models are: {}", known.join(", "))))
        }
        _ => Ok(found),
    }
}
