//! Secrets of receivers and actions, read where the configuration says they are.

pub use crate::config::secret::{SecretError, resolve, resolve_text};
