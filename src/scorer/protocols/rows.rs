//! Requests of rows or columns: KServe V1, TensorFlow Serving's REST API, and the JSON of TorchServe's.
//!
//! `{"instances": [row, ...]}`: a row is the value of the model's only input, or an object of values by input.
//! `{"inputs": ...}`: columns; the whole tensor of the only input, or an object of tensors by input. Numbers take the type
//! that the model's signature has.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::capped::Capped;
use super::{DecodeError, elements, shown, told};
use crate::scorer::engine::{Signature, TensorSpec};
use crate::scorer::tensor::{Tensor, TensorData, TensorLimits};

/// Most rows of one request that are objects: each takes many times the memory of its text.
const MAX_OBJECTS: usize = 65_536;

/// How the answer is to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `{"predictions": [...]}`, one for each row.
    Rows,
    /// `{"outputs": ...}`.
    Columns,
}

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow, default)]
    instances: Option<&'a RawValue>,
    #[serde(borrow, default)]
    inputs: Option<&'a RawValue>,
}

/// Reads a body for a model of this signature.
///
/// # Errors
/// The body is no request, or not of this model.
pub fn decode(body: &[u8], signature: &Signature, limits: &TensorLimits) -> Result<(Form, Vec<Tensor>), DecodeError> {
    let body: Body<'_> = serde_json::from_slice(body)
        .map_err(|error| DecodeError::new(format!("the body is no request for predictions: {}", told(&error))))?;
    match (body.instances, body.inputs) {
        (Some(_), Some(_)) => Err(DecodeError::new("the body has both `instances` and `inputs`; send one of them")),
        (None, None) => Err(DecodeError::new("the body has neither `instances` nor `inputs`")),
        (Some(instances), None) => Ok((Form::Rows, rows(instances, signature, limits)?)),
        (None, Some(inputs)) => Ok((Form::Columns, columns(inputs, signature, limits)?)),
    }
}

fn only_input(signature: &Signature) -> Result<&TensorSpec, DecodeError> {
    match signature.inputs.as_slice() {
        [only] => Ok(only),
        several => {
            let names: Vec<&str> = several.iter().map(|spec| spec.name.as_str()).collect();
            Err(DecodeError::new(format!(
                "the model has {} inputs: send objects with {}",
                names.len(),
                names.join(", ")
            )))
        }
    }
}

fn is_object(json: &RawValue) -> bool {
    json.get().starts_with('{')
}

type Named<'a> = HashMap<Cow<'a, str>, &'a RawValue>;

fn columns(json: &RawValue, signature: &Signature, limits: &TensorLimits) -> Result<Vec<Tensor>, DecodeError> {
    if !is_object(json) || is_base64(json) {
        return Ok(vec![tensor(only_input(signature)?, json, limits)?]);
    }
    let named: Named<'_> =
        serde_json::from_str(json.get()).map_err(|error| DecodeError::new(format!("`inputs`: {}", told(&error))))?;
    check_names(&named, signature)?;
    let column = |spec: &TensorSpec| {
        let json = named.get(spec.name.as_str()).ok_or_else(|| missing(spec))?;
        tensor(spec, json, limits)
    };
    signature.inputs.iter().map(column).collect()
}

/// A text of bytes, `{"b64": ...}`, is a value and no object of inputs.
fn is_base64(json: &RawValue) -> bool {
    json.get().get(1..).is_some_and(|inside| inside.trim_start().starts_with("\"b64\""))
}

fn missing(spec: &TensorSpec) -> DecodeError {
    DecodeError::new(format!("input `{}` is missing", spec.name))
}

fn check_names(named: &Named<'_>, signature: &Signature) -> Result<(), DecodeError> {
    let unknown = named.keys().find(|name| !signature.inputs.iter().any(|spec| spec.name == **name));
    unknown.map_or(Ok(()), |unknown| Err(DecodeError::new(format!("the model has no input `{}`", shown(unknown)))))
}

fn rows(json: &RawValue, signature: &Signature, limits: &TensorLimits) -> Result<Vec<Tensor>, DecodeError> {
    let first = json.get().trim_start_matches('[').trim_start();
    let are_objects = json.get().starts_with('[') && first.starts_with('{') && !first.contains("\"b64\"");
    if !json.get().starts_with('[') {
        return Err(DecodeError::new("`instances` is not a list of rows"));
    }
    if !are_objects {
        return Ok(vec![tensor(only_input(signature)?, json, limits)?]);
    }
    let objects: Capped<Named<'_>, MAX_OBJECTS> =
        serde_json::from_str(json.get()).map_err(|error| DecodeError::new(format!("`instances`: {}", told(&error))))?;
    for object in &objects.0 {
        check_names(object, signature)?;
    }
    signature.inputs.iter().map(|spec| gathered(spec, &objects.0, limits)).collect()
}

/// One input of all rows, as if they had been sent as one list.
fn gathered(spec: &TensorSpec, objects: &[Named<'_>], limits: &TensorLimits) -> Result<Tensor, DecodeError> {
    let mut text = String::from("[");
    for (index, object) in objects.iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        let value = object
            .get(spec.name.as_str())
            .ok_or_else(|| DecodeError::new(format!("input `{}` is missing in row {index}", spec.name)))?;
        text.push_str(value.get());
    }
    text.push(']');
    let json = RawValue::from_string(text).map_err(|error| DecodeError::new(error.to_string()))?;
    tensor(spec, &json, limits)
}

fn tensor(spec: &TensorSpec, json: &RawValue, limits: &TensorLimits) -> Result<Tensor, DecodeError> {
    let what = format!("input `{}`", spec.name);
    let (mut shape, data) = elements::decode(&what, spec.datatype, json, limits)?;
    // A row of one number may be written without its list.
    if shape.len() + 1 == spec.shape.len() && spec.shape.last().is_some_and(|size| *size == Some(1)) {
        shape.push(1);
    }
    Tensor::new(spec.name.clone(), shape, data, limits).map_err(|error| DecodeError::new(error.to_string()))
}

/// Writes the answer: values of the only output, or objects by output. A column of one number is written as numbers.
///
/// # Errors
/// An output has no form in JSON.
pub fn encode(form: Form, outputs: &[Tensor]) -> Result<Vec<u8>, String> {
    let mut out = Vec::with_capacity(256);
    match form {
        Form::Rows => {
            out.extend_from_slice(b"{\"predictions\":");
            predictions(outputs, &mut out)?;
        }
        Form::Columns => {
            out.extend_from_slice(b"{\"outputs\":");
            match outputs {
                [only] => nested(only, &mut out)?,
                several => {
                    for (index, output) in several.iter().enumerate() {
                        out.push(if index == 0 { b'{' } else { b',' });
                        key(output.name(), &mut out)?;
                        nested(output, &mut out)?;
                    }
                    out.push(b'}');
                }
            }
        }
    }
    out.push(b'}');
    Ok(out)
}

/// `[...]`, one for each row.
///
/// # Errors
/// An output has no form in JSON, or the outputs differ in rows.
pub fn predictions(outputs: &[Tensor], out: &mut Vec<u8>) -> Result<(), String> {
    let rows = outputs.first().map_or(0, Tensor::rows);
    if outputs.iter().any(|output| output.rows() != rows) {
        return Err("the outputs differ in rows; ask by columns (`inputs`), or use the Open Inference Protocol".into());
    }
    out.push(b'[');
    for row in 0..rows {
        if row > 0 {
            out.push(b',');
        }
        match outputs {
            [only] => value(only, row, out)?,
            several => {
                for (index, output) in several.iter().enumerate() {
                    out.push(if index == 0 { b'{' } else { b',' });
                    key(output.name(), out)?;
                    value(output, row, out)?;
                }
                out.push(b'}');
            }
        }
    }
    out.push(b']');
    Ok(())
}

fn key(name: &str, out: &mut Vec<u8>) -> Result<(), String> {
    serde_json::to_writer(&mut *out, name).map_err(|error| error.to_string())?;
    out.push(b':');
    Ok(())
}

/// A row of an output; one number where it has no more.
fn value(output: &Tensor, row: usize, out: &mut Vec<u8>) -> Result<(), String> {
    let shape = output.shape().get(1..).unwrap_or_default();
    let shape = if shape == [1] { &[] } else { shape };
    let size: usize = shape.iter().product();
    lists(output.name(), output.data(), shape, row * size..(row + 1) * size, out)
}

fn nested(output: &Tensor, out: &mut Vec<u8>) -> Result<(), String> {
    lists(output.name(), output.data(), output.shape(), 0..output.data().len(), out)
}

/// As deep as a tensor may have dimensions.
fn lists(name: &str, data: &TensorData, shape: &[usize], range: Range<usize>, out: &mut Vec<u8>) -> Result<(), String> {
    let Some((size, inner)) = shape.split_first() else { return elements::encode(name, data, range, out) };
    out.push(b'[');
    if inner.is_empty() {
        elements::encode(name, data, range, out)?;
    } else {
        let step: usize = inner.iter().product();
        for index in 0..*size {
            if index > 0 {
                out.push(b',');
            }
            let start = range.start + index * step;
            lists(name, data, inner, start..start + step, out)?;
        }
    }
    out.push(b']');
    Ok(())
}
