//! Signatures of Standard Webhooks (<https://www.standardwebhooks.com>): HMAC-SHA256 over `id.timestamp.body`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// What precedes the base64 of a symmetric secret.
const SECRET_PREFIX: &str = "whsec_";

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SigningKeyError {
    #[error("a webhook secret is base64, with or without `whsec_` before it: {0}")]
    NotBase64(String),
    #[error("a webhook secret has 24 to 64 bytes, this one has {0}")]
    WrongLength(usize),
}

/// One shared secret. Never shown, not even in debug output.
#[derive(Clone)]
pub struct SigningKey {
    bytes: Vec<u8>,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("SigningKey")
    }
}

impl SigningKey {
    /// Reads `whsec_{base64}`; the standard asks for 24 to 64 random bytes.
    pub fn parse(secret: &str) -> Result<Self, SigningKeyError> {
        let encoded = secret.strip_prefix(SECRET_PREFIX).unwrap_or(secret);
        let bytes = STANDARD.decode(encoded).map_err(|error| SigningKeyError::NotBase64(error.to_string()))?;
        if !(24..=64).contains(&bytes.len()) {
            return Err(SigningKeyError::WrongLength(bytes.len()));
        }
        Ok(Self { bytes })
    }

    /// One entry of the `webhook-signature` header: `v1,{base64}`. `timestamp_s` is epoch seconds.
    pub fn sign(&self, id: &str, timestamp_s: i64, body: &[u8]) -> String {
        format!("v1,{}", STANDARD.encode(self.mac(id, timestamp_s, body).finalize().into_bytes()))
    }

    /// Whether one of the signatures in a `webhook-signature` header is this key's, compared in constant time.
    pub fn verifies(&self, header: &str, id: &str, timestamp_s: i64, body: &[u8]) -> bool {
        header.split(' ').filter_map(|entry| entry.strip_prefix("v1,")).any(|encoded| {
            STANDARD
                .decode(encoded)
                .is_ok_and(|signature| self.mac(id, timestamp_s, body).verify_slice(&signature).is_ok())
        })
    }

    fn mac(&self, id: &str, timestamp_s: i64, body: &[u8]) -> Hmac<Sha256> {
        // HMAC takes keys of any length: one longer than a block is hashed, a shorter one is padded.
        let mut block = [0_u8; 64];
        block[..self.bytes.len()].copy_from_slice(&self.bytes);
        let mut mac = Hmac::<Sha256>::new(&block.into());
        mac.update(format!("{id}.{timestamp_s}.").as_bytes());
        mac.update(body);
        mac
    }
}

/// The `webhook-signature` header: one signature per key, the current key first.
pub fn signature_header(keys: &[SigningKey], id: &str, timestamp_s: i64, body: &[u8]) -> String {
    keys.iter().map(|key| key.sign(id, timestamp_s, body)).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the standard's own documentation.
    #[test]
    fn the_standards_example_gives_the_standards_signature() {
        let key = SigningKey::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signature = key.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn while_rotating_either_key_verifies() {
        let current = SigningKey::parse(&format!("whsec_{}", STANDARD.encode([7_u8; 32]))).unwrap();
        let previous = SigningKey::parse(&STANDARD.encode([9_u8; 24])).unwrap();
        let other = SigningKey::parse(&STANDARD.encode([1_u8; 24])).unwrap();
        let header = signature_header(&[current.clone(), previous.clone()], "id", 5, b"body");
        assert!(current.verifies(&header, "id", 5, b"body"));
        assert!(previous.verifies(&header, "id", 5, b"body"));
        assert!(!other.verifies(&header, "id", 5, b"body"));
        assert!(!current.verifies(&header, "id", 6, b"body"));
        assert!(!current.verifies(&header, "id", 5, b"Body"));
    }

    #[test]
    fn a_weak_or_garbled_secret_is_refused() {
        assert_eq!(SigningKey::parse("whsec_AAAA").unwrap_err(), SigningKeyError::WrongLength(3));
        assert!(matches!(SigningKey::parse("whsec_not base64"), Err(SigningKeyError::NotBase64(_))));
    }
}
