//! Gives a command: checks its texts and times, and appends it to the `control` topic. What it is about (whether there is
//! such an episode) is checked by who gives it, who knows what is there.

use super::control::{Command, ControlRecord};
use crate::config::rules::Matcher;
use crate::log::topics::Topics;
use crate::log::{Log, OutRecord};

/// Longest reason, note or name, in characters.
pub const MAX_TEXT_CHARS: usize = 500;
/// A silence or acknowledgement that is longer than this is forgotten rather than meant: the topic keeps commands for 90
/// days.
pub const MAX_LENGTH_MS: i64 = 89 * 86_400_000;

/// What is wrong with a command, in words for who gave it.
pub fn problem(by: &str, command: &Command, now_ms: i64) -> Option<String> {
    let texts: Vec<(&str, &str)> = match command {
        Command::Silence { reason, .. } | Command::Deny { reason, .. } => vec![("reason", reason)],
        Command::Acknowledge { owner, note, .. } => {
            [Some(("owner", owner.as_str())), note.as_deref().map(|note| ("note", note))]
                .into_iter()
                .flatten()
                .collect()
        }
        Command::Report { message, .. } if !message.is_empty() => vec![("message", message)],
        _ => Vec::new(),
    };
    for (name, text) in [("by", by)].into_iter().chain(texts) {
        if text.trim().is_empty() {
            return Some(format!("the {name} is empty; say it"));
        }
        if text.chars().count() > MAX_TEXT_CHARS {
            return Some(format!("the {name} is too long; at most {MAX_TEXT_CHARS} characters"));
        }
        if text.chars().any(|c| c.is_control()) {
            return Some(format!("the {name} has control characters; write it in one line"));
        }
    }
    match command {
        Command::Silence { matcher, from_ms, until_ms, .. } => silence_problem(matcher, *from_ms, *until_ms, now_ms),
        Command::Acknowledge { until_ms: Some(until_ms), .. } => end_problem(*until_ms, now_ms),
        _ => None,
    }
}

fn silence_problem(matcher: &Matcher, from_ms: i64, until_ms: i64, now_ms: i64) -> Option<String> {
    if until_ms <= from_ms {
        return Some("it ends before it begins; give an end after its start".into());
    }
    let globs = [&matcher.model, &matcher.rule, &matcher.feature, &matcher.segment];
    if globs.into_iter().flatten().any(String::is_empty) {
        return Some("an empty value matches nothing; leave the key out, or write a name or a glob".into());
    }
    end_problem(until_ms, now_ms)
}

fn end_problem(until_ms: i64, now_ms: i64) -> Option<String> {
    if until_ms <= now_ms {
        return Some("it ends in the past; give a time that is still to come".into());
    }
    (until_ms - now_ms > MAX_LENGTH_MS)
        .then(|| "it ends more than 89 days from now; give it again when it has ended".into())
}

/// Durable on return. After an error it may have been written all the same; a second one of the same meaning does no harm.
pub fn give(
    log: &dyn Log,
    topics: &Topics,
    by: &str,
    command: Command,
    now_ms: i64,
) -> Result<ControlRecord, crate::log::LogError> {
    let record = ControlRecord { id: format!("{:016x}", rand::random::<u64>()), at_ms: now_ms, by: by.into(), command };
    let (key, value) = record
        .encode()
        .map_err(|error| crate::log::LogError::Fatal(format!("a command cannot be written: {error}")))?;
    log.append(vec![OutRecord {
        topic: topics.control.as_str().into(),
        partition: Some(0),
        key: Some(key),
        value: Some(value),
        headers: Vec::new(),
    }])?;
    Ok(record)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn silence(matcher: Matcher, until_ms: i64) -> Command {
        Command::Silence { matcher, from_ms: 0, until_ms, reason: "backfill".into() }
    }

    #[test]
    fn a_command_that_cannot_be_meant_is_refused_in_words() {
        let of_model = Matcher { model: Some("fraud".into()), ..Matcher::default() };
        assert_eq!(problem("ana", &silence(of_model.clone(), 2_000), 1_000), None);
        let refused = |by: &str, command: &Command| problem(by, command, 1_000).unwrap_or_default();
        assert!(refused("ana", &silence(of_model.clone(), 900)).contains("ends in the past"));
        assert!(refused("ana", &silence(of_model.clone(), -5)).contains("ends before it begins"));
        assert!(refused("ana", &silence(of_model, i64::MAX / 2)).contains("89 days"));
        assert!(
            refused("ana", &silence(Matcher { model: Some(String::new()), ..Matcher::default() }, 2_000))
                .contains("empty")
        );
        assert!(refused(" ", &Command::Unacknowledge { episode_id: "e".into() }).contains("the by is empty"));
        let owner = Command::Acknowledge { episode_id: "e".into(), owner: "a\nb".into(), until_ms: None, note: None };
        assert!(refused("ana", &owner).contains("control characters"));
    }
}
