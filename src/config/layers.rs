//! The service file in layers: defaults, then `driftline.yaml`, then environment
//! (`DRIFTLINE__KAFKA__BOOTSTRAP_SERVERS`), by the `config` crate.
//!
//! The file is validated by itself first, so that its errors have line and column; variables are then checked
//! against the same schema, so that theirs name the variable.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use config::{Config, Environment, FileFormat};
use serde_json::Value;

use super::diagnostic::{Diagnostics, Problem};
use super::load::{Outcome, parse, read};
use super::nearest::suggest;
use super::receivers::TextOrSecret;
use super::service::Service;
use super::{Loaded, meaning, schema};

/// Where the service file stands unless the user says otherwise.
pub const DEFAULT_FILE: &str = "driftline.yaml";

const PREFIX: &str = "DRIFTLINE__";

/// By what the caller tells the user: a file that is wrong, or a variable that is.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{0}")]
    File(Diagnostics),
    /// Every variable that is wrong, one line each.
    #[error("{}", .0.join("\n"))]
    Environment(Vec<String>),
}

/// The service file at `path`, or `driftline.yaml` in the working directory if it is there, or defaults alone;
/// overlaid with this process's environment. Also the directory that the file's relative paths start from.
pub fn load_service(path: Option<&Path>) -> Result<(Service, PathBuf), ConfigError> {
    layered(path, &variables()).map(|layers| (layers.service, layers.base_dir))
}

/// Variables of this process that speak to Driftline.
pub fn variables() -> BTreeMap<String, String> {
    let pairs =
        std::env::vars_os().filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)));
    pairs.filter(|(key, _)| key.starts_with(PREFIX)).collect()
}

/// The service file and what came of it.
pub struct Layers {
    pub service: Service,
    pub base_dir: PathBuf,
    /// The file alone, for checks that point into it; `None` where there is no file.
    pub file: Option<Loaded<Service>>,
}

/// As `load_service`, with the environment given.
pub fn layered(path: Option<&Path>, variables: &BTreeMap<String, String>) -> Result<Layers, ConfigError> {
    let default_file = Path::new(DEFAULT_FILE);
    let path = path.or_else(|| default_file.is_file().then_some(default_file));
    let (text, file) = match path {
        Some(path) => {
            let text = read(path).map_err(ConfigError::File)?;
            let outcome: Outcome<Service> = parse(&path.display().to_string(), &text, |_| Vec::new(), meaning::service);
            (text, Some(outcome.into_result().map_err(ConfigError::File)?))
        }
        None => (String::new(), None),
    };
    let base_dir = base_dir_of(path);
    check_variables(variables)?;
    let service = overlay(&text, variables)?;
    let mut problems = meaning::service(&service);
    // A variable is where secrets belong.
    problems.retain(|problem| problem.code != "literal-secret");
    if problems.is_empty() {
        return Ok(Layers { service, base_dir, file });
    }
    Err(ConfigError::Environment(problems.iter().map(|problem| in_variable(problem, variables)).collect()))
}

/// As `layered`, with what can be had of a service file that is wrong: enough to check the files that it names in the same
/// pass. The service is not to be run with if anything was found.
pub fn layered_as_far_as_possible(
    path: Option<&Path>,
    variables: &BTreeMap<String, String>,
) -> (Option<Layers>, Diagnostics) {
    let error = match layered(path, variables) {
        Ok(layers) => return (Some(layers), Diagnostics::default()),
        Err(error) => error,
    };
    let without_variables = || layered(path, &BTreeMap::new()).ok();
    match error {
        ConfigError::File(found) => {
            let default_file = Path::new(DEFAULT_FILE);
            let path = path.unwrap_or(default_file);
            let text = read(path).unwrap_or_default();
            let outcome: Outcome<Service> = parse(&path.display().to_string(), &text, |_| Vec::new(), meaning::service);
            let layers = outcome.loaded.map(|file| Layers {
                service: file.value.clone(),
                base_dir: base_dir_of(Some(path)),
                file: Some(file),
            });
            (layers, found)
        }
        ConfigError::Environment(lines) => {
            let mut found = Diagnostics::default();
            lines.into_iter().for_each(|line| found.extend(Diagnostics::file("environment", "environment", line)));
            (without_variables(), found)
        }
    }
}

fn base_dir_of(path: Option<&Path>) -> PathBuf {
    match path.and_then(Path::parent) {
        Some(parent) if parent != Path::new("") => parent.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

/// Where a value of the service comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    Default,
    File {
        name: String,
        line: usize,
    },
    /// Name of the environment variable.
    Variable(String),
}

impl std::fmt::Display for Origin {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Origin::Default => formatter.write_str("default"),
            Origin::File { name, line } => write!(formatter, "{name}:{line}"),
            Origin::Variable(name) => write!(formatter, "environment: {name}"),
        }
    }
}

/// Where the value at `pointer` comes from: the last layer that has it, or a part of it.
pub fn origin(layers: &Layers, variables: &BTreeMap<String, String>, pointer: &str) -> Origin {
    let unescape = |part: &str| part.replace("~1", "/").replace("~0", "~");
    let wanted: Vec<String> = pointer.split('/').skip(1).map(unescape).collect();
    let sets = |variable: &&String| {
        let path = match Variable::of(variable) {
            Variable::Property(name) => vec!["kafka".into(), "properties".into(), name],
            _ => path_of(variable),
        };
        path.starts_with(&wanted)
    };
    if let Some(variable) = variables.keys().find(sets) {
        return Origin::Variable(variable.clone());
    }
    let file = layers.file.as_ref();
    match file.and_then(|file| Some((file.name(), file.line(pointer)?))) {
        Some((name, line)) => Origin::File { name: name.to_string(), line },
        None => Origin::Default,
    }
}

/// A variable's name as the path of a key: `DRIFTLINE__KAFKA__START` is `kafka`, `start`.
fn path_of(variable: &str) -> Vec<String> {
    variable.trim_start_matches(PREFIX).split("__").map(str::to_lowercase).collect()
}

fn check_variables(variables: &BTreeMap<String, String>) -> Result<(), ConfigError> {
    let schema = schema::of::<Service>();
    let mut errors = Vec::new();
    for variable in variables.keys() {
        let mut at = &schema;
        for part in path_of(variable) {
            let properties = at.get("properties").and_then(Value::as_object);
            let next = properties
                .and_then(|properties| properties.get(&part))
                .or_else(|| at.get("additionalProperties").filter(|additional| additional.is_object()));
            match next {
                Some(next) => at = resolve(&schema, next),
                None => {
                    let known: Vec<&str> = properties.into_iter().flatten().map(|(key, _)| key.as_str()).collect();
                    let help = suggest(&part, known.iter().copied()).map(|help| format!(" ({help})"));
                    let help = help.unwrap_or_default();
                    errors.push(format!("environment variable {variable}: unknown key `{part}`{help}"));
                    break;
                }
            }
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(ConfigError::Environment(errors)) }
}

fn resolve<'a>(schema: &'a Value, node: &'a Value) -> &'a Value {
    let target = node.get("$ref").and_then(Value::as_str).and_then(|reference| reference.strip_prefix('#'));
    target.and_then(|pointer| schema.pointer(pointer)).unwrap_or(node)
}

/// Variables that `config` cannot place: lists are written with commas, and a librdkafka property has dots where a
/// variable can only have underscores.
enum Variable {
    Property(String),
    Models,
    Rules,
    Plain,
}

impl Variable {
    fn of(variable: &str) -> Self {
        let path = path_of(variable);
        match path.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            ["kafka", "properties", rest @ ..] => Variable::Property(rest.join("__").replace('_', ".")),
            ["models"] => Variable::Models,
            ["rules"] => Variable::Rules,
            _ => Variable::Plain,
        }
    }
}

fn overlay(text: &str, variables: &BTreeMap<String, String>) -> Result<Service, ConfigError> {
    let plain = variables.iter().filter(|(variable, _)| matches!(Variable::of(variable), Variable::Plain));
    // Values stay text: numbers are read where the key wants one, and an instance `007` stays what it is.
    let environment = Environment::with_prefix("DRIFTLINE")
        .prefix_separator("__")
        .separator("__")
        .source(Some(plain.map(|(variable, value)| (variable.clone(), value.clone())).collect()));
    let merged = Config::builder()
        .add_source(config::File::from_str(text, FileFormat::Yaml))
        .add_source(environment)
        .build()
        .and_then(Config::try_deserialize::<Service>);
    let mut service = merged.map_err(|error| ConfigError::Environment(vec![name_variable(&error, variables)]))?;
    let list = |value: &str| value.split(',').map(|part| part.trim().to_string()).collect();
    for (variable, value) in variables {
        match Variable::of(variable) {
            Variable::Property(property) => {
                service.kafka.properties.insert(property, TextOrSecret::Text(value.clone()));
            }
            Variable::Models => service.models = list(value),
            Variable::Rules => service.rules = list(value),
            Variable::Plain => {}
        }
    }
    Ok(service)
}

/// The file was valid by itself, so what the merged layers complain of came from a variable.
fn name_variable(error: &config::ConfigError, variables: &BTreeMap<String, String>) -> String {
    let message = error.to_string();
    let culprit = variables.keys().find(|variable| {
        let key = path_of(variable).join(".");
        message.contains(&format!("`{key}`")) || message.contains(&variables[*variable])
    });
    match culprit {
        Some(variable) => format!("environment variable {variable}: {message}"),
        None => format!("environment: {message}"),
    }
}

fn in_variable(problem: &Problem, variables: &BTreeMap<String, String>) -> String {
    let wanted: Vec<&str> = problem.pointer.split('/').skip(1).collect();
    let variable = variables.keys().find(|variable| path_of(variable) == wanted);
    let variable = variable.map_or("environment", String::as_str);
    format!("environment variable {variable}: {}", problem.message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
    }

    fn with_file(text: &str, pairs: &[(&str, &str)]) -> Result<Layers, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("driftline.yaml");
        std::fs::write(&path, text).unwrap();
        layered(Some(&path), &variables(pairs))
    }

    #[test]
    fn a_later_layer_replaces_single_keys_of_an_earlier_one() {
        let file = "app: night\nkafka:\n  bootstrap_servers: file:9092\n  partitions: 8\n  properties: {security.protocol: ssl}\n";
        let layers = with_file(
            file,
            &[
                ("DRIFTLINE__KAFKA__BOOTSTRAP_SERVERS", "env:9092"),
                ("DRIFTLINE__INSTANCE", "007"),
                ("DRIFTLINE__KAFKA__REPLICATION", "3"),
                ("DRIFTLINE__MODELS", "a/*.yaml,b/*.yaml"),
                ("DRIFTLINE__INGEST__FLUSH_INTERVAL", "250ms"),
                ("DRIFTLINE__SMTP__URL", "smtp://mail:25"),
                ("DRIFTLINE__SMTP__FROM", "drift@example.com"),
                ("DRIFTLINE__KAFKA__PROPERTIES__SASL_USERNAME", "me"),
            ],
        )
        .unwrap();
        let service = layers.service;
        assert_eq!(service.app, "night");
        assert_eq!(service.kafka.bootstrap_servers, "env:9092");
        assert_eq!(service.kafka.partitions, 8);
        assert_eq!(service.instance, "007");
        assert_eq!(service.kafka.replication, 3);
        assert_eq!(service.models, ["a/*.yaml", "b/*.yaml"]);
        assert_eq!(service.ingest.flush_interval.ms, 250);
        assert_eq!(service.smtp.unwrap().from, "drift@example.com");
        let properties: Vec<_> = service.kafka.properties.into_iter().collect();
        let expected = [("sasl.username", "me"), ("security.protocol", "ssl")];
        assert_eq!(properties, expected.map(|(key, value)| (key.to_string(), TextOrSecret::Text(value.to_string()))));
    }

    #[test]
    fn no_file_and_no_variables_are_the_defaults() {
        let text = overlay("", &BTreeMap::new()).unwrap();
        assert_eq!(text, Service::default());
    }

    #[test]
    fn an_error_names_its_variable() {
        for (variable, value, wanted) in [
            ("DRIFTLINE__KAFK__START", "latest", "DRIFTLINE__KAFK__START: unknown key `kafk` (did you mean `kafka`?)"),
            ("DRIFTLINE__KAFKA__PARTITIONS", "many", "DRIFTLINE__KAFKA__PARTITIONS: "),
            ("DRIFTLINE__KAFKA__PARTITIONS", "0", "DRIFTLINE__KAFKA__PARTITIONS: at least one partition"),
            ("DRIFTLINE__INGEST__FLUSH_INTERVAL", "10min", "DRIFTLINE__INGEST__FLUSH_INTERVAL: "),
        ] {
            let error = with_file("app: night\n", &[(variable, value)]).err().map(|error| error.to_string());
            let message = error.unwrap_or_default();
            assert!(message.contains(wanted), "{message} against {wanted}");
        }
    }

    #[test]
    fn an_error_of_the_file_has_its_line() {
        let error = with_file("app: night\nkafka:\n  partitons: 8\n", &[]).err().map(|error| error.to_string());
        let message = error.unwrap_or_default();
        assert!(message.contains("driftline.yaml:3:3: error[unknown-key]"), "{message}");
    }
}
