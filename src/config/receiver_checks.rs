//! What receivers get wrong beyond their shape: several kinds at once, secrets in the open, addresses that would not be
//! reached or should not be.

use std::net::IpAddr;

use serde_json::Value;

use super::diagnostic::Problem;
use super::receivers::{
    AlertmanagerReceiver, EmailReceiver, PagerDutyReceiver, PagerDutySeverity, Receiver, ReceiverKind, Secret,
    TextOrSecret, WebhookReceiver,
};
use super::template::{PLACEHOLDERS, Template};
use super::units::Span;
use super::yaml::child;

pub fn receiver(problems: &mut Vec<Problem>, pointer: &str, name: &str, receiver: &Receiver) {
    let kinds = receiver.kinds();
    if kinds.len() != 1 {
        let message = format!("receiver `{name}` must have exactly one of {}", Receiver::KINDS);
        problems.push(Problem::error("receiver-kind", pointer, message).key());
    }
    for kind in kinds {
        match kind {
            ReceiverKind::Email(email) => self::email(problems, &format!("{pointer}/email"), email),
            ReceiverKind::Webhook(webhook) => self::webhook(problems, &format!("{pointer}/webhook"), webhook),
            ReceiverKind::Slack(slack) => {
                secret(problems, &format!("{pointer}/slack/url"), Some(&slack.url));
                timeout(problems, &format!("{pointer}/slack"), slack.timeout);
            }
            ReceiverKind::Teams(teams) => {
                secret(problems, &format!("{pointer}/teams/url"), Some(&teams.url));
                timeout(problems, &format!("{pointer}/teams"), teams.timeout);
            }
            ReceiverKind::PagerDuty(pagerduty) => {
                self::pagerduty(problems, &format!("{pointer}/pagerduty"), pagerduty);
            }
            ReceiverKind::Alertmanager(alertmanager) => {
                self::alertmanager(problems, &format!("{pointer}/alertmanager"), alertmanager);
            }
            ReceiverKind::Kafka(kafka) => topic(problems, &format!("{pointer}/kafka/topic"), &kafka.topic),
        }
    }
}

fn email(problems: &mut Vec<Problem>, pointer: &str, email: &EmailReceiver) {
    if email.to.is_empty() {
        problems.push(Problem::error("empty-list", format!("{pointer}/to"), "nobody to write to"));
    }
    for (index, address) in email.to.iter().enumerate() {
        let well_formed = address.split_once('@').is_some_and(|(user, host)| !user.is_empty() && host.len() > 2);
        if !well_formed {
            let message = format!("`{address}` is not an e-mail address");
            let problem = Problem::error("bad-address", format!("{pointer}/to/{index}"), message);
            problems.push(problem.help("write `name@example.com`"));
        }
    }
}

fn webhook(problems: &mut Vec<Problem>, pointer: &str, webhook: &WebhookReceiver) {
    secret(problems, &format!("{pointer}/secret"), webhook.secret.as_ref());
    secret(problems, &format!("{pointer}/previous_secret"), webhook.previous_secret.as_ref());
    templated_url(problems, &format!("{pointer}/url"), &webhook.url, webhook.allow_private);
    for (name, value) in &webhook.headers {
        header(problems, &child(&format!("{pointer}/headers"), name), name, value);
    }
    if let Some(body) = &webhook.body {
        self::body(problems, &format!("{pointer}/body"), body);
    }
    if let Some(resolved) = &webhook.resolved {
        if let Some(url) = &resolved.url {
            templated_url(problems, &format!("{pointer}/resolved/url"), url, webhook.allow_private);
        }
        if let Some(body) = &resolved.body {
            self::body(problems, &format!("{pointer}/resolved/body"), body);
        }
        if resolved.url.is_none() && resolved.body.is_none() {
            let problem = Problem::error("empty-list", format!("{pointer}/resolved"), "`resolved` changes nothing");
            problems.push(problem.key().help("give it a `url` or a `body`, or leave it out"));
        }
    }
    timeout(problems, pointer, webhook.timeout);
}

/// Headers that Driftline or the HTTP client sets itself.
const OWN_HEADERS: [&str; 6] =
    ["webhook-id", "webhook-timestamp", "webhook-signature", "content-length", "host", "transfer-encoding"];
/// Parts of names of headers that let in.
const SECRET_HEADERS: [&str; 6] = ["authorization", "token", "secret", "password", "key", "cookie"];

pub(super) fn header(problems: &mut Vec<Problem>, pointer: &str, name: &str, value: &TextOrSecret) {
    let lower = name.to_lowercase();
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    if name.is_empty() || !name.chars().all(is_token) {
        problems.push(Problem::error("bad-name", pointer, format!("`{name}` is not a header's name")).key());
    } else if OWN_HEADERS.contains(&lower.as_str()) {
        let message = format!("header `{name}` is set by Driftline itself");
        problems.push(Problem::error("bad-name", pointer, message).key().help("leave it out"));
    }
    match value {
        TextOrSecret::Secret(source) => secret(problems, pointer, Some(source)),
        TextOrSecret::Text(_) if SECRET_HEADERS.iter().any(|part| lower.contains(part)) => {
            let problem = Problem::error("literal-secret", pointer, format!("header `{name}` holds a secret"));
            problems.push(problem.help("write `{env: NAME}` or `{file: PATH}`"));
        }
        TextOrSecret::Text(text) if text.chars().any(|c| !(' '..='~').contains(&c)) => {
            let message = format!("the value of header `{name}` must be plain ASCII on one line");
            problems.push(Problem::error("invalid", pointer, message).help("encode it, as HTTP needs it"));
        }
        TextOrSecret::Text(_) => {}
    }
}

/// Every text in the body is a template.
fn body(problems: &mut Vec<Problem>, pointer: &str, value: &Value) {
    match value {
        Value::String(text) => {
            template(problems, pointer, text);
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                body(problems, &format!("{pointer}/{index}"), item);
            }
        }
        Value::Object(object) => {
            let unquoted = object.iter().next().filter(|(_, only)| object.len() == 1 && only.is_null());
            if let Some((name, _)) = unquoted.filter(|(name, _)| PLACEHOLDERS.iter().any(|(known, _)| known == name)) {
                let message = format!("`{{{name}}}` without quotes is a mapping in YAML");
                problems.push(Problem::error("template", pointer, message).help(format!("write `\"{{{name}}}\"`")));
                return;
            }
            for (key, item) in object {
                body(problems, &child(pointer, key), item);
            }
        }
        _ => {}
    }
}

fn template(problems: &mut Vec<Problem>, pointer: &str, text: &str) -> Option<Template> {
    Template::parse(text)
        .map_err(|error| {
            problems.push(Problem::error("template", pointer, error.message).within(error.within).help(error.help));
        })
        .ok()
}

/// A URL whose path and query may hold placeholders, but not its host: that would be chosen by events.
fn templated_url(problems: &mut Vec<Problem>, pointer: &str, address: &TextOrSecret, allow_private: bool) {
    if let TextOrSecret::Text(text) = address {
        if template(problems, pointer, text).is_none() {
            return;
        }
        let authority = text.split_once("://").map_or(text.as_str(), |(_, rest)| rest);
        if authority.split(['/', '?', '#']).next().is_some_and(|authority| authority.contains('{')) {
            let message = "placeholders may stand in the path and the query only";
            problems.push(Problem::error("bad-url", pointer, message).help("write the host out"));
            return;
        }
    }
    url(problems, pointer, address, allow_private);
}

fn alertmanager(problems: &mut Vec<Problem>, pointer: &str, alertmanager: &AlertmanagerReceiver) {
    if alertmanager.urls.is_empty() {
        let problem = Problem::error("empty-list", format!("{pointer}/urls"), "no Alertmanager to send to");
        problems.push(problem.key().help("urls: [https://alertmanager.example.com]"));
    }
    for (index, address) in alertmanager.urls.iter().enumerate() {
        let place = format!("{pointer}/urls/{index}");
        url(problems, &place, address, alertmanager.allow_private);
        let TextOrSecret::Text(text) = address else { continue };
        if let Some((base, _)) = text.split_once("/api/") {
            let message = "the path of the API is added by Driftline";
            problems.push(Problem::error("bad-url", &place, message).help(format!("write `{base}`")));
        }
        if alertmanager.urls[..index].contains(address) {
            problems.push(Problem::error("duplicate", &place, format!("`{text}` stands here twice")));
        }
    }
    secret(problems, &format!("{pointer}/authorization"), alertmanager.authorization.as_ref());
    for name in alertmanager.labels.keys() {
        let place = child(&format!("{pointer}/labels"), name);
        let starts_well = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if !starts_well || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            let problem = Problem::error("bad-name", place, format!("`{name}` is not a label's name"));
            problems.push(problem.key().help("letters, digits and `_`, no digit first"));
        } else if AlertmanagerReceiver::OWN_LABELS.contains(&name.as_str()) {
            let message = format!("label `{name}` is set by Driftline itself");
            problems.push(Problem::error("bad-name", place, message).key().help("name it otherwise"));
        }
    }
    if alertmanager.ends_after.ms < MIN_ENDS_AFTER_MS {
        let message =
            format!("an alert would be over {} after its beginning, whether it is or not", alertmanager.ends_after);
        problems.push(Problem::error("out-of-range", format!("{pointer}/ends_after"), message).help("write `30d`"));
    }
    timeout(problems, pointer, alertmanager.timeout);
}

/// A notification may be tried for a day (`dispatch.expire_after`); its alert must not be over when it arrives.
const MIN_ENDS_AFTER_MS: i64 = 2 * 86_400_000;

fn pagerduty(problems: &mut Vec<Problem>, pointer: &str, pagerduty: &PagerDutyReceiver) {
    secret(problems, &format!("{pointer}/routing_key"), Some(&pagerduty.routing_key));
    if let Some(address) = &pagerduty.url {
        url(problems, &format!("{pointer}/url"), address, pagerduty.allow_private);
    }
    timeout(problems, pointer, pagerduty.timeout);
    let severities = pagerduty.severity;
    if severities.warn > severities.critical {
        let word = |severity: PagerDutySeverity| match severity {
            PagerDutySeverity::Info => "info",
            PagerDutySeverity::Warning => "warning",
            PagerDutySeverity::Error => "error",
            PagerDutySeverity::Critical => "critical",
        };
        let (warn, critical) = (word(severities.warn), word(severities.critical));
        let message = format!("`warn` becomes `{warn}`, which is graver than the `{critical}` of `critical`");
        let problem = Problem::error("severity-order", format!("{pointer}/severity"), message);
        problems.push(problem.help("from mild to grave: info, warning, error, critical"));
    }
}

/// What Kafka takes as the name of a topic.
pub(super) fn topic(problems: &mut Vec<Problem>, pointer: &str, topic: &str) {
    let is_name = topic.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'));
    if !is_name || !(1..=249).contains(&topic.len()) || matches!(topic, "." | "..") {
        let problem = Problem::error("bad-name", pointer, format!("`{topic}` is not the name of a topic"));
        problems.push(problem.help("1 to 249 letters, digits, `.`, `_` and `-`"));
    }
}

/// An attempt is stopped after a minute, whatever the receiver says.
const MAX_TIMEOUT_MS: i64 = 60_000;

fn timeout(problems: &mut Vec<Problem>, pointer: &str, timeout: Option<Span>) {
    if let Some(timeout) = timeout.filter(|timeout| !(1..=MAX_TIMEOUT_MS).contains(&timeout.ms)) {
        let message = format!("an attempt is given between 1ms and 1m to end, not {timeout}");
        problems.push(Problem::error("out-of-range", format!("{pointer}/timeout"), message).help("write `10s`"));
    }
}

pub(super) fn url(problems: &mut Vec<Problem>, pointer: &str, url: &TextOrSecret, allow_private: bool) {
    let url = match url {
        TextOrSecret::Secret(source) => return secret(problems, pointer, Some(source)),
        TextOrSecret::Text(url) => url,
    };
    let (plain, rest) = match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
        (Some(rest), _) => (false, rest),
        (None, Some(rest)) => (true, rest),
        (None, None) => {
            let message = format!("`{url}` is not a web address");
            problems.push(Problem::error("bad-url", pointer, message).help("write `https://...`"));
            return;
        }
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') || has_token(rest) {
        let problem = Problem::error("literal-secret", pointer, "`url` holds a secret");
        problems.push(problem.help("write `url: {env: NAME}` or `url: {file: PATH}`"));
        return;
    }
    let host = host(authority);
    if host.is_empty() {
        problems.push(Problem::error("bad-url", pointer, format!("`{url}` names no host")));
    } else if is_private(host) {
        if !allow_private {
            let message = format!("`{host}` is a private address");
            problems
                .push(Problem::error("private-address", pointer, message).help("allow it with `allow_private: true`"));
        }
    } else if plain {
        let message = format!("plain http to `{host}`: anyone on the way can read and change alerts");
        problems.push(Problem::error("plain-http", pointer, message).help("write `https://`"));
    }
}

/// Query parameters that carry credentials.
fn has_token(rest: &str) -> bool {
    let query = rest.split_once('?').map_or("", |(_, query)| query);
    query.split('&').filter_map(|pair| pair.split_once('=')).any(|(key, value)| {
        let key = key.to_lowercase();
        !value.is_empty() && ["token", "secret", "password", "key", "sig"].iter().any(|word| key.contains(word))
    })
}

fn host(authority: &str) -> &str {
    match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => authority.split(':').next().unwrap_or_default(),
    }
}

/// By name alone; what a name resolves to is checked again when connecting.
fn is_private(host: &str) -> bool {
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(v4)) => v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_unspecified(),
        Ok(IpAddr::V6(v6)) => {
            v6.is_loopback() || v6.is_unspecified() || v6.is_unique_local() || v6.is_unicast_link_local()
        }
        Err(_) => {
            let host = host.to_lowercase();
            !host.contains('.') || [".local", ".internal", ".localhost"].iter().any(|end| host.ends_with(end))
        }
    }
}

pub fn secret(problems: &mut Vec<Problem>, pointer: &str, secret: Option<&Secret>) {
    let Some(secret) = secret else { return };
    let one = match (&secret.env, &secret.file) {
        (Some(name), None) => !name.is_empty(),
        (None, Some(path)) => !path.is_empty(),
        _ => false,
    };
    if !one {
        let problem = Problem::error("secret-source", pointer, "a secret has exactly one source");
        problems.push(problem.help("write `{env: NAME}` or `{file: PATH}`"));
    }
}
