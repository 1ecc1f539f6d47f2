//! Diagnostics in the Static Analysis Results Interchange Format (SARIF 2.1.0, OASIS 2020), which code hosts show beside
//! the lines of a change.

use serde_json::{Value, json};

use super::codes;
use super::diagnostic::{Diagnostic, Diagnostics};

const SCHEMA: &str = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";

impl Diagnostics {
    /// One log of one run. Columns count characters; the remedy is part of each message.
    pub fn sarif(&self) -> Value {
        let mut rules: Vec<&str> = self.items.iter().map(|item| item.code).collect();
        rules.sort_unstable();
        rules.dedup();
        let results: Vec<Value> = self.items.iter().map(|item| result(item, &rules)).collect();
        json!({
            "$schema": SCHEMA,
            "version": "2.1.0",
            "runs": [{
                "tool": {"driver": {
                    "name": "driftline",
                    "semanticVersion": env!("CARGO_PKG_VERSION"),
                    "rules": rules.iter().map(|code| rule(code)).collect::<Vec<_>>(),
                }},
                "columnKind": "unicodeCodePoints",
                "invocations": [{"executionSuccessful": !self.unreadable()}],
                "results": results,
            }],
        })
    }
}

fn rule(code: &str) -> Value {
    match codes::meaning(code) {
        Some(meaning) => json!({"id": code, "shortDescription": {"text": meaning}}),
        None => json!({"id": code}),
    }
}

fn result(item: &Diagnostic, rules: &[&str]) -> Value {
    let text = match &item.help {
        Some(help) => format!("{} (help: {help})", item.message),
        None => item.message.clone(),
    };
    let mut place = json!({"artifactLocation": {"uri": uri(&item.source.name)}});
    if let Some((start, end)) = item.range() {
        place["region"] = json!({"startLine": start.0, "startColumn": start.1, "endLine": end.0, "endColumn": end.1});
    }
    json!({
        "ruleId": item.code,
        "ruleIndex": rules.iter().position(|rule| *rule == item.code),
        "level": item.level.word(),
        "message": {"text": text},
        "locations": [{"physicalLocation": place}],
    })
}

/// A path as a URI reference: relative paths stay relative.
fn uri(path: &str) -> String {
    let mut uri = String::from(if path.starts_with('/') { "file://" } else { "" });
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'.' | b'_' | b'~' => uri.push(byte as char),
            _ => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri
}
