//! Rules: expressions, evaluation, episodes. Pure: time is an argument, effects are returned.
//!
//! `episode` is what rules tell people; one record of the `outbox` topic each.

pub mod episode;
