//! Which registry a command is about, and whose signatures count in it: the same options wherever one is opened by hand.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::config::scorer::{ScorerConfig, load_scorer};
use crate::scorer::registry::signing::Trust;
use crate::scorer::registry::{Registry, RegistryError};

#[derive(Debug, Clone, Default, Args)]
pub struct RegistryPlace {
    /// Settings file of the scorer, for its registry and its trusted keys
    #[arg(long, short, value_name = "FILE", env = "DRIFTLINE_SCORER_CONFIG")]
    pub config: Option<PathBuf>,
    /// Directory of the registry; default: the settings file's
    #[arg(long, value_name = "DIR", env = "DRIFTLINE_SCORER_REGISTRY")]
    pub registry: Option<PathBuf>,
    /// Public key whose signatures count beside those of the settings file; may be given several times
    #[arg(long = "trusted-key", value_name = "BASE64")]
    pub trusted_keys: Vec<String>,
    /// Refuse versions that no trusted key has signed
    #[arg(long)]
    pub require_signature: bool,
}

/// Where the registry is, and what the settings file says, if there is one.
pub struct Settings {
    pub dir: PathBuf,
    /// What paths of the settings are relative to.
    pub base: PathBuf,
    pub config: ScorerConfig,
}

/// Why there is no registry.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// The command line or the settings file is wrong.
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

impl RegistryPlace {
    /// Opens the registry; reads of it check signatures as the settings and the command line say.
    ///
    /// # Errors
    /// No registry is named, the settings file or a key is wrong, or the directory cannot be opened.
    pub fn open(&self) -> Result<(Registry, Settings), PlaceError> {
        let settings = self.settings()?;
        let mut signatures = settings.config.signatures.clone();
        signatures.require |= self.require_signature;
        signatures.trusted_keys.extend(self.trusted_keys.iter().cloned());
        if signatures.require && signatures.trusted_keys.is_empty() {
            return Err(PlaceError::Usage("--require-signature needs at least one --trusted-key".into()));
        }
        let trust = Trust::of(&signatures).map_err(|error| PlaceError::Usage(error.to_string()))?;
        Ok((Registry::open(&settings.dir)?.with_trust(trust), settings))
    }

    /// # Errors
    /// No registry is named, or the settings file is wrong.
    pub fn settings(&self) -> Result<Settings, PlaceError> {
        match (&self.config, &self.registry) {
            (Some(path), registry) => {
                let config = load_scorer(path).map_err(|errors| PlaceError::Usage(errors.text(false)))?.value;
                let base = path.parent().unwrap_or(Path::new(".")).to_path_buf();
                // What is typed counts more than what is written.
                let dir = registry.clone().unwrap_or_else(|| base.join(&config.registry));
                Ok(Settings { dir, base, config })
            }
            (None, Some(dir)) => {
                Ok(Settings { dir: dir.clone(), base: PathBuf::from("."), config: ScorerConfig::default() })
            }
            (None, None) => {
                Err(PlaceError::Usage("name a registry: `--registry DIR`, or `--config scorer.yaml`".into()))
            }
        }
    }
}
