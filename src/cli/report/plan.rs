//! Which columns are compared, and as what.

use std::collections::BTreeSet;

use super::{Performance, ReportArgs, ReportError, WindowSpec};
use crate::config::model::{Kind, Model, PREDICTION_SIGNAL, SCORE_SIGNAL};
use crate::reference::table::{ColumnKind, TableError, TableFile};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedFeature {
    pub name: String,
    pub kind: Kind,
    /// Asked for by name: compared even if it looks like an identifier.
    pub named: bool,
}

#[derive(Debug, Default)]
pub struct Plan {
    pub features: Vec<PlannedFeature>,
    pub notes: Vec<String>,
}

pub fn plan(
    arguments: &ReportArgs,
    model: Option<&Model>,
    performance: Option<&Performance>,
    reference: &TableFile,
    current: &TableFile,
) -> Result<Plan, ReportError> {
    let on_reference =
        |source: TableError| ReportError::Column { side: "reference", path: reference.path.clone(), source };
    let on_current = |source: TableError| ReportError::Column { side: "current", path: current.path.clone(), source };
    for name in performance.iter().flat_map(|performance| performance.columns()) {
        current.kind(name).map_err(on_current)?;
    }
    for name in &arguments.features {
        reference.kind(name).map_err(on_reference)?;
        current.kind(name).map_err(on_current)?;
    }
    for name in &arguments.exclude {
        if reference.kind(name).is_err() {
            current.kind(name).map_err(on_current)?;
        }
    }

    let mut skipped: BTreeSet<&str> = arguments.exclude.iter().map(String::as_str).collect();
    skipped.extend(arguments.timestamp.as_deref());
    if let WindowSpec::Column(name) = &arguments.windows {
        skipped.insert(name);
    }
    let mut plan = Plan::default();
    let wanted: Vec<&str> = if arguments.features.is_empty() {
        reference.column_names()
    } else {
        arguments.features.iter().map(String::as_str).collect()
    };
    for name in wanted {
        if skipped.contains(name) {
            continue;
        }
        let named = !arguments.features.is_empty();
        let Ok(in_current) = current.kind(name) else {
            plan.notes.push(format!("`{name}` is in the reference but not in the current file"));
            continue;
        };
        let in_reference = reference.kind(name).map_err(on_reference)?;
        let kind = match model.and_then(|model| kind_in_model(model, name)) {
            Some(Kind::Vector) => Ok(None),
            Some(kind) => Ok(Some(kind)),
            None => agree(in_reference, in_current),
        };
        match kind {
            Ok(Some(kind)) => plan.features.push(PlannedFeature { name: name.to_string(), kind, named }),
            Ok(None) => plan.notes.push(format!("`{name}` is {}: not compared", describe(in_reference))),
            Err(()) => {
                return Err(ReportError::Usage(format!(
                    "column `{name}` is {} in the reference and {} in the current file; write it alike in both, give \
                     its type in a model file, or leave it out with --exclude {name}",
                    describe(in_reference),
                    describe(in_current)
                )));
            }
        }
    }
    if arguments.features.is_empty() {
        let known: BTreeSet<&str> = reference.column_names().into_iter().collect();
        for name in current.column_names() {
            if !known.contains(name) && !skipped.contains(name) {
                plan.notes.push(format!("`{name}` is in the current file but not in the reference"));
            }
        }
    }
    if plan.features.is_empty() {
        return Err(ReportError::Usage("no column to compare: both files must have the same feature columns".into()));
    }
    Ok(plan)
}

impl Performance {
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.label.as_str())
            .chain(self.prediction.as_deref())
            .chain(self.scores.values().map(String::as_str))
    }
}

fn kind_in_model(model: &Model, name: &str) -> Option<Kind> {
    let output = match name {
        PREDICTION_SIGNAL => model.prediction.as_ref(),
        SCORE_SIGNAL => model.score.as_ref(),
        _ => None,
    };
    model.features.get(name).map(|feature| feature.kind()).or_else(|| output.map(|column| column.kind))
}

/// `None`: no type that has a distribution here.
fn agree(reference: ColumnKind, current: ColumnKind) -> Result<Option<Kind>, ()> {
    use ColumnKind::{Categorical, Empty, Numeric, Other, Time};
    match (reference, current) {
        (Numeric, Numeric | Empty) | (Empty, Numeric | Empty) => Ok(Some(Kind::Numeric)),
        (Categorical, Categorical | Empty) | (Empty, Categorical) => Ok(Some(Kind::Categorical)),
        (Time | Other, _) | (_, Time | Other) => Ok(None),
        (Numeric, Categorical) | (Categorical, Numeric) => Err(()),
    }
}

fn describe(kind: ColumnKind) -> &'static str {
    match kind {
        ColumnKind::Numeric => "numeric",
        ColumnKind::Categorical => "text or boolean",
        ColumnKind::Time => "a time",
        ColumnKind::Empty => "empty",
        ColumnKind::Other => "a list, structure or binary value",
    }
}
