//! What is wrong with the references that are built.

use std::collections::BTreeMap;

use crate::config::diagnostic::{Diagnostics, Level, Problem};
use crate::config::units::Span;
use crate::reference::{Reference, ReferenceStore, StoreError};
use crate::rules::compile::DEFAULT_REFERENCE;
use crate::rules::workspace::Examined;

/// What is wrong with the references in force, and which of them are weak. One that is not built yet is no mistake of
/// the files; `run` asks for it.
pub fn problems(examined: &Examined) -> Diagnostics {
    let workspace = &examined.workspace;
    let mut found = Diagnostics::default();
    let mut rates: BTreeMap<String, f64> = BTreeMap::new();
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
                rates.extend(rate_per_ms(&reference).map(|rate| (model.model.clone(), rate)));
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
    found.extend(too_few_samples(examined, &rates));
    found
}

/// Events a millisecond, where the reference is a stretch of the stream itself.
fn rate_per_ms(reference: &Reference) -> Option<f64> {
    let stretch = reference.source.stream.as_ref()?;
    let (first_ms, last_ms) = stretch.found_ms?;
    let length_ms = last_ms - first_ms;
    (length_ms > 0).then(|| reference.rows as f64 / length_ms as f64)
}

/// Rules whose windows would hold fewer events than they need, at the rate that the reference was built at.
fn too_few_samples(examined: &Examined, rates: &BTreeMap<String, f64>) -> Diagnostics {
    let workspace = &examined.workspace;
    let mut found = Diagnostics::default();
    for file in &examined.rule_files {
        for (index, source) in file.value.rules.iter().enumerate() {
            let Some(rule) = workspace.rules.rules().iter().find(|rule| rule.name == source.name) else { continue };
            for model in workspace.models.iter().filter(|model| rule.matches_model(&model.model)) {
                let Some(rate) =
                    rates.get(&model.model).filter(|_| rule.absent.is_none() && rule.performance.is_none())
                else {
                    continue;
                };
                let size_ms = rule.window_spec(model.windows.size.ms).size_ms;
                let expected = rate * size_ms as f64;
                if expected < rule.min_samples as f64 {
                    let message = format!(
                        "windows of {} hold about {expected:.0} events of `{}`, and `{}` needs {}: it would never be judged",
                        Span::from_ms(size_ms),
                        model.model,
                        rule.name,
                        rule.min_samples
                    );
                    let needed_ms = rule.min_samples as f64 / rate;
                    let unit_ms = if needed_ms > 7_200_000.0 { 3_600_000 } else { 60_000 };
                    let longer_ms = (needed_ms / unit_ms as f64).ceil().min(1e9) as i64 * unit_ms;
                    let help =
                        format!("lower `min_samples`, or write `window: {}` or longer", Span::from_ms(longer_ms));
                    let key = if source.min_samples.is_some() { "min_samples" } else { "name" };
                    let problem = Problem::warning("min-samples", format!("/rules/{index}/{key}"), message).help(help);
                    found.push(file.locate(problem));
                }
            }
        }
    }
    found
}
