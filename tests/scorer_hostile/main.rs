//! Input made to break the scorer: each is a clear error, none a panic, none takes memory that stays. `decoders` calls the
//! decoders, `corpus` replays and mutates what the fuzz targets of `fuzz/` keep, `wire` speaks to a server in a process of
//! its own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod corpus;
mod decoders;
#[path = "../scorer_support/mod.rs"]
mod scorer_support;
mod wire;
