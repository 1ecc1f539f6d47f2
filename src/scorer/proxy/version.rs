//! What a version here is over there: `peer.json`, which stands in the registry in place of a model's bytes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::config::scorer::ProxySettings;
use crate::scorer::names::check_name;
use crate::scorer::registry::manifest::PEER_FILE;
use crate::scorer::registry::register::Registration;
use crate::scorer::registry::{Registry, RegistryError};

/// `peer.json`. Where the server is stands in the settings: no file of the registry can send requests elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerVersionFile {
    pub model: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

impl PeerVersionFile {
    /// # Errors
    /// These are no bytes of such a file, or its names cannot be part of a path; the reason.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let file: Self = serde_json::from_slice(bytes)
            .map_err(|error| format!("the version has no `{PEER_FILE}` that can be read: {error}"))?;
        check_name("model", &file.model).map_err(|bad| bad.to_string())?;
        if let Some(version) = &file.version {
            check_name("version", version).map_err(|bad| bad.to_string())?;
        }
        Ok(file)
    }
}

/// Adds the versions of the settings that the registry does not have.
///
/// # Errors
/// A version stands there with another content, or the registry cannot be written.
pub fn register(registry: &Registry, model: &str, settings: &ProxySettings, now_ms: i64) -> Result<(), RegistryError> {
    for (version, peer) in &settings.versions {
        let file = PeerVersionFile { model: peer.model.clone(), version: peer.version.clone() };
        let bytes = serde_json::to_vec(&file).map_err(|error| RegistryError::Invalid(error.to_string()))?;
        let registration = Registration {
            model: model.into(),
            version: Some(version.clone()),
            files: BTreeMap::from([(PEER_FILE.to_string(), bytes)]),
            ..Registration::default()
        };
        let registered = registry.register(&registration, None, now_ms)?;
        if !registered.was_there {
            tracing::info!(model, version, peer = peer.model, "registered: a server elsewhere computes it");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_cannot_send_requests_elsewhere() {
        for text in [
            r#"{"model":"../admin"}"#,
            r#"{"model":"m","version":"1/../../x"}"#,
            r#"{"model":"m","url":"http://elsewhere"}"#,
            "{}",
            "onnx",
        ] {
            assert!(PeerVersionFile::parse(text.as_bytes()).is_err(), "{text}");
        }
        let whole = PeerVersionFile::parse(br#"{"model":"m","version":"1"}"#).unwrap();
        assert_eq!(whole, PeerVersionFile { model: "m".into(), version: Some("1".into()) });
    }
}
