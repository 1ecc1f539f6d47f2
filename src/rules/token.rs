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

pub(super) fn tokens(text: &str) -> Result<Vec<Token>, ExpressionError> {
    let mut tokens = Vec::new();
    let mut rest_at = 0;
    while let Some(first) = text[rest_at..].chars().next() {
        let rest = &text[rest_at..];
        if first.is_whitespace() {
            rest_at += first.len_utf8();
            continue;
        }
        let (kind, length) = match first {
            'a'..='z' | 'A'..='Z' | '_' => {
                // A dot as in `compat.scouter.psi`, `recall@0.7`.
                let length = rest.find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '_' | '.' | '@'));
                let length = length.unwrap_or(rest.len());
                (Kind::Word(rest[..length].to_string()), length)
            }
            '0'..='9' | '.' => number(rest, rest_at)?,
            '(' | ')' | '+' | '-' | '*' | '/' => (Kind::Sign(first), 1),
            '>' | '<' | '=' | '!' => comparison(rest, rest_at)?,
            '&' | '|' => {
                let word = if first == '&' { "and" } else { "or" };
                return Err(
                    error(rest_at..rest_at + 1, format!("`{first}` is not known here")).help(format!("write `{word}`"))
                );
            }
            '%' => return Err(error(rest_at..rest_at + 1, "`%` must follow a number").help("write `30%`")),
            _ => return Err(error(rest_at..rest_at + first.len_utf8(), format!("`{first}` is not known here"))),
        };
        tokens.push(Token { kind, at: rest_at..rest_at + length });
        rest_at += length;
        if tokens.len() > MAX_TOKENS {
            return Err(error(0..text.len(), format!("too long: at most {MAX_TOKENS} words and signs")));
        }
    }
    Ok(tokens)
}

fn number(rest: &str, start: usize) -> Result<(Kind, usize), ExpressionError> {
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
        return Err(error(at, format!("`{}` is not a number", &rest[..length])));
    };
    let after = &rest[length..];
    if after.starts_with('%') {
        return Ok((Kind::Number(value / 100.0), length + 1));
    }
    if after.starts_with(|c: char| c.is_ascii_alphabetic()) {
        let unit = after.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(after.len());
        let at = at.start..at.end + unit;
        return Err(error(at, "numbers here have no unit but `%`"));
    }
    Ok((Kind::Number(value), length))
}

fn comparison(rest: &str, start: usize) -> Result<(Kind, usize), ExpressionError> {
    let known = [
        (">=", Comparison::GreaterOrEqual),
        ("<=", Comparison::LessOrEqual),
        ("==", Comparison::Equal),
        ("!=", Comparison::NotEqual),
        (">", Comparison::Greater),
        ("<", Comparison::Less),
    ];
    if let Some((sign, comparison)) = known.iter().find(|(sign, _)| rest.starts_with(sign)) {
        return Ok((Kind::Compare(*comparison), sign.len()));
    }
    match rest.starts_with('=') {
        true => Err(error(start..start + 1, "`=` is not a comparison").help("write `==`")),
        false => Err(error(start..start + 1, "`!` is not known here").help("write `not`")),
    }
}
