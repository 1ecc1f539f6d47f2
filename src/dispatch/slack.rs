//! Slack by an incoming webhook: one message of Block Kit for each notification.
//!
//! An incoming webhook has no idempotency key and cannot thread: a copy is known by the notification's id in the last
//! line. The page is linked by text, not by a button: Slack reports clicks on buttons to the app and shows a warning
//! where, as here, the app does not listen.

use async_trait::async_trait;
use serde_json::{Value, json};

use super::digest::Digest;
use super::digest_message::DigestMessage;
use super::http_sender::{ConnectionConfig, HttpSender};
use super::message::{Message, cut};
use super::receiver::{DeliveryContext, Outcome, ReceiverError, Transport};
use super::{render, secret};
use crate::config::receivers::SlackReceiver;
use crate::rules::episode::Notification;

/// Documented limits of Block Kit, in characters: header, text of a section, one of its fields, number of fields.
const MAX_HEADER_CHARS: usize = 150;
const MAX_SECTION_CHARS: usize = 3_000;
const MAX_FIELD_CHARS: usize = 2_000;
const MAX_FIELDS: usize = 10;
/// All texts of a message together. Slack refuses more than some 13 200 (`msg_blocks_too_long`), which is not
/// documented; findings that do not fit are left to the page.
const MAX_MESSAGE_CHARS: usize = 12_000;

pub struct SlackTransport {
    url: reqwest::Url,
    sender: HttpSender,
}

impl SlackTransport {
    pub fn new(receiver: &str, config: &SlackReceiver) -> Result<Self, ReceiverError> {
        let SlackReceiver { allow_private, timeout, .. } = *config;
        let sender = HttpSender::new(receiver, ConnectionConfig { allow_private, timeout, throttled_ms: None })?;
        let text = secret::resolve(&config.url)
            .map_err(|error| ReceiverError::Secret { receiver: receiver.to_string(), error })?;
        let url = sender.address(receiver, &text)?;
        Ok(Self { url, sender })
    }
}

#[async_trait]
impl Transport for SlackTransport {
    async fn deliver(&self, notification: &Notification, context: &DeliveryContext) -> Outcome {
        self.sender.post_json(&self.url, &payload(notification, context)).await
    }

    async fn deliver_digest(&self, digest: &Digest, context: &DeliveryContext) -> Outcome {
        self.sender.post_json(&self.url, &digest_payload(digest, context)).await
    }
}

/// What was collected: a line for each alert, worst first, with as many as fit.
pub fn digest_payload(digest: &Digest, context: &DeliveryContext) -> Value {
    let message = DigestMessage::of(digest, context);
    let header = json!({
        "type": "header",
        "text": {"type": "plain_text", "text": cut(&message.title, MAX_HEADER_CHARS), "emoji": false},
    });
    let footer = self::context(&escape(&message.footer, MAX_SECTION_CHARS));
    let mut blocks = vec![header, self::context(&escape(&message.period, MAX_SECTION_CHARS))];
    let mut left = MAX_MESSAGE_CHARS.saturating_sub(blocks.iter().chain([&footer]).map(text_chars).sum());
    let mut shown = 0;
    for line in &message.lines {
        let link =
            format!("<{}|{}>", escape(&line.url, MAX_SECTION_CHARS / 4), escape(&line.headline, MAX_FIELD_CHARS));
        let summary = escape(&line.summary, MAX_FIELD_CHARS);
        let block = section(&format!("*{}*  {link}{}\n{summary}", line.state, line.times()));
        let Some(rest) = left.checked_sub(text_chars(&block)) else { break };
        left = rest;
        blocks.push(block);
        shown += 1;
    }
    if shown < message.lines.len() || message.more.is_some() {
        let link = format!("<{}|The others are on the page>", escape(&message.url, MAX_SECTION_CHARS / 2));
        blocks.push(section(&link));
    }
    blocks.push(footer);
    json!({"text": escape(&message.subject(), MAX_SECTION_CHARS), "blocks": blocks})
}

/// The message, with a link to the alert's own page.
pub fn payload(notification: &Notification, sent: &DeliveryContext) -> Value {
    let message = Message::of(notification, &sent.telling);
    let url = sent.episode_url(notification);
    let mut links = vec![format!("<{}|{}>", escape(&url, MAX_SECTION_CHARS / 6), message.open_words)];
    let runbook = message.runbook.as_ref();
    links.extend(runbook.map(|runbook| format!("<{}|Open the runbook>", escape(runbook, MAX_SECTION_CHARS / 6))));
    let mut sentences = vec![escape(&message.summary, MAX_SECTION_CHARS / 6)];
    sentences.extend(message.notes.iter().map(|note| escape(note, MAX_SECTION_CHARS / 6)));
    let fields: Vec<Value> = message
        .facts
        .iter()
        .take(MAX_FIELDS)
        .map(|(name, value)| mrkdwn(&format!("*{name}*\n{}", escape(value, MAX_FIELD_CHARS / 2))))
        .collect();
    let steps: Vec<String> =
        message.next_steps.iter().enumerate().map(|(place, step)| format!("{}. {step}", place + 1)).collect();
    let header = json!({
        "type": "header",
        "text": {"type": "plain_text", "text": cut(&message.title(), MAX_HEADER_CHARS), "emoji": false},
    });
    let summary = section(&format!("{}\n{}", sentences.join("\n"), links.join("  ")));
    let mut before = vec![header, summary, json!({"type": "section", "fields": fields})];
    if !message.findings.is_empty() {
        before.push(section(&format!("*{}*", message.findings_title)));
    }
    let mut after = Vec::new();
    after.extend(message.more.iter().map(|more| context(&escape(more, MAX_SECTION_CHARS))));
    after.push(section(&format!("*What to do next*\n{}", escape(&steps.join("\n"), MAX_SECTION_CHARS / 2))));
    after.push(context(&escape(&message.footer, MAX_SECTION_CHARS)));

    let mut left = MAX_MESSAGE_CHARS.saturating_sub(before.iter().chain(&after).map(text_chars).sum());
    let mut blocks = before;
    for finding in &message.findings {
        let block = section(&escape(finding, MAX_SECTION_CHARS));
        let Some(rest) = left.checked_sub(text_chars(&block)) else { break };
        left = rest;
        blocks.push(block);
    }
    blocks.extend(after);
    // Shown where blocks are not: in notifications of the desktop and the phone.
    json!({"text": escape(&render::subject(notification), MAX_SECTION_CHARS), "blocks": blocks})
}

fn section(text: &str) -> Value {
    json!({"type": "section", "text": mrkdwn(text)})
}

fn context(text: &str) -> Value {
    json!({"type": "context", "elements": [mrkdwn(text)]})
}

/// `verbatim`: Slack shall not look for channels, people and addresses in what came from events.
fn mrkdwn(text: &str) -> Value {
    json!({"type": "mrkdwn", "text": text, "verbatim": true})
}

/// What Slack's markup reads as control characters, as entities; at most `most` characters, no entity cut in two.
fn escape(text: &str, most: usize) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = 0;
    for c in text.chars() {
        let shown = match c {
            '&' => "&amp;",
            '<' => "&lt;",
            '>' => "&gt;",
            _ => "",
        };
        chars += shown.len().max(1);
        if chars + 3 > most {
            out.push_str("...");
            break;
        }
        if shown.is_empty() { out.push(c) } else { out.push_str(shown) }
    }
    out
}

/// Characters of all texts in a block.
fn text_chars(block: &Value) -> usize {
    match block {
        Value::Object(object) => object
            .iter()
            .map(|(key, value)| match (key.as_str(), value) {
                ("text", Value::String(text)) => text.chars().count(),
                (_, other) => text_chars(other),
            })
            .sum(),
        Value::Array(items) => items.iter().map(text_chars).sum(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entity_is_never_cut_in_two() {
        assert_eq!(escape("<!channel> & co", 100), "&lt;!channel&gt; &amp; co");
        assert_eq!(escape("a<<<<", 9), "a&lt;...");
        assert_eq!(escape("a<<<<", 12), "a&lt;&lt;...");
    }
}
