//! Tensors as they come from a protocol and go to an engine: named, row-major, in memory of their own.

use std::sync::Arc;

/// Element types, by the names of the Open Inference Protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DataType {
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
    Bytes,
}

impl DataType {
    pub const ALL: [Self; 13] = [
        Self::Bool,
        Self::Uint8,
        Self::Uint16,
        Self::Uint32,
        Self::Uint64,
        Self::Int8,
        Self::Int16,
        Self::Int32,
        Self::Int64,
        Self::Fp16,
        Self::Fp32,
        Self::Fp64,
        Self::Bytes,
    ];

    /// The protocol's name: `FP32`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bool => "BOOL",
            Self::Uint8 => "UINT8",
            Self::Uint16 => "UINT16",
            Self::Uint32 => "UINT32",
            Self::Uint64 => "UINT64",
            Self::Int8 => "INT8",
            Self::Int16 => "INT16",
            Self::Int32 => "INT32",
            Self::Int64 => "INT64",
            Self::Fp16 => "FP16",
            Self::Fp32 => "FP32",
            Self::Fp64 => "FP64",
            Self::Bytes => "BYTES",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|datatype| datatype.name() == name)
    }

    /// Bytes of one element; none for `BYTES`, whose elements carry their own length.
    pub const fn element_bytes(self) -> Option<usize> {
        match self {
            Self::Bool | Self::Uint8 | Self::Int8 => Some(1),
            Self::Uint16 | Self::Int16 | Self::Fp16 => Some(2),
            Self::Uint32 | Self::Int32 | Self::Fp32 => Some(4),
            Self::Uint64 | Self::Int64 | Self::Fp64 => Some(8),
            Self::Bytes => None,
        }
    }
}

/// The elements, row-major.
#[derive(Debug, Clone, PartialEq)]
pub enum TensorData {
    Bool(Vec<bool>),
    Uint8(Vec<u8>),
    Uint16(Vec<u16>),
    Uint32(Vec<u32>),
    Uint64(Vec<u64>),
    Int8(Vec<i8>),
    Int16(Vec<i16>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    /// IEEE 754 half precision, as its bits.
    Fp16(Vec<u16>),
    Fp32(Vec<f32>),
    Fp64(Vec<f64>),
    /// Texts or any bytes.
    Bytes(Vec<Vec<u8>>),
}

impl TensorData {
    pub const fn datatype(&self) -> DataType {
        match self {
            Self::Bool(_) => DataType::Bool,
            Self::Uint8(_) => DataType::Uint8,
            Self::Uint16(_) => DataType::Uint16,
            Self::Uint32(_) => DataType::Uint32,
            Self::Uint64(_) => DataType::Uint64,
            Self::Int8(_) => DataType::Int8,
            Self::Int16(_) => DataType::Int16,
            Self::Int32(_) => DataType::Int32,
            Self::Int64(_) => DataType::Int64,
            Self::Fp16(_) => DataType::Fp16,
            Self::Fp32(_) => DataType::Fp32,
            Self::Fp64(_) => DataType::Fp64,
            Self::Bytes(_) => DataType::Bytes,
        }
    }

    /// So many zeros, `false`s or empty texts.
    pub fn zeros(datatype: DataType, len: usize) -> Self {
        match datatype {
            DataType::Bool => Self::Bool(vec![false; len]),
            DataType::Uint8 => Self::Uint8(vec![0; len]),
            DataType::Uint16 => Self::Uint16(vec![0; len]),
            DataType::Uint32 => Self::Uint32(vec![0; len]),
            DataType::Uint64 => Self::Uint64(vec![0; len]),
            DataType::Int8 => Self::Int8(vec![0; len]),
            DataType::Int16 => Self::Int16(vec![0; len]),
            DataType::Int32 => Self::Int32(vec![0; len]),
            DataType::Int64 => Self::Int64(vec![0; len]),
            DataType::Fp16 => Self::Fp16(vec![0; len]),
            DataType::Fp32 => Self::Fp32(vec![0.; len]),
            DataType::Fp64 => Self::Fp64(vec![0.; len]),
            DataType::Bytes => Self::Bytes(vec![Vec::new(); len]),
        }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Self::Bool(values) => values.len(),
            Self::Uint8(values) => values.len(),
            Self::Uint16(values) | Self::Fp16(values) => values.len(),
            Self::Uint32(values) => values.len(),
            Self::Uint64(values) => values.len(),
            Self::Int8(values) => values.len(),
            Self::Int16(values) => values.len(),
            Self::Int32(values) => values.len(),
            Self::Int64(values) => values.len(),
            Self::Fp32(values) => values.len(),
            Self::Fp64(values) => values.len(),
            Self::Bytes(values) => values.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What a tensor may be at most; all of it is checked before memory is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TensorLimits {
    pub max_rank: usize,
    /// Product of the shape.
    pub max_elements: usize,
    pub max_tensors: usize,
}

impl Default for TensorLimits {
    fn default() -> Self {
        Self { max_rank: 8, max_elements: 16 << 20, max_tensors: 256 }
    }
}

/// A tensor that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TensorError {
    #[error("tensor `{name}` has {rank} dimensions, at most {max} are allowed")]
    Rank { name: String, rank: usize, max: usize },
    #[error("tensor `{name}` has more than {max} elements by its shape {shape:?}")]
    TooManyElements { name: String, shape: Vec<usize>, max: usize },
    #[error("tensor `{name}` has {found} elements, its shape {shape:?} asks for {wanted}")]
    Length { name: String, shape: Vec<usize>, found: usize, wanted: usize },
}

/// A named tensor whose shape and elements agree. Clones share the elements: events and shadows cost no copy of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    name: String,
    shape: Vec<usize>,
    data: Arc<TensorData>,
}

impl Tensor {
    /// # Errors
    /// The shape is over a limit, or asks for another number of elements.
    pub fn new(
        name: impl Into<String>,
        shape: Vec<usize>,
        data: TensorData,
        limits: &TensorLimits,
    ) -> Result<Self, TensorError> {
        let name = name.into();
        let wanted = elements(&name, &shape, limits)?;
        if data.len() != wanted {
            return Err(TensorError::Length { name, shape, found: data.len(), wanted });
        }
        Ok(Self { name, shape, data: Arc::new(data) })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    pub fn data(&self) -> &TensorData {
        &self.data
    }

    /// The elements; copied where a clone still shares them.
    pub fn into_data(self) -> TensorData {
        Arc::unwrap_or_clone(self.data)
    }

    /// Name, shape and elements; these are copied where a clone still shares them.
    pub fn into_parts(self) -> (String, Vec<usize>, TensorData) {
        (self.name, self.shape, Arc::unwrap_or_clone(self.data))
    }

    pub fn datatype(&self) -> DataType {
        self.data.datatype()
    }

    /// The first dimension; 1 for a scalar.
    pub fn rows(&self) -> usize {
        self.shape.first().copied().unwrap_or(1)
    }
}

/// Number of elements that a shape asks for.
///
/// # Errors
/// It has too many dimensions or elements; the product is checked for overflow.
pub fn elements(name: &str, shape: &[usize], limits: &TensorLimits) -> Result<usize, TensorError> {
    if shape.len() > limits.max_rank {
        return Err(TensorError::Rank { name: name.into(), rank: shape.len(), max: limits.max_rank });
    }
    // A zero anywhere makes the product zero, whatever stands beside it; each dimension is held to the limit all the same.
    shape
        .iter()
        .try_fold(1_usize, |product, &size| {
            (size <= limits.max_elements)
                .then(|| product.checked_mul(size))
                .flatten()
                .filter(|&n| n <= limits.max_elements)
        })
        .ok_or_else(|| TensorError::TooManyElements {
            name: name.into(),
            shape: shape.to_vec(),
            max: limits.max_elements,
        })
}
