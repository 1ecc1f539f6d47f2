//! `driftline reference diff`: what changed from one reference to another.

use clap::Args;

use crate::cli::check::Format;
use crate::cli::sample::rfc3339;
use crate::reference::ReferenceStore;
use crate::reference::diff::{FeatureDiff, ReferenceDiff, Side};
use crate::rules::reason::{number, percent};
use crate::stats::metric::MetricValue;

use super::show::origin;
use super::{Outcome, failed, performance};

#[derive(Debug, Args)]
pub struct DiffArgs {
    model: String,
    /// Content address of the first reference, or `current`
    before: String,
    /// Content address of the second one; default: the one in force
    #[arg(default_value = "current")]
    after: String,
    /// Name of both references
    #[arg(long, default_value = "training")]
    name: String,
    /// Name of the second one, where it differs
    #[arg(long)]
    after_name: Option<String>,
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// Categories named in one line.
const NAMED: usize = 5;

pub fn run(args: &DiffArgs, store: &ReferenceStore) -> Outcome {
    let after_name = args.after_name.as_deref().unwrap_or(&args.name);
    let before = store.load(&args.model, &args.name, &args.before).map_err(failed)?;
    let after = store.load(&args.model, after_name, &args.after).map_err(failed)?;
    let diff = ReferenceDiff::of(&before, &after);
    match args.format {
        Format::Text => print!("{}", text(&diff)),
        Format::Json => println!("{}", serde_json::to_string_pretty(&diff).map_err(failed)?),
    }
    Ok(())
}

/// Most changed first.
fn text(diff: &ReferenceDiff) -> String {
    let side = |word: &str, side: &Side| {
        let Side { name, id, created_ms, rows, source } = side;
        format!("{word}  {}/{name}  {id}  {}  {rows} rows  {}\n", diff.model, rfc3339(*created_ms), origin(source))
    };
    let mut out = side("before", &diff.before) + &side("after ", &diff.after) + "\n";
    let mut features: Vec<&FeatureDiff> = diff.features.iter().collect();
    let psi = |feature: &FeatureDiff| feature.psi.value.unwrap_or(f64::INFINITY);
    features.sort_by(|left, right| psi(right).total_cmp(&psi(left)).then_with(|| left.name.cmp(&right.name)));
    let width = features.iter().map(|feature| feature.name.chars().count()).max().unwrap_or(0).max(7);
    out.push_str(&format!(
        "{:<width$}  {:>15}  {:>15}  {:>17}  {}\n",
        "feature", "psi", "ks", "missing", "mean, categories"
    ));
    for feature in features {
        let rate = |rate: Option<f64>| rate.map_or("-".to_string(), percent);
        let missing = format!("{} -> {}", rate(feature.missing_rate.0), rate(feature.missing_rate.1));
        out.push_str(&format!(
            "{:<width$}  {:>15}  {:>15}  {missing:>17}  {}\n",
            feature.name,
            metric(&feature.psi),
            feature.ks.as_ref().map_or("-".into(), metric),
            details(feature)
        ));
    }
    if let Some(performance) = &diff.performance {
        out.push_str(&performance::diff_text(performance));
    }
    for (word, names) in [("only before", &diff.removed), ("only after", &diff.added)] {
        if !names.is_empty() {
            out.push_str(&format!("{word}: {}\n", names.join(", ")));
        }
    }
    out
}

fn metric(metric: &MetricValue) -> String {
    match (metric.value, metric.bound) {
        (None, _) => "-".into(),
        (Some(value), None) => number(value),
        (Some(value), Some(bound)) => format!("{} ± {}", number(value), number(bound)),
    }
}

fn details(feature: &FeatureDiff) -> String {
    let mut parts = Vec::new();
    if let Some((before, after)) = feature.mean {
        let mean = |mean: Option<f64>| mean.map_or("-".to_string(), number);
        parts.push(format!("mean {} -> {}", mean(before), mean(after)));
    }
    for (word, categories) in [("came", &feature.came), ("went", &feature.went)] {
        if !categories.is_empty() {
            let named: Vec<&str> = categories.iter().take(NAMED).map(String::as_str).collect();
            let more = if categories.len() > NAMED {
                format!(" and {} more", categories.len() - NAMED)
            } else {
                String::new()
            };
            parts.push(format!("{word}: {}{more}", named.join(", ")));
        }
    }
    if feature.kind.contains(", ") {
        parts.push(format!("kind changed: {}", feature.kind));
    }
    parts.join("; ")
}
