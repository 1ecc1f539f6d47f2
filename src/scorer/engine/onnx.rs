//! ONNX Runtime: models on the CPU, or on a GPU where the settings say so.
//!
//! The library is loaded once a process, by `library`'s search. A model is checked by `model_check`, its signature read from
//! its first session. `Session::run` must not be entered twice at a time, so each worker has a session of its own; weights
//! that were rearranged for the processor are shared between them.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ort::environment::Environment;
use ort::logging::LogLevel;
use ort::memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType};
use ort::session::builder::{GraphOptimizationLevel, PrepackedWeights, SessionBuilder};
use ort::session::{Session as OrtSession, SessionInputValue};
use ort::value::{Outlet, ValueType};

use super::bound::BoundSession;
use super::buckets::{Buckets, runs_on_cpu};
use super::library::{self, Places};
use super::model_check::{ModelLimits, check_model};
use super::values::{brief, datatype, input, output};
use super::{Engine, EngineError, LoadedModel, Session, Signature, TensorSpec};
use crate::config::scorer::EngineSettings;
use crate::config::scorer::engine::{CudaSettings, Device};
use crate::scorer::tensor::{Tensor, TensorData, TensorLimits};

/// The one environment of the process, and the library it came from.
static ENVIRONMENT: Mutex<Option<(PathBuf, Environment)>> = Mutex::new(None);

/// ONNX Runtime with the settings that hold for all models.
#[derive(Debug, Clone)]
pub struct OnnxEngine {
    environment: Environment,
    intra_op_threads: usize,
    limits: ModelLimits,
    /// None: everything runs on the CPU.
    cuda: Option<CudaSettings>,
}

impl OnnxEngine {
    /// Loads ONNX Runtime; a relative `engine.library` is beside the settings file, in `directory`.
    ///
    /// # Errors
    /// The library is not to be found, is too old, or cannot be loaded; a GPU is asked for that cannot be had.
    pub fn open(settings: &EngineSettings, directory: &Path) -> Result<Self, EngineError> {
        let told = settings.library.as_ref().map(|library| directory.join(library));
        let environment = environment(&Places::of_process(told.as_deref()))?;
        let cuda = match settings.device {
            Device::Cpu => None,
            Device::Cuda => Some(settings.cuda.clone().unwrap_or_default()),
        };
        if let Some(cuda) = &cuda {
            super::cuda::available(cuda)?;
        }
        let limits = ModelLimits { max_model_bytes: settings.max_model_bytes, max_nodes: settings.max_nodes };
        Ok(Self { environment, intra_op_threads: settings.intra_op_threads.max(1), limits, cuda })
    }

    /// A session on the CPU that goes the way of a GPU's: filled up to sizes, bound to memory. For tests and measurements,
    /// where there is no GPU.
    ///
    /// # Errors
    /// As `load`'s.
    pub fn bound_on_cpu(&self, model: &[u8], batch_buckets: &[usize]) -> Result<Box<dyn Session>, EngineError> {
        let loaded = self.read(model)?;
        let memory = MemoryInfo::new(AllocationDevice::CPU, 0, AllocatorType::Device, MemoryType::Default);
        let memory = memory.map_err(|error| EngineError::Unavailable(brief(error.message()).to_string()))?;
        let signature = loaded.signature.clone();
        Ok(Box::new(BoundSession::new(loaded.on_cpu()?, signature, Buckets::new(batch_buckets), memory)))
    }

    /// A model with its signature, and the session from which that was read.
    fn read(&self, model: &[u8]) -> Result<OnnxModel, EngineError> {
        check_model(model, &self.limits)?;
        let mut loaded = OnnxModel {
            engine: self.clone(),
            bytes: Arc::from(model),
            weights: PrepackedWeights::new(),
            signature: Signature { inputs: Vec::new(), outputs: Vec::new(), batches: false },
            first: Mutex::new(None),
        };
        let first = loaded.on_cpu()?;
        loaded.signature = signature(&first)?;
        loaded.first = Mutex::new(Some(first));
        Ok(loaded)
    }

    fn builder(&self, weights: &PrepackedWeights) -> Result<SessionBuilder, ort::Error> {
        SessionBuilder::new(&self.environment)?
            .with_intra_threads(self.intra_op_threads)
            .map_err(without_builder)?
            .with_inter_threads(1)
            .map_err(without_builder)?
            .with_parallel_execution(false)
            .map_err(without_builder)?
            .with_optimization_level(GraphOptimizationLevel::All)
            .map_err(without_builder)?
            // A pattern is kept for each shape that was ever seen: batches of any size would fill the memory with them.
            .with_memory_pattern(false)
            .map_err(without_builder)?
            // Threads that spin take the processor from those that read requests.
            .with_intra_op_spinning(false)
            .map_err(without_builder)?
            .with_prepacked_weights(weights)
            .map_err(without_builder)?
            .with_log_level(LogLevel::Warning)
            .map_err(without_builder)
    }
}

/// A failed setting, without the builder that it would give back.
fn without_builder(error: ort::Error<SessionBuilder>) -> ort::Error {
    ort::Error::new(error.message())
}

impl Engine for OnnxEngine {
    fn name(&self) -> &'static str {
        if self.cuda.is_some() { "onnxruntime-cuda" } else { "onnxruntime-cpu" }
    }

    fn load(&self, model: &[u8]) -> Result<Arc<dyn LoadedModel>, EngineError> {
        let loaded = self.read(model)?;
        if self.cuda.is_some() {
            // A model that cannot run there is refused now, not when it should serve.
            drop(loaded.on_cuda()?);
        }
        Ok(Arc::new(loaded))
    }
}

struct OnnxModel {
    engine: OnnxEngine,
    bytes: Arc<[u8]>,
    weights: PrepackedWeights,
    signature: Signature,
    /// The session from which the signature was read, for the first worker.
    first: Mutex<Option<OrtSession>>,
}

impl OnnxModel {
    fn on_cpu(&self) -> Result<OrtSession, EngineError> {
        let kept = self.first.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(session) = kept {
            return Ok(session);
        }
        let session =
            self.engine.builder(&self.weights).and_then(|mut builder| builder.commit_from_memory(&self.bytes));
        session.map_err(|error| EngineError::Model(format!("the model cannot be loaded: {}", brief(error.message()))))
    }

    fn on_cuda(&self) -> Result<OrtSession, EngineError> {
        let settings = self.engine.cuda.clone().unwrap_or_default();
        let builder = self.engine.builder(&self.weights);
        let builder = builder.map_err(|error| EngineError::Unavailable(brief(error.message()).to_string()))?;
        super::cuda::session(builder, &settings, &self.bytes)
    }
}

impl LoadedModel for OnnxModel {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn engine(&self) -> &'static str {
        self.engine.name()
    }

    fn session(&self) -> Result<Box<dyn Session>, EngineError> {
        let signature = self.signature.clone();
        let Some(cuda) = &self.engine.cuda else {
            return Ok(Box::new(CpuSession { session: self.on_cpu()?, signature }));
        };
        let memory = super::cuda::pinned_memory(cuda)?;
        let device = BoundSession::new(self.on_cuda()?, signature.clone(), Buckets::new(&cuda.batch_buckets), memory);
        let small =
            if cuda.cpu_below_rows > 0 { Some(CpuSession { session: self.on_cpu()?, signature }) } else { None };
        Ok(Box::new(Routed { device, small, cpu_below_rows: cuda.cpu_below_rows }))
    }
}

/// A session on the CPU.
pub(super) struct CpuSession {
    session: OrtSession,
    signature: Signature,
}

impl Session for CpuSession {
    /// Zeros may be no input that a model can compute; one that cannot is told of its requests, not refused.
    fn warm(&mut self) -> Result<(), EngineError> {
        let zeros = zeros(&self.signature, 1)?;
        if let Err(error) = self.score(&zeros) {
            tracing::debug!(%error, "a model was not warmed: it does not compute zeros");
        }
        Ok(())
    }

    fn score(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, EngineError> {
        let lent = in_order(&self.signature, inputs)?.into_iter().map(input);
        let lent = lent.collect::<Result<Vec<SessionInputValue<'_>>, _>>()?;
        let outputs = self.session.run(lent.as_slice()).map_err(run_error)?;
        self.signature.outputs.iter().zip(outputs.values()).map(|(spec, value)| output(&spec.name, &value)).collect()
    }
}

/// Small batches on the CPU, the others on the device.
struct Routed {
    device: BoundSession,
    small: Option<CpuSession>,
    cpu_below_rows: usize,
}

impl Session for Routed {
    fn warm(&mut self) -> Result<(), EngineError> {
        self.small.as_mut().map_or(Ok(()), Session::warm)?;
        self.device.warm()
    }

    fn score(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, EngineError> {
        let rows = inputs.first().map_or(1, Tensor::rows);
        match &mut self.small {
            Some(small) if runs_on_cpu(rows, self.cpu_below_rows) => small.score(inputs),
            _ => self.device.score(inputs),
        }
    }
}

/// The inputs in the signature's order.
///
/// # Errors
/// One is missing or has another type; there are others.
pub(super) fn in_order<'a>(signature: &Signature, inputs: &'a [Tensor]) -> Result<Vec<&'a Tensor>, EngineError> {
    if inputs.len() != signature.inputs.len() {
        let message = format!("the model takes {} inputs, not {}", signature.inputs.len(), inputs.len());
        return Err(EngineError::Input(message));
    }
    let ordered = signature.inputs.iter().enumerate().map(|(index, spec)| {
        let at_its_place = inputs.get(index).filter(|tensor| tensor.name() == spec.name);
        let tensor = at_its_place.or_else(|| inputs.iter().find(|tensor| tensor.name() == spec.name));
        let tensor = tensor.ok_or_else(|| EngineError::Input(format!("input `{}` is missing", spec.name)))?;
        if tensor.datatype() != spec.datatype {
            let (found, wanted) = (tensor.datatype().name(), spec.datatype.name());
            return Err(EngineError::Input(format!("input `{}` is {found}, the model takes {wanted}", spec.name)));
        }
        Ok(tensor)
    });
    ordered.collect()
}

/// Inputs of zeros and empty texts; dimensions of any size are 1.
///
/// # Errors
/// One row would have more elements than a tensor may.
pub(super) fn zeros(signature: &Signature, rows: usize) -> Result<Vec<Tensor>, EngineError> {
    let limits = TensorLimits { max_elements: 1 << 30, ..TensorLimits::default() };
    let inputs = signature.inputs.iter().map(|spec| {
        let mut shape: Vec<usize> = spec.shape.iter().map(|size| size.unwrap_or(1)).collect();
        if let (true, Some(first)) = (signature.batches, shape.first_mut()) {
            *first = rows;
        }
        let count = shape.iter().fold(1_usize, |product, size| product.saturating_mul(*size));
        let too_large = || EngineError::Model(format!("input `{}` has too many elements to be warmed", spec.name));
        if count > limits.max_elements {
            return Err(too_large());
        }
        Tensor::new(spec.name.clone(), shape, TensorData::zeros(spec.datatype, count), &limits).map_err(|_| too_large())
    });
    inputs.collect()
}

/// A failed run: whether the input was at fault, as far as the runtime tells.
pub(super) fn run_error(error: ort::Error) -> EngineError {
    let text = brief(error.message()).to_string();
    match error.code() {
        ort::ErrorCode::InvalidArgument => EngineError::Input(text),
        _ => EngineError::Compute(text),
    }
}

fn environment(places: &Places) -> Result<Environment, EngineError> {
    let mut loaded = ENVIRONMENT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((path, environment)) = loaded.as_ref() {
        if let Some(other) = &places.settings
            && other != path
        {
            let (other, path) = (other.display(), path.display());
            return Err(EngineError::Unavailable(format!(
                "ONNX Runtime of {path} is loaded already, so {other} cannot be: start the scorer again"
            )));
        }
        return Ok(environment.clone());
    }
    let path = library::find(places)?;
    let shown = path.display();
    let unusable = |error: &dyn std::fmt::Display| {
        EngineError::Unavailable(format!("ONNX Runtime cannot be loaded from {shown}: {error}; {}", library::how_to()))
    };
    let builder = ort::init_from(&path).map_err(|error| match error {
        ort::LoadDynamicError::BadVersion { version_str, .. } => EngineError::Unavailable(format!(
            "ONNX Runtime {version_str} of {shown} is too old, 1.{} or newer is needed; {}",
            library::OLDEST_MINOR,
            library::how_to()
        )),
        ort::LoadDynamicError::MissingApi { .. } => unusable(&"it is another library"),
        ort::LoadDynamicError::Dlopen { error, .. } => unusable(&error),
        other => unusable(&other),
    })?;
    let environment = builder
        .with_name("driftline-scorer")
        .with_telemetry(false)
        .with_logger(Arc::new(log))
        .build()
        .map_err(|error| unusable(&brief(error.message())))?;
    environment.set_log_level(LogLevel::Warning);
    tracing::info!(library = %shown, "ONNX Runtime is loaded");
    *loaded = Some((path, environment.clone()));
    Ok(environment)
}

fn log(level: LogLevel, _category: &str, _id: &str, _location: &str, message: &str) {
    match level {
        LogLevel::Verbose | LogLevel::Info => tracing::debug!("ONNX Runtime: {message}"),
        LogLevel::Warning => tracing::warn!("ONNX Runtime: {message}"),
        LogLevel::Error | LogLevel::Fatal => tracing::error!("ONNX Runtime: {message}"),
    }
}

fn signature(session: &OrtSession) -> Result<Signature, EngineError> {
    let specs = |what: &str, outlets: &[Outlet]| {
        outlets.iter().map(|outlet| spec(what, outlet)).collect::<Result<Vec<TensorSpec>, _>>()
    };
    let inputs = specs("input", session.inputs())?;
    let outputs = specs("output", session.outputs())?;
    let batches = batches(session.inputs(), session.outputs());
    Ok(Signature { inputs, outputs, batches })
}

fn spec(what: &str, outlet: &Outlet) -> Result<TensorSpec, EngineError> {
    let name = outlet.name();
    let ValueType::Tensor { ty, shape, .. } = outlet.dtype() else {
        let help = match outlet.dtype() {
            ValueType::Sequence(_) | ValueType::Map { .. } => {
                ": export the classifier without ZipMap (skl2onnx: options={'zipmap': False})"
            }
            _ => "",
        };
        return Err(EngineError::Model(format!("{what} `{name}` is {}, not a tensor{help}", outlet.dtype())));
    };
    let datatype = datatype(*ty).ok_or_else(|| {
        EngineError::Model(format!("{what} `{name}` has elements of type {ty}, which are not served: cast them"))
    })?;
    let shape = shape.iter().map(|size| usize::try_from(*size).ok()).collect();
    Ok(TensorSpec { name: name.into(), datatype, shape })
}

/// Whether rows of several requests may be one batch: the first dimension of each input and output is free, and where it has
/// a name, it is the same one.
fn batches(inputs: &[Outlet], outputs: &[Outlet]) -> bool {
    let mut names = Vec::new();
    for outlet in inputs.iter().chain(outputs) {
        let ValueType::Tensor { shape, dimension_symbols, .. } = outlet.dtype() else {
            return false;
        };
        if shape.first().is_none_or(|size| *size >= 0) {
            return false;
        }
        names.extend(dimension_symbols.first().filter(|name| !name.is_empty()));
    }
    !inputs.is_empty() && names.windows(2).all(|pair| pair[0] == pair[1])
}
