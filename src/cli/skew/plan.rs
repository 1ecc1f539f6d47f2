//! By which columns rows are matched, and which are compared.

use super::feast;
use super::matching::{Plan, TimePlan};
use super::side::Side;
use super::{SkewArgs, SkewError, ToleranceOf};
use crate::config::model::Model;
use crate::stats::skew::Tolerance;

/// Relative tolerance where none is given: ten times what a value loses on its way through 32 bits.
const RELATIVE_TOLERANCE: f64 = 1e-6;

/// One feature, and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct ComparedFeature {
    pub name: String,
    pub online: String,
    pub offline: String,
    /// Columns of Feast's logs about it.
    pub status: Option<String>,
    pub timestamp: Option<String>,
    pub tolerance: Tolerance,
}

/// What is matched how, what is compared, and what is left out.
pub fn plan(
    arguments: &SkewArgs,
    model: Option<&Model>,
    online: &Side,
    offline: &Side,
) -> Result<(Plan, Vec<ComparedFeature>, Vec<String>), SkewError> {
    let online_columns = online.columns();
    let logged = feast::features(&online_columns);
    let keys = keys(arguments, model, online, offline, &logged)?;
    let time = match arguments.id {
        None if !arguments.entity.is_empty() || !logged.is_empty() => time(arguments, model, online, offline, &logged)?,
        _ => no_time(arguments)?,
    };
    let plan = Plan { keys, time };
    let mut notes = Vec::new();
    let candidates = match model {
        Some(model) => of_model(model, &online_columns, &logged),
        None => of_columns(arguments, &plan, &online_columns, &logged),
    };
    let mut compared = Vec::new();
    for (name, online_names) in &candidates {
        let is_named = arguments.features.contains(name);
        if arguments.exclude.contains(name) || !(arguments.features.is_empty() || is_named) {
            continue;
        }
        let Some(online_name) = online_names.iter().find(|name| online.has(name)) else {
            notes.push(format!("`{name}` is not in the online data: not compared"));
            continue;
        };
        let Some(offline_name) = offline_name(name, model, offline, logged.contains(&online_name.as_str())) else {
            if is_named {
                return Err(offline.no_such_column(name));
            }
            notes.push(format!("`{name}` is not in the offline data: not compared"));
            continue;
        };
        if !online.is_comparable(online_name) || !offline.is_comparable(&offline_name) {
            notes.push(format!("`{name}` is a structure, binary, or of types that do not mix: not compared"));
            continue;
        }
        for side in [(online, online_name), (offline, &offline_name)] {
            let (side, without) = (side.0, side.0.files_without(side.1));
            if without > 0 {
                notes.push(format!("`{name}` is missing in {without} {} files: their rows lack it", side.name));
            }
        }
        let is_logged = logged.contains(&online_name.as_str());
        let about = |column: String| (is_logged && online.has(&column)).then_some(column);
        compared.push(ComparedFeature {
            name: name.clone(),
            status: about(feast::status_column(online_name)),
            timestamp: about(feast::timestamp_column(online_name)),
            online: online_name.clone(),
            offline: offline_name,
            tolerance: Tolerance {
                relative: tolerance(&arguments.tolerance, name).unwrap_or(RELATIVE_TOLERANCE),
                absolute: tolerance(&arguments.absolute_tolerance, name).unwrap_or(0.0),
            },
        });
    }
    check_names(arguments, &candidates, &compared)?;
    Ok((plan, compared, notes))
}

/// Online and offline name of each key column.
fn keys(
    arguments: &SkewArgs,
    model: Option<&Model>,
    online: &Side,
    offline: &Side,
    logged: &[&str],
) -> Result<Vec<(String, String)>, SkewError> {
    let prediction_id = model.and_then(|model| model.fields.prediction_id.clone());
    let named: Vec<String> = match (&arguments.id, &prediction_id) {
        (Some(id), _) => vec![id.clone()],
        _ if !arguments.entity.is_empty() => arguments.entity.clone(),
        (None, Some(id)) if logged.is_empty() => vec![id.clone()],
        _ if !logged.is_empty() => {
            let columns = online.columns();
            let candidates = feast::keys(&columns, logged);
            let shared: Vec<&str> = candidates.into_iter().filter(|name| offline.has(name)).collect();
            match shared.as_slice() {
                [only] => vec![only.to_string()],
                [] => {
                    return Err(usage("no key column of the log is in the offline data; name them with --entity A,B"));
                }
                several => {
                    let list = several.join(", ");
                    let text = format!("the log may be keyed by {list}; name the entity's columns with --entity A,B");
                    return Err(SkewError::Usage(text));
                }
            }
        }
        _ => {
            return Err(usage("how do rows belong together? Give --id COLUMN, or --entity A,B and --timestamp COLUMN"));
        }
    };
    let mut keys = Vec::with_capacity(named.len());
    for name in named {
        let last_part = last_part(&name).to_string();
        let find = |side: &Side| [&name, &last_part].into_iter().find(|name| side.has(name)).cloned();
        let in_online = find(online).ok_or_else(|| online.no_such_column(&name))?;
        let in_offline = find(offline).ok_or_else(|| offline.no_such_column(&name))?;
        keys.push((in_online, in_offline));
    }
    Ok(keys)
}

fn usage(text: &str) -> SkewError {
    SkewError::Usage(text.to_string())
}

/// Options of time with an id say something that is not done.
fn no_time(arguments: &SkewArgs) -> Result<Option<TimePlan>, SkewError> {
    let given = [
        ("--timestamp", arguments.timestamp.is_some()),
        ("--offline-timestamp", arguments.offline_timestamp.is_some()),
        ("--created-timestamp", arguments.created_timestamp.is_some()),
        ("--max-age", arguments.max_age.is_some()),
    ];
    match given.iter().find(|(_, is_given)| *is_given) {
        Some((option, _)) => Err(SkewError::Usage(format!(
            "{option} needs a time of both sides: give --entity A,B and --timestamp COLUMN; an id is matched without"
        ))),
        None => Ok(None),
    }
}

fn time(
    arguments: &SkewArgs,
    model: Option<&Model>,
    online: &Side,
    offline: &Side,
    logged: &[&str],
) -> Result<Option<TimePlan>, SkewError> {
    let default = match (logged.is_empty(), model) {
        (false, _) => Some(feast::LOG_TIMESTAMP.to_string()),
        (true, Some(model)) => Some(model.fields.timestamp.clone()).filter(|name| online.has(name)),
        (true, None) => None,
    };
    let Some(online_name) = arguments.timestamp.clone().or(default) else { return no_time(arguments) };
    if !online.has(&online_name) {
        return Err(online.no_such_column(&online_name));
    }
    let offline_name = match &arguments.offline_timestamp {
        Some(name) if offline.has(name) => name.clone(),
        Some(name) => return Err(offline.no_such_column(name)),
        None => {
            let candidates = [online_name.as_str(), last_part(&online_name), feast::EVENT_TIMESTAMP];
            let found = candidates.into_iter().find(|name| offline.has(name));
            found.map(str::to_string).ok_or_else(|| {
                SkewError::Usage(format!(
                    "from when is an offline row valid? There is no column `{online_name}` or `{}`; give \
                     --offline-timestamp COLUMN",
                    feast::EVENT_TIMESTAMP
                ))
            })?
        }
    };
    if let Some(name) = arguments.created_timestamp.as_ref().filter(|name| !offline.has(name)) {
        return Err(offline.no_such_column(name));
    }
    Ok(Some(TimePlan {
        online: online_name,
        offline: offline_name,
        created: arguments.created_timestamp.clone(),
        max_age_ms: arguments.max_age.map(|age| age.ms),
    }))
}

/// Features with the names that they may have online.
type Candidates = Vec<(String, Vec<String>)>;

fn of_model(model: &Model, online_columns: &[&str], logged: &[&str]) -> Candidates {
    let signals = model.signals();
    let features = signals.into_iter().filter(|signal| model.features.contains_key(&signal.name));
    let names = features.map(|signal| {
        let mut names = vec![signal.path.replace("\\.", "."), signal.name.clone()];
        // Feast writes the view before the feature.
        names.extend(
            logged
                .iter()
                .filter(|name| feast::offline_names(name).contains(&signal.name.as_str()))
                .map(|n| n.to_string()),
        );
        names.retain(|name| online_columns.contains(&name.as_str()));
        (signal.name, names)
    });
    names.collect()
}

fn of_columns(arguments: &SkewArgs, plan: &Plan, online_columns: &[&str], logged: &[&str]) -> Candidates {
    let of = |names: &[&str]| names.iter().map(|name| (name.to_string(), vec![name.to_string()])).collect();
    if !logged.is_empty() {
        return of(logged);
    }
    let time = plan.time.as_ref().map(|time| time.online.as_str());
    let is_key = |name: &str| plan.keys.iter().any(|(online, _)| online == name) || time == Some(name);
    let mut names: Vec<&str> = online_columns.iter().copied().filter(|name| !is_key(name)).collect();
    // A key is compared with itself only where asked for: it always agrees.
    names.extend(online_columns.iter().filter(|name| is_key(name) && arguments.features.iter().any(|f| f == *name)));
    of(&names)
}

/// The column of the offline data that holds the feature.
fn offline_name(feature: &str, model: Option<&Model>, offline: &Side, is_logged: bool) -> Option<String> {
    let mut names: Vec<String> = Vec::new();
    if let Some(model) = model {
        names.extend(model.references.values().filter_map(|source| source.columns.get(feature).cloned()));
        let signals = model.signals();
        names.extend(signals.iter().filter(|signal| signal.name == feature).map(|s| s.path.replace("\\.", ".")));
    }
    if is_logged {
        names.extend(feast::offline_names(feature).into_iter().map(str::to_string));
    }
    names.insert(0, feature.to_string());
    names.into_iter().find(|name| offline.has(name))
}

/// The name at the end of a dotted path; a backslash keeps a dot in it.
fn last_part(path: &str) -> &str {
    match path.rfind('.') {
        Some(dot) if !path[..dot].ends_with('\\') => &path[dot + 1..],
        _ => path,
    }
}

/// The feature's own tolerance, else that of all; of several the last one given.
fn tolerance(given: &[ToleranceOf], feature: &str) -> Option<f64> {
    let of = |wanted: Option<&str>| given.iter().rev().find(|given| given.feature.as_deref() == wanted);
    of(Some(feature)).or_else(|| of(None)).map(|given| given.value)
}

/// Names on the command line that mean nothing, two features of one offline column, nothing to compare.
fn check_names(arguments: &SkewArgs, candidates: &Candidates, compared: &[ComparedFeature]) -> Result<(), SkewError> {
    let known: Vec<String> = candidates.iter().map(|(name, _)| name.clone()).collect();
    let tolerances = arguments.tolerance.iter().chain(&arguments.absolute_tolerance);
    let named =
        tolerances.filter_map(|given| given.feature.as_ref()).chain(&arguments.features).chain(&arguments.exclude);
    for name in named {
        if !known.contains(name) {
            let hint = crate::config::nearest::nearest(name, known.iter().map(String::as_str));
            let hint = hint.map(|nearest| format!(" (did you mean `{nearest}`?)")).unwrap_or_default();
            return Err(SkewError::Usage(format!("no feature `{name}`{hint}; the features are: {}", known.join(", "))));
        }
    }
    for (position, feature) in compared.iter().enumerate() {
        if let Some(other) = compared[..position].iter().find(|other| other.offline == feature.offline) {
            return Err(SkewError::Usage(format!(
                "`{}` and `{}` would both be compared with the offline column `{}`; compare the features of one view \
                 at a time, with --features",
                other.name, feature.name, feature.offline
            )));
        }
    }
    if compared.is_empty() {
        return Err(usage("no feature to compare: the two sides must have columns in common beside keys and times"));
    }
    Ok(())
}
