//! A session whose inputs and outputs are bound to memory that a device reads and writes by itself, in few fixed sizes.
//!
//! A device wants the same shapes again and again, in pinned memory. So a batch is filled up with zeros to the smallest
//! bucket that holds it, written into that bucket's bound inputs, and the rows asked for are read from its outputs. Which
//! memory that is, is told from outside: pinned memory of a GPU, or plain memory, on which the same code is tested.

use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use ort::memory::{Allocator, MemoryInfo};
use ort::session::{IoBinding, Session as OrtSession, SessionInputValue};
use ort::value::{DynTensor, TensorElementType};

use super::buckets::Buckets;
use super::onnx::{in_order, run_error, zeros};
use super::values::{brief, input, output};
use super::{EngineError, Session, Signature};
use crate::scorer::batching::join::slice;
use crate::scorer::tensor::{Tensor, TensorData};

/// One bucket's memory.
struct Bound {
    binding: IoBinding,
    inputs: Vec<DynTensor>,
    /// Shapes of the inputs; other sizes beyond the batch take other memory.
    shapes: Vec<Vec<usize>>,
}

pub(super) struct BoundSession {
    session: OrtSession,
    signature: Signature,
    buckets: Buckets,
    memory: MemoryInfo<'static>,
    /// By the bucket's place.
    bound: Vec<Option<Bound>>,
}

impl BoundSession {
    pub(super) fn new(
        session: OrtSession,
        signature: Signature,
        buckets: Buckets,
        memory: MemoryInfo<'static>,
    ) -> Self {
        let bound = buckets.sizes().iter().map(|_| None).collect();
        Self { session, signature, buckets, memory, bound }
    }

    /// Scores rows that fit into a bucket; gives the outputs of the whole bucket.
    fn score_bucket(&mut self, inputs: &[Tensor], bucket: usize) -> Result<Vec<Tensor>, EngineError> {
        let place = self.buckets.sizes().iter().position(|size| *size == bucket).unwrap_or(0);
        let shapes = shapes_in(inputs, bucket);
        let kept = self.bound.get_mut(place).and_then(Option::take).filter(|bound| bound.shapes == shapes);
        let mut bound = match kept {
            Some(bound) => bound,
            None => self.bind(inputs, shapes)?,
        };
        for (tensor, memory) in inputs.iter().zip(&mut bound.inputs) {
            write(tensor, memory)?;
            bound.binding.bind_input(tensor.name(), memory).map_err(run_error)?;
        }
        bound.binding.synchronize_inputs().map_err(run_error)?;
        let outputs = {
            let values = self.session.run_binding(&bound.binding).map_err(run_error)?;
            bound.binding.synchronize_outputs().map_err(run_error)?;
            let outputs = self.signature.outputs.iter().map(|spec| {
                let value = values.get(&spec.name);
                let missing = || EngineError::Compute(format!("the model gave no output `{}`", spec.name));
                value.ok_or_else(missing).and_then(|value| output(&spec.name, value))
            });
            outputs.collect::<Result<Vec<Tensor>, _>>()?
        };
        if let Some(kept) = self.bound.get_mut(place) {
            *kept = Some(bound);
        }
        Ok(outputs)
    }

    fn bind(&self, inputs: &[Tensor], shapes: Vec<Vec<usize>>) -> Result<Bound, EngineError> {
        let allocator = Allocator::new(&self.session, self.memory.clone()).map_err(no_memory)?;
        let mut binding = self.session.create_binding().map_err(no_memory)?;
        let tensors = inputs.iter().zip(&shapes).map(|(tensor, shape)| {
            let element = element(tensor.data()).ok_or_else(|| {
                EngineError::Input(format!("input `{}` is BYTES, which a device does not take", tensor.name()))
            })?;
            DynTensor::new(&allocator, element, shape.as_slice()).map_err(no_memory)
        });
        let tensors = tensors.collect::<Result<Vec<DynTensor>, _>>()?;
        for spec in &self.signature.outputs {
            binding.bind_output_to_device(spec.name.as_str(), &self.memory).map_err(no_memory)?;
        }
        Ok(Bound { binding, inputs: tensors, shapes })
    }

    /// Not joined and of any shape: nothing is kept.
    fn score_unbound(&mut self, inputs: &[&Tensor]) -> Result<Vec<Tensor>, EngineError> {
        let lent = inputs.iter().copied().map(input).collect::<Result<Vec<SessionInputValue<'_>>, _>>()?;
        let outputs = self.session.run(lent.as_slice()).map_err(run_error)?;
        self.signature.outputs.iter().zip(outputs.values()).map(|(spec, value)| output(&spec.name, &value)).collect()
    }
}

impl Session for BoundSession {
    /// Each bucket once. Zeros that the model does not compute at all say nothing; a bucket too large for the device does.
    fn warm(&mut self) -> Result<(), EngineError> {
        let sizes = if self.signature.batches { self.buckets.sizes().to_vec() } else { vec![1] };
        for (index, rows) in sizes.into_iter().enumerate() {
            let zeros = zeros(&self.signature, rows)?;
            match self.score(&zeros) {
                Ok(_) => {}
                Err(error) if index == 0 => {
                    tracing::warn!(%error, "a model was not warmed: it does not compute zeros");
                    return Ok(());
                }
                Err(error) => {
                    return Err(EngineError::Model(format!("a batch of {rows} rows cannot be computed: {error}")));
                }
            }
        }
        Ok(())
    }

    fn score(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, EngineError> {
        let ordered = in_order(&self.signature, inputs)?;
        if !self.signature.batches {
            return self.score_unbound(&ordered);
        }
        let rows = ordered.first().map_or(0, |tensor| tensor.rows());
        let failed = |error: &dyn std::fmt::Display| EngineError::Compute(error.to_string());
        let mut done: Vec<Vec<Tensor>> = Vec::new();
        for part in self.buckets.parts(rows) {
            let own = ordered.iter().map(|tensor| slice(tensor, part.rows.start, part.rows.len()));
            let own = own.collect::<Result<Vec<Tensor>, _>>().map_err(|error| failed(&error))?;
            let outputs = self.score_bucket(&own, part.bucket)?;
            if let Some(output) = outputs.iter().find(|output| output.shape().first() != Some(&part.bucket)) {
                let (name, shape) = (output.name(), output.shape());
                let message = format!("output `{name}` has the shape {shape:?} for {} rows", part.bucket);
                return Err(EngineError::Compute(message));
            }
            let asked = outputs.iter().map(|output| slice(output, 0, part.rows.len()));
            done.push(asked.collect::<Result<_, _>>().map_err(|error| failed(&error))?);
        }
        let parts: Vec<&[Tensor]> = done.iter().map(Vec::as_slice).collect();
        crate::scorer::batching::join::join(&parts).map_err(|error| failed(&error))
    }
}

fn shapes_in(inputs: &[Tensor], bucket: usize) -> Vec<Vec<usize>> {
    let shapes = inputs.iter().map(|tensor| {
        let mut shape = tensor.shape().to_vec();
        if let Some(rows) = shape.first_mut() {
            *rows = bucket;
        }
        shape
    });
    shapes.collect()
}

/// Writes a tensor to the front of a bucket's memory, and zeros behind it.
fn write(tensor: &Tensor, memory: &mut DynTensor) -> Result<(), EngineError> {
    fn fill<T: Copy + Default>(values: &[T], memory: &mut [T]) {
        let (front, behind) = memory.split_at_mut(values.len().min(memory.len()));
        front.copy_from_slice(values.get(..front.len()).unwrap_or_default());
        behind.fill(T::default());
    }
    macro_rules! copy {
        ($element:ty, $values:expr) => {
            memory.try_extract_tensor_mut::<$element>().map(|(_, memory)| fill($values, memory))
        };
    }
    let written = match tensor.data() {
        TensorData::Bool(values) => copy!(bool, values),
        TensorData::Uint8(values) => copy!(u8, values),
        TensorData::Uint16(values) => copy!(u16, values),
        TensorData::Uint32(values) => copy!(u32, values),
        TensorData::Uint64(values) => copy!(u64, values),
        TensorData::Int8(values) => copy!(i8, values),
        TensorData::Int16(values) => copy!(i16, values),
        TensorData::Int32(values) => copy!(i32, values),
        TensorData::Int64(values) => copy!(i64, values),
        TensorData::Fp32(values) => copy!(f32, values),
        TensorData::Fp64(values) => copy!(f64, values),
        TensorData::Fp16(values) => memory.try_extract_tensor_mut::<half::f16>().map(|(_, memory)| {
            let values: &[half::f16] = values.as_slice().reinterpret_cast();
            fill(values.reinterpret_cast(), memory.reinterpret_cast_mut());
        }),
        TensorData::Bytes(_) => {
            return Err(EngineError::Input(format!(
                "input `{}` is BYTES, which a device does not take",
                tensor.name()
            )));
        }
    };
    written.map_err(|error| EngineError::Compute(brief(error.message()).to_string()))
}

const fn element(data: &TensorData) -> Option<TensorElementType> {
    Some(match data {
        TensorData::Bool(_) => TensorElementType::Bool,
        TensorData::Uint8(_) => TensorElementType::Uint8,
        TensorData::Uint16(_) => TensorElementType::Uint16,
        TensorData::Uint32(_) => TensorElementType::Uint32,
        TensorData::Uint64(_) => TensorElementType::Uint64,
        TensorData::Int8(_) => TensorElementType::Int8,
        TensorData::Int16(_) => TensorElementType::Int16,
        TensorData::Int32(_) => TensorElementType::Int32,
        TensorData::Int64(_) => TensorElementType::Int64,
        TensorData::Fp16(_) => TensorElementType::Float16,
        TensorData::Fp32(_) => TensorElementType::Float32,
        TensorData::Fp64(_) => TensorElementType::Float64,
        TensorData::Bytes(_) => return None,
    })
}

fn no_memory(error: ort::Error) -> EngineError {
    EngineError::Unavailable(format!("no memory for the device: {}", brief(error.message())))
}
