//! What no text of a file may hold, whatever its key: a secret in the open, and `${NAME}`, which nothing replaces.

use serde_json::{Map, Value};

use super::diagnostic::Problem;
use super::violations::LITERAL_SECRET;
use super::yaml::child;

/// Keys whose texts are for people or other programs: only what looks like a variable of the environment is one there.
const PROSE: [&str; 8] = ["summary", "description", "runbook", "reason", "body", "sql", "job", "name"];

/// Findings about every text in the file, keys left out.
pub fn problems(file: &Value) -> Vec<Problem> {
    let mut found = Vec::new();
    walk(file, "", false, &mut found);
    found
}

fn walk(value: &Value, pointer: &str, is_prose: bool, found: &mut Vec<Problem>) {
    match value {
        Value::String(text) if is_secret_key(pointer) && !text.trim().is_empty() && !is_placeholder(text) => {
            let name = pointer.rsplit('/').next().unwrap_or_default();
            let message = format!("`{name}` holds the secret itself");
            found.push(Problem::error("literal-secret", pointer, message).help(IN_A_BODY));
        }
        // The mail server has keys of its own for a user and a password: `meaning` says so.
        Value::String(_) if pointer == "/smtp/url" => {}
        Value::String(text) => found.extend(text_problem(text, pointer, is_prose)),
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                walk(item, &format!("{pointer}/{index}"), is_prose, found);
            }
        }
        Value::Object(object) => {
            found.extend(variable_problem(object, pointer));
            for (key, item) in object {
                let is_prose = is_prose || PROSE.contains(&key.as_str());
                walk(item, &child(pointer, key), is_prose, found);
            }
        }
        _ => {}
    }
}

/// `{name: API_TOKEN, value: ...}`, as a container of a Kubernetes Job has its environment.
fn variable_problem(object: &Map<String, Value>, pointer: &str) -> Option<Problem> {
    let text = |key: &str| object.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    let (name, _) = (text("name")?, text("value")?);
    let lower = name.to_lowercase();
    let is_secret =
        ["password", "secret", "token", "api_key", "apikey", "private_key"].iter().any(|part| lower.ends_with(part));
    if !is_secret || !pointer.contains("/job/") {
        return None;
    }
    let problem =
        Problem::error("literal-secret", child(pointer, "value"), format!("`{name}` holds the secret itself"));
    Some(problem.help("write `valueFrom: {secretKeyRef: {name: SECRET, key: KEY}}`, and change the secret"))
}

const IN_A_BODY: &str =
    "send it as one of `headers`, `{env: NAME}` or `{file: PATH}`, and change the secret if this file was ever shared";

/// Keys of what is sent that hold secrets whatever their values look like. Keys of receivers themselves have their types.
fn is_secret_key(pointer: &str) -> bool {
    const NAMES: [&str; 10] = [
        "password",
        "passwd",
        "secret",
        "token",
        "api_key",
        "apikey",
        "api-key",
        "access_token",
        "client_secret",
        "private_key",
    ];
    let is_sent = (pointer.starts_with("/receivers/") || pointer.starts_with("/actions/"))
        && (pointer.contains("/body/") || pointer.contains("/job/"));
    is_sent && pointer.rsplit('/').next().is_some_and(|name| NAMES.contains(&name.to_lowercase().as_str()))
}

/// Nothing but a placeholder of a notification.
fn is_placeholder(text: &str) -> bool {
    text.starts_with('{') && text.ends_with('}')
}

fn text_problem(text: &str, pointer: &str, is_prose: bool) -> Option<Problem> {
    let name = pointer.rsplit('/').find(|part| part.parse::<usize>().is_err()).unwrap_or_default();
    if let Some(kind) = secret_in(text) {
        let message = format!("`{name}` holds {kind}");
        return Some(Problem::error("literal-secret", pointer, message).help(LITERAL_SECRET));
    }
    let (written, variable) = interpolation(text, is_prose)?;
    let message = format!("`{written}` is not replaced: texts are taken as they stand");
    let help = match variable {
        Some(variable) => format!(
            "write `{{env: {variable}}}` instead of the whole text, where a secret or an address may stand; keys of the \
             service file are set by variables `DRIFTLINE__...`"
        ),
        None => "write the value out, or let what deploys the file fill it in before".to_string(),
    };
    Some(Problem::error("interpolation", pointer, message).help(help))
}

/// `${NAME}`, `$NAME` as the whole text, or `{{ NAME }}`, as written, and the variable's name where it has one.
fn interpolation(text: &str, is_prose: bool) -> Option<(&str, Option<&str>)> {
    let is_name = |name: &str| {
        let starts_well = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        let suits = |c: char| c.is_ascii_alphanumeric() || c == '_';
        starts_well && name.chars().all(suits) && !(is_prose && name.chars().any(|c| c.is_ascii_lowercase()))
    };
    for (start, _) in text.match_indices("${") {
        let Some(length) = text[start..].find('}') else { continue };
        let inside = &text[start + 2..start + length];
        let name = inside.split([':', '-', '?']).next().unwrap_or_default();
        if is_name(name) {
            return Some((&text[start..start + length + 1], Some(name)));
        }
    }
    if let Some(name) = text.strip_prefix('$').filter(|name| is_name(name)) {
        return Some((text, Some(name)));
    }
    if is_prose {
        return None;
    }
    let start = text.find("{{ ")?;
    let length = text[start..].find("}}")?;
    Some((&text[start..start + length + 2], None))
}

/// Whether a property of librdkafka lets in whoever has it.
pub fn is_secret_property(name: &str) -> bool {
    ["password", "secret", "token", "key.pem", "jaas", "oauthbearer.config"].iter().any(|part| name.contains(part))
}

/// What kind of secret a text holds, by the forms that services give theirs.
pub fn secret_in(text: &str) -> Option<&'static str> {
    let is_key = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | '+' | '=');
    // Each is a beginning, the fewest characters that follow it, and what it is the beginning of.
    const TOKENS: [(&str, usize, &str); 17] = [
        ("whsec_", 8, "the secret of a webhook itself"),
        ("xoxb-", 10, "a Slack token"),
        ("xoxp-", 10, "a Slack token"),
        ("xapp-", 10, "a Slack token"),
        ("ghp_", 20, "a GitHub token"),
        ("gho_", 20, "a GitHub token"),
        ("ghs_", 20, "a GitHub token"),
        ("github_pat_", 20, "a GitHub token"),
        ("glpat-", 16, "a GitLab token"),
        ("sk-", 20, "an API key"),
        ("AIza", 30, "an API key"),
        ("AKIA", 16, "an AWS access key"),
        ("ASIA", 16, "an AWS access key"),
        ("Bearer ", 8, "an authorization itself"),
        ("Basic ", 8, "an authorization itself"),
        ("hooks.slack.com/services/", 8, "the URL of a Slack webhook, which is a secret as a whole"),
        ("eyJhbGciOi", 20, "a signed token"),
    ];
    if text.contains("-----BEGIN ") && text.contains("PRIVATE KEY-----") {
        return Some("a private key");
    }
    for (start, fewest, what) in TOKENS {
        for (at, _) in text.match_indices(start) {
            let stands_apart = text[..at].chars().next_back().is_none_or(|before| !before.is_ascii_alphanumeric());
            let length = text[at + start.len()..].chars().take_while(|c| is_key(*c)).count();
            let is_upper = !matches!(start, "AKIA" | "ASIA")
                || text[at..].chars().take(20).all(|c| c.is_ascii_uppercase() || c.is_ascii_digit());
            // A sentence about bearers holds no token: a token has digits or is longer than words are.
            let is_random = !matches!(start, "Bearer " | "Basic ")
                || text[at + start.len()..].chars().take_while(|c| is_key(*c)).any(|c| c.is_ascii_digit())
                || length > 16;
            if stands_apart && length >= fewest && is_upper && is_random {
                return Some(what);
            }
        }
    }
    if text.contains(".webhook.office.com/") || (text.contains("logic.azure.com") && text.contains("sig=")) {
        return Some("the URL of a Teams webhook, which is a secret as a whole");
    }
    let (_, rest) = text.split_once("://")?;
    let authority = rest.split(['/', '?', '#', ' ']).next().unwrap_or_default();
    let (user, _) = authority.rsplit_once('@')?;
    let (_, password) = user.split_once(':')?;
    (!password.is_empty()).then_some("a password in a URL")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_are_known_by_their_form_and_sentences_are_none() {
        for text in [
            "whsec_c2VjcmV0c2VjcmV0",
            "https://hooks.slack.com/services/T0/B0/abcdefghij",
            "postgres://me:pass@db.example.com/x",
            "Bearer abcdefgh12345678",
            "AKIAIOSFODNN7EXAMPLE",
            "-----BEGIN RSA PRIVATE KEY-----\nabc",
        ] {
            assert!(secret_in(text).is_some(), "{text}");
        }
        for text in [
            "https://ops.example.com/drift",
            "ask the Bearer of bad news",
            "Basic knowledge",
            "whsec_...",
            "ml@example.com",
            "https://ops.example.com/@team",
            "task-force",
        ] {
            assert_eq!(secret_in(text), None, "{text}");
        }
    }

    #[test]
    fn variables_of_a_job_are_no_place_for_secrets() {
        let job =
            |name: &str| json!({"actions": {"a": {"kubernetes": {"job": {"env": [{"name": name, "value": "x1"}]}}}}});
        let found = problems(&job("HF_TOKEN"));
        assert_eq!(found[0].pointer, "/actions/a/kubernetes/job/env/0/value");
        assert!(problems(&job("EPOCHS")).is_empty());
    }

    #[test]
    fn interpolation_is_told_from_text() {
        let file = json!({
            "url": "https://${HOST}/x", "app": "$APP", "bind": "{{ .Values.bind }}",
            "rules": [{"description": "costs ${amount}, not $5", "summary": "${TEAM}"}],
            "secret": "${WEBHOOK_SECRET:-none}",
        });
        let mut places: Vec<String> = problems(&file).into_iter().map(|problem| problem.pointer).collect();
        places.sort();
        assert_eq!(places, ["/app", "/bind", "/rules/0/summary", "/secret", "/url"]);
        let secret = problems(&json!({"secret": "${WEBHOOK_SECRET:-none}"})).remove(0);
        assert!(secret.help.unwrap_or_default().contains("{env: WEBHOOK_SECRET}"));
    }
}
