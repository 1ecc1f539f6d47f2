//! Text with `{placeholders}` of a notification: `{summary}`, `{summary:130}` for at most 130 characters, `{{` and `}}`
//! for braces. What each stands for is filled in by `dispatch::body_template`. To add one: a line in `PLACEHOLDERS`, its
//! arm there, its row in docs/rules.md.

use std::ops::Range;

use super::nearest::suggest;

macro_rules! placeholders {
    ($($name:literal => $variant:ident,)*) => {
        /// What may stand in braces.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Placeholder {
            $($variant,)*
        }

        /// Every placeholder by its name.
        pub const PLACEHOLDERS: &[(&str, Placeholder)] = &[$(($name, Placeholder::$variant),)*];
    };
}

placeholders! {
    "id" => Id,
    "episode_id" => EpisodeId,
    "sequence" => Sequence,
    "status" => Status,
    "severity" => Severity,
    "priority" => Priority,
    "rule" => Rule,
    "model" => Model,
    "version" => Version,
    "segment" => Segment,
    "feature" => Feature,
    "metric" => Metric,
    "value" => Value,
    "condition" => Condition,
    "reason" => Reason,
    "reference" => Reference,
    "rows" => Rows,
    "subject" => Subject,
    "summary" => Summary,
    "description" => Description,
    "runbook" => Runbook,
    "text" => Text,
    "url" => Url,
    "since" => Since,
    "window_start" => WindowStart,
    "window_end" => WindowEnd,
    "at" => At,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    /// With the most characters that are wanted of it.
    Placeholder(Placeholder, Option<usize>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct TemplateError {
    pub message: String,
    /// Bytes within the text.
    pub within: Range<usize>,
    pub help: String,
}

impl Template {
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        Self::parse_without(text, &[])
    }

    /// The same where some placeholders are not known.
    pub fn parse_without(text: &str, unknown: &[Placeholder]) -> Result<Self, TemplateError> {
        let braces = "write `{{` and `}}` for braces themselves";
        let error = |message: String, within: Range<usize>, help: &str| TemplateError {
            message,
            within,
            help: help.to_string(),
        };
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut at = 0;
        while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
            if rest.starts_with("{{") || rest.starts_with("}}") {
                plain.extend(rest.chars().take(1));
                at += 2;
            } else if rest.starts_with('}') {
                return Err(error("`}` closes nothing".into(), at..at + 1, braces));
            } else if let Some(inside) = rest.strip_prefix('{') {
                let Some(length) = inside.find('}') else {
                    return Err(error("`{` is never closed".into(), at..text.len(), braces));
                };
                let inside = &inside[..length];
                let part = placeholder(inside, unknown).map_err(|(message, help)| {
                    error(message, at..at + length + 2, &help.unwrap_or_else(|| braces.to_string()))
                })?;
                if !plain.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut plain)));
                }
                parts.push(part);
                at += length + 2;
            } else {
                let length = rest.find(['{', '}']).unwrap_or(rest.len());
                plain.push_str(&rest[..length]);
                at += length;
            }
        }
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Ok(Self { parts })
    }

    /// The text with a value for every placeholder, cut to the length that is wanted.
    pub fn fill(&self, value: impl Fn(Placeholder) -> String) -> String {
        self.fill_encoded(value, |cut| cut)
    }

    /// The same with every value encoded for the place it goes to, after it was cut.
    pub fn fill_encoded(&self, value: impl Fn(Placeholder) -> String, encode: impl Fn(String) -> String) -> String {
        let mut out = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Placeholder(placeholder, most) => {
                    let most = most.unwrap_or(usize::MAX);
                    out.push_str(&encode(value(*placeholder).chars().take(most).collect()));
                }
            }
        }
        out
    }
}

/// `summary`, `summary:130`; otherwise what is wrong and, where it can be told, what would be right.
fn placeholder(inside: &str, unknown: &[Placeholder]) -> Result<Part, (String, Option<String>)> {
    let (name, most) = match inside.split_once(':') {
        None => (inside, None),
        Some((name, digits)) => match digits.parse::<usize>() {
            Ok(most) if most > 0 => (name, Some(most)),
            _ => {
                let message = format!("`{digits}` is not a number of characters");
                return Err((message, Some(format!("write `{{{name}:130}}`"))));
            }
        },
    };
    let known = || PLACEHOLDERS.iter().filter(|(_, placeholder)| !unknown.contains(placeholder));
    match (known().find(|(known, _)| *known == name), PLACEHOLDERS.iter().any(|(known, _)| *known == name)) {
        (Some((_, placeholder)), _) => Ok(Part::Placeholder(*placeholder, most)),
        (None, true) => {
            let help = "it can stand in the templates of receivers".to_string();
            Err((format!("`{{{name}}}` is not known before an alert is delivered"), Some(help)))
        }
        (None, false) => {
            let help = suggest(name, known().map(|(known, _)| *known).collect::<Vec<_>>());
            Err((format!("`{{{name}}}` is nothing that a notification has"), help))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(text: &str) -> String {
        let value = |placeholder| match placeholder {
            Placeholder::Summary => "{rule} \u{e9}t\u{e9}".to_string(),
            other => format!("<{other:?}>"),
        };
        Template::parse(text).unwrap().fill(value)
    }

    #[test]
    fn placeholders_are_filled_once_and_cut_by_characters() {
        assert_eq!(filled("a {rule}{model} b"), "a <Rule><Model> b");
        assert_eq!(filled("{summary}"), "{rule} \u{e9}t\u{e9}");
        assert_eq!(filled("{summary:8}!"), "{rule} \u{e9}!");
        assert_eq!(filled("{{rule}} {{{rule}}}"), "{rule} {<Rule>}");
        assert_eq!(filled(""), "");
    }

    #[test]
    fn an_error_says_where_and_what_would_be_right() {
        let error = |text: &str| Template::parse(text).unwrap_err();
        assert_eq!(
            (error("ab {sumary} c").within, error("ab {sumary}").help.as_str()),
            (3..11, "did you mean `summary`?")
        );
        assert_eq!(error("ab {rule").within, 3..8);
        assert_eq!(error("a } b").within, 2..3);
        assert_eq!(error("{rule:x}").help, "write `{rule:130}`");
        assert_eq!(error("{rule:0}").help, "write `{rule:130}`");
    }

    #[test]
    fn any_text_parses_or_is_refused_at_a_place_within_it() {
        for text in ["{", "}", "{}", "{{}", "{\u{e9}}", "{:}", "{rule:}", "}}{", "{{{", "\u{e9}{rule}\u{e9}}"] {
            if let Err(error) = Template::parse(text) {
                assert!(text.get(error.within.clone()).is_some(), "{text}: {:?}", error.within);
            }
        }
    }
}
