//! Tensors of several requests as those of one batch, and a batch's outputs as those of each request.

use crate::scorer::tensor::{Tensor, TensorData, TensorError, TensorLimits};

/// What was checked when a request came is not limited again when requests are joined.
const NO_LIMITS: TensorLimits =
    TensorLimits { max_rank: usize::MAX, max_elements: isize::MAX as usize, max_tensors: usize::MAX };

/// Whether rows of both may stand in one batch: the same inputs in the same order, of the same types, and of the same shape
/// but for the first dimension.
pub fn joinable(a: &[Tensor], b: &[Tensor]) -> bool {
    let same = |(a, b): (&Tensor, &Tensor)| {
        a.datatype() == b.datatype()
            && a.shape().len() == b.shape().len()
            && a.shape().get(1..) == b.shape().get(1..)
            && a.name() == b.name()
    };
    a.len() == b.len() && a.iter().zip(b).all(same)
}

/// The rows that all inputs have; none if they differ or an input is a scalar.
pub fn common_rows(inputs: &[Tensor]) -> Option<usize> {
    let rows = inputs.first().and_then(|first| first.shape().first())?;
    inputs.iter().all(|input| input.shape().first() == Some(rows)).then_some(*rows)
}

/// The inputs of requests that are joinable, one after the other along the first dimension.
///
/// # Errors
/// The requests are not joinable.
pub fn join(requests: &[&[Tensor]]) -> Result<Vec<Tensor>, TensorError> {
    let first = requests.first().copied().unwrap_or_default();
    let joined = first.iter().enumerate().map(|(index, head)| {
        let parts: Vec<&Tensor> = requests.iter().filter_map(|inputs| inputs.get(index)).collect();
        let mut shape = head.shape().to_vec();
        if let Some(rows) = shape.first_mut() {
            *rows = parts.iter().map(|part| part.rows()).sum();
        }
        Tensor::new(head.name(), shape, concatenate(head.data(), &parts), &NO_LIMITS)
    });
    joined.collect()
}

macro_rules! concatenate_arms {
    ($head:expr, $parts:expr, $($variant:ident),+) => {
        match $head {
            $(TensorData::$variant(_) => {
                let slices = $parts.iter().filter_map(|part| match part.data() {
                    TensorData::$variant(values) => Some(values.as_slice()),
                    _ => None,
                });
                let slices: Vec<_> = slices.collect();
                TensorData::$variant(slices.concat())
            })+
        }
    };
}

fn concatenate(head: &TensorData, parts: &[&Tensor]) -> TensorData {
    concatenate_arms!(
        head, parts, Bool, Uint8, Uint16, Uint32, Uint64, Int8, Int16, Int32, Int64, Fp16, Fp32, Fp64, Bytes
    )
}

/// Why a batch's outputs cannot be given back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("output `{output}` has the shape {shape:?} for a batch of {rows} rows: it does not keep rows apart")]
pub struct NotByRow {
    pub output: String,
    pub shape: Vec<usize>,
    pub rows: usize,
}

/// Takes outputs apart: `rows` are those of each request, in the order in which they were joined.
///
/// # Errors
/// An output does not have one row for each of the batch's.
pub fn split(outputs: &[Tensor], rows: &[usize]) -> Result<Vec<Vec<Tensor>>, NotByRow> {
    let total: usize = rows.iter().sum();
    let not_by_row =
        |output: &Tensor| NotByRow { output: output.name().into(), shape: output.shape().into(), rows: total };
    if let Some(output) = outputs.iter().find(|output| output.shape().first() != Some(&total)) {
        return Err(not_by_row(output));
    }
    let mut start = 0;
    let mut requests = Vec::with_capacity(rows.len());
    for &count in rows {
        let own = outputs.iter().map(|output| slice(output, start, count).map_err(|_| not_by_row(output)));
        requests.push(own.collect::<Result<Vec<Tensor>, _>>()?);
        start += count;
    }
    Ok(requests)
}

macro_rules! slice_arms {
    ($data:expr, $range:expr, $($variant:ident),+) => {
        match $data {
            $(TensorData::$variant(values) => {
                TensorData::$variant(values.get($range).map(<[_]>::to_vec).unwrap_or_default())
            })+
        }
    };
}

/// Rows `start..start + count` of a tensor.
///
/// # Errors
/// It does not have them.
pub fn slice(tensor: &Tensor, start: usize, count: usize) -> Result<Tensor, TensorError> {
    let mut shape = tensor.shape().to_vec();
    if let Some(rows) = shape.first_mut() {
        *rows = count;
    }
    let row_elements: usize = shape.iter().skip(1).product();
    let range = start * row_elements..(start + count) * row_elements;
    let data = slice_arms!(
        tensor.data(),
        range,
        Bool,
        Uint8,
        Uint16,
        Uint32,
        Uint64,
        Int8,
        Int16,
        Int32,
        Int64,
        Fp16,
        Fp32,
        Fp64,
        Bytes
    );
    Tensor::new(tensor.name(), shape, data, &NO_LIMITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(name: &str, values: &[f32], width: usize) -> Tensor {
        let shape = vec![values.len() / width, width];
        Tensor::new(name, shape, TensorData::Fp32(values.to_vec()), &TensorLimits::default()).unwrap()
    }

    #[test]
    fn what_is_joined_comes_apart_as_it_was() {
        let a = [rows("x", &[1., 2., 3., 4.], 2)];
        let b = [rows("x", &[5., 6.], 2)];
        let joined = join(&[&a, &b]).unwrap();
        assert_eq!(joined[0].shape(), [3, 2]);
        assert_eq!(split(&joined, &[2, 1]).unwrap(), [a.to_vec(), b.to_vec()]);
    }

    #[test]
    fn other_widths_names_types_and_ranks_are_not_joined() {
        let a = [rows("x", &[1., 2.], 2)];
        assert!(joinable(&a, &[rows("x", &[3., 4., 5., 6.], 2)]));
        assert!(!joinable(&a, &[rows("x", &[3.], 1)]));
        assert!(!joinable(&a, &[rows("y", &[3., 4.], 2)]));
        assert!(!joinable(&a, &[]));
        let limits = TensorLimits::default();
        let scalar = Tensor::new("x", vec![], TensorData::Fp32(vec![1.]), &limits).unwrap();
        assert!(!joinable(
            std::slice::from_ref(&scalar),
            &[Tensor::new("x", vec![1], TensorData::Fp32(vec![1.]), &limits).unwrap()]
        ));
        assert_eq!(common_rows(&[scalar]), None);
        let wide = Tensor::new("x", vec![1, 2], TensorData::Fp64(vec![1., 2.]), &limits).unwrap();
        assert!(!joinable(&a, &[wide]));
    }

    #[test]
    fn outputs_that_are_not_by_row_are_told() {
        let outputs = [rows("mean", &[1.], 1)];
        let error = split(&outputs, &[1, 1]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "output `mean` has the shape [1, 1] for a batch of 2 rows: it does not keep rows apart"
        );
    }
}
