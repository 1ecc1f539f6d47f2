//! What was collected by a route with `digest`, as one message: an alert a line, worst first, each with its link. Pure.

use std::collections::BTreeMap;

use maud::{DOCTYPE, Markup, html};
use serde_json::{Value, json};

use super::digest::Digest;
use super::message::{Tone, cut};
use super::receiver::{DeliveryContext, Telling};
use super::render;
use crate::config::rules::Severity;
use crate::rules::episode::{EpisodeStatus, Notification};
use crate::windows::result::Window;

/// Alerts that are told one by one; more would not be read.
const MAX_LINES: usize = 25;
const MAX_LINE_CHARS: usize = 300;

#[derive(Debug, Clone, PartialEq)]
pub struct DigestMessage {
    /// `2 alerts fire, 1 is over`.
    pub title: String,
    /// `2026-03-01 00:00 to 2026-03-02 00:00 UTC`.
    pub period: String,
    pub tone: Tone,
    pub lines: Vec<DigestLine>,
    /// Alerts that are only counted.
    pub more: Option<String>,
    /// Every alert, whoever it is told to.
    pub url: String,
    pub footer: String,
}

/// Where one alert stands at the end of the digest's time.
#[derive(Debug, Clone, PartialEq)]
pub struct DigestLine {
    pub tone: Tone,
    /// `CRITICAL`, `WARN`, `RESOLVED`.
    pub state: String,
    pub headline: String,
    pub summary: String,
    /// Changes of it in the digest's time.
    pub changes: usize,
    pub url: String,
}

impl DigestMessage {
    pub fn of(digest: &Digest, context: &DeliveryContext) -> Self {
        let mut order: Vec<&str> = Vec::new();
        let mut episodes: BTreeMap<&str, Vec<&Notification>> = BTreeMap::new();
        for notification in &digest.notifications {
            let news = episodes.entry(&notification.episode_id).or_insert_with(|| {
                order.push(&notification.episode_id);
                Vec::new()
            });
            news.push(notification);
        }
        let mut lines: Vec<DigestLine> =
            order.iter().filter_map(|episode| line(episodes.get(episode)?, context)).collect();
        lines.sort_by_key(|line| match line.tone {
            Tone::Critical => 0,
            Tone::Warning => 1,
            Tone::Good => 2,
        });
        let firing = lines.iter().filter(|line| line.tone != Tone::Good).count();
        let period = render::window(Window { start_ms: digest.from_ms, end_ms: digest.until_ms });
        let rest = lines.len().saturating_sub(MAX_LINES);
        Self {
            title: title(firing, lines.len() - firing),
            tone: lines.first().map_or(Tone::Good, |line| line.tone),
            more: (rest > 0).then(|| format!("and {rest} more on the page")),
            url: format!("{}/", context.public_url.trim_end_matches('/')),
            footer: format!("Driftline, digest {}, {period}", render::clean(&digest.id)),
            period,
            lines: lines.into_iter().take(MAX_LINES).collect(),
        }
    }

    /// `Driftline: 2 alerts fire, 1 is over`.
    pub fn subject(&self) -> String {
        format!("Driftline: {}", self.title)
    }

    /// Plain text, for the first part of a mail.
    pub fn text(&self) -> String {
        let mut out = format!("{}\n{}\n\n", self.title, self.period);
        for line in &self.lines {
            out.push_str(&format!("{:<9} {}{}\n", line.state, line.headline, line.times()));
            out.push_str(&format!("          {}\n          {}\n", line.summary, line.url));
        }
        if let Some(more) = &self.more {
            out.push_str(&format!("{more}: {}\n", self.url));
        }
        out.push_str(&format!("\n{}\n", self.footer));
        out
    }

    /// HTML for the second part of a mail.
    pub fn html(&self) -> String {
        let cell = "padding:8px 12px 8px 0;vertical-align:top;border-bottom:1px solid #eaecef;";
        let page: Markup = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width";
                    title { (self.subject()) }
                }
                body style="margin:0;padding:0;background:#f4f5f7;" {
                    table role="presentation" width="100%" cellpadding="0" cellspacing="0" style="background:#f4f5f7;" {
                        tr { td align="center" style="padding:16px;" {
                            table role="presentation" width="640" cellpadding="0" cellspacing="0" style=(
                                "background:#ffffff;border:1px solid #d8dbe0;font-family:Arial,Helvetica,sans-serif;\
                                 font-size:14px;line-height:20px;color:#1f2328;") {
                                tr { td style=(format!("background:{};color:#ffffff;padding:12px 20px;", colour(self.tone))) {
                                    span style="font-size:18px;line-height:24px;font-weight:bold;" { (self.title) }
                                    br;
                                    span style="font-size:12px;" { (self.period) }
                                } }
                                tr { td style="padding:8px 20px;" {
                                    table width="100%" cellpadding="0" cellspacing="0" style="font-size:13px;line-height:18px;" {
                                        @for line in &self.lines {
                                            tr {
                                                td style=(format!("{cell}white-space:nowrap;font-weight:bold;color:{};", colour(line.tone))) {
                                                    (line.state)
                                                }
                                                td width="100%" style=(cell) {
                                                    a href=(line.url) style="color:#1f4e8c;font-weight:bold;" { (line.headline) }
                                                    (line.times())
                                                    br;
                                                    (line.summary)
                                                }
                                            }
                                        }
                                    }
                                    @if let Some(more) = &self.more {
                                        p style="margin:8px 0 0 0;" { a href=(self.url) style="color:#1f4e8c;" { (more) } }
                                    }
                                } }
                                tr { td style="padding:10px 20px;border-top:1px solid #d8dbe0;font-size:12px;color:#59636e;" {
                                    (self.footer)
                                } }
                            }
                        } }
                    }
                }
            }
        };
        page.into_string()
    }

    /// Counts, period and alerts, for those who read by program.
    pub fn json(&self) -> Value {
        json!({
            "title": self.title,
            "period": self.period,
            "alerts": self.lines.iter().map(|line| json!({
                "state": line.state.to_lowercase(),
                "headline": line.headline,
                "summary": line.summary,
                "changes": line.changes,
                "url": line.url,
            })).collect::<Vec<_>>(),
        })
    }
}

impl DigestLine {
    /// ` (3 changes)`; nothing for one.
    pub fn times(&self) -> String {
        if self.changes > 1 { format!(" ({} changes)", self.changes) } else { String::new() }
    }
}

fn line(news: &[&Notification], context: &DeliveryContext) -> Option<DigestLine> {
    let last = news.last()?;
    Some(DigestLine {
        tone: match (last.status, last.severity) {
            (EpisodeStatus::Resolved, _) => Tone::Good,
            (EpisodeStatus::Firing, Severity::Warn) => Tone::Warning,
            (EpisodeStatus::Firing, Severity::Critical) => Tone::Critical,
        },
        state: render::state(last, &Telling::News),
        headline: cut(&render::headline(last), MAX_LINE_CHARS),
        summary: cut(&render::clean(&last.summary), MAX_LINE_CHARS),
        changes: news.len(),
        url: context.episode_url(last),
    })
}

fn title(firing: usize, over: usize) -> String {
    let fires = match firing {
        1 => "1 alert fires".to_string(),
        _ => format!("{firing} alerts fire"),
    };
    let is_over = match over {
        1 => "1 is over".to_string(),
        _ => format!("{over} are over"),
    };
    match (firing, over) {
        (_, 0) => fires,
        (0, 1) => "1 alert is over".into(),
        (0, _) => format!("{over} alerts are over"),
        _ => format!("{fires}, {is_over}"),
    }
}

pub fn colour(tone: Tone) -> &'static str {
    match tone {
        Tone::Good => "#1a7f37",
        Tone::Warning => "#9a6700",
        Tone::Critical => "#b3261e",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_counts_what_fires_and_what_is_over() {
        let titles = [(1, 0), (2, 1), (0, 1), (0, 3), (1, 2)].map(|(firing, over)| title(firing, over));
        assert_eq!(
            titles,
            [
                "1 alert fires",
                "2 alerts fire, 1 is over",
                "1 alert is over",
                "3 alerts are over",
                "1 alert fires, 2 are over"
            ]
        );
    }
}
