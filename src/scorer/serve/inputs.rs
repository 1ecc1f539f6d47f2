//! Tensors of a request against what the model takes.

use crate::scorer::engine::{Signature, TensorSpec};
use crate::scorer::protocols::shown;
use crate::scorer::score::ScoreError;
use crate::scorer::tensor::Tensor;

/// The inputs in the signature's order.
///
/// # Errors
/// One is missing, unknown, or has another type or shape: `Invalid`.
pub fn arrange(mut inputs: Vec<Tensor>, signature: &Signature) -> Result<Vec<Tensor>, ScoreError> {
    let mut arranged = Vec::with_capacity(signature.inputs.len());
    for spec in &signature.inputs {
        let Some(at) = inputs.iter().position(|input| input.name() == spec.name) else {
            let sent = names(inputs.iter().map(Tensor::name));
            let message = format!("input `{}` is missing; the request has {sent}", spec.name);
            return Err(ScoreError::Invalid(message));
        };
        let input = inputs.remove(at);
        check(&input, spec)?;
        arranged.push(input);
    }
    if let Some(unknown) = inputs.first() {
        let known = names(signature.inputs.iter().map(|spec| spec.name.as_str()));
        let message = format!("the model has no input `{}`; it has {known}", shown(unknown.name()));
        return Err(ScoreError::Invalid(message));
    }
    Ok(arranged)
}

fn check(input: &Tensor, spec: &TensorSpec) -> Result<(), ScoreError> {
    if input.datatype() != spec.datatype {
        return Err(ScoreError::Invalid(format!(
            "input `{}` is {}, the model takes {}",
            spec.name,
            input.datatype().name(),
            spec.datatype.name()
        )));
    }
    let fits = |(size, wanted): (&usize, &Option<usize>)| wanted.is_none_or(|wanted| wanted == *size);
    if input.shape().len() == spec.shape.len() && input.shape().iter().zip(&spec.shape).all(fits) {
        return Ok(());
    }
    let message = format!(
        "input `{}` has the shape {:?}, the model takes {} (-1: any size)",
        spec.name,
        input.shape(),
        shape(spec)
    );
    Err(ScoreError::Invalid(message))
}

fn shape(spec: &TensorSpec) -> String {
    let sizes: Vec<String> =
        spec.shape.iter().map(|size| size.map_or("-1".to_string(), |size| size.to_string())).collect();
    format!("[{}]", sizes.join(", "))
}

fn names<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut names: Vec<String> = names.map(|name| format!("`{}`", shown(name))).collect();
    let more = names.len().saturating_sub(8);
    names.truncate(8);
    match (names.is_empty(), more) {
        (true, _) => "none".into(),
        (false, 0) => names.join(", "),
        (false, more) => format!("{} and {more} more", names.join(", ")),
    }
}

/// Before anything is computed for an output that there is not.
///
/// # Errors
/// An output is not one of the model's: `Invalid`.
pub fn check_outputs(wanted: &[String], signature: &Signature) -> Result<(), ScoreError> {
    let unknown = wanted.iter().find(|name| !signature.outputs.iter().any(|spec| spec.name == **name));
    unknown.map_or(Ok(()), |unknown| {
        let known = names(signature.outputs.iter().map(|spec| spec.name.as_str()));
        Err(ScoreError::Invalid(format!("the model has no output `{}`; it has {known}", shown(unknown))))
    })
}

/// The outputs that are wanted, in the order in which they were asked for.
///
/// # Errors
/// There is no such output: `Invalid`.
pub fn select(mut outputs: Vec<Tensor>, wanted: &[String]) -> Result<Vec<Tensor>, ScoreError> {
    let take = |name: &String| {
        let at = outputs.iter().position(|output| output.name() == name);
        at.map(|at| outputs.swap_remove(at)).ok_or_else(|| {
            ScoreError::Invalid(format!("there is no output `{}`, or it is asked for twice", shown(name)))
        })
    };
    wanted.iter().map(take).collect()
}
