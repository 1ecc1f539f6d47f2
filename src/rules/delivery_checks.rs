//! What rules files get wrong about how things are told: fallbacks that lead nowhere or in circles, digests and reminders
//! that cannot be, a heartbeat for nobody.

use std::collections::{BTreeMap, BTreeSet};

use super::compile::FileProblem;
use crate::config::diagnostic::Problem;
use crate::config::nearest::suggest;
use crate::config::receivers::Receiver;
use crate::config::rules::{Heartbeat, Matcher, Route, RuleFile, Severity};
use crate::config::units::Span;
use crate::config::yaml::child;

/// Shortest time between two reminders, digests or heartbeats.
const SHORTEST_MS: i64 = 60_000;

pub fn problems(files: &[&RuleFile], receivers: &BTreeMap<String, Receiver>) -> Vec<FileProblem> {
    let routes: Vec<(usize, usize, &Route)> = files
        .iter()
        .enumerate()
        .flat_map(|(file, rules)| rules.routes.iter().enumerate().map(move |(index, route)| (file, index, route)))
        .collect();
    let mut problems = Vec::new();
    for (file, index, route) in &routes {
        let others = routes.iter().filter(|(other_file, other, _)| (other_file, other) != (file, index));
        let others: Vec<&Route> = others.map(|(_, _, route)| *route).collect();
        let found = self::route(&format!("/routes/{index}"), route, &others, receivers);
        problems.extend(found.into_iter().map(|problem| FileProblem { file: *file, problem }));
    }
    let mut has_heartbeat = false;
    for (file, rules) in files.iter().enumerate() {
        let mut found = Vec::new();
        for (name, receiver) in &rules.receivers {
            self::receiver(&child("/receivers", name), name, receiver, receivers, &mut found);
        }
        if let Some(heartbeat) = &rules.heartbeat {
            if has_heartbeat {
                let problem = Problem::error("duplicate", "/heartbeat", "another file has a `heartbeat`").key();
                found.push(problem.help("keep one, with all its receivers in `to`"));
            }
            has_heartbeat = true;
            self::heartbeat(heartbeat, receivers, &mut found);
        }
        problems.extend(found.into_iter().map(|problem| FileProblem { file, problem }));
    }
    problems
}

/// Receivers that are told of something other than by a route.
pub fn used_otherwise<'a>(files: &[&'a RuleFile]) -> BTreeSet<&'a str> {
    let fallbacks = files.iter().flat_map(|file| file.receivers.values().filter_map(|one| one.fallback.as_deref()));
    let heartbeats = files.iter().filter_map(|file| file.heartbeat.as_ref());
    fallbacks.chain(heartbeats.flat_map(|heartbeat| heartbeat.to.iter().map(String::as_str))).collect()
}

fn unknown(pointer: String, name: &str, receivers: &BTreeMap<String, Receiver>) -> Problem {
    let help = suggest(name, receivers.keys().map(String::as_str));
    let help = help.unwrap_or_else(|| "define it under `receivers:`".into());
    Problem::error("unknown-receiver", pointer, format!("there is no receiver `{name}`")).help(help)
}

fn too_short(pointer: String, what: &str, span: Span, write: &str) -> Option<Problem> {
    let message = format!("{what} every {span} would be noise; the shortest is 1m");
    (span.ms < SHORTEST_MS).then(|| Problem::error("out-of-range", pointer, message).help(format!("write `{write}`")))
}

fn route(pointer: &str, route: &Route, others: &[&Route], receivers: &BTreeMap<String, Receiver>) -> Vec<Problem> {
    let mut found = Vec::new();
    if let Some(repeat) = route.repeat {
        found.extend(too_short(format!("{pointer}/repeat"), "a reminder", repeat, "repeat: 4h"));
    }
    let Some(digest) = route.digest else { return found };
    let place = format!("{pointer}/digest");
    found.extend(too_short(place.clone(), "a digest", digest, "digest: 24h"));
    if route.repeat.is_some() {
        let problem = Problem::error("contradiction", format!("{pointer}/repeat"), "what is collected is not repeated");
        found.push(problem.key().help("keep `digest`, or keep `repeat`"));
    }
    if route.matcher.severity == Some(Severity::Critical) {
        let message = format!("critical alerts would wait up to {digest} for their digest");
        let problem = Problem::warning("late-page", &place, message).key();
        found.push(problem.help("leave `digest` out, or match `severity: warn`"));
    }
    for (index, name) in route.to.iter().enumerate() {
        let place = format!("{pointer}/to/{index}");
        if receivers.get(name).is_some_and(|receiver| receiver.pagerduty.is_some()) {
            let message = format!("`{name}` would open its incidents up to {digest} late");
            let problem = Problem::error("contradiction", &place, message);
            found.push(problem.help("leave `digest` out, or send digests to a mailbox or a chat"));
        }
        let at_once = others
            .iter()
            .any(|other| other.digest.is_none() && other.to.contains(name) && covers(&other.matcher, &route.matcher));
        if at_once {
            let message = format!("another route tells `{name}` of the same at once: nothing is left to collect");
            let problem = Problem::warning("idle-digest", &place, message);
            found.push(problem.help(format!("take `{name}` out of one of the two")));
        }
    }
    found
}

/// Whether all that `narrow` matches is matched by `wide`, as far as their texts show.
fn covers(wide: &Matcher, narrow: &Matcher) -> bool {
    let text = |wide: &Option<String>, narrow: &Option<String>| {
        wide.as_deref().is_none_or(|text| text == "*") || wide == narrow
    };
    (wide.severity.is_none() || wide.severity == narrow.severity)
        && text(&wide.model, &narrow.model)
        && text(&wide.rule, &narrow.rule)
        && text(&wide.feature, &narrow.feature)
        && text(&wide.segment, &narrow.segment)
}

fn receiver(
    pointer: &str,
    name: &str,
    receiver: &Receiver,
    receivers: &BTreeMap<String, Receiver>,
    found: &mut Vec<Problem>,
) {
    if let Some(limit) = receiver.rate_limit {
        if limit.max == 0 {
            let problem = Problem::error("out-of-range", format!("{pointer}/rate_limit/max"), "nothing would be sent");
            found.push(problem.help("write `max: 30`"));
        }
        if limit.per.ms == 0 {
            let message = "a limit is for a stretch of time longer than nothing";
            let problem = Problem::error("out-of-range", format!("{pointer}/rate_limit/per"), message);
            found.push(problem.help("write `per: 1m`"));
        }
    }
    let Some(fallback) = &receiver.fallback else { return };
    let place = format!("{pointer}/fallback");
    if fallback == name {
        let problem = Problem::error("contradiction", place, format!("`{name}` is its own fallback"));
        found.push(problem.help("name another receiver, best one of another kind"));
        return;
    }
    if !receivers.contains_key(fallback) {
        found.push(unknown(place, fallback, receivers));
        return;
    }
    let mut path = vec![name, fallback.as_str()];
    while let Some(next) = path.last().and_then(|last| receivers.get(*last)?.fallback.as_deref()) {
        if next == name {
            // Told once, at the receiver whose name comes first.
            if path.iter().all(|other| name <= *other) {
                let circle = path.iter().chain([&name]).map(|one| format!("`{one}`")).collect::<Vec<_>>().join(" -> ");
                let message = format!("fallbacks in a circle: {circle}");
                found.push(Problem::error("contradiction", place, message).help("let one of them have no `fallback`"));
            }
            return;
        }
        if path.contains(&next) {
            return; // the circle is further on
        }
        path.push(next);
    }
}

fn heartbeat(heartbeat: &Heartbeat, receivers: &BTreeMap<String, Receiver>, found: &mut Vec<Problem>) {
    if heartbeat.to.is_empty() {
        let problem = Problem::error("empty-list", "/heartbeat/to", "a heartbeat for nobody").key();
        found.push(problem.help("to: [NAME], a receiver that notices when it stays away"));
    }
    for (index, name) in heartbeat.to.iter().enumerate() {
        let place = format!("/heartbeat/to/{index}");
        match receivers.get(name) {
            None => found.push(unknown(place, name, receivers)),
            Some(receiver) if receiver.pagerduty.is_some() => {
                let message = format!("`{name}` would open an incident with every heartbeat");
                let help = "send it to a webhook of a service that expects it";
                found.push(Problem::error("contradiction", place, message).help(help));
            }
            Some(_) => {}
        }
    }
    found.extend(too_short("/heartbeat/every".into(), "a heartbeat", heartbeat.every, "every: 5m"));
}
