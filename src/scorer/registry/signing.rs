//! ed25519 signatures of manifests: whoever holds the private key vouches for every file of a version.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::rand::SystemRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

use super::manifest::{Manifest, ManifestSignature};
use crate::config::scorer::SignatureSettings;

const ALGORITHM: &str = "ed25519";
const PEM_BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const PEM_END: &str = "-----END PRIVATE KEY-----";
/// Longest private key file that is read, bytes.
pub const MAX_KEY_BYTES: u64 = 16 << 10;

/// A key that cannot be used, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct KeyError(String);

/// Signs manifests.
pub struct SigningKey(Ed25519KeyPair);

impl SigningKey {
    /// A new key, and the text of its file (PKCS#8, PEM).
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn generate() -> Result<(Self, String), KeyError> {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())
            .map_err(|_| KeyError("the system has no random numbers to make a key of".into()))?;
        let lines: Vec<String> = BASE64
            .encode(document.as_ref())
            .as_bytes()
            .chunks(64)
            .map(|line| String::from_utf8_lossy(line).into_owned())
            .collect();
        let pem = format!("{PEM_BEGIN}\n{}\n{PEM_END}\n", lines.join("\n"));
        Ok((Self::from_pem(&pem)?, pem))
    }

    /// Reads what `generate` gave, or `openssl genpkey -algorithm ed25519`.
    ///
    /// # Errors
    /// It is no PEM of an ed25519 private key. The key is not in the error.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        let body = text
            .split_once(PEM_BEGIN)
            .and_then(|(_, rest)| rest.split_once(PEM_END))
            .map(|(body, _)| body.split_whitespace().collect::<String>())
            .ok_or_else(|| KeyError(format!("no private key: a line `{PEM_BEGIN}` is wanted")))?;
        let bytes = BASE64.decode(body).map_err(|_| KeyError("the private key is no base64".into()))?;
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&bytes)
            .map_err(|_| KeyError("the private key is not one of ed25519".into()))?;
        Ok(Self(pair))
    }

    pub fn public(&self) -> PublicKey {
        PublicKey { bytes: self.0.public_key().as_ref().to_vec() }
    }

    /// Puts a signature on a manifest, in place of any that it has.
    ///
    /// # Errors
    /// The manifest cannot be written.
    pub fn sign(&self, manifest: &mut Manifest) -> Result<(), KeyError> {
        let bytes = manifest.canonical_bytes().map_err(KeyError)?;
        manifest.signature = Some(ManifestSignature {
            algorithm: ALGORITHM.into(),
            key_id: self.public().id(),
            value: BASE64.encode(self.0.sign(&bytes)),
        });
        Ok(())
    }
}

/// A key that signatures are checked with; no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    bytes: Vec<u8>,
}

impl PublicKey {
    /// From base64 of its 32 bytes.
    ///
    /// # Errors
    /// It is something else.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        match BASE64.decode(text.trim()) {
            Ok(bytes) if bytes.len() == 32 => Ok(Self { bytes }),
            _ => Err(KeyError("a public key is the base64 of 32 bytes, as `driftline-scorer keygen` prints it".into())),
        }
    }

    /// First 16 hexadecimal digits of its SHA-256.
    pub fn id(&self) -> String {
        super::sha256_hex(&self.bytes).chars().take(16).collect()
    }

    pub fn base64(&self) -> String {
        BASE64.encode(&self.bytes)
    }
}

/// Whose signatures count.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    /// Refuse versions without a signature of one of the keys.
    pub require_signature: bool,
    keys: BTreeMap<String, PublicKey>,
}

impl Trust {
    /// Several keys at once: while one is replaced, the old and the new one count.
    pub fn new(require_signature: bool, keys: impl IntoIterator<Item = PublicKey>) -> Self {
        Self { require_signature, keys: keys.into_iter().map(|key| (key.id(), key)).collect() }
    }

    /// From a settings file.
    ///
    /// # Errors
    /// A key is none.
    pub fn of(settings: &SignatureSettings) -> Result<Self, KeyError> {
        let keys: Result<Vec<_>, _> = settings.trusted_keys.iter().map(|key| PublicKey::parse(key)).collect();
        Ok(Self::new(settings.require, keys?))
    }

    /// The id of the trusted key that signed the manifest; `None` where no signature is asked for and none can be checked.
    ///
    /// # Errors
    /// The signature is false, or one is required and there is none of a trusted key.
    pub fn check(&self, manifest: &Manifest) -> Result<Option<String>, String> {
        let Some(signature) = &manifest.signature else {
            return match self.require_signature {
                true => {
                    Err("it is not signed, and only signed versions are taken: sign it, or register it with a key"
                        .into())
                }
                false => Ok(None),
            };
        };
        if signature.algorithm != ALGORITHM {
            return Err(format!("its signature is of the unknown algorithm `{}`", signature.algorithm));
        }
        let Some(key) = self.keys.get(&signature.key_id) else {
            return match self.require_signature {
                true => Err(format!("it is signed with key {}, which is not trusted", signature.key_id)),
                false => Ok(None),
            };
        };
        let bytes = manifest.canonical_bytes()?;
        let false_signature =
            || format!("its signature with key {} is false: the manifest was changed", signature.key_id);
        let value = BASE64.decode(&signature.value).map_err(|_| false_signature())?;
        UnparsedPublicKey::new(&ED25519, &key.bytes).verify(&bytes, &value).map_err(|_| false_signature())?;
        Ok(Some(signature.key_id.clone()))
    }
}
