//! Microsoft Teams by a workflow ("When a Teams webhook request is received"): one Adaptive Card for each notification.
//!
//! All text stands in `RichTextBlock`s, which know no Markdown, so that names from events are shown as they are. A
//! workflow answers 202 before the card is posted, and has no idempotency key: a copy is known by the notification's id
//! in the last line.

use async_trait::async_trait;
use serde_json::{Value, json};

use super::digest::Digest;
use super::digest_message::DigestMessage;
use super::http_sender::{ConnectionConfig, HttpSender};
use super::message::{Message, Tone};
use super::receiver::{DeliveryContext, Outcome, ReceiverError, Transport};
use super::{render, secret};
use crate::config::receivers::TeamsReceiver;
use crate::rules::episode::Notification;

/// Documented is "about 28 KB"; 21 000 bytes is where others saw messages refused. Findings that do not fit are left
/// to the page.
const MAX_BODY_BYTES: usize = 20_000;
/// The newest version that Teams shows everywhere.
const CARD_VERSION: &str = "1.4";

pub struct TeamsTransport {
    url: reqwest::Url,
    sender: HttpSender,
}

impl TeamsTransport {
    pub fn new(receiver: &str, config: &TeamsReceiver) -> Result<Self, ReceiverError> {
        let TeamsReceiver { allow_private, timeout, .. } = *config;
        let sender = HttpSender::new(receiver, ConnectionConfig { allow_private, timeout, throttled_ms: None })?;
        let text = secret::resolve(&config.url)
            .map_err(|error| ReceiverError::Secret { receiver: receiver.to_string(), error })?;
        let url = sender.address(receiver, &text)?;
        Ok(Self { url, sender })
    }
}

#[async_trait]
impl Transport for TeamsTransport {
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
    let open = json!([{"type": "Action.OpenUrl", "title": "Open Driftline", "url": message.url}]);
    let mut shown = message.lines.len();
    loop {
        let payload = envelope(&message.subject(), digest_body(&message, shown), open.clone());
        if shown == 0 || payload.to_string().len() <= MAX_BODY_BYTES {
            return payload;
        }
        shown -= 1;
    }
}

fn digest_body(message: &DigestMessage, shown: usize) -> Vec<Value> {
    let (style, _) = look(message.tone);
    let heading = json!({"type": "TextRun", "text": message.title, "weight": "Bolder", "size": "Large"});
    let items = json!([text(vec![heading]), tight(vec![run(&message.period)])]);
    let mut body = vec![json!({"type": "Container", "style": style, "bleed": true, "items": items})];
    for line in message.lines.iter().take(shown) {
        let (_, colour) = look(line.tone);
        let state =
            json!({"type": "TextRun", "text": format!("{}  ", line.state), "weight": "Bolder", "color": colour});
        let open = json!({"type": "Action.OpenUrl", "url": line.url});
        let headline = json!({"type": "TextRun", "text": line.headline, "weight": "Bolder", "selectAction": open});
        body.push(text(vec![state, headline, run(&line.times())]));
        body.push(tight(vec![json!({"type": "TextRun", "text": line.summary, "isSubtle": true})]));
    }
    if shown < message.lines.len() || message.more.is_some() {
        body.push(text(vec![run("The others are on the page.")]));
    }
    body.push(text(vec![json!({"type": "TextRun", "text": message.footer, "isSubtle": true, "size": "Small"})]));
    body
}

/// Style of a container and colour of a text.
fn look(tone: Tone) -> (&'static str, &'static str) {
    match tone {
        Tone::Good => ("good", "Good"),
        Tone::Warning => ("warning", "Warning"),
        Tone::Critical => ("attention", "Attention"),
    }
}

/// The message with as many findings as fit, and a link to the alert's own page.
pub fn payload(notification: &Notification, context: &DeliveryContext) -> Value {
    let message = Message::of(notification, &context.telling);
    let subject = render::subject(notification);
    let open = |title: &str, url: &str| json!({"type": "Action.OpenUrl", "title": title, "url": url});
    let mut actions = vec![open(message.open_words, &context.episode_url(notification))];
    actions.extend(message.runbook.as_ref().map(|runbook| open("Open the runbook", runbook)));
    let mut shown = message.findings.len();
    loop {
        let payload = envelope(&subject, body(&message, shown), json!(actions));
        if shown == 0 || payload.to_string().len() <= MAX_BODY_BYTES {
            return payload;
        }
        shown -= 1;
    }
}

fn envelope(subject: &str, body: Vec<Value>, actions: Value) -> Value {
    json!({
        "type": "message",
        "attachments": [{
            "contentType": "application/vnd.microsoft.card.adaptive",
            "contentUrl": null,
            "content": {
                "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                "type": "AdaptiveCard",
                "version": CARD_VERSION,
                "msteams": {"width": "Full"},
                "fallbackText": subject,
                "body": body,
                "actions": actions,
            },
        }],
    })
}

fn body(message: &Message, shown: usize) -> Vec<Value> {
    let (style, colour) = look(message.tone);
    let mut body = vec![
        json!({
            "type": "Container",
            "style": style,
            "bleed": true,
            "items": [
                text(vec![json!({"type": "TextRun", "text": message.state, "weight": "Bolder", "color": colour})]),
                text(vec![json!({"type": "TextRun", "text": message.headline, "weight": "Bolder", "size": "Large"})]),
            ],
        }),
        text(vec![run(&message.summary)]),
    ];
    body.extend(message.notes.iter().map(|note| text(vec![run(note)])));
    for (name, value) in &message.facts {
        body.push(tight(vec![bold(&format!("{name}: ")), run(value)]));
    }
    if shown > 0 {
        body.push(text(vec![bold(message.findings_title)]));
    }
    for (place, finding) in message.findings.iter().take(shown).enumerate() {
        let mut lines = finding.lines();
        body.push(text(vec![run(&format!("{}. {}", place + 1, lines.next().unwrap_or_default()))]));
        for line in lines {
            body.push(tight(vec![json!({"type": "TextRun", "text": line, "isSubtle": true})]));
        }
    }
    if let Some(more) = &message.more {
        body.push(text(vec![run(more)]));
    }
    body.push(text(vec![bold("What to do next")]));
    for (place, step) in message.next_steps.iter().enumerate() {
        body.push(tight(vec![run(&format!("{}. {step}", place + 1))]));
    }
    body.push(text(vec![json!({"type": "TextRun", "text": message.footer, "isSubtle": true, "size": "Small"})]));
    body
}

fn text(inlines: Vec<Value>) -> Value {
    json!({"type": "RichTextBlock", "inlines": inlines})
}

/// Close below what stands above it.
fn tight(inlines: Vec<Value>) -> Value {
    json!({"type": "RichTextBlock", "spacing": "None", "inlines": inlines})
}

fn run(text: &str) -> Value {
    json!({"type": "TextRun", "text": text})
}

fn bold(text: &str) -> Value {
    json!({"type": "TextRun", "text": text, "weight": "Bolder"})
}
