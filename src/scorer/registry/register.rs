//! Writing a version: into a temporary directory, down to the disk, then renamed as a whole, then read-only.

use std::collections::BTreeMap;

use super::beneath::Dir;
use super::manifest::{FileDigest, InputSchema, Lineage, MANIFEST_FILE, MAX_FILES, MODEL_FILE, Manifest, has_model};
use super::sha256_hex;
use super::signing::SigningKey;
use super::store::{INCOMING, RESERVED_VERSIONS, Registry, RegistryError, VERSIONS};
use crate::scorer::names::check_name;

/// A version to be.
#[derive(Debug, Clone, Default)]
pub struct Registration {
    pub model: String,
    /// None: the number after the highest.
    pub version: Option<String>,
    /// Bytes by name; `model.onnx` must be among them, or `peer.json` in its place.
    pub files: BTreeMap<String, Vec<u8>>,
    pub schema: Option<InputSchema>,
    pub lineage: Lineage,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    pub manifest: Manifest,
    /// The same content was there already, under this version; nothing was written.
    pub was_there: bool,
}

impl Registry {
    /// Adds a version. The same content twice is one version, whoever registers it.
    ///
    /// # Errors
    /// `Conflict`: the version, or the retraining run, has another content already. `Invalid`: names, sizes or texts
    /// cannot be taken. `Disk`: nothing was added.
    pub fn register(
        &self,
        registration: &Registration,
        key: Option<&SigningKey>,
        now_ms: i64,
    ) -> Result<Registered, RegistryError> {
        let mut manifest = self.describe(registration, now_ms)?;
        let model = registration.model.as_str();
        let dir = self.models.make_dir(model)?;
        let _lock = self.lock(model, "register")?;
        let (versions, incoming) = (dir.make_dir(VERSIONS)?, dir.make_dir(INCOMING)?);
        // Whoever left these behind has died: they would hold the lock.
        for left_over in incoming.names()? {
            incoming.remove(&left_over)?;
        }
        if let Some(manifest) = self.known(&manifest, registration.version.as_deref())? {
            return Ok(Registered { manifest, was_there: true });
        }
        manifest.version = match &registration.version {
            Some(version) => version.clone(),
            None => next_number(&versions.names()?).to_string(),
        };
        if let Some(key) = key {
            key.sign(&mut manifest).map_err(|error| RegistryError::Invalid(error.to_string()))?;
        }
        let bytes = manifest.pretty_bytes().map_err(RegistryError::Invalid)?;
        let temporary = manifest.version.as_str();
        let written = write(&incoming, temporary, registration, &bytes)
            .and_then(|()| Ok(incoming.move_dir(temporary, &versions, &manifest.version)?));
        if written.is_err() && incoming.has(temporary).unwrap_or(false) {
            // On a full disk this makes room again; if it fails too, the next registration tidies up.
            let _ = incoming.remove(temporary);
        }
        written?;
        // Only a directory that may be written to can be moved, so this comes last; a crash before it does no harm.
        versions.dir(&manifest.version)?.protect()?;
        Ok(Registered { manifest, was_there: false })
    }

    /// Signs a version that is there; its content stays as it is.
    ///
    /// # Errors
    /// There is no such version, it is not whole, or the disk is full or read-only: the old signature stays.
    pub fn sign(&self, model: &str, version: &str, key: &SigningKey) -> Result<(), RegistryError> {
        let dir = self.model_dir(model)?;
        let _lock = self.lock(model, "register")?;
        // With a key that is not trusted yet, or none: that is what is about to change. The bytes must be right.
        let mut manifest = self.whole(model, version)?;
        key.sign(&mut manifest).map_err(|error| RegistryError::Invalid(error.to_string()))?;
        let bytes = manifest.pretty_bytes().map_err(RegistryError::Invalid)?;
        let incoming = dir.make_dir(INCOMING)?;
        let beside = format!("{version}.{MANIFEST_FILE}");
        incoming.remove_if_there(&beside)?;
        incoming.write_new(&beside, &bytes)?;
        let there = dir.dir(&format!("{VERSIONS}/{version}"))?;
        there.unprotect()?;
        let moved = incoming.move_file_over(&beside, &there, MANIFEST_FILE);
        there.protect()?;
        Ok(moved?)
    }

    fn describe(&self, registration: &Registration, now_ms: i64) -> Result<Manifest, RegistryError> {
        let Registration { model, version, files, schema, lineage } = registration;
        check_name("model", model)?;
        let version = version.as_deref().unwrap_or("0");
        check_name("version", version)?;
        if RESERVED_VERSIONS.contains(&version) {
            return Err(RegistryError::Invalid(format!(
                "`{version}` cannot be a version: it names a place to serve in"
            )));
        }
        let invalid = |reason: String| RegistryError::Invalid(reason);
        lineage.check().map_err(invalid)?;
        if !has_model(|file| files.contains_key(file)) || files.len() > MAX_FILES {
            return Err(invalid(format!("a version has `{MODEL_FILE}` and at most {MAX_FILES} files in all")));
        }
        let mut digests = BTreeMap::new();
        for (name, bytes) in files {
            check_name("file", name)?;
            if name == MANIFEST_FILE {
                return Err(invalid(format!("`{MANIFEST_FILE}` is written here: it cannot be one of the files")));
            }
            let length = bytes.len() as u64;
            if length == 0 || length > self.max_file_bytes {
                let max = self.max_file_bytes;
                return Err(invalid(format!("`{name}` has {length} bytes: from 1 to {max} are allowed")));
            }
            digests.insert(name.clone(), FileDigest { sha256: sha256_hex(bytes), bytes: length });
        }
        Ok(Manifest {
            format: 1,
            model: model.clone(),
            version: version.to_string(),
            created_at_ms: now_ms,
            files: digests,
            schema: schema.clone(),
            lineage: lineage.clone(),
            signature: None,
        })
    }

    /// A version that is this one already.
    fn known(&self, new: &Manifest, version: Option<&str>) -> Result<Option<Manifest>, RegistryError> {
        let mut same = None;
        for name in self.versions(&new.model)? {
            let there = match self.read_manifest(&new.model, &name) {
                Ok((_, there)) => there,
                // A broken version is in nobody's way but under its own name.
                Err(_) if version != Some(name.as_str()) => continue,
                Err(error) => return Err(error),
            };
            let is_same = there.same_content(new);
            if version == Some(name.as_str()) && !is_same {
                return Err(RegistryError::Conflict(format!(
                    "{} version {name} is there with another content, and versions never change: register a new one",
                    new.model
                )));
            }
            let run = &new.lineage.retraining_run;
            if run.is_some() && there.lineage.retraining_run == *run && !is_same {
                return Err(RegistryError::Conflict(format!(
                    "retraining run {} is answered by {} version {name} already, with another content",
                    run.as_deref().unwrap_or_default(),
                    new.model
                )));
            }
            if is_same && version.is_none_or(|version| version == name) {
                same = Some(there);
            }
        }
        Ok(same)
    }
}

fn write(incoming: &Dir, name: &str, registration: &Registration, manifest: &[u8]) -> Result<(), RegistryError> {
    let dir = incoming.make_dir(name)?;
    for (file, bytes) in &registration.files {
        dir.write_new(file, bytes)?;
    }
    dir.write_new(MANIFEST_FILE, manifest)?;
    Ok(dir.sync()?)
}

fn next_number(versions: &[String]) -> u64 {
    let highest = versions.iter().filter_map(|version| version.parse::<u64>().ok()).max();
    highest.unwrap_or(0).saturating_add(1)
}
