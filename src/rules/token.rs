//! Words, numbers and signs of an expression, with their bytes.

use std::ops::Range;

use super::expression::Comparison;

/// What is wrong, and which bytes of the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ExpressionError {
    pub at: Range<usize>,
    pub message: String,
    pub help: Option<String>,
}

/// More parts than any rule needs; bounds the depth of everything that walks a condition.
const MAX_TOKENS: usize = 200;

pub(super) fn error(at: Range<usize>, message: impl Into<String>) -> ExpressionError {
    ExpressionError { at, message: message.into(), help: None }
}

impl ExpressionError {
    pub(super) fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    Word(String),
    /// A number, already divided by a hundred if `%` followed.
    Number(f64),
    Compare(Comparison),
    Sign(char),
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Token {
    pub kind: Kind,
    pub at: Range<usize>,
}

/// A text in words. What is no word is an error and stands for what was probably meant.
pub(super) struct Tokens {
    pub tokens: Vec<Token>,
    pub errors: Vec<ExpressionError>,
    /// False: what was meant cannot be guessed, so that nothing can be said about the whole.
    pub readable: bool,
}

/// One word, or what stands for it, and its bytes.
struct Lexed {
    kind: Option<Kind>,
    length: usize,
    error: Option<ExpressionError>,
}

impl Lexed {
    fn right(kind: Kind, length: usize) -> Self {
        Self { kind: Some(kind), length, error: None }
    }

    fn meant(kind: Kind, length: usize, error: ExpressionError) -> Self {
        Self { kind: Some(kind), length, error: Some(error) }
    }
}

pub(super) fn tokens(text: &str) -> Tokens {
    let mut found = Tokens { tokens: Vec::new(), errors: Vec::new(), readable: true };
    let mut rest_at = 0;
    while let Some(first) = text[rest_at..].chars().next() {
        let rest = &text[rest_at..];
        if first.is_whitespace() {
            rest_at += first.len_utf8();
            continue;
        }
        let Lexed { kind, length, error } = token(first, rest, rest_at);
        found.readable &= kind.is_some();
        found.tokens.extend(kind.map(|kind| Token { kind, at: rest_at..rest_at + length }));
        found.errors.extend(error);
        rest_at += length;
        if found.tokens.len() > MAX_TOKENS || found.errors.len() > MAX_TOKENS {
            let message = format!("too long: at most {MAX_TOKENS} words and signs");
            return Tokens { tokens: Vec::new(), errors: vec![self::error(0..text.len(), message)], readable: false };
        }
    }
    found
}

fn token(first: char, rest: &str, start: usize) -> Lexed {
    let wrong = |length: usize, help: Option<&str>| {
        let found = error(start..start + length, format!("`{}` is not known here", &rest[..length]));
        ExpressionError { help: help.map(str::to_string), ..found }
    };
    match first {
        'a'..='z' | 'A'..='Z' | '_' => {
            // A dot as in `compat.scouter.psi`, `recall@0.7`.
            let length = rest.find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '_' | '.' | '@'));
            let length = length.unwrap_or(rest.len());
            Lexed::right(Kind::Word(rest[..length].to_string()), length)
        }
        '0'..='9' | '.' => number(rest, start),
        '(' | ')' | '+' | '-' | '*' | '/' => Lexed::right(Kind::Sign(first), 1),
        '>' | '<' | '=' | '!' => comparison(rest, start),
        '\u{2265}' | '\u{2264}' | '\u{2260}' => {
            let (written, meant) = match first {
                '\u{2265}' => (">=", Comparison::GreaterOrEqual),
                '\u{2264}' => ("<=", Comparison::LessOrEqual),
                _ => ("!=", Comparison::NotEqual),
            };
            let length = first.len_utf8();
            Lexed::meant(Kind::Compare(meant), length, wrong(length, Some(&format!("write `{written}`"))))
        }
        '&' | '|' => {
            let word = if first == '&' { "and" } else { "or" };
            let length = 1 + usize::from(rest[1..].starts_with(first));
            let found = wrong(length, Some(&format!("write `{word}`")));
            Lexed::meant(Kind::Word(word.to_string()), length, found)
        }
        '%' => {
            let found = error(start..start + 1, "`%` must follow a number").help("write `30%`");
            Lexed { kind: None, length: 1, error: Some(found) }
        }
        _ => {
            let length = first.len_utf8();
            Lexed { kind: None, length, error: Some(wrong(length, None)) }
        }
    }
}

fn number(rest: &str, start: usize) -> Lexed {
    let mut length = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
    let exponent = rest[length..].strip_prefix(['e', 'E']).map(|exponent| {
        let sign = usize::from(exponent.starts_with(['-', '+']));
        let digits = exponent[sign..].find(|c: char| !c.is_ascii_digit()).unwrap_or(exponent[sign..].len());
        (sign, digits)
    });
    if let Some((sign, digits)) = exponent.filter(|(_, digits)| *digits > 0) {
        length += 1 + sign + digits;
    }
    let at = start..start + length;
    let value = rest[..length].parse::<f64>().ok().filter(|value| value.is_finite());
    let Some(value) = value else {
        let found = error(at, format!("`{}` is not a number", &rest[..length]));
        return Lexed::meant(Kind::Number(f64::NAN), length, found);
    };
    let after = &rest[length..];
    if after.starts_with('%') {
        return Lexed::right(Kind::Number(value / 100.0), length + 1);
    }
    if after.starts_with(|c: char| c.is_ascii_alphabetic()) {
        let unit = after.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(after.len());
        let found = error(at.start..at.end + unit, "numbers here have no unit but `%`");
        return Lexed::meant(Kind::Number(value), length + unit, found);
    }
    Lexed::right(Kind::Number(value), length)
}

fn comparison(rest: &str, start: usize) -> Lexed {
    let known = [
        (">=", Comparison::GreaterOrEqual),
        ("<=", Comparison::LessOrEqual),
        ("==", Comparison::Equal),
        ("!=", Comparison::NotEqual),
        (">", Comparison::Greater),
        ("<", Comparison::Less),
    ];
    if let Some((sign, comparison)) = known.iter().find(|(sign, _)| rest.starts_with(sign)) {
        return Lexed::right(Kind::Compare(*comparison), sign.len());
    }
    let swapped = [("=>", ">=", Comparison::GreaterOrEqual), ("=<", "<=", Comparison::LessOrEqual)];
    if let Some((written, right, meant)) = swapped.into_iter().find(|(written, ..)| rest.starts_with(written)) {
        let found =
            error(start..start + 2, format!("`{written}` is not a comparison")).help(format!("write `{right}`"));
        return Lexed::meant(Kind::Compare(meant), 2, found);
    }
    let at = start..start + 1;
    match rest.starts_with('=') {
        true => {
            let found = error(at, "`=` is not a comparison").help("write `==`");
            Lexed::meant(Kind::Compare(Comparison::Equal), 1, found)
        }
        false => {
            let found = error(at, "`!` is not known here").help("write `not`");
            Lexed::meant(Kind::Word("not".into()), 1, found)
        }
    }
}
