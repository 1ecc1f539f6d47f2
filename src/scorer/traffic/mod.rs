//! Which version answers: weights, sticky assignment, shadow, and trials of a new version that decide themselves.

use super::score::Arm;

/// What traffic policy says of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The version that answers.
    pub version: String,
    pub arm: Arm,
    /// A version that is scored beside it, and whose answer only goes to events.
    pub shadow: Option<String>,
}
