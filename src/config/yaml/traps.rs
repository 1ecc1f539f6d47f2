//! What people commonly get wrong in the text itself, each with its remedy.
//!
//! A scanner stops at the first error. Here the character that it stumbles over is replaced by one that stands for it, and
//! the text is read again: characters keep their places, and everything behind the trap is checked in the same pass.

use super::{ByteOffsets, ScanError, SyntaxError, TreeBuilder, Unreadable};

/// Traps that are stepped over in one file; each costs another reading of the text.
const MAX_TRAPS: usize = 32;
/// Larger texts are read once.
const MAX_REREAD_BYTES: usize = 256 << 10;

/// Characters that cannot begin a value in YAML, each with the one that stands for it while the text is read again: private
/// use, so that no file holds them for another reason.
const STAND_INS: [(char, char); 5] =
    [('*', '\u{F8D0}'), ('@', '\u{F8D1}'), ('`', '\u{F8D2}'), ('%', '\u{F8D3}'), ('&', '\u{F8D4}')];

/// The tree of a text, and the traps stepped over on the way to it; or every error that was found.
pub(super) fn read(text: &str, bytes: &ByteOffsets) -> Result<(TreeBuilder, Vec<SyntaxError>), Vec<SyntaxError>> {
    // A byte order mark is no part of the text. A line's end keeps every character in its place.
    let mut characters: Vec<char> = text.chars().collect();
    if let Some(first) = characters.first_mut().filter(|first| **first == '\u{FEFF}') {
        *first = '\n';
    }
    if let Some(index) = characters.iter().position(|c| is_control(*c)) {
        let at = bytes.of(index)..bytes.of(index + 1);
        let message = format!("a control character (U+{:04X}) in the text", characters[index] as u32);
        return Err(vec![SyntaxError { at, message, help: Some("remove it; is this a YAML file?".into()) }]);
    }
    let may_mend = text.len() <= MAX_REREAD_BYTES && !characters.iter().any(|c| is_stand_in(*c));
    let mut traps: Vec<SyntaxError> = Vec::new();
    loop {
        let read: String = characters.iter().collect();
        let error = match TreeBuilder::of(&read) {
            Ok(tree) => return Ok((tree, traps)),
            Err(error) => error,
        };
        let trap = match &error {
            Unreadable::Scan(error) if may_mend && traps.len() < MAX_TRAPS => step_over(&mut characters, error, bytes),
            _ => None,
        };
        match trap {
            Some(trap) => traps.push(trap),
            None => {
                // Behind a tab, what follows may be wrong only because of the tab.
                let misled = traps.iter().any(|trap| trap.message == TAB);
                let own = (!misled).then(|| syntax_error(text, bytes, &error));
                return Err(traps.into_iter().chain(own).collect());
            }
        }
    }
}

/// With the characters that were written in place of those that stood for them.
pub(super) fn as_written(text: String) -> String {
    match text.contains(is_stand_in) {
        false => text,
        true => text.chars().map(written).collect(),
    }
}

fn is_stand_in(c: char) -> bool {
    STAND_INS.iter().any(|(_, stand_in)| *stand_in == c)
}

fn written(c: char) -> char {
    STAND_INS.iter().find(|(_, stand_in)| *stand_in == c).map_or(c, |(written, _)| *written)
}

/// YAML allows none of these; they come with binary files.
fn is_control(c: char) -> bool {
    c.is_control() && !matches!(c, '\t' | '\n' | '\r' | '\u{85}')
}

const TAB: &str = "a tab in the indentation";

/// Replaces what the scanner stumbled over; `None` where that is no trap known here.
fn step_over(characters: &mut [char], error: &ScanError, bytes: &ByteOffsets) -> Option<SyntaxError> {
    let index = error.marker().index().min(characters.len());
    if let Some(tabs) = tabs_in_indentation(characters, index) {
        characters[tabs.clone()].iter_mut().filter(|c| **c == '\t').for_each(|c| *c = ' ');
        let at = bytes.of(tabs.start)..bytes.of(tabs.end);
        let help = Some("YAML is indented with spaces: replace each tab by two".to_string());
        return Some(SyntaxError { at, message: TAB.into(), help });
    }
    let starts_value = |index: usize| {
        let before = characters[..index].iter().rev().find(|c| **c != ' ');
        before.is_none_or(|before| matches!(before, ':' | '-' | '[' | '{' | ',' | '\n' | '?'))
    };
    // An alias that nothing is known of is reported behind it, on the same line.
    let line_start = characters[..index].iter().rposition(|c| *c == '\n').map_or(0, |newline| newline + 1);
    let candidates = [index].into_iter().chain((line_start..index).rev());
    let found = candidates
        .filter(|index| characters.get(*index).is_some_and(|c| STAND_INS.iter().any(|(written, _)| written == c)))
        .find(|index| starts_value(*index))?;
    let (start, stand_in) = STAND_INS.iter().find(|(written, _)| *written == characters[found])?;
    characters[found] = *stand_in;
    let end =
        characters[found..].iter().position(|c| " \t\n\r,]}".contains(*c)).map_or(characters.len(), |at| found + at);
    let value: String = characters[found..end].iter().map(|c| written(*c)).collect();
    let message = match start {
        '*' => "a bare `*` starts a YAML alias".to_string(),
        '&' => "a bare `&` starts a YAML anchor".to_string(),
        other => format!("a value cannot start with a bare `{other}`"),
    };
    Some(SyntaxError {
        at: bytes.of(found)..bytes.of(end),
        message,
        help: Some(format!("put it in quotes: \"{value}\"")),
    })
}

/// Tabs before the first other character of the line at `index` or of the one before it: scanners report them sometimes
/// where they stand and sometimes at what follows.
fn tabs_in_indentation(characters: &[char], index: usize) -> Option<std::ops::Range<usize>> {
    let start_of_line =
        |index: usize| characters[..index].iter().rposition(|c| *c == '\n').map_or(0, |newline| newline + 1);
    let here = start_of_line(index);
    [here, start_of_line(here.saturating_sub(1))].into_iter().find_map(|start| {
        let indentation = characters[start..].iter().take_while(|c| matches!(c, ' ' | '\t')).count();
        let tab = characters[start..start + indentation].iter().position(|c| *c == '\t')?;
        Some(start + tab..start + indentation)
    })
}

fn syntax_error(text: &str, bytes: &ByteOffsets, error: &Unreadable) -> SyntaxError {
    let error = match error {
        Unreadable::Scan(error) => error,
        Unreadable::TooDeep(index) => {
            let at = bytes.of(*index)..bytes.of(index + 1);
            return SyntaxError { at, message: "nested too deeply".into(), help: None };
        }
        Unreadable::TooManyAliases(index) => {
            let at = bytes.of(*index)..bytes.of(index + 1);
            let help = Some("write the values out".to_string());
            return SyntaxError { at, message: "its aliases unfold into too large a tree".into(), help };
        }
    };
    let start = bytes.of(error.marker().index());
    let line_start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
    let line = text[line_start..].lines().next().unwrap_or_default();
    let before = text[..line_start].trim_end();
    let previous_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let lines = Lines { line, line_start, previous: &before[previous_start..], previous_start };
    let end = start + text[start..].chars().next().map_or(0, char::len_utf8);
    let Explanation { at, message, help } = explain(error.info(), &lines);
    SyntaxError { at: at.unwrap_or(start..end), message, help: Some(help) }
}

/// The line that the scanner stopped in, and the one with text before it; with the bytes that they start at.
struct Lines<'a> {
    line: &'a str,
    line_start: usize,
    previous: &'a str,
    previous_start: usize,
}

struct Explanation {
    /// `None`: where the scanner stopped.
    at: Option<std::ops::Range<usize>>,
    message: String,
    help: String,
}

/// The scanner's words in those of someone who does not write scanners, where the lines tell what was meant.
fn explain(info: &str, lines: &Lines<'_>) -> Explanation {
    let said = |message: String, help: &str| Explanation { at: None, message, help: help.to_string() };
    if info.contains("quoted scalar") {
        let help = "close it on the same line; a quotation mark itself is written twice in '...'";
        return said("a quotation mark is not closed".into(), help);
    }
    if lines.line.matches(": ").count() > 1 && info.contains("mapping values") {
        return said("this line holds `: ` twice".into(), "put the text that holds `: ` in quotes");
    }
    for (line, start) in [(lines.line, lines.line_start), (lines.previous, lines.previous_start)] {
        if let Some(explanation) = glued(line, start).or_else(|| unclosed(line, start)) {
            return explanation;
        }
    }
    let indentation = |line: &str| line.len() - line.trim_start().len();
    let ends_value = !lines.previous.is_empty() && !lines.previous.ends_with(':');
    if info.contains("mapping values") && indentation(lines.line) > indentation(lines.previous) && ends_value {
        let message = "this line is indented further than the one before, which is complete";
        return said(message.into(), "give keys of one mapping the same indentation");
    }
    let help = "give keys of one mapping the same indentation, and put text with `:`, `#`, `{` or `[` in quotes";
    said(format!("not valid YAML: {info}"), help)
}

/// `key:value`, which YAML takes for one text.
fn glued(line: &str, start: usize) -> Option<Explanation> {
    let content = line.trim_start_matches([' ', '-']);
    let (key, value) = content.split_once(':')?;
    let value = value.split(" #").next().unwrap_or_default().trim_end();
    if !is_word(key) || value.is_empty() || value.starts_with([' ', '/']) {
        return None;
    }
    let start = start + (line.len() - content.len());
    Some(Explanation {
        at: Some(start..start + key.len() + 1 + value.len()),
        message: format!("a space is missing after `{key}:`"),
        help: format!("write `{key}: {value}`"),
    })
}

/// The first bracket of a line that the line does not close.
fn unclosed(line: &str, start: usize) -> Option<Explanation> {
    let mut open: Vec<(usize, char)> = Vec::new();
    let mut quote = None;
    for (at, c) in line.char_indices() {
        match (quote, c) {
            (Some(mark), _) if c == mark => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '{' | '[') => open.push((at, c)),
            (None, '}' | ']') => drop(open.pop()),
            _ => {}
        }
    }
    let (at, bracket) = *open.first()?;
    let closing = if bracket == '{' { '}' } else { ']' };
    Some(Explanation {
        at: Some(start + at..start + at + 1),
        message: format!("`{bracket}` is not closed"),
        help: format!("add `{closing}`"),
    })
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
}
