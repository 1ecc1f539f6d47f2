//! Reads secrets from where the configuration says they are, once, at the start.

use super::receivers::{Secret, TextOrSecret};

/// Why a secret could not be had. The message names the place, never the value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    #[error("a secret needs exactly one of `env` and `file`")]
    NotOnePlace,
    #[error("environment variable `{0}` is not set")]
    NoVariable(String),
    #[error("cannot read `{path}`: {error}")]
    NoFile { path: String, error: String },
    #[error("the secret in {0} is empty")]
    Empty(String),
}

/// The value, without the line end that editors put after it.
pub fn resolve(secret: &Secret) -> Result<String, SecretError> {
    let (value, place) = match (&secret.env, &secret.file) {
        (Some(name), None) => {
            let value = std::env::var(name).map_err(|_| SecretError::NoVariable(name.clone()))?;
            (value, format!("environment variable `{name}`"))
        }
        (None, Some(path)) => {
            let value = std::fs::read_to_string(path)
                .map_err(|error| SecretError::NoFile { path: path.clone(), error: error.to_string() })?;
            (value, format!("`{path}`"))
        }
        _ => return Err(SecretError::NotOnePlace),
    };
    let value = value.trim_end_matches(['\r', '\n']);
    if value.is_empty() { Err(SecretError::Empty(place)) } else { Ok(value.to_string()) }
}

pub fn resolve_text(text: &TextOrSecret) -> Result<String, SecretError> {
    match text {
        TextOrSecret::Text(text) => Ok(text.clone()),
        TextOrSecret::Secret(secret) => resolve(secret),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_file_is_read_without_its_line_end() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "s3cret\r\n").unwrap();
        let secret = Secret { env: None, file: Some(file.path().display().to_string()) };
        assert_eq!(resolve(&secret), Ok("s3cret".into()));
        std::fs::write(file.path(), "\n").unwrap();
        assert!(matches!(resolve(&secret), Err(SecretError::Empty(_))));
    }

    #[test]
    fn a_missing_secret_names_its_place() {
        let missing = Secret { env: Some("DRIFTLINE_NO_SUCH_VARIABLE".into()), file: None };
        assert_eq!(resolve(&missing), Err(SecretError::NoVariable("DRIFTLINE_NO_SUCH_VARIABLE".into())));
        assert_eq!(resolve(&Secret::default()), Err(SecretError::NotOnePlace));
    }
}
