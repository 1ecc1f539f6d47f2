//! `driftline reference list` and `show`.

use serde_json::json;

use crate::cli::check::Format;
use crate::cli::sample::rfc3339;
use crate::reference::promotions::Promotion;
use crate::reference::store::Summary;
use crate::reference::{Reference, ReferenceStore, Source};
use crate::stats::calibration::{Cut, OwnWindows};
use crate::stats::layout::Layout;

use super::{Outcome, failed, performance};

pub fn list(store: &ReferenceStore, format: Format) -> Outcome {
    let mut items = Vec::new();
    for listed in store.list().map_err(failed)? {
        let summary = store.summary(&listed).map_err(failed)?;
        match format {
            Format::Json => items.push(json!({
                "model": listed.model,
                "name": listed.name,
                "id": listed.id,
                "in_force": listed.current,
                "created_ms": summary.created_ms,
                "rows": summary.rows,
                "source": summary.source,
            })),
            Format::Text => {
                let Summary { created_ms, rows, source } = &summary;
                let mark = if listed.current { "  in force" } else { "" };
                println!(
                    "{}  {}  {}  {}  {rows} rows  {}{mark}",
                    listed.model,
                    listed.name,
                    listed.id,
                    rfc3339(*created_ms),
                    origin(source)
                );
            }
        }
    }
    if format == Format::Json {
        println!("{:#}", serde_json::Value::Array(items));
    }
    Ok(())
}

pub fn show(store: &ReferenceStore, (model, name, id): (&str, &str, &str), format: Format) -> Outcome {
    let reference = store.load(model, name, id).map_err(failed)?;
    let promotions = store.promotions(model, name).map_err(failed)?;
    match format {
        Format::Text => text(&reference, promotions.changes()),
        Format::Json => println!("{:#}", as_json(&reference, promotions.changes())),
    }
    Ok(())
}

/// Where the rows came from, in one line.
pub fn origin(source: &Source) -> String {
    let mut line = match &source.stream {
        Some(stretch) => {
            let topics: Vec<&str> = stretch.offsets.keys().map(String::as_str).collect();
            format!("events of {} from {} to {}", topics.join(", "), rfc3339(stretch.from_ms), rfc3339(stretch.to_ms))
        }
        None => source.file.clone(),
    };
    if let Some(version) = &source.version {
        line.push_str(&format!("  for version {version}"));
    }
    line
}

fn shape(layout: &Layout) -> String {
    match layout {
        Layout::Numeric(layout) => format!("numeric, {} bins", layout.bins()),
        Layout::Categorical(layout) => format!("categorical, {} categories", layout.categories().len()),
        Layout::Vector(layout) => format!("vector of {}, {} principal axes", layout.dimension(), layout.components()),
    }
}

fn text(reference: &Reference, promotions: &[Promotion]) {
    println!("{}/{}  id {}", reference.model, reference.name, reference.id);
    println!("built    {}", rfc3339(reference.created_ms));
    println!("from     {}", origin(&reference.source));
    if !reference.source.sha256.is_empty() {
        println!("sha256   {}", reference.source.sha256);
    }
    for (topic, partitions) in reference.source.stream.iter().flat_map(|stretch| &stretch.offsets) {
        for (partition, (first, end)) in partitions {
            println!("offsets  {topic}[{partition}] {first} to {end}");
        }
    }
    println!("rows     {}", reference.rows);
    for promotion in promotions.iter().filter(|promotion| promotion.id == reference.id) {
        let how = if promotion.rolled_back { "by a rollback" } else { "by promotion" };
        println!("in force from {} {how}", promotion.at_ms.map_or("an unknown time".into(), rfc3339));
    }
    for (name, feature) in &reference.features {
        let (shape, profile) = (shape(&feature.layout), &feature.profile);
        let importance =
            reference.importance.get(name).map_or(String::new(), |importance| format!(", importance {importance:.3}"));
        let (n, missing) = (profile.n(), profile.missing());
        println!("  {name:<24} {shape}, {n} values, {missing} missing{importance}");
        feature.calibration.own_windows().iter().for_each(print_own_windows);
    }
    if let Some(performance) = &reference.performance {
        print!("{}", performance::text(performance));
    }
    for warning in reference.warnings() {
        println!("warning: {warning}");
    }
}

fn print_own_windows(own: &OwnWindows) {
    let cut = match own.cut {
        Cut::Time => "windows by time",
        Cut::Rows => "blocks of rows",
    };
    let (windows, size) = (own.windows, own.size);
    println!(
        "  {:<24} {windows} {cut} of {size:.0} values differ beyond chance: variance x {:.1} of level, {:.1} of spread, {:.1} \
         of shape, {:.1} of missing values",
        "", own.level, own.spread, own.shape, own.missing
    );
}

fn as_json(reference: &Reference, promotions: &[Promotion]) -> serde_json::Value {
    let features = reference.features.iter().map(|(name, feature)| {
        json!({
            "name": name,
            "kind": feature.layout.kind_name(),
            "values": feature.profile.n(),
            "missing": feature.profile.missing(),
        })
    });
    let changes = promotions
        .iter()
        .map(|promotion| json!({"id": promotion.id, "at_ms": promotion.at_ms, "rolled_back": promotion.rolled_back}));
    json!({
        "model": reference.model,
        "name": reference.name,
        "id": reference.id,
        "created_ms": reference.created_ms,
        "rows": reference.rows,
        "source": reference.source,
        "features": features.collect::<Vec<_>>(),
        "promotions": changes.collect::<Vec<_>>(),
        "performance": reference.performance.as_ref().map(performance::json),
        "warnings": reference.warnings(),
    })
}
