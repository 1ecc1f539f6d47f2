//! The section `signatures`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::diagnostic::Problem;
use crate::config::yaml::child;

/// Whose versions are served.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SignatureSettings {
    /// Refuse versions that none of the trusted keys has signed.
    pub require: bool,
    /// Public keys, as `driftline-scorer keygen` prints them. Several count at once, so that one can follow another.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub trusted_keys: Vec<String>,
}

pub(super) fn check(settings: &SignatureSettings) -> Vec<Problem> {
    let mut problems = Vec::new();
    if settings.require && settings.trusted_keys.is_empty() {
        let message = "signatures are required, and no key is trusted: no version could be served";
        let help = "add the public key that `driftline-scorer keygen` printed to `trusted_keys`";
        problems.push(Problem::error("missing-key", "/signatures/require", message).help(help));
    }
    for (index, key) in settings.trusted_keys.iter().enumerate() {
        let bytes = STANDARD.decode(key).unwrap_or_default();
        if bytes.len() != 32 {
            let pointer = child("/signatures/trusted_keys", &index.to_string());
            let message = "this is not the base64 of a public key's 32 bytes";
            problems.push(
                Problem::error("bad-public-key", pointer, message)
                    .help("write the line that `driftline-scorer keygen` printed"),
            );
        }
    }
    problems
}
