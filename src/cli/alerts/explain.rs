//! `driftline alerts explain`: why a rule did or did not fire, and why people were or were not told.

use std::collections::BTreeMap;
use std::sync::Arc;

use clap::Args;
use serde_json::{Value, json};

use super::explain_text;
use crate::cli::operate::ledger::{Alert, Ledger};
use crate::cli::operate::{Common, Desk, Failure, Outcome, read};
use crate::config::nearest::suggest;
use crate::config::rules::Severity;
use crate::http::metrics::severity_name;
use crate::rules::compile::Rule;
use crate::rules::gates::{Gates, PairGates};
use crate::rules::{RuleState, Workspace};
use crate::windows::result::{ClosedWindow, Window, WindowResult};

#[derive(Debug, Clone, Args)]
pub struct ExplainArgs {
    /// Name of a rule, or id of an alert (or its beginning)
    pub what: String,
    /// Of this model; default: of every model that the rule watches
    #[arg(long)]
    pub model: Option<String>,
    #[arg(long)]
    pub version: Option<String>,
    /// Of this segment: `country=IT`; `all` for all events together
    #[arg(long)]
    pub segment: Option<String>,
    #[arg(long)]
    pub feature: Option<String>,
    /// How many of the last windows
    #[arg(long, default_value_t = 5, value_name = "N")]
    pub windows: usize,
}

/// What is asked about.
pub struct Subject<'a> {
    pub rule: &'a Rule,
    pub alert: Option<Alert>,
    model: Option<String>,
    version: Option<String>,
    segment: Option<String>,
    feature: Option<String>,
}

/// One model version: its last windows, oldest first, with what the rule says of them.
pub struct Explained {
    pub model: String,
    pub version: String,
    pub windows: Vec<(Window, u32, Gates)>,
}

pub fn load(common: &Common) -> Result<Workspace, Failure> {
    Workspace::load(common.config.as_deref()).map_err(|errors| Failure::failed(errors.text(false)))
}

pub fn run(desk: &mut Desk<'_>, args: &ExplainArgs, workspace: &Workspace, json: bool) -> Outcome {
    let ledger = Ledger::read(desk)?;
    let subject = Subject::find(args, workspace, &ledger, desk.now_ms)?;
    let explained = explain(desk, args, workspace, &subject)?;
    let states: Vec<&RuleState> = ledger.states().filter(|state| subject.has(state)).collect();
    if json {
        return desk.json(&as_json(&subject, &explained, &states, &ledger, desk.now_ms));
    }
    explain_text::print(desk, workspace, &ledger, &subject, &explained, &states)
}

impl<'a> Subject<'a> {
    fn find(args: &ExplainArgs, workspace: &'a Workspace, ledger: &Ledger, now_ms: i64) -> Result<Self, Failure> {
        let rules = workspace.rules.rules();
        let ExplainArgs { model, version, segment, feature, .. } = args.clone();
        if let Some(rule) = rules.iter().find(|rule| rule.name == args.what) {
            let is_watched = |model: &String| rule.matches_model(model);
            if let Some(model) = model.as_ref().filter(|model| !is_watched(model)) {
                let message =
                    format!("rule `{}` does not watch `{model}`; it watches `{}`", rule.name, rule.model_glob);
                return Err(Failure::failed(message));
            }
            return Ok(Self { rule, alert: None, model, version, segment, feature });
        }
        let alert = ledger.find(&args.what, now_ms).map_err(|not_found| {
            let names: Vec<&str> = rules.iter().map(|rule| rule.name.as_str()).collect();
            let hint = suggest(&args.what, names.iter().copied()).unwrap_or_else(|| "no rule is called so".into());
            Failure::failed(format!("`{}` is neither a rule ({hint}) nor an alert: {}", args.what, not_found.message))
        })?;
        let Some(rule) = rules.iter().find(|rule| rule.name == alert.rule) else {
            let message = format!("rule `{}` of alert `{}` is not in the rules files any more", alert.rule, alert.id);
            return Err(Failure::failed(message));
        };
        let of_segment = (!alert.segment.is_all()).then(|| alert.segment.to_string());
        Ok(Self {
            rule,
            model: Some(alert.model.clone()),
            version: version.or_else(|| alert.version.clone()),
            segment: segment.or(of_segment),
            feature: feature.or_else(|| alert.feature.clone()),
            alert: Some(alert),
        })
    }

    fn is_about(&self, model: &str, version: &str) -> bool {
        self.rule.matches(model, version)
            && self.model.as_ref().is_none_or(|wanted| wanted == model)
            && self.version.as_ref().is_none_or(|wanted| wanted == version)
    }

    /// Whether this pair is asked about.
    pub fn wants(&self, pair: &PairGates) -> bool {
        self.segment.as_ref().is_none_or(|wanted| *wanted == pair.pair.segment.to_string())
            && self.feature.as_ref().is_none_or(|wanted| pair.pair.feature.as_ref().is_none_or(|name| name == wanted))
    }

    /// Whether the state is one of the rule's groups that are asked about.
    fn has(&self, state: &RuleState) -> bool {
        let given = |wanted: &Option<String>, has: Option<&String>| match (wanted, has) {
            (Some(wanted), Some(has)) => wanted == has,
            _ => true,
        };
        let segment = state.segment.to_string();
        state.rule == self.rule.name
            && given(&self.model, Some(&state.model))
            && given(&self.version, state.version.as_ref())
            && given(&self.segment, Some(&segment).filter(|_| !state.segment.is_all()))
            && given(&self.feature, state.feature.as_ref())
    }

    fn named(&self) -> Vec<(&'static str, &String)> {
        let given = [
            ("model", &self.model),
            ("version", &self.version),
            ("segment", &self.segment),
            ("feature", &self.feature),
        ];
        given.into_iter().filter_map(|(key, value)| Some((key, value.as_ref()?))).collect()
    }

    /// ` of fraud, segment country=IT`.
    pub fn words(&self) -> String {
        let parts: Vec<String> = self.named().into_iter().map(|(key, value)| format!("{key} {value}")).collect();
        parts.join(", ")
    }
}

/// Evaluates the rule over the last windows that `results` holds.
fn explain(
    desk: &Desk<'_>,
    args: &ExplainArgs,
    workspace: &Workspace,
    subject: &Subject<'_>,
) -> Result<Vec<Explained>, Failure> {
    if subject.rule.absent.is_some() {
        return Ok(Vec::new());
    }
    let closed = last_windows(desk, args.windows.max(1), workspace, subject)?;
    let mut explained: Vec<Explained> = Vec::new();
    for ((model, version), windows) in closed {
        let windows = windows.into_iter().map(|closed| {
            let gates = workspace.rules.gates(subject.rule, &closed);
            (closed.window, closed.revision, gates)
        });
        explained.push(Explained { model, version, windows: windows.collect() });
    }
    Ok(explained)
}

type ModelVersion = (String, String);
/// By end and start, each with its results by their keys.
type Windows = BTreeMap<(i64, i64), BTreeMap<String, WindowResult>>;

/// Of each model version, oldest first.
fn last_windows(
    desk: &Desk<'_>,
    most: usize,
    workspace: &Workspace,
    subject: &Subject<'_>,
) -> Result<BTreeMap<ModelVersion, Vec<ClosedWindow>>, Failure> {
    let mut by_window: BTreeMap<ModelVersion, Windows> = BTreeMap::new();
    let size_of = |model: &str| {
        let found = workspace.models.iter().find(|known| known.model == model);
        found.map(|model| subject.rule.window_spec(model.windows.size.ms))
    };
    read::read(desk.log, &desk.topics.results, None, |record| {
        let (Some(key), Some(value)) = (record.key.and_then(|key| std::str::from_utf8(key).ok()), record.value) else {
            return;
        };
        // The key begins with model and version: most records need not be decoded.
        let mut parts = key.split('|');
        let (model, version) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        if !subject.is_about(model, version) {
            return;
        }
        let Ok(result) = serde_json::from_slice::<WindowResult>(value) else { return };
        let Window { start_ms, end_ms } = result.window;
        let is_its = size_of(&result.model)
            .is_some_and(|spec| spec.size_ms == end_ms - start_ms && start_ms.rem_euclid(spec.slide_ms.max(1)) == 0);
        if !is_its || result.performance.is_some() != subject.rule.performance.is_some() {
            return;
        }
        let windows = by_window.entry((result.model.clone(), result.version.clone())).or_default();
        let results = windows.entry((end_ms, start_ms)).or_default();
        if results.get(key).is_none_or(|held| held.revision <= result.revision) {
            results.insert(key.to_string(), result);
        }
        while windows.len() > most {
            windows.pop_first();
        }
    })?;
    let closed = |(model, version): &ModelVersion, results: BTreeMap<String, WindowResult>| {
        let mut results: Vec<WindowResult> = results.into_values().collect();
        results.sort_by_key(|result| (result.baseline.is_some(), result.reference.clone(), result.segment.clone()));
        let first = results.first()?;
        let (window, revision) = (first.window, results.iter().map(|result| result.revision).max().unwrap_or(0));
        Some(ClosedWindow {
            model: model.clone(),
            version: version.clone(),
            window,
            revision,
            results,
            positions: Arc::default(),
        })
    };
    Ok(by_window
        .into_iter()
        .map(|(of, windows)| {
            let windows = windows.into_values().filter_map(|results| closed(&of, results)).collect();
            (of, windows)
        })
        .collect())
}

fn as_json(
    subject: &Subject<'_>,
    explained: &[Explained],
    states: &[&RuleState],
    ledger: &Ledger,
    now_ms: i64,
) -> Value {
    let windows = |explained: &Explained| -> Vec<Value> {
        explained
            .windows
            .iter()
            .map(|(window, revision, gates)| {
                let muted: Vec<Value> = gates
                    .muted
                    .iter()
                    .map(|muted| json!({"segment": muted.segment.to_string(), "gate": muted.mute.word(), "samples": muted.samples.has, "min_samples": muted.samples.needs, "label_coverage": muted.samples.label_coverage.map(|(has, _)| has)}))
                    .collect();
                let pairs: Vec<Value> = gates.pairs.iter().filter(|pair| subject.wants(pair)).map(pair_json).collect();
                json!({"window": window, "revision": revision, "no_reference": gates.no_reference, "muted": muted, "judged": pairs})
            })
            .collect()
    };
    let versions: Vec<Value> = explained
        .iter()
        .map(|explained| json!({"model": explained.model, "version": explained.version, "windows": windows(explained)}))
        .collect();
    let states: Vec<Value> = states
        .iter()
        .map(|state| {
            let standing = state.standing(subject.rule.persistence);
            let told = state.told.as_ref();
            json!({
                "model": state.model,
                "version": state.version,
                "segment": state.segment.to_string(),
                "feature": state.feature,
                "phase": standing.phase,
                "windows_breached": standing.windows_breached,
                "windows_considered": standing.windows_considered,
                "muted": state.muted,
                "suppressed": state.suppressed,
                "told": told,
                "acknowledged": told.and_then(|told| ledger.control.acknowledged(&told.episode_id, now_ms)),
            })
        })
        .collect();
    json!({
        "rule": subject.rule.name,
        "for": {"needed": subject.rule.persistence.needed, "of": subject.rule.persistence.of},
        "alert": subject.alert.as_ref().map(Alert::json),
        "versions": versions,
        "states": states,
    })
}

fn pair_json(pair: &PairGates) -> Value {
    let conditions: Vec<Value> = pair
        .conditions
        .iter()
        .map(|gate| {
            json!({
                "severity": severity_name(gate.severity),
                "condition": gate.condition,
                "holds": gate.asked.holds,
                "p_value": gate.asked.p_value,
                "p_adjusted": gate.asked.p_adjusted,
                "alpha": gate.asked.alpha,
            })
        })
        .collect();
    json!({
        "segment": pair.pair.segment.to_string(),
        "feature": pair.pair.feature,
        "samples": pair.samples.has,
        "min_samples": pair.samples.needs,
        "label_coverage": pair.samples.label_coverage.map(|(has, _)| has),
        "metric": pair.metric,
        "value": pair.value,
        "conditions": conditions,
        "breaches": pair.breach.map(severity_name),
        "unrecovered": pair.unrecovered,
    })
}

/// Severities that the rule knows, the highest first.
pub fn severities(rule: &Rule) -> Vec<Severity> {
    let mut severities = rule.severities();
    severities.sort_by(|left, right| right.cmp(left));
    severities
}
