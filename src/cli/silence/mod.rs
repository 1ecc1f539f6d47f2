//! `driftline silence`: keep alerts quiet for a while. One file a subcommand.

pub mod add;
pub mod expire;
pub mod list;
pub mod preview;

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::alerts::explain::load;
use super::operate::{Common, on_kafka};
use crate::config::rules::{Matcher, Severity};
use crate::http::metrics::severity_name;

#[derive(Debug, Args)]
pub struct SilenceArgs {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Hold back what matches until a time; what still fires then is told
    Add(add::AddArgs),
    /// Silences that hold or are to come; with `--all` past ones, too
    List(list::ListArgs),
    /// What a silence would hold back now, without adding it; without `--match`, the next times of those in the rules files
    Preview(preview::PreviewArgs),
    /// End a silence now
    Expire(expire::ExpireArgs),
}

pub fn run(args: &SilenceArgs) -> ExitCode {
    let json = args.common.json();
    on_kafka(&args.common, |desk| match &args.action {
        Action::Add(args) => add::run(desk, args, json),
        Action::List(args) => list::run(desk, args, json),
        Action::Preview(preview_args) => {
            let workspace = load(&args.common)?;
            preview::run(desk, preview_args, workspace.rules.silences(), json)
        }
        Action::Expire(args) => expire::run(desk, args, json),
    })
}

/// Keys of `--match`.
const KEYS: &str = "`severity`, `model`, `rule`, `feature`, `segment`";

/// `key=value`, one part of a matcher.
pub fn part(text: &str) -> Result<(String, String), String> {
    let example = "write `--match model=fraud@*`";
    let (key, value) = text.split_once('=').ok_or_else(|| format!("`{text}` has no `=`; {example}"))?;
    if !["severity", "model", "rule", "feature", "segment"].contains(&key) {
        return Err(format!("no key `{key}`; the keys are {KEYS}"));
    }
    if value.is_empty() {
        return Err(format!("`{key}` has no value; {example}"));
    }
    if key == "severity" && !["warn", "critical"].contains(&value) {
        return Err(format!("no severity `{value}`; write `severity=warn` or `severity=critical`"));
    }
    Ok((key.to_string(), value.to_string()))
}

/// All parts together; each key once.
pub fn matcher(parts: &[(String, String)]) -> Result<Matcher, String> {
    let mut matcher = Matcher::default();
    for (index, (key, value)) in parts.iter().enumerate() {
        if parts[..index].iter().any(|(earlier, _)| earlier == key) {
            return Err(format!("`{key}` is given twice, and one alert has one; add a silence for each"));
        }
        let value = value.clone();
        match key.as_str() {
            "severity" if value == "warn" => matcher.severity = Some(Severity::Warn),
            "severity" => matcher.severity = Some(Severity::Critical),
            "model" => matcher.model = Some(value),
            "rule" => matcher.rule = Some(value),
            "feature" => matcher.feature = Some(value),
            _ => matcher.segment = Some(value),
        }
    }
    Ok(matcher)
}

/// `model=fraud@* severity=warn`; `everything`.
pub fn words(matcher: &Matcher) -> String {
    let Matcher { severity, model, rule, feature, segment } = matcher;
    let named = [("model", model), ("rule", rule), ("feature", feature), ("segment", segment)];
    let mut parts: Vec<String> =
        named.iter().filter_map(|(key, value)| value.as_ref().map(|value| format!("{key}={value}"))).collect();
    parts.extend(severity.map(|severity| format!("severity={}", severity_name(severity))));
    if parts.is_empty() { "everything".into() } else { parts.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matcher_is_read_from_its_parts_and_a_wrong_one_says_what_to_write() {
        let read = |texts: &[&str]| {
            let parts: Result<Vec<_>, String> = texts.iter().map(|text| part(text)).collect();
            parts.and_then(|parts| matcher(&parts)).map(|matcher| words(&matcher))
        };
        assert_eq!(read(&["severity=warn", "model=fraud@*"]), Ok("model=fraud@* severity=warn".into()));
        assert_eq!(read(&["segment=country=IT"]), Ok("segment=country=IT".into()));
        assert_eq!(read(&[]), Ok("everything".into()));
        assert!(read(&["fraud"]).unwrap_err().contains("--match model=fraud@*"));
        assert!(read(&["modle=fraud"]).unwrap_err().contains("`severity`, `model`"));
        assert!(read(&["severity=page"]).unwrap_err().contains("severity=critical"));
        assert!(read(&["model=a", "model=b"]).unwrap_err().contains("given twice"));
    }
}
