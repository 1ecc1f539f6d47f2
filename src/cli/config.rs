//! `driftline config show`: the service's configuration as it is in force, and where each value comes from.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use crate::config::layers::{self, ConfigError, Layers, Origin};
use crate::config::literals::is_secret_property;
use crate::config::yaml::child;

use super::check::{FAILED, Format, UNDECIDED};
use super::init::yaml_text;

#[derive(Debug, Args)]
pub struct ConfigArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the service's configuration in force: defaults, file and environment together. Secrets stay where they are
    Show(ShowArgs),
}

#[derive(Debug, Args)]
pub struct ShowArgs {
    /// The service file; default: driftline.yaml here
    #[arg(long, value_name = "FILE", env = "DRIFTLINE_CONFIG")]
    pub config: Option<PathBuf>,
    /// Say where each value comes from: default, file and line, or environment variable
    #[arg(long)]
    pub origin: bool,
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

pub fn run(args: &ConfigArgs) -> ExitCode {
    let Command::Show(args) = &args.command;
    match show(args, &layers::variables()) {
        Ok(text) => super::print(format!("{}\n", text.trim_end()).as_bytes()),
        Err(error) => {
            eprintln!("{error}");
            let unreadable = matches!(&error, ConfigError::File(found) if found.unreadable());
            ExitCode::from(if unreadable { UNDECIDED } else { FAILED })
        }
    }
}

/// The text to print, with the environment given.
pub fn show(args: &ShowArgs, variables: &BTreeMap<String, String>) -> Result<String, ConfigError> {
    let layers = layers::layered(args.config.as_deref(), variables)?;
    let mut values = serde_json::to_value(&layers.service).unwrap_or_default();
    remove_null(&mut values);
    hide_secrets(&mut values, &layers, variables);
    let origins = Origins { layers: &layers, variables };
    Ok(match args.format {
        Format::Text => yaml(&values, args.origin.then_some(&origins)),
        Format::Json if args.origin => format!("{:#}", json!({"values": values, "origins": origins.all(&values)})),
        Format::Json => format!("{values:#}"),
    })
}

/// Keys that are not set: a file has no empty values either.
fn remove_null(value: &mut Value) {
    if let Value::Object(object) = value {
        object.retain(|_, value| !value.is_null());
        object.values_mut().for_each(remove_null);
    }
}

/// A property that lets in and comes from a variable is shown as that variable. In a file it is never there itself.
fn hide_secrets(values: &mut Value, layers: &Layers, variables: &BTreeMap<String, String>) {
    let Some(properties) = values.pointer_mut("/kafka/properties").and_then(Value::as_object_mut) else { return };
    for (name, value) in properties.iter_mut().filter(|(name, value)| is_secret_property(name) && value.is_string()) {
        let pointer = child("/kafka/properties", name);
        *value = match layers::origin(layers, variables, &pointer) {
            Origin::Variable(variable) => json!({"env": variable}),
            _ => json!({"hidden": true}),
        };
    }
}

struct Origins<'a> {
    layers: &'a Layers,
    variables: &'a BTreeMap<String, String>,
}

impl Origins<'_> {
    fn of(&self, pointer: &str) -> Origin {
        layers::origin(self.layers, self.variables, pointer)
    }

    /// By dotted key.
    fn all(&self, values: &Value) -> Value {
        let mut origins = Map::new();
        leaves(values, "", &mut |pointer| {
            let origin = match self.of(pointer) {
                Origin::Default => json!({"from": "default"}),
                Origin::File { name, line } => json!({"from": "file", "file": name, "line": line}),
                Origin::Variable(variable) => json!({"from": "environment", "variable": variable}),
            };
            origins.insert(dotted(pointer), origin);
        });
        Value::Object(origins)
    }
}

/// Mappings whose keys are one value each: a secret, and the properties themselves are leaves.
fn is_leaf(value: &Value) -> bool {
    match value {
        Value::Object(object) => object.is_empty() || object.contains_key("env") || object.contains_key("file"),
        _ => true,
    }
}

fn leaves(value: &Value, pointer: &str, each: &mut impl FnMut(&str)) {
    match value {
        Value::Object(object) if !is_leaf(value) => {
            object.iter().for_each(|(key, value)| leaves(value, &child(pointer, key), each));
        }
        _ => each(pointer),
    }
}

fn dotted(pointer: &str) -> String {
    let parts: Vec<String> =
        pointer.split('/').skip(1).map(|part| part.replace("~1", "/").replace("~0", "~")).collect();
    parts.join(".")
}

/// As a service file that says the same.
fn yaml(values: &Value, origins: Option<&Origins<'_>>) -> String {
    let mut lines: Vec<(String, Option<String>)> = Vec::new();
    write(values, "", 0, &mut lines, origins);
    let width =
        lines.iter().filter(|(_, origin)| origin.is_some()).map(|(line, _)| line.chars().count()).max().unwrap_or(0);
    let line = |(line, origin): (String, Option<String>)| match origin {
        Some(origin) => format!("{line:width$}  # {origin}"),
        None => line,
    };
    lines.into_iter().map(line).collect::<Vec<_>>().join("\n")
}

fn write(
    value: &Value,
    pointer: &str,
    depth: usize,
    lines: &mut Vec<(String, Option<String>)>,
    origins: Option<&Origins<'_>>,
) {
    let Value::Object(object) = value else { return };
    for (key, value) in object {
        let (pointer, indent) = (child(pointer, key), "  ".repeat(depth));
        if is_leaf(value) {
            let origin = origins.map(|origins| origins.of(&pointer).to_string());
            lines.push((format!("{indent}{}: {}", yaml_text(key), inline(value)), origin));
        } else {
            lines.push((format!("{indent}{}:", yaml_text(key)), None));
            write(value, &pointer, depth + 1, lines, origins);
        }
    }
}

fn inline(value: &Value) -> String {
    match value {
        Value::String(text) => yaml_text(text),
        Value::Array(items) => format!("[{}]", items.iter().map(inline).collect::<Vec<_>>().join(", ")),
        Value::Object(object) => {
            let entries = object.iter().map(|(key, value)| format!("{}: {}", yaml_text(key), inline(value)));
            format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}
