//! What the texts of an action's `guard` say: `>= 50000`, `>= 80%`, `72h of promotion`.

use super::actions::Guard;
use super::units::{Share, Span};

/// A guard that cannot be read: its key, what is wrong and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{key}`: {message}; {help}")]
pub struct GuardError {
    pub key: &'static str,
    pub message: String,
    pub help: String,
}

/// The guards of one action, read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Guards {
    /// Fewest new events.
    pub new_rows: Option<u64>,
    /// Least share of the predictions to train on whose label is known.
    pub label_coverage: Option<Share>,
    pub no_alerts: Vec<String>,
    /// Longest time since the promotion of the version that is rolled back.
    pub within: Option<Span>,
}

impl Guards {
    /// The guards, or everything that is wrong with them.
    pub fn read(guard: &Guard) -> Result<Self, Vec<GuardError>> {
        let mut errors = Vec::new();
        let new_rows = read(&guard.new_rows, rows_at_least, &mut errors);
        let label_coverage = read(&guard.label_coverage, coverage_at_least, &mut errors);
        let within = read(&guard.within, within_promotion, &mut errors);
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(Self { new_rows, label_coverage, no_alerts: guard.no_alerts.clone(), within })
    }
}

fn read<T>(
    text: &Option<String>,
    parse: impl Fn(&str) -> Result<T, GuardError>,
    errors: &mut Vec<GuardError>,
) -> Option<T> {
    parse(text.as_deref()?).map_err(|error| errors.push(error)).ok()
}

/// `>= 50000`.
fn rows_at_least(text: &str) -> Result<u64, GuardError> {
    let wrong = |message: String, help: String| GuardError { key: "new_rows", message, help };
    let example = || "write a least number of events, such as `\">= 50000\"`".to_string();
    let Some(number) = text.trim().strip_prefix(">=") else {
        let help = grouped(text.trim().trim_start_matches(['>', '=', ' '])).unwrap_or_else(example);
        return Err(wrong(format!("`{text}` does not begin with `>=`"), help));
    };
    let number = number.trim();
    match number.parse::<u64>() {
        Ok(0) => Err(wrong("0 new events are always there".into(), example())),
        Ok(rows) => Ok(rows),
        Err(_) => {
            let help = grouped(number).unwrap_or_else(example);
            Err(wrong(format!("`{number}` is not a whole number"), help))
        }
    }
}

/// What to write for a number whose digits are in groups: `50_000`.
fn grouped(number: &str) -> Option<String> {
    let digits: String = number.chars().filter(char::is_ascii_digit).collect();
    let is_grouped = number.chars().all(|c| c.is_ascii_digit() || matches!(c, '_' | ',' | '.' | ' ' | '\''));
    (is_grouped && !digits.is_empty()).then(|| format!("write `\">= {digits}\"`"))
}

/// `>= 80%`.
fn coverage_at_least(text: &str) -> Result<Share, GuardError> {
    let wrong = |message: String, help: String| GuardError { key: "label_coverage", message, help };
    let example = || "write a least share of labelled predictions, such as `\">= 80%\"`".to_string();
    let Some(share) = text.trim().strip_prefix(">=") else {
        let help = match Share::parse(text.trim().trim_start_matches(['>', '=', ' '])) {
            Ok(share) => format!("write `\">= {share}\"`"),
            Err(_) => example(),
        };
        return Err(wrong(format!("`{text}` does not begin with `>=`"), help));
    };
    match Share::parse(share.trim()) {
        Ok(share) if share.percent > 0.0 => Ok(share),
        Ok(_) => Err(wrong("a coverage of 0% is always there".into(), example())),
        Err(_) => {
            let as_ratio = share.trim().parse::<f64>().ok().filter(|ratio| *ratio > 0.0 && *ratio <= 1.0);
            let help = as_ratio.map_or_else(example, |ratio| format!("write `\">= {}%\"`", ratio * 100.0));
            Err(wrong(format!("`{}` is not a percentage", share.trim()), help))
        }
    }
}

/// `72h of promotion`.
fn within_promotion(text: &str) -> Result<Span, GuardError> {
    let wrong = |message: String, help: String| GuardError { key: "within", message, help };
    let words: Vec<&str> = text.split_whitespace().collect();
    let (span, rest) = words.split_first().map_or(("", &[][..]), |(span, rest)| (*span, rest));
    let span = Span::parse(span).map_err(|error| match error.split_once("; ") {
        Some((message, help)) if words.len() == 3 => wrong(message.to_string(), help.to_string()),
        _ => wrong(format!("`{text}` is not a time since promotion"), "write `72h of promotion`".into()),
    })?;
    if rest != ["of", "promotion"] {
        return Err(wrong(format!("`{text}` does not say since when"), format!("write `{span} of promotion`")));
    }
    if span.ms == 0 {
        return Err(wrong("nothing happens at once".into(), "write `72h of promotion`".into()));
    }
    Ok(span)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guards_are_read_as_they_are_written() {
        assert_eq!(rows_at_least(">= 50000"), Ok(50_000));
        assert_eq!(rows_at_least(">=7"), Ok(7));
        assert_eq!(coverage_at_least(">= 80%").map(Share::share), Ok(0.8));
        assert_eq!(within_promotion("72h of promotion"), Ok(Span::from_days(3)));
    }

    #[test]
    fn a_wrong_guard_says_what_to_write() {
        let help_of = |error: GuardError| error.help;
        assert_eq!(rows_at_least("> 50000").map_err(help_of), Err("write `\">= 50000\"`".into()));
        assert_eq!(rows_at_least(">= 50_000").map_err(help_of), Err("write `\">= 50000\"`".into()));
        assert_eq!(rows_at_least("50000").map_err(help_of), Err("write `\">= 50000\"`".into()));
        assert!(rows_at_least("many").map_err(help_of).unwrap_err().contains(">= 50000"));
        assert!(rows_at_least(">= 0").is_err());
        assert_eq!(coverage_at_least("80%").map_err(help_of), Err("write `\">= 80%\"`".into()));
        assert_eq!(coverage_at_least(">= 0.8").map_err(help_of), Err("write `\">= 80%\"`".into()));
        assert!(coverage_at_least(">= 120%").is_err());
        assert_eq!(within_promotion("72h").map_err(help_of), Err("write `3d of promotion`".into()));
        assert_eq!(within_promotion("72 hours of promotion").map_err(help_of), Err("write `72h of promotion`".into()));
        assert_eq!(within_promotion("10min of promotion").map_err(help_of), Err("write `10m`".into()));
        assert!(within_promotion("").is_err());
    }

    #[test]
    fn every_wrong_guard_is_told() {
        let guard = Guard { new_rows: Some("x".into()), within: Some("y".into()), ..Guard::default() };
        let keys: Vec<&str> = Guards::read(&guard).unwrap_err().iter().map(|error| error.key).collect();
        assert_eq!(keys, ["new_rows", "within"]);
    }
}
