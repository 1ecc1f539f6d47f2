//! What a settings file of the scorer can get wrong beyond its shape.

use std::net::SocketAddr;

use super::{ScorerConfig, proxy_checks, traffic_checks};
use crate::config::diagnostic::Problem;
use crate::config::literals::is_secret_property;
use crate::config::receiver_checks::secret;
use crate::config::receivers::TextOrSecret;
use crate::config::token_checks;
use crate::config::yaml::child;

pub fn scorer(config: &ScorerConfig) -> Vec<Problem> {
    let mut problems = Vec::new();
    if config.version != 1 {
        let message = format!("version {} of this format is not known", config.version);
        problems.push(Problem::error("bad-version", "/version", message).help("write `version: 1`"));
    }
    addresses(&mut problems, config);
    http(&mut problems, config);
    events(&mut problems, config);
    problems.extend(super::signatures::check(&config.signatures));
    problems.extend(token_checks::tokens_at("/admin/tokens", &config.admin.tokens));
    for (name, value) in &config.kafka.properties {
        let pointer = child("/kafka/properties", name);
        match value {
            TextOrSecret::Secret(source) => secret(&mut problems, &pointer, Some(source)),
            TextOrSecret::Text(_) if is_secret_property(name) => {
                let problem = Problem::error("literal-secret", pointer, format!("`{name}` holds the secret itself"));
                let help = "write `{env: NAME}` or `{file: PATH}`, and change the secret if this file was ever shared";
                problems.push(problem.help(help));
            }
            TextOrSecret::Text(_) => {}
        }
    }
    for (name, settings) in &config.models {
        let pointer = child("/models", name);
        if !is_name(name) {
            let message = format!("`{name}` is not a model name: 1 to 128 letters, digits, `_`, `.` and `-`");
            problems.push(Problem::error("bad-name", pointer.clone(), message).key());
        }
        problems.extend(traffic_checks::traffic(&format!("{pointer}/traffic"), &settings.traffic));
    }
    for (name, settings) in &config.models {
        if let Some(proxy) = &settings.proxy {
            proxy_checks::proxy(&mut problems, &(child("/models", name) + "/proxy"), proxy);
        }
    }
    problems
}

/// As `scorer::names::check_name` has it.
pub(super) fn is_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    (1..=128).contains(&name.len()) && name.chars().all(allowed) && name != "." && name != ".."
}

fn addresses(problems: &mut Vec<Problem>, config: &ScorerConfig) {
    let mut taken: Vec<(&str, SocketAddr)> = Vec::new();
    let grpc = config.grpc.enabled.then_some(("/grpc/bind", &config.grpc.bind, "127.0.0.1:8001"));
    let others =
        [("/http/bind", &config.http.bind, "127.0.0.1:8000"), ("/admin/bind", &config.admin.bind, "127.0.0.1:9000")];
    let mut listeners: Vec<_> = others.into_iter().chain(grpc).collect();
    // What the file says is found at fault, not a default.
    listeners.sort_by_key(|(_, bind, default)| bind != default);
    for (pointer, bind, example) in listeners {
        let Ok(address) = bind.parse::<SocketAddr>() else {
            let message = format!("`{bind}` is not an address and a port");
            problems.push(Problem::error("bad-address", pointer, message).help(format!("write `{example}`")));
            continue;
        };
        // Port 0 is any that is free.
        let same = taken.iter().find(|(_, earlier)| *earlier == address && address.port() != 0);
        if let Some((earlier, _)) = same {
            let message =
                format!("`{bind}` is also the address of `{}`", earlier.trim_start_matches('/').replace('/', "."));
            problems.push(Problem::error("duplicate", pointer, message).help("give each a port of its own"));
        }
        taken.push((pointer, address));
    }
}

fn http(problems: &mut Vec<Problem>, config: &ScorerConfig) {
    let http = &config.http;
    for (key, count, least, most) in [
        ("max_body_bytes", http.max_body_bytes, 1024, 1 << 30),
        ("max_bodies_bytes", http.max_bodies_bytes, http.max_body_bytes, 1 << 40),
        ("max_connections", http.max_connections, 1, 1 << 20),
        ("workers", http.workers, 0, 256),
    ] {
        if !(least..=most).contains(&count) {
            let message = format!("`{key}` is {count}; it can be {least} to {most}");
            let help = "write a number in that range, or leave it out";
            problems.push(Problem::error("out-of-range", format!("/http/{key}"), message).help(help));
        }
    }
    for (key, span) in [
        ("head_timeout", http.head_timeout),
        ("body_timeout", http.body_timeout),
        ("write_timeout", http.write_timeout),
        ("request_timeout", http.request_timeout),
    ] {
        if span.ms == 0 {
            let message = "this time must be longer than nothing";
            let problem = Problem::error("out-of-range", format!("/http/{key}"), message);
            problems.push(problem.help("write `30s`, or leave it out"));
        }
    }
}

fn events(problems: &mut Vec<Problem>, config: &ScorerConfig) {
    let events = &config.events;
    let help = "write a number in that range, or leave it out";
    for (key, count, least, most) in
        [("max_rows", events.max_rows, 1, 10_000_000), ("max_bytes", events.max_bytes, 1 << 20, 16 << 30)]
    {
        if !(least..=most).contains(&count) {
            let message = format!("`{key}` is {count}; it can be {least} to {most}");
            problems.push(Problem::error("out-of-range", format!("/events/{key}"), message).help(help));
        }
    }
    for (key, span, most_ms) in [
        ("linger", events.linger, 60_000),
        ("delivery_timeout", events.delivery_timeout, 86_400_000),
        ("close_timeout", events.close_timeout, 3_600_000),
    ] {
        if !(1..=most_ms).contains(&span.ms) {
            let message = format!("`{key}` can be 1ms to {most_ms}ms");
            let problem = Problem::error("out-of-range", format!("/events/{key}"), message);
            problems.push(problem.help("write `1s`, or leave it out"));
        }
    }
    let mut topics = vec![("/events/topic".to_string(), &events.topic)];
    for (model, settings) in &config.models {
        let at = child("/models", model) + "/events";
        let own = &settings.events;
        topics.extend(own.topic.iter().map(|topic| (format!("{at}/topic"), topic)));
        topics.extend(own.shadow_topic.iter().map(|topic| (format!("{at}/shadow_topic"), topic)));
        if !(0.0..=1.0).contains(&own.sample) {
            let message = format!("`sample` is {}; it can be 0 to 1", own.sample);
            problems
                .push(Problem::error("out-of-range", format!("{at}/sample"), message).help("write `0.1` for a tenth"));
        }
        let mut seen = std::collections::BTreeSet::new();
        for (index, name) in own.features.iter().enumerate() {
            if name.is_empty() || !seen.insert(name) {
                let message = format!("feature `{name}` has no name of its own");
                let problem = Problem::error("duplicate", format!("{at}/features/{index}"), message);
                problems.push(problem.help("name each column once"));
            }
        }
    }
    for (pointer, topic) in topics {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        let is_topic = (1..=249).contains(&topic.len()) && topic.chars().all(allowed) && topic != "." && topic != "..";
        if !is_topic {
            let message = format!("`{topic}` is not a topic's name");
            problems.push(
                Problem::error("bad-name", pointer, message).help("use 1 to 249 letters, digits, `_`, `.` and `-`"),
            );
        }
    }
}
