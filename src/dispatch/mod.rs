//! The role that tells people: `outbox` in, e-mail and webhooks out, `deliveries` as the record of it.
//!
//! `schedule` decides (pure), `role` moves offsets and records in transactions, `receiver` is the seam to the
//! outside world. To add a kind of receiver: one file that implements `receiver::Transport`, a key in
//! `config::rules::Receiver`, an arm in `receiver::build`. Its `deliver` sends the notification's id as the
//! receiver's own idempotency key and answers with an `Outcome`; retries, order and expiry are not its business.
//!
//! A notification is delivered at least once. Between a send and the commit of its record a kill leaves one more
//! copy with the same id (`webhook-id`, `Message-ID`), by which the other side can tell.

pub mod address_guard;
pub mod catcher;
pub mod delivery;
pub mod email;
pub mod hook_catcher;
pub mod receiver;
pub mod render;
pub mod restore;
pub mod role;
pub mod schedule;
pub mod secret;
pub mod signature;
pub mod webhook;
