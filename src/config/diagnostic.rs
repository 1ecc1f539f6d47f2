//! What is wrong with a file, where, and what would be right: as text with the lines themselves, or as JSON.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use annotate_snippets::{AnnotationKind, Group, Level as Tone, Renderer, Snippet};
use serde_json::json;

/// A file's name as the user knows it, and its text.
#[derive(Debug, Clone)]
pub struct Source {
    pub name: String,
    pub text: String,
    /// Where lines start, found once: a file may have thousands of findings.
    line_starts: OnceLock<Vec<usize>>,
}

impl PartialEq for Source {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.text == other.text
    }
}

impl Source {
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self { name: name.into(), text: text.into(), line_starts: OnceLock::new() }
    }

    /// The line of a byte, from 0, and the byte that it starts at.
    fn line_of(&self, byte: usize) -> (usize, usize) {
        let starts = self.line_starts.get_or_init(|| {
            let newlines = self.text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
            [0].into_iter().chain(newlines.map(|(at, _)| at + 1)).collect()
        });
        let line = starts.partition_point(|start| *start <= byte).saturating_sub(1);
        (line, starts.get(line).copied().unwrap_or(0))
    }

    /// Line and column of a byte, both from 1, the column in characters; a byte order mark is no character.
    fn position(&self, byte: usize) -> (usize, usize) {
        let mut byte = byte.min(self.text.len());
        while !self.text.is_char_boundary(byte) {
            byte -= 1;
        }
        let (line, line_start) = self.line_of(byte);
        let characters = self.text[line_start..byte].chars().filter(|c| *c != '\u{FEFF}').count();
        (line + 1, characters + 1)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Level {
    Error,
    Warning,
}

impl Level {
    pub fn word(self) -> &'static str {
        match self {
            Level::Error => "error",
            Level::Warning => "warning",
        }
    }
}

/// A finding about a value that stands at `pointer` (a JSON pointer such as `/rules/0/when/warn`) in one of the
/// files at hand. Checks that know no line numbers return these; `Loaded::locate` turns them into diagnostics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub level: Level,
    pub code: &'static str,
    pub pointer: String,
    /// Point at the key, not at its value.
    pub at_key: bool,
    /// Bytes within the string value: the place of an error inside an expression.
    pub within: Option<Range<usize>>,
    pub message: String,
    pub help: Option<String>,
}

impl Problem {
    pub fn error(code: &'static str, pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            level: Level::Error,
            code,
            pointer: pointer.into(),
            at_key: false,
            within: None,
            message: message.into(),
            help: None,
        }
    }

    pub fn warning(code: &'static str, pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self { level: Level::Warning, ..Self::error(code, pointer, message) }
    }

    pub fn help(self, help: impl Into<String>) -> Self {
        self.help_if(Some(help.into()))
    }

    pub fn help_if(self, help: Option<String>) -> Self {
        Self { help, ..self }
    }

    pub fn key(self) -> Self {
        Self { at_key: true, ..self }
    }

    pub fn within(self, within: Range<usize>) -> Self {
        Self { within: Some(within), ..self }
    }
}

/// A finding at its place in a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Diagnostic {
    pub level: Level,
    pub code: &'static str,
    pub message: String,
    pub help: Option<String>,
    pub source: Arc<Source>,
    /// Bytes of `source.text`; `None`: the file as a whole.
    pub span: Option<Range<usize>>,
    /// False for lines that hold a secret: they are not repeated in logs.
    pub show_source: bool,
}

impl Diagnostic {
    /// Line and column, both from 1, the column in characters.
    pub fn position(&self) -> (usize, usize) {
        self.source.position(self.span.as_ref().map_or(0, |span| span.start))
    }

    /// First position of the finding and the one behind its last, within one line; `None`: the file as a whole.
    pub fn range(&self) -> Option<((usize, usize), (usize, usize))> {
        let span = visible(&self.source.text, self.span.as_ref()?);
        Some((self.source.position(span.start), self.source.position(span.end)))
    }

    /// By the form of it: the line is not repeated in logs, whatever the finding is about.
    fn line_holds_secret(&self) -> bool {
        let Some(span) = &self.span else { return false };
        let (_, line_start) = self.source.line_of(span.start.min(self.source.text.len()));
        let line = self.source.text.get(line_start..).unwrap_or_default();
        line.lines().next().is_some_and(|line| super::literals::secret_in(line).is_some())
    }

    fn header(&self) -> String {
        let (line, column) = self.position();
        let place = match self.span {
            Some(_) => format!("{}:{line}:{column}", self.source.name),
            None => self.source.name.clone(),
        };
        format!("{place}: {}[{}]: {}", self.level.word(), self.code, self.message)
    }

    fn render(&self, renderer: &Renderer) -> String {
        let mut text = self.header();
        text.push('\n');
        if let Some(span) = self.span.as_ref().filter(|_| self.show_source) {
            let tone = match self.level {
                Level::Error => Tone::ERROR,
                Level::Warning => Tone::WARNING,
            };
            let snippet = Snippet::source(self.source.text.as_str())
                .annotation(AnnotationKind::Primary.span(visible(&self.source.text, span)));
            text.push_str(&renderer.render(&[Group::with_level(tone).element(snippet)]));
            text.push('\n');
        }
        if let Some(help) = &self.help {
            text.push_str(&format!("  help: {help}\n"));
        }
        text
    }

    fn json(&self) -> serde_json::Value {
        let range = self.range();
        json!({
            "file": self.source.name,
            "line": range.map(|(start, _)| start.0),
            "column": range.map(|(start, _)| start.1),
            "end_line": range.map(|(_, end)| end.0),
            "end_column": range.map(|(_, end)| end.1),
            "level": self.level.word(),
            "code": self.code,
            "message": self.message,
            "help": self.help,
        })
    }
}

/// The span within its first line, at least one character where there is one: a whole mapping underlined helps
/// nobody.
fn visible(text: &str, span: &Range<usize>) -> Range<usize> {
    let boundary = |at: usize| {
        let at = at.min(text.len());
        (0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
    };
    let start = boundary(span.start);
    let rest = &text[start..];
    let line = rest.split('\n').next().unwrap_or_default().trim_end().len();
    let wanted = boundary(span.end).saturating_sub(start).min(line);
    let first_char = rest.chars().next().filter(|first| !matches!(first, '\n' | '\r')).map_or(0, char::len_utf8);
    start..start + wanted.max(first_char)
}

/// Everything found in one pass over one or more files.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Diagnostics {
    pub items: Vec<Diagnostic>,
}

impl Diagnostics {
    pub fn push(&mut self, diagnostic: Diagnostic) {
        self.items.push(diagnostic);
    }

    pub fn extend(&mut self, other: Diagnostics) {
        self.items.extend(other.items);
    }

    /// A finding about a file that has no place in it: it is missing, or cannot be read.
    pub fn file(name: &str, code: &'static str, message: impl Into<String>) -> Self {
        let source = Arc::new(Source::new(name, ""));
        let diagnostic = Diagnostic {
            level: Level::Error,
            code,
            message: message.into(),
            help: super::codes::remedy(code).map(str::to_string),
            source,
            span: None,
            show_source: false,
        };
        Self { items: vec![diagnostic] }
    }

    /// For files whose keys are described on pages of their own: `help` in place of the remedies of these codes.
    pub fn replace_remedies(&mut self, codes: &[&str], help: &str) {
        for item in self.items.iter_mut().filter(|item| codes.contains(&item.code)) {
            if item.help.as_deref() == super::codes::remedy(item.code) {
                item.help = Some(help.to_string());
            }
        }
    }

    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub fn errors(&self) -> usize {
        self.items.iter().filter(|item| item.level == Level::Error).count()
    }

    pub fn warnings(&self) -> usize {
        self.items.len() - self.errors()
    }

    /// True if a file could not be read at all: nothing can be said about it.
    pub fn unreadable(&self) -> bool {
        self.items.iter().any(|item| item.code == "unreadable")
    }

    /// By file in the order given, then by place; what two layers found is kept once, and a line
    /// that holds a secret is repeated for none of its findings.
    pub fn sort(&mut self) {
        let mut order: Vec<String> = Vec::new();
        for item in &self.items {
            if !order.contains(&item.source.name) {
                order.push(item.source.name.clone());
            }
        }
        self.items.sort_by_cached_key(|item| {
            let file = order.iter().position(|name| *name == item.source.name);
            (file, item.position(), item.level == Level::Warning)
        });
        self.items.dedup();
        self.keep_causes();
        let line = |item: &Diagnostic| (item.source.name.clone(), item.position().0);
        let secret_lines: Vec<_> = self.items.iter().filter(|item| !item.show_source).map(line).collect();
        for item in &mut self.items {
            item.show_source &= !secret_lines.contains(&line(item)) && !item.line_holds_secret();
        }
    }

    /// Of findings at one place, those that explain the others: what is interpolated nowhere, or no YAML, is no known name
    /// either; a secret that is known by its form and by its key is one.
    fn keep_causes(&mut self) {
        const CAUSES: [&str; 3] = ["yaml", "interpolation", "literal-secret"];
        let place = |item: &Diagnostic| (item.source.name.clone(), item.span.as_ref().map(|span| span.start));
        let mut causes: HashMap<_, &'static str> = HashMap::new();
        for cause in CAUSES {
            for item in self.items.iter().filter(|item| item.code == cause && item.span.is_some()) {
                causes.entry(place(item)).or_insert(cause);
            }
        }
        let mut told = HashSet::new();
        self.items.retain(|item| match causes.get(&place(item)) {
            Some(cause) => item.code == *cause && told.insert(place(item)),
            None => true,
        });
    }

    /// One block a finding: `file:line:col: error[code]: message`, the line, and `help:`.
    pub fn text(&self, colour: bool) -> String {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        self.items.iter().map(|item| item.render(&renderer)).collect::<Vec<_>>().join("\n")
    }

    pub fn json(&self) -> serde_json::Value {
        json!({
            "errors": self.errors(),
            "warnings": self.warnings(),
            "diagnostics": self.items.iter().map(Diagnostic::json).collect::<Vec<_>>(),
        })
    }
}

impl std::fmt::Display for Diagnostics {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.text(false))
    }
}

impl std::error::Error for Diagnostics {}
