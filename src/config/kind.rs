//! Which kind of file a text is, told by its keys.

use serde_json::Value;

use super::yaml;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Service,
    Model,
    Rules,
    RuleTests,
    Scorer,
    Gate,
}

/// Keys that a kind of file has at its top and others have not, or rarely.
const KEYS: [(Kind, &[&str]); 6] = [
    (Kind::RuleTests, &["tests"]),
    (
        Kind::Rules,
        &[
            "rules",
            "routes",
            "receivers",
            "defaults",
            "inhibit",
            "silences",
            "actions",
            "heartbeat",
            "groups",
            "route",
            "inhibit_rules",
        ],
    ),
    (Kind::Service, &["kafka", "app", "instance", "models", "http", "smtp", "ingest", "dispatch"]),
    (Kind::Gate, &["data", "metrics", "slices", "latency", "size", "require"]),
    (
        Kind::Model,
        &[
            "model",
            "topics",
            "topic",
            "fields",
            "features",
            "prediction",
            "score",
            "segments",
            "windows",
            "performance",
            "unknown_features",
            "change_detectors",
            "metrics",
        ],
    ),
    (Kind::Scorer, &["registry", "grpc", "admin", "events", "engine", "kafka", "http"]),
];

impl Kind {
    /// `None` where a text has none of the keys that tell.
    pub fn of(text: &str) -> Option<Self> {
        let (keys, rules_are_files, models_are_named) = match yaml::parse(text) {
            Ok((document, _)) => {
                let models = document.value.get("models").is_some_and(Value::is_object);
                (top_keys(&document.value), rules_are_files(&document.value), models)
            }
            // As far as lines tell.
            Err(_) => (keys_of_lines(text), false, false),
        };
        let score = |(kind, known): &(Kind, &[&str])| {
            let found = known.iter().filter(|known| keys.iter().any(|key| key == *known)).count();
            match kind {
                // No other file has this key; theirs may stand beside it.
                Kind::RuleTests if found > 0 => usize::MAX,
                Kind::Rules if rules_are_files => found.saturating_sub(1),
                Kind::Service if rules_are_files => found + 1,
                // There they are settings by name, in a service file globs.
                Kind::Scorer if models_are_named => found + 2,
                _ => found,
            }
        };
        let best = KEYS.iter().max_by_key(|row| score(row)).filter(|row| score(row) > 0)?;
        // Of several that fit as well, the first.
        KEYS.iter().find(|row| score(row) == score(best)).map(|(kind, _)| *kind)
    }

    pub fn word(self) -> &'static str {
        match self {
            Kind::Service => "a service file",
            Kind::Model => "a model",
            Kind::Rules => "rules",
            Kind::RuleTests => "rule tests",
            Kind::Scorer => "settings of the scorer",
            Kind::Gate => "a gate",
        }
    }
}

fn top_keys(value: &Value) -> Vec<String> {
    value.as_object().map(|object| object.keys().cloned().collect()).unwrap_or_default()
}

/// `rules: [rules/*.yaml]`, as in a service file.
fn rules_are_files(value: &Value) -> bool {
    let rules = value.get("rules").and_then(Value::as_array);
    rules.is_some_and(|rules| !rules.is_empty() && rules.iter().all(Value::is_string))
}

fn keys_of_lines(text: &str) -> Vec<String> {
    let key = |line: &str| line.split_once(':').map(|(key, _)| key.trim_matches(['"', '\'']).to_string());
    text.lines()
        .filter(|line| line.starts_with(|c: char| c.is_ascii_alphabetic() || c == '"'))
        .filter_map(key)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_told_apart_by_their_keys() {
        for (text, expected) in [
            ("app: x\nrules: [rules/*.yaml]\n", Some(Kind::Service)),
            ("rules: [rules/*.yaml]\n", Some(Kind::Service)),
            ("version: 1\nrules: []\n", Some(Kind::Rules)),
            ("groups: []\n", Some(Kind::Rules)),
            ("version: 1\nmodel: fraud\n", Some(Kind::Model)),
            ("rules: [a.yaml]\nmodels: [b.yaml]\ntests:\n  - name: a\n", Some(Kind::RuleTests)),
            ("rules:\n\t- name: a\n  b: [", Some(Kind::Rules)),
            ("version: 1\nmodels: {fraud: {}}\n", Some(Kind::Scorer)),
            ("version: 1\nregistry: models\nhttp: {}\n", Some(Kind::Scorer)),
            ("kafka: {}\nhttp: {}\nmodels: [a.yaml]\n", Some(Kind::Service)),
            ("version: 1\nmetrics: {roc_auc: {min: 0.7}}\n", Some(Kind::Gate)),
            ("version: 1\nmodel: fraud\nmetrics: all\n", Some(Kind::Model)),
            ("services: {}\n", None),
            ("", None),
        ] {
            assert_eq!(Kind::of(text), expected, "{text:?}");
        }
    }
}
