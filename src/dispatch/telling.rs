//! How a notification comes to be sent, in words: a reminder, another copy, one message for several, a sign of life.

use super::receiver::Telling;
use super::render::{clean, time};
use crate::config::units::Span;
use crate::rules::episode::{EpisodeStatus, Notification};

/// Whether it is about a model; otherwise it is about Driftline itself.
pub fn is_of_an_alert(telling: &Telling) -> bool {
    !matches!(telling, Telling::ReceiverHealth { .. } | Telling::Heartbeat { .. })
}

/// Stands behind the severity in headings: `CRITICAL, reminder 2`.
pub fn tag(telling: &Telling) -> Option<String> {
    match telling {
        Telling::News | Telling::ReceiverHealth { .. } | Telling::Heartbeat { .. } => None,
        Telling::Reminder { number } => Some(format!("reminder {number}")),
        Telling::Redelivery => Some("sent again".into()),
        Telling::InPlaceOf { .. } => Some("late".into()),
        Telling::Fallback { receiver, .. } => Some(format!("for {}", clean(receiver))),
    }
}

/// A sentence or two for who wonders why this comes; `None`: it is news.
pub fn note(telling: &Telling, notification: &Notification) -> Option<String> {
    let note = match telling {
        Telling::News | Telling::ReceiverHealth { .. } => return None,
        Telling::Reminder { number } => {
            let episode = clean(&notification.episode_id);
            format!(
                "Still firing, reminder {number}. To hear no more of it until it gets worse or ends, acknowledge it on its \
                 page, or with `driftline alerts ack {episode}`."
            )
        }
        Telling::Redelivery => "Sent again because somebody asked for it.".into(),
        Telling::InPlaceOf { notifications, first_at_ms } => {
            let (fired, ended) = (time(*first_at_ms), time(notification.at_ms));
            let count = notifications.len();
            let earlier = if count == 1 { "a message that" } else { "messages that" };
            let ids: Vec<String> = notifications.iter().map(|id| clean(id)).collect();
            format!(
                "It fired at {fired} and was over at {ended}, while this receiver could not be reached. This stands for \
                 {earlier} could not be delivered: {}.",
                ids.join(", ")
            )
        }
        Telling::Fallback { receiver, reason } => {
            let reason = clean(reason);
            format!("This is for `{}`, which could not be told: {}.", clean(receiver), reason.trim_end_matches('.'))
        }
        Telling::Heartbeat { every_ms } => format!(
            "This comes every {} for as long as alerts would. If it stays away, Driftline does not run, or cannot reach you: \
             look at both.",
            Span::from_ms(*every_ms)
        ),
    };
    Some(note)
}

/// What to do where it is not about a model.
pub fn next_steps(telling: &Telling, status: EpisodeStatus) -> Vec<&'static str> {
    match (telling, status) {
        (Telling::ReceiverHealth { .. }, EpisodeStatus::Firing) => vec![
            "Check address, credentials and network of the receiver; what its server answered is above.",
            "Nothing is lost yet: what waits is sent in order once it answers, and comes here when it expires.",
        ],
        (Telling::ReceiverHealth { .. }, EpisodeStatus::Resolved) => {
            vec!["Nothing: what waited for it is being sent, in order."]
        }
        _ => vec!["Nothing, as long as it comes."],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_no_news_is_explained() {
        assert_eq!(tag(&Telling::News), None);
        assert_eq!(tag(&Telling::Reminder { number: 2 }).as_deref(), Some("reminder 2"));
        let fallback = Telling::Fallback { receiver: "pager\r\n".into(), reason: "HTTP 410".into() };
        assert_eq!(tag(&fallback).as_deref(), Some("for pager  "));
        assert!(is_of_an_alert(&fallback) && !is_of_an_alert(&Telling::Heartbeat { every_ms: 1 }));
    }
}
