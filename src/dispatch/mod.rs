//! The role that tells people: `outbox` in, messages to receivers out, `deliveries` as the record of it.
//!
//! `schedule` decides (pure), `role` moves offsets and records in transactions, `attempts` has the sends made, `receiver`
//! is the seam to the outside world, `control` what people command. To add a kind of receiver: one file that implements `receiver::Transport`, a key in
//! `config::receivers::Receiver`, an arm in `receiver::build`, its messages as golden files in
//! `tests/dispatch_payloads.rs`. Its `deliver` sends the notification's id (or, where the other side keeps alerts of
//! its own, the episode's) as idempotency key and answers with an `Outcome`; retries, order and expiry are not its
//! business. What is spoken to over HTTP goes through `http_sender`; what people read comes from `message`, so that
//! every receiver says the same in the form of its own.
//!
//! A notification is delivered at least once. Between a send and the commit of its record a kill leaves one more
//! copy with the same id (`webhook-id`, `Message-ID`), by which the other side can tell.

pub mod actions;
pub mod address_guard;
pub mod alertmanager;
mod attempts;
pub mod body_template;
pub mod catcher;
pub mod commands;
pub mod control;
pub mod control_follower;
pub mod delivery;
pub mod digest;
pub mod digest_message;
pub mod email;
pub mod hook_catcher;
pub mod http_sender;
pub mod kafka;
pub mod message;
pub mod pagerduty;
pub mod receiver;
pub mod render;
mod reporting;
pub mod restore;
pub mod role;
pub mod schedule;
pub mod secret;
pub mod signature;
pub mod slack;
pub mod teams;
pub mod telling;
pub mod webhook;
