//! The language of `when` and `recover`: comparisons of metrics, joined by `and`, `or` and `not`.
//!
//! ```text
//! condition  = conjunction { "or" conjunction }
//! conjunction = negation { "and" negation }
//! negation   = "not" negation | comparison
//! comparison = metric (">" | ">=") "auto"
//!            | sum ( (">" | ">=" | "<" | "<=" | "==" | "!=") sum | ["not"] "between" sum "and" sum )
//! sum        = product { ("+" | "-") product }
//! product    = signed { ("*" | "/") signed }
//! signed     = "-" signed | metric | number ["%"] ["of" "expected"] | "expected" | "(" condition ")" | quantifier
//! quantifier = ("any" | "share" | "count") "(" condition ")"
//! ```
//!
//! Every part is typed as it is read: a condition cannot be added, a number cannot be negated by `not`. Errors
//! carry the bytes of the text they are about. To add a function: `Parser::primary`.

use std::ops::Range;

use super::metrics::{METRICS, Metric, Subject, find, needs_rows};
use super::token::{ExpressionError, Kind, Token, error, tokens};
use crate::config::nearest::suggest;

/// Something that holds or does not.
#[derive(Debug, Clone, PartialEq)]
pub enum Condition {
    Compare {
        left: Quantity,
        comparison: Comparison,
        right: Quantity,
    },
    Between {
        value: Quantity,
        low: Quantity,
        high: Quantity,
    },
    And(Box<Condition>, Box<Condition>),
    Or(Box<Condition>, Box<Condition>),
    Not(Box<Condition>),
    /// `psi > auto`: larger than chance explains at the rule's false-alarm rate.
    BeyondChance(&'static Metric),
    /// Holds for at least one selected feature.
    Any(Box<Quantifier>),
}

/// A number.
#[derive(Debug, Clone, PartialEq)]
pub enum Quantity {
    Number(f64),
    Metric(&'static Metric),
    Negative(Box<Quantity>),
    Arithmetic(Arithmetic, Box<Quantity>, Box<Quantity>),
    /// Share of the selected features for which it holds, 0 to 1.
    Share(Box<Quantifier>),
    /// Number of the selected features for which it holds.
    Count(Box<Quantifier>),
}

/// A condition asked of every selected feature.
#[derive(Debug, Clone, PartialEq)]
pub struct Quantifier {
    pub condition: Condition,
    /// As written: `share(psi > 0.2)`.
    pub text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
    Equal,
    NotEqual,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
}

/// A condition as written, whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Expression {
    pub condition: Condition,
    pub text: String,
    /// Metrics named, with their bytes.
    pub metrics: Vec<(&'static Metric, Range<usize>)>,
}

impl Expression {
    pub fn parse(text: &str) -> Result<Self, ExpressionError> {
        let tokens = tokens(text)?;
        let mut parser = Parser { text, tokens, next: 0, metrics: Vec::new(), quantified: false };
        let parsed = parser.disjunction()?;
        if let Some(token) = parser.peek() {
            return Err(unexpected_rest(text, token));
        }
        match parsed.value {
            Value::Condition(condition) => {
                Ok(Self { condition, text: text.trim().to_string(), metrics: parser.metrics })
            }
            Value::Quantity(_) => {
                Err(error(parsed.at, "this is a number, not a condition").help("compare it: `psi > 0.25`"))
            }
        }
    }

    /// True if the window as a whole is judged: no feature's metric stands outside `any`, `share` and `count`.
    pub fn is_about_window(&self) -> bool {
        !self.condition.names_feature_metric()
    }
}

impl Condition {
    fn names_feature_metric(&self) -> bool {
        match self {
            Condition::Compare { left, right, .. } => left.names_feature_metric() || right.names_feature_metric(),
            Condition::Between { value, low, high } => {
                [value, low, high].iter().any(|part| part.names_feature_metric())
            }
            Condition::And(left, right) | Condition::Or(left, right) => {
                left.names_feature_metric() || right.names_feature_metric()
            }
            Condition::Not(inner) => inner.names_feature_metric(),
            Condition::BeyondChance(metric) => metric.subject != Subject::Window,
            Condition::Any(_) => false,
        }
    }

    /// Whether `auto` stands anywhere in it.
    pub fn has_auto(&self) -> bool {
        match self {
            Condition::BeyondChance(_) => true,
            Condition::And(left, right) | Condition::Or(left, right) => left.has_auto() || right.has_auto(),
            Condition::Not(inner) => inner.has_auto(),
            Condition::Compare { .. } | Condition::Between { .. } => {
                self.quantifiers().iter().any(|quantifier| quantifier.condition.has_auto())
            }
            Condition::Any(quantifier) => quantifier.condition.has_auto(),
        }
    }

    /// Every quantifier in it.
    pub fn quantifiers(&self) -> Vec<&Quantifier> {
        match self {
            Condition::Compare { left, right, .. } => [left.quantifiers(), right.quantifiers()].concat(),
            Condition::Between { value, low, high } => {
                [value.quantifiers(), low.quantifiers(), high.quantifiers()].concat()
            }
            Condition::And(left, right) | Condition::Or(left, right) => {
                [left.quantifiers(), right.quantifiers()].concat()
            }
            Condition::Not(inner) => inner.quantifiers(),
            Condition::BeyondChance(_) => Vec::new(),
            Condition::Any(quantifier) => vec![quantifier],
        }
    }
}

impl Quantity {
    fn names_feature_metric(&self) -> bool {
        match self {
            Quantity::Metric(metric) => metric.subject != Subject::Window,
            Quantity::Negative(inner) => inner.names_feature_metric(),
            Quantity::Arithmetic(_, left, right) => left.names_feature_metric() || right.names_feature_metric(),
            Quantity::Number(_) | Quantity::Share(_) | Quantity::Count(_) => false,
        }
    }

    fn quantifiers(&self) -> Vec<&Quantifier> {
        match self {
            Quantity::Share(quantifier) | Quantity::Count(quantifier) => vec![quantifier],
            Quantity::Negative(inner) => inner.quantifiers(),
            Quantity::Arithmetic(_, left, right) => [left.quantifiers(), right.quantifiers()].concat(),
            Quantity::Number(_) | Quantity::Metric(_) => Vec::new(),
        }
    }

    /// The value, if no metric is needed to know it.
    pub fn constant(&self) -> Option<f64> {
        match self {
            Quantity::Number(number) => Some(*number),
            Quantity::Negative(inner) => inner.constant().map(|value| -value),
            Quantity::Arithmetic(operation, left, right) => Some(operation.apply(left.constant()?, right.constant()?)),
            Quantity::Metric(_) | Quantity::Share(_) | Quantity::Count(_) => None,
        }
    }
}

impl Arithmetic {
    pub fn apply(self, left: f64, right: f64) -> f64 {
        match self {
            Arithmetic::Add => left + right,
            Arithmetic::Subtract => left - right,
            Arithmetic::Multiply => left * right,
            Arithmetic::Divide => left / right,
        }
    }
}

fn unexpected_rest(text: &str, token: &Token) -> ExpressionError {
    let written = &text[token.at.clone()];
    let found = error(token.at.clone(), format!("`{written}` is not expected here"));
    match &token.kind {
        Kind::Word(word) if word == "of" || word == "with" => unsupported(token.at.clone(), word),
        Kind::Sign(')') => found.help("there is no `(` to close"),
        Kind::Compare(_) => found.help("join comparisons with `and`, or write `between`"),
        _ => found.help("join conditions with `and` or `or`"),
    }
}

/// Words of the grammar whose data this version does not have.
fn unsupported(at: Range<usize>, word: &str) -> ExpressionError {
    let what = match word {
        "with" => "confidence intervals (`with 95% confidence`)",
        "of" => "shares of anything but `expected`",
        _ => "learned baselines (`baseline`)",
    };
    error(at, format!("{what} are not supported yet in this version")).help("compare with a number")
}

/// What `expected` stands for.
const EXPECTED_ROWS: &str = "expected_row_count";

fn share_of(share: f64, rows: Quantity) -> Quantity {
    Quantity::Arithmetic(Arithmetic::Multiply, Box::new(Quantity::Number(share)), Box::new(rows))
}

fn is_expected(quantity: &Quantity) -> bool {
    matches!(quantity, Quantity::Metric(metric) if metric.name == EXPECTED_ROWS)
}

enum Value {
    Condition(Condition),
    Quantity(Quantity),
}

struct Parsed {
    value: Value,
    at: Range<usize>,
}

struct Parser<'a> {
    text: &'a str,
    tokens: Vec<Token>,
    next: usize,
    metrics: Vec<(&'static Metric, Range<usize>)>,
    /// Inside `any`, `share` or `count`.
    quantified: bool,
}

impl Parser<'_> {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.next)
    }

    fn take_word(&mut self, word: &str) -> bool {
        let found = matches!(self.peek(), Some(Token { kind: Kind::Word(written), .. }) if written == word);
        self.next += usize::from(found);
        found
    }

    fn take_sign(&mut self, signs: &[char]) -> Option<char> {
        match self.peek() {
            Some(Token { kind: Kind::Sign(sign), .. }) if signs.contains(sign) => {
                let sign = *sign;
                self.next += 1;
                Some(sign)
            }
            _ => None,
        }
    }

    fn condition(&self, parsed: Parsed) -> Result<(Condition, Range<usize>), ExpressionError> {
        match parsed.value {
            Value::Condition(condition) => Ok((condition, parsed.at)),
            Value::Quantity(_) => {
                let written = &self.text[parsed.at.clone()];
                Err(error(parsed.at, format!("`{written}` is a number; a condition is needed"))
                    .help("compare it: `psi > 0.25`"))
            }
        }
    }

    fn quantity(&self, parsed: Parsed) -> Result<(Quantity, Range<usize>), ExpressionError> {
        match parsed.value {
            Value::Quantity(quantity) => Ok((quantity, parsed.at)),
            Value::Condition(_) => Err(error(parsed.at, "this is a condition; a number is needed")),
        }
    }

    fn disjunction(&mut self) -> Result<Parsed, ExpressionError> {
        let mut left = self.conjunction()?;
        while self.take_word("or") {
            let right = self.conjunction()?;
            let at = left.at.start..right.at.end;
            let (left_condition, right_condition) = (self.condition(left)?.0, self.condition(right)?.0);
            let both = Condition::Or(Box::new(left_condition), Box::new(right_condition));
            left = Parsed { value: Value::Condition(both), at };
        }
        Ok(left)
    }

    fn conjunction(&mut self) -> Result<Parsed, ExpressionError> {
        let mut left = self.negation()?;
        while self.take_word("and") {
            let right = self.negation()?;
            let at = left.at.start..right.at.end;
            let (left_condition, right_condition) = (self.condition(left)?.0, self.condition(right)?.0);
            let both = Condition::And(Box::new(left_condition), Box::new(right_condition));
            left = Parsed { value: Value::Condition(both), at };
        }
        Ok(left)
    }

    fn negation(&mut self) -> Result<Parsed, ExpressionError> {
        let start = self.peek().map_or(self.text.len(), |token| token.at.start);
        if !self.take_word("not") {
            return self.comparison();
        }
        let inner = self.negation()?;
        let at = start..inner.at.end;
        let (condition, _) = self.condition(inner)?;
        Ok(Parsed { value: Value::Condition(Condition::Not(Box::new(condition))), at })
    }

    fn comparison(&mut self) -> Result<Parsed, ExpressionError> {
        let left = self.sum()?;
        if let Some(Token { kind: Kind::Compare(comparison), .. }) = self.peek() {
            let comparison = *comparison;
            self.next += 1;
            if matches!(self.peek(), Some(token) if is_word(token, &["auto"])) {
                return self.auto(left, comparison);
            }
            let right = self.sum()?;
            let at = left.at.start..right.at.end;
            let (left, right) = (self.quantity(left)?.0, self.quantity(right)?.0);
            return Ok(Parsed { value: Value::Condition(Condition::Compare { left, comparison, right }), at });
        }
        let negated = matches!(
            self.tokens.get(self.next..self.next + 2),
            Some([Token { kind: Kind::Word(not), .. }, Token { kind: Kind::Word(between), .. }])
                if not == "not" && between == "between"
        );
        self.next += usize::from(negated);
        if self.take_word("between") { self.between(left, negated) } else { Ok(left) }
    }

    /// `metric > auto`, up to `auto` itself.
    fn auto(&mut self, left: Parsed, comparison: Comparison) -> Result<Parsed, ExpressionError> {
        let auto_at = self.here();
        self.next += 1;
        let at = left.at.start..auto_at.end;
        if !matches!(comparison, Comparison::Greater | Comparison::GreaterOrEqual) {
            return Err(error(at, "`auto` is an upper limit").help("write `psi > auto`"));
        }
        let Value::Quantity(Quantity::Metric(metric)) = left.value else {
            return Err(error(left.at, "`auto` is the threshold of one metric").help("write `psi > auto`"));
        };
        if !metric.has_law() {
            let message = format!("`{}` has no `auto`: nothing says how it varies without drift", metric.name);
            return Err(error(left.at, message).help("compare it with a number; `drift`, `psi` and `ks` have one"));
        }
        Ok(Parsed { value: Value::Condition(Condition::BeyondChance(metric)), at })
    }

    fn between(&mut self, value: Parsed, negated: bool) -> Result<Parsed, ExpressionError> {
        let low = self.sum()?;
        if !self.take_word("and") {
            if let Some(Token { kind: Kind::Word(word), at }) =
                self.peek().filter(|token| is_word(token, &["of", "with"]))
            {
                return Err(unsupported(at.clone(), word));
            }
            let at = self.here();
            return Err(error(at, "`between` needs a second bound").help("write `between 0.5 and 0.7`"));
        }
        let high = self.sum()?;
        let at = value.at.start..high.at.end;
        let bounds_at = low.at.start..high.at.end;
        let (value, low, high) = (self.quantity(value)?.0, self.quantity(low)?.0, self.quantity(high)?.0);
        // `between 10% and 500% of expected`: both are shares of it.
        let low = match (&low, &high) {
            (Quantity::Number(share), Quantity::Arithmetic(Arithmetic::Multiply, _, rows)) if is_expected(rows) => {
                share_of(*share, Quantity::clone(rows))
            }
            _ => low,
        };
        if let (Some(low), Some(high)) = (low.constant(), high.constant())
            && low > high
        {
            return Err(error(bounds_at, "the lower bound is above the upper one").help("put the smaller bound first"));
        }
        let between = Condition::Between { value, low, high };
        let condition = if negated { Condition::Not(Box::new(between)) } else { between };
        Ok(Parsed { value: Value::Condition(condition), at })
    }

    fn sum(&mut self) -> Result<Parsed, ExpressionError> {
        let mut left = self.product()?;
        while let Some(sign) = self.take_sign(&['+', '-']) {
            let right = self.product()?;
            let operation = if sign == '+' { Arithmetic::Add } else { Arithmetic::Subtract };
            left = self.arithmetic(operation, left, right)?;
        }
        Ok(left)
    }

    fn product(&mut self) -> Result<Parsed, ExpressionError> {
        let mut left = self.signed()?;
        while let Some(sign) = self.take_sign(&['*', '/']) {
            let right = self.signed()?;
            let operation = if sign == '*' { Arithmetic::Multiply } else { Arithmetic::Divide };
            left = self.arithmetic(operation, left, right)?;
        }
        Ok(left)
    }

    fn arithmetic(&self, operation: Arithmetic, left: Parsed, right: Parsed) -> Result<Parsed, ExpressionError> {
        let at = left.at.start..right.at.end;
        let (left, right_at) = (self.quantity(left)?.0, right.at.clone());
        let right = self.quantity(right)?.0;
        if operation == Arithmetic::Divide && right.constant() == Some(0.0) {
            return Err(error(right_at, "division by zero"));
        }
        let value = Value::Quantity(Quantity::Arithmetic(operation, Box::new(left), Box::new(right)));
        Ok(Parsed { value, at })
    }

    fn signed(&mut self) -> Result<Parsed, ExpressionError> {
        let start = self.here().start;
        if self.take_sign(&['-']).is_none() {
            return self.primary();
        }
        let inner = self.signed()?;
        let at = start..inner.at.end;
        let (quantity, _) = self.quantity(inner)?;
        Ok(Parsed { value: Value::Quantity(Quantity::Negative(Box::new(quantity))), at })
    }

    /// The next token's bytes, or the end of the text.
    fn here(&self) -> Range<usize> {
        self.peek().map_or(self.text.len()..self.text.len(), |token| token.at.clone())
    }

    fn primary(&mut self) -> Result<Parsed, ExpressionError> {
        let Some(token) = self.peek().cloned() else {
            let help = "such as `psi > 0.25`";
            return Err(error(self.text.len()..self.text.len(), "a metric or a number is missing here").help(help));
        };
        self.next += 1;
        let at = token.at.clone();
        match token.kind {
            Kind::Number(number) => Ok(self.of_expected(number, at)),
            Kind::Sign('(') => {
                let inner = self.disjunction()?;
                let end = self.close(&at)?;
                Ok(Parsed { value: inner.value, at: at.start..end })
            }
            Kind::Word(word) => self.word(&word, at),
            Kind::Sign(_) | Kind::Compare(_) => {
                let written = &self.text[at.clone()];
                Err(error(at, format!("a metric or a number is missing before `{written}`")))
            }
        }
    }

    /// A number, or that share of the rows that a window usually has: `50% of expected`.
    fn of_expected(&mut self, number: f64, at: Range<usize>) -> Parsed {
        let expected = match self.tokens.get(self.next..self.next + 2) {
            Some([of, expected]) if is_word(of, &["of"]) && is_word(expected, &["expected"]) => expected.at.clone(),
            _ => return Parsed { value: Value::Quantity(Quantity::Number(number)), at },
        };
        self.next += 2;
        let end = expected.end;
        match self.expected(expected) {
            Some(rows) => Parsed { value: Value::Quantity(share_of(number, rows)), at: at.start..end },
            None => Parsed { value: Value::Quantity(Quantity::Number(number)), at },
        }
    }

    fn expected(&mut self, at: Range<usize>) -> Option<Quantity> {
        let metric = find(EXPECTED_ROWS)?;
        self.metrics.push((metric, at));
        Some(Quantity::Metric(metric))
    }

    fn close(&mut self, open: &Range<usize>) -> Result<usize, ExpressionError> {
        let here = self.here();
        match self.take_sign(&[')']) {
            Some(_) => Ok(here.end),
            None => match self.peek().filter(|token| is_word(token, &["of", "with"])) {
                Some(token) => Err(unsupported(token.at.clone(), &self.text[token.at.clone()])),
                None => Err(error(open.clone(), "this `(` is not closed")),
            },
        }
    }

    fn word(&mut self, word: &str, at: Range<usize>) -> Result<Parsed, ExpressionError> {
        match word {
            "auto" => {
                return Err(error(at, "`auto` stands alone to the right of `>`").help("write `psi > auto`"));
            }
            "baseline" => return Err(unsupported(at, word)),
            "any" | "share" | "count" => return self.quantifier(word, at),
            "and" | "or" | "between" | "of" | "with" => {
                return Err(error(at, format!("a metric or a number is missing before `{word}`")));
            }
            _ => {}
        }
        let named = if word == "expected" { EXPECTED_ROWS } else { word };
        let Some(metric) = find(named) else {
            if let Some(help) = needs_rows(word) {
                return Err(ExpressionError { at, message: format!("`{word}` needs the rows"), help: Some(help) });
            }
            let help = suggest(word, METRICS.iter().map(|metric| metric.name)).or_else(|| {
                Some(
                    "metrics are `psi`, `ks`, `wasserstein`, `chi_square`, `null_rate` and those of docs/rules.md"
                        .into(),
                )
            });
            return Err(ExpressionError { at, message: format!("`{word}` is not a metric"), help });
        };
        self.metrics.push((metric, at.clone()));
        Ok(Parsed { value: Value::Quantity(Quantity::Metric(metric)), at })
    }

    fn quantifier(&mut self, word: &str, at: Range<usize>) -> Result<Parsed, ExpressionError> {
        if self.quantified {
            return Err(error(at, format!("`{word}` cannot stand inside another `any`, `share` or `count`")));
        }
        let open = self.here();
        if self.take_sign(&['(']).is_none() {
            return Err(
                error(at, format!("`{word}` needs a condition in brackets")).help(format!("`{word}(psi > 0.2)`"))
            );
        }
        self.quantified = true;
        let inner = self.disjunction()?;
        self.quantified = false;
        let end = self.close(&open)?;
        let (condition, inner_at) = self.condition(inner)?;
        if !condition.names_feature_metric() {
            return Err(error(inner_at, format!("`{word}` asks about features; this names none of their metrics")));
        }
        let at = at.start..end;
        let quantifier = Box::new(Quantifier { condition, text: self.text[at.clone()].to_string() });
        let value = match word {
            "any" => Value::Condition(Condition::Any(quantifier)),
            "share" => Value::Quantity(Quantity::Share(quantifier)),
            _ => Value::Quantity(Quantity::Count(quantifier)),
        };
        Ok(Parsed { value, at })
    }
}

fn is_word(token: &Token, words: &[&str]) -> bool {
    matches!(&token.kind, Kind::Word(word) if words.contains(&word.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_error(text: &str) -> ExpressionError {
        Expression::parse(text).expect_err(text)
    }

    #[test]
    fn conditions_of_the_grammar_are_read() {
        for text in [
            "psi > 0.25",
            "psi > 0.1 and not (ks <= 1e-3 or js == 0)",
            "row_count not between 10 and 500",
            "mean between -1.5 and 1.5",
            "share(psi > 0.2) > 30%",
            "any(null_rate > 5%) or count(unseen_rate > 1%) >= 3",
            "(mean + 2 * std) / 2 > max - 1",
            "row_count < 50% of expected",
            "row_count not between 10% and 500% of expected",
            "row_count < expected / 2 or rejected_rate > 1%",
            "psi > auto and psi > 0.02",
            "share(drift >= auto) > 30%",
            "null_rate_change > auto or (ks > auto)",
        ] {
            assert!(Expression::parse(text).is_ok(), "{text}: {:?}", Expression::parse(text));
        }
    }

    #[test]
    fn quantified_and_window_metrics_are_about_the_window() {
        for (text, expected) in
            [("row_count < 10", true), ("share(psi > 0.2) > 0.3", true), ("psi > 0.1 and row_count > 10", false)]
        {
            assert_eq!(Expression::parse(text).unwrap().is_about_window(), expected, "{text}");
        }
    }

    #[test]
    fn an_error_points_at_its_own_bytes() {
        for (text, at, message) in [
            ("pis > 0.25", 0..3, "`pis` is not a metric"),
            ("psi > ", 6..6, "missing here"),
            ("psi > 0.1 ks > 0.2", 10..12, "not expected here"),
            ("psi = 0.1", 4..5, "`=` is not a comparison"),
            ("psi > 0.1 && ks > 0.2", 10..11, "`&` is not known"),
            ("psi > 10min", 6..11, "no unit"),
            ("(psi > 0.1", 0..1, "not closed"),
            ("psi > 0.1)", 9..10, "not expected"),
            ("psi", 0..3, "not a condition"),
            ("psi + (ks > 0.1) > 1", 6..16, "a number is needed"),
            ("share(any(psi > 1)) > 1", 6..9, "cannot stand inside"),
            ("mean between 3 and 1", 13..20, "above the upper"),
            ("psi / 0 > 1", 6..7, "division by zero"),
            ("1 < psi < 2", 8..9, "not expected"),
            ("psi < auto", 0..10, "upper limit"),
            ("auto < psi", 0..4, "stands alone"),
            ("2 * psi > auto", 0..7, "one metric"),
            ("psi > auto + 1", 11..12, "not expected"),
            ("mean > auto", 0..4, "no `auto`"),
            ("row_count > auto", 0..9, "no `auto`"),
        ] {
            let found = parse_error(text);
            assert_eq!(found.at, at, "{text}: {found}");
            assert!(found.message.contains(message), "{text}: {} against {message}", found.message);
        }
    }

    #[test]
    fn what_a_later_version_brings_is_named_as_such() {
        for text in ["null_rate < baseline - 0.03", "row_count < 50% of baseline", "psi > 0.1 with 95% confidence"] {
            assert!(parse_error(text).message.contains("not supported yet"), "{text}: {}", parse_error(text));
        }
    }

    #[test]
    fn deep_nesting_is_refused_not_overflowed() {
        let text = format!("{}psi > 1{}", "(".repeat(5_000), ")".repeat(5_000));
        assert!(parse_error(&text).message.contains("too long"));
    }
}
