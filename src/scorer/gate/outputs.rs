//! What a version's outputs say: the score and the predicted class, from the outputs that its events take them from.

use crate::scorer::events::json::half_to_f32;
use crate::scorer::tensor::{Tensor, TensorData};

use super::scoring::ScoringError;

/// One column of one output; `column: None` is the last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputColumn {
    pub output: String,
    pub column: Option<usize>,
}

/// Where score and predicted class stand; `None`: the version has no such output.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outputs {
    pub score: Option<OutputColumn>,
    pub prediction: Option<OutputColumn>,
}

/// What a version says of every row.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scores {
    /// Of the positive class, or the number that is predicted; NaN: none.
    pub numbers: Vec<f64>,
    /// The predicted class as text, where the model gives one.
    pub classes: Option<Vec<String>>,
}

impl Outputs {
    /// # Errors
    /// There is neither, or an output has another number of rows.
    pub fn read(&self, tensors: &[Tensor], rows: usize) -> Result<Scores, ScoringError> {
        let classes = self.prediction.as_ref().map(|wanted| {
            let (tensor, at) = column(wanted, tensors, rows)?;
            at.map(|index| text_of(tensor, index)).collect::<Result<Vec<_>, _>>()
        });
        let classes = classes.transpose()?;
        let numbers = match &self.score {
            Some(wanted) => {
                let (tensor, at) = column(wanted, tensors, rows)?;
                at.map(|index| number_of(tensor, index)).collect::<Result<_, _>>()?
            }
            None if classes.is_some() => vec![f64::NAN; rows],
            None => {
                let names: Vec<_> = tensors.iter().map(|tensor| format!("`{}`", tensor.name())).collect();
                return Err(ScoringError(format!(
                    "none of the outputs {} is a score: name one in the scorer's settings, `events: {{score: OUTPUT}}` of \
                     the model, and give them with --config",
                    names.join(", ")
                )));
            }
        };
        Ok(Scores { numbers, classes })
    }
}

/// The output, and the places of the column's values, row by row.
fn column<'a>(
    wanted: &OutputColumn,
    tensors: &'a [Tensor],
    rows: usize,
) -> Result<(&'a Tensor, impl Iterator<Item = usize>), ScoringError> {
    let name = &wanted.output;
    let missing = || ScoringError(format!("the model gave no output `{name}`"));
    let tensor = tensors.iter().find(|tensor| tensor.name() == name).ok_or_else(missing)?;
    let width = tensor.data().len() / rows.max(1);
    let at = wanted.column.unwrap_or(width.saturating_sub(1));
    if at >= width || tensor.data().len() != width * rows {
        let shape = tensor.shape();
        return Err(ScoringError(format!("output `{name}` has the shape {shape:?} for {rows} rows")));
    }
    Ok((tensor, (0..rows).map(move |row| row * width + at)))
}

fn number_of(tensor: &Tensor, index: usize) -> Result<f64, ScoringError> {
    let number = match tensor.data() {
        TensorData::Fp16(values) => values.get(index).map(|bits| f64::from(half_to_f32(*bits))),
        TensorData::Fp32(values) => values.get(index).map(|value| f64::from(*value)),
        TensorData::Fp64(values) => values.get(index).copied(),
        TensorData::Int32(values) => values.get(index).map(|value| f64::from(*value)),
        TensorData::Int64(values) => values.get(index).map(|value| *value as f64),
        _ => None,
    };
    number.ok_or_else(|| unreadable(tensor, "a score"))
}

fn text_of(tensor: &Tensor, index: usize) -> Result<String, ScoringError> {
    let text = match tensor.data() {
        TensorData::Bytes(values) => values.get(index).map(|text| String::from_utf8_lossy(text).into_owned()),
        TensorData::Bool(values) => values.get(index).map(ToString::to_string),
        TensorData::Int32(values) => values.get(index).map(ToString::to_string),
        TensorData::Int64(values) => values.get(index).map(ToString::to_string),
        TensorData::Fp32(values) => values.get(index).map(ToString::to_string),
        TensorData::Fp64(values) => values.get(index).map(ToString::to_string),
        _ => None,
    };
    text.ok_or_else(|| unreadable(tensor, "a class"))
}

fn unreadable(tensor: &Tensor, what: &str) -> ScoringError {
    ScoringError(format!("output `{}` is {}, which is not read as {what}", tensor.name(), tensor.datatype().name()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scorer::tensor::TensorLimits;

    fn tensor(name: &str, shape: Vec<usize>, data: TensorData) -> Tensor {
        Tensor::new(name, shape, data, &TensorLimits::default()).unwrap()
    }

    fn wanted(output: &str, column: Option<usize>) -> Option<OutputColumn> {
        Some(OutputColumn { output: output.into(), column })
    }

    #[test]
    fn the_column_that_the_settings_name_is_the_score() {
        let tensors = [
            tensor("label", vec![2], TensorData::Int64(vec![0, 1])),
            tensor("p", vec![2, 2], TensorData::Fp32(vec![0.75, 0.25, 0.5, 0.5])),
        ];
        let last = Outputs { score: wanted("p", None), prediction: wanted("label", None) };
        let read = last.read(&tensors, 2).unwrap();
        assert_eq!((read.numbers, read.classes), (vec![0.25, 0.5], Some(vec!["0".into(), "1".into()])));
        let first = Outputs { score: wanted("p", Some(0)), prediction: None };
        assert_eq!(first.read(&tensors, 2).unwrap().numbers, [0.75, 0.5]);
    }

    #[test]
    fn outputs_that_do_not_fit_are_told() {
        let tensors = [tensor("p", vec![3], TensorData::Fp32(vec![0.1, 0.2, 0.3]))];
        let said = |outputs: Outputs, rows| outputs.read(&tensors, rows).unwrap_err().0;
        assert!(said(Outputs::default(), 3).contains("none of the outputs `p` is a score"));
        assert!(said(Outputs { score: wanted("p", None), prediction: None }, 2).contains("the shape [3] for 2 rows"));
        assert!(said(Outputs { score: wanted("p", Some(1)), prediction: None }, 3).contains("the shape [3]"));
        assert!(said(Outputs { score: wanted("q", None), prediction: None }, 3).contains("no output `q`"));
    }
}
