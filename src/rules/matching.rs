//! Whether a notification is what a `Matcher` asks for: silences of people, and routes that repeat or collect.

use super::episode::Notification;
use crate::config::glob;
use crate::config::rules::Matcher;

/// Every key that is given must match; globs are allowed in names, and `model` may name a version (`fraud@3`). A feature
/// is matched by the one that the episode is about, or by any that it found.
pub fn matches(matcher: &Matcher, notification: &Notification) -> bool {
    let pattern =
        |wanted: &Option<String>, found: &str| wanted.as_deref().is_none_or(|wanted| glob::matches(wanted, found));
    matcher.severity.is_none_or(|wanted| wanted == notification.severity)
        && matcher.model.as_deref().is_none_or(|wanted| model_matches(wanted, notification))
        && pattern(&matcher.rule, &notification.rule)
        && matcher.feature.as_deref().is_none_or(|wanted| feature_matches(wanted, notification))
        && pattern(&matcher.segment, &notification.segment.to_string())
}

fn model_matches(wanted: &str, notification: &Notification) -> bool {
    let (model, version) = wanted.split_once('@').unwrap_or((wanted, "*"));
    glob::matches(model, &notification.model) && glob::matches(version, &notification.version)
}

fn feature_matches(wanted: &str, notification: &Notification) -> bool {
    let found = notification.findings.iter().filter_map(|finding| finding.feature.as_deref());
    notification.feature.as_deref().into_iter().chain(found).any(|feature| glob::matches(wanted, feature))
}
