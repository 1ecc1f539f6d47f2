//! The part of an alert's page that says who works on it, and the forms that change it. They are plain forms: no script
//! is needed, and what they send is checked to come from a page of this server (`http::access`).

use maud::{Markup, html};
use serde::Deserialize;

use super::{Context, Refresh, encode, layout, sentence, time};
use crate::config::units::Span;
use crate::http::view::{Episode, View};
use crate::http::write::AcknowledgeRequest;

/// What the form sends; empty fields are left out.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Form {
    owner: String,
    #[serde(rename = "for")]
    for_: String,
    note: String,
}

/// How long somebody may work on it, as the form offers it.
const LENGTHS: [(&str, &str); 5] =
    [("", "until it ends"), ("1h", "for 1 hour"), ("4h", "for 4 hours"), ("8h", "for 8 hours"), ("1d", "for a day")];

impl Form {
    pub fn request(self) -> Result<AcknowledgeRequest, String> {
        let given = |text: String| Some(text.trim().to_string()).filter(|text| !text.is_empty());
        let for_ = given(self.for_).map(|text| Span::parse(&text)).transpose()?;
        Ok(AcknowledgeRequest { owner: given(self.owner), until: None, for_, note: given(self.note) })
    }
}

/// On the alert's page: who works on it, and the way to say so. The form has a page of its own, since this one loads
/// itself again while somebody would be writing.
pub fn state(view: &View, context: &Context<'_>, id: &str, episode: &Episode) -> Markup {
    let control = view.control();
    let held = control.acknowledged(id, context.now_ms);
    let quiet = episode.last().and_then(|last| last.suppressed.as_ref());
    let silence = episode.last().and_then(|last| control.silenced_by(last, context.now_ms));
    if !episode.is_firing() && held.is_none() {
        return Markup::default();
    }
    html! {
        section.card.work {
            @if let Some(quiet) = quiet {
                p { span.chip.quiet { "suppressed" } " by " (quiet.by.word()) " " code { (quiet.name) } ": nobody was told of it" }
            }
            @if let Some(silence) = silence {
                p { span.chip.quiet { "silenced" } " until " (time(silence.until_ms)) " by " (silence.by) ": " (silence.reason) }
            }
            @match held {
                Some(held) => {
                    p {
                        span.chip.quiet { "acknowledged" } " " b { (held.owner) } " works on it "
                        @match held.until_ms { Some(until_ms) => { "until " (time(until_ms)) }, None => "until it ends" }
                        @if let Some(note) = &held.note { ": " (note) }
                    }
                    @if episode.is_firing() && context.may_operate {
                        form method="post" action={ "/alerts/" (encode(id)) "/unacknowledge" } {
                            button type="submit" { "Take the acknowledgement back" }
                        }
                    }
                }
                None if context.may_operate => {
                    p { a.button href={ "/alerts/" (encode(id)) "/acknowledge" } { "Acknowledge" } " " span.muted { "Nobody works on it yet." } }
                }
                None => p.muted { "Nobody works on it yet. Acknowledge it with " code { "driftline alerts ack " (id) } "." }
            }
        }
    }
}

/// `None`: no such episode is held.
pub fn render(view: &View, context: &Context<'_>, id: &str) -> Option<Markup> {
    let last = view.episode(id)?.last()?;
    let content = html! {
        p.crumb { a href="/" { "Models" } " / " a href={ "/alerts/" (encode(id)) } { (last.rule) } " / acknowledge" }
        h1 { "Acknowledge" }
        p.lead { (sentence(&last.summary)) }
        @if context.may_operate {
            form.card method="post" action={ "/alerts/" (encode(id)) "/acknowledge" } {
                label { "Who works on it" input name="owner" required maxlength="100" autocomplete="username"; }
                label { "How long" select name="for" {
                    @for (value, words) in LENGTHS { option value=(value) { (words) } }
                } }
                label.wide { "Note" input name="note" maxlength="300"; }
                button type="submit" { "Acknowledge" }
            }
            p.muted { "While somebody works on it there are no reminders. It is told again if it gets worse, and when it ends." }
        } @else { p.notice { "You may not do this here: it needs a token with the role " code { "operate" } "." } }
    };
    Some(layout("Acknowledge", context, Refresh::Never, &content))
}
