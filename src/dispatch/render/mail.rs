//! The HTML of a mail.

use maud::{DOCTYPE, Markup, html};

use super::wording::{clean, grouped, metric_title, p_value};
use super::{
    MAX_FINDINGS, colour, explained, facts, findings_title, footer, is_link, more, next_steps, open_words, sentences,
    severity_word, state, subject_of, thread_subject, title, value_of, worst_first,
};
use crate::dispatch::receiver::Telling;
use crate::rules::episode::{Finding, Notification};

/// A picture that goes with a mail, as its HTML names it.
pub struct Shown<'a> {
    /// `cid:...`.
    pub source: &'a str,
    /// In CSS pixels.
    pub width: u32,
    pub height: u32,
    /// What it shows, for those who do not see it.
    pub caption: &'a str,
}

/// HTML for the second part of a mail: tables and inline styles only, which is what mail clients show alike.
pub fn html(notification: &Notification, url: &str, telling: &Telling, picture: Option<&Shown<'_>>) -> String {
    let findings = worst_first(notification);
    let colour = colour(notification, telling);
    let page: Markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width";
                title { (thread_subject(notification, telling)) }
            }
            body style="margin:0;padding:0;background:#f4f5f7;" {
                table role="presentation" width="100%" cellpadding="0" cellspacing="0" style="background:#f4f5f7;" {
                    tr { td align="center" style="padding:16px;" {
                        table role="presentation" width="640" cellpadding="0" cellspacing="0" style=(
                            "background:#ffffff;border:1px solid #d8dbe0;font-family:Arial,Helvetica,sans-serif;\
                             font-size:14px;line-height:20px;color:#1f2328;") {
                            tr { td style=(format!("background:{colour};color:#ffffff;padding:12px 20px;")) {
                                span style="font-size:12px;font-weight:bold;" {
                                    (state(notification, telling))
                                }
                                br;
                                span style="font-size:18px;line-height:24px;font-weight:bold;" {
                                    (title(notification, telling))
                                }
                            } }
                            @for (place, sentence) in sentences(notification, telling).iter().enumerate() {
                                tr { td style=(if place == 0 { "padding:16px 20px 4px 20px;" } else { "padding:4px 20px;" }) {
                                    (sentence)
                                } }
                            }
                            tr { td style="padding:4px 20px;" { (facts_table(notification, telling)) } }
                            tr { td style="padding:12px 20px;" {
                                a href=(url) style=(BUTTON) { (open_words(telling)) }
                                @if let Some(runbook) = notification.runbook.as_deref().filter(|runbook| is_link(runbook)) {
                                    " "
                                    a href=(runbook) style=(BUTTON) { "Open the runbook" }
                                }
                            } }
                            @if let Some(picture) = picture {
                                tr { td style="padding:4px 20px 8px 20px;" {
                                    (section_title(picture.caption))
                                    img src=(picture.source) width=(picture.width) height=(picture.height)
                                        alt=(picture.caption) style="display:block;border:0;max-width:100%;height:auto;";
                                } }
                            }
                            @if !findings.is_empty() {
                                tr { td style="padding:8px 20px;" {
                                    (section_title(findings_title(notification)))
                                    (findings_table(&findings))
                                } }
                            }
                            tr { td style="padding:8px 20px 16px 20px;" {
                                (section_title("What to do next"))
                                ol style="margin:0;padding-left:20px;" {
                                    @for step in next_steps(notification, telling) { li { (step) } }
                                }
                            } }
                            tr { td style="padding:10px 20px;border-top:1px solid #d8dbe0;font-size:12px;color:#59636e;" {
                                (footer(notification))
                            } }
                        }
                    } }
                }
            }
        }
    };
    page.into_string()
}

fn section_title(title: &str) -> Markup {
    html! { p style="margin:0 0 6px 0;font-weight:bold;" { (title) } }
}

const BUTTON: &str = "display:inline-block;background:#1f4e8c;color:#ffffff;padding:8px 16px;text-decoration:none;\
                      font-weight:bold;";

fn facts_table(notification: &Notification, telling: &Telling) -> Markup {
    html! {
        table role="presentation" cellpadding="0" cellspacing="0" style="font-size:14px;line-height:20px;" {
            @for (name, value) in facts(notification, telling) {
                tr {
                    td style="padding:2px 16px 2px 0;color:#59636e;vertical-align:top;white-space:nowrap;" { (name) }
                    td style="padding:2px 0;" { (value) }
                }
            }
        }
    }
}

fn findings_table(findings: &[&Finding]) -> Markup {
    let head = "padding:4px 8px 4px 0;border-bottom:2px solid #d8dbe0;text-align:left;color:#59636e;";
    let cell = "padding:6px 8px 2px 0;vertical-align:top;white-space:nowrap;";
    let number = "padding:6px 8px 2px 0;vertical-align:top;text-align:right;white-space:nowrap;";
    html! {
        table width="100%" cellpadding="0" cellspacing="0" style="font-size:13px;line-height:18px;" {
            tr {
                @for title in ["Feature", "Severity", "Metric"] { th style=(head) { (title) } }
                @for title in ["Value", "Adjusted p", "n", "N"] {
                    th style=(format!("{head}text-align:right;")) { (title) }
                }
            }
            @for finding in findings.iter().take(MAX_FINDINGS) {
                tr {
                    td style=(cell) { b { (subject_of(finding)) } }
                    td style=(cell) { (severity_word(finding.severity)) }
                    td style=(cell) { (metric_title(&finding.metric)) }
                    td style=(number) { (value_of(finding)) }
                    td style=(number) { (finding.p_adjusted.map_or("-".into(), p_value)) }
                    td style=(number) { (grouped(finding.n)) }
                    td style=(number) { (if finding.performance.is_some() { "-".into() } else { grouped(finding.n_reference) }) }
                }
                tr { td colspan="7" style="padding:0 8px 8px 0;border-bottom:1px solid #eaecef;color:#3d444d;" {
                    (clean(&finding.reason)) " (" (clean(&finding.condition)) ")"
                    @for sentence in explained(finding) { br; (sentence) }
                } }
            }
        }
        p style="margin:6px 0 0 0;font-size:12px;color:#59636e;" {
            @if let Some(more) = more(findings) { (more) ". " }
            "n and N: values in the window and in the reference. p: probability under no drift, adjusted for all \
             features looked at. Shares, medians and means: in the reference -> in the window."
        }
    }
}
