//! `driftline-scorer register`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::{Failure, Outcome, Place, now_ms};
use crate::config::scorer::EngineSettings;
use crate::config::scorer::engine::Device;

use crate::scorer::engine::{Engine as _, EngineError, OnnxEngine};
use crate::scorer::registry::Registry;
use crate::scorer::registry::manifest::{InputSchema, Lineage, MODEL_FILE};
use crate::scorer::registry::register::Registration;
use crate::scorer::registry::sha256_hex;
use crate::scorer::registry::signing::{MAX_KEY_BYTES, SigningKey};

/// Longest retraining manifest that is read, bytes.
const MAX_RETRAINING_BYTES: u64 = 4 << 20;

#[derive(Debug, Args)]
pub struct RegisterArgs {
    model: String,
    /// The ONNX file
    file: PathBuf,
    /// Name of the version; default: the number after the highest
    #[arg(long)]
    version: Option<String>,
    /// Another file of the version, under its own name; may be given several times
    #[arg(long = "with", value_name = "FILE")]
    with: Vec<PathBuf>,
    /// Id of the feature transform that made the training data
    #[arg(long, value_name = "ID")]
    transform: Option<String>,
    /// Digest of the training data
    #[arg(long, value_name = "DIGEST")]
    training_data: Option<String>,
    /// Commit of the training code
    #[arg(long, value_name = "COMMIT")]
    git_commit: Option<String>,
    /// Seed of the training; default: the retraining manifest's
    #[arg(long)]
    seed: Option<u32>,
    /// Content address of the monitor's reference; default: the retraining manifest's
    #[arg(long, value_name = "ID")]
    reference: Option<String>,
    /// The retraining manifest that this version answers, as the monitor sent it
    #[arg(long, value_name = "FILE")]
    retraining_manifest: Option<PathBuf>,
    /// Do not load the model, neither to see that it can be nor for the manifest's `schema`
    #[arg(long)]
    unchecked: bool,
    /// Private key to sign the version with
    #[arg(long, value_name = "FILE")]
    sign_key: Option<PathBuf>,
    #[command(flatten)]
    place: Place,
}

pub fn run(args: &RegisterArgs) -> Outcome {
    let registry = args.place.open()?;
    let registration = registration(args, &registry)?;
    let key = args.sign_key.as_deref().map(read_key).transpose()?;
    let registered = registry.register(&registration, key.as_ref(), now_ms())?;
    let manifest = &registered.manifest;
    let answer = json!({"model": manifest.model, "version": manifest.version, "was_there": registered.was_there});
    args.place.print(&answer, || {
        let what = if registered.was_there { "is there already, with this content" } else { "is registered" };
        format!("{} version {} {what}", manifest.model, manifest.version)
    });
    Ok(())
}

fn registration(args: &RegisterArgs, registry: &Registry) -> Result<Registration, Failure> {
    let mut lineage = Lineage {
        transform: args.transform.clone(),
        training_data: args.training_data.clone(),
        git_commit: args.git_commit.clone(),
        seed: args.seed,
        reference: args.reference.clone(),
        ..Lineage::default()
    };
    if let Some(path) = &args.retraining_manifest {
        answer(&mut lineage, &args.model, path)?;
    }
    let model = read_file(&args.file, registry.max_file_bytes())?;
    let schema = if args.unchecked { None } else { schema(args, &model)? };
    let mut files = BTreeMap::from([(MODEL_FILE.to_string(), model)]);
    for path in &args.with {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_string();
        let bytes = read_file(path, registry.max_file_bytes())?;
        if files.insert(name.clone(), bytes).is_some() {
            return Err(Failure::usage(format!("two files are called `{name}`")));
        }
    }
    Ok(Registration { model: args.model.clone(), version: args.version.clone(), files, schema, lineage })
}

/// What the model takes and gives, by loading it as the scorer will.
fn schema(args: &RegisterArgs, model: &[u8]) -> Result<Option<InputSchema>, Failure> {
    let settings = args.place.settings()?;
    // Whether it can be loaded is asked here, not where it will run: a GPU is not needed for that.
    let engine_settings = EngineSettings { device: Device::Cpu, cuda: None, ..settings.config.engine };
    let loaded = OnnxEngine::open(&engine_settings, &settings.base).and_then(|engine| engine.load(model));
    match loaded {
        Ok(loaded) => Ok(Some(InputSchema::from(loaded.signature()))),
        Err(EngineError::Unavailable(reason)) => {
            eprintln!("warning: {} was not loaded, and its manifest has no `schema`: {reason}", args.file.display());
            Ok(None)
        }
        Err(error) => Err(Failure::refused(format!("{} cannot be served: {error}", args.file.display()))),
    }
}

/// Takes from a retraining manifest what it says of the version that answers it.
fn answer(lineage: &mut Lineage, model: &str, path: &Path) -> Result<(), Failure> {
    let bytes = read_file(path, MAX_RETRAINING_BYTES)?;
    let wrong = |reason: &str| Failure::usage(format!("{}: {reason}", path.display()));
    let manifest: Value = serde_json::from_slice(&bytes).map_err(|error| wrong(&error.to_string()))?;
    let text = |pointer: &str| manifest.pointer(pointer).and_then(Value::as_str).map(str::to_string);
    let run = text("/run").ok_or_else(|| wrong("this is no retraining manifest: it has no `run`"))?;
    match text("/model") {
        Some(of) if of == model => {}
        Some(of) => return Err(wrong(&format!("this manifest asks for a version of model {of}, not {model}"))),
        None => return Err(wrong("this is no retraining manifest: it has no `model`")),
    }
    let seed = manifest.get("seed").and_then(Value::as_u64).and_then(|seed| u32::try_from(seed).ok());
    lineage.retraining_run = Some(run);
    lineage.retraining_manifest = Some(format!("sha256:{}", sha256_hex(&bytes)));
    lineage.seed = lineage.seed.or(seed);
    lineage.reference = lineage.reference.take().or_else(|| text("/reference/id"));
    Ok(())
}

pub(super) fn read_key(path: &Path) -> Result<SigningKey, Failure> {
    let text = String::from_utf8(read_file(path, MAX_KEY_BYTES)?)
        .map_err(|_| Failure::usage(format!("{}: this is no text", path.display())))?;
    SigningKey::from_pem(&text).map_err(|error| Failure::usage(format!("{}: {error}", path.display())))
}

/// A file of the user's, wherever it lies.
fn read_file(path: &Path, max_bytes: u64) -> Result<Vec<u8>, Failure> {
    let failed = |error: std::io::Error| Failure::usage(format!("cannot read {}: {error}", path.display()));
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(max_bytes.saturating_add(1)).read_to_end(&mut bytes)).map_err(failed)?;
    if bytes.len() as u64 > max_bytes {
        let message = format!("{} is longer than the {max_bytes} bytes that are allowed", path.display());
        return Err(Failure::usage(message));
    }
    Ok(bytes)
}
