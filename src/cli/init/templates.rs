//! The files that `driftline init` writes: each says what it is for, and where its keys are explained.

use super::infer::{Found, Inferred};
use crate::config::model::{Kind, TimestampUnit};

/// What the files are about.
#[derive(Debug, Clone)]
pub struct Plan {
    pub model: String,
    pub topic: String,
    pub bootstrap_servers: String,
    /// `None`: the files hold an example to be changed.
    pub inferred: Option<Inferred>,
}

/// Names, relative to the directory, and contents.
pub fn files(plan: &Plan) -> Vec<(String, String)> {
    let model = &plan.model;
    vec![
        ("driftline.yaml".into(), service(plan)),
        (format!("models/{model}.yaml"), self::model(plan)),
        (format!("rules/{model}.yaml"), rules(plan)),
        (format!("rules/{model}.test.yaml"), tests(plan)),
    ]
}

fn service(plan: &Plan) -> String {
    format!(
        "# The service: which Kafka, where the other files are, how people are reached. `driftline config show --origin` prints
# every key with its value, and `driftline schema service` the schema for editors.
app: driftline                       # prefix of Driftline's own topics and consumer groups
kafka:
  bootstrap_servers: {bootstrap_servers}
  # properties:                      # any property of librdkafka
  #   security.protocol: sasl_ssl
  #   sasl.mechanisms: SCRAM-SHA-512
  #   sasl.username: driftline
  #   sasl.password: {{env: KAFKA_PASSWORD}}
models: [models/*.yaml]
rules: [rules/*.yaml]
references: references               # built by `driftline reference build`
http:
  bind: 127.0.0.1:8080               # pages, API and metrics
smtp:                                # for receivers of e-mail
  url: smtp://localhost:1025
  from: driftline@example.com
",
        bootstrap_servers = text(&plan.bootstrap_servers),
    )
}

fn model(plan: &Plan) -> String {
    match &plan.inferred {
        Some(inferred) => inferred_model(plan, inferred),
        None => example_model(plan),
    }
}

fn example_model(plan: &Plan) -> String {
    format!(
        "# A model: which events are its predictions, and what they hold. This is an example: change it to what your events look
# like, or let `driftline init --from-sample events.jsonl` find out.
version: 1
model: {model}
topics: [{topic}]
fields:
  timestamp: timestamp               # RFC 3339, or epoch seconds, milliseconds or microseconds
  version: version                   # version of the model that made the prediction
  prediction_id: id                  # needed where labels come later
  features: features.*               # `*` where features stand at the top of the event
features:
  amount: numeric
  age_days: numeric
  merchant_category: categorical
  country: categorical
score: {{path: score, type: numeric}}
segments: [country]                  # rules may look at each country apart
windows:
  size: 1h                           # long enough for 500 events
  watermark_delay: 5s
  allowed_lateness: 10m
# references:                        # what windows are compared with: training data, or a stretch of the stream
#   training: {{path: ../data/training.parquet}}
",
        model = text(&plan.model),
        topic = text(&plan.topic),
    )
}

fn inferred_model(plan: &Plan, inferred: &Inferred) -> String {
    let mut lines = vec![
        format!("# A model, as {} sample events tell: look it over, above all the types of features.", inferred.events),
        "version: 1".to_string(),
        format!("model: {}", text(&plan.model)),
        format!("topics: [{}]", text(&plan.topic)),
        "fields:".to_string(),
        format!("  timestamp: {}", text(&inferred.time.0)),
    ];
    if inferred.time.1 == TimestampUnit::Rfc3339 {
        lines.push("  timestamp_unit: rfc3339".to_string());
    }
    let paths = [
        ("model", inferred.model.as_ref().map(|(path, _)| path)),
        ("version", inferred.version.as_ref()),
        ("prediction_id", inferred.prediction_id.as_ref()),
    ];
    lines.extend(paths.iter().filter_map(|(key, path)| Some(format!("  {key}: {}", text((*path)?)))));
    lines.push(format!("  features: {}", text(&inferred.features_at)));
    lines.push("features:".to_string());
    lines.extend(inferred.features.iter().map(feature));
    if inferred.has_other_keys && inferred.features_at != "*" {
        lines.push("unknown_features: ignore             # keys beside these are no features".to_string());
    }
    if let Some((path, kind)) = &inferred.prediction {
        lines.push(format!("prediction: {{path: {}, type: {}}}", text(path), word(*kind)));
    }
    if let Some(path) = &inferred.score {
        lines.push(format!("score: {{path: {}, type: numeric}}", text(path)));
    }
    if let Some(segment) = &inferred.segment {
        lines.push(format!("segments: [{}]", text(segment)));
    }
    lines.push("windows:".to_string());
    lines.push("  size: 1h                           # long enough for 500 events".to_string());
    lines.push("# references:                        # what windows are compared with: training data, or a stretch of the stream".to_string());
    lines.push("#   training: {path: ../data/training.parquet}".to_string());
    lines.push(String::new());
    lines.join("\n")
}

fn feature(found: &Found) -> String {
    let name = text(&found.name);
    match (&found.path, found.kind) {
        (None, Kind::Vector) => format!("  {name}: {{type: vector, dimension: {}}}", found.dimension),
        (Some(path), Kind::Vector) => {
            format!("  {name}: {{type: vector, dimension: {}, path: {}}}", found.dimension, text(path))
        }
        (None, kind) => format!("  {name}: {}", word(kind)),
        (Some(path), kind) => format!("  {name}: {{type: {}, path: {}}}", word(kind), text(path)),
    }
}

fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Numeric => "numeric",
        Kind::Categorical => "categorical",
        Kind::Vector => "vector",
    }
}

/// Whether the model has something of this kind, for rules that need it.
struct Has {
    categorical: bool,
    numeric: bool,
    score: bool,
}

fn has(plan: &Plan) -> Has {
    let Some(inferred) = &plan.inferred else { return Has { categorical: true, numeric: true, score: true } };
    let any = |kind: Kind| inferred.features.iter().any(|found| found.kind == kind);
    Has { categorical: any(Kind::Categorical), numeric: any(Kind::Numeric), score: inferred.score.is_some() }
}

fn rules(plan: &Plan) -> String {
    let has = has(plan);
    let glob = format!("{}@*", plan.model);
    let model = text(&glob);
    let mut parts = vec![format!(
        "# Rules: what is wrong, how sure one must be, who is told. `driftline check` finds every mistake in them, and
# `driftline test` runs the tests beside this file.
version: 1
defaults: {{min_samples: 500}}         # a window with fewer events is not judged

rules:
"
    )];
    if has.numeric || has.categorical {
        parts.push(format!(
            "  # A feature is distributed otherwise than in training: `warn` is certainty, `critical` is size on top of it.
  - name: feature-drift
    model: {model}
    when: {{warn: drift > auto and psi > 0.001, critical: drift > auto and psi > 0.25}}
    significance: {{test: auto, alpha: 0.01, correction: benjamini-hochberg}}
    for: 2 windows

  # A producer stopped filling a field.
  - name: nulls-jump
    model: {model}
    when: {{warn: null_rate_change > auto and null_rate_change > 0.5%, critical: null_rate_change > 10%}}

"
        ));
    } else {
        parts.push(format!(
            "  # Vectors lie elsewhere than in training.
  - name: feature-drift
    model: {model}
    when: {{warn: mmd2 > auto}}
    for: 2 windows

"
        ));
    }
    if has.categorical {
        parts.push(format!(
            "  # Categories that training never saw: the model guesses there.
  - name: unseen-categories
    model: {model}
    when: {{warn: unseen_rate > 1%, critical: unseen_rate > 5%}}

"
        ));
    }
    if has.score {
        parts.push(format!(
            "  # The score moved: what users of the model notice first.
  - name: score-shift
    model: {model}
    signal: prediction.score
    when: {{warn: wasserstein_norm > 0.1, critical: wasserstein_norm > 0.2}}
    for: 2 windows

"
        ));
    }
    parts.push(format!(
        "  # No events at all.
  - name: no-data
    model: {model}
    absent: {{after: 15m, severity: critical}}

routes:                              # every route that matches applies
  - {{match: {{}}, to: [oncall]}}

receivers:
  oncall: {{email: {{to: [ml-oncall@example.com]}}}}
  # Others: slack, teams, pagerduty, webhook, alertmanager, kafka. A secret stands in the environment or in a file:
  # chat: {{slack: {{url: {{env: SLACK_URL}}}}}}
"
    ));
    parts.concat()
}

/// For each rule what must page, and once what must not.
fn tests(plan: &Plan) -> String {
    let inferred = plan.inferred.as_ref();
    let columns: Vec<(String, Kind)> = match inferred {
        Some(inferred) => inferred.features.iter().map(|found| (found.name.clone(), found.kind)).collect(),
        None => vec![("amount".into(), Kind::Numeric), ("country".into(), Kind::Categorical)],
    };
    let first = |kind: Kind| columns.iter().find(|(_, of)| *of == kind).map(|(name, _)| text(name));
    let (numeric, categorical) = (first(Kind::Numeric), first(Kind::Categorical));
    let mut reference = String::new();
    reference.extend(numeric.iter().map(|name| format!("    {name}: normal(100, 20)\n")));
    reference.extend(categorical.iter().map(|name| format!("    {name}: {{a: 70, b: 30}}\n")));
    let has_score = has(plan).score;
    if has_score {
        reference.push_str("    score: uniform(0, 0.5)\n");
    }
    let mut cases = vec![case(
        "windows like the reference are no news",
        "{repeat: 6, rows: 1000}",
        "{at: windows 1-6, none: true}",
    )];
    if numeric.is_none() && categorical.is_none() {
        return no_tests();
    }
    let mut paging = |name: &str, healthy: usize, windows: &str, rule: &str, severity: &str| {
        let expected = format!("{{at: end, rule: {rule}, severity: {severity}}}");
        cases.push(case(name, &format!("{{repeat: {healthy}, rows: 1000}}\n        - {windows}"), &expected));
    };
    if let Some(name) = &numeric {
        let windows = format!("{{repeat: 2, rows: 1000, {name}: normal(130, 20)}}");
        paging("a shift pages within two windows", 2, &windows, "feature-drift", "critical");
    } else if let Some(name) = &categorical {
        let windows = format!("{{repeat: 2, rows: 1000, {name}: {{a: 10, b: 90}}}}");
        paging("a shift pages within two windows", 2, &windows, "feature-drift", "critical");
    }
    if let Some(name) = numeric.as_ref().or(categorical.as_ref()) {
        let windows = format!("{{rows: 1000, nulls: {{{name}: 40%}}}}");
        paging("a producer that stops filling a field", 2, &windows, "nulls-jump", "critical");
    }
    if let Some(name) = &categorical {
        let windows = format!("{{rows: 1000, {name}: {{a: 60, b: 25, new: 15}}}}");
        paging("a category that training never saw", 2, &windows, "unseen-categories", "critical");
    }
    if has_score {
        paging("a score that moves", 2, "{repeat: 2, rows: 1000, score: uniform(0.4, 0.9)}", "score-shift", "critical");
    }
    paging("silence", 2, "{rows: 0}", "no-data", "critical");
    let model = text(&format!("{}@1", plan.model));
    format!(
        "# Tests of the rules beside this file: what happens, and what people should be told then. `driftline test` runs them.
version: 1
defaults:
  model: {model}
  reference:
    rows: 10000
{reference}
tests:
{}",
        cases.join("\n")
    )
}

fn case(name: &str, windows: &str, expected: &str) -> String {
    format!(
        "  - name: {name}
    given:
      windows:
        - {windows}
    expect:
      - {expected}
"
    )
}

fn no_tests() -> String {
    "# Tests of the rules beside this file.\ntests: []\n".to_string()
}

/// As YAML needs it: in quotes where it could be read as something else.
pub fn text(value: &str) -> String {
    let starts_well = value.starts_with(|c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '/'));
    let is_plain = value.chars().all(|c| c.is_ascii_alphanumeric() || "_-./@*".contains(c)) || is_address(value);
    let lower = value.to_lowercase();
    let is_word =
        matches!(lower.as_str(), "true" | "false" | "null" | "yes" | "no" | "on" | "off" | "y" | "n" | "nan" | "inf");
    let is_number = value.parse::<f64>().is_ok() || ["0x", "0o", "0b"].iter().any(|start| lower.starts_with(start));
    match starts_well && is_plain && !is_word && !is_number {
        true => value.to_string(),
        false => serde_json::Value::from(value).to_string(),
    }
}

/// `host:port`, which no reader takes for a mapping or for hours and minutes.
fn is_address(value: &str) -> bool {
    value.split_once(':').is_some_and(|(host, port)| {
        host.contains(|c: char| c.is_ascii_alphabetic() || c == '.')
            && host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-'))
            && !port.is_empty()
            && port.chars().all(|c| c.is_ascii_digit())
    })
}
