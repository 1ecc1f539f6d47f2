//! The text of a condition, word by word.

use std::ops::Range;

use super::figure::{Confident, Figure};
use super::{Arithmetic, Comparison, Condition, Expression, Quantity};
use crate::rules::metrics::{Metric, QUERY_METRICS, find};
use crate::rules::token::{ExpressionError, Kind, Token, Tokens, error, tokens};
use crate::stats::sql::BASELINE_VALUE;

mod words;

/// `of_query`: of a rule with `sql`. Otherwise everything that is wrong with the text, in its order: a part that cannot be
/// read is passed over up to the next `and` or `or`.
pub(super) fn expression(text: &str, of_query: bool) -> Result<Expression, Vec<ExpressionError>> {
    let Tokens { tokens, mut errors, readable } = tokens(text);
    if readable {
        let read = Read::default();
        let mut parser = Parser { text, tokens, next: 0, read, errors, quantified: false, of_query };
        let parsed = parser.whole();
        if parser.errors.is_empty()
            && let Value::Condition(condition) = parsed.value
        {
            let Read { metrics, figures, baselines, confidences, quantifiers } = parser.read;
            let text = text.trim().to_string();
            return Ok(Expression { condition, text, metrics, figures, baselines, confidences, quantifiers });
        }
        errors = parser.errors;
    }
    errors.sort_by_key(|error| (error.at.start, error.at.end));
    Err(errors)
}

/// What was named, with its bytes.
#[derive(Default)]
struct Read {
    metrics: Vec<(&'static Metric, Range<usize>)>,
    figures: Vec<(Figure, Range<usize>)>,
    baselines: Vec<Range<usize>>,
    confidences: Vec<Range<usize>>,
    quantifiers: Vec<Range<usize>>,
}

fn unexpected_rest(text: &str, token: &Token) -> ExpressionError {
    let written = &text[token.at.clone()];
    let found = error(token.at.clone(), format!("`{written}` is not expected here"));
    match &token.kind {
        Kind::Word(word) if word == "of" => unknown_share(token.at.clone()),
        Kind::Word(word) if word == "with" => {
            found.help("write `recall < 0.8 with 95% confidence`, after a comparison")
        }
        Kind::Sign(')') => found.help("there is no `(` to close"),
        Kind::Compare(_) => found.help("join comparisons with `and`, or write `between`"),
        _ => found.help("join conditions with `and` or `or`"),
    }
}

/// `of` behind something else than a number, or before something else than these two.
fn unknown_share(at: Range<usize>) -> ExpressionError {
    error(at, "a share is one of `expected` or `baseline`").help("write `50% of expected` or `90% of baseline`")
}

/// What `expected` stands for.
const EXPECTED_ROWS: &str = "expected_row_count";

fn share_of(share: f64, rows: Quantity) -> Quantity {
    Quantity::Arithmetic(Arithmetic::Multiply, Box::new(Quantity::Number(share)), Box::new(rows))
}

/// What shares are of.
fn is_usual(quantity: &Quantity) -> bool {
    match quantity {
        Quantity::Metric(metric) => metric.name == EXPECTED_ROWS || metric.name == BASELINE_VALUE,
        Quantity::Baseline(_) => true,
        _ => false,
    }
}

/// The one figure whose baseline a comparison means.
fn of_baseline(condition: &Condition, at: &Range<usize>) -> Result<Figure, ExpressionError> {
    let figures = match condition {
        Condition::Compare { left, right, .. } => [left.figures(), right.figures()].concat(),
        Condition::Between { value, low, high } => [value.figures(), low.figures(), high.figures()].concat(),
        Condition::Not(inner) => return of_baseline(inner, at),
        _ => Vec::new(),
    };
    let wrong = |message: String| error(at.clone(), message);
    let Some(first) = figures.first().copied() else {
        let found = wrong("`baseline` is the reference's performance: no metric of that is compared here".into());
        return Err(found.help("write `recall < baseline - 0.03`; drift is compared with the reference anyway"));
    };
    if let Some(other) = figures.iter().find(|figure| **figure != first) {
        let message = format!("whose `baseline`: `{}` and `{}` are compared here", first.written(), other.written());
        return Err(wrong(message).help("compare one metric at a time, joined by `and` or `or`"));
    }
    if first.gap || !first.metric.baseline {
        return Err(wrong(format!("`{}` has no baseline", first.written())).help(match first.metric.metric.name {
            "value" => "compare `value_per_prediction`: a total grows with its window",
            _ => "compare it with a number",
        }));
    }
    Ok(first)
}

fn fill_in(condition: &mut Condition, figure: Figure) {
    fn fill(quantity: &mut Quantity, figure: Figure) {
        match quantity {
            Quantity::Baseline(of) => *of = Some(figure),
            Quantity::Negative(inner) => fill(inner, figure),
            Quantity::Arithmetic(_, left, right) => {
                fill(left, figure);
                fill(right, figure);
            }
            Quantity::Number(_) | Quantity::Metric(_) | Quantity::Figure(_) => {}
            Quantity::Share(_) | Quantity::Count(_) => {}
        }
    }
    match condition {
        Condition::Compare { left, right, .. } => [left, right].into_iter().for_each(|part| fill(part, figure)),
        Condition::Between { value, low, high } => [value, low, high].into_iter().for_each(|part| fill(part, figure)),
        Condition::Not(inner) => fill_in(inner, figure),
        Condition::And(..) | Condition::Or(..) | Condition::BeyondChance(_) => {}
        Condition::Any(_) | Condition::Confident(_) => {}
    }
}

/// Stands for a condition that could not be read.
fn unreadable() -> Condition {
    let [left, right] = [Quantity::Number(f64::NAN), Quantity::Number(f64::NAN)];
    Condition::Compare { left, comparison: Comparison::Equal, right }
}

enum Value {
    Condition(Condition),
    Quantity(Quantity),
    /// Could not be read, which is noted; it passes for either.
    Broken,
}

struct Parsed {
    value: Value,
    at: Range<usize>,
}

struct Parser<'a> {
    text: &'a str,
    tokens: Vec<Token>,
    next: usize,
    read: Read,
    errors: Vec<ExpressionError>,
    /// Inside `any`, `share` or `count`.
    quantified: bool,
    /// Of a rule with `sql`.
    of_query: bool,
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
            Value::Broken => Ok((unreadable(), parsed.at)),
        }
    }

    fn quantity(&self, parsed: Parsed) -> Result<(Quantity, Range<usize>), ExpressionError> {
        match parsed.value {
            Value::Quantity(quantity) => Ok((quantity, parsed.at)),
            Value::Condition(_) => Err(error(parsed.at, "this is a condition; a number is needed")),
            Value::Broken => Ok((Quantity::Number(f64::NAN), parsed.at)),
        }
    }

    /// All of the text. What cannot follow is noted, and reading goes on behind the next `and` or `or`.
    fn whole(&mut self) -> Parsed {
        let parsed = self.disjunction();
        if let Value::Quantity(_) = parsed.value
            && self.peek().is_none()
        {
            let found = error(parsed.at.clone(), "this is a number, not a condition");
            self.errors.push(found.help("compare it: `psi > 0.25`"));
        }
        while let Some(token) = self.peek() {
            let found = unexpected_rest(self.text, token);
            self.errors.push(found);
            while self.peek().is_some_and(|token| !is_word(token, &["and", "or"])) {
                self.next += 1;
            }
            if self.take_word("and") || self.take_word("or") {
                self.disjunction();
            }
        }
        parsed
    }

    fn disjunction(&mut self) -> Parsed {
        let mut left = self.conjunction();
        while self.take_word("or") {
            let right = self.conjunction();
            left = self.joined(left, right, Condition::Or);
        }
        left
    }

    fn conjunction(&mut self) -> Parsed {
        let mut left = self.operand();
        while self.take_word("and") {
            let right = self.operand();
            left = self.joined(left, right, Condition::And);
        }
        left
    }

    fn joined(&mut self, left: Parsed, right: Parsed, join: fn(Box<Condition>, Box<Condition>) -> Condition) -> Parsed {
        let at = left.at.start..right.at.end;
        let mut condition = |parsed: Parsed| match self.condition(parsed) {
            Ok((condition, _)) => condition,
            Err(error) => {
                self.errors.push(error);
                unreadable()
            }
        };
        let both = join(Box::new(condition(left)), Box::new(condition(right)));
        Parsed { value: Value::Condition(both), at }
    }

    /// A part between `and` and `or`; one that cannot be read is noted and passed over.
    fn operand(&mut self) -> Parsed {
        let (first, start) = (self.next, self.here().start);
        self.negation().unwrap_or_else(|error| {
            self.errors.push(error);
            self.pass_over(first);
            let end = self.next.checked_sub(1).and_then(|last| self.tokens.get(last)).map_or(start, |last| last.at.end);
            Parsed { value: Value::Broken, at: start..end.max(start) }
        })
    }

    /// To the `and`, `or` or `)` behind the part that begins with this token.
    fn pass_over(&mut self, first: usize) {
        let (mut depth, mut between) = (0_usize, 0_usize);
        let rest = self.tokens.iter().enumerate().skip(first);
        for (index, token) in rest {
            let is_end = match &token.kind {
                Kind::Sign('(') => {
                    depth += 1;
                    false
                }
                Kind::Sign(')') if depth > 0 => {
                    depth -= 1;
                    false
                }
                Kind::Sign(')') => true,
                Kind::Word(word) if depth > 0 || !matches!(word.as_str(), "and" | "or" | "between") => false,
                Kind::Word(word) if word == "between" => {
                    between += 1;
                    false
                }
                // Of its two bounds.
                Kind::Word(word) if word == "and" && between > 0 => {
                    between -= 1;
                    false
                }
                Kind::Word(_) => true,
                _ => false,
            };
            if is_end && index >= self.next {
                self.next = index;
                return;
            }
        }
        self.next = self.tokens.len();
    }

    /// Notes what is wrong with a name and goes on, as whatever stands around it can be read all the same.
    fn broken(&mut self, error: ExpressionError, at: Range<usize>) -> Parsed {
        self.errors.push(error);
        Parsed { value: Value::Broken, at }
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

    /// A comparison, with what `baseline` and `with 95% confidence` mean in it.
    fn comparison(&mut self) -> Result<Parsed, ExpressionError> {
        let (baselines, noted) = (self.read.baselines.len(), self.errors.len());
        let parsed = self.bare_comparison()?;
        let at = parsed.at.clone();
        let Value::Condition(mut condition) = parsed.value else { return Ok(parsed) };
        if self.errors.len() > noted {
            if matches!(self.peek(), Some(token) if is_word(token, &["with"])) {
                self.with_confidence()?;
            }
            return Ok(Parsed { value: Value::Broken, at });
        }
        if let Some(baseline_at) = self.read.baselines.get(baselines) {
            let meant = of_baseline(&condition, baseline_at)?;
            fill_in(&mut condition, meant);
        }
        if !matches!(self.peek(), Some(token) if is_word(token, &["with"])) {
            return Ok(Parsed { value: Value::Condition(condition), at });
        }
        let with_at = self.with_confidence()?;
        let Some(confident) = Confident::of(&condition) else {
            let message = "confidence is asked of one metric of performance against a number or its `baseline`";
            return Err(error(at, message).help("such as `recall < 0.8 with 95% confidence`"));
        };
        if let Some(limit) = confident.limits.iter().find(|limit| !limit.figure.metric.interval) {
            let message = format!("`{}` has no confidence interval", limit.figure.written());
            return Err(error(with_at, message).help("leave `with 95% confidence` out"));
        }
        self.read.confidences.push(with_at.clone());
        Ok(Parsed { value: Value::Condition(Condition::Confident(confident)), at: at.start..with_at.end })
    }

    /// `with 95% confidence`.
    fn with_confidence(&mut self) -> Result<Range<usize>, ExpressionError> {
        let start = self.here().start;
        self.next += 1;
        let level = self.here();
        let Some(Token { kind: Kind::Number(share), .. }) = self.peek() else {
            return Err(error(level, "how sure is missing here").help("write `with 95% confidence`"));
        };
        if (*share - 0.95).abs() > 1e-12 {
            let message = format!("intervals are of 95% confidence, not of {}", &self.text[level.clone()]);
            return Err(error(level, message).help("write `with 95% confidence`"));
        }
        self.next += 1;
        let here = self.here();
        match self.take_word("confidence") {
            true => Ok(start..here.end),
            false => Err(error(here, "`confidence` is missing here").help("write `with 95% confidence`")),
        }
    }

    fn bare_comparison(&mut self) -> Result<Parsed, ExpressionError> {
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
        if matches!(left.value, Value::Broken) {
            return Ok(Parsed { value: Value::Broken, at });
        }
        if !matches!(comparison, Comparison::Greater | Comparison::GreaterOrEqual) {
            return Err(error(at, "`auto` is an upper limit").help("write `psi > auto`"));
        }
        let metric = match left.value {
            Value::Quantity(Quantity::Metric(metric)) => metric,
            Value::Quantity(Quantity::Figure(Figure { metric, at: None, gap: false })) => &metric.metric,
            _ => return Err(error(left.at, "`auto` is the threshold of one metric").help("write `psi > auto`")),
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
            if let Some(token) = self.peek().filter(|token| is_word(token, &["of"])) {
                return Err(unknown_share(token.at.clone()));
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
            (Quantity::Number(share), Quantity::Arithmetic(Arithmetic::Multiply, _, usual)) if is_usual(usual) => {
                share_of(*share, Quantity::clone(usual))
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
            Kind::Number(number) => self.share_of_usual(number, at),
            Kind::Sign('(') => {
                let inner = self.disjunction();
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

    /// A number, or that share of what is usual: `50% of expected`, `90% of baseline`.
    fn share_of_usual(&mut self, number: f64, at: Range<usize>) -> Result<Parsed, ExpressionError> {
        if !self.take_word("of") {
            return Ok(Parsed { value: Value::Quantity(Quantity::Number(number)), at });
        }
        let usual_at = self.here();
        let usual = match self.peek() {
            Some(token) if is_word(token, &["expected"]) => self.expected(usual_at.clone()),
            Some(token) if is_word(token, &["baseline"]) => Some(self.baseline(usual_at.clone())),
            _ => None,
        };
        let Some(usual) = usual else { return Err(unknown_share(usual_at)) };
        self.next += 1;
        Ok(Parsed { value: Value::Quantity(share_of(number, usual)), at: at.start..usual_at.end })
    }

    fn expected(&mut self, at: Range<usize>) -> Option<Quantity> {
        let metric = find(EXPECTED_ROWS)?;
        self.read.metrics.push((metric, at));
        Some(Quantity::Metric(metric))
    }

    /// Of which metric is known at the end of the comparison.
    fn baseline(&mut self, at: Range<usize>) -> Quantity {
        if self.of_query {
            let [_, baseline] = &QUERY_METRICS;
            self.read.metrics.push((baseline, at));
            return Quantity::Metric(baseline);
        }
        self.read.baselines.push(at);
        Quantity::Baseline(None)
    }

    fn close(&mut self, open: &Range<usize>) -> Result<usize, ExpressionError> {
        let here = self.here();
        match self.take_sign(&[')']) {
            Some(_) => Ok(here.end),
            None => match self.peek().filter(|token| is_word(token, &["of"])) {
                Some(token) => Err(unknown_share(token.at.clone())),
                None => Err(error(open.clone(), "this `(` is not closed")),
            },
        }
    }
}

fn is_word(token: &Token, words: &[&str]) -> bool {
    matches!(&token.kind, Kind::Word(word) if words.contains(&word.as_str()))
}
