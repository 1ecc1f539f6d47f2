//! What receivers get wrong beyond their shape: several kinds at once, secrets in the open, addresses that would not be
//! reached or should not be.

use std::net::IpAddr;

use super::diagnostic::Problem;
use super::receivers::{
    EmailReceiver, PagerDutyReceiver, PagerDutySeverity, Receiver, ReceiverKind, Secret, TextOrSecret, WebhookReceiver,
};
use super::units::Span;

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
            problems.push(Problem::error("bad-address", format!("{pointer}/to/{index}"), message));
        }
    }
}

fn webhook(problems: &mut Vec<Problem>, pointer: &str, webhook: &WebhookReceiver) {
    secret(problems, &format!("{pointer}/secret"), webhook.secret.as_ref());
    secret(problems, &format!("{pointer}/previous_secret"), webhook.previous_secret.as_ref());
    url(problems, &format!("{pointer}/url"), &webhook.url, webhook.allow_private);
    timeout(problems, pointer, webhook.timeout);
}

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

/// An attempt is stopped after a minute, whatever the receiver says.
const MAX_TIMEOUT_MS: i64 = 60_000;

fn timeout(problems: &mut Vec<Problem>, pointer: &str, timeout: Option<Span>) {
    if let Some(timeout) = timeout.filter(|timeout| !(1..=MAX_TIMEOUT_MS).contains(&timeout.ms)) {
        let message = format!("an attempt is given between 1ms and 1m to end, not {timeout}");
        problems.push(Problem::error("out-of-range", format!("{pointer}/timeout"), message).help("write `10s`"));
    }
}

fn url(problems: &mut Vec<Problem>, pointer: &str, url: &TextOrSecret, allow_private: bool) {
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
