//! Whether a notification is what a `Matcher` asks for: silences of people, and routes that repeat or collect.

use super::episode::Notification;
use crate::config::rules::Matcher;

/// Every key that is given must match; globs are allowed in names, and `model` may name a version (`fraud@3`). A feature
/// or a segment is matched by the one that the episode is about, or by any that it found.
pub fn matches(matcher: &Matcher, notification: &Notification) -> bool {
    matcher.touches(&notification.subject())
}
