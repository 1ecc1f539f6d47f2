//! What a word stands for: a metric, a figure of performance, a gap, or a question about all features.

use std::ops::Range;

use super::super::figure::Figure;
use super::super::{Condition, Quantifier, Quantity};
use super::{EXPECTED_ROWS, Parsed, Parser, Value};
use crate::config::nearest::suggest;
use crate::rules::metrics::{self, QUERY_METRICS, Subject, find, needs_rows};
use crate::rules::performance_metrics::{self, At, PerformanceMetric};
use crate::rules::token::{ExpressionError, error};
use crate::stats::sql::VALUE;

impl Parser<'_> {
    pub(super) fn word(&mut self, word: &str, at: Range<usize>) -> Result<Parsed, ExpressionError> {
        if self.of_query {
            return self.word_of_query(word, at);
        }
        match word {
            "auto" => {
                return Err(error(at, "`auto` stands alone to the right of `>`").help("write `psi > auto`"));
            }
            "baseline" => return Ok(Parsed { value: Value::Quantity(self.baseline(at.clone())), at }),
            "gap" => return self.gap(at),
            "any" | "share" | "count" => return self.quantifier(word, at),
            "and" | "or" | "between" | "of" | "with" => {
                return Err(error(at, format!("a metric or a number is missing before `{word}`")));
            }
            _ => {}
        }
        let named = if word == "expected" { EXPECTED_ROWS } else { word };
        let metric = match named.split_once('@') {
            Some((name, number)) => return self.figure_at(name, number, at),
            None => find(named),
        };
        let Some(metric) = metric else {
            if let Some(help) = needs_rows(word) {
                let found = error(at.clone(), format!("`{word}` needs the rows")).help(help);
                return Ok(self.broken(found, at));
            }
            let help = suggest(word, metrics::all().map(|metric| metric.name)).or_else(|| {
                Some(
                    "metrics are `psi`, `ks`, `wasserstein`, `chi_square`, `null_rate` and those of docs/rules.md"
                        .into(),
                )
            });
            let found = ExpressionError { at: at.clone(), message: format!("`{word}` is not a metric"), help };
            return Ok(self.broken(found, at));
        };
        if metric.subject == Subject::Performance {
            return self.figure(word, None, at);
        }
        self.read.metrics.push((metric, at.clone()));
        Ok(Parsed { value: Value::Quantity(Quantity::Metric(metric)), at })
    }

    /// A word in a condition of a rule with `sql`.
    fn word_of_query(&mut self, word: &str, at: Range<usize>) -> Result<Parsed, ExpressionError> {
        let [value, _] = &QUERY_METRICS;
        let named = if word == "expected" { EXPECTED_ROWS } else { word };
        let metric = match word {
            "baseline" => return Ok(Parsed { value: Value::Quantity(self.baseline(at.clone())), at }),
            VALUE => value,
            _ => match find(named).filter(|metric| metric.subject == Subject::Window) {
                Some(metric) => metric,
                None => return Ok(self.broken(no_word_of_query(word, at.clone()), at)),
            },
        };
        self.read.metrics.push((metric, at.clone()));
        Ok(Parsed { value: Value::Quantity(Quantity::Metric(metric)), at })
    }

    /// `recall@0.7`, `ndcg@10`.
    fn figure_at(&mut self, name: &str, number: &str, at: Range<usize>) -> Result<Parsed, ExpressionError> {
        let number_at = at.start + name.len() + 1..at.end;
        let Some(value) = number.parse::<f64>().ok().filter(|value| value.is_finite()) else {
            let message = format!("`{number}` is not a number: a threshold of the score stands behind `@`");
            return Err(error(number_at, message).help("write `recall@0.7`"));
        };
        self.figure(name, Some((value, number_at)), at)
    }

    fn figure(
        &mut self,
        name: &str,
        place: Option<(f64, Range<usize>)>,
        at: Range<usize>,
    ) -> Result<Parsed, ExpressionError> {
        let name_at = at.start..at.start + name.len();
        let Some(metric) = performance_metrics::find(name) else {
            let (message, help) = match find(name) {
                Some(_) => (format!("`{name}` has no threshold of the score"), Some("leave `@` out".to_string())),
                None => {
                    let known = performance_metrics::PERFORMANCE_METRICS.iter().map(|row| row.metric.name);
                    (format!("`{name}` is not a metric"), suggest(name, known))
                }
            };
            return Ok(self.broken(ExpressionError { at: name_at, message, help }, at));
        };
        let figure = Figure { metric, at: place.as_ref().map(|(value, _)| *value), gap: false };
        check_place(metric, place, &name_at)?;
        self.read.metrics.push((&metric.metric, name_at));
        self.read.figures.push((figure, at.clone()));
        Ok(Parsed { value: Value::Quantity(Quantity::Figure(figure)), at })
    }

    /// `gap(recall)`.
    fn gap(&mut self, at: Range<usize>) -> Result<Parsed, ExpressionError> {
        let open = self.here();
        if self.take_sign(&['(']).is_none() {
            return Err(error(at, "`gap` needs a metric in brackets").help("`gap(recall) > 10%`"));
        }
        let noted = self.errors.len();
        let inner = self.sum()?;
        let end = self.close(&open)?;
        if self.errors.len() > noted {
            return Ok(Parsed { value: Value::Broken, at: at.start..end });
        }
        let figure = match inner.value {
            Value::Quantity(Quantity::Figure(figure)) if !figure.gap => Some(figure),
            _ => None,
        };
        let Some(figure) = figure else {
            let message = "`gap` is the difference of one metric of performance between segments";
            return Err(error(inner.at, message).help("`gap(recall) > 10%`"));
        };
        if !figure.metric.interval {
            let message = format!("`{}` is no figure whose gap between segments means anything", figure.written());
            return Err(error(inner.at, message).help("`gap(recall) > 10%`"));
        }
        let figure = Figure { gap: true, ..figure };
        // What was read last is the metric inside.
        if let Some((read, _)) = self.read.figures.last_mut() {
            *read = figure;
        }
        Ok(Parsed { value: Value::Quantity(Quantity::Figure(figure)), at: at.start..end })
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
        let noted = self.errors.len();
        let inner = self.disjunction();
        self.quantified = false;
        let end = self.close(&open)?;
        if self.errors.len() > noted {
            return Ok(Parsed { value: Value::Broken, at: at.start..end });
        }
        let (condition, inner_at) = self.condition(inner)?;
        if !condition.names_feature_metric() {
            return Err(error(inner_at, format!("`{word}` asks about features; this names none of their metrics")));
        }
        let at = at.start..end;
        self.read.quantifiers.push(at.clone());
        let quantifier = Box::new(Quantifier { condition, text: self.text[at.clone()].to_string() });
        let value = match word {
            "any" => Value::Condition(Condition::Any(quantifier)),
            "share" => Value::Quantity(Quantity::Share(quantifier)),
            _ => Value::Quantity(Quantity::Count(quantifier)),
        };
        Ok(Parsed { value, at })
    }
}

fn no_word_of_query(word: &str, at: Range<usize>) -> ExpressionError {
    let example = "such as `value not between 0.55 and 0.75`";
    match word {
        "auto" => error(at, "`auto` is no threshold of a query: nothing says how its value varies").help(example),
        "and" | "or" | "between" | "of" | "with" => {
            error(at, format!("`value` or a number is missing before `{word}`")).help(example)
        }
        _ if find(word).is_some() || matches!(word, "any" | "share" | "count" | "gap") => {
            let message = format!("a rule with `sql` judges its own `value`, not `{word}`");
            error(at, message).help("make another rule of it")
        }
        _ => {
            let windows = metrics::all().filter(|metric| metric.subject == Subject::Window);
            let known = [VALUE, "baseline"].into_iter().chain(windows.map(|metric| metric.name));
            let help = suggest(word, known).unwrap_or_else(|| example.to_string());
            error(at, format!("`{word}` is not a metric of a query")).help(help)
        }
    }
}

/// Whether the metric is asked where it can be.
fn check_place(
    metric: &PerformanceMetric,
    place: Option<(f64, Range<usize>)>,
    name_at: &Range<usize>,
) -> Result<(), ExpressionError> {
    let name = metric.metric.name;
    let (value, at) = match (metric.at, place) {
        (At::Places, None) => {
            let message = format!("`{name}` is of a ranking's first places: of how many?");
            return Err(error(name_at.clone(), message).help(format!("write `{name}@10`")));
        }
        (_, None) => return Ok(()),
        (At::Nothing, Some((_, at))) => {
            let message = format!("`{name}` has no threshold of the score");
            return Err(error(at, message).help(format!("write `{name}`")));
        }
        (_, Some(place)) => place,
    };
    if metric.at == At::Places && (value < 1.0 || value.fract() != 0.0) {
        return Err(error(at, format!("{value} is no number of places")).help(format!("write `{name}@10`")));
    }
    Ok(())
}
