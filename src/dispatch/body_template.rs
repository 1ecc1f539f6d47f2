//! A webhook's own body, for services that want theirs: JSON from the rules file, whose texts hold placeholders. A value
//! goes into a text of JSON that is built already, so that nothing in it can break out of its quotes.

use serde_json::{Map, Value};

use super::receiver::DeliveryContext;
use super::render;
use crate::config::template::{Placeholder, Template, TemplateError};
use crate::rules::episode::Notification;
use crate::rules::texts;

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
    match placeholder {
        Placeholder::Subject => render::subject(notification),
        Placeholder::Text => render::text(notification, &context.episode_url(notification), &context.telling),
        Placeholder::Url => context.episode_url(notification),
        // Whole, and with its lines.
        Placeholder::Description | Placeholder::Runbook | Placeholder::Reason => {
            let text = texts::value_of(placeholder, notification).unwrap_or_default();
            text.chars().map(|c| if c.is_control() && c != '\n' { ' ' } else { c }).collect()
        }
        other => render::clean(&texts::value_of(other, notification).unwrap_or_default()),
    }
}
