//! A transform's file to its steps, with what its shape does not say: names, types, ranges.

use std::collections::{BTreeSet, HashMap};

use crate::config::Problem;
use crate::config::transform as file;
use crate::config::transform::{Literal, RawKind, TransformFile, UnseenOneHot, UnseenOrdinal};
use crate::config::yaml::child;
use crate::scorer::names::check_name;

use super::step::{Step, Unseen};
use super::{Feature, FeatureTransform, RawInput};

/// Most raw features, and columns.
const MAX_COLUMNS: usize = 4_096;

/// What a value is between two steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Type {
    Number,
    Text,
    Time,
    /// Several columns: nothing can follow.
    Columns,
}

impl Type {
    const fn name(self) -> &'static str {
        match self {
            Self::Number => "a number",
            Self::Text => "a text",
            Self::Time => "a time",
            Self::Columns => "several columns",
        }
    }
}

/// Everything that is wrong with it.
pub(super) fn problems(file: &TransformFile) -> Vec<Problem> {
    let mut compiling = Compiling::new(file);
    compiling.run();
    compiling.problems
}

/// # Errors
/// The first thing that is wrong with it.
pub(super) fn transform(file: &TransformFile, id: String) -> Result<FeatureTransform, Problem> {
    let mut compiling = Compiling::new(file);
    compiling.run();
    let Compiling { inputs, features, columns, problems, .. } = compiling;
    match problems.into_iter().next() {
        Some(problem) => Err(problem),
        None => {
            Ok(FeatureTransform { id, output: file.output.clone(), datatype: file.datatype, inputs, features, columns })
        }
    }
}

struct Compiling<'a> {
    file: &'a TransformFile,
    inputs: Vec<RawInput>,
    features: Vec<Feature>,
    columns: Vec<String>,
    problems: Vec<Problem>,
}

impl<'a> Compiling<'a> {
    fn new(file: &'a TransformFile) -> Self {
        let input = |(name, raw): (&String, &file::RawFeature)| RawInput {
            name: name.clone(),
            kind: raw.kind(),
            missing: raw.missing().to_vec(),
        };
        let inputs = file.inputs.iter().map(input).collect();
        Self { file, inputs, features: Vec::new(), columns: Vec::new(), problems: Vec::new() }
    }

    fn problem(&mut self, code: &'static str, pointer: impl Into<String>, message: String, help: &str) {
        self.problems.push(Problem::error(code, pointer, message).help(help));
    }

    fn run(&mut self) {
        if self.file.version != 1 {
            let message = format!("version {} of this format is not known", self.file.version);
            self.problem("bad-version", "/version", message, "write `version: 1`");
        }
        if let Err(bad) = check_name("output", &self.file.output) {
            self.problem("bad-name", "/output", bad.to_string(), "write the name of the model's input");
        }
        for (name, raw) in &self.file.inputs {
            let pointer = child("/inputs", name);
            if name.is_empty() || name.len() > 256 {
                let help = "give it a name of 1 to 256 bytes";
                self.problem("bad-name", pointer.as_str(), "this raw feature cannot be called so".into(), help);
            }
            if !raw.missing().is_empty() && raw.kind() != RawKind::Text {
                let message = "`missing` is of texts only".to_string();
                self.problem("wrong-type", pointer + "/missing", message, "leave it out");
            }
        }
        if self.file.features.is_empty() || self.inputs.len() > MAX_COLUMNS {
            let message = format!("a transform has 1 to {MAX_COLUMNS} raw features and columns");
            self.problem("out-of-range", "/features", message, "name at least one column");
        }
        let mut seen = BTreeSet::new();
        for index in 0..self.file.features.len() {
            let before = self.columns.len();
            self.feature(index);
            let twice = self.columns[before..].iter().find(|column| !seen.insert((*column).clone())).cloned();
            if let Some(column) = twice {
                let (at, message) = (format!("/features/{index}"), format!("another column is called `{column}` too"));
                self.problem("duplicate", at, message, "give one of them a `name` of its own");
            }
        }
        let columns = self.columns.len();
        if columns > MAX_COLUMNS {
            let message = format!("these are {columns} columns; at most {MAX_COLUMNS} are allowed");
            self.problem("out-of-range", "/features", message, "leave some out");
        }
    }

    fn find(&mut self, name: &str, pointer: &str) -> Option<usize> {
        let found = self.inputs.iter().position(|input| input.name == name);
        if found.is_none() {
            let known: Vec<_> = self.inputs.iter().map(|input| format!("`{}`", input.name)).collect();
            let help = format!("known: {}", known.join(", "));
            self.problem("unknown-name", pointer, format!("`{name}` is no raw feature of `inputs`"), &help);
        }
        found
    }

    fn feature(&mut self, index: usize) {
        let column = &self.file.features[index];
        let at = format!("/features/{index}");
        let Some(from) = self.find(&column.from, &format!("{at}/from")) else { return };
        let name = column.name.clone().unwrap_or_else(|| column.from.clone());
        let mut kind = match self.inputs[from].kind {
            RawKind::Number | RawKind::Boolean => Type::Number,
            RawKind::Text => Type::Text,
            RawKind::Time => Type::Time,
        };
        let mut steps = Vec::with_capacity(column.steps.len());
        let mut own = vec![name.clone()];
        for (index, step) in column.steps.iter().enumerate() {
            let pointer = format!("{at}/steps/{index}");
            if let file::Step::OneHot(one_hot) = step {
                own = one_hot.categories.iter().map(|category| format!("{name}={category}")).collect();
                if one_hot.unseen == UnseenOneHot::Other {
                    own.push(format!("{name}=_other"));
                }
            }
            let Some((step, after)) = self.step(step, kind, &pointer) else { return };
            steps.push(step);
            kind = after;
        }
        if matches!(kind, Type::Text | Type::Time) {
            let message = format!("`{name}` ends as {}, a column is a number", kind.name());
            let help = match kind {
                Type::Text => "end with `one_hot`, `ordinal` or `cast: number`",
                _ => "add a step such as `date_part: hour`",
            };
            self.problem("wrong-type", at, message, help);
        }
        self.columns.extend(own);
        self.features.push(Feature { from, name, steps });
    }

    fn step(&mut self, step: &file::Step, kind: Type, pointer: &str) -> Option<(Step, Type)> {
        use file::Step as S;
        let (takes, word) = match step {
            S::Impute(Literal::Number(_)) => (vec![Type::Number], "impute with a number"),
            S::Impute(Literal::Text(_)) => (vec![Type::Text], "impute with a text"),
            S::Clip(_) => (vec![Type::Number], "clip"),
            S::Log1p => (vec![Type::Number], "log1p"),
            S::Standard(_) => (vec![Type::Number], "standard"),
            S::MinMax(_) => (vec![Type::Number], "min_max"),
            S::Ratio(_) => (vec![Type::Number], "ratio"),
            S::Bin(_) => (vec![Type::Number], "bin"),
            S::OneHot(_) => (vec![Type::Text], "one_hot"),
            S::Ordinal(_) => (vec![Type::Text], "ordinal"),
            S::DatePart(_) => (vec![Type::Time], "date_part"),
            S::Cast(file::Cast::Number) => (vec![Type::Number, Type::Text], "cast to a number"),
            S::Cast(file::Cast::Text) => (vec![Type::Number, Type::Text], "cast to a text"),
        };
        if !takes.contains(&kind) {
            let wanted: Vec<_> = takes.iter().map(|kind| kind.name()).collect();
            let message = format!("`{word}` takes {}, here the value is {}", wanted.join(" or "), kind.name());
            self.problem(
                "wrong-type",
                pointer,
                message,
                "change the order of the steps, or the type of the raw feature",
            );
            return None;
        }
        match step {
            S::Impute(Literal::Number(number)) => {
                self.finite(&[*number], pointer)?;
                Some((Step::ImputeNumber(*number), Type::Number))
            }
            S::Impute(Literal::Text(text)) => Some((Step::ImputeText(text.clone()), Type::Text)),
            S::Clip(clip) => {
                let (min, max) = (clip.min.unwrap_or(f64::NEG_INFINITY), clip.max.unwrap_or(f64::INFINITY));
                self.ordered(min <= max, pointer, "`min` is above `max`")?;
                Some((Step::Clip { min, max }, Type::Number))
            }
            S::Log1p => Some((Step::Log1p, Type::Number)),
            S::Standard(file::Standard { mean, std }) => {
                self.finite(&[*mean, *std], pointer)?;
                self.ordered(*std > 0.0, pointer, "`std` is not above 0")?;
                Some((Step::Standard { mean: *mean, std: *std }, Type::Number))
            }
            S::MinMax(file::MinMax { min, max }) => {
                self.finite(&[*min, *max, max - min], pointer)?;
                self.ordered(min < max, pointer, "`max` is not above `min`")?;
                Some((Step::MinMax { min: *min, range: max - min }, Type::Number))
            }
            S::Ratio(ratio) => {
                let by = self.find(&ratio.by, &format!("{pointer}/ratio/by"))?;
                if !matches!(self.inputs[by].kind, RawKind::Number | RawKind::Boolean) {
                    let message = format!("`{}` is no number", ratio.by);
                    self.problem(
                        "wrong-type",
                        format!("{pointer}/ratio/by"),
                        message,
                        "divide by a raw feature that is one",
                    );
                    return None;
                }
                Some((Step::Ratio(by), Type::Number))
            }
            S::Bin(file::Bin { edges }) => {
                self.finite(edges, pointer)?;
                let ascending = !edges.is_empty() && edges.windows(2).all(|pair| pair[0] < pair[1]);
                self.ordered(ascending, pointer, "`edges` must be given in ascending order, at least one")?;
                Some((Step::Bin(edges.clone()), Type::Number))
            }
            S::OneHot(file::OneHot { categories, unseen }) => {
                let positions = self.positions(categories, pointer)?;
                let (width, unseen) = match unseen {
                    UnseenOneHot::Zeros => (categories.len(), Unseen::Zeros),
                    UnseenOneHot::Other => (categories.len() + 1, Unseen::Other(categories.len())),
                    UnseenOneHot::Error => (categories.len(), Unseen::Error),
                };
                Some((Step::OneHot { positions, width, unseen }, Type::Columns))
            }
            S::Ordinal(file::Ordinal { categories, unseen }) => {
                let positions = self.positions(categories, pointer)?;
                let positions = positions.into_iter().map(|(name, position)| (name, position as f64)).collect();
                let unseen = match unseen {
                    UnseenOrdinal::Value(value) => Unseen::Value(*value),
                    UnseenOrdinal::Word(_) => Unseen::Error,
                };
                Some((Step::Ordinal { positions, unseen }, Type::Number))
            }
            S::DatePart(part) => Some((Step::DatePart(*part), Type::Number)),
            S::Cast(cast) => {
                let after = if *cast == file::Cast::Number { Type::Number } else { Type::Text };
                Some((Step::Cast(*cast), after))
            }
        }
    }

    fn finite(&mut self, numbers: &[f64], pointer: &str) -> Option<()> {
        let is_finite = numbers.iter().all(|number| number.is_finite());
        if !is_finite {
            self.problem("out-of-range", pointer, "a number here is not finite".into(), "write finite numbers");
        }
        is_finite.then_some(())
    }

    fn ordered(&mut self, holds: bool, pointer: &str, message: &str) -> Option<()> {
        if !holds {
            self.problem("out-of-range", pointer, message.into(), "change one of them");
        }
        holds.then_some(())
    }

    fn positions(&mut self, categories: &[String], pointer: &str) -> Option<HashMap<String, usize>> {
        let positions: HashMap<_, _> =
            categories.iter().enumerate().map(|(position, category)| (category.clone(), position)).collect();
        if categories.is_empty() || categories.len() > MAX_COLUMNS || positions.len() < categories.len() {
            let message = format!("`categories` must name 1 to {MAX_COLUMNS} texts, each once");
            self.problem("duplicate", pointer, message, "name each category once");
            return None;
        }
        Some(positions)
    }
}
