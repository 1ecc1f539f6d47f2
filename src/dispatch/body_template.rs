//! A webhook's own body, for services that want theirs: JSON from the rules file, whose texts hold placeholders. A value
//! goes into a text of JSON that is built already, so that nothing in it can break out of its quotes.

use chrono::{DateTime, SecondsFormat};
use serde_json::{Map, Value};

use super::receiver::DeliveryContext;
use super::render;
use crate::config::rules::Severity;
use crate::config::template::{Placeholder, Template, TemplateError};
use crate::rules::episode::{EpisodeStatus, Notification};

/// A JSON value whose texts are templates.
#[derive(Debug, Clone, PartialEq)]
pub enum BodyTemplate {
    Text(Template),
    List(Vec<BodyTemplate>),
    Object(Vec<(String, BodyTemplate)>),
    Plain(Value),
}

impl BodyTemplate {
    pub fn parse(value: &Value) -> Result<Self, TemplateError> {
        match value {
            Value::String(text) => Template::parse(text).map(BodyTemplate::Text),
            Value::Array(items) => items.iter().map(Self::parse).collect::<Result<_, _>>().map(BodyTemplate::List),
            Value::Object(object) => {
                let keys = object.iter().map(|(key, value)| Ok((key.clone(), Self::parse(value)?)));
                keys.collect::<Result<_, _>>().map(BodyTemplate::Object)
            }
            other => Ok(BodyTemplate::Plain(other.clone())),
        }
    }

    pub fn fill(&self, notification: &Notification, context: &DeliveryContext) -> Value {
        match self {
            BodyTemplate::Text(template) => {
                Value::String(template.fill(|placeholder| value_of(placeholder, notification, context)))
            }
            BodyTemplate::List(items) => items.iter().map(|item| item.fill(notification, context)).collect(),
            BodyTemplate::Object(keys) => {
                let filled = keys.iter().map(|(key, value)| (key.clone(), value.fill(notification, context)));
                Value::Object(filled.collect::<Map<_, _>>())
            }
            BodyTemplate::Plain(value) => value.clone(),
        }
    }
}

/// What a placeholder stands for; times are RFC 3339, UTC. Empty where the notification has none.
pub fn value_of(placeholder: Placeholder, notification: &Notification, context: &DeliveryContext) -> String {
    let time = |at_ms: i64| {
        DateTime::from_timestamp_millis(at_ms).unwrap_or_default().to_rfc3339_opts(SecondsFormat::Millis, true)
    };
    match placeholder {
        Placeholder::Id => render::clean(&notification.id),
        Placeholder::EpisodeId => render::clean(&notification.episode_id),
        Placeholder::Sequence => notification.sequence.to_string(),
        Placeholder::Status => match notification.status {
            EpisodeStatus::Firing => "firing".into(),
            EpisodeStatus::Resolved => "resolved".into(),
        },
        Placeholder::Severity => match notification.severity {
            Severity::Warn => "warn".into(),
            Severity::Critical => "critical".into(),
        },
        Placeholder::Priority => match notification.severity {
            Severity::Warn => "P3".into(),
            Severity::Critical => "P1".into(),
        },
        Placeholder::Rule => render::clean(&notification.rule),
        Placeholder::Model => render::clean(&notification.model),
        Placeholder::Version => render::clean(&notification.version),
        Placeholder::Segment if notification.segment.is_all() => String::new(),
        Placeholder::Segment => render::clean(&notification.segment.to_string()),
        Placeholder::Feature => notification.feature.as_deref().map(render::clean).unwrap_or_default(),
        Placeholder::Reference => render::clean(&notification.reference),
        Placeholder::Rows => notification.rows.to_string(),
        Placeholder::Subject => render::subject(notification),
        Placeholder::Summary => render::clean(&notification.summary),
        Placeholder::Text => render::text(notification, &context.episode_url(notification), &context.telling),
        Placeholder::Url => context.episode_url(notification),
        Placeholder::Since => time(notification.first_window.start_ms),
        Placeholder::WindowStart => time(notification.window.start_ms),
        Placeholder::WindowEnd => time(notification.window.end_ms),
        Placeholder::At => time(notification.at_ms),
    }
}
