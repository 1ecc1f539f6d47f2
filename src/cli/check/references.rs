//! What is wrong with the references that are built.

use crate::config::diagnostic::{Diagnostics, Level};
use crate::reference::{ReferenceStore, StoreError};
use crate::rules::Workspace;
use crate::rules::compile::DEFAULT_REFERENCE;

/// What is wrong with the references in force, and which of them are weak. One that is not built yet is no mistake of
/// the files; `run` asks for it.
pub fn problems(workspace: &Workspace) -> Diagnostics {
    let mut found = Diagnostics::default();
    let directory = workspace.base_dir.join(&workspace.service.references);
    if !directory.is_dir() {
        return found;
    }
    let store = match ReferenceStore::open(&directory) {
        Ok(store) => store,
        Err(error) => return Diagnostics::file(&directory.display().to_string(), "unreadable", error.to_string()),
    };
    for model in &workspace.models {
        let place = directory.join(&model.model).join(DEFAULT_REFERENCE).display().to_string();
        match store.load(&model.model, DEFAULT_REFERENCE, "current") {
            Ok(reference) => {
                for warning in reference.warnings() {
                    let mut weak = Diagnostics::file(&place, "weak-reference", warning);
                    weak.items.iter_mut().for_each(|item| item.level = Level::Warning);
                    found.extend(weak);
                }
            }
            Err(StoreError::Missing { .. }) => {}
            Err(error) => {
                let mut damaged = Diagnostics::file(&place, "damaged-reference", error.to_string());
                let help = format!("build it again: driftline reference build --model {}", model.model);
                damaged.items.iter_mut().for_each(|item| item.help = Some(help.clone()));
                found.extend(damaged);
            }
        }
    }
    found
}
