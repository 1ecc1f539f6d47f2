//! The registry: reading versions and states, which takes no lock.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::audit::AuditEntry;
use super::beneath::{Dir, DiskError};
use super::manifest::{MANIFEST_FILE, MAX_MANIFEST_BYTES, MODEL_FILE, Manifest, PEER_FILE};
use super::sha256_hex;
use super::signing::Trust;
use super::state::{STATE_FILE, ServingState, StateFile};
use crate::scorer::names::{BadName, check_name};

const MODELS: &str = "models";
pub(super) const VERSIONS: &str = "versions";
/// Versions on their way in or out; a crash may leave some here.
pub(super) const INCOMING: &str = "incoming";
const MAX_STATE_BYTES: u64 = 1 << 20;
/// Largest file of a version unless told otherwise: protocol buffers, and so ONNX files, end at 2 GiB.
const MAX_FILE_BYTES: u64 = 2 << 30;
/// How long a change waits for another process's.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);
/// Names that mean something else where a version is named.
pub const RESERVED_VERSIONS: [&str; 6] = ["production", "previous", "canary", "shadow", "last_good", "latest"];

/// Why the registry did not do it, by what the caller does next.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// There is no such model or version.
    #[error("{0}")]
    NotFound(String),
    /// The state is another than the caller takes it for: look again.
    #[error("{0}")]
    Conflict(String),
    /// It can never be done as asked.
    #[error("{0}")]
    Invalid(String),
    /// The version is truncated, was changed, or is not signed by whom it must be: keep what serves.
    #[error("{0}")]
    Refused(String),
    /// Another process changes this model: try again.
    #[error("{0}")]
    Busy(String),
    /// The disk fails, is full or read-only.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl From<BadName> for RegistryError {
    fn from(bad: BadName) -> Self {
        Self::Invalid(bad.to_string())
    }
}

/// A version whose files are what its manifest says, in memory.
#[derive(Debug, Clone)]
pub struct VerifiedVersion {
    pub manifest: Manifest,
    /// The id of the trusted key that signed it; none if it is not signed, or by a key that is not trusted.
    pub signed_by: Option<String>,
    /// The model's bytes, or those of what stands in its place.
    pub model: Bytes,
    /// The other files by name.
    pub files: BTreeMap<String, Bytes>,
}

/// A registry on disk. Several processes may hold one.
#[derive(Debug)]
pub struct Registry {
    pub(super) models: Dir,
    trust: Trust,
    pub(super) max_file_bytes: u64,
}

impl Registry {
    /// Opens a registry; an empty directory is an empty one.
    ///
    /// # Errors
    /// The directory is missing, or its `models` can be neither opened nor made.
    pub fn open(dir: &Path) -> Result<Self, RegistryError> {
        let models = Dir::open_root(dir)?.make_dir(MODELS)?;
        Ok(Self { models, trust: Trust::default(), max_file_bytes: MAX_FILE_BYTES })
    }

    /// Whose signatures are asked for; without this call none are.
    #[must_use]
    pub fn with_trust(self, trust: Trust) -> Self {
        Self { trust, ..self }
    }

    /// Largest file of a version that is read or taken, bytes.
    #[must_use]
    pub fn with_max_file_bytes(self, max_file_bytes: u64) -> Self {
        Self { max_file_bytes, ..self }
    }

    pub const fn max_file_bytes(&self) -> u64 {
        self.max_file_bytes
    }

    /// Names of the models, sorted.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn models(&self) -> Result<Vec<String>, RegistryError> {
        let mut names = self.models.names()?;
        names.retain(|name| check_name("model", name).is_ok());
        Ok(names)
    }

    /// Versions of a model: numbers in their order, then other names.
    ///
    /// # Errors
    /// There is no such model.
    pub fn versions(&self, model: &str) -> Result<Vec<String>, RegistryError> {
        let mut versions = match self.model_dir(model)?.dir(VERSIONS) {
            Ok(dir) => dir.names()?,
            Err(error) if error.is_missing() => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        versions.sort_by_key(|version| (version.parse::<u64>().unwrap_or(u64::MAX), version.clone()));
        Ok(versions)
    }

    /// Which versions of a model serve; the default state before the first change.
    ///
    /// # Errors
    /// There is no such model, or its state cannot be read.
    pub fn state(&self, model: &str) -> Result<ServingState, RegistryError> {
        Ok(self.state_file(model, &self.model_dir(model)?)?.state)
    }

    /// The manifest alone, with its signature checked; the files are not.
    ///
    /// # Errors
    /// There is no such version, or its manifest is not to be trusted.
    pub fn manifest(&self, model: &str, version: &str) -> Result<Manifest, RegistryError> {
        Ok(self.checked_manifest(model, version)?.1)
    }

    /// Reads a version whole, and checks every byte against the manifest and the manifest against its signature.
    ///
    /// # Errors
    /// There is no such version, or it is not what its manifest says.
    pub fn open_version(&self, model: &str, version: &str) -> Result<VerifiedVersion, RegistryError> {
        let (dir, manifest, signed_by) = self.checked_manifest(model, version)?;
        let mut files = self.checked_files(&dir, &manifest)?;
        let missing = || refused(model, version, &format!("it has no `{MODEL_FILE}`"));
        let model = files.remove(MODEL_FILE).or_else(|| files.remove(PEER_FILE)).ok_or_else(missing)?;
        Ok(VerifiedVersion { manifest, signed_by, model, files })
    }

    /// The manifest of a version whose files are right, whoever signed it.
    pub(super) fn whole(&self, model: &str, version: &str) -> Result<Manifest, RegistryError> {
        let (dir, manifest) = self.read_manifest(model, version)?;
        self.checked_files(&dir, &manifest)?;
        Ok(manifest)
    }

    fn checked_files(&self, dir: &Dir, manifest: &Manifest) -> Result<BTreeMap<String, Bytes>, RegistryError> {
        let refused = |reason: String| refused(&manifest.model, &manifest.version, &reason);
        for name in dir.names()? {
            if name != MANIFEST_FILE && !manifest.files.contains_key(&name) {
                return Err(refused(format!(
                    "`{name}` is not in its manifest: remove it, or register it as a version of its own"
                )));
            }
        }
        let mut files = BTreeMap::new();
        for (name, expected) in &manifest.files {
            if expected.bytes > self.max_file_bytes {
                let max = self.max_file_bytes;
                return Err(refused(format!("`{name}` has {} bytes, at most {max} are allowed", expected.bytes)));
            }
            let bytes = dir.read(name, self.max_file_bytes).map_err(|error| refused(error.to_string()))?;
            if bytes.len() as u64 != expected.bytes {
                return Err(refused(format!(
                    "`{name}` has {} bytes, its manifest says {}: it was cut off or changed",
                    bytes.len(),
                    expected.bytes
                )));
            }
            if sha256_hex(&bytes) != expected.sha256 {
                return Err(refused(format!("`{name}` was changed: its SHA-256 is not the manifest's")));
            }
            files.insert(name.clone(), Bytes::from(bytes));
        }
        Ok(files)
    }

    fn checked_manifest(&self, model: &str, version: &str) -> Result<(Dir, Manifest, Option<String>), RegistryError> {
        let (dir, manifest) = self.read_manifest(model, version)?;
        let signed_by = self.trust.check(&manifest).map_err(|reason| refused(model, version, &reason))?;
        Ok((dir, manifest, signed_by))
    }

    /// The manifest and where it lies, whoever signed it.
    pub(super) fn read_manifest(&self, model: &str, version: &str) -> Result<(Dir, Manifest), RegistryError> {
        check_name("version", version)?;
        let missing = || RegistryError::NotFound(format!("model {model} has no version {version}"));
        let dir = match self.model_dir(model)?.dir(&format!("{VERSIONS}/{version}")) {
            Ok(dir) => dir,
            Err(error) if error.is_missing() => return Err(missing()),
            Err(error) => return Err(refused(model, version, &error.to_string())),
        };
        let refused = |reason: String| refused(model, version, &reason);
        let bytes = dir.read(MANIFEST_FILE, MAX_MANIFEST_BYTES).map_err(|error| refused(error.to_string()))?;
        let manifest = Manifest::parse(&bytes).map_err(|reason| refused(format!("`{MANIFEST_FILE}`: {reason}")))?;
        // Otherwise a signed manifest of another model would vouch for this one.
        if (manifest.model.as_str(), manifest.version.as_str()) != (model, version) {
            return Err(refused(format!("its manifest is that of {} version {}", manifest.model, manifest.version)));
        }
        Ok((dir, manifest))
    }

    pub(super) fn model_dir(&self, model: &str) -> Result<Dir, RegistryError> {
        check_name("model", model)?;
        self.models.dir(model).map_err(|error| match error.is_missing() {
            true => RegistryError::NotFound(format!("there is no model {model}")),
            false => error.into(),
        })
    }

    pub(super) fn state_file(&self, model: &str, dir: &Dir) -> Result<StateFile, RegistryError> {
        match dir.read_if_there(STATE_FILE, MAX_STATE_BYTES)? {
            None => Ok(StateFile::default()),
            Some(bytes) => StateFile::parse(&bytes).map_err(|reason| {
                RegistryError::Refused(format!("the state of model {model} cannot be read ({STATE_FILE}): {reason}"))
            }),
        }
    }

    /// The newest entry of the audit, which `state.json` carries.
    pub fn last_change(&self, model: &str) -> Result<Option<AuditEntry>, RegistryError> {
        Ok(self.state_file(model, &self.model_dir(model)?)?.last_change)
    }

    /// A lock of this model's, by name, if no other process holds it; it is let go when dropped, or when the process dies.
    ///
    /// # Errors
    /// There is no such model, or the lock's file cannot be made.
    pub fn try_lock(&self, model: &str, name: &str) -> Result<Option<Lock>, RegistryError> {
        let file = self.model_dir(model)?.lock_file(&lock_name(name)?)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Lock { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(source)) => Err(lock_failed(model, source)),
        }
    }

    /// As `try_lock`, with patience.
    pub(super) fn lock(&self, model: &str, name: &str) -> Result<Lock, RegistryError> {
        let deadline = Instant::now() + LOCK_PATIENCE;
        loop {
            if let Some(lock) = self.try_lock(model, name)? {
                return Ok(lock);
            }
            if Instant::now() >= deadline {
                let seconds = LOCK_PATIENCE.as_secs();
                return Err(RegistryError::Busy(format!(
                    "another process has held the lock of model {model} for {seconds} s: try again"
                )));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// A small file of the caller's own beside the state, such as a trial's: the newest whole one.
    ///
    /// # Errors
    /// There is no such model, the name is taken, or the file is longer than `max_bytes`.
    pub fn read_beside(&self, model: &str, name: &str, max_bytes: u64) -> Result<Option<Vec<u8>>, RegistryError> {
        Ok(self.model_dir(model)?.read_if_there(&beside_name(name)?, max_bytes)?)
    }

    /// Writes such a file whole, down to the disk. One writer at a time: hold a lock.
    ///
    /// # Errors
    /// As for `read_beside`, or the disk is full or read-only: the old file stays.
    pub fn write_beside(&self, model: &str, name: &str, bytes: &[u8]) -> Result<(), RegistryError> {
        Ok(self.model_dir(model)?.replace(&beside_name(name)?, bytes)?)
    }
}

/// Held until it is dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

fn refused(model: &str, version: &str, reason: &str) -> RegistryError {
    RegistryError::Refused(format!("{model} version {version} is refused: {reason}"))
}

fn lock_failed(model: &str, source: std::io::Error) -> RegistryError {
    DiskError { action: "lock", path: model.into(), source }.into()
}

fn lock_name(name: &str) -> Result<String, RegistryError> {
    check_name("lock", name)?;
    Ok(format!("{name}.lock"))
}

fn beside_name(name: &str) -> Result<String, RegistryError> {
    check_name("file", name)?;
    let own = [STATE_FILE, super::audit::AUDIT_FILE, VERSIONS, INCOMING];
    if own.contains(&name) || name.ends_with(".lock") || name.ends_with(".new") {
        return Err(RegistryError::Invalid(format!("`{name}` is the registry's own")));
    }
    Ok(name.to_string())
}
