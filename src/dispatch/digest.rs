//! What was collected for one receiver by routes with `digest`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rules::episode::Notification;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Digest {
    /// The same however often it is sent.
    pub id: String,
    pub receiver: String,
    /// What it covers, [from, until), epoch milliseconds.
    pub from_ms: i64,
    pub until_ms: i64,
    /// In the order in which they came; never empty.
    pub notifications: Vec<Notification>,
}
