//! Distributions as people write them in tests of rules: `normal(100, 20)`, `choice(DE 70%, FR 30%) with 5% nulls`.
//!
//! To add one: a variant of `Shape`, its row in `SHAPES` and its arm in `shape`, what it draws in
//! `rule_test::draw`, its row in docs/testing-rules.md.

use std::collections::BTreeMap;
use std::ops::Range;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::nearest::suggest;

/// A distribution as it stands in a file: a number, text such as `normal(100, 20)`, or categories with their weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Drawn {
    /// The same number in every event.
    Number(f64),
    /// The same in every event.
    Truth(bool),
    /// A distribution such as `normal(100, 20)`, or one category.
    Text(String),
    /// Categories and how often each comes, in any unit.
    Weights(BTreeMap<String, f64>),
}

/// What values of a signal are drawn from.
#[derive(Debug, Clone, PartialEq)]
pub struct Distribution {
    pub shape: Shape,
    /// Share of the events without a value, 0 to 1.
    pub nulls: f64,
    /// Of labels: share of the events whose label does not follow from the event, 0 to 1.
    pub noise: f64,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Shape {
    Normal {
        mean: f64,
        sd: f64,
    },
    /// Of a value whose logarithm is normal with this mean and standard deviation.
    LogNormal {
        mean: f64,
        sd: f64,
    },
    Uniform {
        low: f64,
        high: f64,
    },
    Exponential {
        mean: f64,
    },
    Poisson {
        mean: f64,
    },
    Bernoulli {
        share: f64,
    },
    Constant(f64),
    Category(String),
    /// Categories with shares that sum to 1.
    Choice(Vec<(String, f64)>),
    /// Labels only: positive as often as the score says.
    Calibrated,
    /// Labels only: what was predicted, with a number drawn from `plus` added to it.
    Prediction {
        plus: Option<Box<Shape>>,
    },
}

impl Shape {
    /// Whether it draws numbers; `None`: what the event says.
    pub fn is_numeric(&self) -> Option<bool> {
        match self {
            Shape::Category(_) | Shape::Choice(_) => Some(false),
            Shape::Calibrated | Shape::Prediction { .. } => None,
            _ => Some(true),
        }
    }
}

/// What is wrong with the text of a distribution.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct DistributionError {
    pub message: String,
    /// Bytes within the text.
    pub within: Range<usize>,
    pub help: Option<String>,
}

/// Names with their arguments.
const SHAPES: [(&str, &str); 8] = [
    ("normal", "normal(100, 20)"),
    ("lognormal", "lognormal(3.6, 0.8)"),
    ("uniform", "uniform(0, 1)"),
    ("exponential", "exponential(400)"),
    ("poisson", "poisson(3)"),
    ("bernoulli", "bernoulli(10%)"),
    ("constant", "constant(5)"),
    ("choice", "choice(DE 70%, FR 30%)"),
];

impl Drawn {
    pub fn distribution(&self) -> Result<Distribution, DistributionError> {
        let plain = |shape| Distribution { shape, nulls: 0.0, noise: 0.0 };
        match self {
            Drawn::Number(number) => Ok(plain(Shape::Constant(*number))),
            Drawn::Truth(truth) => Ok(plain(Shape::Category(if *truth { "True" } else { "False" }.into()))),
            Drawn::Text(text) => Reader { text }.distribution(),
            Drawn::Weights(weights) => {
                let weights: Vec<(String, f64)> =
                    weights.iter().map(|(name, weight)| (name.clone(), *weight)).collect();
                normalised(weights).map(plain).map_err(|message| DistributionError {
                    message,
                    within: 0..0,
                    help: Some("write `{DE: 0.7, FR: 0.3}`".into()),
                })
            }
        }
    }
}

/// Weights as shares of their sum.
fn normalised(weights: Vec<(String, f64)>) -> Result<Shape, String> {
    if let Some((name, weight)) = weights.iter().find(|(_, weight)| !(weight.is_finite() && *weight >= 0.0)) {
        return Err(format!("{weight} is no weight for `{name}`: it must be a number from 0 upward"));
    }
    let sum: f64 = weights.iter().map(|(_, weight)| weight).sum();
    if sum <= 0.0 || !sum.is_finite() {
        return Err("no category has a weight above 0".into());
    }
    Ok(Shape::Choice(weights.into_iter().map(|(name, weight)| (name, weight / sum)).collect()))
}

struct Reader<'t> {
    text: &'t str,
}

/// One part of the text and where it begins.
#[derive(Clone, Copy)]
struct Part<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Part<'t> {
    fn trimmed(self) -> Self {
        let begun = self.text.trim_start();
        Self { text: begun.trim_end(), at: self.at + self.text.len() - begun.len() }
    }

    fn range(self) -> Range<usize> {
        self.at..self.at + self.text.len()
    }

    fn error(self, message: impl Into<String>, help: Option<String>) -> DistributionError {
        DistributionError { message: message.into(), within: self.range(), help }
    }

    /// Before and after a separator.
    fn split(self, separator: &str) -> Option<(Part<'t>, Part<'t>)> {
        let (before, after) = self.text.split_once(separator)?;
        let after_at = self.at + before.len() + separator.len();
        Some((Part { text: before, at: self.at }.trimmed(), Part { text: after, at: after_at }.trimmed()))
    }

    fn items(self) -> Vec<Part<'t>> {
        let mut items = Vec::new();
        let mut at = self.at;
        for text in self.text.split(',') {
            items.push(Part { text, at }.trimmed());
            at += text.len() + 1;
        }
        items
    }

    fn number(self) -> Result<f64, DistributionError> {
        let number = match self.text.strip_suffix('%') {
            Some(percent) => percent.trim().parse::<f64>().map(|percent| percent / 100.0),
            None => self.text.parse::<f64>(),
        };
        match number {
            Ok(number) if number.is_finite() => Ok(number),
            _ => Err(self.error(format!("`{}` is not a number", self.text), None)),
        }
    }

    fn share(self) -> Result<f64, DistributionError> {
        let share = self.number()?;
        match (0.0..=1.0).contains(&share) {
            true => Ok(share),
            false => Err(self.error(format!("`{}` is no share", self.text), Some("write `0%` to `100%`".into()))),
        }
    }
}

impl<'t> Reader<'t> {
    fn distribution(&self) -> Result<Distribution, DistributionError> {
        let whole = Part { text: self.text, at: 0 }.trimmed();
        let mut found = Distribution { shape: Shape::Constant(0.0), nulls: 0.0, noise: 0.0 };
        let shape = match whole.split(" with ") {
            None => whole,
            Some((shape, additions)) => {
                for addition in additions.text.split(" and ").scan(additions.at, |at, text| {
                    let part = Part { text, at: *at }.trimmed();
                    *at += text.len() + " and ".len();
                    Some(part)
                }) {
                    match addition.split(" ") {
                        Some((share, what)) if what.text == "nulls" => found.nulls = share.share()?,
                        Some((share, what)) if what.text == "noise" => found.noise = share.share()?,
                        _ => {
                            let help = Some("write `with 10% nulls`, of labels also `with 10% noise`".to_string());
                            return Err(addition.error(format!("`{}` is nothing to add", addition.text), help));
                        }
                    }
                }
                shape
            }
        };
        found.shape = self.shape(shape)?;
        Ok(found)
    }

    fn shape(&self, part: Part<'t>) -> Result<Shape, DistributionError> {
        if let Some((first, plus)) = part.split("+").filter(|(first, _)| first.text == "prediction") {
            let plus = self.shape(plus)?;
            return match plus.is_numeric() {
                Some(true) => Ok(Shape::Prediction { plus: Some(Box::new(plus)) }),
                _ => Err(first.error("only a number can be added", Some("write `prediction + normal(0, 5)`".into()))),
            };
        }
        let Some(open) = part.text.find('(') else {
            return match part.text {
                "calibrated" => Ok(Shape::Calibrated),
                "prediction" => Ok(Shape::Prediction { plus: None }),
                "" => Err(part.error("a distribution is missing", Some(known()))),
                number if number.parse::<f64>().is_ok() => part.number().map(Shape::Constant),
                name if SHAPES.iter().any(|(known, _)| *known == name) => Err(wanted(part, name)),
                category => Ok(Shape::Category(category.to_string())),
            };
        };
        let name = Part { text: part.text[..open].trim_end(), at: part.at };
        let Some(inside) = part.text[open + 1..].strip_suffix(')') else {
            return Err(part.error(format!("the bracket after `{}` is never closed", name.text), None));
        };
        let arguments = Part { text: inside, at: part.at + open + 1 }.trimmed();
        self.called(part, name, arguments)
    }

    fn called(&self, whole: Part<'t>, name: Part<'t>, arguments: Part<'t>) -> Result<Shape, DistributionError> {
        if name.text == "choice" {
            return choice(arguments);
        }
        if !SHAPES.iter().any(|(known, _)| *known == name.text) {
            let help = suggest(name.text, SHAPES.iter().map(|(known, _)| *known));
            return Err(name.error(format!("`{}` is no distribution", name.text), help.or(Some(known()))));
        }
        let items: Vec<Part<'t>> = arguments.items();
        let numbers = items.iter().map(|item| item.number()).collect::<Result<Vec<f64>, _>>()?;
        let above_zero = |number: f64, what: &str| match number > 0.0 {
            true => Ok(number),
            false => Err(arguments.error(format!("{what} must be above 0, not {number}"), None)),
        };
        match (name.text, numbers.as_slice()) {
            ("normal", [mean, sd]) => Ok(Shape::Normal { mean: *mean, sd: above_zero(*sd, "the standard deviation")? }),
            ("lognormal", [mean, sd]) => {
                Ok(Shape::LogNormal { mean: *mean, sd: above_zero(*sd, "the standard deviation")? })
            }
            ("uniform", [low, high]) if low < high => Ok(Shape::Uniform { low: *low, high: *high }),
            ("uniform", [low, high]) => Err(arguments.error(
                format!("{low} to {high} is no range"),
                Some(format!("write `uniform({high}, {low})`, or `constant({low})`")),
            )),
            ("exponential", [mean]) => Ok(Shape::Exponential { mean: above_zero(*mean, "the mean")? }),
            ("poisson", [mean]) if *mean <= 1e6 => Ok(Shape::Poisson { mean: above_zero(*mean, "the mean")? }),
            ("poisson", [_]) => Err(arguments.error("at most 1000000", None)),
            ("bernoulli", [_]) => Ok(Shape::Bernoulli { share: items[0].share()? }),
            ("constant", [number]) => Ok(Shape::Constant(*number)),
            _ => Err(wanted(whole, name.text)),
        }
    }
}

/// The distribution is known, its arguments are not as they should be.
fn wanted(part: Part<'_>, name: &str) -> DistributionError {
    let example = SHAPES.iter().find(|(known, _)| *known == name).map_or("", |(_, example)| example);
    let message = format!("`{}` has not the arguments of `{name}`", part.text);
    part.error(message, Some(format!("write it as `{example}`")))
}

fn known() -> String {
    format!("one of {}", SHAPES.map(|(_, example)| format!("`{example}`")).join(", "))
}

/// `DE 70%, FR 30%`; with colons and braces as in YAML too.
fn choice(arguments: Part<'_>) -> Result<Shape, DistributionError> {
    let inner = arguments.text.strip_prefix('{').and_then(|text| text.strip_suffix('}'));
    let arguments = inner.map_or(arguments, |text| Part { text, at: arguments.at + 1 });
    let mut weights = Vec::new();
    for item in arguments.items() {
        let Some(place) = item.text.rfind([' ', ':']) else {
            let message = format!("`{}` has no weight", item.text);
            return Err(item.error(message, Some("write `choice(DE 70%, FR 30%)`".into())));
        };
        let name = Part { text: item.text[..place].trim_end_matches([' ', ':']), at: item.at };
        let weight = Part { text: &item.text[place + 1..], at: item.at + place + 1 }.trimmed();
        weights.push((name.text.to_string(), weight.number()?));
    }
    normalised(weights).map_err(|message| arguments.error(message, None))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Distribution, DistributionError> {
        Drawn::Text(text.into()).distribution()
    }

    #[test]
    fn distributions_are_read_as_written() {
        for (text, shape) in [
            ("normal(100, 20)", Shape::Normal { mean: 100.0, sd: 20.0 }),
            ("lognormal(3.6,0.8)", Shape::LogNormal { mean: 3.6, sd: 0.8 }),
            ("uniform(-1, 1)", Shape::Uniform { low: -1.0, high: 1.0 }),
            ("exponential(400)", Shape::Exponential { mean: 400.0 }),
            ("poisson(3)", Shape::Poisson { mean: 3.0 }),
            ("bernoulli(10%)", Shape::Bernoulli { share: 0.1 }),
            ("constant(5)", Shape::Constant(5.0)),
            ("5", Shape::Constant(5.0)),
            ("IT", Shape::Category("IT".into())),
            ("choice(DE 75%, FR 25%)", Shape::Choice(vec![("DE".into(), 0.75), ("FR".into(), 0.25)])),
            ("choice({DE: 3, FR: 1})", Shape::Choice(vec![("DE".into(), 0.75), ("FR".into(), 0.25)])),
            ("choice(New York 1, Rome 1)", Shape::Choice(vec![("New York".into(), 0.5), ("Rome".into(), 0.5)])),
            ("calibrated", Shape::Calibrated),
            ("prediction", Shape::Prediction { plus: None }),
        ] {
            assert_eq!(read(text).map(|found| found.shape), Ok(shape), "{text}");
        }
        let with = read("normal(0, 1) with 10% nulls and 5% noise").unwrap();
        assert_eq!((with.nulls, with.noise), (0.1, 0.05));
        let added = read("prediction + normal(0, 5)").unwrap().shape;
        assert_eq!(added, Shape::Prediction { plus: Some(Box::new(Shape::Normal { mean: 0.0, sd: 5.0 })) });
    }

    #[test]
    fn an_error_says_where_and_what_to_write() {
        for (text, place, said) in [
            ("norml(0, 1)", "norml", "did you mean `normal`?"),
            ("normal(100)", "normal(100)", "write it as `normal(100, 20)`"),
            ("normal(100, x)", "x", "`x` is not a number"),
            ("normal(100, -1)", "100, -1", "above 0"),
            ("normal(100, 20", "normal(100, 20", "never closed"),
            ("uniform(2, 1)", "2, 1", "uniform(1, 2)"),
            ("bernoulli(3)", "3", "no share"),
            ("choice(DE, FR 30%)", "DE", "has no weight"),
            ("normal(0, 1) with 10% nuls", "10% nuls", "with 10% nulls"),
            ("normal", "normal", "write it as `normal(100, 20)`"),
        ] {
            let error = read(text).unwrap_err();
            assert_eq!(&text[error.within.clone()], place, "{text}: {error}");
            let whole = format!("{error} {}", error.help.clone().unwrap_or_default());
            assert!(whole.contains(said), "{text}: {whole}");
        }
    }
}
